"""The weight of the KL: rate against distortion, schedules that aim at a rate, and disentanglement."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from experiments.lab import Finding, Lab, batches, encoded, experiment, with_variance
from minivae import data, disentanglement
from minivae.data import Split
from minivae.data.sprites import FACTORS, render
from minivae.train import Options

SHORT = Options(epochs=5, batch_size=128, lr=1e-3)


@experiment("beta-vae", "beta-VAE: rate and distortion")
def beta_vae(lab: Lab) -> Finding:
    """The larger beta, the fewer nats of code and the worse the image. [Higgins et al. 2017]"""
    betas = (0.25, 1.0, 4.0, 10.0)
    terms = [lab.test(lab.fitted("vae", SHORT, beta=beta)) for beta in betas]
    rates = [term["kl"] for term in terms]
    distortions = [term["reconstruction"] for term in terms]
    monotone = all(a > b for a, b in pairwise(rates)) and all(a < b for a, b in pairwise(distortions))
    return Finding(
        "784-400-20, grey targets, Adam 1e-3, 5 epochs, beta " + ", ".join(f"{beta:g}" for beta in betas),
        "KL " + ", ".join(f"{rate:.1f}" for rate in rates)
        + "; reconstruction " + ", ".join(f"{distortion:.1f}" for distortion in distortions),
        "KL falls and reconstruction rises with beta",
        monotone,
        numbers={f"kl at {beta:g}": rate for beta, rate in zip(betas, rates, strict=True)}
        | {f"reconstruction at {beta:g}": d for beta, d in zip(betas, distortions, strict=True)},
    )  # fmt: skip


@experiment("kl-schedules", "Annealed KL, free bits, capacity")
def schedules(lab: Lab) -> Finding:
    """Three ways to steer the KL: each must come out where it aims.

    Annealing ends at the true bound [Bowman et al. 2016]; free bits leave each latent at least so many nats
    [Kingma et al. 2016]; a capacity draws the whole KL to a value [Burgess et al. 2018].
    """
    free, capacity = 0.5, 15.0
    plain = lab.test(lab.fitted("vae", SHORT))["loss"]
    annealed = lab.test(lab.fitted("vae", Options(epochs=5, batch_size=128, lr=1e-3, anneal=2)))["loss"]
    with_bits = lab.fitted("vae", SHORT, free_bits=free)
    each = np.mean([latent_kl(with_bits, x) for x in batches(lab.data.test).epoch(0)], axis=0)
    rate = lab.test(lab.fitted("vae", SHORT, capacity=capacity, beta=20.0))["kl"]
    return Finding(
        f"784-400-20, 5 epochs; beta from 0 to 1 over 2; {free} free nats for each latent; capacity {capacity:g}",
        f"annealed -ELBO {annealed:.2f}; least KL of a latent {each.min():.2f}; KL {rate:.2f}",
        f"within 1 nat of beta = 1 throughout ({plain:.2f}); at least {0.9 * free:.2f}; {capacity:g} ± 1",
        bool(annealed < plain + 1 and each.min() >= 0.9 * free and abs(rate - capacity) <= 1),
        "too few epochs for a CPU's budget",
        numbers={"annealed": annealed, "plain": plain, "least kl": float(each.min()), "kl at capacity": rate},
    )


def latent_kl(model: Any, x: Any) -> Any:
    """The mean KL of each latent over images, (latent,)."""
    mu, logvar = (t.numpy() for t in model.posterior(x))
    return (0.5 * (np.exp(logvar) + mu**2 - 1 - logvar)).mean(axis=0)


@experiment("beta-score", "beta-VAE: disentanglement", data="sprites")
def beta_score(lab: Lab) -> Finding:
    """With more weight on the KL, latents that follow one factor each are cheaper. [Higgins et al. 2017]"""
    dataset = lab.cut(data.sprites(train=24_000, test=2_000))
    options = Options(epochs=12, batch_size=64, lr=1e-3)
    sizes: dict[str, Any] = {"arch": "conv", "channels": (16, 32, 32, 32), "hidden": (128,), "activation": "gelu"}
    model = with_variance(lab.build("beta-vae", dataset, beta=4.0, **sizes), 1.5)
    lab.train(model, options, dataset)
    rng = np.random.default_rng(lab.seed)
    world = disentanglement.Renderer(lambda x: encoded(model, Split(x)), render, FACTORS)
    score = disentanglement.beta_vae_score(world, rng, train=1500, test=500)
    return Finding(
        "conv 16-32-32-32, 128, code 10, GELU, Bernoulli, beta 4, 24,000 images, Adam 1e-3, batch 64, 12 epochs; "
        "1,500 training and 500 test points of 64 pairs",
        f"BetaVAE score {score:.3f}",
        "at least 0.80 (chance 0.20)",
        score >= 0.8,
        "too few epochs for a CPU's budget",
        numbers={"score": score, **lab.test(model, dataset)},
    )
