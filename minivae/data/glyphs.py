"""glyphs: images of the ten digits, drawn here from the fonts that come with matplotlib.

28x28, grey, white on black like MNIST, but clean and with every generating factor known. Each character of
each font is drawn once, large, and turned into a signed distance field: d(p) is the distance of the point p
to the outline, positive inside. An image samples the field through a random affine map, and a soft step of d
makes the ink: moving the step changes the weight of the stroke, its width is the blur.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minivae.data.dataset import Array, Dataset, Split
from minivae.errors import InputError
from minivae.files import atomic_write, cache_dir

VERSION = 1  # of the pictures: part of the cache's file name
SIZE = 28  # pixels of an image's side
FIELD = 64  # pixels of a field's side
UNIT = 2  # pixels of the field to one of the image; a digit is about 20 of those high, as in MNIST
CHUNK = 2000
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "STIXGeneralBolIta", "cmr10", "cmb10", "cmss10", "cmtt10",
)  # fmt: skip
# The range of each factor, drawn uniformly; lengths in pixels of the image.
FACTORS = {
    "rotation": (-15.0, 15.0),  # degrees, counter-clockwise
    "shear": (-0.25, 0.25),  # x moves by shear times the height
    "scale_x": (0.75, 1.15),
    "scale_y": (0.85, 1.10),
    "shift_x": (-2.0, 2.0),
    "shift_y": (-2.0, 2.0),
    "weight": (-0.25, 0.75),  # the outline moves out by so much
    "blur": (0.6, 1.1),  # half of the width of the edge
}


def glyphs(train: int = 60_000, test: int = 10_000, seed: int = 0) -> Dataset:
    """The digits 0 to 9: images (N, 1, 28, 28) uint8, labels, and the factors of FACTORS and "font" (index in FONTS).

    The same arguments give the same bytes, and the test images do not depend on how many train images there are.
    Kept in the cache folder, generated where it is missing there. Raises InputError unless both sizes are positive.
    """
    if min(train, test) < 1:
        raise InputError(f"glyphs needs at least one training and one test image, not {train} and {test}.")
    digits = "0123456789"
    path = cache_dir() / f"glyphs-v{VERSION}-{train}-{test}-{seed}.npz"
    splits = _cached(path, (train, test))
    if splits is None:
        seeds = np.random.SeedSequence(seed).spawn(2)
        splits = [render(digits, n, np.random.default_rng(s)) for n, s in zip((train, test), seeds, strict=True)]
        _keep(path, splits)
    return Dataset("glyphs", splits[0], splits[1], tuple(digits))


def render(characters: str, n: int, rng: np.random.Generator) -> Split:
    """n images of characters drawn at random, with labels (index in characters) and factors."""
    from tqdm import tqdm

    fields = _fields(characters)
    labels = rng.integers(0, len(characters), n)
    factors: dict[str, Array] = {"font": rng.integers(0, len(FONTS), n)}
    factors |= {name: rng.uniform(low, high, n).astype(np.float32) for name, (low, high) in FACTORS.items()}
    images = np.empty((n, 1, SIZE, SIZE), np.uint8)
    with tqdm(total=n, desc="drawing glyphs", unit="image", leave=False, delay=1, disable=None) as bar:
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            which = factors["font"][part] * len(characters) + labels[part]
            images[part, 0] = _draw(fields, which, {name: f[part] for name, f in factors.items()})
            bar.update(len(which))
    return Split(images, labels, factors)


def _fields(characters: str) -> Array:
    """The signed distance field of each character in each font, (fonts * characters, FIELD, FIELD), in image pixels."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont
    from scipy.ndimage import distance_transform_edt

    fields = []
    fine = 4  # the outline is drawn so much finer than the field is kept
    for name in FONTS:
        font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), 100)
        boxes = [font.getbbox(character) for character in characters]
        height = np.median([bottom - top for _, top, _, bottom in boxes])
        font = font.font_variant(size=round(100 * 20 * UNIT * fine / height))
        for character in characters:
            left, top, right, bottom = font.getbbox(character)
            side = FIELD * fine
            image = Image.new("L", (side, side))
            at = ((side - left - right) / 2, (side - top - bottom) / 2)
            ImageDraw.Draw(image).text(at, character, fill=255, font=font)
            ink = np.asarray(image) > 127
            distance = distance_transform_edt(ink) - distance_transform_edt(~ink)
            fields.append(distance.reshape(FIELD, fine, FIELD, fine).mean((1, 3)) / (fine * UNIT))
    return np.array(fields, np.float32)


def _draw(fields: Array, which: Array, factors: dict[str, Array]) -> Array:
    """Images (n, SIZE, SIZE) uint8 of the fields `which`, each through its own affine map."""
    f = {name: values[:, None] for name, values in factors.items()}
    v, u = np.divmod(np.arange(SIZE * SIZE, dtype=np.float32), SIZE)
    centre = np.float32((SIZE - 1) / 2)
    u, v = u - centre - f["shift_x"], v - centre - f["shift_y"]
    angle = np.deg2rad(f["rotation"])
    c, s = np.cos(angle), np.sin(angle)
    x = c * u - s * v  # the map of the image to the field: rotate back, unshear, unscale
    y = s * u + c * v
    x += f["shear"] * y
    x /= f["scale_x"]
    y /= f["scale_y"]
    d = _sample(fields, which, x * UNIT, y * UNIT) * np.sqrt(f["scale_x"] * f["scale_y"])
    ink = np.clip(0.5 + (d + f["weight"]) / (2 * f["blur"]), 0, 1)
    ink = ink * ink * (3 - 2 * ink)
    return np.rint(255 * ink).astype(np.uint8).reshape(-1, SIZE, SIZE)


def _sample(fields: Array, which: Array, x: Array, y: Array) -> Array:
    """The fields at points measured from their centre, by bilinear interpolation."""
    centre = np.float32((FIELD - 1) / 2)
    x = np.clip(x + centre, 0, FIELD - 1.001)
    y = np.clip(y + centre, 0, FIELD - 1.001)
    i, j = y.astype(np.int32), x.astype(np.int32)
    b, a = y - i, x - j
    at = which[:, None].astype(np.int32) * (FIELD * FIELD) + i * FIELD + j
    flat = fields.reshape(-1)
    upper = flat[at] * (1 - a) + flat[at + 1] * a
    lower = flat[at + FIELD] * (1 - a) + flat[at + FIELD + 1] * a
    result: Array = upper * (1 - b) + lower * b
    return result


def _cached(path: Path, sizes: tuple[int, int]) -> list[Split] | None:
    """The two splits of a cache file; None where it is missing or not what it should be."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
        splits = []
        for name, n in zip(("train", "test"), sizes, strict=True):
            factors = {factor: arrays[f"{name}.{factor}"] for factor in ("font", *FACTORS)}
            split = Split(arrays[f"{name}.images"], arrays[f"{name}.labels"], factors)
            if split.images.shape != (n, 1, SIZE, SIZE) or split.images.dtype != np.uint8:
                return None
            splits.append(split)
        return splits
    except Exception:  # whatever is wrong with a cache, it can be made again
        return None


def _keep(path: Path, splits: list[Split]) -> None:
    """Write the cache, if its folder can be written."""
    arrays: dict[str, Any] = {}
    for name, split in zip(("train", "test"), splits, strict=True):
        parts = {"images": split.images, "labels": split.labels, **split.factors}
        arrays |= {f"{name}.{key}": value for key, value in parts.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    except OSError:
        pass
