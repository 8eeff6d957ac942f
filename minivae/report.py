"""The pictures of a run: what a trained model makes of images that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minivae import backend, plots
from minivae.data import Dataset, Split
from minivae.data.batches import Batches


def figures(model: Any, dataset: Dataset, history: list[dict[str, float]], out: Path) -> list[Path]:
    """Draw every figure of a VAE into the folder out; returns their paths."""
    model.eval()
    paths = []
    if history:
        paths.append(out / "loss.png")
        plots.loss_curves(history, paths[-1])
    paths += [out / f"{name}.png" for name in ("reconstructions", "samples", "latent")]
    reconstructions(model, dataset.test, paths[-3])
    samples(model, 64, paths[-2])
    latent(model, dataset, paths[-1])
    if len(dataset.test) > 1:
        paths.append(out / "interpolation.png")
        interpolation(model, dataset.test, paths[-1])
    return paths


def reconstructions(model: Any, split: Split, path: Path, count: int = 20) -> None:
    """The first images of a split over the model's means of them."""
    x = first(split, count)
    plots.reconstructions(backend.to_numpy(x), backend.to_numpy(model.reconstruct(x)), path)


def samples(model: Any, count: int, path: Path, seed: int = 0) -> None:
    """Mean images of codes drawn from the prior."""
    rng = backend.current().generator(seed)
    plots.samples(backend.to_numpy(model.sample(count, rng)), path)


def latent(model: Any, dataset: Dataset, path: Path, count: int = 5000) -> None:
    """The posterior means of test images, coloured by their class."""
    codes = backend.to_numpy(model.encode(first(dataset.test, count)))
    labels = None if dataset.test.labels is None else dataset.test.labels[: len(codes)]
    plots.latent(codes, labels, dataset.classes, path)


def interpolation(model: Any, split: Split, path: Path, rows: int = 6, steps: int = 11) -> None:
    """Between pairs of test images, the decoded points of the straight line between their posterior means."""
    rows = min(rows, len(split) // 2)
    z = model.encode(first(split, 2 * rows))
    t = backend.current().asarray(np.linspace(0, 1, steps, dtype=np.float32))[None, :, None]
    line = (1 - t) * z[:rows, None] + t * z[rows:, None]
    plots.interpolations(backend.to_numpy(model.decode(line)), path)


def first(split: Split, count: int) -> backend.Array:
    """The first images of a split as float32 in [0, 1], on the current backend."""
    return backend.current().asarray(next(Batches(split, count, shuffle=False).epoch(0)))
