"""Rearranging and selecting. Most vjps are the inverse rearrangement: a view of the cotangent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minivae import backend
from minivae.backend import Array
from minivae.tensor import Operand, Tensor, as_tensor, op


@op
def astype(xp: Any, a: Array, dtype: Any) -> Any:
    """The entries as another dtype. (The engine casts the gradient back; integers have none.)"""
    y = a.astype(dtype)
    return y, (None if y.dtype.kind in "iub" else lambda g: g,)


@op
def reshape(xp: Any, a: Array, shape: int | tuple[int, ...]) -> Any:
    """The same entries in another shape; one length may be -1."""
    return xp.reshape(a, shape), (lambda g: g.reshape(a.shape),)


@op
def transpose(xp: Any, a: Array, axes: tuple[int, ...] | None = None) -> Any:
    """The axes in another order; reversed by default."""
    back = None if axes is None else tuple(int(i) for i in np.argsort([i % a.ndim for i in axes]))
    return xp.transpose(a, axes), (lambda g: xp.transpose(g, back),)


@op
def swapaxes(xp: Any, a: Array, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    return xp.swapaxes(a, axis1, axis2), (lambda g: xp.swapaxes(g, axis1, axis2),)


@op
def expand_dims(xp: Any, a: Array, axis: int | tuple[int, ...]) -> Any:
    """New axes of length 1, at these places of the result."""
    return xp.expand_dims(a, axis), (lambda g: g.reshape(a.shape),)


@op
def squeeze(xp: Any, a: Array, axis: int | tuple[int, ...] | None = None) -> Any:
    """Without the axes of length 1: these, or all."""
    return xp.squeeze(a, axis), (lambda g: g.reshape(a.shape),)


@op
def broadcast_to(xp: Any, a: Array, shape: int | tuple[int, ...]) -> Any:
    """A copy stretched to a shape. (The engine sums the gradient back.)"""
    return xp.broadcast_to(a, shape).copy(), (lambda g: g,)


@op
def _concatenate(xp: Any, *arrays: Array, axis: int) -> Any:
    ends = np.cumsum([a.shape[axis] for a in arrays])

    def vjp(start: int, stop: int) -> Any:
        return lambda g: g[_along(g.ndim, axis, slice(start, stop))]

    return xp.concatenate(arrays, axis), [
        vjp(int(end) - a.shape[axis], int(end)) for a, end in zip(arrays, ends, strict=True)
    ]


def concatenate(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """Tensors joined along an axis that they have."""
    return _concatenate(*tensors, axis=axis)


@op
def _stack(xp: Any, *arrays: Array, axis: int) -> Any:
    def vjp(i: int) -> Any:
        return lambda g: g[_along(g.ndim, axis, i)]

    return xp.stack(arrays, axis), [vjp(i) for i in range(len(arrays))]


def stack(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return _stack(*tensors, axis=axis)


def split(a: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """The inverse of concatenate: equal sections, or pieces cut at the indices."""
    n = a.shape[axis]
    if isinstance(indices_or_sections, int | np.integer):
        if indices_or_sections < 1 or n % indices_or_sections:
            raise ValueError(f"split: axis {axis} of length {n} has no {indices_or_sections} equal sections.")
        cuts = [i * (n // indices_or_sections) for i in range(indices_or_sections)]
    else:
        cuts = [0, *indices_or_sections]
    a = as_tensor(a)
    parts = [a.data[_along(a.ndim, axis, slice(i, j))] for i, j in zip(cuts, [*cuts[1:], None], strict=True)]
    if sum(part.shape[axis] for part in parts) != n:
        raise ValueError(f"split: the indices {cuts[1:]} of an axis of length {n} must not descend.")
    gradients: list[Array | None] = [None] * len(parts)
    origin = _origin(a, parts, gradients, axis)
    return [_piece(origin, part, gradients, i) for i, part in enumerate(parts)]


@op
def _origin(xp: Any, a: Array, parts: list[Array], gradients: list[Array | None], axis: int) -> Any:
    """An empty tensor that stands between a and its parts: its turn is when they all have left their gradients."""

    def da(_: Array) -> Array:
        pairs = zip(parts, gradients, strict=True)
        return xp.concatenate([xp.zeros_like(part) if g is None else g for part, g in pairs], axis)

    return xp.empty(0, a.dtype), (da,)


@op
def _piece(xp: Any, origin: Array, part: Array, gradients: list[Array | None], i: int) -> Any:
    """The part without gaps in memory, so that what is computed of it can be fused."""

    def leave(g: Array) -> Array:
        gradients[i] = g
        return xp.empty(0, g.dtype)

    return part.copy("K"), (leave,)


@op
def pad(xp: Any, a: Array, pad_width: Any, constant_values: float = 0.0) -> Any:
    """A constant border: pad_width as in NumPy, one number, (before, after), or one such pair an axis."""
    widths = np.broadcast_to(pad_width, (a.ndim, 2))
    inner = tuple(slice(int(before), int(before) + n) for (before, _), n in zip(widths, a.shape, strict=True))
    return xp.pad(a, pad_width, constant_values=constant_values), (lambda g: g[inner],)


@op
def getitem(xp: Any, a: Array, index: Any) -> Any:
    """a[index]: slices, integers, None, Ellipsis, integer arrays, boolean masks."""
    parts = tuple(_plain(xp, part) for part in (index if isinstance(index, tuple) else (index,)))
    index = parts if isinstance(index, tuple) else parts[0]
    repeats = any(getattr(part, "dtype", np.dtype(bool)).kind in "iu" for part in parts)
    shape = a.shape

    def da(g: Array) -> Array:
        total = xp.zeros(shape, g.dtype)
        if repeats:  # an entry chosen twice gets both gradients
            xp.scatter_add(total, index, g)
        else:
            total[index] = g
        return total

    return a[index], (da,)


def _plain(xp: Any, part: Any) -> Any:
    """An index without tensors, lists and tuples."""
    if isinstance(part, Tensor):
        return part.data
    return xp.asarray(part, dtype=None if len(part) else int) if isinstance(part, list | tuple) else part


@op
def take(xp: Any, a: Array, indices: Any, axis: int | None = None) -> Any:
    """The entries, or the slices along axis, with these integer indices; axis=None takes from the flat a."""
    shape, size = a.shape, a.size  # a itself is not needed: a codebook may change before backward()
    indices = _plain(xp, indices)

    def da(g: Array) -> Array:
        total = xp.zeros(size if axis is None else shape, g.dtype)
        xp.scatter_add(total, indices if axis is None else _along(len(shape), axis, indices), g)
        return total.reshape(shape)

    return xp.take(a, indices, axis=axis), (da,)


@op
def flip(xp: Any, a: Array, axis: int | tuple[int, ...] | None = None) -> Any:
    """The entries in reverse along axis (all by default)."""
    return xp.flip(a, axis), (lambda g: xp.flip(g, axis),)


def repeat(a: Tensor, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each entry along axis repeated, in place; axis=None repeats the entries of the flat a."""
    n = a.size if axis is None else a.shape[axis]
    xp = backend.of(a.data if isinstance(a, Tensor) else a)
    return take(a, xp.asarray(np.repeat(np.arange(n), repeats)), axis)


def _along(ndim: int, axis: int, part: Any) -> tuple[Any, ...]:
    """The index that applies part to one axis and takes all of the others."""
    return (slice(None),) * (axis % ndim) + (part,)
