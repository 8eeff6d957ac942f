"""Conditional VAEs: of images of a known class, and of the rest of an image that is seen in part. [Sohn et al. 2015]

log p(x | y) >= E_q[log p(x | y, z)] - KL(q(z | x, y) || p(z | y))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.data import Labelled
from minivae.distributions import MeanField, Normal
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.likelihood import Likelihood
from minivae.models.likelihood import likelihood as make_likelihood
from minivae.models.loss import Loss
from minivae.models.vae import VAE
from minivae.nn.module import evaluation
from minivae.tensor import Tensor, as_tensor, no_grad


class CVAE(nn.Module):
    """p(x | y, z) with the class y of an image and z ~ N(0, I): what z tells is what the class does not, as style.

    Given its labels it is a VAE: `given` makes it, and everything else asks that one. Examples are `Labelled` images.
    encoder: images beside their labels, one-hot -> (N, 2 latent); decoder: codes beside labels -> numbers of the
    likelihood. planes: the encoder takes images (N, C, H, W), so that each class is a plane, 0 or 1, beside the
    channels; else both are flat. beta, k: of the VAE.
    """

    needs_labels = True
    capacity = None

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent: int, classes: int, likelihood: Likelihood,
        planes: bool = False, beta: float = 1.0, k: int = 1,
    ):  # fmt: skip
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent = latent
        self.classes = classes
        self.planes = planes
        self.beta = beta
        self.k = k
        self.given(backend.current().zeros(1, dtype="int64"))  # a VAE says what is wrong with its arguments

    def given(self, labels: Array) -> VAE:
        """The VAE of images of these labels (N,): p(x | y, z), q(z | x, y)."""
        xp = backend.of(labels)
        try:
            xp.check_indices("labels", labels, self.classes)
        except IndexError:
            raise InputError(
                f"the labels go up to {int(labels.max())}, but this model was told {self.classes} classes, 0 to "
                f"{self.classes - 1}: choose other data, or train one with --classes {int(labels.max()) + 1}."
            ) from None
        y = (labels[:, None] == xp.arange(self.classes)).astype(xp.float32)

        def encoder(x: Tensor) -> Any:
            return self.encoder(_beside(x, y, self.planes))

        def decoder(z: Tensor) -> Any:  # of several samples for each image, one after the other
            return self.decoder(_beside(z, xp.concatenate([y] * (len(z) // len(y)))))

        return VAE(
            nn.Sequential(encoder), nn.Sequential(decoder), self.latent, self.likelihood, beta=self.beta, k=self.k
        )

    def loss(self, x: Labelled, rng: Any = None) -> Loss:
        """-ELBO of images and labels, as that of the VAE."""
        return self.given(x.labels).loss(x.images, rng)

    @evaluation
    def nll_bound(self, x: Labelled, k: int, rng: Any = None) -> Array:
        """-log p(x | y) by k importance-weighted samples, (N,)."""
        return self.given(x.labels).nll_bound(x.images, k, rng)

    @evaluation
    def encode(self, x: Labelled) -> Array:
        """The posterior means of images of known classes, (N, latent)."""
        return self.given(x.labels).encode(x.images)

    @evaluation
    def decode(self, z: Array, labels: Array) -> Array:
        """The mean images of codes (N, latent) of the classes labels (N,)."""
        return self.given(labels).decode(z)

    @evaluation
    def reconstruct(self, x: Labelled) -> Array:
        """The mean images of the posterior means of x."""
        return self.given(x.labels).reconstruct(x.images)

    @evaluation
    def scores(self, x: Labelled, rng: Any = None) -> dict[str, Array]:
        """How strange images are for their class; see VAE.scores."""
        return self.given(x.labels).scores(x.images, rng)

    @evaluation
    def sample(self, n: int, rng: Any = None, labels: Array | None = None) -> Array:
        """n mean images, (n, *shape). labels (n,): of which classes; by default of each in turn."""
        xp = backend.current()
        labels = xp.arange(n) % self.classes if labels is None else xp.asarray(labels)
        return self.given(labels).sample(n, rng)


def _beside(x: Any, y: Array, planes: bool = False) -> Tensor:
    """x with the vectors y (N, classes) beside it: as planes of images (N, C, H, W), or at the end of flat rows."""
    x, xp = as_tensor(x), backend.of(y)
    y = y.astype(x.dtype)
    if planes:
        return ops.concatenate([x, xp.broadcast_to(y[:, :, None, None], (*y.shape, *x.shape[2:]))], axis=1)
    return ops.concatenate([x.reshape((len(x), -1)), y], axis=1)


def cvae(
    shape: tuple[int, ...], classes: int = 10, arch: str = "dense", hidden: Sequence[int] = (400,),
    channels: Sequence[int] | None = None, activation: str = "relu", latent: int = 20, likelihood: str = "bernoulli",
    variance: float | str | None = None, beta: float = 1.0, k: int = 1,
) -> CVAE:  # fmt: skip
    """A class-conditional VAE for images of a shape (C, H, W) and so many classes. See CVAE and models.nets."""
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latent=latent, classes=classes)
    p, planes = make_likelihood(likelihood, variance), arch == "conv"
    seen = (shape[0] + classes, *shape[1:]) if planes else (math.prod(shape) + classes,)
    return CVAE(
        nets.encoder(arch, seen, hidden, channels or (nets.widths(shape) if planes else None), 2 * latent, activation),
        nets.decoder(arch, latent + classes, hidden, channels, (p.channels * shape[0], *shape[1:]), activation),
        latent, classes, p, planes, beta, k,
    )  # fmt: skip


class Completion(VAE):
    """p(x | y): the hidden pixels x of an image whose other pixels y are seen. [Sohn et al. 2015, section 5]

    As in Pyro's example of it: encoder, q(z | x, y), sees the whole image; prior, p(z | y), what is seen and for the
    rest the guess of baseline, a network that predicts x from y without any z, with -1 in place of what is hidden.
    decoder: z -> the whole image, of which only the hidden pixels count. The baseline learns by its own cross-entropy,
    and its guess is a constant to the others.

    seen (H, W): 1 where a pixel is seen, else 0.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module, baseline: nn.Module, latent: int, seen: Array,
        likelihood: Likelihood | None = None, beta: float = 1.0,
    ):  # fmt: skip
        super().__init__(encoder, decoder, latent, likelihood, beta=beta)
        self.prior = prior
        self.baseline = baseline
        self.seen = backend.current().asarray(seen, dtype="float32")

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """-ELBO of what is hidden, and the baseline's -log p(x | y), a term of its own: it shares nothing with them."""
        x = as_tensor(x)
        mu, logvar = self.posterior(x)
        guess = self.guess(x)
        kl = ops.kl_normal(mu, logvar, *self.conditional_prior(x, guess), axis=-1).mean()
        z, _ = self._reparameterized(mu, logvar, rng)
        reconstruction, baseline = self.nll(z, x).mean(), self._hidden(guess, x).mean()
        total = reconstruction + self.beta * kl + baseline
        return Loss(total, {"reconstruction": reconstruction, "kl": kl, "baseline": baseline})

    def guess(self, x: Any) -> Tensor:
        """What the baseline makes of the seen pixels, as numbers of the likelihood: (N, *shape)."""
        x = as_tensor(x)
        output: Tensor = self.baseline(x * self.seen.astype(x.dtype) - (1 - self.seen).astype(x.dtype))
        return output

    def conditional_prior(self, x: Any, guess: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of p(z | y), (N, latent) each."""
        x, seen = as_tensor(x), self.seen.astype(guess.dtype)
        filled = x.data * seen + self.likelihood.mean(guess.detach(), guess.ndim - 1).data * (1 - seen)
        p = MeanField().distribution(self.prior(as_tensor(filled)))
        return p.mu, p.logvar

    def nll(self, z: Tensor, x: Any) -> Tensor:
        """-log p(x | y, z) of the hidden pixels: (..., N)."""
        return self._hidden(self._decoded(z), as_tensor(x))

    def _hidden(self, output: Tensor, x: Tensor) -> Tensor:
        """-log p summed over the hidden pixels."""
        each: Tensor = self.likelihood.nll(output, x, axis=()) * (1 - self.seen).astype(x.dtype)
        return each.sum(axis=tuple(range(1 - x.ndim, 0)))

    def log_weights(self, x: Any, k: int, rng: Any = None) -> Tensor:
        z, log_q = self.draw(x, (k,), rng)
        prior = Normal(*self.conditional_prior(x, self.guess(x)))
        return prior.log_prob(z, axis=-1) - log_q - self.nll(z, x)

    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange what is hidden is, given what is seen: -log p(x | y) by one sample, (N,)."""
        return {"-ELBO": self.nll_bound(x, 1, rng)}

    def complete(self, x: Any, rng: Any = None) -> Array:
        """Images of which the hidden pixels are drawn anew: the mean image of a z of p(z | y), (N, *shape)."""
        with no_grad():
            z, _ = self._reparameterized(*self.conditional_prior(x, self.guess(x)), rng)
        return x * self.seen + self.decode(z.data) * (1 - self.seen)

    def reconstruct(self, x: Any) -> Array:
        """The images completed from what is seen, by the mean of p(z | y)."""
        with no_grad():
            mu, _ = self.conditional_prior(x, self.guess(x))
        return x * self.seen + self.decode(mu.data) * (1 - self.seen)

    def sample(self, n: int, rng: Any = None) -> Array:
        raise InputError("a completion draws the rest of images that are there: see 'minivae reconstruct'.")


def quadrants_mask(shape: tuple[int, ...], seen: int) -> Array:
    """1 where a pixel is seen: the lower left quadrant of images (C, H, W); of 2 the left half, of 3 all but the lower
    right one. [Sohn et al. 2015]
    """
    if len(shape) != 3 or seen not in (1, 2, 3):
        raise InputError(f"{seen} quadrants of data of shape {shape}: give images, of which 1, 2 or 3 are seen.")
    height, width = shape[1] // 2, shape[2] // 2
    mask = backend.current().zeros(shape[1:], dtype="float32")
    mask[height:, :width] = 1
    if seen > 1:
        mask[:height, :width] = 1
    if seen > 2:
        mask[:height, width:] = 1
    return mask


def completion(
    shape: tuple[int, ...], quadrants: int = 1, hidden: Sequence[int] = (500, 500), activation: str = "relu",
    latent: int = 200, beta: float = 1.0,
) -> Completion:  # fmt: skip
    """The network of Pyro's example, of dense layers. quadrants: 1, 2 or 3."""
    nets.check_sizes(shape=shape, hidden=hidden, latent=latent)
    return Completion(
        nets.dense_encoder(shape, hidden, 2 * latent, activation),
        nets.dense_decoder(latent, list(hidden)[::-1], shape, activation),
        nets.dense_encoder(shape, hidden, 2 * latent, activation),
        nn.Sequential(*nets.dense_encoder(shape, hidden, math.prod(shape), activation).layers, nn.Unflatten(shape)),
        latent, quadrants_mask(shape, quadrants), beta=beta,
    )  # fmt: skip
