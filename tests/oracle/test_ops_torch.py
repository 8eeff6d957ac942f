"""PyTorch says the same: every op of the table, its ties and kinks, and random graphs of many ops."""

import numpy as np
import pytest
from cases import TABLE, cotangent, gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import Tensor, ops

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")

few = settings(max_examples=max(5, settings().max_examples // 3))


def in_torch(row, arrays, options):
    """The value and the gradients that PyTorch gives for a call."""
    leaves = [torch.tensor(np.array(a), requires_grad=a.dtype.kind == "f") for a in arrays]
    y = row.torch(torch, *leaves, **options)
    if y.requires_grad:
        y.backward(torch.tensor(cotangent(y.detach().numpy())))
    return y.detach().numpy(), [None if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]


def agree(row, arrays, options, tolerance):
    value, grads = gradients(row.fn, arrays, options)
    torch_value, torch_grads = in_torch(row, arrays, options)
    assert value.shape == torch_value.shape and value.dtype == torch_value.dtype
    np.testing.assert_allclose(value.data, torch_value, tolerance, tolerance)
    for a, grad, other in zip(arrays, grads, torch_grads, strict=True):
        if a.dtype.kind == "f":
            other = np.zeros_like(a) if other is None else other
            np.testing.assert_allclose(grad, other, tolerance, tolerance * max(1, np.abs(other).max(initial=0)))


WITHOUT = {"log_gamma_quantile"}  # PyTorch has no such function: see tests/test_distributions.py


def test_every_other_op_has_its_counterpart():
    assert {row.name for row in TABLE if row.torch is None} == WITHOUT


@pytest.mark.parametrize("row", [row for row in TABLE if row.torch], ids=lambda row: row.name)
def test_every_op(row):

    @given(row.calls)
    def in_float64(call):
        agree(row, *call, 1e-10)

    @given(row.calls)
    @few
    def in_float32(call):
        arrays, options = call
        arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arrays]
        agree(row, arrays, options, 1e-5)

    in_float64()
    in_float32()


@pytest.mark.parametrize("row", [row for row in TABLE if row.tied], ids=lambda row: row.name)
@given(data=st.data())
def test_ties_and_kinks(row, data):
    """maximum and max share evenly; relu'(0) = abs'(0) = 0; clip passes at its bounds; 0 ** 0 and 0 ** n."""
    arrays, options = data.draw(row.calls)
    if row.name == "pow":
        options = {k: abs(v) for k, v in options.items()}
        options = {k: v if v == 0 or v >= 1 else 1 for k, v in options.items()}  # else the derivative at 0 is infinite
    agree(row, [row.tied(a) for a in arrays], options, 1e-10)


def test_kinks_by_number():
    zero = np.zeros(3)
    assert not gradients(ops.relu, [zero], {}, np.ones(3))[1][0].any()
    assert not gradients(ops.abs, [zero], {}, np.ones(3))[1][0].any()
    for grad in gradients(ops.maximum, [zero, zero], {}, np.ones(3))[1]:
        np.testing.assert_array_equal(grad, 0.5)
    (grad,) = gradients(ops.max, [np.array([1.0, 3, 3, 3])], {}, np.array(1.0))[1]
    np.testing.assert_array_equal(grad, [0, 1 / 3, 1 / 3, 1 / 3])


# ---- random graphs: each step applies an op of both libraries to earlier results ----

STEPS = {
    "add": (2, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b),
    "mul": (2, lambda a, b: a * b),
    "div": (2, lambda a, b: a / (b * b + 1)),
    "matmul": (2, lambda a, b: a @ b),
    "tanh": (1, lambda a: a.tanh()),
    "sin": (1, lambda a: a.sin()),
    "power": (1, lambda a: (a * a + 1) ** 0.5),
    "reflected": (1, lambda a: 1 - a),
    "turn": (1, lambda a: a.T),
    "sum": (1, lambda a: a.sum(0)),  # a vector: from here on it broadcasts
    "twice": (1, lambda a: a * a),
    "index": (1, lambda a: a[..., [0, 0, 1]]),
    "stretch": (1, lambda a: a.reshape((-1,))[:3] * a),
}


@given(
    steps=st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 99), st.integers(0, 99)), max_size=12),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=5 * settings().max_examples)
def test_random_graphs(steps, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-1, 1, (3, 3)) for _ in range(2)]
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    torch_leaves = [torch.tensor(a, requires_grad=True) for a in arrays]

    def run(values):
        values = list(values)
        for name, i, j in steps:
            arity, fn = STEPS[name]
            operands = [values[k % len(values)] for k in (i, j)[:arity]]
            values.append(normalised(fn(*operands)))
        return sum((v.sum() * (k + 1) for k, v in enumerate(values[2:])), values[0].sum())

    def normalised(v):
        """At least a vector of 3, and bounded."""
        v = v.tanh()
        return v if v.ndim and v.shape[-1] == 3 else v.reshape((-1,))[:1] * np_ones(v)

    def np_ones(v):
        return torch.ones(3, dtype=torch.float64) if isinstance(v, torch.Tensor) else np.ones(3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "T", property(lambda t: t.permute(*range(t.ndim)[::-1])))
        ours, theirs = run(leaves), run(torch_leaves)
    np.testing.assert_allclose(ours.item(), theirs.item(), rtol=1e-10, atol=1e-10)
    ours.backward()
    theirs.backward()
    for leaf, other in zip(leaves, torch_leaves, strict=True):
        if other.grad is None:
            assert leaf.grad is None
        else:
            scale = max(1, other.grad.abs().max().item())
            np.testing.assert_allclose(leaf.grad, other.grad.numpy(), rtol=1e-10, atol=1e-10 * scale)
