"""The variational autoencoder. [Kingma & Welling 2014, "Auto-Encoding Variational Bayes"]

    prior           p(z) = N(0, I)
    decoder         p(x | z) = Bernoulli(sigmoid(l(z))), one logit l a pixel
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
from minivae.errors import InputError
from minivae.models.loss import Loss
from minivae.models.nets import dense_decoder, dense_encoder
from minivae.ops.loss import LOG_2PI
from minivae.tensor import Tensor, as_tensor, no_grad


class VAE(nn.Module):
    """encoder: images (N, *shape) -> (N, 2 latent), mu and logvar; decoder: (..., latent) -> logits (..., *shape)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int):
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent

    def posterior(self, x: Any) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | x), (N, latent) each."""
        mu, logvar = ops.split(self.encoder(as_tensor(x)), 2, axis=-1)
        return mu, logvar

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """-ELBO of images x (N, *shape) in [0, 1], by one sample of z each: reconstruction + KL.

        rng: the generator of the noise; the backend's by default.
        """
        x = as_tensor(x)
        mu, logvar = self.posterior(x)
        z = mu + ops.exp(logvar * 0.5) * _noise(mu.shape, rng)  # the reparameterisation, section 2.4
        reconstruction = self._nll(z, x).mean()
        kl = ops.kl_unit_normal(mu, logvar, axis=-1).mean()
        return Loss(reconstruction + kl, {"reconstruction": reconstruction, "kl": kl})

    def _nll(self, z: Tensor, x: Tensor) -> Tensor:
        """-log p(x | z): z (..., latent) and x (N, *shape) -> the leading axes of z."""
        logits: Tensor = self.decoder(z)
        return ops.binary_cross_entropy_with_logits(logits, x, axis=tuple(range(z.ndim - 1, logits.ndim)))

    def log_weights(self, x: Any, k: int, rng: Any = None) -> Tensor:
        """log w_i = log p(x, z_i) - log q(z_i | x) for k samples z_i of q(z | x): (k, N)."""
        x = as_tensor(x)
        mu, logvar = self.posterior(x)
        eps = _noise((k, *mu.shape), rng)
        z = mu + ops.exp(logvar * 0.5) * eps
        log_q: Tensor = -0.5 * (logvar + eps * eps + LOG_2PI).sum(axis=-1)
        log_p: Tensor = -0.5 * (z * z + LOG_2PI).sum(axis=-1)
        return log_p - log_q - self._nll(z, x)

    @no_grad()
    def nll_bound(self, x: Any, k: int, rng: Any = None) -> Array:
        """-log (1/k) sum_i w_i, (N,): at least -log p(x) in expectation, and closer with k. [Burda et al. 2016, eq. 8]

        The k samples are drawn a few at a time, so that memory does not grow with k.
        """
        if k < 1 or not len(x):
            raise InputError(f"nll_bound needs at least one sample and one image, not {k} and {len(x)}.")
        few = max(1, 4096 // len(x))
        parts = [ops.logsumexp(self.log_weights(x, min(few, k - done), rng), axis=0) for done in range(0, k, few)]
        return (math.log(k) - ops.logsumexp(ops.stack(parts), axis=0)).data

    @no_grad()
    def encode(self, x: Any) -> Array:
        """The posterior means of images, (N, latent)."""
        return self.posterior(x)[0].data

    @no_grad()
    def decode(self, z: Array) -> Array:
        """The mean images of codes (..., latent): pixel probabilities (..., *shape)."""
        return ops.sigmoid(self.decoder(as_tensor(z))).data

    def reconstruct(self, x: Any) -> Array:
        """The mean images of the posterior means of x."""
        return self.decode(self.encode(x))

    def sample(self, n: int, rng: Any = None) -> Array:
        """n mean images of codes from the prior, (n, *shape)."""
        return self.decode(_noise((n, self.latent), rng))


def _noise(shape: tuple[int, ...], rng: Any) -> Array:
    """Standard normal numbers, float32."""
    xp = backend.current()
    return (rng or xp.rng).standard_normal(shape, dtype=xp.float32)


def vae(shape: tuple[int, ...], hidden: Sequence[int] = (400,), latent: int = 20) -> VAE:
    """The fully connected VAE for images of a shape (C, H, W): 784-400-20 by default for 28x28 grey ones."""
    if min((*shape, *hidden, latent)) < 1:
        raise InputError(f"shape {shape}, hidden widths {list(hidden)} and latent {latent} must all be at least 1.")
    return VAE(dense_encoder(shape, hidden, 2 * latent), dense_decoder(latent, list(hidden)[::-1], shape), latent)
