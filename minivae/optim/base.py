"""What all optimisers do: state for each parameter, a step over all of them, saving and loading."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minivae import backend
from minivae.backend import Array
from minivae.errors import InputError
from minivae.nn.module import Parameter


class Optimizer:
    """The base: state arrays for each parameter, and a step over all of them.

    parameters: what to update, each once. lr: the learning rate, an attribute that a schedule may set between steps.
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
        self.state = {slot: [backend.of(p.data).zeros_like(p.data) for p in self.parameters] for slot in self.slots}
        self.resident = False
        self.tables: dict[Any, Array] = {}  # by dtype: a row of the changing numbers for each parameter
        self.together: Together | None = None

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
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

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
        alike = defaultdict(list)
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                alike[type(p.data), p.dtype, self.counts[i]].append(i)
        for group in alike.values():
            xp = backend.of(self.parameters[group[0]].data)
            if xp.together and len(group) > 1:
                self._update_together(xp, group)
                continue
            for i in group:
                p = self.parameters[i]
                self._update(xp, i, p.data, p.grad, [s[i] for s in self.state.values()])

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

    def _update_together(self, xp: Any, group: list[int]) -> None:
        """Update parameters of one dtype and count in one kernel."""
        members = [self.parameters[i] for i in group]
        if self.together is None or not self.together.holds(members):
            self.together = Together(xp, members)
            for slot in self.state.values():
                for i, array in zip(group, self.together.add([slot[i] for i in group]), strict=True):
                    slot[i] = array
        flat = self.together
        self._update(xp, group[0], flat.data, flat.gathered(), flat.state)

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


class Together:
    """Parameters in one flat array, of which their `data` are views from now on; so are their state and gradients.

    This is for a device: there a kernel for each parameter costs more to launch than to run. Copies of the gradients
    into the flat array are cheap, and one kernel updates all. On a CPU those copies would be a second pass over memory.
    """

    def __init__(self, xp: Any, parameters: list[Parameter]):
        self.xp = xp
        self.parameters = parameters
        self.state: list[Array] = []
        self.data, self.views = self._flat([p.data for p in parameters])
        self.gradient, self.gradients = self._flat([p.grad for p in parameters])
        for p, view in zip(parameters, self.views, strict=True):
            p.data = view

    def _flat(self, arrays: list[Array]) -> tuple[Array, list[Array]]:
        """A flat array of what arrays hold, and the views of it that are theirs."""
        ends = np.cumsum([a.size for a in arrays]).tolist()
        flat = self.xp.empty(ends[-1], dtype=arrays[0].dtype)
        views = [flat[end - a.size : end].reshape(a.shape) for a, end in zip(arrays, ends, strict=True)]
        for view, a in zip(views, arrays, strict=True):
            view[...] = a
        return flat, views

    def add(self, arrays: list[Array]) -> list[Array]:
        """One more flat array, of state; returns the views of it."""
        flat, views = self._flat(arrays)
        self.state.append(flat)
        return views

    def holds(self, parameters: list[Parameter]) -> bool:
        """Whether it is of these parameters, and nobody gave one of them another array since."""
        return len(parameters) == len(self.views) and all(
            p is q and p.data is view for p, q, view in zip(parameters, self.parameters, self.views, strict=True)
        )

    def gathered(self) -> Array:
        """The gradients in one array."""
        self.xp.join([p.grad for p in self.parameters], self.gradients)
        return self.gradient


def check(**values: float) -> None:
    """Raise InputError for a number that is negative or not finite."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{name} {value} is no usable value: give a number of at least 0.")
