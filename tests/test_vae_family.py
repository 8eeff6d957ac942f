"""The VAE's family against what is known exactly: probabilistic PCA, the means and variances of estimators, bounds."""

import math
import tracemalloc

import pytest
from anywhere import host, np, on_backend
from scipy import stats

from minivae import InputError, Tensor, backend, manual_seed, models, nn, ops, optim
from minivae.data import Dataset, Labelled, Split
from minivae.models.likelihood import Gaussian
from minivae.train import Options, Trainer, evaluate

stats = on_backend(stats)

SHAPE = (1, 4, 4)


class Fixed:
    """A generator that returns the same noise at each call."""

    def __init__(self, noise: np.ndarray):
        self.noise = noise

    def standard_normal(self, shape, dtype=np.float64):
        assert tuple(shape) == self.noise.shape
        return self.noise.astype(dtype)


def images(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def in_float64(model: nn.Module) -> nn.Module:
    for owner in model.modules():
        for name, value in list(vars(owner).items()):
            if isinstance(value, nn.Parameter):
                setattr(owner, name, nn.Parameter(value.data.astype(np.float64)))
    return model


def small(gain: float = 3.0, seed: int = 0, **arguments: object) -> models.VAE:
    """A small VAE in float64 whose weights are gain times the initial ones, so that z and x matter."""
    manual_seed(seed)
    model = in_float64(models.vae(**{"shape": SHAPE, "hidden": (6,), "latent": 3} | arguments))
    for p in model.parameters():
        p.data *= gain
    return model


def variant(model: models.VAE, **changes: object) -> models.VAE:
    """The same networks under another loss."""
    other = models.VAE(model.encoder, model.decoder, model.latent, model.likelihood)
    vars(other).update(changes)
    return other


def gradients(loss: Tensor, model: nn.Module) -> dict[str, np.ndarray]:
    for p in model.parameters():
        p.grad = None
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}


def same_gradients(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rtol: float = 1e-9) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-11, err_msg=name)


# probabilistic PCA: the linear VAE of which everything is known [Tipping & Bishop 1999]

D, Q, N = 6, 2, 300
# four noises with the moments of a normal: of a loss that is quadratic in them, as here, the mean is the expectation
SIGNS = np.broadcast_to(np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)[:, None], (4, N, Q))


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, Q)) @ rng.standard_normal((Q, D)) * 1.5 + rng.standard_normal((N, D)) * 0.4
    return x + rng.standard_normal(D)


class PPCA:
    """The maximum-likelihood solution, in closed form."""

    def __init__(self, x: np.ndarray):
        self.mean = x.mean(0)
        values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
        values, vectors = values[::-1], vectors[:, ::-1]
        self.variance = values[Q:].mean()
        self.w = vectors[:, :Q] * np.sqrt(values[:Q] - self.variance)
        self.m = np.diag(self.w.T @ self.w) + self.variance  # M = W^T W + variance I is diagonal here

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        covariance = self.w @ self.w.T + self.variance * np.eye(D)
        return stats.multivariate_normal(self.mean, covariance).logpdf(x)


def parameters_of(pca: PPCA, kind: str, **options: object) -> models.VAE:
    """The VAE that is that solution, with its exact posterior N(M^-1 W^T (x - mean), variance M^-1)."""
    likelihood = Gaussian({"fixed": float(pca.variance)}.get(kind, kind))
    encoder, decoder = nn.Linear(D, 2 * Q), nn.Linear(Q, likelihood.channels * D)
    model = in_float64(models.VAE(encoder, decoder, Q, likelihood, **options))
    back = pca.w.T / pca.m[:, None]
    encoder.weight.data[:] = np.concatenate([back, np.zeros((Q, D))])
    encoder.bias.data[:] = np.concatenate([-back @ pca.mean, np.log(pca.variance / pca.m)])
    decoder.weight.data[:], decoder.bias.data[:] = 0, 0
    decoder.weight.data[:D], decoder.bias.data[:D] = pca.w, pca.mean
    if kind == "shared":
        likelihood.logvar.data[...] = math.log(pca.variance)
    if kind == "pixel":  # the inverse of the soft floor
        floor = Gaussian.floor
        decoder.bias.data[D:] = floor + np.log(np.expm1(math.log(pca.variance) - floor))
    return model


