"""The likelihoods against SciPy's distributions: values, ranges, means, extremes, and learnt variances."""

import math

import pytest
from anywhere import np, on_backend
from scipy import stats

from minivae import InputError, Tensor, optim
from minivae.models.likelihood import LIKELIHOODS, DiscretizedLogistic, Gaussian, likelihood

stats = on_backend(stats)

LEVELS = np.arange(256) / 255
FLOOR = -2 * math.log(256)


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(shape)


def images(*shape: int, seed: int = 1) -> np.ndarray:
    """Images of whole grey levels, black and white among them."""
    x = np.random.default_rng(seed).integers(0, 256, shape) / 255
    x.flat[0], x.flat[1] = 0, 1
    return x


def nll(p, output, x, **options) -> np.ndarray:
    return p.nll(Tensor(output), Tensor(x), **options).numpy()


def soft_floor(raw: np.ndarray, floor: float) -> np.ndarray:
    return floor + np.logaddexp(0, raw - floor)


def bernoulli(output, x):
    p = stats.logistic.cdf(output)
    return -(x * np.log(p) + (1 - x) * np.log1p(-p))


def fixed_gaussian(output, x):
    return -stats.norm.logpdf(x, output, math.sqrt(0.3))


def pixel_gaussian(output, x):
    mu, raw = np.split(output, 2, axis=1)
    return -stats.norm.logpdf(x, mu, np.exp(soft_floor(raw, FLOOR) / 2))


def logistic(output, x):
    """The probability of each level as a difference of two values of the distribution function."""
    mu, raw = np.split(output, 2, axis=1)
    s = np.exp(soft_floor(raw, -7.0))
    a, b = np.where(x == 0, -np.inf, x - 1 / 510), np.where(x == 1, np.inf, x + 1 / 510)
    left, right = (f(b, mu, s) - f(a, mu, s) for f in (stats.logistic.cdf, stats.logistic.sf))
    return -np.log(np.where(x < mu, left, -right))  # of the two, that which does not cancel


def squared(output, x):
    constant = 0.5 * math.log(2 * math.pi * 0.5)
    return -stats.norm.logpdf(x, output, math.sqrt(0.5)) - constant


ORACLES = [
    ("bernoulli", None, bernoulli),
    ("gaussian", 0.3, fixed_gaussian),
    ("gaussian", "pixel", pixel_gaussian),
    ("logistic", None, logistic),
    ("squared-error", None, squared),
]


