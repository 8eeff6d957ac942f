"""The models, by name: each entry builds one from plain arguments that a checkpoint can hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from minivae import nn
from minivae.errors import InputError
from minivae.models.arvae import PixelVAE, pixelvae
from minivae.models.autoencoder import Autoencoder, autoencoder, stack
from minivae.models.cvae import CVAE, Completion, completion, cvae
from minivae.models.factorvae import FactorVAE, factorvae
from minivae.models.fsq import FSQ
from minivae.models.gan import GAN, gan
from minivae.models.hvae import HVAE, hvae
from minivae.models.kmeans import kmeans
from minivae.models.loss import Loss, Player
from minivae.models.pixelcnn import PixelCNN
from minivae.models.prior import Prior, prior
from minivae.models.quantizer import VectorQuantizer
from minivae.models.tcvae import TCVAE, tcvae
from minivae.models.vae import VAE, vae
from minivae.models.vaegan import VAEGAN, vaegan
from minivae.models.vqvae import VQVAE, vqvae
from minivae.models.vqvae2 import VQVAE2, vqvae2
from minivae.models.wae import WAE, wae

__all__ = [
    "CVAE", "FSQ", "GAN", "HVAE", "MODELS", "TCVAE", "VAE", "VAEGAN", "VQVAE", "VQVAE2", "WAE", "Autoencoder",
    "Completion", "FactorVAE", "Loss", "PixelCNN", "PixelVAE", "Player", "Prior", "VectorQuantizer", "arguments",
    "autoencoder", "build", "check_used", "completion", "cvae", "factorvae", "gan", "hvae", "kmeans", "pixelvae",
    "prior", "stack", "tcvae", "vae", "vaegan", "vqvae", "vqvae2", "wae",
]  # fmt: skip

# The presets: a builder with its defaults
MODELS: dict[str, Callable[..., Any]] = {
    "ae": autoencoder,
    "linear-ae": partial(autoencoder, hidden=(), latent=30),
    "dae": partial(autoencoder, corruption="gaussian"),
    "context": partial(autoencoder, corruption="block"),
    "vae": vae,
    "beta-vae": partial(vae, beta=4.0, latent=10),
    "beta-tcvae": tcvae,
    "factorvae": factorvae,
    "cvae": cvae,
    "completion": completion,
    "hvae": hvae,
    "pixelvae": pixelvae,
    "iwae": partial(vae, k=5, hidden=(200, 200), activation="tanh", latent=50),
    "wae": wae,
    "gan": gan,
    "vaegan": vaegan,
    "vqvae": vqvae,
    "vqvae2": vqvae2,
    "prior": prior,
}

# Arguments that mean something with these values of another alone
WITH: list[tuple[str, str, tuple[Any, ...]]] = [
    ("depth", "flow", ("planar", "iaf")),
    ("kl", "flow", (None,)),
    ("kl", "k", (1,)),
    ("levels", "quantizer", ("fsq",)),
    ("decay", "quantizer", ("ema",)),
    *((name, "quantizer", ("ema", "gradient")) for name in ("codes", "dim", "commitment", "restart", "estimator")),
]
LINEAR = ("arch", "hidden", "channels", "activation")  # with these linear-ae would not be linear


def arguments(name: str, **given: Any) -> dict[str, Any]:
    """All arguments of a model by its name: those given, and the defaults of the others.

    Raises InputError for an unknown model, and for an argument that the model has not.
    """
    if name not in MODELS:
        raise InputError(f"unknown model '{name}': choose one of {', '.join(MODELS)}.")
    known = inspect.signature(MODELS[name]).parameters
    for argument in given:
        if argument not in known:
            raise InputError(f"{name} has no '{argument}': its arguments are {', '.join(known)}.")
    return {key: p.default for key, p in known.items() if p.default is not p.empty} | given


def check_used(name: str, given: dict[str, Any]) -> None:
    """Raise InputError where an argument that was given means nothing beside the others. See WITH."""
    values = arguments(name, **given)
    for argument, other, wanted in WITH:
        if argument in given and other in values and values[other] not in wanted:
            instead = "leave " + other if None in wanted else f"give {other} {' or '.join(map(str, wanted))}"
            raise InputError(
                f"{argument} {given[argument]} means nothing to {name} with {other} {str(values[other]).lower()}: "
                f"leave it out, or {instead}{' out' if None in wanted else ''}."
            )
    for argument in LINEAR:
        if name == "linear-ae" and argument in given:
            raise InputError(
                f"{argument} {given[argument]} would not leave linear-ae linear: leave it out, or train an ae."
            )


def build(name: str, **given: Any) -> nn.Module:
    """A new model by its name and its arguments."""
    given = arguments(name, **given)
    model: nn.Module = MODELS[name](**given)
    return model
