"""The training loop: epochs, steps, and a stop that loses nothing."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minivae import backend, lagging, optim, progress, resume
from minivae.backend import Array
from minivae.data import Binarizer, Dataset
from minivae.errors import InputError, NotFinite
from minivae.evaluation import batches_for, evaluate, statistics
from minivae.interruption import interruptible
from minivae.models.loss import Player
from minivae.options import Options, Saving
from minivae.players import alone, optimizer_of, players_of, together
from minivae.progress import Means, elbo, write_metrics
from minivae.saving import Saver
from minivae.watch import Watch, check_gradients, not_finite, remember

__all__ = ["Options", "Saving", "Trainer", "elbo", "evaluate", "write_metrics"]


class Trainer:
    """A model in training on a data set.

    spec: what goes into the checkpoint's header: (name, arguments) from which `models.build` makes the model again,
    and source, the argument of `data.load` that gives the data again.
    schedules: numbers that change while training, by attribute of the model: functions of the step. history: one
    dict an epoch, the rows of metrics.csv. epoch: that in hand, from 1; batch: how many of its batches are done.
    """

    def __init__(
        self,
        model: Any,
        dataset: Dataset,
        options: Options,
        spec: tuple[str, dict[str, Any]] = ("", {}),
        source: str = "",
    ):
        if options.binarize and dataset.vocabulary:
            raise InputError(f"binarize draws pixels, but '{dataset.name}' holds counts of words: leave it out.")
        self.model = model
        self.dataset = dataset
        self.options = options
        self.spec = spec
        self.source = source
        self.lagging = lagging.Lagging(options.inner_steps) if options.inner_steps else None
        self.players = lagging.players(model) if self.lagging else players_of(model)
        self.optimizers = {name: optimizer_of(player, options) for name, player in self.players.items()}
        self.optimizer = together(self.optimizers)
        self.batches = batches_for(model, dataset.train, options.batch_size, options.seed, shuffle=True)
        self.rng = backend.current().generator(options.seed)
        self.binarizer = Binarizer((options.batch_size, *dataset.shape)) if options.binarize else None
        self.schedules: dict[str, optim.Schedule] = {}
        if options.anneal:
            self._anneal(options.anneal * len(self.batches))
        self.history: list[dict[str, float]] = []
        self.epoch, self.batch = 1, 0
        self.seconds = 0.0  # spent on the epoch
        self.skipped = 0  # steps of the epoch
        self.means = Means()  # over the epoch
        self.watch = Watch()
        self.saved: tuple[Path, int] | None = None  # the last good checkpoint, and its step
        self.interrupted, self.signal = False, int(signal.SIGINT)  # whether it is to stop, and what asked for it
        self._checked: set[str] = set()  # the players of whom it is known whether gradients reach their parameters
        self.captured: Callable[[Array], Any] | None = None
        if options.capture and backend.current().eager:
            print("minivae: capture replays steps on a GPU: here each runs as it is", file=sys.stderr)
        elif options.capture:
            self._capture()

    def _anneal(self, steps: int) -> None:
        """Let the model's beta, or its capacity, rise to what it is now."""
        if not hasattr(self.model, "beta") or self.model.k > 1:
            raise InputError("anneal raises the weight of the KL, which this model has not: leave it out.")
        name = "beta" if self.model.capacity is None else "capacity"
        final, rise = getattr(self.model, name), optim.warmup(steps)
        self.schedules[name] = lambda step: final * rise(step)

    def _capture(self) -> None:
        """Let the device replay the step. What changes from step to step then has to lie on the device."""
        xp = backend.current()
        for name in self.schedules:
            setattr(self.model, name, xp.zeros((), dtype=np.float32))
        self.optimizer.resident = True
        self.captured = xp.capture(self._play)

    @cached_property
    def fingerprint(self) -> str:
        """Of the data; see minivae.resume."""
        return resume.fingerprint(self.dataset, getattr(self.model, "needs_labels", False))

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch > self.options.epochs

    def run(self, out: Path | None = None, saving: Saving | None = None) -> None:
        """Train for the epochs that are left; write model.npz and metrics.csv into the folder out, if there is one.

        Ctrl-C or SIGTERM ends it after the step in hand: the checkpoint is written, and `interrupted` is true.
        Raises NotFinite at a loss that is not finite, see Options.on_nan.
        """
        saver = Saver(self, out, saving or Saving()) if out else None
        with interruptible(self), np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # watched for
            while not self.finished and not self.interrupted:
                self._epoch(saver)
                if not self.interrupted:
                    self._evaluate()
                    if saver:
                        saver.after_epoch()
            if saver and out and (self.interrupted or not (out / "model.npz").is_file()):  # gone on from another
                saver.write()

    def _epoch(self, saver: Saver | None) -> None:
        """Train on what is left of the epoch in hand."""
        self.model.train()
        if not self.batch:
            statistics(self.model)  # begins to count
        started = time.perf_counter() - self.seconds
        batches = self.batches.indices(self.epoch, self.batch)
        title = f"epoch {self.epoch}/{self.options.epochs}"
        for indices in progress.bar(batches, len(self.batches), title, self.batch):
            before = self.optimizer.steps
            values = self._step(indices)
            if self.optimizer.steps > before:
                self.means.add(len(indices), **values)
            self.batch += 1
            self.seconds = time.perf_counter() - started
            if self.interrupted:
                break
            if saver:
                saver.after_step()

    def _evaluate(self) -> None:
        """End the epoch in hand: its row of the history, and its line."""
        started = time.perf_counter()
        self.check()
        if self.skipped == len(self.batches):
            raise self._not_finite(
                f"the loss of every step of epoch {self.epoch} was not finite, so that all were skipped"
            )
        if self.skipped:
            steps = "step" if self.skipped == 1 else "steps"
            print(f"epoch {self.epoch}: {self.skipped} {steps} skipped, whose loss or gradient was not finite")
        counted = {f"train_{name}": value for name, value in statistics(self.model).items()}
        test = evaluate(self.model, self.dataset.test, binarize=self.options.binarize)
        if not math.isfinite(test["loss"]):
            raise self._not_finite(
                f"the test loss is {test['loss']} after step {self.optimizer.steps}, epoch {self.epoch}"
            )
        row = {"epoch": self.epoch, "step": self.optimizer.steps, **self.means.read(), **counted}
        row |= {f"test_{name}": value for name, value in test.items()}
        if self.lagging:
            row["information"] = self.lagging.after_epoch(self)
        row["seconds"] = self.seconds + time.perf_counter() - started
        self.history.append(row)
        print(progress.line(row, self.options.epochs), flush=True)
        self.epoch, self.batch, self.seconds, self.skipped, self.means = self.epoch + 1, 0, 0.0, 0, Means()

    def schedule(self, step: int) -> None:
        """Set what changes while training to what it is at a step, counted from 0."""
        for name, schedule in self.schedules.items():
            if self.captured:
                backend.current().write(getattr(self.model, name), [schedule(step)])
            else:
                setattr(self.model, name, schedule(step))
        if self.options.lr_schedule == "cosine":
            self.optimizer.lr = self.options.lr * optim.cosine(self.options.epochs * len(self.batches))(step)

    def _step(self, indices: Array) -> dict[str, Array]:
        """One update of each player's parameters, if all are finite. What it returns stays on the device.

        The loss and the gradient's norm are the last player's; the terms are those of all.
        """
        step = self.optimizer.steps
        self.schedule(step)
        if self.lagging:
            self.lagging.before_step(self)
        batch = indices if self.batches.resident else self.batches.gather(indices)
        if not self.captured:
            return self._play(batch)
        self.optimizer.advance()
        values: dict[str, Array] = self.captured(batch)
        self.watch.note(step + 1, values["train_loss"], values["gradient_norm"])
        return values

    def _play(self, batch: Any) -> dict[str, Array]:
        """Every player's turn on a batch, of images or of the indices of resident ones. A device may replay it."""
        x = self.batches.gather(batch) if self.batches.resident else batch
        if self.binarizer:
            x = self.binarizer(x, self.rng)
        undo = remember(self.model, list(self.optimizers.values())[:-1]) if self.options.on_nan == "skip" else None
        values: dict[str, Array] = {}
        for name, player in (self.lagging.turns(self.players) if self.lagging else self.players).items():
            values |= self._gradient(name, player, x)
            if self.captured:
                self.optimizers[name].apply()
                continue
            self.watch.note(self.optimizer.steps + 1, values["train_loss"], values["gradient_norm"])
            if undo and self.watch.first():
                undo()
                self.watch, self.skipped = Watch(), self.skipped + 1
                break
            if backend.current().eager:
                self.check()
            self.optimizers[name].step()
        return values

    def inner_step(self, name: str, x: Any) -> float:
        """A step of one player alone, which is not counted; its loss before. It waits for the device."""
        values = self._gradient(name, self.players[name], x)
        self.watch.note(self.optimizer.steps + 1, values["train_loss"], values["gradient_norm"])
        self.check()
        self.optimizers[name].step()
        return float(values["train_loss"])

    def _gradient(self, name: str, player: Player, x: Any) -> dict[str, Array]:
        """The gradient of a player's loss on its own parameters, clipped if asked. The loss, its terms and the norm.

        The first time it is told of parameters that no gradient reaches.
        """
        optimizer = self.optimizers[name]
        with alone(player, self.model):
            optimizer.zero_grad()
            loss = player.loss(x, self.rng)
            loss.total.backward()
            if name not in self._checked:
                check_gradients(self.model)
                self._checked.add(name)
        if self.options.clip is None:
            norm = optim.grad_norm([p.grad for p in optimizer.parameters if p.grad is not None])
        else:
            norm = optim.clip_grad_norm(optimizer.parameters, self.options.clip)
        terms = {f"train_{name}": term.data for name, term in loss.terms.items()}
        return {"train_loss": loss.total.data, "gradient_norm": norm, **terms}

    def check(self) -> None:
        """Raise NotFinite where a step's loss or gradient was not finite. It waits for the device."""
        if first := self.watch.first():
            raise self._not_finite(f"the loss or its gradient is not finite at step {first}, epoch {self.epoch}")

    def _not_finite(self, what: str) -> NotFinite:
        saved = (
            "no checkpoint was written"
            if self.saved is None
            else "the last good checkpoint is {} (step {})".format(*self.saved)
        )
        return not_finite(what, self.options, self.optimizer.lr, saved)

    def save(self, path: Path, saving: Saving | None = None) -> None:
        """Write the checkpoint, to go on from. Raises NotFinite, and writes nothing, where a number is not."""
        self.check()
        try:
            resume.write(self, path, asdict(saving or Saving()))
        except NotFinite as error:
            raise self._not_finite(str(error)) from None
        self.saved = (path, self.optimizer.steps)
