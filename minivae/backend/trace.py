"""What an elementwise function computes, as a list of steps: found by calling it once with symbols.

    def softplus(xp, a):                        steps of its trace:  1 = absolute(0)
        return xp.log1p(xp.exp(-xp.abs(a)))                          2 = negative(1), 3 = exp(2), 4 = log1p(3)

Value 0, 1, ... are the operands, and each step makes the next one. From the steps NumPy can work through an array in
pieces that stay in the cache, and C code can be written, of which a GPU makes one kernel (see fusion.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# what a step may be: NumPy's name, and the same in C
C: dict[str, str] = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "absolute": "fabs({})",
    "sign": "({0} > 0) - ({0} < 0)",
    "maximum": "({0} > {1} || {0} != {0}) ? {0} : {1}",  # a NaN stays one, as in NumPy
    "minimum": "({0} < {1} || {0} != {0}) ? {0} : {1}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "equal": "{} == {}",
    "logical_and": "{} && {}",
    "logical_or": "{} || {}",
    "logical_not": "!{}",
    "where": "{} ? {} : {}",
    "sqrt": "sqrt({})",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "log": "log({})",
    "log1p": "log1p({})",
    "tanh": "tanh({})",
    "erfc": "erfc({})",
}
SHORT = {"abs": "absolute", "true_divide": "divide"}


class Step(NamedTuple):
    """One function of NumPy. args: values by their number, in a list of one, or Python numbers."""

    name: str
    args: tuple[int | Constant, ...]


class Constant(NamedTuple):
    """A number that stands in the function."""

    number: float


class Symbol:
    """A value that is not there yet."""

    __array_ufunc__ = None

    def __init__(self, trace: Trace, index: int):
        self.trace = trace
        self.index = index

    def __bool__(self) -> bool:
        raise TypeError("a fused function cannot branch on a value: use xp.where.")


class Trace:
    """Stands for the array library while a function is traced: what is called is written down."""

    def __init__(self, operands: int):
        self.operands = operands
        self.steps: list[Step] = []
        self.special = self

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        name = SHORT.get(name, name)
        if name not in C:
            raise AttributeError(f"a fused function cannot call '{name}': it is elementwise and of {', '.join(C)}.")
        return lambda *args: self.record(name, *args)

    def record(self, name: str, *args: Any) -> Symbol:
        """The next value: a function of symbols and numbers."""
        refs = tuple(a.index if isinstance(a, Symbol) else Constant(a) for a in args)
        self.steps.append(Step(name, refs))
        return Symbol(self, self.operands + len(self.steps) - 1)


def trace(function: Callable[..., Any], operands: int) -> tuple[list[Step], tuple[int, ...], bool]:
    """The steps of function(xp, *operands), the values that it returns, and whether it returned a tuple."""
    recorder = Trace(operands)
    returned = function(recorder, *(Symbol(recorder, i) for i in range(operands)))
    results = returned if isinstance(returned, tuple) else (returned,)
    return recorder.steps, tuple(r.index for r in results), isinstance(returned, tuple)


def numpy_function(name: str) -> Callable[..., Any]:
    """The function of a step, which takes its result's array as last argument."""
    if name == "where":
        return _where
    if name == "erfc":
        from scipy.special import erfc  # only now: SciPy takes a tenth of a second

        return erfc  # type: ignore[no-any-return]
    return getattr(np, name)  # type: ignore[no-any-return]


def _where(condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    if out is None:
        return np.where(condition, a, b)
    np.copyto(out, b)
    np.copyto(out, a, where=condition)
    return out


def _operator(name: str, reflected: bool = False) -> Callable[..., Symbol]:
    def apply(self: Symbol, *other: Any) -> Symbol:
        return self.trace.record(name, *((*other, self) if reflected else (self, *other)))

    return apply


for _symbol, _name in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
}.items():  # fmt: skip
    setattr(Symbol, f"__{_symbol}__", _operator(_name))
    setattr(Symbol, f"__r{_symbol}__", _operator(_name, reflected=True))
for _symbol, _name in {
    "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal", "eq": "equal", "neg": "negative",
    "abs": "absolute", "and": "logical_and", "or": "logical_or", "invert": "logical_not",
}.items():  # fmt: skip
    setattr(Symbol, f"__{_symbol}__", _operator(_name))
