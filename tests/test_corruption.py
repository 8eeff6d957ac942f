"""The corruptions: how much they change, where, anew at each call, and what they leave alone."""

import math

import pytest
from anywhere import np, on_backend

from minivae import InputError
from minivae.models.corruption import CORRUPTIONS, GREY, corruption

HIDING = ["central", "block", "region"]
SHAPES = [(1, 28, 28), (3, 9, 14), (1, 5, 3), (2, 1, 1)]


def images(n: int, *shape: int, dtype: type = np.float32) -> np.ndarray:
    return (0.1 + 0.2 * np.random.default_rng(0).random((n, *shape))).astype(dtype)  # neither black, white nor grey


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_dtype_and_an_untouched_original(name, shape, dtype):
    x = images(6, *shape, dtype=dtype)
    before = x.copy()
    x.flags.writeable = False
    seen, where = corruption(name)(x, rng())
    np.testing.assert_array_equal(x, before)
    assert seen.shape == x.shape and seen.dtype == dtype
    assert (where is not None) == (name in HIDING)
    if where is not None:
        assert where.shape == (6, 1, *shape[1:]) and where.dtype == dtype
        assert set(np.unique(where).tolist()) <= {0, 1}
        hidden = np.broadcast_to(where == 1, x.shape)
        assert (seen[hidden] == dtype(GREY)).all()
        np.testing.assert_array_equal(seen[~hidden], x[~hidden])
        assert (where.sum((1, 2, 3)) >= 1).all()  # there is always something to learn


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_seed_repeats_it_and_each_call_draws_anew(name):
    x, corrupt, generator = images(5, 1, 12, 12), corruption(name), rng()
    first, second = corrupt(x, generator)[0], corrupt(x, generator)[0]
    np.testing.assert_array_equal(first, corrupt(x, rng())[0])
    assert np.array_equal(first, second) == (name == "central")
    different = corrupt(np.repeat(x[:1], 5, axis=0), rng())[0]  # each image has its own noise
    assert (len(np.unique(different.reshape(5, -1), axis=0)) == 1) == (name == "central")


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_masking_blackens_pixels_at_its_rate(level):
    x = images(200, 1, 20, 20)
    seen, _ = corruption("masking", level)(x, rng())
    black = seen == 0
    np.testing.assert_array_equal(seen[~black], x[~black])
    assert black.mean() == pytest.approx(level, abs=5 * math.sqrt(level * (1 - level) / x.size))
    rates = black.mean(0)  # every pixel alike
    assert np.abs(rates - level).max() < 5.5 * math.sqrt(level * (1 - level) / 200)


@pytest.mark.parametrize("level", [0.05, 0.5, 3.0])
def test_gaussian_noise_has_its_deviation(level):
    x = images(200, 1, 20, 20, dtype=np.float64)
    added = corruption("gaussian", level)(x, rng())[0] - x
    assert added.mean() == pytest.approx(0, abs=5 * level / math.sqrt(x.size))
    assert added.std() == pytest.approx(level, rel=0.02)
    assert np.abs(np.corrcoef(added.reshape(200, -1)[:, :2].T)[0, 1]) < 0.4


@pytest.mark.parametrize("level", [0.1, 0.3, 0.8])
def test_salt_and_pepper_in_equal_parts(level):
    x = images(200, 1, 20, 20)
    seen, _ = corruption("salt-and-pepper", level)(x, rng())
    error = 5 * math.sqrt(level / 2 / x.size)
    assert (seen == 0).mean() == pytest.approx(level / 2, abs=error)
    assert (seen == 1).mean() == pytest.approx(level / 2, abs=error)
    kept = (seen != 0) & (seen != 1)
    np.testing.assert_array_equal(seen[kept], x[kept])


def holes(name: str, level: float, *shape: int, n: int = 300) -> np.ndarray:
    return corruption(name, level)(images(n, 1, *shape), rng())[1][:, 0] == 1


def sides(hole: np.ndarray) -> tuple[int, int, int, int]:
    """The first row and column of a hole and its sides; it must be a whole rectangle."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert hole.sum() == high * wide
    return rows[0], columns[0], high, wide


@pytest.mark.parametrize("h", [1, 2, 3, 4, 5, 7, 16, 28, 31])
@pytest.mark.parametrize("level", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_the_central_hole_is_in_the_middle_and_of_its_size(h, level):
    w = h + 3
    hole = holes("central", level, h, w, n=4)
    assert (hole == hole[0]).all()
    top, left, high, wide = sides(hole[0])
    assert (high, wide) == (max(1, round(level * h)), max(1, round(level * w)))
    assert abs(top - (h - high - top)) <= 1
    assert abs(left - (w - wide - left)) <= 1


@pytest.mark.parametrize(("level", "shape"), [(0.4, (10, 16)), (0.05, (5, 7)), (0.99, (6, 6)), (0.5, (1, 9))])
def test_the_block_lies_anywhere_in_the_image(level, shape):
    found = np.array([sides(hole) for hole in holes("block", level, *shape)])
    h, w = shape
    high, wide = max(1, round(level * h)), max(1, round(level * w))
    assert (found[:, 2:] == np.array((high, wide))).all()
    assert set(found[:, 0].tolist()) == set(range(h - high + 1))
    assert set(found[:, 1].tolist()) == set(range(w - wide + 1))


@pytest.mark.parametrize("level", [0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("shape", [(28, 28), (9, 14)])
def test_the_region_has_its_area_and_is_of_one_piece_or_few(level, shape):
    from scipy import ndimage

    ndimage = on_backend(ndimage)

    hole = holes("region", level, *shape, n=100)
    size = shape[0] * shape[1]
    np.testing.assert_allclose(hole.mean((1, 2)), level, atol=1.5 / size)
    pieces = [ndimage.label(one)[1] for one in hole]
    assert np.mean(pieces) < 8  # measured 1.0 to 5.3; single pixels at this rate would make dozens
    covered = hole.mean(0)
    assert covered.min() > 0 and covered.max() < 1 if 0.2 < level < 0.9 else True
    assert len(np.unique(hole.reshape(100, -1), axis=0)) > 90


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("level", [0.0, -0.1, math.nan, math.inf])
def test_levels_that_cannot_be(name, level):
    with pytest.raises(InputError, match=f"{level}.*give a number") as caught:
        corruption(name, level)
    assert name.split("-")[0] in str(caught.value)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "gaussian"])
def test_a_probability_or_a_part_of_one(name):
    with pytest.raises(InputError, match=f"1.0 of the corruption '{name}' is out of range"):
        corruption(name, 1.0)


@pytest.mark.parametrize("name", HIDING)
def test_only_images_have_a_middle(name):
    with pytest.raises(InputError, match=r"\(4, 30\): use masking noise"):
        corruption(name)(np.ones((4, 30), np.float32), rng())


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in HIDING])
def test_vectors_can_be_noisy(name):
    x = np.full((4, 30), 0.2, np.float32)
    assert corruption(name)(x, rng())[0].shape == (4, 30)


def test_an_unknown_corruption_names_those_there_are():
    with pytest.raises(InputError, match=f"'blur': choose one of {', '.join(CORRUPTIONS)}"):
        corruption("blur")
