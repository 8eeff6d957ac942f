"""The Wasserstein autoencoder: an autoencoder whose codes, taken together, follow a prior. [Tolstikhin et al. 2018]

    loss = E[-log p(x | z)] + penalty MMD(q(z), p(z)),   z = encoder(x),   p(z) = N(0, I)

A VAE draws the code of every single image towards the prior; here only their mixture q(z), the codes of all images,
must look like it, so that codes need no noise and neighbours need not blur. The distance of the two is the maximum
mean discrepancy of samples. [Gretton et al. 2012]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.autoencoder import Autoencoder
from minivae.models.likelihood import Likelihood
from minivae.models.likelihood import likelihood as make_likelihood
from minivae.models.loss import Loss
from minivae.tensor import Tensor, as_tensor


class WAE(Autoencoder):
    """encoder: data (N, *shape) -> codes (N, latent); decoder: codes -> the numbers that the likelihood takes.

    penalty: lambda, the weight of the MMD; with 0 this is the autoencoder.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent: int, likelihood: Likelihood | None = None, *,
        penalty: float = 100.0,
    ):  # fmt: skip
        if not 0 <= penalty < math.inf:
            raise InputError(f"penalty {penalty} is out of range: give a number of at least 0.")
        super().__init__(encoder, decoder, None, likelihood)
        self.latent = latent
        self.penalty = penalty

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """The terms are reconstruction, -log p(x | code), and mmd, whatever its weight.

        rng: the generator of the samples from the prior; the backend's by default. One image alone tells nothing of
        a distribution: its mmd is 0.
        """
        x = as_tensor(x)
        self.likelihood.check_range(x)
        z = self.encoder(x)
        reconstruction = self._nll(self.decoder(z), x).mean()
        distance = mmd(z, self.prior(len(x), rng)) if len(x) > 1 else 0.0 * reconstruction
        return Loss(reconstruction + self.penalty * distance, {"reconstruction": reconstruction, "mmd": distance})

    def prior(self, n: int, rng: Any = None) -> Array:
        """n codes of the prior, (n, latent)."""
        xp = backend.current()
        return (rng or xp.rng).standard_normal((n, self.latent), dtype=xp.float32)

    def sample(self, n: int, rng: Any = None) -> Array:
        """n mean images of codes from the prior, (n, *shape)."""
        return self.decode(self.prior(n, rng))


def mmd(z: Any, w: Any, scale: float | None = None) -> Tensor:
    """The squared maximum mean discrepancy of samples z (N, d) and w (M, d), without bias: it may fall below 0.

        mean over i != j of k(z_i, z_j) + mean over i != j of k(w_i, w_j) - 2 mean over i, j of k(z_i, w_j)

    with the inverse multiquadratic kernel k(a, b) = C / (C + |a - b|^2), which, unlike a Gaussian one, still pulls at
    a code that is far away. C: scale, by default 2 d, the expected squared distance of two codes of the prior.
    Raises ValueError where a sample has fewer than two points, or the two are of different dimensions.
    """
    z, w = as_tensor(z), as_tensor(w)
    xp = backend.of(z.data)
    if z.ndim != 2 or w.ndim != 2 or z.shape[1] != w.shape[1] or min(len(z), len(w)) < 2:
        raise ValueError(f"mmd: samples of shape {z.shape} and {w.shape}: give (N, d) and (M, d), N and M at least 2.")
    c = 2.0 * z.shape[1] if scale is None else scale
    middle = z.data.mean(axis=0)  # distances do not change where it is taken away, but less of them cancels
    z, w = z - middle, w - middle

    def between(a: Tensor, b: Tensor) -> Tensor:
        """k(a_i, b_j), (N, M)."""
        squares = (a * a).sum(axis=1, keepdims=True) + (b * b).sum(axis=1) - 2.0 * (a @ b.T)
        return c / (c + ops.maximum(squares, 0.0))  # which rounding may have left below 0

    def within(a: Tensor) -> Tensor:
        """The mean of k over pairs of different points; those of a point with itself, all 1, would be the bias."""
        n = len(a)
        return ops.where(xp.eye(n, dtype=bool), 0.0, between(a, a)).sum() / (n * (n - 1))

    return within(z) + within(w) - 2.0 * between(z, w).mean()


def wae(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (512, 256),
    channels: Sequence[int] | None = None, activation: str = "relu", latent: int = 8,
    likelihood: str = "squared-error", penalty: float = 100.0,
) -> WAE:  # fmt: skip
    """A Wasserstein autoencoder for images of a shape (C, H, W), with the paper's code of 8 numbers for MNIST."""
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent)
    p = make_likelihood(likelihood)
    return WAE(
        nets.encoder(arch, shape, hidden, channels, latent, activation),
        nets.decoder(arch, latent, hidden, channels, (p.channels * shape[0], *shape[1:]), activation),
        latent, p, penalty=penalty,
    )  # fmt: skip
