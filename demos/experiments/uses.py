"""What the models are good for: telling outliers, and codes to classify by."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.bounds import CLASSIC
from experiments.lab import Finding, Lab, batches, encoded, experiment, labelled, pixels, principal
from minivae import data, metrics
from minivae.data import Split
from minivae.errors import InputError
from minivae.metrics import linear_probe, nearest_neighbour_accuracy
from minivae.tensor import no_grad
from minivae.train import Options

AE = {"hidden": (400,), "latent": 20}  # the VAE's network, without noise and KL
AE_OPTIONS = Options(epochs=10, batch_size=128, lr=1e-3)
IMAGES = 2000  # of each kind


def others(lab: Lab) -> dict[str, Split]:
    """Images that are none of the lab's kind: letters (near), grey photographs (far), clothes where one has them."""
    found = {"letters": data.letters(train=1, test=IMAGES).test}
    for name in ("cifar10", "fashion-mnist"):
        try:
            images = data.load(name).test.images[:IMAGES]
        except InputError:
            continue
        if images.shape[1] == 3:  # to grey by the weights of Rec. 601, and the middle 28x28
            grey = np.einsum("nchw,c->nhw", images[:, :, 2:30, 2:30], np.array([0.299, 0.587, 0.114]))
            images = grey.round().astype(np.uint8)[:, None]
        found[name] = Split(images)
    found["black images"] = Split(np.zeros((IMAGES, 1, 28, 28), np.uint8))
    return found


def scores(vae: Any, ae: Any, pca: tuple[Any, Any], split: Split) -> dict[str, Any]:
    """By model, a number for each image (N,) that should be large for outliers."""
    mean, axes = pca
    found: dict[str, list[Any]] = {"VAE -ELBO": [], "VAE error": [], "AE error": [], "PCA error": []}
    rng = np.random.default_rng(0)
    with no_grad():
        for x in batches(split).epoch(0):
            found["VAE -ELBO"].append(elbo_of_each(vae, x, rng))
            found["VAE error"].append(((vae.reconstruct(x) - x) ** 2).sum(axis=(1, 2, 3)))
            found["AE error"].append(((ae.reconstruct(x) - x) ** 2).sum(axis=(1, 2, 3)))
            centred = x.reshape(len(x), -1) - mean
            found["PCA error"].append(((centred - centred @ axes.T @ axes) ** 2).sum(axis=1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def elbo_of_each(vae: Any, x: Any, rng: Any) -> Any:
    """-ELBO of each image, (N,): the mean of 10 single-sample estimates."""
    return -vae.log_weights(x, 10, rng).numpy().mean(axis=0)


@experiment("outliers", "Outlier detection")
def outliers(lab: Lab) -> Finding:
    """Is an image that the model explains badly one of another kind? Mostly; where not, the table shows it.

    Simple images have a high likelihood whatever they show: a black image is no digit, but easy to explain.
    [Nalisnick et al. 2019]
    """
    vae, ae = lab.fitted("vae", CLASSIC), lab.fitted("ae", AE_OPTIONS, **AE)
    pca = principal(pixels(lab.data.train), 20)
    inside = scores(vae, ae, pca, lab.data.test[:IMAGES])
    areas = {
        name: {score: metrics.auroc(inside[score], values) for score, values in scores(vae, ae, pca, split).items()}
        for name, split in others(lab).items()
    }
    bound = {name: area["VAE -ELBO"] for name, area in areas.items()}
    return Finding(
        f"VAE and AE 784-400-20, 10 epochs, PCA of rank 20; {IMAGES:,} test images against as many of each other kind",
        "AUROC by " + ", ".join(inside) + ": "
        + "; ".join(f"{name} {' '.join(f'{a:.3f}' for a in area.values())}" for name, area in areas.items()),
        "by -ELBO above 0.7 for letters (near), above 0.95 for photographs (far); a known failure shown, not hidden: "
        "black images are below 0.5",
        bound["letters"] > 0.7 and bound.get("cifar10", 1.0) > 0.95,
        numbers={f"{name}, {score}": a for name, area in areas.items() for score, a in area.items()},
    )  # fmt: skip


@experiment("representation", "Representation use")
def representation(lab: Lab) -> Finding:
    """Codes in place of pixels: how well do simple classifiers do, with all labels and with few?

    Linear probe: logistic regression, and 1-NN, on 10,000 labelled images; few labels: 1-NN on ten images of each
    class, the mean over five draws.
    """
    mean, axes = principal(pixels(lab.data.train), 20)
    vae, ae = lab.fitted("vae", CLASSIC), lab.fitted("ae", AE_OPTIONS, **AE)
    train, test = lab.data.train[:10_000], lab.data.test
    codes = {
        "pixels": (pixels(train), pixels(test)),
        "PCA-20": ((pixels(train) - mean) @ axes.T, (pixels(test) - mean) @ axes.T),
        "AE-20": (encoded(ae, train), encoded(ae, test)),
        "VAE-20": (encoded(vae, train), encoded(vae, test)),
    }
    table: dict[str, list[float]] = {}
    for name, (a, b) in codes.items():
        few = []
        for seed in range(5):
            chosen = labelled(train, 10, np.random.default_rng(seed))
            few.append(nearest_neighbour_accuracy(a[chosen], train[chosen].labels, b, test.labels))
        every = a, train.labels, b, test.labels
        table[name] = [linear_probe(*every, steps=100), nearest_neighbour_accuracy(*every), float(np.mean(few))]
    return Finding(
        "codes of 20 numbers of rows vae and outliers; 10,000 labelled images; 100 labels over 5 draws",
        "linear probe, 1-NN, 1-NN with 100 labels: "
        + "; ".join(f"{name} {' '.join(f'{100 * a:.1f}%' for a in row)}" for name, row in table.items()),
        "a table with the numbers; with 100 labels the learnt codes beat the pixels",
        min(table["AE-20"][2], table["VAE-20"][2]) > table["pixels"][2],
        numbers={f"{name} {what}": a for name, row in table.items()
                 for what, a in zip(("linear", "1-NN", "few"), row, strict=True)},
    )  # fmt: skip
