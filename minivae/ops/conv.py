"""Convolution and its transpose: windows gathered channels-last, then one matmul.

All of it is three sums over the positions p of the windows, the taps t of the kernel and the channels:

    correlate    y[n, p, o]          = sum_tc  x[n, s p + d t, c] w[o, c, t]
    scatter      x[n, s p + d t, c] += sum_o   y[n, p, o] w[o, c, t]
    outer        w[o, c, t]          = sum_np  y[n, p, o] x[n, s p + d t, c]

with stride s and dilation d. Each is linear in its two operands, and each is the derivative of the others:

    op                 value            gradient of x     gradient of weight
    conv2d             correlate(x, w)  scatter(g, w)     outer(x, g)
    conv_transpose2d   scatter(x, w)    correlate(g, w)   outer(g, x)

Images are (N, C, H, W) for the caller and channels-last in memory, where a window's row is contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from minivae.backend import Array
from minivae.tensor import op

Pair = int | tuple[int, int]


class Geometry(NamedTuple):
    """Where the windows lie, each field for rows and columns. Images here are (N, H, W, C)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def extent(self, axis: int) -> int:
        """Pixels that a dilated kernel spans."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def positions(self, size: tuple[int, ...]) -> tuple[int, int]:
        """How many windows lie in an image of a size (H, W)."""
        down, across = ((size[i] + 2 * self.padding[i] - self.extent(i)) // self.stride[i] + 1 for i in (0, 1))
        return down, across

    def windows(self, xp: Any, x: Array, positions: tuple[int, ...]) -> Array:
        """The windows of padded images as a view: (N, h, w, C) -> (N, *positions, kh, kw, C)."""
        (sh, sw), (dh, dw) = self.stride, self.dilation
        n, h, w, c = x.strides
        return xp.lib.stride_tricks.as_strided(
            x,
            (x.shape[0], *positions, *self.kernel, x.shape[3]),
            (n, sh * h, sw * w, dh * h, dw * w, c),
        )


@op
def conv2d(
    xp: Any, x: Array, weight: Array, bias: Array | None = None,
    stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, H', W'), with
    H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.
    """
    geometry = _geometry("conv2d", weight, stride, padding, dilation)
    _check("conv2d", x, weight, bias, groups, weight.shape[1] * groups, weight.shape[0])
    if min(geometry.positions(x.shape[2:])) < 1:
        raise ValueError(
            f"conv2d: a kernel that spans {geometry.extent(0)}x{geometry.extent(1)} pixels does not fit into an image "
            f"of {x.shape[2]}x{x.shape[3]} with padding {geometry.padding}: use a smaller kernel or more padding."
        )
    size = x.shape[2:]
    x = _last(x)
    y = _correlate(xp, x, weight, geometry, groups, geometry.positions(size))
    if bias is not None:
        y += bias
    return _first(y), (
        lambda g: _first(_scatter(xp, _last(g), weight, geometry, groups, size)),
        lambda g: _outer(xp, x, _last(g), weight.shape, geometry, groups),
        lambda g: xp.sum(g, axis=(0, 2, 3)),
    )


@op
def conv_transpose2d(
    xp: Any, x: Array, weight: Array, bias: Array | None = None,
    stride: Pair = 1, padding: Pair = 0, output_padding: Pair = 0, groups: int = 1, dilation: Pair = 1,
) -> Any:  # fmt: skip
    """x (N, C, H, W), weight (C, O / groups, kh, kw), bias (O,) -> (N, O, H', W'), with
    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1: the size that conv2d turns into H.
    """
    geometry = _geometry("conv_transpose2d", weight, stride, padding, dilation)
    _check("conv_transpose2d", x, weight, bias, groups, weight.shape[0], weight.shape[1] * groups)
    extra = _pair("conv_transpose2d", "output_padding", output_padding, 0)
    if any(extra[i] >= max(geometry.stride[i], geometry.dilation[i]) for i in (0, 1)):
        raise ValueError(
            f"conv_transpose2d: output_padding {extra} must be smaller than the stride {geometry.stride} "
            f"or the dilation {geometry.dilation}."
        )
    size = tuple(
        (x.shape[2 + i] - 1) * geometry.stride[i] - 2 * geometry.padding[i] + geometry.extent(i) + extra[i]
        for i in (0, 1)
    )
    if min(size) < 1:
        raise ValueError(
            f"conv_transpose2d: an image of {x.shape[2]}x{x.shape[3]} with padding {geometry.padding} would become "
            f"{size[0]}x{size[1]}: use less padding."
        )
    x = _last(x)
    y = _scatter(xp, x, weight, geometry, groups, size)
    if bias is not None:
        y = y + bias
    return _first(y), (
        lambda g: _first(_correlate(xp, _last(g), weight, geometry, groups, x.shape[1:3])),
        lambda g: _outer(xp, _last(g), x, weight.shape, geometry, groups),
        lambda g: xp.sum(g, axis=(0, 2, 3)),
    )


def _correlate(xp: Any, x: Array, weight: Array, geometry: Geometry, groups: int, positions: tuple[int, ...]) -> Array:
    """x (N, H, W, C) and weight (O, C / groups, kh, kw) -> (N, *positions, O)."""
    y = xp.empty((x.shape[0], *positions, weight.shape[0]), dtype=x.dtype)
    kernels = _matrices(weight, groups)
    for part, columns in _gathered(xp, x, geometry, groups, positions):
        for kernel, column, out in zip(kernels, columns, _grouped(y[part], groups), strict=True):
            out[...] = (column @ kernel.T).reshape(out.shape)
    return y


