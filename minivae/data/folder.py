"""Your own images: a folder of image files, an .npy or an .npz file."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minivae.archives import MAX_BYTES
from minivae.data.arrays import as_images, from_npy, from_npz, reading, split_off_test
from minivae.data.dataset import Array, Dataset
from minivae.errors import InputError

# Pillow reads more formats, but some of them start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm"))
_GREY = ("1", "L", "LA", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's names
MAX_PIXELS = 1 << 22  # of an image, as 2048x2048; more is taken for a mistake or a bomb
MAX_FILE = 64 << 20  # bytes of an image file
_MEND = "replace it by an undamaged copy, or take it away"


def from_path(path: str | os.PathLike[str]) -> Dataset:
    """The images in a folder, an .npy or an .npz file, as a data set named after it.

    A folder holds image files of one size (PNG, JPEG, BMP, GIF, TIFF, WebP, PPM), which are read in
    the order of their names; of an animation the first frame. Either they lie in the folder itself
    and have no labels, or they lie in its subfolders, each of which is a class. Hidden and other
    files are ignored, and whatever lies deeper. The images become uint8, (N, 1, H, W) if all are
    stored as grey, else (N, 3, H, W); what is transparent is laid on white. One tenth (at least one
    image) is drawn for testing, the same at every call.

    For the arrays, see `from_npy` and `from_npz`.
    Raises InputError where there is nothing of the kind, or a file is damaged.
    """
    path = Path(path).absolute()
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise InputError(f"'{path}' does not exist: give a folder of images, an .npy or an .npz file.")
    readers = {".npy": from_npy, ".npz": from_npz}
    if path.suffix.lower() not in readers or not path.is_file():
        raise InputError(f"'{path}' is none of a folder of images, an .npy or an .npz file: give one of these.")
    return readers[path.suffix.lower()](path)


def read_images(path: str | os.PathLike[str]) -> Array:
    """All images of a file (an image, an .npy) or of a folder of image files, as they are, (N, C, H, W).

    uint8, or float32 in [0, 1] of an .npy that holds such. Raises InputError where there are none.
    """
    path = Path(path)
    if path.is_dir():
        if not (files := _image_files(path)):
            raise InputError(f"'{path}' has no images itself: give a folder of image files (no subfolders), or a file.")
        return _read(files, path)
    if not path.is_file():
        raise InputError(f"there is no file '{path}': give an image, an .npy or a folder of images.")
    if path.suffix.lower() == ".npy":
        with reading(path, _MEND):
            return as_images(np.lib.format.open_memmap(path, mode="r"), path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"'{path}' is no image and no .npy: give one of these, or a folder of images.")
    return _read([path], path.parent)


def _from_folder(folder: Path) -> Dataset:
    files = _image_files(folder)
    groups = {entry.name: _image_files(entry) for entry in _entries(folder) if entry.is_dir()}
    classes = {name: group for name, group in groups.items() if group}
    if files and classes:
        raise InputError(
            f"'{folder}' has images beside subfolders of images: put all into subfolders, one for each class, or none."
        )
    labels = None
    if classes:
        files = [file for group in classes.values() for file in group]
        labels = np.repeat(np.arange(len(classes)), [len(group) for group in classes.values()])
    if not files:
        raise InputError(
            f"'{folder}' has no images, itself or in its subfolders: give a folder of images with "
            f"the endings {' '.join(sorted(SUFFIXES))}."
        )
    train, test = split_off_test(_read(files, folder), labels, folder)
    return Dataset(folder.name, train, test, tuple(classes))


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder and is not hidden, in the order of the names."""
    with reading(folder, "make the folder readable"):
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: entry.name)


def _image_files(folder: Path) -> list[Path]:
    return [e for e in _entries(folder) if e.suffix.lower() in SUFFIXES and e.is_file()]


def _read(files: list[Path], folder: Path) -> Array:
    """The images (N, C, H, W), uint8; their headers are compared before any is decoded."""
    from tqdm import tqdm

    (width, height), grey = _header(files[0])
    if width * height > MAX_PIXELS:  # the others are of the same size
        raise InputError(f"'{files[0]}' is {width}x{height}, more than {MAX_PIXELS:,} pixels: make the images smaller.")
    for file in files[1:]:
        size, also_grey = _header(file)
        grey = grey and also_grey
        if size != (width, height):
            raise InputError(
                f"the images in '{folder}' differ in size ('{files[0].relative_to(folder)}' is "
                f"{width}x{height}, '{file.relative_to(folder)}' is {size[0]}x{size[1]}): resize "
                "them to one size."
            )
    shape = (len(files), 1 if grey else 3, height, width)
    if (memory := math.prod(shape)) > MAX_BYTES:
        raise InputError(
            f"the images in '{folder}' take {memory / 2**30:.1f} GiB, more than the "
            f"{MAX_BYTES >> 30} GiB that are read: make them fewer or smaller."
        )
    images = np.empty(shape, np.uint8)
    progress = tqdm(files, desc=folder.name, leave=False, disable=None)
    for image, file in zip(images, progress, strict=True):
        with reading(file, _MEND):
            image[:] = _pixels(file, "L" if grey else "RGB")
    return images


def _header(file: Path) -> tuple[tuple[int, int], bool]:
    """The (width, height) of an image, and whether it is stored as grey levels."""
    from PIL import Image

    with reading(file, _MEND), Image.open(file, formats=FORMATS) as image:
        if image.mode == "P":  # a palette, which GIF has also for grey
            palette = np.reshape(image.getpalette() or (), (-1, 3))
            return image.size, bool((palette == palette[:, :1]).all())
        return image.size, image.mode in _GREY


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Within it nothing reaches stderr, to which libtiff writes of itself what is wrong with a file."""
    if not wanted:
        yield
        return
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _pixels(file: Path, mode: str) -> Array:
    """The pixels of an image as uint8: (1, H, W) for mode "L", (3, H, W) for mode "RGB".

    What Pillow has not reduced to 8 bits is grey: 16 bits, of which the upper 8 are returned as
    (1, H, W), or 32 bits of unknown range (in TIFF), for which ValueError is raised.
    """
    from PIL import Image

    if (size := file.stat().st_size) > MAX_FILE:
        raise ValueError(f"it has {size:,} bytes, expected at most {MAX_FILE:,}")
    content = io.BytesIO(file.read_bytes())  # of which a false length reads no more than there is
    with Image.open(content, formats=FORMATS) as image, _quiet(image.format == "TIFF"):
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise ValueError("32 bits for a pixel, expected 8 or 16")
        if image.mode.startswith("I"):
            return (np.asarray(image)[None] >> 8).astype(np.uint8)
        picture: Image.Image = image
        if "transparency" in image.info or "A" in image.getbands():
            white = Image.new("RGBA", image.size, "white")
            picture = Image.alpha_composite(white, image.convert("RGBA"))
        pixels = np.asarray(picture.convert(mode))
        return pixels.reshape(image.height, image.width, -1).transpose(2, 0, 1)
