"""Batches: each image once an epoch, in an order that only the seed and the epoch decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae.data.batches import Batches
from minivae.data.dataset import Split
from minivae.errors import InputError


def numbered(count: int) -> Split:
    """Images of two pixels, of which the first tells the image's number (below 256)."""
    images = np.zeros((count, 1, 1, 2), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return Split(images)


def numbers(batches: Batches, epoch: int, start: int = 0) -> list[list[int]]:
    """Which images each batch has."""
    return [np.rint(x[:, 0, 0, 0] * 255).astype(int).tolist() for x in batches.epoch(epoch, start)]


@settings(deadline=None)
@given(
    count=st.integers(0, 60),
    size=st.integers(1, 70),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_epoch(count: int, size: int, seed: int, epoch: int, shuffle: bool, data: st.DataObject) -> None:
    """Every image once; len() batches, all but the last full; a later start skips the first."""
    batches = Batches(numbered(count), size, seed, shuffle)
    found = numbers(batches, epoch)
    assert len(found) == len(batches)
    assert all(len(batch) == size for batch in found[:-1])
    flat = [number for batch in found for number in batch]
    assert (sorted(flat) if shuffle else flat) == list(range(count))
    again = Batches(numbered(count), size, seed, shuffle)
    start = data.draw(st.integers(0, len(found)))
    assert numbers(again, epoch, start) == found[start:]


def test_orders_differ() -> None:
    """Between epochs, between seeds, and from a neighbour in both."""
    first = Batches(numbered(200), 200, seed=0)
    second = Batches(numbered(200), 200, seed=1)
    orders = [numbers(batches, epoch)[0] for batches in (first, second) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert tuple(range(200)) not in {tuple(order) for order in orders}


def test_order_of_epochs_does_not_matter() -> None:
    """Nothing is carried from one epoch to the next, nor between two that are read at once."""
    batches = Batches(numbered(50), 7, seed=3)
    wanted = {epoch: numbers(batches, epoch) for epoch in (0, 1, 2)}
    assert numbers(batches, 2) == wanted[2]
    pairs = list(zip(batches.epoch(0), batches.epoch(1), strict=True))
    for epoch in (0, 1):
        found = [np.rint(pair[epoch][:, 0, 0, 0] * 255).astype(int).tolist() for pair in pairs]
        assert found == wanted[epoch]


def test_pixels() -> None:
    """Each uint8 becomes the float32 that is nearest to x / 255; float32 stays as it is."""
    grey = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    (batch,) = Batches(Split(grey), 9, shuffle=False).epoch(0)
    assert batch.dtype == np.float32 and batch.shape == (4, 1, 8, 8)
    np.testing.assert_array_equal(batch, (grey.astype(np.float64) / 255).astype(np.float32))
    assert batch.max() == 1
    (kept,) = Batches(Split(batch), 9, shuffle=False).epoch(0)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, batch)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_the_callers_own(dtype: type, shuffle: bool) -> None:
    images = np.ones((6, 1, 2, 2), dtype)
    kept = []
    for batch in Batches(Split(images), 2, shuffle=shuffle).epoch(0):
        kept.append(batch)
        batch[:] = len(kept)
    assert [batch.mean() for batch in kept] == [1, 2, 3]
    assert (images == 1).all()


@pytest.mark.parametrize(
    ("size", "seed", "message"),
    [(0, 0, "batch size is 0"), (-3, 0, "batch size is -3"), (1, -1, "seed is -1")],
)
def test_bad_arguments(size: int, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Batches(numbered(3), size, seed)


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 3)])
def test_bad_start(epoch: int, start: int) -> None:
    """Reported at the call, not at the first batch."""
    with pytest.raises(InputError, match=f"batch {start} of epoch {epoch}.*has 2 batches"):
        Batches(numbered(3), 2).epoch(epoch, start)


def test_a_batch_outlives_the_next_one_and_wrong_indices_are_refused():
    """Bytes are gathered to an array that the next batch uses again."""
    split = Split(np.arange(12, dtype=np.uint8).reshape(6, 1, 1, 2))
    batches = Batches(split, 3, shuffle=False)
    first, second = batches.epoch(0)
    np.testing.assert_array_equal(np.concatenate([first, second]), split.images / np.float32(255))
    for wrong in 6, -1:
        with pytest.raises(IndexError, match=rf"images: indices from .*{wrong}.* 0 to 5 are allowed"):
            batches.gather(np.array([wrong]))
