"""The VQ-VAE: its loss and gradients as the paper defines them, codebooks that follow, start and revive, FSQ, use."""

import math

import pytest
from anywhere import np
from hypothesis import given
from hypothesis import strategies as st

from minivae import InputError, Tensor, gradcheck, manual_seed, models, nn, no_grad, ops, optim
from minivae.models.fsq import FSQ
from minivae.models.quantizer import VectorQuantizer
from minivae.models.vqvae import VQVAE, vqvae

SHAPE = (1, 8, 8)


def normal(*shape: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def images(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def quantizer(codebook: np.ndarray, count: float = 1.0, **options) -> VectorQuantizer:
    """One that has started, with this codebook, each code with this count; no restarts by default."""
    q = VectorQuantizer(*codebook.shape, **{"restart": 0} | options)
    q.codebook = type(q.codebook)(np.array(codebook))
    q.counts.data[...] = count
    q.initialised.data[...] = True
    if q.decay is not None:
        q.sums = nn.Buffer(count * codebook)
    return q


class Maps(nn.Module):
    """Images (N, C, H, W) as maps, and linear in each place: (N, D, H, W) for a weight (D, C)."""

    def __init__(self, weight: np.ndarray):
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return ops.einsum("nchw,dc->ndhw", x, self.weight)


def small(quantizer: nn.Module, channels: int = 3, **options) -> VQVAE:
    weight = normal(quantizer.dim, channels, seed=8, dtype=np.float64)
    return VQVAE(Maps(weight), Maps(weight.T.copy()), quantizer, **options)


def rows(z: np.ndarray) -> np.ndarray:
    """(N, D, ...) -> (M, D)."""
    return np.moveaxis(z, 1, -1).reshape(-1, z.shape[1])


# the loss and its gradients


def twin(model: VQVAE, x: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss as the paper writes it, of sums, squares and stopped gradients; the parts of z stand still in sg."""
    z = model.encoder(Tensor(x)).transpose((0, 2, 3, 1)).reshape((-1, model.quantizer.dim))
    e = model.quantizer.codebook
    i = ((z.data[:, None] - e.data) ** 2).sum(-1).argmin(1)
    chosen = e[i]
    through = z + (chosen - z).detach()
    n, _, h, w = x.shape
    restored = model.decoder(through.reshape((n, h, w, -1)).transpose((0, 3, 1, 2)))
    terms = {
        "reconstruction": ((restored - x) ** 2).mean() / model.variance,
        "codebook": ((z.detach() - chosen) ** 2).mean(),
        "commitment": ((z - chosen.detach()) ** 2).mean() * model.quantizer.commitment,
    }
    return terms["reconstruction"] + terms["codebook"] + terms["commitment"], terms


def gradients(model: VQVAE, total: Tensor) -> dict[str, np.ndarray]:
    for p in model.parameters():
        p.grad = None
    total.backward()
    return {name: p.grad.copy() for name, p in model.named_parameters()}


@pytest.mark.parametrize("commitment", [0.25, 2.0])
def test_the_loss_is_its_composed_twin(commitment):
    codebook = normal(5, 2, dtype=np.float64)
    model = small(quantizer(codebook, decay=None, commitment=commitment), variance=0.07)
    x = normal(4, 3, 2, 3, seed=1, dtype=np.float64)
    loss = model.loss(x)
    mine = gradients(model, loss.total)
    total, terms = twin(model, x)
    expected = gradients(model, total)
    assert list(loss.terms) == list(terms)
    for name, term in terms.items():
        assert loss.terms[name].shape == ()
        assert loss.terms[name].item() == pytest.approx(term.item(), rel=1e-12)
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-12)
    assert list(mine) == ["encoder.weight", "decoder.weight", "quantizer.codebook"]
    for name, g in mine.items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-10, atol=1e-12, err_msg=name)


def test_the_gradient_is_that_of_the_loss_with_everything_stopped_held():
    """Hold the indices, e - z and both sg[.] where they are: what remains is differentiable, by finite differences."""
    model = small(quantizer(normal(4, 2, dtype=np.float64), decay=None))
    x = normal(3, 3, 1, 2, seed=1, dtype=np.float64)
    z0, e0 = rows(model.encoder(Tensor(x)).data), model.quantizer.codebook.data.copy()
    i = ((z0[:, None] - e0) ** 2).sum(-1).argmin(1)

    def held(encoder: Tensor, decoder: Tensor, codebook: Tensor) -> Tensor:
        z = ops.einsum("nchw,dc->nhwd", x, encoder)
        restored = ops.einsum("nhwd,cd->nchw", z + (e0[i] - z0).reshape(z.shape), decoder)
        z = z.reshape((-1, 2))
        return ops.mse_loss(restored, x) + ops.mse_loss(codebook[i], z0) + 0.25 * ops.mse_loss(z, e0[i])

    values = [p.data for p in model.parameters()]
    gradcheck(held, values)
    leaves = [Tensor(v, requires_grad=True) for v in values]
    held(*leaves).backward()
    for leaf, g in zip(leaves, gradients(model, model.loss(x).total).values(), strict=True):
        np.testing.assert_allclose(g, leaf.grad, rtol=1e-10, atol=1e-12)


def test_the_rotation_trick_reaches_the_encoder():
    codebook = normal(5, 2, dtype=np.float64)
    x = normal(4, 3, 2, 3, seed=1, dtype=np.float64)
    grads = [
        gradients(model, model.loss(x).total)
        for model in (small(quantizer(codebook, decay=None, estimator=how)) for how in ("straight-through", "rotation"))
    ]
    for name in ("decoder.weight", "quantizer.codebook"):
        np.testing.assert_array_equal(grads[0][name], grads[1][name])
    assert not np.allclose(grads[0]["encoder.weight"], grads[1]["encoder.weight"], rtol=0.1)


@pytest.mark.parametrize("n", [1, 5])
def test_terms_are_means_over_the_batch(n):
    """A batch of n equal images costs what one of them costs."""
    x = np.repeat(normal(1, 3, 2, 2, dtype=np.float64), n, axis=0)
    model = small(quantizer(normal(4, 2, seed=3, dtype=np.float64), decay=None), variance=0.5)
    z = rows(model.encoder(Tensor(x[:1])).data)
    e = model.quantizer.codebook.data[model.quantizer.assign(z)]
    terms = model.loss(x).terms
    assert terms["codebook"].item() == pytest.approx(((z - e) ** 2).sum() / z.size)
    assert terms["commitment"].item() == pytest.approx(0.25 * ((z - e) ** 2).sum() / z.size)


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 3), (4, 2, 3, 5), (0, 2, 3, 3)])
def test_maps_of_any_axes(shape):
    codebook = normal(6, 2)
    q = quantizer(codebook).eval()
    z = normal(*shape, seed=4)
    with no_grad():
        if not z.size:
            np.testing.assert_array_equal(q.encode(z), np.zeros((0, 3, 3)))
            return
        values, indices, _ = q(Tensor(z))
    assert values.shape == shape and indices.shape == (shape[0], *shape[2:])
    np.testing.assert_array_equal(indices, q.encode(z))
    np.testing.assert_array_equal(values.data, q.lookup(indices))
    np.testing.assert_array_equal(np.moveaxis(values.data, 1, -1), codebook[indices])
    distances = ((np.moveaxis(z, 1, -1)[..., None, :] - codebook) ** 2).sum(-1)
    np.testing.assert_array_equal(indices, distances.argmin(-1))


# the codebook of running means


def test_running_means_in_closed_form():
    """One dimension, two codes, batches of two vectors each: N, m and e by hand."""
    q = quantizer(np.array([[0.0], [10.0]], np.float32), count=2.0, decay=0.5)
    q(Tensor(np.array([[1.0], [11.0], [12.0]], np.float32)))
    np.testing.assert_allclose(q.counts.data, [0.5 * 2 + 0.5 * 1, 0.5 * 2 + 0.5 * 2])
    np.testing.assert_allclose(q.sums.data[:, 0], [0.5 * 1, 0.5 * 20 + 0.5 * 23])
    np.testing.assert_allclose(q.codebook.data[:, 0], [0.5 / 1.5, 21.5 / 2], rtol=1e-4)
    assert list(q(Tensor(np.zeros((1, 1), np.float32))).terms) == ["commitment"]
    assert q.parameters() == []  # no gradient moves it


def test_after_many_equal_batches_a_code_is_the_mean_of_its_vectors():
    z = np.concatenate([normal(30, 2) * 0.1, normal(10, 2, seed=1) * 0.1 + 5])
    q = quantizer(np.array([[1.0, 1], [4, 4]], np.float32), decay=0.9)
    for _ in range(200):
        q(Tensor(z))
    np.testing.assert_allclose(q.codebook.data, [z[:30].mean(0), z[30:].mean(0)], atol=1e-5)
    np.testing.assert_allclose(q.counts.data, [30, 10], rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_a_code_that_gets_no_vector_stays_where_it_is(decay):
    """For as long as its count takes to underflow to 0, where m / N would be 0 / 0."""
    lonely = np.array([[100.0, -50.0]], np.float32)
    q = quantizer(np.concatenate([np.zeros((1, 2), np.float32), lonely]), decay=decay)
    z = Tensor(normal(20, 2))
    q.counts.data[1], q.sums.data[1] = 1e-30, 1e-30 * lonely[0]
    for _ in range(2000):
        q(z)
    assert q.counts.data[1] < 1e-30
    np.testing.assert_allclose(q.codebook.data[1:], lonely, rtol=1e-5)
    np.testing.assert_allclose(q.codebook.data[0], z.data.mean(0), atol=0.3)


# the start


def clouds(k: int, n: int, d: int = 2, seed: int = 0) -> np.ndarray:
    """Maps (n, d, k, 1): in each of k narrow clouds far apart, n vectors."""
    centres = 10 * normal(k, d, seed=99)
    return np.moveaxis((centres + 0.01 * normal(n, k, d, seed=seed))[:, :, None], -1, 1)


@pytest.mark.parametrize("decay", [None, 0.99])
def test_codes_start_as_the_clusters_of_the_first_training_batch(decay):
    q = VectorQuantizer(12, 2, decay=decay)
    before = q.codebook.data.copy()
    q.eval()(Tensor(clouds(12, 20)), rng())
    np.testing.assert_array_equal(q.codebook.data, before)  # an evaluation starts nothing
    assert not q.initialised.data
    loss = q.train()(Tensor(clouds(12, 20)), rng()).terms["commitment"]
    assert q.initialised.data
    assert loss.item() < 1e-3
    assert q.statistics()["code_use"] == 1
    started = q.codebook.data.copy()
    q(Tensor(clouds(12, 20, seed=1) + 1), rng())
    assert np.abs(q.codebook.data - started).max() < 0.02  # the second batch starts nothing again


def test_without_kmeans_codes_start_small_and_random():
    manual_seed(0)
    q = VectorQuantizer(8, 3, decay=None, kmeans=False, restart=0)
    before = q.codebook.data.copy()
    assert 0.1 < np.abs(before).max() <= 1 / 8 and len(np.unique(before)) == 24
    q(Tensor(normal(4, 3)))  # fewer vectors than codes are enough
    np.testing.assert_array_equal(q.codebook.data, before)


# codes that are not used


@pytest.mark.parametrize("decay", [None, 0.9])
def test_dead_codes_return(decay):
    """All but one of the codes are far from all data; each is drawn anew from the batch, in training only."""
    codebook = np.full((8, 2), 1e3, np.float32)
    codebook[0] = 0
    z = Tensor(normal(64, 2))
    q = quantizer(codebook, count=8.0, decay=decay, restart=0.03)
    q.eval()
    for _ in range(300):
        q(z)
    np.testing.assert_array_equal(q.codebook.data, codebook)
    assert q.statistics()["code_use"] == 1 / 8
    q.train()
    for _ in range(800):
        q(z, rng())
    assert np.abs(q.codebook.data).max() < 10
    q.statistics()
    q(z, rng())
    assert q.statistics()["code_use"] == 1
    assert (q.counts.data > 0.03 * q.counts.data.mean()).all()


def test_a_dead_code_goes_where_the_error_is():
    """Of two clouds, the far one has no code: it gets those that are dead."""
    z = np.concatenate([0.1 * normal(1000, 2), 0.1 * normal(20, 2, seed=1) + 9]).astype(np.float32)
    q = quantizer(np.array([[0, 0], [50, 50]], np.float32), restart=0.5, decay=0.0)
    q(Tensor(z), rng())
    np.testing.assert_allclose(q.codebook.data[1], [9, 9], atol=1)
    assert q.counts.data[1] == pytest.approx(1020 / 2)
    np.testing.assert_allclose(q.sums.data[1], 510 * q.codebook.data[1])


@pytest.mark.parametrize("decay", [None, 0.9])
def test_most_codes_are_used_where_a_plain_codebook_collapses(decay):
    def use(**options) -> float:
        manual_seed(0)
        q = VectorQuantizer(64, 4, decay=decay, **options)
        encoder = nn.Linear(6, 4)
        model = VQVAE(nn.Sequential(encoder), nn.Linear(4, 6), q)
        optimizer, draws = optim.Adam(model.parameters(), 1e-2), rng(1)
        x = normal(2000, 6) + 3
        for step in range(150):
            optimizer.zero_grad()
            model.loss(x[step % 10 :: 10], draws).total.backward()
            optimizer.step()
        model.eval().loss(x)
        return model.statistics()["code_use"]

    assert use(kmeans=False, restart=0) < 0.1  # measured 2 to 4 of the 64 codes
    assert use(kmeans=True, restart=0.03) > 0.95
    assert use(kmeans=False, restart=0.03) > 0.95


# the statistics


def test_perplexity_and_use_over_several_batches():
    """Four codes; batches use one each, so that a mean of the batches' perplexities would be 1."""
    codebook = np.array([[0.0], [10], [20], [30]], np.float32)
    q = quantizer(codebook, decay=None)
    for value, times in ((0.0, 4), (10.5, 2), (20.0, 2)):
        q(Tensor(np.full((times, 1), value, np.float32)))
    statistics = q.statistics()
    entropy = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    assert statistics == {
        "perplexity": pytest.approx(math.exp(entropy)),
        "code_use": 0.75,
        "distortion": pytest.approx(2 * 0.25 / 8),
    }
    assert all(type(value) is float for value in statistics.values())
    assert q.statistics() == {}  # it began anew
    q(Tensor(np.zeros((3, 1), np.float32)))
    assert q.statistics()["perplexity"] == 1


def test_the_distortion_is_a_mean_over_entries():
    q = quantizer(normal(5, 3), decay=None)
    z = normal(4, 3, 2, seed=1)
    codebook_term = q(Tensor(z)).terms["codebook"].item()
    assert q.statistics()["distortion"] == pytest.approx(codebook_term, rel=1e-6)


def test_counts_of_training_and_of_evaluation_do_not_mix():
    q = quantizer(np.array([[0.0], [10]], np.float32), decay=None)
    q(Tensor(np.zeros((5, 1), np.float32)))
    q.eval()
    assert q.statistics() == {}
    q(Tensor(np.array([[0.0], [10]], np.float32)))
    q.encode(Tensor(np.zeros((5, 1), np.float32)))  # counts for neither
    assert q.statistics()["perplexity"] == pytest.approx(2)
    assert q.train().statistics()["perplexity"] == 1


@pytest.mark.parametrize("kind", ["ema", "gradient", "fsq"])
def test_evaluation_changes_nothing(kind):
    manual_seed(0)
    model = vqvae(SHAPE, codes=6, dim=3, channels=(4,), quantizer=kind, levels=(3, 4), restart=0.9)
    model.loss(images(4), rng())
    model.eval()
    before = model.state_dict()
    loss = model.loss(images(9, seed=1), rng())
    model.encode(images(9, seed=1)), model.reconstruct(images(2))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert model.loss(images(9, seed=1), rng(7)).total.item() == loss.total.item()


# FSQ


def test_fsq_rounds_to_its_levels():
    q = FSQ((8, 5, 2))
    assert (q.codes, q.dim) == (80, 3)
    z = np.linspace(-9, 9, 2001, dtype=np.float32)
    values, _, terms = q(Tensor(np.stack([z] * 3, axis=1)))
    assert terms == {}
    for column, levels in zip(values.data.T, [np.arange(-4, 4) / 4, np.arange(-2, 3) / 2, [-1, 0]], strict=True):
        np.testing.assert_allclose(np.unique(column), levels)
        assert (np.diff(column) >= 0).all()
    far = q.bound(np.array([[-50.0] * 3, [50.0] * 3], np.float32)).data  # no further than the outer levels
    np.testing.assert_array_equal(far, [[-4, -2, -1], [3, 2, 0]])
    bounded = q.bound(np.zeros((1, 3), np.float32)).data[0]
    np.testing.assert_allclose(bounded, [0, 0, 0], atol=0.05)  # 0 stays 0: far from where it would round


def test_every_code_of_fsq_comes_back():
    q = FSQ((8, 5, 3, 2))
    indices = np.arange(q.codes).reshape(4, 6, 10)
    vectors = q.lookup(indices)
    assert vectors.shape == (4, 4, 6, 10) and vectors.dtype == np.float32
    assert len(np.unique(rows(vectors), axis=0)) == 240 and np.abs(vectors).max() == 1
    np.testing.assert_array_equal(vectors[0, :, 0, 1], [(1 - 4) / 4, -1, -1, -1])  # the first digit is the lowest
    half, width = np.array([4, 2, 1, 1]), np.array([7, 4, 2, 1]) / 2
    level = rows(vectors) * half
    offset, shift = np.array([0.5, 0, 0, 0.5]), np.tan(np.array([0.5, 0, 0, 0.5]) / width)
    z = np.arctanh(np.clip((level + offset) / width, -0.999, 0.999)) - shift  # what is bounded to the level
    np.testing.assert_array_equal(q.encode(z.astype(np.float32)), np.arange(240))
    values, again, _ = q(Tensor(z.astype(np.float32)))
    np.testing.assert_array_equal(values.data, rows(vectors))
    np.testing.assert_array_equal(again, np.arange(240))


def test_the_gradient_of_fsq_is_that_of_its_bound():
    q, g = FSQ((8, 5)), normal(6, 2, seed=1, dtype=np.float64)
    grads = []
    for fn in (lambda z: q(z).values, lambda z: q.bound(z) / np.array([4.0, 2.0])):
        z = Tensor(normal(6, 2, dtype=np.float64), requires_grad=True)
        fn(z).backward(g)
        grads.append(z.grad)
    np.testing.assert_allclose(grads[0], grads[1], rtol=1e-7)  # the widths are float32


# the model


@pytest.mark.parametrize("kind", ["ema", "gradient", "fsq"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 8)])
def test_shapes(kind, shape):
    model = models.build("vqvae", shape=shape, codes=10, dim=4, channels=(5, 6), quantizer=kind, residual_blocks=1)
    x = images(3, shape)
    indices = model.encode(x)
    assert indices.shape == (3, shape[1] // 4, shape[2] // 4) and indices.dtype == np.int64
    vectors = model.lookup(indices)
    assert vectors.shape == (3, 4, *indices.shape[1:])
    decoded = model.decode(indices)
    assert decoded.shape == x.shape and type(decoded) is np.ndarray and decoded.dtype == np.float32
    np.testing.assert_array_equal(model.reconstruct(x), decoded)
    loss = model.loss(x)
    loss.total.backward()
    names = {"ema": ["commitment"], "gradient": ["codebook", "commitment"], "fsq": []}
    assert list(loss.terms) == ["reconstruction", *names[kind]]
    assert loss.total.dtype == np.float32
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float32)}


def test_the_reconstruction_is_relative_to_the_variance():
    manual_seed(0)
    one, other = vqvae(SHAPE, channels=(4,), codes=5), vqvae(SHAPE, channels=(4,), codes=5, data_variance=0.04)
    other.load_state_dict(one.state_dict())
    x = images(5)
    a, b = (model.eval().loss(x).terms["reconstruction"].item() for model in (one, other))
    squares = (one.reconstruct(x) - x).astype(np.float64) ** 2
    assert a == pytest.approx(squares.mean(), rel=1e-5)
    assert b == pytest.approx(25 * a, rel=1e-5)
    scores = other.scores(x)["reconstruction"]
    np.testing.assert_allclose(scores, 25 * squares.mean((1, 2, 3)), rtol=1e-5)


def train(model: VQVAE, optimizer, draws, x: np.ndarray, steps: int, first: int = 0) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = model.loss(x[step % 4 :: 4], draws)
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    return losses


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_a_seed_repeats_everything_and_a_state_continues(kind):
    """Six steps, against three, a state handed to another model, and three: the same to the bit, restarts included."""

    def fresh(seed: int = 5):
        manual_seed(seed)
        model = vqvae(SHAPE, codes=12, dim=3, channels=(6,), quantizer=kind, decay=0.7, restart=0.5)
        return model, optim.Adam(model.parameters()), rng(3)

    x = images(32)
    model, optimizer, draws = fresh()
    losses = train(model, optimizer, draws, x, 6)
    first, first_optimizer, first_draws = fresh()
    start = train(first, first_optimizer, first_draws, x, 3)
    second, second_optimizer, _ = fresh(seed=77)
    second.load_state_dict(first.state_dict())
    second_optimizer.load_state_dict(first_optimizer.state_dict())
    assert start + train(second, second_optimizer, first_draws, x, 3, first=3) == losses
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], value, err_msg=name)
    names = {"codebook", "counts", "initialised"} | ({"sums"} if kind == "ema" else set())
    assert {n.removeprefix("quantizer.") for n in model.state_dict() if n.startswith("quantizer.")} == names


