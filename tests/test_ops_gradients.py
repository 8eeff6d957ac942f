"""What holds for every op of the table in cases.py: its gradient, and its manners."""

import gc
import itertools

import pytest
from anywhere import np
from cases import TABLE, cotangent, gradients
from hypothesis import Phase, find, given, settings
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

    def proves(call):
        arrays, options = call
        return gradcheck(lambda *tensors: row.fn(*tensors, **options), arrays, raise_exception=False).entries > 2

    find(row.calls, proves, settings=settings(max_examples=200, phases=[Phase.generate]))


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
@few
def test_layouts_in_memory(row, data):
    arrays, options = data.draw(row.calls)
    value, grads = gradients(row.fn, arrays, options)
    layout = st.sampled_from(list(LAYOUTS))
    elsewhere = [laid_out(a, data.draw(layout)) for a in arrays]
    seed = cotangent(value.data)
    assert_same(gradients(row.fn, elsewhere, options, laid_out(seed, data.draw(layout))), (value, grads))
    stretched = np.broadcast_to(1.5, value.shape)  # as it comes from sum(): its strides are zero
    assert_same(gradients(row.fn, arrays, options, stretched), gradients(row.fn, arrays, options, stretched.copy()))


def assert_same(results, expected, rtol=1e-12, atol=1e-14):
    """Compare values and gradients."""
    (value, grads), (expected_value, expected_grads) = results, expected
    np.testing.assert_allclose(value.data, expected_value.data, rtol, atol)
    for grad, other in zip(grads, expected_grads, strict=True):
        assert (grad is None) == (other is None)
        if grad is not None:
            np.testing.assert_allclose(grad, other, rtol, atol)


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
@given(data=st.data())
@few
def test_numbers_are_weak_operands(row, data):
    """A number among the operands does what an array full of it does, and float32 stays float32."""
    arrays, options = data.draw(row.calls.filter(lambda call: len(call[0]) > 1 and all(a.size for a in call[0])))
    arrays = [np.asarray(a, np.float32) for a in np.broadcast_arrays(*arrays)]
    for i, number in itertools.product(range(len(arrays)), (0.5, np.float64(0.5), np.float32(0.5))):

        def called_with(operand, i=i):
            return lambda *others: row.fn(*others[:i], operand, *others[i:], **options)

        rest = [a for j, a in enumerate(arrays) if j != i]
        value, grads = gradients(called_with(number), rest, {})
        full = gradients(called_with(np.full(arrays[i].shape, 0.5, np.float32)), rest, {})
        assert value.dtype == np.float32, (i, number)
        assert_same((value, grads), full, 1e-5, 1e-6)


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
@few
def test_a_vjp_keeps_to_its_contract(row, data):
    """It returns a fresh array, its cotangent or a view of it, never what someone keeps; it changes nothing."""
    arrays, options = data.draw(row.calls)
    made = []  # (value, edges) of every node

    def recording_node(name, value, edges):
        made.append((value, edges))
        return node(name, value, edges)

    node = engine.Node
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Node", recording_node)
        gradients(row.fn, arrays, options)
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
    gc.disable()
    gc.freeze()  # the collector then looks only at what the step makes
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
