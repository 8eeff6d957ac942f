"""The pictures of a run: what a trained model makes of data that it has not seen."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from minivae import backend, metrics, models, plots
from minivae.data import Dataset, Labelled, Split
from minivae.data.batches import Batches
from minivae.errors import InputError
from minivae.evaluation import batches_for


def figures(model: Any, dataset: Dataset, history: list[dict[str, float]], out: Path) -> list[Path]:
    """Draw every figure that fits the model and the data into the folder out; returns their paths."""
    model.eval()
    paths: list[Path] = []

    def path(name: str) -> Path:
        paths.append(out / f"{name}.png")
        return paths[-1]

    images = len(dataset.shape) == 3
    pairs = images and len(dataset.test) > 1
    if history:
        plots.loss_curves(history, path("loss"))
    if images and hasattr(model, "encode"):
        reconstructions(model, dataset.test, path("reconstructions"))
    if isinstance(model, models.Completion):
        return paths  # its codes are of a prior for each image
    if hasattr(model, "sample") and (images or isinstance(model, models.Prior)):  # whose examples are codes of images
        count = {models.CVAE: 10 * 10, models.PixelVAE: 16}.get(type(model), 64)
        samples(model, count, path("samples"))
    if not hasattr(model, "encode"):
        return paths  # no code is known of an image
    if isinstance(model, models.CVAE | models.PixelVAE):
        latent(model, dataset, path("latent"))
        return paths  # a code alone, without its class, has no image; or it takes a pass for each pixel
    if hasattr(model, "sample") and images:
        traversals(model, dataset.test, path("traversals"))
    if isinstance(model, models.VQVAE):
        codes(model, dataset.test, path("codes"))
    if isinstance(model, models.VQVAE | models.VQVAE2 | models.Prior):
        return paths  # no line leads from one code to another
    latent(model, dataset, path("latent"))
    if pairs:
        interpolation(model, dataset.test, path("interpolation"))
    if images and codes_of(model, first(dataset.test, 1)).shape[1] == 2:
        manifold(model, dataset.test, path("manifold"))
    return paths


def reconstructions(model: Any, split: Split, path: Path, count: int = 20, seed: int = 0) -> None:
    """The first images of a split over the model's means of them; what was corrupted for the encoder, between.

    seed: of what corrupts them.
    """
    if isinstance(model, models.CVAE):
        both = labelled(model, split, count)
        plots.reconstructions(backend.to_numpy(both.images), backend.to_numpy(model.reconstruct(both)), path)
        return
    has_encoder(model)
    x = first(split, count)
    if isinstance(model, models.Completion):
        completed = backend.to_numpy(model.reconstruct(x))
        plots.reconstructions(backend.to_numpy(x), completed, path, seen=backend.to_numpy(x * model.seen))
        return
    if not isinstance(model, models.Autoencoder) or model.corruption is None:
        plots.reconstructions(backend.to_numpy(x), backend.to_numpy(model.reconstruct(x)), path)
        return
    seen, hole = model.corrupt(x, backend.current().generator(seed))
    output = model.reconstruct(seen)
    if hole is not None:  # the model learnt what belongs there, and nothing of the rest
        output = output * hole + x * (1 - hole)
    plots.reconstructions(backend.to_numpy(x), backend.to_numpy(output), path, seen=backend.to_numpy(seen))


def samples(model: Any, count: int, path: Path, seed: int = 0, label: int | None = None) -> None:
    """Mean images of codes drawn from the prior; label: all of this class, by a model that knows classes."""
    if not hasattr(model, "sample"):
        raise InputError(
            f"no {type(model).__name__} has a prior to draw codes from: "
            + ("train a prior of this run." if isinstance(model, models.VQVAE | models.VQVAE2) else "train a vae.")
        )
    rng = backend.current().generator(seed)
    if not isinstance(model, models.Prior | models.CVAE):
        if label is not None:
            raise InputError(f"no {type(model).__name__} knows classes: leave --label out.")
        plots.samples(backend.to_numpy(model.sample(count, rng)), path)
        return
    if label is not None and not model.classes:
        raise InputError("this model was told no classes: leave --label out, or train one with --classes.")
    if label is not None and label >= model.classes:
        raise InputError(f"there is no class {label} in this model, which was told {model.classes} classes, from 0 on.")
    labels = None if label is None else np.full(count, label)
    of = f"Samples of class {label}" if label is not None else "Samples"
    if isinstance(model, models.CVAE):
        title = of if label is not None else "Samples of each class in turn"
    else:
        title = f"{of}: codes drawn one after the other, decoded"
    plots.samples(backend.to_numpy(model.sample(count, rng, labels)), path, title)


def latent(model: Any, dataset: Dataset, path: Path, count: int = 5000) -> None:
    """The codes of test examples, coloured by their class."""
    x = labelled(model, dataset.test, count) if isinstance(model, models.CVAE) else first(dataset.test, count)
    z = backend.to_numpy(codes_of(model, x))
    labels = None if dataset.test.labels is None else dataset.test.labels[: len(z)]
    plots.latent(z, labels, dataset.classes, path)


def interpolation(model: Any, split: Split, path: Path, count: int = 6, steps: int = 11) -> None:
    """Between pairs of test images, the decoded points of the straight line between their codes."""
    rows = min(count, len(split) // 2)
    if not rows:
        raise InputError("there is one test image only: an interpolation needs two.")
    z = codes_of(model, first(split, 2 * rows))
    t = backend.current().asarray(np.linspace(0, 1, steps, dtype=np.float32))[None, :, None]
    line = (1 - t) * z[:rows, None] + t * z[rows:, None]
    plots.interpolations(backend.to_numpy(model.decode(line)), path)


def traversals(model: Any, split: Split, path: Path, count: int = 10, steps: int = 11) -> None:
    """The latents of the first test image, one at a time from -3 to 3: those first that tell most of the images.

    The unit is the prior's standard deviation, or, for a model without a prior, that of the latent over images,
    around its mean.
    """
    z = codes_of(model, first(split, 1000))
    spread = backend.to_numpy(z).std(0)
    order = np.argsort(-spread, kind="stable")[:count]
    has_prior = _standard_normal(model)
    mean, unit = (0 * spread, 1 + 0 * spread) if has_prior else (backend.to_numpy(z).mean(0), spread)
    values = np.linspace(-3, 3, steps, dtype=np.float32)
    line = np.tile(backend.to_numpy(z)[0], (len(order), steps, 1))
    for row, j in zip(line, order, strict=True):
        row[:, j] = mean[j] + values * unit[j]
    images = backend.to_numpy(model.decode(backend.current().asarray(line)))
    text = "" if has_prior else ", in standard deviations from its mean"
    plots.traversals(images, [int(j) for j in order], [float(v) for v in values], text, path)


def _standard_normal(model: Any) -> bool:
    """Whether the prior of the codes is N(0, I); that of an HVAE's z_1 is another for each z_2."""
    return hasattr(model, "sample") and not isinstance(model, models.HVAE)