@pytest.mark.parametrize("kind", ["fixed", "shared", "pixel"])
def test_with_the_exact_posterior_every_bound_is_the_exact_likelihood(data, kind):
    pca = PPCA(data)
    exact = pca.log_likelihood(data)
    model = parameters_of(pca, kind, kl="monte-carlo")
    for k in (1, 3):  # p(x, z) / q(z | x) is p(x) at every z, so that no noise is left
        np.testing.assert_allclose(model.log_weights(data, k).numpy(), np.broadcast_to(exact, (k, N)), rtol=1e-6)
        np.testing.assert_allclose(model.nll_bound(data, k), -exact, rtol=1e-6)  # the noise is float32
        assert variant(model, k=k, kl="monte-carlo").loss(data).total.item() == pytest.approx(-exact.mean(), rel=1e-7)
        assert variant(model, samples=k, kl="monte-carlo").loss(data).total.item() == pytest.approx(
            -exact.mean(), rel=1e-7
        )
    for kl in ("analytic", "monte-carlo"):
        total = variant(model, kl=kl, samples=4).loss(data, Fixed(SIGNS)).total
        assert total.item() == pytest.approx(-exact.mean(), rel=1e-11)
        worst = max(np.abs(g).max() for g in gradients(total, model).values())
        assert worst < 1e-9 or kind == "pixel"  # it is the maximum, but not of models with a variance for each pixel
    # with the KL in closed form the noise of the reconstruction is left, and the mean is the same
    draws = [variant(model, kl="analytic").loss(data, np.random.default_rng(i)).total.item() for i in range(100)]
    error = np.std(draws) / 10
    assert 1e-4 < error < 0.02
    assert np.mean(draws) == pytest.approx(-exact.mean(), abs=4 * error)


def test_a_trained_linear_vae_comes_close_from_below(data):
    exact = PPCA(data).log_likelihood(data).mean()  # no model of this kind has more
    manual_seed(0)
    model = models.VAE(nn.Linear(D, 2 * Q), nn.Linear(Q, D), Q, Gaussian("shared"))
    x, rng, optimizer = data.astype(np.float32), np.random.default_rng(0), optim.Adam(model.parameters(), lr=2e-2)
    schedule = optim.cosine(800)
    for step in range(800):
        optimizer.lr = 2e-2 * schedule(step)
        optimizer.zero_grad()
        model.loss(x, rng).total.backward()
        optimizer.step()
    elbos = [-variant(model, kl="monte-carlo").loss(x, np.random.default_rng(i)).total.item() for i in range(50)]
    error = np.std(elbos) / math.sqrt(50)
    gap = exact - np.mean(elbos)
    assert -4 * error < gap < 0.05
    assert -model.nll_bound(x, 100, rng).mean() < exact + 0.01
    found = math.exp(model.likelihood.logvar.item())
    assert found == pytest.approx(PPCA(data).variance, rel=0.1)


# the estimators


def test_the_terms_of_every_variant_are_those_of_the_paper():
    model, x = small(), images(5).astype(np.float64)
    mu, logvar = (t.data for t in model.posterior(x))
    eps = noise(6, 5, 3).astype(np.float32)
    std = np.exp(logvar / 2)
    z = mu + std * eps
    logits = model.decoder(Tensor(z.reshape(-1, 3))).data.reshape(6, 5, -1)
    flat = x.reshape(5, -1)
    nll = (np.logaddexp(0, logits) - flat * logits).sum(-1)
    log_q, log_p = stats.norm.logpdf(z, mu, std).sum(-1), stats.norm.logpdf(z).sum(-1)
    kl = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)
    expected = {
        "analytic": (nll.mean(), kl.sum(-1).mean(), nll.mean() + kl.sum(-1).mean()),
        "monte-carlo": (nll.mean(), (log_q - log_p).mean(), (nll + log_q - log_p).mean()),
        "k": (nll.mean(), (log_q - log_p).mean(), (math.log(6) - np.logaddexp.reduce(log_p - log_q - nll)).mean()),
    }
    for name, changes in {
        "analytic": {"samples": 6}, "monte-carlo": {"samples": 6, "kl": "monte-carlo"}, "k": {"k": 6},
    }.items():  # fmt: skip
        loss = variant(model, **changes).loss(x, Fixed(eps))
        found = (loss.terms["reconstruction"].item(), loss.terms["kl"].item(), loss.total.item())
        np.testing.assert_allclose(found, expected[name], rtol=1e-8, err_msg=name)
    both = variant(model, samples=2, k=3).loss(x, Fixed(eps.reshape(2, 3, 5, 3)))
    log_w = (log_p - log_q - nll).reshape(2, 3, 5)
    assert both.total.item() == pytest.approx((math.log(3) - np.logaddexp.reduce(log_w, axis=1)).mean(), rel=1e-8)


