"""Image folders: what Pillow reads becomes uint8 planes; what does not fit is an InputError."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minivae.data import folder
from minivae.data.dataset import Dataset
from minivae.data.folder import from_path
from minivae.errors import InputError

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)
GREYS = COLOURS[..., 0]


def fill(path: Path, images: np.ndarray[Any, Any], ending: str = "png") -> Path:
    """A folder of the images, named by their numbers."""
    path.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(path / f"{number:03}.{ending}")
    return path


def in_order(dataset: Dataset, count: int) -> np.ndarray[Any, Any]:
    """The images of both splits in the order before the split, as (N, H, W, C)."""
    order = np.random.default_rng(0).permutation(count)
    tested = max(1, count // 10)
    images = np.empty((count, *dataset.shape), np.uint8)
    images[np.sort(order[tested:])] = dataset.train.images
    images[np.sort(order[:tested])] = dataset.test.images
    return images.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "tiff", "ppm", "PNG"])
def test_colour(tmp_path: Path, ending: str) -> None:
    dataset = from_path(fill(tmp_path / "mine.v2", COLOURS, ending))
    assert dataset.name == "mine.v2" and dataset.shape == (3, 6, 5)
    assert dataset.train.labels is None and dataset.classes == ()
    assert (len(dataset.train), len(dataset.test)) == (11, 1)
    np.testing.assert_array_equal(in_order(dataset, 12), COLOURS)


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tif", "pgm"])
def test_grey(tmp_path: Path, ending: str) -> None:
    dataset = from_path(str(fill(tmp_path, GREYS, ending)))
    assert dataset.shape == (1, 6, 5) and dataset.train.images.dtype == np.uint8
    np.testing.assert_array_equal(in_order(dataset, 12), GREYS[..., None])


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "webp"])
def test_lossy(tmp_path: Path, ending: str) -> None:
    smooth = np.full((3, 16, 16, 3), (200, 100, 50), np.uint8)
    images = in_order(from_path(fill(tmp_path, smooth, ending)), 3)
    assert np.abs(images.astype(int) - smooth).max() <= 4


def test_one_colour_image_makes_all_colour(tmp_path: Path) -> None:
    fill(tmp_path, GREYS)
    Image.fromarray(COLOURS[7]).save(tmp_path / "007.png")
    wanted = np.repeat(GREYS[..., None], 3, axis=-1)
    wanted[7] = COLOURS[7]
    np.testing.assert_array_equal(in_order(from_path(tmp_path), 12), wanted)


def test_depths(tmp_path: Path) -> None:
    """1 bit, 16 bits and a palette keep what they show; 16 bits also beside a colour image."""
    mask = GREYS > 99
    for number in range(2):
        Image.fromarray(mask[number]).save(tmp_path / f"{number}.png")
    deep = GREYS.astype(np.uint16) * 256 + 77
    Image.fromarray(deep[2]).save(tmp_path / "2.png")
    Image.fromarray(deep[3]).save(tmp_path / "3.tif")
    wanted = [*np.where(mask[:2], 255, 0), *GREYS[2:4]]
    found = in_order(from_path(tmp_path), 4)
    np.testing.assert_array_equal(found[..., 0], wanted)
    Image.fromarray(COLOURS[4]).quantize(256).save(tmp_path / "4.png")
    found = in_order(from_path(tmp_path), 5)
    np.testing.assert_array_equal(found[:4], np.repeat(np.array(wanted)[..., None], 3, axis=-1))
    np.testing.assert_array_equal(found[4], Image.open(tmp_path / "4.png").convert("RGB"))


def test_transparent_is_laid_on_white(tmp_path: Path) -> None:
    colour = np.concatenate([COLOURS[:2], np.zeros((2, 6, 5, 1), np.uint8)], axis=-1)
    colour[:, :3, :, 3] = 255
    found = in_order(from_path(fill(tmp_path / "rgba", colour)), 2)
    np.testing.assert_array_equal(found[:, :3], COLOURS[:2, :3])
    assert (found[:, 3:] == 255).all()
    (tmp_path / "la").mkdir()
    for number in range(2):
        Image.fromarray(colour[number]).convert("LA").save(tmp_path / "la" / f"{number}.png")
        key = int(GREYS[number, 0, 0])
        Image.fromarray(GREYS[number]).save(tmp_path / "la" / f"{number}t.png", transparency=key)
    dataset = from_path(tmp_path / "la")
    assert dataset.shape == (1, 6, 5) and (in_order(dataset, 4)[::2, 3:] == 255).all()
    keyed = np.where(GREYS[:2] == GREYS[:2, :1, :1], 255, GREYS[:2])
    np.testing.assert_array_equal(in_order(dataset, 4)[1::2, ..., 0], keyed)


def test_classes(tmp_path: Path) -> None:
    """Subfolders in the order of their names; what is hidden, deeper or no image is ignored."""
    for name, images in (("cat", GREYS[5:]), ("Bee", GREYS[:3]), ("ape", GREYS[3:5])):
        fill(tmp_path / name, images)
    fill(tmp_path / ".hidden", COLOURS)
    fill(tmp_path / "cat" / "deeper", COLOURS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "folder.png").mkdir()
    (tmp_path / "Thumbs.db").write_bytes(b"no image")
    (tmp_path / "cat" / "._000.png").write_bytes(b"what macOS leaves behind")
    dataset = from_path(tmp_path)
    assert dataset.classes == ("Bee", "ape", "cat")
    labels = np.repeat([0, 1, 2], [3, 2, 7])
    for split in (dataset.train, dataset.test):
        assert split.labels is not None and split.labels.dtype == np.int64
        for image, label in zip(split.images, split.labels, strict=True):
            (place,) = np.flatnonzero((image[0] == GREYS).all(axis=(1, 2)))
            assert labels[place] == label
    np.testing.assert_array_equal(in_order(dataset, 12)[..., 0], GREYS)


@pytest.mark.parametrize(("count", "tested"), [(2, 1), (9, 1), (19, 1), (20, 2), (105, 10)])
def test_split(tmp_path: Path, count: int, tested: int) -> None:
    """A tenth is for testing, at least one; nothing is lost or doubled, and it repeats itself."""
    np.save(tmp_path / "a.npy", np.arange(9, 9 + count, dtype=np.uint8)[:, None, None])
    first, second = from_path(tmp_path / "a.npy"), from_path(tmp_path / "a.npy")
    assert (len(first.train), len(first.test)) == (count - tested, tested)
    both = np.concatenate([first.train.images, first.test.images]).ravel()
    assert sorted(both) == list(range(9, 9 + count))
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert (np.diff(first.train.images.ravel().astype(int)) > 0).all()
    assert count < 100 or (first.test.images.max() - first.test.images.min()) > 20


def test_different_sizes(tmp_path: Path) -> None:
    fill(tmp_path, GREYS)
    Image.fromarray(GREYS[0, :4]).save(tmp_path / "005.png")
    Image.fromarray(GREYS[0, :3]).save(tmp_path / "006.png")
    with pytest.raises(InputError, match=r"'000.png' is 5x6, '005.png' is 5x4.*: resize them"):
        from_path(tmp_path)


def test_refused_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty' has no images"):
        from_path(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="empty' has no images"):
        from_path(tmp_path / "empty")
    with pytest.raises(InputError, match="has one image, expected at least 2"):
        from_path(fill(tmp_path / "single", GREYS[:1]))
    fill(fill(tmp_path / "mixed", GREYS) / "more", GREYS)
    with pytest.raises(InputError, match="has images beside subfolders"):
        from_path(tmp_path / "mixed")
    with pytest.raises(InputError, match="does not exist"):
        from_path(tmp_path / "absent")
    (tmp_path / "images.mat").write_bytes(b"")
    with pytest.raises(InputError, match=r"images.mat' is none of a folder of images, an .npy"):
        from_path(tmp_path / "images.mat")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the headers, before any image is decoded."""
    fill(tmp_path, COLOURS)
    monkeypatch.setattr(folder, "MAX_BYTES", COLOURS.nbytes)
    from_path(tmp_path)
    monkeypatch.setattr(folder, "MAX_BYTES", COLOURS.nbytes - 1)
    monkeypatch.setattr(folder, "_pixels", None)
    with pytest.raises(InputError, match="make them fewer or smaller"):
        from_path(tmp_path)


