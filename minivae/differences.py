"""The derivative of a function of one number, by finite differences that know how far they can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Derivative(NamedTuple):
    """f'(x) for each output of f. kink: whether its one-sided derivatives, left and right, stay apart as h shrinks."""

    value: Any
    uncertainty: Any
    left: Any
    right: Any
    kink: Any

    def of_output(self, i: int) -> Derivative:
        """The parts for one output, as plain numbers."""
        return Derivative(*(part[i].item() for part in self))


def derivative(f: Callable[[float], Any], x: float, center: Any) -> Derivative:
    """f'(x) of a function of one number with an array (n,) as its value; center is f(x).

    Central differences D(h) = f'(x) + c2 h^2 + c4 h^4 + ... at h, h/4, h/16, ... are extrapolated to h = 0
    [Richardson 1911; the tableau and its error estimate: Ridders 1982]; each output keeps the entry of the
    tableau whose neighbours agree best. The step starts at max(1, |x|) / 64 and shrinks until they agree.
    """
    best = np.full(center.shape, np.nan)
    uncertainty = np.full(center.shape, np.inf)
    row: list[Any] = []
    sides: tuple[Any, Any] = (np.nan, np.nan)
    jump = last = None
    kink = np.zeros(center.shape, bool)
    h = max(1.0, abs(x)) / 64
    for level in range(12):
        with np.errstate(all="ignore"):
            up, down = f(x + h), f(x - h)
            width = (x + h) - (x - h)
            new = [(up - down) / width]
            improved = np.zeros(center.shape, bool)
            for k, old in enumerate(row, 1):
                new.append(new[-1] + (new[-1] - old) / (16**k - 1))
                spread = np.maximum(np.abs(new[-1] - new[-2]), np.abs(new[-1] - old))
                rounding = 1e-16 * (np.abs(up) + np.abs(down)) / width
                better = ~np.isnan(spread) & (spread + rounding < uncertainty)
                best = np.where(better, new[-1], best)
                uncertainty = np.where(better, spread + rounding, uncertainty)
                improved |= better
            left, right = (center - down) / (x - (x - h)), (up - center) / ((x + h) - x)
            last, jump = jump, np.abs(right - left)
            if last is not None:  # a smooth function's jump shrinks with h, by 4; a kink's stays
                apart = (jump > 0.3 * last) & (jump > 1e-5 * np.maximum(1, np.abs(left) + np.abs(right)))
                kink = np.where(improved, apart, kink)  # seen at the step that could be trusted most
        sides = (left, right)
        row = new
        if level >= 2 and np.all(uncertainty <= 1e-11 * np.maximum(np.abs(best), 1e-3 * (1 + np.abs(center)))):
            break
        h /= 4
    return Derivative(best, uncertainty, *sides, kink)
