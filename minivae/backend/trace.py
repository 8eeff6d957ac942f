"""What an elementwise function computes, as a list of steps: found by calling it once with symbols.

    def softplus(xp, a):                        steps of its trace:  1 = absolute(0)
        return xp.log1p(xp.exp(-xp.abs(a)))                          2 = negative(1), 3 = exp(2), 4 = log1p(3)

Value 0, 1, ... are the operands, and each step makes the next one. From the steps NumPy can work through an array in
pieces that stay in the cache, and C code can be written, of which a GPU makes one kernel (see fusion.py).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# what a step may be: NumPy's name, and the same in C
C: dict[str, str] = {
    "copy": "{}",  # of a value that is returned as it came
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
    "isfinite": "{0} - {0} == 0",
    "where": "{} ? {} : {}",
    "sqrt": "sqrt({})",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "log": "log({})",
    "log1p": "log1p({})",
    "tanh": "tanh({})",
    "erfc": "erfc({})",
}
PIECE = 1 << 15  # entries of the pieces in which NumPy works through large arrays: 128 KB in float32
SHORT = {"abs": "absolute", "true_divide": "divide"}


class Constant(NamedTuple):
    """A number that stands in the function."""

    number: float


class Step(NamedTuple):
    """One function of NumPy. args: values by their number, or numbers. written: as an operator, not a function."""

    name: str
    args: tuple[int | Constant, ...]
    written: bool = False


class Symbol:
    """A value that is not there yet."""

    __array_ufunc__ = None

    def __init__(self, trace: Trace, index: int):
        self.trace = trace
        self.index = index

    def __bool__(self) -> bool:
        raise TypeError("a fused function cannot branch on a value: use xp.where.")

    def _in_place(self, other: Any) -> None:
        raise TypeError("a fused function cannot change a value: write a = a + b instead of a += b.")

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __iand__ = __ior__ = _in_place


class Trace:
    """Stands for the array library while a function is traced: what is called is written down."""

    def __init__(self, operands: int):
        self.operands = operands
        self.steps: list[Step] = []

    @property
    def special(self) -> Trace:
        """xp.special: no other attribute, as a reference to itself would keep it from being freed."""
        return self

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        name = SHORT.get(name, name)
        if name not in C:
            raise AttributeError(f"a fused function cannot call '{name}': it is elementwise and of {', '.join(C)}.")
        return lambda *args: self.record(name, *args)

    def record(self, name: str, *args: Any, written: bool = False) -> Symbol:
        """The next value: a function of symbols and numbers."""
        for a in args:
            if type(a) not in (Symbol, float, int, bool):
                raise TypeError(f"a fused function cannot use a {type(a).__name__}: take float() of it, or an operand.")
        refs = tuple(a.index if isinstance(a, Symbol) else Constant(a) for a in args)
        self.steps.append(Step(name, refs, written))
        return Symbol(self, self.operands + len(self.steps) - 1)


def trace(function: Callable[..., Any], operands: int) -> tuple[list[Step], tuple[int, ...], bool]:
    """The steps of function(xp, *operands), the values that it returns, and whether it returned a tuple.

    Every value that is returned is a step's, and no two are the same: a copy, where need be.
    """
    recorder = Trace(operands)
    returned = function(recorder, *(Symbol(recorder, i) for i in range(operands)))
    results: list[int] = []
    for r in returned if isinstance(returned, tuple) else (returned,):
        if not isinstance(r, Symbol):
            raise TypeError(f"a fused function returns arrays that it made of its operands, not a {type(r).__name__}.")
        own = r.index >= operands and r.index not in results
        results.append(r.index if own else recorder.record("copy", r).index)
    return recorder.steps, tuple(results), isinstance(returned, tuple)


def numpy_function(name: str) -> Callable[..., Any]:
    """The function of a step, which takes an array for its result as `out`."""
    if name in ("where", "copy"):
        return _where if name == "where" else _copy
    if name == "erfc":
        from scipy.special import erfc  # only now: SciPy takes a tenth of a second

        return erfc  # type: ignore[no-any-return]
    return getattr(np, name)  # type: ignore[no-any-return]


def _copy(a: Any, out: Any = None) -> Any:
    if out is None:
        return np.array(a)
    np.copyto(out, a)
    return out


def _where(condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    return _copy(np.where(condition, a, b), out) if out is not None else np.where(condition, a, b)


def blend(condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    """`where` for a or b of one floating dtype: their bits as whole numbers, b ^ ((a ^ b) * condition).

    np.where takes a branch for each entry, which a processor guesses wrongly every other time where the condition is
    a matter of chance: this takes a fifth of the time then.
    """
    floats, bits = b.dtype, np.dtype(f"i{b.dtype.itemsize}")
    a, b = a.view(bits), b.view(bits)
    if not b.ndim and not b:
        return np.multiply(a, condition, None if out is None else out.view(bits)).view(floats)
    chosen = np.multiply(np.bitwise_xor(a, b), condition)
    return np.bitwise_xor(chosen, b, None if out is None else out.view(bits)).view(floats)


def against(ufunc: Callable[..., Any], number: Any) -> Callable[..., Any]:
    """`maximum` or `minimum` of an array and a number, a 0-d array, which is written out as long as a piece: NumPy
    compares two arrays five times faster than one with a number. To the same bits, in the same order in memory.
    """
    row = np.full(PIECE, number)

    def extremum(a: Any, number: Any, out: Any = None) -> Any:
        if a.size <= PIECE and a.flags.c_contiguous:
            number = row[: a.size].reshape(a.shape)
        return ufunc(a, number, out=out)

    return extremum


def _operator(name: str, reflected: bool = False) -> Callable[..., Symbol]:
    def apply(self: Symbol, *other: Any) -> Symbol:
        args = (*other, self) if reflected else (self, *other)
        return self.trace.record(name, *args, written=True)

    return apply


# a symbol's operators, and what they are to Python's own numbers
OPERATORS: dict[str, tuple[str, Callable[..., Any]]] = {
    "add": ("add", operator.add), "sub": ("subtract", operator.sub), "mul": ("multiply", operator.mul),
    "truediv": ("divide", operator.truediv), "neg": ("negative", operator.neg), "abs": ("absolute", operator.abs),
    "gt": ("greater", operator.gt), "ge": ("greater_equal", operator.ge), "lt": ("less", operator.lt),
    "le": ("less_equal", operator.le), "eq": ("equal", operator.eq), "and": ("logical_and", operator.and_),
    "or": ("logical_or", operator.or_), "invert": ("logical_not", operator.invert),
}  # fmt: skip
ON_NUMBERS = dict(OPERATORS.values())
for _symbol, (_name, _) in OPERATORS.items():
    setattr(Symbol, f"__{_symbol}__", _operator(_name))
    if _symbol in ("add", "sub", "mul", "truediv"):
        setattr(Symbol, f"__r{_symbol}__", _operator(_name, reflected=True))
