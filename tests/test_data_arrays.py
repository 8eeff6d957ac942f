"""Images from .npy and .npz files: every shape and dtype that is taken, and those that are not."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import archives
from minivae.data import arrays
from minivae.data.arrays import as_images
from minivae.data.dataset import Dataset
from minivae.data.folder import from_path
from minivae.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (20, 4, 5)).astype(np.uint8)


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def all_images(dataset: Dataset) -> np.ndarray[Any, Any]:
    """The images of both splits, sorted by their pixels."""
    images = np.concatenate([dataset.train.images, dataset.test.images])
    return np.array(sorted(images.tolist()))


def test_npy(tmp_path: Path) -> None:
    dataset = from_path(saved(tmp_path / "shapes.v2.npy", GREY))
    assert dataset.name == "shapes.v2" and dataset.shape == (1, 4, 5) and dataset.classes == ()
    assert (len(dataset.train), len(dataset.test)) == (18, 2)
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels is None
    np.testing.assert_array_equal(all_images(dataset), np.array(sorted(GREY[:, None].tolist())))


def test_file_can_be_replaced_after_reading(tmp_path: Path) -> None:
    """The images are in memory: not a map of the file."""
    path = saved(tmp_path / "a.npy", GREY)
    images = from_path(path).train.images
    before = images.copy()
    path.write_bytes(path.read_bytes()[:128] + bytes(GREY.nbytes))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((9, 4, 5), (9, 1, 4, 5)),
        ((9, 28, 3), (9, 1, 28, 3)),
        ((9, 1, 4, 5), (9, 1, 4, 5)),
        ((9, 3, 4, 5), (9, 3, 4, 5)),
        ((9, 4, 5, 1), (9, 1, 4, 5)),
        ((9, 4, 5, 3), (9, 3, 4, 5)),
        ((9, 3, 4, 3), (9, 3, 4, 3)),  # ambiguous: channels first
        ((9, 1, 4, 3), (9, 1, 4, 3)),
    ],
)
def test_shapes(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape).astype(np.uint8)
    images = as_images(array, Path("a.npy"))
    assert images.shape == wanted and images.flags.c_contiguous
    if shape[1:] == (4, 5, 3):
        assert images[2, 1, 3, 4] == array[2, 3, 4, 1]


def test_dtypes() -> None:
    """bool and every float become what a Split holds."""
    mask = GREY > 100
    np.testing.assert_array_equal(as_images(mask, Path("a")), np.where(mask, 255, 0)[:, None])
    assert as_images(mask, Path("a")).dtype == np.uint8
    for dtype in ("<f2", "<f4", ">f4", "<f8", ">f8"):
        array = np.linspace(0, 1, 40).reshape(2, 4, 5).astype(dtype)
        images = as_images(array, Path("a"))
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, array.astype(np.float32)[:, None])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(()), r"shape \(\)"),
        (np.zeros((5, 784)), r"shape \(5, 784\), expected"),
        (np.zeros((5, 2, 4, 4)), r"shape \(5, 2, 4, 4\)"),
        (np.zeros((5, 1, 4, 4, 4)), "has images of shape"),
        (np.zeros((0, 4, 4)), "has images of shape"),
        (np.zeros((5, 0, 4)), "has images of shape"),
        (GREY.astype(np.int64), "dtype int64, expected uint8"),
        (GREY.astype(complex), "dtype complex128"),
        (np.full((5, 4, 4), "a"), "dtype <U1"),
        (GREY.astype(np.float32), "from 0.0 to 255.0, expected 0 to 1"),
        (GREY / 255 - 0.5, "from -0.5 to 0.5"),
        (np.where(GREY[3, 2, 1] == GREY, np.nan, 0.5), "pixels that are NaN"),
        (np.where(GREY[3, 2, 1] == GREY, np.inf, 0.5), "from 0.5 to inf"),
        (np.eye(4, dtype=np.uint8)[None].repeat(3, 0), "only 0 and 1 as uint8"),
        (GREY[:1], "has one image"),
        (np.array([GREY, None], dtype=object), "Python objects"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_refused(tmp_path: Path, array: Any, message: str, kind: str) -> None:
    path = tmp_path / f"mine.{kind}"
    if kind == "npy":
        np.save(path, array)
    else:
        np.savez(path, array)
    with pytest.raises(InputError, match=message) as caught:
        from_path(path)
    assert str(path) in str(caught.value)


def test_black_images_are_taken(tmp_path: Path) -> None:
    assert len(from_path(saved(tmp_path / "a.npy", np.zeros((4, 2, 2), np.uint8))).train) == 3


def test_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    for name in ("a.npy", "a.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(InputError, match="cannot read"):
            from_path(tmp_path / name)
    np.save(tmp_path / "b.npy", np.array([Trap(), Trap()]), allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=np.array([Trap(), Trap()]))
    for name in ("b.npy", "b.npz"):
        with pytest.raises(InputError, match="cannot read"):
            from_path(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("names", arrays.NAMES[:2])
def test_npz_with_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Labels become indices into the sorted values, shared by the splits; (N, 1) will do."""
    given = (GREY[:12], np.arange(12)[:, None] % 3 + 5, GREY[12:], np.full(8, 9, np.uint8))
    path = tmp_path / "splits.npz"
    np.savez_compressed(path, **dict(zip(names, given, strict=True)), val_images=GREY)
    dataset = from_path(path)
    assert dataset.name == "splits" and dataset.classes == ("5", "6", "7", "9")
    np.testing.assert_array_equal(dataset.train.images, GREY[:12, None])
    np.testing.assert_array_equal(dataset.test.images, GREY[12:, None])
    assert dataset.train.labels is not None and dataset.test.labels is not None
    assert dataset.train.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.train.labels, np.arange(12) % 3)
    np.testing.assert_array_equal(dataset.test.labels, np.full(8, 3))


