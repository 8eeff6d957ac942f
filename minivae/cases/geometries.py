"""Hypothesis strategies of geometries: shapes and options that fit each other, odd ones too.

Each draws (shapes of the operands, options in the order of the op's arguments). Among them are kernels larger than
the image (but not than the padded one), rows unlike columns, windows that leave pixels over, batches of 0.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from minivae.testing import arrays

Drawn = tuple[list[tuple[int, ...]], dict[str, Any]]
Pair = tuple[int, int]


def arguments(drawn: st.SearchStrategy[Drawn], distinct: bool = False) -> st.SearchStrategy[Any]:
    """The arguments of a call: arrays of the shapes (distinct: as in `testing.arrays`), and the options."""
    return drawn.flatmap(
        lambda d: st.tuples(*(arrays(shape, distinct=distinct) for shape in d[0]), *map(st.just, d[1].values()))
    )


def _pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _given(pair: Pair) -> int | Pair:
    """As a user would write it: one number where both are equal."""
    return pair[0] if pair[0] == pair[1] else pair


@st.composite
def convolutions(draw: st.DrawFn) -> Drawn:
    """x, weight, bias and options of conv2d."""
    kernel, stride, padding = draw(_pairs(1, 4)), draw(_pairs(1, 3)), draw(_pairs(0, 2))
    dilation, groups = draw(_pairs(1, 2)), draw(st.integers(1, 3))
    size = _sizes(draw, kernel, padding, dilation)
    inputs, outputs = draw(_pairs(1, 2))
    weight = (outputs * groups, inputs, *kernel)
    return [(draw(st.integers(0, 2)), inputs * groups, *size), weight, weight[:1]], {
        "stride": _given(stride), "padding": _given(padding), "dilation": _given(dilation), "groups": groups,
    }  # fmt: skip


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> Drawn:
    """x, weight, bias and options of conv_transpose2d."""
    kernel, stride, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 3)), draw(_pairs(1, 2))
    size, groups = draw(_pairs(1, 3)), draw(st.integers(1, 3))
    extra = draw(st.tuples(*(st.integers(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))))
    largest = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + extra[i] for i in (0, 1)]  # leaves 1 pixel
    padding = draw(st.tuples(*(st.integers(0, min(2, n // 2)) for n in largest)))
    inputs, outputs = draw(_pairs(1, 2))
    weight = (inputs * groups, outputs, *kernel)
    return [(draw(st.integers(0, 2)), inputs * groups, *size), weight, (outputs * groups,)], {
        "stride": _given(stride), "padding": _given(padding), "output_padding": _given(extra),
        "groups": groups, "dilation": _given(dilation),
    }  # fmt: skip


@st.composite
def pools(draw: st.DrawFn, dilated: bool) -> Drawn:
    """x and options of max_pool2d, or (dilated=False) of avg_pool2d."""
    kernel, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 2 if dilated else 1))
    padding = draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
    size = _sizes(draw, kernel, padding, dilation)
    stride = draw(st.none() | _pairs(1, 3).map(_given))
    options = {"kernel_size": _given(kernel), "stride": stride, "padding": _given(padding)}
    options |= {"dilation": _given(dilation)} if dilated else {"count_include_pad": draw(st.booleans())}
    return [(draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)], options


def _sizes(draw: st.DrawFn, kernel: Pair, padding: Pair, dilation: Pair) -> Pair:
    """A size (H, W) in which one window fits at least, and a few at most."""
    # an image narrower than the dilation may lie between two taps
    least = [max(dilation[i], dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) for i in (0, 1)]
    return draw(st.tuples(*(st.integers(n, n + 3) for n in least)))


@st.composite
def resamplings(draw: st.DrawFn) -> Drawn:
    """x and options of interpolate."""
    mode = draw(st.sampled_from(["nearest", "bilinear"]))
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 2)), *draw(_pairs(1, 3)))
    corners = mode == "bilinear" and draw(st.booleans())
    return [shape], {"scale_factor": _given(draw(_pairs(1, 3))), "mode": mode, "align_corners": corners}


@st.composite
def shuffles(draw: st.DrawFn, inverse: bool) -> Drawn:
    """x and options of pixel_shuffle, or of pixel_unshuffle (inverse=True). PyTorch fails for batches of 0."""
    n, c, (h, w), r = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(_pairs(1, 3)), draw(st.integers(1, 3))
    if inverse:
        return [(n, c, h * r, w * r)], {"downscale_factor": r}
    return [(n, c * r * r, h, w)], {"upscale_factor": r}
