"""What a data set is: two splits of images, each with whatever is known beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Split:
    """N images and what is known of them.

    images: (N, C, H, W), uint8 in 0..255, or float32 in [0, 1].
    labels: (N,) int64, indices into `Dataset.classes`; None where there are none.
    factors: the generating factors by name, each (N,); empty where none are known.
    """

    images: Array
    labels: Array | None = None
    factors: dict[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A named pair of splits. `classes` names the labels: ("0", "1", ...)."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W)."""
        return self.train.images.shape[1:]
