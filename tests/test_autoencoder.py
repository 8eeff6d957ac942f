"""The autoencoder: its loss by hand, masks, PCA as its linear form, denoising, and greedy stacking."""

import math

import pytest
from anywhere import np, on_backend
from scipy import stats

from minivae import InputError, Tensor, manual_seed, models, nn, optim
from minivae.models.likelihood import Bernoulli, Gaussian, SquaredError

stats = on_backend(stats)

SHAPE = (1, 8, 8)
HIDING = ["central", "block", "region"]


def images(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def small(seed: int = 0, **arguments: object) -> models.Autoencoder:
    manual_seed(seed)
    return models.autoencoder(**{"shape": SHAPE, "hidden": (6,), "latent": 3} | arguments)


def train(model: models.Autoencoder, x: np.ndarray, steps: int = 200, lr: float = 1e-2) -> None:
    optimizer, generator = optim.Adam(model.parameters(), lr=lr), rng(7)
    schedule = optim.cosine(steps)
    for step in range(steps):
        optimizer.lr = lr * schedule(step)
        optimizer.zero_grad()
        model.loss(x, generator).total.backward()
        optimizer.step()


# the loss


@pytest.mark.parametrize("name", ["squared-error", "bernoulli", "gaussian", "logistic"])
def test_the_loss_is_the_mean_over_images_of_the_sum_over_pixels(name):
    model, x = small(likelihood=name), images(5, (3, 8, 8))
    model = small(likelihood=name, shape=(3, 8, 8))
    output = model.decoder(model.encoder(Tensor(x)))
    loss = model.loss(x)
    assert loss.total.shape == () and loss.total.dtype == np.float32
    assert list(loss.terms) == ["reconstruction"]
    assert loss.terms["reconstruction"].item() == loss.total.item()
    each = model.likelihood.nll(output, Tensor(x), axis=()).data
    assert loss.total.item() == pytest.approx(each.sum() / 5, rel=1e-5)
    if name == "squared-error":
        assert loss.total.item() == pytest.approx(((x - output.data) ** 2).sum() / 5, rel=1e-5)
    np.testing.assert_allclose(model.scores(x)["reconstruction"].mean(), loss.total.item(), rtol=1e-5)


@pytest.mark.parametrize("name", ["masking", "gaussian", "salt-and-pepper"])
def test_a_denoiser_sees_noise_and_is_judged_by_the_clean_image(name):
    model, x = small(corruption=name), images(6)
    seen, where = model.corrupt(x, rng())
    assert where is None and not np.array_equal(seen, x)
    expected = ((model.decoder(model.encoder(Tensor(seen))).data - x) ** 2).sum() / 6
    assert model.loss(x, rng()).total.item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(model.encode(x), model.encoder(Tensor(x)).numpy())  # in use nothing is corrupted
    first, second = (model.loss(x, generator).total.item() for generator in [rng()] for _ in range(2))
    assert first != second  # new noise each time


@pytest.mark.parametrize("likelihood", ["squared-error", "bernoulli", "logistic"])
@pytest.mark.parametrize("name", HIDING)
def test_the_error_counts_in_the_hole_alone(name, likelihood):
    model, x = small(corruption=name, likelihood=likelihood, shape=(2, 8, 8)), images(6, (2, 8, 8))
    seen, where = model.corrupt(x, rng())
    leaf = []

    def keep(output: Tensor) -> Tensor:
        leaf.append(Tensor(output.data, requires_grad=True))
        return leaf[0]

    output = model.decoder(model.encoder(Tensor(seen)))
    each = model.likelihood.nll(output, Tensor(x), axis=()).data
    model.decoder.layers.append(keep)
    loss = model.loss(x, rng())
    assert loss.total.item() == pytest.approx((each * where).sum() / 6, rel=1e-5)
    loss.total.backward()
    gradient = leaf[0].grad
    hole = np.broadcast_to(where == 1, gradient.shape)
    assert hole.any() and not hole.all()
    assert (gradient[~hole] == 0).all()
    assert (gradient[hole] != 0).mean() > 0.9


def test_without_a_generator_the_noise_is_the_seeded_one():
    model, x = small(corruption="gaussian"), images(4)
    manual_seed(5)
    first = model.loss(x).total.item()
    assert model.loss(x).total.item() != first
    manual_seed(5)
    assert model.loss(x).total.item() == first


# every architecture and shape

SHAPES = [(1, 28, 28), (3, 32, 32), (2, 64, 64), (1, 28, 20), (4, 8, 12)]


@pytest.mark.parametrize("arch", ["dense", "conv"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("likelihood", "corruption"), [("squared-error", None), ("bernoulli", "block"), ("logistic", "gaussian")]
)
def test_shapes(arch, shape, likelihood, corruption):
    model = small(
        shape=shape, arch=arch, channels=(3, 4) if arch == "conv" else None, likelihood=likelihood,
        corruption=corruption,
    )  # fmt: skip
    x = images(2, shape)
    z = model.encode(x)
    assert z.shape == (2, 3) and z.dtype == np.float32
    for lead in [(), (0,), (2,), (2, 3)]:
        means = model.decode(np.ones((*lead, 3), np.float32))
        assert means.shape == (*lead, *shape) and means.dtype == np.float32
    back = model.reconstruct(x)
    np.testing.assert_array_equal(back, model.decode(z))
    if likelihood != "squared-error":
        assert back.min() >= 0 and back.max() <= 1
    loss = model.loss(x)
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    assert all(p.grad.dtype == np.float32 for p in model.parameters())
    other = small(
        seed=9, shape=shape, arch=arch, channels=(3, 4) if arch == "conv" else None, likelihood=likelihood
    )  # fmt: skip
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.reconstruct(x), back)


def test_word_counts():
    counts = np.random.default_rng(0).poisson(3.0, (5, 30)).astype(np.float32)
    counts[0, 0] = 1e4  # a common word
    model = small(shape=(30,), likelihood="multinomial")
    np.testing.assert_array_equal(
        model.encode(counts), nn.Sequential(*model.encoder.layers[1:])(Tensor(np.log1p(counts))).numpy()
    )
    logits = model.decoder(Tensor(model.encode(counts))).data.astype(np.float64)
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    assert model.loss(counts).total.item() == pytest.approx(-(counts * log_p).sum(1).mean(), rel=1e-5)
    np.testing.assert_allclose(model.reconstruct(counts).sum(1), 1, rtol=1e-5)
    noisy = small(shape=(30,), likelihood="multinomial", corruption="masking")
    assert math.isfinite(noisy.loss(counts).total.item())
    with pytest.raises(InputError, match="Multinomial"):
        model.loss(-counts)
    with pytest.raises(InputError, match="word counts"):
        small(likelihood="multinomial").loss(images(2))
    with pytest.raises(InputError, match="give corruption masking"):
        small(shape=(30,), likelihood="multinomial", corruption="block").loss(counts)


@pytest.mark.parametrize("corruption", [None, "gaussian"])
def test_images_of_another_shape_are_not_taken_for_those_of_the_model(corruption):
    model = small(corruption=corruption)
    for x in (images(3, (8, 8)), images(3, (64,)), images(3, (1, 4, 16))):
        with pytest.raises(InputError, match="shape of the data"):
            model.loss(x)
        with pytest.raises(InputError, match="shape of the data"):
            model.scores(x)


@pytest.mark.parametrize("name", ["bernoulli", "logistic"])
def test_pixels_out_of_range(name):
    with pytest.raises(InputError, match=r"\[0, 1\].*another likelihood"):
        small(likelihood=name).loss(255 * images(2))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"latent": 0}, "latent 0"),
        ({"hidden": (4, 0)}, "hidden"),
        ({"arch": "conv", "channels": (0,)}, "channels"),
        ({"shape": (1, 0, 8)}, "shape"),
        ({"arch": "linear"}, "'linear'"),
        ({"likelihood": "l1"}, "'l1'"),
        ({"corruption": "blur"}, "'blur'"),
        ({"corruption": "block", "level": 2.0}, "2.0"),
        ({"level": 0.3}, "level 0.3"),
        ({"arch": "conv", "shape": (1, 7, 8)}, "7x8"),
        ({"arch": "conv", "shape": (30,)}, "dense"),
    ],
)
def test_arguments_that_cannot_work(arguments, match):
    with pytest.raises(InputError, match=match):
        small(**arguments)


