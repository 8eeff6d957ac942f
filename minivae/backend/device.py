"""CuPy, on one CUDA device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minivae.backend.fusion import NUMBER, SCALAR, TYPES, Fused, Program, kind
from minivae.backend.host import Array, Backend
from minivae.errors import InputError


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

    def blocks(self, *arrays: Array) -> list[tuple[Array, ...]]:
        return [arrays] if arrays[0].size else []

    def fitting(self, n: int, nbytes: int) -> int:
        return max(1, min(n, (1 << 28) // max(nbytes, 1)))  # no cache to stay in: large kernels, bounded memory

    def fused(self, function: Fused, operands: Sequence[Any], out: tuple[Array, ...] | None) -> Any:
        kinds = tuple(map(kind, operands))
        if not all(k == NUMBER or k.removesuffix(SCALAR) in TYPES for k in kinds):
            return function.plain(self, operands, out)
        return super().fused(function, operands, out)

    def compute(self, program: Program, operands: list[Any], results: list[Array], size: int) -> None:
        if program.kernel is None:
            program.kernel = self.module.RawKernel(program.source(), program.name)
        numbers = [np.float64(a) if isinstance(a, int | float) else a for a in operands]
        threads = 256
        program.kernel((-(-size // threads),), (threads,), (*numbers, *results, np.int64(size)))

    def device(self) -> str:
        properties = self.module.cuda.runtime.getDeviceProperties(self.module.cuda.Device().id)
        return str(properties["name"].decode())
