"""The stand-in for CuPy itself: it refuses what CuPy refuses, lacks what CuPy lacks, and runs kernels as a GPU does."""

from types import SimpleNamespace

import numpy as np
import pytest
import strict
from strict import kernels

from minivae import ops

REFUSED = {
    "numpy on the right": lambda a, n: a + n,
    "numpy on the left": lambda a, n: n + a,
    "numpy in place": lambda a, n: a.__iadd__(n),
    "numpy in a function": lambda a, n: strict.add(a, n),
    "numpy alone in a function": lambda a, n: strict.sum(n),
    "numpy assigned": lambda a, n: a.__setitem__(slice(None), n),
    "numpy as an index": lambda a, n: a[np.array([0])],
    "numpy's function": lambda a, n: np.sum(a),
    "numpy's ufunc": lambda a, n: np.exp(a),
    "conversion": lambda a, n: np.asarray(a),
    "a ufunc's where": lambda a, n: strict.exp(a, where=a > 0),
    "a sum's initial": lambda a, n: strict.sum(a, initial=0),
    "a method's where": lambda a, n: a.max(where=a > 0),
    "a list assigned": lambda a, n: a.__setitem__(slice(None), [1.0, 2.0, 3.0]),
    "at of int64": lambda a, n: strict.add.at(strict.zeros(2, int), strict.zeros(1, int), 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_stand_in_refuses(name):
    with pytest.raises(TypeError):
        REFUSED[name](strict.ones(3), np.ones(3))


@pytest.mark.parametrize("name", ["errstate", "vecdot", "block", "nditer", "insert", "einsum_path"])
def test_the_stand_in_lacks_what_cupy_lacks(name):
    assert hasattr(np, name)
    assert not hasattr(strict, name)


def test_what_arrays_generators_and_ufuncs_lack():
    assert not hasattr(strict.ones(2), "setflags") and not hasattr(strict.ones(2).flags, "writeable")
    assert not any(hasattr(strict.random.default_rng(0), name) for name in ("normal", "permutation", "shuffle"))
    assert hasattr(strict.add, "reduce") and not hasattr(strict.maximum, "reduce")
    assert hasattr(strict.maximum, "at") and not hasattr(strict.multiply, "at")
    assert hasattr(ops, "sum") and not isinstance(strict.ones(2), np.ndarray)


def test_reductions_and_entries_are_arrays_and_reading_them_is_counted():
    a = strict.ones((2, 3))
    for scalar in (a.sum(), strict.mean(a), a[0, 1], a.max() + 1):
        assert type(scalar) is strict.ndarray and scalar.shape == ()
    strict.counts.clear()
    assert (float(a.sum()), int(a.sum()), bool(a.all()), a.sum().item(), f"{a.sum():.1f}") == (6, 6, True, 6, "6.0")
    assert strict.counts["waits"] >= 4
    assert (strict.counts["to_host"], strict.counts["to_device"]) == (0, 0)
    strict.asnumpy(strict.asarray(np.ones(2)))
    assert (strict.counts["to_host"], strict.counts["to_device"]) == (1, 1)


def test_indices_that_are_undefined_on_a_gpu_are_refused():
    a = strict.zeros(3)
    with pytest.raises(ValueError, match="more than once"):
        a[strict.asarray(np.array([0, 2, 2]))] = 1
    with pytest.raises(IndexError):
        a[strict.asarray(np.array([0, 3]))]
    a[strict.asarray(np.array([2, 0]))] = strict.ones(2)
    a[a > 0] = 5
    assert a.tolist() == [5, 0, 5]
    assert np.isnan(strict.asnumpy(strict.empty(2))).all()  # what is read before it is written shows


def test_entries_are_views():
    a = strict.ones(3)
    a[1][...] = 5
    assert a.tolist() == [1, 5, 1]
    assert a[1:].base is not None and a.copy().base is None


# ---- the stand-in's kernels ----

ADD = """extern "C" __global__ void add(const float* a, float* r, double b, long long n) {
    long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x;
    if (i < n) r[i] = a[i] + (float) b;
}
"""


def test_a_kernel_runs_on_all_threads():
    a, r = strict.ones(1000, dtype=np.float32), strict.zeros(1000, dtype=np.float32)
    strict.RawKernel(ADD, "add")((8,), (128,), (a, r, 2.0, 999))
    assert strict.asnumpy(r).tolist() == [3] * 999 + [0]


A = SimpleNamespace(f4=strict.ones(3, dtype=np.float32), f8=strict.ones(3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((A.f4, A.f8, 1.0, 3), "argument 1: an array of float64 for float"),
        ((A.f4, A.f4, np.float32(1), 3), "argument 2: float32 is handed on as it is, but the kernel reads float64"),
        ((A.f4, A.f4, 1, 3), "argument 2: int64"),
        ((A.f4, A.f4, 1.0, np.int32(3)), "argument 3: int32"),
        ((A.f4, A.f4, 1.0, True), "argument 3: a Python bool"),
        ((np.ones(3, np.float32), A.f4, 1.0, 3), "argument 0: <class 'numpy.ndarray'>"),
        ((A.f4, A.f4, A.f4, 3), "argument 2: an array"),
        ((A.f4, A.f4, 1.0), "takes 4 arguments, not 3"),
        ((A.f4, strict.broadcast_to(A.f4[0], (3,)), 1.0, 3), "argument 1: the kernel writes"),
    ],
)
def test_arguments_that_a_gpu_would_misread(arguments, words):
    with pytest.raises(TypeError, match=words):
        strict.RawKernel(ADD, "add")((1,), (32,), arguments)


@pytest.mark.parametrize(("grid", "block"), [([1], (32,)), ((1,), (2048,)), ((1, 1 << 16), (32,)), ((1.0,), (32,))])
def test_grids_that_a_gpu_refuses(grid, block):
    with pytest.raises((TypeError, ValueError)):
        strict.RawKernel(ADD, "add")(grid, block, (A.f4, A.f4, 1.0, 3))


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler"):
        strict.RawKernel(ADD + "// another", "add")((1,), (32,), (A.f4, A.f4, 1.0, 3))
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="does not compile"):
        strict.RawKernel(ADD.replace("+ (float) b", "+ c"), "add")((1,), (32,), (A.f4, A.f4, 1.0, 3))
