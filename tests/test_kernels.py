"""The C of every kernel: it computes what NumPy computes, and NVRTC compiles it for the GPUs of today.

The fused functions come from the registry, and so none can be left out. The other kernels are those that the stand-in
ran. Both run here as loops on the host (see strict/kernels.py).
"""

import inspect

import numpy as np
import nvrtc
import pytest
import strict

from minivae import backend
from minivae.backend.fusion import FUSED, NUMBER, SCALAR, Program

ARCHITECTURES = ["sm_70", "sm_80", "sm_90"]
N = 3000
EXTREMES = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e4, -1e4, 1e30, -1e30]
ROUNDINGS = 8  # of the largest number on the way to a result: exp, log, tanh and erfc differ by one or two each
every_function = pytest.mark.parametrize("name", sorted(FUSED))


def variants(function):
    """Programs for operands of all kinds: arrays; and every other one a number, or a 0-d array. And their C."""
    count = len(inspect.signature(function.function).parameters) - 1
    programs = []
    for dtype in ("float32", "float64"):
        kinds = [(dtype,) * count]
        if count > 1:
            kinds += [tuple(other if i % 2 else dtype for i in range(count)) for other in (NUMBER, dtype + SCALAR)]
        if count > 2:
            kinds += [(dtype, *k[:-1]) for k in kinds[1:]]
        for k in kinds:
            program = Program(f"{function.name}_{len(programs)}", function.function, k, ())
            if NUMBER not in program.kinds[count:]:  # a function of numbers alone has no place in C
                programs.append(program)
    return programs, "".join(p.source() for p in programs)


def drawn(rng, kinds):
    """Operands: of all magnitudes, and then all pairs of the extremes."""
    operands = []
    for i, kind in enumerate(kinds):
        dtype = kind.removesuffix(SCALAR) if kind != NUMBER else "float64"
        if kind == NUMBER:
            operands.append(float(rng.uniform(0.1, 2)))
        elif kind.endswith(SCALAR):
            operands.append(np.asarray(rng.uniform(0.1, 2), dtype))
        else:
            a = rng.standard_normal(N) * rng.choice([0.1, 1, 10], N)
            pairs = np.repeat(EXTREMES, len(EXTREMES)) if i % 2 else np.tile(EXTREMES, len(EXTREMES))
            operands.append(np.concatenate([a, pairs]).astype(dtype))
    return operands


def on_device(program, source, operands):
    """The results of a program's source on the stand-in."""
    size = max(a.size for a in operands if not isinstance(a, float))
    results = [strict.empty(size, dtype=dtype) for dtype in program.dtypes]
    given = [np.float64(a) if isinstance(a, float) else strict.asarray(a) for a in operands]
    strict.RawKernel(source, program.name)((4,), (64,), (*given, *results, np.int64(size)))
    return [strict.asnumpy(r) for r in results]


def compare(program, function, source, operands):
    """AssertionError where the C computes something else than the function does in NumPy."""
    with np.errstate(all="ignore"):
        values = list(operands)
        for step in program.steps:
            values.append(program._value(step, values))
        expected = function(backend.host(), *operands)
        expected = expected if isinstance(expected, tuple) else (expected,)
        finite = [np.where(np.isfinite(v), np.abs(v), 0) for v in values]
        scale = np.max(np.broadcast_arrays(*finite), axis=0)
    for ours, theirs in zip(on_device(program, source, operands), expected, strict=True):
        assert ours.dtype == theirs.dtype
        theirs = np.broadcast_to(theirs, ours.shape)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        np.testing.assert_array_equal(ours[np.isinf(theirs)], theirs[np.isinf(theirs)])
        inside = np.isfinite(theirs)
        eps = np.finfo(theirs.dtype).eps if theirs.dtype.kind == "f" else 0
        error = np.abs(np.subtract(ours, theirs, where=inside, out=np.zeros(ours.shape)))
        assert (error <= ROUNDINGS * eps * np.maximum(scale, np.abs(theirs)))[inside].all(), error.max()


@every_function
def test_the_c_of_a_fused_function_computes_what_numpy_computes(name):
    programs, source = variants(FUSED[name])
    assert {p.kinds[0] for p in programs} == {"float32", "float64"}
    for program in programs:
        operands = drawn(np.random.default_rng(0), program.kinds[: program.operands])
        compare(program, FUSED[name].function, source, operands)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@every_function
def test_nvrtc_compiles_a_fused_function(name, architecture):
    programs = [p for p in variants(FUSED[name])[0] if not any(k.endswith(SCALAR) for k in p.kinds[: p.operands])]
    size, log = nvrtc.compiled("".join(p.source() for p in programs), architecture)
    assert size > 0 and not log, log  # no warning either


def planted(xp, a, b):
    return xp.where(a > b, a * b, xp.exp(-xp.abs(a))) - xp.log1p(xp.abs(b))


PLANTED = {
    "another operator": (" v0) * (", " v0) + ("),
    "another function": ("exp(", "expm1("),
    "less exact": ("log1p(", "log(1.00001f + "),
    "the wrong way round": (" > ", " <= "),
    "not all entries": ("i < n", "i < n - 1"),
    "a step too far": ("i += step", "i += 2 * step"),
    "no load of its own": ("a1[i]", "a1[0]"),
}


@pytest.mark.parametrize("error", PLANTED)
def test_an_error_in_a_kernel_is_found(error):
    """A test of the test above."""
    program = Program("planted", planted, ("float32", "float32"), ())
    operands = drawn(np.random.default_rng(0), program.kinds[:2])
    source = program.source()
    compare(program, planted, source, operands)
    wrong = source.replace(*PLANTED[error])
    assert wrong != source
    with pytest.raises(AssertionError):
        compare(program, planted, wrong, operands)


def test_a_source_that_is_wrong_does_not_compile_for_a_gpu_nvrtc():
    with pytest.raises(RuntimeError, match=r"kernel.cu\(1\): error"):
        nvrtc.compiled("__global__ void f(float* a) { a[0] = undefined; }", "sm_90")
