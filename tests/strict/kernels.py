"""RawKernel of the stand-in: the very source that a GPU would run, compiled for the host and run thread by thread.

The prelude gives the C++ compiler the words of CUDA that a kernel without shared memory needs. Nothing is contracted
to fused multiply-adds, so that what differs from NumPy is the rounding of exp, log and their kin alone. Constants of
the compiler (-DHEIGHT=(28)) are variables here, set before each launch: one library does for all of their values.
"""

import atexit
import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy

from strict.arrays import counts, ndarray
from strict.recording import done

PRELUDE = """
#include <math.h>
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
namespace {
struct { int x, y, z; } blockIdx, threadIdx, blockDim, gridDim;
template <class T> T atomicAdd(T* a, T b) { T before = *a; *a += b; return before; }
}
"""
# every thread of every block, one after the other
LAUNCH = """
extern "C" void launch_{name}(const int* grid, const int* block, const long long* constants, void** v) {{
    {constants}
    gridDim = {{grid[0], grid[1], grid[2]}}; blockDim = {{block[0], block[1], block[2]}};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
    for (threadIdx.z = 0; threadIdx.z < block[2]; threadIdx.z++)
    for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
    for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++)
        {name}({arguments});
}}
"""
OPTIONS = ("-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w")
C_TYPES = {
    "bool": "bool", "char": "int8", "signed char": "int8", "unsigned char": "uint8", "short": "int16",
    "int": "int32", "unsigned int": "uint32", "unsigned": "uint32", "long long": "int64",
    "unsigned long long": "uint64", "float": "float32", "double": "float64",
}  # fmt: skip
SIZES = ctypes.c_int * 3
THREADS = 1024  # of a block at most, on every GPU

compiled = {}  # the source of each kernel that was run, by its name and a number: what the tests compile for a GPU
_libraries = {}  # by the hash of their source


class RawKernel:
    """cupy.RawKernel(code, name, options)."""

    def __init__(self, code, name, options=(), backend="nvrtc", translate_cucomplex=False, **others):
        if not isinstance(code, str) or not isinstance(name, str) or not isinstance(options, tuple):
            raise TypeError("RawKernel takes its code and name as str and its options as a tuple")
        self.code, self.name, self.options = code, name, options
        self._launch = None

    def __call__(self, grid, block, args, *, shared_mem=0):
        if not isinstance(grid, tuple) or not isinstance(block, tuple):  # as Cython says it
            wrong, what = (grid, "grid") if not isinstance(grid, tuple) else (block, "block")
            raise TypeError(f"Argument '{what}' has incorrect type (expected tuple, got {type(wrong).__name__})")
        grid, block = ([max(1, _whole(n)) for n in (*sizes, 1, 1)[:3]] for sizes in (grid, block))
        if numpy.prod(block) > THREADS or grid[0] >= 1 << 31 or max(grid[1:]) >= 1 << 16 or shared_mem > 48 << 10:
            raise ValueError(f"CUDA_ERROR_INVALID_VALUE: grid {grid}, block {block}, shared memory {shared_mem}")
        if self._launch is None:
            self._types = parameters(self.code, self.name)
            given = dict(_constant(option) for option in self.options)
            self._launch = getattr(_built(self.code, tuple(given)), f"launch_{self.name}")
            self._constants = (ctypes.c_longlong * len(given))(*given.values())
            self._pointers = ctypes.c_void_p * len(self._types)  # made once: a class is a cycle for the collector
            source = "".join(f"#define {name} ({value})\n" for name, value in given.items()) + self.code
            compiled[f"{self.name} {hashlib.sha256(source.encode()).hexdigest()[:8]}"] = source
        if len(args) != len(self._types):  # a GPU would read beyond the end
            raise TypeError(f"kernel {self.name} takes {len(self._types)} arguments, not {len(args)}")
        values = [_argument(self.name, i, a, *t) for i, (a, t) in enumerate(zip(args, self._types, strict=True))]
        pointers = self._pointers(*(v.ctypes.data for v in values))
        done(lambda alive=(args, values): self._launch(SIZES(*grid), SIZES(*block), self._constants, pointers))
        counts["launches"] += 1


def parameters(code, name):
    """The parameters of a kernel: (C type, whether a pointer, whether what it points to is constant)."""
    found = re.search(rf"\b{name}\s*\(([^)]*)\)\s*{{", code)
    if not found:
        raise ValueError(f"CUDA_ERROR_NOT_FOUND: no function {name} in the source")
    types = []
    for parameter in found[1].split(","):
        words = re.sub(r"\b__restrict__\b|\bconst\b", " ", parameter.replace("*", " * ")).split()
        types.append((" ".join(w for w in words[:-1] if w != "*"), "*" in words, "const" in parameter))
    return types


def _argument(name, i, value, c_type, pointer, constant):
    """A value as an array of one item that holds what the GPU would be handed. TypeError where it would misread it."""
    where = f"kernel {name}, argument {i}"
    dtype = numpy.dtype(C_TYPES[c_type])
    if type(value) is ndarray:
        if not pointer or value.dtype != dtype:
            raise TypeError(f"{where}: an array of {value.dtype} for {c_type}{'*' * pointer}")
        if not constant and not value._host.flags.writeable:
            raise TypeError(f"{where}: the kernel writes to an array that shares its entries (broadcast)")
        return numpy.array([value._host.ctypes.data], numpy.uintp)
    if pointer or isinstance(value, numpy.ndarray):
        raise TypeError(f"{where}: {type(value)} for {c_type}{'*' * pointer}")
    # CuPy hands Python numbers on as bool, int64, float64 and NumPy's as they are, whatever the kernel takes
    if isinstance(value, bool):
        raise TypeError(f"{where}: a Python bool has no size that is promised: give numpy.bool_")
    number = numpy.asarray(value)
    if number.dtype != dtype:
        raise TypeError(f"{where}: {number.dtype} is handed on as it is, but the kernel reads {dtype}")
    return number.reshape(1).copy()


def _whole(n):
    if not isinstance(n, int | numpy.integer):
        raise TypeError(f"a grid of {n!r}: whole numbers are expected")
    return int(n)


def _constant(option):
    """The name and the number of an option -DNAME=(number)."""
    found = re.fullmatch(r"-D(\w+)=\((-?\d+)\)", option)
    if not found:
        raise ValueError(f"the stand-in takes options -DNAME=(number) alone, not {option}")
    return found[1], int(found[2])


def _built(code, constants=()):
    """The kernels of a source as a library of the host's, compiled once in a session."""
    source = PRELUDE + "".join(f"static long long {name};\n" for name in constants) + code
    assigned = " ".join(f"{name} = constants[{i}];" for i, name in enumerate(constants))
    for name in re.findall(r"__global__\s+void\s+(\w+)", code):
        types = enumerate(parameters(code, name))
        arguments = ", ".join(f"*({t}{'*' * p}*) v[{i}]" for i, (t, p, _) in types)
        source += LAUNCH.format(name=name, arguments=arguments, constants=assigned)
    key = hashlib.sha256(source.encode()).hexdigest()
    if key not in _libraries:
        compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
        if compiler is None:
            raise RuntimeError("the stand-in runs kernels on the host, for which it needs a C++ compiler: install g++.")
        path = _folder() / f"{key[:24]}.so"
        done = subprocess.run([compiler, *OPTIONS, "-o", str(path), "-"], input=source, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"a kernel does not compile on the host:\n{done.stderr}\n{code}")
        _libraries[key] = ctypes.CDLL(str(path))
    return _libraries[key]


@functools.cache
def _folder():
    folder = Path(tempfile.mkdtemp(prefix="minivae-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
