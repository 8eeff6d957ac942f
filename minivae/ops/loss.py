"""Negative log-likelihoods and divergences, in nats: each fused, with its gradient in closed form.

The function that computes the terms computes their derivatives too, since both are made of the same pieces: the
one exponential of a term is evaluated once, and a vjp is one product.

Every loss is elementwise, then summed over `axis` (None: over all; (): not at all). For a batch of
flat vectors axis=-1 gives one value per example, as the papers write it; take its mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae.backend import Array, fuse
from minivae.graph import Vjp
from minivae.ops.reduction import Axis, spread
from minivae.tensor import op

LOG_2PI = math.log(2 * math.pi)


def _summed(xp: Any, terms: Array, axis: Axis, vjps: Sequence[Vjp]) -> tuple[Array, list[Vjp]]:
    """Elementwise terms summed over axis; the cotangent of the sum goes to each of its terms."""

    def of_sum(vjp: Vjp) -> Vjp:
        return lambda g: vjp(spread(xp, g, terms, axis, False))

    return xp.sum(terms, axis=axis), [of_sum(vjp) for vjp in vjps]


def as_arrays(xp: Any, *operands: Any) -> list[Array]:
    """The operands with Python numbers, such as a fixed variance, as arrays of the others' dtype."""
    dtype = xp.result_type(*operands)
    return [xp.full((), a, dtype=dtype) if isinstance(a, int | float) else a for a in operands]


@op
def binary_cross_entropy_with_logits(xp: Any, logits: Array, target: Array, axis: Axis = None) -> Any:
    """-log p(x | l) of a Bernoulli with probability sigmoid(l): softplus(l) - l x, for x in [0, 1].

    logits, target: the same shape. The derivative with respect to l is sigmoid(l) - x.
    """
    logits, target = as_arrays(xp, logits, target)
    terms, dlogits = _bernoulli(xp, logits, target)
    return _summed(xp, terms, axis, (lambda g: g * dlogits, lambda g: -g * logits))


@fuse
def _bernoulli(xp: Any, logits: Array, x: Array) -> Any:
    e = xp.exp(-xp.abs(logits))
    softplus = xp.maximum(logits, 0) + xp.log1p(e)
    sigmoid = xp.maximum(e, logits > 0) / (1 + e)  # see activation.logistic
    return softplus - logits * x, sigmoid - x


@op
def gaussian_nll(xp: Any, mu: Array, logvar: Array, x: Array, axis: Axis = None) -> Any:
    """-log N(x; mu, e^logvar) = (logvar + (x - mu)^2 / e^logvar + log 2 pi) / 2.

    The standardised residual r = (mu - x) e^(-logvar/2) is formed before it is squared, so that a
    small deviation under a tiny variance overflows only where the likelihood itself does.
    """
    terms, dmu, dlogvar = _gaussian(xp, *as_arrays(xp, mu, logvar, x))
    return _summed(xp, terms, axis, (lambda g: g * dmu, lambda g: g * dlogvar, lambda g: -g * dmu))


@fuse
def _gaussian(xp: Any, mu: Array, logvar: Array, x: Array) -> Any:
    scale = xp.exp(-0.5 * logvar)
    r = (mu - x) * scale
    square = r * r
    return 0.5 * (logvar + square + LOG_2PI), r * scale, 0.5 * (1 - square)


@op
def mse_loss(xp: Any, prediction: Array, target: Array) -> Any:
    """The mean of (prediction - target)^2 over all entries."""
    squares, d = _squares(xp, prediction, target)
    return xp.mean(squares), (lambda g: 2 * g / d.size * d, lambda g: -2 * g / d.size * d)


@fuse
def _squares(xp: Any, a: Array, b: Array) -> Any:
    d = a - b
    return d * d, d


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
    mu, logvar = as_arrays(xp, mu, logvar)
    terms, dlogvar = _kl_unit(xp, mu, logvar)
    return _summed(xp, terms, axis, (lambda g: g * mu, lambda g: g * dlogvar))


@fuse
def _kl_unit(xp: Any, mu: Array, logvar: Array) -> Any:
    excess = xp.expm1(logvar)
    return 0.5 * (mu * mu + (excess - logvar)), 0.5 * excess


@op
def kl_normal(xp: Any, mu_q: Array, logvar_q: Array, mu_p: Array, logvar_p: Array, axis: Axis = None) -> Any:
    """KL(N(mu_q, e^logvar_q) || N(mu_p, e^logvar_p)) = (r^2 + e^d - 1 - d) / 2.

    d = logvar_q - logvar_p; r = (mu_q - mu_p) e^(-logvar_p/2). Only differences of log-variances are
    exponentiated, so that two equal ones, however large, give 0.
    """
    terms, dmu, dlogvar_q, dlogvar_p = _kl(xp, *as_arrays(xp, mu_q, logvar_q, mu_p, logvar_p))
    return _summed(
        xp, terms, axis, (lambda g: g * dmu, lambda g: g * dlogvar_q, lambda g: -g * dmu, lambda g: g * dlogvar_p)
    )


@fuse
def _kl(xp: Any, mu_q: Array, logvar_q: Array, mu_p: Array, logvar_p: Array) -> Any:
    d = logvar_q - logvar_p
    excess = xp.expm1(d)
    scale = xp.exp(-0.5 * logvar_p)
    r = (mu_q - mu_p) * scale
    square = r * r
    return 0.5 * (square + (excess - d)), r * scale, 0.5 * excess, -0.5 * (square + excess)
