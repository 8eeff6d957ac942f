"""Mini-batches in a seeded order that a resumed run meets again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minivae.data.dataset import Array, Labelled, Split
from minivae.errors import InputError


class Batches:
    """The images of a split in batches of float32 in [0, 1].

    The order of an epoch is a function of the seed and the epoch's number alone, so that a run
    which resumes at some epoch and step sees what it would have seen. The data set is neither
    copied nor reordered: a permutation of indices is drawn, and each batch is gathered from it.
    labels: batches are `Labelled`, for a model that needs them.
    Raises InputError if batch_size < 1 or seed < 0, or where there are no labels to give.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int = 0, shuffle: bool = True, labels: bool = False
    ) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}: give a whole number of at least 1.")
        if seed < 0:
            raise InputError(f"the seed is {seed}: give a whole number of at least 0.")
        if labels and split.labels is None:
            raise InputError(
                "this model is told the class of each image, but these data have no labels: choose others."
            )
        self.images = split.images
        self.labels = split.labels if labels else None
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle

    def __len__(self) -> int:
        """The number of batches in an epoch; the last may be smaller than the others."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, n: int, start: int = 0) -> Iterator[Any]:
        """The batches (B, C, H, W) of epoch n, from batch number `start` on; with labels, `Labelled` ones.

        Each is a fresh array, which the caller may keep or change.
        Raises InputError unless n >= 0 and 0 <= start <= len(self).
        """
        if n < 0 or not 0 <= start <= len(self):
            raise InputError(
                f"cannot start at batch {start} of epoch {n}: an epoch has {len(self)} batches, "
                "and both count from 0; was the batch size or the data changed?"
            )
        count = len(self.images)
        order = np.arange(count)
        if self.shuffle:
            np.random.default_rng((self.seed, n)).shuffle(order)
        firsts = range(start * self.batch_size, count, self.batch_size)
        return (self._gather(order[first : first + self.batch_size]) for first in firsts)

    def random(self, rng: np.random.Generator) -> Any:
        """A batch of images drawn without replacement, besides those of the epochs."""
        count = len(self.images)
        return self._gather(rng.choice(count, min(self.batch_size, count), replace=False))

    def _gather(self, indices: Array) -> Any:
        images = self.images[indices]
        if images.dtype == np.uint8:  # divided in one pass; x * (1 / 255) would round twice
            images = np.divide(images, 255, dtype=np.float32)
        return images if self.labels is None else Labelled(images, self.labels[indices])
