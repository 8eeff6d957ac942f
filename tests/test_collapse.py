"""A decoder over pixels sees only those before; inner steps of the encoder; the mutual information in closed form."""

import math

import numpy
import pytest
from anywhere import np

from minivae import InputError, Tensor, manual_seed, metrics, models
from minivae.data import Dataset, Split
from minivae.train import Options, Trainer

SHAPE = (1, 4, 4)


def small(**arguments) -> models.PixelVAE:
    manual_seed(0)
    return models.pixelvae(SHAPE, **{"hidden": (6,), "latent": 2, "width": 3, "layers": 2} | arguments)


def bits(n: int, shape=SHAPE) -> np.ndarray:
    return (np.random.default_rng(0).random((n, *shape)) < 0.5).astype(np.float32)


def data(n: int = 60) -> Dataset:
    split = Split((255 * numpy.random.default_rng(0).integers(0, 2, (n, *SHAPE))).astype(numpy.uint8))
    return Dataset("bits", split, split[:30])


def test_a_pixel_depends_on_those_before_it_and_on_the_code_alone():
    model = small()
    reaches = np.zeros(16, dtype=bool)
    for i in range(16):
        x = Tensor(bits(1), requires_grad=True)
        z = Tensor(np.ones((1, 2), dtype=np.float32), requires_grad=True)
        model.decoder(x, z).reshape((16,))[i].backward()
        seen = x.grad.reshape(16) != 0
        assert not seen[i:].any()
        assert (z.grad != 0).all()
        reaches[i] = seen[:i].any()
    assert reaches[1:].all()


def test_the_probabilities_of_all_images_sum_to_one():
    manual_seed(0)
    model = models.pixelvae((1, 3, 3), hidden=(4,), latent=2, width=3, layers=1)
    every = np.asarray(numpy.array([[b >> i & 1 for i in range(9)] for b in range(512)], numpy.float32))
    z = Tensor(np.full((512, 2), 0.7, dtype=np.float32))
    log_p = -model.nll(z, every.reshape(512, 1, 3, 3)).data
    assert float(np.exp(log_p).sum()) == pytest.approx(1, rel=1e-5)


def test_each_code_of_several_explains_its_own_image():
    model, x = small(), bits(3)
    z = np.random.default_rng(1).standard_normal((4, 3, 2)).astype(np.float32)
    together = model.nll(Tensor(z), x).data
    apart = np.stack([model.nll(Tensor(one), x).data for one in z])
    np.testing.assert_allclose(together, apart, rtol=1e-5)
    assert model.nll_bound(x, 5, np.random.default_rng(0)).shape == (3,)


def test_samples_are_drawn_with_the_probabilities_of_the_pixels():
    model = small()
    codes = np.zeros((3000, 2), dtype=np.float32)
    drawn = model.decode(codes, np.random.default_rng(0))
    first = model.decoder(Tensor(drawn[:1] * 0), Tensor(codes[:1])).data.reshape(16)[0]
    p = 1 / (1 + math.exp(-float(first)))
    assert float(drawn.reshape(3000, 16)[:, 0].mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / 3000) ** 0.5)
    assert set(numpy.unique(numpy.array(drawn.tolist()))) == {0.0, 1.0}
    likely = model.decode(codes[:2])
    np.testing.assert_allclose(likely[0], likely[1])


# inner steps


def test_inner_steps_move_the_encoder_alone():
    trainer = Trainer(small(), data(), Options(epochs=1, batch_size=20, inner_steps=10, seed=1))
    before = trainer.model.state_dict()
    trainer.lagging.before_step(trainer)
    after = trainer.model.state_dict()
    changed = {name.partition(".")[0] for name in before if not (before[name] == after[name]).all()}
    assert changed == {"encoder"}
    assert trainer.optimizer.steps == 0  # none of these counts


def test_while_there_are_inner_steps_a_batch_moves_the_decoder_alone(monkeypatch):
    """He et al. 2019, algorithm 1."""
    trainer = Trainer(small(), data(), Options(epochs=1, batch_size=20, inner_steps=10))
    monkeypatch.setattr(trainer.lagging, "before_step", lambda trainer: None)

    def moved() -> set[str]:
        before = trainer.model.state_dict()
        trainer._step(next(trainer.batches.indices(1)))
        after = trainer.model.state_dict()
        return {name.partition(".")[0] for name in before if not (before[name] == after[name]).all()}

    assert moved() == {"decoder"}
    trainer.lagging.active = False
    assert moved() == {"decoder", "encoder"}


def test_the_information_is_that_of_the_images_which_the_model_is_trained_on():
    from minivae.lagging import information

    grey = Split(numpy.random.default_rng(0).integers(0, 256, (60, *SHAPE)).astype(numpy.uint8))
    drawn = information(small(), grey, binarize=True)
    assert drawn == information(small(), grey, binarize=True) != information(small(), grey)
    binary = data().train  # of which nothing is left to draw
    assert information(small(), binary, binarize=True) == information(small(), binary)


