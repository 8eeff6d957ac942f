"""What an experiment is given, a Lab, and what it returns, a Finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import minivae
from minivae import data, models, nn
from minivae.data import Batches, Dataset, Split
from minivae.train import Options, Trainer, evaluate


@dataclass(frozen=True)
class Finding:
    """What a row of the table says.

    setup: model, training and data. ours: what was measured. required: what was published, or must hold.
    reached: whether ours meets it; None where there is nothing to meet (a published number is of other data).
    reason: why it was not reached, where it is not. note: what must stand beside the number in any case.
    numbers: all that was measured, by name.
    """

    setup: str
    ours: str
    required: str
    reached: bool | None
    reason: str = ""
    note: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A row: what it is called in the table, and the function that makes it. data: None for that of the lab.

    preset: "cpu", or "paper", what is too long for one. required: of such a row, what it says until it has been run.
    """

    model: str
    run: Callable[[Lab], Finding]
    data: str | None = None
    preset: str = "cpu"
    required: str = ""


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(
    name: str, model: str, data: str | None = None, preset: str = "cpu", required: str = ""
) -> Callable[[Callable[[Lab], Finding]], Callable[[Lab], Finding]]:
    """Enter a function into the table under a name."""

    def enter(run: Callable[[Lab], Finding]) -> Callable[[Lab], Finding]:
        EXPERIMENTS[name] = Experiment(model, run, data, preset, required)
        return run

    return enter


class Lab:
    """The data of all experiments, and the ways to train and to measure on them.

    train, epochs: no more than so many training images and epochs, for a quick look at everything.
    """

    seed = 0

    def __init__(self, source: str, train: int | None = None, epochs: int | None = None):
        self.train_size = train
        self.epochs = epochs
        self.data = self.load(source)
        self._fitted: dict[str, Any] = {}

    def load(self, source: str) -> Dataset:
        """A data set by its name, cut where the lab takes a quick look."""
        return self.cut(data.load(source))

    def cut(self, dataset: Dataset) -> Dataset:
        """A data set, cut where the lab takes a quick look."""
        n = self.train_size
        return replace(dataset, train=dataset.train[:n], test=dataset.test[:n]) if n else dataset

    def published(self, reached: bool) -> bool | None:
        """Whether a number published for MNIST is reached; None on other data, for which it says nothing."""
        return reached if self.data.name == "mnist" else None

    def build(self, name: str, dataset: Dataset | None = None, **arguments: Any) -> Any:
        """A new model for a data set (the lab's, unless told); the same at every call."""
        minivae.manual_seed(self.seed)
        return models.build(name, shape=(dataset or self.data).shape, **arguments)

    def train(self, model: Any, options: Options, dataset: Dataset | None = None) -> Any:
        """Train a model. Raises KeyboardInterrupt where Ctrl-C stopped it: half a training is no result."""
        epochs = min(options.epochs, self.epochs or options.epochs)
        options = replace(options, seed=self.seed, epochs=epochs, anneal=min(options.anneal, epochs))
        trainer = Trainer(model, dataset or self.data, options)
        trainer.run()
        if trainer.interrupted:
            raise KeyboardInterrupt
        return model.eval()

    def fitted(self, name: str, options: Options, **arguments: Any) -> Any:
        """A model trained on the lab's data; experiments that ask for the same one share it."""
        key = repr((name, options, sorted(arguments.items())))
        if key not in self._fitted:
            self._fitted[key] = self.train(self.build(name, **arguments), options)
        return self._fitted[key]

    def test(self, model: Any, dataset: Dataset | None = None, **settings: Any) -> dict[str, float]:
        """The mean loss and terms on the test split; see minivae.train.evaluate."""
        return evaluate(model, (dataset or self.data).test, **settings)


def batches(split: Split, size: int = 500) -> Batches:
    """The split in order, float32 in [0, 1]."""
    return Batches(split, size, shuffle=False)


def pixels(split: Split) -> Any:
    """All images as rows, (N, C * H * W) float32 in [0, 1]."""
    x = np.concatenate(list(batches(split).epoch(0)))
    return x.reshape(len(x), -1)


def encoded(model: Any, split: Split) -> Any:
    """The codes of all images, (N, latent)."""
    return np.concatenate([model.encode(x) for x in batches(split).epoch(0)])


def principal(x: Any, k: int) -> tuple[Any, Any]:
    """The mean (V,) of rows x (N, V) and their k principal axes (k, V), the largest first."""
    mean = x.mean(axis=0)
    _, vectors = np.linalg.eigh((x - mean).T.astype(np.float64) @ (x - mean) / len(x))
    return mean, vectors[:, ::-1][:, :k].T.astype(np.float32)


def labelled(split: Split, count: int, rng: Any) -> Any:
    """The indices of so many images of each class, drawn without replacement. The split has labels."""
    assert split.labels is not None
    return np.concatenate(
        [rng.permutation(np.flatnonzero(split.labels == label))[:count] for label in np.unique(split.labels)]
    )


def with_variance(model: Any, gain: float) -> Any:
    """The model with initial weights of the variance gain / inputs, where a layer's own have 1 / (3 inputs).

    Through many layers the usual ones let the signal fade. gain 1 keeps its power where an activation is nearly
    linear, as tanh near 0 [LeCun et al. 1998]; 2 where half of it is cut off, as by rectifiers [He et al. 2015].
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.weight.data *= np.float32(np.sqrt(3 * gain))
    return model
