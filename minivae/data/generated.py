"""Data sets that are made, not read: their arguments, and the files in which they are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from minivae.archives import read_npz
from minivae.data.dataset import Array
from minivae.errors import InputError
from minivae.files import atomic_write, cache_dir


def check_sizes(name: str, train: int, test: int, seed: int) -> None:
    """Raise InputError unless train and test are whole numbers of at least 1, and seed of at least 0."""
    for key, value, low in (("train", train, 1), ("test", test, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < low:
            raise InputError(f"{name} has {key} = {value!r}: give a whole number of at least {low}.")


def cached(file: str, make: Callable[[], dict[str, Any]], fits: Callable[[dict[str, Array]], bool]) -> dict[str, Array]:
    """The arrays by name of an .npz in the cache folder; what is missing or damaged is made anew.

    fits: whether the arrays are such as `make` makes; it may raise KeyError where one is missing.
    A cache that cannot be written only costs the time to make them again.
    """
    path = cache_dir() / file
    # A damaged file makes zipfile and NumPy raise a dozen kinds.
    with suppress(Exception):
        found = read_npz(path)
        if fits(found):
            return found
    arrays = make()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            np.savez(temporary, **arrays)
    return arrays
