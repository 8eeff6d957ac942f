"""Distributions against SciPy, closed forms, and their own samples.

Statistical tests have fixed seeds; their stated levels say how often a right program would fail for a new seed:
5 standard errors, 6e-7 for each comparison; Kolmogorov-Smirnov and chi-square at P_VALUE.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anywhere import host, there
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from minivae import Tensor, backend, gradcheck, models, nn, ops
from minivae import distributions as d
from minivae.distributions import divergence

ERRORS = 5.0  # standard errors within which a mean must lie
P_VALUE = 1e-6
seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Family:
    """A continuous distribution of numbers. scipy: its counterpart, a function of the same parameters.

    domains: where each parameter is drawn. point: parameters at which samples are taken. outside: points at which
    there is no density. mean_log: E[log x] as a function of the parameters, where x > 0.
    """

    make: Callable[..., d.Distribution]
    scipy: Callable[..., Any]
    domains: tuple[tuple[float, float], ...]
    point: tuple[float, ...]
    outside: tuple[float, ...] = ()
    mean_log: Callable[..., Tensor] | None = None


REAL, POSITIVE = (-2.0, 2.0), (0.3, 3.0)
EULER = float(np.euler_gamma)
FAMILIES = {
    "Normal": Family(d.Normal, lambda m, v: stats.norm(m, np.exp(v / 2)), (REAL, REAL), (0.7, -0.5)),
    "LogNormal": Family(
        d.LogNormal, lambda m, v: stats.lognorm(np.exp(v / 2), scale=np.exp(m)), (REAL, (-2.0, 1.0)), (0.3, -2.0),
        (-1.0, 0.0), lambda m, v: m + 0.0 * v,
    ),
    "Laplace": Family(d.Laplace, stats.laplace, (REAL, POSITIVE), (0.7, 1.3)),
    "Logistic": Family(d.Logistic, stats.logistic, (REAL, POSITIVE), (0.7, 1.3)),
    "Gumbel": Family(d.Gumbel, stats.gumbel_r, (REAL, POSITIVE), (0.7, 1.3)),
    "Uniform": Family(d.Uniform, lambda a, b: stats.uniform(a, b - a), (REAL, (2.5, 4.0)), (0.7, 2.6), (-9.0, 9.0)),
    "Exponential": Family(
        d.Exponential, lambda r: stats.expon(scale=1 / r), (POSITIVE,), (1.7,), (-1.0,), lambda r: -EULER - ops.log(r)
    ),
    "Gamma": Family(
        d.Gamma, lambda a, r: stats.gamma(a, scale=1 / r), (POSITIVE, POSITIVE), (1.7, 0.6), (-1.0, 0.0),
        lambda a, r: ops.digamma(a) - ops.log(r),
    ),
    "Gamma, small shape": Family(
        d.Gamma, lambda a, r: stats.gamma(a, scale=1 / r), ((0.05, 0.3), POSITIVE), (0.2, 0.6), (-1.0,),
        lambda a, r: ops.digamma(a) - ops.log(r),
    ),
    "Beta": Family(
        d.Beta, stats.beta, (POSITIVE, POSITIVE), (0.8, 2.3), (-1.0, 0.0, 1.0, 2.0),
        lambda a, b: ops.digamma(a) - ops.digamma(a + b),
    ),
    "StudentT": Family(d.StudentT, stats.t, ((2.5, 20.0), REAL, POSITIVE), (11.0, 0.7, 1.3)),
}  # fmt: skip
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def drawn(family: Family, seed: int, dtype: Any = np.float64) -> list[Any]:
    """Parameters on the host, of shapes that broadcast to (3, 4)."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 1), (4,), (3, 4)]
    return [rng.uniform(*domain, shape).astype(dtype) for domain, shape in zip(family.domains, shapes, strict=False)]


def quantiles(family: Family, parameters: list[Any], tail: float) -> Any:
    """Points of the support, down to a tail: (7, *batch)."""
    u = np.array([tail, 1e-2, 0.2, 0.5, 0.8, 0.99, 1 - tail])
    parameters = np.broadcast_arrays(*[p.astype(float) for p in parameters])
    return family.scipy(*parameters).ppf(u.reshape(-1, *[1] * parameters[0].ndim))


def rng(seed: int = 0) -> Any:
    return backend.current().generator(seed)


# ---- densities and moments ----


