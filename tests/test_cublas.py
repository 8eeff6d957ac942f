"""The calls of cuBLAS that a captured step makes, to a library of the same functions on the host."""

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivae.backend import cublas


class Array(np.ndarray):
    """Lies on the host and tells its address as CuPy's arrays do."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


MODULE = SimpleNamespace(
    empty=lambda shape, dtype: np.full(shape, np.nan, dtype).view(Array),
    ascontiguousarray=lambda a: np.ascontiguousarray(a).view(Array),
    cuda=SimpleNamespace(alloc=lambda size: SimpleNamespace(ptr=1)),
)
STREAM = SimpleNamespace(ptr=1)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("cublas") / "libcublas.so"
    source = Path(__file__).parent / "strict" / "cublas.cpp"
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
    return ctypes.CDLL(str(made))


@pytest.fixture
def product(library, monkeypatch):
    monkeypatch.setattr(cublas, "_loaded", lambda: library)
    return cublas.Cublas(MODULE, STREAM).matmul


def laid(matrix, how):
    """The matrix in memory by rows, by columns, inside of a wider one, or with gaps."""
    m, n = matrix.shape
    if how == "columns":
        return np.asfortranarray(matrix).view(Array)
    room = {"rows": (m, n), "wide": (m, n + 3), "gaps": (m, 2 * n)}[how]
    whole = np.full(room, np.nan, matrix.dtype)
    view = whole[:, ::2] if how == "gaps" else whole[:, :n]
    view[...] = matrix
    return view.view(Array)


@given(
    m=st.integers(1, 4), k=st.integers(0, 4), n=st.integers(1, 4), seed=st.integers(0, 99),
    a=st.sampled_from(["rows", "columns", "wide", "gaps"]), b=st.sampled_from(["rows", "columns", "wide", "gaps"]),
    out=st.sampled_from([None, "rows", "wide"]), dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_products_of_matrices_however_they_lie(library, m, k, n, seed, a, b, out, dtype):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    target = None if out is None else laid(np.full((m, n), np.nan, dtype), out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cublas, "_loaded", lambda: library)
        z = cublas.Cublas(MODULE, STREAM).matmul(laid(x, a), laid(y, b), target)
    assert z.dtype == dtype and (target is None or np.shares_memory(z, target))
    np.testing.assert_allclose(z if target is None else target, x @ y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,))])
def test_vectors(product, a, b):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a).view(Array), rng.standard_normal(b).view(Array)
    z = product(x, y)
    assert z.shape == (x @ y).shape
    np.testing.assert_allclose(z, np.matmul(np.asarray(x), np.asarray(y)))


@pytest.mark.parametrize(
    ("a", "b"),
    [(np.ones((2, 2, 2)), np.ones((2, 2))), (np.ones((2, 2)), np.ones((2, 2), "f4")), (np.ones((2, 2), "i8"),) * 2,
     (np.ones((2, 2)), np.ones((3, 2)))],
)  # fmt: skip
def test_what_it_does_not_multiply_is_refused(product, a, b):
    with pytest.raises(NotImplementedError, match="a product of"):
        product(a.view(Array), b.view(Array))


def test_tensor_float_is_off_unless_asked_for(library, monkeypatch):
    monkeypatch.setattr(cublas, "_loaded", lambda: library)
    mode = ctypes.c_int.in_dll(library, "math_mode")
    cublas.Cublas(MODULE, STREAM)
    assert mode.value == 0
    cublas.Cublas(MODULE, STREAM, tf32=True)
    assert mode.value == 3  # CUBLAS_TF32_TENSOR_OP_MATH


def test_a_call_that_fails(library, monkeypatch):
    monkeypatch.setattr(cublas, "_loaded", lambda: library)
    with pytest.raises(RuntimeError, match="cublasSetStream_v2 failed with status 7"):
        cublas.Cublas(MODULE, SimpleNamespace(ptr=0))


def test_no_library_is_loaded():
    with pytest.raises(OSError, match=r"none of libcublas\.so\.13"):
        cublas._loaded()
