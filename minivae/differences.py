"""The derivative of a function of one number, by finite differences that know how far they can be trusted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LEVELS = 12


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


def derivative(f: Callable[[float], Any], x: float, center: Any, start: float = 1 / 64) -> Derivative:
    """f'(x) of a function of one number with an array (n,) as its value; center is f(x).

    Central differences D(h) = f'(x) + c2 h^2 + c4 h^4 + ... at h, h/4, h/16, ... are extrapolated to h = 0
    [Richardson 1911; the tableau and its error estimate: Ridders 1982]; each output keeps the entry of the
    tableau whose neighbours agree best. The step begins with start max(1, |x|) and shrinks until they agree.

    What is not smooth in f at the scale of h is noise, which a small step magnifies to noise / h. It shows in
    the second difference f(x + h) - 2 f(x) + f(x - h): that of a smooth f shrinks with h by 16, that of a kink
    by 4; where it does not shrink it is noise. And small steps can agree by rounding alone, so that a good
    estimate is not given up for a later one that contradicts it. Of an f that is rounded itself, as by a cast to
    float32, a difference tells no more than the step between its values does.
    """
    rows: list[Any] = []  # of the tableau; row l begins with D(h / 4^l)
    ups, downs, widths = [], [], []
    h = max(1.0, abs(x)) * start
    with np.errstate(all="ignore"):
        for level in range(LEVELS):
            ups.append(f(x + h))
            downs.append(f(x - h))
            widths.append((x + h) - (x - h))
            row = [(ups[-1] - downs[-1]) / widths[-1]]
            for k, old in enumerate(rows[-1] if rows else [], 1):
                row.append(row[-1] + (row[-1] - old) / (16**k - 1))
            rows.append(row)
            close = 1e-11 * np.maximum(np.abs(row[0]), 1e-3 + np.abs(center))
            if level >= 2 and np.all(_spread(rows, level, 1) <= close):
                break
            h /= 4

        bends = [np.abs(up - 2 * center + down) for up, down in zip(ups, downs, strict=True)]
        stuck = [np.zeros(center.shape)] + [np.where(b > a / 2, b, 0) for a, b in itertools.pairwise(bends)]
        stuck.append(_quantum(np.abs(np.array([ups, downs]) - center), np.abs(center)))
        noise = np.maximum.accumulate(stuck[::-1])[::-1]  # at a step: what shows at it and at smaller ones

        nothing = np.full(center.shape, np.nan)
        unknown = np.full(center.shape, np.inf)
        best = Derivative(nothing, unknown, nothing, nothing, np.zeros(center.shape, bool))
        jump = np.full(center.shape, np.inf)
        for level, (up, down, width) in enumerate(zip(ups, downs, widths, strict=True)):
            left, right = 2 * (center - down) / width, 2 * (up - center) / width
            last, jump = jump, np.abs(right - left)
            blur = (noise[level] + 1e-16 * (np.abs(up) + np.abs(down))) / width
            apart = 1e-5 * np.maximum(1, np.abs(left) + np.abs(right)) + 20 * blur
            kink = (jump > 0.3 * last) & (jump > apart)
            for k in range(1, level + 1):
                now = Derivative(rows[level][k], _spread(rows, level, k) + blur, left, right, kink)
                good = ~best.kink & (best.uncertainty < 1e-3 * np.abs(best.value))
                contradicts = np.abs(now.value - best.value) > 10 * best.uncertainty
                better = (now.uncertainty < best.uncertainty) & ~(good & contradicts)  # false where it is NaN
                best = Derivative(*(np.where(better, a, b) for a, b in zip(now, best, strict=True)))
    return best


def _spread(rows: list[Any], level: int, k: int) -> Any:
    """How far an entry of the tableau is from the two that it was made of."""
    entry = rows[level][k]
    return np.maximum(np.abs(entry - rows[level][k - 1]), np.abs(entry - rows[level - 1][k - 1]))


def _quantum(moves: Any, size: Any) -> Any:
    """The least step between the values of f where they are rounded, as by a cast to float32; else 0.

    Such an f moves to both sides, by multiples of a tiny number, and stays flat at small steps. One that is flat by
    itself, as relu is, has no such grid. moves: |f(x + h) - f(x)| at each h, and with -h; size: |f(x)|.
    """
    to_both_sides = moves[:, 0].min(axis=0) > 0
    moves = moves.reshape(-1, *size.shape)
    least, largest = np.min(np.where(moves > 0, moves, np.inf), axis=0), moves.max(axis=0)
    tiny = least <= np.minimum(1e-6 * np.maximum(size, largest), largest / 2)
    multiples = np.abs(moves / least - np.rint(moves / least)).max(axis=0) < 1e-3
    return np.where(to_both_sides & (moves == 0).any(axis=0) & tiny & multiples, least, 0.0)
