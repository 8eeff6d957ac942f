"""The VQ-VAE-2: one level is the VQ-VAE; several levels, their codes and the prior of all of them."""

import numpy
import pytest
from anywhere import host, np

from minivae import InputError, manual_seed, models
from minivae.data import Dataset, Split
from minivae.models import Prior, vqvae, vqvae2
from minivae.train import Options, Trainer

SHAPE = (1, 16, 16)
SMALL = {"codes": 8, "dim": 4, "channels": (4, 8)}


def images(n, seed=0):
    """Squares of 4x4 pixels, dark or bright."""
    cells = np.random.default_rng(seed).integers(0, 2, (n, 1, 4, 4))
    return np.kron(cells, np.ones((4, 4))).astype(np.float32)


def built(**options):
    manual_seed(0)
    return vqvae2(SHAPE, **SMALL | options)


def begun(model, x):
    """A model whose codebooks have begun with the data, in evaluation."""
    model.loss(x, np.random.default_rng(0))
    return model.eval()


@pytest.mark.parametrize("blocks", [0, 2])
def test_one_level_is_the_vqvae(blocks):
    manual_seed(1)
    one, other = vqvae(SHAPE, **SMALL, residual_blocks=blocks), built(depth=1, residual_blocks=blocks)
    names = dict(other.named_tensors())
    network = [t for n, t in names.items() if "quantizer" not in n]
    state = [t for n, t in names.items() if "quantizer" in n]
    quantizers = [t for n, t in one.named_tensors() if n.startswith("quantizer")]
    plain = [t for n, t in one.named_tensors() if not n.startswith("quantizer")]
    for mine, given in [*zip(network, plain, strict=True), *zip(state, quantizers, strict=True)]:
        assert mine.shape == given.shape
        mine.data[...] = given.data
    x = images(12)
    for _ in range(3):  # in training: the codebook begins, and follows
        a, b = (m.loss(x, np.random.default_rng(0)) for m in (one, other))
        assert b.total.item() == a.total.item()
        for name, term in a.terms.items():
            assert b.terms[name].item() == term.item()
    a.total.backward()
    b.total.backward()
    for mine, given in zip(network, plain, strict=True):
        np.testing.assert_array_equal(mine.grad, given.grad)
    assert (other.eval().encode(x) == one.eval().encode(x).reshape(12, -1)).all()
    np.testing.assert_array_equal(other.reconstruct(x), one.reconstruct(x))


def test_the_loss_is_that_of_the_reconstruction_and_of_every_level():
    x = images(10)
    model = begun(built(data_variance=0.3), x)
    loss = model.loss(x)
    error = ((model.reconstruct(x) - x) ** 2).mean() / 0.3  # encoding and decoding do what the loss does
    assert loss.terms["reconstruction"].item() == pytest.approx(error, rel=1e-5)
    model.statistics()  # begins to count
    model.loss(x)
    counted = model.statistics()
    expected = 0.25 * (counted["distortion_1"] + counted["distortion_2"])
    assert loss.terms["commitment"].item() == pytest.approx(expected, rel=1e-5)
    assert loss.total.item() == pytest.approx(sum(term.item() for term in loss.terms.values()), rel=1e-6)


@pytest.mark.parametrize("depth, maps", [(1, [(4, 4)]), (2, [(4, 4), (8, 8)])])
def test_the_maps_of_the_levels(depth, maps):
    model = begun(built(depth=depth), images(8))
    codes = model.encode(images(5))
    assert model.maps == maps
    assert codes.shape == (5, sum(h * w for h, w in maps)) and codes.dtype.kind == "i"
    assert [part.shape[1:] for part in model.split(codes)] == maps
    assert model.decode(codes).shape == (5, *SHAPE)
    model.loss(images(5))
    assert set(model.statistics()) >= {f"perplexity_{i + 1}" for i in range(depth)}