def _scatter(xp: Any, y: Array, weight: Array, geometry: Geometry, groups: int, size: tuple[int, ...]) -> Array:
    """y (N, H', W', O) and weight (O, C / groups, kh, kw) -> (N, *size, C)."""
    (ph, pw), (sh, sw), (dh, dw) = geometry.padding, geometry.stride, geometry.dilation
    n, down, across, _ = y.shape
    channels = weight.shape[1] * groups
    x = xp.zeros((n, size[0] + 2 * ph, size[1] + 2 * pw, channels), dtype=y.dtype)
    kernels = _matrices(weight, groups)
    for part in _chunks(n, down * across * math.prod(geometry.kernel) * channels * y.itemsize):
        for kernel, values, target in zip(kernels, _grouped(y[part], groups), _grouped(x[part], groups), strict=True):
            columns = values.reshape(-1, values.shape[-1]) @ kernel
            columns = columns.reshape(*values.shape[:3], *geometry.kernel, -1)
            for i in range(geometry.kernel[0]):
                for j in range(geometry.kernel[1]):
                    rows, cols = slice(i * dh, i * dh + sh * down, sh), slice(j * dw, j * dw + sw * across, sw)
                    target[:, rows, cols] += columns[:, :, :, i, j]
    return x[:, ph : ph + size[0], pw : pw + size[1]]


def _outer(xp: Any, x: Array, y: Array, shape: tuple[int, ...], geometry: Geometry, groups: int) -> Array:
    """x (N, H, W, C) and y (N, H', W', O) -> weights of a shape (O, C / groups, kh, kw)."""
    o, c, kh, kw = shape
    total = xp.zeros((groups, o // groups, kh * kw * c), dtype=x.dtype)
    for part, columns in _gathered(xp, x, geometry, groups, y.shape[1:3]):
        for out, values, column in zip(total, _grouped(y[part], groups), columns, strict=True):
            out += values.reshape(-1, values.shape[-1]).T @ column
    return total.reshape(o, kh, kw, c).transpose(0, 3, 1, 2)


def _gathered(
    xp: Any, x: Array, geometry: Geometry, groups: int, positions: tuple[int, ...]
) -> Iterator[tuple[slice, list[Array]]]:
    """For a few images at a time: which, and for each group the windows as rows (positions, kh kw C / groups)."""
    ph, pw = geometry.padding
    area = math.prod(positions)
    for part in _chunks(x.shape[0], area * math.prod(geometry.kernel) * x.shape[3] * x.itemsize):
        n, h, w, c = x[part].shape
        padded = xp.zeros((n, h + 2 * ph, w + 2 * pw, c), dtype=x.dtype)
        padded[:, ph : ph + h, pw : pw + w] = x[part]
        windows = geometry.windows(xp, padded, positions)
        yield part, [group.reshape(n * area, -1) for group in _grouped(windows, groups)]


def _chunks(n: int, size: int) -> list[slice]:
    """Images in parts whose windows, of so many bytes an image, fit into a core's cache."""
    step = max(1, (1 << 20) // max(size, 1))
    return [slice(i, i + step) for i in range(0, n, step)]


def _matrices(weight: Array, groups: int) -> Array:
    """Weights (O, C, kh, kw) as a matrix for each group: (groups, O / groups, kh kw C)."""
    return weight.transpose(0, 2, 3, 1).reshape(groups, weight.shape[0] // groups, -1)


def _grouped(a: Array, groups: int) -> list[Array]:
    """Views of equal parts of the last axis."""
    width = a.shape[-1] // groups
    return [a[..., i * width : (i + 1) * width] for i in range(groups)]


def _last(a: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C), a view."""
    return a.transpose(0, 2, 3, 1)


def _first(a: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W), a view."""
    return a.transpose(0, 3, 1, 2)


def _pair(name: str, what: str, value: Any, low: int) -> tuple[int, int]:
    """One number for both axes, or two; each at least low."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= low for v in pair):
        raise ValueError(f"{name}: {what} {value} must be a whole number of at least {low}, or two of them.")
    return pair


def _geometry(name: str, weight: Array, stride: Pair, padding: Pair, dilation: Pair) -> Geometry:
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f"{name}: weight of shape {weight.shape} must be (out, in, height, width), none of them 0.")
    return Geometry(
        weight.shape[2:],
        _pair(name, "stride", stride, 1),
        _pair(name, "padding", padding, 0),
        _pair(name, "dilation", dilation, 1),
    )


def _check(name: str, x: Array, weight: Array, bias: Array | None, groups: int, inputs: int, outputs: int) -> None:
    """x has the channels that the weight takes, and the groups divide what they must."""
    if not isinstance(groups, int) or groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{name}: groups {groups} must be at least 1 and divide the first axis of weight {weight.shape}."
        )
    if x.ndim != 4 or x.shape[1] != inputs:
        raise ValueError(
            f"{name}: x of shape {x.shape} must be (N, {inputs}, H, W) for weight {weight.shape} and groups {groups}."
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: bias of shape {bias.shape} must be ({outputs},) for weight {weight.shape}.")
