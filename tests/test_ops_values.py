"""Values: fused ops against twins of simpler ops, losses at extremes against decimals of 60 digits, indexing."""

import itertools
import math
import warnings
from decimal import Decimal, localcontext

import pytest
from anywhere import np
from cases import ACTIVATIONS, TABLE, gradients
from hypothesis import given
from hypothesis import strategies as st

from minivae import Tensor, ops

ROWS = {row.name: row for row in TABLE}
LOG_2PI = np.log(2 * np.pi)


# ---- composed twins: what each fused op means, in a line or two ----


def over(terms, axis):
    return ops.sum(terms, axis=axis)


def bernoulli_nll(logits, x, axis):
    p = 1 / (1 + ops.exp(-logits))
    return over(-(x * ops.log(p) + (1 - x) * ops.log(1 - p)), axis)


def normal_nll(mu, logvar, x, axis):
    return over(0.5 * (logvar + (x - mu) ** 2 / ops.exp(logvar) + LOG_2PI), axis)


def normal_kl(mu_q, logvar_q, mu_p, logvar_p, axis):
    """The mean under q of log q - log p."""
    variances = (ops.exp(logvar_q) + (mu_q - mu_p) ** 2) / ops.exp(logvar_p)
    return over(0.5 * (variances - 1 + logvar_p - logvar_q), axis)


def unit_normal_kl(mu, logvar, axis):
    return normal_kl(mu, logvar, 0.0, 0.0, axis)


def label_nll(logits, labels):
    p = ops.exp(logits) / ops.sum(ops.exp(logits), axis=-1, keepdims=True)
    one_hot = np.arange(logits.shape[-1]) == labels.data[..., None]
    return -ops.log(ops.sum(p * one_hot, axis=-1))


def share(a, axis):
    return ops.exp(a) / ops.sum(ops.exp(a), axis=axis, keepdims=True)


def variance(a, axis, keepdims, ddof):
    squares = (a - ops.mean(a, axis=axis, keepdims=True)) ** 2
    count = a.size // ops.sum(a, axis=axis).size
    return ops.sum(squares, axis=axis, keepdims=keepdims) / (count - ddof)


def standard(a, axis, eps):
    centred = a - ops.mean(a, axis=axis, keepdims=True)
    return centred / ops.sqrt(ops.mean(centred * centred, axis=axis, keepdims=True) + eps)


def grouped_norm(x, weight, bias, groups, eps):
    y = standard(x.reshape((len(x), groups, -1)), -1, eps).reshape(x.shape)
    shape = (-1,) + (1,) * (x.ndim - 2)
    return y * weight.reshape(shape) + bias.reshape(shape)


def dense(x, weight, bias=None, activation=None):
    y = ops.einsum("...i,oi->...o", x, weight)
    y = y if bias is None else y + bias
    return y if activation is None else getattr(ops, ACTIVATIONS[activation])(y)


def of_sum(twin):
    """A function of an operand, or of its sum with a bias."""
    return lambda a, *bias: twin(a + bias[0] if bias else a)


TWINS = {
    "binary_cross_entropy_with_logits": bernoulli_nll,
    "gaussian_nll": normal_nll,
    "kl_normal": normal_kl,
    "kl_unit_normal": unit_normal_kl,
    "mse_loss": lambda prediction, target: ops.mean((prediction - target) ** 2),
    "cross_entropy": label_nll,
    "reparameterize": lambda mu, logvar, eps: mu + ops.exp(0.5 * logvar) * eps,
    "softmax": share,
    "log_softmax": lambda a, axis: ops.log(share(a, axis)),
    "logsumexp": lambda a, **where: ops.log(ops.sum(ops.exp(a), **where)),
    "var": variance,
    "mean": lambda a, axis, keepdims: ops.sum(a, axis=axis, keepdims=keepdims) * (ops.sum(a, axis=axis).size / a.size),
    "standardize": standard,
    "group_norm": grouped_norm,
    "linear": dense,
    "sigmoid": of_sum(lambda a: 1 / (1 + ops.exp(-a))),
    "softplus": of_sum(lambda a: ops.log(1 + ops.exp(a))),
    "soft_clip": lambda a, limit: (
        ops.clip(a, -limit, limit) + np.sign(a.data) * ops.log(1 + ops.maximum(ops.abs(a) - limit, 0.0))
    ),
    "silu": of_sum(lambda a: a / (1 + ops.exp(-a))),
    "tanh": of_sum(lambda a: (ops.exp(a) - ops.exp(-a)) / (ops.exp(a) + ops.exp(-a))),
    "relu": of_sum(lambda a: ops.where(a.data > 0, a, 0.0)),
    "leaky_relu": lambda a, negative_slope: ops.where(a.data > 0, a, negative_slope * a),
    "elu": lambda a, alpha: ops.where(a.data > 0, a, alpha * (ops.exp(a) - 1)),
    "expm1": lambda a: ops.exp(a) - 1,
    "log1p": lambda a: ops.log(1 + a),
    "sqrt": lambda a: ops.exp(0.5 * ops.log(a)),
    "pow": lambda a, b: ops.exp(b * ops.log(a)),
    "clip": lambda a, low=-np.inf, high=np.inf: ops.minimum(ops.maximum(a, low), high),
}


