"""What is checked, and on which inputs: a row for every op, layer and model loss.

Each row is a function and a hypothesis strategy for each of its arguments, as `testing.check_op` takes them.
`python -m minivae gradcheck` runs them all; a test fails when an op has no row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from minivae import backend, nn, ops
from minivae.geometries import arguments, convolutions, pools, resamplings, shuffles, transposed_convolutions
from minivae.models import FSQ, VectorQuantizer, autoencoder, vae
from minivae.models.likelihood import Likelihood, likelihood
from minivae.tensor import Tensor, as_tensor
from minivae.testing import Strategy, arrays, axes, broadcastable, indices, shapes


class Case(NamedTuple):
    """A function of tensors and options, and the strategies of its arguments."""

    fn: Callable[..., Tensor]
    arguments: tuple[Strategy, ...]


def _case(fn: Callable[..., Tensor], *arguments: Strategy) -> Case:
    return Case(fn, arguments)


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


def _layer(build: Callable[[], nn.Module], x: Strategy, call: Callable[..., Any] = nn.Module.__call__) -> Case:
    """A module as a function of its input and all of its parameters. It is built anew at each call."""

    def fn(x: Tensor, *values: Tensor) -> Tensor:
        module = build()
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.data, parameter._node = value.data, value._node
        result: Tensor = call(module, x)
        return result

    return Case(fn, (x, *(arrays(p.shape, low=-1, high=1) for p in build().parameters())))


def _loss(model: Any, levels: Any) -> Tensor:
    """A model's whole loss, with the same noise at each call. levels: images in grey levels, which have no gradient."""
    x = as_tensor(levels).data.astype(model.parameters()[0].dtype) / 255
    loss: Tensor = model.loss(x, backend.current().generator(0)).total
    return loss


def _model(build: Callable[..., nn.Module], **options: Any) -> Case:
    """The loss of a small model as a function of all its parameters."""
    return _layer(lambda: build((1, 2, 2), hidden=(2,), latent=2, activation="tanh", **options), _levels, _loss)


def _nll(p: Likelihood, axis: Any = None) -> Case:
    """A likelihood as a function of a decoder's output and of the data."""
    return _case(lambda output, x: p.nll(output, x, axis), arrays((2, 2, p.channels, 1, 3)), _pixels)


_any, _positive = arrays(), arrays(low=0.2)
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
_levels, _pixels = arrays((2, 1, 2, 2), 0, 256, dtype=np.uint8), arrays((2, 1, 1, 3), low=0.1, high=0.9)


def _same_shape(n: int, **options: Any) -> Strategy:
    return _with_shape(lambda shape: st.tuples(*[arrays(shape)] * n, axes(len(shape))), **options)


def _orders(ndim: int) -> Strategy:
    """An order of axes, or None."""
    return st.none() | st.permutations(range(ndim)).map(tuple)


def _first_two(parts: list[Tensor]) -> Tensor:
    """One tensor in which both parts of a split have a say."""
    return parts[0].sum() * 2.0 + parts[1].sum() * 3.0


def _quantised(z: Any, codebook: Any) -> Any:
    """The terms of the loss of a vector quantiser in evaluation, in which the codebook stands still."""
    quantizer = VectorQuantizer(3, 1, decay=None)
    quantizer.codebook = codebook
    quantizer.eval()
    return quantizer(z).terms


def _codes(dtype: Any) -> Tensor:
    return Tensor([[-2.0], [0.0], [2.0]], dtype=dtype)


def _turned(x: Tensor) -> Tensor:
    """Turned and stretched: in the plane R is the same everywhere when the angle is."""
    return ops.rotation_trick(x, x.detach() @ Tensor([[1.5, 0.8], [-0.8, 1.5]], dtype=x.dtype))


