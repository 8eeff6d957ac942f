"""The C of every kernel: it computes what NumPy computes, and NVRTC compiles it for the GPUs of today.

The fused functions come from the registry, and so none can be left out. The other kernels are those of
backend/kernels.py. Both run here as loops on the host (see strict/kernels.py).
"""

import inspect

import numpy as np
import nvrtc
import pytest
import strict
from strict import launches

from minivae import backend, models, optim
from minivae.backend import device_windows, kernels
from minivae.backend.fusion import FUSED, NUMBER, REPEATED, SCALAR, Program
from minivae.backend.plan import dtype_of
from minivae.checks import checks
from minivae.ops.windows import Geometry
from minivae.progress import Means
from minivae.watch import Watch

ARCHITECTURES = ["sm_70", "sm_80", "sm_90"]
N = 3001
PERIOD = 317  # entries of what repeats: ten times they are N and the 169 pairs of extremes
EXTREMES = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e4, -1e4, 1e30, -1e30]
ROUNDINGS = 8  # of the largest number on the way to a result: exp, log, tanh and erfc differ by one or two each
every_function = pytest.mark.parametrize("name", sorted(FUSED))


def variants(function):
    """Programs for operands of all kinds: arrays; and every other one a number, a 0-d array or one that repeats. And
    their C."""
    count = len(inspect.signature(function.function).parameters) - 1
    programs = []
    for dtype in ("float32", "float64"):
        kinds = [(dtype,) * count]
        if count > 1:
            others = (NUMBER, dtype + SCALAR, dtype + REPEATED)
            kinds += [tuple(other if i % 2 else dtype for i in range(count)) for other in others]
        if count > 2:
            kinds += [(dtype, *k[:-1]) for k in kinds[1:]]
        for k in kinds:
            program = Program(f"{function.name}_{len(programs)}", function.function, k, ())
            # a function of numbers alone has no place in C, and a result of what repeats has not the full shape
            if NUMBER not in program.kinds[count:] and program.elementwise:
                programs.append(program)
    return programs, "".join(p.source() for p in programs)


def drawn(rng, kinds):
    """Operands: of all magnitudes, and then all pairs of the extremes."""
    operands = []
    for i, kind in enumerate(kinds):
        dtype = dtype_of(kind) if kind != NUMBER else "float64"
        if kind == NUMBER:
            operands.append(float(rng.uniform(0.1, 2)))
        elif kind.endswith(SCALAR):
            operands.append(np.asarray(rng.uniform(0.1, 2), dtype))
        else:
            a = rng.standard_normal(N) * rng.choice([0.1, 1, 10], N)
            pairs = np.repeat(EXTREMES, len(EXTREMES)) if i % 2 else np.tile(EXTREMES, len(EXTREMES))
            operands.append(np.concatenate([a, pairs]).astype(dtype)[-PERIOD if kind.endswith(REPEATED) else None :])
    return operands


def broadcast(operands):
    """The others in rows of what repeats, for NumPy."""
    repeats = any(np.size(a) == PERIOD for a in operands)
    return [a.reshape(-1, PERIOD) if repeats and np.size(a) > PERIOD else a for a in operands]


def on_device(program, source, operands):
    """The results of a program's source on the stand-in."""
    size = max(a.size for a in operands if not isinstance(a, float))
    results = [strict.empty(size, dtype=dtype) for dtype in program.dtypes]
    period = [np.int64(PERIOD)] if program.repeated else []
    given = [np.float64(a) if isinstance(a, float) else strict.asarray(a) for a in operands]
    strict.RawKernel(source, program.name)((4,), (64,), (*given, *results, *period, np.int64(size)))
    return [strict.asnumpy(r) for r in results]


