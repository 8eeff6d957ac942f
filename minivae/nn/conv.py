"""The layers of convolutional networks, with PyTorch's names, arguments and initial values."""

from __future__ import annotations

import math
from typing import Any

from minivae import backend, ops
from minivae.nn import init
from minivae.nn.layers import ReLU
from minivae.nn.module import Module, Parameter, Sequential
from minivae.ops.conv import Pair
from minivae.tensor import Tensor


class _Convolution(Module):
    """Weight, bias and geometry, which both directions share."""

    def __init__(
        self, name: str, first: int, second: int, outputs: int, kernel_size: Pair, groups: int, bias: bool, rng: Any
    ):
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        if min(first, second, outputs, *kernel, groups) < 1 or first % groups or second % groups:
            raise ValueError(
                f"{name}: channels {first} and {second}, kernel_size {kernel_size} and groups {groups} must be at least "
                "1, and groups must divide both channels."
            )
        self.weight = Parameter(init.kaiming_uniform((first, second // groups, *kernel), rng=rng))
        bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
        self.bias = Parameter(init.uniform((outputs,), bound, rng)) if bias else None


class Conv2d(_Convolution):
    """(N, in_channels, H, W) -> (N, out_channels, H', W'); weight (out, in / groups, kh, kw). See ops.conv2d."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Pair,
        stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1, bias: bool = True, rng: Any = None,
    ):  # fmt: skip
        super().__init__("Conv2d", out_channels, in_channels, out_channels, kernel_size, groups, bias, rng)
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, **self.geometry)

    def extra_repr(self) -> str:
        return _describe(self.weight.shape[1] * self.geometry["groups"], self.weight.shape[0], self)


class ConvTranspose2d(_Convolution):
    """(N, in_channels, H, W) -> (N, out_channels, H', W'); weight (in, out / groups, kh, kw). See conv_transpose2d."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0,
        output_padding: Pair = 0, groups: int = 1, bias: bool = True, dilation: Pair = 1, rng: Any = None,
    ):  # fmt: skip
        super().__init__("ConvTranspose2d", in_channels, out_channels, out_channels, kernel_size, groups, bias, rng)
        self.geometry = {
            "stride": stride, "padding": padding, "output_padding": output_padding,
            "groups": groups, "dilation": dilation,
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv_transpose2d(x, self.weight, self.bias, **self.geometry)

    def extra_repr(self) -> str:
        return _describe(self.weight.shape[0], self.weight.shape[1] * self.geometry["groups"], self)


class GroupNorm(Module):
    """Each group of channels of an example by its own statistics. [Wu & He 2018]

    x (N, num_channels, ...) -> the same shape; weight and bias (num_channels,).
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5):
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_groups {num_groups} must be at least 1 and divide {num_channels} channels."
            )
        xp = backend.current()
        self.num_groups = num_groups
        self.weight = Parameter(xp.ones(num_channels, dtype=xp.float32))
        self.bias = Parameter(xp.zeros(num_channels, dtype=xp.float32))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.weight.size:
            raise ValueError(
                f"GroupNorm: x of shape {x.shape} must have {self.weight.size} channels in its second axis."
            )
        groups = x.reshape((len(x), self.num_groups, -1))
        y = ops.standardize(groups, -1, self.eps).reshape(x.shape)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return y * self.weight.reshape(shape) + self.bias.reshape(shape)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.weight.shape[0]}, eps={self.eps}"


class ResidualBlock(Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), with fewer channels between. (N, channels, H, W) -> the same shape.

    The block of the VQ-VAE. [van den Oord et al. 2017, section 4.1]
    """

    def __init__(self, channels: int, hidden: int, rng: Any = None):
        self.residual = Sequential(
            ReLU(), Conv2d(channels, hidden, 3, padding=1, rng=rng), ReLU(), Conv2d(hidden, channels, 1, rng=rng)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


def _describe(inputs: int, outputs: int, layer: Any) -> str:
    """Channels, kernel, and what of the geometry is not the default."""
    defaults = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
    said = [f"{name}={value}" for name, value in layer.geometry.items() if value != defaults[name]]
    return ", ".join([str(inputs), str(outputs), str(layer.weight.shape[2:]), *said])
