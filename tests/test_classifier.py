"""Class coverage and the classification accuracy score, on samples whose quality is known."""

import numpy
import pytest

from minivae import backend
from minivae import classifier as judge
from minivae.data import Split


def squares(n, seed, classes=4):
    """A bright square in one of four corners, with noise; the corner is the class."""
    rng = numpy.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    images = rng.random((n, 1, 8, 8), dtype=numpy.float32) * 0.5
    for image, label in zip(images, labels, strict=True):
        i, j = 4 * (label // 2), 4 * (label % 2)
        image[0, i : i + 3, j : j + 3] += 0.5
    return Split(images, labels)


TRAIN, TEST = squares(400, 0), squares(200, 1)


@pytest.fixture(scope="module")
def trained():
    return judge.classifier(TRAIN, 4, epochs=5)


def test_it_learns_and_repeats_itself(trained):
    assert judge.accuracy(trained, TEST) > 0.97
    again = judge.classifier(TRAIN, 4, epochs=5)
    assert all((a == again.state_dict()[name]).all() for name, a in trained.state_dict().items())
    other = judge.classifier(TRAIN, 4, epochs=5, seed=1)
    assert any((a != other.state_dict()[name]).any() for name, a in trained.state_dict().items())


def test_it_leaves_the_generator_as_it_was():
    backend.manual_seed(3)
    expected = float(backend.current().rng.random())
    backend.manual_seed(3)
    judge.classifier(TRAIN[:50], 4, epochs=1)
    assert float(backend.current().rng.random()) == expected


def test_coverage_counts_the_classes_of_samples(trained):
    even = judge.class_coverage(trained, TEST.images, 4)
    assert even.sum() == pytest.approx(1) and numpy.abs(even - numpy.bincount(TEST.labels) / 200).max() < 0.03
    collapsed = judge.class_coverage(trained, TEST.images[TEST.labels < 2], 4)
    assert collapsed[:2].min() > 0.3 and collapsed[2:].max() < 0.03


def test_samples_as_good_as_data_score_as_data():
    score = judge.classification_accuracy_score(TRAIN.images, TRAIN.labels, TEST, 4, epochs=5)
    assert score > 0.97


def test_a_missing_class_is_lost_and_noise_is_at_chance():
    seen = TRAIN[TRAIN.labels != 2]
    lost = judge.classification_accuracy_score(seen.images, seen.labels, TEST, 4, epochs=5)
    share = float(numpy.mean(TEST.labels == 2))
    assert lost == pytest.approx(1 - share, abs=0.03)
    rng = numpy.random.default_rng(0)
    noise, labels = rng.random((400, 1, 8, 8), dtype=numpy.float32), rng.integers(0, 4, 400)
    assert judge.classification_accuracy_score(noise, labels, TEST, 4, epochs=5) < 0.5
