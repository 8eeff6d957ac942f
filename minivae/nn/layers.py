"""The layers of dense networks, with PyTorch's names, arguments and initial values."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from minivae import backend, ops
from minivae.nn import init
from minivae.nn.module import Module, Parameter
from minivae.tensor import Tensor


def takes_activation(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The forward() of a layer that can apply an activation, of arrays, in the pass that adds its bias."""
    forward.takes_activation = True  # type: ignore[attr-defined]
    return forward


class Linear(Module):
    """x weight^T + bias. x (..., in_features) -> (..., out_features); weight (out, in), bias (out,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rng: Any = None):
        if min(in_features, out_features) < 1:
            raise ValueError(f"Linear: in_features {in_features} and out_features {out_features} must be at least 1.")
        self.weight = Parameter(init.kaiming_uniform((out_features, in_features), rng=rng))
        self.bias = Parameter(init.uniform((out_features,), 1 / math.sqrt(in_features), rng)) if bias else None

    @takes_activation
    def forward(self, x: Tensor, activation: Any = None) -> Tensor:
        return ops.linear(x, self.weight, self.bias, activation)

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

    function: ClassVar[Any]  # of ops/activation.py: of arrays it takes a bias

    def options(self) -> dict[str, float]:
        """What the op takes beside x."""
        return {}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, **self.options())
        return y

    def of_arrays(self) -> Callable[..., Any]:
        """The same for ops that apply it to their arrays."""
        return functools.partial(self.function.forward, **self.options())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.options().items())


class ReLU(Activation):
    """max(x, 0)."""

    function = staticmethod(ops.relu)


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope x."""

    function = staticmethod(ops.leaky_relu)

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def options(self) -> dict[str, float]:
        return {"negative_slope": self.negative_slope}


class ELU(Activation):
    """x where x > 0, else alpha (e^x - 1)."""

    function = staticmethod(ops.elu)

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def options(self) -> dict[str, float]:
        return {"alpha": self.alpha}


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


class Sequential(Module):
    """Modules, or functions of one tensor, one after the other; their paths are "0", "1", ...

    A layer with weights takes the activation that follows it: bias and activation are one pass, and one kernel.
    """

    def __init__(self, *layers: Any):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        taken = False
        for layer, after in itertools.zip_longest(self.layers, self.layers[1:]):
            if taken:
                taken = False
                continue
            # not where a subclass has a forward() of its own
            taken = hasattr(getattr(layer, "forward", None), "takes_activation") and (
                getattr(getattr(after, "forward", None), "__func__", None) is Activation.forward
            )
            x = layer(x, after.of_arrays()) if taken else layer(x)
        return x

    def children(self) -> Iterator[tuple[str, Module]]:
        yield from ((str(i), layer) for i, layer in enumerate(self.layers) if isinstance(layer, Module))

    def __getitem__(self, i: int) -> Any:
        return self.layers[i]

    def __len__(self) -> int:
        return len(self.layers)
