"""Optimisers, learning-rate schedules and gradient clipping. Parameters are updated in place.

Every update is written for one block: a piece of the parameter w, its gradient g and its state, small
enough for the processor's cache (`backend.blocks`), with scratch arrays of that size for what is
between. So a step needs no temporary of the size of the model, and passes over the memory once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minivae import backend
from minivae.backend import Array
from minivae.errors import InputError
from minivae.nn.module import Parameter


class Optimizer:
    """The base: state arrays for each parameter, and a loop over blocks.

    parameters: what to update. lr: the learning rate, an attribute that a schedule may set between steps.
    Subclasses name their state arrays in `slots` and define `update`.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float = 0.0):
        _check(lr=lr, weight_decay=weight_decay)
        self.parameters = list(parameters)
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = 0
        self.counts = [0] * len(self.parameters)  # updates of each parameter: it may have had no gradient at first
        self.state = {
            slot: [backend.of(p.data).zeros(p.shape, dtype=p.dtype) for p in self.parameters] for slot in self.slots
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.steps += 1
        for i, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            self.counts[i] += 1
            xp = backend.of(p.data)
            flat = [xp.ascontiguousarray(a).reshape(-1) for a in (p.data, p.grad, *(s[i] for s in self.state.values()))]
            scratch = [xp.empty_like(xp.blocks(flat[0])[0][0]) for _ in range(2)] if p.size else []
            for w, g, *state in xp.blocks(*flat):
                a, b = (s[: w.size] for s in scratch)
                self.update(xp, w, g, state, a, b, self.counts[i])
            if not p.data.flags.c_contiguous:
                p.data[...] = flat[0].reshape(p.shape)

    def update(self, xp: Any, w: Array, g: Array, state: list[Array], a: Array, b: Array, t: int) -> None:
        """Change w and state in place. a and b are scratch arrays of the same shape; t counts from 1."""
        raise NotImplementedError

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


class SGD(Optimizer):
    """w -= lr v, v = momentum v + g; with Nesterov's momentum, w -= lr (g + momentum v). As in PyTorch.

    weight_decay adds weight_decay w to g.
    """

    slots: tuple[str, ...] = ("momentum",)

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        if not 0 <= momentum < 1:
            raise InputError(f"momentum {momentum} is no usable value: give a number of at least 0 and below 1.")
        if nesterov and not momentum:
            raise InputError("nesterov needs a momentum above 0: give momentum=0.9, say.")
        self.momentum = momentum
        self.nesterov = nesterov
        if not momentum:
            self.slots = ()
        super().__init__(parameters, lr, weight_decay)

    def update(self, xp: Any, w: Array, g: Array, state: list[Array], a: Array, b: Array, t: int) -> None:
        g = _decayed(xp, w, g, self.weight_decay, a)
        if self.momentum:
            (v,) = state
            v *= self.momentum
            v += g
            g = xp.add(g, xp.multiply(v, self.momentum, out=b), out=b) if self.nesterov else v
        w -= xp.multiply(g, self.lr, out=b)


class Adam(Optimizer):
    """Adam. [Kingma & Ba 2015, algorithm 1]

        m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
        w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    weight_decay adds weight_decay w to g.
    """

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"betas {betas} are no usable values: give two numbers of at least 0 and below 1.")
        super().__init__(parameters, lr, weight_decay)
        _check(eps=eps)
        self.betas = betas
        self.eps = eps

    def update(self, xp: Any, w: Array, g: Array, state: list[Array], a: Array, b: Array, t: int) -> None:
        m, v = state
        beta1, beta2 = self.betas
        if self.decoupled:
            w *= 1 - self.lr * self.weight_decay
        else:
            g = _decayed(xp, w, g, self.weight_decay, b)
        m *= beta1
        m += xp.multiply(g, 1 - beta1, out=a)
        v *= beta2
        xp.multiply(g, g, out=a)
        a *= 1 - beta2
        v += a
        xp.sqrt(v, out=a)  # a = sqrt(v / (1 - beta2^t)) + eps
        a *= 1 / math.sqrt(1 - beta2**t)
        a += self.eps
        xp.divide(m, a, out=a)
        a *= self.lr / (1 - beta1**t)
        w -= a


class AdamW(Adam):
    """Adam with decoupled weight decay: w shrinks by lr weight_decay w. [Loshchilov & Hutter 2019, algorithm 2]"""

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)


class Adamax(Adam):
    """Adam with the infinity norm: u = max(beta2 u, |g| + eps), w -= lr / (1 - beta1^t) m / u.

    [Kingma & Ba 2015, algorithm 2; eps where PyTorch has it]
    """

    slots = ("m", "u")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def update(self, xp: Any, w: Array, g: Array, state: list[Array], a: Array, b: Array, t: int) -> None:
        m, u = state
        beta1, beta2 = self.betas
        g = _decayed(xp, w, g, self.weight_decay, b)
        m *= beta1
        m += xp.multiply(g, 1 - beta1, out=a)
        u *= beta2
        xp.abs(g, out=a)
        a += self.eps
        xp.maximum(u, a, out=u)
        xp.divide(m, u, out=a)
        a *= self.lr / (1 - beta1**t)
        w -= a


class Adagrad(Optimizer):
    """s += g^2, w -= lr g / (sqrt(s) + eps). [Duchi et al. 2011]"""

    slots = ("s",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0
    ):
        super().__init__(parameters, lr, weight_decay)
        _check(eps=eps)
        self.eps = eps

    def update(self, xp: Any, w: Array, g: Array, state: list[Array], a: Array, b: Array, t: int) -> None:
        (s,) = state
        g = _decayed(xp, w, g, self.weight_decay, b)
        s += xp.multiply(g, g, out=a)
        xp.sqrt(s, out=a)
        a += self.eps
        xp.divide(g, a, out=a)
        a *= self.lr
        w -= a


def _check(**values: float) -> None:
    """Raise InputError for a number that is negative or not finite."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{name} {value} is no usable value: give a number of at least 0.")


def _decayed(xp: Any, w: Array, g: Array, weight_decay: float, out: Array) -> Array:
    """g + weight_decay w, in the scratch array out where there is decay."""
    return xp.add(g, xp.multiply(w, weight_decay, out=out), out=out) if weight_decay else g


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
    norm = grad_norm(grads)
    xp = backend.of(norm)
    scale = xp.minimum(max_norm / (norm + 1e-6), 1)
    for g in grads:
        g *= scale
    return norm


def grad_norm(grads: list[Array]) -> Array:
    """The joint Euclidean norm of arrays, as a 0-d array."""
    xp = backend.of(grads[0]) if grads else backend.current()
    squares = [xp.vdot(g, g) for g in grads]
    return xp.asarray(xp.sqrt(sum(squares, start=xp.zeros((), dtype=xp.float32))))
