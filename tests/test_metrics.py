"""The metrics against brute force, closed forms and the invariances that they must have."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivae import metrics


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_auroc_is_the_share_of_pairs_in_order(negative, positive):
    pairs = [(p > n) + 0.5 * (p == n) for n in negative for p in positive]
    assert metrics.auroc(np.array(negative), np.array(positive)) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auroc_at_its_ends_and_of_infinite_scores():
    assert metrics.auroc([1, 2], [3, 4]) == 1
    assert metrics.auroc([3, 4], [1, 2]) == 0
    assert metrics.auroc([0, -math.inf], [0, math.inf]) == 0.875


@pytest.mark.parametrize("scores", [([], [1.0]), ([1.0], []), ([1.0], [math.nan]), ([math.nan], [1.0])])
def test_auroc_refuses_what_has_no_order(scores):
    with pytest.raises(ValueError, match="at least one number of each"):
        metrics.auroc(*map(np.array, scores))


@pytest.mark.parametrize("k", [1, 3, 30])
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_nearest_neighbours_by_brute_force(k, chunk):
    rng = np.random.default_rng(0)
    x, test = rng.standard_normal((30, 2, 2)), rng.standard_normal((20, 2, 2))
    y, test_y = rng.integers(0, 3, 30) * 5, rng.integers(0, 3, 20) * 5
    right = []
    for code, label in zip(test, test_y, strict=True):
        nearest = np.argsort([np.linalg.norm(code - other) for other in x])[:k]
        right.append(np.bincount(y[nearest]).argmax() == label)
    assert metrics.nearest_neighbour_accuracy(x, y, test, test_y, k, chunk) == np.mean(right)


def test_nearest_neighbours_far_from_the_origin():
    """Squares of float32 numbers near 1000 would lose the distances between them."""
    x = np.arange(50, dtype=np.float32)[:, None] / 100 + 1000
    assert metrics.nearest_neighbour_accuracy(x, np.arange(50), x + np.float32(0.001), np.arange(50)) == 1


def test_a_linear_probe_reaches_the_bayes_rate_of_two_normals():
    """At a distance of 2 between the means no classifier does better than Phi(1) = 0.841."""
    rng = np.random.default_rng(0)
    y, test_y = rng.integers(0, 2, 4000), rng.integers(0, 2, 20000)
    x, test = (rng.standard_normal((len(a), 3)) + 2 * a[:, None] * [1, 0, 0] for a in (y, test_y))
    score = metrics.linear_probe(x, y, test, test_y)
    assert score == pytest.approx(0.841, abs=0.01)
    # standardised: blind to scale and offset, and to a code that never changes
    scaled, test_scaled = (np.hstack([a * [1, 100, 1e-3] + [0, 7, -3], np.ones((len(a), 1))]) for a in (x, test))
    assert metrics.linear_probe(scaled, y, test_scaled, test_y) == score


def test_a_code_that_never_changes_but_for_rounding_says_nothing():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    told, constant = (2.0 * labels - 1)[:, None], np.full((1000, 1), 0.1)  # whose deviation comes to 1e-17
    codes = np.concatenate([told, constant], axis=1)
    elsewhere = np.concatenate([told, np.float32(constant)], axis=1)
    assert metrics.linear_probe(codes, labels, elsewhere, labels) == 1


def test_a_linear_probe_of_many_classes_under_any_names():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 500)
    x = rng.standard_normal((500, 4)) * 0.1 + rng.standard_normal((5, 4))[labels]
    assert metrics.linear_probe(x[:300], labels[:300] * 10 - 3, x[300:], labels[300:] * 10 - 3) == 1
    assert metrics.linear_probe(x[:300], rng.permutation(labels[:300]), x[300:], labels[300:]) < 0.5


def test_the_penalty_leaves_the_bias_alone():
    """Under an immense penalty the weights vanish and the more frequent class remains."""
    x, y = np.arange(10.0)[:, None], np.array([1] * 7 + [0] * 3)
    assert metrics.linear_probe(x, y, x, y, l2=1e9) == 0.7
    assert metrics.linear_probe(x, y, x, y, l2=1e-3) == 1


@pytest.mark.parametrize("measure", [metrics.linear_probe, metrics.nearest_neighbour_accuracy])
def test_codes_and_labels_that_do_not_fit(measure):
    x, y = np.zeros((4, 2)), np.zeros(4, int)
    for bad in ((x, y[:3], x, y), (x, y, x, y[:3]), (x, y, x[:, :1], y), (x, y[:, None], x, y)):
        with pytest.raises(ValueError, match="each code needs one label"):
            measure(*bad)
    with pytest.raises(ValueError, match="at least one of each"):
        measure(x, y, x[:0], y[:0])
    with pytest.raises(ValueError, match="not all finite"):
        measure(x, y, x + np.nan, y)


@pytest.mark.parametrize("k", [0, 5])
def test_more_neighbours_than_codes(k):
    with pytest.raises(ValueError, match="from 1 to 4"):
        metrics.nearest_neighbour_accuracy(np.zeros((4, 2)), np.zeros(4), np.zeros((4, 2)), np.zeros(4), k)


def test_active_units_are_those_whose_mean_varies():
    mu = np.random.default_rng(0).standard_normal((5000, 4)) * np.sqrt([1, 0.012, 0.008, 0]) + [0, 9, 9, 9]
    assert metrics.active_units(mu) == 2
    assert metrics.active_units(mu, threshold=0.5) == 1


def test_perplexity_counts_the_codes_in_use():
    assert metrics.perplexity([3, 3, 3, 3]) == pytest.approx(4)
    assert metrics.perplexity([0, 7, 0]) == 1
    assert metrics.perplexity(np.array([2, 1, 1])) == pytest.approx(2**1.5)  # an entropy of 1.5 bits
    for bad in ([0, 0], [], [-1, 2]):
        with pytest.raises(ValueError, match="without a positive sum"):
            metrics.perplexity(bad)
