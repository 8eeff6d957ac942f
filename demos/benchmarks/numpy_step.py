"""The training step of the dense VAE by hand: the floor that an engine on NumPy can come near to.

Every array is made once; matmul and ufuncs write into them (out=). All parameters are views of one flat array, as are
their gradients, so that Adam is one loop over blocks that stay in the cache. The one exponential of a pixel,
e = exp(-|l|) of its logit l, gives both parts of the loss:

    softplus(l) = max(l, 0) + log(1 + e)        sigmoid(l) = (1 or e) / (1 + e) for l >= 0 or l < 0
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from benchmarks.problems import LR, Problem

BLOCK = 1 << 14  # numbers of a parameter block: w, g, m, v and two scratch arrays are 400 kB


class HandWritten:
    """step() trains once on a batch that it draws; loss() is that of a given batch and given noise."""

    def __init__(self, problem: Problem, images: np.ndarray):
        n, (hidden,), pixels, latent = problem.batch, problem.hidden, math.prod(problem.shape), problem.latent
        self.problem = problem
        self.images = images.reshape(len(images), pixels)
        self.rng = np.random.default_rng(1)
        self.t = 0
        shapes = {
            "encoder.1": (hidden, pixels), "encoder.3": (2 * latent, hidden),
            "decoder.0": (hidden, latent), "decoder.2": (pixels, hidden),
        }  # fmt: skip
        named = {
            f"{k}.{part}": s for k, shape in shapes.items() for part, s in (("weight", shape), ("bias", shape[:1]))
        }
        ends = list(itertools.accumulate(math.prod(shape) for shape in named.values()))
        self.w, self.g, self.m, self.v = (np.zeros(ends[-1], np.float32) for _ in range(4))
        self.parameters, self.gradients = (
            {
                name: flat[end - math.prod(s) : end].reshape(s)
                for (name, s), end in zip(named.items(), ends, strict=True)
            }
            for flat in (self.w, self.g)
        )
        self.scratch = np.empty((2, BLOCK), np.float32)

        def rows(width: int) -> Any:
            return np.empty((n, width), np.float32)

        self.x, self.logits, self.e, self.grad_logits = (rows(pixels) for _ in range(4))
        self.positive = np.empty((n, pixels), bool)
        self.h, self.grad_h, self.d, self.grad_d = (rows(hidden) for _ in range(4))
        self.code, self.grad_code = rows(2 * latent), rows(2 * latent)
        self.eps, self.std, self.z, self.grad_z = (rows(latent) for _ in range(4))
        self.ones = np.ones(n, np.float32)

    def step(self) -> Any:
        """One step; the loss."""
        loss = self.compute_gradients()
        self.adam()
        return loss

    def compute_gradients(self) -> Any:
        indices = self.rng.integers(0, len(self.images), len(self.x))
        self.images.take(indices, axis=0, out=self.x, mode="clip")  # the other modes would write a copy first
        self.rng.standard_normal(out=self.eps, dtype=np.float32)
        loss = self.forward()
        self.backward()
        return loss

    def forward(self) -> Any:
        """The loss of the batch x and the noise eps; leaves the gradient of the logits."""
        self._linear(self.x, "encoder.1", self.h)
        np.maximum(self.h, 0, out=self.h)
        self._linear(self.h, "encoder.3", self.code)
        mu, logvar = np.split(self.code, 2, axis=1)
        np.multiply(logvar, 0.5, out=self.std)
        np.exp(self.std, out=self.std)
        np.multiply(self.std, self.eps, out=self.z)
        self.z += mu
        self._linear(self.z, "decoder.0", self.d)
        np.maximum(self.d, 0, out=self.d)
        self._linear(self.d, "decoder.2", self.logits)
        kl = 0.5 * (np.vdot(mu, mu) + np.vdot(self.std, self.std) - logvar.sum() - logvar.size)
        return (self._reconstruction() + kl) / len(self.x)

    def _reconstruction(self) -> Any:
        """-log p(x | z) of the batch, and its gradient (of the mean) with respect to the logits."""
        l, e, g = self.logits, self.e, self.grad_logits  # noqa: E741
        np.abs(l, out=e)
        np.negative(e, out=e)
        np.exp(e, out=e)
        np.greater_equal(l, 0, out=self.positive)
        np.copyto(g, e)
        np.copyto(g, 1, where=self.positive)
        e += 1
        g /= e  # sigmoid(l)
        g -= self.x
        g /= len(self.x)
        np.log(e, out=e)
        total = e.sum() - np.vdot(l, self.x)
        np.maximum(l, 0, out=l)
        return total + l.sum()

    def backward(self) -> None:
        """All gradients."""
        n = np.float32(len(self.x))
        mu, _ = np.split(self.code, 2, axis=1)
        grad_mu, grad_logvar = np.split(self.grad_code, 2, axis=1)
        self._back(self.grad_logits, self.d, "decoder.2", self.grad_d)
        self.grad_d *= self.d > 0
        self._back(self.grad_d, self.z, "decoder.0", self.grad_z)
        np.divide(mu, n, out=grad_mu)
        grad_mu += self.grad_z
        # z = mu + std eps and KL = (mu^2 + std^2 - logvar - 1) / 2, with d std / d logvar = std / 2
        np.multiply(self.grad_z, self.eps, out=grad_logvar)
        grad_logvar += self.std / n
        grad_logvar *= self.std
        grad_logvar -= 1 / n
        grad_logvar *= 0.5
        self._back(self.grad_code, self.h, "encoder.3", self.grad_h)
        self.grad_h *= self.h > 0
        self._back(self.grad_h, self.x, "encoder.1", None)

    def _linear(self, x: Any, name: str, out: Any) -> None:
        np.matmul(x, self.parameters[f"{name}.weight"].T, out=out)
        out += self.parameters[f"{name}.bias"]

    def _back(self, grad: Any, x: Any, name: str, grad_x: Any) -> None:
        """From the gradient of a layer's output to those of its parameters and, where it is asked for, its input."""
        np.matmul(grad.T, x, out=self.gradients[f"{name}.weight"])
        np.matmul(self.ones, grad, out=self.gradients[f"{name}.bias"])
        if grad_x is not None:
            np.matmul(grad, self.parameters[f"{name}.weight"], out=grad_x)

    def adam(self) -> None:
        """w -= lr m^ / (sqrt(v^) + eps), in blocks."""
        self.t += 1
        c = math.sqrt(1 - 0.999**self.t)  # brought to the numbers: w -= rate c m / (sqrt(v) + c eps)
        rate, eps = c * LR / (1 - 0.9**self.t), c * 1e-8
        for start in range(0, len(self.w), BLOCK):
            w, g, m, v = (flat[start : start + BLOCK] for flat in (self.w, self.g, self.m, self.v))
            a, b = self.scratch[:, : len(w)]
            np.subtract(g, m, out=a)
            a *= 0.1
            m += a
            np.multiply(g, g, out=b)
            b -= v
            b *= 0.001
            v += b
            np.sqrt(v, out=b)
            b += eps
            np.divide(m, b, out=b)
            b *= rate
            w -= b

    def load(self, state: dict[str, np.ndarray]) -> None:
        for name, w in self.parameters.items():
            w[...] = state[name]

    def loss(self, x: np.ndarray, noise: np.ndarray) -> float:
        self.x[...], self.eps[...] = x.reshape(len(x), -1), noise
        return float(self.forward())

    def wait(self) -> None:
        pass