def test_one_importance_weight_is_the_elbo_of_monte_carlo():
    model, x = small(), images(7).astype(np.float64)
    eps = noise(7, 3)
    plain = variant(model, kl="monte-carlo").loss(x, Fixed(eps))
    weights = -model.log_weights(x, 1, Fixed(eps[None])).mean()
    assert weights.item() == pytest.approx(plain.total.item(), rel=1e-12)
    assert model.nll_bound(x, 1, Fixed(eps[None])).mean() == pytest.approx(plain.total.item(), rel=1e-12)
    # k equal samples weigh as one, in the loss of k > 1 too, and with the same gradient
    repeated = Fixed(np.broadcast_to(eps, (3, 7, 3)))
    bound = variant(model, k=3).loss(x, repeated)
    assert bound.total.item() == pytest.approx(plain.total.item(), rel=1e-12)
    a = gradients(variant(model, k=3).loss(x, repeated).total, model)
    same_gradients(a, gradients(variant(model, kl="monte-carlo").loss(x, Fixed(eps)).total, model))


def test_the_gradient_of_k_samples_weighs_each_by_its_share():
    """The gradient of the bound is that of sum_i w~_i (-log w_i), with the w~ normalised and fixed. [Burda 2016]"""
    model, x = small(), images(4).astype(np.float64)
    rng = Fixed(noise(5, 4, 3))
    bound = gradients(variant(model, k=5).loss(x, rng).total, model)
    log_w = model.log_weights(x, 5, rng)
    shares = np.exp(log_w.data - np.logaddexp.reduce(log_w.data))
    same_gradients(bound, gradients(-(log_w * shares).sum(axis=0).mean(), model))


def test_the_loss_of_k_samples_tightens_with_k():
    model, x = small(latent=2), np.repeat(images(1), 4000, axis=0).astype(np.float64)
    draws = {k: variant(model, k=k).loss(x, np.random.default_rng(k)).total.item() for k in (1, 2, 4, 16)}
    draws[1] = variant(model, kl="monte-carlo").loss(x, np.random.default_rng(1)).total.item()
    values = list(draws.values())
    assert values == sorted(values, reverse=True)
    assert values[0] - values[1] > 0.1 and values[2] - values[3] > 0.05  # far above the error of 4000 draws


def test_both_estimators_of_the_kl_have_one_mean_and_the_analytic_one_less_variance():
    model, x = small(), np.repeat(images(1, seed=3), 20_000, axis=0).astype(np.float64)
    eps = noise(20_000, 3)
    z_of = variant(model, kl="monte-carlo")
    mu, logvar = (t.data for t in model.posterior(x))
    z = mu + np.exp(logvar / 2) * eps.astype(np.float32)
    each = (stats.norm.logpdf(z, mu, np.exp(logvar / 2)) - stats.norm.logpdf(z)).sum(-1)
    analytic, monte_carlo = (m.loss(x, Fixed(eps)).terms["kl"].item() for m in (model, z_of))
    assert monte_carlo == pytest.approx(each.mean(), rel=1e-6)
    assert each.std() > 0.5  # there is a noise that the analytic one has not
    assert monte_carlo == pytest.approx(analytic, abs=4 * each.std() / math.sqrt(20_000))
    # and the whole loss, image by image, varies less
    one = x[:1]
    losses = {
        kind: [variant(model, kl=kind).loss(one, Fixed(e)).total.item() for e in eps[:600, None]]
        for kind in ("analytic", "monte-carlo")
    }
    assert np.var(losses["analytic"]) < np.var(losses["monte-carlo"])


def test_the_variance_falls_as_one_over_the_samples():
    model, x = small(), images(2).astype(np.float64)
    variance = {
        n: np.var([variant(model, samples=n).loss(x, np.random.default_rng(i)).total.item() for i in range(600)])
        for n in (1, 8)
    }
    assert variance[1] / variance[8] == pytest.approx(8, rel=0.3)  # the error of a ratio of two is 0.08 each


