"""Masked convolution: a place of the output sees only what comes before it. [van den Oord et al. 2016a, 2016b]"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minivae import backend, ops
from minivae.nn import init
from minivae.nn.module import Module, Parameter
from minivae.tensor import Tensor, as_tensor

# Which taps a mask lets through, (dy, dx) rows and columns from the centre: reading order, or whole rows
MASKS = {
    "A": lambda dy, dx: (dy < 0) | ((dy == 0) & (dx < 0)),
    "B": lambda dy, dx: (dy < 0) | ((dy == 0) & (dx <= 0)),
    "above": lambda dy, dx: (dy < 0) & (dx == dx),
    "row": lambda dy, dx: (dy <= 0) & (dx == dx),
}


class MaskedConv2d(Module):
    """(N, in_channels, H, W) -> (N, out_channels, H, W), where a place is computed from places before it alone.

    mask, in the order in which one reads:

        "A"      the places before this one            "above"   all of the rows above
        "B"      those, and this one                   "row"     those, and this row

    kernel_size (odd, odd): the window, centred on the place. Its taps that the mask stops at the right and below are
    not stored, those that remain in the box of the others (of "A" and "B" with rows above) are held at 0. Outside
    the map are zeros. weight (out, in, rows, columns) of that box, bias (out,).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], mask: str, rng: Any = None
    ):  # fmt: skip
        if mask not in MASKS:
            raise ValueError(f"MaskedConv2d: unknown mask '{mask}': choose one of {', '.join(MASKS)}.")
        if any(k < 1 or k % 2 == 0 for k in kernel_size):
            raise ValueError(f"MaskedConv2d: kernel_size {kernel_size} must be odd, to have a centre.")
        dy, dx = np.mgrid[tuple(slice(-(k // 2), k // 2 + 1) for k in kernel_size)]
        seen = MASKS[mask](dy, dx)
        if not seen.any() or min(in_channels, out_channels) < 1:
            raise ValueError(
                f"MaskedConv2d: {in_channels} and {out_channels} channels must be at least 1, and mask '{mask}' "
                f"must leave some of the kernel {kernel_size}."
            )
        self.mask = mask
        rows, columns = (np.flatnonzero(seen.any(axis=i)) for i in (1, 0))
        self.box = ((int(dy[rows[0], 0]), int(dy[rows[-1], 0])), (int(dx[0, columns[0]]), int(dx[0, columns[-1]])))
        seen = seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self.taps = None if seen.all() else backend.current().asarray(seen.astype(np.float32))
        self.weight = Parameter(init.kaiming_uniform((out_channels, in_channels, *seen.shape), rng=rng))
        self.bias = Parameter(init.uniform((out_channels,), 1 / math.sqrt(in_channels * int(seen.sum())), rng))

    def forward(self, x: Tensor, row: int | None = None, column: int | None = None) -> Tensor:
        """The output of the whole map; or of one row of it, (N, out, 1, W), or of one place, (N, out, 1, 1)."""
        x = as_tensor(x)
        inside, border = [], []
        for size, at, (low, high) in zip(x.shape[2:], (row, column), self.box, strict=True):
            start, stop = (low, size + high) if at is None else (at + low, at + high + 1)  # what the taps touch
            first, last = min(max(start, 0), size), min(max(stop, 0), size)
            inside.append(slice(first, max(first, last)))
            outside = stop - start - max(0, last - first)
            before = min(max(0, -start), outside)
            border.append((before, outside - before))
        part = x[(slice(None), slice(None), *inside)]
        if any(any(pair) for pair in border):
            part = ops.pad(part, ((0, 0), (0, 0), *border))
        weight = self.weight if self.taps is None else self.weight * self.taps.astype(self.weight.dtype)
        y: Tensor = ops.conv2d(part, weight, self.bias)
        return y

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, {self.weight.shape[2:]}, mask={self.mask}"
