"""NumPy, on the CPU: what the two libraries do differently, under one name each."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from minivae.backend.fusion import SMALL, Fused, Program, kind, layout
from minivae.errors import InputError

Array = Any  # numpy.ndarray or cupy.ndarray


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

    def blocks(self, *arrays: Array) -> list[tuple[Array, ...]]:
        """Flat contiguous arrays cut alike into pieces that stay in a core's cache.

        An update of several passes over such pieces reads and writes the memory once.
        """
        size, step = arrays[0].size, 1 << 15
        return [tuple(a[i : i + step] for a in arrays) for i in range(0, size, step)]

    def fitting(self, n: int, nbytes: int) -> int:
        """How many of n items, of so many bytes each, to work on at once: they stay in a core's cache. At least 1."""
        return max(1, min(n, (1 << 21) // max(nbytes, 1)))

    def fused(self, function: Fused, operands: Sequence[Any], out: tuple[Array, ...] | None) -> Any:
        """The results of a fused function of operands, in new arrays or in those of out. See fusion.py."""
        flat = layout((*operands, *(out or ())))
        if flat is None or math.prod(flat.shape) < SMALL:
            return function.plain(self, operands, out)
        size = math.prod(flat.shape)
        arguments, results = flat.operands[: len(operands)], flat.operands[len(operands) :]
        replaced = tuple(next((i for i, a in enumerate(operands) if a is o), None) for o in out or ())
        program = function.program(tuple(map(kind, operands)), replaced)
        if out is None:
            results = [self.module.empty(size, dtype) for dtype in program.dtypes]
        self.compute(program, arguments, results, size)
        values = tuple(out or map(flat.restored, results))
        return values if program.many else values[0]

    def compute(self, program: Program, operands: list[Any], results: list[Array], size: int) -> None:
        """Fill flat results of a size."""
        program.run(operands, results, 0, size)

    def device(self) -> str:
        """What computes, in words."""
        return f"CPU, {os.cpu_count()} cores"
