"""Initial values of parameters: PyTorch's defaults, drawn from the backend's generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minivae import backend


def uniform(shape: tuple[int, ...], bound: float, rng: Any = None) -> Any:
    """U(-bound, bound), float32."""
    u = (rng or backend.current().rng).random(shape, dtype=np.float32)
    return (2 * u - 1) * bound


def normal(shape: tuple[int, ...], std: float = 1.0, rng: Any = None) -> Any:
    """N(0, std^2), float32."""
    return (rng or backend.current().rng).standard_normal(shape, dtype=np.float32) * std


def kaiming_uniform(shape: tuple[int, ...], a: float = math.sqrt(5), rng: Any = None) -> Any:
    """U(-b, b) with b = gain sqrt(3 / fan_in), gain = sqrt(2 / (1 + a^2)). [He et al. 2015, section 2.2]

    shape: (out, in, ...). PyTorch's default a = sqrt(5) makes b = 1 / sqrt(fan_in).
    """
    return uniform(shape, math.sqrt(6 / ((1 + a * a) * math.prod(shape[1:]))), rng)


def xavier_uniform(shape: tuple[int, ...], gain: float = 1.0, rng: Any = None) -> Any:
    """U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)). [Glorot & Bengio 2010, eq. 16]"""
    receptive = math.prod(shape[2:])
    return uniform(shape, gain * math.sqrt(6 / ((shape[0] + shape[1]) * receptive)), rng)
