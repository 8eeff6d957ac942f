"""Samples of distributions as differentiable functions of the distributions' parameters."""

from __future__ import annotations

from typing import Any

from minivae.backend import Array, fuse
from minivae.ops.loss import as_arrays
from minivae.tensor import op


@op
def reparameterize(xp: Any, mu: Array, logvar: Array, eps: Array) -> Any:
    """z = mu + e^(logvar/2) eps: for standard normal eps a sample of N(mu, e^logvar).

    [Kingma & Welling 2014, section 2.4]  dz/dmu = 1, dz/dlogvar = e^(logvar/2) eps / 2, dz/deps = e^(logvar/2).
    """
    mu, logvar, eps = as_arrays(xp, mu, logvar, eps)
    z, dlogvar = _normal(xp, mu, logvar, eps)
    return z, (lambda g: g, lambda g: g * dlogvar, lambda g: g * xp.exp(logvar * 0.5))


@fuse
def _normal(xp: Any, mu: Array, logvar: Array, eps: Array) -> Any:
    deviation = xp.exp(logvar * 0.5) * eps
    return mu + deviation, deviation * 0.5
