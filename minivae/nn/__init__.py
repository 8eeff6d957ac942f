"""Layers, under PyTorch's names."""

from minivae.nn import init
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
    "ELU", "GELU", "BatchNorm", "Buffer", "Dropout", "Embedding", "Flatten", "LayerNorm", "LeakyReLU", "Linear",
    "Module", "Parameter", "ReLU", "Sequential", "SiLU", "Sigmoid", "Softplus", "Tanh", "Unflatten", "init",
]  # fmt: skip
