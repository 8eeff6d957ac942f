"""Files of a few kilobytes that claim, or expand to, far more: refused in one sentence, before the memory is taken."""

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from minivae import checkpoint
from minivae.data import frey_faces, from_path, read_idx
from minivae.errors import InputError

ZEROS = 80 << 20  # bytes


def npy(shape: tuple[int, ...], body: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue() + body


def npz(path: Path, name: str, content: bytes, claimed: int | None = None) -> Path:
    """A zip of one member; claimed: its expanded size as the directory has it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    if claimed is not None:
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\1\2") + 24
        data[at : at + 4] = struct.pack("<I", claimed)
        path.write_bytes(data)
    return path


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture(folder: Path) -> Path:
    """A PNG of 12,000 x 12,000 black pixels, in 18 kB."""
    side = 12_000
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (folder / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        (folder / "pictures" / name).write_bytes(content)
    return folder / "pictures"


def idx_gz(folder: Path) -> Path:
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, ZEROS >> 8, 16, 16)
    (folder / "idx.gz").write_bytes(gzip.compress(head + bytes(ZEROS)))
    return folder / "idx.gz"


def mat(folder: Path) -> Path:
    (folder / "frey-faces").mkdir()
    path = folder / "frey-faces" / "frey_rawface.mat"
    savemat(path, {"ff": np.zeros((560, ZEROS // 560), np.uint8)}, do_compression=True)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BOMBS = {
    "idx.gz": (idx_gz, read_idx, "more than 250 times"),
    "npz": (lambda f: npz(f / "a.npz", "images.npy", npy((ZEROS >> 8, 16, 16), bytes(ZEROS))), from_path, "250 times"),
    "checkpoint": (lambda f: npz(f / "m.npz", "header.npy", npy((ZEROS,), bytes(ZEROS))), checkpoint.load, "250 times"),
    "lying directory, small": (
        lambda f: npz(f / "a.npz", "images.npy", npy((ZEROS >> 8, 16, 16), bytes(ZEROS)), 5000),
        from_path, "has only",
    ),
    "lying directory, large": (
        lambda f: npz(f / "a.npz", "images.npy", npy((1 << 20, 16, 16), bytes(100)), (1 << 32) - 2),
        from_path, "more than 250 times",
    ),
    "npy of 2^60 bytes": (
        lambda f: written(f / "a.npy", npy((1 << 40, 1 << 10, 1 << 10), bytes(100))), from_path, "has only 100 bytes",
    ),
    "npz of 2^60 bytes": (
        lambda f: npz(f / "a.npz", "images.npy", npy((1 << 40, 1 << 10, 1 << 10), bytes(100))), from_path, "has only",
    ),
    "checkpoint of 2^60 bytes": (
        lambda f: npz(f / "m.npz", "header.npy", npy((1 << 60,), bytes(100))), checkpoint.load, "has only",
    ),
    "npy header of 4 GB": (
        lambda f: written(f / "a.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{"), from_path, "claims 4,294,967,295 bytes",
    ),
    "picture": (picture, from_path, "is 12000x12000, more than"),
    "mat": (mat, lambda _: frey_faces(), "more than 250 times"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(name, tmp_path, monkeypatch):
    make, read, message = BOMBS[name]
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    path = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert str(path.name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "model.npz", "idx"])
def test_a_pipe_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    read = {"model.npz": checkpoint.load, "idx": read_idx}.get(name, from_path)
    with pytest.raises(InputError, match=name):
        read(tmp_path / name)
