"""CIFAR-10, the binary version: 32x32 colour photographs in ten classes.

A record is a byte for the label, 0 to 9, and 3,072 for the image: the red plane, the green, the
blue, each by rows. `data_batch_1.bin` to `data_batch_5.bin` hold 10,000 records each to train,
`test_batch.bin` as many to test. They are looked for in
`$MINIVAE_DATA/cifar10/cifar-10-batches-bin/` where `$MINIVAE_DATA/cifar10/` exists, else in
`<cache>/cifar10/cifar-10-batches-bin/` (see `minivae.files.cache_dir`), into which they are
downloaded where one is missing. A folder of your own may hold a part: those of the training files
that are there are read, in their order, however many records each has.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from minivae.data.dataset import Dataset, Split
from minivae.data.places import own_folder
from minivae.errors import InputError
from minivae.files import atomic_write, cache_dir

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-bin"
TRAIN, TEST = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes
MAX_RECORDS = 1_000_000  # of a file; more is taken for a mistake

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of the .tar.gz, as its page gives it
_SENT_RECORDS = 10_000  # of each file in the .tar.gz


def cifar10() -> Dataset:
    """CIFAR-10: 50,000 + 10,000 photographs, (N, 3, 32, 32) uint8, with labels; or a part of it.

    Raises InputError where a file is missing or damaged, MINIVAE_DATA names no folder, or the
    download fails.
    """
    own = own_folder("cifar10")
    folder = (own or cache_dir() / "cifar10") / FOLDER
    if not own and not all((folder / file).exists() for file in (*TRAIN, TEST)):
        _fetch(folder)
    train = [folder / file for file in TRAIN if (folder / file).exists()]
    if not train or not (folder / TEST).exists():
        raise InputError(
            f"'{folder}' lacks {TEST if train else TRAIN[0]}: add it, or unset MINIVAE_DATA to have the data "
            "downloaded."
        )
    return Dataset("cifar10", _read(train), _read([folder / TEST]), CLASSES)


def _read(paths: list[Path]) -> Split:
    """The records of some files, in order."""
    counts = [_count(path) for path in paths]
    images, labels = np.empty((sum(counts), *SHAPE), np.uint8), np.empty(sum(counts), np.int64)
    start = 0
    for path, count in zip(paths, counts, strict=True):
        records = np.fromfile(path, np.uint8, count * RECORD)
        if len(records) < count * RECORD:
            raise InputError(f"cannot read '{path}' (it ended early): put a complete {path.name} there.")
        records = records.reshape(count, RECORD)
        if records[:, 0].max() >= len(CLASSES):
            raise InputError(
                f"'{path}' has the label {records[:, 0].max()}, expected 0 to 9: put the binary version of "
                f"CIFAR-10's {path.name} there."
            )
        labels[start : start + count] = records[:, 0]
        images[start : start + count] = records[:, 1:].reshape(count, *SHAPE)
        start += count
    return Split(images, labels)


def _count(path: Path) -> int:
    """How many records a file has."""
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror}): put a readable file there.") from None
    if size % RECORD or not 0 < size <= MAX_RECORDS * RECORD:
        raise InputError(
            f"'{path}' has {size} bytes, expected a multiple of {RECORD} (a label and a 32x32 image) and at most "
            f"{MAX_RECORDS} records: put the binary version of CIFAR-10's {path.name} there."
        )
    return size // RECORD


def _fetch(folder: Path) -> None:
    """Download the archive beside `folder`, and write its files there, each whole or not at all."""
    from minivae.data.download import download  # costs 40 ms: only those who download pay

    archive = download([URL], folder.with_name("cifar-10-binary.tar.gz"), None, "cifar10", _check, md5=MD5)
    try:
        folder.mkdir(exist_ok=True)
        with tarfile.open(archive) as tar:
            for file, content in _members(tar):
                with atomic_write(folder / file) as temporary, temporary.open("wb") as out:
                    shutil.copyfileobj(content, out)
    except FileNotFoundError:  # another process has unpacked it meanwhile and taken it away
        return
    except OSError as error:
        raise InputError(
            f"cannot write CIFAR-10 into '{folder}' ({error.strerror}): make room there, or set MINIVAE_CACHE to "
            "another folder."
        ) from None
    finally:
        archive.unlink(missing_ok=True)


def _check(stream: io.BufferedIOBase) -> None:
    """Raise ValueError unless the stream is a tar with the six files."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for _ in _members(tar):
                pass
    except tarfile.TarError as error:
        raise ValueError(f"no tar archive, {error}") from None


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    """Each of the six files, by its exact name, whatever else is in the archive; nothing is extracted.

    Raises ValueError where one is missing, is a link or is not of its size.
    """
    for file in (*TRAIN, TEST):
        try:
            member = tar.getmember(f"{FOLDER}/{file}")
        except KeyError:
            raise ValueError(f"the archive lacks {FOLDER}/{file}") from None
        content = tar.extractfile(member) if member.isreg() else None
        if content is None or member.size != _SENT_RECORDS * RECORD:
            raise ValueError(f"the archive's {file} is no file of {_SENT_RECORDS * RECORD} bytes")
        yield file, content
