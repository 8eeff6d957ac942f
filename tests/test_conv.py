"""Convolutions: against the definition, in memory, with geometry that does not fit; and their layers."""

import itertools
import re

import numpy as on_host
import pytest
from anywhere import np, there
from cases import ACTIVATIONS, TABLE, cotangent, gradients
from hypothesis import given
from hypothesis import strategies as st

from minivae import Tensor, backend, nn, ops
from minivae.backend import windows
from minivae.ops import conv
from minivae.ops.windows import Geometry

ROWS = {row.name: row for row in TABLE}
both = pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def is_channels_last(a):
    return a.transpose(0, 2, 3, 1).flags.c_contiguous


# ---- the twin: the definition, as one sum ----


def twin(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, activation=None):
    """y[n, g, o, h, w] = the sum of x[n, g, c, H, W] weight[g, o, c, i, j] where H, W is what tap i, j of h, w sees."""
    kernel = weight.shape[2:]
    options = [v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation)]
    rows, cols = (seen(x.shape[2 + i], kernel[i], *(v[i] for v in options)) for i in (0, 1))
    images = x.reshape((len(x), groups, -1, *x.shape[2:]))
    kernels = weight.reshape((groups, -1, *weight.shape[1:]))
    y = ops.einsum("ngcHW,ihH,jwW,gocij->ngohw", images, rows, cols, kernels)
    return activated(y.reshape((len(x), len(weight), *y.shape[3:])), bias, activation)


def transposed_twin(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, activation=None):
    """The same sum, over the windows and the outputs."""
    kernel = weight.shape[2:]
    options = [v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation, output_padding)]
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for n, k, s, p, d, extra in zip(x.shape[2:], kernel, *options, strict=True)
    ]
    rows, cols = (seen(size[i], kernel[i], *(v[i] for v in options[:3]))[:, : x.shape[2 + i]] for i in (0, 1))
    images = x.reshape((len(x), groups, -1, *x.shape[2:]))
    kernels = weight.reshape((groups, -1, *weight.shape[1:]))
    y = ops.einsum("ngohw,ihH,jwW,gocij->ngcHW", images, rows, cols, kernels)
    return activated(y.reshape((len(x), weight.shape[1] * groups, *size)), bias, activation)


def seen(n, k, stride, padding, dilation):
    """1 at (tap, window, pixel) where that tap of that window sees that pixel."""
    tap, window, pixel = np.ogrid[:k, : (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1, :n]
    return there((pixel == stride * window + dilation * tap - padding).astype(float))


def activated(y, bias, activation):
    y = y if bias is None else y + bias.reshape((-1, 1, 1))
    return y if activation is None else getattr(ops, ACTIVATIONS[activation])(y)


@both
@given(data=st.data())
def test_the_definition(name, data):
    arrays, options = data.draw(ROWS[name].calls.filter(lambda call: call[0][0].size))
    arrays = [channels_last(arrays[0]) if data.draw(st.booleans()) else arrays[0], *arrays[1:]]
    value, grads = gradients(ROWS[name].fn, arrays, options)
    expected, expected_grads = gradients({"conv2d": twin, "conv_transpose2d": transposed_twin}[name], arrays, options)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value.data, expected.data, rtol=1e-10, atol=1e-10)
    for grad, other in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, other, rtol=1e-10, atol=1e-9)


def test_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    weight = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])  # a pixel minus the one below and to the right
    np.testing.assert_array_equal(ops.conv2d(Tensor(x), weight).numpy(), np.full((1, 1, 2, 2), -4.0))
    y = ops.conv_transpose2d(Tensor(np.ones((1, 1, 1, 1))), weight, stride=3, output_padding=2)
    assert y.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(y.numpy()[0, 0, :2, :2], weight[0, 0])
    assert not y.numpy()[0, 0, 2:].any() and not y.numpy()[0, 0, :, 2:].any()


def test_windows_that_see_the_border_alone():
    x, weight, options = np.ones((1, 1, 5, 5)), np.ones((1, 1, 1, 1)), {"stride": 20, "padding": 3}
    value, grads = gradients(ops.conv2d, [x, weight], options)
    assert value.shape == (1, 1, 1, 1) and not value.data.any()
    assert not any(grad.any() for grad in grads)


@given(data=st.data())
def test_one_is_the_adjoint_of_the_other(data):
    (x, weight, *_), options = data.draw(ROWS["conv2d"].calls)
    del options["activation"]  # without one it is linear
    y = ops.conv2d(Tensor(x), weight, **options)
    pairs = {key: v if isinstance(v, tuple) else (v, v) for key, v in options.items() if key != "groups"}
    sizes = zip(x.shape[2:], y.shape[2:], weight.shape[2:], *pairs.values(), strict=True)
    extra = tuple(n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in sizes)
    g = cotangent(y.data)
    if all(e < max(s, d) for e, s, d in zip(extra, pairs["stride"], pairs["dilation"], strict=True)):
        back = ops.conv_transpose2d(Tensor(g), weight, output_padding=extra, **options)
        np.testing.assert_allclose(np.sum(y.data * g), np.sum(x * back.data), rtol=1e-10, atol=1e-10)


