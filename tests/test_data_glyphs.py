"""The glyphs: what is drawn, that it is drawn the same again, and the cache."""

from __future__ import annotations

import errno
import functools
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from minivae.data.dataset import Dataset, Split
from minivae.errors import InputError

module = importlib.import_module("minivae.data.glyphs")  # in the package, the function has this name
glyphs = module.glyphs
fields = functools.cache(module.distance_fields)  # they take most of the time of a small data set
DIGITS = "0123456789"
LARGE, SMALL = (1500, 500), (30, 20)  # images to train, to test


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder, which does not exist yet."""
    monkeypatch.setattr(module, "distance_fields", fields)
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def same(a: Split, b: Split) -> bool:
    pairs = [(a.images, b.images), (a.labels, b.labels), *((a.factors[k], b.factors[k]) for k in a.factors)]
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in pairs)


def equal(a: Dataset, b: Dataset) -> bool:
    return same(a.train, b.train) and same(a.test, b.test) and a.classes == b.classes


class Trap:
    """Unpickled, it makes the folder that it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def forbidden(*args: Any) -> None:
    raise AssertionError("drawn again")


def test_content() -> None:
    data = glyphs(*LARGE)
    assert data.name == "glyphs" and data.classes == tuple(DIGITS) and data.shape == (1, 28, 28)
    for split, count in zip((data.train, data.test), LARGE, strict=True):
        assert split.images.shape == (count, 1, 28, 28) and split.images.dtype == np.uint8
        assert split.labels is not None and split.labels.dtype == np.int64
        assert set(split.labels) == set(range(10))
        assert list(split.factors) == ["font", *module.RANGES]
        assert all(factor.shape == (count,) for factor in split.factors.values())
        assert set(split.factors["font"]) == set(range(len(module.FONTS)))
        for name, (low, high) in module.RANGES.items():
            factor = split.factors[name]
            assert factor.dtype == np.float32 and low <= factor.min() and factor.max() <= high
            assert np.ptp(factor) > 0.95 * (high - low)


def test_looks() -> None:
    """White on black, about as large as in MNIST, black at the border, and smooth at the edges."""
    images = glyphs(*LARGE).train.images[:, 0]
    border = np.ones((28, 28), bool)
    border[1:-1, 1:-1] = False
    assert not images[:, border].any()
    assert 0.75 < (images == 0).mean() < 0.85
    assert images.max(axis=(1, 2)).min() > 180  # the faintest still has ink
    grey = (images > 0) & (images < 255)
    assert (grey.sum(axis=(1, 2)) > 20).all()
    heights = (images > 127).any(axis=2).sum(axis=1)
    assert 16 < heights.mean() < 19


def test_each_digit_of_each_font_is_its_own() -> None:
    """What a font lacks would be the same box for every character."""
    pictures = fields(DIGITS).reshape(150, -1)
    assert len(np.unique(pictures > 0, axis=0)) == 150
    assert ((pictures > 0).mean(axis=1) > 0.02).all()


def test_upright_and_not_mirrored() -> None:
    ink = (fields("L")[0] > 0).astype(int)
    half = module.GRID // 2
    upper, lower, left, right = ink[:, :half], ink[:, half:], ink[..., :half], ink[..., half:]
    assert (lower.sum(axis=(1, 2)) > 1.2 * upper.sum(axis=(1, 2))).all()
    assert (left.sum(axis=(1, 2)) > 1.2 * right.sum(axis=(1, 2))).all()


def test_labels_can_be_learnt() -> None:
    """The nearest of 1,500 images tells the digit; the images match their labels and factors."""
    data = glyphs(*LARGE)
    x, y = (split.images.reshape(len(split), -1) / np.float32(255) for split in (data.train, data.test))
    nearest = ((x**2).sum(axis=1) - 2 * y @ x.T).argmin(axis=1)
    assert 0.88 < (data.train.labels[nearest] == data.test.labels).mean() < 0.98
    drawn = module.render(fields(DIGITS), data.test.labels, data.test.factors)
    np.testing.assert_array_equal(drawn, data.test.images[:, 0])


