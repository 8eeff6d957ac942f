"""The engine: graphs of every form, what is recorded and what is freed, dtypes, operators, and its errors."""

import gc
import weakref

import numpy
import pytest
from anywhere import host, np
from hypothesis import given
from hypothesis import strategies as st

from minivae import Tensor, backend, gradcheck, no_grad, op, ops
from minivae.backend import Backend

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def leaf(data=X):
    return Tensor(np.array(data), requires_grad=True)


@op
def counted(xp, a, b, calls):
    """a * b, whose vjps put into the list `calls` which of them was called."""

    def vjp(name, other):
        def of(g):
            calls.append(name)
            return g * other

        return of

    return a * b, (vjp("a", b), vjp("b", a))


# ---- graphs ----


def test_a_diamond():
    """Where paths meet, the node waits for all of them and passes on once."""
    x = leaf(3.0)
    calls = []
    y = counted(x, 2.0, calls)
    z = y * y + ops.sin(y) * y
    z.backward()
    assert x.grad == pytest.approx(2 * (2 * 6 + np.cos(6) * 6 + np.sin(6)))
    assert calls == ["a"]


def test_a_tensor_twice_in_one_op():
    x = leaf()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * X)
    for fn in (lambda x: x - x, lambda x: x @ x.T, lambda x: ops.einsum("ij,ij->i", x, x), lambda x: ops.stack([x, x])):
        gradcheck(fn, [X])


def test_a_fan_out_of_10_000():
    x = leaf(1.0)
    y = x * 2
    ops.sum(ops.stack([y] * 10_000)).backward()
    assert x.grad == 20_000
    x = leaf(1.0)
    total = 0.0
    for _ in range(10_000):
        total = total + x
    total.backward()
    assert x.grad == 10_000


def test_a_chain_of_100_000():
    x = leaf(0.0)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.backward()
    assert (y.item(), x.grad) == (100_000, 1)


def test_a_long_chain_dropped_without_backward():
    """Freeing it must not recurse, either."""
    y = leaf(0.0)
    for _ in range(100_000):
        y = y + 1
    del y


def test_unused_branches():
    """A result that the loss does not depend on neither blocks nor contributes, and stays usable."""
    x, unused = leaf(2.0), leaf(1.0)
    calls = []
    y = x * 3
    aside = counted(y, unused, calls)
    (y * y).backward()
    assert (x.grad, unused.grad, calls) == (36, None, [])
    with pytest.raises(RuntimeError, match="'mul'"):  # what it shares with the loss is freed
        aside.backward()


def test_only_the_vjps_that_are_needed():
    for wants, called in (((True, False), ["a"]), ((False, True), ["b"]), ((True, True), ["a", "b"])):
        a, b = (Tensor(X, requires_grad=wanted) for wanted in wants)
        calls = []
        counted(a, b, calls).sum().backward()
        assert calls == called
        assert (a.grad is not None, b.grad is not None) == wants


def test_results_need_a_gradient_if_an_input_does():
    x, constant = leaf(), Tensor(X)
    assert (x + constant).requires_grad and (constant + x).requires_grad
    assert not (constant + constant).requires_grad
    assert not (constant + 1).requires_grad
    assert ops.linear(constant, weight=x).requires_grad
    assert not x.astype(np.int64).requires_grad


def test_backward_accumulates():
    x = leaf()
    (x * x).sum().backward()
    kept = x.grad
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * X + 3)
    assert x.grad is kept  # in place
    x.grad = None
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones_like(X))


def test_backward_from_a_leaf():
    x = leaf()
    seed = np.full(X.shape, 3.0)
    x.backward(seed)
    np.testing.assert_array_equal(x.grad, 3)
    assert not np.shares_memory(x.grad, seed)


def test_setting_requires_grad_again_keeps_the_graph():
    x = leaf()
    y = (2 * x).sum()
    x.requires_grad = True
    y.backward()
    np.testing.assert_array_equal(x.grad, 2)
    x.requires_grad = False
    assert not (x * 2).requires_grad


