"""Products of matrices by cuBLAS itself, through ctypes: CuPy refuses its own calls of it while a graph is captured.

The library is the one that CuPy loaded. [cuBLAS documentation: cublasSgemm, cublasSetWorkspace]
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from minivae.backend.host import Array

LIBRARIES = ("libcublas.so.13", "libcublas.so.12")
WORKSPACE = 32 << 20  # bytes, as NVIDIA advises for Hopper. With one of ours cuBLAS allocates nothing in a capture
PLAIN, TF32 = 0, 3  # of cublasMath_t
GEMM = {"float32": ("cublasSgemm_v2", ctypes.c_float), "float64": ("cublasDgemm_v2", ctypes.c_double)}


class Cublas:
    """A handle of cuBLAS that works on a stream.

    module: cupy. stream: a cupy.cuda.Stream. tf32: whether float32 may be rounded to TensorFloat-32.
    Raises OSError where CuPy has loaded no cuBLAS, RuntimeError where a call fails.
    """

    def __init__(self, module: Any, stream: Any, tf32: bool = False):
        self.module = module
        self.library = _loaded()
        self.handle = ctypes.c_void_p()
        self.workspace = module.cuda.alloc(WORKSPACE)
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream.ptr))
        workspace = ctypes.c_void_p(self.workspace.ptr)
        self._call("cublasSetWorkspace_v2", self.handle, workspace, ctypes.c_size_t(WORKSPACE))
        self._call("cublasSetMathMode", self.handle, ctypes.c_int(TF32 if tf32 else PLAIN))

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """a @ b of vectors and matrices, float32 or float64. NotImplementedError for anything else."""
        if max(a.ndim, b.ndim) > 2 or a.dtype != b.dtype or a.dtype.name not in GEMM or a.shape[-1] != b.shape[0]:
            raise NotImplementedError(f"a product of {a.dtype} {a.shape} and {b.dtype} {b.shape}")
        rows, columns = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
        result = self.module.empty((len(rows), columns.shape[1]), dtype=a.dtype) if out is None else out
        self._gemm(rows, columns, result.reshape(len(rows), columns.shape[1]))
        return result.reshape(a.shape[:-1] + b.shape[1:])

    def _gemm(self, a: Array, b: Array, c: Array) -> None:
        """c (m, n) = a (m, k) b (k, n) by rows. cuBLAS goes by columns: what it sees there is c^T = b^T a^T."""
        (m, n), k = c.shape, a.shape[1]
        if not k:
            c.fill(0)
        if not m or not n or not k:
            return
        a, b = (x if _pitch(x) else self.module.ascontiguousarray(x) for x in (a, b))
        (a_by_columns, lda), (b_by_columns, ldb), (turned, ldc) = _pitch(a), _pitch(b), _pitch(c)  # type: ignore[misc]
        if turned:
            raise NotImplementedError(f"a product into an array of strides {c.strides}")
        name, real = GEMM[c.dtype.name]
        one, zero = real(1), real(0)
        self._call(
            name, self.handle, int(b_by_columns), int(a_by_columns), n, m, k,
            ctypes.byref(one), ctypes.c_void_p(b.data.ptr), ldb, ctypes.c_void_p(a.data.ptr), lda,
            ctypes.byref(zero), ctypes.c_void_p(c.data.ptr), ldc,
        )  # fmt: skip

    def _call(self, name: str, *args: Any) -> None:
        if status := getattr(self.library, name)(*args):
            raise RuntimeError(f"{name} failed with status {status}")


def _loaded() -> Any:
    """The libcublas of this process. It is not loaded here: a second version beside CuPy's would be a trap."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LOCAL)
        except OSError:
            continue
    raise OSError(f"none of {', '.join(LIBRARIES)} is loaded")


def _pitch(a: Array) -> tuple[bool, int] | None:
    """Whether a matrix lies by columns (it is a transpose), and the entries from one row (or column) to the next.

    None where it lies otherwise, with gaps between the entries of a row.
    """
    (rows, columns), (down, across) = a.shape, (s // a.itemsize for s in a.strides)
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return False, max(down, columns) if rows > 1 else columns
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return True, max(across, rows) if columns > 1 else rows
    return None