def test_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed alone decides: neither the cache, the chunks, nor the size of the other split."""
    data = glyphs(*SMALL, seed=1)
    assert not equal(data, glyphs(*SMALL, seed=2))
    assert same(data.test, glyphs(7, SMALL[1], seed=1).test)
    assert same(data.train, glyphs(SMALL[0], 7, seed=1).train)
    assert not np.array_equal(data.train.labels[: SMALL[1]], data.test.labels)
    monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr(module, "_fits", lambda arrays, sizes: False)
    assert equal(data, glyphs(*SMALL, seed=1))


def test_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = glyphs(*SMALL, seed=3)
    assert [path.name for path in cache.iterdir()] == ["glyphs-v1-30-20-3.npz"]
    monkeypatch.setattr(module, "_draw", forbidden)
    assert equal(data, glyphs(*SMALL, seed=3))
    for arguments in ((31, 20, 3), (30, 21, 3), (30, 20, 4)):
        with pytest.raises(AssertionError, match="drawn again"):
            glyphs(*arguments)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "npy", "other", "sizes", "types", "pickled"])
def test_damaged_cache_is_mended(cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = glyphs(*SMALL)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    with np.load(path) as file:
        arrays = dict(file)
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[:middle])
        case "flipped":
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "text":
            path.write_text("not yours")
        case "npy":
            with path.open("wb") as file:
                np.save(file, arrays["train_images"])
        case "other":
            np.savez(path, images=arrays["train_images"])
        case "sizes":
            np.savez(path, **{**arrays, "test_blur": arrays["train_blur"]})
        case "types":
            np.savez(path, **{**arrays, "test_blur": arrays["test_blur"].astype(np.float64)})
        case "pickled":
            np.savez(path, **{**arrays, "test_blur": np.array([Trap(cache / "trap")])})
    assert equal(data, glyphs(*SMALL))
    monkeypatch.setattr(module, "_draw", forbidden)
    assert equal(data, glyphs(*SMALL))
    assert list(cache.iterdir()) == [path]


def test_cache_that_cannot_be_made(cache: Path) -> None:
    data = glyphs(*SMALL)
    for path in cache.iterdir():
        path.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    assert equal(data, glyphs(*SMALL))


def test_full_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file never has the name of a whole one, and does not stay."""

    def savez(path: Path, **arrays: Any) -> None:
        Path(path).write_bytes(b"half of it")
        assert not list(cache.glob("glyphs*"))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", savez)
    assert len(glyphs(*SMALL).train) == 30
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"train": 0}, "train = 0: give a whole number of at least 1"),
        ({"test": -5}, "test = -5: give a whole number of at least 1"),
        ({"train": 10.0}, "train = 10.0: give a whole number"),
        ({"seed": -1}, "seed = -1: give a whole number of at least 0"),
        ({"seed": "x"}, "seed = 'x': give a whole number"),
    ],
)
def test_bad_arguments(cache: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        glyphs(**{"train": 3, "test": 3, **arguments})
    assert not cache.exists()


def test_render_agrees_with_its_formula() -> None:
    """All factors at once, image by image, with SciPy's interpolation."""
    split = glyphs(*LARGE).train
    axis = np.arange(28) - 13.5
    pixels = np.stack(np.meshgrid(axis, axis), axis=-1)[..., None]  # (y, x, [[px], [py]])
    for i in range(40):
        f = {name: float(factor[i]) for name, factor in split.factors.items()}
        angle, sx, sy = np.deg2rad(f["rotation"]), f["scale_x"], f["scale_y"]
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = rotation @ [[sx, -f["shear"] * sy], [0, sy]]
        q = np.linalg.inv(matrix) @ (pixels - [[f["shift_x"]], [f["shift_y"]]])
        at = (q[..., 0] / module.RADIUS / module.EXTENT + 1) / 2 * (module.GRID - 1)
        field = fields(DIGITS)[split.labels[i], int(f["font"])]
        distance = map_coordinates(field, [at[..., 1], at[..., 0]], order=1, mode="nearest")
        distance *= module.RADIUS * np.sqrt(np.linalg.det(matrix))
        ink = 255 * np.clip((distance + f["weight"]) / f["blur"] + 0.5, 0, 1)
        np.testing.assert_allclose(split.images[i, 0, 1:-1, 1:-1], ink[1:-1, 1:-1], atol=0.6)


def draw(**changes: float) -> Any:
    """Each digit in each font as it stands, but for the changes: (150, 28, 28), as numbers."""
    plain = dict.fromkeys(module.RANGES, 0.0) | {"scale_x": 0.9, "scale_y": 0.9, "blur": 1.5} | changes
    labels, font = (index.ravel() for index in np.indices((10, len(module.FONTS))))
    factors = {name: np.full(len(labels), value) for name, value in plain.items()}
    return module.render(fields(DIGITS), labels, {"font": font, **factors}).astype(np.float64)


def spread(images: Any) -> tuple[Any, Any]:
    """The standard deviation of the ink along x and along y."""
    axis = np.arange(28)
    result = []
    for profile in (images.sum(axis=1), images.sum(axis=2)):
        share = profile / profile.sum(axis=1, keepdims=True)
        result.append(np.sqrt(share @ axis**2 - (share @ axis) ** 2))
    return result[0], result[1]


def test_shift_moves_right_and_down() -> None:
    plain = draw()
    np.testing.assert_allclose(draw(shift_x=2)[:, :, 2:], plain[:, :, :-2], atol=1)
    np.testing.assert_allclose(draw(shift_y=2)[:, 2:], plain[:, :-2], atol=1)
    rows, columns = (plain > 0).any(axis=2), (plain > 0).any(axis=1)
    for inked in (rows, columns):  # in the middle until they are shifted
        assert (abs(inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)) <= 1).all()