def compare(program, function, source, operands):
    """AssertionError where the C computes something else than the function does in NumPy."""
    with np.errstate(all="ignore"):
        rows = broadcast(operands)
        values = list(rows)
        for step in program.steps:
            values.append(program._value(step, values))
        expected = function(backend.host(), *rows)
        expected = expected if isinstance(expected, tuple) else (expected,)
        finite = [np.where(np.isfinite(v), np.abs(v), 0) for v in values]
        scale = np.max(np.broadcast_arrays(*finite), axis=0).reshape(-1)
    for ours, theirs in zip(on_device(program, source, operands), expected, strict=True):
        assert ours.dtype == theirs.dtype
        theirs = np.broadcast_to(theirs, np.broadcast_shapes(*map(np.shape, rows))).reshape(-1)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        np.testing.assert_array_equal(ours[np.isinf(theirs)], theirs[np.isinf(theirs)])
        inside = np.isfinite(theirs)
        eps = np.finfo(theirs.dtype).eps if theirs.dtype.kind == "f" else 0
        error = np.abs(np.subtract(ours, theirs, where=inside, out=np.zeros(ours.shape), dtype=float))
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
    "what repeats does not": ("a1[i % period]", "a1[i / 10]"),
}


@pytest.mark.parametrize("error", PLANTED)
def test_an_error_in_a_kernel_is_found(error):
    """A test of the test above."""
    repeats = REPEATED if "period" in PLANTED[error][0] else ""
    program = Program("planted", planted, ("float32", "float32" + repeats), ())
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


# ---- the kernels of kernels.py, against what the same methods do on NumPy ----

HOST, DEVICE = backend.host(), backend._loaded[strict.ndarray]


def integers(rng, shape, dtype):
    """Whole numbers, of which sums have no roundings."""
    return rng.integers(-9, 10, shape).astype(dtype)


def geometries(rng, least):
    """A Geometry of any kind, with so many windows (down, across) on an image of a size (H, W)."""
    while True:
        kernel, stride, padding, dilation = (
            tuple(rng.integers(*range_, 2).tolist()) for range_ in ((1, 5), (1, 4), (least, 4), (1, 3))
        )
        windows = Geometry(kernel, stride, padding, dilation)
        down, across = (int(n) for n in rng.integers(1, 4, 2))
        over = [int(rng.integers(0, s)) for s in stride]  # pixels that no window sees
        size = tuple(n - 2 * p + e for n, p, e in zip(windows.frame((down, across)), padding, over, strict=True))
        if min(size) > 0:
            return windows, windows.positions("", size), size