@pytest.mark.parametrize("name", TWINS)
@given(data=st.data())
def test_a_fused_op_is_its_twin(name, data):
    arrays, options = data.draw(ROWS[name].calls)
    value, grads = gradients(ROWS[name].fn, arrays, options)
    twin, twin_grads = gradients(TWINS[name], arrays, options)
    assert value.shape == twin.shape
    np.testing.assert_allclose(value.data, twin.data, rtol=1e-10, atol=1e-10)
    for a, grad, other in zip(arrays, grads, twin_grads, strict=True):
        if a.dtype.kind == "f":
            other = np.zeros_like(a) if other is None else other
            np.testing.assert_allclose(grad, other, rtol=1e-10, atol=1e-10 * max(1, np.max(np.abs(other), initial=0)))


# ---- extremes: the truth in decimals of 60 digits ----


def D(x):
    return Decimal(float(x))


def softplus(a):
    return (1 + a.exp()).ln()


def decimal_kl(mu_q, lv_q, mu_p, lv_p):
    return ((mu_q - mu_p) ** 2 / lv_p.exp() + (lv_q - lv_p).exp() - 1 - (lv_q - lv_p)) / 2


def decimal_nll(mu, logvar, x):
    two_pi = 2 * Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    return (logvar + (x - mu) ** 2 / logvar.exp() + two_pi.ln()) / 2


