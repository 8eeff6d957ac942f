"""How files are damaged: at random, and where it hurts. Every case is a function of its random.Random alone."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

NUMBERS = [0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 1023, 32767, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
LARGE = [*NUMBERS, 1 << 40, 1 << 60, (1 << 63) - 1, 1 << 63, 1 << 64, -1, -(1 << 31), 10**30, 10**400]
VALUES = [
    None, True, False, "", "vae", "\n\x1b[31m", "9" * 50, 0.5, -0.5, 1e-320, 1e308, float("nan"), float("inf"), [], {},
    [1], [-1, 4], [[[[]]]], {"a": 1}, [1e9, 1e9], "../../etc", "\ud800",
]  # fmt: skip
DTYPES = [
    "|u1", "<f4", ">f4", "<f8", "<f2", ">i8", "|b1", "<U3", "<U0", "|S5", "|V7", "|O", "<c8", "<M8[ns]", "<f16", "",
    "<U99999999", [("a", "<f4")], [("a", "|O")], [("a", "<f4", (1 << 20, 1 << 20))], "<x9", 5, None,
]  # fmt: skip


def damaged(rng: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """A few bytes flipped, lost, inserted, moved, overwritten with numbers, or taken from another file."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 30])):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:
            at = min(at, rng.randrange(64))  # headers are mostly here
        size = rng.choice([1, 2, 4, 8, 40, 300])
        match rng.randrange(8):
            case 0 | 1 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 2:
                del data[rng.randrange(len(data) + 1) :]
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = rng.choice([rng.randbytes(size), bytes(size), b"\xff" * size])
            case 5:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                data[at : at + rng.choice([0, size])] = other[start : start + size]
            case 6:
                data[at:at] = data[at : at + size] * rng.choice([1, 50])
            case _:
                width, order = rng.choice([2, 4, 4, 8]), rng.choice(["little", "big"])
                number = rng.choice(NUMBERS) % (1 << 8 * width)
                data[at : at + width] = number.to_bytes(width, order)
    return bytes(data)


def idx(rng: random.Random) -> bytes:
    """An IDX file whose header may claim anything."""
    shape = [rng.choice([rng.choice(NUMBERS), rng.randrange(5)]) for _ in range(rng.randrange(5))]
    count = rng.choice([len(shape), rng.randrange(256)])
    magic = bytes([0, rng.choice([0, 0, 0, 1]), rng.choice([8, 8, 9, 11, 12, 13, 14, 10, 255]), count])
    body = rng.randbytes(rng.choice([0, 1, 20, 1000]))
    content = magic + struct.pack(f">{len(shape)}I", *shape) + body
    return content if rng.random() < 0.5 else gzipped(rng, content)


def gzipped(rng: random.Random, content: bytes) -> bytes:
    """As gzip, which may go on with a bomb."""
    if rng.random() < 0.1:
        content += bytes(rng.choice([1 << 20, 40 << 20]))
    return b"".join(gzip.compress(content, 1) for _ in range(rng.choice([1, 1, 2])))


def npy(rng: random.Random, array: Any) -> bytes:
    """An .npy file whose header may say anything, before the elements of an array."""
    descr = rng.choice([array.dtype.str, rng.choice(DTYPES)])
    shape = [rng.choice([*array.shape, rng.choice(LARGE)]) for _ in range(rng.choice([array.ndim, rng.randrange(40)]))]
    given = rng.choice([array.shape, tuple(shape), rng.choice(VALUES)])
    header = {"descr": descr, "fortran_order": rng.choice([False, False, True, 3]), "shape": given}
    text = repr(header).encode("utf-8", "replace")
    match rng.randrange(8):
        case 0:
            text = damaged(rng, text, [b"(((((((", b"[" * 5000, b"__import__('os')", b"1e9**9"])
        case 1:
            text = b"(" * rng.choice([50, 500, 9000]) + text
        case 2:
            text += b" " * rng.choice([70, 9000, 60000])
    text += b"\n"
    version = rng.choice([1, 1, 1, 2, 3, 4])
    length = rng.choice([len(text), len(text), len(text), rng.choice(NUMBERS)])
    width = 2 if version == 1 else 4
    sized = (length % (1 << 8 * width)).to_bytes(width, "little")
    body = rng.choice([array.tobytes(), array.tobytes()[:-3], b"", bytes(5000)])
    return b"\x93NUMPY" + bytes([version, 0]) + sized + text + body


