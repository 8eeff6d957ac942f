"""Optimisers, learning-rate schedules and gradient clipping. Parameters are updated in place.

A step passes over the memory once, in pieces, and needs no temporary of the size of the model.
"""

from minivae.optim.base import Optimizer
from minivae.optim.rules import SGD, Adagrad, Adam, Adamax, AdamW
from minivae.optim.schedule import Schedule, clip_grad_norm, cosine, grad_norm, step_schedule, warmup

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "Adamax", "Optimizer", "Schedule", "clip_grad_norm", "cosine", "grad_norm",
    "step_schedule", "warmup",
]  # fmt: skip
