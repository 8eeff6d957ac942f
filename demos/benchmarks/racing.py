"""All sides of one problem: they get the same weights, must compute the same loss, and then race."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.problems import Problem
from benchmarks.steps import Minivae, synchronize
from benchmarks.timing import Runner
from minivae.errors import InputError

RIVALS = ("torch", "jax", "autograd", "numpy")
HOST_ONLY = ("autograd", "numpy")


def require(against: Sequence[str], backend: str) -> None:
    """Import the rivals. InputError where one is not installed, or cannot compute where the backend does."""
    for rival in against:
        if backend == "cupy" and rival in HOST_ONLY:
            raise InputError(f"--against {rival} computes on the CPU: leave it out with --backend cupy.")
        try:
            import_module("numpy" if rival == "numpy" else rival)
        except ImportError:
            raise InputError(
                f"--against {rival} needs the package {rival}, which is not installed: pip install {rival}, "
                "or leave it out."
            ) from None
    if "torch" in against and backend == "cupy" and not import_module("torch").cuda.is_available():
        raise InputError("--against torch with --backend cupy needs a PyTorch that sees the GPU; this one does not.")


def rivals(problem: Problem, images: np.ndarray, against: Sequence[str], backend: str) -> dict[str, Any]:
    """The sides beside ours that can express the problem, by name."""
    dense = not problem.channels
    sides: dict[str, Any] = {}
    if "torch" in against:
        from benchmarks.torch_rival import Torch

        device = "cuda" if backend == "cupy" else "cpu"
        sides["torch"] = Torch(problem, images, device)
        if not dense:
            sides["torch channels-last"] = Torch(problem, images, device, channels_last=True)
    if "jax" in against and problem.model != "vqvae":
        from benchmarks.jax_rival import Jax

        sides["jax"] = Jax(problem, images)
    if "autograd" in against and dense:
        from benchmarks.autograd_rival import Autograd

        sides["autograd"] = Autograd(problem, images)
    if "numpy" in against and dense and len(problem.hidden) == 1 and problem.k == 1:
        from benchmarks.numpy_step import HandWritten

        sides["numpy"] = HandWritten(problem, images)
    return sides


def sides(problem: Problem, against: Sequence[str], backend: str) -> tuple[Minivae, dict[str, Any]]:
    """Ours and the rivals, with the same weights and the same loss."""
    images = problem.images()
    ours = Minivae(problem, images)
    others = rivals(problem, images, against, backend)
    state = ours.state()
    for side in others.values():
        side.load(state)
    agree(problem, ours, others, images)
    for side in others.values():  # the loss of a VQ-VAE moves its codebook
        side.load(state)
    return ours, others


def agree(problem: Problem, ours: Minivae, others: dict[str, Any], images: np.ndarray, tolerance: float = 1e-5) -> None:
    """RuntimeError where a side computes another loss for the same weights, batch and noise: the race is off."""
    rng = np.random.default_rng(2)
    x, noise = images[: problem.batch], problem.noise(rng)
    x = np.resize(x, (problem.batch, *problem.shape))  # a batch of more than all images has some twice
    expected = ours.loss(x, noise)
    for name, side in others.items():
        loss = side.loss(x, noise)
        if not abs(loss - expected) <= tolerance * abs(expected):
            raise RuntimeError(f"{name} computes the loss {loss}, minivae {expected}: they are not the same network.")


def runners(ours: Minivae, others: dict[str, Any], capture: bool) -> dict[str, Runner]:
    """What races, by name."""
    racing = {"minivae": Runner(ours.step, synchronize)}
    if capture:
        racing["minivae captured"] = Runner(Minivae(ours.problem, ours.problem.images()).captured(), synchronize)
    return racing | {name: Runner(side.step, side.wait) for name, side in others.items()}
