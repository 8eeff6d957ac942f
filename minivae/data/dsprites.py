"""dSprites: 737,280 images 64x64 of a shape, one for each cell of a grid of six factors.

The file is `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`, looked for in `$MINIVAE_DATA/dsprites/`
where that folder exists, else in `<cache>/dsprites/` (see `minivae.files.cache_dir`), into which it
is downloaded. Of its arrays `imgs` and `latents_classes` are read; `metadata`, a pickle, never is.
The 26 MB expand to 3 GB, which are read in pieces, so that no more memory is taken than they need.

Source: Matthey et al., "dSprites: Disentanglement testing Sprites dataset", 2017.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from minivae.archives import check_member, check_size
from minivae.data.arrays import reading
from minivae.data.dataset import Array, Dataset, Split
from minivae.data.places import obtain
from minivae.data.sprites import CELLS, FACTORS, SHAPES, SIZE

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
URL = f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{FILE}"
IMAGES, CLASSES = "imgs.npy", "latents_classes.npy"
CHUNK = 512  # images read at once


def dsprites() -> Dataset:
    """dSprites: 663,552 + 73,728 images, (N, 1, 64, 64) uint8 of 0 and 255, with labels and factors.

    The factors are those of `sprites`, (N,) int64, counting the steps of the grid; `shape` is the
    label. The grid is in order, so a tenth of its cells is drawn at random for testing, the same at
    every call; both splits keep the order. A file with fewer images is taken as well.
    Raises InputError where the file is missing or damaged, MINIVAE_DATA names no folder, or the
    download fails. Takes 3 GB.
    """
    path = obtain("dsprites", FILE, URL, _check)
    with reading(path, f"put the original {FILE} there"):
        return _read(path)


def _read(path: Path) -> Dataset:
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(name) for name in (IMAGES, CLASSES)]
        for member in members:
            check_member(archive, member)
        check_size(sum(member.file_size for member in members), path.stat().st_size)
        with archive.open(CLASSES) as stream:
            count = _count(stream, CLASSES, (len(FACTORS),), np.dtype(np.int64))
            classes = np.frombuffer(_exactly(stream, 8 * len(FACTORS) * count), np.int64).reshape(count, -1)
        if (classes < 0).any() or (classes >= tuple(FACTORS.values())).any():
            raise ValueError(f"its latents_classes leave the grid {FACTORS}")
        tested = np.zeros(count, bool)
        tested[np.random.default_rng(0).permutation(count)[: max(1, count // 10)]] = True
        with archive.open(IMAGES) as stream:
            images = _read_images(stream, tested)
    splits = []
    for chosen, part in zip((~tested, tested), images, strict=True):
        factors = dict(zip(FACTORS, classes[chosen].T.copy(), strict=True))
        splits.append(Split(part, factors["shape"], factors))
    return Dataset("dsprites", splits[0], splits[1], SHAPES)


def _read_images(stream: IO[bytes], tested: Array) -> tuple[Array, Array]:
    """The images to train and those to test, in their order."""
    count = len(tested)
    if (found := _count(stream, IMAGES, (SIZE, SIZE), np.dtype(np.uint8))) != count:
        raise ValueError(f"it has {found} imgs, but latents_classes of {count}")
    parts = [np.empty((chosen.sum(), 1, SIZE, SIZE), np.uint8) for chosen in (~tested, tested)]
    filled = [0, 0]
    for start in range(0, count, CHUNK):
        in_test = tested[start : start + CHUNK]
        pixels = np.frombuffer(_exactly(stream, len(in_test) * SIZE**2), np.uint8).reshape(-1, 1, SIZE, SIZE)
        if pixels.max() > 1:
            raise ValueError(f"it has the pixel {pixels.max()}, expected 0 and 1")
        for i, chosen in enumerate((~in_test, in_test)):
            end = filled[i] + int(chosen.sum())
            np.multiply(pixels[chosen], 255, out=parts[i][filled[i] : end])
            filled[i] = end
    return parts[0], parts[1]


def _count(stream: IO[bytes], name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """The length of the .npy array that begins here; ValueError unless the rest of its header is as given."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"its {name} has the .npy version {version}, expected (1, 0)")
    found, by_columns, found_dtype = np.lib.format.read_array_header_1_0(stream)
    if found[1:] != shape or by_columns or found_dtype != dtype or not 2 <= found[0] <= CELLS:
        wanted = ", ".join(map(str, (CELLS, *shape)))
        raise ValueError(f"its {name} is {found_dtype} of shape {found}, expected {dtype} of shape ({wanted})")
    return int(found[0])


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it ends early")
    return content


def _check(stream: io.BufferedIOBase) -> None:
    """Raise ValueError unless the stream is an archive with both arrays."""
    try:
        with zipfile.ZipFile(stream) as archive:
            for name in (IMAGES, CLASSES):
                archive.getinfo(name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"no dSprites, {error}") from None
