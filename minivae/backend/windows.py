"""The two movements of a convolution, on NumPy: windows of images into rows, and rows back, added up into images.

Both are called for a few images at a time, so that what they move stays in a core's cache. `windows` is a Geometry
of ops/windows.py; images are channels-last, and may be some of the channels of larger ones.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minivae.ops.windows import Geometry

WORDS = {4: "u4", 8: "u8", 16: "c16"}  # by their bytes, dtypes that `take` moves in one piece


def gather(xp: Any, x: Any, windows: Geometry, columns: Any) -> None:
    """columns (n, h, w, kh, kw, C) = what each tap of each window sees of images x (n, H, W, C); 0 beyond them.

    A row of taps is a run of kw C numbers, and to begin a run costs NumPy as much as ten numbers. So where runs are
    short they are taken word by word: a word is one pixel, or as many as windows lie apart.
    """
    count, c = columns.shape[1:3], x.shape[3]
    inside, seen = windows.overlap(x.shape[1:3], count)
    frame = xp.zeros((len(x), *windows.frame(count), c), dtype=x.dtype)
    frame[inside] = x[seen]
    step, across = windows.stride[1], windows.kernel[1]
    pixels = step if windows.dilation[1] == 1 and across % step == 0 else 1  # the frame is as many whole words wide
    word = WORDS.get(pixels * c * x.itemsize)
    if word and columns.size:
        words = [a.reshape(len(x), -1).view(word) for a in (frame, columns)]
        xp.take(words[0], _words(windows, count, pixels), axis=1, out=words[1], mode="clip")
        return
    n, row, pixel, channel = frame.strides
    (sh, sw), (dh, dw) = windows.stride, windows.dilation
    strides = (n, sh * row, sw * pixel, dh * row, dw * pixel, channel)
    columns[...] = xp.lib.stride_tricks.as_strided(frame, columns.shape, strides)


@functools.lru_cache(maxsize=64)
def _words(windows: Geometry, count: tuple[int, int], pixels: int) -> Any:
    """Which word of a frame each word of so many windows is, for words of so many pixels."""
    (kh, kw), (sh, sw), _, (dh, dw) = windows
    top, left = sh * np.arange(count[0]), sw // pixels * np.arange(count[1])
    down, right = dh * np.arange(kh), dw * np.arange(kw // pixels)
    row, word = np.add.outer(top, down), np.add.outer(left, right)
    return (row[:, None, :, None] * (windows.frame(count)[1] // pixels) + word[None, :, None, :]).ravel()


def scatter(xp: Any, y: Any, kernels: Any, windows: Geometry, x: Any) -> None:
    """The transpose: images x (n, H, W, C) = in each pixel, the sum for all windows and taps that see it of y times
    the tap's kernel. y (n, h, w, O), kernels (O, kh, kw, C).

    To add a tap of all windows at once is to add short pieces of C numbers, far apart: slow. But windows lie a stride
    apart, and so as many taps, one beside the other, see all pixels of a row between them: runs without a gap.
    So the taps are taken a stride at a time, a product of matrices for each, whose result is added in long pieces.
    """
    (kh, kw), (sh, sw), (top, left), (dh, dw) = windows
    (n, h, w, o), (_, height, width, c) = y.shape, x.shape
    down, across = windows.frame((h, w))
    frame = xp.zeros((n, max(down, top + height), max(across, left + width), c), dtype=y.dtype)
    image, row, pixel, channel = frame.strides
    rows, matrix = y.reshape(n * h * w, o), kernels.reshape(o, kh * kw * c)
    together = min(sw, kw) if dw == 1 else 1
    product = xp.empty((n * h * w, together * c), dtype=y.dtype)
    for i in range(kh):
        for j in range(0, kw, together):
            run, start = min(together, kw - j) * c, (i * kw + j) * c
            part = xp.matmul(rows, matrix[:, start : start + run], out=product[:, :run])
            pixels = xp.lib.stride_tricks.as_strided(
                frame[:, i * dh :, j * dw :], (n, h, w, run), (image, sh * row, sw * pixel, channel)
            )
            pixels += part.reshape(pixels.shape)
    x[...] = frame[:, top : top + height, left : left + width]
