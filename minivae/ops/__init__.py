"""Differentiable functions of tensors. Each stands in its file with its derivative beside it."""

from collections.abc import Callable
from typing import Any

from minivae.ops.activation import elu, gelu, leaky_relu, relu, sigmoid, silu, soft_clip, softplus, tanh
from minivae.ops.arithmetic import (
    abs,
    add,
    clip,
    cos,
    div,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    sin,
    sqrt,
    sub,
    where,
)
from minivae.ops.conv import conv2d, conv_transpose2d
from minivae.ops.loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    gaussian_nll,
    kl_normal,
    kl_unit_normal,
    mse_loss,
)
from minivae.ops.matmul import einsum, linear, matmul
from minivae.ops.norm import group_norm, standardize
from minivae.ops.pool import avg_pool2d, interpolate, max_pool2d, pixel_shuffle, pixel_unshuffle
from minivae.ops.quantize import rotation_trick, straight_through
from minivae.ops.reduction import log_softmax, logsumexp, max, mean, min, softmax, sum, var
from minivae.ops.sample import reparameterize
from minivae.ops.shape import (
    astype,
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    getitem,
    pad,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    take,
    transpose,
)
from minivae.ops.special import digamma, lbeta, lgamma, log_gamma_quantile
from minivae.tensor import Tensor

__all__ = [
    "abs", "add", "astype", "avg_pool2d", "binary_cross_entropy_with_logits", "broadcast_to", "clip", "concatenate",
    "conv2d", "conv_transpose2d", "cos", "cross_entropy", "digamma", "div", "einsum", "elu", "exp", "expand_dims",
    "expm1", "flip", "gaussian_nll", "gelu", "getitem", "group_norm", "interpolate", "kl_normal", "kl_unit_normal",
    "lbeta", "leaky_relu", "lgamma", "linear", "log", "log1p", "log_gamma_quantile", "log_softmax", "logsumexp",
    "matmul", "max", "max_pool2d", "maximum", "mean", "min", "minimum", "mse_loss", "mul", "neg", "pad",
    "pixel_shuffle", "pixel_unshuffle", "pow", "relu", "reparameterize", "repeat", "reshape", "rotation_trick",
    "sigmoid", "silu", "sin", "soft_clip", "softmax",
    "softplus", "split", "sqrt", "squeeze", "stack", "standardize", "straight_through", "sub", "sum", "swapaxes",
    "take", "tanh", "transpose", "var", "where",
]  # fmt: skip

_methods = [
    abs, astype, broadcast_to, clip, cos, elu, exp, expand_dims, expm1, flip, gelu, leaky_relu, log, log1p,
    log_softmax, logsumexp, matmul, max, maximum, mean, min, minimum, pad, pow, relu, repeat, reshape, sigmoid,
    silu, sin, softmax, softplus, split, sqrt, squeeze, sum, swapaxes, take, tanh, transpose, var,
]  # fmt: skip
_operators = {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow, "matmul": matmul}


def _attach() -> None:
    """Give Tensor its methods and operators."""
    for function in _methods:
        setattr(Tensor, function.__name__, function)
    for function in (reshape, transpose):
        setattr(Tensor, function.__name__, _variadic(function))
    for name, function in _operators.items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", lambda self, other, function=function: function(other, self))
    for name, function in {"__neg__": neg, "__abs__": abs, "__getitem__": getitem}.items():
        setattr(Tensor, name, function)


def _variadic(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method of an op that takes a tuple: x.reshape(2, 3) is x.reshape((2, 3))."""

    def method(self: Tensor, *numbers: Any, **options: Any) -> Tensor:
        return function(self, *((numbers,) if len(numbers) > 1 else numbers), **options)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


_attach()