def test_scores_are_the_terms_of_each_image():
    model, x = small(), images(5).astype(np.float64)
    scores, loss = model.scores(x, Fixed(noise(5, 3))), model.loss(x, Fixed(noise(5, 3)))
    assert {name: values.shape for name, values in scores.items()} == dict.fromkeys(scores, (5,))
    assert scores["-ELBO"].mean() == pytest.approx(loss.total.item(), rel=1e-12)
    for name in ("reconstruction", "kl"):
        assert scores[name].mean() == pytest.approx(loss.terms[name].item(), rel=1e-12)
    alone = [model.scores(x[i : i + 1], Fixed(noise(5, 3)[i : i + 1]))["-ELBO"][0] for i in range(5)]
    np.testing.assert_allclose(scores["-ELBO"], alone, rtol=1e-9)


def test_the_bound_of_large_images_takes_little_memory():
    model, x = models.vae((3, 64, 64), hidden=(2,), latent=2), images(2, (3, 64, 64))
    tracemalloc.start()
    try:
        model.nll_bound(x, 600)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6  # all 1200 images at once are 59 MB for each of several arrays: measured 67 MB, and 236 MB so


# the weights of the KL


def test_beta_scales_the_kl_alone():
    model, x, rng = small(), images(5).astype(np.float64), Fixed(noise(5, 3))
    plain = model.loss(x, rng)
    reconstruction, kl = plain.terms["reconstruction"].item(), plain.terms["kl"].item()
    for beta in (0.0, 0.5, 4.0):
        loss = variant(model, beta=beta).loss(x, rng)
        assert loss.terms["reconstruction"].item() == reconstruction
        assert loss.terms["kl"].item() == kl
        assert loss.total.item() == pytest.approx(reconstruction + beta * kl, rel=1e-12)
    parts = [gradients(plain.terms[name], model) for name in ("reconstruction",)]
    kl_alone = gradients(ops.kl_unit_normal(*model.posterior(x), axis=-1).mean(), model)
    total = gradients(variant(model, beta=4.0).loss(x, rng).total, model)
    for name, g in total.items():
        expected = parts[0][name] + 4.0 * (0 if kl_alone[name] is None else kl_alone[name])
        np.testing.assert_allclose(g, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["analytic", "monte-carlo"])
def test_free_bits_cost_nothing_below_and_everything_above(kind):
    model, x = small(), images(6).astype(np.float64)
    rng = Fixed(noise(6, 3))
    mu, logvar = model.posterior(x)
    if kind == "analytic":
        each = ops.kl_unit_normal(mu, logvar, axis=()).mean(axis=0).data
    else:
        std = np.exp(logvar.data / 2)
        z = mu.data + std * rng.noise.astype(np.float32)
        each = (stats.norm.logpdf(z, mu.data, std) - stats.norm.logpdf(z)).mean(0)
    low, middle, high = np.sort(each)
    allowance = (low + middle) / 2
    assert 0 < low < middle
    loss = variant(model, kl=kind, free_bits=allowance).loss(x, rng)
    assert loss.terms["kl"].item() == pytest.approx(each.sum(), rel=1e-6)
    expected = loss.terms["reconstruction"].item() + allowance + middle + high
    assert loss.total.item() == pytest.approx(expected, rel=1e-6)
    # the layer that makes mu and logvar: rows of the free latent have the gradient of the reconstruction alone
    rows = [int(np.argmin(each)), int(np.argmin(each)) + 3]
    others = [i for i in range(6) if i not in rows]
    free = gradients(variant(model, kl=kind, free_bits=allowance).loss(x, rng).total, model)["encoder.3.weight"]
    plain = gradients(variant(model, kl=kind).loss(x, rng).total, model)["encoder.3.weight"]
    alone = gradients(variant(model, beta=0.0).loss(x, rng).total, model)["encoder.3.weight"]
    np.testing.assert_allclose(free[rows], alone[rows], rtol=1e-9)
    np.testing.assert_allclose(free[others], plain[others], rtol=1e-9)
    assert np.abs(free[others] - alone[others]).max() > 1e-3


def test_free_bits_are_of_a_latent_not_of_an_image():
    """The mean over the batch counts: an image under the allowance still pays where the others lift the mean."""
    model, x, rng = small(), images(6).astype(np.float64), Fixed(noise(6, 3))
    each = ops.kl_unit_normal(*model.posterior(x), axis=()).numpy()
    allowance = 0.99 * each.mean(0).min()
    assert (each < allowance).any()
    loss = variant(model, free_bits=allowance).loss(x, rng)
    assert loss.total.item() == pytest.approx(model.loss(x, rng).total.item(), rel=1e-12)


