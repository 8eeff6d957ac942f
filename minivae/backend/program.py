"""The steps of a fused function for operands of given kinds: planned for NumPy, written in C for a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minivae.backend.plan import FLOATS, NUMBER, REPEATED, SCALAR, Plan, dtype_of, is_full
from minivae.backend.trace import ON_NUMBERS, C, Constant, Step, numpy_function, trace

TYPES = {"float32": "float", "float64": "double", "bool": "bool", "int32": "int", "int64": "long long"}  # in C
Over = tuple[tuple[int, ...], ...]  # for each result the operands that it is written over


class Program:
    """The steps of a function for operands of given kinds.

    kinds: of every value, operands first. results: the values that are returned, each the result of a step.
    dtypes: of the results. elementwise: whether it is so indeed: each result is an array of the operands'
    shape and dtypes do not hang on a number. repeated: the operands that repeat. kernel: what the device made of it.
    """

    def __init__(self, name: str, function: Callable[..., Any], kinds: tuple[str, ...], replaced: Over = ()):
        self.name = name
        self.kernel: Any = None
        self.steps, self.results, self.many = trace(function, len(kinds))
        if len(replaced) > len(self.results):
            raise ValueError(f"{name} has {len(self.results)} results, but out has {len(replaced)} arrays.")
        self.operands = len(kinds)
        self.kinds = [*kinds]
        examples: list[Any] = [1.0 if k == NUMBER else np.ones((), dtype_of(k)) for k in kinds]
        for step in self.steps:
            examples.append(self._value(step, examples))
            k = NUMBER if isinstance(examples[-1], int | float) else np.asarray(examples[-1]).dtype.name
            given = [self.kinds[a] for a in step.args if isinstance(a, int)]
            repeats = any(a.endswith(REPEATED) for a in given)
            full = k == NUMBER or any(map(is_full, given))
            self.kinds.append(k if full else k + (REPEATED if repeats else SCALAR))
        self.dtypes = [dtype_of(self.kinds[i]) for i in self.results]
        self.repeated = [i for i, k in enumerate(kinds) if k.endswith(REPEATED)]
        self.replaced = replaced + ((),) * (len(self.results) - len(replaced))
        self.elementwise = all(is_full(self.kinds[i]) for i in self.results) and all(map(self._sure, self.steps))
        if self.elementwise:
            self.making, self.filling = Plan(self, given=False), Plan(self, given=True)

    def fresh(self, *operands: Any) -> Any:
        """The results in new arrays, on NumPy."""
        slots = self.making.run(*operands)
        values = tuple([slots[r] for r in self.making.results])
        return values if self.many else values[0]

    def into(self, *arrays: Any) -> None:
        """For operands and then the results' arrays, on NumPy."""
        self.filling.run(*arrays)

    def in_pieces(self, arrays: Sequence[Any], pieces: Iterable[slice], times: int) -> None:
        """For flat operands and the results' arrays, slice by slice, on NumPy: see Plan.run_pieces."""
        self.filling.run_pieces(arrays, pieces, times)

    @staticmethod
    def _value(step: Step, values: Sequence[Any]) -> Any:
        args = [a.number if isinstance(a, Constant) else values[a] for a in step.args]
        function = numpy_function(step.name)
        if step.written and all(type(a) in (int, float, bool) for a in args):
            function = ON_NUMBERS[step.name]
        with np.errstate(all="ignore"):
            value = function(*args)
        return value if type(value) in (int, float, bool) else np.asarray(value)

    def _sure(self, step: Step) -> bool:
        """Whether a step's dtype is the same for all numbers: of integers and 2 it is not that of integers and 2.0."""
        kinds = [self.kinds[a] for a in step.args if isinstance(a, int)]
        return NUMBER not in kinds or all(k == NUMBER for k in kinds) or any(dtype_of(k) in FLOATS for k in kinds)

    def fits(self, out: Sequence[Any], shape: tuple[int, ...]) -> bool:
        """Whether the first results can be written to these arrays as they are."""
        return all(o.shape == shape and o.dtype == dtype for o, dtype in zip(out, self.dtypes, strict=False))

    def computed(self, index: int) -> str:
        """The dtype in which NumPy computes a step."""
        step = self.steps[index]
        args = step.args[1:] if step.name == "where" else step.args
        typed = [dtype_of(self.kinds[a]) for a in args if isinstance(a, int) and self.kinds[a] != NUMBER]
        floats = [dtype for dtype in typed if dtype != "bool"]
        numbers = [a.number for a in args if isinstance(a, Constant)]
        if not floats:
            return dtype_of(self.kinds[self.operands + index])
        return np.result_type(*map(np.dtype, floats), *numbers).name

    def source(self) -> str:
        """The same as a kernel in C: a thread takes each entry that is a multiple of the grid's size away."""
        parameters, loads = [], []
        for i, k in enumerate(self.kinds[: self.operands]):
            if k == NUMBER:
                parameters.append(f"double v{i}")
            else:
                c = TYPES[dtype_of(k)]
                parameters.append(f"const {c}* a{i}")
                loads.append(f"const {c} v{i} = a{i}[{self._entry(i)}];")
        parameters += [f"{TYPES[dtype]}* r{n}" for n, dtype in enumerate(self.dtypes)]
        parameters += ["long long period"] * bool(self.repeated) + ["long long n"]
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

    def _entry(self, operand: int) -> str:
        """Which entry of an operand a thread reads."""
        kind = self.kinds[operand]
        return "0" if kind.endswith(SCALAR) else "i % period" if kind.endswith(REPEATED) else "i"

    def _line(self, index: int) -> str:
        """A step in C, every argument cast to what NumPy computes in."""
        step, value = self.steps[index], self.operands + index
        c = TYPES.get(self.computed(index), "double")
        made = TYPES.get(dtype_of(self.kinds[value]), "double")

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