@every_family
@given(seed=seeds)
def test_log_prob_is_scipys(family: Family, seed: int) -> None:
    parameters = drawn(family, seed)
    x = quantiles(family, parameters, 1e-8)
    x = np.minimum(x, 1 - 1e-12) if family.make is d.Beta else x  # at 1 itself, to rounding, there is no density
    log_p = family.make(*map(there, parameters)).log_prob(there(x))
    np.testing.assert_allclose(log_p.numpy(), family.scipy(*parameters).logpdf(x), rtol=1e-9, atol=1e-9)


@every_family
@given(seed=seeds)
def test_log_prob_in_float32(family: Family, seed: int) -> None:
    """The float64 result at the same numbers, to 16 roundings of float32 of the largest term."""
    parameters = drawn(family, seed, np.float32)
    x = np.clip(quantiles(family, parameters, 1e-3), 1e-30 if family.mean_log else None, None).astype(np.float32)
    if family.make is d.Beta:
        x = np.minimum(x, 1 - 2.0**-20).astype(np.float32)
    log_p = family.make(*map(there, parameters)).log_prob(there(x))
    exact = family.make(*(there(p.astype(float)) for p in parameters)).log_prob(there(x.astype(float))).numpy()
    assert log_p.dtype == np.float32
    np.testing.assert_allclose(log_p.numpy(), exact, rtol=2e-6, atol=1e-5)


@every_family
@given(seed=seeds)
def test_entropy_mean_and_variance_are_scipys(family: Family, seed: int) -> None:
    parameters = drawn(family, seed)
    p, q = family.make(*map(there, parameters)), family.scipy(*np.broadcast_arrays(*parameters))
    for ours, theirs in ((p.entropy(), q.entropy()), (p.mean(), q.mean()), (p.variance(), q.var())):
        assert ours.shape == p.shape
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-8, atol=1e-9)


@every_family
@given(seed=seeds)
@settings(max_examples=5)
def test_the_gradients_of_densities_and_moments(family: Family, seed: int) -> None:
    parameters = drawn(family, seed)
    x = quantiles(family, parameters, 0.1)
    x = np.maximum(x, 0.05) if family.mean_log else x  # where log x has a slope that differences can find
    x = np.minimum(x, 0.95) if family.make is d.Beta else x  # and log(1 - x)
    away = np.abs(x - np.broadcast_to(parameters[0], x.shape)) > 0.05 if family.make is d.Laplace else True
    x = np.where(away, x, x + 0.2)  # from the kink
    if family.make is not d.Uniform:  # whose density does not depend on x
        gradcheck(lambda x, *p: family.make(*p).log_prob(x), [x, *parameters])
    gradcheck(lambda *p: family.make(*p).log_prob(there(x)), parameters)
    for moment in ("entropy", "mean", "variance"):
        made = [p for p in parameters if moment != "mean" or p.size]
        gradcheck(lambda *p, moment=moment: sum_of_all(getattr(family.make(*p), moment)(), p), made, rtol=1e-5)


def sum_of_all(value: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
    """The value, in which every parameter has a part, if only a known one."""
    for p in parameters:
        value = value + p * p
    return value


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.outside])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outside_of_the_support(name: str, dtype: Any) -> None:
    """-inf, and gradients of exactly 0; a NaN stays one."""
    family = FAMILIES[name]
    leaves = [Tensor(there(np.array(value, dtype)), requires_grad=True) for value in family.point]
    x = Tensor(there(np.array(family.outside, dtype)), requires_grad=True)
    log_p = family.make(*leaves).log_prob(x)
    log_p.backward(there(np.ones(log_p.shape, dtype)))
    assert log_p.dtype == dtype and (log_p.numpy() == -np.inf).all()
    for leaf in (x, *leaves):
        assert (host(leaf.grad) == 0).all()
    assert np.isnan(family.make(*leaves).log_prob(there(np.array([np.nan], dtype))).numpy()).all()


