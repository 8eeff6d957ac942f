"""The prior of a VQ-VAE: how probable a map of its codes is, learnt after it, from the codes of its training images.

    VQ-VAE      -log p(c) = -sum_i log p(c_i | c_before)             [van den Oord et al. 2017, section 3.3]
    VQ-VAE-2    -log p(c) = -log p(c_top) - log p(c_bottom | c_top)  [Razavi et al. 2019, section 3.2]

each by a PixelCNN. The VQ-VAE, here the codec, does not change. Drawn codes, decoded, are new images; and
-log2 p(c) is how many bits the codes of an image cost in a file, see minivae.compression.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minivae import backend, nn
from minivae.backend import Array
from minivae.data import Batches, Dataset, Split
from minivae.errors import InputError
from minivae.models.loss import Loss
from minivae.models.pixelcnn import PixelCNN
from minivae.models.quantizer import VectorQuantizer
from minivae.models.vqvae import VQVAE
from minivae.models.vqvae2 import VQVAE2
from minivae.tensor import no_grad

Choose = Callable[[int, Array], Array]  # (place, logits (n, codes)) -> codes (n,)


class OfCodes(nn.Module):
    """What all priors of codes share. codec: a trained VQVAE or VQVAE2, which nothing changes any more.

    maps: the sizes (h, w) of its maps, the top first; sizes: of their codebooks. The codes of an image are a row of
    whole numbers, map by map.
    """

    def __init__(self, codec: Any, shape: tuple[int, ...]):
        nn.frozen(codec).eval()
        self.codec = codec
        self.sizes, self.maps = _codes(codec, shape)

    def encode(self, x: Any) -> Array:
        """Images (N, *shape) -> the rows of their codes, (N, sum of h w)."""
        codes: Array = self.codec.encode(x)
        return codes.reshape(len(codes), -1)

    def decode(self, codes: Array) -> Array:
        """Rows of codes -> images (N, *shape)."""
        rows = codes if isinstance(self.codec, VQVAE2) else codes.reshape(-1, *self.maps[0])
        images: Array = self.codec.decode(rows)
        return images

    def reconstruct(self, x: Any) -> Array:
        """The images of the codes of x."""
        return self.decode(self.encode(x))

    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """How strange images are, (N,): by the codec's reconstruction."""
        found: dict[str, Array] = self.codec.scores(x)
        return found

    def walk(self, n: int, choose: Choose) -> Array:
        """n rows of codes, place by place: choose(i, log-probabilities (n, codes) up to a constant) gives place i."""
        raise NotImplementedError


class Frequencies(OfCodes):
    """Codes that do not know of each other, each as probable as it was frequent in training; FSQ's, which are not
    counted there, are all as probable.
    """

    def walk(self, n: int, choose: Choose) -> Array:
        xp = backend.current()
        columns: list[Array] = []
        for part, k, size in zip(self._quantizers(), self.sizes, self.maps, strict=True):
            counts = part.counts.data if isinstance(part, VectorQuantizer) else xp.zeros(k, dtype="float32")
            logits = xp.broadcast_to(xp.log(counts + 1e-3 * counts.mean() + 1e-9), (n, k))  # none is impossible
            columns += [choose(len(columns) + i, logits) for i in range(math.prod(size))]
        return xp.stack([xp.asarray(column) for column in columns], axis=1)

    def _quantizers(self) -> list[Any]:
        if isinstance(self.codec, VQVAE2):
            return [level.quantizer for level in reversed(self.codec.levels)]
        return [self.codec.quantizer]


