"""Measures of codes, scores and bounds: NumPy arrays in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np

from minivae import ops
from minivae.data.dataset import Array
from minivae.tensor import Tensor


def auroc(negative: Any, positive: Any) -> float:
    """The area under the ROC curve: how often a positive's score is above a negative's, a tie counting half.

    negative (N,), positive (M,): scores; 0.5 is chance. It is the Mann-Whitney U statistic divided by N M.
    [Hanley & McNeil 1982] Raises ValueError where either is empty or holds NaN.
    """
    negative, positive = np.sort(np.ravel(negative)), np.ravel(positive)
    if not negative.size or not positive.size or np.isnan(negative).any() or np.isnan(positive).any():
        raise ValueError(
            f"auroc was given {negative.size} negative and {positive.size} positive scores, "
            f"{np.isnan(negative).sum() + np.isnan(positive).sum()} of them NaN: give at least one number of each."
        )
    below, not_above = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * negative.size))


def nearest_neighbour_accuracy(
    codes: Any, labels: Any, test_codes: Any, test_labels: Any, k: int = 1, chunk: int = 500
) -> float:
    """The share of test codes whose k nearest codes are, most of them, of their label. [Cover & Hart 1967]

    codes (N, ...) and test_codes (M, ...) are compared by their Euclidean distance; a tied vote goes to the
    lower label. chunk: how many test codes are compared at once. Raises ValueError where the shapes do not
    agree, a code is not finite, or k is not in 1..N.
    """
    x, y, test_x, test_y, classes = _labelled("nearest_neighbour_accuracy", codes, labels, test_codes, test_labels)
    if not 1 <= k <= len(x):
        raise ValueError(f"k = {k} neighbours were asked of {len(x)} codes: give a number from 1 to {len(x)}.")
    square = np.sum(x * x, axis=1)
    right = 0
    for i in range(0, len(test_x), chunk):
        distances = square - 2 * test_x[i : i + chunk] @ x.T  # squared, less |test code|^2, which is one for all x
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        votes = np.sum(y[nearest][..., None] == np.arange(classes), axis=1)
        right += np.sum(votes.argmax(1) == test_y[i : i + chunk])
    return float(right / len(test_x))


def linear_probe(
    codes: Any, labels: Any, test_codes: Any, test_labels: Any, l2: float = 1.0, steps: int = 200
) -> float:
    """The test accuracy of a linear classifier of the codes: multinomial logistic regression. [Alain & Bengio 2017]

    It minimises the sum of the cross-entropies + l2/2 |W|^2 by at most so many steps of L-BFGS. The codes (N, ...)
    are first standardised by the mean and the deviation of the training ones. Raises ValueError where the
    shapes do not agree, or a code is not finite.
    """
    from scipy.optimize import minimize

    x, y, test_x, test_y, classes = _labelled("linear_probe", codes, labels, test_codes, test_labels)
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation <= 1e-9 * np.abs(x).max(0)] = 1  # a code that never changes, but for rounding, says nothing
    x, test_x = (x - mean) / deviation, (test_x - mean) / deviation
    shape = (classes, x.shape[1] + 1)  # a row of weights, then the bias, for each class

    def parameters(theta: Array) -> tuple[Tensor, Tensor, Tensor]:
        leaf = Tensor(theta.reshape(shape), requires_grad=True)
        return leaf, leaf[:, :-1], leaf[:, -1]

    def loss(theta: Array) -> tuple[float, Array]:
        leaf, weight, bias = parameters(theta)
        total = ops.cross_entropy(ops.linear(x, weight, bias), y).sum() + l2 / 2 * (weight * weight).sum()
        total.backward()
        assert leaf.grad is not None  # for the type checker: backward() has just set it  # nosec B101
        return total.item() / len(x), leaf.grad.ravel() / len(x)

    best = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    _, weight, bias = parameters(best)
    return float(np.mean(ops.linear(test_x, weight, bias).data.argmax(1) == test_y))


def active_units(mu: Any, threshold: float = 0.01) -> int:
    """How many latents the encoder uses: those whose posterior mean varies by more than the threshold over the data.

    mu (N, latent). Var_x(E[z | x]) > 0.01. [Burda et al. 2016, section 5.2]
    """
    return int(np.sum(np.var(np.asarray(mu, np.float64), axis=0) > threshold))


def mutual_information(mu: Any, logvar: Any, rng: Any, chunk: int = 500) -> float:
    """I(x; z) in nats of N images, each with q(z | x) = N(mu, e^logvar), estimated with one code z for each.

    mu, logvar (N, latent). E_x KL(q(z | x) || p(z)) - KL(q(z) || p(z)) = E[log q(z | x)] - E[log q(z)] for any p, where
    q(z) is the mean of q(z | x) over the N images. Both means are of the same codes, whose noise so cancels: where
    nothing is told the estimate is 0, and it is never above log N. [Hoffman & Johnson 2016; He et al. 2019]
    rng: a NumPy generator.
    """
    mu, logvar = (np.asarray(a, np.float64) for a in (mu, logvar))
    z = mu + np.exp(logvar / 2) * rng.standard_normal(mu.shape)
    precision = np.exp(-logvar)
    constant = (mu * mu * precision + logvar).sum(axis=1)
    total = 0.0
    for i in range(0, len(z), chunk):
        part = z[i : i + chunk]
        log_q = -0.5 * (part * part @ precision.T - 2 * part @ (mu * precision).T + constant)  # of code, of image
        own = np.diagonal(log_q, i)[:, None]
        most = log_q.max(axis=1, keepdims=True)
        total += float((own - most - np.log(np.exp(log_q - most).mean(axis=1, keepdims=True))).sum())
    return total / len(z)


def perplexity(counts: Any) -> float:
    """e^H of the distribution that the counts (K,) are of: K where all are equal, 1 where one has all.

    Raises ValueError where there is nothing to count.
    """
    counts = np.asarray(counts, np.float64)
    if not counts.sum() > 0 or counts.min() < 0:
        raise ValueError(f"perplexity was given counts of shape {counts.shape} without a positive sum: count first.")
    p = counts[counts > 0] / counts.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def _labelled(name: str, codes: Any, labels: Any, test_codes: Any, test_labels: Any) -> tuple[Any, ...]:
    """Codes as rows of float64, labels counted from 0, and the number of classes; ValueError where they cannot be."""
    x, y, test_x, test_y = (np.asarray(a) for a in (codes, labels, test_codes, test_labels))
    if y.shape != x.shape[:1] or test_y.shape != test_x.shape[:1] or x.shape[1:] != test_x.shape[1:]:
        raise ValueError(
            f"{name} was given codes {x.shape} with labels {y.shape}, and test codes {test_x.shape} with labels "
            f"{test_y.shape}: each code needs one label, and both sets of codes the same shape."
        )
    if not len(x) or not len(test_x):
        raise ValueError(f"{name} was given {len(x)} codes and {len(test_x)} test codes: give at least one of each.")
    if not (np.isfinite(x).all() and np.isfinite(test_x).all()):
        raise ValueError(f"{name} was given codes that are not all finite: did the training of the model diverge?")
    kinds, y = np.unique(np.concatenate([y, test_y]), return_inverse=True)
    flat, test_flat = (a.reshape(len(a), -1).astype(np.float64) for a in (x, test_x))
    return flat, y[: len(x)], test_flat, y[len(x) :], len(kinds)
