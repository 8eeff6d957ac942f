"""What holds for every op of the table in cases.py: its gradient, and its manners."""

import gc
import itertools

import numpy as np
import pytest
from cases import TABLE, cotangent, gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import Tensor, gradcheck, no_grad, ops
from minivae import tensor as engine

every_op = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
few = settings(max_examples=max(5, settings().max_examples // 3))


def test_the_table_has_every_op_once():
    assert sorted(row.name for row in TABLE) == sorted(ops.__all__)


@every_op
@given(data=st.data())
def test_gradient(row, data):
    arrays, options = data.draw(row.calls)
    report = gradcheck(lambda *tensors: row.fn(*tensors, **options), arrays, name=row.name)
    assert not any(finding.kind == "kink" for finding in report.findings), report


@every_op
def test_the_table_draws_what_has_a_gradient(row):
    """A row of which all calls were empty or constant would prove nothing."""
    compared = []

    @given(row.calls)
    def draw(call):
        arrays, options = call
        compared.append(gradcheck(lambda *tensors: row.fn(*tensors, **options), arrays).entries)

    draw()
    assert sum(compared) > 10


LAYOUTS = {
    "transposed": lambda a: a.T.copy().T,
    "reversed": lambda a: backwards(backwards(a).copy()),
    "strided": lambda a: np.repeat(a[..., None], 2, axis=-1)[..., 0],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}


def backwards(a):
    return a[(*[slice(None, None, -1)] * a.ndim, ...)]


def laid_out(a, layout):
    """The same numbers, elsewhere in memory."""
    b = LAYOUTS[layout](a)
    assert np.array_equal(a, b) and b.dtype == a.dtype
    return b


@every_op
@given(data=st.data())
def test_layouts_in_memory(row, data):
    arrays, options = data.draw(row.calls)
    value, grads = gradients(row.fn, arrays, options)
    layout = st.sampled_from(list(LAYOUTS))
    elsewhere = [laid_out(a, data.draw(layout)) for a in arrays]
    seed = laid_out(cotangent(value.data), data.draw(layout))
    same_value, same_grads = gradients(row.fn, elsewhere, options, seed)
    np.testing.assert_allclose(same_value.data, value.data, rtol=1e-12, atol=1e-14)
    for same, grad in zip(same_grads, grads, strict=True):
        if grad is not None:
            np.testing.assert_allclose(same, grad, rtol=1e-12, atol=1e-14)


@every_op
@given(data=st.data())
def test_a_seed_of_one_number_repeated(row, data):
    """The cotangent that comes from sum(): a view whose strides are zero."""
    arrays, options = data.draw(row.calls)
    shape = gradients(row.fn, arrays, options)[0].shape
    _, stretched = gradients(row.fn, arrays, options, np.broadcast_to(1.5, shape))
    _, full = gradients(row.fn, arrays, options, np.full(shape, 1.5))
    for a, b in zip(stretched, full, strict=True):
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@every_op
@given(data=st.data())
def test_backward_is_linear(row, data):
    arrays, options = data.draw(row.calls)
    value = gradients(row.fn, arrays, options)[0].data
    u, v = cotangent(value, 1), cotangent(value, 2)
    of_u, of_v, of_both = (gradients(row.fn, arrays, options, seed)[1] for seed in (u, v, np.asarray(3 * u - v)))
    for gu, gv, g in zip(of_u, of_v, of_both, strict=True):
        if g is not None:
            np.testing.assert_allclose(3 * gu - gv, g, rtol=1e-9, atol=1e-9 * np.abs(g).max(initial=0))


@every_op
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
@few
def test_dtype_is_kept(row, dtype, data):
    arrays, options = data.draw(row.calls)
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    value, grads = gradients(row.fn, arrays, options)
    assert value.dtype == options.get("dtype", dtype)  # astype is the one op that is asked for another
    assert {g.dtype for g in grads if g is not None} <= {np.dtype(dtype)}


@pytest.mark.parametrize("row", [row for row in TABLE if row.weak], ids=lambda row: row.name)
@pytest.mark.parametrize("scalar", [float, np.float64, np.float32], ids=lambda kind: kind.__name__)
@given(data=st.data())
@few
def test_numbers_are_weak_operands(row, scalar, data):
    """A number among the operands does what an array full of it does, and float32 stays float32."""
    arrays, options = data.draw(row.calls.filter(lambda call: len(call[0]) > 1 and all(a.size for a in call[0])))
    arrays = [np.asarray(a, np.float32) for a in np.broadcast_arrays(*arrays)]
    i = data.draw(st.integers(0, len(arrays) - 1))
    number = scalar(0.5)
    full = np.full(arrays[i].shape, 0.5, np.float32)
    rest = [a for j, a in enumerate(arrays) if j != i]

    def called_with(operand):
        return lambda *tensors: row.fn(*tensors[:i], operand, *tensors[i:], **options)

    value, grads = gradients(called_with(number), rest, {})
    same_value, same_grads = gradients(called_with(full), rest, {})
    assert value.dtype == np.float32
    np.testing.assert_allclose(value.data, same_value.data, rtol=1e-5, atol=1e-6)
    for a, b in zip(grads, same_grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_op
@given(data=st.data())
@few
def test_only_what_is_asked_for(row, data):
    """Each operand alone has the gradient it has among others; with none, or in no_grad, nothing is recorded."""
    arrays, options = data.draw(row.calls)
    _, grads = gradients(row.fn, arrays, options)
    for i, a in enumerate(arrays):
        if a.dtype.kind == "f":
            value, alone = gradients(row.fn, arrays, options, only=[i])
            assert value.requires_grad
            assert [j for j, g in enumerate(alone) if g is not None] == [i]
            np.testing.assert_array_equal(alone[i], grads[i])
    assert not gradients(row.fn, arrays, options, only=[])[0].requires_grad
    with no_grad():
        assert not row.fn(*(Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays), **options).requires_grad


@every_op
@given(data=st.data())
def test_a_vjp_keeps_to_its_contract(row, data):
    """It returns a fresh array, its cotangent or a view of it, never what it or someone else keeps; it changes nothing."""
    arrays, options = data.draw(row.calls)
    made = []  # (value, edges) of every node

    def recording_node(name, value, edges):
        made.append((value, edges))
        return node(name, value, edges)

    node = engine.Node
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Node", recording_node)
        gradients(row.fn, arrays, options, only=None, seed=None)
    kept = [*arrays, *(value for value, _ in made)]
    before = [a.copy() for a in kept]
    assert any(edges for _, edges in made)
    for value, edges in made:
        results = []
        for seed, (_, vjp) in itertools.product((1, 2), edges):
            g = cotangent(value, seed)
            g_before = g.copy()
            result = vjp(g)
            np.testing.assert_array_equal(g, g_before)
            if not isinstance(result, np.ndarray) or result is g:
                continue  # a NumPy scalar is fresh
            assert not any(np.shares_memory(result, a) for a in kept)
            if not np.shares_memory(result, g):
                # two calls that return what they keep return the same memory
                assert not any(np.shares_memory(result, other) for other in results)
                results.append(result)
            elif result.base is None:
                pytest.fail("a result that is a view of the cotangent must show it by its base")
    for a, copy in zip(kept, before, strict=True):
        np.testing.assert_array_equal(a, copy)


@every_op
@given(data=st.data())
@settings(max_examples=5)
def test_no_reference_cycles(row, data):
    """Memory is freed without the garbage collector: a step leaves it nothing to find."""
    arrays, options = data.draw(row.calls)
    gradients(row.fn, arrays, options)  # what is made once, such as the imports of SciPy
    gc.collect()
    gc.freeze()  # the collector then looks only at what the step makes
    gc.disable()
    try:
        gradients(row.fn, arrays, options)
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("name", [r.name for r in TABLE if r.name in vars(Tensor)])
@given(data=st.data())
@settings(max_examples=5)
def test_methods_are_the_ops(name, data):
    row = next(row for row in TABLE if row.name == name)
    (first, *others), options = data.draw(row.calls)
    value = getattr(Tensor(first), name)
    if name in ("split", "repeat"):
        assert value.__func__ is getattr(ops, name)
    else:
        np.testing.assert_array_equal(value(*others, **options).data, row.fn(first, *others, **options).data)