# ---- in memory ----


@both
@given(data=st.data())
def test_nothing_depends_on_the_scratch_or_on_its_size(name, data):
    arrays, options = data.draw(ROWS[name].calls)
    arrays = [np.concatenate([arrays[0]] * 3), *arrays[1:]]
    value, grads = gradients(ROWS[name].fn, arrays, options)
    again, again_grads = gradients(ROWS[name].fn, arrays, options)
    xp = backend.current()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xp, "empty", lambda *args, **kwargs: np.full(*args, fill_value=np.nan, **kwargs), raising=False)
        fresh, fresh_grads = gradients(ROWS[name].fn, arrays, options)
        patch.setattr(xp, "fitting", lambda n, nbytes: 2)
        parts, parts_grads = gradients(ROWS[name].fn, arrays, options)
    for other, other_grads in ((again, again_grads), (fresh, fresh_grads)):
        for a, b in zip([value.data, *grads], [other.data, *other_grads], strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip([value.data, *grads], [parts.data, *parts_grads], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_images_stay_channels_last():
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.GroupNorm(2, 8), nn.ResidualBlock(8, 4), nn.SiLU(), nn.MaxPool2d(2),
        nn.Upsample(2, "bilinear"), nn.Upsample(2), nn.PixelUnshuffle(2), nn.PixelShuffle(2), nn.Sigmoid(),
        nn.AvgPool2d(4), nn.ConvTranspose2d(8, 4, 4, 2, 1),
    )  # fmt: skip
    x = Tensor(normal(2, 3, 16, 16))
    for layer in layers.layers:
        x = layer(x)
        assert is_channels_last(x.data), layer
    flat = nn.Flatten()(x)  # in the order of PyTorch
    np.testing.assert_array_equal(flat.numpy(), np.ascontiguousarray(x.numpy()).reshape(2, -1))
    flat.sum().backward()
    for name, p in layers.named_parameters():
        assert p.grad.flags.c_contiguous, name


def test_gradients_add_up_in_any_layout():
    x = Tensor(normal(2, 3, 5, 5), requires_grad=True)
    weight = normal(4, 3, 3, 3)

    def run(times):
        x.grad = None
        for _ in range(times):
            (ops.conv2d(x, weight).sum() + (x * x).sum() + ops.conv2d(x, weight, padding=1).sum()).backward()
        return x.grad.copy()

    np.testing.assert_allclose(run(2), 2 * run(1), rtol=1e-5)


def test_a_kernel_of_one_pixel_gathers_nothing():
    x = normal(5, 4, 3, 2)
    parts = list(conv._gathered(conv.Rows(backend.current(), x, Geometry((1, 1)), 2, (4, 3))))
    assert [rows.shape for _, _, rows in parts] == [(60, 1), (60, 1)]
    assert all(np.shares_memory(rows, x) for _, _, rows in parts)


def test_only_a_few_images_are_gathered_at_once():
    count, geometry = (14, 14), Geometry((3, 3), padding=(1, 1))
    parts = list(conv._gathered(conv.Rows(backend.current(), normal(20, 14, 14, 64), geometry, 1, count)))
    assert len(parts) > 4 and max(rows.nbytes for _, _, rows in parts) <= 1 << 21
    assert backend.current().fitting(9, 10**9) == backend.current().fitting(0, 8) == 1
    assert backend.current().fitting(9, 1) == 9


@pytest.mark.parametrize("groups", [1, 2])
def test_rows_that_are_not_many_are_gathered_once(groups, monkeypatch):
    """The weight's gradient takes those of the value; more than KEPT bytes are gathered again, to the same."""
    xp = backend.current()
    calls = []
    gather = xp.gather_windows
    monkeypatch.setattr(xp, "gather_windows", lambda *given: calls.append(len(given[0])) or gather(*given))
    monkeypatch.setattr(xp, "fitting", lambda n, nbytes: 2)
    x, weight, transposed = normal(5, 4, 6, 6), normal(6, 4 // groups, 3, 3), normal(4, 6 // groups, 3, 3)
    found = {}
    for kept in (0, conv.KEPT):
        monkeypatch.setattr(conv, "KEPT", kept)
        for name, w in (("conv2d", weight), ("conv_transpose2d", transposed)):
            calls.clear()
            arguments = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
            y = getattr(ops, name)(*arguments, stride=2, groups=groups)
            y.backward(np.cos(y.data))
            found[name, kept] = [y.data, *(a.grad for a in arguments)], list(calls)
    for name in ("conv2d", "conv_transpose2d"):
        (again, many), (once, few) = found[name, 0], found[name, conv.KEPT]
        assert sorted(few) == sorted([2, 2, 1] * groups) and sorted(many) == sorted(2 * few)
        for a, b in zip(again, once, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_words_are_gathered_as_runs_are(channels, dtype, monkeypatch):
    x = on_host.random.default_rng(0).standard_normal((2, 7, 9, channels)).astype(dtype)
    used = 0
    for kernel, stride, padding, dilation in itertools.product([1, 2, 3, 4], [1, 2, 3], [-1, 0, 2], [1, 2]):
        geometry = Geometry((3, kernel), (2, stride), (1, padding), (1, dilation))
        if min(count := geometry.positions("", (7, 9))) < 1:
            continue
        columns = [on_host.full((2, *count, 3, kernel, channels), on_host.nan, dtype) for _ in range(2)]
        windows.gather(on_host, x, geometry, columns[0])
        with monkeypatch.context() as patch:
            patch.setattr(windows, "WORDS", {})
            windows.gather(on_host, x, geometry, columns[1])
        on_host.testing.assert_array_equal(*columns)
        used += geometry.stride[1] > 1 and kernel % stride == 0 and dilation == 1
    assert used > 3  # words of several pixels


# ---- geometry that does not fit ----

X, W, WT, B = normal(2, 4, 5, 6), normal(6, 4, 3, 3), normal(4, 6, 3, 3), normal(6)
BAD = {  # a call, and what its sentence says
    "kernel too large": (lambda: ops.conv2d(X, normal(6, 4, 8, 3), padding=1), ["(8, 3)", "5x6", "smaller kernel"]),
    "dilated too large": (lambda: ops.conv2d(X, W, dilation=3), ["7x7", "5x6", "smaller kernel or more padding"]),
    "stride 0": (lambda: ops.conv2d(X, W, stride=0), ["stride 0", "at least 1"]),
    "stride of one axis 0": (lambda: ops.conv2d(X, W, stride=(1, 0)), ["stride (1, 0)", "at least 1"]),
    "stride of three": (lambda: ops.conv2d(X, W, stride=(1, 1, 1)), ["stride (1, 1, 1)", "two of them"]),
    "stride a fraction": (lambda: ops.conv2d(X, W, stride=1.5), ["stride 1.5", "whole"]),
    "stride a text": (lambda: ops.conv2d(X, W, stride="2"), ["stride '2'", "whole"]),
    "padding negative": (lambda: ops.conv2d(X, W, padding=-1), ["padding -1", "at least 0"]),
    "padding 'same'": (lambda: ops.conv2d(X, W, padding="same"), ["padding 'same'", "whole"]),
    "dilation 0": (lambda: ops.conv2d(X, W, dilation=0), ["dilation 0", "at least 1"]),
    "groups 0": (lambda: ops.conv2d(X, W, groups=0), ["groups 0", "(6, 4, 3, 3)"]),
    "groups a fraction": (lambda: ops.conv2d(X, W, groups=2.0), ["groups 2.0", "whole"]),
    "groups do not divide": (lambda: ops.conv2d(X, W, groups=4), ["groups 4", "(6, 4, 3, 3)", "divides"]),
    "channels": (lambda: ops.conv2d(X[:, :3], W), ["(2, 3, 5, 6)", "(N, 4, H, W)", "(6, 4, 3, 3)"]),
    "channels and groups": (lambda: ops.conv2d(X, W, groups=2), ["(N, 8, H, W)", "groups 2"]),
    "one image": (lambda: ops.conv2d(X[0], W), ["(4, 5, 6)", "(N, C, H, W)"]),
    "integers": (lambda: ops.conv2d(X.astype(int), W), ["int64", "floating-point"]),
    "weight of 3 axes": (lambda: ops.conv2d(X, W[0]), ["(4, 3, 3)", "(out, in, height, width)"]),
    "weight empty": (lambda: ops.conv2d(X, W[:, :, :0]), ["(6, 4, 0, 3)", "none of them 0"]),
    "weight of another dtype": (lambda: ops.conv2d(X, W.astype(float)), ["float32", "float64", "astype"]),
    "bias": (lambda: ops.conv2d(X, W, B[:4]), ["(4,)", "(6,)"]),
    "bias of another dtype": (lambda: ops.conv2d(X, W, B.astype(float)), ["bias float64", "astype"]),
    "transposed: stride 0": (lambda: ops.conv_transpose2d(X, WT, stride=0), ["conv_transpose2d", "stride 0"]),
    "transposed: channels": (lambda: ops.conv_transpose2d(X, W), ["(N, 6, H, W)", "(6, 4, 3, 3)"]),
    "transposed: groups": (lambda: ops.conv_transpose2d(X, WT, groups=3), ["groups 3", "(4, 6, 3, 3)"]),
    "transposed: bias": (lambda: ops.conv_transpose2d(X, WT, B, groups=2), ["(6,)", "(12,)"]),
    "transposed: all cropped": (lambda: ops.conv_transpose2d(X, WT, padding=4), ["5x6", "-1x0", "less padding"]),
    "output padding at the stride": (
        lambda: ops.conv_transpose2d(X, WT, stride=2, output_padding=2), ["output_padding (2, 2)", "stride (2, 2)"],
    ),
    "output padding over the stride": (
        lambda: ops.conv_transpose2d(X, WT, stride=(3, 2), output_padding=(2, 2)), ["(2, 2)", "smaller", "(3, 2)"],
    ),
    "output padding negative": (lambda: ops.conv_transpose2d(X, WT, output_padding=-1), ["output_padding -1"]),
    "layer: channels": (lambda: nn.Conv2d(0, 4, 3), ["Conv2d", "0", "at least 1"]),
    "layer: channels a fraction": (lambda: nn.Conv2d(4, 2.5, 3), ["Conv2d", "2.5", "whole"]),
    "layer: kernel": (lambda: nn.Conv2d(4, 4, 0), ["Conv2d", "kernel_size 0"]),
    "layer: kernel of three": (lambda: nn.ConvTranspose2d(4, 4, (3, 3, 3)), ["ConvTranspose2d", "(3, 3, 3)"]),
    "layer: groups": (lambda: nn.Conv2d(4, 6, 3, groups=4), ["4", "6", "divide"]),
    "layer: stride": (lambda: nn.Conv2d(4, 6, 3, stride=0), ["Conv2d", "stride 0"]),
    "layer: output padding": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, output_padding=2), ["ConvTranspose2d", "(2, 2)"]),
    "layer: groups of a norm": (lambda: nn.GroupNorm(3, 4), ["GroupNorm", "3", "4"]),
    "layer: input of a norm": (lambda: nn.GroupNorm(2, 6)(Tensor(X)), ["(2, 4, 5, 6)", "6 channels"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_geometry_is_one_sentence(name):
    call, said = BAD[name]
    with pytest.raises(ValueError) as error:
        call()
    text = str(error.value)
    assert all(words in text for words in said), text
    assert "\n" not in text and text.endswith(".") and not re.search(r"\.\s", text), text


# ---- layers ----


def test_output_padding_may_be_under_the_dilation():
    y = ops.conv_transpose2d(X, WT, output_padding=2, dilation=3)
    np.testing.assert_array_equal(y.numpy()[:, :, -2:], 0)  # which no window reaches
    assert y.shape == (2, 6, 13, 14)


def test_the_layers_are_the_ops():
    x = Tensor(X)
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=2, groups=2)
    y = ops.conv2d(x, layer.weight, layer.bias, 2, (1, 0), 2, 2)
    np.testing.assert_array_equal(layer(x).data, y.data)
    layer = nn.ConvTranspose2d(4, 6, 3, 2, 1, (1, 0), 2, False, 1)
    y = ops.conv_transpose2d(x, layer.weight, None, 2, 1, (1, 0), 2)
    np.testing.assert_array_equal(layer(x).data, y.data)
    block = nn.ResidualBlock(4, 3)
    first, second = block.residual.layers[1], block.residual.layers[3]
    y = x + second(ops.relu(first(ops.relu(x))))
    np.testing.assert_array_equal(block(x).data, y.data)


def test_group_norm():
    layer = nn.GroupNorm(2, 4)
    y = layer(Tensor(X * 3 + 1)).data.reshape(2, 2, -1)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, atol=1e-4)
    layer.weight.data[:] = np.array([1, 2, 3, 4])
    layer.bias.data[:] = np.array([4, 3, 2, 1])
    scaled = layer(Tensor(X * 3 + 1)).data
    scale, shift = np.array([1, 2, 3, 4])[:, None, None], np.array([4, 3, 2, 1])[:, None, None]
    np.testing.assert_allclose(scaled, y.reshape(X.shape) * scale + shift, rtol=1e-5, atol=1e-5)


def test_what_the_layers_say_of_themselves():
    said = nn.Conv2d(4, 6, 3, 2, 1, groups=2).extra_repr()
    assert said == "4, 6, (3, 3), stride=(2, 2), padding=(1, 1), groups=2"
    said = nn.ConvTranspose2d(4, 6, (3, 2), 2, output_padding=(1, 0)).extra_repr()
    assert said == "4, 6, (3, 2), stride=(2, 2), output_padding=(1, 0)"
    assert nn.GroupNorm(2, 4).extra_repr() == "2, 4, eps=1e-05"