@pytest.mark.parametrize(
    "fn",
    [
        lambda a, b: a + b, lambda a, b: a - b, lambda a, b: (a + 0.0) + (b + 0.0),
        lambda a, b: a.reshape((3, 2)).T.reshape((2, 3)) + b, lambda a, b: ops.concatenate([a, b])[::-1],
        lambda a, b: a.flip() + b.flip() + a, lambda a, b: ops.stack([a, b, a]), lambda a, b: a.sum() + b.sum(),
        lambda a, b: a.astype(np.float64) + b.squeeze(), lambda a, b: ops.einsum("ij->ji", a) + b.T,
    ],
)  # fmt: skip
def test_gradients_are_no_one_elses(fn):
    """Neither each other's, nor the seed's, nor any tensor's."""
    a, b = leaf(), leaf(2 * X)
    y = fn(a, b)
    seed = np.random.default_rng(0).standard_normal(y.shape)
    seed = np.asarray(seed)
    before = seed.copy()
    y.backward(seed)
    memories = [a.grad, b.grad, seed, a.data, b.data, y.data]
    for i, one in enumerate(memories[:2]):
        for other in memories[i + 1 :]:
            assert not np.shares_memory(one, other)
    expected = b.grad.copy()
    a.grad += 1  # nor does accumulation reach the other
    a.sum().backward()
    np.testing.assert_array_equal(b.grad, expected)
    np.testing.assert_array_equal(seed, before)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(-3, 3), st.floats(-3, 3))
def test_backward_is_linear(steps, alpha, beta):
    def fn(x):
        for step in steps:
            x = (x.tanh(), x * x, x.T.reshape(x.shape), x + x.sum(axis=0), ops.softmax(x))[step]
        return x

    def gradient(seed):
        x = leaf()
        fn(x).backward(seed)
        return x.grad

    u, v = np.random.default_rng(1).standard_normal((2, *X.shape))
    of_u, of_v = gradient(u), gradient(v)
    scale = 1 + np.abs(of_u).max() + np.abs(of_v).max()
    np.testing.assert_allclose(alpha * of_u + beta * of_v, gradient(alpha * u + beta * v), 1e-9, 1e-12 * scale)


# ---- what is recorded, and what is freed ----


def test_no_grad_as_context_and_decorator():
    x = leaf()
    with no_grad():
        assert not (x * 2).requires_grad
        with no_grad():
            pass
        assert not (x * 2).requires_grad  # the inner one restores what was, not True
        assert leaf().requires_grad
    assert (x * 2).requires_grad

    @no_grad()
    def evaluate(x):
        return x * 2

    assert not evaluate(x).requires_grad and not evaluate(x).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_detach():
    x = leaf()
    cut = (x * 2).detach()
    assert not cut.requires_grad
    (cut * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * X)
    assert np.shares_memory(x.detach().data, x.data)


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_memory_is_freed_on_the_way_back():
    """When a node's turn comes, what the nodes after it saved is gone, without the garbage collector."""
    alive = []
    saved = []

    @op
    def step(xp, a):
        weight = np.full(a.shape, 1.001)
        saved.append(weakref.ref(weight))

        def da(g):
            alive.append(sum(ref() is not None for ref in saved))
            return g * weight

        return a * weight, (da,)

    x = leaf()
    y = x
    for _ in range(10):
        y = step(y)
    y.backward(np.ones(X.shape))
    assert alive == list(range(10, 0, -1))
    assert not any(ref() is not None for ref in saved)  # although y is still here


@pytest.mark.usefixtures("no_collector")
def test_a_graph_that_is_dropped_is_freed():
    x = leaf()
    y = ops.exp(x)
    data = weakref.ref(y.data)
    z = (y * y).sum()
    del y
    assert data() is not None
    del z
    assert data() is None


@pytest.mark.usefixtures("no_collector")
def test_a_step_of_training_leaves_no_cycles():
    weight = leaf()

    def step():
        loss = ops.mse_loss(ops.relu(ops.linear(X, weight)), np.ones((2, 2)))
        loss.backward()
        weight.grad = None

    step()  # what is made once
    gc.collect()
    step()
    assert gc.collect() == 0


# ---- dtypes ----


def test_the_dtype_of_a_new_tensor():
    assert Tensor(1.5).dtype == Tensor([1.5, 2]).dtype == np.float32
    assert Tensor([1, 2]).dtype == np.int64
    assert Tensor([True]).dtype == bool
    for dtype in (np.float16, np.float32, np.float64, np.int8):
        assert Tensor(np.zeros(2, dtype)).dtype == dtype
        assert Tensor([1, 2], dtype=dtype).dtype == dtype
    assert np.shares_memory(Tensor(X).data, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.float16(2)], ids=repr)
def test_numbers_are_weak(dtype, number):
    x = Tensor(np.array([1.5, 2.5], dtype), requires_grad=True)
    for y in (
        x + number, number + x, x - number, number - x, x * number, number * x, x / number, number / x, x**number,
        number**x, ops.maximum(x, number), ops.where(x.data > 2, x, number), ops.clip(x, low=number),
        ops.leaky_relu(x, negative_slope=number), ops.add(x, b=number), ops.pow(x, b=number),
    ):  # fmt: skip
        assert y.dtype == dtype
        x.grad = None
        y.sum().backward()
        assert x.grad.dtype == dtype


