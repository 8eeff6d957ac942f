"""Pools and resampling: by hand, against loops over windows, with geometry that does not fit; and their layers."""

import re

import pytest
from anywhere import np
from cases import TABLE, gradients
from hypothesis import given
from hypothesis import strategies as st

from minivae import Tensor, nn, ops

ROWS = {row.name: row for row in TABLE}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- twins ----


def windows(x, kernel_size, stride, padding, dilation=1):
    """For each window, in order: its taps inside the image as a tensor (N, C, taps), and how many more lie outside."""
    k, s, p, d = (
        v if isinstance(v, tuple) else (v, v)
        for v in (kernel_size, kernel_size if stride is None else stride, padding, dilation)
    )
    places = [range(-p[i], x.shape[2 + i] + p[i] - d[i] * (k[i] - 1), s[i]) for i in (0, 1)]
    for top in places[0]:
        for left in places[1]:
            rows = [r for r in range(top, top + d[0] * k[0], d[0]) if 0 <= r < x.shape[2]]
            cols = [c for c in range(left, left + d[1] * k[1], d[1]) if 0 <= c < x.shape[3]]
            taps = [x[:, :, r, c] for r in rows for c in cols]
            yield ops.stack(taps, axis=-1), k[0] * k[1] - len(taps)


def shaped_as(x, values, like):
    return ops.stack(values, axis=-1).reshape(like.shape)


def max_twin(x, **options):
    values = [ops.max(taps, axis=-1) for taps, _ in windows(x, **options)]
    return shaped_as(x, values, ops.max_pool2d(x.detach(), **options))


def avg_twin(x, count_include_pad, **options):
    values = [
        ops.sum(taps, axis=-1) / (taps.shape[-1] + outside * count_include_pad)
        for taps, outside in windows(x, **options)
    ]
    return shaped_as(x, values, ops.avg_pool2d(x.detach(), **options))


