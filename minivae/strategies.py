"""Strategies of hypothesis for what ops are given: shapes, arrays in any memory layout, axes, indices.

Values are drawn by NumPy from a seed that hypothesis draws: examples are quick to make, they shrink in their shapes,
and none depends on what floats hypothesis likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivae.backend import Array

Strategy = st.SearchStrategy[Any]
LAYOUTS = ("contiguous", "transposed", "strided", "reversed", "read-only")


def shapes(min_dims: int = 0, max_dims: int = 3, max_side: int = 4, empty: bool = True) -> Strategy:
    """Shapes, of 0-d and (unless empty is False) of zero-size arrays too."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=0 if empty else 1, max_side=max_side)


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Any = None,
    low: float = -3.0,
    high: float = 3.0,
    away_from: Sequence[float] = (),
    distinct: bool = False,
    dtype: Any = np.float64,
    layouts: Sequence[str] = LAYOUTS,
) -> Array:
    """Arrays of numbers between low and high, in any memory layout.

    shape: a shape or a strategy; any by default. away_from: kinks, from which values keep 0.1; ValueError where they
    leave nothing between low and high.
    distinct: no two values are closer than 1 / size, in random order (for max and its kin).
    """
    shape = draw(shapes()) if shape is None else draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = int(np.prod(shape))
    x = _between(low, high, away_from)(rng.permutation(np.linspace(0, 1, n)) if distinct else rng.uniform(size=n))
    x = x.reshape(shape)
    return laid_out(np.asarray(x, dtype), draw(st.sampled_from(list(layouts))))


def _between(low: float, high: float, away_from: Sequence[float]) -> Callable[[Array], Array]:
    """The map, in order, of [0, 1] to the numbers between low and high that keep away from the kinks."""
    margin = 0.1 + 1e-6  # float32 rounds
    kinks = np.sort(np.asarray(away_from, np.float64))
    starts = np.maximum([low, *(kinks + margin)], low)
    lengths = np.maximum(np.minimum([*(kinks - margin), high], high) - starts, 0)
    if high > low and not lengths.any():
        raise ValueError(f"arrays: nothing between {low} and {high} keeps 0.1 from each of {list(away_from)}.")
    if high > low:
        starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    ends = np.cumsum(lengths)

    def there(t: Array) -> Array:
        along = t * ends[-1]
        piece = np.minimum(np.searchsorted(ends, along), len(ends) - 1)
        return starts[piece] + np.minimum(along - (ends - lengths)[piece], lengths[piece])

    return there


def laid_out(x: Array, layout: str) -> Array:
    """An array of the same values in another memory layout, one of LAYOUTS."""
    if layout == "transposed":
        return x.T.copy().T
    if layout == "strided":
        wide = np.zeros((*x.shape, 2), x.dtype)
        wide[..., 1] = x
        return wide[..., 1]
    if layout == "reversed" and x.ndim:
        return x[::-1].copy()[::-1]
    x = x.copy()
    x.flags.writeable = layout != "read-only"
    return x


@st.composite
def broadcastable(draw: st.DrawFn, /, n: int = 2, **options: Any) -> list[Array]:
    """A list of n arrays whose shapes broadcast together. options: of `arrays`."""
    drawn = draw(hnp.mutually_broadcastable_shapes(num_shapes=n, min_dims=0, max_dims=3, min_side=0, max_side=4))
    return [draw(arrays(shape, **options)) for shape in drawn.input_shapes]


def axes(ndim: int) -> Strategy:
    """An axis of an array of ndim dimensions, positive or negative, several, or None."""
    some: list[Strategy] = [st.none()]
    if ndim:
        some += [st.integers(-ndim, ndim - 1), hnp.valid_tuple_axes(ndim, min_size=1)]
    return st.one_of(some)


def indices(shape: tuple[int, ...]) -> Strategy:
    """An index of an array of this shape: slices, integers, None, Ellipsis, integer arrays or a boolean mask."""
    some: list[Strategy] = [hnp.basic_indices(shape, allow_newaxis=True), hnp.arrays(np.bool_, shape)]
    if shape and all(shape):
        some.append(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    return st.one_of(some)
