"""The VQ-VAE-2: maps of codes at several sizes. [Razavi et al. 2019, "Generating Diverse High-Fidelity Images with
VQ-VAE-2"]

    encoders      f_1 = E_1(x), f_2 = E_2(f_1), ..., each a map of half the sides of the one before
    top           z_L = P_L(f_L), quantised to q_L
    below         u_l = U_l(q_(l+1)) of twice the sides;  z_l = P_l(f_l, u_l), quantised to q_l
    decoder       x^ = g(q_1, u_1)
    loss          mean((x^ - x)^2) / variance + the quantisers' terms, summed over the levels

The small map at the top can say what concerns the whole image, and the one below what remains. One level is the
VQ-VAE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.models.loss import Loss
from minivae.models.nets import check_sizes, halved, map_decoder, map_features
from minivae.models.quantizer import Quantized, VectorQuantizer
from minivae.tensor import Tensor, as_tensor, no_grad


class Level(nn.Module):
    """features: the level below (or the images) -> f; project: f, and u of the level above, -> z; quantizer: z -> q.

    up: q of the level above -> u; None at the top.
    """

    def __init__(self, features: nn.Module, project: nn.Module, quantizer: VectorQuantizer, up: nn.Module | None):
        self.features = features
        self.project = project
        self.quantizer = quantizer
        self.up = up


class VQVAE2(nn.Module):
    """levels: the bottom first; decoder: (N, D or 2 D, h, w) -> images; maps: the sizes (h, w) of the codes, the top
    first; variance: of the training data's pixels.

    The codes of an image are one row of whole numbers: the map of the top, then those below.
    """

    def __init__(
        self, levels: Sequence[Level], decoder: nn.Module, maps: Sequence[tuple[int, int]], variance: float = 1.0
    ):
        if not variance > 0:
            raise InputError(
                f"the pixels have variance {variance}, by which errors are divided: choose images that differ."
            )
        self.levels = list(levels)
        self.decoder = decoder
        self.maps = list(maps)
        self.variance = variance

    @property
    def codes(self) -> list[int]:
        """The sizes of the codebooks, the top first."""
        return [level.quantizer.codes for level in reversed(self.levels)]

    def loss(self, x: Any, rng: Any = None) -> Loss:
        """reconstruction + the terms of all quantisers of images x (N, *shape)."""
        x = as_tensor(x)
        quantized, above = self._quantize(x, lambda level, z: level.quantizer(z, rng))
        reconstruction = ops.mse_loss(self.decoder(_joined(quantized[-1].values, above)), x) / self.variance
        terms: dict[str, Tensor] = {"reconstruction": reconstruction}
        for q in quantized:
            for name, term in q.terms.items():
                terms[name] = terms[name] + term if name in terms else term
        return Loss(sum(list(terms.values())[1:], start=reconstruction), terms)

    def _quantize(self, x: Tensor, quantizer: Any) -> tuple[list[Quantized], Tensor | None]:
        """What quantizer(level, z) makes of every level, the top first; and u_1, None where there is one level."""
        features: list[Tensor] = []
        for level in self.levels:
            features.append(level.features(features[-1] if features else x))
        made: list[Quantized] = []
        above = None
        for level, f in zip(reversed(self.levels), reversed(features), strict=True):
            above = None if level.up is None else level.up(made[-1].values)
            made.append(quantizer(level, level.project(_joined(f, above))))
        return made, above

    def statistics(self) -> dict[str, float]:
        """Of each quantiser since the last call, in the model's mode: perplexity_1, ... from the top."""
        return {
            f"{name}_{i}": value
            for i, level in enumerate(reversed(self.levels), 1)
            for name, value in level.quantizer.statistics().items()
        }

    def counted(self) -> list[Any]:
        """What the statistics of training have counted so far; see Quantizer.counted."""
        return [level.quantizer.counted() for level in self.levels]

    def count_on(self, counted: list[Any]) -> None:
        """Go on counting in training from there."""
        for level, part in zip(self.levels, counted, strict=True):
            level.quantizer.count_on(part)

    @no_grad()
    def encode(self, x: Any) -> Array:
        """Images (N, *shape) -> the indices of their codes as rows, the top's first, (N, sum of h w)."""
        made, _ = self._quantize(as_tensor(x), _looked_up)
        xp = backend.of(made[0].indices)
        return xp.concatenate([q.indices.reshape(len(q.indices), -1) for q in made], axis=1)

    def split(self, rows: Array) -> list[Array]:
        """Rows of codes (N, sum of h w) -> maps (N, h, w), the top's first."""
        sizes = [math.prod(size) for size in self.maps]
        if rows.ndim != 2 or rows.shape[1] != sum(sizes):
            raise InputError(f"codes of shape {rows.shape} are not of maps {self.maps}: give rows (N, {sum(sizes)}).")
        starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        return [rows[:, a:b].reshape(-1, *m) for a, b, m in zip(starts[:-1], starts[1:], self.maps, strict=True)]

    @no_grad()
    def decode(self, rows: Array) -> Array:
        """The images of codes, rows (N, sum of h w) -> (N, *shape)."""
        levels = reversed(self.levels)
        q = [as_tensor(level.quantizer.lookup(part)) for level, part in zip(levels, self.split(rows), strict=True)]
        up = self.levels[0].up
        return self.decoder(_joined(q[-1], None if up is None else up(q[-2]))).data

    def reconstruct(self, x: Any) -> Array:
        """The images of the codes of x."""
        return self.decode(self.encode(x))

    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange images are, (N,): the squared error of their reconstructions over the data's variance."""
        d = (self.reconstruct(x) - x).reshape(len(x), -1)
        return {"reconstruction": (d * d).mean(axis=1) / self.variance}


