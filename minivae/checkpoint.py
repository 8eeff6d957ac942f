"""A checkpoint: one .npz with named arrays and a JSON header. Nothing in it is ever unpickled."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minivae import backend, models, nn, weights
from minivae.archives import read_npz
from minivae.errors import InputError
from minivae.files import atomic_write

FORMAT = 1
SLACK = 1 << 20  # numbers that a model may have more than there are weights, to be told which


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, on headers that old versions wrote
            members = read_npz(path)
    except PermissionError:
        raise InputError(f"'{path}' may not be read: give yourself the permission, or name another run.") from None
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for damaged files
        raise InputError(_unreadable(path, error)) from None
    if "header" not in members or "digest" not in members:
        raise InputError(f"'{path}' is no checkpoint of minivae: it has no header; give the model.npz of a run.")
    if not np.array_equal(members.pop("digest"), digest(members)):
        raise InputError(f"'{path}' was altered after it was written: its digest does not fit; train again.")
    try:
        header: dict[str, Any] = json.loads(members.pop("header").tobytes())
        version = header.get("format", "")
    except (ValueError, RecursionError, AttributeError):
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
    return f"'{path}' is not a readable checkpoint: it is damaged ({error or type(error).__name__}); {mend}."


def digest(members: dict[str, Any]) -> Any:
    """SHA-256 of the names, dtypes, shapes and bytes of arrays, as 32 bytes."""
    total = hashlib.sha256()
    for name, array in sorted(members.items()):
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(total.digest(), np.uint8)


def load_model(path: Path | str) -> tuple[Any, dict[str, Any]]:
    """The model of a checkpoint, or of what `minivae export` wrote, in evaluation mode, and the header."""
    path = Path(path)
    if path.suffix == ".safetensors":
        state, header = weights.load_exported(path)
    else:
        header, arrays = load(path)
        state = model_state(arrays)
    return build(path, header, state).eval(), header


def model_state(arrays: dict[str, Any]) -> dict[str, Any]:
    """The weights among a checkpoint's arrays, by the model's names."""
    return {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}


def build(path: Path, header: dict[str, Any], state: dict[str, Any]) -> nn.Module:
    """The model of a file's header with the weights of its state.

    Raises InputError where the two do not fit, and builds no model that is much larger than its weights.
    """
    xp = backend.current()
    rng, xp.rng = xp.rng, _Bounded(xp.rng, sum(a.size for a in state.values()) + SLACK)
    try:
        check_arguments(path, header["model"], header["arguments"])
        model: nn.Module = models.build(header["model"], **header["arguments"])
        model.load_state_dict(state)
    except Exception as error:  # of the builders, for arguments that the command line would have refused
        reason = f"no {error}" if type(error) is KeyError else str(error) or type(error).__name__
        raise InputError(f"'{path}' is not a checkpoint of a model that this minivae has: {reason}") from None
    finally:
        xp.rng = rng
    for name, a in state.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise InputError(f"'{path}' has weights '{name}' that are not finite: take another checkpoint.")
    return model


KINDS: dict[str, Callable[[Any], bool]] = {  # by the annotations of the builders
    "None": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int and abs(value) < 1 << 53,
    "float": lambda value: type(value) in (int, float) and abs(value) < 1e300,
    "Sequence[int]": lambda value: isinstance(value, list | tuple) and all(map(KINDS["int"], value)),
}
KINDS["tuple[int, ...]"] = KINDS["tuple[int, int, int]"] = KINDS["Sequence[int]"]
KINDS["dict[str, Any]"] = lambda value: (  # the model that a prior is of
    isinstance(value, dict) and isinstance(value.get("model"), str) and isinstance(value.get("arguments"), dict)
)


def check_arguments(path: Path, name: str, given: dict[str, Any]) -> None:
    """Raise InputError where the file has an argument that is not of the kind which the model's builder takes."""
    models.arguments(name, **given)  # knows the model and its arguments
    for key, parameter in inspect.signature(models.MODELS[name]).parameters.items():
        kinds = str(parameter.annotation).split(" | ")
        if key in given and not any(KINDS[kind](given[key]) for kind in kinds):
            raise InputError(f"'{path}' has {key} {given[key]!r}, which is no {' or '.join(kinds)}: train anew.")
        if key in given and isinstance(given[key], dict):
            check_arguments(path, given[key]["model"], given[key]["arguments"])


class _Bounded:
    """Draws initial values from a generator, at most so many."""

    def __init__(self, rng: Any, left: int):
        self.rng = rng
        self.left = left

    def random(self, shape: tuple[int, ...], **options: Any) -> Any:
        self._take(shape)
        return self.rng.random(shape, **options)

    def standard_normal(self, shape: tuple[int, ...], **options: Any) -> Any:
        self._take(shape)
        return self.rng.standard_normal(shape, **options)

    def _take(self, shape: tuple[int, ...]) -> None:
        self.left -= math.prod(shape)
        if self.left < 0:
            raise ValueError("its arguments make a larger one than it has weights for")


def check_header(path: Path, header: dict[str, Any], **kinds: type) -> None:
    """Raise InputError unless the header of the file has these fields, each of its kind."""
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind):
            raise InputError(f"'{path}' does not say how it was trained (it has no {name}): train anew.")


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, as a generator's state holds them, for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a checkpoint's header cannot hold {value!r}")
