"""The mean loss of a model over data that it does not train on."""

from __future__ import annotations

from typing import Any

from minivae import backend, progress
from minivae.data import Batches, Binarizer, Split
from minivae.nn.module import evaluating
from minivae.progress import Means


def batches_for(model: Any, split: Split, batch_size: int, seed: int = 0, shuffle: bool = False) -> Batches:
    """The batches of a split as a model takes them: on the backend in use, with labels where it `needs_labels`."""
    labels = getattr(model, "needs_labels", False)
    return Batches(split, batch_size, seed, shuffle, xp=backend.current(), labels=labels)


def evaluate(
    model: Any, split: Split, *, binarize: bool = False, samples: int = 0, batch_size: int = 500, seed: int = 0
) -> dict[str, float]:
    """The mean loss and terms over a split, with the model's statistics, in its evaluation mode.

    samples: with K > 0 also "nll", the importance-weighted bound of -log p(x) with K samples. The noise
    is drawn from its own generator, so that evaluation neither depends on training nor disturbs it.
    """
    xp = backend.current()
    rng = xp.generator(seed)
    means = Means()
    batches = batches_for(model, split, batch_size)
    drawn = Binarizer((batch_size, *split.images.shape[1:])) if binarize else None
    with evaluating(model):
        statistics(model)  # begins to count
        for x in progress.bar(batches.epoch(0), len(batches), "evaluation") if samples else batches.epoch(0):
            if drawn:
                x = drawn(x, rng)
            loss = model.loss(x, rng)
            means.add(len(x), loss=loss.total.data, **{name: term.data for name, term in loss.terms.items()})
            if samples:
                means.add(len(x), nll=xp.asarray(model.nll_bound(x, samples, rng).mean()))
        counted = statistics(model)
    return means.read() | counted


def statistics(model: Any) -> dict[str, float]:
    """What a model has counted since the last call in its mode, such as the use of its codes."""
    return model.statistics() if hasattr(model, "statistics") else {}