def _joined(x: Tensor, above: Tensor | None) -> Tensor:
    """Maps, with the channels of what comes from the level above."""
    return x if above is None else ops.concatenate([x, above], axis=1)


def _looked_up(level: Level, z: Tensor) -> Quantized:
    """The quantisation of z as it is when a file is decoded: nothing is counted, nothing learnt."""
    indices = level.quantizer.encode(z)
    return Quantized(as_tensor(level.quantizer.lookup(indices)), indices, {})


def vqvae2(
    shape: tuple[int, int, int],
    codes: int = 128,
    dim: int = 16,
    channels: Sequence[int] = (32, 64),
    depth: int = 2,
    residual_blocks: int = 0,
    commitment: float = 0.25,
    decay: float = 0.95,
    kmeans: bool = True,
    restart: float = 0.03,
    data_variance: float = 1.0,
) -> VQVAE2:
    """The VQ-VAE-2 of so many levels for images of a shape (C, H, W). Each of the channels halves the sides.

    The last halvings are those between the levels: with channels (32, 64) and depth 2 the bottom has half of the
    image's sides and the top a quarter. Each level has its own codebook of so many codes. The rest as in vqvae.
    """
    check_sizes(depth=depth)
    if depth > len(channels):
        raise InputError(f"{depth} levels need as many channels, each of which halves the sides: not {list(channels)}.")
    halved(shape, len(channels))
    bottom = len(channels) - depth + 1
    steps = [tuple(channels[:bottom]), *((c,) for c in channels[bottom:])]
    inputs = [shape[0], *(step[-1] for step in steps)]
    levels = [
        Level(
            map_features(inputs[i], step, residual_blocks),
            nn.Conv2d(step[-1] + (dim if i + 1 < depth else 0), dim, 1),
            VectorQuantizer(codes, dim, commitment, decay, kmeans, restart),
            nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1) if i + 1 < depth else None,
        )
        for i, step in enumerate(steps)
    ]
    decoder = map_decoder(dim * min(depth, 2), channels[:bottom][::-1], shape, residual_blocks)
    maps = [halved(shape, bottom + i) for i in reversed(range(depth))]
    return VQVAE2(levels, decoder, maps, data_variance)
