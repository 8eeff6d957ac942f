"""Layers, under PyTorch's names."""

from minivae.nn import init
from minivae.nn.conv import Conv2d, ConvTranspose2d, GroupNorm, ResidualBlock
from minivae.nn.layers import (
    ELU,
    GELU,
    Dropout,
    Embedding,
    Flatten,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    Unflatten,
)
from minivae.nn.masked import MaskedConv2d
from minivae.nn.module import Buffer, Module, Parameter, frozen
from minivae.nn.norm import BatchNorm, LayerNorm
from minivae.nn.pool import AvgPool2d, MaxPool2d, PixelShuffle, PixelUnshuffle, Upsample

__all__ = [
    "ELU", "GELU", "AvgPool2d", "BatchNorm", "Buffer", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding",
    "Flatten", "GroupNorm", "LayerNorm", "LeakyReLU", "Linear", "MaskedConv2d", "MaxPool2d", "Module", "Parameter",
    "PixelShuffle", "PixelUnshuffle", "ReLU", "ResidualBlock", "Sequential", "SiLU", "Sigmoid", "Softplus", "Tanh",
    "Unflatten", "Upsample", "frozen", "init",
]  # fmt: skip
