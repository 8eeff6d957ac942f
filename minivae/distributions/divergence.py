"""The Kullback-Leibler divergence: closed forms where there are, estimates where there are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minivae import ops
from minivae.distributions.discrete import Bernoulli, Categorical
from minivae.distributions.distribution import Distribution, in_float64
from minivae.distributions.gammas import Beta, Dirichlet, Gamma
from minivae.distributions.location_scale import EULER, Exponential, Gumbel, Laplace, LogNormal, Normal, Uniform
from minivae.ops.reduction import Axis
from minivae.tensor import Tensor

ClosedForm = Callable[[Any, Any], Tensor]
CLOSED_FORMS: dict[tuple[type, type], ClosedForm] = {}


def kl(p: Distribution, q: Distribution, axis: Axis = ()) -> Tensor:
    """KL(p || q) = E_p[log p(x) - log q(x)] in nats, exact, for each entry of the batch or summed over axis.

    Raises TypeError where no closed form is registered: `estimate_kl` says by its name that it is none.
    """
    form = CLOSED_FORMS.get((type(p), type(q)))
    if form is None:
        raise TypeError(
            f"no closed form of KL({type(p).__name__} || {type(q).__name__}) is known: "
            "register one with closed_form, or use estimate_kl."
        )
    divergence = form(p, q)
    return divergence if axis == () else divergence.sum(axis=axis)


def estimate_kl(p: Distribution, q: Distribution, samples: int, axis: Axis = (), rng: Any = None) -> Tensor:
    """The mean of log p(x) - log q(x) over so many samples x of p: KL(p || q) up to the noise of the samples.

    Right in the mean; it may be negative. So is its gradient with respect to q, and to p where p is pathwise.
    """
    if samples < 1:
        raise ValueError(f"estimate_kl needs at least one sample, not {samples}.")
    x = p.rsample((samples,), rng) if p.pathwise else p.sample((samples,), rng)
    divergence = (p.log_prob(x) - q.log_prob(x)).mean(axis=0)
    return divergence if axis == () else divergence.sum(axis=axis)


def closed_form(p: type, q: type) -> Callable[[ClosedForm], ClosedForm]:
    """Register a function of (p, q) as their divergence."""

    def register(form: ClosedForm) -> ClosedForm:
        CLOSED_FORMS[p, q] = form
        return form

    return register


def _excess(d: Tensor) -> Tensor:
    """e^d - 1 - d >= 0: what most of these are made of. It does not cancel near 0 as e^d would."""
    return ops.expm1(d) - d


@closed_form(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    return ops.kl_normal(p.mu, p.logvar, q.mu, q.logvar, axis=())


@closed_form(LogNormal, LogNormal)
def _log_normal(p: LogNormal, q: LogNormal) -> Tensor:
    return _normal(p.normal, q.normal)  # an invertible map of x, here exp, changes no divergence


@closed_form(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Tensor:
    log_ratio = ops.log(p.scale / q.scale)
    return _excess(log_ratio) + p.scale / q.scale * _excess(-ops.abs(p.loc - q.loc) / p.scale)


@closed_form(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, d = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return d - ops.log(ratio) + EULER * (ratio - 1.0) + ops.exp(ops.lgamma(1.0 + ratio) - d) - 1.0


@closed_form(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    inside = (p.low.data >= q.low.data) & (p.high.data <= q.high.data)
    return ops.where(inside, ops.log(q.width / p.width), math.inf)


@closed_form(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Tensor:
    return _excess(ops.log(q.rate / p.rate))


@closed_form(Gamma, Gamma)
@in_float64
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    shapes = ops.lgamma(b) - ops.lgamma(a) + (a - b) * ops.digamma(a)
    return shapes + b * ops.log(p.rate / q.rate) + a * (q.rate / p.rate - 1.0)


@closed_form(Beta, Beta)
@in_float64
def _beta(p: Beta, q: Beta) -> Tensor:
    da, db = p.a - q.a, p.b - q.b
    mean_logs = da * ops.digamma(p.a) + db * ops.digamma(p.b) - (da + db) * ops.digamma(p.a + p.b)
    return ops.lbeta(q.a, q.b) - ops.lbeta(p.a, p.b) + mean_logs


@closed_form(Dirichlet, Dirichlet)
@in_float64
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    mean_log_x = ops.digamma(p.concentration) - ops.expand_dims(ops.digamma(p.total), -1)
    return q.log_normalizer() - p.log_normalizer() + ((p.concentration - q.concentration) * mean_log_x).sum(axis=-1)


@closed_form(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    def of_one(p: Tensor, q: Tensor) -> Tensor:
        return ops.sigmoid(p) * (ops.softplus(-q) - ops.softplus(-p))

    return of_one(p.logits, q.logits) + of_one(-p.logits, -q.logits)


@closed_form(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    probability = ops.exp(p.log_p)
    impossible = probability.data == 0  # 0 log 0 is 0
    return (probability * ops.where(impossible, 0.0, p.log_p - q.log_p)).sum(axis=-1)
