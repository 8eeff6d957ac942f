"""Samples and their gradients, against distribution functions and closed forms. No data, no training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from experiments.lab import Finding, Lab, experiment
from minivae import Tensor
from minivae import distributions as d

N = 100_000
FAMILIES: dict[str, tuple[Any, tuple[float, ...]]] = {
    "Normal": (d.Normal, (0.7, -0.5)),
    "Laplace": (d.Laplace, (0.7, 1.3)),
    "Logistic": (d.Logistic, (0.7, 1.3)),
    "Uniform": (d.Uniform, (0.7, 2.6)),
    "Exponential": (d.Exponential, (1.7,)),
    "Gumbel": (d.Gumbel, (0.7, 1.3)),
    "Log-normal": (d.LogNormal, (0.3, -2.0)),
    "Student-t": (d.StudentT, (11.0, 0.7, 1.3)),
    "Gamma": (d.Gamma, (1.7, 0.6)),
    "Beta": (d.Beta, (0.8, 2.3)),
}
DIRICHLET = (0.4, 1.0, 2.5)


@experiment("reparameterisations", "Location-scale, inverse-CDF and composed reparameterisations", "-")
def reparameterisations(lab: Lab) -> Finding:
    """The mean pathwise gradients of x and x^2 with respect to each parameter, and those of E[x] and E[x^2]."""
    off = {name: max(abs(z) for z in deviations(*family)) for name, family in FAMILIES.items()}
    off["Dirichlet"] = max(abs(z) for z in dirichlet_deviations())
    comparisons = 2 * sum(len(parameters) for _, parameters in FAMILIES.values()) + 2 * len(DIRICHLET)
    limit = float(stats.norm.isf(0.0005 / comparisons))  # any of them exceeds it for one seed of a thousand
    worst = max(off, key=lambda name: off[name])
    return Finding(
        f"{', '.join(off)}; d/d(parameter) of x and x^2, {N:,} samples, {comparisons} comparisons",
        f"at most {off[worst]:.1f} standard errors from the gradients of E[x] and E[x^2] ({worst})",
        f"within {limit:.1f} standard errors, which right gradients exceed in one run of 1,000",
        off[worst] < limit,
        numbers=off,
    )


def deviations(family: Any, parameters: tuple[float, ...]) -> list[float]:
    """Mean pathwise gradient less that of the closed form, in standard errors, for each moment and parameter."""
    found = []
    for power in (1, 2):
        exact = [Tensor(np.array(value), requires_grad=True) for value in parameters]
        p = family(*exact)
        (p.mean() if power == 1 else p.variance() + p.mean() ** 2.0).backward()
        each = [Tensor(np.full(N, value), requires_grad=True) for value in parameters]
        (family(*each).rsample(rng=np.random.default_rng(power)) ** float(power)).sum().backward()
        found += [standard_errors(a.grad, b.grad) for a, b in zip(each, exact, strict=True)]
    return found


def dirichlet_deviations() -> list[float]:
    """The same for the first coordinate of a Dirichlet vector."""
    found = []
    for power in (1, 2):
        exact = Tensor(np.array(DIRICHLET), requires_grad=True)
        p = d.Dirichlet(exact)
        (p.mean() if power == 1 else p.variance() + p.mean() ** 2.0)[0].backward()
        each = Tensor(np.tile(DIRICHLET, (N, 1)), requires_grad=True)
        (d.Dirichlet(each).rsample(rng=np.random.default_rng(power))[:, 0] ** float(power)).sum().backward()
        found += [standard_errors(each.grad[:, i], exact.grad[i]) for i in range(len(DIRICHLET))]  # type: ignore[index]
    return found


def standard_errors(gradients: Any, truth: Any) -> float:
    """How far the mean of gradients (N,) lies from the truth; None is a gradient of 0."""
    difference = (0.0 if gradients is None else gradients) - (0.0 if truth is None else float(truth))
    mean, spread = float(np.mean(difference)), float(np.std(difference))
    return mean / (spread / math.sqrt(N) + 1e-12)


@experiment("sampling", "Sampling from densities (discrete inverse CDF, inverse transform, rejection)", "-")
def sampling(lab: Lab) -> Finding:
    """Kolmogorov-Smirnov: the largest distance of the samples' distribution function from the one asked for."""
    rng = np.random.default_rng(0)
    p = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    classes = d.Categorical(np.log(p)).sample((N,), rng).numpy()
    kept = rejected(lambda x: 12 * x * (1 - x) ** 2, 16 / 9, rng)
    logistic = d.Logistic(0.7, 1.3).sample((N,), rng).numpy().astype(float)
    distances = {
        "discrete": float(np.abs(np.cumsum(np.bincount(classes, minlength=5) / N - p)).max()),
        "inverse transform": float(stats.kstest(logistic, stats.logistic(0.7, 1.3).cdf).statistic),
        "rejection": float(stats.kstest(kept, stats.beta(2, 3).cdf).statistic),
    }
    limit = float(stats.kstwo.isf(0.001 / 3, N))
    wrong = float(stats.kstest(rejected(lambda x: 12 * x * (1 - x) ** 2, 1.4, rng), stats.beta(2, 3).cdf).statistic)
    return Finding(
        f"5 classes; a logistic density by F^-1(u); a beta density under a constant; {N:,} samples of each",
        "Kolmogorov-Smirnov distance " + ", ".join(f"{name} {value:.4f}" for name, value in distances.items()),
        f"below {limit:.4f}, which right samplers exceed in one run of 1,000; above it if the constant is too small",
        max(distances.values()) < limit < wrong,
        note=f"Rejection under a constant that is too small: {wrong:.4f}",
        numbers=distances | {"rejection, wrong": wrong},
    )


def rejected(density: Any, peak: float, rng: Any) -> Any:
    """N samples in (0, 1) of a density that is below peak: of uniform points (x, y), the x of those under it."""
    x, y = rng.random((2, 4 * N))
    return x[y * peak < density(x)][:N]
