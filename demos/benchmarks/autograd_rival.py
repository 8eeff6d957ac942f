"""The same dense networks in HIPS autograd, written as its own example of a VAE is. It has no convolutions of use."""

from __future__ import annotations

import math
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.scipy.special import logsumexp

from benchmarks.problems import LR, Layer, Problem

Parameters = dict[str, Any]


def network(part: str, layers: list[Layer], activation: str, parameters: Parameters, x: Any) -> Any:
    """What the encoder or the decoder makes of vectors x (M, n)."""
    for i, layer in enumerate(layers):
        if layer.kind == "linear":
            x = anp.dot(x, parameters[f"{part}.{i}.weight"].T) + parameters[f"{part}.{i}.bias"]
        elif layer.kind == "act":
            x = anp.tanh(x) if activation == "tanh" else anp.maximum(x, 0)
    return x


def loss(parameters: Parameters, problem: Problem, x: Any, eps: Any) -> Any:
    """-ELBO, or the importance-weighted bound, of vectors x (N, n)."""
    code = network("encoder", problem.encoder(), problem.activation, parameters, x)
    mu, logvar = code[:, : problem.latent], code[:, problem.latent :]
    z = mu + anp.exp(0.5 * logvar) * eps
    flat = anp.reshape(z, (-1, problem.latent))
    logits = network("decoder", problem.decoder(), problem.activation, parameters, flat)
    logits = anp.reshape(logits, (*z.shape[:-1], x.shape[-1]))
    nll = anp.sum(anp.logaddexp(0, logits) - logits * x, axis=-1)
    if problem.k > 1:
        log_p, log_q = -0.5 * anp.sum(z * z, axis=-1), -0.5 * anp.sum(logvar + eps * eps, axis=-1)
        return anp.mean(math.log(problem.k) - logsumexp(log_p - log_q - nll, axis=0))
    kl = -0.5 * anp.sum(1 + logvar - mu**2 - anp.exp(logvar), axis=-1)
    return anp.mean(nll + kl)


class Autograd:
    """step() trains once on a batch that it draws; loss() is that of a given batch and given noise."""

    differentiated = staticmethod(value_and_grad(loss))

    def __init__(self, problem: Problem, images: np.ndarray):
        self.problem = problem
        self.images = images.reshape(len(images), -1)
        self.rng = np.random.default_rng(1)
        self.parameters: Parameters = {}
        self.moments: dict[str, tuple[Any, Any]] = {}
        self.t = 0

    def compute_gradients(self) -> Any:
        x = self.images[self.rng.integers(0, len(self.images), self.problem.batch)]
        return self.differentiated(self.parameters, self.problem, x, self.problem.noise(self.rng))

    def step(self) -> Any:
        value, gradients = self.compute_gradients()
        self.t += 1
        for name, w in self.parameters.items():
            self.adam(w, gradients[name], *self.moments[name])
        return value

    def adam(self, w: Any, g: Any, m: Any, v: Any) -> None:
        """One step of Adam, in place."""
        m += 0.1 * (g - m)
        v += 0.001 * (g * g - v)
        w -= LR / (1 - 0.9**self.t) * m / (np.sqrt(v * (1 / (1 - 0.999**self.t))) + 1e-8)

    def load(self, state: dict[str, np.ndarray]) -> None:
        self.parameters = {name: np.array(value) for name, value in state.items()}
        self.moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in state.items()}

    def loss(self, x: np.ndarray, noise: np.ndarray) -> float:
        return float(loss(self.parameters, self.problem, x.reshape(len(x), -1), noise))

    def wait(self) -> None:
        pass