def test_an_untrained_state_starts_again():
    manual_seed(0)
    model = vqvae(SHAPE, codes=12, dim=3, channels=(6,))
    state = model.state_dict()
    once = [model.loss(images(8), rng()).total.item(), model.state_dict()]
    model.load_state_dict(state)
    again = [model.loss(images(8), rng()).total.item(), model.state_dict()]
    assert once[0] == again[0]
    np.testing.assert_array_equal(once[1]["quantizer.codebook"], again[1]["quantizer.codebook"])


def bars(n: int) -> np.ndarray:
    """Images of one lit row or column of each quarter: 4 places of 8 kinds."""
    draws, x = rng(), np.zeros((n, 1, 8, 8), np.float32)
    for image in x[:, 0]:
        for i in (0, 4):
            for j in (0, 4):
                quarter, line = image[i : i + 4, j : j + 4], draws.integers(4)
                (quarter if draws.random() < 0.5 else quarter.T)[line] = 1
    return x


@pytest.mark.parametrize(("kind", "error"), [("ema", 0.1), ("gradient", 0.1), ("fsq", 0.3)])
def test_it_learns_bars_by_codes(kind, error):
    manual_seed(1)
    x = bars(256)
    model = vqvae(SHAPE, 16, 4, (24, 24), quantizer=kind, levels=(5, 5, 5), data_variance=float(x.var()))
    losses = train(model, optim.Adam(model.parameters(), 5e-3), rng(1), x, 200)
    assert losses[0] > 0.9  # a constant image has 1
    model.eval()
    measured = model.loss(bars(64)).terms["reconstruction"].item()
    assert measured < error  # measured 0.01, 0.02, 0.15
    assert model.statistics()["perplexity"] > 7  # a place has 8 kinds of content


