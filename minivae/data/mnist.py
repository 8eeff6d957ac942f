"""MNIST and Fashion-MNIST: 28x28 grey images in ten classes, in four IDX files each.

The files are looked for in `$MINIVAE_DATA/<name>/` where that folder exists, else in
`<cache>/<name>/` (see `minivae.files.cache_dir`); what the cache lacks is downloaded into it.
`<name>` is `mnist` or `fashion-mnist`; the files have their well-known names, with `.gz` or
without. They do not count in `$MINIVAE_DATA` itself: both data sets use the same file names.

A download must have the known SHA-256, where one is known. A local file must only be well formed
(IDX, 28x28 uint8, as many labels as images, labels 0..9), so that a variant of your own can stand
in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minivae.data.dataset import Dataset, Split
from minivae.data.idx import parse_idx, read_idx
from minivae.data.places import own_folder
from minivae.errors import InputError
from minivae.files import cache_dir

IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
FILES = tuple(name.format(part) for part in ("train", "t10k") for name in (IMAGES, LABELS))


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. sha256: sums of the uncompressed files, where known."""

    name: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


MNIST = Source(
    name="mnist",
    classes=tuple("0123456789"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256={
        FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
FASHION_MNIST = Source(
    name="fashion-mnist",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mirrors=(  # https first: no sum stands in for it
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    sha256={},
)


def mnist() -> Dataset:
    """MNIST: 60,000 + 10,000 handwritten digits, (N, 1, 28, 28) uint8, with labels.

    Raises InputError where a file is damaged or does not fit, MINIVAE_DATA names no folder, or
    no mirror delivers. Source: LeCun et al., "Gradient-based learning applied to document
    recognition", 1998.
    """
    return _load(MNIST)


def fashion_mnist() -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 articles of clothing, (N, 1, 28, 28) uint8, with labels.

    Raises InputError as `mnist` does. Source: Xiao et al., "Fashion-MNIST: a novel image dataset
    for benchmarking machine learning algorithms", 2017.
    """
    return _load(FASHION_MNIST)


def _load(source: Source) -> Dataset:
    own = own_folder(source.name)
    folder = own or cache_dir() / source.name
    found = {}
    for file in FILES:
        for path in (folder / file, folder / f"{file}.gz"):
            if path.exists():
                found[file] = path
                break
    missing = [file for file in FILES if file not in found]
    if own and missing:
        raise InputError(
            f"'{own}' lacks {', '.join(missing)}: add them, with or without .gz, or unset "
            "MINIVAE_DATA to have the data downloaded."
        )
    for file in missing:
        found[file] = _fetch(source, file, folder / f"{file}.gz")
    splits = [_read(found[IMAGES.format(p)], found[LABELS.format(p)]) for p in ("train", "t10k")]
    return Dataset(source.name, splits[0], splits[1], source.classes)


def _fetch(source: Source, file: str, path: Path) -> Path:
    from minivae.data.download import download  # costs 40 ms: only those who download pay

    urls = [f"{mirror}{path.name}" for mirror in source.mirrors]
    description = f"{source.name} {path.name}"
    return download(urls, path, source.sha256.get(file), description, parse_idx)


def _read(images_path: Path, labels_path: Path) -> Split:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or not len(images):
        raise InputError(
            f"'{images_path}' holds {images.dtype} of shape {images.shape}, expected uint8 images "
            "of 28x28: put the right file there."
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise InputError(
            f"'{labels_path}' holds {labels.dtype} of shape {labels.shape}, expected one uint8 for "
            f"each of the {len(images)} images in '{images_path}': put files that belong together."
        )
    if labels.max() > 9:
        raise InputError(f"'{labels_path}' has the label {labels.max()}, expected 0 to 9: put the right file there.")
    return Split(images[:, None], labels.astype(np.int64))
