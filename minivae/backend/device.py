"""CuPy, on one CUDA device."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from minivae.backend import device_windows, kernels
from minivae.backend.capture import Captured
from minivae.backend.cublas import Cublas
from minivae.backend.fusion import NUMBER, SCALAR, TYPES, Fused, Program, kind
from minivae.backend.host import Array, Backend, Memory
from minivae.errors import InputError

THREADS = 256  # of a block
RESIDENT = 0.5  # the share of the free memory that a data set may take
DRIVER_TOO_OLD, NO_DEVICE = 35, 100  # CUDA's numbers of errors
ELSE = "or use --backend numpy"


class CuPy(Backend):
    """CuPy, on one CUDA device.

    number: which one; CuPy uses it from now on. tf32: whether matrix products may round their float32 factors to ten
    bits of mantissa, which tensor cores multiply several times as fast. Raises InputError, with what is missing.
    """

    name = "cupy"
    library = "cupy"
    special_functions = "cupyx.scipy.special"
    eager = False
    smallest = smallest_repeating = 1  # one launch is cheaper than several, however little each does

    def __init__(self, number: int = 0, tf32: bool = False) -> None:
        try:
            module = import_module(self.library)
        except ModuleNotFoundError as error:
            if error.name != self.library:
                raise self._unusable(error) from None
            raise InputError(
                f"backend '{self.name}' needs the package cupy, which is not installed: install minivae[cuda12] or "
                f"minivae[cuda13] on a machine with an NVIDIA GPU, {ELSE}."
            ) from None
        except Exception as error:  # a library of CUDA's that it cannot load
            raise self._unusable(error) from None
        self._choose(module, number)
        self.number = number
        self.tf32 = tf32
        self.kernels: dict[tuple[str, tuple[str, ...]], Any] = {}  # by their source and its constants
        self._peak = 0
        self.cublas: Cublas | None = None  # in a capture: see capture.py
        try:
            super().__init__()
            linalg = import_module(f"{self.library}._core._routines_linalg")
            linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32 if tf32 else linalg.COMPUTE_TYPE_DEFAULT)
            ones = module.ones((2, 2), dtype=np.float32)
            drawn = self.rng.standard_normal(2, dtype=np.float32)
            if float((ones @ ones).sum()) != 8 or not float(drawn @ drawn) > 0:  # proves compiler, cuBLAS and cuRAND
                raise RuntimeError("it computes wrongly")
        except MemoryError:
            raise
        except Exception as error:
            raise self._unusable(error) from None

    def _choose(self, module: Any, number: int) -> None:
        """Make CuPy use a device. InputError where there is no driver, no device, or none of this number."""
        runtime = module.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            if error.status not in (DRIVER_TOO_OLD, NO_DEVICE):
                raise self._unusable(error) from None
            count, driver = 0, runtime.driverGetVersion()
            if not driver:
                raise InputError(
                    f"backend '{self.name}' needs NVIDIA's driver, which this machine has not: install it, {ELSE}."
                ) from None
            if error.status == DRIVER_TOO_OLD:
                raise InputError(
                    f"backend '{self.name}' needs a newer driver: this one is for CUDA {_version(driver)}, and CuPy "
                    f"was built with {_version(runtime.runtimeGetVersion())}: update the driver, {ELSE}."
                ) from None
        if not count:
            raise InputError(
                f"backend '{self.name}' needs a GPU, and the driver finds none: is CUDA_VISIBLE_DEVICES right? "
                f"Else use --backend numpy."
            )
        if number >= count:
            names = ", ".join(f"{i} ({self._named(runtime, i)})" for i in range(count))
            raise InputError(f"there is no GPU {number}: choose one of {names}, as with --backend {self.name}:0.")
        module.cuda.Device(number).use()

    def _unusable(self, error: Exception) -> InputError:
        """The sentence of an error that CuPy raised as it was tried."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip("= ")]
        original = [lines[i + 1] for i, line in enumerate(lines[:-1]) if line == "Original error:"]
        reason = (original or lines or [type(error).__name__])[0].rstrip(".")
        library = re.search(r"lib(cu\w+|nv\w+)\.so[.\d]*", str(error))
        if library:
            return InputError(
                f"backend '{self.name}' does not find CUDA's library {library[0]}: install CUDA of the version that "
                f"the package cupy is for, or its libraries by pip install 'cupy-cuda12x[ctk]' (13x for CUDA 13), "
                f"{ELSE}."
            )
        return InputError(f"backend '{self.name}' cannot use the GPU ({reason}): mend that, {ELSE}.")

    @staticmethod
    def _named(runtime: Any, number: int) -> str:
        return str(runtime.getDeviceProperties(number)["name"].decode())

    def device(self) -> str:
        tf32 = ", TF32" if self.tf32 else ""
        return f"GPU {self.number}, {self._named(self.module.cuda.runtime, self.number)}{tf32}"

    def synchronize(self) -> None:
        self.module.cuda.Device(self.number).synchronize()

    def memory(self) -> Memory:
        pool = self.module.get_default_memory_pool()
        held = pool.total_bytes()
        self._peak = max(self._peak, held)
        return Memory(pool.used_bytes(), held, self._peak)

    def shortage(self, error: MemoryError) -> str:
        if not isinstance(error, self.module.cuda.memory.OutOfMemoryError):
            return super().shortage(error)
        asked = re.search(r"allocating ([\d,]+) bytes", str(error))
        free, total = self.module.cuda.Device(self.number).mem_info
        held = self.memory().held
        return (
            f"the GPU's memory is full: {int(asked[1].replace(',', '')) if asked else 0:,} bytes were asked for, "
            f"{free:,} of its {total:,} are free and this program holds {held:,}: use a smaller --batch-size or model."
        )

    def write(self, array: Array, numbers: Sequence[float]) -> None:
        # the numbers travel as arguments of a kernel, which a copy would have to wait for
        count, c = len(numbers), TYPES[array.dtype.name]
        lines = "".join(f"    if (threadIdx.x == 0) out[{i}] = v{i};\n" for i in range(count))
        parameters = "".join(f"double v{i}, " for i in range(count))
        source = f'extern "C" __global__ void put({c}* out, {parameters}long long n) {{\n{lines}}}\n'
        self.launch(self.kernel("put", source), 1, array, *map(np.float64, numbers))

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """numpy.matmul."""
        return (self.cublas or self.module).matmul(a, b, out)

    def capture(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return Captured(self, step)

    def generator_state(self, rng: Any) -> Any:
        return None

    def restored_generator(self, rng: Any, state: Any, seed: int) -> Any:
        return self.generator(seed)

    def to_numpy(self, array: Array) -> Any:
        return self.module.asnumpy(array)

    def resident(self, images: Any) -> Array | None:
        free, _ = self.module.cuda.Device(self.number).mem_info
        return self.module.asarray(images) if images.nbytes <= RESIDENT * free else None

    def images(self, images: Any, indices: Any, gathered: Any) -> Array:
        if type(images) is not self.ndarray:  # on the host: CuPy copies from pinned memory, and does not wait
            images, indices = self.module.asarray(images[indices]), self.module.arange(len(indices))
        dtype = images.dtype.name
        if dtype not in kernels.GATHER_IMAGES:  # codes
            return images[indices]
        shape = (len(indices), *images.shape[1:])
        out = self.module.empty(shape, dtype=np.float32)
        kernel = self.kernel(f"gather_{dtype}", kernels.GATHER_IMAGES[dtype])
        self.launch(kernel, out.size, images, indices, out, np.int64(math.prod(images.shape[1:])))
        return out

    def check_indices(self, what: str, indices: Array, n: int) -> None:
        pass

    def check_range(self, what: str, values: Array, low: float, high: float) -> None:
        pass

    def fingerprint(self, array: Array) -> Any:
        # a sum alone would not see two entries change places, so that each place has an odd weight of its own
        data = self.module.ascontiguousarray(array).reshape(-1).view(np.uint8).astype(np.uint64)
        place = self.module.arange(1, 2 * data.size, 2, dtype=np.uint64)
        return (data * (place * place)).sum()

    def fitting(self, n: int, nbytes: int) -> int:
        return max(1, min(n, (1 << 28) // max(nbytes, 1)))  # no cache to stay in: large kernels, bounded memory

    gather_windows = device_windows.gather
    scatter_windows = device_windows.scatter
    square_sum = kernels.square_sum  # vdot is cuBLAS's, which no capture takes
    scale_all = kernels.scale_all
    join = kernels.join
    accumulate = kernels.accumulate
    column_sums = kernels.column_sums
    nearest = kernels.nearest
    count = kernels.count  # bincount would wait for the device

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        self.module.add.at(target, index, values)

    def add_bias(self, y: Array, bias: Array) -> None:
        y += bias

    def kernel(self, name: str, source: str, constants: tuple[str, ...] = ()) -> Any:
        """The function `name` of a C source, for `launch`; compiled when it first runs.

        constants: options of the compiler, "-DNAME=(number)".
        """
        key = source, constants
        if key not in self.kernels:
            self.kernels[key] = self.module.RawKernel(source, name, constants)
        return self.kernels[key]

    def launch(self, kernel: Any, size: int, *arguments: Any) -> None:
        """Run a kernel with a thread for each of `size` items; its last parameter is `long long n`, that size.

        Numbers are np.int64, np.float64 and so on, exactly as the kernel declares them.
        """
        if size:
            kernel((-(-size // THREADS),), (THREADS,), (*arguments, np.int64(size)))

    def fused(self, function: Fused, operands: Sequence[Any], out: tuple[Array, ...] | None) -> Any:
        kinds = tuple(map(kind, operands))
        if not any(k in TYPES for k in kinds) and any(k != NUMBER for k in kinds):  # 0-d arrays: as arrays of one entry
            entries = [a.reshape(1) if k.endswith(SCALAR) else a for k, a in zip(kinds, operands, strict=True)]
            results = self.fused(function, entries, out and tuple(a.reshape(1) for a in out))
            return tuple(r.reshape(()) for r in results) if isinstance(results, tuple) else results.reshape(())
        known = all(k == NUMBER or k.removesuffix(SCALAR) in TYPES for k in kinds)
        if not known or any(isinstance(a, np.generic) for a in operands):
            return function.plain(self, operands, out)
        return super().fused(function, operands, out)

    def whole(self, function: Fused, program: Program, operands: Sequence[Any], out: tuple[Array, ...] | None) -> Any:
        return function.plain(self, operands, out)

    def compute(self, program: Program, operands: list[Any], results: list[Array], size: int) -> None:
        numbers = [np.float64(a) if isinstance(a, int | float) else a for a in operands]
        if program.kernel is None:
            program.kernel = self.kernel(program.name, program.source())
        period = [np.int64(len(operands[program.repeated[0]]))] if program.repeated else []
        self.launch(program.kernel, size, *numbers, *results, *period)


def _version(number: int) -> str:
    """CUDA's number of a version, 12090, as 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
