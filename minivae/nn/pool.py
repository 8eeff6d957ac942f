"""Layers that make images smaller or larger, with PyTorch's names and arguments."""

from __future__ import annotations

from typing import Any

from minivae import ops
from minivae.nn.module import Module
from minivae.ops.pool import pool_geometry, resample_factors, shuffle_factor
from minivae.ops.windows import Pair
from minivae.tensor import Tensor


class MaxPool2d(Module):
    """The largest pixel of every window. (N, C, H, W) -> (N, C, H', W'). See ops.max_pool2d."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1):
        self.geometry = pool_geometry("MaxPool2d", kernel_size, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, *self.geometry)

    def extra_repr(self) -> str:
        return _describe(self.geometry)


class AvgPool2d(Module):
    """The mean of every window. (N, C, H, W) -> (N, C, H', W'). See ops.avg_pool2d."""

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
    ):
        self.geometry = pool_geometry("AvgPool2d", kernel_size, stride, padding, 1)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, *self.geometry[:3], count_include_pad=self.count_include_pad)

    def extra_repr(self) -> str:
        return f"{_describe(self.geometry[:3])}, count_include_pad={self.count_include_pad}"


class Upsample(Module):
    """Images larger by whole factors. (N, C, H, W) -> (N, C, scale H, scale W). See ops.interpolate."""

    def __init__(self, scale_factor: Pair, mode: str = "nearest", align_corners: bool = False):
        self.scale_factor = resample_factors("Upsample", scale_factor, mode)
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(x, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        return f"{self.scale_factor}, mode={self.mode}, align_corners={self.align_corners}"


class PixelShuffle(Module):
    """Channels become pixels. (N, C r r, H, W) -> (N, C, r H, r W). See ops.pixel_shuffle."""

    def __init__(self, upscale_factor: int):
        self.upscale_factor = shuffle_factor("PixelShuffle", upscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return ops.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return str(self.upscale_factor)


class PixelUnshuffle(Module):
    """Pixels become channels. (N, C, r H, r W) -> (N, C r r, H, W). See ops.pixel_unshuffle."""

    def __init__(self, downscale_factor: int):
        self.downscale_factor = shuffle_factor("PixelUnshuffle", downscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return ops.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return str(self.downscale_factor)


def _describe(geometry: tuple[Any, ...]) -> str:
    names = ("kernel_size", "stride", "padding", "dilation")
    return ", ".join(f"{name}={value}" for name, value in zip(names, geometry, strict=False))
