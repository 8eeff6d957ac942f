"""Sums, means, extrema and their soft versions over one axis, several, or (axis=None) all."""

from __future__ import annotations

from typing import Any, TypeAlias

from minivae.backend import Array
from minivae.tensor import op

Axis: TypeAlias = int | tuple[int, ...] | None


@op
def sum(xp: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over axis."""
    return xp.sum(a, axis=axis, keepdims=keepdims), (lambda g: spread(xp, g, a, axis, keepdims),)


@op
def mean(xp: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """The mean over axis."""
    y = xp.mean(a, axis=axis, keepdims=keepdims)
    return y, (lambda g: spread(xp, g / _count(a, y), a, axis, keepdims),)


@op
def var(xp: Any, a: Array, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Any:
    """The variance over axis: the sum of squared deviations from the mean, over (count - ddof)."""
    y = xp.var(a, axis=axis, keepdims=keepdims, ddof=ddof)

    def da(g: Array) -> Array:
        deviation = a - xp.mean(a, axis=axis, keepdims=True)
        return spread(xp, g * 2 / (_count(a, y) - ddof), a, axis, keepdims) * deviation

    return y, (da,)


@op
def max(xp: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest entry over axis. Equal ones share the gradient evenly."""
    y = xp.max(a, axis=axis, keepdims=keepdims)
    return y, (lambda g: _share(xp, g, a, y, axis, keepdims),)


@op
def min(xp: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest entry over axis. Equal ones share the gradient evenly."""
    y = xp.min(a, axis=axis, keepdims=keepdims)
    return y, (lambda g: _share(xp, g, a, y, axis, keepdims),)


@op
def logsumexp(xp: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """log sum e^a over axis; the largest entry m is taken out first, so that nothing overflows. -inf if all are."""
    m, shifted, total = _shifted(xp, a, axis)
    y = xp.where(xp.isfinite(m), m + xp.log(total), m)
    y = y if keepdims else xp.squeeze(y, axis=_all(a, axis))
    return y, (lambda g: spread(xp, g, a, axis, keepdims) * (xp.exp(shifted) / total),)


@op
def softmax(xp: Any, a: Array, axis: int = -1) -> Any:
    """e^a / sum e^a over axis."""
    _, shifted, total = _shifted(xp, a, axis)
    y = xp.exp(shifted) / total
    return y, (lambda g: y * (g - xp.sum(g * y, axis=axis, keepdims=True)),)


@op
def log_softmax(xp: Any, a: Array, axis: int = -1) -> Any:
    """a - log sum e^a over axis."""
    _, shifted, total = _shifted(xp, a, axis)
    y = shifted - xp.log(total)
    return y, (lambda g: g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True),)


def _shifted(xp: Any, a: Array, axis: Axis) -> tuple[Array, Array, Array]:
    """The largest entry m over axis, a - m, and sum e^(a - m), the axes kept: no large number is rounded.

    Where all entries are -inf, a is shifted by 0 and the sum taken as 1: m is the result.
    """
    m = xp.max(a, axis=axis, keepdims=True)
    empty = m == -xp.inf
    shifted = a - xp.where(empty, 0, m)
    return m, shifted, xp.where(empty, 1, xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def _all(a: Array, axis: Axis) -> tuple[int, ...]:
    """The axes as a tuple."""
    if axis is None:
        return tuple(range(a.ndim))
    return axis if isinstance(axis, tuple) else (axis,)


def _count(a: Array, y: Array) -> float:
    """How many entries of a went into one of y."""
    return float(a.size / y.size) if y.size else 0.0


def _restore(xp: Any, reduced: Array, axis: Axis, keepdims: bool, a: Array) -> Array:
    """A reduced array with its reduced axes back, of length 1."""
    if keepdims or a.ndim == 0:
        return reduced
    return xp.expand_dims(reduced, tuple(i % a.ndim for i in _all(a, axis)))


def spread(xp: Any, g: Array, a: Array, axis: Axis, keepdims: bool) -> Array:
    """The cotangent of a reduction, repeated over what was reduced (a view)."""
    return xp.broadcast_to(_restore(xp, g, axis, keepdims, a), a.shape)


def _share(xp: Any, g: Array, a: Array, y: Array, axis: Axis, keepdims: bool) -> Array:
    """The cotangent of an extremum y, shared evenly among the entries that attain it."""
    attains = xp.equal(a, _restore(xp, y, axis, keepdims, a))
    count = xp.sum(attains, axis=axis, keepdims=True).astype(a.dtype)
    return xp.where(attains, _restore(xp, g, axis, keepdims, a) / count, 0)