FAR = np.array([-1e4, -80.0, 80.0, 1e4])
TAILS = {
    "Normal": (d.Normal, (0.0, 0.0), FAR, stats.norm.logpdf(FAR)),
    "Laplace": (d.Laplace, (0.0, 1.0), FAR, -np.abs(FAR) - math.log(2)),
    "Logistic": (d.Logistic, (0.0, 1.0), FAR, -np.abs(FAR)),
    "Gumbel": (d.Gumbel, (0.0, 1.0), np.array([-80.0, 80, 1e4]), np.array([80 - math.exp(80), -80, -1e4])),
    "StudentT": (d.StudentT, (3.0, 0.0, 1.0), FAR, stats.t(3).logpdf(FAR)),
    "StudentT, many degrees": (d.StudentT, (1e4, 0.0, 1.0), FAR[1:3], stats.t(1e4).logpdf(FAR[1:3])),
    "Exponential": (d.Exponential, (2.0,), FAR[2:], math.log(2) - 2 * FAR[2:]),
    "Bernoulli": (d.Bernoulli, (FAR,), np.array([0.0, 1.0, 0.0, 1.0]), np.array([-0.0, -80, -80, -0.0])),
}


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out(name: str, dtype: Any) -> None:
    """Where a careless formula overflows or rounds to -inf. A warning of NumPy would fail the test."""
    make, parameters, x, expected = TAILS[name]
    x = Tensor(there(x.astype(dtype)), requires_grad=True)
    log_p = make(*(there(np.asarray(p, dtype)) for p in parameters)).log_prob(x)
    log_p.backward(there(np.ones(log_p.shape, dtype)))
    np.testing.assert_allclose(log_p.numpy(), expected, rtol=16 * np.finfo(dtype).eps)
    assert np.isfinite(host(x.grad)).all()


def test_moments_that_do_not_exist() -> None:
    t = d.StudentT(there(np.array([0.5, 1.0, 1.5, 2.0, 3.0])), 1.0, 2.0)
    np.testing.assert_array_equal(t.mean().numpy(), [np.nan, np.nan, 1, 1, 1])
    np.testing.assert_allclose(t.variance().numpy(), [np.nan, np.nan, np.inf, np.inf, 12])


# ---- vectors and classes ----


@given(seed=seeds)
def test_dirichlet_is_scipys(seed: int) -> None:
    source = np.random.default_rng(seed)
    a, x = source.uniform(0.3, 3.0, (2, 4)), source.dirichlet(np.ones(4), 5)
    p = d.Dirichlet(there(a))
    assert p.shape == (2,) and p.sample((3,), rng(seed)).shape == (3, 2, 4)
    log_p, mean, variance, entropy = p.log_prob(there(x[:, None])), p.mean(), p.variance(), p.entropy()
    for i in range(2):
        q = stats.dirichlet(a[i])
        np.testing.assert_allclose(log_p.numpy()[:, i], [q.logpdf(row) for row in x], rtol=1e-9)
        np.testing.assert_allclose(mean.numpy()[i], q.mean(), rtol=1e-9)
        np.testing.assert_allclose(variance.numpy()[i], q.var(), rtol=1e-9)
        np.testing.assert_allclose(entropy.numpy()[i], q.entropy(), rtol=1e-9, atol=1e-9)
    logits = source.standard_normal((2, 4))  # x stays on the simplex
    gradcheck(lambda a, logits: d.Dirichlet(a).log_prob(ops.softmax(logits)), [a, logits])
    gradcheck(lambda a: d.Dirichlet(a).entropy(), [a], rtol=1e-5)


def test_dirichlet_off_the_simplex() -> None:
    points = there(np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6], [-0.1, 0.6, 0.5], [0.0, 0.5, 0.5]], np.float32))
    a, x = Tensor([0.5, 1.5, 2.0], requires_grad=True), Tensor(points, requires_grad=True)
    log_p = d.Dirichlet(a).log_prob(x)
    np.testing.assert_array_equal(np.isfinite(log_p.numpy()), [True, False, False, False])
    log_p.backward(there(np.ones(4, np.float32)))
    assert (host(x.grad)[1:] == 0).all() and np.isfinite(host(a.grad)).all()


