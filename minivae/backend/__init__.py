"""Which array library computes: NumPy on the CPU or CuPy on the GPU.

This package is the only place that knows of both. An op works where its operands are: `of(array)` gives the
backend of an array, and `current()` says where new arrays are made. A backend has every function of
its library as an attribute (`xp.exp`, `xp.matmul`) and, under one name each, what the two do differently.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minivae.backend.device import CuPy
from minivae.backend.fusion import fuse
from minivae.backend.host import Array, Backend
from minivae.errors import InputError

__all__ = ["NAMES", "Array", "Backend", "CuPy", "current", "fuse", "is_array", "manual_seed", "of", "to_numpy", "use"]

NAMES = ("numpy", "cupy")

_loaded: dict[type, Backend] = {np.ndarray: Backend()}
_current: Backend | None = None


def use(name: str) -> Backend:
    """Make new arrays with this library from now on: "numpy" or "cupy"."""
    global _current
    if name not in NAMES:
        raise InputError(f"unknown backend '{name}': choose one of {', '.join(NAMES)}.")
    loaded = {backend.name: backend for backend in _loaded.values()}
    _current = loaded.get(name) or CuPy()
    _loaded[_current.ndarray] = _current
    return _current


def current() -> Backend:
    """The backend of new arrays: what `use` chose, else $MINIVAE_BACKEND, else NumPy."""
    return _current or use(os.environ.get("MINIVAE_BACKEND") or "numpy")


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
