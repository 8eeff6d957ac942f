"""The gamma distribution and what is made of it: Beta, Dirichlet, Student's t.

No location and scale gives a gamma distribution of another shape. Its samples are quantiles of uniform numbers, and
their gradients with respect to the shape implicit ones: ops.log_gamma_quantile. [Figurnov et al. 2018]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minivae import backend, ops
from minivae.distributions.distribution import Distribution, in_float64, supported
from minivae.tensor import Operand, Tensor


class Gamma(Distribution):
    """p(x) = rate^a x^(a - 1) e^(-rate x) / Gamma(a) for x > 0, with a = concentration (the shape)."""

    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Operand, rate: Operand):
        self._parameters(concentration=concentration, rate=rate)
        self._require_positive("concentration", "rate")

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        return ops.exp(ops.log_gamma_quantile(self.concentration, self._uniform(shape, rng))) / self.rate

    def mean(self) -> Tensor:
        return self.concentration / self.rate

    def variance(self) -> Tensor:
        return self.concentration / (self.rate * self.rate)

    def _log_prob(self, x: Tensor) -> Tensor:
        return supported(self._log_density, x, outside=x.data <= 0, instead=1.0)

    @in_float64
    def _log_density(self, x: Tensor) -> Tensor:
        a, rate = self.concentration, self.rate
        return a * ops.log(rate) + (a - 1.0) * ops.log(x) - rate * x - ops.lgamma(a)

    @in_float64
    def _entropy(self) -> Tensor:
        a = self.concentration
        return a - ops.log(self.rate) + ops.lgamma(a) + (1.0 - a) * ops.digamma(a)


class Beta(Distribution):
    """p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b) for 0 < x < 1."""

    a: Tensor
    b: Tensor

    def __init__(self, a: Operand, b: Operand):
        self._parameters(a=a, b=b)
        self._require_positive("a", "b")

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        """g / (g + h) of gamma variables g, h of shapes a, b. For small a and b x may be 0 or 1, to rounding."""
        log_g, log_h = (ops.log_gamma_quantile(c, self._uniform(shape, rng)) for c in (self.a, self.b))
        return ops.sigmoid(log_g - log_h)

    def mean(self) -> Tensor:
        return self.a / (self.a + self.b)

    def variance(self) -> Tensor:
        total = self.a + self.b
        return self.a * self.b / (total * total * (total + 1.0))

    def _log_prob(self, x: Tensor) -> Tensor:
        return supported(self._log_density, x, outside=(x.data <= 0) | (x.data >= 1), instead=0.5)

    @in_float64
    def _log_density(self, x: Tensor) -> Tensor:
        return (self.a - 1.0) * ops.log(x) + (self.b - 1.0) * ops.log1p(-x) - ops.lbeta(self.a, self.b)

    @in_float64
    def _entropy(self) -> Tensor:
        a, b = self.a, self.b
        return (
            ops.lbeta(a, b) - (a - 1.0) * ops.digamma(a) - (b - 1.0) * ops.digamma(b)
            + (a + b - 2.0) * ops.digamma(a + b)
        )  # fmt: skip


class Dirichlet(Distribution):
    """p(x) = prod x_i^(a_i - 1) / B(a) for x on the simplex (x_i > 0, sum 1); a = concentration, (..., K)."""

    concentration: Tensor

    def __init__(self, concentration: Operand):
        self._parameters(concentration=concentration)
        if not self.shape or self.shape[-1] < 2:
            raise ValueError(f"Dirichlet: a concentration of shape {self.shape}: give (..., K) with K of at least 2.")
        self._require_positive("concentration")
        self.shape, self.event = self.shape[:-1], self.shape[-1:]

    @property
    def total(self) -> Tensor:
        """The sum of the concentration, (...)."""
        return self.concentration.sum(axis=-1)

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        """Gamma variables over their sum, (*shape, *batch, K)."""
        u = self._uniform(shape, rng, self.event)
        return ops.softmax(ops.log_gamma_quantile(self.concentration, u), axis=-1)

    def mean(self) -> Tensor:
        return self.concentration / ops.expand_dims(self.total, -1)

    def variance(self) -> Tensor:
        mean = self.mean()
        return mean * (1.0 - mean) / ops.expand_dims(self.total + 1.0, -1)

    def log_normalizer(self) -> Tensor:
        """log B(a) = sum log Gamma(a_i) - log Gamma(sum a_i)."""
        return ops.lgamma(self.concentration).sum(axis=-1) - ops.lgamma(self.total)

    def _log_prob(self, x: Tensor) -> Tensor:
        xp = backend.of(x.data)
        rounding = 8 * self.event[0] * float(np.finfo(x.dtype).eps)
        outside = (x.data <= 0).any(axis=-1) | (xp.abs(xp.sum(x.data, axis=-1) - 1) > rounding)
        return supported(self._log_density, x, outside, instead=1.0, axis=-1)

    @in_float64
    def _log_density(self, x: Tensor) -> Tensor:
        return ((self.concentration - 1.0) * ops.log(x)).sum(axis=-1) - self.log_normalizer()

    @in_float64
    def _entropy(self) -> Tensor:
        a, total = self.concentration, self.total
        return (
            self.log_normalizer() + (total - float(self.event[0])) * ops.digamma(total)
            - ((a - 1.0) * ops.digamma(a)).sum(axis=-1)
        )  # fmt: skip


class StudentT(Distribution):
    """loc + scale * e / sqrt(g / df) with e ~ N(0, 1), g of the chi-square distribution of df degrees of freedom."""

    df: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, df: Operand, loc: Operand, scale: Operand):
        self._parameters(df=df, loc=loc, scale=scale)
        self._require_positive("df", "scale")

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        half = 0.5 * self.df  # g / 2 is a gamma variable of this shape
        eps, log_g = self._normal(shape, rng), ops.log_gamma_quantile(half, self._uniform(shape, rng))
        return self.loc + self.scale * eps * ops.exp(0.5 * (ops.log(half) - log_g))

    def mean(self) -> Tensor:
        """loc for df > 1."""
        return ops.where(self.df.data > 1, self._over_batch(self.loc), math.nan)

    def variance(self) -> Tensor:
        """scale^2 df / (df - 2) for df > 2, infinite for 1 < df <= 2."""
        finite = self.df.data > 2
        df = ops.where(finite, self.df, 3.0)
        variance = self._over_batch(self.scale * self.scale * (df / (df - 2.0)))
        return ops.where(self.df.data > 1, ops.where(finite, variance, math.inf), math.nan)

    def _log_prob(self, x: Tensor) -> Tensor:
        y = (x - self.loc) / (self.scale * ops.sqrt(self.df))
        log_density = -0.5 * (self.df + 1.0) * ops.log1p(y * y) - 0.5 * ops.log(self.df) - ops.log(self.scale)
        return log_density - ops.lbeta(0.5 * self.df, 0.5)

    def _entropy(self) -> Tensor:
        half = 0.5 * self.df
        wide = ops.astype(half, np.float64)  # a small difference of large numbers
        slope = ops.astype(ops.digamma(wide + 0.5) - ops.digamma(wide), self.dtype)
        return self._over_batch(
            (half + 0.5) * slope + 0.5 * ops.log(self.df) + ops.lbeta(half, 0.5) + ops.log(self.scale)
        )
