"""The training loop: epochs, evaluation, metrics.csv, checkpoints, and a stop that loses nothing."""

from __future__ import annotations

import csv
import io
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minivae import backend, checkpoint, optim
from minivae.backend import Array
from minivae.data import Batches, Dataset, Split
from minivae.errors import InputError
from minivae.files import atomic_write
from minivae.models import Loss
from minivae.tensor import no_grad

OPTIMIZERS = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adamax": optim.Adamax,
    "adagrad": optim.Adagrad,
    "sgd": optim.SGD,
}


@dataclass(frozen=True)
class Options:
    """How to train. Raises InputError where a value cannot work.

    binarize: draw each pixel anew as 0 or 1 with its grey level as the probability, at every step
    (dynamic binarisation), in training and in evaluation. clip: the largest norm of the gradient, or None.
    lr_schedule: "constant", or "cosine" for a fall to 0. anneal: epochs over which a VAE's beta, or its capacity
    where it has one, rises from 0.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    seed: int = 0
    binarize: bool = False
    clip: float | None = None
    lr_schedule: str = "constant"
    anneal: int = 0

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise InputError(f"{name} {value} trains nothing: give a whole number of at least 1.")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr {self.lr} is no learning rate: give a number above 0, such as 1e-3.")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip {self.clip} is no norm of a gradient: give a number above 0.")
        if not 0 <= self.anneal <= self.epochs:
            raise InputError(f"anneal {self.anneal} must be from 0 to the {self.epochs} epochs, or beta never arrives.")
        if self.lr_schedule not in ("constant", "cosine"):
            raise InputError(f"unknown lr_schedule '{self.lr_schedule}': choose constant or cosine.")
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is no seed: give a whole number of at least 0.")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer '{self.optimizer}': choose one of {', '.join(OPTIMIZERS)}.")


class Trainer:
    """A model in training on a data set.

    spec: what goes into the checkpoint's header: (name, arguments) from which `models.build` makes the model again,
    and source, the argument of `data.load` that gives the data again.
    schedules: numbers that change while training, by attribute of the model: functions of the step. history: one
    dict an epoch, the rows of metrics.csv.
    """

    def __init__(
        self,
        model: Any,
        dataset: Dataset,
        options: Options,
        spec: tuple[str, dict[str, Any]] = ("", {}),
        source: str = "",
    ):
        self.model = model
        self.dataset = dataset
        self.options = options
        self.spec = spec
        self.source = source
        self.optimizer = OPTIMIZERS[options.optimizer](model.parameters(), options.lr)
        self.batches = Batches(dataset.train, options.batch_size, options.seed)
        self.rng = backend.current().generator(options.seed)
        self.schedules: dict[str, optim.Schedule] = {}
        if options.anneal:
            self._anneal(options.anneal * len(self.batches))
        self.history: list[dict[str, float]] = []
        self.interrupted = False

    def _anneal(self, steps: int) -> None:
        """Let the model's beta, or its capacity, rise to what it is now."""
        if not hasattr(self.model, "beta") or self.model.k > 1:
            raise InputError("anneal raises the weight of the KL, which this model has not: leave it out.")
        name = "beta" if self.model.capacity is None else "capacity"
        final, rise = getattr(self.model, name), optim.warmup(steps)
        self.schedules[name] = lambda step: final * rise(step)

    def run(self, out: Path | None = None) -> None:
        """Train for all epochs; after each, write model.npz and metrics.csv into the folder out, if there is one.

        Ctrl-C ends it after the step in hand: the checkpoint is written, and `interrupted` is true.
        """
        with _interruptible(self):
            for epoch in range(1, self.options.epochs + 1):
                started = time.perf_counter()
                row = self._epoch(epoch)
                if not self.interrupted:
                    test = evaluate(self.model, self.dataset.test, binarize=self.options.binarize)
                    row |= {f"test_{name}": value for name, value in test.items()}
                    row["seconds"] = time.perf_counter() - started
                    self.history.append(row)
                    print(_line(row, self.options.epochs), flush=True)
                    if out:
                        write_metrics(out / "metrics.csv", self.history)
                if out:
                    self.save(out / "model.npz")
                if self.interrupted:
                    break

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        _statistics(self.model)  # begins to count
        means = _Means()
        batches = self.batches.epoch(epoch)
        for x in _progress(batches, len(self.batches), f"epoch {epoch}/{self.options.epochs}"):
            loss, norm = self._step(backend.current().asarray(x))
            means.add(len(x), train_loss=loss.total.data, gradient_norm=norm)
            means.add(len(x), **{f"train_{name}": term.data for name, term in loss.terms.items()})
            if self.interrupted:
                break
        statistics = {f"train_{name}": value for name, value in _statistics(self.model).items()}
        return {"epoch": epoch, "step": self.optimizer.steps, **means.read(), **statistics}

    def _step(self, x: Array) -> tuple[Loss, Array]:
        """One update of the parameters. The loss and the gradient's norm stay on the device."""
        step = self.optimizer.steps
        for name, schedule in self.schedules.items():
            setattr(self.model, name, schedule(step))
        if self.options.lr_schedule == "cosine":
            self.optimizer.lr = self.options.lr * optim.cosine(self.options.epochs * len(self.batches))(step)
        if self.options.binarize:
            x = binarized(x, self.rng)
        self.optimizer.zero_grad()
        loss: Loss = self.model.loss(x, self.rng)
        loss.total.backward()
        if self.options.clip is None:
            norm = optim.grad_norm([p.grad for p in self.optimizer.parameters if p.grad is not None])
        else:
            norm = optim.clip_grad_norm(self.optimizer.parameters, self.options.clip)
        self.optimizer.step()
        return loss, norm

    def save(self, path: Path) -> None:
        """Write the checkpoint: weights, optimiser, generator, and what was asked for."""
        name, arguments = self.spec
        arrays = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state = self.optimizer.state_dict()
        arrays |= {f"optimizer.{k}": v for k, v in state.items() if k != "steps"}
        header = {
            "model": name,
            "arguments": arguments,
            "data": self.source,
            "options": asdict(self.options),
            "steps": state["steps"],
            "history": self.history,
            "rng": self.rng.bit_generator.state if backend.current().name == "numpy" else None,
        }
        checkpoint.save(path, header, arrays)


