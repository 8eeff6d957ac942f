"""The nonlinearities of networks, under PyTorch's names; stable for large arguments of either sign."""

from __future__ import annotations

import math
from typing import Any

from minivae.backend import Array
from minivae.tensor import op


@op
def tanh(xp: Any, a: Array) -> Any:
    """tanh a."""
    y = xp.tanh(a)
    return y, (lambda g: g * (1 - y * y),)


@op
def sigmoid(xp: Any, a: Array) -> Any:
    """1 / (1 + e^-a)."""
    y = logistic(xp, a)
    return y, (lambda g: g * y * (1 - y),)


@op
def softplus(xp: Any, a: Array) -> Any:
    """log(1 + e^a) = max(a, 0) + log(1 + e^-|a|), in which nothing overflows."""
    y = xp.maximum(a, 0) + xp.log1p(xp.exp(-xp.abs(a)))
    return y, (lambda g: g * logistic(xp, a),)


@op
def soft_clip(xp: Any, a: Array, limit: float = 16.0) -> Any:
    """a within [-limit, limit]; beyond, +-(limit + log(1 + |a| - limit)): for a log-variance that is exponentiated.

    Within the limit no bit changes. Beyond, e^a grows only in proportion to |a|, and overflows in float32 where |a| is
    about 1e31; the slope 1 / (1 + |a| - limit) is continuous and never 0, so that a gradient leads back.
    By default the limit is where float32 ends: e^-16 is the spacing of its numbers at 1.
    """
    excess = xp.maximum(xp.abs(a) - limit, 0)
    y = xp.where(excess > 0, xp.copysign(limit + xp.log1p(excess), a), a)
    return y, (lambda g: g / (1 + excess),)


@op
def relu(xp: Any, a: Array) -> Any:
    """max(a, 0). The derivative at 0 is 0."""
    y = xp.maximum(a, 0)
    return y, (lambda g: xp.where(y > 0, g, 0),)


@op
def leaky_relu(xp: Any, a: Array, negative_slope: float = 0.01) -> Any:
    """a where a > 0, else negative_slope * a."""
    positive = a > 0
    return xp.where(positive, a, negative_slope * a), (lambda g: xp.where(positive, g, negative_slope * g),)


@op
def elu(xp: Any, a: Array, alpha: float = 1.0) -> Any:
    """a where a > 0, else alpha * (e^a - 1). [Clevert et al. 2016]"""
    positive = a > 0
    y = xp.where(positive, a, alpha * xp.expm1(xp.minimum(a, 0)))
    return y, (lambda g: xp.where(positive, g, g * (y + alpha)),)


@op
def gelu(xp: Any, a: Array) -> Any:
    """a * Phi(a), Phi the distribution function of the standard normal. [Hendrycks & Gimpel 2016]"""
    cdf = 0.5 * xp.special.erfc(-a * math.sqrt(0.5))
    return a * cdf, (lambda g: g * (cdf + a * xp.exp(-0.5 * a * a) * (1 / math.sqrt(2 * math.pi))),)


@op
def silu(xp: Any, a: Array) -> Any:
    """a * sigmoid(a)."""
    s = logistic(xp, a)
    return a * s, (lambda g: g * (s + a * s * (1 - s)),)


def logistic(xp: Any, a: Array) -> Array:
    """The sigmoid of an array, from e^-|a| alone: no overflow, full relative precision in both tails."""
    e = xp.exp(-xp.abs(a))
    return xp.where(a >= 0, 1, e) / (1 + e)
