"""Flows: invertible steps that bend a simple posterior into one that is not. [Rezende & Mohamed 2015]

    z_0 ~ N(mu, diag(e^logvar))                  the mean field
    z_t = f_t(z_(t-1), h)                        a step; h: what more the encoder tells of x
    log q(z_T | x) = log q(z_0 | x) - sum_t log |det d f_t / d z_(t-1)|

Each step is of a form whose determinant costs no more than the step itself. With no steps it is the mean field.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivae import backend, nn, ops
from minivae.distributions import MeanField
from minivae.errors import InputError
from minivae.tensor import Tensor

TINY = 1e-12  # of the square of a vector


class Flow(nn.Module):
    """A posterior (see distributions.posterior): the mean field, then steps (z, h) -> (z, log |det|)."""

    def __init__(self, steps: list[nn.Module]):
        self.steps = steps
        self.channels = 3 if steps else 2  # mu, logvar, and h, as long as z

    def forward(self, numbers: Tensor, shape: tuple[int, ...] = (), rng: Any = None) -> tuple[Tensor, Tensor]:
        start, h = self._split(numbers)
        z, log_q = MeanField()(start, shape, rng)
        for step in self.steps:
            z, log_det = step(z, h)
            log_q = log_q - log_det
        return z, log_q

    def center(self, numbers: Tensor) -> Tensor:
        """Where the flow takes the mean of the mean field: (N, latent)."""
        start, h = self._split(numbers)
        z = MeanField().center(start)
        for step in self.steps:
            z, _ = step(z, h)
        return z

    def _split(self, numbers: Tensor) -> tuple[Tensor, Tensor | None]:
        """The numbers of the mean field, and h."""
        if not self.steps:
            return numbers, None
        end = numbers.shape[-1] // 3 * 2
        start, h = ops.split(numbers, (end,), axis=-1)
        return start, h


class Planar(nn.Module):
    """z + u tanh(w z + b), which bends z along the hyperplane w z + b = 0; u, w and b are linear in h.

        log |det| = log(1 + w u (1 - tanh^2))      [Rezende & Mohamed 2015, section 4.1]

    It is invertible where w u > -1. So u is moved along w until w u is softplus(w u) - 1 instead; then the bracket is
    t^2 + (1 - t^2) softplus(w u), t the tanh, which is above 0 and never cancels. [ibid., appendix A]
    """

    def __init__(self, latent: int):
        self.latent = latent
        self.parameters_of = nn.Linear(latent, 2 * latent + 1)

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        u, w, b = ops.split(self.parameters_of(h), (self.latent, 2 * self.latent), axis=-1)
        wu = (w * u).sum(axis=-1, keepdims=True)
        bounded = ops.softplus(wu)
        ww = (w * w).sum(axis=-1, keepdims=True)
        u = u + (bounded - 1.0 - wu) * w / (ww + TINY)
        rest = TINY / (ww + TINY)  # of the way that a w of nearly 0 is too short for
        bounded = (1.0 - rest) * bounded + rest * (1.0 + wu)
        t = ops.tanh((w * z).sum(axis=-1, keepdims=True) + b)
        t2 = t * t
        log_det = ops.log(t2 + (1.0 - t2) * bounded)
        return z + u * t, log_det.reshape(log_det.shape[:-1])


class IAF(nn.Module):
    """An inverse-autoregressive step: each latent is moved by what those before it say. [Kingma et al. 2016]

        m, s = network(z, h);   z_i' = sigma(s_i) z_i + (1 - sigma(s_i)) m_i,   m_i and s_i of z_1 .. z_(i-1) and h

    The Jacobian is a triangle with the diagonal sigma(s), so log |det| = sum_i log sigma(s_i). s begins near 2, for
    steps that at first change little. The latents come out in reverse, so that the next step asks the last ones first.
    """

    def __init__(self, latent: int, hidden: int):
        self.network = MADE(latent, hidden, latent)
        bias: Any = self.network.output.bias
        bias.data[latent:] += 2.0

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        m, s = ops.split(self.network(z, h), 2, axis=-1)
        gate = ops.sigmoid(s)
        moved = gate * z + ops.sigmoid(-s) * m
        return ops.flip(moved, -1), -ops.softplus(-s).sum(axis=-1)


class MADE(nn.Module):
    """Two numbers for each of z (..., latent), which depend on those before it alone, and on h. [Germain et al. 2015]

    Each hidden unit has a degree 0 .. latent - 1 and sees the latents up to it; the outputs for latent i see the
    units of a lower degree than i. h (N, context) is added to the hidden units, so that all see it: those for the first
    latent through the units of degree 0, which see nothing else.
    -> (..., 2 latent), the first numbers of all, then the second.
    """

    def __init__(self, latent: int, hidden: int, context: int):
        places = np.arange(1, latent + 1)
        degrees = np.arange(hidden) % latent
        self.input = MaskedLinear(degrees[:, None] >= places)
        self.context = nn.Linear(context, hidden, bias=False)
        self.output = MaskedLinear(np.tile(places, 2)[:, None] > degrees)

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        y: Tensor = self.output(ops.elu(self.input(z) + self.context(h)))
        return y


class MaskedLinear(nn.Linear):
    """A linear layer whose output i sees the inputs j with mask[i, j]; mask: (out, in), true or false."""

    def __init__(self, mask: Any):
        super().__init__(mask.shape[1], mask.shape[0])
        self.mask = backend.current().asarray(mask.astype(np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight * self.mask.astype(self.weight.dtype), self.bias)


def make_flow(name: str, latent: int, depth: int, hidden: int = 128) -> Flow:
    """A flow by its name, "planar" or "iaf", with so many steps. hidden: units of the networks of iaf."""
    if name not in ("planar", "iaf"):
        raise InputError(f"unknown flow '{name}': choose planar or iaf.")
    if depth < 0:
        raise InputError(f"depth {depth} is no number of steps: give a whole number of at least 0.")
    return Flow([Planar(latent) if name == "planar" else IAF(latent, hidden) for _ in range(depth)])
