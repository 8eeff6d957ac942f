"""The networks that are raced, as plain data: what each library builds in its own way.

A layer's place in its list is its name: "encoder.3.weight" is the weight of the fourth layer of the encoder, here, in
minivae and in PyTorch. So weights are copied by name, and a network that differs does not take them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

IMAGES = 2048  # from which the batches are drawn
LR = 1e-3


@dataclass(frozen=True)
class Layer:
    """kind: linear, conv, up (a transposed convolution), act, flatten or unflatten. shape: of an unflatten."""

    kind: str
    inputs: int = 0
    outputs: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A model, the shape of its images, and the batch. Without channels it is dense.

    k: samples of the importance-weighted bound. codes, dim: of the VQ-VAE, which has no hidden layers and no latents.
    """

    model: str  # vae, iwae or vqvae
    batch: int
    shape: tuple[int, int, int] = (1, 28, 28)
    hidden: tuple[int, ...] = (400,)
    channels: tuple[int, ...] = ()
    latent: int = 20
    activation: str = "relu"
    k: int = 1
    codes: int = 128
    dim: int = 16

    @property
    def side(self) -> tuple[int, int]:
        """Height and width after the channels have halved them."""
        return self.shape[1] >> len(self.channels), self.shape[2] >> len(self.channels)

    def encoder(self) -> list[Layer]:
        """Its layers, by their places."""
        down = _chain("conv", [self.shape[0], *self.channels], kernel=4, stride=2, padding=1)
        if self.model == "vqvae":
            return [*down, Layer("act"), Layer("conv", self.channels[-1], self.dim)]
        size = math.prod(self.shape)
        if self.channels:
            down, size = [*down, Layer("act")], self.channels[-1] * math.prod(self.side)
        return [*down, Layer("flatten"), *_chain("linear", [size, *self.hidden, 2 * self.latent])]

    def decoder(self) -> list[Layer]:
        """The encoder backwards."""
        up = _chain("up", [*self.channels[::-1], self.shape[0]], kernel=4, stride=2, padding=1)
        if self.model == "vqvae":
            return [Layer("conv", self.dim, self.channels[-1], 3, 1, 1), Layer("act"), *up]
        widths = [self.latent, *self.hidden[::-1]]
        if not self.channels:
            return [*_chain("linear", [*widths, math.prod(self.shape)]), Layer("unflatten", shape=self.shape)]
        small = (self.channels[-1], *self.side)
        dense = _chain("linear", [*widths, math.prod(small)])
        return [*dense, Layer("act"), Layer("unflatten", shape=small), *up]

    def images(self) -> np.ndarray:
        """Smooth random images in [0, 1], (IMAGES, *shape), float32: the same for all sides."""
        coarse = np.random.default_rng(0).random((IMAGES, self.shape[0], 4, 4), dtype=np.float32)
        return np.kron(coarse, np.ones((-(-self.shape[1] // 4), -(-self.shape[2] // 4)), np.float32))[
            ..., : self.shape[1], : self.shape[2]
        ].copy()

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """The standard normal numbers of one step, (N, latent) or (k, N, latent)."""
        shape = (self.batch, self.latent)
        return rng.standard_normal((self.k, *shape) if self.k > 1 else shape, dtype=np.float32)


def _chain(kind: str, widths: list[int], **geometry: int) -> list[Layer]:
    """Layers of a kind between the widths, with activations between them."""
    layers = [layer for n, m in pairwise(widths) for layer in (Layer(kind, n, m, **geometry), Layer("act"))]
    return layers[:-1]


def dense(batch: int, hidden: tuple[int, ...] = (400,)) -> Problem:
    """The VAE 784-400-20."""
    return Problem("vae", batch, hidden=hidden)


CONV_28 = Problem("vae", 128, channels=(16, 32))
CONV_32 = Problem("vae", 128, (3, 32, 32), channels=(16, 32, 64))
CONV_64 = Problem("vae", 128, (3, 64, 64), channels=(16, 32, 64, 64))
VQVAE_32 = Problem("vqvae", 128, (3, 32, 32), hidden=(), channels=(32, 64))
# the network of the IWAE's paper, with its batch of 20
IWAE = Problem("iwae", 20, hidden=(200, 200), latent=50, activation="tanh", k=50)

PROBLEMS = {
    "numpy": {
        **{f"dense-{batch}": dense(batch) for batch in (100, 128, 512)},
        "conv-28": CONV_28, "conv-32": CONV_32, "vqvae-32": VQVAE_32, "iwae-50": IWAE,
    },
    "cupy": {
        **{f"dense-{batch}": dense(batch) for batch in (100, 128, 512, 4096)},
        "conv-28": CONV_28, "conv-32": CONV_32, "conv-64": CONV_64, "vqvae-32": VQVAE_32, "iwae-50": IWAE,
    },
}  # fmt: skip
