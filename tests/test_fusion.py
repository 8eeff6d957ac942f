"""`fuse` against the function itself, to the bit: kinds, layouts, results, arrays that are written over, threads."""

import os
import threading
from importlib import import_module
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivae import Tensor, backend, ops
from minivae.backend import pool
from minivae.backend.fusion import FUSED, REPEATED, Fused
from minivae.backend.host import PIECE, Backend
from minivae.backend.program import Program

XP = backend.host()
HOST = import_module(Backend.__module__)  # backend.host is a function
EXTREMES = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38, 1e-300, 88.0, -88.0, 0.5, -1.0]


@pytest.fixture(autouse=True)
def threads_as_they_were():
    yield
    backend.set_threads(1)


@pytest.fixture(autouse=True, scope="module")
def register_as_it_was():
    """The functions of these tests are none of minivae's."""
    before = dict(FUSED)
    yield
    FUSED.clear()
    FUSED.update(before)


def same(ours, theirs):
    """AssertionError unless values, dtypes and shapes are the same, to the bit."""
    many = isinstance(theirs, tuple)
    assert isinstance(ours, tuple) == many
    for a, b in zip(ours if many else (ours,), theirs if many else (theirs,), strict=True):
        assert type(a) is type(b)
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
        if b.dtype.kind == "f":
            number = ~np.isnan(b)
            np.testing.assert_array_equal(np.signbit(a)[number], np.signbit(b)[number])


def check(function, *operands):
    """The fused function against the function itself. Operands are not changed."""
    copies = [a if isinstance(a, float | int) else a.copy() for a in operands]
    with np.errstate(all="ignore"):
        same(Fused(function)(XP, *operands), function(XP, *copies))
    for a, copy in zip(operands, copies, strict=True):
        np.testing.assert_array_equal(a, copy)


UNARY = ["negative", "absolute", "sign", "sqrt", "exp", "expm1", "log", "log1p", "tanh"]
BINARY = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
COMPARED = ["greater", "greater_equal", "less", "less_equal", "equal"]
OPERATORS = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b, "greater": lambda a, b: a > b, "greater_equal": lambda a, b: a >= b,
    "less": lambda a, b: a < b, "less_equal": lambda a, b: a <= b, "equal": lambda a, b: a == b,
}  # fmt: skip
LOGICAL = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "not": lambda a, b: ~a}


@st.composite
def functions(draw, operands):
    """f(xp, *operands), drawn step by step. Masks are made by comparing, and used by where and as numbers."""
    values, masks, steps = operands, 0, []
    for _ in range(draw(st.integers(1, 8))):
        kinds = ["unary", "binary", "number", "compare", "operator"] + ["logical", "where", "mask"] * bool(masks)
        kind = draw(st.sampled_from(kinds))
        i, j, k, m = (draw(st.integers(0, n)) for n in (values - 1, values - 1, max(masks, 1) - 1, max(masks, 1) - 1))
        number = draw(st.sampled_from([0.0, 1, -2, 0.1, 3.5, -1e30]))
        name = draw(st.sampled_from({"unary": UNARY, "compare": COMPARED, "operator": [*OPERATORS][:4],
                                     "logical": [*LOGICAL]}.get(kind, BINARY)))  # fmt: skip
        steps.append((kind, name, i, j, k, m, number))
        if kind in ("compare", "logical"):
            masks += 1
        else:
            values += 1
    results = draw(st.lists(st.integers(0, values + masks - 1), min_size=1, max_size=3))
    single = draw(st.booleans())

    def function(xp, *given):
        values, masks = list(given), []
        for kind, name, i, j, k, m, number in steps:
            if kind == "unary":
                values.append(getattr(xp, name)(values[i]))
            elif kind == "binary":
                values.append(getattr(xp, name)(values[i], values[j]))
            elif kind == "number":
                values.append(getattr(xp, name)(number, values[i]))
            elif kind == "operator":
                values.append(OPERATORS[name](values[i], values[j]))
            elif kind == "compare":
                masks.append(getattr(xp, name)(values[i], values[j]))
            elif kind == "logical":
                masks.append(LOGICAL[name](masks[k], masks[m]))
            elif kind == "where":
                values.append(xp.where(masks[k], values[i], number if name == "add" else values[j]))
            else:
                values.append(masks[k] * values[i])
        found = tuple((values + masks)[r] for r in results)
        return found[0] if single else found

    return function


