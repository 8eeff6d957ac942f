"""Your own images as arrays: .npy and .npz files. Nothing is ever unpickled."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minivae.archives import check_size, npy_members, read_npy_header, read_npz
from minivae.data.dataset import Array, Dataset, Split
from minivae.errors import InputError

# The arrays of an .npz: train images, their labels, test images, their labels.
NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", None, None),
)
_MEND = "save it again with np.save or np.savez, as plain numbers"


def from_npy(path: Path) -> Dataset:
    """Images without labels from an .npy file, as `as_images` takes them; a tenth is for testing.

    Raises InputError where the file is damaged or holds no such images.
    """
    with reading(path, _MEND):
        with path.open("rb") as file:
            read_npy_header(file, path.stat().st_size)
        check_size(path.stat().st_size, path.stat().st_size)
        array = np.lib.format.open_memmap(path, mode="r")  # not twice in memory
        train, test = split_off_test(as_images(array, path), None, path)
    return Dataset(path.stem, train, test)


def from_npz(path: Path) -> Dataset:
    """Images from an .npz file, as `as_images` takes them, with labels where it has them.

    The arrays may be named x_train, y_train, x_test, y_test (as in keras' mnist.npz), or
    train_images, train_labels, test_images, test_labels, or images, labels; only the first of each
    line must be there, and a single array may have any name. Labels are whole numbers or strings,
    one for each image; their sorted values name the classes. Without test images, a tenth of the
    images is for testing. Raises InputError where the file is damaged, expands past what
    `archives.check_size` allows or holds no such arrays.
    """
    with reading(path, _MEND):
        x_train, y_train, x_test, y_test = _load(path)
        assert x_train is not None  # for the type checker: _choose has found it  # nosec B101
        images, labels = as_images(x_train, path), _as_labels(y_train, x_train, path)
        if x_test is None:
            train, test = split_off_test(images, labels, path)
        else:
            train = Split(images, labels)
            test = Split(as_images(x_test, path), _as_labels(y_test, x_test, path))
        if train.images.shape[1:] != test.images.shape[1:]:
            raise InputError(
                f"'{path}' has training images of shape {train.images.shape[1:]}, but test images "
                f"of shape {test.images.shape[1:]}: make them alike."
            )
        return _with_classes(path.stem, train, test)


def as_images(array: Array, path: Path) -> Array:
    """The array from `path` as (N, C, H, W), uint8 or float32.

    Takes (N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3; what could be either of the last
    two is taken as (N, C, H, W). Numbers are uint8, bool (becomes 0 and 255), or of any floating
    type in [0, 1]. Raises InputError for anything else, NaN and infinity among it.
    """
    images = array
    if array.ndim == 3:
        images = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3):
        images = array.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise InputError(
            f"'{path}' has images of shape {array.shape}, expected (N, H, W), (N, C, H, W) or "
            "(N, H, W, C) with 1 or 3 channels and none empty: reshape them."
        )
    if images.dtype == np.bool_:
        return images * np.uint8(255)
    if images.dtype == np.uint8:
        if images.max() == 1:
            raise InputError(f"'{path}' has only 0 and 1 as uint8, where white is 255: save the images as bool.")
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise InputError(
            f"'{path}' has images of dtype {images.dtype}, expected uint8, or float from 0 to 1: convert them."
        )
    low, high = images.min(), images.max()  # NaN if there is any
    if np.isnan(low):
        raise InputError(f"'{path}' has pixels that are NaN, no number: replace them by numbers from 0 to 1.")
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"'{path}' has floating-point pixels from {low} to {high}, expected 0 to 1: scale "
            "them, or save them as uint8."
        )
    return np.ascontiguousarray(images, np.float32)


def split_off_test(images: Array, labels: Array | None, path: Path) -> tuple[Split, Split]:
    """Draw a tenth of the images, at least one, for testing: the same at every call.

    Both splits keep the order of the images. Raises InputError if there are fewer than 2.
    """
    count = len(images)
    if count < 2:
        raise InputError(f"'{path}' has one image, expected at least 2 (one is for testing): add some.")
    order = np.random.default_rng(0).permutation(count)
    tested = max(1, count // 10)
    train, test = (
        Split(images[chosen], None if labels is None else labels[chosen])
        for chosen in (np.sort(order[tested:]), np.sort(order[:tested]))
    )
    return train, test


@contextmanager
def reading(path: Path, mend: str) -> Iterator[None]:
    """Turn whatever a decoder trips over in a damaged file into one InputError, and say nothing else."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it would write to stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is an error, or does not matter
            yield
    except InputError:
        raise
    except Exception as error:  # zipfile, NumPy and Pillow raise a dozen kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot read '{path}' ({reason}): {mend}.") from error


def _load(path: Path) -> list[Array | None]:
    """The four arrays of a line of NAMES; None for each that is not there."""
    with zipfile.ZipFile(path) as archive:
        chosen = _choose(npy_members(archive), path)
    arrays = read_npz(path, [name for name in chosen if name])
    return [arrays.get(name or "") for name in chosen]


def _choose(members: Collection[str], path: Path) -> tuple[str | None, ...]:
    for names in NAMES:
        if names[0] in members:
            return names
    if len(members) == 1:
        return (*members, None, None, None)
    raise InputError(
        f"'{path}' has the arrays {', '.join(members) or '(none)'}, expected images and labels, or "
        "x_train, y_train, x_test and y_test: rename them."
    )


def _as_labels(labels: Array | None, images: Array, path: Path) -> Array | None:
    """The labels as one whole number or string for each image."""
    if labels is None:
        return None
    if labels.size != len(images) or labels.dtype.kind not in "biuU":
        raise InputError(
            f"'{path}' has labels of shape {labels.shape} and dtype {labels.dtype}, expected one "
            f"whole number or string for each of the {len(images)} images: correct or remove them."
        )
    return labels.reshape(-1) if labels.dtype.kind == "U" else labels.reshape(-1).astype(np.int64)


def _with_classes(name: str, train: Split, test: Split) -> Dataset:
    """The data set, its labels replaced by indices into their sorted values."""
    given = [split.labels for split in (train, test) if split.labels is not None]
    if not given:
        return Dataset(name, train, test)
    values = np.unique(np.concatenate(given))
    train, test = (
        Split(s.images, None if s.labels is None else np.searchsorted(values, s.labels)) for s in (train, test)
    )
    return Dataset(name, train, test, tuple(str(value) for value in values))
