"""Sentences of the command line for bad input that the other tests of it do not meet: exit code 2, one line, a name."""

import errno
import importlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from strict.device import CUDARuntimeError

from minivae import backend, checkpoint, models
from minivae.cli import main
from minivae.data import Dataset, Split

cifar10 = importlib.import_module("minivae.data.cifar10")  # minivae.data has a function of that name
RNG = np.random.default_rng(0)


def grey(n: int = 20, side: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (n, side, side), np.uint8)


def said(capsys, command: list[object], *words: str) -> None:
    """The command ends with 2 and one sentence that has these words."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in command])
    except SystemExit as error:  # argparse
        code = error.code
    printed = capsys.readouterr().err
    assert (code, printed.count("\n")) == (2, 1), printed
    assert printed.startswith("minivae: ") and "Traceback" not in printed
    for word in words:
        assert word in printed


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, with good data in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    np.save("data.npy", grey())
    return tmp_path


ARRAYS = {  # what --data names, and what is said of it
    "names": (dict(pictures=grey(), words=grey()), "pictures"),
    "axes": (dict(images=np.zeros((4, 2, 2, 2, 2), np.uint8)), "(4, 2, 2, 2, 2)"),
    "dtype": (dict(images=grey().astype(np.int32)), "int32"),
    "range": (dict(images=grey().astype(np.float32)), "0 to 1"),
    "nan": (dict(images=np.full((4, 8, 8), np.nan, np.float32)), "bad.npz"),
    "one image": (dict(images=grey(1)), "at least 2"),
    "labels": (dict(images=grey(), labels=np.zeros(3, int)), "(3,)"),
    "bits": (dict(images=grey() % 2), "save the images as bool"),
    "two shapes": (
        dict(x_train=grey(), y_train=np.zeros(20, int), x_test=grey(5, 6), y_test=np.zeros(5, int)), "(1, 6, 6)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays(here, capsys, what):
    arrays, word = ARRAYS[what]
    np.savez("bad.npz", **arrays)
    said(capsys, ["train", "vae", "--data", "bad.npz"], "bad.npz", word)
    assert not (here / "runs").exists()


def test_a_bomb(here, capsys, monkeypatch):
    with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        np.lib.format.write_array(file, np.zeros((2000, 64, 64), np.uint8))
    monkeypatch.setattr("minivae.archives.MAX_BYTES", 1 << 20)
    said(capsys, ["train", "vae", "--data", "bomb.npz"], "bomb.npz", "expands to")


def test_folders_and_files(here, capsys, monkeypatch):
    (here / "notes.txt").write_text("no images")
    (here / "both/cats").mkdir(parents=True)
    for path in ("both/a.png", "both/cats/b.png"):
        Image.fromarray(grey(1)[0]).save(here / path)
    said(capsys, ["train", "vae", "--data", "notes.txt"], "notes.txt", ".npz")
    said(capsys, ["train", "vae", "--data", "both"], "both", "subfolders")
    (here / "both/a.png").unlink()
    monkeypatch.setattr("minivae.data.folder.MAX_BYTES", 10)
    said(capsys, ["train", "vae", "--data", "both"], "both", "GiB")
    monkeypatch.setattr("minivae.data.folder.MAX_PIXELS", 10)
    said(capsys, ["train", "vae", "--data", "both"], "b.png", "8x8", "more than 10 pixels")


def idx(path, array) -> None:
    path.write_bytes(struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def test_files_of_data_sets(here, capsys, monkeypatch):
    def refused(name: str, *words: str) -> None:
        said(capsys, ["train", "vae", "--data", name], *words)

    monkeypatch.setenv("MINIVAE_DATA", str(here / "nowhere"))
    refused("mnist", "MINIVAE_DATA", "nowhere")
    monkeypatch.setenv("MINIVAE_DATA", str(here))
    for name in ("mnist", "cifar10", "frey-faces", "omniglot", "dsprites"):
        (here / name).mkdir()
        refused(name, name)
    for split, n in (("train", 20), ("t10k", 10)):
        idx(here / f"mnist/{split}-images-idx3-ubyte", grey(n, 28))
        idx(here / f"mnist/{split}-labels-idx1-ubyte", np.full(n, 11, np.uint8))
    refused("mnist", "label 11", "train-labels")
    idx(here / "mnist/train-images-idx3-ubyte", grey(20, 27))
    refused("mnist", "(20, 27, 27)", "28x28")
    folder = here / "cifar10/cifar-10-batches-bin"
    folder.mkdir()
    for name in ("test_batch.bin", *(f"data_batch_{i}.bin" for i in range(1, 6))):
        (folder / name).write_bytes(b"\x0b" + bytes(3072))
    refused("cifar10", "label 11", ".bin")
    (folder / "data_batch_1.bin").write_bytes(bytes(100))
    refused("cifar10", "100 bytes", "data_batch_1.bin")
    (folder / "data_batch_1.bin").write_bytes(bytes(2 * 3073))
    with monkeypatch.context() as patch:  # as if it were cut off while it is read
        patch.setattr(np, "fromfile", lambda path, dtype, count: np.zeros(count - 1, dtype))
        refused("cifar10", "data_batch_1.bin", "ended early", "put a complete")
    (folder / "data_batch_1.bin").unlink()
    (folder / "data_batch_1.bin").mkdir()
    refused("cifar10", "data_batch_1.bin", "Is a directory", "put a readable file")


def test_downloads(here, capsys, monkeypatch):
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    said(capsys, ["train", "vae", "--data", "fashion-mnist"], "cannot download", "train-images", "MINIVAE_DATA")
    monkeypatch.setenv("MINIVAE_CACHE", str(here / "data.npy"))
    said(capsys, ["train", "vae", "--data", "mnist"], "data.npy", "MINIVAE_CACHE")


def test_a_cache_without_room(here, capsys, monkeypatch):
    """What was downloaded cannot be unpacked."""

    def download(urls, path, *args, **options):
        path.parent.mkdir(parents=True)
        with tarfile.open(path, "w") as tar:
            for name in (*cifar10.TRAIN, cifar10.TEST):
                member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
                member.size = 3073
                tar.addfile(member, io.BytesIO(bytes(3073)))
        return path

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    monkeypatch.setattr("minivae.data.download.download", download)
    monkeypatch.setattr(cifar10, "_SENT_RECORDS", 1)
    monkeypatch.setattr(cifar10.shutil, "copyfileobj", full)
    said(capsys, ["train", "vae", "--data", "cifar10"], "cannot write CIFAR-10", "No space left", "MINIVAE_CACHE")
    assert not [path for path in (here / "cache").rglob("*") if path.is_file()]


GPUS = {  # what cannot be used: the function of the stand-in that fails, how, the driver's version, and what is said
    "driver": ("cuda.runtime.getDeviceCount", CUDARuntimeError(35), 0, "needs NVIDIA's driver"),
    "old driver": ("cuda.runtime.getDeviceCount", CUDARuntimeError(35), 11040, "needs a newer driver"),
    "no GPU": ("cuda.runtime.getDeviceCount", CUDARuntimeError(100), 12090, "the driver finds none"),
    "library": (
        "ndarray.__matmul__", ImportError("libcublas.so.12: cannot open shared object file"), 12090,
        "does not find CUDA's library libcublas.so.12",
    ),
    "kernels": ("ndarray.__matmul__", CUDARuntimeError(209), 12090, "cannot use the GPU (cudaErrorNoKernelImage"),
}  # fmt: skip


@pytest.fixture
def cupy(monkeypatch):
    """--backend cupy on the stand-in, which is tried anew."""
    monkeypatch.setattr(backend, "_loaded", {np.ndarray: backend.host()})
    on_stand_in = type("CuPy", (backend.LIBRARIES["strict"],), {"name": "cupy"})
    monkeypatch.setitem(backend.LIBRARIES, "cupy", on_stand_in)


@pytest.mark.parametrize("what", GPUS)
@pytest.mark.parametrize("command", ["train vae --data data.npy", "info"])
def test_a_gpu_that_cannot_be_used(here, capsys, monkeypatch, cupy, command, what):
    place, error, driver, words = GPUS[what]

    def fails(*args):
        raise error

    monkeypatch.setattr(f"strict.{place}", fails)
    monkeypatch.setattr("strict.cuda.runtime.driverGetVersion", lambda: driver)
    said(capsys, [*command.split(), "--backend", "cupy"], "backend 'cupy'", words, "--backend numpy")
    monkeypatch.setenv("MINIVAE_BACKEND", "cupy")
    monkeypatch.setattr(backend, "_current", None)
    said(capsys, command.split(), "backend 'cupy'", words)
    assert not (here / "runs").exists()


def test_a_gpu_that_is_not_there(here, capsys, monkeypatch, cupy):
    said(capsys, ["info", "--backend", "cupy:7"], "no GPU 7", "0 (the host as GPU 0)", "--backend cupy:0")
    said(capsys, ["info", "--backend", "numpy", "--tf32"], "tf32", "--backend cupy")
    monkeypatch.setitem(backend.LIBRARIES, "cupy", backend.CuPy)
    monkeypatch.setitem(sys.modules, "cupy", None)
    said(capsys, ["info", "--backend", "cupy"], "'cupy'", "not installed", "minivae[cuda12]")


OPTIONS = {  # of the parser, and of what it hands on
    "train vae --epochs many": ["--epochs", "'many'", "whole number"],
    "train vae --beta -1": ["--beta", "-1"],
    "train vae --seed -1": ["--seed", "-1", "at least 0"],
    "train vae --hidden wide": ["--hidden", "'wide'"],
    "train vae --latent 1000000000000": ["--latent", "1000000000000", "at most 100,000,000"],
    f"train vae --seed 1{'0' * 50}": ["--seed", "at most 340,282"],
    "info --threads 1000000000000": ["--threads", "at most 100,000,000"],
    "info --threads 100000": ["--threads 100000", "cores", "from 1 to"],
    "train vae --capture --on-nan skip": ["--capture", "on_nan skip"],
    "train vae --on-nan go": ["on_nan 'go'", "stop or skip"],
    "train vae --save-every day": ["save_every 'day'", "10m"],
    "train vae --keep 0": ["--keep", "at least 1"],
    "train vae --clip 0": ["--clip", "above 0"],
    "train vae --wings 2": ["--wings"],
    "evaluate run --samples 0": ["--samples", "at least 1"],
    "sample run --count 0": ["--count", "at least 1"],
    "encode run --split all": ["--split", "'all'", "test"],
    "outliers run": ["--against"],
    "export": ["run"],
    "gradcheck --examples 0": ["--examples", "at least 1"],
}


@pytest.mark.parametrize("command", OPTIONS)
def test_options(here, capsys, command):
    said(capsys, command.split(), *OPTIONS[command])


NONE, LAST = "no checkpoint was written", r"the last good checkpoint is run/model.npz \(step \d+\)"
NOT_FINITE = {  # what overflows, in which words, and what is left
    "--lr 1e30 --batch-size 4": ("the loss or its gradient is not finite at step 2, epoch 1", "1e+30", NONE),
    # mu squared, in float32
    "--lr 10 --likelihood gaussian --hidden 400 --batch-size 4": ("is not finite at step 2, epoch 1", "10", NONE),
    "--lr 0.3 --likelihood gaussian --optimizer sgd": (r"is not finite at step (\d+), epoch \1", "0.3", LAST),
    "--lr 1 --likelihood gaussian --optimizer sgd": (r"the test loss is \w+ after step (\d+), epoch \1", "1", LAST),
    "--beta 1e300 --on-nan skip": ("every step of epoch 1 was not finite, so that all were skipped", "0.001", NONE),
}


@pytest.mark.parametrize("given", NOT_FINITE)
def test_numbers_that_go_wrong_end_with_1(here, given):
    """In a process of its own, where a warning of NumPy would be printed; an epoch is a step, or a few."""
    what, rate, left = NOT_FINITE[given]
    np.save("data.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8))
    command = f"train vae --data data.npy --hidden 4 --latent 2 --epochs 30 --out run {given}".split()
    done = subprocess.run([sys.executable, "-m", "minivae", *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    words = f"minivae: .*{what}, with the learning rate {re.escape(rate)}; {left}; likely causes: a learning rate .*\n"
    assert re.fullmatch(words, done.stderr), done.stderr
    assert (main(["evaluate", "run", "--samples", "2"]) == 0) is (left == LAST)


def test_what_only_some_models_take(here, capsys):
    np.save("flat.npy", np.zeros((20, 8, 8), np.uint8))
    for given, words in {
        "ae --level 0.5": ["level 0.5", "corruption"],
        "ae --likelihood multinomial": ["multinomial", "(N, V)"],
        "vae --channels 4": ["channels", "conv"],
        "vqvae --quantizer fsq --levels 1": ["levels [1]"],
        "vqvae --quantizer fsq --levels 99999999 99999999 9": ["levels [99999999, 99999999, 9]", "codes"],
        "vqvae --estimator score": ["'score'", "rotation"],
        "vqvae --decay 2": ["decay 2"],
        "vqvae --restart 2": ["restart 2"],
        "vqvae --data flat.npy": ["variance 0"],
        "vae --depth 6": ["depth 6", "flow none", "planar or iaf"],
        "vqvae --levels 8 8": ["levels [8, 8]", "quantizer ema", "give quantizer fsq"],
        "vqvae --quantizer fsq --codes 9": ["codes 9", "quantizer fsq", "ema or gradient"],
        "vqvae --quantizer gradient --decay 0.9": ["decay 0.9", "quantizer gradient", "give quantizer ema"],
    }.items():
        data = [] if "--data" in given else ["--data", "data.npy"]
        said(capsys, ["train", *given.split(), *data, "--epochs", 1, "--out", "run"], *words)
        assert not (here / "run").exists()


@pytest.fixture
def words(here, monkeypatch):
    """--data words: counts of words, not images."""
    counts = RNG.poisson(3.0, (40, 12)).astype(np.float32)
    words = Dataset("words", Split(counts[:30]), Split(counts[30:]), vocabulary=("w",) * 12)
    monkeypatch.setattr("minivae.data.load", lambda name: words)


def test_documents(words, capsys):
    said(capsys, ["train", "context", "--data", "words", "--hidden", 4], "corruption block", "masking")
    assert main(["train", "vae", "--data", "words", "--epochs", "1", "--out", "run"]) == 0
    said(capsys, ["sample", "run"], "'run'", "no images", "(12,)")


def test_documents_out_of_range(words, capsys):
    said(capsys, ["train", "vae", "--data", "words", "--likelihood", "bernoulli"], "[0, 1]", "Bernoulli")


def test_documents_without_docstrings(here):
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "minivae", "train", "vae", "--data", "documents"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "-OO" in done.stderr


def test_gradcheck_without_its_package(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("minivae.cases")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("minivae.cases", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    said(capsys, ["gradcheck"], "hypothesis", "pip install 'minivae[test]'")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on twenty images, and one whose data have a single test image."""
    folder = tmp_path_factory.mktemp("messages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("minivae.report.figures", lambda *args: None)
        for n in (20, 2):
            np.save(f"{n}.npy", grey(n))
            command = f"train vae --data {n}.npy --epochs 1 --hidden 4 --latent 2 --out run{n}"
            assert main(command.split()) == 0
    return folder


def test_one_test_image(run, capsys, monkeypatch):
    monkeypatch.chdir(run)
    said(capsys, ["interpolate", "run2"], "one test image", "two")


def test_a_checkpoint_that_may_not_be_read(run, capsys, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.chdir(run)
    monkeypatch.setattr(checkpoint, "read_npz", denied)
    said(capsys, ["evaluate", "run20"], "run20/model.npz", "may not be read")


def test_what_is_written_to_a_pipe_or_through_a_link(run, capsys, monkeypatch, tmp_path):
    """A pipe would be replaced by a file, and so would a link."""
    monkeypatch.chdir(run)
    os.mkfifo(tmp_path / "pipe.npz")
    said(capsys, ["encode", "run20", "--out", tmp_path / "pipe.npz"], "pipe.npz", "name a file")
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "codes.npz", tmp_path / "far/kept"
    link.symlink_to(target)
    for _ in range(2):  # where it leads nowhere yet, and where it does
        assert main(["encode", "run20", "--out", str(link)]) == 0
        assert link.is_symlink() and not target.is_symlink()
        assert set(np.load(target).files) == {"codes"}
    link.unlink()
    link.symlink_to(tmp_path / "gone/kept")
    said(capsys, ["encode", "run20", "--out", link], "codes.npz", "cannot be written")


def test_a_run_is_looked_at_from_another_folder(run, monkeypatch, tmp_path):
    """Its data were named by a relative path."""
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run / "run20"), "--samples", "2"]) == 0