def test_the_capacity_draws_the_kl_to_it_from_both_sides():
    model, x, rng = small(), images(5).astype(np.float64), Fixed(noise(5, 3))
    kl, reconstruction = (model.loss(x, rng).terms[name].item() for name in ("kl", "reconstruction"))
    above, below = (variant(model, capacity=c, beta=3.0).loss(x, rng) for c in (kl - 0.5, kl + 0.5))
    assert above.total.item() == pytest.approx(reconstruction + 1.5, rel=1e-9)
    assert below.total.item() == pytest.approx(reconstruction + 1.5, rel=1e-9)
    assert above.terms["kl"].item() == below.terms["kl"].item() == kl
    plain = gradients(variant(model, beta=3.0).loss(x, rng).total, model)
    alone = gradients(variant(model, beta=0.0).loss(x, rng).total, model)
    same_gradients(gradients(above.total, model), plain)
    flipped = {name: 2 * alone[name] - plain[name] for name in plain}
    same_gradients(gradients(below.total, model), flipped)


# annealing in the loop


def trainer(arguments: dict[str, object], **options: object) -> Trainer:
    pixels = (255 * images(40)).astype(np.uint8)
    split = Split(*host((pixels, np.zeros(40, np.int64))))
    manual_seed(0)
    spec = ("vae", {"shape": SHAPE, "hidden": [4], "latent": 2} | arguments)
    model = models.build(spec[0], **spec[1])
    return Trainer(model, Dataset("random", split, split, ("0",)), Options(batch_size=10, **options), spec, "random")


@pytest.mark.parametrize(("name", "final"), [("beta", 4.0), ("capacity", 6.0)])
def test_annealing_rises_to_the_argument(name, final, tmp_path):
    run = trainer({name: final}, epochs=3, anneal=2)  # four steps an epoch: eight to rise
    seen = []
    step, x = run._step, backend.current().asarray(np.arange(10))
    for _ in range(3):
        step(x)
        seen.append(getattr(run.model, name))
    assert seen == pytest.approx([final / 8, final / 4, 3 * final / 8])
    # what is saved in the middle is the argument
    from minivae import checkpoint

    run.save(tmp_path / "model.npz")
    model, _ = checkpoint.load_model(tmp_path / "model.npz")
    assert getattr(model, name) == final
    # evaluation is of the loss of that step
    terms = evaluate(run.model, run.dataset.test)
    kl = terms["kl"]
    penalty = 3 * final / 8 * kl if name == "beta" else abs(kl - 3 * final / 8)
    assert terms["loss"] == pytest.approx(terms["reconstruction"] + penalty, rel=1e-5)
    for _ in range(6):
        step(x)
    assert getattr(run.model, name) == final


def test_no_annealing_of_what_has_no_weight():
    with pytest.raises(InputError, match="anneal"):
        trainer({"k": 5}, anneal=1)
    with pytest.raises(InputError, match="anneal"):
        Options(anneal=-1)


# numbers that are hard on float32


@pytest.mark.parametrize("changes", [{}, {"kl": "monte-carlo"}, {"k": 3}, {"free_bits": 0.1}, {"capacity": 1.0}])
@pytest.mark.parametrize("logvar", [-200.0, -30.0, 30.0, 60.0])
def test_extreme_log_variances_are_finite(changes, logvar):
    manual_seed(0)
    model = models.vae(SHAPE, hidden=(6,), latent=2)
    model.encoder[-1].bias.data[2:] = logvar
    loss = variant(model, **changes).loss(images(4), np.random.default_rng(0))
    found = gradients(loss.total, model)
    assert loss.total.dtype == np.float32 and math.isfinite(loss.total.item())
    assert all(math.isfinite(t.item()) and t.dtype == np.float32 for t in loss.terms.values())
    assert all(np.isfinite(g).all() and g.dtype == np.float32 for g in found.values())


