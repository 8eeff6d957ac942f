"""Convolutions, pools and their layers against PyTorch: what it takes and refuses, in any layout, with its weights."""

import numpy as np
import pytest
from cases import cotangent
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import Tensor, nn, ops

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
functional = torch.nn.functional


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def both(fn, torch_fn, arrays, tolerance=1e-5):
    """The values of two functions, and the gradients of all arrays, are the same."""
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a.copy(), requires_grad=True) for a in arrays]
    y, torch_y = fn(*ours), torch_fn(*theirs)
    assert y.shape == tuple(torch_y.shape)
    seed = cotangent(y.data)
    y.backward(seed)
    torch_y.backward(torch.tensor(seed))
    for a, b in [(y.data, torch_y.detach()), *((a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))]:
        b = b.numpy()
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "channels-last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "a slice": lambda a: np.repeat(np.repeat(a, 2, axis=1), 3, axis=3)[:, ::2, :, 1::3],
    "reversed": lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}
OPS = {
    "conv2d": (ops.conv2d, functional.conv2d, [(6, 4, 4, 3), (6,)]),
    "conv_transpose2d": (ops.conv_transpose2d, functional.conv_transpose2d, [(4, 6, 4, 3), (6,)]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPS)
def test_layouts(name, layout):
    fn, torch_fn, shapes = OPS[name]
    x, *rest = (normal(*shape, seed=i) for i, shape in enumerate([(3, 4, 9, 7), *shapes]))
    laid_out = LAYOUTS[layout](x)
    np.testing.assert_array_equal(laid_out, x)
    both(lambda *a: fn(*a, stride=2, padding=1), lambda *a: torch_fn(*a, stride=2, padding=1), [laid_out, *rest])


@pytest.mark.parametrize("name, fn, torch_fn", [
    ("max", ops.max_pool2d, functional.max_pool2d), ("average", ops.avg_pool2d, functional.avg_pool2d),
    ("nearest", ops.interpolate, functional.interpolate),
])  # fmt: skip
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_pools(layout, name, fn, torch_fn):
    factor = {"scale_factor" if name == "nearest" else "kernel_size": 3}
    both(lambda x: fn(x, **factor), lambda x: torch_fn(x, **factor), [LAYOUTS[layout](normal(3, 4, 9, 7))])


SIZES = [  # in networks of 28 and 32 pixels: inputs, size, outputs, kernel, stride, padding
    (1, 28, 32, 4, 2, 1), (32, 14, 64, 4, 2, 1), (64, 14, 32, 3, 1, 1), (3, 32, 64, 4, 2, 1), (64, 8, 64, 3, 1, 1),
    (64, 7, 32, 4, 2, 1), (32, 14, 1, 4, 2, 1), (16, 7, 64, 1, 1, 0), (64, 7, 10, 7, 1, 0),
]  # fmt: skip


@pytest.mark.parametrize("c, size, o, k, stride, padding", SIZES)
def test_sizes_of_networks(c, size, o, k, stride, padding):
    """In float32, with many images: they go through the scratch memory in parts."""
    x, weight = normal(9, c, size, size), normal(o, c, k, k, seed=1) / np.sqrt(c * k * k, dtype=np.float32)
    for fn, torch_fn, w in [
        (ops.conv2d, functional.conv2d, weight),
        (ops.conv_transpose2d, functional.conv_transpose2d, weight.swapaxes(0, 1).copy()),
    ]:
        both(lambda *a, f=fn: f(*a, None, stride, padding), lambda *a, f=torch_fn: f(*a, None, stride, padding), [x, w])


few = st.sampled_from([1, 1, 2, 1, 2, 3, 1, 1, 0, -1])
numbers = st.tuples(few, few) | few


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)), kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])), fit=st.integers(0, 4),
    groups=st.sampled_from([1, 1, 2, 1, 2, 0, 3]),
    options=st.fixed_dictionaries({}, optional={"stride": numbers, "padding": numbers, "dilation": numbers}),
    output_padding=st.none() | numbers,
)  # fmt: skip
@settings(max_examples=6 * settings().max_examples)
def test_what_pytorch_refuses_we_refuse(size, kernel, channels, fit, groups, options, output_padding):
    """And what it takes we take, with the same result."""
    name = "conv2d" if output_padding is None else "conv_transpose2d"
    options |= {"groups": groups} | ({} if output_padding is None else {"output_padding": output_padding})
    fn, torch_fn, _ = OPS[name]
    w0, w1 = channels
    c = (w1 * groups if output_padding is None else w0) if fit else 3
    arrays = normal(2, max(c, 1), *size, dtype=float), normal(w0, w1, *kernel, dtype=float)
    try:
        expected = torch_fn(*map(torch.tensor, arrays), **options)
    except (RuntimeError, ValueError):
        with pytest.raises(ValueError, match=name):
            fn(*map(Tensor, arrays), **options)
    else:
        np.testing.assert_allclose(fn(*map(Tensor, arrays), **options).data, expected.numpy(), rtol=1e-9, atol=1e-9)


LAYERS = {  # ours, PyTorch's, the input
    "conv": (lambda m: m.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7, 6)),
    "conv without bias": (lambda m: m.Conv2d(4, 6, (1, 3), dilation=(1, 2), bias=False), (2, 4, 7, 6)),
    "transposed": (lambda m: m.ConvTranspose2d(4, 6, 4, 2, 1), (2, 4, 3, 5)),
    "transposed, all arguments": (lambda m: m.ConvTranspose2d(4, 6, 3, 3, 1, (2, 1), 2, False, 2), (2, 4, 3, 5)),
    "group norm": (lambda m: m.GroupNorm(2, 4), (3, 4, 5, 2)),
    "group norm of vectors": (lambda m: m.GroupNorm(2, 4), (3, 4)),
    "instance norm": (lambda m: m.GroupNorm(4, 4), (3, 4, 5)),
    "max pool": (lambda m: m.MaxPool2d(3, 2, 1), (2, 4, 7, 6)),
    "average pool": (lambda m: m.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 4, 7, 6)),
    "nearest": (lambda m: m.Upsample(scale_factor=2), (2, 4, 3, 2)),
    "bilinear": (lambda m: m.Upsample(scale_factor=(3, 2), mode="bilinear", align_corners=True), (2, 4, 3, 2)),
    "shuffle": (lambda m: m.PixelShuffle(2), (2, 8, 3, 2)),
    "unshuffle": (lambda m: m.PixelUnshuffle(2), (2, 2, 6, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    make, shape = LAYERS[name]
    ours, theirs = make(nn), make(torch.nn)
    state = {k: normal(*v.shape, seed=i) for i, (k, v) in enumerate(theirs.state_dict().items())}
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in state.items()}
    ours.load_state_dict(state)
    both(ours, theirs, [normal(*shape, seed=9)])
    for (k, p), (torch_k, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert k == torch_k
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-4, atol=1e-4, err_msg=k)


@pytest.mark.parametrize("name", ["conv", "transposed"])
def test_initial_values(name):
    """Uniform with PyTorch's bound: the largest of many comes near it."""
    make = {"conv": lambda m: m.Conv2d(32, 64, 3, groups=2), "transposed": lambda m: m.ConvTranspose2d(64, 32, 3)}[name]
    ours, theirs = make(nn), make(torch.nn)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert p.shape == tuple(q.shape)
        np.testing.assert_allclose(np.abs(p.data).max(), q.abs().max().item(), rtol=0.2 if p.ndim == 1 else 0.01)
