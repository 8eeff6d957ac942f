"""The beta-TCVAE: a heavier weight on the total correlation of the codes alone. [Chen et al. 2018]

Over the data, with q(z) the mean of q(z | x) over all N images, the KL of the VAE has three parts:

    E KL(q(z | x) || p(z)) = I(x; z)                          mutual information
                           + KL(q(z) || prod_j q(z_j))        total correlation
                           + sum_j KL(q(z_j) || p(z_j))       dimension-wise KL

    loss = reconstruction + alpha I + beta TC + gamma dimension-wise

A beta-VAE weighs them all, and so pays for independent latents with what they tell of the image.
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
from minivae.models.loss import Loss
from minivae.models.vae import VAE
from minivae.ops.loss import LOG_2PI
from minivae.tensor import Tensor, as_tensor


class TCVAE(VAE):
    """A VAE whose loss weighs the three parts of its KL. data_size: N, how many images there are in training.

    The KL itself is in closed form, so that the loss is that of the VAE and (alpha - 1) I + (beta - 1) TC +
    (gamma - 1) dimension-wise: with weights of 1 nothing is left of the parts, which are estimates with noise.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent: int, likelihood: Likelihood | None = None, *,
        data_size: int, alpha: float = 1.0, beta: float = 4.0, gamma: float = 1.0,
    ):  # fmt: skip
        super().__init__(encoder, decoder, latent, likelihood, beta=beta)
        for name, weight in (("alpha", alpha), ("gamma", gamma)):
            if not 0 <= weight < math.inf:
                raise InputError(f"{name} {weight} is out of range: give a number of at least 0.")
        if data_size < 1:
            raise InputError(f"data_size {data_size} is no number of images: give a whole number of at least 1.")
        self.alpha = alpha
        self.gamma = gamma
        self.data_size = data_size

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """The terms besides reconstruction and kl: mutual_information, total_correlation and dimension_wise."""
        x = as_tensor(x)
        mu, logvar = self.posterior(x)
        z, log_q = self._reparameterized(mu, logvar, rng)
        reconstruction, kl = self.nll(z, x).mean(), ops.kl_unit_normal(mu, logvar, axis=-1).mean()
        log_qz, log_marginals = aggregate(z, mu, logvar, self.data_size)
        mi, tc = (log_q - log_qz).mean(), (log_qz - log_marginals).mean()
        dimension_wise = (log_marginals - self.log_prior(z)).mean()
        noisy = (self.alpha - 1) * mi + (self.beta - 1) * tc + (self.gamma - 1) * dimension_wise
        total = reconstruction + kl + noisy
        parts = {"mutual_information": mi, "total_correlation": tc, "dimension_wise": dimension_wise}
        return Loss(total, {"reconstruction": reconstruction, "kl": kl, **parts})


def aggregate(z: Tensor, mu: Tensor, logvar: Tensor, data_size: int) -> tuple[Tensor, Tensor]:
    """log q(z_i) and sum_j log q(z_ij), (B,) each, of codes z (B, latent) of images with q(z | x) = N(mu, e^logvar).

    q(z) is a mean over all images; of a batch it is the sum with the weights of stratified sampling.
    """
    deviation = ops.expand_dims(z, 1) - mu
    log_q = -0.5 * (deviation * deviation * ops.exp(-logvar) + logvar + LOG_2PI)  # of code i, image j: (B, B, latent)
    log_w = stratified(len(z), data_size).astype(z.dtype)
    joint = ops.logsumexp(log_q.sum(axis=-1) + log_w, axis=1)
    marginals = ops.logsumexp(log_q + log_w[:, :, None], axis=1).sum(axis=-1)
    return joint, marginals


def stratified(batch: int, data_size: int) -> Array:
    """log of the weights (B, B) of image j for code i: minibatch stratified sampling. [Chen et al. 2018, appendix C]

    With M = B - 1 others: 1/N for the image of the code itself, (N - M) / (N M) for one of the others, 1/M for the
    rest. Their sum over j is 1, and the estimate of q(z) is right in the mean.
    """
    xp, m, n = backend.current(), batch - 1, max(batch, data_size)
    if m == 0:
        return xp.zeros((1, 1))
    i = xp.arange(batch)
    ahead = (i - i[:, None]) % batch  # 0: its own image; 1: the one of the others that stands for all that are left
    others = xp.where(ahead == 1, math.log((n - m) / (n * m)), -math.log(m))
    return xp.where(ahead == 0, -math.log(n), others)


def tcvae(
    shape: tuple[int, ...], data_size: int = 10_000, arch: str = "dense", hidden: Sequence[int] = (400,),
    channels: Sequence[int] | None = None, activation: str = "relu", latent: int = 10, likelihood: str = "bernoulli",
    variance: float | str | None = None, alpha: float = 1.0, beta: float = 4.0, gamma: float = 1.0,
) -> TCVAE:  # fmt: skip
    """A beta-TCVAE for images of a shape (C, H, W). See TCVAE and models.nets."""
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent)
    p = make_likelihood(likelihood, variance)
    return TCVAE(
        nets.encoder(arch, shape, hidden, channels, 2 * latent, activation),
        nets.decoder(arch, latent, hidden, channels, (p.channels * shape[0], *shape[1:]), activation),
        latent, p, data_size=data_size, alpha=alpha, beta=beta, gamma=gamma,
    )  # fmt: skip
