"""What a variational posterior is: anything that returns (z, log_q).

An encoder makes `channels` numbers for each latent of an image. A posterior turns them, and noise, into codes z and
their log q(z | x); a model needs no more of it for the ELBO:

    z, log_q = posterior(encoder(x), shape, rng)
    elbo = log p(x | z) + log p(z) - log_q

so that the mean field, a flow (log_q less the log-determinant of each step) and a hierarchy (the sum of log q of its
layers) take each other's place. What a posterior learns itself, as a flow's weights, makes it an nn.Module.
"""

from __future__ import annotations

from typing import Any, Protocol

from minivae import ops
from minivae.distributions.location_scale import Normal
from minivae.tensor import Tensor


class Posterior(Protocol):
    """q(z | x). channels: how many numbers of the encoder each latent takes, side by side along the last axis."""

    channels: int

    def __call__(self, numbers: Tensor, shape: tuple[int, ...] = (), rng: Any = None) -> tuple[Tensor, Tensor]:
        """numbers (N, channels * latent) -> z (*shape, N, latent), and log q(z | x) (*shape, N) in nats.

        Both are differentiable in the numbers, pathwise. shape: the axes of several samples for each image.
        """
        ...

    def center(self, numbers: Tensor) -> Tensor:
        """z (N, latent) where the noise is 0: what stands for the image."""
        ...


class MeanField:
    """q(z | x) = N(mu, diag(e^logvar)), mu and logvar the encoder's numbers. [Kingma & Welling 2014]

    No encoder makes a variance overflow: see ops.soft_clip.
    """

    channels = 2

    def distribution(self, numbers: Tensor) -> Normal:
        """q itself, for what has a closed form: its mean, kl(q, p)."""
        mu, logvar = ops.split(numbers, 2, axis=-1)
        return Normal(mu, ops.soft_clip(logvar))

    def __call__(self, numbers: Tensor, shape: tuple[int, ...] = (), rng: Any = None) -> tuple[Tensor, Tensor]:
        return self.distribution(numbers).rsample_with_log_prob(shape, rng, axis=-1)

    def center(self, numbers: Tensor) -> Tensor:
        return self.distribution(numbers).mu
