"""Data sets by name, `load("glyphs")`, `load("mnist")`, or by path, `load("my/pictures")`."""

from __future__ import annotations

import os

from minivae.data.batches import Batches, Binarizer
from minivae.data.cifar10 import cifar10
from minivae.data.dataset import Dataset, Labelled, Split
from minivae.data.documents import documents
from minivae.data.dsprites import dsprites
from minivae.data.folder import from_path, read_images
from minivae.data.frey import frey_faces
from minivae.data.glyphs import glyphs, letters
from minivae.data.idx import read_idx
from minivae.data.mnist import fashion_mnist, mnist
from minivae.data.omniglot import omniglot
from minivae.data.sprites import sprites
from minivae.errors import InputError

__all__ = [
    "Batches",
    "Binarizer",
    "Dataset",
    "Labelled",
    "Split",
    "cifar10",
    "documents",
    "dsprites",
    "fashion_mnist",
    "frey_faces",
    "from_path",
    "glyphs",
    "letters",
    "load",
    "mnist",
    "omniglot",
    "read_idx",
    "read_images",
    "sprites",
]

# What every machine can make comes first.
_NAMED = {
    "glyphs": glyphs,
    "letters": letters,
    "sprites": sprites,
    "documents": documents,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "frey-faces": frey_faces,
    "dsprites": dsprites,
    "omniglot": omniglot,
}


NAMES = tuple(_NAMED)


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
