"""The command line as a person meets it: in its own process, by exit code, output and files."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minivae import cases, checkpoint, op, ops
from minivae.cli import main
from minivae.testing import arrays


def minivae(*args: object, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "minivae", *map(str, args)],
        capture_output=True, text=True, cwd=cwd, env=os.environ | environment, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A small data set of the user's own: 8x8 images with labels."""
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    images = (rng.random((300, 8, 8)) * 40).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label : label + 4, label : label + 4] = 220
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """A finished run on these images."""
    out = tmp_path_factory.mktemp("runs") / "squares"
    done = minivae("train", "vae", "--data", images, "--out", out, "--epochs", 2, "--hidden", 32, "--latent", 3)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a progress bar is for terminals
    assert "epoch 2/2  train ELBO -" in done.stdout
    assert "test ELBO -" in done.stdout
    return out


FIGURES = {f"{name}.png" for name in ["loss", "reconstructions", "samples", "traversals", "latent", "interpolation"]}


def test_train_leaves_weights_metrics_config_and_figures(run):
    assert {path.name for path in run.iterdir()} == {"model.npz", "metrics.csv", "config.json"} | FIGURES


def test_evaluate_prints_the_elbo_and_a_tighter_bound(run):
    done = minivae("evaluate", run, "--samples", 20)
    assert done.returncode == 0, done.stderr
    values = {line[:25].strip(): float(line[25:].split()[0]) for line in done.stdout.splitlines()[1:]}
    assert values["ELBO"] == pytest.approx(-values["reconstruction"] - values["kl"], abs=0.02)
    assert values["log p(x) at least"] > values["ELBO"]


def test_sample_and_reconstruct_write_the_file_that_is_named(run, tmp_path):
    for command in ("sample", "reconstruct"):
        done = minivae(command, run / "model.npz", "--out", tmp_path / f"{command}.png", "--count", 9)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{command}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_draws_the_same_picture(run, tmp_path):
    for name in ("a", "b"):
        assert minivae("sample", run, "--out", tmp_path / f"{name}.png", "--seed", 5).returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_info_names_versions_backend_blas_and_gpu():
    done = minivae("info")
    assert done.returncode == 0, done.stderr
    for word in ("minivae", "numpy", "backend", "BLAS", "threads", "GPU"):
        assert word in done.stdout


def test_gradcheck_prints_a_row_for_each_op():
    done = minivae("gradcheck", "--op", "tanh", "nn.Linear", "--examples", 5)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows["tanh"].endswith("ok") and rows["nn.Linear"].endswith("ok")
    assert "all 2 gradients agree" in done.stdout


def test_gradcheck_fails_with_1_and_the_code_that_repeats_it(monkeypatch, capsys):
    @op
    def wrong(xp, a):
        return a * a, (lambda g: g * a,)

    monkeypatch.setitem(cases.CASES, "wrong", cases.Case(wrong, (arrays((2,)),)))
    assert main(["gradcheck", "--op", "wrong", "tanh", "--examples", "5"]) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out and "ok" in printed.out
    assert "half of it" in printed.err and "check_example(wrong, [" in printed.err


