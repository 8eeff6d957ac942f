"""What all optimisers do: state for each parameter, a step over all of them, saving and loading."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minivae import backend
from minivae.backend import Array
from minivae.errors import InputError
from minivae.nn.module import Parameter
from minivae.optim.flat import Flat


class Optimizer:
    """The base: state arrays for each parameter, and a step over all of them.

    parameters: what to update, each once; their arrays become views of a flat one (flat.py).
    lr: the learning rate, an attribute that a schedule may set between steps.
    Subclasses name their state arrays in `slots`, and define `rule`, `changing` and `fixed`.

    A step that is captured (`backend.capture`) cannot take numbers from Python: they would freeze. So `step` has two
    parts: `advance`, on the host, and `apply`, which is captured. With `resident` set, advance writes what changes
    from step to step to an array on the device, and apply reads it there.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float = 0.0):
        check(lr=lr, weight_decay=weight_decay)
        self.parameters = list({id(p): p for p in parameters}.values())
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = 0
        self.counts = [0] * len(self.parameters)  # updates of each parameter: it may have had no gradient at first
        self.places = self._flatten()
        self.state = {slot: [flat.cut(flat.state[slot])[n] for flat, n in self.places] for slot in self.slots}
        self.resident = False
        self.tables: dict[Any, Array] = {}  # by dtype: a row of the changing numbers for each parameter

    def _flatten(self) -> list[tuple[Flat, int]]:
        """Put the parameters of each kind of array into a Flat; for each parameter which, and its number there."""
        alike = defaultdict(list)
        for p in self.parameters:
            alike[type(p.data), p.dtype].append(p)
        flats = {kind: Flat(backend.of(members[0].data), members, self.slots) for kind, members in alike.items()}
        numbers = {id(p): n for members in alike.values() for n, p in enumerate(members)}
        return [(flats[type(p.data), p.dtype], numbers[id(p)]) for p in self.parameters]

    def rule(self) -> Callable[..., tuple[Array, ...]]:
        """The update: (xp, w, g, *state, *changing, *fixed) -> (w, *state)."""
        raise NotImplementedError

    def changing(self, t: int) -> tuple[float, ...]:
        """The numbers of a parameter's update t, from 1, that change from step to step."""
        return (self.lr,)

    def fixed(self) -> tuple[float, ...]:
        """The numbers that do not."""
        return ()

    def zero_grad(self) -> None:
        """Forget the gradients. The next ones may be written over them: copy one that you want to keep."""
        for p, (flat, n) in zip(self.parameters, self.places, strict=True):
            p.grad = None
            if flat.xp.eager and flat.holds(n, p):
                p.gradient_to(flat.gradients[n])

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.advance()
        self.apply()

    def advance(self) -> None:
        """Count a step, for each parameter that has a gradient; before the first backward(), for all that will."""
        self.steps += 1
        first = all(p.grad is None for p in self.parameters)
        for i, p in enumerate(self.parameters):
            self.counts[i] += p.requires_grad if first and self.resident else p.grad is not None
        if self.resident:
            rows = [self.changing(max(t, 1)) for t in self.counts]
            for p in self.parameters:
                if p.dtype not in self.tables:
                    self.tables[p.dtype] = backend.of(p.data).zeros((len(rows), len(rows[0])), dtype=p.dtype)
            for table in self.tables.values():
                backend.of(table).write(table, [number for row in rows for number in row])

    def apply(self) -> None:
        """Update every parameter that has a gradient, with the numbers of the step that advance() counted."""
        for first, members in self._runs():
            flat, n = self.places[first]
            if flat.holds(n, members[0]):
                self._update(flat.xp, first, *flat.part(n, [p.grad for p in members]))
            else:
                p = members[0]
                self._update(backend.of(p.data), first, p.data, p.grad, [s[first] for s in self.state.values()])

    def _runs(self) -> Iterator[tuple[int, list[Parameter]]]:
        """The parameters with a gradient, those together that one update moves; with the number of the first of them.

        They are neighbours in a Flat, and have been updated as often. One that its Flat holds no more is alone.
        """
        run: list[Parameter] = []
        first = 0
        for i, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            flat, n = self.places[i]
            one, m = self.places[first]
            beside = flat is one and n == m + len(run) and self.counts[i] == self.counts[first]
            if run and not (beside and flat.holds(n, p) and flat.holds(m, run[0])):
                yield first, run
                run = []
            if not run:
                first = i
            run.append(p)
        if run:
            yield first, run

    def _update(self, xp: Any, i: int, w: Array, g: Array, state: list[Array]) -> None:
        """Change w and state in place, with the numbers of parameter i."""
        changing: Sequence[Any] = self.changing(self.counts[i])
        if self.resident:
            row = self.tables[w.dtype][i]
            changing = [row[n, ...] for n in range(len(changing))]
        if g.strides != w.strides:  # pieces are cut from arrays that lie alike
            g, given = xp.empty_like(w), g
            g[...] = given
        self.rule()(xp, w, g, *state, *changing, *self.fixed(), out=(w, *state))

    def state_dict(self) -> dict[str, Any]:
        """The state as NumPy arrays, "slot.i" for parameter i, and the numbers of "steps" and of updates, "counts"."""
        arrays = {f"{slot}.{i}": backend.to_numpy(a).copy() for slot, s in self.state.items() for i, a in enumerate(s)}
        return {"steps": self.steps, "counts": np.array(self.counts, np.int64), **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what state_dict() gave. Raises InputError where it is of other parameters or another optimiser."""
        own = {f"{slot}.{i}": a for slot, s in self.state.items() for i, a in enumerate(s)}
        wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
        wrong += [name for name in state if name not in own and name not in ("steps", "counts")]
        if len(state.get("counts", ())) != len(self.parameters) or "steps" not in state:
            wrong.append("counts")
        if wrong:
            raise InputError(
                f"this optimiser state does not fit {type(self).__name__}: '{wrong[0]}' is missing, "
                "unexpected or of another shape; use the optimiser and the model that it was saved with."
            )
        self.steps = int(state["steps"])
        self.counts = [int(n) for n in state["counts"]]
        for name, a in own.items():
            a[...] = backend.of(a).asarray(state[name], dtype=a.dtype)


def check(**values: float) -> None:
    """Raise InputError for a number that is negative or not finite."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{name} {value} is no usable value: give a number of at least 0.")
