"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings of each, as 28x28 grey.

The files are `images_background.zip` (30 alphabets, to train) and `images_evaluation.zip` (20
others, to test), looked for in `$MINIVAE_DATA/omniglot/` where that folder exists, else in
`<cache>/omniglot/` (see `minivae.files.cache_dir`), into which they are downloaded. In them,
`images_background/<alphabet>/<character>/<number>_<drawing>.png` is 105x105, black ink on white.
They are read where they are: nothing is extracted.

Published likelihoods on Omniglot are of other splits and other 28x28 versions than this one.
Source: Lake et al., "Human-level concept learning through probabilistic program induction", 2015.
"""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np

from minivae.archives import check_member
from minivae.data.arrays import reading
from minivae.data.dataset import Array, Dataset, Split
from minivae.data.places import obtain

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
FILES = ("images_background.zip", "images_evaluation.zip")
DRAWN = 105  # pixels, the side of a drawing
SIZE = 28  # pixels, the side of an image
MAX_FILE, MAX_FILES = 1 << 16, 100_000  # bytes of a PNG, PNGs; more is taken for a mistake or a bomb
_BOXES = np.eye(DRAWN, dtype=np.float32).repeat(4, 0).reshape(SIZE, 15, DRAWN).mean(axis=1)  # 3.75 = 15 / 4
_DRAWING = re.compile(r"images_\w+/([^/]+/[^/]+)/[^/]+\.png")


def omniglot() -> Dataset:
    """Omniglot: 19,280 + 13,180 characters, (N, 1, 28, 28) uint8, white on black, with labels.

    A pixel is the mean of the 3.75x3.75 drawn ones that it covers. The classes are the characters,
    "Greek/character01": the first 964 are to train and the others to test, so that no class is in
    both. Raises InputError where a file is missing or damaged, MINIVAE_DATA names no folder, or the
    download fails.
    """
    splits: list[Split] = []
    classes: list[str] = []
    for file in FILES:
        path = obtain("omniglot", file, URL + file, _check)
        with reading(path, f"put the original {file} there"), zipfile.ZipFile(path) as archive:
            images, characters = _read(archive)
        names, indices = np.unique(characters, return_inverse=True)
        splits.append(Split(images, (indices + len(classes)).astype(np.int64)))
        classes += names.tolist()
    return Dataset("omniglot", splits[0], splits[1], tuple(classes))


def _read(archive: zipfile.ZipFile) -> tuple[Array, list[str]]:
    """The images of an archive, by the names of their files, and the character of each."""
    from tqdm import tqdm

    drawings = _drawings(archive)
    images = np.empty((len(drawings), 1, SIZE, SIZE), np.uint8)
    progress = tqdm(drawings, desc="omniglot", unit="image", delay=1, leave=False, disable=None)
    for image, name in zip(images, progress, strict=True):
        image[0] = _shrunk(archive.read(name), name)
    return images, list(drawings.values())


def _check(stream: io.BufferedIOBase) -> None:
    """Raise ValueError unless the stream is an archive of drawings."""
    try:
        with zipfile.ZipFile(stream) as archive:
            _drawings(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(f"no Omniglot, {error}") from None


def _drawings(archive: zipfile.ZipFile) -> dict[str, str]:
    """The character of each drawing in an archive, by its file's name, in order of the names.

    Raises ValueError where there are none, or more or larger ones than the originals could be.
    """
    entries = {entry.filename: entry for entry in archive.infolist()}
    found = {name: match[1] for name in sorted(entries) if (match := _DRAWING.fullmatch(name))}
    if not 1 <= len(found) <= MAX_FILES:
        raise ValueError(f"it has {len(found)} drawings named like images_background/Greek/character01/0394_01.png")
    for name in found:
        check_member(archive, entries[name])
    for name in found:  # zipfile reads no more than the size that is claimed
        if (size := entries[name].file_size) > MAX_FILE:
            raise ValueError(f"{name} expands to {size} bytes, expected at most {MAX_FILE}")
    return found


def _shrunk(content: bytes, name: str) -> Array:
    """The image (28, 28) of a PNG, white on black."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG",)) as drawing:
        if drawing.size != (DRAWN, DRAWN):  # before any pixel is decoded
            raise ValueError(f"{name} is {drawing.width}x{drawing.height}, expected {DRAWN}x{DRAWN}")
        ink = 255 - np.asarray(drawing.convert("L"), np.float32)
    image: Array = np.rint(_BOXES @ ink @ _BOXES.T).astype(np.uint8)
    return image
