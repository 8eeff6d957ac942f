"""The core of every normalisation layer."""

from __future__ import annotations

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
