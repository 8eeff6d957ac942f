"""The IDX format of MNIST: a big-endian header, then the numbers.

| bytes | meaning |
| --- | --- |
| 0, 1 | zero |
| 2 | type code: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64 |
| 3 | D, how many dimensions |
| 4 .. 3 + 4D | the size of each, as big-endian uint32 |
| the rest | the elements, the last dimension fastest |

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np

from minivae.archives import MAX_BYTES, check_size
from minivae.data.dataset import Array
from minivae.errors import InputError

CHUNK = 1 << 20
_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_DIMS = 32  # the most that every NumPy can hold


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, gzip-compressed or not (its content decides, not its name).

    Returns an array of the file's shape, in the machine's byte order. Memory is taken for the size
    which the header claims, where the file can hold it, and never more is read than that.
    Raises InputError where the file is missing, damaged, cut short, too long, a bomb or not IDX.
    """
    path = Path(path)
    try:
        with open_content(path) as stream:
            return parse_idx(stream, path.stat().st_size)
    except OSError as error:
        reason = error.strerror or f"damaged gzip, {error}"
    except (ValueError, EOFError, zlib.error) as error:
        reason = str(error)
    raise InputError(f"cannot read '{path}' as IDX ({reason}): put a complete IDX file, .gz or raw, there.")


def open_content(path: Path) -> io.BufferedIOBase:
    """The file for reading in binary, expanded on the way where it begins like gzip."""
    if path.exists() and not path.is_file() and not path.is_dir():  # open() would wait for a pipe's other end
        raise ValueError("it is no file")
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def parse_idx(stream: io.BufferedIOBase, size: int | None = None) -> Array:
    """The array in a stream of uncompressed IDX, which ends with it.

    size: of the file that it is read from, compressed or not, which bounds what the header may claim.
    Raises ValueError with the reason where it is not IDX, besides what the stream itself raises.
    """
    magic = stream.read(4)
    if not magic:
        raise ValueError("the file is empty")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise ValueError(f"it begins with {magic.hex(' ')}, not with 00 00 and a type code")
    if not 1 <= magic[3] <= _MAX_DIMS:
        raise ValueError(f"it claims {magic[3]} dimensions, expected 1 to {_MAX_DIMS}")
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError("it ends within its header")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    dtype = np.dtype(_DTYPES[magic[2]])
    claimed = math.prod(max(length, 1) for length in shape) * dtype.itemsize
    if claimed > MAX_BYTES:
        raise ValueError(f"it claims the shape {shape}, more than {MAX_BYTES >> 30} GiB")
    if size is not None and 0 not in shape:
        check_size(claimed, size)
    try:
        array = np.empty(shape, dtype)
    except MemoryError:
        raise ValueError(f"it claims the shape {shape}, more than fits into memory") from None
    content = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(content), CHUNK):
        piece = content[start : start + CHUNK]
        if (got := stream.readinto(piece)) < len(piece):
            raise ValueError(f"it ends after {start + got} of {len(content)} bytes of elements")
    if stream.read(1):
        raise ValueError(f"it goes on after the {len(content)} bytes of elements it claims")
    return array.astype(dtype.newbyteorder("="), copy=False)