TRUTHS = {  # op: the truth, its derivatives, operands
    "binary_cross_entropy_with_logits": (
        lambda a, x: softplus(a) - a * x,
        [lambda a, x: 1 / (1 + (-a).exp()) - x, lambda a, x: -a],
        [(a, x) for a in (-100, -20, -1e-9, 0, 20, 100) for x in (0, 0.25, 1)],
    ),
    "gaussian_nll": (
        decimal_nll,
        [
            lambda m, v, x: (m - x) / v.exp(),
            lambda m, v, x: (1 - (x - m) ** 2 / v.exp()) / 2,
            lambda m, v, x: (x - m) / v.exp(),
        ],
        [(m, v, x) for m in (0, 1.5) for v in (-100, -1e-8, 0, 100) for x in (0, 1.5, -3)]
        + [(0, -100, 1e-20), (0, 100, 1e20)],  # neither the variance nor the square fits float32; the result does
    ),
    "kl_unit_normal": (
        lambda m, v: decimal_kl(m, v, Decimal(0), Decimal(0)),
        [lambda m, v: m, lambda m, v: (v.exp() - 1) / 2],
        [(m, v) for m in (0, 1e-9, 100) for v in (-100, -1e-3, 1e-9, 0, 100)],
    ),
    "kl_normal": (
        decimal_kl,
        [
            lambda mq, vq, mp, vp: (mq - mp) / vp.exp(),
            lambda mq, vq, mp, vp: ((vq - vp).exp() - 1) / 2,
            lambda mq, vq, mp, vp: (mp - mq) / vp.exp(),
            lambda mq, vq, mp, vp: -((mq - mp) ** 2 / vp.exp() + (vq - vp).exp() - 1) / 2,
        ],
        [(m, v, 0.5, w) for m in (0.5, 2) for v in (-100, -0.01, 100) for w in (-100, -0.01, 100)],
    ),
    "sigmoid": (
        lambda a: 1 / (1 + (-a).exp()),
        [lambda a: (-a).exp() / (1 + (-a).exp()) ** 2],
        [(a,) for a in (-1e4, -700, -100, -20, 0, 20, 100, 1e4)],
    ),
    "softplus": (
        softplus,
        [lambda a: 1 / (1 + (-a).exp())],
        [(a,) for a in (-1e4, -700, -100, -20, 0, 20, 100, 1e4)],
    ),
    "silu": (
        lambda a: a / (1 + (-a).exp()),
        [lambda a: (1 + (1 + a) * (-a).exp()) / (1 + (-a).exp()) ** 2],
        [(a,) for a in (-1e4, -100, -20, 0, 20, 100, 1e4)],
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TRUTHS)
def test_extremes(name, dtype):
    """Every digit in float64; in float32 as many as fit, infinite only where the truth does not fit."""
    truth, derivatives, points = TRUTHS[name]
    eps, info = np.finfo(dtype).eps, np.finfo(dtype)
    elementwise = {"axis": ()} if "kl" in name or "nll" in name or "entropy" in name else {}
    arrays = [np.array(column, dtype) for column in zip(*points, strict=True)]
    with warnings.catch_warnings(record=True) as caught, localcontext() as context:
        warnings.simplefilter("always")
        context.prec = 60
        value, grads = gradients(ROWS[name].fn, arrays, elementwise, np.ones(len(points), dtype))
        overflowed = False
        for results, formula in zip([value.data, *grads], [truth, *derivatives], strict=True):
            for result, point in zip(results, zip(*arrays, strict=True), strict=True):
                expected = formula(*map(D, point))
                if abs(expected) > D(info.max):
                    overflowed = True
                    assert np.isinf(result) and (result > 0) == (expected > 0), point
                else:
                    # in float32, e^50 squared and its kin leave only the rounding of the exponent: 50 eps
                    error = abs(D(result) - expected)
                    assert error <= D(100 * eps) * abs(expected) + D(4 * eps), (point, result, expected)
    messages = {str(w.message) for w in caught}
    assert all("overflow" in message for message in messages)
    assert overflowed or not messages


@pytest.mark.parametrize("logvar", [1e-3, -1e-3, 1e-6, -1e-6])
def test_kl_of_nearly_equal_normals_does_not_cancel(logvar):
    """(e^l - 1 - l) / 2 is l^2 / 4 there: of e^l - 1 only the rounding, relative to l, may be seen."""
    expected = logvar**2 / 4 * (1 + logvar / 3 + logvar**2 / 12 + logvar**3 / 60)
    slack = 4 * np.finfo(float).eps * abs(logvar)
    assert abs(ops.kl_unit_normal(np.zeros(()), np.array(logvar)).item() - expected) < slack
    assert abs(ops.kl_normal(np.ones(()), np.array(logvar), np.ones(()), np.zeros(())).item() - expected) < slack


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 100.0, -100.0, 1e4, -1e4])
def test_softmax_and_kin_do_not_depend_on_an_offset(dtype, offset):
    a = np.array([[0, 1, 2, -3], [1, 1, 1, 1], [0.5, -0.25, 0, 4]], dtype)
    tolerance = 8 * np.finfo(dtype).eps
    for name in ("softmax", "log_softmax"):
        assert_same(name, a + dtype(offset), a, tolerance, {"axis": -1})
    labels = np.array([0, 3, 1])
    value, (grad, _) = gradients(ops.cross_entropy, [a + dtype(offset), labels], {})
    expected, (expected_grad, _) = gradients(ops.cross_entropy, [a, labels], {})
    np.testing.assert_allclose(value.data, expected.data, tolerance, tolerance)
    np.testing.assert_allclose(grad, expected_grad, tolerance, tolerance)
    value, (grad,) = gradients(ops.logsumexp, [a + dtype(offset)], {"axis": 1})
    expected, (expected_grad,) = gradients(ops.logsumexp, [a], {"axis": 1})
    np.testing.assert_allclose(value.data, expected.data + dtype(offset), tolerance, tolerance)
    np.testing.assert_allclose(grad, expected_grad, tolerance, tolerance)