def test_inner_steps_of_a_flow_are_refused():
    with pytest.raises(InputError, match="flow"):
        Trainer(models.vae((1, 4, 4), hidden=(6,), latent=2, flow="iaf", depth=1), data(), Options(inner_steps=3))


def test_inner_steps_end_where_the_loss_falls_no_more(monkeypatch):
    trainer = Trainer(small(), data(), Options(epochs=1, batch_size=20, inner_steps=95))
    losses = iter([*[3.0] * 10, *[2.0] * 10, *[2.5] * 10, *[0.0] * 100])
    taken = []
    monkeypatch.setattr(trainer, "inner_step", lambda name, x: taken.append(name) or next(losses))
    trainer.lagging.before_step(trainer)
    assert taken == ["encoder"] * 30
    losses = iter(numpy.arange(200, 0, -1.0))
    trainer.lagging.before_step(trainer)
    assert len(taken) == 30 + 95
    trainer.lagging.active = False
    trainer.lagging.before_step(trainer)
    assert len(taken) == 125


def test_they_end_for_good_where_the_information_no_longer_rises(monkeypatch):
    from minivae import lagging

    found = iter([0.5, 0.9, 0.8, 2.0])
    seen = []
    monkeypatch.setattr(lagging, "information", lambda *given: seen.append(given) or next(found))
    trainer = Trainer(small(), data(), Options(batch_size=20, inner_steps=10, binarize=True))
    state = trainer.lagging
    active = [(state.after_epoch(trainer), state.active)[1] for _ in range(4)]
    model, split, binarize = seen[0]
    assert model is trainer.model and binarize
    np.testing.assert_array_equal(split.images, trainer.dataset.train.images)  # those of the test have no say in it
    assert active == [True, True, False, False]
    other = lagging.Lagging(10)
    other.restore(state.state())
    assert (other.active, other.best) == (False, 2.0)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    from minivae import checkpoint, resume

    arguments = models.arguments("vae", shape=SHAPE, hidden=(6,), latent=2)

    def trainer(epochs: int) -> Trainer:
        manual_seed(0)
        options = Options(epochs=epochs, batch_size=20, inner_steps=10, binarize=True)
        return Trainer(models.build("vae", **arguments), data(), options, ("vae", arguments))

    for name in ("whole", "half", "again"):
        (tmp_path / name).mkdir()

    whole = trainer(4)
    whole.run(tmp_path / "whole")
    half = trainer(2)
    half.run(tmp_path / "half")
    again = trainer(4)
    path = tmp_path / "half" / "model.npz"
    resume.restore(again, *checkpoint.load(path), path)
    again.run(tmp_path / "again")
    for name, a in whole.model.state_dict().items():
        numpy.testing.assert_array_equal(a, again.model.state_dict()[name], err_msg=name)
    assert [row["information"] for row in whole.history] == [row["information"] for row in again.history]


@pytest.mark.parametrize("options", [{"inner_steps": -1}, {"inner_steps": 5, "on_nan": "skip"}])
def test_wrong_inner_steps_are_one_sentence(options):
    with pytest.raises(InputError, match="inner_steps"):
        Options(**options)
    with pytest.raises(InputError, match="inner_steps"):
        Trainer(models.autoencoder(SHAPE), data(), Options(inner_steps=3))


# the mutual information


def test_codes_that_tell_nothing_or_everything():
    rng, n, d = numpy.random.default_rng(0), 300, 50
    nothing = metrics.mutual_information(numpy.ones((n, d)), numpy.full((n, d), 0.3), rng, chunk=70)
    assert nothing == pytest.approx(0, abs=1e-9)  # whatever the noise
    apart = 100.0 * numpy.arange(n)[:, None] * numpy.ones(d)
    everything = metrics.mutual_information(apart, numpy.zeros((n, d)), rng, chunk=70)
    assert everything == pytest.approx(math.log(n), abs=1e-6)
    between = metrics.mutual_information(rng.standard_normal((n, d)), numpy.zeros((n, d)), rng)
    assert 0 < between <= math.log(n) + 1e-9


def test_the_information_of_a_linear_gaussian_code():
    """z = m + e with m ~ N(0, a^2), e ~ N(0, 1): I = log(1 + a^2) / 2 for each latent."""
    rng, n, a = numpy.random.default_rng(1), 4000, 1.5
    found = metrics.mutual_information(a * rng.standard_normal((n, 1)), numpy.zeros((n, 1)), rng)
    assert found == pytest.approx(math.log(1 + a * a) / 2, abs=0.05)
