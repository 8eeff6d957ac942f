"""Kernels in C for a device: the movements and reductions that CuPy would need many launches for.

A kernel is what one thread does for one item, in a loop over the items that are its own: item i, i + step, ... so
that threads that are neighbours write what lies side by side. None of them uses shared memory, atomics or the order
of threads. So each is deterministic, and the tests run the very same text as a loop on the host.

Numbers that belong to a layer, and not to a batch, are constants of the compiler: words in capitals, which CuPy hands
on as -DHEIGHT=28. To divide by a constant is a multiplication, and to launch a kernel costs less with fewer arguments.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minivae.ops.windows import Geometry

C = {"float32": "float", "float64": "double"}
PACK = 16  # bytes: the most that a thread loads and stores at once

LOOP = """    long long step = blockDim.x * (long long) gridDim.x;
    for (long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x; i < n; i += step) {"""

# Both movements of a convolution. A pack is a few channels, which are moved together where all lie so that they can be
PACKED = """struct alignas({bytes}) Pack {{ {real} of[{pack}]; }};
#define AT(image, row, pixel, channel) \\
    (image) * (long long) IMAGE + (row) * (long long) ROW + (pixel) * (long long) PIXEL + (channel) * (long long) CHANNEL
"""
# columns (image, down, across, tap_down, tap_across, channel) = the pixel that the tap of the window sees, or 0
GATHER = f"""{PACKED}
extern "C" __global__ void gather_windows(const {{real}}* images, {{real}}* columns, long long n) {{{{
    const Pack* x = (const Pack*) images;
    Pack* taps = (Pack*) columns;
{LOOP.replace("{", "{{")}
        {{index}} rest = i;
        int channel = rest % CHANNELS; rest /= CHANNELS;
        int tap_across = rest % TAPS_ACROSS; rest /= TAPS_ACROSS;
        int tap_down = rest % TAPS_DOWN; rest /= TAPS_DOWN;
        int across = rest % ACROSS; rest /= ACROSS;
        int down = rest % DOWN; rest /= DOWN;
        int row = down * STRIDE_DOWN + tap_down * DILATION_DOWN - TOP;
        int pixel = across * STRIDE_ACROSS + tap_across * DILATION_ACROSS - LEFT;
        Pack seen = {{{{}}}};
        if (row >= 0 && row < HEIGHT && pixel >= 0 && pixel < WIDTH) seen = x[AT(rest, row, pixel, channel)];
        taps[i] = seen;
    }}}}
}}}}
"""
# the transpose: each pixel asks which taps of which windows see it, and adds them up, always in the same order
SCATTER = f"""{PACKED}
extern "C" __global__ void scatter_windows(const {{real}}* columns, {{real}}* images, long long n) {{{{
    const Pack* taps = (const Pack*) columns;
    Pack* x = (Pack*) images;
{LOOP.replace("{", "{{")}
        {{index}} rest = i;
        int channel = rest % CHANNELS; rest /= CHANNELS;
        int pixel = rest % WIDTH; rest /= WIDTH;
        int row = rest % HEIGHT; rest /= HEIGHT;
        Pack sum = {{{{}}}};
        for (int tap_down = 0; tap_down < TAPS_DOWN; tap_down++) {{{{
            int top = row + TOP - tap_down * DILATION_DOWN;  // of the window of which this tap sees the pixel
            if (top < 0 || top % STRIDE_DOWN || top / STRIDE_DOWN >= DOWN) continue;
            for (int tap_across = 0; tap_across < TAPS_ACROSS; tap_across++) {{{{
                int left = pixel + LEFT - tap_across * DILATION_ACROSS;
                if (left < 0 || left % STRIDE_ACROSS || left / STRIDE_ACROSS >= ACROSS) continue;
                long long window = ((long long) rest * DOWN + top / STRIDE_DOWN) * ACROSS + left / STRIDE_ACROSS;
                Pack seen = taps[((window * TAPS_DOWN + tap_down) * TAPS_ACROSS + tap_across) * CHANNELS + channel];
                for (int k = 0; k < {{pack}}; k++) sum.of[k] += seen.of[k];
            }}}}
        }}}}
        x[AT(rest, row, pixel, channel)] = sum;
    }}}}
}}}}
"""


def gather(xp: Any, x: Any, windows: Geometry, columns: Any) -> None:
    """columns (n, h, w, kh, kw, C) = what each tap of each window sees of images x (n, H, W, C); 0 beyond them."""
    kernel, pack = _of_windows(xp, "gather_windows", GATHER, x, windows, columns)
    xp.launch(kernel, columns.size // pack, x, columns)


def scatter(xp: Any, y: Any, kernels: Any, windows: Geometry, x: Any) -> None:
    """The transpose: images x (n, H, W, C) = in each pixel, the sum for all windows and taps that see it of y times
    the tap's kernel. y (n, h, w, O), kernels (O, kh, kw, C). One product of matrices, then one kernel."""
    (n, h, w, o), taps = y.shape, kernels.shape[1:]
    step = xp.fitting(n, h * w * math.prod(taps) * y.itemsize)
    for start in range(0, n, step):
        part = x[start : start + step]
        columns = xp.matmul(y[start : start + step].reshape(-1, o), kernels.reshape(o, -1)).reshape(-1, h, w, *taps)
        kernel, pack = _of_windows(xp, "scatter_windows", SCATTER, part, windows, columns)
        xp.launch(kernel, part.size // pack, columns, part)


def _of_windows(xp: Any, name: str, source: str, x: Any, windows: Geometry, columns: Any) -> tuple[Any, int]:
    """The kernel for these arrays, and how many entries its threads move at once."""
    pack = _packing(x, columns)
    large = max(x.size, columns.size) >= 1 << 31
    options = _constants(windows, columns.shape[1:3], x.shape[1:], x.strides, x.itemsize, pack)
    return xp.kernel(name, _written(source, x.dtype.name, pack, large), options), pack


def _packing(*arrays: Any) -> int:
    """How many entries of the last axis can be moved at once: in all arrays packs lie side by side, and aligned."""
    itemsize = arrays[0].itemsize
    for a in arrays:
        packs = not a.shape[-1] * itemsize % PACK and not any(stride % PACK for stride in a.strides[:-1])
        if a.strides[-1] != itemsize or not packs or a.data.ptr % PACK:
            return 1
    return int(PACK // itemsize)


@functools.cache
def _written(source: str, dtype: str, pack: int, large: bool) -> str:
    """GATHER or SCATTER for a dtype. large: whether there are more items than 32 bits can count."""
    index = "unsigned long long" if large else "unsigned int"  # of which the division is several times as fast
    size = pack * (4 if dtype == "float32" else 8)
    return source.format(real=C[dtype], pack=pack, bytes=size, index=index)


@functools.cache
def _constants(
    windows: Geometry, count: tuple[int, ...], shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, pack: int
) -> tuple[str, ...]:
    """The compiler's options for so many windows (down, across) on images (H, W, C), of strides (n, H, W, C)."""
    numbers: dict[str, int] = {}
    names = ("TAPS_DOWN", "TAPS_ACROSS", "STRIDE_DOWN", "STRIDE_ACROSS", "TOP", "LEFT", "DILATION_DOWN", "DILATION_ACROSS")
    numbers |= zip(names, (n for pair in windows for n in pair), strict=True)
    numbers |= {"DOWN": count[0], "ACROSS": count[1]}
    numbers |= {"HEIGHT": shape[0], "WIDTH": shape[1], "CHANNELS": shape[2] // pack}
    apart = [stride // (itemsize * pack) for stride in strides[:3]]
    numbers |= zip(("IMAGE", "ROW", "PIXEL", "CHANNEL"), (*apart, 1 if pack > 1 else strides[3] // itemsize), strict=True)
    return tuple(f"-D{name}=({n})" for name, n in numbers.items())


# ---- many arrays at once: of a model's parameters each is too small to be worth a launch ----

MANY = 128  # arrays that one kernel takes: there is room for 4 KB of arguments
SUMS = 1 << 15  # partial sums, each of one thread

MANY_ARRAYS = {
    "join": "out[i] = *({entry})",
    "scale": "*({entry}) *= *out",
    # the squares of the entries i, i + n, i + 2 n, ...: n of them are few enough for CuPy to add up
    "squares": "{real} sum = 0; for (long long j = i; j < END{last}; j += n) sum += *({entry}) * *({entry}); out[i] = sum",
}


@functools.cache
def _of_many(name: str, dtype: str, count: int) -> str:
    """A kernel for the entries i = 0, 1, ... of so many arrays, as if they were one."""
    i = "j" if name == "squares" else "i"

    def entry(first: int, last: int) -> str:
        """The address of entry i, which lies in one of these arrays."""
        if last - first == 1:
            return f"a{first} + ({i} - END{first - 1})" if first else f"a0 + {i}"
        middle = (first + last) // 2
        return f"{i} < END{middle - 1} ? {entry(first, middle)} : {entry(middle, last)}"

    real, constant = C[dtype], "" if name == "scale" else "const "
    pointers = ", ".join(f"{constant}{real}* a{k}" for k in range(count))
    body = MANY_ARRAYS[name].format(entry=entry(0, count), last=count - 1, real=real)
    return f"""extern "C" __global__ void {name}({pointers}, {real}* out, long long n) {{
{LOOP}
        {body};
    }}
}}
"""


@functools.cache
def _ends(sizes: tuple[int, ...]) -> tuple[str, ...]:
    """The compiler's options for arrays of these sizes, one after the other."""
    return tuple(f"-DEND{k}=({end})" for k, end in enumerate(itertools.accumulate(sizes)))


def _many(xp: Any, name: str, arrays: Sequence[Any], out: Any, n: int) -> None:
    kernel = xp.kernel(name, _of_many(name, out.dtype.name, len(arrays)), _ends(tuple(a.size for a in arrays)))
    xp.launch(kernel, n, *arrays, out)


def _batches(arrays: Sequence[Any], dtype: Any) -> tuple[list[list[Any]], list[Any]]:
    """Arrays that a kernel can take, as many as one can; and the others, of another dtype or with gaps."""
    dense = [a for a in arrays if a.size and a.dtype == dtype and a.flags.c_contiguous]
    others = [a for a in arrays if a.size and not (a.dtype == dtype and a.flags.c_contiguous)]
    return [dense[k : k + MANY] for k in range(0, len(dense), MANY)], others


def join(xp: Any, arrays: Sequence[Any], parts: Sequence[Any]) -> None:
    """parts[k][...] = arrays[k]. parts: views that fill a flat array, one after the other."""
    for k in range(0, len(arrays), MANY):
        some, places = arrays[k : k + MANY], parts[k : k + MANY]
        if all(a.flags.c_contiguous and a.dtype == parts[0].dtype for a in some):
            n = sum(a.size for a in some)
            _many(xp, "join", some, places[0], n)
            continue
        for a, place in zip(some, places, strict=True):
            place[...] = a


def scale(xp: Any, arrays: Sequence[Any], factor: Any) -> None:
    """Multiply all arrays by a 0-d array, in place."""
    batches, others = _batches(arrays, factor.dtype)
    for some in batches:
        _many(xp, "scale", some, factor, sum(a.size for a in some))
    for a in others:
        a *= factor


def squares(xp: Any, arrays: Sequence[Any]) -> Any:
    """The sum of the squares of all entries, a 0-d array of the first one's dtype."""
    dtype = arrays[0].dtype if arrays else "float32"
    batches, others = _batches(arrays, dtype)
    sizes = [min(SUMS, sum(a.size for a in some)) for some in batches]
    sums = xp.empty(sum(sizes), dtype=dtype)
    end = 0
    for some, size in zip(batches, sizes, strict=True):
        _many(xp, "squares", some, sums[end : end + size], size)
        end += size
    total = xp.sum(sums)
    for a in others:
        total = total + xp.sum(a * a)
    return total


def accumulate(xp: Any, totals: Sequence[Any], values: Sequence[Any], weight: float) -> None:
    """totals += weight values, of 0-d arrays; the totals are float64. One thread does it."""
    source = _accumulation(tuple(v.dtype.name for v in values))
    xp.launch(xp.kernel("accumulate", source), 1, *totals, *values, np.float64(weight))


@functools.cache
def _accumulation(dtypes: tuple[str, ...]) -> str:
    totals = ", ".join(f"double* t{k}" for k in range(len(dtypes)))
    values = ", ".join(f"const {C[dtype]}* v{k}" for k, dtype in enumerate(dtypes))
    lines = "\n".join(f"    *t{k} += weight * *v{k};" for k in range(len(dtypes)))
    return f"""extern "C" __global__ void accumulate({totals}, {values}, double weight, long long n) {{
    if (blockIdx.x || threadIdx.x) return;
{lines}
}}
"""
