"""The generative adversarial network: a forger and a judge. [Goodfellow et al. 2014]

    judge     minimises -E log D(x) - E log(1 - D(G(z))),   z ~ N(0, I),   D = sigmoid(logit): is it real?
    forger    minimises -E log D(G(z)), the non-saturating loss of section 3

There is no likelihood, and so no bound to follow: where the two are balanced both losses say nothing of how good
the images are. At the optimum, D = 1/2 everywhere, the judge's loss is 2 log 2. The game may also go round in
circles, or end with a forger who makes a few kinds of images only, each too good to be told: mode collapse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.loss import Loss, Player
from minivae.tensor import Tensor, as_tensor, no_grad

BETAS = (0.5, 0.999)  # less momentum than Adam's own: the target moves [Radford et al. 2016]


class GAN(nn.Module):
    """generator: codes (N, latent) -> data (N, *shape); discriminator: data -> logits (N, 1) of being real.

    noise: the standard deviation of what is added, anew each time, to all that the discriminator sees. Images fill
    next to nothing of the space of pixels, and so do forgeries: without noise a discriminator may tell them apart
    with certainty, and then says nothing of how to mend them. [Arjovsky & Bottou 2017]
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int, noise: float = 0.0):
        if latent < 1:
            raise InputError(f"latent {latent} is too small: give a whole number of at least 1.")
        if not 0 <= noise < math.inf:
            raise InputError(f"noise {noise} is out of range: give a number of at least 0.")
        self.generator = generator
        self.discriminator = discriminator
        self.latent = latent
        self.noise = noise

    def players(self) -> dict[str, Player]:
        return {
            "discriminator": Player(self.discriminator.parameters(), self.discriminator_loss, BETAS),
            "generator": Player(self.generator.parameters(), self.loss, BETAS),
        }

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """The generator's: how well its images pass for real. Of the data x (N, *shape) only the number counts."""
        forged = self.generator(as_tensor(self.prior(len(x), rng)))
        total = real(self._judged(forged, rng))
        return Loss(total, {"generator": total})

    def discriminator_loss(self, x: Any, rng: Any = None) -> Loss:
        """The judge's, on data x and as many forgeries, which are constants to it."""
        forged = as_tensor(self.sample(len(x), rng))
        total = real(self._judged(as_tensor(x), rng)) + fake(self._judged(forged, rng))
        return Loss(total, {"discriminator": total})

    def _judged(self, x: Tensor, rng: Any) -> Tensor:
        """The logits of data with noise."""
        xp = backend.of(x.data)
        if self.noise:
            x = x + self.noise * (rng or xp.rng).standard_normal(x.shape, dtype=xp.float32)
        logits: Tensor = self.discriminator(x)
        return logits

    def prior(self, n: int, rng: Any = None) -> Array:
        """n codes of the prior, (n, latent)."""
        xp = backend.current()
        return (rng or xp.rng).standard_normal((n, self.latent), dtype=xp.float32)

    @no_grad()
    def decode(self, z: Array) -> Array:
        """The images of codes (..., latent): (..., *shape)."""
        flat: Array = self.generator(as_tensor(z.reshape(-1, self.latent))).data
        return flat.reshape(*z.shape[:-1], *flat.shape[1:])

    def sample(self, n: int, rng: Any = None) -> Array:
        """n images of codes from the prior, (n, *shape)."""
        return self.decode(self.prior(n, rng))


def real(logits: Tensor) -> Tensor:
    """-E log D, for what should pass as real."""
    return ops.softplus(-logits).mean()


def fake(logits: Tensor) -> Tensor:
    """-E log(1 - D), for what should not."""
    return ops.softplus(logits).mean()


def gan(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (256, 256),
    channels: Sequence[int] | None = None, activation: str = "leaky-relu", latent: int = 16, noise: float = 0.5,
) -> GAN:  # fmt: skip
    """A GAN for images of a shape (C, H, W) with pixels in [0, 1]: the discriminator is the generator backwards,
    with leaky rectifiers [Radford et al. 2016]."""
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent)
    generator = nets.decoder(arch, latent, hidden, channels, shape, activation)
    generator.layers.append(nn.Sigmoid())
    return GAN(generator, nets.encoder(arch, shape, hidden, channels, 1, "leaky-relu"), latent, noise)
