"""The rows of the ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minivae import ops
from minivae.cases.case import Case, case
from minivae.cases.geometries import arguments, convolutions, pools, resamplings, shuffles, transposed_convolutions
from minivae.tensor import Tensor
from minivae.testing import Strategy, arrays, axes, broadcastable, indices, shapes


def _with_shape(build: Callable[[tuple[int, ...]], Strategy], **options: Any) -> Strategy:
    """Lists that begin with a shape drawn from `shapes(**options)`, as build makes them."""
    return shapes(**options).flatmap(build)


def _over_axis(fn: Callable[..., Tensor], distinct: bool = False, **options: Any) -> Case:
    """A reduction: an array, an axis of it, and keepdims."""

    def arguments(shape: tuple[int, ...]) -> Strategy:
        return st.tuples(arrays(shape, distinct=distinct), axes(len(shape)), st.booleans())

    def reduce(a: Tensor, axis: Any, keepdims: bool) -> Tensor:
        return fn(a, axis=axis, keepdims=keepdims)

    return _spread(reduce, _with_shape(arguments, **options))


def _spread(fn: Callable[..., Tensor], arguments: Strategy) -> Case:
    """A case whose arguments are drawn together: a strategy of tuples, each handed on as a list."""
    return Case(fn, (arguments.map(list),))


_any, _positive = arrays(), arrays(low=0.2)
_bends = st.sampled_from([None, ops.tanh.forward, ops.gelu.forward])  # type: ignore[attr-defined]
_no_empty = {"empty": False}
_vectors = arrays(shapes(1, 3, empty=False))
_matrices = st.sampled_from(
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 1, 2, 3), (3, 3, 2)), ((4, 2, 3), (3, 2)),
     ((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((0, 3), (3, 2)), ((2, 0), (0, 3))]
).flatmap(lambda pair: st.tuples(*map(arrays, pair)))  # fmt: skip
_einsums = st.sampled_from(
    [("ij,jk->ik", (2, 3), (3, 4)), ("ij,kj", (2, 3), (4, 3)), ("bij,bjk->bik", (2, 3, 2), (2, 2, 3)),
     ("i,j->ij", (2,), (3,)), ("ij->j", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij,k->", (2, 3), (4,)),
     ("...j,jk->...k", (2, 2, 3), (3, 2)), ("ij,j->i", (2, 3), (3,)), ("iij,j->i", (2, 2, 3), (3,)),
     ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)), ("jii,i->j", (2, 1, 1), (3,)),
     ("ii,i->i", (1, 1), (3,))]
).flatmap(lambda row: st.tuples(st.just(row[0]), *map(arrays, row[1:])))  # fmt: skip


def _same_shape(n: int, **options: Any) -> Strategy:
    return _with_shape(lambda shape: st.tuples(*[arrays(shape)] * n, axes(len(shape))), **options)


@st.composite
def _biased(draw: st.DrawFn, away_from: tuple[float, ...] = ()) -> list[Any]:
    """An array, and a bias for its last axis or None: their sum keeps away from the kinks."""
    a = draw(arrays(away_from=away_from))
    if draw(st.booleans()):
        return [a, None]
    bias = draw(arrays(a.shape[-1:]))
    return [a - bias, bias]


def _orders(ndim: int) -> Strategy:
    """An order of axes, or None."""
    return st.none() | st.permutations(range(ndim)).map(tuple)


def _activated(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A layer whose last argument is its activation."""
    return lambda *args: fn(*args[:-1], activation=args[-1])


def _first_two(parts: list[Tensor]) -> Tensor:
    """One tensor in which both parts of a split have a say."""
    return parts[0].sum() * 2.0 + parts[1].sum() * 3.0


def _turned(x: Tensor) -> Tensor:
    """Turned and stretched: in the plane R is the same everywhere when the angle is."""
    return ops.rotation_trick(x, x.detach() @ Tensor([[1.5, 0.8], [-0.8, 1.5]], dtype=x.dtype))


