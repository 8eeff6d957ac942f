"""Corruptions: what an autoencoder is given in place of its target.

A corruption is a function of images x (N, C, H, W) and a generator that returns the corrupted images and
where the error counts: None (everywhere), or (N, 1, H, W) with 1 where it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minivae import backend
from minivae.backend import Array
from minivae.errors import InputError

Corruption = Callable[[Array, Any], tuple[Array, Array | None]]

GREY = 0.5  # of what is masked: neither ink nor ground, so that a network sees the hole


def masking(level: float = 0.5) -> Corruption:
    """Each pixel is black with a probability. [Vincent et al. 2010, section 3.3]"""
    _probability("masking", level)

    def corrupt(x: Array, rng: Any) -> tuple[Array, None]:
        return x * (rng.random(x.shape, dtype=x.dtype) >= level), None

    return corrupt


def gaussian(level: float = 0.5) -> Corruption:
    """Normal noise of a standard deviation is added. [Vincent et al. 2010, section 3.3]"""
    if not 0 < level < float("inf"):
        raise InputError(
            f"the level {level} of the corruption 'gaussian' is no standard deviation of noise: give a number above 0."
        )

    def corrupt(x: Array, rng: Any) -> tuple[Array, None]:
        return x + rng.standard_normal(x.shape, dtype=x.dtype) * x.dtype.type(level), None

    return corrupt


def salt_and_pepper(level: float = 0.3) -> Corruption:
    """Each pixel is black or white, with even odds, with a probability. [Vincent et al. 2010, section 3.3]"""
    _probability("salt-and-pepper", level)

    def corrupt(x: Array, rng: Any) -> tuple[Array, None]:
        xp = backend.of(x)
        u = rng.random(x.shape, dtype=x.dtype)
        return xp.where(u < level, (u < level / 2).astype(x.dtype), x), None

    return corrupt


def central(level: float = 0.5) -> Corruption:
    """The middle is hidden: a rectangle whose sides are a part of the image's. [Pathak et al. 2016, section 3.3]"""
    _probability("central", level)

    def hole(xp: Any, n: int, h: int, w: int, rng: Any) -> Array:
        top, left = xp.asarray([[[round(h * (1 - level) / 2)]]]), xp.asarray([[[round(w * (1 - level) / 2)]]])
        return xp.broadcast_to(_rectangle(xp, top, left, level, h, w), (n, h, w))

    return _hiding(hole)


def block(level: float = 0.4) -> Corruption:
    """A rectangle somewhere is hidden, its sides a part of the image's. [Pathak et al. 2016, section 3.3]"""
    _probability("block", level)

    def hole(xp: Any, n: int, h: int, w: int, rng: Any) -> Array:
        high, wide = max(1, round(level * h)), max(1, round(level * w))
        top, left = (rng.integers(0, room + 1, (n, 1, 1)) for room in (h - high, w - wide))
        return _rectangle(xp, top, left, level, h, w)

    return _hiding(hole)


def region(level: float = 0.3) -> Corruption:
    """A smooth random shape that covers about a part of the image is hidden. [Pathak et al. 2016, section 3.3]

    The shape is where a sum of six random waves is high: the level-th part of its pixels.
    """
    _probability("region", level)

    def hole(xp: Any, n: int, h: int, w: int, rng: Any) -> Array:
        y, x = xp.arange(h)[:, None] / h, xp.arange(w)[None, :] / w
        frequency = rng.standard_normal((2, n, 6, 1, 1)) * 1.5
        phase = rng.random((n, 6, 1, 1))
        waves = xp.cos(2 * xp.pi * (frequency[0] * y + frequency[1] * x + phase)).sum(1)
        threshold = xp.sort(waves.reshape(n, -1), axis=1)[:, min(h * w - 1, int((1 - level) * h * w))]
        return waves >= threshold[:, None, None]

    return _hiding(hole)


CORRUPTIONS: dict[str, Callable[..., Corruption]] = {
    "masking": masking,
    "gaussian": gaussian,
    "salt-and-pepper": salt_and_pepper,
    "central": central,
    "block": block,
    "region": region,
}


def corruption(name: str, level: float | None = None) -> Corruption:
    """A corruption by its name, at its usual level or another."""
    if name not in CORRUPTIONS:
        raise InputError(f"unknown corruption '{name}': choose one of {', '.join(CORRUPTIONS)}.")
    return CORRUPTIONS[name]() if level is None else CORRUPTIONS[name](level)


def _probability(name: str, level: float) -> None:
    if not 0 < level < 1:
        raise InputError(
            f"the level {level} of the corruption '{name}' is out of range: give a number between 0 and 1."
        )


def _rectangle(xp: Any, top: Array, left: Array, level: float, h: int, w: int) -> Array:
    """Masks (N, h, w) of rectangles whose first rows and columns are (N, 1, 1)."""
    y, x = xp.arange(h)[:, None], xp.arange(w)[None, :]
    high, wide = max(1, round(level * h)), max(1, round(level * w))
    return (y >= top) & (y < top + high) & (x >= left) & (x < left + wide)


def _hiding(hole: Callable[..., Array]) -> Corruption:
    """The corruption that paints a hole grey; the error counts in the hole."""

    def corrupt(x: Array, rng: Any) -> tuple[Array, Array]:
        if x.ndim != 4:
            raise InputError(f"only images (N, C, H, W) can be masked, not data of shape {x.shape}: use masking noise.")
        xp = backend.of(x)
        n, _, h, w = x.shape
        where = hole(xp, n, h, w, rng)[:, None].astype(x.dtype)
        return x * (1 - where) + x.dtype.type(GREY) * where, where

    return corrupt
