"""Which array library computes: NumPy on the CPU or CuPy on the GPU.

This package is the only place that knows of both. An op works where its operands are: `of(array)` gives the
backend of an array, and `current()` says where new arrays are made. A backend has every function of
its library as an attribute (`xp.exp`, `xp.matmul`) and, under one name each, what the two do differently.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minivae.backend.device import ELSE, CuPy
from minivae.backend.fusion import fuse
from minivae.backend.host import Array, Backend, Memory, keep_freed_memory
from minivae.backend.pool import set_threads, threads
from minivae.errors import InputError

__all__ = [
    "LIBRARIES", "Array", "Backend", "CuPy", "Memory", "current", "fuse", "host", "is_array", "manual_seed", "of",
    "set_threads", "shortage", "threads", "to_numpy", "use",
]  # fmt: skip

LIBRARIES: dict[str, type[Backend]] = {"numpy": Backend, "cupy": CuPy}

_loaded: dict[type, Backend] = {np.ndarray: Backend()}
_current: Backend | None = None


def use(name: str | None = None, tf32: bool = False) -> Backend:
    """Make new arrays with this library from now on.

    name: "numpy"; "cupy", or "cupy:1" for the second GPU; "auto" for the GPU where there is a usable one, else NumPy,
    with a printed line that says which and why; left out, $MINIVAE_BACKEND, else NumPy. tf32: let the GPU's tensor
    cores multiply float32 matrices, of whose entries they keep ten bits of mantissa. Raises InputError where it cannot.
    """
    global _current
    name = name or os.environ.get("MINIVAE_BACKEND") or "numpy"
    library, colon, number = name.partition(":")
    if name == "auto":
        _current = _automatic(tf32)
    elif library not in LIBRARIES or (colon and not (number.isdecimal() and issubclass(LIBRARIES[library], CuPy))):
        raise InputError(f"unknown backend '{name}': choose numpy, cupy, cupy:N for GPU number N, or auto.")
    elif issubclass(LIBRARIES[library], CuPy):
        _current = _on_device(library, int(number or 0), tf32)
    elif tf32:
        raise InputError("tf32 is a way of GPUs to multiply: use it with --backend cupy, or leave it out.")
    else:
        _current = host()
    keep_freed_memory()
    return _current


def _on_device(library: str, number: int, tf32: bool) -> Backend:
    """CuPy, on this device: the one that is loaded if it is as wanted."""
    for backend in _loaded.values():
        if isinstance(backend, CuPy) and (backend.name, backend.number, backend.tf32) == (library, number, tf32):
            return backend
    made = LIBRARIES[library](number, tf32)  # type: ignore[call-arg]
    _loaded[made.ndarray] = made
    return made


def _automatic(tf32: bool) -> Backend:
    try:
        backend = _on_device("cupy", 0, tf32)
        print(f"minivae: on {backend.device()}")
    except InputError as error:
        backend = host()
        print(f"minivae: on NumPy, as {error}".replace(f", {ELSE}", ""))
    return backend


def current() -> Backend:
    """The backend of new arrays: what `use` chose, else $MINIVAE_BACKEND, else NumPy."""
    return _current or use()


def host() -> Backend:
    """NumPy, whatever is in use."""
    return _loaded[np.ndarray]


def shortage(error: MemoryError) -> str:
    """A MemoryError in a sentence: what was asked for and what is free, as far as the backend knows."""
    return (_current or host()).shortage(error)


def is_array(value: object) -> bool:
    """Whether value is an array of a library in use."""
    return type(value) in _loaded


def of(array: Array) -> Backend:
    """The backend to which an array belongs."""
    return _loaded[type(array)]


def to_numpy(array: Array) -> Any:
    """The array on the host."""
    return of(array).to_numpy(array)


def manual_seed(seed: int) -> None:
    """Seed the generator from which layers and models draw when they are given none."""
    backend = current()
    backend.rng = backend.generator(seed)
