"""The letters: the renderer of the glyphs, on other characters."""

from __future__ import annotations

import functools
import importlib
import string
from pathlib import Path

import numpy as np
import pytest

from minivae.data.glyphs import letters
from minivae.errors import InputError

module = importlib.import_module("minivae.data.glyphs")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "distance_fields", functools.cache(module.distance_fields))  # takes seconds
    return tmp_path


def test_content(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 26, drawn from their own fields with their own labels, beside a cache of glyphs."""
    data = letters(400, 60, seed=5)
    assert data.name == "letters" and data.classes == tuple(string.ascii_uppercase) and data.shape == (1, 28, 28)
    assert (len(data.train), len(data.test)) == (400, 60)
    assert data.train.labels is not None and set(data.train.labels.tolist()) == set(range(26))
    fields = module.distance_fields(string.ascii_uppercase)
    np.testing.assert_array_equal(module.render(fields, data.train.labels, data.train.factors), data.train.images[:, 0])
    assert [path.name for path in cache.iterdir()] == ["letters-v1-400-60-5.npz"]
    monkeypatch.setattr(module, "_draw", None)
    np.testing.assert_array_equal(letters(400, 60, seed=5).test.images, data.test.images)


def test_bad_arguments(cache: Path) -> None:
    with pytest.raises(InputError, match="letters has train = 0: give a whole number of at least 1"):
        letters(train=0)
    assert not list(cache.iterdir())
