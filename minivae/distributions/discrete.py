"""Distributions of classes. Their samples have no pathwise gradient; a relaxation has."""

from __future__ import annotations

import math
from typing import Any

from minivae import backend, ops
from minivae.distributions.distribution import Distribution, supported
from minivae.tensor import Operand, Tensor, no_grad


class Bernoulli(Distribution):
    """x = 1 with the probability sigmoid(logits), else 0."""

    logits: Tensor
    pathwise = False

    def __init__(self, logits: Operand):
        self._parameters(logits=logits)

    @no_grad()
    def sample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        u = self._uniform(shape, rng)
        return Tensor((u < ops.sigmoid(self.logits).data).astype(self.dtype))

    def mean(self) -> Tensor:
        return ops.sigmoid(self.logits)

    def variance(self) -> Tensor:
        return ops.sigmoid(self.logits) * ops.sigmoid(-self.logits)

    def _log_prob(self, x: Tensor) -> Tensor:
        return supported(
            lambda x: -ops.binary_cross_entropy_with_logits(self.logits, x, axis=()),
            x, outside=(x.data != 0) & (x.data != 1), instead=0.0,
        )  # fmt: skip

    def _entropy(self) -> Tensor:
        logits = self.logits
        return ops.sigmoid(logits) * ops.softplus(-logits) + ops.sigmoid(-logits) * ops.softplus(logits)


class Categorical(Distribution):
    """Class i of 0, ..., K - 1 with the probability softmax(logits)_i; logits (..., K), classes (...), integers."""

    logits: Tensor
    pathwise = False

    def __init__(self, logits: Operand):
        self._parameters(logits=logits)
        if not self.shape or not self.shape[-1]:
            raise ValueError(f"Categorical: logits of shape {self.shape}: give (..., K) with K of at least 1.")
        self.shape, self.event = self.shape[:-1], self.shape[-1:]
        self.log_p = ops.log_softmax(self.logits, axis=-1)

    @no_grad()
    def sample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        """The inverse of the distribution function: how many of its steps lie below a uniform number."""
        xp = backend.of(self.logits.data)
        steps = xp.cumsum(xp.exp(self.log_p.data.astype(xp.float64)), axis=-1)
        u = xp.expand_dims(self._uniform(shape, rng), -1) * steps[..., -1:]  # the steps end at 1 only to rounding
        return Tensor(xp.sum(u > steps[..., :-1], axis=-1))

    def relaxed_sample(self, temperature: float, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        """softmax((logits + Gumbel noise) / temperature), (*shape, *batch, K), with pathwise gradients.

        The largest of logits + noise is a sample of the classes; as the temperature goes to 0 the softmax becomes its
        one-hot code, and the variance of the gradients infinite. [Jang et al. 2017; Maddison et al. 2017]
        """
        if not 0 < temperature < math.inf:
            raise ValueError(f"Categorical: temperature must be above 0 and finite, but is {temperature:g}.")
        u = self._uniform(shape, rng, self.event)
        xp = backend.of(u)
        noise = (-xp.log(-xp.log(u))).astype(self.dtype)
        return ops.softmax((self.logits + noise) / temperature, axis=-1)

    def _log_prob(self, x: Tensor) -> Tensor:
        xp, k = backend.of(self.logits.data), self.event[0]
        if x.dtype.kind not in "iu":
            raise TypeError(f"Categorical: classes are integers from 0 to {k - 1}, not {x.dtype}.")
        one_hot = xp.expand_dims(x.data, -1) == xp.arange(k)
        log_p = ops.where(one_hot, self.log_p, 0.0).sum(axis=-1)
        return ops.where(one_hot.any(axis=-1), log_p, -math.inf)

    def _entropy(self) -> Tensor:
        p = ops.exp(self.log_p)
        return -(p * ops.where(p.data > 0, self.log_p, 0.0)).sum(axis=-1)  # 0 log 0 is 0
