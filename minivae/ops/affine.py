"""What linear and the convolutions have in common: bias, activation, and the cotangent that comes back through both."""

from __future__ import annotations

from typing import Any

from minivae.backend import Array
from minivae.graph import Vjp


def activated(xp: Any, a: Array, bias: Array | None, activation: Any) -> tuple[Array, Vjp]:
    """The end of a layer: activation(a + bias) for its product a (..., O), in place of it, and the vjp of a.

    activation: an activation of arrays, such as ops.relu.forward; None for a + bias.
    A device adds the bias within the activation's kernel; on a CPU a is in the cache, and to add in place is faster.
    """
    if bias is not None and (activation is None or xp.eager):
        xp.add_bias(a, bias)
        bias = None
    if activation is None:
        return a, lambda g: g
    y, (da, *_) = activation(xp, a, bias=bias, out=a)
    return y, da


def once(f: Vjp) -> Vjp:
    """A function of the cotangent for which several vjps ask: it is computed for the first of them."""
    known: list[Array] = []  # the cotangent, and what was made of it

    def value(g: Array) -> Array:
        if not known or known[0] is not g:
            known[:] = g, f(g)
        return known[1]

    return value
