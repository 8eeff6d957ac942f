"""Glyphs: printed digits and letters, 28x28 grey, drawn from the fonts that come with matplotlib.

Each image is one character of one font, distorted at random. The outline of a character becomes,
once for each font, a signed distance field: how far inside the ink a point lies. To draw an image,
the field is sampled through an affine map, and the distance becomes ink by a soft step. Thus stroke
weight is where the step begins, blur is how wide it is, and edges are smooth at any size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minivae.data.dataset import Array, Dataset, Split
from minivae.data.generated import cached, check_sizes

# Faces that differ: obliques would repeat an upright face under another shear, and cmmi10 most of cmr10.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmti10",
    "cmss10",
    "cmtt10",
)

# The factors besides the font, each uniform between its limits and independent of the others.
RANGES = {
    "rotation": (-20.0, 20.0),  # degrees, clockwise
    "shear": (-0.3, 0.3),  # pixels to the right for each pixel up, before the rotation
    "scale_x": (0.75, 1.05),  # of the width; at 1, a character's box fits a circle of RADIUS
    "scale_y": (0.75, 1.0),  # of the height
    "shift_x": (-1.5, 1.5),  # pixels to the right
    "shift_y": (-1.5, 1.5),  # pixels down
    "weight": (0.0, 0.6),  # pixels by which the ink grows on each side of a stroke
    "blur": (1.0, 2.0),  # pixels over which an edge goes from white to black
}

SIZE = 28  # pixels, the side of an image
RADIUS = 11.0  # pixels
GRID = 64  # samples, the side of a distance field
EXTENT = 1.2  # the field covers [-EXTENT, EXTENT] squared, in units of RADIUS
CHUNK = 512  # images drawn at once: few enough for the processor's cache
VERSION = 1  # of the content; a new one leaves old cache files alone


def glyphs(train: int = 60_000, test: int = 10_000, seed: int = 0) -> Dataset:
    """Digits in 15 fonts, (N, 1, 28, 28) uint8, white on black, with labels and factors.

    The factors are `font`, (N,) int64, an index into FONTS, and those of RANGES, (N,) float32.
    The two splits are independent draws from one distribution, and neither depends on the size of
    the other. The same seed gives the same data. They are drawn once and then kept in the cache
    folder, where that can be written. Raises InputError if train or test < 1 or seed < 0.
    """
    return _dataset("glyphs", "0123456789", {"train": train, "test": test}, seed)


def letters(train: int = 60_000, test: int = 10_000, seed: int = 0) -> Dataset:
    """The letters A to Z drawn as `glyphs` draws digits: same shapes, factors, seeds and errors.

    They are the near outliers of the digits, of the same strokes and grey levels. All 26 are there,
    the O and the I among them, which in some fonts are a 0 and a 1: who counts errors by class
    finds them at labels 14 and 8.
    """
    return _dataset("letters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", {"train": train, "test": test}, seed)


def _dataset(name: str, characters: str, sizes: dict[str, int], seed: int) -> Dataset:
    """The data set from the cache; what is missing or damaged there is drawn anew."""
    check_sizes(name, sizes["train"], sizes["test"], seed)
    file = f"{name}-v{VERSION}-{sizes['train']}-{sizes['test']}-{seed}.npz"
    arrays = cached(file, lambda: _draw(characters, sizes, seed), lambda found: _fits(found, sizes))
    train, test = (
        Split(
            arrays[f"{split}_images"],
            arrays[f"{split}_labels"],
            {factor: arrays[f"{split}_{factor}"] for factor in ("font", *RANGES)},
        )
        for split in sizes
    )
    return Dataset(name, train, test, tuple(characters))


def _draw(characters: str, sizes: dict[str, int], seed: int) -> dict[str, Any]:
    """Both splits as arrays by name: train_images, train_labels, train_font, ..."""
    from tqdm import tqdm

    fields = distance_fields(characters)
    arrays: dict[str, Any] = {}
    sequences = np.random.SeedSequence(seed).spawn(len(sizes))
    with tqdm(
        total=sum(sizes.values()), desc="drawing glyphs", unit="image", delay=1, leave=False, disable=None
    ) as bar:
        for (split, count), sequence in zip(sizes.items(), sequences, strict=True):
            rng = np.random.default_rng(sequence)
            labels = rng.integers(len(characters), size=count)
            factors: dict[str, Array] = {"font": rng.integers(len(FONTS), size=count)}
            for factor, limits in RANGES.items():
                factors[factor] = rng.uniform(*limits, size=count).astype(np.float32)
            images = np.empty((count, 1, SIZE, SIZE), np.uint8)
            for start in range(0, count, CHUNK):
                part = slice(start, start + CHUNK)
                drawn = render(fields, labels[part], {k: v[part] for k, v in factors.items()})
                images[part, 0] = drawn
                bar.update(len(drawn))
            named: dict[str, Array] = {"images": images, "labels": labels, **factors}
            arrays |= {f"{split}_{key}": array for key, array in named.items()}
    return arrays


def _fits(arrays: dict[str, Array], sizes: dict[str, int]) -> bool:
    """Whether the arrays are such as `_draw` makes."""
    kinds: dict[str, tuple[tuple[int, ...], Any]] = {
        "images": ((1, SIZE, SIZE), np.uint8),
        "labels": ((), np.int64),
        "font": ((), np.int64),
        **{factor: ((), np.float32) for factor in RANGES},
    }
    return all(
        arrays[f"{split}_{key}"].shape == (count, *shape) and arrays[f"{split}_{key}"].dtype == dtype
        for split, count in sizes.items()
        for key, (shape, dtype) in kinds.items()
    )


def distance_fields(characters: str) -> Array:
    """The signed distance field of each character in each font, positive inside the ink.

    Returns float32 of shape (len(characters), len(FONTS), GRID, GRID), rows from top to bottom,
    in units of the half diagonal of the character's box, whose middle is the middle of the field;
    a narrow box counts as 0.6 times as wide as it is tall.
    """
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fields = np.empty((len(characters), len(FONTS), GRID, GRID), np.float32)
    for i, name in enumerate(FONTS):
        font = FT2Font(str(folder / f"{name}.ttf"))
        for j, character in enumerate(characters):
            fields[j, i] = _distance_field(*_outline(font, character))
    return fields


def _outline(font: Any, character: str) -> tuple[Array, Array]:
    """The outline as directed segments, their starts and ends (K, 2), scaled as in a field."""
    from matplotlib.path import Path as Outline

    font.set_size(640, 72)  # large, so that hinting to whole pixels moves nothing
    font.load_char(ord(character))
    vertices, codes = font.get_path()
    outline = Outline(np.multiply(vertices, (0.1, -0.1)), codes)
    contours = [np.asarray(contour) for contour in outline.to_polygons()]
    points = np.concatenate(contours)
    low, high = points.min(axis=0), points.max(axis=0)
    starts = np.concatenate([contour[:-1] for contour in contours])
    ends = np.concatenate([contour[1:] for contour in contours])
    proper = (starts != ends).any(axis=1)
    width, height = high - low
    unit = np.hypot(max(width, 0.6 * height), height) / 2  # else a 1 would be taller than the others
    middle = (low + high) / 2
    return (starts[proper] - middle) / unit, (ends[proper] - middle) / unit


def _distance_field(starts: Array, ends: Array) -> Array:
    """The distance from each point of the grid to the nearest segment, signed by winding number."""
    axis = np.linspace(-EXTENT, EXTENT, GRID)
    (dx, dy), up = (ends - starts).T, np.sign(ends - starts)[:, 1]
    px = axis[:, None] - starts[:, 0]  # from each segment's start to each point, (points, segments)
    field = np.empty((GRID, GRID), np.float32)
    for y, row in zip(axis, field, strict=True):  # by rows, whose temporaries stay in the cache
        py = y - starts[:, 1]
        along = np.clip((px * dx + py * dy) / (dx**2 + dy**2), 0, 1)  # the nearest point of a segment
        squared = (px - along * dx) ** 2 + (py - along * dy) ** 2
        # A ray to the left crosses segments that go up and down, outside the ink as many of each.
        crossed = ((starts[:, 1] <= y) != (ends[:, 1] <= y)) & ((px * dy - py * dx) * up > 0)
        row[:] = np.sqrt(squared.min(axis=1)) * np.where(crossed @ up, 1, -1)
    return field


def render(fields: Array, labels: Array, factors: dict[str, Array]) -> Array:
    """Draw images from distance fields, uint8 (N, 28, 28); labels and each factor are (N,).

    A point q of the field, in pixels, goes to p = R(rotation) [[sx, -shear sy], [0, sy]] q + shift.
    Here each pixel p finds its q, the field there is interpolated, and distances are scaled by the
    square root of the map's determinant. The outermost pixels stay black.
    """
    rotation, shear, sx, sy, shift_x, shift_y, weight, blur = (np.asarray(factors[name], np.float64) for name in RANGES)
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    step = 2 * EXTENT * RADIUS / (GRID - 1)  # pixels between samples of the field
    column = _sample_positions((cos - shear * sin) / sx, (sin + shear * cos) / sx, shift_x, shift_y, step)
    row = _sample_positions(-sin / sy, cos / sy, shift_x, shift_y, step)
    base = (labels * fields.shape[1] + factors["font"]) * GRID**2
    distance = _interpolate(fields, base, row, column)
    distance *= _per_image(np.sqrt(sx * sy) * RADIUS)
    ink = (distance + _per_image(weight)) * _per_image(1 / blur) + np.float32(0.5)
    images = np.zeros((len(labels), SIZE, SIZE), np.uint8)
    images[:, 1:-1, 1:-1] = np.clip(ink, 0, 1) * np.float32(255) + np.float32(0.5)
    return images


def _sample_positions(a: Array, b: Array, shift_x: Array, shift_y: Array, step: float) -> Array:
    """Where each pixel of each image falls on one axis of a field, (N, 26, 26): a x + b y."""
    axis = np.arange(1, SIZE - 1) - (SIZE - 1) / 2
    along_x = a[:, None] * (axis - shift_x[:, None]) / step
    along_y = b[:, None] * (axis - shift_y[:, None]) / step + (GRID - 1) / 2
    position: Array = along_x.astype(np.float32)[:, None, :] + along_y.astype(np.float32)[:, :, None]
    return position.clip(0, GRID - 1.001)


def _interpolate(fields: Array, base: Array, row: Array, column: Array) -> Array:
    """Bilinear interpolation of the field that begins at `base`, at fractional rows and columns."""
    i, j = row.astype(np.int32), column.astype(np.int32)
    down, right = row - i, column - j
    corner = base.astype(np.int32)[:, None, None] + i * GRID + j
    flat = fields.reshape(-1)
    upper_left, upper_right = flat.take(corner), flat.take(corner + 1)
    lower_left, lower_right = flat.take(corner + GRID), flat.take(corner + GRID + 1)
    upper = upper_left + right * (upper_right - upper_left)
    lower = lower_left + right * (lower_right - lower_left)
    value: Array = upper + down * (lower - upper)
    return value


def _per_image(value: Array) -> Array:
    return value.astype(np.float32)[:, None, None]
