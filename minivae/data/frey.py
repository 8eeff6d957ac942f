"""Frey faces: 1,965 frames, 28 pixels tall and 20 wide, of one man's face, from a video.

The file is `frey_rawface.mat` (MATLAB 5), whose variable `ff` is uint8, (560, 1965): a face in each
column, its pixels row by row. It is looked for in `$MINIVAE_DATA/frey-faces/` where that folder
exists, else in `<cache>/frey-faces/` (see `minivae.files.cache_dir`). It is not downloaded.

Source: B. Frey; S. Roweis, L. Saul, G. Hinton, "Global coordination of local linear models", 2001.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from minivae.archives import check_size
from minivae.data.arrays import reading
from minivae.data.dataset import Array, Dataset, Split
from minivae.data.idx import CHUNK
from minivae.data.places import own_folder
from minivae.errors import InputError
from minivae.files import cache_dir

FILE = "frey_rawface.mat"
HEIGHT, WIDTH = 28, 20
MAX_FRAMES = 1_000_000  # more is taken for a mistake
TEST_EVERY = 10  # frames


def frey_faces() -> Dataset:
    """Frey faces: 1,768 + 197 frames, (N, 1, 28, 20) uint8, without labels.

    Every tenth frame, from the first on, is for testing: neighbours in the video are alike, so that
    the test tells how well a model fills in, not how well it does on new faces.
    Raises InputError where the file is missing or damaged, or MINIVAE_DATA names no folder.
    """
    path = (own_folder("frey-faces") or cache_dir() / "frey-faces") / FILE
    if not path.exists():
        raise InputError(
            f"there is no '{path}': put the Frey faces ({FILE}) there, or set MINIVAE_DATA to a folder with "
            f"frey-faces/{FILE}."
        )
    with reading(path, f"put the original {FILE} there"):
        frames = _read(path)
    tested = np.arange(len(frames)) % TEST_EVERY == 0
    return Dataset("frey-faces", Split(frames[~tested]), Split(frames[tested]))


def _read(path: Path) -> Array:
    """The frames (N, 1, 28, 20); ValueError where the file holds none."""
    from scipy.io import loadmat, whosmat

    _check_size(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is what is found at the end
        held = {name: (shape, kind) for name, shape, kind in whosmat(path, appendmat=False)}  # the headers alone
        shape, kind = held.get("ff", ((), "nothing"))
        if kind != "uint8" or len(shape) != 2 or shape[0] != HEIGHT * WIDTH or not 2 <= shape[1] <= MAX_FRAMES:
            raise ValueError(f"its variable ff is {kind} of shape {shape}, expected uint8 of shape (560, 1965)")
        faces = loadmat(path, appendmat=False, variable_names=["ff"])["ff"]
    if faces.dtype != np.uint8 or faces.shape != shape:
        raise ValueError(f"its variable ff is {faces.dtype} of shape {faces.shape}, not what its header claims")
    return np.ascontiguousarray(faces.T).reshape(-1, 1, HEIGHT, WIDTH)


def _check_size(path: Path) -> None:
    """Raise ValueError where a compressed variable expands past what `archives.check_size` allows.

    SciPy expands as much as is there. In MATLAB 5, variables follow 128 bytes, each after its type (15: compressed)
    and its length, of 4 bytes each.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = ">" if file.read(128).endswith(b"MI") else "<"
        while len(head := file.read(8)) == 8:
            kind, length = struct.unpack(f"{order}II", head)
            end = file.tell() + length
            if kind == 15:
                _expand(file, min(length, size), size)
            file.seek(end)


def _expand(file: IO[bytes], length: int, size: int) -> None:
    expander, expanded = zlib.decompressobj(), 0
    while length > 0 and (content := file.read(min(length, CHUNK))):
        length -= len(content)
        while content:
            expanded += len(expander.decompress(content, CHUNK))
            check_size(expanded, size)
            content = expander.unconsumed_tail
