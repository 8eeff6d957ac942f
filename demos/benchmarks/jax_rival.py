"""The same networks and steps in JAX: the whole step is one function under jit, its state donated to it.

The VQ-VAE is left out: its codebook's state would have to be threaded through by hand.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.problems import LR, Layer, Problem

jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as for the others

Parameters = dict[str, Any]


def layer(name: str, kind: Layer, activation: str, parameters: Parameters, x: Any) -> Any:
    """What a layer makes of x."""
    if kind.kind in ("act", "flatten", "unflatten"):
        plain = {
            "act": {"relu": jax.nn.relu, "tanh": jnp.tanh}[activation],
            "flatten": lambda x: x.reshape(len(x), -1),
            "unflatten": lambda x: x.reshape(*x.shape[:-1], *kind.shape),
        }
        return plain[kind.kind](x)
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    if kind.kind == "linear":
        return x @ weight.T + bias
    transposed, padding = {}, kind.padding
    if kind.kind == "up":  # a convolution of the image with zeros between its pixels
        weight = jnp.flip(weight, (2, 3)).swapaxes(0, 1)
        transposed, padding = {"lhs_dilation": (kind.stride,) * 2}, kind.kernel - 1 - kind.padding
    stride = (1 if transposed else kind.stride,) * 2
    y = lax.conv_general_dilated(
        x, weight, stride, [(padding, padding)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"), **transposed
    )
    return y + bias[:, None, None]


def network(part: str, layers: list[Layer], activation: str, parameters: Parameters, x: Any) -> Any:
    """What the encoder or the decoder makes of x."""
    for i, kind in enumerate(layers):
        x = layer(f"{part}.{i}", kind, activation, parameters, x)
    return x


def loss(problem: Problem, parameters: Parameters, x: Any, eps: Any) -> Any:
    """-ELBO, or the importance-weighted bound."""
    mu, logvar = jnp.split(network("encoder", problem.encoder(), problem.activation, parameters, x), 2, axis=-1)
    z = mu + jnp.exp(0.5 * logvar) * eps
    decoded = network("decoder", problem.decoder(), problem.activation, parameters, z.reshape(-1, z.shape[-1]))
    logits = decoded.reshape(*z.shape[:-1], *x.shape[1:])
    nll = jnp.sum(jax.nn.softplus(logits) - logits * x, axis=(-3, -2, -1))
    if problem.k > 1:
        log_p, log_q = -0.5 * jnp.sum(z * z, -1), -0.5 * jnp.sum(logvar + eps * eps, -1)
        return jnp.mean(math.log(problem.k) - jax.nn.logsumexp(log_p - log_q - nll, axis=0))
    kl = -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar), axis=-1)
    return jnp.mean(nll + kl)


def adam(parameters: Parameters, gradients: Parameters, m: Parameters, v: Parameters, t: Any) -> tuple[Any, Any, Any]:
    """One step of Adam with its usual numbers."""
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    first, second = 1 - 0.9**t, 1 - 0.999**t
    updated = jax.tree.map(lambda w, m, v: w - LR * (m / first) / (jnp.sqrt(v / second) + 1e-8), parameters, m, v)
    return updated, m, v


@partial(jax.jit, static_argnums=0)
def gradients(problem: Problem, images: Any, parameters: Parameters, key: Any) -> tuple[Any, Any, Parameters]:
    """The next key, and the loss of a batch that is drawn, with its gradients."""
    key, for_batch, for_noise = jax.random.split(key, 3)
    x = images[jax.random.randint(for_batch, (problem.batch,), 0, len(images))]
    shape = (problem.batch, problem.latent)
    eps = jax.random.normal(for_noise, (problem.k, *shape) if problem.k > 1 else shape)
    return key, *jax.value_and_grad(partial(loss, problem))(parameters, x, eps)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def step(problem: Problem, images: Any, state: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """One step: the new state and the loss."""
    parameters, m, v, t, key = state
    key, value, slopes = gradients(problem, images, parameters, key)
    return (*adam(parameters, slopes, m, v, t + 1), t + 1, key), value


class Jax:
    """step() trains once on a batch that it draws; loss() is that of a given batch and given noise."""

    def __init__(self, problem: Problem, images: np.ndarray):
        self.problem = problem
        self.images = jnp.asarray(images)
        self.state: tuple[Any, ...] = ()
        self.last: Any = None

    def step(self) -> Any:
        self.state, self.last = step(self.problem, self.images, self.state)
        return self.last

    def compute_gradients(self) -> Any:
        parameters, *rest, key = self.state
        key, *self.last = gradients(self.problem, self.images, parameters, key)
        self.state = (parameters, *rest, key)
        return self.last

    def load(self, state: dict[str, np.ndarray]) -> None:
        parameters = {name: jnp.array(value) for name, value in state.items()}
        m, v = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
        self.state = (parameters, m, v, jnp.zeros((), jnp.float32), jax.random.key(0))

    def loss(self, x: np.ndarray, noise: np.ndarray) -> float:
        return float(loss(self.problem, self.state[0], jnp.asarray(x), jnp.asarray(noise)))

    def wait(self) -> None:
        jax.block_until_ready((self.state, self.last))
