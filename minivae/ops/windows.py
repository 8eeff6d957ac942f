"""Where the windows of convolutions and pools lie.

Images are (N, C, H, W) for the caller and (N, H, W, C) here: channels-last in memory, where the pixels that a tap
sees are rows of contiguous channels. Going from one to the other is a view.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

from minivae.backend import Array

Pair = int | tuple[int, int]
Index = tuple[slice, slice, slice]


class Geometry(NamedTuple):
    """A window's size, the step between windows, the border before the image, the step between taps.

    Each for rows and columns. A tap is one entry of the window.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def are_pixels(self, size: tuple[int, ...], count: tuple[int, ...]) -> bool:
        """Whether so many windows are the pixels of an image of this size, one by one."""
        return self[:3] == ((1, 1), (1, 1), (0, 0)) and tuple(size) == tuple(count)

    def extent(self, axis: int) -> int:
        """The pixels from the first tap to the last."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def positions(self, name: str, size: tuple[int, ...]) -> tuple[int, int]:
        """How many windows lie in an image of a size (H, W). ValueError where not even one does."""
        down, across = ((size[i] + 2 * self.padding[i] - self.extent(i)) // self.stride[i] + 1 for i in (0, 1))
        if min(down, across) < 1:
            raise ValueError(
                f"{name}: a kernel of {self.kernel} with dilation {self.dilation} spans {self.extent(0)}x"
                f"{self.extent(1)} pixels, more than an image of {size[0]}x{size[1]} with padding {self.padding} has: "
                "use a smaller kernel or more padding."
            )
        return down, across

    def frame(self, count: tuple[int, ...]) -> tuple[int, int]:
        """The size that so many windows span."""
        down, across = ((count[i] - 1) * self.stride[i] + self.extent(i) for i in (0, 1))
        return down, across

    def overlap(self, size: tuple[int, ...], count: tuple[int, ...]) -> tuple[Index, Index]:
        """Where images of a size lie in the frame of so many windows: the indices of that part, in frame and image."""
        spans = []
        for n, p, end in zip(size, self.padding, self.frame(count), strict=True):
            start = max(p, 0)
            spans.append((start, max(start, min(n + p, end)), p))
        (top, bottom, ph), (left, right, pw) = spans
        return (slice(None), slice(top, bottom), slice(left, right)), (
            slice(None), slice(top - ph, bottom - ph), slice(left - pw, right - pw),
        )  # fmt: skip

    def misses(self, size: tuple[int, ...], count: tuple[int, ...]) -> bool:
        """Whether one of so many windows sees nothing of an image of a size: its taps lie around it."""
        return self.dilation != (1, 1) and any(
            not any(0 <= s * at - p + d * t < n for t in range(k))
            for n, m, k, s, p, d in zip(size, count, *self, strict=True)
            for at in range(m)
        )

    def taps(self, count: tuple[int, ...]) -> list[Index]:
        """For each tap, the index of the pixels of the frame that it sees, one in each of so many windows."""
        (sh, sw), (dh, dw) = self.stride, self.dilation
        return [
            (slice(None), slice(i, i + sh * count[0], sh), slice(j, j + sw * count[1], sw))
            for i in range(0, dh * self.kernel[0], dh)
            for j in range(0, dw * self.kernel[1], dw)
        ]

    def reverse(self) -> Geometry:
        """The windows over windows in which a pixel lies, if the stride is 1, with their taps in reverse."""
        padding = [self.extent(i) - 1 - self.padding[i] for i in (0, 1)]
        return Geometry(self.kernel, (1, 1), (padding[0], padding[1]), self.dilation)


def last(a: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C), a view."""
    return a.transpose(0, 2, 3, 1)


def first(a: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W), a view."""
    return a.transpose(0, 3, 1, 2)


def pair(name: str, what: str, value: Any, low: int) -> tuple[int, int]:
    """One whole number for both axes, or two, as two. ValueError for anything else, or one below low."""
    numbers = value if isinstance(value, tuple | list) else (value, value)
    if len(numbers) != 2 or not all(isinstance(v, Integral) and int(v) >= low for v in numbers):
        raise ValueError(f"{name}: {what} {value!r} must be a whole number of at least {low}, or two of them.")
    return int(numbers[0]), int(numbers[1])


def geometry(name: str, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Geometry:
    """A Geometry of numbers or pairs. ValueError where one is not whole or too small."""
    return Geometry(
        pair(name, "kernel_size", kernel, 1),
        pair(name, "stride", stride, 1),
        pair(name, "padding", padding, 0),
        pair(name, "dilation", dilation, 1),
    )


def check_images(name: str, x: Array) -> None:
    """ValueError unless x holds images of real numbers."""
    if x.ndim != 4 or x.dtype.kind != "f":
        raise ValueError(
            f"{name}: x of shape {x.shape} and dtype {x.dtype} must be images (N, C, H, W) of a floating-point dtype."
        )
