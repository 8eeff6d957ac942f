"""Two processes with one seed compute the same bits; two threads instead of one change the last of them."""

import os
import subprocess
import sys

import numpy as np
import pytest

from minivae import checkpoint, models

SMALL = {
    "linear-ae": ["--latent", "2"],
    "vqvae": ["--codes", "6", "--dim", "3", "--channels", "4"],
    "vqvae2": ["--codes", "6", "--dim", "3", "--channels", "4", "4"],
    "prior": ["--of", "vqvae", "--width", "4", "--layers", "2"],
    "hvae": ["--hidden", "8", "--latents", "2", "2"],
    "pixelvae": ["--hidden", "8", "--latent", "2", "--width", "4", "--layers", "2", "--binarize"],
}
LARGE = ["vae", "--epochs", "1", "--batch-size", "128", "--hidden", "300"]  # whose products are shared among threads


def train(folder, runs, threads=1, hash_seed=0) -> None:
    """Train, each run in the folder of its name, in a process of its own; figures are drawn elsewhere."""
    script = "\n".join(
        [
            "import sys",
            "from minivae import report",
            "from minivae.cli import main",
            "report.figures = lambda *_: None",
            *(f"assert main({[*argv, '--out', str(folder / name)]}) == 0" for name, argv in runs.items()),
        ]
    )
    count = {f"{library}_NUM_THREADS": str(threads) for library in ("OPENBLAS", "OMP", "MKL", "VECLIB")}
    environment = os.environ | count | {"PYTHONHASHSEED": str(hash_seed), "MINIVAE_BACKEND": "numpy"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def data(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1300, 28, 28), np.uint8)
    np.save(tmp_path / "data.npy", images)
    np.savez(tmp_path / "small.npz", images=images[:60, :8, :8], labels=np.arange(60) % 3)
    return tmp_path


def content(folder) -> tuple:
    """The weights, the optimiser, the generators and the metrics, without the times."""
    header, arrays = checkpoint.load(folder / "model.npz")
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in header["history"]]
    return {name: a.tobytes() for name, a in arrays.items()}, history, header["generators"]


def test_two_runs_with_one_seed_have_the_same_bits(data):
    """Of every model, whatever the order of Python's sets."""
    runs = {
        name: ["train", name, "--data", str(data / "small.npz"), "--epochs", "2", "--batch-size", "20",
               *SMALL.get(name, ["--hidden", "8", "--latent", "2"])]
        for name in models.MODELS
    }  # fmt: skip
    for i in (1, 2):
        (data / str(i)).mkdir()
        train(data / str(i), runs, hash_seed=i)
    for name in runs:
        assert content(data / "1" / name) == content(data / "2" / name), name
    other = {name: [*argv, "--seed", "1"] for name, argv in runs.items() if name == "vae"}
    train(data, other)
    assert content(data / "vae")[0] != content(data / "1" / "vae")[0]


def test_two_threads_change_no_more_than_the_rounding(data):
    for threads in (1, 2):
        train(data, {str(threads): ["train", *LARGE, "--data", str(data / "data.npy")]}, threads=threads)
    (_, (one,), _), (_, (two,), _) = content(data / "1"), content(data / "2")
    assert one.keys() == two.keys()
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
