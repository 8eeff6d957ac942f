"""gradcheck finds planted errors and names them; what is right, it passes."""

import numpy as np
import pytest

from minivae import Tensor, gradcheck, op, ops
from minivae.findings import GradientError

A = np.array([[0.3, -0.7, 1.1], [0.2, 0.9, -0.4]])
B = np.array([[0.5, -0.2, 0.8], [1.2, 0.1, -0.6], [-0.9, 0.4, 0.7]])


@op
def wrong_sign(xp, a):
    return xp.cos(a), (lambda g: g * xp.sin(a),)


@op
def factor_two(xp, a):
    return a * a, (lambda g: g * a,)


@op
def missing_transpose(xp, a, b):
    return a @ b, (lambda g: g @ b, lambda g: a.T @ g)


@op
def one_entry(xp, a):
    def da(g):
        d = 2 * g * a
        d[1, 2] *= 1 + 1e-4
        return d

    return a * a, (da,)


@op
def forgotten_sum(xp, a):
    """The gradient of the mean of all, for one row of it only."""
    return xp.mean(a), (lambda g: xp.broadcast_to(g / a.size, (1, *a.shape[1:])),)


@op
def wrong_shape(xp, a):
    return a * 2, (lambda g: (2 * g).T,)


@op
def no_vjp(xp, a, b):
    return a * b, (lambda g: g * b,)


@pytest.mark.parametrize(
    ("fn", "inputs", "place"),
    [
        (wrong_sign, [A], "input 0 at (0, 0)"),
        (factor_two, [A], "input 0 at (0, 0)"),
        (missing_transpose, [A, B], "input 0 at (0, 0)"),
        (one_entry, [A], "input 0 at (1, 2)"),
        (no_vjp, [A, A], "input 1"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_planted_error_is_named(fn, inputs, place):
    with pytest.raises(GradientError) as caught:
        gradcheck(fn, inputs)
    assert fn.__name__ in str(caught.value)
    assert place in str(caught.value)


@pytest.mark.parametrize("fn", [wrong_shape, forgotten_sum], ids=lambda fn: fn.__name__)
def test_a_gradient_of_the_wrong_shape_is_named(fn):
    """Either by the engine, to which the shape tells it, or by gradcheck."""
    with pytest.raises((GradientError, RuntimeError), match=fn.__name__):
        gradcheck(fn, [A])


def test_the_numbers_in_the_message():
    with pytest.raises(GradientError, match=r"is 1\b.* by finite differences 2\b"):
        gradcheck(factor_two, [np.ones(1)])


def test_a_projection_hides_no_error():
    """An error in one entry of the Jacobian of many outputs is found, whatever the direction drawn."""

    @op
    def one_output(xp, a):
        def da(g):
            d = 2 * g * a
            d[7] += 1e-3 * g[7]
            return d

        return a * a, (da,)

    for seed in range(20):
        with pytest.raises(GradientError, match=r"\(7,\)"):
            gradcheck(one_output, [np.linspace(1, 2, 10)], seed=seed)


def test_what_is_right_passes():
    gradcheck(ops.matmul, [A, B])
    gradcheck(lambda x: ops.getitem(x, np.array([0, 0, 1])), [A.astype(np.float32)])  # float32 is checked in float64
    gradcheck(lambda x, i: ops.take(x, i.data, axis=0), [A, np.array([1, 1])])  # integers are not checked
    gradcheck(lambda x: x.sum(), [np.zeros((0, 3))])
    gradcheck(lambda x: x * 2, [Tensor(3.0)])
    gradcheck(lambda x: x * 0 + 1, [A])


def test_the_inputs_are_left_alone():
    a = A.copy()
    gradcheck(lambda x: (x * x).sum(), [a])
    np.testing.assert_array_equal(a, A)