def test_npz_images_and_labels(tmp_path: Path) -> None:
    """The split takes each label along with its image."""
    path = tmp_path / "named.npz"
    words = np.array([f"word {image[0, 0]:03}" for image in GREY])
    np.savez(path, images=GREY, labels=words, more=np.zeros(3))
    dataset = from_path(path)
    assert dataset.classes == tuple(sorted(set(words.tolist())))
    for split in (dataset.train, dataset.test):
        assert split.labels is not None
        for image, label in zip(split.images, split.labels, strict=True):
            assert dataset.classes[label] == f"word {image[0, 0, 0]:03}"


def test_npz_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", anything=GREY)
    np.savez(tmp_path / "two.npz", x_train=GREY[:15], x_test=GREY[15:])
    for name, sizes in (("one", (18, 2)), ("two", (15, 5))):
        dataset = from_path(tmp_path / f"{name}.npz")
        assert (len(dataset.train), len(dataset.test)) == sizes
        assert dataset.train.labels is None and dataset.classes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"has the arrays \(none\)"),
        ({"imgs": GREY, "other": GREY}, "has the arrays imgs, other, expected"),
        ({"images": GREY, "labels": np.arange(19)}, "labels of shape .19,.*each of the 20 images"),
        ({"images": GREY, "labels": np.eye(20)}, "labels of shape .20, 20."),
        ({"images": GREY, "labels": np.arange(20.0)}, "dtype float64, expected one whole"),
        ({"images": GREY, "labels": np.array([None] * 20)}, "Python objects"),
        ({"x_train": GREY, "x_test": GREY[:, 1:]}, r"\(1, 4, 5\), but test .* \(1, 3, 5\)"),
        ({"x_train": GREY, "x_test": GREY, "y_test": np.arange(3)}, "labels of shape .3,"),
    ],
)
def test_npz_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "mine.npz", **content)
    with pytest.raises(InputError, match=message):
        from_path(tmp_path / "mine.npz")


def test_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the directory of the archive, before anything is expanded."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((40, 1024, 1024), np.uint8))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(InputError, match=r"expands from .* bytes, more than 250 times"):
        from_path(path)
    monkeypatch.setattr(archives, "MAX_BYTES", 15 << 20)
    with pytest.raises(InputError, match=r"expands to 0\.0 GiB, more than"):
        from_path(path)


def test_false_header(tmp_path: Path) -> None:
    """A header that claims 2^44 bytes, more than any memory, is an InputError, in either file."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 14, 1 << 15, 1 << 15)}
    np.lib.format.write_array_header_1_0(file, header)
    file.write(bytes(1000))
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", file.getvalue())
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match="cannot read"):
            from_path(tmp_path / name)


def npz(compressed: bool) -> bytes:
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, images=GREY, labels=np.arange(20) % 2)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, GREY)
    return file.getvalue()


FILES = {"a.npy": npy(), "b.npz": npz(False), "c.npz": npz(True)}


@settings(deadline=None)
@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_truncated(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(FILES[name][: data.draw(st.integers(0, len(FILES[name]) - 1))])
    with pytest.raises(InputError, match="cannot read") as caught:
        from_path(path)
    assert str(path) in str(caught.value)


@settings(deadline=None)
@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_flipped_byte(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """An InputError, or images; the right ones in an archive, whose checksums notice."""
    content = bytearray(FILES[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        dataset = from_path(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        if name.endswith(".npz"):
            wanted = np.array(sorted(GREY[:, None].tolist()))
            np.testing.assert_array_equal(all_images(dataset), wanted)
