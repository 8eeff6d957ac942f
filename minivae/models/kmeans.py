"""k-means: centres that make the mean squared distance of vectors to the nearest one small."""

from __future__ import annotations

from typing import Any, NamedTuple

from minivae import backend
from minivae.backend import Array
from minivae.errors import InputError
from minivae.ops.quantize import nearest


class KMeans(NamedTuple):
    """centres (k, D); indices (M,), the centre of each vector; distortions: before each step, and at the end."""

    centres: Array
    indices: Array
    distortions: list[float]


def kmeans(x: Array, k: int, rng: Any = None, iterations: int = 10) -> KMeans:
    """k centres for the vectors x (M, D): seeded by k-means++, then at most so many of Lloyd's steps, until one changes
    no index.

    A step moves each centre to the mean of the vectors for which it is the nearest; one that has none stays.
    Neither part of it increases the distortion, the mean of (x - centre)^2 over all entries.
    [Arthur & Vassilvitskii 2007; Lloyd 1982]
    """
    if x.ndim != 2 or not 1 <= k <= len(x):
        raise InputError(
            f"k-means of {k} codes needs vectors (M, D), at least one code and at least as many vectors, not x of "
            f"shape {x.shape}: use fewer codes or more vectors."
        )
    xp = backend.of(x)
    centres = seeds(x, k, rng)
    indices = nearest(x, centres)
    distortions = [_distortion(x, centres, indices)]
    for _ in range(iterations):
        counts, sums = clusters(x, indices, k)
        counts = xp.expand_dims(counts, 1)
        centres = xp.where(counts > 0, sums / xp.maximum(counts, 1).astype(x.dtype), centres)
        before, indices = indices, nearest(x, centres)
        distortions.append(_distortion(x, centres, indices))
        if bool((indices == before).all()):
            break
    return KMeans(centres, indices, distortions)


def seeds(x: Array, k: int, rng: Any = None) -> Array:
    """k of the vectors x (M, D): the first any, each next one with probability in proportion to its squared
    distance from the nearest that is chosen already (k-means++)."""
    xp = backend.of(x)
    chosen = xp.empty((k, x.shape[1]), dtype=x.dtype)
    squares = xp.ones(len(x), dtype=x.dtype)
    for i in range(k):
        chosen[i : i + 1] = x[sample(squares, 1, rng)]
        far = xp.sum((x - chosen[i]) ** 2, axis=1)
        squares = xp.minimum(squares, far) if i else far
    return chosen


def sample(weights: Array, n: int, rng: Any = None) -> Array:
    """n indices (n,), each drawn with probability in proportion to the weights (M,), which are at least 0."""
    xp = backend.of(weights)
    cumulative = xp.cumsum(weights, dtype=xp.float64)
    drawn = (rng or xp.rng).random(n) * cumulative[-1]
    # where all weights are 0, the last
    return xp.minimum(xp.searchsorted(cumulative, drawn, side="right"), len(weights) - 1)


def clusters(x: Array, indices: Array, k: int) -> tuple[Array, Array]:
    """How many vectors each of k codes has, (k,), and their sums, (k, D)."""
    xp = backend.of(x)
    sums = xp.zeros((k, x.shape[1]), dtype=x.dtype)
    xp.scatter_add(sums, indices, x)
    return xp.count(indices, k), sums


def _distortion(x: Array, centres: Array, indices: Array) -> float:
    return float(((x - centres[indices]) ** 2).mean())