def manifold(model: Any, split: Split, path: Path, side: int = 20) -> None:
    """The decoded plane of a two-dimensional code: at the quantiles of the prior, or of the codes' own spread."""
    z = backend.to_numpy(codes_of(model, first(split, 1000)))
    mean, unit = (0, 1) if _standard_normal(model) else (z.mean(0), z.std(0))
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)], np.float32)
    z1, z2 = np.meshgrid(quantiles, quantiles[::-1])
    plane = np.stack([z1.ravel(), z2.ravel()], 1) * unit + mean
    images = model.decode(backend.current().asarray(plane.astype(np.float32)))
    plots.manifold(backend.to_numpy(images), quantiles.tolist(), path)


def codes(model: Any, split: Split, path: Path, count: int = 10) -> None:
    """Test images, the maps of their codes, their reconstructions, and how often each code stands in 1,000 images."""
    x = first(split, 1000)
    maps = model.encode(x)
    counts = np.bincount(backend.to_numpy(maps).ravel(), minlength=model.quantizer.codes)
    outputs = model.decode(maps[:count])
    plots.codes(backend.to_numpy(x[:count]), backend.to_numpy(maps[:count]), backend.to_numpy(outputs), counts, path)


def outliers(model: Any, inside: Dataset, outside: Dataset, path: Path, seed: int = 0) -> dict[str, float]:
    """The area under the ROC curve of each score that tells outside from inside, with a figure of the scores."""
    scores: dict[str, tuple[Any, Any, float]] = {}
    both = [score(model, dataset.test, seed) for dataset in (inside, outside)]
    for name in both[0]:
        scores[name] = (both[0][name], both[1][name], metrics.auroc(both[0][name], both[1][name]))
    plots.outliers(scores, (inside.name, outside.name), path)
    return {name: area for name, (_, _, area) in scores.items()}


def score(model: Any, split: Split, seed: int = 0) -> dict[str, Any]:
    """Every score of the model of all images of a split, (N,) each, on the host."""
    if not hasattr(model, "scores"):
        raise InputError(f"no {type(model).__name__} has a score of how strange an image is: choose another run.")
    rng = backend.current().generator(seed)
    parts = [model.scores(x, rng) for x in batches_for(model, split, 500).epoch(0)]
    return {name: np.concatenate([backend.to_numpy(part[name]) for part in parts]) for name in parts[0]}


def codes_of(model: Any, x: backend.Array) -> backend.Array:
    """The codes of data as points of a space, (N, latent)."""
    has_encoder(model)
    if isinstance(model, models.CVAE) and not isinstance(x, Labelled):
        raise InputError("the codes of a CVAE are nothing without the class of each: see its samples.png, latent.png.")
    if isinstance(model, models.Completion):
        raise InputError("the codes of a Completion tell what is hidden of their own image alone: reconstruct it.")
    z = model.encode(x)
    if z.dtype.kind != "f":
        raise InputError(
            f"the codes of every {type(model).__name__} are whole numbers, which no line joins: choose another run."
        )
    return z


def labelled(model: Any, split: Split, count: int) -> Any:
    """The first images of a split with their labels, as a model that needs them takes them."""
    return next(batches_for(model, split, count).epoch(0))


def has_encoder(model: Any) -> None:
    """Raise InputError for a model that has none."""
    if not hasattr(model, "encode"):
        raise InputError(f"no {type(model).__name__} has an encoder, nor codes of images: choose another run.")


def first(split: Split, count: int) -> backend.Array:
    """The first images of a split as float32 in [0, 1], on the current backend."""
    return next(Batches(split, count, shuffle=False, xp=backend.current()).epoch(0))
