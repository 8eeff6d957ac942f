"""The variational autoencoder and its family. [Kingma & Welling 2014, "Auto-Encoding Variational Bayes"]

    prior           p(z) = N(0, I)
    decoder         p(x | z), a likelihood of what the decoder makes of z: Bernoulli, Gaussian, ...
    encoder         q(z | x) = N(mu(x), diag(e^logvar(x)))
    ELBO            E_q[log p(x | z)] - KL(q(z | x) || p(z))  <=  log p(x)

Everything is summed over pixels and latents and averaged over the batch, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.distributions import Posterior
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.flow import make_flow
from minivae.models.likelihood import Bernoulli, Likelihood
from minivae.models.likelihood import likelihood as make_likelihood
from minivae.models.loss import Loss
from minivae.nn.module import evaluation
from minivae.ops.loss import LOG_2PI
from minivae.tensor import Tensor, as_tensor


class VAE(nn.Module):
    """encoder: images (N, *shape) -> (N, 2 latent), mu and logvar; decoder: (M, latent) -> the likelihood's numbers.

    beta: the weight of the KL term; a loop may change it from step to step (KL annealing). [Higgins et al. 2017]
    free_bits: nats of KL for each latent that cost nothing. [Kingma et al. 2016]
    capacity: nats C; the KL is drawn to it, by beta |KL - C| in place of beta KL. [Burgess et al. 2018]
    samples: L, the number of z for each image over which the loss is averaged.
    kl: "analytic", or "monte-carlo" from the same samples: the two estimators of the paper, section 2.3.
    k: with k > 1 the loss is the importance-weighted bound of k samples. [Burda et al. 2016]
    q: another posterior than the mean field, as a Flow; the encoder then makes q.channels numbers for each latent, and
    the KL is estimated from the samples, whatever `kl` says, as none has a closed form.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent: int, likelihood: Likelihood | None = None, *,
        beta: float = 1.0, free_bits: float = 0.0, capacity: float | None = None,
        samples: int = 1, kl: str = "analytic", k: int = 1, q: Posterior | None = None,
    ):  # fmt: skip
        for name, count in (("latent", latent), ("samples", samples), ("k", k)):
            if count < 1:
                raise InputError(f"{name} {count} is too small: give a whole number of at least 1.")
        for name, nats in (("beta", beta), ("free_bits", free_bits), ("capacity", capacity or 0.0)):
            if not 0 <= nats < math.inf:
                raise InputError(f"{name} {nats} is out of range: give a number of at least 0.")
        if kl not in ("analytic", "monte-carlo"):
            raise InputError(f"unknown estimator of the KL '{kl}': choose analytic or monte-carlo.")
        if free_bits and capacity is not None:
            raise InputError("free_bits and capacity are two ways to let the KL be above 0: choose one.")
        if k > 1 and (beta, free_bits, capacity) != (1.0, 0.0, None):
            raise InputError(
                f"k = {k} samples weigh log p(x, z) against log q(z | x) as they are: "
                "leave beta at 1, and free_bits and capacity out."
            )
        if free_bits and q is not None:
            raise InputError("free_bits are those of single latents, which a flow has not: leave them or the flow out.")
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.likelihood = likelihood or Bernoulli()
        self.beta = beta
        self.free_bits = free_bits
        self.capacity = capacity
        self.samples = samples
        self.kl = kl
        self.k = k
        self.q = q

    def posterior(self, x: Any) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | x), (N, latent) each; of another q, those that it begins with.

        No encoder makes a variance overflow.
        """
        mu, logvar, *_ = ops.split(self.encoder(as_tensor(x)), self.q.channels if self.q else 2, axis=-1)
        return mu, ops.soft_clip(logvar)

    def draw(self, x: Any, shape: tuple[int, ...] = (), rng: Any = None) -> tuple[Tensor, Tensor]:
        """Codes z of q(z | x), (*shape, N, latent), and log q(z | x), (*shape, N)."""
        if self.q is not None:
            return self.q(self.encoder(as_tensor(x)), shape, rng)
        return self._reparameterized(*self.posterior(x), rng, shape)

    def _reparameterized(
        self, mu: Tensor, logvar: Tensor, rng: Any, shape: tuple[int, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """z of N(mu, diag(e^logvar)), and its log-density."""
        eps = _noise(shape + mu.shape, rng)
        return ops.reparameterize(mu, logvar, eps), _log_posterior(eps, logvar)

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) of codes (..., latent), (...)."""
        return _log_prior(z)

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """-ELBO of images x (N, *shape), or the importance-weighted bound: what training minimises.

        The terms are reconstruction, -log p(x | z), and kl, whatever their weights: ELBO = -(reconstruction + kl).
        rng: the generator of the noise; the backend's by default.
        """
        x = as_tensor(x)
        if self.k > 1 or self.q is not None:  # all from the samples
            return self._sampled(x, rng)
        mu, logvar = self.posterior(x)
        eps = _noise(self._leading() + mu.shape, rng)
        z = ops.reparameterize(mu, logvar, eps)
        nll = self.nll(z, x)
        if self.kl == "analytic":
            kl = ops.kl_unit_normal(mu, logvar, axis=() if self.free_bits else -1)
        else:
            log_ratio = 0.5 * (z * z - eps * eps - logvar)  # log q(z | x) - log p(z), for each latent
            kl = log_ratio if self.free_bits else log_ratio.sum(axis=-1)
        reconstruction, penalty, kl = nll.mean(), *self._penalty(kl)
        return Loss(reconstruction + penalty, {"reconstruction": reconstruction, "kl": kl})

    def _sampled(self, x: Tensor, rng: Any) -> Loss:
        """The loss of samples z of q(z | x), from log q(z | x) and log p(x, z) alone."""
        z, log_q = self.draw(x, self._leading(), rng)
        nll, log_ratio = self.nll(z, x), log_q - self.log_prior(z)
        if self.k > 1:
            total = (math.log(self.k) - ops.logsumexp(-log_ratio - nll, axis=-2)).mean()  # log_w: (..., k, N)
            return Loss(total, {"reconstruction": nll.mean(), "kl": log_ratio.mean()})
        reconstruction, penalty, kl = nll.mean(), *self._penalty(log_ratio)
        return Loss(reconstruction + penalty, {"reconstruction": reconstruction, "kl": kl})

    def _leading(self) -> tuple[int, ...]:
        """The axes of samples of z before those of the batch."""
        return (self.samples,) * (self.samples > 1) + (self.k,) * (self.k > 1)

    def _penalty(self, kl: Tensor) -> tuple[Tensor, Tensor]:
        """What the loss adds for the KL, and the KL; with free bits kl is (..., N, latent), else (..., N)."""
        if self.free_bits:
            each = kl.reshape((-1, self.latent)).mean(axis=0)  # over the batch: a latent is free, not an image
            return self.beta * ops.maximum(each, self.free_bits).sum(), each.sum()
        mean = kl.mean()
        if self.capacity is not None:
            return self.beta * ops.abs(mean - self.capacity), mean
        return self.beta * mean, mean

    def nll(self, z: Tensor, x: Any) -> Tensor:
        """-log p(x | z): z (..., N, latent) and x (N, *shape) -> (..., N)."""
        output, x = self._decoded(z), as_tensor(x)
        self.likelihood.check_shape(output.shape[z.ndim - 1 :], x.shape[1:])
        return self.likelihood.nll(output, x)

    def _decoded(self, z: Tensor) -> Tensor:
        """The decoder's output for codes (..., latent): (..., *its shape)."""
        flat = z if z.ndim == 2 else z.reshape((-1, self.latent))
        output: Tensor = self.decoder(flat)
        return output if z.ndim == 2 else output.reshape((*z.shape[:-1], *output.shape[1:]))

    def log_weights(self, x: Any, k: int, rng: Any = None) -> Tensor:
        """log w_i = log p(x, z_i) - log q(z_i | x) for k samples z_i of q(z | x): (k, N)."""
        z, log_q = self.draw(x, (k,), rng)
        return self.log_prior(z) - log_q - self.nll(z, x)

    @evaluation
    def nll_bound(self, x: Any, k: int, rng: Any = None) -> Array:
        """-log (1/k) sum_i w_i, (N,): at least -log p(x) in expectation, and closer with k. [Burda et al. 2016, eq. 8]

        The k samples are drawn a few at a time, so that memory does not grow with k.
        """
        if k < 1 or not len(x):
            raise InputError(f"nll_bound needs at least one sample and one image, not {k} and {len(x)}.")
        few = max(1, min(4096, (1 << 22) // math.prod(x.shape[1:])) // len(x))  # codes, and pixels, at once
        parts = [ops.logsumexp(self.log_weights(x, min(few, k - done), rng), axis=0) for done in range(0, k, few)]
        return (math.log(k) - ops.logsumexp(ops.stack(parts), axis=0)).data

    @evaluation
    def encode(self, x: Any) -> Array:
        """The posterior means of images, (N, latent); of another q, where it takes the mean that it begins with."""
        return (self.q.center(self.encoder(as_tensor(x))) if self.q else self.posterior(x)[0]).data

    @evaluation
    def decode(self, z: Array) -> Array:
        """The mean images of codes (..., latent): (..., *shape)."""
        output = self._decoded(as_tensor(z))
        return self.likelihood.mean(output, output.ndim - z.ndim + 1).data

    def reconstruct(self, x: Any) -> Array:
        """The mean images of the posterior means of x."""
        return self.decode(self.encode(x))

    @evaluation
    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange images are, by name, (N,) each: -ELBO of one z, and its terms."""
        z, log_q = self.draw(x, (), rng)
        nll = self.nll(z, x).data
        kl = (log_q - self.log_prior(z) if self.q else ops.kl_unit_normal(*self.posterior(x), axis=-1)).data
        return {"-ELBO": nll + kl, "reconstruction": nll, "kl": kl}

    def sample(self, n: int, rng: Any = None) -> Array:
        """n mean images of codes from the prior, (n, *shape)."""
        return self.decode(_noise((n, self.latent), rng))


def _log_prior(z: Tensor) -> Tensor:
    """log p(z) of a standard normal, summed over the latents."""
    log_p: Tensor = -0.5 * (z * z + LOG_2PI).sum(axis=-1)
    return log_p


def _log_posterior(eps: Array, logvar: Tensor) -> Tensor:
    """log q(z | x) at z = mu + e^(logvar / 2) eps, summed over the latents."""
    log_q: Tensor = -0.5 * (logvar + eps * eps + LOG_2PI).sum(axis=-1)
    return log_q


def _noise(shape: tuple[int, ...], rng: Any) -> Array:
    """Standard normal numbers, float32."""
    xp = backend.current()
    return (rng or xp.rng).standard_normal(shape, dtype=xp.float32)


def vae(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (400,), channels: Sequence[int] | None = None,
    activation: str = "relu", latent: int = 20, likelihood: str = "bernoulli", variance: float | str | None = None,
    beta: float = 1.0, free_bits: float = 0.0, capacity: float | None = None, samples: int = 1, kl: str = "analytic",
    k: int = 1, flow: str | None = None, depth: int = 4,
) -> VAE:  # fmt: skip
    """A VAE for images of a shape (C, H, W): 784-400-20 by default for 28x28 grey ones. See VAE and models.nets.

    flow: "planar" or "iaf", of so many steps (depth), bends the posterior. See models.flow.
    """
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent)
    p = make_likelihood(likelihood, variance)
    q = None if flow is None else make_flow(flow, latent, depth)
    return VAE(
        nets.encoder(arch, shape, hidden, channels, (q.channels if q else 2) * latent, activation),
        nets.decoder(arch, latent, hidden, channels, (p.channels * shape[0], *shape[1:]), activation),
        latent, p, beta=beta, free_bits=free_bits, capacity=capacity, samples=samples, kl=kl, k=k, q=q,
    )  # fmt: skip
