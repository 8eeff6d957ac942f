"""Tools for testing ops, ours and yours: hypothesis strategies for arrays, and `check_op`, which runs every check.

    from minivae.testing import arrays, check_op

    check_op(my_softplus, arrays(away_from=[0]), oracle=lambda x: np.log1p(np.exp(x)))

Needs hypothesis (the extra `test`). Values are drawn by NumPy from a seed that hypothesis draws: examples are
quick to make, they shrink in their shapes, and none depends on what floats hypothesis likes.
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
from hypothesis.extra import numpy as hnp

from minivae import backend
from minivae.backend import Array
from minivae.findings import Report
from minivae.gradcheck import gradcheck
from minivae.probe import recording
from minivae.tensor import Tensor, no_grad

Strategy = st.SearchStrategy[Any]
LAYOUTS = ("contiguous", "transposed", "strided", "reversed", "read-only")


def shapes(min_dims: int = 0, max_dims: int = 3, max_side: int = 4, empty: bool = True) -> Strategy:
    """Shapes, of 0-d and (unless empty is False) of zero-size arrays too."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=0 if empty else 1, max_side=max_side)


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Any = None,
    low: float = -3.0,
    high: float = 3.0,
    away_from: Sequence[float] = (),
    distinct: bool = False,
    dtype: Any = np.float64,
    layouts: Sequence[str] = LAYOUTS,
) -> Array:
    """Arrays of numbers between low and high, in any memory layout.

    shape: a shape or a strategy; any by default. away_from: kinks, from which values keep 0.1; ValueError where they
    leave nothing between low and high.
    distinct: no two values are closer than 1 / size, in random order (for max and its kin).
    """
    shape = draw(shapes()) if shape is None else draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = int(np.prod(shape))
    x = _between(low, high, away_from)(rng.permutation(np.linspace(0, 1, n)) if distinct else rng.uniform(size=n))
    x = x.reshape(shape)
    return laid_out(np.asarray(x, dtype), draw(st.sampled_from(list(layouts))))


def _between(low: float, high: float, away_from: Sequence[float]) -> Callable[[Array], Array]:
    """The map, in order, of [0, 1] to the numbers between low and high that keep away from the kinks."""
    margin = 0.1 + 1e-6  # float32 rounds
    kinks = np.sort(np.asarray(away_from, np.float64))
    starts = np.maximum([low, *(kinks + margin)], low)
    lengths = np.maximum(np.minimum([*(kinks - margin), high], high) - starts, 0)
    if high > low and not lengths.any():
        raise ValueError(f"arrays: nothing between {low} and {high} keeps 0.1 from each of {list(away_from)}.")
    if high > low:
        starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    ends = np.cumsum(lengths)

    def there(t: Array) -> Array:
        along = t * ends[-1]
        piece = np.minimum(np.searchsorted(ends, along), len(ends) - 1)
        return starts[piece] + np.minimum(along - (ends - lengths)[piece], lengths[piece])

    return there


def laid_out(x: Array, layout: str) -> Array:
    """An array of the same values in another memory layout, one of LAYOUTS."""
    if layout == "transposed":
        return x.T.copy().T
    if layout == "strided":
        wide = np.zeros((*x.shape, 2), x.dtype)
        wide[..., 1] = x
        return wide[..., 1]
    if layout == "reversed" and x.ndim:
        return x[::-1].copy()[::-1]
    x = x.copy()
    x.flags.writeable = layout != "read-only"
    return x


@st.composite
def broadcastable(draw: st.DrawFn, /, n: int = 2, **options: Any) -> list[Array]:
    """A list of n arrays whose shapes broadcast together. options: of `arrays`."""
    drawn = draw(hnp.mutually_broadcastable_shapes(num_shapes=n, min_dims=0, max_dims=3, min_side=0, max_side=4))
    return [draw(arrays(shape, **options)) for shape in drawn.input_shapes]


def axes(ndim: int) -> Strategy:
    """An axis of an array of ndim dimensions, positive or negative, several, or None."""
    some: list[Strategy] = [st.none()]
    if ndim:
        some += [st.integers(-ndim, ndim - 1), hnp.valid_tuple_axes(ndim, min_size=1)]
    return st.one_of(some)


def indices(shape: tuple[int, ...]) -> Strategy:
    """An index of an array of this shape: slices, integers, None, Ellipsis, integer arrays or a boolean mask."""
    some: list[Strategy] = [hnp.basic_indices(shape, allow_newaxis=True), hnp.arrays(np.bool_, shape)]
    if shape and all(shape):
        some.append(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    return st.one_of(some)


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