SHAPES = [(1,), (3, 5), (2, 3, 4), (0, 3), (PIECE - 1,), (PIECE,), (PIECE + 1,), (5, PIECE // 2 + 3)]


@st.composite
def operands(draw, count, shape):
    """Arrays of a shape in several layouts and dtypes, 0-d arrays, numbers; at least one an array."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    found = []
    layouts = draw(st.sampled_from([["C"], ["F"], ["C", "F", "gaps"]]))
    dtypes = draw(st.sampled_from([["f4"], ["f8"], ["f4", "f8", "f4", "?", "i4"]]))
    for n in range(count):
        kind = "array" if n == 0 else draw(st.sampled_from(["array", "array", "array", "0-d", "number", "generic"]))
        if kind == "number":
            found.append(draw(st.sampled_from([0.3, -2.0, 1e-9, 0.0, 5])))
            continue
        dtype = "f4" if n == 0 and dtypes[0] == "f4" else draw(st.sampled_from(dtypes))
        wide = (*shape[:-1], 2 * shape[-1]) if kind == "array" else ()
        a = 3 * rng.standard_normal(wide)
        if kind == "array" and a.size and draw(st.booleans()):
            a.flat[rng.integers(0, a.size, 200)] = rng.choice(EXTREMES, 200)
        with np.errstate(all="ignore"):
            a = np.abs(a) < 1 if dtype == "?" else np.nan_to_num(a, posinf=9, neginf=-9) if dtype == "i4" else a
            a = np.asarray(a).astype(dtype)
        if kind == "array":
            chosen = draw(st.sampled_from(layouts))
            a = a[..., ::2] if chosen == "gaps" else np.array(a[..., ::2], order=chosen)
        found.append(a[()] if kind == "generic" else a)
    return found


@given(st.data())
def test_as_the_function_itself(data):
    count = data.draw(st.integers(1, 4))
    check_drawn(data, count, data.draw(st.sampled_from(SHAPES)))


def check_drawn(data, count, shape):
    given, function = data.draw(operands(count, shape)), data.draw(functions(count))
    with np.errstate(all="ignore"):
        try:
            theirs = function(XP, *given)
        except (TypeError, ZeroDivisionError):  # no such function of booleans; or of Python's own numbers
            return
        ours = Fused(function)(XP, *given)
    same(ours, theirs)


def repeating(function, *operands):
    """The fused function in pieces of eight entries, so that small arrays have many, and how many times it did so."""
    with mock.patch.multiple(HOST, PIECE=8), mock.patch.multiple(Backend, smallest=1, smallest_repeating=1):
        made = Fused(function)
        with mock.patch.object(Backend, "compute", autospec=True, side_effect=Backend.compute) as compute:
            return made(XP, *operands), compute.call_count


@given(st.data())
def test_arrays_that_repeat_as_the_function_itself(data):
    """Of the last axes, in rows that are shorter and longer than a piece."""
    count = data.draw(st.integers(2, 4))
    shape = data.draw(st.sampled_from([(3, 1), (11, 3), (7, 8), (5, 9), (3, 20), (2, 3, 4), (4, 0), (0, 4)]))
    given, function = data.draw(operands(count, shape)), data.draw(functions(count))
    end = shape[data.draw(st.integers(1, len(shape) - 1)) :]
    repeats = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    given = [
        a[(0,) * (a.ndim - len(end))] if again and np.size(a) and np.shape(a) == shape else a
        for a, again in zip(given, repeats, strict=True)
    ]
    with np.errstate(all="ignore"):
        try:
            theirs = function(XP, *given)
        except (TypeError, ZeroDivisionError):
            return
        same(repeating(function, *given)[0], theirs)


@pytest.mark.parametrize(
    ("shapes", "fused"),
    [
        (((6, 5), (5,)), 1),
        (((5,), (6, 5)), 1),
        (((6, 5), (5,), (5,)), 1),
        (((2, 3, 5), (3, 5), ()), 1),
        (((6, 5), (6, 1)), 0),  # the end of no shape
        (((2, 3, 5), (3, 5), (5,)), 0),  # two that repeat
        (((3, 5), (3, 5), (1, 5)), 0),
        (((1, 5), (5,)), 1),
    ],
)
def test_which_arrays_repeat(shapes, fused):
    given = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    given = [np.asarray(a, "f4") for a in given]

    def function(xp, *arrays):
        return sum(xp.exp(a) * a for a in arrays)

    found, times = repeating(function, *given)
    assert times == fused
    same(found, function(XP, *given))


def test_what_repeats_alone_is_no_result_and_computed_once():
    a, b = random(9, 5), random(5)
    found, times = repeating(lambda xp, a, b: (a + b, xp.exp(b)), a, b)
    assert not times  # the second result has b's shape
    same(found, (a + b, np.exp(b)))
    program = Program("scaled", lambda xp, a, b: a * xp.exp(b) + b, ("float32", "float32" + REPEATED), ())
    assert len(program.filling.once) == 1 and len(program.filling.body) == 2
    assert program.filling.arrays == [0, 2] and len(program.filling.repeated) == 2


@pytest.mark.parametrize("shape", [(1000, 300), (9, PIECE + 5)])
def test_large_arrays_with_one_that_repeats(shape):
    check(lambda xp, a, b: xp.maximum(a + b, 0) * xp.exp(-b), random(*shape), random(shape[1], seed=1))
    out, a, b = np.empty(shape, "f4"), random(*shape), random(shape[1], seed=1)
    assert Fused(lambda xp, a, b: a + b)(XP, a, b, out=(out,)) is out
    np.testing.assert_array_equal(out, a + b)
    with pytest.raises(ValueError, match="broadcast"):
        Fused(lambda xp, a, b: a + b)(XP, a, b, out=(b,))


@given(st.data())
def test_over_operands_in_every_pattern(data):
    """out is any arrays: new ones, operands, the same one twice, parts of an operand, another view of it."""
    shape = data.draw(st.sampled_from([(7,), (3, 4), (PIECE + 5,)]))
    rng = np.random.default_rng(0)
    count = data.draw(st.integers(1, 3))
    function = data.draw(functions(count))
    base = rng.standard_normal((4, 2 * int(np.prod(shape)))).astype("f4")
    size = base.shape[1] // 2
    places = [slice(0, size), slice(size, 2 * size), slice(1, size + 1), slice(0, 2 * size, 2)]

    def views(memory, chosen):
        kept = {}
        return [
            kept.setdefault((i, p) if again else object(), memory[i, places[p]].reshape(shape))
            for i, p, again in chosen
        ]

    place = st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans())
    given = data.draw(st.lists(place, min_size=count, max_size=count))
    with np.errstate(all="ignore"):
        theirs = function(XP, *views(base.copy(), given))
        n = len(theirs) if isinstance(theirs, tuple) else 1
        out = data.draw(st.lists(place, min_size=n, max_size=n))
        memories = base.copy(), base.copy()
        everything = [views(memory, given + out) for memory in memories]
        made = Fused(function)
        ours = made(XP, *everything[0][:count], out=tuple(everything[0][count:]))
        made.plain(XP, everything[1][:count], tuple(everything[1][count:]))
    np.testing.assert_array_equal(*memories)
    ours = ours if isinstance(theirs, tuple) else (ours,)
    assert all(a is b for a, b in zip(ours, everything[0][count:], strict=True))


def adam(xp, w, g, m, v, rate):
    m = 0.9 * m + 0.1 * g
    v = 0.99 * v + 0.01 * g * g
    return w - rate * m / (xp.sqrt(v) + 1e-8), m, v


def random(*shape, dtype="f4", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_several_results_in_place():
    """Adam's update, whose intermediate values lie in the results' arrays."""
    w, g, m, v = (np.abs(random(3 * PIECE + 7, seed=i)) for i in range(4))
    expected = adam(XP, w, g, m, v, 0.1)
    fused = Fused(adam)
    same(fused(XP, w, g, m, v, 0.1), expected)
    out = fused(XP, w, g, m, v, 0.1, out=(w, m, v))
    assert out[0] is w and out[1] is m and out[2] is v
    same(out, expected)


def test_the_text_of_a_program():
    def decayed(xp, w, g, rate):
        return w - rate * g

    program = Program("decayed", decayed, ("float32", "float32", "number"), ((0,),))
    plan = program.filling
    assert len(plan.once) == 1, "the number becomes an array once"
    assert len(plan.body) == 2, "a product and a difference"
    assert len(plan.scratch) == 1, "the product; the difference is written to the result at once"
    assert plan.arrays == [0, 1, 3], "what is cut into pieces"


@pytest.mark.parametrize("shape", [(3, 4), (2 * PIECE + 3,)])
def test_a_result_that_is_an_operand_is_a_copy(shape):
    a, b = random(*shape), random(*shape, seed=1)
    for result, operand in zip(Fused(lambda xp, a, b: (b, a, a + b))(XP, a, b), (b, a), strict=False):
        np.testing.assert_array_equal(result, operand)
        assert not np.shares_memory(result, operand)
    swapped = b.copy(), a.copy()
    Fused(lambda xp, a, b: (b, a))(XP, a, b, out=(a, b))
    same((a, b), swapped)


def test_the_layout_in_memory_is_kept():
    a = random(4, 60, 70, 9).transpose(0, 3, 1, 2)  # channels last
    assert Fused(lambda xp, a: xp.exp(a) + 1)(XP, a).strides == a.strides
    small = a[:, :, :5, :5].copy(order="K")
    assert Fused(lambda xp, a: xp.exp(a) + 1)(XP, small).strides == small.strides


def test_operands_of_several_shapes():
    check(lambda xp, a, b: a * b + 1, random(300, 200), random(200))
    check(lambda xp, a, b: (a * 2, b), random(300, 200), np.asarray(random(1)[0]))  # a result that is 0-d
    check(lambda xp, a: a + 1, 2.0)
    check(lambda xp, a: xp.exp(a), random())


def test_numbers_are_weak_and_scalars_are_not():
    a = random(PIECE + 1)
    for number, dtype in [(0.1, "f4"), (2, "f4"), (True, "f4"), (np.float64(0.1), "f8"), (np.float32(0.1), "f4")]:
        assert Fused(lambda xp, a, b: a * b)(XP, a, number).dtype == dtype
        check(lambda xp, a, b: a * b, a, number)
    check(lambda xp, a, b: a + (1 - b) * 3 / b, a, 0.1)
    check(lambda xp, a, b: a + xp.exp(b), a, 0.1)  # NumPy's function of a number is float64


def test_the_branchless_where():
    n = PIECE + 100
    mask, a, b = random(n) > 0, random(n, seed=1), random(n, seed=2)
    a[:50], b[50:90] = np.resize(EXTREMES, 50), np.resize(EXTREMES, 40)
    for dtype in ("f4", "f8"):
        x, y = a.astype(dtype), b.astype(dtype)
        check(lambda xp, m, x, y: xp.where(m, x, y), mask, x, y)
        check(lambda xp, m, x: xp.where(m, x, -0.0), mask, x)
        check(lambda xp, m, x: xp.where(m, 0, x), mask, x)
        check(lambda xp, m, x, y: xp.where(m, x, y), mask, x, np.asarray(0.1, dtype))
        check(lambda xp, m, x: xp.where(m, 1.0, 2.0) * x, mask, x)
    check(lambda xp, m, x, y: xp.where(m, x, y), mask, a, b.astype("f8"))
    check(lambda xp, m, x, y: xp.where(x > y, m, x > 0), mask, a, b)


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda xp, a: a if a > 0 else -a, "branch"),
        (lambda xp, a: xp.matmul(a, a), "matmul"),
        (lambda xp, a: a * np.float64(2), "float64"),
        (lambda xp, a: 1.0, "float"),
        (lambda xp, a: [a], "list"),
    ],
)
def test_what_cannot_be_fused(function, word):
    with pytest.raises((TypeError, AttributeError), match=word):
        Fused(function)(XP, random(4))


def test_a_value_cannot_be_changed():
    def careless(xp, a):
        a += 1
        return a

    with pytest.raises(TypeError, match="a = a"):
        Fused(careless)(XP, random(4))


def test_out_must_be_as_many_as_the_results():
    with pytest.raises(ValueError, match=r"1 results.*2 arrays"):
        Fused(lambda xp, a: a + 1)(XP, random(4), out=(random(4), random(4)))


@pytest.mark.parametrize("n", [6, 2 * PIECE])
@pytest.mark.parametrize("part", [slice(None), slice(None, None, 2)])
def test_out_for_the_first_results_alone(n, part):
    """In place, too; the results that are left are new arrays."""
    a = random(2 * n)[part]
    expected = a + 1, a > 0, a * 2
    first, second, third = Fused(lambda xp, a: (a + 1, a > 0, a * 2))(XP, a, out=(a,))
    assert first is a
    assert not np.shares_memory(a, third)
    same((first, second, third), expected)


def test_out_that_shares_memory_with_an_operand():
    """A part of it, which pieces would write before they read it; and all of it, as another view."""
    base = random(3 * PIECE)
    a, out = base[: 2 * PIECE], base[1 : 2 * PIECE + 1]
    expected = np.exp(a) + a
    Fused(lambda xp, a: xp.exp(a) + a)(XP, a, out=(out,))
    np.testing.assert_array_equal(out, expected)
    for a in random(6), random(2 * PIECE):
        expected, doubled = (a + 1, a * 2), np.empty_like(a)
        Fused(lambda xp, a: (a + 1, a * 2))(XP, a, out=(a[:], doubled))
        same((a, doubled), expected)


def test_out_of_another_dtype_is_filled():
    a, out = random(PIECE + 1), np.zeros(PIECE + 1)
    Fused(lambda xp, a: a + 1)(XP, a, out=(out,))
    np.testing.assert_array_equal(out, a + 1)
    with pytest.raises(TypeError, match="same_kind"):
        Fused(lambda xp, a: a + 0.5)(XP, a, out=(np.zeros(PIECE + 1, int),))


# threads


def test_results_are_the_same_for_any_number_of_threads():
    operands = [np.abs(random(70 * PIECE + 11, seed=i)) for i in range(4)]
    found = []
    for n in (1, 2, 3):
        backend.set_threads(n)
        assert backend.threads() == n
        found.append(Fused(adam)(XP, *operands, 0.1))
    same(found[1], found[0])
    same(found[2], found[0])


def test_the_work_is_shared():
    backend.set_threads(2)
    names, both = set(), threading.Barrier(2)

    def work(pieces):
        next(pieces)
        both.wait(10)  # neither goes on before the other has come
        names.add(threading.current_thread().name)

    pool.spread(work, range(8), fewest=4)
    assert len(names) == 2
    names.clear()
    pool.spread(lambda pieces: names.add(threading.current_thread().name), range(7), fewest=4)
    assert names == {threading.current_thread().name}  # too little for two


def test_errstate_holds_in_every_thread():
    backend.set_threads(2)
    a = np.zeros(80 * PIECE, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        Fused(lambda xp, a: 1 / a - 1 / a)(XP, a)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        Fused(lambda xp, a: 1 / a)(XP, a)


def test_an_error_of_another_thread_is_raised():
    backend.set_threads(2)
    both, caller = threading.Barrier(2), threading.current_thread()

    def work(pieces):
        both.wait(10)
        if threading.current_thread() is not caller:
            raise KeyError("elsewhere")

    with pytest.raises(KeyError, match="elsewhere"):
        pool.spread(work, range(8), fewest=4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    backend.set_threads(2)
    a = random(80 * PIECE)
    expected = Fused(adam)(XP, a, a, a, np.abs(a), 0.1)
    child = os.fork()
    if child == 0:
        try:
            same(Fused(adam)(XP, a, a, a, np.abs(a), 0.1), expected)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_threads_at_all():
    with pytest.raises(backend.InputError, match="0 threads"):
        backend.set_threads(0)


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_arrays_of_the_other_byte_order(dtype):
    """Their bytes, taken as they are, would be other numbers."""
    a = np.array([-1.0, 1.0, 2.5], dtype)
    native = a.astype(a.dtype.newbyteorder("="))
    for f in (lambda x: ops.leaky_relu(Tensor(x)).data, lambda x: ops.soft_clip(Tensor(x), 2.0).data):
        np.testing.assert_array_equal(f(a), f(native))


def test_the_larger_of_two_numbers():
    """Beside an array: neither is one."""

    @backend.fuse
    def f(xp, a, n):
        return a * xp.maximum(n, 0.5)

    np.testing.assert_array_equal(f(XP, np.ones(3, np.float32), 2.0), [2, 2, 2])
    np.testing.assert_array_equal(f(XP, np.ones(3, np.float32), 0.0), [0.5, 0.5, 0.5])