def test_every_op_has_a_row():
    assert set(ops.__all__) <= set(cases.CASES)


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["sample"], ["export"], ["gradcheck"], ["info"]])
def test_help(command):
    done = minivae(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: minivae")


def test_an_earlier_run_is_moved_aside(images, tmp_path):
    args = ("train", "vae", "--data", images, "--epochs", 1, "--hidden", 8, "--latent", 2)
    assert minivae(*args, cwd=tmp_path).returncode == 0
    kept = (tmp_path / "runs/vae-squares/model.npz").read_bytes()
    done = minivae(*args, "--seed", 1, cwd=tmp_path)
    assert "moved to runs/vae-squares.1" in done.stdout
    assert (tmp_path / "runs/vae-squares.1/model.npz").read_bytes() == kept
    assert (tmp_path / "runs/vae-squares/model.npz").read_bytes() != kept


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """One sentence on stderr which has these words, exit code 2, nothing else."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("minivae: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "vea"], ["'vea'", "vae"]),
        (["train", "vae", "--data", "minst"], ["minst", "glyphs"]),
        (["train", "vae", "--backend", "torch"], ["'torch'", "numpy, cupy"]),
        (["train", "vae", "--lr", "-0.1"], ["--lr", "-0.1", "above 0"]),
        (["train", "vae", "--lr", "fast"], ["--lr", "'fast'"]),
        (["train", "vae", "--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["train", "vae", "--epochs", "0"], ["--epochs", "at least 1"]),
        (["train", "vae", "--latent", "0"], ["--latent", "at least 1"]),
        (["train", "vae", "--optimizer", "lion"], ["'lion'", "adam"]),
        (["train"], ["model"]),
        (["fly"], ["'fly'"]),
        (["gradcheck", "--op", "tan"], ["'tan'", "tanh"]),
        ([], ["COMMAND"]),
        (["evaluate", "nowhere"], ["nowhere"]),
        (["train", "vae", "--data", "empty"], ["empty"]),
        (["train", "vae", "--data", "mixed"], ["a.png", "b.png", "8x8", "9x9"]),
        (["train", "vae", "--data", "broken"], ["c.png"]),
        (["train", "vae", "--data", "short.npy"], ["short.npy"]),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(args, words, tmp_path):
    from PIL import Image

    for name in ("empty", "mixed", "broken"):
        (tmp_path / name).mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "mixed/a.png")
    Image.new("L", (9, 9)).save(tmp_path / "mixed/b.png")
    Image.new("L", (8, 8)).save(tmp_path / "broken/a.png")
    (tmp_path / "broken/c.png").write_bytes((tmp_path / "broken/a.png").read_bytes()[:40])
    np.save(tmp_path / "short.npy", np.zeros((10, 8, 8), np.uint8))
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:300])
    refused(minivae(*args, cwd=tmp_path), *words)
    assert not (tmp_path / "runs").exists()


def test_cupy_without_cupy_or_gpu_says_what_to_install(tmp_path):
    if subprocess.run([sys.executable, "-c", "import cupy; cupy.ones(1)"], capture_output=True).returncode == 0:
        pytest.skip("this machine has CuPy and a GPU")
    refused(minivae("train", "vae", "--backend", "cupy", cwd=tmp_path), "cupy", "minivae[cuda12]")
    refused(minivae("info", MINIVAE_BACKEND="cupy"), "cupy")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["missing", "truncated", "garbage", "labels"])
def test_a_bad_mnist_file_is_named(fault, tmp_path):
    """$MINIVAE_DATA has the four files, one of them bad."""
    import gzip
    import struct

    folder = tmp_path / "mnist"
    folder.mkdir()
    for split, n in (("train", 20), ("t10k", 10)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + bytes(n * 784)
        labels = struct.pack(">4BI", 0, 0, 8, 1, n - (fault == "labels")) + bytes(n - (fault == "labels"))
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    bad = folder / "train-images-idx3-ubyte.gz"
    if fault == "missing":
        bad.unlink()
    if fault == "truncated":
        bad.write_bytes(bad.read_bytes()[:-20])
    if fault == "garbage":
        bad.write_bytes(b"<html>not found</html>")
    done = minivae(
        "train", "vae", "--data", "mnist", cwd=tmp_path, MINIVAE_DATA=str(tmp_path), MINIVAE_CACHE=str(tmp_path / "c"),
        HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", no_proxy="",
    )  # fmt: skip
    refused(done, "train-images-idx3-ubyte" if fault != "labels" else "labels")
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_another_model_or_a_corrupt_one(run, tmp_path):
    header, arrays = checkpoint.load(run / "model.npz")
    checkpoint.save(tmp_path / "other.npz", header | {"model": "transformer"}, arrays)
    (tmp_path / "corrupt.npz").write_bytes((run / "model.npz").read_bytes()[:-5000])
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    for command in ("evaluate", "sample", "reconstruct"):
        refused(minivae(command, tmp_path / "other.npz"), "other.npz", "'transformer'")
        refused(minivae(command, tmp_path / "corrupt.npz"), "corrupt.npz")
        refused(minivae(command, tmp_path / "foreign.npz"), "foreign.npz")


def test_data_of_another_shape_than_the_model(run, tmp_path):
    np.save(tmp_path / "big.npy", np.zeros((10, 9, 9), np.uint8))
    refused(minivae("evaluate", run, "--data", tmp_path / "big.npy"), "big.npy", "(1, 9, 9)", "(1, 8, 8)")


def test_an_output_folder_that_cannot_be_written(images, run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    args = ("train", "vae", "--data", images, "--out")
    refused(minivae(*args, tmp_path / "file" / "run"), "cannot be written", "--out")
    refused(minivae(*args, tmp_path / "file"), "cannot be written", "--out")
    refused(minivae("sample", run, "--out", tmp_path / "nowhere" / "x.png"), "x.png", "--out")


# what is there is not lost


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("named", ["best.npz", "model-12.npz", "model.npz", ""])
def test_a_run_whose_checkpoint_is_gone_is_not_begun_again(run, tmp_path, named):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    if named in ("model.npz", ""):
        (folder / "model.npz").rename(folder / "model-00000004.npz")
    before = contents(folder)
    words = ["model-00000004.npz"] if named in ("model.npz", "") else [named]
    refused(minivae("train", "--resume", folder / named), "no checkpoint", *words)
    assert contents(folder) == before


def test_a_checkpoint_that_is_a_folder_is_no_reason_to_begin_again(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    (folder / "model.npz").unlink()
    (folder / "model.npz").mkdir()
    refused(minivae("train", "--resume", folder), "no checkpoint", "model.npz")
    assert (folder / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()


def test_an_earlier_run_comes_back_where_the_new_one_is_refused(run, images, tmp_path, capsys):
    out = tmp_path / "kept"
    shutil.copytree(run, out)
    before = contents(out)
    assert main(["train", "vae", "--likelihood", "multinomial", "--data", str(images), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert "moved back" in told.out and "multinomial" in told.err and told.err.count("\n") == 1
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "loss.png", "best.npz"])
def test_a_folder_of_something_else_is_not_taken_for_a_run(images, tmp_path, name):
    (tmp_path / name).write_text('{"editor": "vi"}')
    refused(minivae("train", "vae", "--data", images, "--out", tmp_path), name, "--out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_weights_without_a_config_are_moved_aside(run, images, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(run / "model.npz", out)
    done = minivae("train", "vae", "--data", images, "--out", out, "--epochs", 1, "--hidden", 8)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.1" / "model.npz").read_bytes() == (run / "model.npz").read_bytes()


def test_a_run_in_the_folder_of_its_data(tmp_path):
    from PIL import Image

    for i in range(8):
        Image.fromarray(np.full((8, 8), 30 * i, np.uint8)).save(tmp_path / f"{i}.png")
    before = contents(tmp_path)
    refused(minivae("train", "vae", "--data", tmp_path, "--out", tmp_path), "holds the data", "--out")
    refused(minivae("train", "vae", "--data", tmp_path, "--out", tmp_path / "run"), "their classes", "--out")
    assert contents(tmp_path) == before


def test_the_folder_where_one_stands(images, tmp_path):
    for _ in range(2):  # the second moves the first aside
        done = minivae("train", "vae", "--data", images, "--out", ".", "--epochs", 1, "--hidden", 8, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 2)  # where one stands cannot be moved on all systems
        tmp_path.mkdir(exist_ok=True)


@pytest.mark.parametrize("command", ["sample", "reconstruct", "traverse", "interpolate"])
def test_figures_are_png_and_no_other_file_is_written_over(run, tmp_path, command):
    (tmp_path / "data.npz").write_bytes(b"mine")
    refused(minivae(command, run, "--out", tmp_path / "data.npz"), "data.npz", ".png")
    (tmp_path / "folder.png").mkdir()
    refused(minivae(command, run, "--out", tmp_path / "folder.png"), "is a folder", "--out")
    assert (tmp_path / "data.npz").read_bytes() == b"mine"


def test_more_images_than_a_figure_shows(run):
    refused(minivae("sample", run, "--count", 100_000), "--count", "at most 1,000")


def test_an_image_is_not_compressed_over_itself(images, tmp_path):
    from PIL import Image

    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    arguments = ["--epochs", 1, "--channels", 2, "--codes", 4, "--dim", 2]
    done = minivae("train", "vqvae", "--data", images, "--out", tmp_path / "run", *arguments)
    assert done.returncode == 0, done.stderr
    before = path.read_bytes()
    refused(minivae("compress", path, "--run", tmp_path / "run", "--out", path), "a.png", "--out")
    assert path.read_bytes() == before
    colour = tmp_path / "colour.npy"
    np.save(colour, np.zeros((20, 3, 8, 8), np.uint8))
    refused(minivae("train", "prior", "--of", tmp_path / "run", "--data", colour), "(3, 8, 8)", "(1, 8, 8)")


def test_more_classes_than_a_model_knows(images, tmp_path):
    run, more = tmp_path / "run", tmp_path / "more.npz"
    done = minivae("train", "cvae", "--data", images, "--out", run, "--epochs", 1, "--hidden", 8, "--latent", 2)
    assert done.returncode == 0, done.stderr
    with np.load(images) as given:
        np.savez(more, images=given["images"], labels=np.arange(len(given["images"])) % 7)
    for command in ("evaluate", "encode", "reconstruct"):
        refused(minivae(command, run, "--data", more), "labels", "classes", "--classes")
    refused(minivae("outliers", run, "--against", more), "labels", "classes", "--classes")


def test_what_cannot_be_done_here_is_said(images, tmp_path):
    done = minivae("train", "vae", "--data", images, "--out", tmp_path / "run", "--epochs", 1, "--capture")
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "capture" in done.stderr
    refused(
        minivae("train", "ae", "--data", "documents", "--binarize", "--out", tmp_path / "words"), "binarize", "words"
    )
    refused(minivae("train", "vae", "--data", "", "--out", tmp_path / "none"), "''")


def test_sigterm_leaves_nothing_half_written(tmp_path):
    code = """
import os, signal, sys, time
from pathlib import Path
from minivae import __main__, commands
from minivae.files import atomic_write
def info(args):
    with atomic_write(Path("figure.png")) as temporary:
        temporary.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
commands.info = info
sys.argv = ["minivae", "info"]
sys.exit(__main__.main())
"""
    environment = os.environ | {"OPENBLAS_CORETYPE": "Haswell"}  # no start anew
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_goes_away_is_no_error(unbuffered):
    reader, writer = os.pipe()
    os.close(reader)  # as in `minivae info | head -1`, but before the first line
    command = [sys.executable, "-m", "minivae", "info"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_a_usable_checkpoint(images, tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, "-m", "minivae", "train", "vae", "--data", images, "--epochs", "100000", "--out", "run"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "run/model.npz" in errors
    assert "Traceback" not in errors
    assert minivae("evaluate", tmp_path / "run", "--samples", 2).returncode == 0
