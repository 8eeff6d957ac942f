"""Parameters side by side in one array, so that an optimiser updates all of them in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minivae.backend import Array
from minivae.nn.module import Parameter


class Flat:
    """Parameters of one dtype in a flat array, of which their `data` are views from now on; so are state and gradients.

    To update a parameter by itself costs as much as to update 10,000 numbers more, on a CPU in calls and on a device
    in launches; here neighbours are one slice. On a CPU a product of matrices writes its gradient to where it belongs
    (`graph.Into`); what comes elsewhere is copied, on a device all of it in one kernel.
    """

    def __init__(self, xp: Any, parameters: Sequence[Parameter], slots: Sequence[str]):
        self.xp = xp
        self.ends = np.cumsum([p.size for p in parameters]).tolist()
        self.starts = [end - p.size for p, end in zip(parameters, self.ends, strict=True)]
        self.shapes = [p.shape for p in parameters]
        self.data, self.gradient, *state = (xp.zeros(self.ends[-1], parameters[0].dtype) for _ in range(2 + len(slots)))
        self.state = dict(zip(slots, state, strict=True))
        self.views, self.gradients = self.cut(self.data), self.cut(self.gradient)
        for p, view in zip(parameters, self.views, strict=True):
            view[...] = p.data
            p.data = view

    def cut(self, flat: Array) -> list[Array]:
        """The views of a flat array that are the parameters', in their shapes."""
        spans = zip(self.starts, self.ends, self.shapes, strict=True)
        return [flat[start:end].reshape(shape) for start, end, shape in spans]

    def holds(self, i: int, p: Parameter) -> bool:
        """Whether p is still the parameter i: nobody gave it another array since."""
        return p.data is self.views[i]

    def part(self, first: int, grads: Sequence[Array]) -> tuple[Array, Array, list[Array]]:
        """Neighbours from `first` on, given their gradients: data, gradient and state as flat slices."""
        last = first + len(grads) - 1
        pairs = zip(grads, self.gradients[first : last + 1], strict=True)
        elsewhere = [  # another's place, where two were exchanged, is written over before it is read
            (g.copy() if self.xp.may_share_memory(g, self.gradient) else g, home) for g, home in pairs if g is not home
        ]
        if elsewhere:
            self.xp.join(*map(list, zip(*elsewhere, strict=True)))
        span = slice(self.starts[first], self.ends[last])
        return self.data[span], self.gradient[span], [a[span] for a in self.state.values()]
