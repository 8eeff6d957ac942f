"""Convolution and its transpose: windows gathered channels-last, then one matmul.

All of it is three sums over the positions p of the windows, the taps t of the kernel and the channels:

    correlate    y[n, p, o]          = sum_tc  x[n, s p + d t, c] w[o, c, t]
    scatter      x[n, s p + d t, c] += sum_o   y[n, p, o] w[o, c, t]
    outer        w[o, c, t]          = sum_np  y[n, p, o] x[n, s p + d t, c]

with stride s and dilation d. Each is linear in its two operands, and each is the derivative of the others:

    op                 value            gradient of x     gradient of weight
    conv2d             correlate(x, w)  scatter(g, w)     outer(x, g)
    conv_transpose2d   scatter(x, w)    correlate(g, w)   outer(g, x)

Each is a product of matrices too: of the windows as rows (positions, taps x channels) and the kernels as rows
(outputs, taps x channels). What is left is to move the windows of images into rows, and rows back: there the backend
knows best how, `gather_windows` and `scatter_windows`. A few images at a time, so that they stay in the cache. The
rows of windows that are not many are kept (`Rows`): the gradient of the weight takes those of the value again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from minivae.backend import Array
from minivae.graph import Into
from minivae.ops.affine import activated, once
from minivae.ops.windows import Geometry, Pair, check_images, first, geometry, last, pair
from minivae.tensor import op

KEPT = 1 << 23  # bytes of rows that are worth their memory; of many more it is as fast to gather them anew


@op
def conv2d(
    xp: Any, x: Array, weight: Array, bias: Array | None = None,
    stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1, activation: Any = None,
) -> Any:  # fmt: skip
    """x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, H', W'), with
    H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    activation: of the result in the same pass as the bias, as arrays know it: ops.relu.forward.
    """
    windows = _windows("conv2d", x, weight, stride, padding, dilation)
    _check("conv2d", x, weight, bias, groups, weight.shape[1] * groups, weight.shape[0])
    size = x.shape[2:]
    rows = Rows(xp, last(x), windows, groups, windows.positions("conv2d", size))
    y, da = activated(xp, _correlate(xp, rows, weight), bias, activation)
    d = once(lambda g: da(xp.ascontiguousarray(last(g))))
    return first(y), (
        lambda g: first(_scatter(xp, d(g), weight, windows, groups, size)),
        Into(lambda g, out: _outer(xp, rows, d(g), weight.shape, out)),
        lambda g: xp.column_sums(d(g).reshape(-1, len(weight))),
    )


@op
def conv_transpose2d(
    xp: Any, x: Array, weight: Array, bias: Array | None = None,
    stride: Pair = 1, padding: Pair = 0, output_padding: Pair = 0, groups: int = 1, dilation: Pair = 1,
    activation: Any = None,
) -> Any:  # fmt: skip
    """x (N, C, H, W), weight (C, O / groups, kh, kw), bias (O,) -> (N, O, H', W'), with
    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1: a size that conv2d turns into H.

    activation: as of conv2d.
    """
    windows = _windows("conv_transpose2d", x, weight, stride, padding, dilation)
    _check("conv_transpose2d", x, weight, bias, groups, weight.shape[0], weight.shape[1] * groups)
    extra = output_border("conv_transpose2d", output_padding, windows)
    size = tuple(
        (x.shape[2 + i] - 1) * windows.stride[i] - 2 * windows.padding[i] + windows.extent(i) + extra[i] for i in (0, 1)
    )
    if min(size) < 1:
        raise ValueError(
            f"conv_transpose2d: an image of {x.shape[2]}x{x.shape[3]} with padding {windows.padding} would become "
            f"{size[0]}x{size[1]}: use less padding."
        )
    images = last(x)
    y, da = activated(xp, _scatter(xp, images, weight, windows, groups, size), bias, activation)
    d = once(lambda g: da(xp.ascontiguousarray(last(g))))
    rows = once(lambda g: Rows(xp, d(g), windows, groups, images.shape[1:3]))
    return first(y), (
        lambda g: first(_correlate(xp, rows(g), weight)),
        Into(lambda g, out: _outer(xp, rows(g), images, weight.shape, out)),
        lambda g: xp.column_sums(d(g).reshape(-1, weight.shape[1] * groups)),
    )


class Rows:
    """The windows of images x (N, H, W, C), `count` of each image, as rows: see _gathered.

    kept: for each group the rows of all images, once they have been gathered and are at most KEPT bytes; else None.
    """

    def __init__(self, xp: Any, x: Array, windows: Geometry, groups: int, count: tuple[int, ...]):
        self.xp = xp
        self.x = x
        self.windows = windows
        self.groups = groups
        self.count = count
        self.kept = _grouped(x, groups) if windows.are_pixels(x.shape[1:3], count) else None


def _gathered(of: Rows) -> Iterator[tuple[slice, int, Array]]:
    """For a few images at a time and each group: (which images, which group, the rows of their windows).

    The rows (positions, kh kw C / groups) lie in scratch memory: they hold until the next are asked for. Those that are
    kept come all at once.
    """
    if of.kept is not None:
        yield from ((slice(None), i, rows) for i, rows in enumerate(of.kept))
        return
    n, c = len(of.x), of.x.shape[3] // of.groups
    shape, positions = (*of.count, *of.windows.kernel, c), math.prod(of.count)
    nbytes = math.prod(shape) * of.x.itemsize
    step, keep = of.xp.fitting(n, nbytes), 0 < n * of.groups * nbytes <= KEPT
    columns = of.xp.empty((of.groups, n, *shape) if keep else (1, step, *shape), dtype=of.x.dtype)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        for i in range(of.groups):
            images = of.x[part, ..., i * c : (i + 1) * c]
            some = columns[i, part] if keep else columns[0, : len(images)]
            of.xp.gather_windows(images, of.windows, some)
            yield part, i, some.reshape(len(images) * positions, -1)
    if keep:
        of.kept = [rows.reshape(n * positions, -1) for rows in columns]


def _correlate(xp: Any, x: Rows, weight: Array) -> Array:
    """Windows of x (N, H, W, C) and weight (O, C / groups, kh, kw) -> (N, *count, O)."""
    y = xp.empty((len(x.x), *x.count, len(weight)), dtype=x.x.dtype)
    kernels = _matrices(weight, x.groups)
    for part, i, rows in _gathered(x):
        xp.matmul(rows, kernels[i].T, out=_grouped(y[part], x.groups)[i])
    return y


def _outer(xp: Any, x: Rows, y: Array, shape: tuple[int, ...], out: Array | None) -> Array:
    """Windows of x (N, H, W, C) and y (N, h, w, O) -> weights (O, C / groups, kh, kw) of a shape, in `out` if given."""
    o, c, kh, kw = shape
    total = (xp.empty if len(y) else xp.zeros)((x.groups, kh * kw * c, o // x.groups), dtype=y.dtype)
    for part, i, rows in _gathered(x):
        sums, given = total[i], _grouped(y[part], x.groups)[i]
        if part.start:
            sums += xp.matmul(rows.T, given)
        else:
            xp.matmul(rows.T, given, out=sums)
    weight = xp.empty(shape, dtype=y.dtype) if out is None else out
    kernels = total.reshape(x.groups, kh, kw, c, o // x.groups).transpose(0, 4, 3, 1, 2)
    weight.reshape(kernels.shape)[...] = kernels
    return weight


def _scatter(xp: Any, y: Array, weight: Array, windows: Geometry, groups: int, size: tuple[int, ...]) -> Array:
    """y (N, h, w, O) and weight (O, C / groups, kh, kw) -> (N, *size, C)."""
    n, h, w, o = y.shape
    c, kh, kw = weight.shape[1:]
    if windows.stride == (1, 1):
        # to a pixel this, too, is a correlation: of the y of the windows that it lies in, with the taps in reverse
        kernels = weight.reshape(groups, o // groups, c, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1]
        rows = Rows(xp, y, windows.reverse(), groups, size)
        return _correlate(xp, rows, kernels.reshape(groups * c, o // groups, kh, kw))
    x = xp.empty((n, *size, groups * c), dtype=y.dtype)
    kernels = xp.ascontiguousarray(weight.transpose(0, 2, 3, 1))
    o = o // groups
    step = xp.fitting(n, 2 * (math.prod(size) * c + h * w * o) * y.itemsize)
    for start in range(0, n, step):
        part = slice(start, start + step)
        for i in range(groups):
            outputs, channels = slice(i * o, (i + 1) * o), slice(i * c, (i + 1) * c)
            xp.scatter_windows(y[part, ..., outputs], kernels[outputs], windows, x[part, ..., channels])
    return x


def _matrices(weight: Array, groups: int) -> Array:
    """Weights (O, C, kh, kw) as a matrix for each group: (groups, O / groups, kh kw C)."""
    return weight.transpose(0, 2, 3, 1).reshape(groups, len(weight) // groups, -1)


def _grouped(a: Array, groups: int) -> list[Array]:
    """For each group of the last axis, all pixels as rows: views if a is contiguous."""
    rows = a.reshape(-1, a.shape[-1])
    width = a.shape[-1] // groups
    return [rows[:, i * width : (i + 1) * width] for i in range(groups)]


def output_border(name: str, output_padding: Pair, windows: Geometry) -> tuple[int, int]:
    """Rows and columns that a transposed convolution adds at the end. ValueError where no stride leaves so many."""
    extra = pair(name, "output_padding", output_padding, 0)
    if any(extra[i] >= max(windows.stride[i], windows.dilation[i]) for i in (0, 1)):
        raise ValueError(
            f"{name}: output_padding {extra} must be smaller than the stride {windows.stride} "
            f"or the dilation {windows.dilation}."
        )
    return extra


def _windows(name: str, x: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair) -> Geometry:
    check_images(name, x)
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f"{name}: weight of shape {weight.shape} must be (out, in, height, width), none of them 0.")
    return geometry(name, weight.shape[2:], stride, padding, dilation)


def _check(name: str, x: Array, weight: Array, bias: Array | None, groups: int, inputs: int, outputs: int) -> None:
    """x has the channels that the weight takes, and the groups divide what they must."""
    if not isinstance(groups, int) or groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{name}: groups {groups} must be a whole number that divides the first axis of weight {weight.shape}."
        )
    if x.shape[1] != inputs:
        raise ValueError(
            f"{name}: x of shape {x.shape} must be (N, {inputs}, H, W) for weight {weight.shape} and groups {groups}."
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: bias of shape {bias.shape} must be ({outputs},) for weight {weight.shape}.")
    if any(a is not None and a.dtype != x.dtype for a in (weight, bias)):
        raise ValueError(
            f"{name}: x is {x.dtype}, weight {weight.dtype}{'' if bias is None else f', bias {bias.dtype}'}: "
            "they must be of one dtype; convert one with astype."
        )
