"""The sprites: each factor does what it says and nothing else, and the splits share no cell."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from minivae.data.dataset import Split
from minivae.errors import InputError

module = importlib.import_module("minivae.data.sprites")  # in the package, the function has this name
sprites, render, FACTORS = module.sprites, module.render, module.FACTORS
MIDDLE = {"color": 0, "shape": 0, "scale": 5, "orientation": 0, "posX": 16, "posY": 16}


def draw(**changes: Any) -> Any:
    """The images of MIDDLE but for the changes, as bool (N, 64, 64)."""
    arrays = np.broadcast_arrays(*({**MIDDLE, **changes}[name] for name in FACTORS))
    return render(dict(zip(FACTORS, map(np.atleast_1d, arrays), strict=True)))[:, 0] == 255


def cells(split: Split) -> set[int]:
    return set(np.ravel_multi_index(tuple(split.factors.values()), tuple(FACTORS.values())).tolist())


def test_content() -> None:
    data = sprites(900, 100, seed=3)
    assert data.name == "sprites" and data.classes == ("square", "ellipse", "heart") and data.shape == (1, 64, 64)
    for split, count in ((data.train, 900), (data.test, 100)):
        assert split.images.shape == (count, 1, 64, 64) and split.images.dtype == np.uint8
        assert np.unique(split.images).tolist() == [0, 255]
        assert list(split.factors) == ["color", "shape", "scale", "orientation", "posX", "posY"]
        for name, factor in split.factors.items():
            assert factor.dtype == np.int64 and factor.shape == (count,)
            assert factor.min() >= 0 and factor.max() < FACTORS[name]
        assert split.labels is not None and split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.labels, split.factors["shape"])
        np.testing.assert_array_equal(render(split.factors), split.images)
        assert len(cells(split)) == count
    assert not cells(data.train) & cells(data.test)
    for name, count in FACTORS.items():
        assert set(data.train.factors[name].tolist()) == set(range(count))


def test_deterministic() -> None:
    """The seed alone decides, not the size of the other split."""
    data, other = sprites(50, 20, seed=1), sprites(50, 7, seed=1)
    np.testing.assert_array_equal(data.train.images, other.train.images)
    np.testing.assert_array_equal(data.test.images[-7:], other.test.images)
    assert cells(data.train) != cells(sprites(50, 20, seed=2).train)


def test_the_whole_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell once, where all are asked for."""
    monkeypatch.setattr(module, "render", lambda factors: factors["shape"])
    data = sprites(module.CELLS - 5, 5)
    assert cells(data.train) | cells(data.test) == set(range(737_280))
    with pytest.raises(InputError, match="train \\+ test = 737281, but the grid has 737280 cells"):
        sprites(module.CELLS - 5, 6)


def test_position_moves_right_and_down() -> None:
    """Pixel for pixel, and nowhere over the edge."""
    for shape in range(3):
        for orientation in (0, 3, 21):
            here = draw(shape=shape, orientation=orientation)[0]
            for x, y in ((0, 0), (31, 31), (0, 31), (20, 9)):
                there = draw(shape=shape, orientation=orientation, posX=x, posY=y)[0]
                np.testing.assert_array_equal(there, np.roll(here, (y - 16, x - 16), (0, 1)))


def test_every_stamp_keeps_off_its_border() -> None:
    stamps = module._stamps() == 255
    assert stamps.shape == (3, 6, 40, 32, 32)
    border = np.ones((32, 32), bool)
    border[1:-1, 1:-1] = False
    assert not stamps[..., border].any()


def test_orientation_turns_clockwise() -> None:
    for shape in range(3):
        upright, turned = draw(shape=shape)[0], draw(shape=shape, orientation=10)[0]
        middle = slice(16, 48)  # the stamp
        np.testing.assert_array_equal(turned[middle, middle], np.rot90(upright[middle, middle], -1))
        eighth = draw(shape=shape, orientation=[1, 39])
        np.testing.assert_array_equal(eighth[0, :, 16:48], eighth[1, :, 16:48][:, ::-1])  # as in a mirror
    ellipse = draw(shape=1, orientation=5)[0]  # 45 degrees: from the upper left to the lower right
    y, x = ellipse.nonzero()
    assert np.corrcoef(x, y)[0, 1] > 0.3


def test_symmetries() -> None:
    """A square turns into itself at a quarter, an ellipse at a half, a heart not at all."""
    shape, orientation = np.indices((3, 40)).reshape(2, -1)
    images = draw(shape=shape, orientation=orientation).reshape(3, 40, -1)
    assert [len(np.unique(turned, axis=0)) for turned in images] == [10, 20, 40]


def test_scale_is_of_the_side() -> None:
    """The area grows with the square of the scale, from a half to the whole."""
    for shape, area in enumerate((400, np.pi * 14.1 * 8.1, 451)):
        found = draw(shape=shape, scale=np.arange(6)).sum(axis=(1, 2))
        np.testing.assert_allclose(found, area * np.linspace(0.5, 1, 6) ** 2, rtol=0.08)


def test_heart_stands_upright() -> None:
    heart = draw(shape=2)[0, :, 16:48]
    np.testing.assert_array_equal(heart, heart[:, ::-1])
    rows = heart[heart.any(axis=1)]
    assert rows[0, 15:17].sum() == 0 and rows[0].any()  # the notch
    assert rows[:8].sum() > 1.5 * rows[-8:].sum()


def test_no_pixel_is_on_the_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else rounding, which differs between machines, would decide which colour it has."""
    stamps = module._stamps()
    for nudge in (-1e-9, 1e-9):
        monkeypatch.setattr(module, "SCALES", np.linspace(0.5, 1, 6) * (1 + nudge))
        monkeypatch.setattr(module, "ORIENTATIONS", np.arange(40) * (2 * np.pi / 40) + nudge)
        np.testing.assert_array_equal(module._stamps.__wrapped__(), stamps)


def test_render_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = sprites(50, 1).train.factors
    whole = render(factors)
    monkeypatch.setattr(module, "CHUNK", 7)
    np.testing.assert_array_equal(render(factors), whole)
    assert render({name: factor[:0] for name, factor in factors.items()}).shape == (0, 1, 64, 64)
    whole[:] = 9  # the caller's own
    assert render(factors).max() == 255


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posY": None}, "render lacks the factors posY: give each of color"),
        ({"posX": [1, 2]}, r"got posX of shape \(2,\) .* each of the 1 images"),
        ({"posX": [[1]]}, r"got posX of shape \(1, 1\)"),
        ({"scale": [0.5]}, "got scale of shape .* dtype float64"),
        ({"color": [1]}, "got color from 1 to 1: its steps are 0 to 0"),
        ({"orientation": [40]}, "got orientation from 40 to 40: its steps are 0 to 39"),
        ({"posY": [-1]}, "got posY from -1 to -1"),
    ],
)
def test_render_refuses(changes: dict[str, Any], message: str) -> None:
    factors = {name: np.array([value]) for name, value in MIDDLE.items()}
    factors |= {name: np.array(value) for name, value in changes.items()}
    with pytest.raises(ValueError, match=message):
        render({name: factor for name, factor in factors.items() if factor.dtype != object})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"train": 0}, "train = 0"), ({"test": 2.0}, "test = 2.0"), ({"seed": -1}, "seed = -1: give a whole")],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"sprites has {words}"):
        sprites(**{"train": 3, "test": 3, **arguments})