CASES: dict[str, Case] = {
    "add": _case(ops.add, broadcastable()),
    "sub": _case(ops.sub, broadcastable()),
    "mul": _case(ops.mul, broadcastable()),
    "div": _case(ops.div, broadcastable(away_from=[0])),
    "neg": _case(ops.neg, _any),
    "pow": _case(ops.pow, broadcastable(low=0.2)),
    "abs": _case(ops.abs, arrays(away_from=[0])),
    "maximum": _case(ops.maximum, broadcastable()),
    "minimum": _case(ops.minimum, broadcastable()),
    "clip": _case(lambda a: ops.clip(a, -1.0, 2.0), arrays(away_from=[-1, 2])),
    "where": _spread(
        lambda c, a, b: ops.where(c, a, b),
        broadcastable(3).map(lambda abc: (np.asarray(abc[0] > 0), *abc[1:])),
    ),
    "exp": _case(ops.exp, _any),
    "expm1": _case(ops.expm1, _any),
    "log": _case(ops.log, _positive),
    "log1p": _case(ops.log1p, arrays(low=-0.8)),
    "sqrt": _case(ops.sqrt, _positive),
    "sin": _case(ops.sin, _any),
    "cos": _case(ops.cos, _any),
    "tanh": _case(ops.tanh, _any),
    "sigmoid": _case(ops.sigmoid, _any),
    "softplus": _case(ops.softplus, _any),
    "relu": _case(ops.relu, arrays(away_from=[0])),
    "leaky_relu": _case(ops.leaky_relu, arrays(away_from=[0]), st.sampled_from([0.01, 0.3])),
    "elu": _case(ops.elu, arrays(away_from=[0]), st.sampled_from([1.0, 0.5])),
    "gelu": _case(ops.gelu, _any),
    "silu": _case(ops.silu, _any),
    "sum": _over_axis(ops.sum),
    "mean": _over_axis(ops.mean, empty=False),
    "var": _over_axis(ops.var, empty=False),
    "max": _over_axis(ops.max, distinct=True, empty=False),
    "min": _over_axis(ops.min, distinct=True, empty=False),
    "logsumexp": _over_axis(ops.logsumexp, empty=False),
    "softmax": _case(ops.softmax, _vectors, st.sampled_from([-1, 0])),
    "log_softmax": _case(ops.log_softmax, _vectors, st.sampled_from([-1, 0])),
    "standardize": _case(lambda a: ops.standardize(a, -1, 1e-2), arrays(shapes(1, 3, empty=False))),
    "astype": _case(lambda a: ops.astype(a, a.dtype), _any),
    "reshape": _case(lambda a: ops.reshape(a, (a.size,)), _any),
    "transpose": _spread(ops.transpose, _with_shape(lambda s: st.tuples(arrays(s), _orders(len(s))))),
    "swapaxes": _case(ops.swapaxes, arrays(shapes(2, 3)), st.sampled_from([0, -1, 1]), st.sampled_from([0, -1, 1])),
    "expand_dims": _case(ops.expand_dims, arrays(shapes(1, 3)), st.sampled_from([0, -1, (0, 2)])),
    "squeeze": _case(ops.squeeze, arrays(st.sampled_from([(1,), (2, 1), (1, 3, 1), (1, 1)]))),
    "broadcast_to": _case(
        lambda a: ops.broadcast_to(a, (2, 3)), arrays(st.sampled_from([(), (3,), (2, 1), (1, 3), (2, 3)]))
    ),
    "concatenate": _case(
        lambda a, b, axis: ops.concatenate([a, b, a], axis), arrays((2, 3)), arrays((2, 3)), st.sampled_from([0, 1, -1])
    ),
    "stack": _case(
        lambda a, b, axis: ops.stack([a, b, a], axis), arrays((2, 3)), arrays((2, 3)), st.sampled_from([0, 1, 2, -1])
    ),
    "split": _case(
        lambda a, cuts, axis: _first_two(ops.split(a, cuts, axis)),
        arrays((2, 4)), st.sampled_from([2, (1,)]), st.sampled_from([1, -1]),
    ),
    "pad": _case(ops.pad, arrays((2, 3)), st.sampled_from([1, (1, 2), ((0, 1), (2, 0))])),
    "getitem": _spread(ops.getitem, _with_shape(lambda s: st.tuples(arrays(s), indices(s)))),
    "take": _case(
        ops.take,
        arrays((3, 2)), st.sampled_from([1, np.array([1, 0, 1]), np.array([[0, 1], [1, 1]])]),
        st.sampled_from([None, 0, 1, -1]),
    ),
    "flip": _spread(ops.flip, _with_shape(lambda s: st.tuples(arrays(s), axes(len(s))))),
    "repeat": _case(ops.repeat, arrays((2, 3)), st.sampled_from([2, 3]), st.sampled_from([None, 0, -1])),
    # the value of a quantisation that moves with x: only so is its gradient to x that of finite differences
    "straight_through": _case(lambda x: ops.straight_through(x, x.detach() + 0.5), _any),
    "rotation_trick": _case(_turned, arrays((3, 2), low=0.2)),
    "matmul": _spread(ops.matmul, _matrices),
    "linear": _case(
        ops.linear,
        arrays(st.sampled_from([(3,), (2, 3), (2, 2, 3), (0, 3)])), arrays((4, 3)), st.none() | arrays((4,)),
    ),
    "einsum": _spread(ops.einsum, _einsums),
    "conv2d": _spread(ops.conv2d, arguments(convolutions())),
    "conv_transpose2d": _spread(ops.conv_transpose2d, arguments(transposed_convolutions())),
    "max_pool2d": _spread(ops.max_pool2d, arguments(pools(dilated=True), distinct=True)),
    "avg_pool2d": _spread(ops.avg_pool2d, arguments(pools(dilated=False))),
    "interpolate": _spread(ops.interpolate, arguments(resamplings())),
    "pixel_shuffle": _spread(ops.pixel_shuffle, arguments(shuffles(inverse=False))),
    "pixel_unshuffle": _spread(ops.pixel_unshuffle, arguments(shuffles(inverse=True))),
    "binary_cross_entropy_with_logits": _spread(ops.binary_cross_entropy_with_logits, _same_shape(2)),
    "binary_cross_entropy_with_logits.broadcast": _case(ops.binary_cross_entropy_with_logits, broadcastable()),
    "gaussian_nll": _spread(ops.gaussian_nll, _same_shape(3)),
    "gaussian_nll.broadcast": _case(ops.gaussian_nll, broadcastable(3)),
    "mse_loss": _spread(lambda a, b, axis: ops.mse_loss(a, b), _same_shape(2, empty=False)),
    "cross_entropy": _case(lambda a: ops.cross_entropy(a, Tensor(np.array([1, 0, 2]))), arrays((3, 4))),
    "kl_unit_normal": _spread(ops.kl_unit_normal, _same_shape(2)),
    "kl_normal": _spread(ops.kl_normal, _same_shape(4)),
    "kl_unit_normal.broadcast": _case(ops.kl_unit_normal, broadcastable()),
    "kl_normal.broadcast": _case(ops.kl_normal, broadcastable(4, low=-1, high=1)),
    "nn.Linear": _layer(lambda: nn.Linear(3, 2), arrays((4, 3))),
    "nn.LayerNorm": _layer(lambda: nn.LayerNorm(3), arrays((4, 3), distinct=True)),
    "nn.BatchNorm": _layer(lambda: nn.BatchNorm(3), arrays((4, 3, 2), distinct=True)),
    "nn.BatchNorm.eval": _layer(lambda: nn.BatchNorm(3).eval(), arrays((4, 3, 2))),
    "nn.Embedding": _layer(lambda: nn.Embedding(4, 2), st.just(np.array([[1, 3], [1, 0]]))),
    "nn.Dropout": _layer(lambda: nn.Dropout(0.5, rng=np.random.default_rng(0)), arrays((4, 3))),
    "nn.Conv2d": _layer(lambda: nn.Conv2d(4, 2, 3, stride=2, padding=1, groups=2), arrays((2, 4, 5, 4))),
    "nn.ConvTranspose2d": _layer(
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), arrays((2, 2, 2, 3))
    ),
    "nn.GroupNorm": _layer(lambda: nn.GroupNorm(2, 4), arrays((2, 4, 2, 3), distinct=True)),
    "nn.ResidualBlock": _layer(
        lambda: nn.ResidualBlock(2, 1, rng=np.random.default_rng(0)), arrays((1, 2, 3, 2), away_from=[0])
    ),
    "nn.MaxPool2d": _layer(lambda: nn.MaxPool2d(3, 2, 1), arrays((2, 2, 5, 4), distinct=True)),
    "nn.AvgPool2d": _layer(lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), arrays((2, 2, 5, 4))),
    "nn.Upsample": _layer(lambda: nn.Upsample((2, 3), "bilinear"), arrays((2, 2, 3, 2))),
    "nn.PixelShuffle": _layer(lambda: nn.PixelShuffle(2), arrays((2, 4, 1, 3))),
    "nn.PixelUnshuffle": _layer(lambda: nn.PixelUnshuffle(2), arrays((2, 1, 4, 2))),
    "nn.Sequential": _layer(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Unflatten((3, 1))), arrays((3, 2, 2))
    ),
    "models.VectorQuantizer.codebook": _case(
        lambda e: _quantised(Tensor([[-2.4], [0.4], [1.9], [-1.6]], dtype=e.dtype), e + _codes(e.dtype))["codebook"],
        arrays((3, 1), low=-0.2, high=0.2),
    ),
    "models.VectorQuantizer.commitment": _case(
        lambda z: _quantised(z, _codes(z.dtype))["commitment"], arrays((2, 1, 3), away_from=[-1, 1])
    ),
    "models.FSQ.bound": _case(lambda z: FSQ((5, 4, 2)).bound(z), arrays((4, 3))),
    "models.Bernoulli": _nll(likelihood("bernoulli")),
    "models.Gaussian": _nll(likelihood("gaussian", 0.3)),
    "models.Gaussian.pixel": _nll(likelihood("gaussian", "pixel")),
    "models.DiscretizedLogistic": _nll(likelihood("logistic"), axis=()),
    "models.SquaredError": _nll(likelihood("squared-error")),
    "models.Multinomial": _case(likelihood("multinomial").nll, arrays((2, 3, 4)), arrays((3, 4), low=0.2)),
    "models.vae": _model(vae),
    "models.vae.monte-carlo": _model(vae, kl="monte-carlo", samples=2, likelihood="gaussian", variance="pixel"),
    "models.vae.free_bits": _model(vae, free_bits=0.05, samples=2),
    "models.vae.capacity": _model(vae, capacity=1.0, beta=3.0, likelihood="gaussian"),
    "models.vae.k": _model(vae, k=3, samples=2),
    "models.vae.conv": _model(vae, arch="conv", channels=(1,), likelihood="logistic"),
    "models.autoencoder": _model(autoencoder, arch="conv", channels=(1,)),
    "models.autoencoder.block": _model(autoencoder, corruption="block", likelihood="bernoulli"),
}  # fmt: skip
