"""Data sets: `load("glyphs")`, `load("mnist")`, `load("fashion-mnist")`, `load("my/pictures")`."""

from __future__ import annotations

import os

from minivae.data.batches import Batches
from minivae.data.dataset import Dataset, Split
from minivae.data.folder import from_path
from minivae.data.glyphs import glyphs
from minivae.data.idx import read_idx
from minivae.data.mnist import fashion_mnist, mnist
from minivae.errors import InputError

__all__ = [
    "Batches",
    "Dataset",
    "Split",
    "fashion_mnist",
    "from_path",
    "glyphs",
    "load",
    "mnist",
    "read_idx",
]

_NAMED = {"glyphs": glyphs, "mnist": mnist, "fashion-mnist": fashion_mnist}


def load(name_or_path: str | os.PathLike[str]) -> Dataset:
    """The data set of that name, or what `from_path` makes of that path.

    A name goes before a path: write "./mnist" for a folder of yours that is called mnist.
    Raises InputError where it is neither.
    """
    text = os.fspath(name_or_path)
    if text in _NAMED:
        return _NAMED[text]()
    if os.path.exists(text):
        return from_path(text)
    raise InputError(
        f"there is no data set and no path '{text}': choose one of {', '.join(_NAMED)}, or give "
        "the path of a folder of images, an .npy or an .npz file."
    )
