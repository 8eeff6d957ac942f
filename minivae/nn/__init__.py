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
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    Unflatten,
)
from minivae.nn.module import Buffer, Module, Parameter, Sequential
from minivae.nn.norm import BatchNorm, LayerNorm

__all__ = [
    "ELU", "GELU", "BatchNorm", "Buffer", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten", "GroupNorm",
    "LayerNorm", "LeakyReLU", "Linear", "Module", "Parameter", "ReLU", "ResidualBlock", "Sequential", "SiLU", "Sigmoid", "Softplus", "Tanh", "Unflatten", "init",
]  # fmt: skip