class Prior(OfCodes):
    """p(codes | class). networks: a PixelCNN for each map, the top first.

    Its examples are rows of codes; where the prior is told classes, the label stands before them. `examples` makes
    them of images.
    """

    def __init__(self, codec: Any, shape: tuple[int, ...], width: int, layers: int, kernel: int, classes: int = 0):
        super().__init__(codec, shape)
        above = [0, *self.sizes[:-1]]
        self.networks = [PixelCNN(k, width, layers, kernel, classes, a) for k, a in zip(self.sizes, above, strict=True)]
        self.classes = classes

    def examples(self, dataset: Dataset) -> Dataset:
        """The codes of a data set of images, with their labels: what a prior trains on. InputError: wrong classes."""
        if self.classes and (dataset.train.labels is None or len(dataset.classes) != self.classes):
            raise InputError(
                f"'{dataset.name}' has {len(dataset.classes) or 'no'} classes, not the {self.classes} that the prior "
                "is to be told: give as many with --classes, or leave it out."
            )
        return replace(dataset, train=self._rows(dataset.train), test=self._rows(dataset.test))

    def _rows(self, split: Split) -> Split:
        xp = backend.current()
        batches = Batches(split, 500, shuffle=False).epoch(0)
        rows = np.concatenate([backend.to_numpy(self.encode(xp.asarray(x))) for x in batches])
        if self.classes and split.labels is not None:
            rows = np.concatenate([split.labels[:, None], rows], axis=1)
        return replace(split, images=rows)

    def loss(self, rows: Array, rng: Any = None) -> Loss:
        """-log p(codes) in nats per image, of rows as `examples` makes them; and per code."""
        labels, codes = (rows[:, 0], rows[:, 1:]) if self.classes else (None, rows)
        parts = [part.sum(axis=(1, 2)).mean() for part in self._nll(codes, labels)]
        total = sum(parts[1:], start=parts[0])
        levels = {f"map_{i}": part for i, part in enumerate(parts, 1)} if len(parts) > 1 else {}
        return Loss(total, {**levels, "nats_per_code": total / codes.shape[1]})

    def _nll(self, codes: Array, labels: Array | None) -> list[Any]:
        """-log p of every code, (N, h, w) for each of the maps."""
        maps = self._split(codes)
        above = [None, *maps[:-1]]
        return [net.nll(c, labels, top) for net, c, top in zip(self.networks, maps, above, strict=True)]

    @no_grad()
    def nll(self, codes: Array, labels: Array | None = None) -> Array:
        """-log p(codes | label) of rows (N, sum of h w), in nats, (N,)."""
        return sum(part.data.sum(axis=(1, 2)) for part in self._nll(codes, labels))

    def _split(self, codes: Array) -> list[Array]:
        ends = np.cumsum([math.prod(size) for size in self.maps]).tolist()
        if codes.shape[1] != ends[-1]:
            raise InputError(f"rows of {codes.shape[1]} codes are not of maps {self.maps}: give {ends[-1]}.")
        starts = [0, *ends[:-1]]
        return [codes[:, a:b].reshape(-1, *m) for a, b, m in zip(starts, ends, self.maps, strict=True)]

    def scores(self, x: Any, rng: Any = None) -> dict[str, Array]:
        """By the codec's reconstruction, and, without classes, how improbable their codes are, in nats."""
        found = super().scores(x)
        return found if self.classes else found | {"prior": self.nll(self.encode(x))}

    def walk(self, n: int, choose: Choose) -> Array:
        if self.classes:
            raise InputError(
                "this prior is told classes, which images to compress do not say: train one without --classes."
            )
        maps: list[Array] = []
        for net, size in zip(self.networks, self.maps, strict=True):
            start = sum(math.prod(m) for m in self.maps[: len(maps)])

            def at(i: int, logits: Array, start: int = start) -> Array:
                return choose(start + i, logits)

            maps.append(net.walk(size, n, at, above=maps[-1] if maps else None))
        return backend.current().concatenate([c.reshape(n, -1) for c in maps], axis=1)

    def sample(self, n: int, rng: Any = None, labels: Array | None = None, temperature: float = 1.0) -> Array:
        """n images of drawn codes. labels (n,): of which classes, where the prior knows them; by default in turn."""
        if labels is not None and not self.classes:
            raise InputError("this prior was not told classes: leave the label out, or train one with --classes.")
        xp = backend.current()
        if self.classes:
            labels = xp.arange(n) % self.classes if labels is None else xp.asarray(labels)
            xp.check_indices("labels", labels, self.classes)
        drawn: list[Array] = []
        for net, size in zip(self.networks, self.maps, strict=True):
            drawn.append(net.sample(size, n, rng, labels, drawn[-1] if drawn else None, temperature))
        return self.decode(xp.concatenate([c.reshape(n, -1) for c in drawn], axis=1))


def prior(
    shape: tuple[int, ...],
    codec: dict[str, Any],
    width: int = 64,
    layers: int = 6,
    kernel: int = 3,
    classes: int = 0,
) -> Prior:
    """The prior of a codec that `models.build(codec["model"], **codec["arguments"])` makes, its weights yet to load.

    width: channels of the PixelCNNs, of so many layers and this kernel. classes: how many the prior is told; 0: none.
    """
    from minivae import models

    made = models.build(codec["model"], **codec["arguments"]).eval()
    return Prior(made, tuple(shape), width, layers, kernel, classes)


def _codes(codec: Any, shape: tuple[int, ...]) -> tuple[list[int], list[tuple[int, int]]]:
    """How many codes each map of a VQ-VAE or a VQ-VAE-2 knows, and its size (h, w), the top first."""
    if isinstance(codec, VQVAE2):
        return codec.codes, codec.maps
    if not isinstance(codec, VQVAE):
        raise InputError(f"a {type(codec).__name__} has no codes: train a vqvae or a vqvae2 for that.")
    blank = backend.current().zeros((1, *shape), dtype="float32")
    height, width = codec.encode(blank).shape[1:]
    return [codec.quantizer.codes], [(height, width)]
