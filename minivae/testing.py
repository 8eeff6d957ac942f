"""Tools for testing ops, ours and yours: hypothesis strategies for arrays, and `check_op`, which runs every check.

    from minivae.testing import arrays, check_op

    check_op(my_softplus, arrays(away_from=[0]), oracle=lambda x: np.log1p(np.exp(x)))

Needs hypothesis (the extra `test`). The strategies stand in strategies.py.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

from minivae import backend
from minivae.backend import Array
from minivae.findings import Report
from minivae.gradcheck import gradcheck
from minivae.probe import recording
from minivae.strategies import LAYOUTS, Strategy, arrays, axes, broadcastable, indices, laid_out, shapes
from minivae.tensor import Tensor, no_grad

__all__ = (
    "LAYOUTS", "Strategy", "arrays", "axes", "broadcastable", "check_example", "check_op", "indices", "laid_out",
    "shapes",
)  # fmt: skip


def check_op(
    fn: Callable[..., Tensor],
    *arguments: Strategy,
    oracle: Callable[..., Any] | None = None,
    rtol: float = 1e-6,
    examples: int = 50,
    seed: int = 0,
) -> Report:
    """Run every check of an op on drawn arguments; raises AssertionError, with code that repeats it, if one fails.

    Returns the gradient checks of all examples in one report.

    arguments: a strategy for each argument of fn; a list of arrays fills several (as from `broadcastable`). Arrays
    become tensors; anything else is passed as it is. oracle: the same function of plain arrays, in NumPy, say.
    Checked are the value against the oracle; the gradient (`gradcheck`, with all that it looks for); that float32
    stays float32; that a strided array, or cotangent, gives what a contiguous one gives; that no_grad records
    nothing; and that backward frees the graph. The smallest failing example is the one that is reported.
    """

    total = Report(_name(fn))

    @seeded(seed)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False,
    )  # fmt: skip
    @given(st.tuples(*arguments))
    def run(drawn: tuple[Any, ...]) -> None:
        args = [a for item in drawn for a in (item if isinstance(item, list) else [item])]
        with _pasted(fn, args, oracle, rtol):
            report = check_example(fn, args, oracle, rtol)
        total.findings += report.findings
        total.entries += report.entries
        total.worst = max(total.worst, report.worst)

    run()
    return total


@recording()
def check_example(
    fn: Callable[..., Tensor], args: Sequence[Any], oracle: Callable[..., Any] | None = None, rtol: float = 1e-6
) -> Report:
    """The checks of check_op at one point, on the current backend; returns what gradcheck found."""
    xp = backend.current()
    given, args = args, [_moved(xp, a) for a in args]
    floats = [i for i, a in enumerate(args) if backend.is_array(a) and a.dtype.kind == "f"]

    def at(dtype: Any, copied: bool = False) -> tuple[Tensor, list[Tensor]]:
        """fn of these arguments, the floats as leaves of a dtype, and the leaves."""
        leaves = [
            Tensor(xp.array(a, dtype, order="C") if copied else a.astype(dtype, copy=False), True)
            for a in _of(args, floats)
        ]
        out = fn(*_with(args, floats, leaves))
        if not isinstance(out, Tensor):
            raise TypeError(f"check_op of {_name(fn)}: it returned {type(out).__name__}, not a Tensor.")
        return out, leaves

    y, _ = at(np.float64)
    value = y.numpy().copy()
    if oracle:
        copies = (a.copy() if isinstance(a, np.ndarray) else a for a in given)  # it may work in place
        expected = np.asarray(oracle(*copies))
        _require(value.shape == expected.shape, f"the shape is {value.shape}, the oracle's {expected.shape}")
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=1e-10, err_msg="the value is not the oracle's")

    report = gradcheck(lambda *ts: fn(*_with(args, floats, ts)), _of(args, floats), rtol=rtol, name=_name(fn))

    with no_grad():
        _require(not at(np.float64)[0].requires_grad, "no_grad() records a graph")
    cotangent = xp.asarray(np.random.default_rng(0).standard_normal(y.shape))

    def gradients(*how: Any, order: str = "C") -> tuple[Tensor, list[Any]]:
        """The value and the gradients; each backward pass right after its forward pass, which a layer may keep."""
        out, leaves = at(*how)
        if y.requires_grad:
            out.backward(xp.array(cotangent, out.dtype, order=order))
        return out, [leaf.grad for leaf in leaves]

    single, halves = gradients(np.float32)
    _require(single.dtype == np.float32 or y.dtype != np.float64, f"float32 inputs give {single.dtype}")
    if not y.requires_grad:
        return report

    contiguous, plain = gradients(np.float64, True)
    np.testing.assert_allclose(value, contiguous.numpy(), rtol=1e-12, atol=1e-12, err_msg="strides change the value")
    _, turned = gradients(np.float64, True, order="F")
    last, strided = gradients(np.float64)
    for i, half, a, b, c in zip(floats, halves, strided, turned, plain, strict=True):
        if half is not None and a is not None and b is not None and c is not None:
            _require(half.dtype == np.float32, f"input {i} is float32, its gradient {half.dtype}")
            _same(a, c, f"strides change the gradient of input {i}")
            _same(b, c, f"strides of the cotangent change the gradient of input {i}")
    try:
        last.backward(cotangent)
    except RuntimeError:
        pass
    else:
        raise AssertionError("a second backward() finds a graph: the first did not free it")
    _freed(fn, args, floats)
    return report


def _same(a: Array, b: Array, message: str) -> None:
    """Two gradients, but for rounding."""
    np.testing.assert_allclose(backend.to_numpy(a), backend.to_numpy(b), rtol=1e-9, atol=1e-12, err_msg=message)


def _require(condition: bool, message: str) -> None:
    """What assert does, under python -O too."""
    if not condition:
        raise AssertionError(message)


def _moved(xp: Any, value: Any) -> Any:
    """An argument with NumPy's arrays, in a tuple too, as arrays of a backend."""
    if isinstance(value, tuple):
        return tuple(_moved(xp, part) for part in value)
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def _freed(fn: Callable[..., Tensor], args: Sequence[Any], floats: list[int]) -> None:
    """Without the garbage collector, nothing keeps the inputs alive once the result is gone and fn has run again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        leaves, others = ([Tensor(a.copy(), True) for a in _of(args, floats)] for _ in range(2))
        alive = [weakref.ref(leaf.data) for leaf in leaves]
        y = fn(*_with(args, floats, leaves))
        y.backward(backend.of(y.data).ones_like(y.data))
        del leaves, y
        fn(*_with(args, floats, others))  # a layer may keep its last input
        kept = any(ref() is not None for ref in alive)
        _require(not kept, "a reference cycle, or a cache, keeps the inputs alive after backward()")
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _pasted(fn: Callable[..., Tensor], args: Sequence[Any], oracle: Any, rtol: float) -> Iterator[None]:
    """Add to a failure the code that repeats it."""
    try:
        yield
    except UnsatisfiedAssumption:  # hypothesis' assume(): draw another example
        raise
    except Exception as error:
        named = all(part.isidentifier() for part in _name(fn).split("."))
        parts = [_name(fn) if named else "fn", f"[{', '.join(map(_code, args))}]"]
        parts += ["oracle=oracle"] if oracle else []
        parts += [f"rtol={rtol}"] if rtol != 1e-6 else []
        yours = ["fn"] * (not named) + ["oracle"] * bool(oracle)
        with_your = f" (with your {' and your '.join(yours)})" if yours else ""
        raise AssertionError(
            f"{error}\n\nTo repeat it{with_your}:\n    import numpy as np\n    from numpy import inf, nan\n"
            f"    from minivae.testing import check_example, laid_out\n    check_example({', '.join(parts)})"
        ) from error


def _code(value: Any) -> str:
    """Python that makes an argument again: arrays to the last bit, in their layout."""
    if isinstance(value, tuple):
        return "(" + "".join(f"{_code(part)}, " for part in value) + ")"
    if not isinstance(value, np.ndarray):
        return repr(value)
    shape = "" if value.size else f".reshape({value.shape})"
    text = f"np.array({value.tolist()!r}, np.{value.dtype}){shape}"
    if not value.flags.writeable:
        return f"laid_out({text}, 'read-only')"
    if value.flags.c_contiguous:
        return text
    layout = "transposed" if value.flags.f_contiguous else "reversed" if value.strides[0] < 0 else "strided"
    return f"laid_out({text}, {layout!r})"


def _of(args: Sequence[Any], places: list[int]) -> list[Any]:
    return [args[i] for i in places]


def _with(args: Sequence[Any], places: list[int], values: Sequence[Any]) -> list[Any]:
    """The arguments with values in these places."""
    out = list(args)
    for i, value in zip(places, values, strict=True):
        out[i] = value
    return out


def _name(fn: Any) -> str:
    return str(getattr(fn, "__name__", fn))
