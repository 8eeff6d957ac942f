"""The papers' own setups, for a GPU: hours there, days on a CPU. `python demos/results.py --preset paper`

With MINIVAE_BACKEND=cupy they run on a GPU. Until one of these rows has been run, the table says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from experiments.codes import variance
from experiments.factors import LOSSES, compared
from experiments.lab import Finding, Lab, experiment, with_variance
from experiments.priors import prior_of
from minivae.train import Options

STAGES = 8  # of 3^i epochs each, i = 0, 1, ...: 3,280 in all


@experiment(
    "iwae-paper", "VAE and IWAE, 3,280 epochs", preset="paper", required="86.76, 84.78 within 0.3 [Burda et al. 2016]"
)
def iwae(lab: Lab) -> Finding:
    """Ever longer stages at ever smaller steps: 3^i epochs at 10^(-3 - i/7). [Burda et al. 2016, section 5]"""
    published = {1: 86.76, 50: 84.78}
    nll = {}
    for k in published:
        model = with_variance(lab.build("iwae", k=k, hidden=(200, 200), activation="tanh", latent=50), 1)
        for i in range(STAGES):
            lab.train(model, Options(epochs=3**i, batch_size=20, lr=10 ** (-3 - i / 7), binarize=True))
        nll[k] = lab.test(model, binarize=True, samples=5000, batch_size=20)["nll"]
    return Finding(
        "784-200-200-50 tanh, dynamic binarisation, Adam, batch 20, 8 stages of 3^i epochs; -log p(x) by 5,000 samples",
        f"VAE {nll[1]:.2f}, IWAE-50 {nll[50]:.2f}",
        "86.76, 84.78 within 0.3 [Burda et al. 2016]",
        lab.published(all(abs(nll[k] - value) <= 0.3 for k, value in published.items())),
        numbers={"vae": nll[1], "iwae": nll[50]},
    )


@experiment(
    "vqvae-cifar10-paper", "VQ-VAE, colour, with its prior", "cifar10", "paper",
    "at most 0.057, perplexity 300 or more [Sonnet, 10,000 steps of batch 32: 0.056, 326]",
)  # fmt: skip
def vqvae_cifar10(lab: Lab) -> Finding:
    """10,000 steps of a wide network with residual blocks, and a PixelCNN of its codes. [van den Oord et al. 2017]"""
    cifar = lab.load("cifar10")
    epochs = -(-10_000 * 32 // len(cifar.train))
    sizes: dict[str, Any] = {"codes": 512, "dim": 64, "channels": (64, 128), "residual_blocks": 2}
    codec = lab.build("vqvae", cifar, data_variance=variance(cifar), **sizes)
    found = lab.test(lab.train(codec, Options(epochs=epochs, batch_size=32, lr=3e-4), cifar), cifar)
    prior = prior_of(lab, codec, Options(epochs=50, batch_size=128, lr=1e-3, lr_schedule="cosine"), 128, 12, cifar)
    per_code = lab.test(prior, prior.examples(cifar))["nats_per_code"]
    return Finding(
        f"8x8 codes, K=512, D=64, conv 64-128 with 2 residual blocks, Adam 3e-4, batch 32, {epochs} epochs; PixelCNN "
        "of 12 layers of 128 channels, 50 epochs",
        f"test error / variance {found['reconstruction']:.4f}, perplexity {found['perplexity']:.0f}; prior "
        f"{per_code:.3f} nats per code",
        "at most 0.057, perplexity 300 or more [Sonnet, 10,000 steps of batch 32: 0.056, 326]",
        found["reconstruction"] <= 0.057 and found["perplexity"] >= 300,
        numbers=found | {"nats per code": per_code},
    )


@experiment(
    "disentanglement-dsprites", "beta-VAE, beta-TCVAE, FactorVAE: disentanglement", "dsprites", "paper",
    "median MIG of beta-TCVAE and FactorVAE above the beta-VAE's [Chen et al. 2018; Kim & Mnih 2018]",
)  # fmt: skip
def disentanglement(lab: Lab) -> Finding:
    """All of dSprites, ten seeds of each loss."""
    dataset = lab.load("dsprites")
    few = replace(dataset, test=dataset.test[np.random.default_rng(lab.seed).permutation(len(dataset.test))[:10_000]])
    losses = LOSSES | {"beta-tcvae": LOSSES["beta-tcvae"] | {"data_size": len(dataset.train)}}
    sizes: dict[str, Any] = {"arch": "conv", "hidden": (256,), "activation": "relu", "latent": 10}
    setup = "conv 16-32-64-64, 256, code 10, all images, Adam 5e-4, batch 64, 30 epochs; beta 4, gamma 10"
    return compared(lab, few, losses, sizes, Options(epochs=30, batch_size=64, lr=5e-4), 10, setup)
