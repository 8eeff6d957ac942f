"""Normalisation layers: subtract a mean, divide by a standard deviation, then learn a scale and a shift."""

from __future__ import annotations

import math

import numpy as np

from minivae import backend, ops
from minivae.nn.module import Buffer, Module, Parameter
from minivae.tensor import Tensor


class LayerNorm(Module):
    """Each example by its own statistics over the last axes. [Ba et al. 2016]

    x (..., *normalized_shape) -> the same shape; weight and bias of normalized_shape.
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5):
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        xp = backend.current()
        self.weight = Parameter(xp.ones(shape, dtype=np.float32))
        self.bias = Parameter(xp.zeros(shape, dtype=np.float32))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-self.weight.ndim :] != self.weight.shape:
            raise ValueError(f"LayerNorm: x of shape {x.shape} must end in {self.weight.shape}.")
        axes = tuple(range(-self.weight.ndim, 0))
        return ops.standardize(x, axes, self.eps) * self.weight + self.bias

    def extra_repr(self) -> str:
        return f"{self.weight.shape}, eps={self.eps}"


class BatchNorm(Module):
    """Each channel by the statistics of the batch; in evaluation, by their running means. [Ioffe & Szegedy 2015]

    x (N, C) or (N, C, ...) -> the same shape. Statistics over all axes but the second. As in PyTorch the
    running variance is the unbiased one, and running = (1 - momentum) running + momentum batch.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        xp = backend.current()
        self.weight = Parameter(xp.ones(num_features, dtype=np.float32))
        self.bias = Parameter(xp.zeros(num_features, dtype=np.float32))
        self.running_mean = Buffer(xp.zeros(num_features, dtype=np.float32))
        self.running_var = Buffer(xp.ones(num_features, dtype=np.float32))
        self.num_batches_tracked = Buffer(xp.zeros((), dtype=np.int64))  # PyTorch's state has it
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.weight.size:
            raise ValueError(
                f"BatchNorm: x of shape {x.shape} must have {self.weight.size} channels in its second axis."
            )
        axes = (0, *range(2, x.ndim))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        if self.training:
            n = math.prod(x.shape[i] for i in axes)
            if n < 2:
                raise ValueError(
                    f"BatchNorm: x of shape {x.shape} has one value a channel: training needs more; call eval()."
                )
            self._track(x.data.mean(axes), x.data.var(axes, ddof=1))
            y = ops.standardize(x, axes, self.eps)
        else:
            rstd = 1 / ops.sqrt(self.running_var + self.eps)
            y = (x - self.running_mean.reshape(shape)) * rstd.reshape(shape)
        return y * self.weight.reshape(shape) + self.bias.reshape(shape)

    def _track(self, mean: backend.Array, var: backend.Array) -> None:
        self.num_batches_tracked.data += 1
        for buffer, value in ((self.running_mean, mean), (self.running_var, var)):
            buffer.data *= 1 - self.momentum
            buffer.data += self.momentum * value

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"
