"""dSprites: small files in its format, whose pickle must never be opened."""

from __future__ import annotations

import importlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minivae.data.sprites import FACTORS
from minivae.errors import InputError

module = importlib.import_module("minivae.data.dsprites")  # in the package, the function has this name
dsprites = module.dsprites
RNG = np.random.default_rng(0)
COUNT = 50
IMAGES = RNG.integers(0, 2, (COUNT, 64, 64)).astype(np.uint8)
CLASSES = RNG.integers(0, tuple(FACTORS.values()), (COUNT, 6))


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file goes under $MINIVAE_DATA; the cache is empty."""
    (tmp_path / "own" / "dsprites").mkdir(parents=True)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("minivae.data.download._fetch", None)
    return tmp_path / "own" / "dsprites" / module.FILE


def save(path: Path, **changes: Any) -> None:
    """The five arrays of the public file, with the changes; None leaves one out."""
    arrays = {
        "metadata": np.array({"trap": Trap(path.with_name("sprung"))}, dtype=object),
        "imgs": IMAGES,
        "latents_classes": CLASSES,
        "latents_values": CLASSES / 2,
        **changes,
    }
    np.savez_compressed(path, allow_pickle=True, **{k: v for k, v in arrays.items() if v is not None})


def test_content(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth at random for testing, in order; each image with its factors, whatever the chunk."""
    save(path)
    dataset = dsprites()
    assert dataset.name == "dsprites" and dataset.shape == (1, 64, 64)
    assert dataset.classes == ("square", "ellipse", "heart")
    assert (len(dataset.train), len(dataset.test)) == (45, 5)
    positions = []
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == np.uint8 and list(split.factors) == list(FACTORS)
        same = (split.images == IMAGES[:, None, None] * 255).all(axis=(2, 3, 4))
        rows, found = same.T.nonzero()
        np.testing.assert_array_equal(rows, np.arange(len(split)))
        assert (np.diff(found) > 0).all()
        positions += found.tolist()
        for name, column in zip(FACTORS, CLASSES.T, strict=True):
            assert split.factors[name].dtype == np.int64
            np.testing.assert_array_equal(split.factors[name], column[found])
        np.testing.assert_array_equal(split.labels, CLASSES[found, 1])
    assert sorted(positions) == list(range(COUNT))
    monkeypatch.setattr(module, "CHUNK", 7)
    again = dsprites()
    np.testing.assert_array_equal(again.train.images, dataset.train.images)
    np.testing.assert_array_equal(again.test.images, dataset.test.images)
    assert not path.with_name("sprung").exists()


def test_memory(path: Path) -> None:
    """What is taken besides the images is a few chunks."""
    images = (np.random.default_rng(0).random((20_000, 64, 64), np.float32) < 0.003).astype(np.uint8)
    save(path, imgs=images, latents_classes=np.zeros((20_000, 6), np.int64))
    tracemalloc.start()
    dataset = dsprites()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(dataset.train) == 18_000
    assert peak < images.nbytes + 5 * module.CHUNK * 64 * 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgs": None}, "no item named 'imgs.npy'"),
        ({"latents_classes": None}, "no item named 'latents_classes.npy'"),
        ({"imgs": IMAGES[:, :32]}, r"imgs.npy is uint8 of shape \(50, 32, 64\), expected uint8 of shape \(737280, 64"),
        ({"imgs": IMAGES.astype(np.int64)}, "imgs.npy is int64 of shape"),
        ({"imgs": IMAGES[:49]}, "it has 49 imgs, but latents_classes of 50"),
        ({"imgs": IMAGES[:1], "latents_classes": CLASSES[:1]}, r"of shape \(1, 6\)"),
        ({"imgs": IMAGES * 255}, "it has the pixel 255, expected 0 and 1"),
        ({"imgs": np.asfortranarray(IMAGES)}, "imgs.npy is uint8 of shape"),
        ({"imgs": np.array([Trap(Path("x"))] * 50)}, "imgs.npy is object of shape"),
        ({"latents_classes": CLASSES[:, :5]}, r"latents_classes.npy is int64 of shape \(50, 5\)"),
        ({"latents_classes": CLASSES / 2}, "latents_classes.npy is float64"),
        ({"latents_classes": CLASSES + np.eye(50, 6, dtype=np.int64)}, "latents_classes leave the grid"),
        ({"latents_classes": CLASSES - 1}, "latents_classes leave the grid"),
    ],
)
def test_refused(path: Path, changes: dict[str, Any], message: str) -> None:
    save(path, **changes)
    with pytest.raises(InputError, match=rf"{message}.*: put the original") as caught:
        dsprites()
    assert str(path) in str(caught.value) and not Path("x").exists()


def test_bomb(path: Path) -> None:
    """A header that claims more than the grid is refused before memory is taken."""
    out = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 64, 64)}
    np.lib.format.write_array_header_1_0(out, header)
    save(path, imgs=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("imgs.npy", out.getvalue() + bytes(1000))
    with pytest.raises(InputError, match=r"imgs.npy is uint8 of shape \(1099511627776"):
        dsprites()


def test_cut_short(path: Path) -> None:
    """The array within an archive that is whole, and the archive itself."""
    out = io.BytesIO()
    np.save(out, IMAGES)
    save(path, imgs=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("imgs.npy", out.getvalue()[:-1])
    with pytest.raises(InputError, match=r"cannot read .* \(it ends early\)"):
        dsprites()
    save(path)
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2], whole[:5000] + b"?" + whole[5001:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot read"):
            dsprites()


def test_missing(path: Path) -> None:
    with pytest.raises(InputError, match=f"dsprites' lacks {module.FILE}: add it, or unset MINIVAE_DATA"):
        dsprites()


def test_download(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the cache, where it is found from then on; what is no dSprites is not kept."""
    save(path)
    sent = {"content": b"<html>"}

    def fetch(url: str, to: Path, description: str) -> None:
        assert url.endswith(f"dsprites-dataset/raw/master/{module.FILE}")
        to.write_bytes(sent["content"])

    monkeypatch.delenv("MINIVAE_DATA")
    monkeypatch.setattr("minivae.data.download._fetch", fetch)
    no_images = io.BytesIO()
    np.savez(no_images, latents_classes=CLASSES)
    for sent["content"] in (b"<html>", no_images.getvalue()):
        with pytest.raises(InputError, match=r"cannot download dsprites .*: no dSprites, .*put dsprites_ndarray"):
            dsprites()
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    sent["content"] = path.read_bytes()
    assert len(dsprites().train) == 45
    monkeypatch.setattr("minivae.data.download._fetch", None)
    assert len(dsprites().train) == 45
