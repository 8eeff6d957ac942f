"""FactorVAE: a VAE whose latents, over all images, are to be independent of each other. [Kim & Mnih 2018]

    loss = -ELBO + gamma TC,   TC = KL(q(z) || q(z_1) q(z_2) ... q(z_d)),   q(z) = E_x[q(z | x)]

The total correlation TC has no closed form, but a discriminator estimates it: trained to tell codes z of q(z) from
codes of the product, it has at its best the logit

    D(z) = log q(z) - log q(z_1) ... q(z_d),   so that   TC = E_q(z)[D(z)]

A code of the product is easily drawn: permute each latent over a batch, which keeps every q(z_j) and unties them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.likelihood import Likelihood
from minivae.models.likelihood import likelihood as make_likelihood
from minivae.models.loss import Loss, Player
from minivae.models.vae import VAE
from minivae.tensor import Tensor, as_tensor, no_grad


class FactorVAE(VAE):
    """A VAE with a discriminator, codes (N, latent) -> logits (N, 1).

    gamma: the weight of the total correlation; with 0 this is the VAE. beta is 1, but while it is annealed. Two
    players: the discriminator moves by discriminator_loss(), encoder and decoder by loss().
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module, latent: int,
        likelihood: Likelihood | None = None, *, gamma: float = 10.0,
    ):  # fmt: skip
        if not 0 <= gamma < math.inf:
            raise InputError(f"gamma {gamma} is out of range: give a number of at least 0.")
        super().__init__(encoder, decoder, latent, likelihood)
        self.discriminator = discriminator
        self.gamma = gamma

    def players(self) -> dict[str, Player]:
        own = [p for part in (self.encoder, self.decoder, self.likelihood) for p in part.parameters()]
        return {
            "discriminator": Player(self.discriminator.parameters(), self.discriminator_loss, betas=(0.5, 0.9)),
            "vae": Player(own, self.loss),
        }

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """-ELBO + gamma TC of images x (N, *shape). The terms: reconstruction, kl, and tc, whatever its weight."""
        x = as_tensor(x)
        mu, logvar = self.posterior(x)
        z, _ = self._reparameterized(mu, logvar, rng)
        reconstruction, kl = self.nll(z, x).mean(), ops.kl_unit_normal(mu, logvar, axis=-1).mean()
        tc = self.discriminator(z).mean()
        total = reconstruction + self.beta * kl + self.gamma * tc
        return Loss(total, {"reconstruction": reconstruction, "kl": kl, "tc": tc})

    def discriminator_loss(self, x: Any, rng: Any = None) -> Loss:
        """The cross-entropy of telling codes of half of the images from permuted codes of the other half.

        Two halves, as codes and their own permutation would not be independent. One image alone tells nothing: 0.
        """
        with no_grad():
            z = self.draw(x, (), rng)[0].data
        half = len(z) // 2
        if not half:
            loss = 0.0 * self.discriminator(as_tensor(z)).mean()
        else:
            loss = density_ratio_loss(self.discriminator, z[:half], permuted(z[half:], rng))
        return Loss(loss, {"discriminator": loss})


def density_ratio_loss(discriminator: nn.Module, p: Array, q: Array) -> Tensor:
    """(E_p[softplus(-D)] + E_q[softplus(D)]) / 2 for points (N, d) of p and of q; least at D = log p - log q."""
    return 0.5 * (ops.softplus(-discriminator(as_tensor(p))).mean() + ops.softplus(discriminator(as_tensor(q))).mean())


def permuted(z: Array, rng: Any = None) -> Array:
    """Codes (N, d), each latent in an order of its own: samples of q(z_1) ... q(z_d)."""
    xp = backend.of(z)
    order = xp.argsort((rng or xp.rng).random(z.shape), axis=0)
    return xp.take_along_axis(z, order, axis=0)


def factorvae(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (400,), channels: Sequence[int] | None = None,
    activation: str = "relu", latent: int = 10, likelihood: str = "bernoulli", variance: float | str | None = None,
    gamma: float = 10.0, judge: Sequence[int] = (256, 256, 256),
) -> FactorVAE:  # fmt: skip
    """A FactorVAE for images of a shape (C, H, W). judge: the hidden widths of its discriminator (the paper's: 6 of
    1000), with leaky rectifiers."""
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent, judge=judge)
    p = make_likelihood(likelihood, variance)
    return FactorVAE(
        nets.encoder(arch, shape, hidden, channels, 2 * latent, activation),
        nets.decoder(arch, latent, hidden, channels, (p.channels * shape[0], *shape[1:]), activation),
        nets.dense_encoder((latent,), judge, 1, "leaky-relu"),
        latent, p, gamma=gamma,
    )  # fmt: skip
