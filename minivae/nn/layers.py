"""The layers of dense networks, with PyTorch's names, arguments and initial values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from minivae import backend, ops
from minivae.nn import init
from minivae.nn.module import Module, Parameter
from minivae.tensor import Tensor


class Linear(Module):
    """x weight^T + bias. x (..., in_features) -> (..., out_features); weight (out, in), bias (out,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rng: Any = None):
        if min(in_features, out_features) < 1:
            raise ValueError(f"Linear: in_features {in_features} and out_features {out_features} must be at least 1.")
        self.weight = Parameter(init.kaiming_uniform((out_features, in_features), rng=rng))
        self.bias = Parameter(init.uniform((out_features,), 1 / math.sqrt(in_features), rng)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


class Embedding(Module):
    """Row i of weight (num_embeddings, embedding_dim) for each integer i. (...) -> (..., embedding_dim)"""

    def __init__(self, num_embeddings: int, embedding_dim: int, rng: Any = None):
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim), rng=rng))

    def forward(self, indices: Any) -> Tensor:
        return ops.take(self.weight, indices.data if isinstance(indices, Tensor) else indices, axis=0)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class Flatten(Module):
    """(N, ...) -> (N, product of the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (len(x), math.prod(x.shape[1:])))


class Unflatten(Module):
    """(..., n) -> (..., *shape), with n the product of shape."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (*x.shape[:-1], *self.shape))

    def extra_repr(self) -> str:
        return str(self.shape)


class Dropout(Module):
    """In training, each entry is 0 with probability p, else scaled by 1 / (1 - p). [Srivastava et al. 2014]

    rng: the generator of the masks; the backend's by default.
    """

    def __init__(self, p: float = 0.5, rng: Any = None):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be at least 0 and below 1, not {p}.")
        self.p = p
        self.rng = rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        xp = backend.of(x.data)
        kept = (self.rng or xp.rng).random(x.shape, dtype=xp.float32) >= self.p
        return ops.mul(x, (kept / (1 - self.p)).astype(x.dtype))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Activation(Module):
    """A layer without parameters: an elementwise op."""

    function: ClassVar[Callable[..., Tensor]]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x)
        return y


class ReLU(Activation):
    """max(x, 0)."""

    function = staticmethod(ops.relu)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else alpha (e^x - 1)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Activation):
    """x Phi(x)."""

    function = staticmethod(ops.gelu)


class SiLU(Activation):
    """x sigmoid(x)."""

    function = staticmethod(ops.silu)


class Sigmoid(Activation):
    """1 / (1 + e^-x)."""

    function = staticmethod(ops.sigmoid)


class Tanh(Activation):
    """tanh x."""

    function = staticmethod(ops.tanh)


class Softplus(Activation):
    """log(1 + e^x)."""

    function = staticmethod(ops.softplus)
