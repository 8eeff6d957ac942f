"""Which array library computes: NumPy on the CPU or CuPy on the GPU.

This is the only file that knows of both. An op works where its operands are: `of(array)` gives the
backend of an array, and `current()` says where new arrays are made. A backend has every function of
its library as an attribute (`xp.exp`, `xp.matmul`) and, under one name each, what the two do differently.
"""

from __future__ import annotations

import os
import zlib
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

from minivae.errors import InputError

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray
NAMES = ("numpy", "cupy")


class Backend:
    """NumPy. Attributes that are not defined here are the library's own."""

    name = "numpy"
    library = "numpy"
    special_functions = "scipy.special"
    eager = True  # an array that a function returned is there: to read a number of it is not to wait for a device

    def __init__(self) -> None:
        self.module = import_module(self.library)
        self.ndarray = self.module.ndarray
        self.rng = self.generator(0)

    def __getattr__(self, name: str) -> Any:
        # SciPy is imported at its first use: that costs a tenth of a second
        value = import_module(self.special_functions) if name == "special" else getattr(self.module, name)
        setattr(self, name, value)  # found without this detour from now on
        return value

    def generator(self, seed: int) -> Any:
        """A random generator of this library, with `standard_normal`, `random`, `integers`."""
        return self.module.random.default_rng(seed)

    def generator_state(self, rng: Any) -> Any:
        """The state of a generator, as JSON can hold it; None where the library does not tell it."""
        return rng.bit_generator.state

    def restored_generator(self, rng: Any, state: Any, seed: int) -> Any:
        """The generator set to a state; where the library cannot, a new one with that seed."""
        rng.bit_generator.state = state
        return rng

    def to_numpy(self, array: Array) -> Any:
        """The array on the host (the array itself on NumPy)."""
        return array

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """target[index] += values, in which an index that stands twice adds twice."""
        self.module.add.at(target, index, values)

    def count(self, indices: Array, n: int) -> Array:
        """How often each of 0, 1, ..., n - 1 stands in the indices (M,): (n,), int64."""
        return self.module.bincount(indices, minlength=n)

    def check_indices(self, what: str, indices: Array, n: int) -> None:
        """Raise IndexError unless 0 <= indices < n (on NumPy; on a GPU it would have to wait for the device)."""
        if indices.size and not (indices.min() >= 0 and indices.max() < n):
            raise IndexError(
                f"{what}: indices from {indices.min()} to {indices.max()}, where 0 to {n - 1} are allowed."
            )

    def check_range(self, what: str, values: Array, low: float, high: float) -> None:
        """Raise InputError unless low <= values <= high (on NumPy; on a GPU it would have to wait for the device)."""
        if values.size and not (values.min() >= low and values.max() <= high):
            raise InputError(
                f"{what} must lie in [{low:g}, {high:g}], but these lie in [{values.min():g}, {values.max():g}]: "
                "scale them, or choose another likelihood."
            )

    def fingerprint(self, array: Array) -> Any:
        """A number that tells whether the bytes of an array have changed; on a GPU a scalar that stays there."""
        return zlib.crc32(np.ascontiguousarray(array).data)

    def blocks(self, *arrays: Array) -> list[tuple[Array, ...]]:
        """Flat contiguous arrays cut alike into pieces that stay in a core's cache.

        An update of several passes over such pieces reads and writes the memory once.
        """
        size, step = arrays[0].size, 1 << 15
        return [tuple(a[i : i + step] for a in arrays) for i in range(0, size, step)]

    def fitting(self, n: int, nbytes: int) -> int:
        """How many of n items, of so many bytes each, to work on at once: they stay in a core's cache. At least 1."""
        return max(1, min(n, (1 << 21) // max(nbytes, 1)))

    def device(self) -> str:
        """What computes, in words."""
        return f"CPU, {os.cpu_count()} cores"


class CuPy(Backend):
    """CuPy, on one CUDA device."""

    name = "cupy"
    library = "cupy"
    special_functions = "cupyx.scipy.special"
    eager = False

    def __init__(self) -> None:
        mend = "install minivae[cuda12] or minivae[cuda13] on a machine with an NVIDIA GPU, or use --backend numpy"
        try:
            super().__init__()
            if float(self.module.ones(2).sum()) != 2:  # proves driver, device and compiler at once
                raise RuntimeError("the device computes wrongly")
        except ModuleNotFoundError:
            raise InputError(f"backend 'cupy' needs the package cupy, which is not installed: {mend}.") from None
        except Exception as error:  # CuPy raises its own CUDARuntimeError, or ImportError for a library
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"backend 'cupy' found no usable CUDA device ({reason}): {mend}.") from None

    def generator_state(self, rng: Any) -> Any:
        return None

    def restored_generator(self, rng: Any, state: Any, seed: int) -> Any:
        return self.generator(seed)

    def to_numpy(self, array: Array) -> Any:
        return self.module.asnumpy(array)

    def count(self, indices: Array, n: int) -> Array:
        # bincount would wait for the device, and add.at cannot count in int64
        counts = self.module.zeros(n, dtype=np.int32)
        self.scatter_add(counts, indices, self.module.ones(indices.shape, dtype=np.int32))
        return counts.astype(np.int64)

    def check_indices(self, what: str, indices: Array, n: int) -> None:
        pass

    def check_range(self, what: str, values: Array, low: float, high: float) -> None:
        pass

    def fingerprint(self, array: Array) -> Any:
        # a sum alone would not see two entries change places, so that each place has an odd weight of its own
        data = self.module.ascontiguousarray(array).reshape(-1).view(np.uint8).astype(np.uint64)
        place = self.module.arange(1, 2 * data.size, 2, dtype=np.uint64)
        return (data * (place * place)).sum()

    def blocks(self, *arrays: Array) -> list[tuple[Array, ...]]:
        return [arrays] if arrays[0].size else []

    def fitting(self, n: int, nbytes: int) -> int:
        return max(1, min(n, (1 << 28) // max(nbytes, 1)))  # no cache to stay in: large kernels, bounded memory

    def device(self) -> str:
        properties = self.module.cuda.runtime.getDeviceProperties(self.module.cuda.Device().id)
        return str(properties["name"].decode())


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
