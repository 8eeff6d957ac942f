"""Mini-batches in a seeded order that a resumed run meets again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from minivae import backend
from minivae.backend import Backend
from minivae.data.dataset import Array, Labelled, Split
from minivae.errors import InputError


class Batches:
    """The images of a split in batches of float32 in [0, 1].

    The order of an epoch is a function of the seed and the epoch's number alone, so that a run
    which resumes at some epoch and step sees what it would have seen, on every backend. The data set is neither
    copied nor reordered: a permutation of indices is drawn, and each batch is gathered from it.
    xp: the backend of the batches, NumPy if not given. A device gathers them from the images in its own memory,
    where the order is sent once an epoch; from data that do not fit there each batch is sent as it is needed.
    labels: batches are `Labelled`, for a model that needs them.
    Raises InputError if batch_size < 1 or seed < 0, or where there are no labels to give.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        xp: Backend | None = None,
        labels: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}: give a whole number of at least 1.")
        if seed < 0:
            raise InputError(f"the seed is {seed}: give a whole number of at least 0.")
        if labels and split.labels is None:
            raise InputError(
                "this model is told the class of each image, but these data have no labels: choose others."
            )
        self.split = split
        self.xp = xp or backend.host()
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        size = (min(batch_size, len(split)), *split.images.shape[1:])
        on_host = self.xp is backend.host() and split.images.dtype == np.uint8
        self._bytes = np.empty(size, np.uint8) if on_host else None  # of one batch after the other
        self.labels = None if not labels else self.xp.asarray(split.labels) if self.resident else split.labels

    def __len__(self) -> int:
        """The number of batches in an epoch; the last may be smaller than the others."""
        return -(-len(self.split) // self.batch_size)

    @property
    def resident(self) -> bool:
        """Whether the images lie where the batches are made."""
        return self.xp is backend.host() or self.split.resident(self.xp) is not self.split.images

    def epoch(self, n: int, start: int = 0) -> Iterator[Any]:
        """The batches (B, C, H, W) of epoch n, from batch number `start` on; with labels, `Labelled` ones.

        Each is a fresh array, which the caller may keep or change.
        Raises InputError unless n >= 0 and 0 <= start <= len(self).
        """
        return map(self.gather, self.indices(n, start))

    def indices(self, n: int, start: int = 0) -> Iterator[Array]:
        """What epoch() gathers: the indices (B,) of each batch's images."""
        if n < 0 or not 0 <= start <= len(self):
            raise InputError(
                f"cannot start at batch {start} of epoch {n}: an epoch has {len(self)} batches, "
                "and both count from 0; was the batch size or the data changed?"
            )
        count = len(self.split)
        order = np.arange(count)
        if self.shuffle:
            np.random.default_rng((self.seed, n)).shuffle(order)
        if self.resident:
            order = self.xp.asarray(order)
        firsts = range(start * self.batch_size, count, self.batch_size)
        return (order[first : first + self.batch_size] for first in firsts)

    def random(self, rng: np.random.Generator) -> Any:
        """A batch of images drawn without replacement, besides those of the epochs."""
        count = len(self.split)
        drawn = rng.choice(count, min(self.batch_size, count), replace=False)
        return self.gather(self.xp.asarray(drawn) if self.resident else drawn)

    def gather(self, indices: Array) -> Any:
        """The images at the indices, (B, C, H, W); with labels, `Labelled` ones."""
        images = self.xp.images(self.split.resident(self.xp), indices, self._bytes)
        return images if self.labels is None else Labelled(images, self.xp.asarray(self.labels[indices]))


class Binarizer:
    """Draws the pixels of batch after batch: each 1 with its value as the probability. [Salakhutdinov & Murray 2008]

    shape: (B, ...) of the largest batch; an array of it holds the uniform numbers of one after the other.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.uniform = backend.current().empty(shape, dtype="float32")

    def __call__(self, x: Any, rng: Any) -> Any:
        """A batch x (N, ...), float32 in [0, 1], or a `Labelled` one, whose pixels are written over with 0 or 1."""
        if isinstance(x, Labelled):
            return replace(x, images=self(x.images, rng))
        uniform = rng.random(x.shape, dtype=x.dtype, out=self.uniform[: len(x)])
        return backend.of(x).less(uniform, x, out=x)
