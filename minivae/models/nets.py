"""Encoders and decoders as small functions: networks that any model can be built from.

    dense   flatten, then layers of the hidden widths
    conv    a convolution of stride 2 for each number of channels, which halves the sides; then a linear layer
    map     the same, but the code is a small image of vectors, (N, dim, h, w)

The decoder of each is its encoder backwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from minivae import nn
from minivae.errors import InputError

ACTIVATIONS: dict[str, Any] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid,
    "leaky-relu": partial(nn.LeakyReLU, 0.2),  # the slope of discriminators [Radford et al. 2016]
}  # fmt: skip
Shape = tuple[int, ...]


def encoder(
    arch: str, shape: Shape, hidden: Sequence[int], channels: Sequence[int] | None, outputs: int, activation: str
) -> nn.Sequential:
    """Images (N, *shape) -> (N, outputs), by dense layers of the hidden widths or by convolutions of channels."""
    if _is_conv(arch):
        return conv_encoder(shape, channels or widths(shape), hidden, outputs, activation)
    if channels:
        raise InputError(f"channels {channels} are those of convolutions: leave them out, or choose arch conv.")
    return dense_encoder(shape, hidden, outputs, activation)


def decoder(
    arch: str, latent: int, hidden: Sequence[int], channels: Sequence[int] | None, shape: Shape, activation: str
) -> nn.Sequential:
    """The encoder of these arguments backwards: codes (..., latent) -> images (..., *shape)."""
    hidden = list(hidden)[::-1]
    if _is_conv(arch):
        return conv_decoder(latent, hidden, (channels or widths(shape))[::-1], shape, activation)
    return dense_decoder(latent, hidden, shape, activation)


def dense_encoder(shape: Shape, hidden: Sequence[int], outputs: int, activation: str = "relu") -> nn.Sequential:
    """Images (N, *shape) -> (N, outputs), through layers of the hidden widths."""
    return nn.Sequential(nn.Flatten(), *_dense([math.prod(shape), *hidden, outputs], activation))


def dense_decoder(latent: int, hidden: Sequence[int], shape: Shape, activation: str = "relu") -> nn.Sequential:
    """Codes (..., latent) -> images (..., *shape), through layers of the hidden widths."""
    return nn.Sequential(*_dense([latent, *hidden, math.prod(shape)], activation), nn.Unflatten(shape))


def conv_encoder(
    shape: Shape, channels: Sequence[int], hidden: Sequence[int], outputs: int, activation: str = "relu"
) -> nn.Sequential:
    """Images (N, C, H, W) -> (N, outputs): halved once for each of the channels, then dense layers."""
    size = halved(shape, len(channels))
    act = activation_layer(activation)
    return nn.Sequential(
        *_down([shape[0], *channels], act),
        act(),
        nn.Flatten(),
        *_dense([channels[-1] * math.prod(size), *hidden, outputs], activation),
    )


def conv_decoder(
    latent: int, hidden: Sequence[int], channels: Sequence[int], shape: Shape, activation: str = "relu"
) -> nn.Sequential:
    """Codes (N, latent) -> images (N, C, H, W): dense layers, then doubled once for each of the channels."""
    size = halved(shape, len(channels))
    act = activation_layer(activation)
    return nn.Sequential(
        *_dense([latent, *hidden, channels[0] * math.prod(size)], activation),
        act(),
        nn.Unflatten((channels[0], *size)),
        *_up([*channels, shape[0]], act),
    )


def map_encoder(shape: Shape, channels: Sequence[int], dim: int, residual_blocks: int = 0) -> nn.Sequential:
    """Images (N, C, H, W) -> maps of vectors (N, dim, h, w), halved once for each of the channels."""
    halved(shape, len(channels))
    return nn.Sequential(*map_features(shape[0], channels, residual_blocks).layers, nn.Conv2d(channels[-1], dim, 1))


def map_features(inputs: int, channels: Sequence[int], residual_blocks: int = 0) -> nn.Sequential:
    """Maps (N, inputs, H, W) -> (N, channels[-1], h, w), halved once for each of the channels."""
    return nn.Sequential(*_down([inputs, *channels], nn.ReLU), *_residual(channels[-1], residual_blocks))


def map_decoder(dim: int, channels: Sequence[int], shape: Shape, residual_blocks: int = 0) -> nn.Sequential:
    """Maps of vectors (N, dim, h, w) -> images (N, C, H, W), doubled once for each of the channels."""
    halved(shape, len(channels))
    return nn.Sequential(
        nn.Conv2d(dim, channels[0], 3, padding=1), *_residual(channels[0], residual_blocks),
        *_up([*channels, shape[0]], nn.ReLU),
    )  # fmt: skip


def widths(shape: Shape, smallest: int = 4) -> tuple[int, ...]:
    """Good channels for images (C, H, W): 16, 32, then 64, for as long as the sides halve to the smallest."""
    _images(shape)
    n = 0
    while all(side % 2 ** (n + 1) == 0 and side >> (n + 1) >= smallest for side in shape[1:]):
        n += 1
    if not n:
        raise InputError(
            f"images of {shape[1]}x{shape[2]} cannot be halved for a convolutional network: "
            f"crop or resize them to even sides of at least {2 * smallest}, or use the dense architecture."
        )
    return (16, 32, *(64,) * (n - 2))[:n]


def halved(shape: Shape, times: int) -> tuple[int, int]:
    """The sides of images (C, H, W) after they were halved so often. Raises InputError where they cannot be."""
    _images(shape)
    if any(side % 2**times for side in shape[1:]):
        raise InputError(
            f"images of {shape[1]}x{shape[2]} cannot be halved {times} time{'s' * (times > 1)}, once for each of the "
            f"channels: give {'fewer channels, or ' * (times > 1)}images whose sides are multiples of {2**times}."
        )
    return shape[1] >> times, shape[2] >> times


def _images(shape: Shape) -> None:
    if len(shape) != 3:
        raise InputError(
            f"a convolutional network takes images (C, H, W), but these data have shape {shape}: "
            "use the dense architecture."
        )


def check_sizes(**sizes: Any) -> None:
    """Raise InputError where a size, or one of several, is below 1."""
    for name, size in sizes.items():
        if any(n < 1 for n in ([size] if isinstance(size, int) else size)):
            raise InputError(f"{name} {size} is too small for a network: every size must be at least 1.")


def activation_layer(name: str) -> Any:
    """What makes an activation of a name."""
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation '{name}': choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _is_conv(arch: str) -> bool:
    if arch not in ("dense", "conv"):
        raise InputError(f"unknown architecture '{arch}': choose dense or conv.")
    return arch == "conv"


def _dense(widths: list[int], activation: str) -> list[nn.Module]:
    """Linear layers between the widths, with activations between them."""
    return _between([nn.Linear(n, m) for n, m in itertools.pairwise(widths)], activation_layer(activation))


def _down(channels: list[int], act: Any) -> list[nn.Module]:
    """Convolutions of stride 2, with activations between them."""
    return _between([nn.Conv2d(n, m, 4, stride=2, padding=1) for n, m in itertools.pairwise(channels)], act)


def _up(channels: list[int], act: Any) -> list[nn.Module]:
    """Transposed convolutions of stride 2, with activations between them."""
    return _between([nn.ConvTranspose2d(n, m, 4, stride=2, padding=1) for n, m in itertools.pairwise(channels)], act)


def _residual(channels: int, blocks: int) -> list[nn.Module]:
    """Residual blocks, and the activation after them."""
    return [*[nn.ResidualBlock(channels, max(1, channels // 2)) for _ in range(blocks)], nn.ReLU()]


def _between(layers: Sequence[nn.Module], act: Any) -> list[nn.Module]:
    """Layers with an activation between each two."""
    return [part for layer in layers for part in (layer, act())][:-1]