OPS: dict[str, Case] = {
    "add": case(ops.add, broadcastable()),
    "sub": case(ops.sub, broadcastable()),
    "mul": case(ops.mul, broadcastable()),
    "div": case(ops.div, broadcastable(away_from=[0])),
    "neg": case(ops.neg, _any),
    "pow": case(ops.pow, broadcastable(low=0.2)),
    "abs": case(ops.abs, arrays(away_from=[0])),
    "maximum": case(ops.maximum, broadcastable()),
    "minimum": case(ops.minimum, broadcastable()),
    "clip": case(lambda a: ops.clip(a, -1.0, 2.0), arrays(away_from=[-1, 2])),
    "where": _spread(
        lambda c, a, b: ops.where(c, a, b),
        broadcastable(3).map(lambda abc: (np.asarray(abc[0] > 0), *abc[1:])),
    ),
    "exp": case(ops.exp, _any),
    "expm1": case(ops.expm1, _any),
    "log": case(ops.log, _positive),
    "log1p": case(ops.log1p, arrays(low=-0.8)),
    "sqrt": case(ops.sqrt, _positive),
    "sin": case(ops.sin, _any),
    "cos": case(ops.cos, _any),
    "lgamma": case(ops.lgamma, _positive),
    "digamma": case(ops.digamma, _positive),
    "lbeta": case(ops.lbeta, broadcastable(low=0.2)),
    "log_gamma_quantile": case(lambda a, u: ops.log_gamma_quantile(a, ops.sigmoid(u)), broadcastable(low=0.2)),
    "tanh": case(ops.tanh, _biased()),
    "sigmoid": case(ops.sigmoid, _biased()),
    "softplus": case(ops.softplus, _biased()),
    "soft_clip": case(lambda a: ops.soft_clip(a, 1.5), arrays(away_from=[-1.5, 1.5])),  # where the slope has kinks
    "relu": case(ops.relu, _biased((0,))),
    "leaky_relu": case(lambda a, b, slope: ops.leaky_relu(a, slope, b), _biased((0,)), st.sampled_from([0.01, 0.3])),
    "elu": case(lambda a, b, alpha: ops.elu(a, alpha, b), _biased((0,)), st.sampled_from([1.0, 0.5])),
    "gelu": case(ops.gelu, _biased()),
    "silu": case(ops.silu, _biased()),
    "sum": _over_axis(ops.sum),
    "mean": _over_axis(ops.mean, empty=False),
    "var": _over_axis(ops.var, empty=False),
    "max": _over_axis(ops.max, distinct=True, empty=False),
    "min": _over_axis(ops.min, distinct=True, empty=False),
    "logsumexp": _over_axis(ops.logsumexp, empty=False),
    "softmax": case(ops.softmax, _vectors, st.sampled_from([-1, 0])),
    "log_softmax": case(ops.log_softmax, _vectors, st.sampled_from([-1, 0])),
    "standardize": case(lambda a: ops.standardize(a, -1, 1e-2), arrays(shapes(1, 3, empty=False))),
    "group_norm": case(
        lambda x, weight, bias: ops.group_norm(x, weight, bias, 2, 1e-2),
        arrays(st.sampled_from([(2, 4, 3), (1, 4, 2, 3)]), distinct=True), arrays((4,)), arrays((4,)),
    ),
    "astype": case(lambda a: ops.astype(a, a.dtype), _any),
    "reshape": case(lambda a: ops.reshape(a, (a.size,)), _any),
    "transpose": _spread(ops.transpose, _with_shape(lambda s: st.tuples(arrays(s), _orders(len(s))))),
    "swapaxes": case(ops.swapaxes, arrays(shapes(2, 3)), st.sampled_from([0, -1, 1]), st.sampled_from([0, -1, 1])),
    "expand_dims": case(ops.expand_dims, arrays(shapes(1, 3)), st.sampled_from([0, -1, (0, 2)])),
    "squeeze": case(ops.squeeze, arrays(st.sampled_from([(1,), (2, 1), (1, 3, 1), (1, 1)]))),
    "broadcast_to": case(
        lambda a: ops.broadcast_to(a, (2, 3)), arrays(st.sampled_from([(), (3,), (2, 1), (1, 3), (2, 3)]))
    ),
    "concatenate": case(
        lambda a, b, axis: ops.concatenate([a, b, a], axis), arrays((2, 3)), arrays((2, 3)), st.sampled_from([0, 1, -1])
    ),
    "stack": case(
        lambda a, b, axis: ops.stack([a, b, a], axis), arrays((2, 3)), arrays((2, 3)), st.sampled_from([0, 1, 2, -1])
    ),
    "split": case(
        lambda a, cuts, axis: _first_two(ops.split(a, cuts, axis)),
        arrays((2, 4)), st.sampled_from([2, (1,)]), st.sampled_from([1, -1]),
    ),
    "pad": case(ops.pad, arrays((2, 3)), st.sampled_from([1, (1, 2), ((0, 1), (2, 0))])),
    "getitem": _spread(ops.getitem, _with_shape(lambda s: st.tuples(arrays(s), indices(s)))),
    "take": case(
        ops.take,
        arrays((3, 2)), st.sampled_from([1, np.array([1, 0, 1]), np.array([[0, 1], [1, 1]])]),
        st.sampled_from([None, 0, 1, -1]),
    ),
    "flip": _spread(ops.flip, _with_shape(lambda s: st.tuples(arrays(s), axes(len(s))))),
    "repeat": case(ops.repeat, arrays((2, 3)), st.sampled_from([2, 3]), st.sampled_from([None, 0, -1])),
    # the value of a quantisation that moves with x: only so is its gradient to x that of finite differences
    "straight_through": case(lambda x: ops.straight_through(x, x.detach() + 0.5), _any),
    "rotation_trick": case(_turned, arrays((3, 2), low=0.2)),
    "matmul": _spread(ops.matmul, _matrices),
    "linear": case(
        ops.linear,
        arrays(st.sampled_from([(3,), (2, 3), (2, 2, 3), (0, 3)])), arrays((4, 3)), st.none() | arrays((4,)), _bends,
    ),
    "einsum": _spread(ops.einsum, _einsums),
    "conv2d": case(_activated(ops.conv2d), arguments(convolutions()).map(list), _bends),
    "conv_transpose2d": case(
        _activated(ops.conv_transpose2d), arguments(transposed_convolutions()).map(list), _bends
    ),
    "max_pool2d": _spread(ops.max_pool2d, arguments(pools(dilated=True), distinct=True)),
    "avg_pool2d": _spread(ops.avg_pool2d, arguments(pools(dilated=False))),
    "interpolate": _spread(ops.interpolate, arguments(resamplings())),
    "pixel_shuffle": _spread(ops.pixel_shuffle, arguments(shuffles(inverse=False))),
    "pixel_unshuffle": _spread(ops.pixel_unshuffle, arguments(shuffles(inverse=True))),
    "binary_cross_entropy_with_logits": _spread(ops.binary_cross_entropy_with_logits, _same_shape(2)),
    "binary_cross_entropy_with_logits.broadcast": case(ops.binary_cross_entropy_with_logits, broadcastable()),
    "gaussian_nll": _spread(ops.gaussian_nll, _same_shape(3)),
    "gaussian_nll.broadcast": case(ops.gaussian_nll, broadcastable(3)),
    "mse_loss": _spread(lambda a, b, axis: ops.mse_loss(a, b), _same_shape(2, empty=False)),
    "cross_entropy": case(lambda a: ops.cross_entropy(a, Tensor([1, 0, 2])), arrays((3, 4))),
    "kl_unit_normal": _spread(ops.kl_unit_normal, _same_shape(2)),
    "kl_normal": _spread(ops.kl_normal, _same_shape(4)),
    "reparameterize": case(ops.reparameterize, broadcastable(3)),
    "kl_unit_normal.broadcast": case(ops.kl_unit_normal, broadcastable()),
    "kl_normal.broadcast": case(ops.kl_normal, broadcastable(4, low=-1, high=1)),
}  # fmt: skip
