"""Autoencoders: what a code of k numbers keeps of an image, and what training makes of corruption and depth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from experiments.lab import Finding, Lab, batches, experiment, labelled, pixels, principal, with_variance
from minivae import manual_seed, metrics, models, nn, ops, optim
from minivae.data import Dataset, Split
from minivae.models.corruption import masking
from minivae.models.likelihood import Bernoulli, SquaredError
from minivae.tensor import as_tensor, no_grad
from minivae.train import Options

CODE = 30  # numbers for an image, as in Hinton & Salakhutdinov 2006


@experiment("linear-ae", "Linear AE = PCA")
def linear_ae(lab: Lab) -> Finding:
    """The best linear code spans the principal subspace. [Baldi & Hornik 1989]

    The columns of the decoder's weights and the first 30 eigenvectors of the covariance span the same space:
    the cosines of the principal angles are the singular values of the product of their orthonormal bases.
    """
    model = lab.train(
        lab.build("linear-ae", latent=CODE),
        Options(epochs=120, batch_size=500, lr=2e-3, lr_schedule="cosine"),
    )
    mean, axes = principal(pixels(lab.data.train), CODE)
    centred = pixels(lab.data.test) - mean
    pca = float(((centred - centred @ axes.T @ axes) ** 2).sum(axis=1).mean())
    ours = lab.test(model)["loss"]
    basis, _ = np.linalg.qr(model.decoder[0].weight.numpy())
    cosines = np.linalg.svd(axes @ basis, compute_uv=False)
    angle = float(np.degrees(np.arccos(np.clip(cosines, 0, 1)).max()))
    return Finding(
        f"784-{CODE}-784 linear, squared error, Adam 2e-3 to 0, batch 500, 120 epochs",
        f"test error {ours:.3f}, {100 * (ours / pca - 1):+.2f}% of PCA's; largest principal angle {angle:.2f}°",
        f"at most 1% above rank-{CODE} PCA ({pca:.3f} on this split; 13.87 [H&S 2006]), angles under 1°",
        ours <= 1.01 * pca and angle < 1,
        "neighbouring eigenvalues differ by a few per cent: the last axes turn slowly",
        numbers={"error": ours, "pca": pca, "angle": angle},
    )


@experiment("deep-ae", "Deep AE")
def deep_ae(lab: Lab) -> Finding:
    """Layers that bend: far below PCA's error at the same code. [Hinton & Salakhutdinov 2006]"""
    model = with_variance(lab.build("ae", hidden=(1000, 500, 250), latent=CODE, activation="gelu"), 2)
    options = Options(epochs=30, batch_size=64, lr=1e-3, lr_schedule="cosine")
    error = lab.test(lab.train(model, options))["loss"]
    return Finding(
        "784-1000-500-250-30, GELU, He's initial weights, squared error, Adam 1e-3 to 0, batch 64, 30 epochs",
        f"test error {error:.2f}",
        "under 5, 3.5 as a stretch; 3.00 [H&S 2006, with pretraining]",
        lab.published(error < 5),
        "too few epochs for a CPU's budget",
        numbers={"error": error},
    )


@experiment("conv-ae", "Convolutional AE")
def conv_ae(lab: Lab) -> Finding:
    """Weights that are shared over places tell more of an image in a code of the same size."""
    sizes: dict[str, dict[str, Any]] = {
        "dense": {"hidden": (512, 256)},
        "conv": {"arch": "conv", "channels": (16, 32), "hidden": (256,)},
    }
    errors = {}
    for name, size in sizes.items():
        model = with_variance(lab.build("ae", latent=CODE, activation="gelu", **size), 2)
        options = Options(epochs=10, batch_size=128, lr=2e-3 if name == "conv" else 1e-3, lr_schedule="cosine")
        errors[name] = lab.test(lab.train(model, options))["loss"]
    return Finding(
        "conv 16-32, 256, code 30, and dense 784-512-256-30: GELU, He's initial weights, squared error, Adam "
        "(2e-3 and 1e-3, to 0), batch 128, 10 epochs each",
        f"test error {errors['conv']:.2f}",
        f"below the dense AE's {errors['dense']:.2f}",
        errors["conv"] < errors["dense"],
        "too few epochs for a CPU's budget",
        numbers=errors,
    )


