"""A checkpoint: one .npz with named arrays and a JSON header. Nothing in it is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from minivae import models, nn
from minivae.errors import InputError
from minivae.files import atomic_write

FORMAT = 1


def save(path: Path, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write arrays by name and a header that JSON can hold; path is the old file or the new one, never a part."""
    text = json.dumps({"format": FORMAT, **header}, default=_plain).encode()
    members = {"header": np.frombuffer(text, np.uint8), **arrays}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, digest=digest(members), **members)


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the arrays of a checkpoint. Raises InputError where it is missing, damaged or no checkpoint."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint '{path}': give a run's folder or the model.npz in it.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): _read(archive, name) for name in archive.namelist()}
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for damaged files
        raise InputError(_unreadable(path, error)) from None
    if "header" not in members or "digest" not in members:
        raise InputError(f"'{path}' is no checkpoint of minivae: it has no header; give the model.npz of a run.")
    if not np.array_equal(members.pop("digest"), digest(members)):
        raise InputError(f"'{path}' was altered after it was written: its digest does not fit; train again.")
    try:
        header: dict[str, Any] = json.loads(members.pop("header").tobytes())
        version = header["format"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise InputError(f"'{path}' is no checkpoint of minivae: its header is no JSON object with a format.") from None
    if version != FORMAT:
        raise InputError(f"'{path}' has format {version}, but this minivae reads format {FORMAT}: update minivae.")
    return header, members


def _unreadable(path: Path, error: Exception) -> str:
    """Why a file cannot be read: no checkpoint at all, a part of one, or one that is damaged."""
    start, end = b"PK\x03\x04", b"PK\x05\x06"  # of a zip; the end lies in the last 22 bytes and a comment
    with open(path, "rb") as file:
        head = file.read(len(start))
        file.seek(max(0, path.stat().st_size - 22))
        tail = file.read()
    mend = "take another that --keep has left, or train again"
    if head != start:
        return f"'{path}' is not a readable checkpoint, as it is no .npz file: give the model.npz of a run."
    if end not in tail:
        return f"'{path}' is not a readable checkpoint: it is truncated, its end is missing; {mend}."
    return f"'{path}' is not a readable checkpoint: it is damaged ({error}); {mend}."


def _read(archive: zipfile.ZipFile, name: str) -> Any:
    """A member of a zip as an array."""
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def digest(members: dict[str, Any]) -> Any:
    """SHA-256 of the names, dtypes, shapes and bytes of arrays, as 32 bytes."""
    total = hashlib.sha256()
    for name, array in sorted(members.items()):
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(total.digest(), np.uint8)


def load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    """The model of a checkpoint, in evaluation mode, and the header."""
    header, arrays = load(path)
    weights = {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}
    try:
        model: nn.Module = models.build(header["model"], **header["arguments"])
        model.load_state_dict(weights)
    except (InputError, TypeError, KeyError) as error:
        raise InputError(f"'{path}' is not a checkpoint of a model that this minivae has: {error}") from None
    return model.eval(), header


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, as a generator's state holds them, for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a checkpoint's header cannot hold {value!r}")
