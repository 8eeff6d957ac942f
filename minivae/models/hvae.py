"""A VAE of several layers of codes, each drawn given the one above. [Sønderby et al. 2016, "Ladder Variational
Autoencoders"]

    p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L),   p(z_L) = N(0, I)
    q(z | x) = q(z_L | x) ... q(z_1 | z_2, x)
    loss = -log p(x | z_1) + sum_l KL(q(z_l | z_(l+1), x) || p(z_l | z_(l+1)))

The encoder goes up and says of each layer what the image tells of it, N(m, s^2). Then, from the top down, that is
joined with the prior N(m_p, s_p^2) which the layer above gives, each with the weight of its precision:

    1 / s_q^2 = 1 / s^2 + 1 / s_p^2,   m_q = s_q^2 (m / s^2 + m_p / s_p^2)

so that a layer of which the image tells nothing keeps its prior. The top takes m and s as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.distributions import MeanField, Normal
from minivae.errors import InputError
from minivae.models import nets
from minivae.models.likelihood import Likelihood
from minivae.models.likelihood import likelihood as make_likelihood
from minivae.models.loss import Loss
from minivae.models.vae import VAE
from minivae.nn.module import evaluation
from minivae.tensor import Tensor, as_tensor


class Layer(NamedTuple):
    """A layer on the way down: z (*shape, N, latent) of q with log q(z | above, x), and p; p is None at the top."""

    z: Tensor
    log_q: Tensor
    q: Normal
    p: Normal | None

    def kl(self) -> Tensor:
        """KL(q || p) given the layer above: (N,), or (*shape, N)."""
        if self.p is None:
            return ops.kl_unit_normal(self.q.mu, self.q.logvar, axis=-1)
        return ops.kl_normal(self.q.mu, self.q.logvar, self.p.mu, self.p.logvar, axis=-1)


class HVAE(VAE):
    """latents: the dimensions of the layers, that beside the image first. All codes of an image are one row, in order.

    up: for each layer a network of what the one below it returned (the first of images), -> features; heads: of the
    features -> (N, 2 latent), m and log s^2; priors: for each layer but the top, codes above -> m_p and log s_p^2;
    decoder: z_1 -> the likelihood's numbers. Annealing beta keeps the upper layers in use [ibid., warm-up].
    """

    def __init__(
        self, up: list[nn.Module], heads: list[nn.Module], priors: list[nn.Module], decoder: nn.Module,
        latents: Sequence[int], likelihood: Likelihood | None = None, *,
        beta: float = 1.0, samples: int = 1, k: int = 1,
    ):  # fmt: skip
        if not len(up) == len(heads) == len(latents) == len(priors) + 1:
            raise ValueError(
                f"HVAE: {len(latents)} layers need as many networks up and heads, and a prior less: "
                f"not {len(up)}, {len(heads)} and {len(priors)}."
            )
        super().__init__(nn.Sequential(), decoder, sum(latents), likelihood, beta=beta, samples=samples, k=k)
        self.up = up
        self.heads = heads
        self.priors = priors
        self.latents = tuple(latents)

    def layers(self, x: Any, shape: tuple[int, ...] = (), rng: Any = None, mean: bool = False) -> list[Layer]:
        """The layers of codes drawn for images, z_1 first. mean: the mean of each is taken instead of a draw."""
        told, features = [], as_tensor(x)
        for up, head in zip(self.up, self.heads, strict=True):
            features = up(features)
            told.append(MeanField().distribution(head(features)))
        found: list[Layer] = []
        for level in reversed(range(len(told))):
            p = self._prior(level, found[0].z) if found else None
            q = told[level] if p is None else _joined(told[level], p)
            below = () if found else shape  # the layers below follow the top
            z, log_q = (q.mu, q.log_prob(q.mu, axis=-1)) if mean else q.rsample_with_log_prob(below, rng, axis=-1)
            found.insert(0, Layer(z, log_q, q, p))
        return found

    def _prior(self, level: int, above: Tensor) -> Normal:
        """p(z_level | above)."""
        return MeanField().distribution(self.priors[level](above))

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """The terms are reconstruction, kl, and kl_1 .. kl_L of the layers, z_1's first."""
        x = as_tensor(x)
        if self.k > 1:
            return self._sampled(x, rng)
        layers = self.layers(x, self._leading(), rng)
        parts = [layer.kl().mean() for layer in layers]
        reconstruction, kl = self.nll(layers[0].z, x).mean(), sum(parts[1:], start=parts[0])
        terms = {f"kl_{i + 1}": part for i, part in enumerate(parts)} if len(parts) > 1 else {}
        return Loss(reconstruction + self.beta * kl, {"reconstruction": reconstruction, "kl": kl, **terms})

    def draw(self, x: Any, shape: tuple[int, ...] = (), rng: Any = None) -> tuple[Tensor, Tensor]:
        """All codes (*shape, N, sum of latents) of images, and log q(z | x), the sum over the layers."""
        layers = self.layers(x, shape, rng)
        log_q = [layer.log_q for layer in layers]
        return ops.concatenate([layer.z for layer in layers], axis=-1), sum(log_q[1:], start=log_q[0])

    def log_prior(self, z: Tensor) -> Tensor:
        parts = self._split(z)
        total = super().log_prior(parts[-1])
        for level in range(len(self.priors)):
            total = total + self._prior(level, parts[level + 1]).log_prob(parts[level], axis=-1)
        return total

    def _split(self, z: Tensor) -> list[Tensor]:
        """The codes of each layer."""
        ends = [sum(self.latents[: i + 1]) for i in range(len(self.latents) - 1)]
        return ops.split(z, ends, axis=-1)

    def _decoded(self, z: Tensor) -> Tensor:
        """The decoder's output for codes whose first are z_1."""
        z = z[..., : self.latents[0]]
        output: Tensor = self.decoder(z.reshape((-1, self.latents[0])))
        return output.reshape((*z.shape[:-1], *output.shape[1:]))

    @evaluation
    def encode(self, x: Any) -> Array:
        """The means of z_1, from which images are decoded, (N, latents[0]), each layer above it at its mean."""
        return self.layers(x, mean=True)[0].z.data

    @evaluation
    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        layers = self.layers(x, rng=rng)
        nll, kl = self.nll(layers[0].z, x).data, sum(layer.kl().data for layer in layers)
        return {"-ELBO": nll + kl, "reconstruction": nll, "kl": kl}

    @evaluation
    def sample(self, n: int, rng: Any = None, top: Array | None = None) -> Array:
        """n mean images, drawn from the top down. top (n, latents[-1]): the codes of the top layer, where given."""
        xp = backend.current()
        if top is None:
            top = (rng or xp.rng).standard_normal((n, self.latents[-1]), dtype=xp.float32)
        z = as_tensor(top)
        for level in reversed(range(len(self.priors))):
            z = self._prior(level, z).sample((), rng)
        return self.decode(z.data)


