"""Kernels in C for a device: the movements and reductions that CuPy would need many launches for.

A kernel is what one thread does for one item, in a loop over the items that are its own: item i, i + step, ... so
that threads that are neighbours write what lies side by side. None of them uses shared memory or the order of threads,
and atomics are of whole numbers alone. So each is deterministic, and the tests run the same text as a loop on the host.

Numbers that belong to a layer, and not to a batch, are constants of the compiler: words in capitals, which CuPy hands
on as -DHEIGHT=28. To divide by a constant is a multiplication, and to launch a kernel costs less with fewer arguments.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

C = {"float32": "float", "float64": "double"}

LOOP = """    long long step = blockDim.x * (long long) gridDim.x;
    for (long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x; i < n; i += step) {"""


# ---- many arrays at once: of a model's parameters each is too small to be worth a launch ----

MANY = 64  # arrays that one kernel takes: there is room for 4 KB of arguments
SUMS = 1 << 15  # partial sums, each of one thread

MANY_ARRAYS = {
    "join": "out[i] = *({entry})",
    "scale": "*({entry}) *= *out",
    # the squares of the entries i, i + n, i + 2 n, ...: n of them are few enough for CuPy to add up
    "squares": """{real} sum = 0;
        for (long long j = i; j < END{last}; j += n) sum += *({entry}) * *({entry});
        out[i] = sum""",
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
    filled = [(a, part) for a, part in zip(arrays, parts, strict=True) if a.size]  # an empty view has no place
    for k in range(0, len(filled), MANY):
        some, places = zip(*filled[k : k + MANY], strict=True)
        if all(a.flags.c_contiguous and a.dtype == parts[0].dtype for a in some):
            n = sum(a.size for a in some)
            _many(xp, "join", some, places[0], n)
            continue
        for a, place in zip(some, places, strict=True):
            place[...] = a


def scale_all(xp: Any, arrays: Sequence[Any], factor: Any) -> None:
    """Multiply all arrays by a 0-d array, in place."""
    batches, others = _batches(arrays, factor.dtype)
    for some in batches:
        _many(xp, "scale", some, factor, sum(a.size for a in some))
    for a in others:
        a *= factor


def square_sum(xp: Any, arrays: Sequence[Any]) -> Any:
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


FOLDED = 64  # entries that a thread adds up: few, so that many threads work, and with few roundings
FOLD = {
    dtype: f"""extern "C" __global__ void fold(const {real}* a, {real}* sums, long long size, long long n) {{
{LOOP}
        double sum = 0;
        for (long long j = i; j < size; j += n) sum += a[j];
        sums[i] = sum;
    }}
}}
"""
    for dtype, real in C.items()
}


def column_sums(xp: Any, rows: Any) -> Any:
    """(M, D) -> (D,). A thread adds up a few rows of a column, and again, until one is left.

    CuPy's sum over the first axis has hardly more threads at work than there are columns.
    """
    m, d = rows.shape
    rows = xp.ascontiguousarray(rows)
    while True:
        m = 1 if m <= 4 * FOLDED else -(-m // FOLDED)
        folded = xp.empty((m, d) if m > 1 else d, dtype=rows.dtype)
        kernel = xp.kernel("fold", FOLD[rows.dtype.name])
        xp.launch(kernel, folded.size, rows, folded, np.int64(rows.size))
        if m == 1:
            return folded
        rows = folded


# products (K, M), so that neighbours, which work on neighbouring vectors, read side by side
NEAREST = {
    dtype: f"""extern "C" __global__ void nearest(
    const {real}* products, const {real}* squares, long long* indices, long long codes, long long n
) {{
{LOOP}
        {real} least = squares[0] - 2 * products[i];
        long long found = 0;
        for (long long k = 1; k < codes; k++) {{
            {real} score = squares[k] - 2 * products[k * n + i];
            if (score < least || (score != score && least == least)) {{  // the first NaN is the least, as in NumPy
                least = score;
                found = k;
            }}
        }}
        indices[i] = found;
    }}
}}
"""
    for dtype, real in C.items()
}


def nearest(xp: Any, x: Any, codes: Any, squares: Any, indices: Any) -> None:
    """indices (M,) = for each row of x (M, D) the first code of codes (K, D) at which |e|^2 - 2 x.e is least."""
    products = xp.matmul(codes, x.T)
    kernel = xp.kernel("nearest", NEAREST[x.dtype.name])
    xp.launch(kernel, len(x), products, squares, indices, np.int64(len(codes)))


COUNT = f"""extern "C" __global__ void count(const long long* indices, unsigned long long* counts, long long n) {{
{LOOP}
        atomicAdd(counts + indices[i], 1ULL);  // of whole numbers: in whatever order they come, the sum is the same
    }}
}}
"""


def count(xp: Any, indices: Any, n: int) -> Any:
    """How often each of 0, 1, ..., n - 1 stands in the indices: (n,), int64."""
    counts = xp.zeros(n, dtype=np.uint64)
    xp.launch(xp.kernel("count", COUNT), indices.size, xp.ascontiguousarray(indices, dtype=np.int64), counts)
    return counts.view(np.int64)


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


# images by their indices as float32, and bytes as 0 to 1: divided, since x * (1 / 255) would round twice
GATHER_IMAGES = {
    dtype: f"""extern "C" __global__ void gather_{dtype}(
    const {c}* images, const long long* indices, float* out, long long pixels, long long n
) {{
    long long step = blockDim.x * (long long) gridDim.x;
    for (long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = images[indices[i / pixels] * pixels + i % pixels] / {scale};
}}
"""
    for dtype, c, scale in (("uint8", "unsigned char", "255.0f"), ("float32", "float", "1.0f"))
}