@pytest.mark.parametrize(("scale", "lr", "likelihood", "variance"), [
    (1, 1.0, "bernoulli", None), (1, 1.0, "gaussian", "pixel"), (1e4, 0.1, "gaussian", 0.01),
    (1e4, 1e-3, "gaussian", "shared"), (1e4, 1e-3, "gaussian", "pixel"),
])  # fmt: skip
def test_where_log_variances_used_to_overflow_training_stays_finite(scale, lr, likelihood, variance, monkeypatch):
    shape = (1, 8, 8)
    x = scale * images(64, shape)

    def steps() -> int:
        """How many steps of training are finite, of 60."""
        manual_seed(0)
        model = models.vae(shape, hidden=(32,), latent=3, likelihood=likelihood, variance=variance)
        adam, rng = optim.Adam(model.parameters(), lr), np.random.default_rng(0)
        for step in range(60):
            adam.zero_grad()
            loss = model.loss(x, rng).total
            loss.backward()
            if not np.isfinite([loss.item(), *(float(abs(p.grad).max()) for p in model.parameters())]).all():
                return step
            adam.step()
        return 60

    assert steps() == 60
    monkeypatch.setattr(ops, "soft_clip", lambda a: a)
    with np.errstate(over="ignore", invalid="ignore"):
        assert steps() < 60


def test_a_log_variance_of_use_is_not_changed_by_a_bit():
    a = np.linspace(-16, 16, 10_001).astype(np.float32)
    y = ops.soft_clip(Tensor(a, requires_grad=True))
    assert (y.data == a).all() and y.dtype == np.float32
    y.backward(np.ones_like(a))
    edge = ops.soft_clip(Tensor(np.float32([-16.001, 16.001, 1e30]))).numpy()  # it goes on without a step
    np.testing.assert_allclose(edge, [-16.001, 16.001, 16 + math.log(1e30)], rtol=1e-6)


# every architecture, likelihood and shape

SHAPES = [(1, 28, 28), (3, 32, 32), (2, 64, 64), (1, 28, 20), (4, 8, 12)]
LIKELIHOODS = [
    ("bernoulli", None),
    ("gaussian", 0.1),
    ("gaussian", "shared"),
    ("gaussian", "pixel"),
    ("logistic", None),
]