def shuffle_twin(x, upscale_factor):
    r, (h, w) = upscale_factor, x.shape[2:]
    rows = [
        ops.stack([x[:, i % r * r + j % r :: r * r, i // r, j // r] for j in range(w * r)], axis=-1)
        for i in range(h * r)
    ]
    return ops.stack(rows, axis=-2)


def unshuffle_twin(x, downscale_factor):
    r = downscale_factor
    return ops.concatenate(
        [x[:, channel : channel + 1, i::r, j::r] for channel in range(x.shape[1]) for i in range(r) for j in range(r)],
        1,
    )


def interpolate_twin(x, scale_factor, mode, align_corners):
    scale = scale_factor if isinstance(scale_factor, tuple) else (scale_factor, scale_factor)
    for axis, factor in zip((2, 3), scale, strict=True):
        n = x.shape[axis]
        if mode == "nearest":
            x = ops.repeat(x, factor, axis)
            continue
        at = np.linspace(0, n - 1, n * factor) if align_corners else (np.arange(n * factor) + 0.5) / factor - 0.5
        at = np.clip(at, 0, n - 1)
        before = np.floor(at).astype(int)
        share = (at - before).reshape((-1, 1) if axis == 2 else (-1,))
        x = ops.take(x, before, axis) * (1 - share) + ops.take(x, np.minimum(before + 1, n - 1), axis) * share
    return x


TWINS = {
    "interpolate": interpolate_twin,
    "max_pool2d": max_twin, "avg_pool2d": avg_twin, "pixel_shuffle": shuffle_twin, "pixel_unshuffle": unshuffle_twin,
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
@given(data=st.data())
def test_a_fused_op_is_its_twin(name, data):
    arrays, options = data.draw(ROWS[name].calls.filter(lambda call: call[0][0].size))
    value, grads = gradients(ROWS[name].fn, arrays, options)
    twin, twin_grads = gradients(TWINS[name], arrays, options)
    np.testing.assert_allclose(value.data, twin.data, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grads[0], twin_grads[0], rtol=1e-12, atol=1e-14)


# ---- by hand ----


def test_the_first_of_equal_pixels_gets_the_gradient():
    x = np.array([[1.0, 3, 3], [3, 0, 3], [2, 2, 2]])[None, None]
    (grad,) = gradients(ops.max_pool2d, [x], {"kernel_size": 2, "stride": 1}, np.array([[[[1.0, 2], [4, 8]]]]))[1]
    np.testing.assert_array_equal(grad[0, 0], [[0, 3, 0], [4, 0, 8], [0, 0, 0]])


def test_the_border_of_a_maximum_is_below_every_pixel():
    x = -5 - np.arange(4.0).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(ops.max_pool2d(Tensor(x), 2, 2, 1).numpy(), x)


def test_not_a_number_is_the_largest():
    x = np.array([[1.0, np.nan, 2], [0, 5, 7]])[None, None]
    np.testing.assert_array_equal(ops.max_pool2d(Tensor(x), 2, 1).numpy(), [[[[np.nan, np.nan]]]])


def test_the_mean_with_and_without_its_border():
    x = Tensor(np.full((1, 1, 2, 2), 8.0))
    np.testing.assert_array_equal(ops.avg_pool2d(x, 2, 2, 1).numpy(), np.full((1, 1, 2, 2), 2.0))
    inside = ops.avg_pool2d(x, 2, 2, 1, count_include_pad=False)
    np.testing.assert_array_equal(inside.numpy(), x.numpy())


def test_interpolate():
    x = Tensor(np.array([[0.0, 4.0]])[None, None])
    np.testing.assert_array_equal(ops.interpolate(x, (2, 2)).numpy()[0, 0], [[0, 0, 4, 4]] * 2)
    smooth = ops.interpolate(x, (1, 2), "bilinear")
    np.testing.assert_array_equal(smooth.numpy()[0, 0], [[0, 1, 3, 4]])
    aligned = ops.interpolate(x, (1, 2), "bilinear", align_corners=True)
    np.testing.assert_allclose(aligned.numpy()[0, 0], [[0, 4 / 3, 8 / 3, 4]])


def test_nearest_keeps_a_bad_pixel_to_itself():
    x = np.array([[1.0, np.inf], [np.nan, 2.0]])[None, None]
    np.testing.assert_array_equal(ops.interpolate(Tensor(x), 2).numpy(), x.repeat(2, 2).repeat(2, 3))


@given(st.integers(2, 5), st.integers(2, 5), st.integers(1, 4))
def test_bilinear_keeps_a_slope(h, w, scale):
    """With aligned corners a plane stays a plane."""
    i, j = np.mgrid[:h, :w].astype(float)
    big_i, big_j = np.meshgrid(np.linspace(0, h - 1, scale * h), np.linspace(0, w - 1, scale * w), indexing="ij")
    y = ops.interpolate(Tensor((2 * i - 3 * j)[None, None]), scale, "bilinear", True)
    np.testing.assert_allclose(y.numpy()[0, 0], 2 * big_i - 3 * big_j, atol=1e-12)


@given(st.integers(0, 2), st.integers(1, 3))
def test_shuffles_are_inverse(n, r):
    x = normal(n, 2 * r * r, 2, 3)
    y = ops.pixel_shuffle(Tensor(x), r)
    assert y.shape == (n, 2, 2 * r, 3 * r)
    np.testing.assert_array_equal(ops.pixel_unshuffle(y, r).numpy(), x)


@pytest.mark.parametrize("call", [
    lambda x: ops.max_pool2d(x, 2), lambda x: ops.avg_pool2d(x, 2), lambda x: ops.interpolate(x, 2, "bilinear"),
    lambda x: ops.pixel_shuffle(x, 2), lambda x: ops.pixel_unshuffle(x, 2),
])  # fmt: skip
def test_a_batch_of_none(call):
    x = Tensor(np.zeros((0, 4, 6, 2), np.float32), requires_grad=True)
    y = call(x)
    assert y.shape == (0, *call(Tensor(np.zeros((1, 4, 6, 2), np.float32))).shape[1:]) and y.dtype == np.float32
    y.sum().backward()
    assert x.grad.shape == x.shape


# ---- geometry that does not fit ----

X = Tensor(normal(2, 6, 4, 5))
BAD = {
    "kernel too large": (lambda: ops.max_pool2d(X, 6), ["max_pool2d", "6x6", "4x5", "smaller kernel"]),
    "average, kernel too large": (lambda: ops.avg_pool2d(X, (2, 6)), ["avg_pool2d", "2x6", "4x5", "smaller kernel"]),
    "kernel 0": (lambda: ops.max_pool2d(X, 0), ["kernel_size 0", "at least 1"]),
    "stride 0": (lambda: ops.max_pool2d(X, 2, 0), ["stride 0", "at least 1"]),
    "stride a fraction": (lambda: ops.avg_pool2d(X, 2, 1.5), ["stride 1.5", "whole"]),
    "kernel of three": (lambda: ops.avg_pool2d(X, (1, 2, 3)), ["(1, 2, 3)", "two of them"]),
    "padding negative": (lambda: ops.avg_pool2d(X, 2, padding=-1), ["padding -1", "at least 0"]),
    "padding over half": (lambda: ops.max_pool2d(X, 3, padding=2), ["padding 2", "at most half", "3x3"]),
    "average, padding over half": (lambda: ops.avg_pool2d(X, (4, 2), padding=(2, 2)), ["avg_pool2d", "half", "4x2"]),
    "taps around the image": (
        lambda: ops.max_pool2d(Tensor(normal(1, 1, 1, 9)), 2, padding=2, dilation=3), ["(3, 3) apart", "1x9", "less"],
    ),
    "one image": (lambda: ops.max_pool2d(Tensor(X.data[0]), 2), ["(6, 4, 5)", "(N, C, H, W)"]),
    "integers": (lambda: ops.avg_pool2d(Tensor(np.ones((1, 1, 4, 4), int)), 2), ["int64", "floating-point"]),
    "mode": (lambda: ops.interpolate(X, 2, "bicubic"), ["'bicubic'", "'nearest' or 'bilinear'"]),
    "scale": (lambda: ops.interpolate(X, 0), ["scale_factor 0", "at least 1"]),
    "scale a fraction": (lambda: ops.interpolate(X, 1.5), ["scale_factor 1.5", "whole"]),
    "interpolate one image": (lambda: ops.interpolate(Tensor(X.data[0]), 2), ["(6, 4, 5)", "(N, C, H, W)"]),
    "shuffle": (lambda: ops.pixel_shuffle(X, 2), ["(2, 6, 4, 5)", "multiple of 4"]),
    "shuffle by 0": (lambda: ops.pixel_shuffle(X, 0), ["pixel_shuffle", "0", "at least 1"]),
    "unshuffle": (lambda: ops.pixel_unshuffle(X, 2), ["(2, 6, 4, 5)", "multiples of 2"]),
    "unshuffle one image": (lambda: ops.pixel_unshuffle(Tensor(X.data[0]), 1), ["(6, 4, 5)", "(N, C, H, W)"]),
    "unshuffle by a fraction": (lambda: ops.pixel_unshuffle(X, 2.0), ["pixel_unshuffle", "2.0", "whole"]),
    "layer: kernel": (lambda: nn.MaxPool2d(0), ["MaxPool2d", "kernel_size 0"]),
    "layer: padding": (lambda: nn.AvgPool2d(2, padding=2), ["AvgPool2d", "padding 2", "half"]),
    "layer: mode": (lambda: nn.Upsample(2, "cubic"), ["Upsample", "'cubic'"]),
    "layer: scale": (lambda: nn.Upsample(0), ["Upsample", "scale_factor 0"]),
    "layer: shuffle": (lambda: nn.PixelShuffle(0), ["PixelShuffle", "0"]),
    "layer: unshuffle": (lambda: nn.PixelUnshuffle(-1), ["PixelUnshuffle", "-1"]),
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


def test_the_layers_are_the_ops():
    for layer, y in {
        nn.MaxPool2d(2, (1, 2), 1, 2): ops.max_pool2d(X, 2, (1, 2), 1, 2),
        nn.AvgPool2d((3, 2), None, 1, False): ops.avg_pool2d(X, (3, 2), None, 1, False),
        nn.Upsample((2, 3), "bilinear", True): ops.interpolate(X, (2, 3), "bilinear", True),
        nn.PixelShuffle(1): ops.pixel_shuffle(X, 1),
        nn.PixelUnshuffle(1): ops.pixel_unshuffle(X, 1),
    }.items():
        np.testing.assert_array_equal(layer(X).data, y.data)


def test_what_the_layers_say_of_themselves():
    said = "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))"
    assert repr(nn.MaxPool2d(2)) == said
    said = "AvgPool2d(kernel_size=(2, 2), stride=(1, 1), padding=(1, 1), count_include_pad=False)"
    assert repr(nn.AvgPool2d(2, 1, 1, False)) == said
    assert repr(nn.Upsample(2)) == "Upsample((2, 2), mode=nearest, align_corners=False)"
    assert repr(nn.PixelShuffle(2)) == "PixelShuffle(2)" and repr(nn.PixelUnshuffle(3)) == "PixelUnshuffle(3)"
