"""The op table: one row per public op. Every general test of the ops is drawn from it.

A row draws calls, `fn(*arrays, **options)`, with float64 operands away from the kinks of the function: all numbers of
a call are distinct points of a symmetric grid without 0, at least 0.05 apart. Shapes range over broadcasting, 0-d and
(where the function has a value there) zero-size arrays.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anywhere import np, there
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivae import Tensor, ops
from minivae.cases import geometries

Call = tuple[tuple[np.ndarray, ...], dict[str, Any]]  # the operands, the options


@dataclass(frozen=True)
class Row:
    """An op in the table.

    fn: the op, as a function of tensors and options. calls: draws what it is called with. torch: its counterpart,
    a function of the module torch, torch tensors and the same options. tied: the values in which ties and kinks are
    compared with PyTorch. weak: whether any operand may be a Python number.
    """

    name: str
    fn: Callable[..., Tensor]
    calls: st.SearchStrategy[Call]
    torch: Callable[..., Any] | None = None
    tied: Callable[[np.ndarray], np.ndarray] | None = None
    weak: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", self.calls.map(there))  # hypothesis draws arrays of NumPy's


def gradients(fn: Callable[..., Tensor], arrays: Any, options: Any, seed: Any = None, only: Any = None) -> Any:
    """The value of fn as a Tensor, and the gradient of each operand (None for one that asks for none).

    seed: the cotangent, by default as `cotangent` gives it; only: the operands that ask for a gradient, by default
    all of a float dtype.
    """
    wants = [a.dtype.kind == "f" and (only is None or i in only) for i, a in enumerate(arrays)]
    leaves = [Tensor(a, requires_grad=wanted) for a, wanted in zip(arrays, wants, strict=True)]
    y = fn(*leaves, **options)
    if y.requires_grad:
        y.backward(cotangent(y.data) if seed is None else seed)
    return y, [leaf.grad for leaf in leaves]


def cotangent(y: np.ndarray, seed: int = 0) -> np.ndarray:
    """A random direction in the space of y."""
    return np.asarray(np.random.default_rng(seed).standard_normal(y.shape), y.dtype)


# ---- numbers and shapes ----


def numbers(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays of distinct numbers in [-2, 2], none near another or near 0."""
    sizes = [math.prod(shape) for shape in shapes]
    total = sum(sizes)
    grid = (np.arange(total) - total // 2 + 0.5) * min(0.2, 4 / max(total, 1))
    parts = np.split(np.random.default_rng(seed).permutation(grid), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def real(x: np.ndarray) -> np.ndarray:
    return x


def positive(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(x))


def unit(x: np.ndarray) -> np.ndarray:
    """In (0, 1)."""
    return np.asarray(1 / (1 + np.exp(-x)))


seeds = st.integers(0, 2**16)


def shapes(ndim: int = 0, side: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of ndim axes at least, each of length side at least."""
    return hnp.array_shapes(min_dims=ndim, max_dims=3, min_side=side, max_side=3)


def broadcastable(n: int, side: int = 0) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """n shapes that broadcast."""
    drawn = hnp.mutually_broadcastable_shapes(num_shapes=n, min_dims=0, max_dims=3, min_side=side, max_side=3)
    return drawn.map(lambda s: s.input_shapes)


def axes(ndim: int) -> st.SearchStrategy[Any]:
    """None, an axis of either sign, or a tuple of them."""
    one = [st.integers(-ndim, ndim - 1)] if ndim else []
    return st.one_of(st.none(), *one, hnp.valid_tuple_axes(ndim))


@st.composite
def elementwise(draw: Any, *domains: Any, same_shape: bool = False, side: int = 0, **options: Any) -> Call:
    """Operands in these domains, of shapes that broadcast. axis=True adds an axis of the result."""
    shapes_ = (draw(shapes(side=side)),) * len(domains) if same_shape else draw(broadcastable(len(domains), side))
    arrays = [domain(a) for domain, a in zip(domains, numbers(draw(seeds), *shapes_), strict=True)]
    if options.pop("axis", False):
        options["axis"] = axes(len(np.broadcast_shapes(*shapes_)))
    return tuple(arrays), {name: draw(strategy) for name, strategy in options.items()}


@st.composite
def biased(draw: Any) -> Call:
    """One operand, and perhaps a bias for its last axis: their sum is on the grid."""
    shape = draw(shapes())
    (a,) = numbers(draw(seeds), shape)
    if draw(st.booleans()):
        return (a,), {}
    (bias,) = numbers(draw(seeds), shape[-1:])
    return (a - bias, bias), {}


@st.composite
def reduced(draw: Any, side: int = 1, keepdims: bool = True, single: bool = False, **options: Any) -> Call:
    """One operand and an axis: any, or (single) one axis."""
    shape = draw(shapes(ndim=int(single), side=side))
    (a,) = numbers(draw(seeds), shape)
    drawn = {"axis": draw(st.integers(-a.ndim, a.ndim - 1) if single else axes(a.ndim))}
    if keepdims:
        drawn["keepdims"] = draw(st.booleans())
    return (a,), drawn | {name: draw(strategy) for name, strategy in options.items()}


@st.composite
def rearranged(draw: Any, options: Callable[..., Any], ndim: int = 0, side: int = 0) -> Call:
    """One operand, and options drawn by a function of draw and its shape."""
    shape = draw(shapes(ndim, side))
    return tuple(numbers(draw(seeds), shape)), options(draw, shape)


# ---- the options of each kind of op ----


def an_axis(draw: Any, shape: tuple[int, ...]) -> int:
    return draw(st.integers(-len(shape), len(shape) - 1))


def new_shape(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    size = math.prod(shape)
    flat = [size, (size,), (1, *shape[::-1], 1)] + ([-1, (*shape[:1], -1)] if size else [])
    return {"shape": draw(st.sampled_from(flat))}


def new_axes(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    order = st.permutations(range(len(shape))).flatmap(
        lambda p: st.tuples(*(st.sampled_from([i, i - len(shape)]) for i in p))
    )
    return {"axes": draw(st.one_of(st.none(), order))}


def expanded(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    n = draw(st.integers(1, 2))
    places = draw(hnp.valid_tuple_axes(len(shape) + n, min_size=n, max_size=n))
    return {"axis": places if n > 1 or draw(st.booleans()) else places[0]}


def squeezed(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    ones = [i - len(shape) * draw(st.booleans()) for i, n in enumerate(shape) if n == 1]
    return {"axis": draw(st.one_of(st.none(), st.just(tuple(ones)), *([st.sampled_from(ones)] if ones else [])))}


def padded(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    width = st.integers(0, 2)
    each = [st.tuples(*(st.tuples(width, width) for _ in shape))] if shape else []
    return {
        "pad_width": draw(st.one_of(width, st.tuples(width, width), *each)),
        "constant_values": draw(st.sampled_from([0.0, -1.5])),
    }


def cut(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    axis = an_axis(draw, shape)
    n = shape[axis]
    sections = st.sampled_from([k for k in range(1, n + 1) if n % k == 0] or [1, 2])
    places = st.lists(st.integers(0, n), max_size=3).map(sorted)
    return {"indices_or_sections": draw(st.one_of(sections, places)), "axis": axis}


def taken(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    axis = draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    n = math.prod(shape) if axis is None else shape[axis]
    return {"indices": draw(hnp.arrays(np.int64, shapes(), elements=st.integers(-n, n - 1))), "axis": axis}


def repeated(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    axis = draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    n = math.prod(shape) if axis is None else shape[axis]
    each = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    return {"repeats": draw(st.one_of(st.integers(0, 2), each)), "axis": axis}


def indexed(draw: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Basic indices, arrays of integers, masks, and slices between arrays."""
    length = draw(st.integers(0, 3))
    mixed = st.tuples(
        *(st.one_of(st.slices(n), hnp.arrays(np.int64, length, elements=st.integers(-n, n - 1))) for n in shape)
    )
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    masks = st.integers(0, len(shape)).flatmap(lambda n: hnp.arrays(bool, shape[:n]))
    several = [hnp.integer_array_indices(shape, result_shape=shapes()), mixed] if shape else []
    return {"index": draw(st.one_of(basic, masks, *several))}


@st.composite
def joined(draw: Any, stacked: bool) -> Call:
    """One to three operands that fit, and the axis along which they are joined."""
    n = draw(st.integers(1, 3))
    shape = draw(shapes(ndim=0 if stacked else 1))
    axis = an_axis(draw, (*shape, 1) if stacked else shape)
    each = [list(shape) for _ in range(n)]
    if not stacked:
        for other in each:
            other[axis] = draw(st.integers(0, 3))
    return tuple(numbers(draw(seeds), *map(tuple, each))), {"axis": axis}


@st.composite
def matrices(draw: Any) -> Call:
    """Vectors, matrices and stacks that fit a product."""
    drawn = draw(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3))
    return tuple(numbers(draw(seeds), *drawn.input_shapes)), {}


@st.composite
def affine(draw: Any) -> Call:
    leading = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    n, m = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    bias = draw(st.sampled_from([[(m,)], []]))
    return tuple(numbers(draw(seeds), (*leading, n), (m, n), *bias)), {"activation": draw(smooth)}


@st.composite
def grouped(draw: Any) -> Call:
    groups, each = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pixels = draw(st.sampled_from([(), (3,), (2, 2), (4, 3), (8, 8)]))
    n, c = draw(st.integers(2, 3)), groups * each  # PyTorch refuses one value a channel
    options = {"groups": groups, "eps": draw(st.sampled_from([1e-2, 1e-1]))}
    return tuple(numbers(draw(seeds), (n, c, *pixels), (c,), (c,))), options


# one whose vjp is a function of the result, one whose derivative the forward function gives; and no kinks
ACTIVATIONS = {None: "", ops.tanh.forward: "tanh", ops.gelu.forward: "gelu"}
smooth = st.sampled_from([*ACTIVATIONS])

SUBSCRIPTS = [
    "ij,jk->ik", "i,i->", "i,j->ij", "ij,kj", "ji", "ij->", "ij->j", "ij->ji", "ij,ij->ij", "bij,bjk->bik", "i,j",
    "ii->", "ii", "ii->i", "iij->j", "iji->ij", "ii,i->i", "iii->i", "i,ij,j->", "ij,jk,kl->il", "ij,jk,ki",
    "ij,j->j", "ij,k->i", ",i->i", "->", "i j , j k -> i k", "ba,Ab", "bhqd,bhkd->bhqk",
    "...ij,...jk->...ik", "i...->...", "...i->i...", "...,...", "...ii->...i", "...i,i", "i...,i->...",
]  # fmt: skip


@st.composite
def contractions(draw: Any) -> Call:
    subscripts = draw(st.sampled_from(SUBSCRIPTS))
    length = {c: draw(st.integers(0, 3)) for c in sorted(set(subscripts) & set(string.ascii_letters))}
    inputs = subscripts.replace(" ", "").partition("->")[0].split(",")
    ellipses = iter(draw(broadcastable(len(inputs), side=1).filter(lambda s: max(map(len, s)) < 3)))

    def shape(letters: str) -> tuple[int, ...]:
        before, dots, after = letters.partition("...")
        return (*(length[c] for c in before), *(next(ellipses) if dots else ()), *(length[c] for c in after))

    return tuple(numbers(draw(seeds), *map(shape, inputs))), {"subscripts": subscripts}


@st.composite
def planar(draw: Any) -> Call:
    """Vectors of the plane."""
    return tuple(numbers(draw(seeds), (*draw(shapes()), 2))), {}


@st.composite
def placed(draw: Any, geometry: Any, biased: bool = False) -> Call:
    """Images (and weights, and perhaps a bias), and the options of a geometry (and an activation)."""
    drawn, options = draw(geometry)
    options |= {"activation": draw(smooth)} if biased else {}
    return tuple(numbers(draw(seeds), *drawn[: len(drawn) - (biased and draw(st.booleans()))])), options


@st.composite
def classified(draw: Any) -> Call:
    """Logits (..., classes) and a label for each."""
    (logits,) = numbers(draw(seeds), (*draw(shapes()), draw(st.integers(1, 4))))
    labels = draw(hnp.arrays(np.int64, logits.shape[:-1], elements=st.integers(0, logits.shape[-1] - 1)))
    return (logits, labels), {}


@st.composite
def conditional(draw: Any) -> Call:
    condition, a, b = draw(broadcastable(3))
    return (draw(hnp.arrays(bool, condition)), *numbers(draw(seeds), a, b)), {}


@st.composite
def varied(draw: Any) -> Call:
    (a,), options = draw(reduced())
    count = a.size // max(np.sum(a, axis=options["axis"]).size, 1)
    return (a,), options | {"ddof": draw(st.integers(0, min(1, count - 1)))}


@st.composite
def powers(draw: Any) -> Call:
    """A positive base to any exponent, or (as an option, so that no gradient is asked) to a number."""
    if draw(st.booleans()):
        return draw(elementwise(positive, real))
    return draw(elementwise(positive, b=st.sampled_from([0, 1, 2, -1, 0.5, -1.5, 3.0])))


# ---- counterparts in PyTorch, for what is named or behaves differently there ----


def same(name: str) -> Callable[..., Any]:
    """The function of that name of torch, or of torch.nn.functional."""
    return lambda t, *a, **options: getattr(t, name, getattr(t.nn.functional, name, None))(*a, **options)


def sum_of(name: str) -> Callable[..., Any]:
    """An activation of torch, of a sum."""
    return lambda t, *a: same(name)(t, sum(a))


def with_activation(name: str) -> Callable[..., Any]:
    """A layer of torch, and the activation."""

    def layer(t: Any, *a: Any, activation: Any, **options: Any) -> Any:
        y = same(name)(t, *a, **options)
        return y if activation is None else same(ACTIVATIONS[activation])(t, y)

    return layer


def over(name: str) -> Callable[..., Any]:
    """A reduction of torch, with NumPy's axis and keepdims; for torch, dim=() means all axes."""

    def reduce(t: Any, a: Any, axis: Any = None, keepdims: bool = False, ddof: int | None = None) -> Any:
        dims = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        dims = [i % a.ndim for i in dims]
        options = {} if ddof is None else {"correction": ddof}
        y = getattr(t, name)(a[..., None], dim=(*dims, a.ndim), keepdim=True, **options)[..., 0]
        return y if keepdims else y.reshape([n for i, n in enumerate(y.shape) if i not in dims])

    return reduce


def summed(terms: Callable[..., Any]) -> Callable[..., Any]:
    """A loss of torch, elementwise, summed over axis."""
    return lambda t, *a, axis: over("sum")(t, terms(t, *a), axis)


def chosen(of: Callable[..., np.ndarray]) -> Callable[..., Any]:
    """Anything that selects entries: `of` applied to their numbers says which."""

    def select(t: Any, a: Any, **options: Any) -> Any:
        index = of(np.arange(math.prod(a.shape)).reshape(a.shape), **options)
        return a.reshape(-1)[t.as_tensor(np.array(index))]

    return select


def normal(t: Any, mu: Any, logvar: Any) -> Any:
    return t.distributions.Normal(mu, t.exp(logvar / 2), validate_args=False)


def torch_kl(t: Any, mu_q: Any, logvar_q: Any, mu_p: Any, logvar_p: Any) -> Any:
    return t.distributions.kl_divergence(normal(t, mu_q, logvar_q), normal(t, mu_p, logvar_p))


def torch_standardize(t: Any, a: Any, axis: Any, eps: float) -> Any:
    mean, var = (over(f)(t, a, axis, keepdims=True, **o) for f, o in (("mean", {}), ("var", {"ddof": 0})))
    return (a - mean) / t.sqrt(var + eps)


def torch_cross_entropy(t: Any, logits: Any, labels: Any) -> Any:
    flat = logits.reshape(math.prod(labels.shape), logits.shape[-1])
    return t.nn.functional.cross_entropy(flat, labels.reshape(-1), reduction="none").reshape(labels.shape)


def torch_digamma(t: Any, a: Any) -> Any:
    """PyTorch's own gradient, its polygamma(1, a), is right to 1e-9 only; its zeta(2, a) to the end."""
    fixed = a.detach()
    return t.digamma(fixed) + (a - fixed) * t.special.zeta(t.full_like(fixed, 2), fixed)


def torch_pad(t: Any, a: Any, pad_width: Any, constant_values: float) -> Any:
    widths = [int(n) for pair in np.broadcast_to(pad_width, (a.ndim, 2))[::-1] for n in pair]
    return t.nn.functional.pad(a, widths, value=constant_values) if widths else a * 1


def turn(x: Any) -> np.ndarray:
    """A rotation of the plane that stretches: in the plane the trick's R is the same everywhere."""
    return np.array([[1.5, 0.8], [-0.8, 1.5]], x.dtype)


def torch_rotation_trick(t: Any, x: Any) -> Any:
    """The matrix s R is written out for each row, and held."""
    q = x.detach() @ t.as_tensor(turn(x.detach().numpy()))
    u, v = (t.nn.functional.normalize(a.detach(), dim=-1) for a in (x, q))
    r = t.nn.functional.normalize(u + v, dim=-1)
    outer = lambda a, b: a[..., :, None] * b[..., None, :]  # noqa: E731
    rotation = t.eye(2, dtype=x.dtype) - 2 * outer(r, r) + 2 * outer(v, u)
    scale = q.norm(dim=-1, keepdim=True) / x.detach().norm(dim=-1, keepdim=True)
    return (rotation @ x[..., None])[..., 0] * scale


def torch_interpolate(t: Any, x: Any, scale_factor: Any, mode: str, align_corners: bool) -> Any:
    corners = align_corners if mode == "bilinear" else None  # PyTorch refuses it otherwise
    return t.nn.functional.interpolate(x, scale_factor=scale_factor, mode=mode, align_corners=corners)


# ---- the table ----


def integers(x: np.ndarray) -> np.ndarray:
    """Few different values, 0 among them."""
    return np.round(x)


def naturals(x: np.ndarray) -> np.ndarray:
    return np.abs(np.round(x))


def pieces(a: Tensor, **options: Any) -> Tensor:
    """split has several results: joined, in an order that tells them apart."""
    return ops.concatenate([piece.reshape(-1) for piece in ops.split(a, **options)][::-1])


def torch_pieces(t: Any, a: Any, indices_or_sections: Any, axis: int) -> Any:
    parts = t.tensor_split(a, indices_or_sections, dim=axis)
    return t.cat([part.reshape(-1) for part in parts][::-1])


slopes = st.sampled_from([0.01, 0.2])
bounds = st.sampled_from([{"low": -0.2, "high": 0.6}, {"low": -0.2}, {"high": 0.6}])

TABLE = [
    # arithmetic
    Row("add", ops.add, elementwise(real, real), same("add"), integers, weak=True),
    Row("sub", ops.sub, elementwise(real, real), same("sub"), integers, weak=True),
    Row("mul", ops.mul, elementwise(real, real), same("mul"), integers, weak=True),
    Row("div", ops.div, elementwise(real, real), same("div"), weak=True),
    Row("neg", ops.neg, elementwise(real), same("neg")),
    Row("pow", ops.pow, powers(), lambda t, a, b: t.pow(a, b), naturals, weak=True),
    Row("maximum", ops.maximum, elementwise(real, real), same("maximum"), integers, weak=True),
    Row("minimum", ops.minimum, elementwise(real, real), same("minimum"), integers, weak=True),
    Row(
        "clip", ops.clip, st.tuples(elementwise(real), bounds).map(lambda c: (c[0][0], c[1])),
        lambda t, a, low=None, high=None: t.clamp(a, low, high), lambda x: np.round(x * 10) / 5,
    ),
    Row("where", ops.where, conditional(), same("where")),
    Row("abs", ops.abs, elementwise(real), same("abs"), integers),
    Row("exp", ops.exp, elementwise(real), same("exp")),
    Row("expm1", ops.expm1, elementwise(real), same("expm1"), integers),
    Row("log", ops.log, elementwise(positive), same("log")),
    Row("log1p", ops.log1p, elementwise(positive), same("log1p")),
    Row("sqrt", ops.sqrt, elementwise(positive), same("sqrt")),
    Row("sin", ops.sin, elementwise(real), same("sin"), integers),
    Row("cos", ops.cos, elementwise(real), same("cos"), integers),
    # special
    Row("lgamma", ops.lgamma, elementwise(positive), same("lgamma")),
    Row("digamma", ops.digamma, elementwise(positive), torch_digamma),
    Row(
        "lbeta", ops.lbeta, elementwise(positive, positive),
        lambda t, a, b: t.lgamma(a) + t.lgamma(b) - t.lgamma(a + b), weak=True,
    ),
    Row("log_gamma_quantile", ops.log_gamma_quantile, elementwise(positive, unit)),
    # activation
    Row("tanh", ops.tanh, biased(), sum_of("tanh"), integers),
    Row("sigmoid", ops.sigmoid, biased(), sum_of("sigmoid"), integers),
    Row("softplus", ops.softplus, biased(), sum_of("softplus"), integers),
    Row(
        "soft_clip", ops.soft_clip, elementwise(real, limit=st.sampled_from([0.55, 16.0])),
        lambda t, a, limit: a.clamp(-limit, limit) + a.sign() * t.log1p(t.relu(a.abs() - limit)),
    ),
    Row("relu", ops.relu, biased(), sum_of("relu"), integers),
    Row(
        "leaky_relu", ops.leaky_relu, elementwise(real, negative_slope=slopes), same("leaky_relu"), integers,
    ),
    Row("elu", ops.elu, elementwise(real, alpha=st.sampled_from([1.0, 0.5])), same("elu"), integers),
    Row("gelu", ops.gelu, biased(), sum_of("gelu"), integers),
    Row("silu", ops.silu, biased(), sum_of("silu"), integers),
    # reduction
    Row("sum", ops.sum, reduced(side=0), over("sum")),
    Row("mean", ops.mean, reduced(), over("mean")),
    Row("var", ops.var, varied(), over("var"), integers),
    Row("max", ops.max, reduced(), over("amax"), integers),
    Row("min", ops.min, reduced(), over("amin"), integers),
    Row("logsumexp", ops.logsumexp, reduced(), over("logsumexp"), integers),
    Row("softmax", ops.softmax, reduced(keepdims=False, single=True), lambda t, a, axis: t.softmax(a, axis)),
    Row(
        "log_softmax", ops.log_softmax, reduced(keepdims=False, single=True),
        lambda t, a, axis: t.log_softmax(a, axis),
    ),
    Row(
        "standardize", ops.standardize, reduced(keepdims=False, eps=st.sampled_from([1e-2, 1e-1])),
        torch_standardize,
    ),
    Row(
        "group_norm", ops.group_norm, grouped(),
        lambda t, x, weight, bias, groups, eps: t.nn.functional.group_norm(x, groups, weight, bias, eps),
    ),
    # quantize: the value moves with x, so that finite differences see the gradient
    Row(
        "straight_through", lambda x: ops.straight_through(x, x.detach() + 0.5), elementwise(real),
        lambda t, x: x + ((x + 0.5) - x).detach(), integers,
    ),
    Row(
        "rotation_trick", lambda x: ops.rotation_trick(x, x.detach() @ Tensor(turn(x))), planar(),
        torch_rotation_trick,
    ),
    # matmul
    Row("matmul", ops.matmul, matrices(), same("matmul")),
    Row("linear", ops.linear, affine(), with_activation("linear")),
    Row(
        "einsum", lambda *operands, subscripts: ops.einsum(subscripts, *operands), contractions(),
        lambda t, *operands, subscripts: t.einsum(subscripts, *operands),
    ),
    # images
    Row("conv2d", ops.conv2d, placed(geometries.convolutions(), biased=True), with_activation("conv2d")),
    Row(
        "conv_transpose2d", ops.conv_transpose2d, placed(geometries.transposed_convolutions(), biased=True),
        with_activation("conv_transpose2d"),
    ),
    Row("max_pool2d", ops.max_pool2d, placed(geometries.pools(dilated=True)), same("max_pool2d"), integers),
    Row("avg_pool2d", ops.avg_pool2d, placed(geometries.pools(dilated=False)), same("avg_pool2d")),
    Row("interpolate", ops.interpolate, placed(geometries.resamplings()), torch_interpolate),
    Row("pixel_shuffle", ops.pixel_shuffle, placed(geometries.shuffles(inverse=False)), same("pixel_shuffle")),
    Row("pixel_unshuffle", ops.pixel_unshuffle, placed(geometries.shuffles(inverse=True)), same("pixel_unshuffle")),
    # loss
    Row(
        "binary_cross_entropy_with_logits", ops.binary_cross_entropy_with_logits,
        elementwise(real, unit, same_shape=True, axis=True),
        summed(lambda t, a, x: t.nn.functional.binary_cross_entropy_with_logits(a, x, reduction="none")), weak=True,
    ),
    Row(
        "gaussian_nll", ops.gaussian_nll, elementwise(real, real, real, axis=True),
        summed(lambda t, mu, logvar, x: -normal(t, mu, logvar).log_prob(x)), weak=True,
    ),
    Row(
        "mse_loss", ops.mse_loss, elementwise(real, real, side=1),
        lambda t, a, b: t.nn.functional.mse_loss(*t.broadcast_tensors(a, b)), weak=True,
    ),
    Row("cross_entropy", ops.cross_entropy, classified(), torch_cross_entropy),
    Row(
        "kl_unit_normal", ops.kl_unit_normal, elementwise(real, real, axis=True),
        summed(lambda t, mu, logvar: torch_kl(t, mu, logvar, mu * 0, logvar * 0)), weak=True,
    ),
    Row("kl_normal", ops.kl_normal, elementwise(real, real, real, real, axis=True), summed(torch_kl), weak=True),
    # sample
    Row(
        "reparameterize", ops.reparameterize, elementwise(real, real, real),
        lambda t, mu, logvar, eps: mu + (0.5 * logvar).exp() * eps, weak=True,
    ),
    # shape
    Row(
        "astype", ops.astype, elementwise(real, dtype=st.just(np.float64)),
        lambda t, a, dtype: a.to(t.as_tensor(np.zeros(0, dtype)).dtype),
    ),
    Row("reshape", ops.reshape, rearranged(new_shape), lambda t, a, shape: a.reshape(shape)),
    Row("transpose", ops.transpose, rearranged(new_axes), chosen(np.transpose)),
    Row(
        "swapaxes", ops.swapaxes,
        rearranged(lambda draw, s: {"axis1": an_axis(draw, s), "axis2": an_axis(draw, s)}, ndim=1),
        chosen(np.swapaxes),
    ),
    Row("expand_dims", ops.expand_dims, rearranged(expanded), chosen(np.expand_dims)),
    Row("squeeze", ops.squeeze, rearranged(squeezed), chosen(np.squeeze)),
    Row(
        "broadcast_to", ops.broadcast_to,
        elementwise(real, real).map(lambda c: (c[0][:1], {"shape": np.add(*c[0]).shape})),
        lambda t, a, shape: a.expand(shape),
    ),
    Row(
        "concatenate", lambda *tensors, axis: ops.concatenate(tensors, axis), joined(stacked=False),
        lambda t, *tensors, axis: t.cat(tensors, axis),
    ),
    Row(
        "stack", lambda *tensors, axis: ops.stack(tensors, axis), joined(stacked=True),
        lambda t, *tensors, axis: t.stack(tensors, axis),
    ),
    Row("split", pieces, rearranged(cut, ndim=1), torch_pieces),
    Row("pad", ops.pad, rearranged(padded), torch_pad),
    Row("getitem", ops.getitem, rearranged(indexed, side=1), chosen(lambda a, index: a[index])),
    Row("take", ops.take, rearranged(taken, side=1), chosen(np.take)),
    Row("flip", ops.flip, rearranged(lambda draw, s: {"axis": draw(axes(len(s)))}), chosen(np.flip)),
    Row("repeat", ops.repeat, rearranged(repeated), chosen(np.repeat)),
]  # fmt: skip
