"""Arrays from .npy and .npz files that nobody vouches for: bounded in size, and nothing is ever unpickled.

A header is believed only as far as there are bytes to back it, so that a file of a few kilobytes can claim neither
the memory nor the minutes of a large one.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

MAX_BYTES = 8 << 30  # what expands past this is taken for a mistake or a bomb
MAX_RATIO = 250  # and so is what expands so many times (deflate reaches 1,032, dSprites' images 115),
MAX_SMALL = 32 << 20  # unless it stays below this
MAX_HEADER = 10_000  # bytes of an .npy header, as in NumPy


def check_size(expanded: int, compressed: int) -> None:
    """Raise ValueError where so many bytes may not come of so many."""
    if expanded > MAX_BYTES:
        raise ValueError(f"it expands to {expanded / 2**30:.1f} GiB, more than the {MAX_BYTES >> 30} GiB that are read")
    if expanded > max(MAX_SMALL, MAX_RATIO * compressed):
        raise ValueError(f"it expands from {compressed:,} to {expanded:,} bytes, more than {MAX_RATIO} times")


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name of an .npz: all, or those of the names that it has.

    Raises ValueError where it is a bomb, besides the dozen kinds that zipfile and NumPy raise for damaged files.
    """
    with zipfile.ZipFile(path) as archive:
        members = npy_members(archive)
        chosen = {name: member for name, member in members.items() if names is None or name in names}
        check_size(sum(member.file_size for member in chosen.values()), path.stat().st_size)
        return {name: _read_member(archive, member) for name, member in chosen.items()}


def npy_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members that are arrays, by their names. Raises ValueError as `check_member`."""
    members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    for member in members:
        check_member(archive, member)
    return {member.filename.removesuffix(".npy"): member for member in members}


def check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError where reading a member would take memory as its header pleases.

    It must be stored or deflated, as the other methods choose their own buffers, and lie within the archive.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its {member.filename} is compressed by method {member.compress_type}, expected 0 or 8")
    if member.header_offset + member.compress_size > archive.start_dir:
        raise ValueError(f"its {member.filename} claims {member.compress_size:,} bytes, more than there are")


def read_npy_header(stream: IO[bytes], size: int | None = None) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether it is by columns, and the dtype of the .npy array that begins here.

    size: how many bytes there are of it in all. Raises ValueError where it claims more, and where it holds objects.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has the .npy version {version}, expected (1, 0) or (2, 0)")
    width = 2 if version == (1, 0) else 4
    length = stream.read(width)
    if int.from_bytes(length, "little") > MAX_HEADER:
        raise ValueError(f"its header claims {int.from_bytes(length, 'little'):,} bytes, expected {MAX_HEADER:,}")
    header = io.BytesIO(length + stream.read(int.from_bytes(length, "little")))
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(header)
    claimed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("it holds Python objects as a pickle, which is never opened")
    if not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"it claims the dtype {dtype} and the shape {shape}, which no array has")
    if size is not None and claimed > size - stream.tell():
        raise ValueError(f"it claims {dtype} of shape {shape}, but has only {size - stream.tell():,} bytes of elements")
    return shape, by_columns, dtype


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(member) as file:  # zipfile reads no more than file_size
        read_npy_header(file, member.file_size)
    with archive.open(member) as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"its {member.filename} goes on after its {array.nbytes} bytes of elements")
    return array
