"""The gamma function and its kin, elementwise, for positive arguments.

Differences of large terms (digamma a - digamma(a + b)) and integrals are formed in float64, whatever the operands:
in float32 nothing would be left of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivae.backend import Array
from minivae.tensor import op

_nodes, _weights = np.polynomial.legendre.leggauss(32)
NODES, WEIGHTS = (_nodes + 1) / 2, _weights / 2  # Gauss-Legendre quadrature, on [0, 1]
REACH = 40.0  # an integrand is cut where it has fallen to e^-40 of its value at 0


@op
def lgamma(xp: Any, a: Array) -> Any:
    """log Gamma(a), for a > 0."""
    return xp.special.gammaln(a), (lambda g: g * xp.special.digamma(a),)


@op
def digamma(xp: Any, a: Array) -> Any:
    """The derivative of log Gamma(a), for a > 0. Its own derivative is Hurwitz's zeta(2, a)."""
    return xp.special.digamma(a), (lambda g: g * xp.special.zeta(2.0, a),)


@op
def lbeta(xp: Any, a: Array, b: Array) -> Any:
    """log B(a, b) = log Gamma(a) + log Gamma(b) - log Gamma(a + b), for a, b > 0; large ones do not cancel."""
    dtype = xp.result_type(a, b)
    y = xp.special.betaln(xp.asarray(a, dtype=dtype), xp.asarray(b, dtype=dtype))

    def slope(c: Array) -> Array:
        wide = [xp.asarray(n, dtype=np.float64) for n in (a, b, c)]
        return (xp.special.digamma(wide[2]) - xp.special.digamma(wide[0] + wide[1])).astype(dtype)

    return y, (lambda g: g * slope(a), lambda g: g * slope(b))


@op
def log_gamma_quantile(xp: Any, a: Array, u: Array) -> Any:
    """log x, where x is the u-quantile of the gamma distribution of shape a > 0 and rate 1, for 0 < u < 1.

    With u uniform, x is a sample of it, and the derivative with respect to a its pathwise gradient. That follows from
    P(a, x) = u, P the distribution function, which holds as a moves: dx/da = -(dP/da) / p(x) with the density p.
    [Figurnov et al. 2018, "Implicit Reparameterization Gradients"] The logarithm, because x itself underflows for
    small a. The result has the dtype of a: give u as float64, which knows more numbers near 1.
    """
    dtype = (u if isinstance(a, int | float) else a).dtype
    a, u = (xp.asarray(n, dtype=np.float64) for n in (a, u))
    lowest = (xp.log(u) + xp.special.gammaln(a + 1)) / a  # by P(a, x) = x^a / Gamma(a + 1), true for x near 0
    x = xp.special.gammaincinv(a, u)
    log_x = xp.where(lowest < -30, lowest, xp.log(xp.maximum(x, 1e-30)))

    def du(g: Array) -> Array:
        return g * xp.exp(xp.special.gammaln(a) - a * log_x + xp.exp(log_x))  # 1 / (x p(x))

    return log_x.astype(dtype), (lambda g: g * _shape_slope(xp, a, log_x).astype(dtype), du)


def _shape_slope(xp: Any, a: Array, log_x: Array) -> Array:
    """The derivative of log x with respect to a, at a fixed P(a, x): an integral of the score.

    dP/da is the integral of p(t) (log t - digamma(a)) over t < x; over t > x it is its negative, for over all t it
    is 0. Of the two sides the one is taken on which the score has one sign, so that nothing cancels. With
    t = x e^v, or x e^-v below, divided by x p(x):

        +- integral over v > 0 of  e^f(v) (log t - digamma(a)),    f(v) = +-a v - (t - x)
    """
    a, log_x = xp.broadcast_arrays(a, log_x)
    x, centre = xp.exp(log_x), xp.special.digamma(a)
    sign = xp.where(log_x > centre, 1.0, -1.0)
    # v where f < -REACH, by bounds of f from above; f is concave, so that Newton's steps come down to -REACH from there
    peak = xp.where(sign > 0, xp.maximum(xp.log(a) - log_x, 0), 0)
    c = REACH / xp.maximum(a, x) + peak
    above = peak + xp.minimum(xp.sqrt(2 * c), xp.maximum(xp.log(4 * c), 1))
    below = xp.where(x > 3 * REACH, xp.sqrt(3 * REACH / xp.maximum(x, 3 * REACH)), (REACH + x) / a)
    end = xp.where(sign > 0, above, below)
    for _ in range(4):
        t = xp.exp(log_x + sign * end)
        end = end - (sign * a * end - (t - x) + REACH) / (sign * (a - t))
    total = xp.zeros_like(end)
    for start, width in ((0, peak), (peak, end - peak)):  # for small shapes a long plateau, then a sudden fall
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            v = sign * (start + width * float(node))
            total += float(weight) * width * xp.exp(a * v - (xp.exp(log_x + v) - x)) * (log_x + v - centre)
    return sign * total
