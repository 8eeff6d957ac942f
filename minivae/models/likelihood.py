"""What a decoder's output says of the data: p(x | output), its negative logarithm and its mean.

`nll(output, x)` sums over all axes of x but the first and leaves those of the output before them: outputs
(K, N, ...) of K codes for each of the data (N, ...) give (K, N). With axis=() nothing is summed.
"""

from __future__ import annotations

import math
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array, fuse
from minivae.errors import InputError
from minivae.tensor import Tensor, op


class Likelihood(nn.Module):
    """p(x | output). channels: how many numbers the decoder gives for each channel of the data."""

    channels = 1
    interval: tuple[float, float] | None = (0.0, 1.0)  # where x must lie; None: anywhere
    whole = True  # whether -log p has all of its constants

    def nll(self, output: Tensor, x: Tensor, axis: Any = None) -> Tensor:
        """-log p(x | output) in nats. Raises InputError for x outside of the likelihood's range."""
        self.check_range(x)
        return self._nll(output, x, tuple(range(1 - x.ndim, 0)) if axis is None else axis)

    def _nll(self, output: Tensor, x: Tensor, axis: Any) -> Tensor:
        raise NotImplementedError

    def check_range(self, x: Tensor) -> None:
        """Raise InputError unless all x lie in the interval."""
        if self.interval:
            low, high = self.interval
            backend.of(x.data).check_range(f"the data of a {type(self).__name__} likelihood", x.data, low, high)

    def check_shape(self, output: tuple[int, ...], data: tuple[int, ...]) -> None:
        """Raise InputError unless a decoder's output for one code, of a shape, speaks of data of a shape."""
        if output != tuple(n * self.channels for n in data[:1]) + data[1:]:
            raise InputError(
                f"data of shape {data} do not fit the decoder, which makes {output} for a {type(self).__name__} "
                f"likelihood of {self.channels} x channels: build the model for the shape of the data."
            )

    def mean(self, output: Tensor, ndim: int) -> Tensor:
        """E[x | output], in which one image has ndim axes."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Pixels are 0 or 1 with probability sigmoid(output); for grey x in [0, 1] the cross-entropy."""

    def _nll(self, output: Tensor, x: Tensor, axis: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(output, x, axis=axis)

    def mean(self, output: Tensor, ndim: int) -> Tensor:
        return ops.sigmoid(output)


class Gaussian(Likelihood):
    """x ~ N(output, variance): a fixed number, "shared" (one learnt for all) or "pixel" (the decoder's, for each).

    A pixel's standard deviation stays above 1/256 of the range, so that a pixel which never changes cannot make the
    likelihood infinite. One learnt variance for all: [Rybkin et al. 2021]. Neither can overflow: see ops.soft_clip.
    """

    interval = None
    floor = -2 * math.log(256)  # of a pixel's log-variance

    def __init__(self, variance: float | str = "shared"):
        if variance not in ("shared", "pixel") and not (isinstance(variance, int | float) and 0 < variance < math.inf):
            raise InputError(f"variance '{variance}' is none: give a number above 0, or shared, or pixel.")
        self.variance = variance
        if variance == "pixel":
            self.channels = 2
        if variance == "shared":
            self.logvar = nn.Parameter(backend.current().zeros((), dtype="float32"))

    def _nll(self, output: Tensor, x: Tensor, axis: Any) -> Tensor:
        if self.variance == "pixel":
            mu, raw = ops.split(output, 2, axis=1 - x.ndim)
            return ops.gaussian_nll(mu, ops.soft_clip(self.floor + ops.softplus(raw - self.floor)), x, axis=axis)
        logvar = ops.soft_clip(self.logvar) if self.variance == "shared" else math.log(self.variance)  # type: ignore
        return ops.gaussian_nll(output, logvar, x, axis=axis)

    def mean(self, output: Tensor, ndim: int) -> Tensor:
        return ops.split(output, 2, axis=-ndim)[0] if self.variance == "pixel" else output

    def extra_repr(self) -> str:
        return f"variance={self.variance}"


@op
def _level(xp: Any, mu: Array, log_s: Array, x: Array) -> Any:
    """-log p of the grey levels x under the discretised logistic, elementwise. See DiscretizedLogistic."""
    terms, dmu, dlog_s = _logistic(xp, mu, log_s, x)
    return terms, (lambda g: g * dmu, lambda g: g * dlog_s, lambda g: -g * dmu)


@fuse
def _logistic(xp: Any, mu: Array, log_s: Array, x: Array) -> Any:
    inverse = xp.exp(-log_s)
    middle, half, width = (x - mu) * inverse, inverse * (1 / 510), inverse * (1 / 255)
    a, b = middle - half, middle + half
    above, below = x > 0, x < 1
    # softplus(a), sigma(a), softplus(-b), sigma(-b), each pair of one exponential; see ops.activation
    e_a, e_b = xp.exp(-xp.abs(a)), xp.exp(-xp.abs(b))
    left = xp.maximum(a, 0) + xp.log1p(e_a)
    right = xp.maximum(-b, 0) + xp.log1p(e_b)
    da = above * (xp.maximum(e_a, a > 0) / (1 + e_a))
    db = below * (xp.maximum(e_b, b < 0) / (1 + e_b))  # with the other sign
    inside = above & below
    terms = above * left + below * right - inside * xp.log(-xp.expm1(-width))
    return terms, (db - da) * inverse, db * b - da * a + inside * (width / xp.expm1(width))


class DiscretizedLogistic(Likelihood):
    """A logistic distribution (mu, s) integrated over each of 256 grey levels. [Kingma et al. 2016]

    Level x has the probability sigma(b) - sigma(a) with a, b = (x -+ 1/510 - mu) / s; the darkest level begins at
    minus infinity and the lightest ends at infinity. With sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - e^(a - b)),

        -log p = softplus(-b) [x < 1] + softplus(a) [x > 0] - log(1 - e^(-1 / 255 s)) [0 < x < 1]

    which neither overflows nor cancels. The decoder gives mu and log s for each channel.
    """

    channels = 2
    floor = -7.0  # of log s: a tenth of a grey level and less tell nothing apart
    ceiling = 60.0  # of log s: beyond it 1 / s is no longer a float32

    def _nll(self, output: Tensor, x: Tensor, axis: Any) -> Tensor:
        mu, log_s = self._numbers(output, 1 - x.ndim)
        terms = _level(mu, log_s, x)
        return terms.sum(axis=axis) if axis != () else terms

    def _numbers(self, output: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        mu, raw = ops.split(output, 2, axis=axis)
        return mu, ops.minimum(self.floor + ops.softplus(raw - self.floor), self.ceiling)

    def mean(self, output: Tensor, ndim: int) -> Tensor:
        """E[x], to half a grey level: 1 less the integral of the distribution function over [0, 1],
        s (softplus(mu / s) - softplus((mu - 1) / s)), and sigma((mu - 1/2) / s) where s is so large that it cancels.
        """
        mu, log_s = self._numbers(output, -ndim)
        wide = log_s.data > 4
        s = ops.exp(ops.where(wide, 0.0, log_s))
        narrow = s * (ops.softplus(mu / s) - ops.softplus((mu - 1.0) / s))
        return ops.clip(ops.where(wide, ops.sigmoid((mu - 0.5) * ops.exp(-log_s)), narrow), 0.0, 1.0)


class SquaredError(Likelihood):
    """N(output, 1/2) without its constant: -log p is the sum of squared errors."""

    interval = None
    whole = False

    def _nll(self, output: Tensor, x: Tensor, axis: Any) -> Tensor:
        d = output - x
        return (d * d).sum(axis=axis) if axis != () else d * d

    def mean(self, output: Tensor, ndim: int) -> Tensor:
        return output


class Multinomial(Likelihood):
    """Counts x (N, V) of words drawn from softmax(output), without the coefficient that no parameter changes."""

    interval = (0.0, math.inf)
    whole = False

    def _nll(self, output: Tensor, x: Tensor, axis: Any) -> Tensor:
        if x.ndim != 2:
            raise InputError(
                f"the multinomial likelihood takes word counts (N, V), not data of shape {x.shape}: choose another one."
            )
        terms = -x * ops.log_softmax(output)
        return terms.sum(axis=axis) if axis != () else terms

    def mean(self, output: Tensor, ndim: int) -> Tensor:
        """Of a single word."""
        return ops.softmax(output)


LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "logistic": DiscretizedLogistic,
    "squared-error": SquaredError,
    "multinomial": Multinomial,
}


def likelihood(name: str, variance: float | str | None = None) -> Likelihood:
    """A likelihood by its name; variance belongs to the Gaussian one."""
    if name not in LIKELIHOODS:
        raise InputError(f"unknown likelihood '{name}': choose one of {', '.join(LIKELIHOODS)}.")
    if variance is None:
        made: Likelihood = LIKELIHOODS[name]()
        return made
    if name != "gaussian":
        raise InputError(f"variance {variance} belongs to the gaussian likelihood, not to {name}: leave it out.")
    return Gaussian(variance)