def test_mixed_dtypes_promote_and_each_gradient_comes_back_in_its_own():
    a, b = Tensor(X.astype(np.float32), requires_grad=True), leaf()
    y = a * b
    assert y.dtype == np.float64
    y.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    a.grad = None
    a.astype(np.float64).sum().backward()
    assert a.grad.dtype == np.float32


# ---- methods and operators ----


def test_operators_on_both_sides():
    x = Tensor(X, requires_grad=True)
    other = X + 3
    for left, right in ((x, other), (other, x), (x, Tensor(other)), (x, 2.5), (2.5, x)):
        a, b = (operand.data if isinstance(operand, Tensor) else operand for operand in (left, right))
        for ours, numpys in (
            (left + right, a + b), (left - right, a - b), (left * right, a * b), (left / right, a / b),
        ):  # fmt: skip
            assert isinstance(ours, Tensor) and ours.requires_grad
            np.testing.assert_array_equal(ours.data, numpys)
    np.testing.assert_array_equal((x**2).data, X**2)
    np.testing.assert_allclose((2**x).data, 2**X)
    np.testing.assert_array_equal((-x).data, -X)
    np.testing.assert_array_equal(abs(x).data, np.abs(X))


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_numpy_on_the_left_makes_a_tensor(kind):
    x = leaf()
    for left in (X.astype(kind), kind(3), np.array(3, kind)):
        for fn in (
            lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, lambda a, b: abs(a) ** b,
        ):  # fmt: skip
            y = fn(left, x)
            assert type(y) is Tensor and y.requires_grad and y.shape == X.shape
            np.testing.assert_allclose(y.data, fn(left, X))


def test_matmul_with_numpy_on_either_side():
    x = leaf()
    y = X.T @ x
    assert type(y) is Tensor
    np.testing.assert_allclose(y.data, X.T @ X)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, X @ np.ones((3, 3)))
    np.testing.assert_allclose((x @ X.T).data, X @ X.T)


def test_keyword_operands():
    x, weight, bias = leaf(), leaf(np.ones((2, 3))), leaf(np.ones(2))
    y = ops.linear(x, weight=weight, bias=bias)
    np.testing.assert_allclose(y.data, X @ np.ones((3, 2)) + 1)
    y.sum().backward()
    np.testing.assert_array_equal(bias.grad, 2)
    np.testing.assert_array_equal(weight.grad, np.tile(X.sum(axis=0), (2, 1)))
    bias.grad = None
    ops.linear(bias=bias, x=X, weight=np.ones((2, 3))).sum().backward()
    np.testing.assert_array_equal(bias.grad, 2)
    assert ops.kl_unit_normal(logvar=x, mu=x, axis=1).shape == (2,)
    with pytest.raises(TypeError, match="weight"):
        ops.linear(x, weights=weight)


def test_an_op_without_tensors_takes_arrays():
    assert type(ops.exp(X)) is Tensor
    np.testing.assert_array_equal(ops.add(X, 1.0).data, X + 1)


def test_the_protocol_of_a_sequence():
    x = leaf()
    assert len(x) == 2
    assert [row.shape for row in x] == [(3,), (3,)]
    assert (x.shape, x.ndim, x.size, x.T.shape) == ((2, 3), 2, 6, (3, 2))
    with pytest.raises(TypeError):
        len(Tensor(1.0))


def test_as_a_python_number():
    for data in (2.5, [2.5], [[2.5]]):
        assert float(Tensor(data)) == Tensor(data).item() == 2.5
        assert isinstance(Tensor(data).item(), float)
    assert not Tensor([0.0]) and not Tensor(0.0) and Tensor(1.0)
    with pytest.raises(ValueError):
        bool(Tensor(X))


def test_repr():
    assert repr(Tensor(np.float32([1, 2]))) == "Tensor([1., 2.], shape=(2,), dtype=float32)"
    assert repr(Tensor([1.5], requires_grad=True)) == "Tensor([1.5], shape=(1,), dtype=float32, requires_grad=True)"
    result = repr(leaf() * 2)
    assert "shape=(2, 3)" in result and "op=mul" in result and "requires_grad" not in result
    assert len(repr(Tensor(np.zeros((500, 500))))) < 1000


# ---- errors ----


