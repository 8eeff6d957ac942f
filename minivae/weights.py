"""Weights as .safetensors: out to PyTorch and back, by the names of `state_dict`, which are PyTorch's.

    weights.save(Path("vae.safetensors"), model.state_dict())           # here
    twin.load_state_dict(safetensors.torch.load_file("vae.safetensors"))  # there, in modules of the same shape

The file holds arrays and text, and nothing that runs. It needs the package safetensors, an extra of minivae.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from minivae.errors import InputError
from minivae.files import atomic_write

KEY = "minivae"  # of the metadata: a JSON object
HEADER = {"model": str, "arguments": dict, "data": str, "options": dict}  # what an exported model's has, at least


def save(path: Path | str, state: dict[str, Any], header: dict[str, Any] | None = None) -> None:
    """Write NumPy arrays by name. header: what JSON can hold, such as the model's name and arguments.

    path is the old file or the new one, never a part. Raises InputError without the package, OSError without room.
    """
    package, path = _package("numpy"), Path(path)
    arrays = {name: np.array(a, order="C") for name, a in state.items()}  # not ascontiguousarray: a scalar stays one
    metadata = None if header is None else {KEY: json.dumps(header)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(package.save(arrays, metadata))


def load(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays by name, and the header; {} where another program, such as PyTorch, wrote the file.

        model.load_state_dict(weights.load(Path("theirs.safetensors"))[0])

    Raises InputError where the file is missing, damaged, or no such file.
    """
    package, path = _package(), Path(path)
    if not path.is_file():
        raise InputError(f"there are no weights '{path}': give a .safetensors file, as 'minivae export' writes it.")
    try:
        with package.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except OSError:
        raise
    except Exception as error:  # of the package's own kinds, and TypeError for numbers that NumPy has not
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"'{path}' cannot be read as safetensors ({reason}): give a complete file, of numbers that NumPy has."
        ) from None
    try:
        header = json.loads(metadata.get(KEY, "{}"))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"the metadata '{KEY}' of '{path}' are no JSON object: export the weights again.")
    return state, header


def load_exported(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """As load(), of what `minivae export` wrote: its header tells the model. Raises InputError where it does not."""
    state, header = load(path)
    wrong = [key for key, kind in HEADER.items() if not isinstance(header.get(key), kind)]
    if wrong or "shape" not in header["arguments"] or not isinstance(header["options"].get("binarize"), bool):
        raise InputError(
            f"'{path}' does not tell which model its weights are of: give what 'minivae export' wrote, or build the "
            "model in Python and load them with minivae.weights.load."
        )
    for name, a in state.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise InputError(f"'{name}' in '{path}' is not finite: export the weights of a training that went well.")
    return state, header


def _package(part: str = "") -> Any:
    try:
        return import_module(f"safetensors.{part}".rstrip("."))
    except ModuleNotFoundError:
        raise InputError(
            "weights as .safetensors need the package safetensors, which is not installed: "
            "pip install 'minivae[safetensors]'."
        ) from None