def binarized(x: Array, rng: Any) -> Array:
    """Each pixel 1 with its value as the probability, else 0. [Salakhutdinov & Murray 2008]"""
    return (rng.random(x.shape, dtype=x.dtype) < x).astype(x.dtype)


@no_grad()
def evaluate(
    model: Any, split: Split, *, binarize: bool = False, samples: int = 0, batch_size: int = 500, seed: int = 0
) -> dict[str, float]:
    """The mean loss and terms over a split, with the model's statistics, in its evaluation mode.

    samples: with K > 0 also "nll", the importance-weighted bound of -log p(x) with K samples. The noise
    is drawn from its own generator, so that evaluation neither depends on training nor disturbs it.
    """
    xp = backend.current()
    rng = xp.generator(seed)
    mode = model.training
    model.eval()
    _statistics(model)  # begins to count
    means = _Means()
    batches = Batches(split, batch_size, shuffle=False)
    for x in _progress(batches.epoch(0), len(batches), "evaluation") if samples else batches.epoch(0):
        x = xp.asarray(x)
        if binarize:
            x = binarized(x, rng)
        loss = model.loss(x, rng)
        means.add(len(x), loss=loss.total.data, **{name: term.data for name, term in loss.terms.items()})
        if samples:
            means.add(len(x), nll=model.nll_bound(x, samples, rng).mean())
    statistics = _statistics(model)
    model.train(mode)
    return means.read() | statistics


def _statistics(model: Any) -> dict[str, float]:
    """What a model has counted since the last call in its mode, such as the use of its codes."""
    return model.statistics() if hasattr(model, "statistics") else {}


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """The rows as CSV, the whole file at once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue())


class _Means:
    """Means over examples of values that stay on the device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Any, int]] = {}

    def add(self, n: int, **values: Array) -> None:
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value.astype(np.float64) * n, count + n)

    def read(self) -> dict[str, float]:
        return {name: float(total) / count for name, (total, count) in self.sums.items()}


def _line(row: dict[str, float], epochs: int) -> str:
    """An epoch in one line: the ELBO, or the loss of a model that has none, and its terms, train and test."""

    def part(split: str) -> str:
        values = {key.removeprefix(f"{split}_"): value for key, value in row.items() if key.startswith(f"{split}_")}
        loss = values.pop("loss")
        bound = elbo(values)
        head = f"loss {_short(loss)}" if bound is None else f"ELBO {bound:.2f}"
        return f"{split} {head} ({', '.join(f'{name} {_short(value)}' for name, value in values.items())})"

    width = len(str(epochs))
    return f"epoch {row['epoch']:{width}}/{epochs}  {part('train')}  {part('test')}  {row['seconds']:.1f} s"


def elbo(terms: dict[str, float]) -> float | None:
    """-(reconstruction + kl), whatever their weights in the loss; None for a model without a KL."""
    return -(terms["reconstruction"] + terms["kl"]) if "kl" in terms else None


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _progress(batches: Iterable[Array], total: int, description: str) -> Iterable[Array]:
    """The batches under a progress bar on a terminal, or in silence elsewhere."""
    if not sys.stderr.isatty():
        return batches
    from tqdm import tqdm

    bar: Iterable[Array] = tqdm(batches, description, total, leave=False, unit="batch", dynamic_ncols=True)
    return bar


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """Within it the first Ctrl-C asks the trainer to stop after its step; a second one is immediate."""

    def stop(signum: int, frame: FrameType | None) -> None:
        trainer.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
