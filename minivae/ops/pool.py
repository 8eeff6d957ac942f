"""Pooling and resampling: images (N, C, H, W) made smaller or larger, channel by channel."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from minivae.backend import Array
from minivae.ops.windows import Geometry, Pair, check_images, first, geometry, last, pair
from minivae.tensor import op


@op
def max_pool2d(
    xp: Any, x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1
) -> Any:
    """The largest pixel of every window: (N, C, H, W) -> (N, C, H', W'), sizes as of conv2d.

    The stride is the window's size by default. The border counts as -inf. Of equal pixels the first gets the gradient.
    """
    windows = pool_geometry("max_pool2d", kernel_size, stride, padding, dilation)
    check_images("max_pool2d", x)
    count = windows.positions("max_pool2d", x.shape[2:])
    if windows.misses(x.shape[2:], count):
        raise ValueError(
            f"max_pool2d: taps {windows.dilation} apart miss an image of {x.shape[2]}x{x.shape[3]} in a window of the "
            f"border, {windows.padding} wide: use less dilation or padding."
        )
    frame = _framed(xp, last(x), windows, count, -math.inf)
    taps = windows.taps(count)
    y = frame[taps[0]].copy()
    choice = xp.zeros(y.shape, dtype=xp.int32)  # the tap that gave y
    for t, tap in enumerate(taps):
        xp.copyto(choice, t, where=frame[tap] > y)
        xp.maximum(y, frame[tap], out=y)
    n, c, h, w = x.shape

    def dx(g: Array) -> Array:
        shares = (xp.where(choice == t, last(g), 0) for t in range(len(taps)))
        return first(_spread(xp, shares, windows, (n, h, w, c), g.dtype))

    return first(y), (dx,)


@op
def avg_pool2d(
    xp: Any, x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
) -> Any:
    """The mean of every window: (N, C, H, W) -> (N, C, H', W'), sizes as of conv2d.

    The stride is the window's size by default. The border counts as zeros; with count_include_pad=False not at all.
    """
    windows = pool_geometry("avg_pool2d", kernel_size, stride, padding, 1)
    check_images("avg_pool2d", x)
    n, c, h, w = x.shape
    count = windows.positions("avg_pool2d", (h, w))
    taps = windows.taps(count)

    def total(images: Array) -> Array:
        frame = _framed(xp, images, windows, count, 0)
        y = frame[taps[0]].copy()
        for tap in taps[1:]:
            y += frame[tap]
        return y

    area = len(taps) if count_include_pad else total(xp.ones((1, h, w, 1), dtype=x.dtype))

    def dx(g: Array) -> Array:
        share = last(g) / area
        return first(_spread(xp, (share for _ in taps), windows, (n, h, w, c), g.dtype))

    return first(total(last(x)) / area), (dx,)


def _framed(xp: Any, x: Array, windows: Geometry, count: tuple[int, int], value: float) -> Array:
    """Images (N, H, W, C) in the frame of the windows, with a value around them."""
    inside, seen = windows.overlap(x.shape[1:3], count)
    frame = xp.full((len(x), *windows.frame(count), x.shape[3]), value, dtype=x.dtype)
    frame[inside] = x[seen]
    return frame


def _spread(xp: Any, shares: Iterable[Array], windows: Geometry, shape: tuple[int, ...], dtype: Any) -> Array:
    """Images of a shape (N, H, W, C), in which every pixel has the sum of what the taps that see it have for it.

    shares: for each tap, an array (N, h, w, C).
    """
    count = windows.positions("", shape[1:3])
    frame = xp.zeros((shape[0], *windows.frame(count), shape[3]), dtype=dtype)
    for tap, share in zip(windows.taps(count), shares, strict=True):
        frame[tap] += share
    inside, seen = windows.overlap(shape[1:3], count)
    x = xp.zeros(shape, dtype=dtype)
    x[seen] = frame[inside]
    return x


@op
def interpolate(xp: Any, x: Array, scale_factor: Pair, mode: str = "nearest", align_corners: bool = False) -> Any:
    """Images larger by whole factors: (N, C, H, W) -> (N, C, scale H, scale W).

    mode: "nearest" repeats every pixel; "bilinear" takes the weighted mean of the four pixels around. Pixels are
    squares, and the corners of the images meet; with align_corners the centres of the corner pixels do.

    Bilinear is linear and treats rows and columns alike but apart: a matrix for each.
    """
    scale = resample_factors("interpolate", scale_factor, mode)
    check_images("interpolate", x)
    n, c, h, w = x.shape
    if mode == "nearest":
        blocks = (n, h, scale[0], w, scale[1], c)
        y = xp.broadcast_to(last(x)[:, :, None, :, None], blocks).reshape(n, h * scale[0], w * scale[1], c)
        return first(y), (lambda g: first(xp.sum(last(g).reshape(blocks), axis=(2, 4))),)
    rows, cols = (_between(xp, x.shape[2 + i], scale[i], align_corners).astype(x.dtype) for i in (0, 1))
    return first(_apply(xp, rows, cols, last(x))), (lambda g: first(_apply(xp, rows.T, cols.T, last(g))),)


def _apply(xp: Any, rows: Array, cols: Array, x: Array) -> Array:
    """A matrix (H', H) applied to the rows and one (W', W) to the columns of images (N, H, W, C)."""
    n, h, w, c = x.shape
    y = xp.matmul(rows, x.reshape(n, h, w * c)).reshape(-1, w, c)
    return xp.matmul(cols, y).reshape(n, len(rows), len(cols), c)


def _between(xp: Any, n: int, scale: int, align_corners: bool) -> Array:
    """The matrix (scale n, n) that takes the weighted mean of two neighbours."""
    places = xp.arange(scale * n)
    if align_corners:
        where = places * ((n - 1) / max(scale * n - 1, 1))
    else:
        where = xp.clip((places + 0.5) / scale - 0.5, 0, n - 1)
    return xp.maximum(0, 1 - xp.abs(where[:, None] - xp.arange(n)))


@op
def pixel_shuffle(xp: Any, x: Array, upscale_factor: int) -> Any:
    """(N, C r r, H, W) -> (N, C, r H, r W): r r channels become the pixels of a square. [Shi et al. 2016]"""
    r = shuffle_factor("pixel_shuffle", upscale_factor)
    if x.ndim != 4 or x.shape[1] % (r * r):
        raise ValueError(f"pixel_shuffle: x of shape {x.shape} must be (N, C, H, W) with C a multiple of {r * r}.")
    return _shuffled(x, r), (lambda g: _unshuffled(g, r),)


@op
def pixel_unshuffle(xp: Any, x: Array, downscale_factor: int) -> Any:
    """(N, C, r H, r W) -> (N, C r r, H, W): the inverse of pixel_shuffle."""
    r = shuffle_factor("pixel_unshuffle", downscale_factor)
    if x.ndim != 4 or x.shape[2] % r or x.shape[3] % r:
        raise ValueError(f"pixel_unshuffle: x of shape {x.shape} must be (N, C, H, W) with H and W multiples of {r}.")
    return _unshuffled(x, r), (lambda g: _shuffled(g, r),)


def _shuffled(x: Array, r: int) -> Array:
    n, c, h, w = x.shape
    c = c // (r * r)
    return first(last(x).reshape(n, h, w, c, r, r).transpose(0, 1, 4, 2, 5, 3).reshape(n, h * r, w * r, c))


def _unshuffled(x: Array, r: int) -> Array:
    n, c, h, w = x.shape
    h, w = h // r, w // r
    return first(last(x).reshape(n, h, r, w, r, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h, w, c * r * r))


def pool_geometry(name: str, kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair) -> Geometry:
    """The windows of a pool. ValueError where they are none, or where one could lie in the border alone."""
    windows = geometry(name, kernel_size, kernel_size if stride is None else stride, padding, dilation)
    if any(2 * windows.padding[i] > windows.extent(i) for i in (0, 1)):
        raise ValueError(
            f"{name}: padding {padding} must be at most half of what the kernel {windows.kernel} with dilation "
            f"{windows.dilation} spans, {windows.extent(0)}x{windows.extent(1)} pixels."
        )
    return windows


def resample_factors(name: str, scale_factor: Pair, mode: str) -> tuple[int, int]:
    """The factors of interpolate. ValueError where they or the mode are none."""
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"{name}: mode {mode!r} must be 'nearest' or 'bilinear'.")
    return pair(name, "scale_factor", scale_factor, 1)


def shuffle_factor(name: str, r: int) -> int:
    """The factor of a shuffle. ValueError unless it is a whole number of at least 1."""
    if not isinstance(r, Integral) or int(r) < 1:
        raise ValueError(f"{name}: the factor {r!r} must be a whole number of at least 1.")
    return int(r)
