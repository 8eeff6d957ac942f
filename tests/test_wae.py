"""WAE-MMD: the estimator of the MMD against its definition, without bias; the autoencoder as its limit."""

import math

import numpy
import pytest
from anywhere import host, np, there

from minivae import InputError, backend, manual_seed, models, optim
from minivae.models.wae import mmd
from minivae.tensor import Tensor

SHAPE = (1, 4, 4)


def normal(rng, *shape):
    return there(rng.standard_normal(shape))


def test_it_is_the_sum_over_pairs():
    rng = numpy.random.default_rng(0)
    z, w = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)) + 1

    def k(a, b):
        return 6 / (6 + ((a - b) ** 2).sum())

    def mean(pairs):
        return sum(pairs) / len(pairs)

    expected = (
        mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
        + mean([k(a, b) for i, a in enumerate(w) for j, b in enumerate(w) if i != j])
        - 2 * mean([k(a, b) for a in z for b in w])
    )
    assert mmd(there(z), there(w)).item() == pytest.approx(expected, abs=1e-12)
    near = mmd(there(z), there(w), scale=0.1).item()
    assert near != pytest.approx(expected, abs=0.01)


def test_two_equal_distributions_are_at_zero_in_the_mean():
    """Of 400 pairs of samples the mean lies within 4 standard errors; with the pairs of equals it would not."""
    rng = numpy.random.default_rng(1)
    n, d = 10, 2
    values = numpy.array([mmd(normal(rng, n, d), normal(rng, n, d)).item() for _ in range(400)])
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean()) < 4 * error
    assert values.min() < 0 < values.max()
    # the biased one adds (1 - mean k) / n for each sample, with mean k about 0.56 here
    assert 2 * (1 - 0.56) / n > 20 * error


def test_two_unequal_ones_are_apart():
    rng = numpy.random.default_rng(2)
    values = [mmd(normal(rng, 50, 2) + shift, normal(rng, 50, 2)).item() for shift in (0, 0.5, 1, 2)]
    assert values == sorted(values) and values[3] > 0.2


@pytest.mark.parametrize(("spread", "away"), [(1.0, 1000.0), (2000.0, 0.0), (3000.0, 1e4)])
def test_codes_that_are_far_out_in_float32(spread, away):
    rng = numpy.random.default_rng(0)
    for _ in range(20):
        z, w = (numpy.float32(away + spread * rng.standard_normal((16, 8))) for _ in range(2))
        found, exact = (
            mmd(*(Tensor(there(a.astype(dtype)), requires_grad=True) for a in (z, w)))
            for dtype in (numpy.float32, numpy.float64)
        )
        assert found.item() == pytest.approx(exact.item(), rel=1e-3, abs=1e-6)
        ours, wide = (Tensor(there(z.astype(dtype)), requires_grad=True) for dtype in (numpy.float32, numpy.float64))
        mmd(ours, there(w)).backward()
        mmd(wide, there(w.astype(numpy.float64))).backward()
        assert host(abs(ours.grad - wide.grad)).max() <= 1e-3 * host(abs(wide.grad)).max()


def test_codes_that_follow_it_come_to_the_prior():
    rng = numpy.random.default_rng(3)
    z = Tensor(there(rng.standard_normal((100, 2)).astype(numpy.float32) * 0.3 + 1.5), requires_grad=True)
    adam = optim.Adam([z], 0.05)  # type: ignore[list-item]
    for _ in range(400):
        adam.zero_grad()
        mmd(z, there(rng.standard_normal((100, 2)).astype(numpy.float32))).backward()
        adam.step()
    codes = host(z.data)
    assert numpy.abs(codes.mean(0)).max() < 0.25  # measured 0.07
    assert numpy.all(numpy.abs(codes.std(0) - 1) < 0.25)  # measured 0.12


@pytest.mark.parametrize(("z", "w"), [((1, 2), (3, 2)), ((3, 2), (1, 2)), ((3, 2), (3, 3)), ((3,), (3, 2))])
def test_samples_that_cannot_be_compared(z, w):
    with pytest.raises(ValueError, match=r"mmd: samples of shape .* at least 2"):
        mmd(np.zeros(z), np.zeros(w))


def pair(penalty):
    """An autoencoder and a WAE of the same weights."""
    manual_seed(0)
    wae = models.build("wae", shape=SHAPE, hidden=(6,), latent=3, penalty=penalty)
    ae = models.build("ae", shape=SHAPE, hidden=(6,), latent=3)
    ae.load_state_dict(wae.state_dict())
    return ae, wae


def test_without_a_penalty_it_is_the_autoencoder():
    ae, wae = pair(0.0)
    x = there(numpy.random.default_rng(0).random((8, *SHAPE), dtype=numpy.float32))
    for model in (ae, wae):
        adam = optim.Adam(model.parameters(), 1e-2)
        for _ in range(5):
            adam.zero_grad()
            model.loss(x).total.backward()
            adam.step()
    for name, a in ae.state_dict().items():
        assert numpy.array_equal(a, wae.state_dict()[name]), name


def test_the_loss_is_the_error_and_the_weighted_distance():
    ae, wae = pair(7.0)
    x = there(numpy.random.default_rng(0).random((8, *SHAPE), dtype=numpy.float32))
    loss = wae.loss(x, backend.current().generator(3))
    reconstruction, distance = (loss.terms[name].item() for name in ("reconstruction", "mmd"))
    assert reconstruction == ae.loss(x).total.item()
    assert distance == mmd(wae.encode(x), wae.prior(8, backend.current().generator(3))).item()
    assert loss.total.item() == pytest.approx(reconstruction + 7 * distance, rel=1e-6)


def test_one_image_alone_has_no_distance():
    _, wae = pair(7.0)
    x = there(numpy.random.default_rng(0).random((1, *SHAPE), dtype=numpy.float32))
    loss = wae.loss(x)
    assert loss.terms["mmd"].item() == 0 and loss.total.item() == loss.terms["reconstruction"].item()
    loss.total.backward()


def test_it_draws_from_its_prior():
    _, wae = pair(1.0)
    assert wae.sample(5, backend.current().generator(0)).shape == (5, *SHAPE)
    with pytest.raises(InputError, match="penalty -1"):
        models.build("wae", shape=SHAPE, penalty=-1.0)