# linear: principal components


def test_the_linear_autoencoder_is_pca():
    generator = rng(0)
    x = generator.standard_normal((400, 3)) @ generator.standard_normal((3, 12)) + 0.3 * generator.standard_normal(
        (400, 12)
    )
    x = (x + generator.standard_normal(12)).astype(np.float32)
    manual_seed(0)
    model = models.build("linear-ae", shape=(12,), latent=3)
    assert len(model.parameters()) == 4  # two layers with biases and nothing else
    train(model, x, steps=800, lr=2e-2)
    centred = x - x.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    best = (values[3:] ** 2).sum() / 400
    error = model.loss(x).total.item()
    assert best * (1 - 1e-4) < error < best * 1.01
    found, _ = np.linalg.qr(model.decoder[0].weight.data)
    cosines = np.linalg.svd(found.T @ directions[:3].T)[1]
    assert np.degrees(np.arccos(min(cosines.min(), 1))) < 1


def test_the_presets_are_the_kinds():
    manual_seed(0)
    ae, linear, dae, context = (models.build(name, shape=SHAPE) for name in ("ae", "linear-ae", "dae", "context"))
    assert [layer.shape for layer in linear.parameters()] == [(30, 64), (30,), (64, 30), (64,)]
    assert ae.corruption is None and linear.corruption is None
    x = images(3)
    assert ae.corrupt(x)[0] is x
    assert dae.corrupt(x)[1] is None
    assert context.corrupt(x)[1].shape == (3, 1, 8, 8)


