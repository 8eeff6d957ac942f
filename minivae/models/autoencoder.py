"""The autoencoder: linear, deep, convolutional, denoising or a context encoder, by its arguments.

    loss = -log p(x | decoder(encoder(corrupted x))), summed over the pixels where the error counts

With SquaredError (the default) and linear layers it finds the principal subspace; with a corruption it learns to
undo it [Vincent et al. 2010]; where the corruption hides a part of the image and the error counts only
there, it is a context encoder [Pathak et al. 2016].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.corruption import Corruption
from minivae.models.corruption import corruption as make_corruption
from minivae.models.likelihood import Likelihood, SquaredError
from minivae.models.likelihood import likelihood as make_likelihood
from minivae.models.loss import Loss
from minivae.nn.module import evaluation
from minivae.tensor import Tensor, as_tensor


class Autoencoder(nn.Module):
    """encoder: data (N, *shape) -> codes (N, latent); decoder: codes -> the numbers that the likelihood takes."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        corruption: Corruption | None = None,
        likelihood: Likelihood | None = None,
    ):
        self.encoder = encoder
        self.decoder = decoder
        self.corruption = corruption
        self.likelihood = likelihood or SquaredError()

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """The mean over the batch of -log p(x | code), where the code is that of x as the corruption left it.

        rng: the generator of the corruption; the backend's by default.
        """
        x = as_tensor(x)
        self.likelihood.check_range(x)  # before an encoder takes the logarithm of a count below 0
        seen, where = self.corrupt(x.data, rng)
        output = self.decoder(self.encoder(as_tensor(seen)))
        if where is None:
            reconstruction = self._nll(output, x).mean()
        else:
            reconstruction = (self._nll(output, x, axis=()) * where).sum() / len(x)
        return Loss(reconstruction, {"reconstruction": reconstruction})

    def _nll(self, output: Tensor, x: Tensor, axis: Any = None) -> Tensor:
        self.likelihood.check_shape(output.shape[1:], x.shape[1:])
        return self.likelihood.nll(output, x, axis)

    def corrupt(self, x: Array, rng: Any = None) -> tuple[Array, Array | None]:
        """What the encoder is given for x in training, and where the error counts (None: everywhere)."""
        return (x, None) if self.corruption is None else self.corruption(x, rng or backend.current().rng)

    @evaluation
    def encode(self, x: Any) -> Array:
        """The codes of data as they are, (N, latent)."""
        return self.encoder(as_tensor(x)).data

    @evaluation
    def decode(self, z: Array) -> Array:
        """The means of codes (..., latent): (..., *shape)."""
        flat = as_tensor(z.reshape(-1, z.shape[-1]))
        output: Tensor = self.decoder(flat)
        mean = self.likelihood.mean(output, output.ndim - 1).data
        return mean.reshape(*z.shape[:-1], *mean.shape[1:])

    def reconstruct(self, x: Any) -> Array:
        """The decoded codes of x."""
        return self.decode(self.encode(x))

    @evaluation
    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange data are, (N,): -log p(x | code), for squared error the error itself."""
        x = as_tensor(x)
        self.likelihood.check_range(x)
        return {"reconstruction": self._nll(self.decoder(self.encoder(x)), x).data}


def stack(layers: Sequence[Autoencoder], x: Array, fit: Callable[[Autoencoder, Array], Any]) -> Autoencoder:
    """Greedy layer-wise training: each layer learns the codes of those below it. [Bengio et al. 2007]

    layers: from the data inwards; fit(layer, x) trains one on arrays x. Returns the deep autoencoder of them all,
    with the first layer's likelihood, which shares their parameters and is ready to be trained jointly.
    """
    if not layers:
        raise InputError("stack was given no layers: give at least one autoencoder.")
    for layer in layers:
        fit(layer, x)
        x = backend.of(x).concatenate([layer.encode(x[i : i + 1000]) for i in range(0, len(x), 1000)])
    encoder = nn.Sequential(*[layer.encoder for layer in layers])
    inner = [(layer.decoder, partial(layer.likelihood.mean, ndim=1)) for layer in layers[:0:-1]]
    decoder = nn.Sequential(*itertools.chain(*inner), layers[0].decoder)
    return Autoencoder(encoder, decoder, likelihood=layers[0].likelihood)


def autoencoder(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (512, 256),
    channels: Sequence[int] | None = None, activation: str = "relu", latent: int = 32,
    likelihood: str = "squared-error", corruption: str | None = None, level: float | None = None,
) -> Autoencoder:  # fmt: skip
    """An autoencoder for data of a shape: images (C, H, W), or word counts (V,) with the multinomial likelihood.

    hidden=() makes it linear. corruption and level: see models.corruption.
    """
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent)
    if level is not None and not corruption:
        raise InputError(f"level {level} is that of a corruption: leave it out, or give a corruption.")
    if likelihood == "multinomial" and corruption not in (None, "masking"):
        raise InputError(f"corruption {corruption} leaves no counts of counts of words: give corruption masking.")
    p = make_likelihood(likelihood)
    encoder = nets.encoder(arch, shape, hidden, channels, latent, activation)
    if likelihood == "multinomial":
        encoder.layers.insert(0, ops.log1p)  # counts grow as text does; their logarithms are of one size
    return Autoencoder(
        encoder,
        nets.decoder(arch, latent, hidden, channels, (p.channels * shape[0], *shape[1:]), activation),
        make_corruption(corruption, level) if corruption else None,
        p,
    )