@experiment("dae", "Denoising AE")
def denoising_ae(lab: Lab) -> Finding:
    """To undo noise one must know the images: the clean error of what is made of noisy ones. [Vincent et al. 2010]"""
    options = Options(epochs=5, batch_size=128, lr=1e-3, lr_schedule="cosine")
    sizes = {"hidden": (512,), "latent": 64}
    denoising = lab.fitted("ae", options, corruption="gaussian", level=0.5, **sizes)
    plain = lab.fitted("ae", options, **sizes)
    rng = np.random.default_rng(lab.seed)
    errors = np.zeros(3)
    for x in batches(lab.data.test).epoch(0):
        noisy, _ = denoising.corrupt(x, rng)
        made = noisy, plain.reconstruct(noisy), denoising.reconstruct(noisy)
        errors += [float(((y - x) ** 2).sum()) for y in made]
    noise, without, error = errors / len(lab.data.test)
    return Finding(
        "784-512-64, noise of 0.5 drawn anew each epoch, Adam 1e-3 to 0, 5 epochs; error to the clean test image",
        f"{error:.1f}",
        f"below the noisy input's {noise:.1f} and below an AE's that was trained without noise, {without:.1f}",
        bool(error < min(noise, without)),
        numbers={"denoising": error, "noisy": noise, "plain": without},
    )


@experiment("context", "Context encoder")
def context_encoder(lab: Lab) -> Finding:
    """What is hidden follows from what is around it; the error counts in the hole only. [Pathak et al. 2016]

    Two fills to beat: the mean image of the training set, and the training image that is nearest around the hole.
    """
    options = Options(epochs=4, batch_size=128, lr=1e-3, lr_schedule="cosine")
    train = pixels(lab.data.train[:10_000])
    mean, squares = train.mean(axis=0), train**2
    found: dict[str, Any] = {}
    for hole in ("central", "block", "region"):
        model = lab.fitted("context", options, corruption=hole, hidden=(512,), latent=64)
        rng, errors = np.random.default_rng(lab.seed), np.zeros(3)
        for x in batches(lab.data.test[:2000]).epoch(0):
            seen, where = model.corrupt(x, rng)
            hidden, flat = where.reshape(len(x), -1), x.reshape(len(x), -1)
            around = 1 - hidden
            distance = around @ squares.T - 2 * (around * flat) @ train.T  # without the term that all share
            nearest = train[distance.argmin(axis=1)]
            fills = model.reconstruct(seen).reshape(flat.shape), mean, nearest
            errors += [float((hidden * (fill - flat) ** 2).sum()) for fill in fills]
        found[hole] = errors / len(lab.data.test[:2000])
    return Finding(
        "784-512-64 and back, Adam 1e-3 to 0, 4 epochs, for each kind of hole; 2,000 test images; "
        "nearest of 10,000 training images by the pixels around the hole",
        "; ".join(f"{hole} {e[0]:.1f}" for hole, e in found.items()) + ", squared error in the hole",
        "below mean fill (" + ", ".join(f"{e[1]:.1f}" for e in found.values()) + ") and nearest-neighbour fill ("
        + ", ".join(f"{e[2]:.1f}" for e in found.values()) + ")",
        all(e[0] < min(e[1:]) for e in found.values()),
        numbers={f"{hole} {name}": value for hole, e in found.items()
                 for name, value in zip(("ours", "mean", "nearest"), e, strict=True)},
    )  # fmt: skip


@experiment("stacked-ae", "Stacked AE")
def stacked_ae(lab: Lab) -> Finding:
    """Layers learnt one by one without labels are a better start for the few that there are. [Bengio et al. 2007]

    For each of five seeds: 100 labels, ten of each class; the same network is trained on them from what the
    unlabelled images taught it (layer by layer as denoising autoencoders, then jointly), and from scratch.
    """
    accuracy: dict[str, list[float]] = {"stacked": [], "scratch": []}
    unlabelled = lab.data.train[:20_000]
    test = pixels(lab.data.test)
    for seed in range(5):
        few = lab.data.train[labelled(lab.data.train, 10, np.random.default_rng(seed))]
        for start, results in accuracy.items():
            layers = dense_layers((test.shape[1], 500, 250), seed)
            if start == "stacked":
                deep = models.stack(layers, pixels(unlabelled), lambda layer, x: fit_arrays(lab, layer, x, 6))
                fit_arrays(lab, deep, pixels(unlabelled), 1)
            encoder = nn.Sequential(*[layer.encoder for layer in layers])
            head = nn.Linear(250, len(lab.data.classes))
            fine_tune(nn.Sequential(encoder, head), pixels(few), few.labels, steps=200)
            with no_grad():
                results.append(float((head(encoder(test)).numpy().argmax(axis=1) == lab.data.test.labels).mean()))
    ours, scratch = (np.array(results) for results in accuracy.values())
    return Finding(
        f"784-500-250, ReLU, 75% masked, {len(unlabelled):,} unlabelled images, 6 epochs a layer and 1 jointly; "
        "then 100 labels, 200 steps of Adam; 5 seeds",
        f"accuracy {100 * ours.mean():.1f} ± {100 * ours.std():.1f}%",
        f"above the same network from scratch, {100 * scratch.mean():.1f} ± {100 * scratch.std():.1f}%",
        bool(ours.mean() > scratch.mean()),
        numbers={"stacked": float(ours.mean()), "scratch": float(scratch.mean()),
                 "seeds won": float((ours > scratch).sum())},
    )  # fmt: skip


