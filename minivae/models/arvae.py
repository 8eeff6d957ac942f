"""A VAE whose decoder is autoregressive over the pixels, and so strong that it may do without the code.

    log p(x | z) = sum_i log p(x_i | x_1 .. x_(i-1), z)

If the pixels before say all, q(z | x) = p(z) costs nothing and loses nothing: the posterior collapses. [Bowman et al.
2016; Chen et al. 2017, "Variational Lossy Autoencoder"]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.vae import VAE
from minivae.tensor import Tensor, as_tensor, no_grad


class PixelDecoder(nn.Module):
    """Images (N, 1, H, W) and codes (N, latent) -> logits of the pixels, each seeing those before it and z alone.

    h_0 = W_A x + c,  h_l = h_(l-1) + W_B relu(h_(l-1)),  logits = V relu(h_L)

    with masked convolutions W_A (not the place itself) and W_B, and c a map that is linear in z. One stack of masked
    convolutions has a blind spot (see models.pixelcnn): it stays an exact factorisation of p(x | z), with less context.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, layers: int, kernel: int):
        self.first = nn.MaskedConv2d(1, width, (kernel + 2, kernel + 2), "A")
        self.layers = [nn.MaskedConv2d(width, width, (kernel, kernel), "B") for _ in range(layers)]
        self.code = nn.Sequential(nn.Linear(latent, 4 * math.prod(shape)), nn.Unflatten((4, *shape[1:])))
        self.mix = nn.Conv2d(4, width, 1)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        h = self.first(x) + self.mix(self.code(z))
        for layer in self.layers:
            h = h + layer(ops.relu(h))
        y: Tensor = self.last(ops.relu(h))
        return y


class PixelVAE(VAE):
    """decoder: images and codes -> logits of black and white pixels. Everything else is the VAE's."""

    decoder: PixelDecoder
    shape: tuple[int, ...]

    def nll(self, z: Tensor, x: Any) -> Tensor:
        """-log p(x | z): z (..., N, latent) and x (N, 1, H, W) -> (..., N)."""
        x = as_tensor(x)
        flat = z.reshape((-1, self.latent))
        copies = len(flat) // len(x)
        repeated = x if copies == 1 else as_tensor(backend.of(x.data).concatenate([x.data] * copies))
        return self.likelihood.nll(self.decoder(repeated, flat), repeated).reshape(z.shape[:-1])

    @no_grad()
    def decode(self, z: Array, rng: Any = None) -> Array:
        """Images (..., 1, H, W) of codes (..., latent), pixel after pixel: drawn, or without rng the likelier value.

        Each pixel takes a pass of the whole network.
        """
        flat = as_tensor(z.reshape(-1, self.latent))
        x = backend.of(z).zeros((len(flat), *self.shape), dtype="float32")
        for row in range(self.shape[1]):
            for column in range(self.shape[2]):
                p = ops.sigmoid(self.decoder(as_tensor(x), flat)[:, 0, row, column]).data
                threshold = 0.5 if rng is None else rng.random(len(flat), dtype=p.dtype)
                x[:, 0, row, column] = p > threshold
        return x.reshape(*z.shape[:-1], *self.shape)

    def sample(self, n: int, rng: Any = None) -> Array:
        """n images, drawn: first the code, then pixel after pixel."""
        xp = backend.current()
        rng = rng or xp.rng
        return self.decode(rng.standard_normal((n, self.latent), dtype=xp.float32), rng)


def pixelvae(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (200,), channels: Sequence[int] | None = None,
    activation: str = "relu", latent: int = 16, width: int = 16, layers: int = 4, kernel: int = 3,
    beta: float = 1.0, free_bits: float = 0.0, k: int = 1,
) -> PixelVAE:  # fmt: skip
    """A VAE with an autoregressive decoder for black and white images (1, H, W): train it with --binarize.

    width, layers, kernel: of the decoder's masked convolutions. The rest as in VAE.
    """
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent, width=width, layers=layers)
    if len(shape) != 3 or shape[0] != 1 or kernel % 2 == 0:
        raise InputError(f"images of {shape} and kernel {kernel}: a pixelvae takes images (1, H, W) and an odd kernel.")
    encoder = nets.encoder(arch, shape, hidden, channels, 2 * latent, activation)
    decoder = PixelDecoder(shape, latent, width, layers, kernel)
    model = PixelVAE(encoder, decoder, latent, beta=beta, free_bits=free_bits, k=k)
    model.shape = shape
    return model
