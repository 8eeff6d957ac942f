"""The nonlinearities of networks, under PyTorch's names; stable for large arguments of either sign.

Each is one fused function, so one pass over the memory on a CPU and one kernel on a GPU. Where value and derivative
share what is costly, an exponential, the forward function returns both, and the vjp is one product.

With a bias each is a function of a + bias in the same pass: `or_sum` writes the sum into its formula. The derivative by
both is the same, and no vjp needs a + bias: all are functions of what the forward function returned. So a layer can
have the value in place of its product a, with out=a.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from minivae.backend import Array, fuse
from minivae.tensor import op


def or_sum(formula: Callable[..., Any]) -> Callable[..., Any]:
    """A formula f(xp, a, ...) as a function of (xp, a, bias, out, ...): f of a; where bias is not None, f of a + bias.

    out: an array for the value, the first of what f returns, such as a; None for a new one.
    """
    plain = inspect.unwrap(formula)
    xp, a, *options = inspect.signature(plain).parameters.values()

    def of_sum(xp: Any, a: Array, bias: Array, *options: Any) -> Any:
        return plain(xp, a + bias, *options)

    of_sum.__name__ = f"{plain.__name__}_of_sum"
    of_sum.__signature__ = inspect.Signature([xp, a, a.replace(name="bias"), *options])  # type: ignore[attr-defined]
    fused = fuse(of_sum)

    def either(xp: Any, a: Array, bias: Array | None, out: Array | None, *options: Any) -> Any:
        into = None if out is None else (out,)
        return formula(xp, a, *options, out=into) if bias is None else fused(xp, a, bias, *options, out=into)

    return either


@op
def tanh(xp: Any, a: Array, bias: Array | None = None, out: Array | None = None) -> Any:
    """tanh a."""
    y = _hyperbolic_tangent(xp, a, bias, out)
    return y, (lambda g: _dtanh(xp, y, g), lambda g: _dtanh(xp, y, g))


@or_sum
@fuse
def _hyperbolic_tangent(xp: Any, a: Array) -> Any:
    return xp.tanh(a)


@fuse
def _dtanh(xp: Any, y: Array, g: Array) -> Any:
    return g * (1 - y * y)


@op
def sigmoid(xp: Any, a: Array, bias: Array | None = None, out: Array | None = None) -> Any:
    """1 / (1 + e^-a)."""
    y = _sigmoid(xp, a, bias, out)
    return y, (lambda g: _dsigmoid(xp, y, g), lambda g: _dsigmoid(xp, y, g))


def logistic(xp: Any, a: Array) -> Array:
    """The sigmoid of an array, from e^-|a| alone: no overflow, full relative precision in both tails.

    For a > 0 it is 1 / (1 + e^-|a|), else e^-|a| / (1 + e^-|a|); e^-|a| is at most 1, so the larger of it and
    (a > 0) is the numerator of both.
    """
    e = xp.exp(-xp.abs(a))
    return xp.maximum(e, a > 0) / (1 + e)


_sigmoid = or_sum(fuse(logistic))


@fuse
def _dsigmoid(xp: Any, y: Array, g: Array) -> Any:
    return g * y * (1 - y)


@op
def softplus(xp: Any, a: Array, bias: Array | None = None, out: Array | None = None) -> Any:
    """log(1 + e^a) = max(a, 0) + log(1 + e^-|a|), in which nothing overflows. The derivative is sigmoid(a)."""
    y, dy = _softplus(xp, a, bias, out)
    return y, (lambda g: g * dy, lambda g: g * dy)


@or_sum
@fuse
def _softplus(xp: Any, a: Array) -> Any:
    e = xp.exp(-xp.abs(a))
    return xp.maximum(a, 0) + xp.log1p(e), xp.maximum(e, a > 0) / (1 + e)


@op
def soft_clip(xp: Any, a: Array, limit: float = 16.0) -> Any:
    """a within [-limit, limit]; beyond, +-(limit + log(1 + |a| - limit)): for a log-variance that is exponentiated.

    Within the limit no bit changes. Beyond, e^a grows only in proportion to |a|, and overflows in float32 where |a| is
    about 1e31; the slope 1 / (1 + |a| - limit) is continuous and never 0, so that a gradient leads back.
    By default the limit is where float32 ends: e^-16 is the spacing of its numbers at 1.
    """
    if xp.eager and xp.abs(a).max(initial=0) <= limit:  # a device would have to wait
        return a, (lambda g: g,)
    y, steepness = _soft_clip(xp, a, float(limit))
    return y, (lambda g: g / steepness,)


@fuse
def _soft_clip(xp: Any, a: Array, limit: float) -> Any:
    excess = xp.maximum(xp.abs(a) - limit, 0)
    beyond = limit + xp.log1p(excess)
    return xp.where(excess > 0, xp.where(a > 0, beyond, -beyond), a), 1 + excess


@op
def relu(xp: Any, a: Array, bias: Array | None = None, out: Array | None = None) -> Any:
    """max(a, 0). The derivative at 0 is 0."""
    y = _relu(xp, a, bias, out)
    return y, (lambda g: _drelu(xp, y, g), lambda g: _drelu(xp, y, g))


@or_sum
@fuse
def _relu(xp: Any, a: Array) -> Any:
    return xp.maximum(a, 0)


@fuse
def _drelu(xp: Any, y: Array, g: Array) -> Any:
    return xp.where(y > 0, g, 0)


@op
def leaky_relu(
    xp: Any, a: Array, negative_slope: float = 0.01, bias: Array | None = None, out: Array | None = None
) -> Any:
    """a where a > 0, else negative_slope * a."""
    y, positive = _leaky_relu(xp, a, bias, out, negative_slope)

    def da(g: Array) -> Array:
        return _dleaky_relu(xp, positive, g, negative_slope)

    return y, (da, None, da)


@or_sum
@fuse
def _leaky_relu(xp: Any, a: Array, slope: float) -> Any:
    return xp.where(a > 0, a, slope * a), a > 0


@fuse
def _dleaky_relu(xp: Any, positive: Array, g: Array, slope: float) -> Any:
    return xp.where(positive, g, slope * g)


@op
def elu(xp: Any, a: Array, alpha: float = 1.0, bias: Array | None = None, out: Array | None = None) -> Any:
    """a where a > 0, else alpha * (e^a - 1). [Clevert et al. 2016]"""
    y, dy = _elu(xp, a, bias, out, alpha)
    return y, (lambda g: g * dy, None, lambda g: g * dy)


@or_sum
@fuse
def _elu(xp: Any, a: Array, alpha: float) -> Any:
    y = xp.maximum(a, 0) + alpha * xp.expm1(xp.minimum(a, 0))
    return y, xp.where(a > 0, 1, y + alpha)


@op
def gelu(xp: Any, a: Array, bias: Array | None = None, out: Array | None = None) -> Any:
    """a * Phi(a), Phi the distribution function of the standard normal. [Hendrycks & Gimpel 2016]"""
    y, dy = _gelu(xp, a, bias, out)
    return y, (lambda g: g * dy, lambda g: g * dy)


@or_sum
@fuse
def _gelu(xp: Any, a: Array) -> Any:
    cdf = 0.5 * xp.special.erfc(-a * math.sqrt(0.5))
    density = xp.exp(-0.5 * a * a) * (1 / math.sqrt(2 * math.pi))
    return a * cdf, cdf + a * density


@op
def silu(xp: Any, a: Array, bias: Array | None = None, out: Array | None = None) -> Any:
    """a * sigmoid(a)."""
    y, dy = _silu(xp, a, bias, out)
    return y, (lambda g: g * dy, lambda g: g * dy)


@or_sum
@fuse
def _silu(xp: Any, a: Array) -> Any:
    s = logistic(xp, a)
    y = a * s
    return y, s + y * (1 - s)