def dense_layers(widths: tuple[int, ...], seed: int) -> list[models.Autoencoder]:
    """One denoising autoencoder for each pair of widths; the same seed gives the same weights."""
    manual_seed(seed)
    return [
        models.Autoencoder(
            nn.Sequential(nn.Linear(n, m), nn.ReLU()),
            nn.Sequential(nn.Linear(m, n), nn.ReLU() if i else nn.Sequential()),
            masking(0.75),
            SquaredError() if i else Bernoulli(),  # codes have any size; pixels lie in [0, 1]
        )
        for i, (n, m) in enumerate(pairwise(widths))
    ]


def fit_arrays(lab: Lab, model: Any, x: Any, epochs: int) -> None:
    """Train on rows (N, V)."""
    lab.train(model, Options(epochs=epochs, batch_size=128), Dataset("rows", Split(x), Split(x[:500])))


def fine_tune(classifier: nn.Module, x: Any, labels: Any, steps: int) -> None:
    """Cross-entropy over all the labels that there are, at every step."""
    adam = optim.Adam(classifier.parameters(), 1e-3)
    for _ in range(steps):
        adam.zero_grad()
        ops.cross_entropy(classifier(as_tensor(x)), labels).mean().backward()
        adam.step()


@experiment("documents", "Document to 2-D code", data="documents")
def documents(lab: Lab) -> Finding:
    """Texts as points of a plane: neighbours should be of one subject. [Hinton & Salakhutdinov 2006]

    LSA-2 are the first two singular vectors of the tf-idf weights, or of the logarithms of the counts, as they are
    or scaled to length 1; the best of them is what is to be beaten. [Deerwester et al. 1990]
    """
    papers = lab.load("documents")
    model = lab.train(
        lab.build("ae", papers, hidden=(256, 64), latent=2, likelihood="multinomial", corruption="masking", level=0.5),
        Options(epochs=40, batch_size=64, lr=1e-3),
        papers,
    )

    def neighbours(train: Any, test: Any) -> float:
        return metrics.nearest_neighbour_accuracy(train, papers.train.labels, test, papers.test.labels)

    ours = neighbours(*(model.encode(split.images) for split in (papers.train, papers.test)))
    counts, unseen = papers.train.images, papers.test.images
    idf = np.log(len(counts) / np.maximum((counts > 0).sum(axis=0), 1))
    lsa = {}
    for name, weigh in (("tf-idf", lambda c: c * idf), ("log counts", np.log1p)):
        _, _, axes = np.linalg.svd(weigh(counts), full_matrices=False)
        codes = [weigh(c) @ axes[:2].T for c in (counts, unseen)]
        unit = [code / (np.linalg.norm(code, axis=1, keepdims=True) + 1e-12) for code in codes]
        lsa[name], lsa[f"{name}, length 1"] = neighbours(*codes), neighbours(*unit)
    return Finding(
        f"{len(counts):,} docstrings, {counts.shape[1]}-256-64-2, multinomial, half of the counts masked, Adam 1e-3, "
        "batch 64, 40 epochs; 1-NN on the codes of the test split",
        f"accuracy {100 * ours:.1f}%",
        f"above LSA-2: {100 * max(lsa.values()):.1f}% ({max(lsa, key=lsa.__getitem__)})",
        ours > max(lsa.values()),
        numbers={"autoencoder": ours, **lsa},
    )
