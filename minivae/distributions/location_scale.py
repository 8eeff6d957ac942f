"""Distributions of a location and a scale: x = loc + scale * e, where e is standard noise.

Noise of a known distribution function F is F^-1(u), u uniform: the inverse-CDF transform. The gradient with respect
to loc and scale goes along x; so it does through whatever is composed with it (LogNormal: e^x).
"""

from __future__ import annotations

import math
from typing import Any

from minivae import backend, ops
from minivae.backend import Array
from minivae.distributions.distribution import Distribution, supported
from minivae.ops.loss import LOG_2PI
from minivae.ops.reduction import Axis
from minivae.tensor import Operand, Tensor

EULER = 0.5772156649015329  # the mean of Gumbel's standard noise


class Normal(Distribution):
    """N(mu, e^logvar). Normal(0.0, 0.0) is standard; a standard deviation s has the logvar 2 log s."""

    mu: Tensor
    logvar: Tensor

    def __init__(self, mu: Operand, logvar: Operand):
        self._parameters(mu=mu, logvar=logvar)

    def log_prob(self, x: Operand, axis: Axis = ()) -> Tensor:
        return -ops.gaussian_nll(self.mu, self.logvar, self._tensor(x), axis=axis)

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        return self.mu + ops.exp(0.5 * self.logvar) * self._normal(shape, rng)

    def rsample_with_log_prob(
        self, shape: tuple[int, ...] = (), rng: Any = None, axis: Axis = ()
    ) -> tuple[Tensor, Tensor]:
        """As a function of the noise, log p(z) = -(logvar + eps^2 + log 2 pi) / 2 has nothing that cancels."""
        eps = self._normal(shape, rng)
        log_p = -0.5 * (self.logvar + (eps * eps + LOG_2PI))
        return self.mu + ops.exp(0.5 * self.logvar) * eps, log_p if axis == () else log_p.sum(axis=axis)

    def mean(self) -> Tensor:
        return self._over_batch(self.mu)

    def variance(self) -> Tensor:
        return self._over_batch(ops.exp(self.logvar))

    def _entropy(self) -> Tensor:
        return self._over_batch(0.5 * (self.logvar + (LOG_2PI + 1)))


class LogNormal(Distribution):
    """e^y with y ~ N(mu, e^logvar); x > 0."""

    def __init__(self, mu: Operand, logvar: Operand):
        self.normal = Normal(mu, logvar)
        self.shape, self.dtype = self.normal.shape, self.normal.dtype

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        return ops.exp(self.normal.rsample(shape, rng))

    def mean(self) -> Tensor:
        return ops.exp(self.normal.mu + 0.5 * ops.exp(self.normal.logvar))

    def variance(self) -> Tensor:
        variance = ops.exp(self.normal.logvar)
        return ops.expm1(variance) * ops.exp(2.0 * self.normal.mu + variance)

    def _log_prob(self, x: Tensor) -> Tensor:
        def log_density(x: Tensor) -> Tensor:
            y = ops.log(x)
            return self.normal.log_prob(y) - y

        return supported(log_density, x, outside=x.data <= 0, instead=1.0)

    def _entropy(self) -> Tensor:
        return self.normal.entropy() + self.normal.mu


class LocationScale(Distribution):
    """loc + scale * e, for noise e that a subclass describes by four functions."""

    loc: Tensor
    scale: Tensor
    noise_entropy: float  # of e, in nats
    noise_moments: tuple[float, float]  # the mean and the variance of e

    def __init__(self, loc: Operand, scale: Operand):
        self._parameters(loc=loc, scale=scale)
        self._require_positive("scale")

    def noise(self, xp: Any, u: Array) -> Array:
        """F^-1(u) of e."""
        raise NotImplementedError

    def noise_log_prob(self, y: Tensor) -> Tensor:
        """log p(y) of e."""
        raise NotImplementedError

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        u = self._uniform(shape, rng)
        return self.loc + self.scale * Tensor(self.noise(backend.of(u), u).astype(self.dtype))

    def mean(self) -> Tensor:
        return self.loc + self.scale * self.noise_moments[0]

    def variance(self) -> Tensor:
        return self._over_batch(self.scale * self.scale * self.noise_moments[1])

    def _log_prob(self, x: Tensor) -> Tensor:
        return self.noise_log_prob((x - self.loc) / self.scale) - ops.log(self.scale)

    def _entropy(self) -> Tensor:
        return self._over_batch(ops.log(self.scale) + self.noise_entropy)


class Laplace(LocationScale):
    """p(x) = e^-|y| / 2 scale with y = (x - loc) / scale."""

    noise_entropy = 1 + math.log(2)
    noise_moments = (0.0, 2.0)

    def noise(self, xp: Any, u: Array) -> Array:
        return xp.where(u < 0.5, xp.log(2 * u), -xp.log(2 * (1 - u)))

    def noise_log_prob(self, y: Tensor) -> Tensor:
        return -ops.abs(y) - math.log(2)


class Logistic(LocationScale):
    """F(x) = sigmoid(y) with y = (x - loc) / scale."""

    noise_entropy = 2.0
    noise_moments = (0.0, math.pi**2 / 3)

    def noise(self, xp: Any, u: Array) -> Array:
        return xp.log(u) - xp.log1p(-u)

    def noise_log_prob(self, y: Tensor) -> Tensor:
        return -ops.softplus(y) - ops.softplus(-y)  # log of sigmoid(y) sigmoid(-y)


class Gumbel(LocationScale):
    """F(x) = exp(-e^-y) with y = (x - loc) / scale: the largest of many."""

    noise_entropy = 1 + EULER
    noise_moments = (EULER, math.pi**2 / 6)

    def noise(self, xp: Any, u: Array) -> Array:
        return -xp.log(-xp.log(u))

    def noise_log_prob(self, y: Tensor) -> Tensor:
        return -(y + ops.exp(-y))


class Uniform(Distribution):
    """All x in [low, high] alike."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Operand, high: Operand):
        self._parameters(low=low, high=high)
        self.width = self.high - self.low
        self._require("width", self.width.data > 0, "above 0 (low below high)")

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        return self.low + self.width * Tensor(self._uniform(shape, rng).astype(self.dtype))

    def mean(self) -> Tensor:
        return 0.5 * (self.low + self.high)

    def variance(self) -> Tensor:
        return self.width * self.width / 12.0

    def _log_prob(self, x: Tensor) -> Tensor:
        outside = (x.data < self.low.data) | (x.data > self.high.data)
        return supported(lambda x: 0.0 * x - ops.log(self.width), x, outside, instead=0.0)

    def _entropy(self) -> Tensor:
        return ops.log(self.width)


class Exponential(Distribution):
    """p(x) = rate e^(-rate x) for x >= 0."""

    rate: Tensor

    def __init__(self, rate: Operand):
        self._parameters(rate=rate)
        self._require_positive("rate")

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        u = self._uniform(shape, rng)
        return Tensor(-backend.of(u).log(u).astype(self.dtype)) / self.rate

    def mean(self) -> Tensor:
        return 1.0 / self.rate

    def variance(self) -> Tensor:
        return 1.0 / (self.rate * self.rate)

    def _log_prob(self, x: Tensor) -> Tensor:
        return supported(lambda x: ops.log(self.rate) - self.rate * x, x, outside=x.data < 0, instead=0.0)

    def _entropy(self) -> Tensor:
        return 1.0 - ops.log(self.rate)
