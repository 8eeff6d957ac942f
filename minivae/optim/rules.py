"""The optimisers: each update is a fused function (`backend.fuse`) in the symbols of its paper.

It takes a parameter w, its gradient g and its state, and numbers: first those that change from step to step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from minivae.backend import Array, fuse
from minivae.errors import InputError
from minivae.nn.module import Parameter
from minivae.optim.base import Optimizer, check


@fuse
def _sgd(xp: Any, w: Array, g: Array, lr: Any, decay: float) -> tuple[Array, ...]:
    return (w - lr * (g + decay * w),)


@fuse
def _momentum(xp: Any, w: Array, g: Array, v: Array, lr: Any, momentum: float, decay: float) -> tuple[Array, ...]:
    v = momentum * v + (g + decay * w)
    return w - lr * v, v


@fuse
def _nesterov(xp: Any, w: Array, g: Array, v: Array, lr: Any, momentum: float, decay: float) -> tuple[Array, ...]:
    g = g + decay * w
    v = momentum * v + g
    return w - lr * (g + momentum * v), v


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

    def rule(self) -> Callable[..., tuple[Array, ...]]:
        return _nesterov if self.nesterov else _momentum if self.momentum else _sgd

    def fixed(self) -> tuple[float, ...]:
        return (self.momentum, self.weight_decay) if self.momentum else (self.weight_decay,)


@fuse
def _adam(
    xp: Any, w: Array, g: Array, m: Array, v: Array, rate: Any, eps: Any, beta1: float, beta2: float
) -> tuple[Array, ...]:
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return w - rate * (m / (xp.sqrt(v) + eps)), m, v


@fuse
def _decayed_adam(
    xp: Any, w: Array, g: Array, m: Array, v: Array, rate: Any, eps: Any, beta1: float, beta2: float, decay: float
) -> tuple[Array, ...]:
    updated: tuple[Array, ...] = _adam.function(xp, w, g + decay * w, m, v, rate, eps, beta1, beta2)
    return updated


@fuse
def _adamw(
    xp: Any, w: Array, g: Array, m: Array, v: Array, rate: Any, eps: Any, kept: Any, beta1: float, beta2: float
) -> tuple[Array, ...]:
    updated: tuple[Array, ...] = _adam.function(xp, kept * w, g, m, v, rate, eps, beta1, beta2)
    return updated


class Adam(Optimizer):
    """Adam. [Kingma & Ba 2015, algorithm 1]

        m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
        w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    computed as in the end of section 2, with the corrections in the numbers:

        w -= rate m / (sqrt(v) + eps sqrt(1 - beta2^t)),    rate = lr sqrt(1 - beta2^t) / (1 - beta1^t)

    weight_decay adds weight_decay w to g.
    """

    slots = ("m", "v")

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
        check(eps=eps)
        self.betas = betas
        self.eps = eps

    def rule(self) -> Callable[..., tuple[Array, ...]]:
        return _decayed_adam if self.weight_decay else _adam

    def changing(self, t: int) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        root = math.sqrt(1 - beta2**t)
        return self.lr * root / (1 - beta1**t), self.eps * root

    def fixed(self) -> tuple[float, ...]:
        return (*self.betas, self.weight_decay) if self.weight_decay else self.betas


class AdamW(Adam):
    """Adam with decoupled weight decay: w shrinks by lr weight_decay w. [Loshchilov & Hutter 2019, algorithm 2]"""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def rule(self) -> Callable[..., tuple[Array, ...]]:
        return _adamw

    def changing(self, t: int) -> tuple[float, ...]:
        return (*super().changing(t), 1 - self.lr * self.weight_decay)

    def fixed(self) -> tuple[float, ...]:
        return self.betas


@fuse
def _adamax(
    xp: Any, w: Array, g: Array, m: Array, u: Array, rate: Any, beta1: float, beta2: float, eps: float, decay: float
) -> tuple[Array, ...]:
    g = g + decay * w
    m = beta1 * m + (1 - beta1) * g
    u = xp.maximum(beta2 * u, xp.abs(g) + eps)
    return w - rate * (m / u), m, u


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

    def rule(self) -> Callable[..., tuple[Array, ...]]:
        return _adamax

    def changing(self, t: int) -> tuple[float, ...]:
        return (self.lr / (1 - self.betas[0] ** t),)

    def fixed(self) -> tuple[float, ...]:
        return *self.betas, self.eps, self.weight_decay


@fuse
def _adagrad(xp: Any, w: Array, g: Array, s: Array, lr: Any, eps: float, decay: float) -> tuple[Array, ...]:
    g = g + decay * w
    s = s + g * g
    return w - lr * (g / (xp.sqrt(s) + eps)), s


class Adagrad(Optimizer):
    """s += g^2, w -= lr g / (sqrt(s) + eps). [Duchi et al. 2011]"""

    slots = ("s",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0
    ):
        super().__init__(parameters, lr, weight_decay)
        check(eps=eps)
        self.eps = eps

    def rule(self) -> Callable[..., tuple[Array, ...]]:
        return _adagrad

    def fixed(self) -> tuple[float, ...]:
        return self.eps, self.weight_decay
