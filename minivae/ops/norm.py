"""The core of every normalisation layer."""

from __future__ import annotations

import math
from typing import Any

from minivae.backend import Array
from minivae.ops.reduction import Axis
from minivae.tensor import op


@op
def standardize(xp: Any, a: Array, axis: Axis, eps: float = 1e-5) -> Any:
    """(a - mean) / sqrt(var + eps), with the mean and the (biased) variance over axis.

    Moving a also moves its mean and its variance: the gradient loses its mean and its part along y.
    """
    centred = a - xp.mean(a, axis=axis, keepdims=True)
    rstd = 1 / xp.sqrt(xp.mean(centred * centred, axis=axis, keepdims=True) + eps)
    y = centred * rstd

    def da(g: Array) -> Array:
        g_mean = xp.mean(g, axis=axis, keepdims=True)
        g_along_y = xp.mean(g * y, axis=axis, keepdims=True)
        return rstd * (g - g_mean - y * g_along_y)

    return y, (da,)


@op
def group_norm(xp: Any, x: Array, weight: Array, bias: Array, groups: int, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias, with the statistics of each group of channels of each example.

    x (N, C, ...), weight and bias (C,). It is standardize, then a scale and a shift, in few passes over images that
    lie channels-last. With c = x - mean and r = 1 / sqrt(var + eps), and means over a group,

        dx = r (weight g) - r mean(weight g) - c r^3 mean(weight g c)        [Wu & He 2018]
    """
    n, c = x.shape[:2]
    if weight.shape != (c,) or bias.shape != (c,) or groups < 1 or c % groups:
        raise ValueError(
            f"group_norm: x of shape {x.shape} needs a weight and a bias of shape ({c},) and groups that divide {c}, "
            f"not {weight.shape}, {bias.shape} and {groups}."
        )
    pixels = math.prod(x.shape[2:])
    several = math.gcd(pixels, 64)  # NumPy is slow in taking a few channels again and again: pixels side by side

    def rows(a: Array) -> Array:
        """(N, C, ...) -> (N, pixels, C), a view of images that lie channels-last."""
        return xp.ascontiguousarray(xp.moveaxis(a, 1, -1)).reshape(n, pixels // several, several * c)

    def images(a: Array) -> Array:
        return xp.moveaxis(a.reshape(n, *x.shape[2:], c), -1, 1)

    def total(a: Array) -> Array:
        """The sum over the pixels (N, C), as a product with ones, in which it is fastest."""
        return xp.matmul(xp.ones((1, pixels), dtype=x.dtype), a.reshape(n, pixels, c)).reshape(n, c)

    def group_mean(a: Array) -> Array:
        """Sums over the pixels (N, C) -> the mean over pixels and channels of a group, for each of its channels."""
        mean = xp.sum(a.reshape(n, groups, c // groups), axis=2) / (pixels * (c // groups))
        return xp.repeat(mean, c // groups, axis=1)

    def each(a: Array) -> Array:
        """(N, C) or (1, C) beside rows."""
        return xp.tile(a, (1, several))[:, None]

    given = rows(x)
    centred = given - each(group_mean(total(given)))
    y = centred * centred
    rstd = 1 / xp.sqrt(group_mean(total(y)) + eps)
    xp.multiply(centred, each(rstd * weight), out=y)
    y += each(bias[None])

    def dx(g: Array) -> Array:
        g = rows(g)
        d = g * centred
        along = group_mean(total(d) * weight)
        mean = group_mean(total(g) * weight)
        xp.multiply(centred, each(along * rstd**3), out=d)
        d += each(mean * rstd)
        return images(xp.subtract(g * each(rstd * weight), d, out=d))

    return images(y), (dx, lambda g: total(rows(g) * centred) * rstd, lambda g: total(rows(g)))