def images(rng, n, size, channels, dtype):
    """Some channels of larger images, channels-last or (N, C, H, W) in memory; on the host and the device."""
    width = channels * int(rng.integers(1, 3))
    a = integers(rng, (n, *size, width), dtype)
    if rng.random() < 0.3:
        a = np.ascontiguousarray(a.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    there, start = strict.asarray(a), int(rng.integers(0, width - channels + 1))
    return tuple(b[..., start : start + channels] for b in (a, there))


def same(there, here):
    assert there.dtype == here.dtype
    np.testing.assert_array_equal(strict.asnumpy(there), here)


def check_gather(rng):
    windows, count, size = geometries(rng, -2)
    dtype, n, channels = rng.choice(["float32", "float64"]), int(rng.integers(0, 3)), int(rng.choice([1, 2, 3, 4, 8]))
    here, there = images(rng, n, size, channels, dtype)
    columns = np.empty((n, *count, *windows.kernel, channels), dtype)
    on_device = strict.empty(columns.shape, dtype=dtype)
    HOST.gather_windows(here, windows, columns)
    DEVICE.gather_windows(there, windows, on_device)
    same(on_device, columns)


def check_scatter(rng):
    windows, count, size = geometries(rng, 0)
    dtype, n, channels = rng.choice(["float32", "float64"]), int(rng.integers(0, 3)), int(rng.choice([1, 2, 3, 4, 8]))
    here, there = images(rng, n, size, channels, dtype)
    y, y_there = images(rng, n, count, 2, dtype)
    kernels = integers(rng, (2, *windows.kernel, channels), dtype)
    HOST.scatter_windows(y, kernels, windows, here)
    DEVICE.scatter_windows(y_there, strict.asarray(kernels), windows, there)
    same(there, here)


def check_many(rng):
    """Of one array or hundreds, empty ones too, and now and then one with gaps or of another dtype."""
    count = int(rng.choice([1, 2, 7, 2 * kernels.MANY + 2]))
    here = [integers(rng, rng.integers(1, 7, 2), "float32") for _ in range(count)]
    here[count // 2] = integers(rng, (0, 3), "float32")
    if rng.random() < 0.5:
        here[-1] = integers(rng, (3, 4), "float32").T
    if rng.random() < 0.3:
        here[0] = integers(rng, 5, "float64")
    there = [strict.asarray(a) for a in here]
    assert float(DEVICE.square_sum(there)) == sum((a.astype(float) ** 2).sum() for a in here)
    assert float(DEVICE.square_sum([])) == 0
    DEVICE.scale_all(there, strict.asarray(np.float32(0.5)))
    HOST.scale_all(here, np.float32(0.5))
    flat = strict.empty(sum(a.size for a in here), dtype=np.float32)
    ends = np.cumsum([a.size for a in here])
    parts = [flat[end - a.size : end].reshape(a.shape) for a, end in zip(here, ends, strict=True)]
    DEVICE.join(there, parts)
    same(flat, np.concatenate([a.astype(np.float32).ravel() for a in here]))


def check_sums(rng):
    for shape in ((rng.integers(0, 9), rng.integers(1, 5)), (20000, 5)):
        rows = integers(rng, shape, rng.choice(["float32", "float64"]))
        same(DEVICE.column_sums(strict.asarray(rows)), rows.sum(axis=0))
    indices = rng.integers(0, 7, rng.integers(0, 50))
    same(DEVICE.count(strict.asarray(indices), 9), np.bincount(indices, minlength=9))
    values = [integers(rng, (), dtype) for dtype in ("float32", "float64")]
    totals = [strict.asarray(np.float64(t)) for t in (1, 2)]
    DEVICE.accumulate(totals, [strict.asarray(v) for v in values], 3)
    assert [float(t) for t in totals] == [1 + 3 * values[0], 2 + 3 * values[1]]


def check_nearest(rng):
    """With codes that are equally near, and vectors with NaN."""
    dtype = rng.choice(["float32", "float64"])
    m, k = rng.integers(0, 30), rng.integers(1, 9)
    x, codes = rng.integers(-2, 3, (m, 3)).astype(dtype), rng.integers(-2, 3, (k, 3)).astype(dtype)
    x[::7, 0] = np.nan
    codes[rng.random(k) < 0.3, 1] = np.inf  # and so some of the scores are inf, -inf or NaN
    with np.errstate(invalid="ignore"):
        squares, here = (codes * codes).sum(axis=1), np.empty(len(x), np.int64)
        HOST.nearest(x, codes, squares, here)
    there = strict.empty(len(x), dtype=np.int64)
    DEVICE.nearest(*map(strict.asarray, (x, codes, squares)), there)
    same(there, here)


CHECKS = [check_gather, check_scatter, check_many, check_sums, check_nearest]
every_check = pytest.mark.parametrize("check", CHECKS)


@pytest.fixture(params=[False, True], ids=["", "64 bits"])
def index(request, monkeypatch):
    """With the indices of large arrays too."""
    written = device_windows._written
    monkeypatch.setattr(
        device_windows, "_written", lambda source, dtype, pack, large: written(source, dtype, pack, request.param)
    )


@every_check
def test_a_kernel_computes_what_numpy_computes(check, index):
    for seed in range(15 if check is check_many else 60):
        check(np.random.default_rng(seed))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_kernels(architecture, monkeypatch):
    """All that the checks ran, with the constants of a few geometries."""
    monkeypatch.setattr(DEVICE, "kernels", {})
    strict.compiled.clear()
    for check in CHECKS:
        for seed in range(2 if check is check_many else 6):
            check(np.random.default_rng(seed))
    names = {name.split()[0] for name in strict.compiled}
    assert names >= {"gather_windows", "scatter_windows", "join", "scale", "squares", "fold", "count", "nearest"}
    for source in strict.compiled.values():
        size, log = nvrtc.compiled(source, architecture)
        assert size > 0 and not log, log


# what is wrong, in which kernel
WRONG = {
    "no border above": (check_gather, "gather_windows", "row >= 0 && ", "row >= -1 && "),
    "no border at the right": (check_gather, "gather_windows", "pixel < WIDTH", "pixel <= WIDTH"),
    "dilation as stride": (check_gather, "gather_windows", "tap_down * DILATION_DOWN", "tap_down * STRIDE_DOWN"),
    "rows for columns": (check_gather, "gather_windows", "rest /= TAPS_ACROSS", "rest /= TAPS_DOWN"),
    "channels side by side": (check_gather, "gather_windows", "STEPS(channel, CHANNEL)", "channel"),
    "a border of what was there": (check_gather, "gather_windows", "Pack seen = {};", "Pack seen = x[0];"),
    "windows beyond the last": (check_scatter, "scatter_windows", " || top / STRIDE_DOWN >= DOWN", ""),
    "between two windows": (check_scatter, "scatter_windows", " || left % STRIDE_ACROSS", ""),
    "one tap too few": (check_scatter, "scatter_windows", "tap_across < TAPS_ACROSS", "tap_across < TAPS_ACROSS - 1"),
    "the first channel of a pack": (check_scatter, "scatter_windows", "seen.of[k]", "seen.of[0]"),
    "the array before": (check_many, "join", "END0 ?", "END0 - 1 ?"),
    "scaled twice": (check_many, "scale", "*= *out", "*= *out * *out"),
    "no squares": (check_many, "squares", "sum += *", "sum += 1; //"),
    "one fold too few": (check_sums, "fold", "j < size", "j < size - n"),
    "counted double": (check_sums, "count", "1ULL", "2ULL"),
    "no weight": (check_sums, "accumulate", "weight * *v1", "*v1"),
    "the last of equals": (check_nearest, "nearest", "score < least", "score <= least"),
    "NaN is never least": (check_nearest, "nearest", "score != score &&", "false &&"),
    "the last NaN": (check_nearest, "nearest", " && least == least", ""),
}  # fmt: skip


@pytest.mark.parametrize("error", WRONG)
def test_an_error_in_a_kernel_of_ours_is_found(error, monkeypatch):
    check, name, right, wrong = WRONG[error]
    original, planted_in = strict.RawKernel, []

    def planted(code, kernel, options=()):
        if kernel == name and right in code:
            planted_in.append(kernel)
            code = code.replace(right, wrong)
        return original(code, kernel, options)

    monkeypatch.setattr(strict, "RawKernel", planted)
    monkeypatch.setattr(DEVICE, "kernels", {})
    with pytest.raises(AssertionError):
        for seed in range(60):
            check(np.random.default_rng(seed))
    assert planted_in


# ---- how many kernels a step takes ----

# model, its arguments, and how often a training step of it asks the device to compute, with all that the loop does
STEPS = {
    "dense vae": ("vae", {"shape": (1, 28, 28)}, 54),
    "conv vae": ("vae", {"shape": (1, 28, 28), "arch": "conv"}, 97),
    "vqvae": ("vqvae", {"shape": (3, 32, 32), "channels": (16, 32), "residual_blocks": 2}, 188),
}


@pytest.mark.parametrize("kind", STEPS)
def test_launches_of_a_step(kind, request):
    """From Python each is 5 to 20 microseconds. Fewer are welcome: lower the number."""
    name, arguments, most = STEPS[kind]
    before = backend.current().name
    request.addfinalizer(lambda: backend.use(before))
    xp = backend.use("strict")
    model = models.build(name, **arguments)
    optimizer, means, watch, rng = optim.Adam(model.parameters()), Means(), Watch(), xp.generator(1)
    x = xp.asarray(np.random.default_rng(0).random((4, *arguments["shape"]), dtype=np.float32))

    def step():
        optimizer.zero_grad()
        loss = model.loss(x, rng)
        loss.total.backward()
        norm = optim.clip_grad_norm(optimizer.parameters, 1.0)
        watch.note(1, loss.total.data, norm)
        optimizer.step()
        means.add(len(x), loss=loss.total.data, norm=norm, **{name: term.data for name, term in loss.terms.items()})

    with checks(False):
        step()
        step()
        with launches.counted() as asked:
            step()
    assert most - 10 < asked.total() <= most, asked.most_common(10)