# bad input


@given(codes=st.integers(-2, 0), dim=st.integers(1, 3))
def test_codebooks_of_nothing(codes, dim):
    for sizes in ((codes, dim), (dim, codes)):
        with pytest.raises(InputError, match="must be at least 1"):
            VectorQuantizer(*sizes)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: VectorQuantizer(2, 2, decay=1.0), "decay 1.0 of the codebook .* from 0 to below 1"),
        (lambda: VectorQuantizer(2, 2, commitment=-1), "commitment -1 must be at least 0"),
        (lambda: VectorQuantizer(2, 2, restart=1.5), "restart 1.5"),
        (lambda: VectorQuantizer(2, 2, estimator="magic"), "unknown estimator 'magic': choose one of straight-through"),
        (lambda: FSQ(()), "levels .* of FSQ"),
        (lambda: FSQ((5, 1)), r"levels \[5, 1\] of FSQ: .* at least 2"),
        (lambda: vqvae(SHAPE, codes=0), "0 codes of dimension 16"),
        (lambda: vqvae(SHAPE, dim=0), "128 codes of dimension 0"),
        (lambda: vqvae(SHAPE, quantizer="pq"), "unknown quantizer 'pq': choose one of ema, gradient, fsq"),
        (lambda: vqvae(SHAPE, data_variance=0.0), "the pixels have variance 0.0"),
        (lambda: vqvae(SHAPE, data_variance=math.nan), "variance nan"),
        (lambda: vqvae((1, 6, 6)), "6x6"),
    ],
)
def test_arguments_that_cannot_work(build, sentence):
    with pytest.raises(InputError, match=sentence):
        build()


def test_more_codes_than_the_first_batch_has_vectors():
    with pytest.raises(InputError, match=r"128 codes .* \(8, 16\).* fewer codes or more vectors"):
        vqvae(SHAPE).loss(images(2))


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        (np.array([[0.0]]), InputError),
        (np.array(3), InputError),
        (np.array([[5]]), IndexError),
        (np.array([[-1]]), IndexError),
    ],
)
def test_codes_that_are_no_indices(indices, error):
    with pytest.raises(error, match=r"0 to 4"):
        quantizer(normal(5, 2)).lookup(indices)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2, 2)])
def test_vectors_of_another_dimension(shape):
    with pytest.raises(ValueError, match=r"VectorQuantizer: z of shape .* must be \(N, 2, ...\)"):
        quantizer(normal(5, 2))(Tensor(normal(*shape)))
