"""The steps of a fused function as calls of NumPy with scratch arrays.

    @fuse                               for arrays and a number, with an array to write to, in slots 0 to 3:
    def decayed(xp, w, g, rate):
        return w - rate * g             4 = asarray(2); 5 = multiply(4, 1); subtract(0, 5, out=3)

What a step makes goes to an array that is no longer needed, if there is one. NumPy is faster with a number as a 0-d
array than with Python's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minivae.backend.trace import ON_NUMBERS, Constant, against, blend, numpy_function

if TYPE_CHECKING:
    from minivae.backend.program import Program

FLOATS = ("float32", "float64")
NUMBER = "number"  # the kind of a Python number; other kinds are names of dtypes, with SCALAR for a 0-d array
SCALAR = " scalar"
REPEATED = " repeated"  # and this for an array that repeats
Call = Callable[[list[Any]], object]


class Plan:
    """A program as a list of calls that read and write the slots of a list.

    Slots: the operands, then the arrays to write to if they are `given`, then numbers and scratch. `once`: the calls
    about numbers, 0-d arrays and arrays that repeat alone. `body`: the others, which may be done again for piece after
    piece.
    """

    def __init__(self, program: Program, given: bool):
        self.program = program
        self.targets = range(program.operands, program.operands + given * len(program.results))
        self.blank: list[Any] = [None] * (program.operands + len(self.targets))
        self.once: list[Call] = []
        self.body: list[Call] = []
        self.places: list[int] = [*range(program.operands)]  # the slot of each value
        self.converted: dict[tuple[int, str], int] = {}  # of numbers
        self.free: dict[str, list[int]] = {}  # scratch slots by dtype
        self.scratch: set[int] = set()
        self.last = {a: i for i, step in enumerate(program.steps) for a in step.args if isinstance(a, int)}
        self.homes = self._homes() if given else {}
        for i in range(len(program.steps)):
            self._step(i)
        for target, result in zip(self.targets, program.results, strict=False):
            if self.places[result] != target:
                self.body.append(call(np.copyto, [target, self.places[result]], None, target))
        arrays = [i for i in range(program.operands) if is_full(program.kinds[i])]
        self.arrays = [*arrays, *self.targets]
        kinds, steps = program.kinds, enumerate(program.steps, program.operands)
        read = {a for i, step in steps if is_full(kinds[i]) for a in step.args if isinstance(a, int)}
        self.repeated = [self.places[a] for a in sorted(read) if kinds[a].endswith(REPEATED)]
        self.results = [self.places[r] for r in program.results]

    def run(self, *arrays: Any) -> list[Any]:
        """The slots after all calls, for operands and the arrays to write to."""
        slots = self._start(arrays)
        for step in self.body:
            step(slots)
        return slots

    def run_pieces(self, arrays: Sequence[Any], pieces: Iterable[slice], times: int) -> None:
        """The same for piece after piece of flat arrays; none ends within those that repeat, so many times over."""
        slots = self._start(arrays)
        tiled = [(i, np.tile(slots[i], times)) for i in self.repeated]
        for piece in pieces:
            for i in self.arrays:
                slots[i] = arrays[i][piece]
            for i, tile in tiled:
                start = piece.start % len(tile)
                slots[i] = tile[start : start + piece.stop - piece.start]
            for step in self.body:
                step(slots)

    def _start(self, arrays: Sequence[Any]) -> list[Any]:
        slots = [*arrays, *self.blank[len(arrays) :]]
        for step in self.once:
            step(slots)
        return slots

    def _homes(self) -> dict[int, int]:
        """The slots in which results can be made at once: over no operand that a later step reads."""
        first = self.program.operands
        return {
            r: target
            for target, r, old in zip(self.targets, self.program.results, self.program.replaced, strict=True)
            if all(self.last.get(a, -1) <= r - first for a in old)
        }

    def _step(self, index: int) -> None:
        program, step = self.program, self.program.steps[index]
        value = program.operands + index
        made, function = program.kinds[value], self._function(index)
        args = [self._argument(index, a) for a in step.args]
        if not is_full(made):
            self.places.append(self._slot(None))
            self.once.append(call(function, args, None, self.places[-1]))
            return
        for a in {a for a in step.args if isinstance(a, int)}:
            if self.last[a] == index and self.places[a] in self.scratch and a not in program.results:
                self.free.setdefault(program.kinds[a], []).append(self.places[a])
        place = self.homes.get(value) or (self.free.get(made) or [0]).pop()
        if place:
            self.body.append(call(function, args, place, place))
        else:
            place = self._slot(None)
            self.scratch.add(place)
            self.body.append(call(function, args, None, place))
        self.places.append(place)

    def _slot(self, content: Any) -> int:
        self.blank.append(content)
        return len(self.blank) - 1

    def _function(self, index: int) -> Callable[..., Any]:
        step, kinds = self.program.steps[index], self.program.kinds
        given = [kinds[a] if isinstance(a, int) else NUMBER for a in step.args]
        if step.written and all(k == NUMBER for k in given):
            return ON_NUMBERS[step.name]
        if step.name == "where" and given[0] == "bool":
            dtype = self.program.computed(index)
            if dtype in FLOATS and all(k == NUMBER or dtype_of(k) == dtype for k in given[1:]):
                return blend
        if step.name in ("maximum", "minimum") and isinstance(number := step.args[1], Constant):
            dtype = self.program.computed(index)
            first = step.args[0]
            if dtype in FLOATS and isinstance(first, int) and self.program.kinds[first] != NUMBER:
                return against(getattr(np, step.name), np.asarray(number.number, dtype))
        return numpy_function(step.name)

    def _argument(self, index: int, a: int | Constant) -> int:
        """The slot of a value or a number; of a 0-d array, if it is a number among floating arrays."""
        dtype: str = self.program.computed(index)
        convert = dtype in FLOATS and is_full(self.program.kinds[self.program.operands + index])
        if isinstance(a, Constant):
            return self._slot(np.asarray(a.number, dtype) if convert else a.number)
        if self.program.kinds[a] != NUMBER or not convert:
            return self.places[a]
        if (a, dtype) not in self.converted:
            self.converted[a, dtype] = self._slot(None)
            as_array = functools.partial(np.asarray, dtype=dtype)
            self.once.append(call(as_array, [self.places[a]], None, self.converted[a, dtype]))
        return self.converted[a, dtype]


def call(function: Callable[..., Any], args: list[int], out: int | None, to: int) -> Call:
    """slots[to] = function of the slots args, in the array of the slot out if one is given. One closure a step: no
    list of arguments is made while it runs.
    """
    if out is not None and len(args) == 1:
        (a,) = args
        return lambda v: function(v[a], out=v[out])
    if out is not None and len(args) == 2:
        a, b = args
        return lambda v: function(v[a], v[b], out=v[out])
    if out is not None:
        return lambda v: function(*[v[i] for i in args], out=v[out])

    def fresh(v: list[Any]) -> None:
        v[to] = function(*[v[i] for i in args])

    return fresh


def dtype_of(kind: str) -> str:
    """The dtype's name of a kind."""
    return kind.partition(" ")[0]


def is_full(kind: str) -> bool:
    """Whether it is the kind of an array of the full shape."""
    return kind != NUMBER and " " not in kind
