"""VAE-GAN: an autoencoder whose error is measured by a discriminator's features, not by pixels. [Larsen et al. 2016]

    prior       KL(q(z | x) || N(0, I))
    features    -E_q log N(D_l(x); D_l(G(z)), variance I), D_l the discriminator's last hidden layer; less a constant
    GAN         -log D(x) - log(1 - D(G(z))) - log(1 - D(G(z_p))),   z ~ q(z | x), z_p ~ N(0, I)

    encoder         minimises  prior + features
    decoder G       minimises  gamma features - log D(G(z)) - log D(G(z_p))
    discriminator   minimises  GAN

Pixels punish an edge that is one place off as much as one that is missing; features do not. Whatever D_l says it
must not learn to be easy to match: the features' error never moves the discriminator. Nor does the GAN's move the
encoder. For the decoder the paper's algorithm has +log(1 - D), which saturates; this is the form in use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import nn, ops
from minivae.backend import Array
from minivae.distributions import MeanField
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.gan import BETAS, GAN, fake, real
from minivae.models.loss import Loss, Player
from minivae.nn.module import evaluation
from minivae.tensor import Tensor, as_tensor, no_grad


class VAEGAN(GAN):
    """encoder: images (N, *shape) -> (N, 2 latent), mu and logvar; generator, the decoder: codes -> images in [0, 1].

    features: images -> (N, d), the discriminator up to its last hidden layer; judge: (N, d) -> logits (N, 1).
    gamma: what an error of the features counts against the discriminator's verdict, for the decoder.
    variance: of the features; with less than the paper's 1 they outweigh the prior, and codes leave it.
    """

    discriminator: nn.Sequential

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, features: nn.Module, judge: nn.Module, latent: int, *,
        gamma: float = 1.0, variance: float = 1.0,
    ):  # fmt: skip
        if not 0 <= gamma < math.inf:
            raise InputError(f"gamma {gamma} is out of range: give a number of at least 0.")
        if isinstance(variance, str) or not 0 < variance < math.inf:
            raise InputError(f"variance {variance} of the features is none: give a number above 0.")
        super().__init__(decoder, nn.Sequential(features, judge), latent)
        self.encoder = encoder
        self.gamma = gamma
        self.variance = variance

    def players(self) -> dict[str, Player]:
        return {
            "discriminator": Player(self.discriminator.parameters(), self.discriminator_loss, BETAS),
            "decoder": Player(self.generator.parameters(), self.decoder_loss, BETAS),
            "encoder": Player(self.encoder.parameters(), self.loss, BETAS),
        }

    def posterior(self, x: Any) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | x), (N, latent) each."""
        q = MeanField().distribution(self.encoder(as_tensor(x)))
        return q.mu, q.logvar

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """The encoder's: an evidence bound of features in place of pixels. Its terms: features and prior."""
        x = as_tensor(x)
        mu, logvar = self.posterior(x)
        z = mu + ops.exp(logvar * 0.5) * self.prior(len(x), rng)
        features = self._error(self._features(self.generator(z)), x)
        kl = ops.kl_unit_normal(mu, logvar, axis=-1).mean()
        return Loss(features + kl, {"features": features, "prior": kl})

    def decoder_loss(self, x: Any, rng: Any = None) -> Loss:
        """The decoder's: images that the discriminator sees as the given ones, and that pass for real."""
        x = as_tensor(x)
        z, drawn = self._codes(x, rng)
        seen = self._features(self.generator(z))
        forged = real(self.discriminator[1](seen)) + real(self.discriminator(self.generator(drawn)))
        return Loss(self.gamma * self._error(seen, x) + forged, {"decoder": forged})

    def discriminator_loss(self, x: Any, rng: Any = None) -> Loss:
        """The discriminator's: what is real, and what is decoded from an image's code or from the prior's."""
        x = as_tensor(x)
        with no_grad():
            forged = [self.generator(z) for z in self._codes(x, rng)]
        total = real(self.discriminator(x)) + fake(self.discriminator(forged[0])) + fake(self.discriminator(forged[1]))
        return Loss(total, {"discriminator": total})

    @evaluation
    def encode(self, x: Any) -> Array:
        """The posterior means of images, (N, latent)."""
        return self.posterior(x)[0].data

    def reconstruct(self, x: Any) -> Array:
        """The images of the posterior means of x."""
        return self.decode(self.encode(x))

    @evaluation
    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange images are, (N,): the error of their features, and how little the discriminator believes them."""
        x = as_tensor(x)
        d = self._features(as_tensor(self.reconstruct(x))) - self._features(x)
        error = 0.5 / self.variance * (d * d).sum(axis=-1)
        return {"features": error.data, "discriminator": -self.discriminator(x).data[:, 0]}

    @no_grad()
    def _codes(self, x: Tensor, rng: Any) -> tuple[Tensor, Tensor]:
        """Codes of q(z | x) and of the prior, (N, latent) each, constants."""
        mu, logvar = self.posterior(x)
        z = mu + ops.exp(logvar * 0.5) * self.prior(len(x), rng)
        return z, as_tensor(self.prior(len(x), rng))

    def _features(self, x: Tensor) -> Tensor:
        seen: Tensor = self.discriminator[0](x)
        return seen

    def _error(self, seen: Tensor, x: Tensor) -> Tensor:
        """-log N of the features of x, the aim and so constants, around those seen (N, d); less its constant."""
        with no_grad():
            wanted = self._features(x)
        d = seen - wanted
        return 0.5 / self.variance * (d * d).sum(axis=-1).mean()


def vaegan(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (256, 256),
    channels: Sequence[int] | None = None, activation: str = "relu", latent: int = 20, gamma: float = 1.0,
    variance: float = 1.0,
) -> VAEGAN:  # fmt: skip
    """A VAE-GAN for images of a shape (C, H, W) with pixels in [0, 1]. The discriminator is built as the encoder is."""
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent)
    decoder = nets.decoder(arch, latent, hidden, channels, shape, activation)
    decoder.layers.append(nn.Sigmoid())
    *features, judge = nets.encoder(arch, shape, hidden, channels, 1, "leaky-relu").layers
    encoder = nets.encoder(arch, shape, hidden, channels, 2 * latent, activation)
    return VAEGAN(encoder, decoder, nn.Sequential(*features), judge, latent, gamma=gamma, variance=variance)
