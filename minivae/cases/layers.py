"""The rows of the layers, and of the losses of whole models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minivae import backend, nn, ops
from minivae.cases.case import Case, case
from minivae.data import Labelled
from minivae.models import (
    FSQ,
    PixelCNN,
    VectorQuantizer,
    autoencoder,
    completion,
    cvae,
    factorvae,
    gan,
    hvae,
    pixelvae,
    tcvae,
    vae,
    vaegan,
    wae,
)
from minivae.models.flow import IAF, Planar
from minivae.models.likelihood import Likelihood, likelihood
from minivae.models.wae import mmd
from minivae.tensor import Tensor, as_tensor
from minivae.testing import Strategy, arrays


def _layer(build: Callable[[], nn.Module], x: Strategy, call: Callable[..., Any] = nn.Module.__call__) -> Case:
    """A module as a function of its input and all of its parameters. It is built anew at each call."""

    def fn(x: Tensor, *values: Tensor) -> Tensor:
        module = build()
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.data, parameter._node = value.data, value._node
        result: Tensor = call(module, x)
        return result

    return Case(fn, (x, *(arrays(p.shape, low=-1, high=1) for p in build().parameters())))


def _loss(model: Any, levels: Any) -> Tensor:
    """A model's whole loss, with the same noise at each call. levels: images in grey levels, which have no gradient."""
    x = as_tensor(levels).data.astype(model.parameters()[0].dtype) / 255
    if getattr(model, "needs_labels", False):
        x = Labelled(x, backend.current().arange(len(x)))
    loss: Tensor = model.loss(x, backend.current().generator(0)).total
    return loss


def _completion(model: Any, levels: Any) -> Tensor:
    """Its loss with a constant guess: that of the baseline is one to the other networks, but not to differences."""
    model.guess = lambda x: 3 * x - 1
    return _loss(model, levels)


def _model(build: Callable[..., nn.Module], **options: Any) -> Case:
    """The loss of a small model as a function of all its parameters."""
    return _layer(lambda: build((1, 2, 2), hidden=(2,), latent=2, activation="tanh", **options), _levels, _loss)


def _played(build: Callable[..., Any], name: str, **options: Any) -> Case:
    """The loss of one player of a small model as a function of its own parameters; those of the others stand still."""

    def made() -> Any:
        return build((1, 2, 2), hidden=(2,), latent=2, **options)

    def fn(levels: Any, *values: Tensor) -> Tensor:
        model = made()
        own = model.players()[name].parameters
        for parameter in model.parameters():
            still = backend.current().asarray(np.linspace(-1, 1, parameter.size).reshape(parameter.shape))
            parameter.data = still.astype(values[0].dtype)
        for parameter, value in zip(own, values, strict=True):
            parameter.data, parameter._node = value.data, value._node
        x = as_tensor(levels).data.astype(values[0].dtype) / 255
        total: Tensor = model.players()[name].loss(x, backend.current().generator(0)).total
        return total

    return Case(fn, (_levels, *(arrays(p.shape, low=-1, high=1) for p in made().players()[name].parameters)))


def _nll(p: Likelihood, axis: Any = None) -> Case:
    """A likelihood as a function of a decoder's output and of the data."""
    return case(lambda output, x: p.nll(output, x, axis), arrays((2, 2, p.channels, 1, 3)), _pixels)


def _quantised(z: Any, codebook: Any) -> Any:
    """The terms of the loss of a vector quantiser in evaluation, in which the codebook stands still."""
    quantizer = VectorQuantizer(3, 1, decay=None)
    quantizer.codebook = codebook
    quantizer.eval()
    return quantizer(z).terms


def _step(step: Any, numbers: Tensor) -> Tensor:
    """Both that a step of a flow returns, in one number for each z: numbers are z and h, side by side."""
    z, log_det = step(*ops.split(numbers, 2, axis=-1))
    total: Tensor = (z * z).sum(axis=-1) + log_det
    return total


def _codes(dtype: Any) -> Tensor:
    return Tensor([[-2.0], [0.0], [2.0]], dtype=dtype)


_levels, _pixels = arrays((2, 1, 2, 2), 0, 256, dtype=np.uint8), arrays((2, 1, 1, 3), low=0.1, high=0.9)

