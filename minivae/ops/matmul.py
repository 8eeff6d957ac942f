"""Products of matrices. Everything heavy is one large 2-D product: BLAS is fastest there."""

from __future__ import annotations

import math
from typing import Any

from minivae.backend import Array
from minivae.graph import Into
from minivae.ops.affine import activated, once
from minivae.tensor import op


@op
def matmul(xp: Any, a: Array, b: Array) -> Any:
    """a @ b: vectors, matrices, and stacks of matrices whose leading axes broadcast.

    a (..., n, k) or (k,), b (..., k, m) or (k,). A vector is a matrix of one row (a) or column (b).
    """
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not match: the last axis of a must be b's first.")
    A = a[None, :] if a.ndim == 1 else a
    B = b[:, None] if b.ndim == 1 else b

    def matrix(g: Array) -> Array:
        """The cotangent with the axes that the vectors lack."""
        g = xp.expand_dims(g, -1) if b.ndim == 1 else g
        g = xp.expand_dims(g, -2) if a.ndim == 1 else g
        return xp.ascontiguousarray(g) if 0 in g.strides else g  # BLAS takes no broadcast views

    def da(g: Array) -> Array:
        d = _product(xp, matrix(g), xp.swapaxes(B, -1, -2))
        return d[..., 0, :] if a.ndim == 1 else d

    def db(g: Array) -> Array:
        G = matrix(g)
        return xp.matmul(_rows(A).T, _rows(G)).reshape(b.shape) if B.ndim == 2 else xp.matmul(xp.swapaxes(A, -1, -2), G)

    y = _product(xp, A, B)
    y = y[..., 0] if b.ndim == 1 else y
    return (y[..., 0, :] if b.ndim > 1 else y[..., 0]) if a.ndim == 1 else y, (da, db)


def _product(xp: Any, a: Array, b: Array) -> Array:
    """a @ b; with a single matrix b, the stack of a is folded into one matrix."""
    if b.ndim > 2 or a.ndim == 2:
        return xp.matmul(a, b)
    return xp.matmul(_rows(a), b).reshape(*a.shape[:-1], b.shape[-1])


def _rows(a: Array) -> Array:
    """A stack of matrices as one matrix of all of their rows."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


@op
def linear(xp: Any, x: Array, weight: Array, bias: Array | None = None, activation: Any = None) -> Any:
    """x weight^T + bias: x (..., in), weight (out, in), bias (out,); the result is (..., out).

    activation: of that sum in the same pass, as arrays know it: ops.relu.forward.
    """
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x of shape {x.shape} does not fit a weight of shape {weight.shape}: "
            f"its last axis must be the weight's second."
        )
    rows = _rows(x)
    y, da = activated(xp, xp.matmul(rows, weight.T), bias, activation)
    d = once(lambda g: da(_rows(xp.ascontiguousarray(g))))
    return y.reshape(*x.shape[:-1], weight.shape[0]), (
        lambda g: xp.matmul(d(g), weight).reshape(x.shape),
        Into(lambda g, out: xp.matmul(d(g).T, rows, out=out)),
        lambda g: xp.column_sums(d(g)),
    )


@op
def einsum(xp: Any, subscripts: str, *operands: Array) -> Any:
    """Einstein's summation, as in NumPy: letters that the result lacks are summed over.

    The gradient of an operand is again one: of the cotangent and the other operands.
    """
    inputs, output = _explicit(subscripts, operands)

    def vjp(i: int) -> Any:
        a, letters = operands[i], inputs[i]
        others = [(s, o) for j, (s, o) in enumerate(zip(inputs, operands, strict=True)) if j != i]
        unique = "".join(dict.fromkeys(letters))
        known = "".join(c for c in unique if c in output or any(c in s for s, _ in others))

        def da(g: Array) -> Array:
            d = xp.einsum(
                ",".join([output, *(s for s, _ in others)]) + "->" + known, g, *(o for _, o in others), optimize=True
            )
            lengths = dict(zip(letters, a.shape, strict=True))
            d = d.reshape([d.shape[known.index(c)] if c in known else 1 for c in unique])
            d = xp.broadcast_to(d, [lengths[c] if n == 1 else n for n, c in zip(d.shape, unique, strict=True)])
            if unique == letters:
                return d
            stretched = tuple(k for k, c in enumerate(unique) if lengths[c] == 1)
            d = xp.sum(d, axis=stretched, keepdims=True)
            total = xp.zeros(a.shape, d.dtype)  # a repeated letter takes a diagonal: write to that view
            xp.einsum(letters + "->" + unique, total)[...] = d
            return total

        return da

    y = xp.einsum(",".join(inputs) + "->" + output, *operands, optimize=True)
    return y, (None, *(vjp(i) for i in range(len(operands))))


def _explicit(subscripts: str, operands: tuple[Array, ...]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with '->' and '...' written out."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise ValueError(f"einsum: '{subscripts}' names {len(inputs)} operands, but {len(operands)} are given.")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in subscripts]
    rest = [a.ndim - len(s.replace("...", "")) for s, a in zip(inputs, operands, strict=True) if "..." in s]
    hidden = "".join(free[: max(rest, default=0)])
    if not arrow:
        letters = sorted(set(left) - set(",."))
        output = ("..." if "..." in left else "") + "".join(c for c in letters if left.count(c) == 1)
    for i, (s, a) in enumerate(zip(inputs, operands, strict=True)):
        n = a.ndim - len(s.replace("...", ""))
        if n < 0 or (n and "..." not in s):
            raise ValueError(f"einsum: '{s}' in '{subscripts}' does not fit an operand of shape {a.shape}.")
        inputs[i] = s.replace("...", hidden[len(hidden) - n :])
    return inputs, output.replace("...", hidden)
