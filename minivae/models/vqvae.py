"""The VQ-VAE. [van den Oord et al. 2017, "Neural Discrete Representation Learning"]

    encoder         z = f(x), maps of vectors (N, D, h, w)
    quantiser       e, the code nearest to each vector; sg[.] stops the gradient
    decoder         x^ = g(z + sg[e - z]), so that the gradient passes straight through
    loss            mean((x^ - x)^2) / variance + mean((sg[z] - e)^2) + c mean((z - sg[e])^2)

All means are over all entries and the batch; variance is that of the data's pixels, so that the first term is 1
for images of the best grey level. With a codebook of running means the second term is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minivae import nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models.fsq import FSQ
from minivae.models.loss import Loss
from minivae.models.nets import map_decoder, map_encoder
from minivae.models.quantizer import Quantizer, VectorQuantizer
from minivae.nn.module import evaluation
from minivae.tensor import Tensor, as_tensor


class VQVAE(nn.Module):
    """encoder: images (N, *shape) -> (N, D, h, w); decoder: back; variance: of the training data's pixels."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, quantizer: Quantizer, variance: float = 1.0):
        if not variance > 0:
            raise InputError(
                f"the pixels have variance {variance}, by which errors are divided: choose images that differ."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.variance = variance

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """reconstruction + codebook + commitment of images x (N, *shape), each a mean over all entries.

        rng: draws what the quantiser begins with and what dead codes become; the backend's by default.
        """
        x = as_tensor(x)
        quantized = self.quantizer(self.encoder(x), rng)
        reconstruction = ops.mse_loss(self.decoder(quantized.values), x) / self.variance
        terms: dict[str, Tensor] = {"reconstruction": reconstruction, **quantized.terms}
        return Loss(sum(quantized.terms.values(), start=reconstruction), terms)

    def statistics(self) -> dict[str, float]:
        """Perplexity, code use and distortion since the last call, in the model's mode (training or evaluation)."""
        return self.quantizer.statistics()

    def counted(self) -> tuple[Any, Any]:
        """What the statistics of training have counted so far; see Quantizer.counted."""
        return self.quantizer.counted()

    def count_on(self, counted: tuple[Any, Any]) -> None:
        """Go on counting in training from there."""
        self.quantizer.count_on(counted)

    @evaluation
    def encode(self, x: Any) -> Array:
        """Images (N, *shape) -> the indices of their codes, (N, h, w)."""
        return self.quantizer.encode(self.encoder(as_tensor(x)))

    def lookup(self, indices: Array) -> Array:
        """Indices (N, h, w) -> the vectors that they stand for, (N, D, h, w)."""
        return self.quantizer.lookup(indices)

    @evaluation
    def decode(self, indices: Array) -> Array:
        """The images of codes, indices (N, h, w) -> (N, *shape)."""
        return self.decoder(as_tensor(self.lookup(indices))).data

    def reconstruct(self, x: Any) -> Array:
        """The images of the codes of x."""
        return self.decode(self.encode(x))

    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange images are, (N,): the squared error of their reconstructions over the data's variance."""
        d = (self.reconstruct(x) - x).reshape(len(x), -1)
        return {"reconstruction": (d * d).mean(axis=1) / self.variance}


def vqvae(
    shape: tuple[int, int, int],
    codes: int = 128,
    dim: int = 16,
    channels: Sequence[int] = (32, 64),
    residual_blocks: int = 0,
    quantizer: str = "ema",
    commitment: float = 0.25,
    decay: float = 0.95,
    kmeans: bool = True,
    restart: float = 0.03,
    estimator: str = "straight-through",
    levels: Sequence[int] = (8, 5, 5, 5),
    data_variance: float = 1.0,
) -> VQVAE:
    """The convolutional VQ-VAE for images of a shape (C, H, W), each of whose channels halves the sides.

    quantizer: "ema" (codes as running means), "gradient" (codes as parameters), or "fsq", which takes levels
    in place of codes, dim and all that concerns a codebook. The rest as in VectorQuantizer and VQVAE.
    """
    if quantizer not in ("ema", "gradient", "fsq"):
        raise InputError(f"unknown quantizer '{quantizer}': choose one of ema, gradient, fsq.")
    bottleneck: Quantizer
    if quantizer == "fsq":
        bottleneck = FSQ(levels)
    else:
        running = decay if quantizer == "ema" else None
        bottleneck = VectorQuantizer(codes, dim, commitment, running, kmeans, restart, estimator)
    return VQVAE(
        map_encoder(shape, channels, bottleneck.dim, residual_blocks),
        map_decoder(bottleneck.dim, channels[::-1], shape, residual_blocks),
        bottleneck,
        data_variance,
    )