def assert_same(name, a, b, tolerance, options):
    value, (grad,) = gradients(ROWS[name].fn, [a], options)
    expected, (expected_grad,) = gradients(ROWS[name].fn, [b], options)
    np.testing.assert_allclose(value.data, expected.data, tolerance, tolerance)
    np.testing.assert_allclose(grad, expected_grad, tolerance, tolerance)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_entries_of_minus_infinity_are_as_if_absent(name):
    """The mask of attention, say: no warning, no NaN."""
    a = np.array([0.5, -np.inf, 1.5, -np.inf])
    value, (grad,) = gradients(ROWS[name].fn, [a], {"axis": 0})
    present = np.isfinite(a)
    if name == "logsumexp":
        expected, (expected_grad,) = gradients(ops.logsumexp, [a[present]], {"axis": 0})
        assert value.item() == pytest.approx(expected.item())
    else:
        np.testing.assert_array_equal(value.data[~present], 0 if name == "softmax" else -np.inf)
        # the same cotangent for what is present
        seed = np.random.default_rng(0).standard_normal(4)
        expected, (expected_grad,) = gradients(ROWS[name].fn, [a[present]], {"axis": 0}, seed[present])
        np.testing.assert_allclose(value.data[present], expected.data)
        if name == "log_softmax":  # the cotangents of the absent entries count: give them none
            _, (grad,) = gradients(ROWS[name].fn, [a], {"axis": 0}, np.where(present, seed, 0))
    np.testing.assert_array_equal(grad[~present], 0)
    np.testing.assert_allclose(grad[present], expected_grad)


def test_logsumexp_of_nothing_but_minus_infinity():
    a = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    value, (grad,) = gradients(ops.logsumexp, [a], {"axis": 1}, np.ones(2))
    np.testing.assert_array_equal(value.data, [-np.inf, 0])
    np.testing.assert_array_equal(grad, [[0, 0], [1, 0]])


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_masked_infinite_gradient_is_none():
    """sqrt'(0) is infinite; where relu or max pass nothing on, nothing is passed on, not 0 * inf."""
    _, (grad,) = gradients(lambda x: ops.sqrt(ops.relu(x)), [np.array([-1.0, 4])], {}, np.ones(2))
    np.testing.assert_array_equal(grad, [0, 0.25])
    _, (grad,) = gradients(lambda x: ops.sqrt(ops.max(x, axis=1)), [np.array([[0.0, -1.0]])], {}, np.ones(1))
    np.testing.assert_array_equal(grad, [[np.inf, 0]])


def test_powers_of_zero():
    for exponent, slope in ((0, 0), (1, 1), (2, 0), (3.0, 0)):
        value, (grad,) = gradients(ops.pow, [np.zeros(2)], {"b": exponent}, np.ones(2))
        np.testing.assert_array_equal(value.data, 0.0**exponent)
        np.testing.assert_array_equal(grad, slope)
    value, (da, db) = gradients(ops.pow, [np.zeros(3), np.array([0.0, 1, 2])], {}, np.ones(3))
    np.testing.assert_array_equal(value.data, [1, 0, 0])
    np.testing.assert_array_equal(da, [0, 1, 0])
    np.testing.assert_array_equal(db, 0)


def test_powers_of_negative_numbers():
    value, (grad,) = gradients(ops.pow, [np.array([-2.0])], {"b": 3}, np.ones(1))
    assert (value.item(), grad.item()) == (-8, 12)


# ---- indices of every kind, and their neighbours ----


@pytest.mark.parametrize(
    "index",
    [
        [0, 2, 0], [[0, 1], [2, 0]], [True, False, True], [], ([0, 2], [1, 3]), ([0, 2], slice(None)), np.int64(1),
        (np.uint8(2), 1), (..., None, [1, 1]), (None, 2, ..., -1), np.array(1), True, slice(None, None, -2),
        (slice(2, None, -1), slice(0, 0)), np.array([[True, False, True, False]] * 3), (),
    ],
    ids=str,
)  # fmt: skip
def test_indices_as_numpy(index):
    x = np.arange(12.0).reshape(3, 4)
    leaf = Tensor(x, requires_grad=True)
    y = leaf[index]
    index = np.array(index, int) if isinstance(index, list) and not index else index
    np.testing.assert_array_equal(y.data, x[index])
    y.backward(np.full(y.shape, 2.0))
    expected = np.zeros_like(x)
    np.add.at(expected, index, 2.0)
    np.testing.assert_array_equal(leaf.grad, expected)