def test_three_levels_learn_and_every_parameter_has_a_gradient():
    manual_seed(0)
    model = vqvae2(SHAPE, codes=8, dim=4, channels=(4, 8, 8), depth=3)
    loss = model.loss(images(20), np.random.default_rng(0))
    loss.total.backward()
    assert all(p.grad is not None and abs(p.grad).max() > 0 for p in model.parameters())
    assert model.maps == [(2, 2), (4, 4), (8, 8)] and model.codes == [8, 8, 8]


def test_arguments_that_are_none():
    with pytest.raises(InputError, match="3 levels need as many channels"):
        built(depth=3)
    with pytest.raises(InputError, match="cannot be halved 2 times"):
        vqvae2((1, 14, 14))
    with pytest.raises(InputError, match="variance 0"):
        built(data_variance=0)
    model = begun(built(), images(8))
    with pytest.raises(InputError, match="codes of shape \\(2, 5\\) are not of maps"):
        model.decode(np.zeros((2, 5), dtype=int))


# the prior


def dataset(n=240):
    x = (host(images(n)) * 255).astype(numpy.uint8)
    labels = (x[:, 0, 0, 0] // 255).astype(numpy.int64)
    return Dataset("squares", Split(x[:-40], labels[:-40]), Split(x[-40:], labels[-40:]), ("dark", "bright"))


def trained(build, **options):
    manual_seed(0)
    model = build(SHAPE, **SMALL | options)
    Trainer(model, dataset(), Options(epochs=3, batch_size=20, lr=5e-3)).run()
    return model.eval()


@pytest.mark.parametrize("build", [vqvae, vqvae2])
def test_a_prior_learns_the_codes_and_leaves_the_codec_as_it_is(build):
    codec = trained(build)
    before = codec.state_dict()
    prior = Prior(codec, SHAPE, width=8, layers=3, kernel=3, classes=2)
    assert all(name.startswith("networks") for name, _ in prior.named_parameters())
    examples = prior.examples(dataset())
    codes = codec.encode(np.array(dataset().test.images.astype(np.float32) / 255)).reshape(40, -1)
    labels = examples.test.images[:, 0]
    assert (examples.test.images[:, 1:] == host(codes)).all() and (labels == dataset().test.labels).all()
    trainer = Trainer(prior, examples, Options(epochs=2, batch_size=20, lr=5e-3))
    trainer.run()
    first, last = trainer.history[0]["train_loss"], trainer.history[-1]["train_loss"]
    assert last < 0.9 * first
    for name, a in codec.state_dict().items():
        np.testing.assert_array_equal(a, before[name], err_msg=name)
    loss = prior.loss(np.array(examples.test.images))
    nll = prior.nll(codes, np.array(labels))
    assert loss.total.item() == pytest.approx(float(nll.mean()), rel=1e-5)
    assert loss.terms["nats_per_code"].item() == pytest.approx(float(nll.mean()) / codes.shape[1], rel=1e-5)
    assert prior.sample(3, np.random.default_rng(0), np.array([1, 1, 0])).shape == (3, *SHAPE)


def test_the_bottom_hears_the_top():
    """Another code at the top changes what is said of every place of the bottom that it stands over."""
    prior = Prior(begun(built(), images(8)), SHAPE, width=6, layers=3, kernel=3)
    codes = np.random.default_rng(0).integers(0, 8, (1, 80))
    other = codes.copy()
    other[0, 5] = (other[0, 5] + 1) % 8
    before, after = (prior._nll(c, None)[1].data[0] for c in (codes, other))
    assert (before != after)[2:4, 2:4].all()  # place 5 of the 4x4 top is (1, 1)


def test_a_prior_takes_the_classes_of_its_data():
    prior = Prior(trained(vqvae), SHAPE, 4, 2, 3, classes=3)
    with pytest.raises(InputError, match="has 2 classes, not the 3"):
        prior.examples(dataset())
    plain = Prior(trained(vqvae), SHAPE, 4, 2, 3)
    with pytest.raises(InputError, match="was not told classes"):
        plain.sample(2, None, np.array([0, 1]))
    with pytest.raises(InputError, match="has no codes"):
        Prior(models.vae(SHAPE, hidden=(4,)), SHAPE, 4, 2, 3)
