"""Negative log-likelihoods and divergences, in nats: each fused, with its gradient in closed form.

Every loss is elementwise, then summed over `axis` (None: over all; (): not at all). For a batch of
flat vectors axis=-1 gives one value per example, as the papers write it; take its mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae.backend import Array
from minivae.graph import Vjp
from minivae.ops.reduction import Axis, spread
from minivae.tensor import op

LOG_2PI = math.log(2 * math.pi)


def _summed(xp: Any, terms: Array, axis: Axis, vjps: Sequence[Vjp]) -> tuple[Array, list[Vjp]]:
    """Elementwise terms summed over axis; the cotangent of the sum goes to each of its terms."""

    def of_sum(vjp: Vjp) -> Vjp:
        return lambda g: vjp(spread(xp, g, terms, axis, False))

    return xp.sum(terms, axis=axis), [of_sum(vjp) for vjp in vjps]


def _arrays(xp: Any, *operands: Any) -> list[Array]:
    """The operands with Python numbers, such as a fixed variance, as arrays of the others' dtype."""
    dtype = xp.result_type(*operands)
    return [xp.full((), a, dtype=dtype) if isinstance(a, int | float) else a for a in operands]


@op
def binary_cross_entropy_with_logits(xp: Any, logits: Array, target: Array, axis: Axis = None) -> Any:
    """-log p(x | l) of a Bernoulli with probability sigmoid(l): softplus(l) - l x, for x in [0, 1].

    logits, target: the same shape. The derivative with respect to l is sigmoid(l) - x.
    """
    logits, target = _arrays(xp, logits, target)
    e = xp.exp(-xp.abs(logits))  # the one exponential: both softplus and sigmoid follow from it

    def dlogits(g: Array) -> Array:
        return g * (xp.where(logits >= 0, 1, e) / (1 + e) - target)

    terms = xp.maximum(logits, 0) - logits * target + xp.log1p(e)
    return _summed(xp, terms, axis, (dlogits, lambda g: -g * logits))


@op
def gaussian_nll(xp: Any, mu: Array, logvar: Array, x: Array, axis: Axis = None) -> Any:
    """-log N(x; mu, e^logvar) = (logvar + (x - mu)^2 / e^logvar + log 2 pi) / 2.

    The standardised residual r = (x - mu) e^(-logvar/2) is formed before it is squared, so that a
    small deviation under a tiny variance overflows only where the likelihood itself does.
    """
    mu, logvar, x = _arrays(xp, mu, logvar, x)
    scale = xp.exp(-logvar / 2)
    r = (x - mu) * scale
    terms = 0.5 * (logvar + r * r + LOG_2PI)
    return _summed(
        xp, terms, axis, (lambda g: -g * r * scale, lambda g: 0.5 * g * (1 - r * r), lambda g: g * r * scale)
    )


@op
def mse_loss(xp: Any, prediction: Array, target: Array) -> Any:
    """The mean of (prediction - target)^2 over all entries."""
    d = prediction - target
    return xp.mean(d * d), (lambda g: 2 * g / d.size * d, lambda g: -2 * g / d.size * d)


@op
def cross_entropy(xp: Any, logits: Array, labels: Array) -> Any:
    """-log softmax(logits)[label]: logits (..., classes), integer labels (...), the result (...)."""
    if labels.shape != logits.shape[:-1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy: logits of shape {logits.shape} need integer labels of shape {logits.shape[:-1]}, "
            f"not {labels.dtype} of shape {labels.shape}."
        )
    xp.check_indices("cross_entropy", labels, logits.shape[-1])
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    chosen = xp.expand_dims(labels, -1)

    def dlogits(g: Array) -> Array:
        one_hot = xp.arange(logits.shape[-1]) == chosen
        return xp.expand_dims(g, -1) * (xp.exp(log_p) - one_hot)

    return -xp.take_along_axis(log_p, chosen, axis=-1)[..., 0], (dlogits,)


@op
def kl_unit_normal(xp: Any, mu: Array, logvar: Array, axis: Axis = None) -> Any:
    """KL(N(mu, e^logvar) || N(0, 1)) = (mu^2 + e^logvar - 1 - logvar) / 2. [Kingma & Welling 2014, appendix B]

    Near 0, e^logvar - 1 - logvar is computed by expm1, so that it does not cancel.
    """
    mu, logvar = _arrays(xp, mu, logvar)
    excess = xp.expm1(logvar)
    terms = 0.5 * (mu * mu + (excess - logvar))
    return _summed(xp, terms, axis, (lambda g: g * mu, lambda g: 0.5 * g * excess))


@op
def kl_normal(xp: Any, mu_q: Array, logvar_q: Array, mu_p: Array, logvar_p: Array, axis: Axis = None) -> Any:
    """KL(N(mu_q, e^logvar_q) || N(mu_p, e^logvar_p)) = (r^2 + e^d - 1 - d) / 2.

    d = logvar_q - logvar_p; r = (mu_q - mu_p) e^(-logvar_p/2). Only differences of log-variances are
    exponentiated, so that two equal ones, however large, give 0.
    """
    mu_q, logvar_q, mu_p, logvar_p = _arrays(xp, mu_q, logvar_q, mu_p, logvar_p)
    d = logvar_q - logvar_p
    excess = xp.expm1(d)
    scale = xp.exp(-logvar_p / 2)
    r = (mu_q - mu_p) * scale
    terms = 0.5 * (r * r + (excess - d))
    return _summed(
        xp,
        terms,
        axis,
        (
            lambda g: g * r * scale,
            lambda g: 0.5 * g * excess,
            lambda g: -g * r * scale,
            lambda g: -0.5 * g * (r * r + excess),
        ),
    )