CHECKPOINTS = {  # what is changed in a checkpoint that is otherwise whole, and what is said of it
    "altered": "digest", "newer": "format 99", "header": "header", "weights": "'encoder.1.bias' is missing",
    "optimizer": "first.0|'m.0'|optimiser state", "backend": "--backend cupy", "state": "not the state of a training",
    "options": "does not say how it was trained", "lr": "lr -1", "seed": "seed -1", "clip": "clip 0",
    "nan": "weights 'encoder.1.bias' that are not finite", "kind": "latent 'two', which is no int",
    "batch": "9999 batches of an epoch are done", "counts": "its optimiser counts more steps",
    "epochs": "epochs 0", "keep": "keep 0", "beta": "beta -1", "latent": "latent 0",
}  # fmt: skip


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_checkpoints(run, capsys, monkeypatch, what, tmp_path):
    monkeypatch.chdir(run)
    header, arrays = checkpoint.load(run / "run20/model.npz")
    path = tmp_path / "model.npz"
    options, saving, arguments = header["options"], header["saving"], header["arguments"]
    if what == "newer":
        header["format"] = 99
    elif what == "weights":
        del arrays["model.encoder.1.bias"]
    elif what == "nan":
        arrays["model.encoder.1.bias"][0] = np.nan
    elif what == "kind":
        arguments["latent"] = "two"
    elif what == "batch":
        header["batch"] = 9999
    elif what == "counts":
        arrays["optimizer.counts"] = arrays["optimizer.counts"] + 9999
    elif what == "optimizer":
        del arrays[next(name for name in arrays if name.startswith("optimizer.") and name.endswith(".0"))]
    elif what == "backend":
        header["backend"] = "cupy"
    elif what in ("state", "options"):
        del header[{"state": "means", "options": "options"}[what]]
    elif what in ("lr", "seed", "clip", "epochs"):
        options[what] = 0 if what in ("clip", "epochs") else -1
    elif what == "keep":
        saving["keep"] = 0
    elif what in ("beta", "latent"):
        arguments[what] = -1 if what == "beta" else 0
    checkpoint.save(path, header, arrays)
    if what in ("altered", "header"):
        with np.load(path) as archive:
            members = dict(archive)
        members["header"] = np.frombuffer(b"[]", np.uint8)
        if what == "header":
            del members["digest"]
            members["digest"] = checkpoint.digest(members)
        with open(path, "wb") as file:
            np.savez(file, **members)
    said(capsys, ["train", "--resume", tmp_path], tmp_path.name)
    before = sorted(p.name for p in tmp_path.iterdir())
    capsys.readouterr()
    main(["train", "--resume", str(tmp_path)])
    printed = capsys.readouterr().err
    assert any(word in printed for word in CHECKPOINTS[what].split("|")), printed
    assert sorted(p.name for p in tmp_path.iterdir()) == before


