"""Sprites: a white shape on black, 64x64, over the full grid of six factors of dSprites.

The grid is dSprites', the drawing is our own: any combination of factors is drawn when it is asked
for, so that no file is needed. As there, pixels are 0 or 255 and nothing but the factors varies.
Where dSprites turns through [0, 2 pi] in 40 steps, its last orientation repeating its first, ours
turns through [0, 2 pi). Source of the grid: Matthey et al., "dSprites: Disentanglement testing
Sprites dataset", 2017.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from minivae.data.dataset import Array, Dataset, Split
from minivae.data.generated import check_sizes
from minivae.errors import InputError

SHAPES = ("square", "ellipse", "heart")
# How many values each factor takes, the last varying fastest in the grid.
FACTORS = {"color": 1, "shape": len(SHAPES), "scale": 6, "orientation": 40, "posX": 32, "posY": 32}
CELLS = math.prod(FACTORS.values())  # 737,280
SCALES = np.linspace(0.5, 1, FACTORS["scale"])
ORIENTATIONS = np.arange(FACTORS["orientation"]) * (2 * np.pi / FACTORS["orientation"])  # radians, clockwise

SIZE = 64  # pixels, the side of an image
STAMP = 32  # pixels, the side of the square that a shape fits, wherever it is turned
CHUNK = 1024  # images drawn at once


def sprites(train: int = 60_000, test: int = 10_000, seed: int = 0) -> Dataset:
    """Squares, ellipses and hearts, (N, 1, 64, 64) uint8 of 0 and 255, with labels and factors.

    The factors are those of FACTORS, (N,) int64, counting the steps of the grid: `shape`, which the
    labels repeat; `scale`, of SCALES; `orientation`, of ORIENTATIONS; `posX` and `posY`, pixels to
    the right and down. The splits are cells of the grid, drawn without replacement: no cell is in
    both, but as a square looks alike after a quarter turn, and an ellipse after a half, an image
    can be. Neither split depends on the size of the other. The same seed gives the same data.
    Raises InputError if train or test < 1, train + test > CELLS or seed < 0.
    """
    check_sizes("sprites", train, test, seed)
    if train + test > CELLS:
        raise InputError(
            f"sprites has train + test = {train + test}, but the grid has {CELLS} cells: ask for no more than that."
        )
    cells = np.random.default_rng(seed).permutation(CELLS)
    splits = []
    for chosen in (cells[:train], cells[-test:]):
        factors = dict(zip(FACTORS, np.unravel_index(chosen, tuple(FACTORS.values())), strict=True))
        splits.append(Split(render(factors), factors["shape"], factors))
    return Dataset("sprites", splits[0], splits[1], SHAPES)


def render(factors: Mapping[str, Array]) -> Array:
    """Draw the images of any cells of the grid, (N, 1, 64, 64) uint8.

    factors: each factor of FACTORS by name, (N,) whole numbers; the same cell is the same image.
    Raises ValueError where one is missing, differs in length or leaves the grid.
    """
    if missing := [name for name in FACTORS if name not in factors]:
        raise ValueError(f"render lacks the factors {', '.join(missing)}: give each of {', '.join(FACTORS)}.")
    indices = {name: np.asarray(factors[name]) for name in FACTORS}
    count = len(indices["shape"])
    for name, index in indices.items():
        if index.shape != (count,) or index.dtype.kind not in "iu":
            raise ValueError(
                f"render got {name} of shape {index.shape} and dtype {index.dtype}, expected one whole number for "
                f"each of the {count} images, as for shape."
            )
        if count and not 0 <= index.min() <= index.max() < FACTORS[name]:
            raise ValueError(
                f"render got {name} from {index.min()} to {index.max()}: its steps are 0 to {FACTORS[name] - 1}."
            )
    _, shape, scale, orientation, x, y = indices.values()
    images = np.zeros((count, 1, SIZE, SIZE), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(images[:, 0], (STAMP, STAMP), axis=(1, 2), writeable=True)
    for start in range(0, count, CHUNK):  # so that the stamps gathered stay few
        part = slice(start, start + CHUNK)
        windows[np.arange(count)[part], y[part], x[part]] = _stamps()[shape[part], scale[part], orientation[part]]
    return images


@functools.cache
def _stamps() -> Array:
    """Each shape at each scale and orientation, in the middle of a stamp: (3, 6, 40, 32, 32) uint8.

    A pixel is white where its middle lies inside the outline. The outlines pass so far from every
    middle that rounding, which differs between machines, decides no pixel.
    """
    axis = np.arange(STAMP) - (STAMP - 1) / 2
    scale = SCALES[:, None, None, None]
    cos, sin = (f(ORIENTATIONS)[:, None, None] for f in (np.cos, np.sin))
    u = (cos * axis + sin * axis[:, None]) / scale  # each pixel, turned and shrunk back
    v = (cos * axis[:, None] - sin * axis) / scale
    square = np.maximum(abs(u), abs(v)) < 10
    ellipse = (u / 14.1) ** 2 + (v / 8.1) ** 2 < 1
    a, b = u / 11.1, (1 - v) / 11.1
    heart = (a**2 + b**2 - 1) ** 3 < a**2 * b**3
    return np.stack([square, ellipse, heart]) * np.uint8(255)