@pytest.mark.parametrize("arch", ["dense", "conv"])
@pytest.mark.parametrize(("likelihood", "variance"), LIKELIHOODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_everything(arch, likelihood, variance, shape):
    manual_seed(0)
    small_nets = {"hidden": (8,), "channels": (3, 4) if arch == "conv" else None}
    model = models.vae(shape, arch, latent=5, likelihood=likelihood, variance=variance, **small_nets)
    x = images(2, shape)
    mu, logvar = model.posterior(x)
    assert mu.shape == logvar.shape == (2, 5)
    for lead in [(), (0,), (2,), (3, 2), (2, 1, 2)]:
        means = model.decode(noise(*lead, 5).astype(np.float32))
        assert means.shape == (*lead, *shape)
        assert means.dtype == np.float32
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(3).shape == (3, *shape)
    assert model.nll(Tensor(noise(3, 1, 5).astype(np.float32)), x).shape == (3, 2)  # codes for all images alike
    for changes in [{}, {"samples": 2}, {"k": 2}, {"samples": 2, "k": 3}]:
        loss = variant(model, **changes).loss(x)
        assert loss.total.shape == () and loss.total.dtype == np.float32
        assert math.isfinite(loss.total.item())
    assert model.nll_bound(x, 3).shape == (2,)


def test_leading_axes_of_codes_are_samples_in_their_order():
    manual_seed(0)
    model = models.vae((2, 8, 8), "conv", (7,), (3,), latent=4, likelihood="logistic")
    z, x = noise(3, 2, 4).astype(np.float32), images(2, (2, 8, 8))
    many, values = model.decode(z), model.nll(Tensor(z), x).numpy()
    for i in range(3):
        np.testing.assert_allclose(many[i], model.decode(z[i]), rtol=1e-5)
        np.testing.assert_allclose(values[i], model.nll(Tensor(z[i]), x).numpy(), rtol=1e-5)


@pytest.mark.parametrize("x", [images(2, (28, 28)), images(2, (784,)), images(2, (1, 14, 56)), images(2, (784, 1, 1))])
def test_images_of_another_shape_are_not_taken_for_those_of_the_model(x):
    """784 pixels in another order of axes pass a dense encoder: (N, 28, 28) would meet every image with every other."""
    model = models.vae((1, 28, 28), hidden=(4,), latent=2)
    with pytest.raises(InputError, match=rf"\({x.shape[1]},.*\(1, 28, 28\)"):
        model.loss(x)
    with pytest.raises(InputError, match="shape of the data"):
        model.nll_bound(x, 2)


@pytest.mark.parametrize("arch", ["dense", "conv"])
@pytest.mark.parametrize(("likelihood", "variance"), LIKELIHOODS)
def test_state_is_all_there_is(arch, likelihood, variance):
    arguments = {"arch": arch, "hidden": (6,), "channels": (3,) if arch == "conv" else None, "latent": 2}
    manual_seed(1)
    a, b = (models.vae((1, 8, 8), likelihood=likelihood, variance=variance, **arguments) for _ in range(2))
    for p in a.parameters():
        p.data += 0.1
    x, rng = images(3, (1, 8, 8)), Fixed(noise(3, 2))
    assert a.loss(x, rng).total.item() != b.loss(x, rng).total.item()
    b.load_state_dict(a.state_dict())
    assert a.loss(x, rng).total.item() == b.loss(x, rng).total.item()
    np.testing.assert_array_equal(a.reconstruct(x), b.reconstruct(x))


@pytest.mark.parametrize("changes", [{"samples": 2}, {"k": 3}, {"kl": "monte-carlo", "free_bits": 0.1}])
@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_a_seed_repeats_everything(arch, changes):
    def run() -> list[np.ndarray]:
        manual_seed(3)
        model = models.vae((1, 8, 8), arch, (6,), (3,) if arch == "conv" else None, latent=2, **changes)
        x, optimizer = images(4, (1, 8, 8)), optim.Adam(model.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            model.loss(x).total.backward()
            optimizer.step()
        return [*model.state_dict().values(), model.sample(2), model.nll_bound(x, 2)]

    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)


# what cannot work


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"samples": 0}, "samples 0"),
        ({"k": -1}, "k -1"),
        ({"latent": 0}, "latent 0"),
        ({"beta": -1.0}, "beta -1"),
        ({"beta": math.nan}, "beta nan"),
        ({"free_bits": math.inf}, "free_bits inf"),
        ({"capacity": -2.0}, "capacity -2"),
        ({"kl": "exact"}, "'exact': choose analytic or monte-carlo"),
        ({"free_bits": 0.1, "capacity": 0.0}, "choose one"),
        ({"k": 2, "beta": 4.0}, "k = 2.*beta"),
        ({"k": 2, "free_bits": 1.0}, "k = 2.*free_bits"),
        ({"k": 2, "capacity": 0.0}, "k = 2.*capacity"),
        ({"arch": "transformer"}, "'transformer': choose dense or conv"),
        ({"likelihood": "poisson"}, "'poisson'"),
        ({"variance": 0.5}, "not to bernoulli"),
        ({"activation": "swish"}, "'swish'"),
    ],
)
def test_arguments_that_cannot_work(arguments, match):
    with pytest.raises(InputError, match=match):
        models.vae(**{"shape": SHAPE} | arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vae", {"latent": 3}), ("vae", {"latent": 3, "flow": "planar", "depth": 2}),
        ("vae", {"latent": 3, "flow": "iaf", "depth": 2}), ("beta-tcvae", {"latent": 3}), ("factorvae", {"latent": 3}),
        ("hvae", {"latents": (3, 2)}), ("vaegan", {"latent": 3}), ("completion", {"latent": 3}),
        ("cvae", {"latent": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beyond", [200.0, -200.0])
def test_no_log_variance_of_any_model_overflows(name, arguments, beyond):
    """e^200 is infinite in float32, e^-200 is 0."""
    manual_seed(0)
    model = models.build(name, shape=(1, 8, 8), hidden=(6,), **arguments)
    networks = [model.encoder] if name != "hvae" else [*model.heads, *model.priors]
    if name == "completion":
        networks.append(model.prior)
    for network in networks:
        bias = [part for part in network.modules() if isinstance(part, nn.Linear)][-1].bias
        latent = len(bias) // (3 if "flow" in arguments else 2)
        bias.data[latent : 2 * latent] = beyond
    x = images(4, (1, 8, 8))
    loss = model.loss(Labelled(x, np.arange(4)) if name == "cvae" else x, np.random.default_rng(0))
    assert all(np.isfinite(term.data) for term in [loss.total, *loss.terms.values()])
    loss.total.backward()
    assert all(np.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
