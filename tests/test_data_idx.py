"""IDX: what is written comes back, and whatever is damaged is one clear InputError."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivae.data import idx
from minivae.data.idx import read_idx
from minivae.errors import InputError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
MEND = "put a complete IDX file, .gz or raw, there."


def encode(array: npt.NDArray[np.generic]) -> bytes:
    """The array as IDX, written from the format's description and not from the reader."""
    code = CODES[array.dtype.newbyteorder("=").str[1:]]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


@settings(deadline=None)
@given(array=arrays, compressed=st.booleans())
def test_round_trip(folder: Path, array: npt.NDArray[np.generic], compressed: bool) -> None:
    path = folder / "misleading.png"  # the content counts, not the name
    path.write_bytes(gzip.compress(encode(array)) if compressed else encode(array))
    result = read_idx(path)
    assert result.dtype == array.dtype and result.dtype.isnative
    np.testing.assert_array_equal(result, array)


@settings(deadline=None)
@given(array=arrays, compressed=st.booleans(), data=st.data())
def test_truncated(folder: Path, array: npt.NDArray[np.generic], compressed: bool, data: st.DataObject) -> None:
    whole = gzip.compress(encode(array)) if compressed else encode(array)
    path = folder / "short"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError) as caught:
        read_idx(path)
    assert str(path) in str(caught.value) and str(caught.value).endswith(MEND)


@settings(deadline=None)
@given(array=arrays, compressed=st.booleans(), data=st.data())
def test_flipped_byte(folder: Path, array: npt.NDArray[np.generic], compressed: bool, data: st.DataObject) -> None:
    """One changed byte is an InputError, or, where nothing can notice, an array of the same size.

    Gzip has a checksum of the content, so that there the array must be the right one.
    """
    whole = bytearray(gzip.compress(encode(array)) if compressed else encode(array))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = folder / "flipped"
    path.write_bytes(whole)
    try:
        result = read_idx(path)
    except InputError as error:
        assert str(path) in str(error) and str(error).endswith(MEND)
    else:
        if compressed:
            np.testing.assert_array_equal(result, array)
        else:
            assert result.nbytes == array.nbytes


@settings(deadline=None)
@given(content=st.binary(max_size=64))
def test_noise(folder: Path, content: bytes) -> None:
    path = folder / "noise"
    path.write_bytes(content)
    try:
        result = read_idx(path)
    except InputError:
        return
    assert encode(result) == content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n", "it begins with 89 50 4e 47"),
        (b"\0\1\x08\1\0\0\0\1x", "it begins with 00 01 08 01"),
        (b"\0\0\x08", "it begins with 00 00 08"),
        (b"\0\0\x0a\x01\0\0\0\1x", "it begins with 00 00 0a 01"),
        (b"\0\0\x08\0x", "it claims 0 dimensions"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"x", "it claims 255 dimensions"),
        (b"\0\0\x08\2\0\0\0\1", "it ends within its header"),
        (b"\0\0\x08\1\0\0\0\5abc", "it ends after 3 of 5 bytes"),
        (b"\0\0\x08\1\0\0\0\2abc", "it goes on after the 2 bytes"),
        (b"\0\0\x0d\2" + b"\xff" * 8, "more than 8 GiB"),
        (b"\0\0\x08\3\0\0\0\0" + b"\xff" * 8, "more than 8 GiB"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\2ab", mtime=0)[:-9], "ended before the end-of-stream"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\2ab", mtime=0) + b"junk", "Not a gzipped file"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\2ab", mtime=0)[:10] + b"\xff" * 20, "invalid block type"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\2ab", mtime=0)[:-8] + b"\0" * 8, "damaged gzip, CRC check failed"),
    ],
)
def test_reasons(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_idx(path)
    assert reason in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot read"):
        read_idx(tmp_path)


def test_expansion_is_bounded(tmp_path: Path) -> None:
    """A gzip that expands to 64 MB, of which its header claims 4 bytes, is not expanded."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\1\0\0\0\4" + bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(InputError, match="goes on after the 4 bytes"):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * idx.CHUNK


def test_result_is_writable(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(encode(np.arange(3, dtype=np.uint8)))
    read_idx(path)[0] = 7