def _joined(told: Normal, p: Normal) -> Normal:
    """What the image tells of a layer, and its prior p, each with the weight of its precision."""
    excess = told.logvar - p.logvar
    return Normal(p.mu + ops.sigmoid(-excess) * (told.mu - p.mu), told.logvar - ops.softplus(excess))


def hvae(
    shape: tuple[int, ...], arch: str = "dense", hidden: Sequence[int] = (400,), channels: Sequence[int] | None = None,
    activation: str = "relu", latents: Sequence[int] = (32, 16), likelihood: str = "bernoulli",
    variance: float | str | None = None, beta: float = 1.0, samples: int = 1, k: int = 1,
) -> HVAE:  # fmt: skip
    """A hierarchy for images of a shape (C, H, W): of dense layers above the first network. See HVAE, models.nets."""
    if not latents or not hidden:
        raise InputError(f"latents {list(latents)} and hidden {list(hidden)}: give at least one width of each.")
    nets.check_sizes(shape=shape, hidden=hidden, channels=channels or (), latents=latents)
    p, act, width = make_likelihood(likelihood, variance), nets.activation_layer(activation), hidden[-1]
    up = [nn.Sequential(*nets.encoder(arch, shape, hidden[:-1], channels, width, activation).layers, act())]
    up += [nn.Sequential(nn.Linear(width, width), act()) for _ in latents[1:]]
    heads: list[nn.Module] = [nn.Linear(width, 2 * latent) for latent in latents]
    priors: list[nn.Module] = [
        nn.Sequential(nn.Linear(above, width), act(), nn.Linear(width, 2 * latent))
        for latent, above in itertools.pairwise(latents)
    ]
    decoder = nets.decoder(arch, latents[0], hidden, channels, (p.channels * shape[0], *shape[1:]), activation)
    return HVAE([*up], heads, priors, decoder, latents, p, beta=beta, samples=samples, k=k)