@pytest.mark.parametrize(("name", "variance", "oracle"), ORACLES)
@pytest.mark.parametrize("channels", [1, 3])
def test_values(name, variance, oracle, channels):
    p, x = likelihood(name, variance), images(5, channels, 4, 3)
    output = drawn(5, p.channels * channels, 4, 3)
    expected = oracle(output, x)
    np.testing.assert_allclose(nll(p, output, x), expected.sum((1, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(nll(p, output, x, axis=()), expected, rtol=1e-8)


@pytest.mark.parametrize(("name", "variance", "oracle"), ORACLES)
def test_outputs_of_many_codes_for_each_of_the_data(name, variance, oracle):
    p, x = likelihood(name, variance), images(4, 2, 3, 3)
    output = drawn(2, 3, 4, p.channels * 2, 3, 3)  # two times three codes
    values = nll(p, output, x)
    assert values.shape == (2, 3, 4)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(values[i], nll(p, output[i], x), rtol=1e-12)
    flat = drawn(3, 4, p.channels * 6)  # data that are vectors
    assert nll(p, flat, x.reshape(4, -1)[:, :6]).shape == (3, 4)


def test_the_shared_variance_is_a_parameter_of_which_the_mean_is_learnt():
    p = Gaussian("shared")
    mu, x = drawn(6, 1, 5, 5), drawn(6, 1, 5, 5, seed=2, scale=3.0)
    np.testing.assert_allclose(nll(p, mu, x), -stats.norm.logpdf(x, mu, 1).sum((1, 2, 3)), rtol=1e-6)
    assert [name for name, _ in p.named_parameters()] == ["logvar"]
    optimizer = optim.Adam(p.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        p.nll(Tensor(mu), Tensor(x)).mean().backward()
        optimizer.step()
    best = np.mean((x - mu) ** 2)  # where the derivative is 0 [Rybkin et al. 2021]
    assert math.exp(p.logvar.item()) == pytest.approx(best, rel=1e-3)
    np.testing.assert_allclose(nll(p, mu, x), -stats.norm.logpdf(x, mu, math.sqrt(best)).sum((1, 2, 3)), rtol=1e-3)


def test_only_the_shared_variance_is_a_parameter():
    parameters = {(name, v): likelihood(name, v).parameters() for name, v, _ in ORACLES}
    assert not any(parameters.values())


def test_no_pixel_can_have_a_variance_below_a_grey_level():
    p, x = Gaussian("pixel"), np.full((1, 1, 1, 1), 0.5)
    certain = np.array([0.5, -1e4]).reshape(1, 2, 1, 1)
    assert nll(p, certain, x)[0] == pytest.approx(-stats.norm.logpdf(0, 0, 1 / 256), rel=1e-9)


# the discretised logistic


@pytest.mark.parametrize("mu", [-0.3, 0.0, 1 / 255, 0.4999, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("log_s", [-12.0, -7.0, -5.0, -3.0, -1.0, 2.0])
def test_the_levels_of_a_logistic_sum_to_one(mu, log_s):
    output = np.broadcast_to(np.array([mu, log_s]).reshape(1, 2, 1, 1), (256, 2, 1, 1))
    p = np.exp(-nll(DiscretizedLogistic(), output, LEVELS.reshape(256, 1, 1, 1)))
    assert p.sum() == pytest.approx(1, abs=1e-10)
    assert (p >= 0).all()


def test_a_logistic_of_half_a_level_is_sure_of_its_level():
    p, output = DiscretizedLogistic(), np.array([100 / 255, -30.0]).reshape(1, 2, 1, 1)
    assert nll(p, output, np.full((1, 1, 1, 1), 100 / 255))[0] < 0.4
    assert nll(p, output, np.full((1, 1, 1, 1), 101 / 255))[0] > 2


# extremes: float32, in which a difference of two sigmoids would be 0

EXTREMES = np.array([-1e6, -300, -80, -20, -1, 0, 1, 20, 80, 300, 1e6], np.float32)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "pixel", "logistic", "squared-error"])
def test_values_and_gradients_are_finite_in_float32_at_the_extremes(name):
    p = Gaussian("pixel") if name == "pixel" else likelihood(name)
    for value in (0.0, 0.5, 1.0):
        mu, raw = (a.reshape(-1, 1, 1, 1) for a in np.meshgrid(EXTREMES, EXTREMES))
        output = Tensor(np.concatenate([mu, raw], 1)[:, : p.channels], requires_grad=True)
        x = Tensor(np.full((len(mu), 1, 1, 1), value, np.float32))
        result = p.nll(output, x)
        result.sum().backward()
        assert result.dtype == output.grad.dtype == np.float32
        assert np.isfinite(result.numpy()).all()
        assert np.isfinite(output.grad).all()


# counts


def test_the_multinomial_but_for_its_coefficient():
    x = np.array([[3, 0, 2, 1], [0, 0, 5, 0]])
    output = drawn(2, 4)
    p = np.exp(output) / np.exp(output).sum(1, keepdims=True)
    lone = [stats.multinomial(x[i].sum(), p[i]) for i in range(2)]
    coefficient = [math.lgamma(r.sum() + 1) - sum(math.lgamma(n + 1) for n in r) for r in x]
    expected = [-lone[i].logpmf(x[i]) + coefficient[i] for i in range(2)]
    multinomial = likelihood("multinomial")
    np.testing.assert_allclose(nll(multinomial, output, x.astype(float)), expected, rtol=1e-12)
    np.testing.assert_allclose(multinomial.mean(Tensor(output), 1).numpy(), p, rtol=1e-12)
    many = nll(multinomial, np.stack([output, 2 * output]), x.astype(float))
    assert many.shape == (2, 2)
    assert np.isfinite(nll(multinomial, 1e4 * output, x.astype(float))).all()


def test_counts_are_no_images():
    with pytest.raises(InputError, match=r"counts.*\(2, 1, 3, 3\)"):
        nll(likelihood("multinomial"), drawn(2, 1, 3, 3), images(2, 1, 3, 3))


# ranges, means, names


@pytest.mark.parametrize(
    ("name", "low", "high"), [("bernoulli", 0, 1), ("logistic", 0, 1), ("multinomial", 0, math.inf)]
)
def test_data_out_of_range(name, low, high):
    p = likelihood(name)
    shape = (2, 3)
    output = drawn(2, 3 * p.channels)
    nll(p, output, np.full(shape, float(low)))
    wrong = [-0.01, math.nan] + ([1.01, 255.0] if high == 1 else [])
    for value in wrong:
        x = np.full(shape, 0.5)
        x[1, 2] = value
        with pytest.raises(InputError, match=rf"{type(p).__name__} .*\[{low}, {high}\].* another likelihood") as caught:
            nll(p, output, x)
        assert str(caught.value).count(".") <= 4 and "\n" not in str(caught.value)  # one sentence


@pytest.mark.parametrize("name", ["gaussian", "squared-error"])
def test_the_gaussians_take_any_number(name):
    assert np.isfinite(nll(likelihood(name), drawn(3, 4), drawn(3, 4, scale=100.0))).all()


@pytest.mark.parametrize(("name", "variance", "oracle"), ORACLES)
def test_means(name, variance, oracle):
    p, output = likelihood(name, variance), drawn(2, 5, 6 * likelihood(name, variance).channels, 3, 2)
    mean = p.mean(Tensor(output), 3).numpy()
    mu = output[:, :, :6]
    if name == "logistic":
        p_of = np.stack([np.exp(-nll(p, output, np.full((5, 6, 3, 2), level), axis=())) for level in LEVELS])
        np.testing.assert_allclose(p_of.sum(axis=0), 1, rtol=1e-9)
        np.testing.assert_allclose(mean, (p_of * LEVELS.reshape(-1, 1, 1, 1, 1, 1)).sum(axis=0), atol=1e-5)
    else:
        np.testing.assert_allclose(mean, stats.logistic.cdf(mu) if name == "bernoulli" else mu, rtol=1e-12)


@pytest.mark.parametrize("raw", [-40.0, -6.0, -3.0, 0.0, 3.9, 4.1, 10.0, 80.0])
def test_the_mean_of_a_logistic_of_any_width_in_float32(raw):
    p, mu = DiscretizedLogistic(), np.array([-3, 0, 0.2, 0.5, 1, 4, 1000], dtype=np.float32)
    s = math.exp(min(p.floor + math.log1p(math.exp(raw - p.floor)), p.ceiling))
    between = (np.arange(255)[:, None] + 0.5) / 255
    expected = stats.logistic.sf((between - mu.astype(np.float64)) / s).mean(axis=0)  # of x >= 1, 2, ... levels
    output = np.stack([mu, np.full_like(mu, raw)], axis=1)[:, :, None, None]
    mean = p.mean(Tensor(output), 3).numpy().reshape(-1)
    np.testing.assert_allclose(mean, expected, atol=0.5 / 255 if raw < -5 else 1e-4)
    assert ((mean >= 0) & (mean <= 1)).all()


@pytest.mark.parametrize("variance", [0, -1.0, math.nan, math.inf, "mine", ""])
def test_a_variance_that_is_none(variance):
    with pytest.raises(InputError, match="above 0, or shared, or pixel"):
        Gaussian(variance)


def test_names():
    with pytest.raises(InputError, match=f"'poisson'.*{', '.join(LIKELIHOODS)}"):
        likelihood("poisson")
    with pytest.raises(InputError, match="belongs to the gaussian likelihood, not to bernoulli"):
        likelihood("bernoulli", 0.1)
    assert likelihood("gaussian").variance == "shared"
    assert likelihood("gaussian", 0.1).variance == 0.1