CONFIGS = {  # of a run that was stopped before its first checkpoint: the model, what is changed, what is said
    "level": ("dae", {"level": -1.0}, {}, "level -1.0"),
    "hidden": ("vae", {"hidden": [0]}, {}, "hidden [0]"),
    "codes": ("vqvae", {"codes": 0}, {}, "codebook of 0 codes"),
    "huge": ("vae", {"latent": 1 << 52}, {}, "does not say how to train"),
    "shape": ("vae", {"shape": [1, 9, 9]}, {}, "(1, 8, 8)"),
    "kind": ("vae", {"latent": 2.5}, {}, "latent 2.5, which is no int"),
    "word": ("vae", {}, {"epochs": "many"}, "epochs 'many' must be a whole number"),
    "digits": ("vae", {}, {"epochs": 10**60}, "epochs has 61 digits"),
    "unknown": ("vae", {}, {"wings": 2}, "does not say how it was trained"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_configs(here, capsys, what):
    model, arguments, options, words = CONFIGS[what]
    facts = {"shape": (1, 8, 8)} | ({"data_variance": 0.1} if model == "vqvae" else {})
    config = {"model": model, "arguments": models.arguments(model, **facts) | arguments, "data": "data.npy"}
    (here / "run").mkdir()
    (here / "run/config.json").write_text(json.dumps(config | {"options": options}))
    said(capsys, ["train", "--resume", "run"], "run/config.json", words)
    assert [path.name for path in (here / "run").iterdir()] == ["config.json"]


def test_a_config_that_says_nothing(run, capsys, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model": "vae"}))
    said(capsys, ["train", "--resume", tmp_path], "config.json", "train anew")
