"""Encoders and decoders as small functions: networks that any model can be built from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from minivae import nn


def dense_encoder(shape: tuple[int, ...], hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Images (N, *shape) -> (N, outputs), through ReLU layers of the hidden widths."""
    return nn.Sequential(nn.Flatten(), *_dense([math.prod(shape), *hidden, outputs]))


def dense_decoder(latent: int, hidden: Sequence[int], shape: tuple[int, ...]) -> nn.Sequential:
    """Codes (..., latent) -> images (..., *shape), through ReLU layers of the hidden widths."""
    return nn.Sequential(*_dense([latent, *hidden, math.prod(shape)]), nn.Unflatten(shape))


def _dense(widths: list[int]) -> list[nn.Module]:
    """Linear layers between the widths, with ReLU between them."""
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(widths):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return layers[:-1]
