"""The two movements of a convolution, on a device: what windows.py does, by a kernel for each.

See kernels.py for what the words in capitals are.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from minivae.backend.kernels import LOOP, C

if TYPE_CHECKING:
    from minivae.ops.windows import Geometry

PACK = 16  # bytes: the most that a thread loads and stores at once

# A pack is a few channels, which are moved together where all lie so that they can be
PACKED = """struct alignas({bytes}) Pack {{ {real} of[{pack}]; }};
#define STEPS(number, stride) (number) * (long long) stride
#define AT(image, row, pixel, channel) \\
    STEPS(image, IMAGE) + STEPS(row, ROW) + STEPS(pixel, PIXEL) + STEPS(channel, CHANNEL)
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
    windows: Geometry, count: tuple[int, int], shape: tuple[int, ...], strides: tuple[int, ...], size: int, pack: int
) -> tuple[str, ...]:
    """The compiler's options for so many windows (down, across) on images (H, W, C).

    strides: in bytes, over (n, H, W, C). size: the bytes of an entry. pack: how many entries are moved at once.
    """
    (taps, steps, borders, dilations), (image, row, pixel, channel) = windows, strides
    numbers = {
        "TAPS_DOWN": taps[0], "TAPS_ACROSS": taps[1], "STRIDE_DOWN": steps[0], "STRIDE_ACROSS": steps[1],
        "TOP": borders[0], "LEFT": borders[1], "DILATION_DOWN": dilations[0], "DILATION_ACROSS": dilations[1],
        "DOWN": count[0], "ACROSS": count[1], "HEIGHT": shape[0], "WIDTH": shape[1], "CHANNELS": shape[2] // pack,
        "IMAGE": image // (size * pack), "ROW": row // (size * pack), "PIXEL": pixel // (size * pack),
        "CHANNEL": 1 if pack > 1 else channel // size,
    }  # fmt: skip
    return tuple(f"-D{name}=({n})" for name, n in numbers.items())
