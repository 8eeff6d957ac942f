"""The same networks and steps in PyTorch, eager. Nothing here imports minivae: its memory is measured alone, too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.problems import LR, Layer, Problem


def module(layer: Layer, activation: str) -> nn.Module:
    """A layer as PyTorch has it."""
    geometry = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding}
    makers: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Linear(layer.inputs, layer.outputs),
        "conv": lambda: nn.Conv2d(layer.inputs, layer.outputs, **geometry),
        "up": lambda: nn.ConvTranspose2d(layer.inputs, layer.outputs, **geometry),
        "act": {"relu": nn.ReLU, "tanh": nn.Tanh}[activation],
        "flatten": nn.Flatten,
        "unflatten": lambda: nn.Unflatten(-1, layer.shape),
    }
    return makers[layer.kind]()


class VAE(nn.Module):
    """The VAE, and with k > 1 the importance-weighted one."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.encoder = nn.Sequential(*(module(layer, problem.activation) for layer in problem.encoder()))
        self.decoder = nn.Sequential(*(module(layer, problem.activation) for layer in problem.decoder()))
        self.k = problem.k

    def forward(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        """The loss, for noise eps or for its own."""
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        if eps is None:
            eps = torch.randn((self.k, *mu.shape), device=x.device) if self.k > 1 else torch.randn_like(mu)
        z = mu + torch.exp(0.5 * logvar) * eps
        if self.k > 1:
            return self.bound(x, z, eps, logvar)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
        return (reconstruction + kl) / len(x)

    def bound(self, x: Tensor, z: Tensor, eps: Tensor, logvar: Tensor) -> Tensor:
        """-log (1/k) sum_i p(x, z_i) / q(z_i | x)"""
        logits = self.decoder(z.flatten(0, 1)).reshape(*z.shape[:2], -1)
        target = x.flatten(1).expand_as(logits)
        nll = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
        log_p = -0.5 * (z * z).sum(-1)  # the constants of p(z) and q(z | x) are the same
        log_q = -0.5 * (logvar + eps * eps).sum(-1)
        return (math.log(self.k) - torch.logsumexp(log_p - log_q - nll, dim=0)).mean()


class Codes(nn.Module):
    """A codebook of running means; codes that are hardly used begin anew. As minivae.models.VectorQuantizer."""

    def __init__(self, codes: int, dim: int, commitment: float = 0.25, decay: float = 0.95, restart: float = 0.03):
        super().__init__()
        for name, value in {
            "codebook": torch.zeros(codes, dim), "counts": torch.zeros(codes), "sums": torch.zeros(codes, dim),
            "initialised": torch.zeros((), dtype=torch.bool),
        }.items():  # fmt: skip
            self.register_buffer(name, value)
        for name, value in {"use": torch.zeros(codes), "squares": torch.zeros(())}.items():  # counted for the log
            self.register_buffer(name, value, persistent=False)
        self.commitment, self.decay, self.restart = commitment, decay, restart

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        with torch.no_grad():
            norms = (self.codebook**2).sum(1)
            indices = torch.addmm(norms, rows, self.codebook.T, alpha=-2).argmin(1)
            e = F.embedding(indices, self.codebook)
        loss = self.commitment * F.mse_loss(rows, e)
        self.follow(rows.detach(), e, indices)
        maps = (rows + (e - rows).detach()).view(z.shape[0], *z.shape[2:], -1)
        return maps.permute(0, 3, 1, 2), loss

    @torch.no_grad()
    def follow(self, z: Tensor, e: Tensor, indices: Tensor) -> None:
        """The running means, then the codes that are hardly used."""
        ones = torch.ones(len(z), device=z.device)
        n = torch.zeros_like(self.counts).index_add_(0, indices, ones)  # bincount would wait for a GPU
        squares = ((z - e) ** 2).sum(1)
        self.use += n
        self.squares += squares.sum()
        self.counts.mul_(self.decay).add_(n, alpha=1 - self.decay)
        self.sums.mul_(self.decay).index_add_(0, indices, z, alpha=1 - self.decay)
        means = (self.sums + 1e-5 * self.codebook) / (self.counts + 1e-5)[:, None]
        mean = self.counts.mean()
        dead = self.counts < self.restart * mean
        drawn = z[torch.multinomial(squares, len(self.codebook), replacement=True)]
        self.codebook.copy_(torch.where(dead[:, None], drawn, means))
        self.sums.copy_(torch.where(dead[:, None], mean * drawn, self.sums))
        self.counts.copy_(torch.where(dead, mean, self.counts))


class VQVAE(nn.Module):
    """The VQ-VAE."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.encoder = nn.Sequential(*(module(layer, problem.activation) for layer in problem.encoder()))
        self.decoder = nn.Sequential(*(module(layer, problem.activation) for layer in problem.decoder()))
        self.quantizer = Codes(problem.codes, problem.dim)

    def forward(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        """The loss; there is no noise."""
        z, commitment = self.quantizer(self.encoder(x))
        return F.mse_loss(self.decoder(z), x) + commitment


class Torch:
    """step() trains once on a batch that it draws; loss() is that of a given batch and given noise.

    channels_last: the layout of images and weights. adam: which implementation of Adam it is.
    """

    def __init__(self, problem: Problem, images: np.ndarray, device: str = "cpu", channels_last: bool = False):
        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.problem = problem
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        kind = VQVAE if problem.model == "vqvae" else VAE
        self.model = kind(problem).to(device, memory_format=self.layout)
        self.images = torch.from_numpy(images).to(device, memory_format=self.layout)
        self.optimizer, self.adam = optimizer(self.model.parameters())

    def step(self) -> Tensor:
        """One step; the loss stays on the device."""
        loss = self.compute_gradients()
        self.optimizer.step()
        return loss

    def compute_gradients(self) -> Tensor:
        indices = torch.randint(len(self.images), (self.problem.batch,), device=self.images.device)
        x = self.images[indices]  # keeps the layout
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(x)
        loss.backward()
        return loss.detach()

    def load(self, state: dict[str, np.ndarray]) -> None:
        self.model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})

    def loss(self, x: np.ndarray, noise: np.ndarray) -> float:
        device = self.images.device
        batch = torch.from_numpy(x).to(device, memory_format=self.layout)
        with torch.no_grad():
            return float(self.model(batch, torch.from_numpy(noise).to(device)))

    def wait(self) -> None:
        wait(self.images.device.type)


def optimizer(parameters: Any) -> tuple[torch.optim.Adam, str]:
    """PyTorch's fused Adam where the device has it, else its default one; and which it is."""
    parameters = list(parameters)
    try:
        return torch.optim.Adam(parameters, LR, fused=True), "fused"
    except RuntimeError:
        return torch.optim.Adam(parameters, LR), "not fused"


def wait(device: str) -> None:
    """Until the device has done all that was begun."""
    if device == "cuda":
        torch.cuda.synchronize()
