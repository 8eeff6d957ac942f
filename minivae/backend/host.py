"""NumPy, on the CPU: what the two libraries do differently, under one name each."""

from __future__ import annotations

import math
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minivae.backend.fusion import Fused, Program, kinds, layout, over
from minivae.backend.pool import spread
from minivae.backend.trace import PIECE
from minivae.backend.windows import gather, scatter
from minivae.errors import InputError

Array = Any  # numpy.ndarray or cupy.ndarray


class Memory(NamedTuple):
    """Bytes. used: by arrays now; held: taken from the system for them; peak: the most that was held.

    On NumPy all that the process has resident, and its most.
    """

    used: int
    held: int
    peak: int


class Backend:
    """NumPy. Attributes that are not defined here are the library's own."""

    name = "numpy"
    library = "numpy"
    special_functions = "scipy.special"
    smallest = PIECE + 1  # entries from which a fused function goes piece by piece
    smallest_repeating = 8 * PIECE  # the same where an array repeats: it has to be written out first
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

    def write(self, array: Array, numbers: Sequence[float]) -> None:
        """Fill a small array, in its order, with Python's numbers; no copy between host and device is made of it."""
        array.flat[:] = numbers

    def synchronize(self) -> None:
        """Wait until all that was asked for is computed: at once on NumPy."""

    def memory(self) -> Memory:
        """How much memory is in use where this backend computes."""
        import resource  # not on Windows, where nothing else needs it

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        status = Path("/proc/self/statm")
        now = int(status.read_text().split()[1]) * resource.getpagesize() if status.exists() else most
        return Memory(now, now, max(now, most))

    def shortage(self, error: MemoryError) -> str:
        """A MemoryError in a sentence."""
        return f"the memory is full ({str(error) or 'of the machine'}): use a smaller --batch-size or model."

    def resident(self, images: Array) -> Array | None:
        """Images of the host where they can be gathered fastest, as `images` takes them; None where they do not fit."""
        return images

    def images(self, images: Array, indices: Array, gathered: Array | None) -> Array:
        """The images at the indices in a new float32 array, bytes as 0 to 1; or rows of codes, whole numbers.

        gathered: of images in bytes, an array for as many or more, to which they go first; a device needs none.
        """
        if gathered is None:
            return images[indices]
        self.check_indices("images", indices, len(images))  # take is slow to write to an array where it looks itself
        found = images.take(indices, axis=0, out=gathered[: len(indices)], mode="clip")
        return np.divide(found, 255, dtype=np.float32)  # in one pass; x * (1 / 255) would round twice

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """target[index] += values, in which an index that stands twice adds twice.

        np.add.at adds one by one. Rows are sorted by where they go, and each such group is added up at once.
        """
        xp = self.module
        rows = index[0] if type(index) is tuple and len(index) == 1 else index
        if getattr(rows, "dtype", xp.bool_) == xp.bool_ or rows.ndim != 1 or not len(rows) or target.ndim < 2:
            xp.add.at(target, index, values)
            return
        rows = rows.astype(xp.intp, copy=False)
        rows = xp.where(rows < 0, rows + len(target), rows)
        order = xp.argsort(rows, kind="stable")
        rows = rows[order]
        starts = xp.flatnonzero(xp.concatenate([[True], rows[1:] != rows[:-1]]))
        target[rows[starts]] += xp.add.reduceat(values[order], starts, axis=0)

    def count(self, indices: Array, n: int) -> Array:
        """How often each of 0, 1, ..., n - 1 stands in the indices (M,): (n,), int64."""
        return self.module.bincount(indices, minlength=n)

    def square_sum(self, arrays: Sequence[Array]) -> Array:
        """The sum of the squares of all entries of arrays."""
        return sum((self.module.vdot(a, a) for a in arrays), start=self.module.zeros((), dtype=np.float32))

    def scale_all(self, arrays: Sequence[Array], factor: Array) -> None:
        """Multiply arrays by a 0-d array, in place."""
        for a in arrays:
            a *= factor

    def join(self, arrays: Sequence[Array], parts: Sequence[Array]) -> None:
        """Copy each array to its part; the parts are views that fill a flat array, one after the other."""
        for a, part in zip(arrays, parts, strict=True):
            part[...] = a

    def accumulate(self, totals: Sequence[Array], values: Sequence[Array], weight: float) -> None:
        """totals += weight values, of 0-d arrays; the totals are float64."""
        for total, value in zip(totals, values, strict=True):
            total += value.astype(np.float64) * weight

    def add_bias(self, y: Array, bias: Array) -> None:
        """y (..., O) += bias (O,); of images a row of pixels at a time, as NumPy is slow to add few numbers often."""
        if y.ndim == 4:
            n, h, w, o = y.shape
            y, bias = y.reshape(n * h, w * o), self.module.tile(bias, w)
        y += bias

    def column_sums(self, rows: Array) -> Array:
        """(M, D) -> (D,): on NumPy as a product with ones, in which it is fastest."""
        return self.module.matmul(self.module.ones(len(rows), dtype=rows.dtype), rows)

    def nearest(self, x: Array, codes: Array, squares: Array, indices: Array) -> None:
        """indices (M,) = for each row of x (M, D) the first code of codes (K, D) at which |e|^2 - 2 x.e is least.

        squares (K,): |e|^2. A NaN counts as the least, as in argmin.
        """
        score = self.module.matmul(x, -2 * codes.T)
        score += squares
        indices[...] = score.argmin(axis=1)

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

    def fitting(self, n: int, nbytes: int) -> int:
        """How many of n items, of so many bytes each, to work on at once: they stay in a core's cache. At least 1."""
        return max(1, min(n, (1 << 21) // max(nbytes, 1)))

    def gather_windows(self, x: Array, windows: Any, columns: Array) -> None:
        """columns (n, h, w, kh, kw, C) = what each tap of each window sees of images x (n, H, W, C); 0 beyond them.

        windows: a Geometry of ops/windows.py, whose padding may be below 0. x may be some channels of larger images:
        its pixels then lie apart. columns is contiguous, and all of it is written.
        """
        gather(self.module, x, windows, columns)

    def scatter_windows(self, y: Array, kernels: Array, windows: Any, x: Array) -> None:
        """The transpose: images x (n, H, W, C) = in each pixel, the sum for all windows and taps that see it of
        y (n, h, w, O) times the tap's kernel; kernels (O, kh, kw, C), contiguous. 0 where none sees a pixel.

        y and x may be some channels of larger images. All of x is written.
        """
        scatter(self.module, y, kernels, windows, x)

    def fused(self, function: Fused, operands: Sequence[Any], out: tuple[Array, ...] | None) -> Any:
        """The results of a fused function of operands, the first in the arrays of out, if given. See fusion.py."""
        found = kinds(operands)
        replaced = over(operands, out, self.may_share_memory) if out else ()
        if found is None or replaced is None:
            return function.plain(self, operands, out)
        shape, of_operands = found
        size = math.prod(shape)
        program = function.program(of_operands, replaced)
        if not size or not program.elementwise or not (out is None or program.fits(out, shape)):
            return function.plain(self, operands, out)
        if out is not None:
            out += tuple(self.module.empty_like(out[0], dtype=dtype) for dtype in program.dtypes[len(out) :])
        smallest = self.smallest_repeating if program.repeated else self.smallest
        flat = layout((*operands, *(out or ()))) if size >= smallest else None
        if flat is None:
            return self.whole(function, program, operands, out)
        arguments, results = flat.operands[: len(operands)], flat.operands[len(operands) :]
        if out is None:
            results = [self.module.empty(size, dtype) for dtype in program.dtypes]
        self.compute(program, arguments, results, size)
        values = tuple(out or map(flat.restored, results))
        return values if program.many else values[0]

    def whole(self, function: Fused, program: Program, operands: Sequence[Any], out: tuple[Array, ...] | None) -> Any:
        """A fused function of arrays that are small or have gaps: all of them at once."""
        if out is None:
            return program.fresh(*operands)
        program.into(*operands, *out)
        return out if program.many else out[0]

    def compute(self, program: Program, operands: list[Any], results: list[Array], size: int) -> None:
        """Fill flat results of a size."""
        period = len(operands[program.repeated[0]]) if program.repeated else size
        times = min(max(1, PIECE // period), size // period)  # of what repeats, so much goes in a piece
        pieces = [
            slice(i, min(i + PIECE, start + times * period, size))
            for start in range(0, size, times * period)
            for i in range(start, min(start + times * period, size), PIECE)
        ]
        spread(lambda mine: program.in_pieces((*operands, *results), mine, times), pieces, fewest=8)

    def capture(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """A step of training, a function of arrays, which a device replays at one launch. On NumPy it is as it is."""
        return step

    def device(self) -> str:
        """What computes, in words."""
        return f"CPU, {os.cpu_count()} cores"


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step, up to 62 MiB, in place of giving it back to the system.

    What is given back comes again page by page, each page a fault: of a step of the dense VAE at batch 128 they were
    an eighth. glibc takes the size of the largest block that was freed, up to 32 MiB, as its measure of what is worth
    giving back [mallopt(3), "dynamic mmap threshold"]. This block is freed at once and never touched: it costs nothing.
    """
    import_module("numpy").empty(31 << 20, dtype="uint8")
