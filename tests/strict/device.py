"""cupy.cuda of the stand-in: two devices that are the host, and what CuPy tells of drivers, devices and memory.

Tests replace single functions here by ones that fail as CuPy 14 fails (`cuda.runtime.getDeviceCount = ...`).
"""

from types import SimpleNamespace

from strict.arrays import NAMES, counts
from strict.recording import Graph, Stream, alloc, using_allocator

__all__ = [
    "Device", "Graph", "MemoryPool", "Stream", "alloc", "default_pool", "memory", "runtime", "using_allocator",
]  # fmt: skip

DEVICES = 2
FREE, TOTAL = 8 << 30, 16 << 30
_device = 0  # the one in use


class CUDARuntimeError(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError: a number of CUDA's, and its name and text."""

    texts = {  # noqa: RUF012
        2: "cudaErrorMemoryAllocation: out of memory",
        35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
        100: "cudaErrorNoDevice: no CUDA-capable device is detected",
        101: "cudaErrorInvalidDevice: invalid device ordinal",
        209: "cudaErrorNoKernelImageForDevice: no kernel image is available for execution on the device",
    }

    def __init__(self, status):
        self.status = status
        super().__init__(self.texts[status])


class OutOfMemoryError(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""

    def __init__(self, size, total, limit=0):
        self._size, self._total, self._limit = size, total, limit
        set_to = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{set_to}).")


class Device:
    def __init__(self, device=None):
        self.id = _device if device is None else int(device)

    def use(self):
        global _device
        if not 0 <= self.id < runtime.getDeviceCount():
            raise CUDARuntimeError(101)
        _device = self.id

    def synchronize(self):
        counts["waits"] += 1

    @property
    def mem_info(self):
        return runtime.memGetInfo()

    @property
    def compute_capability(self):
        return "90"


class MemoryPool:
    used, held = 3 << 20, 4 << 20

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.held

    def malloc(self, size):
        return alloc(size)

    def free_all_blocks(self):
        self.held = self.used


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    driverGetVersion=lambda: 12090,
    runtimeGetVersion=lambda: 12090,
    getDeviceCount=lambda: DEVICES,
    getDeviceProperties=lambda i: {"name": f"the host as GPU {i}".encode()},
    memGetInfo=lambda: (FREE, TOTAL),
)
memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
default_pool = MemoryPool()

_missing = [name for name in vars(runtime) if name not in NAMES["cuda.runtime"]]
_missing += [f"{kind.__name__}.{name}" for kind in (Device, MemoryPool) for name in vars(kind)
             if name[0] != "_" and name not in ("used", "held", *NAMES[f"cuda.{kind.__name__}"])]  # fmt: skip
assert not _missing, f"CuPy has no {_missing}"
