"""Our training step: a model of minivae.models and Adam, as minivae.train.Trainer makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.problems import LR, Problem
from minivae import backend, models, optim
from minivae.watch import Watch


class Given:
    """A generator whose normal numbers are given."""

    def __init__(self, noise: Any):
        self.noise = noise

    def standard_normal(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        assert shape == self.noise.shape
        return self.noise

    def random(self, *arguments: Any, **options: Any) -> Any:
        return backend.current().rng.random(*arguments, **options)


class Minivae:
    """step() trains once on a batch that it draws; loss() is that of a given batch and given noise."""

    def __init__(self, problem: Problem, images: np.ndarray):
        backend.manual_seed(0)
        self.problem = problem
        self.model: Any = models.build(problem.model, **arguments(problem))
        self.optimizer = optim.Adam(self.model.parameters(), LR)
        self.rng = backend.current().generator(1)
        self.images = backend.current().asarray(images)
        if problem.model == "vqvae":  # the codebook begins with the first batch
            self.model.loss(self.images[: problem.batch], self.rng)

    def step(self) -> Any:
        """One step; the loss stays on the device."""
        loss = self.compute_gradients()
        self.optimizer.step()
        return loss

    def compute_gradients(self) -> Any:
        x = self.images[self.rng.integers(0, len(self.images), self.problem.batch)]
        self.optimizer.zero_grad()
        loss = self.model.loss(x, self.rng).total
        loss.backward()
        return loss.data

    def watched(self) -> Callable[[], Any]:
        """The step as the loop takes it, which looks at the loss and the gradient's norm before it updates."""
        watch, eager = Watch(), backend.current().eager

        def step() -> Any:
            loss = self.compute_gradients()
            norm = optim.grad_norm([p.grad for p in self.optimizer.parameters])
            watch.note(self.optimizer.steps + 1, loss, norm)
            if eager:
                watch.first()
            self.optimizer.step()
            return loss

        return step

    def captured(self) -> Callable[[], Any]:
        """The step recorded once and replayed. What changes from step to step is written to the device before it."""
        self.optimizer.resident = True

        def recorded() -> Any:
            loss = self.compute_gradients()
            self.optimizer.apply()
            return loss

        replay = backend.current().capture(recorded)

        def step() -> Any:
            self.optimizer.advance()
            return replay()

        return step

    def loss(self, x: np.ndarray, noise: np.ndarray) -> float:
        xp = backend.current()
        return float(self.model.loss(xp.asarray(x), Given(xp.asarray(noise))).total.data)

    def state(self) -> dict[str, np.ndarray]:
        """The weights, by name."""
        state: dict[str, np.ndarray] = self.model.state_dict()
        return state


def arguments(problem: Problem) -> dict[str, Any]:
    """Of models.build."""
    if problem.model == "vqvae":
        return {
            "shape": problem.shape, "channels": problem.channels, "codes": problem.codes, "dim": problem.dim,
            "kmeans": False,  # of the first batch only: nothing of a step
        }  # fmt: skip
    given = {"shape": problem.shape, "hidden": problem.hidden, "latent": problem.latent, "k": problem.k}
    conv = {"arch": "conv", "channels": problem.channels} if problem.channels else {}
    return {**given, **conv, "activation": problem.activation}


def synchronize() -> None:
    """Wait until the device of the backend has done all that was begun."""
    backend.current().synchronize()
