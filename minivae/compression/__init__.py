"""Image files of codes: what a VQ-VAE makes of images, entropy-coded under its prior, and back.

The codes come back without loss; the images are what the VQ-VAE decodes them to, with its error. How probable a code
is says a Prior (a PixelCNN: by the codes before it), or, of a VQ-VAE alone, how often it was used in training; to a
codebook that does not learn, as FSQ's, all codes are alike.

A file:  magic, version, digest of the model, number and shape of the images, checksum of the codes, length;  the
stream of coder.py;  checksum of all that. The probabilities are floating-point numbers, which must be the same
bits when the file is read: the same minivae, NumPy and BLAS, on the same kind of processor, with the same number of
threads. They are computed place by place on both sides alike, and the checksum of the codes tells where they were not.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from minivae import backend, checkpoint
from minivae.compression.coder import MOST, Decoder, Encoder, information, table
from minivae.errors import InputError
from minivae.models.pixelcnn import probabilities
from minivae.models.prior import Frequencies, OfCodes

MAGIC, VERSION = b"mvae", 1
HEADER = struct.Struct(">4sB8sI3HII")  # magic, version, digest, images, channels, height, width, checksum, length
CHECK = struct.Struct(">I")
OVERHEAD = HEADER.size + CHECK.size + 8  # bytes of a file beside its symbols; 8: the coder's state
TOGETHER = 256  # images whose codes are computed at a time, on both sides: the size of a product can change its bits


class Compressed(NamedTuple):
    """data: the file. codes: what it holds, rows (N, L). bits: the information of the codes, -log2 p, in all."""

    data: bytes
    codes: Any
    bits: float


def compress(model: Any, images: Any) -> Compressed:
    """Images (N, C, H, W), float32 in [0, 1], as the codes of a model: a VQVAE, a VQVAE2 or a Prior of one."""
    prior, encoder, bits = _prior(model, images.shape[1:]), Encoder(), 0.0
    codes = []
    for start in range(0, len(images), TOGETHER):
        rows = backend.to_numpy(prior.encode(backend.current().asarray(images[start : start + TOGETHER])))

        def choose(i: int, logits: Any, rows: Any = rows) -> Any:
            nonlocal bits
            bounds = _table(logits)
            bits += information(bounds, rows[:, i])
            encoder.add(bounds, rows[:, i])
            return backend.current().asarray(rows[:, i])

        prior.walk(len(rows), choose)
        codes.append(rows)
    made, stream = np.concatenate(codes), encoder.finish()
    head = HEADER.pack(
        MAGIC, VERSION, digest(model), len(images), *images.shape[1:], _checksum(made), len(stream)
    )  # fmt: skip
    return Compressed(head + stream + CHECK.pack(zlib.crc32(head + stream)), made, bits)


def decompress(model: Any, data: bytes, name: str = "the file") -> Any:
    """The codes (N, L) of a compressed file. Raises InputError where it is none, damaged, or of another model."""
    if data[: len(MAGIC)] != MAGIC:
        raise InputError(f"'{name}' was not written by 'minivae compress': give one that was.")
    if len(data) < HEADER.size + CHECK.size:
        raise InputError(f"'{name}' is truncated: it ends in its header; take the whole file.")
    _, version, model_digest, n, *shape, checksum, length = HEADER.unpack_from(data)
    if version != VERSION:
        raise InputError(f"'{name}' has version {version}, but this minivae reads version {VERSION}: update minivae.")
    if len(data) < HEADER.size + length + CHECK.size:
        raise InputError(f"'{name}' is truncated: {len(data)} bytes of it are there; take the whole file.")
    if zlib.crc32(data[: -CHECK.size]) != CHECK.unpack(data[-CHECK.size :])[0]:
        raise InputError(f"'{name}' was altered after it was written: its checksum does not fit; take another copy.")
    if model_digest != digest(model):
        raise InputError(f"'{name}' was compressed with another model: give its run with --run.")
    prior, decoder = _prior(model, tuple(shape)), Decoder(data[HEADER.size : -CHECK.size])

    def choose(i: int, logits: Any) -> Any:
        return backend.current().asarray(decoder.take(_table(logits)))

    try:
        starts = range(0, n, TOGETHER)
        codes = np.concatenate([backend.to_numpy(prior.walk(min(TOGETHER, n - i), choose)) for i in starts])
        decoder.finish()
        same = _checksum(codes) == checksum
    except InputError:
        same = False
    if not same:
        raise InputError(
            f"'{name}' gives other codes than were put in, as this machine computes other bits of the probabilities: "
            "decompress it where it was compressed, with the same packages, --backend and number of threads."
        )
    return codes


def images_of(model: Any, codes: Any, shape: tuple[int, ...]) -> Any:
    """Rows of codes (N, L) -> images (N, *shape), float32 clipped to [0, 1], on the host."""
    prior, xp = _prior(model, shape), backend.current()
    parts = [prior.decode(xp.asarray(codes[i : i + TOGETHER])) for i in range(0, len(codes), TOGETHER)]
    return np.concatenate([backend.to_numpy(part) for part in parts]).clip(0, 1)


def shape_of(data: bytes) -> tuple[int, int, int]:
    """The shape (C, H, W) of the images of a compressed file."""
    channels, height, width = HEADER.unpack_from(data)[4:7]
    return channels, height, width


def digest(model: Any) -> bytes:
    """Eight bytes that tell models apart: of all weights and names."""
    return bytes(checkpoint.digest(model.state_dict())[:8])


def _prior(model: Any, shape: tuple[int, ...]) -> OfCodes:
    prior = model if isinstance(model, OfCodes) else Frequencies(model, tuple(shape))
    if max(prior.sizes) > MOST:
        raise InputError(f"a model of {max(prior.sizes):,} codes cannot compress: give one of at most {MOST:,}.")
    return prior


def _table(logits: Any) -> Any:
    return table(backend.to_numpy(probabilities(logits)))


def _checksum(codes: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(codes, dtype="<u4").tobytes())
