"""A checkpoint: one .npz with named arrays and a JSON header. Nothing in it is ever unpickled."""

from __future__ import annotations

import json
import zipfile
import zlib
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
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, header=np.frombuffer(text, np.uint8), **arrays)


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the arrays of a checkpoint. Raises InputError where it is missing, damaged or no checkpoint."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint '{path}': give a run's folder or the model.npz in it.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise InputError(
            f"'{path}' is not a readable checkpoint ({error}): it is damaged or not of minivae; train again."
        ) from None
    try:
        header = json.loads(arrays.pop("header").tobytes())
        if not isinstance(header, dict) or not isinstance(header["model"], str):
            raise TypeError
    except (KeyError, ValueError, TypeError):
        raise InputError(f"'{path}' is no checkpoint of minivae: its header is missing or unreadable.") from None
    if header.get("format") != FORMAT:
        raise InputError(
            f"'{path}' has format {header.get('format')}, but this minivae reads format {FORMAT}: update minivae."
        )
    return header, arrays


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
    return value.tolist()
