"""Frey faces: 1,965 frames, 28 pixels tall and 20 wide, of one man's face, from a video.

The file is `frey_rawface.mat` (MATLAB 5), whose variable `ff` is uint8, (560, 1965): a face in each
column, its pixels row by row. It is looked for in `$MINIVAE_DATA/frey-faces/` where that folder
exists, else in `<cache>/frey-faces/` (see `minivae.files.cache_dir`). It is not downloaded.

Source: B. Frey; S. Roweis, L. Saul, G. Hinton, "Global coordination of local linear models", 2001.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from minivae.archives import check_size
from minivae.data.arrays import reading
from minivae.data.dataset import Array, Dataset, Split
from minivae.data.places import own_folder
from minivae.errors import InputError
from minivae.files import cache_dir

FILE = "frey_rawface.mat"
HEIGHT, WIDTH = 28, 20
MAX_FRAMES = 1_000_000  # more is taken for a mistake
TEST_EVERY = 10  # frames

UINT8, MATRIX, COMPRESSED = 2, 14, 15  # kinds of elements
KINDS = {1: "cell", 2: "struct", 4: "char", 6: "double", 7: "single", 8: "int8", 9: "uint8"}  # of matrices
HEAD = 1024  # bytes, in which a variable's flags, shape and name stand


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
    """The frames (N, 1, 28, 20); ValueError where the file holds none.

    A file is 128 bytes, the last two of which tell the order of bytes, and then elements: each its kind and its
    length, of 4 bytes each, and its content. A variable is an element, or one that zlib has compressed.
    """
    held = "nothing of shape ()"
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        if order is None:
            raise ValueError("it is no MATLAB 5 file")
        size = path.stat().st_size
        while len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(f"{order}II", tag)
            content = file.read(min(length, size))
            if len(content) < length:
                raise ValueError("it ends early")
            variable = _Variable(content, kind == COMPRESSED, order)
            if kind in (MATRIX, COMPRESSED) and variable.name == b"ff":
                held = f"{variable.kind} of shape {variable.shape}"
                rows, *frames = variable.shape
                fits = len(frames) == 1 and 2 <= frames[0] <= MAX_FRAMES
                if variable.kind == "uint8" and rows == HEIGHT * WIDTH and fits:
                    check_size(rows * frames[0], size)
                    return np.frombuffer(variable.elements(), np.uint8).reshape(-1, 1, HEIGHT, WIDTH).copy()
    raise ValueError(f"its variable ff is {held}, expected uint8 of shape (560, 1965)")


class _Variable:
    """A matrix of a MATLAB 5 file: its flags, shape, name and elements, each an element in turn.

    Only the head is expanded until the elements are asked for. Raises ValueError or struct.error where it is damaged.
    """

    def __init__(self, content: bytes, compressed: bool, order: str):
        self.order = order
        self.expander = zlib.decompressobj() if compressed else None
        self.rest = content
        self.head = self._expand(HEAD)
        if compressed:
            if struct.unpack(f"{order}I", self.head[:4]) != (MATRIX,):
                raise ValueError("its compressed variable is no matrix")
            self.head = self.head[8:]
        flags, at = self._element(0)
        shape, at = self._element(at)
        self.name, self.end = self._element(at)
        self.kind = KINDS.get(struct.unpack(f"{order}I", flags[:4])[0] & 0xFF, "no number")
        self.shape = struct.unpack(f"{order}{len(shape) // 4}i", shape) or (0,)

    def _element(self, at: int) -> tuple[bytes, int]:
        """The content of the element at a place of the head, and where the next one is."""
        kind, length = struct.unpack(f"{self.order}II", self.head[at : at + 8])
        if kind >> 16:  # a small one, whose length and content stand in the same 8 bytes
            return self.head[at + 4 : at + 4 + min(kind >> 16, 4)], at + 8
        return self.head[at + 8 : at + 8 + length], at + 8 + length + -length % 8

    def _expand(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        if self.expander is None:
            content, self.rest = self.rest[:size], self.rest[size:]
            return content
        content = self.expander.decompress(self.rest, size)
        self.rest = self.expander.unconsumed_tail
        return content

    def elements(self) -> bytes:
        """The elements of a matrix of uint8."""
        kind, length = struct.unpack(f"{self.order}II", self.head[self.end : self.end + 8])
        if kind != UINT8 or length != math.prod(self.shape):
            raise ValueError(f"its variable ff has {length} bytes of kind {kind}, not what its header claims")
        start = self.end + 8
        content = self.head[start:] + self._expand(max(0, start + length + 8 - len(self.head)))
        if len(content) < length or (self.expander and not self.expander.eof):
            raise ValueError("its variable ff ends early")
        return content[:length]
