"""Learning-rate schedules, and clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from minivae import backend
from minivae.backend import Array, fuse
from minivae.nn.module import Parameter

Schedule = Callable[[int], float]  # step -> factor of the learning rate


def step_schedule(every: int, factor: float = 0.1) -> Schedule:
    """The rate times factor after each `every` steps."""
    return lambda step: factor ** (step // every)


def cosine(steps: int, final: float = 0.0) -> Schedule:
    """From 1 to final over half a cosine, then final. [Loshchilov & Hutter 2017, eq. 5]"""
    return lambda step: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def warmup(steps: int, then: Schedule = lambda step: 1.0) -> Schedule:
    """A linear rise to 1 over the first steps, then another schedule, from its start."""
    return lambda step: (step + 1) / steps if step < steps else then(step - steps)


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> Array:
    """Scale all gradients alike so that their joint Euclidean norm is at most max_norm; returns the norm before.

    The norm stays on its device (a 0-d array): reading it is the caller's choice. [Pascanu et al. 2013, algorithm 1]
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    xp = backend.of(grads[0]) if grads else backend.current()
    norm, scale = (xp.asarray(a) for a in _clipping(xp, xp.square_sum(grads), float(max_norm)))
    if not (xp.eager and scale == 1):  # else the device would have to be waited for
        xp.scale_all(grads, scale)
    return norm


@fuse
def _clipping(xp: Any, squares: Array, max_norm: float) -> tuple[Array, Array]:
    norm = xp.sqrt(squares)
    return norm, xp.minimum(max_norm / (norm + 1e-6), 1)


def grad_norm(grads: list[Array]) -> Array:
    """The joint Euclidean norm of arrays, as a 0-d array."""
    xp = backend.of(grads[0]) if grads else backend.current()
    return xp.asarray(xp.sqrt(xp.square_sum(grads)))
