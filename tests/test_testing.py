"""The strategies give what they promise, and check_op finds what it says it looks for."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minivae import Tensor, from_vjp, no_grad, op, ops
from minivae.testing import LAYOUTS, arrays, axes, broadcastable, check_example, check_op, indices, laid_out, shapes

# ---- strategies ----


def draws(strategy, wanted):
    """Whether the strategy draws something of the kind, sooner or later."""
    from hypothesis import Phase, find, settings

    return find(strategy, wanted, settings=settings(max_examples=2000, phases=[Phase.generate], database=None))


@given(shapes(min_dims=1, max_dims=2, max_side=3, empty=False))
def test_shapes_keep_to_their_bounds(shape):
    assert len(shape) in (1, 2)
    assert all(1 <= side <= 3 for side in shape)


def test_shapes_reach_the_corners():
    assert draws(shapes(), lambda s: s == ()) == ()
    assert 0 in draws(shapes(), lambda s: 0 in s)
    assert len(draws(shapes(), lambda s: len(s) == 3 and min(s) > 1)) == 3
    draws(arrays(), lambda a: a.ndim == 0)
    draws(arrays(), lambda a: a.size == 0)


@given(arrays(low=-1, high=2, away_from=[0, 1]))
def test_values_keep_away_from_kinks(a):
    assert a.dtype == np.float64
    assert not ((a < -1) | (a > 2)).any()
    assert (np.abs(a) >= 0.1).all() and (np.abs(a - 1) >= 0.1).all()


@pytest.mark.parametrize("distinct", [True, False])
@given(st.data())
def test_values_keep_away_from_kinks_that_are_close_to_each_other_or_to_the_ends(distinct, data):
    kinks, bounds = [-0.18, 0.15, 0, 0.65], {"low": -0.2, "high": 0.6}
    a = data.draw(arrays((40,), away_from=kinks, distinct=distinct, dtype=np.float32, **bounds))
    assert ((a > 0.1) & (a < 0.6)).all()
    assert all((np.abs(a - np.float64(kink)) >= 0.1).all() for kink in kinks)


def test_both_sides_of_a_kink_are_drawn():
    draws(arrays((8,), away_from=[0]), lambda a: (a < -0.1).any() and (a > 0.1).any())
    with pytest.raises(ValueError, match=r"nothing between 0\.0 and 0\.2 keeps 0\.1"):
        draws(arrays((8,), low=0.0, high=0.2, away_from=[0.1, 0.15]), np.any)


@given(arrays(shapes(), dtype=np.float32))
def test_dtype(a):
    assert a.dtype == np.float32


@given(arrays(distinct=True))
def test_distinct_values(a):
    gaps = np.diff(np.sort(a, axis=None))
    assert (gaps > 1 / max(a.size, 1)).all()


def test_distinct_values_are_in_random_order():
    draws(arrays((6,), distinct=True), lambda a: (np.diff(a) < 0).any() and (np.diff(a) > 0).any())


@pytest.mark.parametrize("shape", [(), (0,), (1,), (4,), (2, 3), (3, 0), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_shape_and_values(shape, layout):
    x = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) + 0.5)
    y = laid_out(x, layout)
    assert type(y) is np.ndarray
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(y, x)


def test_layouts_are_what_they_are_called():
    x = np.arange(24.0).reshape(2, 3, 4)
    by = {layout: laid_out(x, layout) for layout in LAYOUTS}
    assert by["contiguous"].strides == x.strides and by["contiguous"].flags.writeable
    assert by["transposed"].flags.f_contiguous and not by["transposed"].flags.c_contiguous
    assert by["strided"].strides == tuple(2 * s for s in x.strides)
    assert by["reversed"].strides == (-x.strides[0], *x.strides[1:])
    assert by["read-only"].strides == x.strides and not by["read-only"].flags.writeable
    strided = laid_out(np.array(2.0), "strided")
    assert strided.base is not None and strided.shape == ()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_drawn(layout):
    tests = {
        "contiguous": lambda a: a.flags.c_contiguous and a.flags.writeable,
        "transposed": lambda a: a.flags.f_contiguous and not a.flags.c_contiguous,
        "strided": lambda a: a.strides[-1] == 16,
        "reversed": lambda a: a.strides[0] < 0,
        "read-only": lambda a: not a.flags.writeable,
    }
    draws(arrays((2, 3)), tests[layout])


@given(broadcastable(3, low=1, high=2, away_from=[1.5]))
def test_broadcastable(abc):
    assert len(abc) == 3
    np.broadcast_shapes(*(a.shape for a in abc))
    assert all(((a >= 1) & (a <= 2) & (np.abs(a - 1.5) >= 0.1)).all() for a in abc)


def test_broadcastable_broadcasts():
    draws(broadcastable(), lambda ab: ab[0].shape != ab[1].shape and ab[0].ndim == ab[1].ndim and 1 in ab[0].shape)
    draws(broadcastable(), lambda ab: ab[0].ndim != ab[1].ndim)


@given(shapes().flatmap(lambda s: st.tuples(st.just(s), axes(len(s)))))
def test_axes_are_valid(drawn):
    shape, axis = drawn
    assert np.sum(np.ones(shape), axis=axis).ndim <= len(shape)


@pytest.mark.parametrize(
    "wanted",
    [lambda a: a is None, lambda a: isinstance(a, int) and a < 0, lambda a: isinstance(a, tuple) and len(a) > 1],
    ids=["None", "negative", "several"],
)
def test_axes_of_every_kind(wanted):
    draws(axes(3), wanted)


@given(shapes().flatmap(lambda s: st.tuples(st.just(s), indices(s))))
def test_indices_are_valid(drawn):
    shape, index = drawn
    np.zeros(shape)[index]


def parts(index):
    return index if isinstance(index, tuple) else (index,)


@pytest.mark.parametrize(
    "wanted",
    [lambda p: isinstance(p, slice), lambda p: isinstance(p, int), lambda p: p is None, lambda p: p is Ellipsis,
     lambda p: isinstance(p, np.ndarray) and p.dtype == bool, lambda p: isinstance(p, np.ndarray) and p.dtype == int],
    ids=["slice", "int", "None", "Ellipsis", "mask", "array"],
)  # fmt: skip
def test_indices_of_every_kind(wanted):
    draws(indices((3, 4)), lambda index: any(wanted(p) for p in parts(index)))


# ---- check_op ----


def test_what_is_right_passes():
    report = check_op(ops.softplus, arrays(), oracle=lambda x: np.logaddexp(0, x), examples=20)
    assert report and report.entries > 20 and report.worst < 1e-6
    check_op(ops.add, broadcastable(), oracle=np.add, examples=20)
    check_op(lambda a, axis: ops.sum(a, axis), arrays((2, 3)), axes(2), oracle=lambda a, axis: np.sum(a, axis=axis))


@op
def off_by_little(xp, a):
    return a * 1.001, (lambda g: g * 1.001,)


@op
def off_in_shape(xp, a):
    return a[None], (lambda g: g[0].copy(),)


@op
def wrong_gradient(xp, a):
    return a * a, (lambda g: g * a,)


@op
def drifts(xp, a):
    return a * np.float64(2), (lambda g: g * 2,)


@op
def raw_memory(xp, a):
    """Reads the operand in the order of its memory in the gradient only."""
    return a * a, (lambda g: g * 2 * a.ravel(order="K").reshape(a.shape),)


@op
def raw_memory_forward(xp, a):
    return a.ravel(order="K").reshape(a.shape) * 1.0, (lambda g: g * 1.0,)


@op
def raw_cotangent(xp, a):
    return a * 2, (lambda g: 2 * g.ravel(order="K").reshape(g.shape),)


@op
def keeps_itself(xp, a):
    def da(g):
        return g * 2 * a if da else g  # it refers to itself: a cycle, for the garbage collector alone

    return a * a, (da,)


def records_always(a):
    y = a * 2.0
    return y if y.requires_grad else Tensor(y.data, requires_grad=True)


def rebuilds_its_graph(a):
    y = a * 2.0
    if y.requires_grad:
        ((parent, vjp),) = y._node.edges

        def keep(g, node=y._node):
            node.edges = edges
            return vjp(g)

        y._node.edges = edges = ((parent, keep),)
    return y


FAULTS = {
    "the value": (off_by_little, {"oracle": lambda a: a}, "the value is not the oracle's"),
    "the shape": (off_in_shape, {"oracle": lambda a: a}, "the shape is"),
    "the gradient": (wrong_gradient, {}, "half of it"),
    "float32 drifts": (drifts, {}, "float32 inputs give float64"),
    "strides, in the gradient": (raw_memory, {}, "strides change the gradient of input 0"),
    "strides, in the value": (raw_memory_forward, {}, "strides change the value"),
    "strides, of the cotangent": (raw_cotangent, {}, "strides of the cotangent change the gradient of input 0"),
    "no_grad": (records_always, {}, "no_grad"),
    "a graph that stays": (rebuilds_its_graph, {}, "the first did not free it"),
    "a cycle": (keeps_itself, {}, "reference cycle"),
}


def failure(name):
    fn, options, _ = FAULTS[name]
    with pytest.raises(AssertionError) as caught:
        check_op(fn, arrays(shapes(2, 2, empty=False)), **options)
    return str(caught.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name):
    assert FAULTS[name][2] in failure(name)


@pytest.mark.parametrize("name", FAULTS)
def test_the_printed_code_fails_in_the_same_way(name):
    fn, options, sentence = FAULTS[name]
    message = failure(name)
    assert ("(with your oracle)" in message) == bool(options)
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        exec(pasted(message), {fn.__name__: fn, **options})


def pasted(message):
    """The code that a failure prints."""
    lines = re.split(r"To repeat it.*:\n", message)[1].split("\n")
    code = [line.removeprefix("    ") for line in lines if line.startswith("    ")]
    return "\n".join(code)


@op
def wrong_take(xp, a, index, axis=None):
    def da(g):
        d = xp.zeros_like(a)
        xp.add.at(d, index, 2 * g)
        return d

    return xp.array(a[index]), (da,)


@pytest.mark.parametrize(
    "strategy",
    [st.sampled_from([(slice(None), np.array([0, 1]))]), st.sampled_from([np.array([[True, False], [True, True]])]),
     st.sampled_from([(Ellipsis, 1)]), st.sampled_from([(None, slice(0, 2))]), st.sampled_from([np.array([0, 0])])],
    ids=["array in a tuple", "mask", "Ellipsis", "None", "integers"],
)  # fmt: skip
def test_the_printed_code_has_every_kind_of_argument(strategy):
    with pytest.raises(AssertionError) as caught:
        check_op(wrong_take, arrays((2, 2)), strategy)
    with pytest.raises(AssertionError, match="twice too large"):
        exec(pasted(str(caught.value)), {"wrong_take": wrong_take})


def test_the_printed_code_of_what_has_no_name():
    fn = lambda a, k: ops.sum(a) * k  # noqa: E731
    with pytest.raises(AssertionError, match=r"To repeat it \(with your fn and your oracle\):") as caught:
        check_op(fn, arrays((2,)), st.just(2), oracle=lambda a, k: a.sum(), rtol=1e-3)
    assert "rtol=0.001" in str(caught.value)
    with pytest.raises(AssertionError, match="the value is not the oracle's"):
        exec(pasted(str(caught.value)), {"fn": fn, "oracle": lambda a, k: a.sum()})


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan], ids=str)
def test_the_printed_code_of_infinities(value):
    with pytest.raises(AssertionError) as caught:
        check_op(ops.tanh, st.just(np.array([value])))
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        exec(pasted(str(caught.value)), {"tanh": ops.tanh})


def test_the_printed_numbers_are_the_drawn_ones():
    """To the last bit: a failure may hang on it."""

    def picky(a, seen={}):  # noqa: B006
        seen.setdefault("x", a.numpy().copy())
        assert not np.array_equal(a.numpy(), seen["x"]), "the very number"
        return a * 1.0

    with pytest.raises(AssertionError) as caught:
        check_op(picky, arrays((2, 3)), examples=1)
    with pytest.raises(AssertionError, match="the very number"):
        exec(pasted(str(caught.value)), {"picky": picky})


def test_the_failure_is_the_smallest():
    assert re.search(r"check_example\(wrong_gradient, \[np\.array\(\[\[-?\d\.\d+\]\]", failure("the gradient"))


def test_a_crash_is_repeated_too():
    def crashes(a):
        return a.reshape((7, 7))

    with pytest.raises(AssertionError, match=r"(?s)reshape.*To repeat it:") as caught:
        check_op(crashes, arrays((2,)))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_layer_may_keep_its_last_input():
    """As most layers do that are written by hand: backward() uses what the last forward() left."""

    class Layer:
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, g, x):
            return 2 * g * self.x

    layer = Layer()
    check_op(from_vjp(layer.forward, layer.backward), arrays())


def test_a_cache_of_all_inputs_is_found():
    cache = []

    def forward(x):
        cache.append(x)
        return x * x

    with pytest.raises(AssertionError, match="a reference cycle, or a cache, keeps the inputs alive"):
        check_op(from_vjp(forward, lambda g, x: 2 * g * x), arrays())


def test_the_callers_no_grad_changes_nothing():
    with no_grad():
        check_op(ops.tanh, arrays())
        with pytest.raises(AssertionError, match="half of it"):
            check_op(wrong_gradient, arrays())


def test_what_is_no_tensor_is_named():
    with pytest.raises(AssertionError, match=r"check_op of pair: it returned tuple, not a Tensor\."):
        check_op(pair, arrays())


def pair(a):
    return a, a


def test_an_oracle_may_work_in_place():
    def oracle(a):
        a *= a
        return a

    check_op(op(lambda xp, a: (a * a, (lambda g: 2 * g * a,))), arrays(), oracle=oracle)


def test_fn_may_assume():
    def square_of_few(a):
        assume(a.size < 5)
        return a * a

    assert check_op(square_of_few, arrays()).entries


def test_the_seed_repeats_the_examples():
    def drawn(seed):
        seen = []

        def fn(a):
            seen.append(a.numpy().sum())
            return a * 1.0

        check_op(fn, arrays((3,)), examples=5, seed=seed)
        return seen

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_arguments_that_are_no_arrays_are_handed_on():
    seen = []

    def fn(a, word, mask):
        seen.append((type(a), word, type(mask)))
        return a * 1.0

    check_example(fn, [np.ones(2), "word", np.array([True, False])])
    assert set(seen) == {(Tensor, "word", np.ndarray)}
