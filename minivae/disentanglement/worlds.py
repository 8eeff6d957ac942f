"""Codes whose images' factors are known, and where groups that share a factor are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from minivae.data.dataset import Array


class World(Protocol):
    """Where codes can be drawn whose images share a factor. names: the factors that vary."""

    names: tuple[str, ...]

    def draw(self, which: Array, size: int, rng: Any) -> Array:
        """Codes (size, G, D): those of group g share the value of factor which[g], an index of names, (G,)."""


class Table:
    """Groups out of codes (N, D) with factors (N,) by name: a value is drawn, then rows that have it, with
    replacement. The other factors of a group vary freely as far as they do in the table.
    """

    def __init__(self, codes: Any, factors: Mapping[str, Any]):
        self.codes, values, self.names = checked("Table", codes, factors, latents=1)
        self.rows = [np.argsort(v, kind="stable") for v in values.T]  # the rows of the value 0, then those of 1, ...
        self.counts = [np.bincount(v) for v in values.T]

    def draw(self, which: Array, size: int, rng: Any) -> Array:
        rows = np.empty((size, len(which)), int)
        for f, (order, counts) in enumerate(zip(self.rows, self.counts, strict=True)):
            groups = np.flatnonzero(which == f)
            value = rng.integers(len(counts), size=len(groups))
            start = (np.cumsum(counts) - counts)[value]
            rows[:, groups] = order[start + rng.integers(counts[value], size=(size, len(groups)))]
        return self.codes[rows]


class Renderer:
    """Groups of images made to order: the papers' protocol.

    encode: images (N, ...) -> codes (N, D). render: the index of each factor by name, (N,), -> images
    (`data.sprites.render`). sizes: how many values each factor takes.
    """

    def __init__(
        self, encode: Callable[[Array], Array], render: Callable[[dict[str, Array]], Array], sizes: Mapping[str, int]
    ):
        self.encode, self.render, self.sizes = encode, render, dict(sizes)
        self.names = tuple(name for name, size in sizes.items() if size > 1)

    def draw(self, which: Array, size: int, rng: Any) -> Array:
        factors = {name: rng.integers(values, size=(size, len(which))) for name, values in self.sizes.items()}
        for f, name in enumerate(self.names):
            factors[name][:, which == f] = factors[name][0, which == f]
        codes = np.asarray(self.encode(self.render({name: index.ravel() for name, index in factors.items()})))
        return codes.reshape(size, len(which), -1)


def checked(
    name: str, codes: Any, factors: Mapping[str, Any], latents: int = 2, rows: int = 1
) -> tuple[Array, Array, tuple[str, ...]]:
    """Codes as float64 (N, D), the factors that vary counted from 0, (N, K), and their names."""
    x = np.asarray(codes, np.float64)
    fit = all(np.shape(v) == x.shape[:1] for v in factors.values())
    if not fit or x.ndim != 2 or len(x) < rows or x.shape[1] < latents:
        shapes = ", ".join(f"{factor} {np.shape(v)}" for factor, v in factors.items())
        raise ValueError(
            f"{name} was given codes {x.shape} with the factors {shapes or 'none'}: give codes (N, D) of at least "
            f"{latents} latents and {rows} rows, and of each factor (N,) values."
        )
    if not np.isfinite(x).all():
        raise ValueError(f"{name} was given codes that are not all finite: did the training of the model diverge?")
    counted = {factor: np.unique(v, return_inverse=True)[1] for factor, v in factors.items()}
    varying = {factor: v for factor, v in counted.items() if v.max() > 0}
    if len(varying) < 2:
        raise ValueError(f"{name} was given {len(varying)} factors that vary: give at least two.")
    return x, np.stack(list(varying.values()), axis=1), tuple(varying)
