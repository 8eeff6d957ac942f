"""The layers of convolutional networks, with PyTorch's names, arguments and initial values."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from minivae import backend, ops
from minivae.nn import init
from minivae.nn.layers import ReLU, Sequential, takes_activation
from minivae.nn.module import Module, Parameter
from minivae.ops.conv import output_border
from minivae.ops.windows import Geometry, Pair, geometry
from minivae.tensor import Tensor


class _Convolution(Module):
    """Weight, bias and geometry, which both directions share."""

    def __init__(self, ends: tuple[int, int], outputs: int, windows: Geometry, groups: int, bias: bool, rng: Any):
        name = type(self).__name__
        if (
            not all(isinstance(v, Integral) and int(v) >= 1 for v in (*ends, groups))
            or ends[0] % groups
            or ends[1] % groups
        ):
            raise ValueError(
                f"{name}: {ends[0]} and {ends[1]} channels and groups {groups} must be whole numbers of at least 1, "
                "and groups must divide both channels."
            )
        self.weight = Parameter(init.kaiming_uniform((ends[0], ends[1] // groups, *windows.kernel), rng=rng))
        bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
        self.bias = Parameter(init.uniform((outputs,), bound, rng)) if bias else None
        self.geometry = {"stride": windows.stride, "padding": windows.padding, "dilation": windows.dilation}
        self.groups = groups


class Conv2d(_Convolution):
    """(N, in_channels, H, W) -> (N, out_channels, H', W'); weight (out, in / groups, kh, kw). See ops.conv2d."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Pair,
        stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1, bias: bool = True, rng: Any = None,
    ):  # fmt: skip
        windows = geometry("Conv2d", kernel_size, stride, padding, dilation)
        super().__init__((out_channels, in_channels), out_channels, windows, groups, bias, rng)

    @takes_activation
    def forward(self, x: Tensor, activation: Any = None) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, groups=self.groups, activation=activation, **self.geometry)

    def extra_repr(self) -> str:
        return _describe(self.weight.shape[1] * self.groups, self.weight.shape[0], self)


class ConvTranspose2d(_Convolution):
    """(N, in_channels, H, W) -> (N, out_channels, H', W'); weight (in, out / groups, kh, kw). See conv_transpose2d."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0,
        output_padding: Pair = 0, groups: int = 1, bias: bool = True, dilation: Pair = 1, rng: Any = None,
    ):  # fmt: skip
        windows = geometry("ConvTranspose2d", kernel_size, stride, padding, dilation)
        super().__init__((in_channels, out_channels), out_channels, windows, groups, bias, rng)
        self.geometry["output_padding"] = output_border("ConvTranspose2d", output_padding, windows)

    @takes_activation
    def forward(self, x: Tensor, activation: Any = None) -> Tensor:
        return ops.conv_transpose2d(
            x, self.weight, self.bias, groups=self.groups, activation=activation, **self.geometry
        )

    def extra_repr(self) -> str:
        return _describe(self.weight.shape[0], self.weight.shape[1] * self.groups, self)


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
        return ops.group_norm(x, self.weight, self.bias, self.num_groups, self.eps)

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
        y: Tensor = x + self.residual(x)
        return y


def _describe(inputs: int, outputs: int, layer: _Convolution) -> str:
    """Channels, kernel, and what of the geometry is not the default."""
    options = {**layer.geometry, "groups": layer.groups}
    usual = {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1), "groups": 1}
    said = [f"{name}={value}" for name, value in options.items() if value != usual[name]]
    return ", ".join([str(inputs), str(outputs), str(layer.weight.shape[2:]), *said])
