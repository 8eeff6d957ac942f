"""A watch for numbers that go wrong in training: a loss that is not finite, parameters that learn nothing."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivae import backend, nn
from minivae.backend import Array, fuse
from minivae.errors import NotFinite
from minivae.optim import Optimizer
from minivae.options import Options


class Watch:
    """Remembers the first step whose loss or gradient was not finite, on the device, which need not be waited for."""

    def __init__(self) -> None:
        self._first: Array = None

    def note(self, step: int, loss: Array, norm: Array) -> None:
        """Of a step, counted from 1, its loss and the norm of its gradient."""
        xp = backend.of(norm)
        first = xp.zeros((), dtype=np.float64) if self._first is None else self._first
        self._first = _first_bad(xp, first, loss, norm, step)

    def first(self) -> int:
        """That step, or 0 where there was none. It waits for the device."""
        return 0 if self._first is None else int(self._first)


@fuse
def _first_bad(xp: Any, first: Array, loss: Array, norm: Array, step: int) -> Array:
    fine = xp.logical_or(first > 0, xp.isfinite(loss + norm))  # a sum passes on what is not finite
    return xp.where(fine, first, step)


def not_finite(what: str, options: Options, lr: float, saved: str) -> NotFinite:
    """The error that ends a run: what went wrong and where, the last good checkpoint, and the likely causes."""
    clip = options.clip
    bound = "no bound on the gradient (try --clip 1)" if clip is None else f"a bound of {clip:g} that is too loose"
    skip = "" if options.on_nan == "skip" else "--on-nan skip leaves such steps out; "
    return NotFinite(
        f"{what}, with the learning rate {lr:g}; {saved}; likely causes: a learning rate that is too high (try "
        f"{lr / 10:.2g}), {bound}, images or a variance out of range; {skip}"
        "minivae.detect_anomaly() names the op."
    )


def check_gradients(model: Any) -> None:
    """After a first backward(): say on stderr which parameters have no gradient. RuntimeError where none has one."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]  # the others were frozen on purpose
    idle = [(name, p) for name, p in named if p.grad is None]
    if len(idle) == len(named):
        raise RuntimeError(
            f"the loss of this {type(model).__name__} depends on none of its {len(named)} parameters: compute it "
            "from what the model's layers return, not from detached data."
        )
    if idle:
        names = ", ".join(f"'{name}' {p.shape}" for name, p in idle)
        print(
            f"minivae: no gradient reaches {names}: training leaves them as they are; does the loss use them?",
            file=sys.stderr,
        )


def remember(model: Any, optimizers: Sequence[Optimizer]) -> Callable[[], None]:
    """Remember a model's buffers and counts, and the parameters and state of optimisers; what sets them back.

    optimizers: those that move before it is known whether all of a step is finite.
    """
    arrays = [t.data for _, t in model.named_tensors() if isinstance(t, nn.Buffer)]
    for optimizer in optimizers:
        arrays += [*(p.data for p in optimizer.parameters), *itertools.chain(*optimizer.state.values())]
    before = [a.copy() for a in arrays]
    moved = [(optimizer.steps, list(optimizer.counts)) for optimizer in optimizers]
    counted = model.counted() if hasattr(model, "counted") else None

    def undo() -> None:
        for a, kept in zip(arrays, before, strict=True):
            a[...] = kept
        for optimizer, (steps, counts) in zip(optimizers, moved, strict=True):
            optimizer.steps, optimizer.counts = steps, counts
        if counted is not None:
            model.count_on(counted)

    return undo
