"""A run's folder: begun, stopped, resumed, locked, and the checkpoints that are kept in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae import InputError, backend, checkpoint
from minivae.cli import main
from minivae.lock import Lock
from minivae.options import Options, Saving
from minivae.train import Trainer

OPTIONS = ["--epochs", "4", "--batch-size", "20", "--hidden", "8", "--latent", "2"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with data of 60 images in data.npy."""
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    return tmp_path


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They take long, and are tested elsewhere."""
    drawn: list[int] = []
    monkeypatch.setattr("minivae.report.figures", lambda model, dataset, history, out: drawn.append(len(history)))
    return drawn


def train(*args: object) -> int:
    try:
        return main(["train", *map(str, args)])
    except SystemExit as exit:  # of argparse
        return int(str(exit.code))


def begin(out: str = "run", *more: object, stop: int | None = None, monkeypatch=None) -> int:
    """Train; with stop, Ctrl-C comes after so many steps."""
    args = ["vae", "--data", "data.npy", *OPTIONS, "--out", out, *more]
    if stop is None:
        return train(*args)
    with monkeypatch.context() as patch:
        do = Trainer._step

        def step(self, x):
            result = do(self, x)
            self.interrupted = self.optimizer.steps == stop
            return result

        patch.setattr(Trainer, "_step", step)
        return train(*args)


def content(out: str) -> tuple:
    """Of the weights, the optimiser and the metrics, without the times."""
    header, arrays = checkpoint.load(path(out))
    rows = [line.rsplit(",", 1)[0] for line in metrics(out)]
    return {k: a.tobytes() for k, a in arrays.items()}, rows, header["options"], header["generators"]


def path(out: str) -> Path:
    return Path(out) / "model.npz"


def metrics(out: str) -> list[str]:
    return (Path(out) / "metrics.csv").read_text().splitlines()


def says(capsys, *words: str) -> str:
    """The one sentence on stderr, which has these words."""
    said = capsys.readouterr().err
    assert said.startswith("minivae: ") and said.count("\n") == 1, said
    for word in words:
        assert word in said, said
    return said


# resume


def test_a_run_that_was_stopped_goes_on_by_one_option(folder, monkeypatch, capsys, no_figures):
    assert begin("whole") == 0
    assert begin("run", stop=7, monkeypatch=monkeypatch) == 130
    says(capsys, "stopped", "run/model.npz", "minivae train --resume run")
    assert sorted(os.listdir("run")) == ["config.json", "metrics.csv", "model.npz"]
    assert train("--resume", "run") == 0
    assert "run goes on at epoch 3 of 4, batch 2 of 3" in capsys.readouterr().out
    assert content("run") == content("whole")
    assert no_figures == [4, 4]


def test_a_kept_checkpoint_can_be_gone_on_from(folder):
    assert begin("whole", "--keep", 4) == 0
    before = content("whole")
    assert train("--resume", "whole/model-00000006.npz") == 0
    assert content("whole") == before


def test_a_finished_run_says_so(folder, capsys, no_figures):
    assert begin() == 0
    before = content("run")
    (folder / "run/metrics.csv").unlink()
    assert train("--resume", "run") == 0
    assert "run is finished, all 4 epochs are done" in capsys.readouterr().out
    assert content("run") == before and no_figures == [4, 4]


def test_more_epochs(folder):
    assert begin("whole", "--epochs", 6) == 0
    assert begin() == 0
    assert train("--resume", "run", "--epochs", 6) == 0
    assert content("run") == content("whole")
    assert json.loads((folder / "run/config.json").read_text())["options"]["epochs"] == 6


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(folder):
    assert begin("whole") == 0
    assert begin() == 0
    (folder / "run/model.npz").unlink()
    (folder / "run/metrics.csv").unlink()
    assert train("--resume", "run") == 0
    assert content("run") == content("whole")
    config = json.loads((folder / "run/config.json").read_text())
    config["saving"]["every"] = "5"  # of which 4 epochs were done
    (folder / "run/config.json").write_text(json.dumps(config))
    (folder / "run/model.npz").unlink()
    assert train("--resume", "run") == 0
    assert content("run")[:2] == content("whole")[:2]


def test_rows_of_epochs_that_are_done_again_go(folder, monkeypatch):
    assert begin("run", "--save-every", 3, "--epochs", 5, stop=13, monkeypatch=monkeypatch) == 130
    text = (folder / "run/metrics.csv").read_text()
    assert begin("early", "--save-every", 3, "--epochs", 5, stop=10, monkeypatch=monkeypatch) == 130
    (folder / "early/metrics.csv").write_text(text)  # as if it had been killed later
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", lambda self, out, saving: setattr(self, "interrupted", True))
        assert train("--resume", "early") == 130
    assert len((folder / "early/metrics.csv").read_text().splitlines()) == 4
    assert train("--resume", "early") == 0
    assert [row.split(",")[0] for row in metrics("early")] == ["epoch", "1", "2", "3", "4", "5"]


def test_the_same_data_may_stand_elsewhere(folder, monkeypatch, capsys):
    assert begin("run", stop=5, monkeypatch=monkeypatch) == 130
    os.rename("data.npy", "moved.npy")
    capsys.readouterr()
    assert train("--resume", "run") == 2
    says(capsys, "data.npy")
    assert train("--resume", "run", "--data", "moved.npy") == 0
    config = json.loads((folder / "run/config.json").read_text())
    assert config["data"] == str(folder / "moved.npy")  # so that it is found from anywhere


def test_changed_data_are_refused(folder, monkeypatch, capsys):
    assert begin("run", stop=5, monkeypatch=monkeypatch) == 130
    capsys.readouterr()
    images = np.load("data.npy")
    images[0, 0, 0] ^= 1
    np.save("data.npy", images)
    before = {p.name: p.read_bytes() for p in (folder / "run").iterdir()}
    assert train("--resume", "run") == 2
    says(capsys, "data.npy'", "fingerprint", "run/model.npz")
    assert {p.name: p.read_bytes() for p in (folder / "run").iterdir()} == before


def test_another_version_is_told(folder, monkeypatch, capsys):
    assert begin("run", stop=5, monkeypatch=monkeypatch) == 130
    capsys.readouterr()
    monkeypatch.setattr("minivae.resume.versions", lambda: {"numpy": "9.9.9"})
    assert train("--resume", "run") == 0
    says(capsys, f"begun with numpy {np.__version__}, now 9.9.9")


def test_noise_that_cannot_go_on_is_told(folder, monkeypatch, capsys):
    assert begin("run", stop=5, monkeypatch=monkeypatch) == 130
    capsys.readouterr()
    monkeypatch.setattr(backend.current(), "eager", False, raising=False)  # as CuPy is
    assert train("--resume", "run") == 0
    says(capsys, "from a new seed")


def test_a_folder_may_be_called_npz(folder, monkeypatch):
    assert begin("odd.npz", stop=5, monkeypatch=monkeypatch) == 130
    assert train("--resume", "odd.npz") == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--lr", "0.1"], ["lr 0.1", "lr 0.001", "--resume"]),
        (["--batch-size", "10"], ["batch_size 10", "batch_size 20"]),
        (["--seed", "3"], ["seed 3", "seed 0"]),
        (["--binarize"], ["binarize"]),
        (["--clip", "1"], ["clip 1.0"]),
        (["--latent", "3"], ["latent 3", "latent 2"]),
        (["--hidden", "9"], ["hidden [9]", "hidden [8]"]),
        (["--codes", "9"], ["codes 9"]),
        (["vqvae"], ["model vqvae", "model vae"]),
        (["--out", "other"], ["--out other", "--resume"]),
        (["--epochs", "1"], ["2 epochs of 'run' are done", "--epochs 1"]),
        (["--save-every", "often"], ["save_every 'often'", "10m"]),
        (["--on-nan", "hope"], ["on_nan 'hope'", "stop or skip"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_resumed_run_cannot_be_given(folder, args, words, monkeypatch, capsys):
    assert begin("run", stop=8, monkeypatch=monkeypatch) == 130
    before = {p.name: p.read_bytes() for p in (folder / "run").iterdir()}
    capsys.readouterr()
    assert train("--resume", "run", *args) == 2
    says(capsys, *words)
    assert {p.name: p.read_bytes() for p in (folder / "run").iterdir()} == before


def test_the_same_options_can_be_given_again(folder, monkeypatch):
    assert begin("run", stop=8, monkeypatch=monkeypatch) == 130
    assert train("vae", "--resume", "run", *OPTIONS, "--lr", "0.001", "--on-nan", "skip", "--keep", "2") == 0
    config = json.loads((folder / "run/config.json").read_text())
    assert config["options"]["on_nan"] == "skip" and config["saving"]["keep"] == 2


@pytest.mark.parametrize("name", ["nowhere", "empty", "nowhere/model.npz", "data.npy"])
def test_where_there_is_no_run(folder, name, capsys):
    os.mkdir("empty")
    assert train("--resume", name) == 2
    says(capsys, "no run to resume")
    assert os.listdir("empty") == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda raw: b"", "no .npz file"),
        (lambda raw: b"hello", "no .npz file"),
        (lambda raw: raw[:-100], "truncated"),
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: raw[:3000] + b"?" + raw[3001:], "damaged"),
    ],
)
def test_a_damaged_checkpoint(folder, damage, word, capsys):
    assert begin() == 0
    raw = path("run").read_bytes()
    path("run").write_bytes(damage(raw))
    capsys.readouterr()
    assert train("--resume", "run") == 2
    says(capsys, "run/model.npz", word)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "vae"}', "[" * 9, '"model arguments data options"', "3"])
def test_a_config_that_says_nothing(folder, text, capsys):
    os.mkdir("run")
    (folder / "run/config.json").write_text(text)
    assert train("--resume", "run") == 2
    says(capsys, "run/config.json")


def test_weights_that_were_not_trained_here(folder, capsys):
    assert begin() == 0
    header, arrays = checkpoint.load(path("run"))
    checkpoint.save(path("run"), {key: header[key] for key in ("model", "arguments", "data")}, arrays)
    capsys.readouterr()
    assert train("--resume", "run") == 2
    says(capsys, "run/model.npz", "train anew")


def test_no_model_and_no_run(folder, capsys):
    assert train("--epochs", 3) == 2
    says(capsys, "no model", "vqvae", "--resume")


# a loss that is not finite


def test_a_run_that_diverges_fails_with_one_sentence(folder, capsys):
    assert begin("run", "--lr", "1e30") == 1
    says(capsys, "not finite at step 2", "1e+30", "no checkpoint was written", "--clip")
    assert begin("skip", "--lr", "1e30", "--on-nan", "skip") == 1
    said = says(capsys, "test loss is nan after step 1", "no checkpoint was written")
    assert "--on-nan skip" not in said


# what is kept


def names(folder) -> list[str]:
    return sorted(p.name for p in (folder / "run").glob("*.npz"))


def test_the_last_checkpoints_are_kept(folder):
    assert begin("run", "--keep", 2) == 0
    assert names(folder) == ["model-00000009.npz", "model-00000012.npz", "model.npz"]
    assert path("run").read_bytes() == (folder / "run/model-00000012.npz").read_bytes()
    assert checkpoint.load(folder / "run/model-00000009.npz")[0]["epoch"] == 4  # the one to be done next


def test_by_default_one_is_kept(folder):
    assert begin() == 0
    assert names(folder) == ["model.npz"]


def test_the_best_is_kept(folder, monkeypatch):
    import minivae.train

    losses = iter([9.0, 5.0, 7.0, 5.0])
    monkeypatch.setattr(
        minivae.train, "evaluate", lambda *args, **options: {"loss": next(losses), "reconstruction": 1.0, "kl": 0.0}
    )
    assert begin("run", "--keep-best") == 0
    assert checkpoint.load(folder / "run/best.npz")[0]["history"][-1]["epoch"] == 2
    losses = iter([1.0, 5.0, 7.0, 6.0])
    assert begin("run", "--keep-best", "--anneal", 2) == 0  # the first loss had little of the KL in it
    assert checkpoint.load(folder / "run/best.npz")[0]["history"][-1]["epoch"] == 2


def test_the_interval_of_epochs_and_of_minutes(folder, monkeypatch):
    import minivae.saving

    saved = []
    write = minivae.saving.Saver.write
    monkeypatch.setattr(
        minivae.saving.Saver, "write", lambda self: (saved.append(self.trainer.optimizer.steps), write(self))
    )
    assert begin("run", "--save-every", 3) == 0
    assert saved == [9, 12]
    saved.clear()
    clock = iter(range(0, 10**6, 25))  # each look at the clock takes 25 seconds
    monkeypatch.setattr(minivae.saving.time, "monotonic", lambda: next(clock))
    assert begin("run", "--save-every", "1.5m") == 0
    assert saved == [4, 8, 12, 12]  # and at the end, with the last row


@pytest.mark.parametrize("every", ["0", "-1", "1.5", "m", "0m", "10s", "nanm", "infm", ""])
def test_what_is_no_interval(every):
    with pytest.raises(InputError, match="save_every"):
        Saving(every)


def test_fewer_are_kept_of_a_run_that_goes_on(folder):
    assert begin("run", "--keep", 2) == 0
    assert train("--resume", "run", "--epochs", 5, "--keep", 1) == 0
    assert not list((folder / "run").glob("model-*.npz")) and (folder / "run/model.npz").exists()


def test_a_finished_run_whose_checkpoint_is_gone_has_it_again(folder):
    assert begin("run", "--keep-best") == 0
    before = checkpoint.load(folder / "run/model.npz")[1]
    (folder / "run/best.npz").write_bytes((folder / "run/model.npz").read_bytes())  # of the last epoch
    (folder / "run/model.npz").unlink()
    assert train("--resume", "run/best.npz") == 0
    after = checkpoint.load(folder / "run/model.npz")[1]
    assert all((before[name] == after[name]).all() for name in before if name.startswith("model."))


def test_a_capture_can_be_taken_back(folder, capsys):
    assert begin("run", "--capture") == 0
    assert train("--resume", "run", "--epochs", 5, "--no-capture") == 0
    assert json.loads((folder / "run/config.json").read_text())["options"]["capture"] is False


def test_keep_is_at_least_one(folder, capsys):
    with pytest.raises(InputError, match="keep 0"):
        Saving(keep=0)
    assert begin("run", "--keep", 0) == 2
    says(capsys, "--keep", "at least 1")


# two runs in one folder


def test_the_second_run_is_refused(folder, capsys):
    lock = Lock(folder / "run")
    (folder / "run/config.json").write_text(json.dumps(dict.fromkeys(["model", "arguments", "data", "options"])))
    for code in (begin(), train("--resume", "run")):
        assert code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(f"process {os.getpid()} is at work in the folder 'run'" in line for line in said)
    assert sorted(os.listdir("run")) == [".lock", "config.json"]
    lock.release()
    assert begin() == 0
    assert sorted(os.listdir()) == ["data.npy", "run", "run.1"]
    assert os.listdir("run.1") == ["config.json"] and ".lock" not in os.listdir("run")


def test_an_earlier_run_that_cannot_be_moved(folder, monkeypatch, capsys):
    assert begin() == 0
    before = sorted(os.listdir("run"))

    def rename(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", rename)
    capsys.readouterr()
    assert begin() == 2
    says(capsys, "earlier run 'run' cannot be moved", "permission denied", "--out")
    assert sorted(os.listdir("run")) == before


def test_a_lock_ends_with_its_process(folder):
    """However it ends: kill -9 leaves the file, which nothing holds."""
    code = (
        "from minivae.lock import Lock; from pathlib import Path; import time; Lock(Path('run')); "
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"process {process.pid} is at work"):
        Lock(folder / "run")
    process.kill()
    process.wait()
    process.stdout.close()
    assert os.listdir("run") == [".lock"]
    lock = Lock(folder / "run")
    assert (folder / "run/.lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    assert os.listdir("run") == []


def test_a_lock_whose_file_was_taken_away_meanwhile_is_no_lock(folder, monkeypatch):
    """Another run ends between opening and locking: it removes the file that was opened."""
    import fcntl

    flock, ended = fcntl.flock, []

    def once(file, how):
        if not ended:
            ended.append(True)
            (folder / "run/.lock").unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", once)
    lock = Lock(folder / "run")
    with pytest.raises(InputError, match="at work"):
        Lock(folder / "run")
    lock.release()


def test_what_a_killed_process_left_unfinished_goes(folder, monkeypatch):
    assert begin("run", stop=5, monkeypatch=monkeypatch) == 130
    (folder / "run/.unfinished-model.npz-abc.npz").write_bytes(b"half")
    assert train("--resume", "run") == 0
    assert sorted(os.listdir("run")) == ["config.json", "metrics.csv", "model.npz"]


def test_options_have_the_defaults_that_the_help_names(capsys):
    assert train("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    options = Options()
    for words in (f"(default {options.epochs})", f"(default {options.batch_size})", f"(default {options.lr:g})"):
        assert words in text
