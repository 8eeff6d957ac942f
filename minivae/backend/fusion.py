"""Elementwise functions in one go: `fuse`.

    @fuse
    def decayed(xp, w, g, rate):
        return w - rate * g

    decayed(xp, w, g, 0.1)              a new array
    decayed(xp, w, g, 0.1, out=(w,))    in place

The function is written once, with `xp` and operators, for arrays of one shape, 0-d arrays and numbers. NumPy alone
would pass over memory once for each operator, with an array between each two. Here the function is traced (trace.py),
and then

- on NumPy its steps run over pieces that stay in a core's cache, with `out=` scratch arrays of that size;
- on CuPy one kernel does it all, from C code that is made of the same steps.

Operands of several shapes, or small ones, are left to the function itself: it gives the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minivae.backend.trace import C, Constant, Step, numpy_function, trace

SMALL = 1 << 12  # entries below which a piece is all there is
PIECE = 1 << 15  # entries of a piece: 128 KB in float32
TYPES = {"float32": "float", "float64": "double", "bool": "bool", "int32": "int", "int64": "long long"}
NUMBER = "number"  # the kind of a Python number; other kinds are names of dtypes, with SCALAR for a 0-d array
SCALAR = " scalar"

FUSED: dict[str, Fused] = {}  # by name, for the tests that compile each


class Fused:
    """An elementwise function of (xp, *operands). See the module."""

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = function.__name__.strip("_")
        self.programs: dict[Any, Program] = {}
        FUSED[self.name] = self

    def __call__(self, xp: Any, *operands: Any, out: tuple[Any, ...] | None = None) -> Any:
        return xp.fused(self, operands, out)

    def plain(self, xp: Any, operands: Sequence[Any], out: tuple[Any, ...] | None) -> Any:
        """By the function itself."""
        results = self.function(xp, *operands)
        if out is None:
            return results
        for target, result in zip(out, results if isinstance(results, tuple) else (results,), strict=True):
            target[...] = result
        return out if isinstance(results, tuple) else out[0]

    def program(self, kinds: tuple[str, ...], replaced: tuple[int | None, ...]) -> Program:
        """For operands of these kinds. replaced: the operand that each given `out` is, if it is one."""
        key = kinds, replaced
        if key not in self.programs:
            self.programs[key] = Program(self.name, self.function, kinds, replaced)
        return self.programs[key]


fuse = Fused


def kind(operand: Any) -> str:
    """What a program must know of an operand."""
    if isinstance(operand, int | float):
        return NUMBER
    return operand.dtype.name if operand.ndim else operand.dtype.name + SCALAR  # type: ignore[no-any-return]


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
    arrays = [a for a in operands if not isinstance(a, int | float) and a.ndim]
    if not arrays:
        return None
    first = arrays[0]
    shape = first.shape
    if any(a.shape != shape for a in arrays):
        return None
    order = None
    if not all(a.flags.c_contiguous for a in arrays):
        order = tuple(sorted(range(first.ndim), key=lambda i: (-first.strides[i], i)))
        arrays = [a.transpose(order) for a in arrays]
        if not all(a.flags.c_contiguous for a in arrays):
            return None
    flat = iter([a.reshape(-1) for a in arrays])
    return Layout([a if isinstance(a, int | float) or not a.ndim else next(flat) for a in operands], shape, order)


class Program:
    """The steps of a function for operands of given kinds.

    kinds: of every value, operands first. results: the values that are returned. dtypes: of the results.
    kernel: what the device made of it.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], kinds: tuple[str, ...], replaced: tuple[int | None, ...]
    ):
        self.name = name
        self.kernel: Any = None
        self.steps, self.results, self.many = trace(function, len(kinds))
        self.operands = len(kinds)
        self.replaced = replaced
        self.kinds = [*kinds]
        examples: list[Any] = [1.0 if k == NUMBER else np.ones((), k.removesuffix(SCALAR)) for k in kinds]
        for step in self.steps:
            examples.append(self._value(step, examples))
            self.kinds.append(NUMBER if isinstance(examples[-1], float) else examples[-1].dtype.name)
        self.dtypes = [self.kinds[i].removesuffix(SCALAR) for i in self.results]
        self._plan()

    @staticmethod
    def _value(step: Step, values: Sequence[Any]) -> Any:
        """A step's value; a Python number where all that it takes are: those promote nothing."""
        args = [a.number if isinstance(a, Constant) else values[a] for a in step.args]
        with np.errstate(all="ignore"):
            value = numpy_function(step.name)(*args)
        return float(value) if all(isinstance(a, int | float) for a in args) else np.asarray(value)

    def _plan(self) -> None:
        """Where each value of a piece lies: in a result, or in scratch that is used again once it was read last."""
        last = {a: i for i, step in enumerate(self.steps) for a in step.args if isinstance(a, int)}
        self.scratch: list[str] = []  # dtypes
        free: dict[str, list[int]] = {}
        self.places: list[tuple[str, int]] = []  # of the steps' values
        homes: dict[int, int] = {}
        for n, result in enumerate(self.results):
            old = self.replaced[n] if self.replaced else None
            # nothing may be written over an operand that a later step reads
            if (
                result >= self.operands
                and result not in homes
                and (old is None or last.get(old, -1) <= result - self.operands)
            ):
                homes[result] = n
        for i, step in enumerate(self.steps):
            value = self.operands + i
            dead = [a for a in dict.fromkeys(step.args) if isinstance(a, int) and last[a] == i and a >= self.operands]
            released = [self.places[a - self.operands] for a in dead if a not in homes]
            if step.name != "where":  # it writes before it has read all
                self._release(free, released)
            if self.kinds[value] == NUMBER:
                self.places.append(("number", i))
            elif value in homes:
                self.places.append(("result", homes[value]))
            else:
                dtype = self.kinds[value]
                if not free.get(dtype):
                    self.scratch.append(dtype)
                    free.setdefault(dtype, []).append(len(self.scratch) - 1)
                self.places.append(("scratch", free[dtype].pop()))
            if step.name == "where":
                self._release(free, released)
        self.copies = [(n, result) for n, result in enumerate(self.results) if homes.get(result) != n]

    def _release(self, free: dict[str, list[int]], places: list[tuple[str, int]]) -> None:
        for where, index in places:
            if where == "scratch":
                free.setdefault(self.scratch[index], []).append(index)

    def run(self, operands: Sequence[Any], results: Sequence[Any], start: int, stop: int) -> None:
        """Compute the flat results from start to stop, piece by piece, on NumPy."""
        size = min(PIECE, stop - start)
        scratch = [np.empty(size, dtype) for dtype in self.scratch]
        functions = [numpy_function(step.name) for step in self.steps]
        numbers: list[Any] = [a if isinstance(a, int | float) else None for a in operands]
        for step in self.steps:  # those of numbers alone are the same for all pieces
            constant = all(isinstance(a, Constant) or numbers[a] is not None for a in step.args)
            numbers.append(self._value(step, numbers) if constant else None)
        for i in range(start, stop, PIECE):
            n = min(PIECE, stop - i)
            outs = [a[i : i + n] for a in results]
            values = [a if isinstance(a, int | float) or not a.ndim else a[i : i + n] for a in operands]
            for k, (step, function, (where, index)) in enumerate(zip(self.steps, functions, self.places, strict=True)):
                if where == "number":
                    values.append(numbers[self.operands + k])
                    continue
                args = [values[a] if isinstance(a, int) else a.number for a in step.args]
                values.append(function(*args, outs[index] if where == "result" else scratch[index][:n]))
            for k, result in self.copies:
                outs[k][...] = values[result]

    def source(self) -> str:
        """The same as a kernel in C: a thread takes each entry that is a multiple of the grid's size away."""
        parameters, loads = [], []
        for i, k in enumerate(self.kinds[: self.operands]):
            if k == NUMBER:
                parameters.append(f"double v{i}")
            else:
                c = TYPES[k.removesuffix(SCALAR)]
                parameters.append(f"const {c}* a{i}")
                loads.append(f"const {c} v{i} = a{i}[{'0' if k.endswith(SCALAR) else 'i'}];")
        parameters += [f"{TYPES[dtype]}* r{n}" for n, dtype in enumerate(self.dtypes)] + ["long long n"]
        body = loads + [self._line(i) for i in range(len(self.steps))]
        body += [f"r{n}[i] = v{result};" for n, result in enumerate(self.results)]
        lines = "\n        ".join(body)
        return f"""extern "C" __global__ void {self.name}({", ".join(parameters)}) {{
    long long step = blockDim.x * (long long) gridDim.x;
    for (long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x; i < n; i += step) {{
        {lines}
    }}
}}
"""

    def _line(self, index: int) -> str:
        """A step in C, every argument cast to what NumPy computes in."""
        step, value = self.steps[index], self.operands + index
        kinds = [self.kinds[a].removesuffix(SCALAR) for a in step.args if isinstance(a, int)]
        typed = [k for k in kinds if k not in (NUMBER, "bool")]
        dtype = np.result_type(*typed).name if typed else self.kinds[value]
        c = TYPES.get(dtype, "double")
        made = TYPES.get(self.kinds[value], "double")

        def argument(position: int, a: int | Constant) -> str:
            if (step.name == "where" and position == 0) or step.name.startswith("logical"):
                return f"v{a}"
            return f"(({c}) {f'v{a}' if isinstance(a, int) else literal(a.number)})"

        expression = C[step.name].format(*(argument(i, a) for i, a in enumerate(step.args)))
        return f"const {made} v{value} = {expression};"


def literal(number: float) -> str:
    """A number in C."""
    if number != number:
        return "NAN"
    if number in (float("inf"), float("-inf")):
        return "INFINITY" if number > 0 else "-INFINITY"
    return repr(float(number))
