"""Gradients of an expectation with respect to the parameters of its distribution, for one family after another.

    python demos/13_reparameterisation_families.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    pathwise         d f(x) / d theta, along x = x(theta, noise)
        location and scale    x = mu + s e         Normal, Laplace, Logistic, Gumbel
        inverse CDF           x = F^-1(u)          Exponential
        composed              x = e^(mu + s e)     LogNormal
        implicit              F(x; theta) = u      Gamma, Beta, Student's t [Figurnov et al. 2018]
    score function   f(x) d log p(x; theta) / d theta                      [Williams 1992]

Both are right in the mean; which varies less depends on f [Mohamed et al. 2020]. Here f(x) = (x - c)^2, c the mean
brightness of the --train images, and then sin(k x), ever faster. --epochs: how many times 1,000 samples.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import Tensor, ops
from minivae import distributions as d
from minivae.plots import COLOURS

FAMILIES = {  # name: the family, its parameters, and which of them is theta
    "Normal, mu": (d.Normal, (0.7, -0.5), 0),
    "Normal, logvar": (d.Normal, (0.7, -0.5), 1),
    "Laplace, scale": (d.Laplace, (0.7, 0.6), 1),
    "Logistic, scale": (d.Logistic, (0.7, 0.4), 1),
    "Gumbel, loc": (d.Gumbel, (0.7, 0.6), 0),
    "Exponential, rate": (d.Exponential, (1.3,), 0),
    "LogNormal, mu": (d.LogNormal, (-0.5, -1.5), 0),
    "Gamma, shape": (d.Gamma, (1.7, 2.0), 0),
    "Beta, a": (d.Beta, (1.7, 2.3), 0),
    "Student's t, df": (d.StudentT, (9.0, 0.7, 0.6), 0),
}


def estimates(family, parameters, which, f, n, rng):
    """One gradient from each of n samples, by each estimator."""
    leaves = [Tensor(np.full(n, value), requires_grad=i == which) for i, value in enumerate(parameters)]
    theta = leaves[which]
    x = family(*leaves).rsample((), rng)
    value = f(x)
    value.sum().backward()
    pathwise, theta.grad = theta.grad, None
    family(*leaves).log_prob(x.detach()).sum().backward()
    return {"pathwise": pathwise, "score function": value.data * theta.grad}


def exact(family, parameters, which, c):
    """d E[(x - c)^2] / d theta from the mean and the variance."""
    leaves = [Tensor(np.array(value), requires_grad=i == which) for i, value in enumerate(parameters)]
    p = family(*leaves)
    (p.variance() + (p.mean() - c) ** 2.0).backward()
    return float(leaves[which].grad)


def main(dataset, epochs, path):
    n, c = 1000 * epochs, float(dataset.train.images.mean()) / 255
    rng = np.random.default_rng(0)
    print(f"d E[(x - {c:.3f})^2] / d theta: exact; from {n:,} samples, with the standard error; the variance of one")
    variances = {}
    for name, (family, parameters, which) in FAMILIES.items():
        found = estimates(family, parameters, which, lambda x: (x - c) ** 2.0, n, rng)
        variances[name] = [g.var() for g in found.values()]
        told = [f"{g.mean():8.4f} +- {g.std() / n**0.5:.4f} {g.var():9.3f}" for g in found.values()]
        print(f"  {name:18} {exact(family, parameters, which, c):8.4f}", *told)
    ks = 2.0 ** np.arange(-3, 5)
    fast = [estimates(d.Normal, (0.7, 0.0), 0, lambda x, k=k: ops.sin(k * x), n, rng) for k in ks]
    curves = {name: [found[name].var() for found in fast] for name in fast[0]}
    draw(variances, ks, curves, path)
    print(f"\n{path}")


def draw(variances, ks, curves, path):
    figure = Figure((12, 5), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    y = np.arange(len(variances))[::-1]
    values = np.array(list(variances.values()))
    for i, (estimator, marker) in enumerate((("pathwise", "o"), ("score function", "s"))):
        left.plot(values[:, i], y, marker, color=COLOURS[3 * i], label=estimator)
        right.loglog(ks, curves[estimator], f"{marker}-", color=COLOURS[3 * i], label=estimator)
    left.hlines(y, *np.sort(values).T, color="0.7", zorder=0)
    for height, (pathwise, score) in zip(y, values, strict=True):
        left.text(1.3 * max(pathwise, score), height, f"x {score / pathwise:.0f}", va="center")
    left.set_xscale("log")
    left.set_xlim(right=8 * values.max())
    left.set(title="f(x) = (x - c)²: the path varies less", xlabel="variance of one gradient", yticks=y)
    left.set_yticklabels(variances)
    right.set(title="f(x) = sin(k x), x ~ N(μ, 1): not when f is wild", xlabel="k", ylabel="variance of one gradient")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=2000, epochs=100)