def test_backward_twice():
    x = leaf()
    y = ops.exp(x)
    z = y.sum()
    z.backward()
    with pytest.raises(RuntimeError, match=r"second time through 'sum' of shape \(\).*forward pass again"):
        z.backward()
    with pytest.raises(RuntimeError, match=r"'exp' of shape \(2, 3\)"):
        (y * 2).sum().backward()


def test_a_failed_second_backward_leaves_no_gradient():
    """The error comes before any vjp is called."""
    x, other = leaf(), leaf()
    y = ops.exp(x)
    y.sum().backward()
    with pytest.raises(RuntimeError):
        ((other * 2) + y).sum().backward()
    assert other.grad is None


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda x: (x * 2).backward(), RuntimeError, r"shape \(2, 3\).*sum\(\) or mean\(\)"),
        (lambda x: (x * 2).backward(np.ones((3, 2))), ValueError, r"\(2, 3\).*\(3, 2\)"),
        (lambda x: (x * 2).backward(np.ones(())), ValueError, r"\(2, 3\).*\(\)"),
        (lambda x: (x * 2).backward([1.0]), ValueError, r"\(2, 3\)"),
        (lambda x: x.detach().sum().backward(), RuntimeError, "requires_grad=True"),
        (lambda x: Tensor([1, 2], requires_grad=True), TypeError, r"int64 and shape \(2,\).*astype"),
        (lambda x: Tensor([True], requires_grad=True), TypeError, "bool"),
        (lambda x: setattr(x * 2, "requires_grad", False), RuntimeError, "'mul'.*detach"),
        (lambda x: setattr(x, "grad", np.zeros(5)), RuntimeError, r"\(2, 3\).*\(5,\)"),
        (lambda x: setattr(x.detach(), "grad", X), RuntimeError, r"\(2, 3\)"),
        (lambda x: np.asarray(x), TypeError, r"numpy\(\)"),
        (lambda x: np.exp(x), TypeError, "Tensor"),
        (lambda x: ops.clip(X, x), TypeError, "'clip'.*detach"),
    ],
)  # fmt: skip
def test_errors_name_the_fault_and_the_mend(act, error, words):
    with pytest.raises(error, match=words):
        act(leaf())


def test_a_vjp_of_the_wrong_shape_is_named():
    @op
    def turned(xp, a):
        return a * 2, (lambda g: (2 * g).T,)

    with pytest.raises(RuntimeError, match=r"'turned'.*\(3, 2\).*\(2, 3\)"):
        turned(leaf()).sum().backward()


def test_a_vjp_that_is_missing_is_named():
    @op
    def half(xp, a, b):
        return a * b, (lambda g: g * b,)

    assert half(leaf(), X).requires_grad
    with pytest.raises(TypeError, match=r"'half'.*operand 1"):
        half(X, leaf())


class Foreign(numpy.ndarray):
    """Arrays of another library."""


class ForeignBackend(Backend):
    name = "foreign"

    def __init__(self):
        super().__init__()
        self.ndarray = Foreign

    def asarray(self, array, dtype=None):
        return numpy.asarray(array, dtype).view(Foreign)


@pytest.fixture
def foreign(monkeypatch):
    monkeypatch.setitem(backend._loaded, Foreign, ForeignBackend())
    return host(X).view(Foreign)


def test_two_backends_do_not_mix(foreign):
    x, y = leaf(), Tensor(foreign, requires_grad=True)
    assert type((y * 2).data) is Foreign
    for act in (lambda: x + y, lambda: ops.linear(x, weight=y), lambda: y * X, lambda: ops.concatenate([x, y])):
        with pytest.raises(TypeError, match=r"'(add|linear|mul|concatenate)'.*two backends") as error:
            act()
        assert all(word in str(error.value) for word in (f"{backend.current().name} (2, 3)", "foreign (2, 3)"))
    with pytest.raises(ValueError, match="foreign"):
        (y * 2).backward(np.ones((2, 3)))


def test_repeat_works_on_any_backend(foreign):
    """Its indices are made where its operand is."""
    np.testing.assert_array_equal(ops.repeat(Tensor(foreign), 2, axis=0).numpy(), X.repeat(2, axis=0))


def test_methods_take_lengths_one_by_one_as_numpy_does():
    x = Tensor(np.arange(6.0), requires_grad=True)
    y = x.reshape(2, 3).transpose(1, 0)
    assert y.shape == (3, 2) == x.reshape((2, 3)).transpose().shape == x.reshape(shape=(3, 2)).shape
    y.backward(np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(x.grad, [0, 2, 4, 1, 3, 5])


def test_a_number_is_a_cotangent_of_a_scalar():
    x = Tensor(3.0, requires_grad=True)
    (x * x).backward(0.5)
    assert x.grad == 3
