"""What linear and the convolutions have in common: bias, activation, and the cotangent that comes back through both."""

from __future__ import annotations

from typing import Any

from minivae.backend import Array
from minivae.graph import Vjp


def activated(xp: Any, a: Array, bias: Array | None, activation: Any) -> tuple[Array, Vjp]:
    """The end of a layer: activation(a + bias) for its product a (..., O), which may be changed, and the vjp of a.

    activation: an activation of arrays, such as ops.relu.forward; None for a + bias.
    """
    rows = a
    if bias is not None:
        rows, bias = xp.side_by_side(a, bias)
    if activation is not None:
        y, (da, *_) = activation(xp, rows, bias=bias)
        return y.reshape(a.shape), lambda g: da(g.reshape(rows.shape)).reshape(a.shape)
    if bias is not None:
        rows += bias
    return a, lambda g: g


def once(f: Vjp) -> Vjp:
    """A function of the cotangent for which several vjps ask: it is computed for the first of them."""
    known: list[Array] = []  # the cotangent, and what was made of it

    def value(g: Array) -> Array:
        if not known or known[0] is not g:
            known[:] = g, f(g)
        return known[1]

    return value
