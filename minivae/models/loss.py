"""What every model's loss() returns, and what a model of several players names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from minivae.nn import Parameter
from minivae.tensor import Tensor


class Loss(NamedTuple):
    """total: the scalar to minimise, in nats per example. terms: its named parts, each a scalar."""

    total: Tensor
    terms: dict[str, Tensor]


class Player(NamedTuple):
    """One of several who learn from each other: a GAN's discriminator, say.

    parameters: those that it moves. loss: (x, rng) -> the Loss that it moves them by, and no one else.
    betas: of its optimiser, where that has them, as Adam does.

    A model of several has a method players() -> {name: Player}. They move in that order at every step, each
    seeing what those before it have done; the last is the model's own, whose loss is the model's loss().
    """

    parameters: list[Parameter]
    loss: Callable[[Any, Any], Loss]
    betas: tuple[float, float] = (0.9, 0.999)
