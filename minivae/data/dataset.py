"""What a data set is: two splits of images (or documents), and whatever is known beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from minivae.backend import Backend

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Split:
    """N images and what is known of them.

    images: (N, C, H, W), uint8 in 0..255, or float32 in [0, 1]; of documents (N, V), float32: how
    often each word of `Dataset.vocabulary` occurs in each.
    labels: (N,) int64, indices into `Dataset.classes`; None where there are none.
    factors: the generating factors by name, each (N,); empty where none are known.
    """

    images: Array
    labels: Array | None = None
    factors: dict[str, Array] = field(default_factory=dict)
    _resident: dict[Backend, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def resident(self, xp: Backend) -> Any:
        """The images in the memory of a backend, moved there once; where they do not fit, as they are."""
        if xp not in self._resident:
            moved = xp.resident(self.images)
            self._resident[xp] = self.images if moved is None else moved
        return self._resident[xp]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Split:
        """The images of a slice, of indices or of a mask, with what is known of them."""
        labels = None if self.labels is None else self.labels[index]
        return Split(self.images[index], labels, {name: values[index] for name, values in self.factors.items()})


@dataclass(frozen=True)
class Labelled:
    """A batch for a model that needs labels: images (N, ...) and labels (N,), of one backend."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A named pair of splits. `classes` names the labels: ("0", "1", ...).

    vocabulary: the V words that are counted, where the data are documents; else empty.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W), or of one document, (V,)."""
        return self.train.images.shape[1:]
