"""`load`: a name or a path; and what importing the package does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae import data
from minivae.errors import InputError, printable


@pytest.mark.parametrize("name", ["glyphs", "letters", "sprites", "documents"])
def test_generated(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The name reaches its function, with its defaults; drawing 70,000 images is not needed for that."""
    assert data._NAMED[name] is getattr(data, name)
    monkeypatch.setitem(data._NAMED, name, lambda: "drawn")
    assert data.load(name) == "drawn"


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each name reaches its own reader, even where the path of that name exists."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    lacking = {
        "mnist": "mnist' lacks train-images",
        "fashion-mnist": "fashion-mnist' lacks train-images",
        "cifar10": "cifar10/cifar-10-batches-bin' lacks data_batch_1.bin",
        "frey-faces": "there is no '.*frey-faces/frey_rawface.mat'",
        "dsprites": "dsprites' lacks dsprites_ndarray",
        "omniglot": "omniglot' lacks images_background.zip",
    }
    assert set(lacking) == set(data._NAMED) - {"glyphs", "letters", "sprites", "documents"}
    for name, message in lacking.items():
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match=message):
            data.load(name)
        with pytest.raises(InputError, match=f"/{name}' has no images"):
            data.load(f"./{name}")


def test_path(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.zeros((3, 4, 4), np.uint8))
    for path in (tmp_path / "mine.npy", str(tmp_path / "mine.npy")):
        assert data.load(path).name == "mine"


@pytest.mark.parametrize("name", ["", "minst", "no/such/folder", "mine.npy", "a\0b", "x" * 5000])
def test_unknown(name: str) -> None:
    with pytest.raises(InputError) as caught:
        data.load(name)
    for part in (
        f"'{printable(name)}'",
        "glyphs, letters, sprites, documents, mnist, fashion-mnist",
        "path of a folder",
        ".npy",
        ".npz",
    ):
        assert part in str(caught.value)


def test_import_is_light() -> None:
    """What draws, decodes, shows progress or speaks HTTP is imported when it is used."""
    heavy = ("matplotlib", "PIL", "tqdm", "platformdirs", "urllib.request", "ssl")
    code = f"import sys, minivae.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    assert all(hasattr(data, name) for name in data.__all__)
