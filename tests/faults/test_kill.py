"""kill -9 at random instants of training and of saving: resumed, the run ends with the bits of one left in peace.

12 instants a case; with HYPOTHESIS_PROFILE=thorough 200. An instant is the n-th call of a function, so that a failure
repeats itself on any machine.
"""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
from faults import worker

from minivae import checkpoint

INSTANTS = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 12
CASES = {
    "vae": ["vae", "--hidden", "8", "--latent", "2", "--anneal", "2", "--keep-best"],
    # saves after each step
    "vqvae": ["vqvae", "--codes", "6", "--dim", "3", "--channels", "4", "--keep", "2", "--save-every", "0.0000001m"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    return path


def content(out: Path) -> tuple:
    """All that a run leaves, without the times."""
    header, arrays = checkpoint.load(out / "model.npz")
    header["history"] = [{k: v for k, v in row.items() if k != "seconds"} for row in header["history"]]
    del header["seconds"]
    rows = [row[:-1] for row in table(out)]
    return header, {k: a.tobytes() for k, a in arrays.items()}, rows, sorted(os.listdir(out))


def table(out: Path) -> list[list[str]]:
    """The rows of metrics.csv, none torn and none doubled."""
    text = (out / "metrics.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    assert text.endswith("\n") and len({len(row) for row in rows}) == 1
    assert [row[0] for row in rows] == ["epoch", *map(str, range(1, len(rows)))]
    return rows


@pytest.mark.parametrize("saving", [False, True], ids=["training", "saving"])
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_instants(case, saving, data, tmp_path):
    log, count = tmp_path / "log", tmp_path / "count"

    def begin(out: Path, **fate: object) -> tuple[int, str]:
        options = ["--data", data, "--epochs", 3, "--batch-size", 20, "--out", out]
        return worker.run(["train", *CASES[case], *options], log, **fate)

    assert begin(tmp_path / "whole", count=count, saving=saving) == (0, "")
    whole, calls = content(tmp_path / "whole"), int(count.read_text())
    assert calls > 200
    rng = random.Random(f"{case} {saving}")
    kills = 0
    for i in range(INSTANTS):
        out = tmp_path / str(i)
        instant = rng.randint(1, calls)
        code, said = begin(out, kill_at=instant, saving=saving)
        while code == -signal.SIGKILL:
            kills += 1
            if (out / "model.npz").exists():
                checkpoint.load(out / "model.npz")  # is whole
            if (out / "metrics.csv").exists():
                table(out)
            again = rng.choice([0, rng.randint(1, calls)])  # it may be killed again
            code, said = worker.run(["train", "--resume", out], log, kill_at=again, saving=saving)
            if code == 2 and "no run to resume" in said:  # it was killed before it had begun
                assert not (out / "model.npz").exists()
                code, said = begin(out)
        assert (code, said) == (0, ""), (instant, said)
        assert content(out) == whole, instant
    assert kills >= INSTANTS * 0.9