LAYERS: dict[str, Case] = {
    "nn.Linear": _layer(lambda: nn.Linear(3, 2), arrays((4, 3))),
    "nn.LayerNorm": _layer(lambda: nn.LayerNorm(3), arrays((4, 3), distinct=True)),
    "nn.BatchNorm": _layer(lambda: nn.BatchNorm(3), arrays((4, 3, 2), distinct=True)),
    "nn.BatchNorm.eval": _layer(lambda: nn.BatchNorm(3).eval(), arrays((4, 3, 2))),
    "nn.Embedding": _layer(lambda: nn.Embedding(4, 2), st.just(np.array([[1, 3], [1, 0]]))),
    "nn.Dropout": _layer(lambda: nn.Dropout(0.5, rng=backend.current().generator(0)), arrays((4, 3))),
    "nn.Conv2d": _layer(lambda: nn.Conv2d(4, 2, 3, stride=2, padding=1, groups=2), arrays((2, 4, 5, 4))),
    "nn.ConvTranspose2d": _layer(
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), arrays((2, 2, 2, 3))
    ),
    "nn.MaskedConv2d": _layer(lambda: nn.MaskedConv2d(2, 1, (3, 3), "A"), arrays((1, 2, 3, 2))),
    "nn.GroupNorm": _layer(lambda: nn.GroupNorm(2, 4), arrays((2, 4, 2, 3), distinct=True)),
    "nn.ResidualBlock": _layer(
        lambda: nn.ResidualBlock(2, 1, rng=backend.current().generator(0)), arrays((1, 2, 3, 2), away_from=[0])
    ),
    "nn.MaxPool2d": _layer(lambda: nn.MaxPool2d(3, 2, 1), arrays((2, 2, 5, 4), distinct=True)),
    "nn.AvgPool2d": _layer(lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), arrays((2, 2, 5, 4))),
    "nn.Upsample": _layer(lambda: nn.Upsample((2, 3), "bilinear"), arrays((2, 2, 3, 2))),
    "nn.PixelShuffle": _layer(lambda: nn.PixelShuffle(2), arrays((2, 4, 1, 3))),
    "nn.PixelUnshuffle": _layer(lambda: nn.PixelUnshuffle(2), arrays((2, 1, 4, 2))),
    "nn.Sequential": _layer(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Unflatten((3, 1))), arrays((3, 2, 2))
    ),
    "models.VectorQuantizer.codebook": case(
        lambda e: _quantised(Tensor([[-2.4], [0.4], [1.9], [-1.6]], dtype=e.dtype), e + _codes(e.dtype))["codebook"],
        arrays((3, 1), low=-0.2, high=0.2),
    ),
    "models.VectorQuantizer.commitment": case(
        lambda z: _quantised(z, _codes(z.dtype))["commitment"], arrays((2, 1, 3), away_from=[-1, 1])
    ),
    "models.PixelCNN": _layer(
        lambda: PixelCNN(2, channels=1, layers=2, kernel=1, classes=2, above=2),
        st.just(np.array([[[1, 0]], [[0, 1]]])),
        lambda model, c: model.nll(c, c[:, 0, 0], c[:, :, :1]),
    ),
    "models.Planar": _layer(lambda: Planar(2), arrays((3, 4)), _step),
    "models.IAF": _layer(lambda: IAF(3, 4), arrays((2, 6)), _step),
    "models.FSQ.bound": case(lambda z: FSQ((5, 4, 2)).bound(z), arrays((4, 3))),
    "models.Bernoulli": _nll(likelihood("bernoulli")),
    "models.Gaussian": _nll(likelihood("gaussian", 0.3)),
    "models.Gaussian.pixel": _nll(likelihood("gaussian", "pixel")),
    "models.DiscretizedLogistic": _nll(likelihood("logistic"), axis=()),
    "models.SquaredError": _nll(likelihood("squared-error")),
    "models.Multinomial": case(likelihood("multinomial").nll, arrays((2, 3, 4)), arrays((3, 4), low=0.2)),
    "models.vae": _model(vae),
    "models.vae.monte-carlo": _model(vae, kl="monte-carlo", samples=2, likelihood="gaussian", variance="pixel"),
    "models.vae.free_bits": _model(vae, free_bits=0.05, samples=2),
    "models.vae.capacity": _model(vae, capacity=1.0, beta=3.0, likelihood="gaussian"),
    "models.vae.k": _model(vae, k=3, samples=2),
    "models.tcvae": _model(tcvae, data_size=7, alpha=0.5, beta=3.0, gamma=2.0),
    "models.cvae": _model(cvae, classes=2),
    "models.cvae.conv": _model(cvae, classes=2, arch="conv", channels=(1,)),
    "models.completion": _layer(
        lambda: completion((1, 2, 2), 2, hidden=(2,), latent=1, activation="tanh"), _levels, _completion
    ),
    "models.mmd": case(mmd, arrays((3, 2)), arrays((4, 2))),
    "models.wae": _model(wae),
    "models.factorvae": _played(factorvae, "vae", judge=(2,), activation="tanh"),
    "models.factorvae.discriminator": _played(factorvae, "discriminator", judge=(2,)),
    "models.gan": _played(gan, "generator", activation="tanh"),
    "models.gan.discriminator": _played(gan, "discriminator", activation="tanh"),
    "models.vaegan": _played(vaegan, "encoder", activation="tanh"),
    "models.vaegan.decoder": _played(vaegan, "decoder", activation="tanh"),
    "models.vaegan.discriminator": _played(vaegan, "discriminator", activation="tanh"),
    "models.hvae": _layer(
        lambda: hvae((1, 2, 2), hidden=(2,), latents=(2, 1), activation="tanh", samples=2), _levels, _loss
    ),
    "models.pixelvae": _layer(
        lambda: pixelvae((1, 2, 2), hidden=(2,), latent=1, width=1, layers=1, activation="tanh"), _levels, _loss
    ),
    "models.vae.planar": _model(vae, flow="planar", depth=1),
    "models.vae.conv": _model(vae, arch="conv", channels=(1,), likelihood="logistic"),
    "models.autoencoder": _model(autoencoder, arch="conv", channels=(1,)),
    "models.autoencoder.block": _model(autoencoder, corruption="block", likelihood="bernoulli"),
}  # fmt: skip