def test_pillow_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, GREYS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14)
    with pytest.raises(InputError, match=r"000.png' \(Image size \(30 pixels\) exceeds limit"):
        from_path(tmp_path)


def test_32_bits_are_refused(tmp_path: Path) -> None:
    """Their range is anyone's guess, and Pillow would cut it at 255 without a word."""
    for image in (GREYS[0] * np.float32(0.5), GREYS[0].astype(np.int32)):
        Image.fromarray(image).save(tmp_path / "a.tif")
        Image.fromarray(GREYS[0]).save(tmp_path / "b.tif")
        with pytest.raises(InputError, match=r"a.tif' \(32 bits for a pixel, expected 8 or 16"):
            from_path(tmp_path)


def test_only_image_formats_are_opened(tmp_path: Path) -> None:
    """PostScript under a false name does not reach Ghostscript."""
    fill(tmp_path, COLOURS)
    Image.fromarray(COLOURS[0]).save(tmp_path / "zzz.eps")
    os.rename(tmp_path / "zzz.eps", tmp_path / "zzz.png")
    with pytest.raises(InputError, match=r"zzz.png' \(cannot identify image file"):
        from_path(tmp_path)


def encoded(ending: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(COLOURS[0]).save(file, ending)
    return file.getvalue()


FILES = {ending: encoded(ending) for ending in ("png", "bmp", "gif", "jpeg", "tiff", "webp", "ppm")}


@settings(deadline=None)
@given(ending=st.sampled_from(sorted(FILES)), flip=st.booleans(), data=st.data())
def test_damaged_image(tmp_path_factory: pytest.TempPathFactory, ending: str, flip: bool, data: st.DataObject) -> None:
    """An InputError that names a file, or, where the format has no checksum, two images."""
    path = tmp_path_factory.getbasetemp() / f"damaged-{ending}"
    path.mkdir(exist_ok=True)
    content = bytearray(FILES[ending])
    place = data.draw(st.integers(0, len(content) - 1))
    if flip:
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    (path / f"bad.{ending}").write_bytes(content)
    (path / f"good.{ending}").write_bytes(FILES[ending])
    try:
        dataset = from_path(path)
    except InputError as error:
        assert f"bad.{ending}" in str(error) and "good" not in str(error).partition(" is ")[0]
    else:
        assert dataset.shape == (3, 6, 5)


@pytest.mark.parametrize("ending", ["png", "bmp", "jpeg", "tiff", "ppm"])
def test_truncated_image(tmp_path: Path, ending: str) -> None:
    fill(tmp_path, COLOURS, ending)
    (tmp_path / f"004.{ending}").write_bytes(FILES[ending][: len(FILES[ending]) * 3 // 4])
    with pytest.raises(InputError, match=f"cannot read .*004.{ending}.*: replace it"):
        from_path(tmp_path)
