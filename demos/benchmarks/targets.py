"""What should be reached: the times of minivae over those of a rival, in one run on one machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The row's number of `ours` is at most so many times that of the rival; without one, at most so much."""

    at_most: float
    rival: str | None = "torch"
    ours: str = "minivae"


BOTH_LAYOUTS = ("torch", "torch channels-last")
CAPTURED = "minivae captured"

REACH: dict[str, dict[str, list[Target]]] = {
    "numpy": {
        "dense-100": [Target(0.70), Target(1.25, "jax"), Target(1 / 3, "autograd")],
        "dense-128": [Target(0.70), Target(1.25, "jax"), Target(1 / 3, "autograd"), Target(1.15, "numpy")],
        "dense-512": [Target(0.85), Target(1.25, "jax"), Target(1 / 3, "autograd")],
        "conv-28": [Target(1.0), Target(1.5, "torch channels-last")],
        "vqvae-32": [Target(1.2)],
        "adam": [Target(1.0, "torch (fused)")],
        "engine": [Target(3.0, None)],
        "memory-dense": [Target(1.0)],
        "memory-conv": [Target(1.0)],
        "memory-vqvae": [Target(1.0)],
        "import": [Target(0.15, None)],
    },
    "cupy": {
        "dense-128": [Target(1.5), Target(1 / 3, ours=CAPTURED)],
        "conv-28": [Target(1.0, rival, CAPTURED) for rival in BOTH_LAYOUTS],
        "conv-64": [Target(1.0, rival, CAPTURED) for rival in BOTH_LAYOUTS],
        "vqvae-32": [Target(1.0, rival, CAPTURED) for rival in BOTH_LAYOUTS],
        "epoch": [Target(1.0, None)],
        "memory-dense": [Target(1.5)],
        "memory-conv": [Target(1.5)],
        "memory-vqvae": [Target(1.5)],
        "import": [Target(0.15, None)],
    },
}
