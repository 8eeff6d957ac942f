"""Finite scalar quantisation. [Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple"]"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from minivae import backend, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models.quantizer import Quantizer
from minivae.tensor import Tensor, as_tensor

MOST_CODES = 1 << 53  # whose counts still have a size in 64 bits


class FSQ(Quantizer):
    """Each of len(levels) channels is bounded and rounded to one of so many levels: prod(levels) codes.

    The values lie in [-1, 1]. The first channel is the lowest digit of the index. No terms.
    """

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)):
        if not levels or min(levels) < 2:
            raise InputError(f"levels {list(levels)} of FSQ: give a channel at least, and each at least 2 levels.")
        if math.prod(levels) > MOST_CODES:
            raise InputError(f"levels {list(levels)} of FSQ make more than {MOST_CODES:,} codes: give fewer.")
        super().__init__(math.prod(levels), len(levels))
        xp = backend.current()
        self.levels = tuple(levels)
        sizes = xp.asarray(self.levels, dtype=np.float32)
        self._width = (sizes - 1) / 2
        self._offset = xp.where(sizes % 2 == 0, 0.5, 0.0).astype(np.float32)
        # moves 0 to where an even number of levels has one; for atanh(offset / width), which 2 levels make infinite
        self._shift = xp.tan(self._offset / self._width)
        self._half = sizes // 2
        places = itertools.accumulate(self.levels[:-1], operator.mul, initial=1)
        self._places = xp.asarray(list(places), dtype=np.int64)

    def bound(self, rows: Any) -> Tensor:
        """Rows (M, dim) into the interval between the outer levels: of 5 levels -2 to 2, of 8 -4 to 3."""
        bounded: Tensor = ops.tanh(as_tensor(rows) + self._shift) * self._width - self._offset
        return bounded

    def assign(self, rows: Array) -> Array:
        return self._index(backend.of(rows).rint(self.bound(rows).data))

    def vectors(self, indices: Array) -> Array:
        xp = backend.of(indices)
        digits = indices[:, None] // self._places % xp.asarray(self.levels)
        return (digits.astype(np.float32) - self._half) / self._half

    def quantize(self, rows: Tensor, rng: Any) -> tuple[Tensor, Array, Array, dict[str, Tensor]]:
        bounded = self.bound(rows)
        rounded = backend.of(rows.data).rint(bounded.data)
        squares = (((bounded.data - rounded) / self._half) ** 2).sum(axis=1)
        return ops.straight_through(bounded, rounded) / self._half, self._index(rounded), squares, {}

    def _index(self, rounded: Array) -> Array:
        return ((rounded + self._half).astype(np.int64) * self._places).sum(axis=1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
