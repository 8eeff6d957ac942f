"""A disk that is full and a folder that is read-only: one sentence, whole files, and no night lost."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from faults import worker
from faults.test_kill import content

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
MODEL = ["vae", "--hidden", "8", "--latent", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with data, a whole run of 10 epochs, and one of 8."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "data.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    for name, epochs in (("whole", 10), ("stopped", 8)):
        options = ["--data", folder / "data.npy", "--epochs", epochs, "--out", folder / name]
        assert worker.run(["train", *MODEL, *options], folder / "log", figures=True) == (0, "")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def bits(folder: Path) -> tuple:
    return content(folder)[:3]


@pytest.mark.parametrize("what", ["config.json", "metrics.csv", "model.npz", "loss.png"])
def test_a_disk_that_is_full(what, runs, tmp_path):
    """Files may be nine tenths as large as this one must be, which is enough for those before it."""
    out, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(runs / "stopped", out)
    before = files(out)
    sizes = {name: len(content) for name, content in files(runs / "whole").items()}
    assert sizes["config.json"] < sizes["metrics.csv"] * 0.7 < sizes["model.npz"] * 0.5 < sizes["loss.png"] * 0.4
    limit = int(sizes[what] * 0.9)
    code, said = worker.run(["train", "--resume", out, "--epochs", 10], log, limit=limit, figures=True)
    assert code == 1 and said.count("\n") == 1 and said.startswith("minivae: "), said
    for word in (f"'{out / what}' could not be written", "file too large", f"minivae train --resume {out}"):
        assert word in said
    assert files(out)[what] == before[what]  # the old one, whole
    assert sorted(files(out)) == sorted(before)  # and nothing unfinished
    assert worker.run(["train", "--resume", out, "--epochs", 10], log, figures=True) == (0, "")
    assert bits(out) == bits(runs / "whole")
    assert sorted(files(out)) == sorted(files(runs / "whole"))


@pytest.fixture
def closed(runs):
    """Runs in a folder that others can read and not write; and who they are."""
    folder = Path(tempfile.mkdtemp())
    for name in ("stopped", "data.npy"):
        (shutil.copytree if (runs / name).is_dir() else shutil.copy)(runs / name, folder / name)
    for path in (folder, folder / "stopped"):
        path.chmod(0o555)
    yield folder, 65534 if os.geteuid() == 0 else 0  # nobody: permissions do not bind root
    for path in (folder, folder / "stopped"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_is_read_only(closed, tmp_path):
    folder, user = closed
    before = files(folder / "stopped")
    commands = {
        "new": (["train", *MODEL, "--data", folder / "data.npy", "--out", folder / "new"], "--out"),
        "over": (["train", *MODEL, "--data", folder / "data.npy", "--out", folder / "stopped"], "--out"),
        "on": (["train", "--resume", folder / "stopped", "--epochs", 10], "make it writable"),
    }
    for name, (command, mend) in commands.items():
        code, said = worker.run(command, tmp_path / f"log-{name}", user=user)
        assert code == 2 and said.count("\n") == 1, said
        assert "cannot be written (permission denied)" in said and mend in said
    code, said = worker.run(
        ["evaluate", folder / "stopped", "--data", folder / "data.npy"], tmp_path / "log", user=user
    )
    assert (code, said) == (0, "")
    assert files(folder / "stopped") == before and sorted(os.listdir(folder)) == ["data.npy", "stopped"]


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a file system on a folder of its own, where this process may."""
    folders = []

    def mount(*options: object) -> Path:
        folder = tmp_path / f"mounted{len(folders)}"
        folder.mkdir()
        done = subprocess.run(["mount", *map(str, options), folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this process may not mount a file system")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="only root mounts file systems")
@pytest.mark.parametrize("what", [".lock", "model.npz", *(["config.json", "loss.png"] if THOROUGH else [])])
def test_a_small_disk_that_is_full(what, runs, tmp_path, mounted):
    """As above on a file system in memory, of which one file takes all but what those before `what` need."""
    log, disk = tmp_path / "log", mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs")
    out = disk / "run"
    shutil.copytree(runs / "stopped", out)
    before = files(out)
    sizes = {name: len(content) for name, content in files(runs / "whole").items()}
    small = {".lock": 0, "config.json": 1}  # pages of 4 kB, of which the lock takes one
    room = small[what] if what in small else -(-sizes[what] // 4096) - 1
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes((free.f_bavail - room) * free.f_bsize))
    code, said = worker.run(["train", "--resume", out, "--epochs", 10], log, figures=True)
    assert code == (2 if what == ".lock" else 1) and said.count("\n") == 1 and said.startswith("minivae: "), said
    assert "no space left on device" in said and f"'{out if what == '.lock' else out / what}' " in said, said
    after = files(out)
    assert sorted(after) == sorted(before)  # nothing unfinished
    assert all(after[name] == before[name] or name in ("config.json", "metrics.csv", "model.npz") for name in after)
    assert after.get(what) == before.get(what)
    (disk / "filler").unlink()
    assert worker.run(["train", "--resume", out, "--epochs", 10], log, figures=True) == (0, "")
    assert bits(out) == bits(runs / "whole")


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="only root mounts file systems")
def test_a_disk_that_is_read_only(runs, tmp_path, mounted):
    """Which binds root too."""
    disk = mounted("--bind", "-o", "ro", runs)
    before = files(disk / "stopped")
    commands = {
        "new": ["train", *MODEL, "--data", disk / "data.npy", "--out", disk / "new"],
        "over": ["train", *MODEL, "--data", disk / "data.npy", "--out", disk / "stopped"],
        "on": ["train", "--resume", disk / "stopped", "--epochs", 10],
        "codes": ["encode", disk / "stopped"],
        "figure": ["reconstruct", disk / "stopped"],
    }
    for name, command in commands.items():
        code, said = worker.run(command, tmp_path / f"log-{name}")
        assert code == 2 and said.count("\n") == 1 and "cannot be written" in said, said
    assert worker.run(["evaluate", disk / "stopped"], tmp_path / "log") == (0, "")
    assert files(disk / "stopped") == before


def test_below_a_file(runs, tmp_path):
    """A folder that no one can make: its parent is a file."""
    (tmp_path / "file").touch()
    command = ["train", *MODEL, "--data", runs / "data.npy", "--out", tmp_path / "file" / "run"]
    code, said = worker.run(command, tmp_path / "log")
    assert code == 2 and said.count("\n") == 1 and "cannot be written" in said, said
