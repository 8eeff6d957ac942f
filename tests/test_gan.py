"""GAN and VAE-GAN: their losses against formulas, and what they learn of a distribution that is known."""

import math

import numpy
import pytest
from anywhere import host, there

from minivae import InputError, backend, manual_seed, models, nn, ops
from minivae.data import Dataset, Split
from minivae.models import GAN, nets
from minivae.models.gan import fake, real
from minivae.tensor import Tensor
from minivae.train import Options, Trainer

SHAPE = (1, 4, 4)


def logits(*values):
    return Tensor(there(numpy.array(values, numpy.float32)[:, None]), requires_grad=True)


def small(name, **arguments):
    manual_seed(0)
    return models.build(name, shape=SHAPE, hidden=(6,), latent=3, **arguments)


def batch(n=8):
    return there(numpy.random.default_rng(0).random((n, *SHAPE), dtype=numpy.float32))


def generator(seed=1):
    return backend.current().generator(seed)


def test_what_passes_and_what_does_not():
    values = numpy.array([-2.0, 0.5, 3.0])
    d = 1 / (1 + numpy.exp(-values))
    assert real(logits(*values)).item() == pytest.approx(-numpy.log(d).mean(), rel=1e-6)
    assert fake(logits(*values)).item() == pytest.approx(-numpy.log(1 - d).mean(), rel=1e-6)


def test_a_forger_who_is_found_out_still_learns():
    """Where D is nearly 0 the non-saturating loss has the slope -1; that of log(1 - D) is gone."""
    found_out, saturated = logits(-20.0), logits(-20.0)
    real(found_out).backward()
    (-fake(saturated)).backward()
    assert host(found_out.grad).item() == pytest.approx(-1, abs=1e-6)
    assert abs(host(saturated.grad).item()) < 1e-8


def test_a_discriminator_that_knows_nothing():
    model = small("gan")
    for p in model.discriminator.parameters():
        p.data[...] = 0
    assert model.discriminator_loss(batch()).total.item() == pytest.approx(2 * math.log(2), rel=1e-6)
    assert model.loss(batch()).total.item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_losses_of_a_gan():
    model = small("gan", noise=0.0)
    forged = model.sample(8, generator())
    judged = real(model.discriminator(Tensor(forged)))
    assert model.loss(batch(), generator()).total.item() == judged.item()
    both = real(model.discriminator(Tensor(batch()))) + fake(model.discriminator(Tensor(forged)))
    assert model.discriminator_loss(batch(), generator()).total.item() == both.item()


def test_noise_is_added_to_all_that_the_discriminator_sees():
    model = small("gan", noise=2.0)
    seen = []
    model.discriminator = nn.Sequential(lambda x: seen.append(host(x.data)) or x, nn.Flatten(), nn.Linear(16, 1))
    model.discriminator_loss(batch(200))
    model.loss(batch(200))
    assert len(seen) == 3
    assert numpy.allclose([x.std() for x in seen], 2.0, atol=0.1)  # data and forgeries alone have 0.3 at most
    with pytest.raises(InputError, match="noise -1"):
        small("gan", noise=-1.0)


@pytest.mark.parametrize("arch", [{}, {"arch": "conv", "channels": (2, 3)}])
def test_images_of_codes(arch):
    model = small("gan", **arch)
    images = host(model.sample(5, generator()))
    assert images.shape == (5, *SHAPE) and images.min() >= 0 and images.max() <= 1
    z = model.prior(6, generator()).reshape(2, 3, 3)
    assert model.decode(z).shape == (2, 3, *SHAPE)
    with pytest.raises(InputError, match="latent 0"):
        GAN(nn.Linear(1, 1), nn.Linear(1, 1), 0)


def test_it_learns_a_normal_distribution_by_the_loop():
    """A linear generator of N(0, 1) can be N(2, 0.5^2) exactly."""
    rng = numpy.random.default_rng(0)
    data = (0.5 * rng.standard_normal((2048, 1)) + 2).astype(numpy.float32)
    manual_seed(0)
    model = GAN(nn.Linear(1, 1), nets.dense_encoder((1,), (16,), 1, "leaky-relu"), 1)
    dataset = Dataset("normal", Split(data), Split(data[:64]))
    Trainer(model, dataset, Options(40, 64, lr=1e-2, lr_schedule="cosine")).run()
    assert model.generator.bias.item() == pytest.approx(2, abs=0.1)  # measured 1.97 and 1.99 with seeds 0 and 1
    assert abs(model.generator.weight.item()) == pytest.approx(0.5, abs=0.1)  # 0.50 and 0.46


def test_the_three_losses_of_a_vaegan():
    model = small("vaegan", gamma=0.5, variance=0.1)
    x = Tensor(batch())

    def codes(rng):
        mu, logvar = model.posterior(x)
        return Tensor(mu.data + numpy_exp(logvar.data / 2) * model.prior(8, rng))

    def numpy_exp(a):
        return ops.exp(Tensor(a)).data

    def error(z):
        d = model.discriminator[0](model.generator(z)).data - model.discriminator[0](x).data
        return float(host((d * d).sum(axis=1)).mean()) / 2 / 0.1

    z = codes(generator())
    mu, logvar = (host(t.data) for t in model.posterior(x))
    prior = ((mu**2 + numpy.exp(logvar) - 1 - logvar).sum(1) / 2).mean()
    loss = model.loss(x, generator())
    assert loss.terms["prior"].item() == pytest.approx(prior, rel=1e-5)
    assert loss.terms["features"].item() == pytest.approx(error(z), rel=1e-5)
    assert loss.total.item() == pytest.approx(prior + error(z), rel=1e-5)

    rng = generator()
    z, drawn = codes(rng), Tensor(model.prior(8, rng))
    judged = [model.discriminator(model.generator(codes)) for codes in (z, drawn)]
    forged = sum(real(one).item() for one in judged)
    assert model.decoder_loss(x, generator()).total.item() == pytest.approx(0.5 * error(z) + forged, rel=1e-5)
    told = real(model.discriminator(x)).item() + sum(fake(one).item() for one in judged)
    assert model.discriminator_loss(x, generator()).total.item() == pytest.approx(told, rel=1e-5)


def test_without_gamma_the_decoder_is_a_forger_alone():
    model = small("vaegan", gamma=0.0)
    loss = model.decoder_loss(batch(), generator())
    assert loss.total.item() == loss.terms["decoder"].item()


def test_the_features_error_would_move_the_discriminator():
    """The trap: its features could be made easy to match. The gradient is there; the wall of the loop stops it."""
    model = small("vaegan")
    model.loss(batch(), generator()).total.backward()
    assert any(host(abs(p.grad)).max() > 0 for p in model.discriminator[0].parameters())


def test_the_features_of_the_image_are_an_aim():
    """Where both are the same image, no gradient comes through that of the data."""
    model = small("vaegan")
    x = Tensor(batch(), requires_grad=True)
    model._error(model._features(Tensor(batch() / 2)), x)
    assert x.grad is None and nets.ACTIVATIONS["leaky-relu"]().negative_slope == 0.2


def test_a_vaegan_codes_and_decodes():
    model = small("vaegan")
    assert model.encode(batch()).shape == (8, 3) and model.reconstruct(batch()).shape == (8, *SHAPE)
    assert {name: score.shape for name, score in model.scores(batch()).items()} == {
        "features": (8,), "discriminator": (8,)
    }  # fmt: skip
    for arguments, word in (({"gamma": -1.0}, "gamma -1"), ({"variance": 0.0}, "variance 0")):
        with pytest.raises(InputError, match=word):
            small("vaegan", **arguments)