@given(seed=seeds)
def test_bernoulli_and_categorical_are_scipys(seed: int) -> None:
    source = np.random.default_rng(seed)
    logits, x = source.normal(0, 3, (2, 3)), source.integers(0, 2, (5, 1, 3))
    p, q = d.Bernoulli(there(logits)), stats.bernoulli(special.expit(logits))
    np.testing.assert_allclose(p.log_prob(there(x.astype(float))).numpy(), q.logpmf(x), rtol=1e-9, atol=1e-12)
    for ours, theirs in ((p.entropy(), q.entropy()), (p.mean(), q.mean()), (p.variance(), q.var())):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9)
    classes = d.Categorical(there(logits))
    labels = source.integers(0, 3, (5, 2))
    expected = np.take_along_axis(special.log_softmax(logits, -1)[None], labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(classes.log_prob(there(labels)).numpy(), expected, rtol=1e-9)
    entropy = [stats.entropy(row) for row in special.softmax(logits, -1)]
    np.testing.assert_allclose(classes.entropy().numpy(), entropy, rtol=1e-9)
    gradcheck(lambda a: d.Bernoulli(a).log_prob(there(x.astype(float))) + d.Bernoulli(a).entropy(), [logits])
    gradcheck(lambda a: d.Categorical(a).log_prob(there(labels)) + d.Categorical(a).entropy(), [logits])


def test_values_that_are_no_classes() -> None:
    assert d.Categorical([0.0, 1.0]).log_prob(there(np.array([-1, 2]))).numpy().tolist() == [-np.inf, -np.inf]
    assert d.Bernoulli(0.0).log_prob(there(np.array([0.5, 2.0], np.float32))).numpy().tolist() == [-np.inf, -np.inf]
    with pytest.raises(TypeError, match=r"^Categorical: classes are integers from 0 to 1, not float32\.$"):
        d.Categorical([0.0, 1.0]).log_prob(1.0)


# ---- samples ----


@every_family
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_have_the_distribution(family: Family, dtype: Any) -> None:
    """Kolmogorov-Smirnov. In float32, 20,000 samples do not see the rounding."""
    x = family.make(*(there(np.array(value, dtype)) for value in family.point)).sample((20_000,), rng())
    assert x.dtype == dtype and x.shape == (20_000,) and not x.requires_grad
    assert stats.kstest(x.numpy().astype(float), family.scipy(*family.point).cdf).pvalue > P_VALUE


def test_samples_of_a_dirichlet() -> None:
    """Each coordinate has a beta distribution, and they sum to 1."""
    a = np.array([0.3, 1.0, 2.5])
    x = d.Dirichlet(there(a)).sample((20_000,), rng()).numpy()
    np.testing.assert_allclose(x.sum(axis=-1), 1, rtol=1e-12)
    for i in range(3):
        assert stats.kstest(x[:, i], stats.beta(a[i], a.sum() - a[i]).cdf).pvalue > P_VALUE


def test_samples_of_classes() -> None:
    logits = np.array([0.5, -1.0, -30.0, 1.0])
    p = special.softmax(logits)
    seen = np.array([0, 1, 3])  # the third has the probability 1e-14
    relaxed = d.Categorical(there(logits)).relaxed_sample(0.5, (20_000,), rng(1)).numpy()
    np.testing.assert_allclose(relaxed.sum(axis=-1), 1, rtol=1e-12)
    for x in (d.Categorical(there(logits)).sample((20_000,), rng()).numpy(), relaxed.argmax(axis=-1)):
        counts = np.bincount(x, minlength=4)
        assert counts[2] == 0
        assert stats.chisquare(counts[seen], 20_000 * p[seen] / p[seen].sum()).pvalue > P_VALUE
    x = d.Bernoulli(there(np.array(0.4))).sample((20_000,), rng()).numpy()
    assert set(x.tolist()) == {0.0, 1.0}
    assert stats.binomtest(int(x.sum()), 20_000, special.expit(0.4)).pvalue > P_VALUE


def test_a_class_that_is_impossible_is_never_drawn() -> None:
    logits = np.float32([*np.random.default_rng(0).standard_normal(999), -np.inf])
    uniform = SimpleNamespace(random=lambda size, dtype: there(np.full(size, 1 - 1e-12)))
    assert d.Categorical(there(logits)).sample((3,), uniform).numpy().max() == 998


class Given:
    """A generator that has no more than what both libraries have, and returns the same at each call."""

    def __init__(self, seed: int):
        self.seed = seed

    def random(self, size: Any, dtype: Any = np.float64) -> Any:
        return there(np.random.default_rng(self.seed).random(size).astype(dtype))

    def standard_normal(self, size: Any, dtype: Any = np.float64) -> Any:
        return there(np.random.default_rng(self.seed).standard_normal(size).astype(dtype))


@every_family
@given(seed=seeds)
@settings(max_examples=5)
def test_samples_are_differentiable_for_given_noise(family: Family, seed: int) -> None:
    """Of samples that are monotone in one number of noise, this is the whole truth: the quantile moves."""
    parameters = drawn(family, seed)
    gradcheck(lambda *p: family.make(*p).rsample((2,), Given(seed)), parameters, rtol=1e-5)


def expectations(family: Family, leaves: list[Tensor]) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """Functions of x, and their expectations in closed form as functions of the parameters."""
    p = family.make(*leaves)
    mean = p.mean()
    found = {"x": (lambda x: x, mean), "x^2": (lambda x: x * x, p.variance() + mean * mean)}
    if family.mean_log:
        found["log x"] = (ops.log, family.mean_log(*leaves))
    return found


@every_family
def test_pathwise_gradients_are_those_of_expectations(family: Family) -> None:
    """The mean gradient of f(x) over 40,000 samples x, within ERRORS standard errors of d E[f(x)] / d parameter.

    11 families, 2 or 3 functions, 1 to 3 parameters: 60 comparisons, a false alarm for 1 seed in 28,000.
    """
    n = 40_000
    for name in expectations(family, [Tensor(there(np.array(v))) for v in family.point]):
        exact = [Tensor(there(np.array(value)), requires_grad=True) for value in family.point]
        f, expectation = expectations(family, exact)[name]
        expectation.backward()
        each = [Tensor(there(np.full(n, value)), requires_grad=True) for value in family.point]
        f(family.make(*each).rsample((), rng(1))).sum().backward()
        for i, (leaf, leaves) in enumerate(zip(exact, each, strict=True)):
            truth = 0.0 if leaf.grad is None else float(host(leaf.grad))
            gradients = np.zeros(n) if leaves.grad is None else host(leaves.grad)
            error = gradients.std() / math.sqrt(n) + 1e-12
            assert abs(gradients.mean() - truth) < ERRORS * error, (name, i, truth, gradients.mean(), error)


def test_pathwise_gradients_of_a_dirichlet() -> None:
    """E[log x_i] = digamma(a_i) - digamma(sum a): its Jacobian."""
    n, a = 40_000, np.array([0.4, 1.0, 2.5])
    for i in range(3):
        exact = Tensor(there(a), requires_grad=True)
        (ops.digamma(exact) - ops.digamma(exact.sum()))[i].backward()
        each = Tensor(there(np.tile(a, (n, 1))), requires_grad=True)
        ops.log(d.Dirichlet(each).rsample((), rng(2)))[:, i].sum().backward()
        gradients = host(each.grad)
        error = gradients.std(axis=0) / math.sqrt(n)
        assert (np.abs(gradients.mean(axis=0) - host(exact.grad)) < ERRORS * error).all()


@pytest.mark.parametrize("a", [0.01, 0.1, 1.0, 3.0, 50.0, 1e3, 1e6])
def test_the_quantiles_of_a_gamma_distribution(a: float) -> None:
    """Value by SciPy's distribution function, slope by differences of quantiles, for all shapes, into the tails."""
    u = np.array([1e-10, 1e-3, 0.1, 0.4, 0.5, 0.6, 0.9, 0.999, 1 - 1e-10])
    shape = Tensor(there(np.full(u.shape, a)), requires_grad=True)
    log_x = ops.log_gamma_quantile(shape, there(u))
    log_x.backward(there(np.ones(u.shape)))
    x = np.exp(log_x.numpy())
    held = x > 1e-300
    np.testing.assert_allclose(special.gammainc(a, x[held]), u[held], rtol=1e-8 if a > 1e5 else 1e-9)

    def slope(h: float) -> Any:
        up, down = (ops.log_gamma_quantile(there(np.full(u.shape, a + s)), there(u)).numpy() for s in (h, -h))
        return (up - down) / (2 * h)

    h = 2e-3 * a
    richardson = (4 * slope(h / 2) - slope(h)) / 3
    np.testing.assert_allclose(host(shape.grad), richardson, rtol=1e-6 if a < 0.1 else 1e-9)


def test_small_shapes_underflow_in_x_but_not_in_its_logarithm() -> None:
    a = Tensor(there(np.full(3, 1e-3, np.float32)), requires_grad=True)
    log_x = ops.log_gamma_quantile(a, there(np.array([0.1, 0.5, 0.9])))
    expected = (np.log([0.1, 0.5, 0.9]) + special.gammaln(1.001)) / 1e-3
    np.testing.assert_allclose(log_x.numpy(), expected, rtol=1e-5)
    mix = d.Dirichlet(there(np.full((100, 5), 1e-3, np.float32))).sample((), rng()).numpy()
    np.testing.assert_allclose(mix.sum(axis=-1), 1, rtol=1e-5)  # no 0 / 0


# ---- divergences ----

PAIRS = {
    "Normal": ((0.3, -0.5), (-0.4, 0.7)), "LogNormal": ((0.3, -0.5), (-0.4, 0.7)), "Laplace": ((0.3, 0.6), (-0.4, 1.5)),
    "Gumbel": ((0.3, 0.6), (-0.4, 1.5)), "Uniform": ((0.7, 2.0), (0.5, 2.6)), "Exponential": ((0.6,), (1.5,)),
    "Gamma": ((1.7, 0.6), (0.8, 1.5)), "Beta": ((1.7, 0.9), (2.4, 1.5)),
}  # fmt: skip
OTHERS = {"Dirichlet": d.Dirichlet, "Bernoulli": d.Bernoulli, "Categorical": d.Categorical}


@pytest.mark.parametrize("n", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet"])
def test_what_is_made_of_gamma_functions_does_not_cancel_in_float32(name: str, n: float) -> None:
    make = {"Gamma": d.Gamma, "Beta": d.Beta, "Dirichlet": lambda a, b: d.Dirichlet(ops.stack([a, b, 2.0 * b], -1))}
    p, q = (np.float32([a, b]) for a, b in ((n, n / 2), (1.001 * n, n / 2)))
    narrow, wide = (
        [make[name](*(Tensor(there(a)) for a in both.astype(dtype))) for both in (p, q)]
        for dtype in (np.float32, np.float64)
    )
    x = wide[0].mean().numpy().astype(np.float32)
    for value, exact in (
        (d.kl(*narrow), d.kl(*wide)), (narrow[0].entropy(), wide[0].entropy()),
        (narrow[0].log_prob(there(x)), wide[0].log_prob(there(x.astype(np.float64)))),
    ):  # fmt: skip
        if np.isfinite(exact.numpy()):  # x of float32 may be off the simplex of float64
            np.testing.assert_allclose(value.numpy(), exact.numpy(), rtol=1e-6)
        assert value.dtype == np.float32


def test_every_closed_form_is_tested() -> None:
    assert {(p.__name__, q.__name__) for p, q in divergence.CLOSED_FORMS} == {(n, n) for n in (*PAIRS, *OTHERS)}


@pytest.mark.parametrize("name", PAIRS)
def test_kl_is_the_integral(name: str) -> None:
    family, (p, q) = FAMILIES[name], PAIRS[name]
    of_p, of_q = family.scipy(*p), family.scipy(*q)
    low, high = of_p.ppf([1e-14, 1 - 1e-14])
    integral, _ = integrate.quad(
        lambda x: of_p.pdf(x) * (of_p.logpdf(x) - of_q.logpdf(x)), low, high, points=[of_p.median(), p[0]], limit=200
    )
    arrays = [[there(np.array(value)) for value in parameters] for parameters in (p, q)]
    ours = d.kl(family.make(*arrays[0]), family.make(*arrays[1]))
    np.testing.assert_allclose(ours.numpy(), integral, rtol=1e-7)
    gradcheck(
        lambda *both: d.kl(family.make(*both[: len(p)]), family.make(*both[len(p) :])), [np.array(v) for v in (*p, *q)]
    )


@pytest.mark.parametrize("name", [*PAIRS, *OTHERS])
@given(seed=seeds)
def test_kl_is_zero_of_equals_and_never_negative(name: str, seed: int) -> None:
    source = np.random.default_rng(seed)
    if name in OTHERS:
        make, (p, q) = OTHERS[name], [[source.uniform(0.3, 3.0, (3, 4))] for _ in range(2)]
    else:
        make, (p, q) = FAMILIES[name].make, [drawn(FAMILIES[name], seed + i) for i in range(2)]
    p, q = (make(*map(there, parameters)) for parameters in (p, q))
    np.testing.assert_allclose(d.kl(p, p).numpy(), 0, atol=1e-13)
    divergences = d.kl(p, q)
    assert divergences.shape == p.shape and (divergences.numpy() >= 0).all()
    np.testing.assert_allclose(d.kl(p, q, axis=None).numpy(), divergences.numpy().sum(), rtol=1e-12)


@pytest.mark.parametrize("name", [*PAIRS, *OTHERS])
def test_estimates_of_kl_agree(name: str) -> None:
    """The mean of 20,000 estimates of one sample each, within ERRORS standard errors of the closed form."""
    n = 20_000
    source = np.random.default_rng(3)
    if name in OTHERS:
        make, (p, q) = OTHERS[name], [(source.uniform(0.5, 2.0, 3),) for _ in range(2)]
    else:
        make, (p, q) = FAMILIES[name].make, PAIRS[name]
    p, q = (make(*(there(np.asarray(value)) for value in parameters)) for parameters in (p, q))
    exact = float(host(d.kl(p, q, axis=None).data))
    x = p.sample((n,), rng(4))
    each = (p.log_prob(x) - q.log_prob(x)).numpy().reshape(n, -1).sum(axis=1)
    estimate = float(host(d.estimate_kl(p, q, n, axis=None, rng=rng(4)).data))
    assert estimate == pytest.approx(each.mean(), rel=1e-9)
    assert abs(estimate - exact) < ERRORS * each.std() / math.sqrt(n) + 1e-12


def test_the_estimate_has_the_gradient_of_the_closed_form() -> None:
    """Pathwise with respect to p: of Gamma, whose shape has implicit gradients."""
    n, gradients = 20_000, {}
    for estimated in (False, True):
        a = Tensor(there(np.full(n, 1.7)), requires_grad=True)
        p, q = d.Gamma(a, 0.6), d.Gamma(0.8, 1.5)
        (d.estimate_kl(p, q, 1, rng=rng(5)) if estimated else d.kl(p, q)).sum().backward()
        gradients[estimated] = host(a.grad)
    error = gradients[True].std() / math.sqrt(n)
    assert abs(gradients[True].mean() - gradients[False][0]) < ERRORS * error


def test_kl_where_there_is_no_closed_form() -> None:
    with pytest.raises(TypeError, match=r"^no closed form of KL\(Normal \|\| Laplace\) is known: .* estimate_kl\.$"):
        d.kl(d.Normal(0.0, 0.0), d.Laplace(0.0, 1.0))
    with pytest.raises(ValueError, match=r"^estimate_kl needs at least one sample, not 0\.$"):
        d.estimate_kl(d.Normal(0.0, 0.0), d.Laplace(0.0, 1.0), 0)


def test_kl_of_uniforms_is_infinite_where_one_does_not_cover_the_other() -> None:
    assert float(host(d.kl(d.Uniform(0.0, 2.0), d.Uniform(0.0, 1.0)).data)) == math.inf


def test_a_closed_form_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "CLOSED_FORMS", dict(divergence.CLOSED_FORMS))

    @d.closed_form(d.Exponential, d.Gamma)
    def _(p: d.Exponential, q: d.Gamma) -> Tensor:
        return d.kl(d.Gamma(1.0, p.rate), q)

    assert float(host(d.kl(d.Exponential(2.0), d.Gamma(1.0, 2.0)).data)) == pytest.approx(0, abs=1e-6)


# ---- posteriors ----


def test_the_log_density_of_samples_of_a_narrow_normal() -> None:
    """In float32 (z - mu) / sigma has lost most digits; the noise itself has not."""
    q = d.Normal(there(np.full(1000, 100.0, np.float32)), there(np.full(1000, -14.0, np.float32)))
    _, log_q = q.rsample_with_log_prob((), Given(0))
    eps = np.random.default_rng(0).standard_normal(1000).astype(np.float32).astype(float)
    np.testing.assert_allclose(log_q.numpy(), stats.norm.logpdf(eps) + 7, rtol=1e-5, atol=1e-5)


@every_family
def test_samples_with_their_log_density(family: Family) -> None:
    p = family.make(*(there(np.full((3, 2), value)) for value in family.point))
    z, log_p = p.rsample_with_log_prob((4,), Given(1), axis=-1)
    assert (z.shape, log_p.shape) == ((4, 3, 2), (4, 3))
    np.testing.assert_allclose(log_p.numpy(), p.log_prob(z, axis=-1).numpy(), rtol=1e-9)


def test_the_mean_field_is_the_posterior_of_the_vae() -> None:
    """(z, log_q) of the protocol give the importance weights of the VAE, value and gradients."""

    def log_weights(ours: bool) -> tuple[Any, list[Any]]:
        model = models.vae(shape=(1, 4, 4), hidden=(6,), latent=2)
        model.load_state_dict(weights)
        if not ours:
            log_w = model.log_weights(x, 3, Given(2))
        else:
            z, log_q = posterior(model.encoder(Tensor(x)), (3,), Given(2))
            log_w = d.Normal(0.0, 0.0).log_prob(z, axis=-1) - log_q - model.nll(z, x)
        log_w.sum().backward()
        return log_w.numpy(), [host(p.grad) for p in model.parameters()]

    posterior: d.Posterior = d.MeanField()
    weights = models.vae(shape=(1, 4, 4), hidden=(6,), latent=2).state_dict()
    x = there(np.random.default_rng(0).random((5, 1, 4, 4), dtype=np.float32))
    (value, gradients), (expected, expected_gradients) = log_weights(True), log_weights(False)
    assert value.shape == (3, 5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for a, b in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_relaxed_sample_learns() -> None:
    """Its gradient is pathwise; near temperature 0 it is the one-hot code of a class."""
    logits = np.random.default_rng(0).standard_normal((2, 3))
    gradcheck(lambda a: d.Categorical(a).relaxed_sample(0.7, (2,), Given(3)), [logits])
    x = d.Categorical(there(logits)).relaxed_sample(1e-3, (1000,), rng()).numpy()
    assert (x.max(axis=-1) > 0.99).mean() > 0.98
    with pytest.raises(ValueError, match=r"^Categorical: temperature must be above 0 and finite, but is 0\.$"):
        d.Categorical([0.0, 1.0]).relaxed_sample(0.0)


# ---- manners ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: d.Laplace(0.0, there(np.array([1.0, -2.0]))), "Laplace: scale must be above 0, but holds -2."),
        (lambda: d.Gamma(math.nan, 1.0), "Gamma: concentration must be above 0, but holds nan."),
        (lambda: d.Uniform(1.0, 1.0), "Uniform: width must be above 0 (low below high), but holds 0."),
        (lambda: d.StudentT(0.0, 0.0, 1.0), "StudentT: df must be above 0, but holds 0."),
        (lambda: d.Beta(1.0, 0.0), "Beta: b must be above 0, but holds 0."),
    ],
)
def test_wrong_values_of_parameters_are_one_sentence(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: d.Dirichlet(1.0), "Dirichlet: a concentration of shape (): give (..., K) with K of at least 2."),
        (lambda: d.Categorical(1.0), "Categorical: logits of shape (): give (..., K) with K of at least 1."),
        (
            lambda: d.Normal(there(np.zeros(2)), there(np.zeros(3))),
            "Normal: shapes that do not broadcast together: mu (2,), logvar (3,).",
        ),
    ],
)
def test_wrong_shapes_of_parameters_are_one_sentence(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_integers_are_no_parameters() -> None:
    with pytest.raises(TypeError, match=r"^Normal: parameters of dtype int64: give floating-point numbers\.$"):
        d.Normal(there(np.arange(3)), there(np.arange(3)))


def test_what_has_no_pathwise_samples_or_entropy_says_so() -> None:
    with pytest.raises(TypeError, match=r"^Bernoulli has no reparameterised samples: use sample\(\)\.$"):
        d.Bernoulli(0.0).rsample()


def test_numbers_take_the_dtype_of_the_other_parameters() -> None:
    for dtype in (np.float32, np.float64):
        q = d.Normal(there(np.zeros((2, 3), dtype)), -1.0)
        assert (q.dtype, q.shape, q.sample((4,)).dtype, q.log_prob(0.5).dtype) == (dtype, (2, 3), dtype, dtype)
    assert d.Normal(0.0, -1).dtype == np.float32
    assert d.Normal(0.0, np.float64(0.0)).dtype == np.float32  # NumPy's scalars are weak too


def test_results_are_summed_over_axes() -> None:
    x, q = there(np.random.default_rng(0).standard_normal((2, 3))), d.Logistic(there(np.zeros(3)), 1.0)
    each = q.log_prob(x).numpy()
    np.testing.assert_allclose(q.log_prob(x, axis=-1).numpy(), each.sum(axis=-1))
    np.testing.assert_allclose(q.log_prob(x, axis=None).numpy(), each.sum())
    np.testing.assert_allclose(q.entropy(axis=-1).numpy(), 6.0)


def test_a_distribution_of_parameters_that_learn() -> None:
    """Maximum likelihood recovers what the data were drawn from: parameters are leaves like any other."""
    x = there(np.random.default_rng(0).gamma(3.0, 0.5, 2000))
    log_a, log_rate = (nn.Parameter(there(np.zeros(()))) for _ in range(2))
    for _ in range(300):
        loss = -d.Gamma(ops.exp(log_a), ops.exp(log_rate)).log_prob(x).mean()
        loss.backward()
        for p in (log_a, log_rate):
            p.data -= 0.2 * p.grad
            p.grad = None
    a, _, scale = stats.gamma.fit(host(x), floc=0)
    assert math.exp(float(host(log_a.data))) == pytest.approx(a, rel=1e-2)
    assert math.exp(-float(host(log_rate.data))) == pytest.approx(scale, rel=1e-2)


def test_a_distribution_of_another_inside_in_another_dtype() -> None:
    wide = d.LogNormal(np.zeros(3, dtype=np.float32), np.zeros(3, dtype=np.float32)).astype(np.float64)
    assert {wide.dtype, wide.rsample().dtype, wide.mean().dtype} == {np.dtype(np.float64)}
