"""From uniform numbers to samples of any density: three ways, each held against what it should give.

    python demos/12_sampling_densities.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    discrete      the first i at which the sum p_1 + ... + p_i passes u: pixels, drawn as often as they are inked
    transform     x = F^-1(u), of a Gumbel density
    rejection     x uniform, kept if u M < p(x), for M above all p: of a beta density. With M too small it lies.

The Kolmogorov-Smirnov distance D = max |F_n(x) - F(x)| of n samples from the distribution function F falls as
1 / sqrt(n), if they are samples of F at all. --train: of how many images the ink is taken; --epochs: how often each
sampler is tested anew.
"""

import math

import demo
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from minivae.data import Batches
from minivae.distributions import Beta, Gumbel
from minivae.plots import COLOURS

N = 5000  # samples
PEAK, LOW = 1.8, 1.2  # M: above the beta density, which reaches 16/9 at x = 1/3, and too small
CRITICAL = math.sqrt(-0.5 * math.log(0.01 / 2) / N)  # D passes it for one of a hundred right samplers


def discrete(p, n, rng):
    """Indices i with the probabilities p_i: how many steps of the distribution function lie below u."""
    return np.searchsorted(np.cumsum(p)[:-1], rng.random(n), side="right")


def transform(quantile, n, rng):
    return quantile(rng.random(n))


def rejection(density, peak, n, rng):
    """Points under the density among uniform ones in the unit interval times [0, peak]; and the share of them."""
    kept, tried = [], 0
    while sum(map(len, kept)) < n:
        x, u = rng.random((2, n))
        kept.append(x[u * peak < density(x)])
        tried += n
    return np.concatenate(kept)[:n], sum(map(len, kept)) / tried


def main(dataset, epochs, path):
    ink = np.mean([x.mean(axis=0)[0] for x in Batches(dataset.train, 100, shuffle=False).epoch(0)], axis=0)
    p = (ink / ink.sum()).ravel().astype(float)
    gumbel, beta = Gumbel(0.0, 1.0), Beta(np.array(2.0), np.array(3.0))

    def beta_density(x):
        return np.exp(beta.log_prob(x).numpy())

    rng = np.random.default_rng(1)
    samplers = {  # name: samples, and the distribution function
        "discrete": (lambda: discrete(p, N, rng), lambda i: np.cumsum(p)[i.astype(int)]),
        "transform": (lambda: transform(lambda u: -np.log(-np.log(u)), N, rng), lambda x: np.exp(-np.exp(-x))),
        "rejection": (lambda: rejection(beta_density, PEAK, N, rng)[0], stats.beta(2, 3).cdf),
        "rejection, M too small": (lambda: rejection(beta_density, LOW, N, rng)[0], stats.beta(2, 3).cdf),
    }
    samples = {name: sample() for name, (sample, _) in samplers.items()}
    passed = {}
    print(f"{N:,} samples: D; how often it passes {CRITICAL:.4f}, critical at the level of 1%, in {epochs} repetitions")
    for name, (sample, cdf) in samplers.items():
        passed[name] = np.mean([distance(sample(), cdf) > CRITICAL for _ in range(epochs)])
        print(f"  {name:24} {distance(samples[name], cdf):.4f} {passed[name]:8.1%}")
    share = rejection(beta_density, PEAK, N, rng)[1]
    print(f"Rejection keeps {share:.1%} of what it tries; 1 / M = {1 / PEAK:.1%}")
    draw(ink, samples, passed, samplers, {"transform": (gumbel, -3, 8), "rejection": (beta, 0, 1)}, path)
    print(f"\n{path}")


def gaps(x, cdf):
    """The points at which samples lie, F_n - F there, and (for numbers, not for indices) just before."""
    points, counts = np.unique(x, return_counts=True)
    gap = np.cumsum(counts) / len(x) - cdf(points)
    return points, gap, gap - counts / len(x) if x.dtype.kind == "f" else gap


def distance(x, cdf):
    """Kolmogorov-Smirnov's D."""
    _, at, before = gaps(x, cdf)
    return max(abs(at).max(), abs(before).max())


def draw(ink, samples, passed, samplers, densities, path):
    figure = Figure((13, 7.5), dpi=150, layout="constrained")
    (first, *others), (below, *gapped) = figure.subplots(2, 3)
    rows, columns = np.divmod(samples["discrete"], ink.shape[1])
    jitter = np.random.default_rng(7).uniform(-0.4, 0.4, (2, N))
    first.imshow(ink, cmap="Greys")
    first.plot(columns + jitter[0], rows + jitter[1], ".", ms=2, color=COLOURS[3])
    first.set(title="Discrete: pixels, as often as they are inked", xticks=[], yticks=[])
    for axes, (name, (density, low, high)) in zip(others, densities.items(), strict=True):
        x = np.linspace(low, high, 302)[1:-1]
        for kind, i in ((name, 0), ("rejection, M too small", 3))[: 1 + (name == "rejection")]:
            height, edges = np.histogram(samples[kind], 50, (low, high))
            axes.stairs(height / N / (edges[1] - edges[0]), edges, lw=1.5, color=COLOURS[i], label=kind)
        axes.plot(x, np.exp(density.log_prob(x).numpy()), "k", label="the density")
        axes.set(title={"transform": "Transform: x = F⁻¹(u)", "rejection": "Rejection: kept below p"}[name], xlabel="x")
        axes.legend(frameon=False)
    for axes, names in zip((below, *gapped), (["discrete"], ["transform"], list(samples)[2:]), strict=True):
        for i, name in zip((0, 3), names, strict=False):
            x, gap, _ = gaps(samples[name], samplers[name][1])
            axes.plot(x, gap, lw=1, color=COLOURS[i], label=f"{name}: outside {passed[name]:.1%}")
        axes.axhspan(-CRITICAL, CRITICAL, color="0.9", zorder=0, label="critical band: outside 1%")
        axes.set_ylim(-2.6 * CRITICAL, 3 * CRITICAL)
        axes.set(xlabel="pixel" if names == ["discrete"] else "x", ylabel="Fₙ - F")
        axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=2000, epochs=200)