def test_indices_that_are_tensors():
    x = np.arange(12.0).reshape(3, 4)
    for index in (np.array([0, 0, 2]), x[:, 0] > 1, np.array(1)):
        leaf = Tensor(x, requires_grad=True)
        y = leaf[Tensor(index)]
        np.testing.assert_array_equal(y.data, x[index])
        np.testing.assert_array_equal(leaf[Tensor(index), 1:].data, x[index, 1:])
        y.sum().backward()
        expected = np.zeros_like(x)
        np.add.at(expected, index, 1)
        np.testing.assert_array_equal(leaf.grad, expected)
    np.testing.assert_array_equal(ops.take(Tensor(x), Tensor(np.array([2, 2])), axis=0).data, x[[2, 2]])


def test_every_order_of_axes():
    """Some orders are not their own inverse."""
    x = np.arange(24.0).reshape(2, 3, 4)
    for axes in itertools.permutations(range(3)):
        for same in (axes, tuple(i - 3 for i in axes)):
            seed = np.random.default_rng(0).standard_normal(x.transpose(axes).shape)
            value, (grad,) = gradients(ops.transpose, [x], {"axes": same}, seed)
            np.testing.assert_array_equal(value.data, x.transpose(axes))
            for i in np.ndindex(x.shape):
                assert grad[i] == seed[tuple(i[k] for k in axes)]


def test_split_gives_back_what_was_concatenated():
    parts = [np.full((2, n), float(n)) for n in (1, 3, 2)]
    whole = ops.concatenate(parts, axis=1)
    for piece, part in zip(ops.split(whole, [1, 4], axis=-1), parts, strict=True):
        np.testing.assert_array_equal(piece.data, part)
    assert [piece.shape for piece in ops.split(whole, 3, axis=1)] == [(2, 2)] * 3
    with pytest.raises(ValueError, match="must not descend"):
        ops.split(whole, [4, 1], axis=1)
    assert [piece.shape for piece in ops.split(np.zeros((0, 2)), np.int64(2), axis=0)] == [(0, 2)] * 2


def test_an_axis_of_a_number():
    """NumPy lets some reductions of a 0-d array name axis 0: so may the gradient."""
    for name in ("sum", "max", "min"):
        assert gradients(ROWS[name].fn, [np.array(2.0)], {"axis": 0}, np.array(3.0))[1][0] == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ops.matmul(x, x), r"matmul.*\(2, 3\).*\(2, 3\)"),
        (lambda x: ops.linear(x, np.zeros((2, 4))), r"linear.*\(2, 3\).*\(2, 4\)"),
        (lambda x: ops.einsum("ij,jk->ik", x), r"einsum.*ij,jk->ik.*1 are given"),
        (lambda x: ops.einsum("ijk->i", x), r"einsum.*ijk.*\(2, 3\)"),
        (lambda x: ops.split(x, 2, axis=1), r"split.*length 3.*2"),
        (lambda x: ops.cross_entropy(x, np.array([0, 1, 2])), r"cross_entropy.*\(2, 3\).*\(2,\).*\(3,\)"),
        (lambda x: ops.cross_entropy(x, np.array([0.0, 1.0])), r"cross_entropy.*integer.*float64"),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(Tensor(np.zeros((2, 3))))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range(label):
    with pytest.raises((IndexError, ValueError), match=str(label)):
        ops.cross_entropy(Tensor(np.zeros((1, 3))), np.array([label]))


@pytest.mark.parametrize("index", [(0, 0), [0, 0], np.array([0, 0], dtype=np.uint8)])
def test_what_is_taken_twice_has_the_gradient_of_both(index):
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    x[:, index].sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, 0], [2, 0]])
    x.grad = None
    ops.take(x, index).sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, 0], [0, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
def test_indices_of_few_bits_into_a_long_table(dtype):
    """257 rows are more than a number of 8 bits can count."""
    table = Tensor(np.zeros((257, 2), dtype=np.float32), requires_grad=True)
    ops.take(table, np.array([1, 100, 1], dtype=dtype), axis=0).sum().backward()
    assert table.grad[1].tolist() == [2, 2] and table.grad[100].tolist() == [1, 1] and float(table.grad.sum()) == 6


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_not_swallowed(bad):
    """As in PyTorch: a row that holds it has no probabilities; the largest of -inf alone is another matter."""
    rows = Tensor(np.array([[1.0, bad], [1.0, 2.0]]))
    for f in (ops.softmax, ops.log_softmax):
        y = f(rows).data
        assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()
    total = ops.logsumexp(rows, axis=1).data
    assert np.isnan(total[0]) if math.isnan(bad) else total[0] == math.inf
    assert float(total[1]) == pytest.approx(math.log(math.e + math.e**2))
