"""The models, by name: each entry builds one from plain arguments that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minivae import nn
from minivae.errors import InputError
from minivae.models.loss import Loss
from minivae.models.vae import VAE, vae

__all__ = ["MODELS", "VAE", "Loss", "build", "vae"]

MODELS: dict[str, Callable[..., Any]] = {"vae": vae}


def build(name: str, **arguments: Any) -> nn.Module:
    """A new model by its name and its arguments."""
    if name not in MODELS:
        raise InputError(f"unknown model '{name}': choose one of {', '.join(MODELS)}.")
    model: nn.Module = MODELS[name](**arguments)
    return model
