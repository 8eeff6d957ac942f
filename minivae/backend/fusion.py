"""Elementwise functions in one go: `fuse`.

    @fuse
    def decayed(xp, w, g, rate):
        return w - rate * g

    decayed(xp, w, g, 0.1)              a new array
    decayed(xp, w, g, 0.1, out=(w,))    in place; out holds arrays for the first results, the others are new

The function is written once, with `xp` and operators, for arrays of one shape, 0-d arrays and numbers. NumPy alone
would pass over memory once for each operator, with a new array between each two. Here the function is traced
(trace.py) and written out again (program.py), so that

- on NumPy its steps run over pieces that stay in a core's cache, and share arrays of that size for what is between;
- on CuPy one kernel does it all.

An array whose shape is the end of the others' repeats: a bias (C,) in each of the rows (N, C), data (N, D) for each of
K samples (K, N, D). Entry i takes its entry i % size; on NumPy it is written out once, as long as a piece. All arrays
then lie in the order of their axes: a convolution gives its channels last, as they lie in memory.

Operands of other shapes, or that lie differently, are left to the function itself: it gives the same, to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from minivae.backend.plan import NUMBER, REPEATED, SCALAR
from minivae.backend.program import TYPES, Over, Program

__all__ = [
    "FUSED",
    "NUMBER",
    "NUMBERS",
    "REPEATED",
    "SCALAR",
    "TYPES",
    "Fused",
    "Layout",
    "Program",
    "fuse",
    "kind",
    "kinds",
    "layout",
    "over",
]

NUMBERS = (float, int, bool)
FUSED: dict[str, Fused] = {}  # by name, for the tests that compile each
_kinds: dict[Any, tuple[str, str]] = {}  # of arrays and of 0-d arrays by dtype: to ask a dtype for its name is slow


class Fused:
    """An elementwise function of (xp, *operands). See the module."""

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = function.__name__.strip("_<>")
        self.programs: dict[Any, Program] = {}
        FUSED[self.name] = self

    def __call__(self, xp: Any, *operands: Any, out: tuple[Any, ...] | None = None) -> Any:
        return xp.fused(self, operands, out)

    def plain(self, xp: Any, operands: Sequence[Any], out: tuple[Any, ...] | None) -> Any:
        """By the function itself."""
        results = self.function(xp, *operands)
        if out is None:
            return results
        values = results if isinstance(results, tuple) else (results,)
        if len(values) > 1:  # one that is an operand could be written over before it is read
            values = tuple(xp.array(v) if any(v is a for a in operands) else v for v in values)
        for target, value in zip(out, values, strict=False):
            xp.copyto(target, value)  # refuses what would lose more than precision
        return (*out, *values[len(out) :]) if isinstance(results, tuple) else out[0]

    def program(self, kinds: tuple[str, ...], replaced: Over = ()) -> Program:
        """For operands of these kinds. replaced: which operands each given `out` is."""
        key = kinds, replaced
        program = self.programs.get(key)
        if program is None:
            program = self.programs[key] = Program(self.name, self.function, kinds, replaced)
        return program


fuse = Fused


def kind(operand: Any) -> str:
    """What a program must know of an operand."""
    if type(operand) in NUMBERS:
        return NUMBER
    names = _kinds.get(operand.dtype)
    if names is None:
        name = operand.dtype.name if operand.dtype.isnative else operand.dtype.str
        names = _kinds[operand.dtype] = name, name + SCALAR
    return names[not operand.shape]


def kinds(operands: Sequence[Any]) -> tuple[tuple[int, ...], tuple[str, ...]] | None:
    """The shape of the arrays of them (not the 0-d ones), and the kinds; None where one neither has it nor repeats."""
    shape: tuple[int, ...] = ()
    found, several = [], False
    for a in operands:
        found.append(kind(a))
        if type(a) not in NUMBERS and a.shape != shape and a.shape:
            several = several or bool(shape)
            shape = max(shape, a.shape, key=len)
    if several:
        for i, a in enumerate(operands):
            if type(a) not in NUMBERS and a.shape != shape and a.shape:
                if a.shape != shape[-a.ndim :]:
                    return None
                found[i] += REPEATED
        if len({a.shape for a, k in zip(operands, found, strict=True) if k.endswith(REPEATED)}) > 1:
            return None
    return (shape, tuple(found)) if shape else None


class Layout(NamedTuple):
    """Operands as flat arrays; order: the axes as they lie in memory, where this is not as they are numbered."""

    operands: list[Any]
    shape: tuple[int, ...]
    order: tuple[int, ...] | None

    def restored(self, flat: Any) -> Any:
        """A flat result in the operands' shape, and in their order in memory."""
        if self.order is None:
            return flat.reshape(self.shape)
        back = tuple(self.order.index(i) for i in range(len(self.order)))
        return flat.reshape([self.shape[i] for i in self.order]).transpose(back)


def layout(operands: Sequence[Any]) -> Layout | None:
    """The operands as flat views, if all arrays of them (not the 0-d ones) lie alike and without gaps."""
    arrays = [a for a in operands if type(a) not in NUMBERS and a.shape]
    if not arrays:
        return None
    first = max(arrays, key=lambda a: a.ndim)  # the others are of its shape, or repeat
    shape = first.shape
    order = None
    if not all(a.flags.c_contiguous for a in arrays):
        if any(a.shape != shape for a in arrays):
            return None
        order = tuple(sorted(range(first.ndim), key=lambda i: (-first.strides[i], i)))
        arrays = [a.transpose(order) for a in arrays]
        if not all(a.flags.c_contiguous for a in arrays):
            return None
    flat = iter([a.reshape(-1) for a in arrays])
    return Layout([a if type(a) in NUMBERS or not a.shape else next(flat) for a in operands], shape, order)


def over(operands: Sequence[Any], out: Sequence[Any], overlap: Callable[[Any, Any], bool]) -> Over | None:
    """Which operands each array of out is; None if one shares memory in any other way, with an operand or another."""
    found = []
    for i, target in enumerate(out):
        for a in (*operands, *out[:i]):
            if (
                type(a) not in NUMBERS
                and a is not target
                and not (a.base is None and target.base is None)
                and overlap(a, target)
            ):
                return None
        if any(a is target for a in out[:i]):
            return None
        found.append(tuple([n for n, a in enumerate(operands) if a is target]))
    return tuple(found)