def test_a_denoiser_learns_to_denoise():
    """Stripes under noise: its error is far below that of the noise, and below that of one trained without noise."""
    x = np.zeros((64, *SHAPE), np.float32)
    x[np.arange(64), 0, np.arange(64) % 8] = 1
    models_ = {name: small(hidden=(32,), latent=8, corruption=name) for name in (None, "gaussian")}
    for model in models_.values():
        train(model, x, steps=300)
    noisy, _ = models_["gaussian"].corrupt(x, rng(99))
    errors = {name: ((model.reconstruct(noisy) - x) ** 2).sum() / 64 for name, model in models_.items()}
    of_noise = ((noisy - x) ** 2).sum() / 64
    assert errors["gaussian"] < 0.5 * errors[None]
    assert errors["gaussian"] < 0.2 * of_noise


# stacking


def layers(likelihood: object = None) -> list[models.Autoencoder]:
    manual_seed(0)
    sizes = [(64, 10), (10, 6), (6, 2)]
    first = models.Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Sigmoid()),
        nn.Sequential(nn.Linear(10, 64), nn.Unflatten(SHAPE)),
        likelihood=Bernoulli(),
    )
    inner = [
        models.Autoencoder(nn.Sequential(nn.Linear(n, m), nn.Sigmoid()), nn.Linear(m, n), likelihood=likelihood)
        for n, m in sizes[1:]
    ]
    return [first, *inner]


def test_a_stack_is_the_composition_of_its_layers_and_shares_their_parameters():
    parts, x = layers(), images(5)
    deep = models.stack(parts, x, lambda layer, data: None)
    z = parts[2].encode(parts[1].encode(parts[0].encode(x)))
    np.testing.assert_array_equal(deep.encode(x), z)
    np.testing.assert_array_equal(deep.decode(z), parts[0].decode(parts[1].decode(parts[2].decode(z))))
    assert deep.likelihood is parts[0].likelihood
    assert deep.reconstruct(x).shape == x.shape
    theirs = {id(p) for part in parts for p in part.parameters()}
    assert {id(p) for p in deep.parameters()} == theirs
    optimizer = optim.SGD(deep.parameters(), lr=0.1)
    before = [p.data.copy() for part in parts for p in part.parameters()]
    deep.loss(x).total.backward()
    optimizer.step()
    assert all((a != p.data).any() for a, p in zip(before, [p for q in parts for p in q.parameters()], strict=True))


def test_a_stack_of_layers_whose_outputs_are_not_their_means():
    """An inner layer of a Bernoulli or a Gaussian with its own variances: its mean goes to the layer outside of it."""
    for p, channels in ((Bernoulli(), 1), (Gaussian("pixel"), 2)):
        parts = layers()[:1]
        parts.append(models.Autoencoder(nn.Linear(10, 4), nn.Linear(4, 10 * channels), likelihood=p))
        z = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        deep = models.stack(parts, images(5), lambda layer, data: None)
        np.testing.assert_allclose(deep.decode(z), parts[0].decode(parts[1].decode(z)), rtol=1e-6)
        deep.loss(images(5)).total.backward()
        assert all(
            np.abs(q.grad).max() > 0 for part in parts for q in [*part.encoder.parameters(), *part.decoder.parameters()]
        )


def test_layers_are_trained_from_the_data_inwards_each_on_the_codes_below():
    parts, x, seen = layers(), images(2300), []

    def fit(layer: models.Autoencoder, data: np.ndarray) -> None:
        seen.append((layer, data))
        layer.encoder.layers[-2].bias.data += 0.1 * len(seen)  # training changes what the next layer is given

    models.stack(parts, x, fit)
    assert [layer for layer, _ in seen] == parts
    assert seen[0][1] is x
    np.testing.assert_allclose(seen[1][1], parts[0].encode(x), rtol=1e-5)
    np.testing.assert_allclose(seen[2][1], parts[1].encode(parts[0].encode(x)), rtol=1e-5)
    assert seen[2][1].shape == (2300, 6)


def test_greedy_training_then_joint_training_helps():
    x = np.random.default_rng(0).standard_normal((300, 2)) @ np.random.default_rng(1).standard_normal((2, 64))
    x = stats.norm.cdf(x).astype(np.float32).reshape(300, *SHAPE)
    parts = layers()
    untrained = models.stack(layers(), x, lambda layer, data: None).loss(x).total.item()
    deep = models.stack(parts, x, lambda layer, data: train(layer, data, steps=150, lr=3e-2))
    greedy = deep.loss(x).total.item()
    train(deep, x, steps=150)
    joint = deep.loss(x).total.item()
    assert joint < greedy < untrained


def test_a_stack_of_nothing():
    with pytest.raises(InputError, match="at least one"):
        models.stack([], images(2), train)


def test_the_default_likelihood():
    assert isinstance(models.Autoencoder(nn.Linear(3, 1), nn.Linear(1, 3)).likelihood, SquaredError)
