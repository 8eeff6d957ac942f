"""MNIST and Fashion-MNIST: where the files are looked for, and which are refused."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minivae.data.dataset import Dataset
from minivae.data.idx import open_content, parse_idx
from minivae.data.mnist import FASHION_MNIST, FILES, MNIST, fashion_mnist, mnist
from minivae.errors import InputError

REAL = Path(os.environ.get("MINIVAE_DATA") or "absent", "mnist")
RNG = np.random.default_rng(0)
IMAGES = {"train": RNG.integers(0, 256, (12, 28, 28)), "t10k": RNG.integers(0, 256, (5, 28, 28))}
LABELS = {"train": np.arange(12) % 10, "t10k": np.arange(5)}

# `import minivae.data.mnist` would give the function of that name
module = importlib.import_module("minivae.data.mnist")


def encode(array: np.ndarray[Any, Any], code: int = 8, dtype: str = "u1") -> bytes:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(dtype).tobytes()


def fill(folder: Path, compressed: bool = True) -> Path:
    """The four files in a folder."""
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for name, array in ((module.IMAGES, IMAGES[part]), (module.LABELS, LABELS[part])):
            content = encode(array)
            if compressed:
                (folder / f"{name.format(part)}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name.format(part)).write_bytes(content)
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $MINIVAE_DATA; the cache is empty too, and there is no network."""
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "own"))
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr("minivae.data.download._fetch", offline)
    return tmp_path / "own"


def offline(url: str, path: Path, description: str) -> None:
    raise OSError("no network")


def check(dataset: Dataset) -> None:
    for part, split in (("train", dataset.train), ("t10k", dataset.test)):
        assert split.images.dtype == np.uint8
        np.testing.assert_array_equal(split.images, IMAGES[part][:, None])
        assert split.labels is not None and split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.labels, LABELS[part])


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("place", ["own", "cache"])
@pytest.mark.parametrize(("name", "load"), [("mnist", mnist), ("fashion-mnist", fashion_mnist)])
def test_found(own: Path, compressed: bool, place: str, name: str, load: Callable[[], Dataset]) -> None:
    fill(own.parent / place / name, compressed)
    dataset = load()
    check(dataset)
    assert dataset.name == name and dataset.shape == (1, 28, 28)
    assert len(dataset.classes) == 10


def test_classes(own: Path) -> None:
    fill(own / "mnist")
    fill(own / "fashion-mnist")
    assert mnist().classes == tuple("0123456789")
    assert fashion_mnist().classes[::9] == ("T-shirt/top", "Ankle boot")


def test_own_folder_goes_before_the_cache(own: Path) -> None:
    fill(own / "mnist")
    fill(own.parent / "cache" / "mnist", compressed=False)
    (own.parent / "cache" / "mnist" / FILES[0]).write_bytes(b"damaged")
    check(mnist())


def test_without_the_variable(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIVAE_DATA")
    fill(own.parent / "cache" / "mnist")
    check(mnist())


def test_bad_variable(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that does not exist is a mistake, even where the cache has the data."""
    fill(own.parent / "cache" / "mnist")
    (own / "file").write_bytes(b"")
    for value in (own / "absent", own / "file"):
        monkeypatch.setenv("MINIVAE_DATA", str(value))
        with pytest.raises(InputError, match=r"MINIVAE_DATA is .* no folder: correct or unset"):
            mnist()


def test_incomplete_own_folder(own: Path) -> None:
    """The missing files are named; nothing is mixed in from the cache or the network."""
    fill(own / "mnist")
    fill(own.parent / "cache" / "mnist")
    for name in FILES[1:3]:
        (own / "mnist" / f"{name}.gz").unlink()
    with pytest.raises(InputError, match=f"lacks {FILES[1]}, {FILES[2]}: add them"):
        mnist()


def test_download(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache lacks is fetched into it, checked by its sum, found there from then on."""
    sent = fill(own.parent / "mirror")
    urls = []

    def fetch(url: str, path: Path, description: str) -> None:
        urls.append(url)
        if url.startswith(MNIST.mirrors[0]):
            raise OSError("no network")
        path.write_bytes((sent / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr("minivae.data.download._fetch", fetch)
    wanted = f"mnist {FILES[0]}.*no network.*expected {MNIST.sha256[FILES[0]]}"
    with pytest.raises(InputError, match=wanted):
        mnist()
    assert not list((own.parent / "cache").rglob("*.gz"))

    for name in FILES:
        content = gzip.decompress((sent / f"{name}.gz").read_bytes())
        monkeypatch.setitem(MNIST.sha256, name, hashlib.sha256(content).hexdigest())
    check(mnist())
    assert urls[-2:] == [f"{mirror}{FILES[3]}.gz" for mirror in MNIST.mirrors]
    count = len(urls)
    check(mnist())
    assert len(urls) == count


def test_download_of_fashion_mnist(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sums the format decides: a page of text is not taken for data."""
    sent = fill(own.parent / "mirror")

    def fetch(url: str, path: Path, description: str) -> None:
        if url.startswith(FASHION_MNIST.mirrors[0]):
            path.write_bytes(b"<html>moved</html>")
        else:
            path.write_bytes((sent / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr("minivae.data.download._fetch", fetch)
    check(fashion_mnist())


def test_no_network(own: Path) -> None:
    with pytest.raises(InputError) as caught:
        mnist()
    for part in (*MNIST.mirrors, "no network", "set MINIVAE_DATA", str(own.parent / "cache")):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (FILES[0], encode(IMAGES["train"])[:-1], f"cannot read '.*{FILES[0]}' as IDX"),
        (FILES[0], encode(IMAGES["train"][:, :27]), r"uint8 of shape \(12, 27, 28\), expected"),
        (FILES[0], encode(IMAGES["train"], 11, ">i2"), "holds int16 of shape"),
        (FILES[2], encode(LABELS["t10k"]), r"of shape \(5,\), expected uint8 images"),
        (FILES[2], encode(IMAGES["t10k"][:0]), r"of shape \(0, 28, 28\)"),
        (FILES[1], encode(LABELS["train"][:11]), r"\(11,\), expected one .* of the 12 images"),
        (FILES[1], encode(IMAGES["train"]), "expected one uint8 for each of the 12 images"),
        (FILES[1], encode(LABELS["train"], 12, ">i4"), r"holds int32 of shape \(12,\)"),
        (FILES[3], encode(LABELS["t10k"] + 6), "has the label 10, expected 0 to 9"),
    ],
)
def test_refused(own: Path, file: str, content: bytes, message: str) -> None:
    (fill(own / "mnist", compressed=False) / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        mnist()
    assert file in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs MINIVAE_DATA with the real MNIST in mnist/")
def test_real_mnist() -> None:
    """The real files have the sums by which downloads are judged, and the sizes everyone knows."""
    for file, wanted in MNIST.sha256.items():
        path = next(path for path in (REAL / file, REAL / f"{file}.gz") if path.exists())
        with open_content(path) as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == wanted
        with open_content(path) as stream:
            parse_idx(stream)
    dataset = mnist()
    assert dataset.train.images.shape == (60000, 1, 28, 28)
    assert dataset.test.images.shape == (10000, 1, 28, 28)
    assert dataset.train.labels is not None and dataset.test.labels is not None
    assert dataset.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(dataset.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert round(float(dataset.train.images.mean()) / 255, 4) == 0.1307