def zipped(rng: random.Random, members: list[tuple[str, bytes]]) -> bytes:
    """A zip of these members, whose directory may lie: of names, sizes, sums, methods and places."""
    names = ["../evil.npy", "/tmp/evil.npy", "images.npy", "header.npy", "a\nb.npy", "\x1b[2J.npy", "x", "é" * 99]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([0, 8, 8, 12, 14])) as archive:
        for name, content in members:
            given = rng.choice(names) if rng.random() < 0.05 else name
            if given not in archive.namelist():
                archive.writestr(given, content)
    data = bytearray(out.getvalue())
    for _ in range(rng.choice([0, 1, 3])):
        mark, fields = rng.choice(
            [
                (b"PK\1\2", [(6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)]),
                (b"PK\3\4", [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]),
                (b"PK\5\6", [(4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
            ]
        )
        starts = [i for i in range(len(data)) if data[i : i + 4] == mark]
        if starts:
            at, width = rng.choice(fields)
            at += rng.choice(starts)
            data[at : at + width] = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(data)


def bomb(rng: random.Random, name: str) -> bytes:
    """A zip of a member of many zeros, with an .npy header that fits."""
    size = 48 << 20
    out, header = io.BytesIO(), io.BytesIO()
    shape = (size >> 8, 16, 16)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(out, "w", 8) as archive:
        archive.writestr(name, header.getvalue() + bytes(size))
    return out.getvalue()


def changed(rng: random.Random, value: Any) -> Any:
    """JSON with one value changed, lost, or moved, at any depth."""
    value = copy.deepcopy(value)
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return value
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.75:
            place = place[key]
            continue
        match rng.randrange(4):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[rng.choice([*keys, "x"])] = place.pop(key)
            case 2 if isinstance(place[key], int | float):
                place[key] = rng.choice([place[key] + 1, -place[key], place[key] * 2, 0.5, *LARGE])
            case _:
                place[key] = rng.choice([*VALUES, rng.choice(LARGE)])
        return value


def json_of(rng: random.Random, value: Any) -> bytes:
    """The JSON of a changed value, at times not quite JSON."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        value = changed(rng, value)
    text = json.dumps(value).encode()
    return damaged(rng, text, [b"[" * 100_000, b"{", b'{"a":', b"\xff\xfe"]) if rng.random() < 0.1 else text


def arrays(rng: random.Random, members: dict[str, Any]) -> dict[str, Any]:
    """Named arrays, some of which are lost, renamed, or of other shapes, types and values."""
    members = dict(members)
    for _ in range(rng.choice([0, 1, 1, 3])):
        name = rng.choice(list(members) or ["x"])
        a = members.pop(name, np.zeros(3))
        match rng.randrange(7):
            case 0:
                pass
            case 1:
                members[rng.choice([name + "x", "a\nb", "\x1b[2J", "header", "model.", "optimizer.counts"])] = a
            case 2:
                members[name] = a
                with contextlib.suppress(ValueError):
                    members[name] = a.astype(rng.choice(["f8", "f2", "i8", "u1", "?", "c8", "U9", "S4", "M8[s]"]))
            case 3:
                members[name] = rng.choice([a.reshape(-1), a[None], a.T, a.reshape(-1)[:0], np.zeros(())])
            case 4:
                members[name] = np.full(a.shape, rng.choice([np.nan, np.inf, -1e38, 0, 1e300]))
            case 5:
                members[name] = np.zeros(a.shape, [("a", "f4")])
            case _:
                members[name] = np.broadcast_to(a.reshape(-1)[:1].reshape(()) if a.size else 0, (50, 50))
    return members


def png(rng: random.Random, content: bytes) -> bytes:
    """A PNG whose chunks are changed and have the right sums again."""
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        at += 12 + size
        if kind == b"IHDR" and rng.random() < 0.5:
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            sizes = [rng.choice([width, height, rng.choice(NUMBERS)]) for _ in range(2)]
            rest[0] = rng.choice([rest[0], 1, 2, 4, 8, 16, 32])
            rest[1] = rng.choice([rest[1], 0, 2, 3, 4, 6, 7])
            body = struct.pack(">IIBBBBB", *sizes, *rest)
        elif rng.random() < 0.3:
            body = damaged(rng, body, [content])
        for _ in range(rng.choice([1, 1, 1, 1, 0, 2])):
            out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return bytes(out)
