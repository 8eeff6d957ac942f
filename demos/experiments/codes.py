"""VQ-VAE: images as small maps of codes, codebooks that collapse, and their remedies. [van den Oord et al. 2017]"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.lab import Finding, Lab, experiment, pixels
from minivae.data import Dataset
from minivae.errors import InputError
from minivae.train import Options


def variance(dataset: Dataset) -> float:
    """The variance of the training pixels: errors divided by it are 1 for the best constant image."""
    return float(pixels(dataset.train).var())


@experiment("vqvae", "VQ-VAE")
def vqvae(lab: Lab) -> Finding:
    """784 pixels as 7x7 codes of 7 bits; the codebook is a running mean of what is assigned to it."""
    options = Options(epochs=30, batch_size=128, lr=1e-3, lr_schedule="cosine")
    found = lab.test(lab.fitted("vqvae", options, data_variance=variance(lab.data)))
    error = found["reconstruction"]
    return Finding(
        "7x7 codes, K=128, D=16, conv 32-64, EMA codebook, Adam 1e-3 to 0, batch 128, 30 epochs",
        f"test error / variance {error:.4f}, perplexity {found['perplexity']:.0f}",
        "at most 0.045 [Keras example: 0.0444]",
        lab.published(error <= 0.045),
        "the codebook is used too little",
        numbers=found,
    )


@experiment("vqvae-cifar10", "VQ-VAE, colour", data="cifar10")
def vqvae_cifar10(lab: Lab) -> Finding:
    """The paper's setup is 10,000 steps of a wide network: for a GPU. Here what a CPU does in minutes."""
    published = "at most 0.057, perplexity 300 or more [Sonnet, 10,000 steps of batch 32: 0.056, 326]; on a GPU"
    try:
        cifar = lab.load("cifar10")
    except InputError as error:
        return Finding("-", "not run", published, None, note=str(error).rstrip("."))
    cifar = replace(cifar, test=cifar.test[:2000])
    model = lab.build("vqvae", cifar, codes=512, dim=64, channels=(32, 64), data_variance=variance(cifar))
    found = lab.test(lab.train(model, Options(epochs=3, batch_size=64, lr=1e-3), cifar), cifar)
    return Finding(
        "8x8 codes, K=512, D=64, conv 32-64, EMA codebook, Adam 1e-3, batch 64, 3 epochs of 20,000 images",
        f"test error / variance {found['reconstruction']:.3f}, perplexity {found['perplexity']:.0f}",
        published,
        None,
        note="A short run on a CPU; the setup that is required was not run here",
        numbers=found,
    )


@experiment("codebook-use", "k-means initialisation, dead-code restart, FSQ, rotation trick")
def codebook_use(lab: Lab) -> Finding:
    """Codes that no vector is near are never moved: most of a plain codebook dies at the start.

    Beginning with k-means of the first batch and moving dead codes to vectors keeps all in use; FSQ has no codebook
    that could die; the rotation trick only changes how gradients pass. [Fifty et al. 2024]
    """
    few = replace(lab.data, train=lab.data.train[:20_000])
    ways: dict[str, dict[str, Any]] = {
        "plain gradient codebook": {"quantizer": "gradient", "kmeans": False, "restart": 0.0},
        "plain EMA codebook": {"kmeans": False, "restart": 0.0},
        "k-means": {"restart": 0.0},
        "k-means and restart": {},
        "rotation trick": {"estimator": "rotation"},
        "FSQ": {"quantizer": "fsq", "levels": (5, 5, 5)},
    }
    found = {}
    for name, way in ways.items():
        model = lab.build("vqvae", few, codes=256, channels=(16, 32), data_variance=variance(few), **way)
        found[name] = lab.test(lab.train(model, Options(epochs=4, batch_size=128, lr=1e-3), few), few)
    use = {name: f["code_use"] for name, f in found.items()}
    remedied = min(use["k-means and restart"], use["rotation trick"], use["FSQ"])
    collapsed = max(use["plain gradient codebook"], use["plain EMA codebook"])
    return Finding(
        "7x7 codes, K=256 (FSQ: 5x5x5), D=16, conv 16-32, 20,000 images, 4 epochs; the share of the codes that the "
        "test images use",
        "; ".join(f"{name} {100 * share:.0f}%" for name, share in use.items()),
        "above 95% with the remedies (restart, rotation, FSQ), where plain codebooks collapse",
        remedied > 0.95 > collapsed,
        "few epochs",
        numbers={
            f"{name} {what}": f[what]
            for name, f in found.items()
            for what in ("code_use", "perplexity", "reconstruction")
        },
    )
