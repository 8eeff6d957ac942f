"""Kernels in C for a device: the movements and reductions that CuPy would need many launches for.

A kernel is what one thread does for one item, in a loop over the items that are its own: item i, i + step, ... so
that threads that are neighbours write what lies side by side. None of them uses shared memory, atomics or the order
of threads. So each is deterministic, and the tests run the very same text as a loop on the host.

Numbers that belong to a layer, and not to a batch, are constants of the compiler: words in capitals, which CuPy hands
on as -DHEIGHT=28. To divide by a constant is a multiplication, and to launch a kernel costs less with fewer arguments.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

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


def packing(*arrays: Any) -> int:
    """How many entries of the last axis can be moved at once: in all arrays packs lie side by side and aligned."""
    itemsize = arrays[0].itemsize
    for a in arrays:
        if (
            a.strides[-1] != itemsize
            or a.shape[-1] * itemsize % PACK
            or any(stride % PACK for stride in a.strides[:-1])
            or a.data.ptr % PACK
        ):
            return 1
    return PACK // itemsize


@functools.cache
def of_windows(source: str, dtype: str, pack: int, large: bool) -> str:
    """GATHER or SCATTER for a dtype. large: whether there are more items than 32 bits can count."""
    index = "unsigned long long" if large else "unsigned int"  # of which the division is several times as fast
    bytes = pack * (4 if dtype == "float32" else 8)
    return source.format(real=C[dtype], pack=pack, bytes=bytes, index=index)


@functools.cache
def constants(
    windows: Geometry, count: tuple[int, ...], shape: tuple[int, ...], strides: tuple[int, ...], size: int
) -> tuple[str, ...]:
    """The compiler's options for so many windows (down, across) on images of a shape (H, W, C).

    strides: of the images, in bytes, over all four axes. size: the bytes of a pack.
    """
    names = (
        "TAPS_DOWN", "TAPS_ACROSS", "STRIDE_DOWN", "STRIDE_ACROSS", "TOP", "LEFT", "DILATION_DOWN", "DILATION_ACROSS",
        "DOWN", "ACROSS", "HEIGHT", "WIDTH", "CHANNELS", "IMAGE", "ROW", "PIXEL", "CHANNEL",
    )  # fmt: skip
    apart = [stride // size for stride in strides[:3]]
    numbers = [*(n for pair in windows for n in pair), *count, *shape, *apart, max(1, strides[3] // size)]
    return tuple(f"-D{name}=({n})" for name, n in zip(names, numbers, strict=True))