def test_rotation_is_clockwise() -> None:
    np.testing.assert_allclose(draw(rotation=90), np.rot90(draw(), -1, axes=(1, 2)), atol=1)


def test_shear_leans_right() -> None:
    """Each row moves right by the shear times its height above the middle."""
    plain, leaning = draw(), draw(shear=0.25)
    above = 13.5 - np.arange(28)
    columns = np.arange(28)
    inked = plain.sum(axis=2) > 500
    with np.errstate(invalid="ignore"):
        moved = leaning @ columns / leaning.sum(axis=2) - plain @ columns / plain.sum(axis=2)
    error = np.where(inked, moved - 0.25 * above, 0)
    assert abs(error).max() < 0.8 and abs(error[inked]).mean() < 0.1


def test_scales_stretch() -> None:
    (x, y), (wide, _), (_, tall) = (spread(draw(**changes)) for changes in ({}, {"scale_x": 1.08}, {"scale_y": 1.08}))
    np.testing.assert_allclose(wide / x, 1.2, atol=0.08)
    np.testing.assert_allclose(tall / y, 1.2, atol=0.08)


def test_weight_and_blur() -> None:
    """Weight adds ink on each side of a stroke; blur changes how wide the edges are, not the ink."""
    thin, thick, blurred = draw(blur=1), draw(blur=1, weight=0.5), draw(blur=2, weight=0.5)
    assert (thick >= thin).all() and (thick.sum(axis=(1, 2)) > 1.15 * thin.sum(axis=(1, 2))).all()
    greys = [((image > 0) & (image < 255)).sum(axis=(1, 2)) for image in (thick, blurred)]
    assert (greys[1] > 1.3 * greys[0]).all()
    assert abs(blurred.sum() / thick.sum() - 1) < 0.03


@pytest.mark.parametrize("inner", ["none", "hole", "overlap"])
def test_distance_field(inner: str) -> None:
    """A square of half width 0.5; in it one of 0.2: as a hole, or where two strokes overlap."""
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    contours = {"none": [square / 2], "hole": [square / 2, square[::-1] / 5], "overlap": [square / 2, square / 5]}
    starts = np.concatenate([contour[:-1] for contour in contours[inner]])
    ends = np.concatenate([contour[1:] for contour in contours[inner]])
    x, y = np.meshgrid(*[np.linspace(-module.EXTENT, module.EXTENT, module.GRID)] * 2)

    def box(half: float) -> Any:  # positive inside
        dx, dy = abs(x) - half, abs(y) - half
        return -np.hypot(dx.clip(0), dy.clip(0)) - np.maximum(dx, dy).clip(max=0)

    nearest = np.minimum(abs(box(0.5)), abs(box(0.2)) if inner != "none" else np.inf)
    inside = (box(0.5) > 0) & ~((box(0.2) > 0) & (inner == "hole"))
    field = module._distance_field(starts, ends)
    np.testing.assert_allclose(field, np.where(inside, nearest, -nearest), atol=1e-6)
