"""Hierarchies: one layer is the VAE; the KL of all layers against samples; the joined posterior in closed form."""

import pytest
from anywhere import np

from minivae import InputError, Tensor, manual_seed, models, nn, report
from minivae.distributions import Normal
from minivae.models.hvae import _joined

SHAPE = (1, 4, 4)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *SHAPE), dtype=np.float32)


def small(latents=(3, 2), gain: float = 2.0, **arguments) -> models.HVAE:
    manual_seed(0)
    model = models.hvae(SHAPE, hidden=(6,), latents=latents, **arguments)
    for p in model.parameters():
        p.data *= gain
    return model


@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"k": 4}, {"beta": 2.0}])
def test_one_layer_is_the_vae(options):
    one, plain = small((3,), **options), models.vae(SHAPE, hidden=(6,), latent=3, **options)
    order = [*one.up[0].parameters(), *one.heads[0].parameters(), *one.decoder.parameters()]
    for p, q in zip(plain.parameters(), order, strict=True):
        p.data[...] = q.data
    x = images(5)
    losses = [m.loss(x, np.random.default_rng(1)) for m in (one, plain)]
    assert losses[0].terms.keys() == losses[1].terms.keys()
    assert losses[0].total.item() == pytest.approx(losses[1].total.item(), rel=1e-5)
    for loss in losses:
        loss.total.backward()
    for p, q in zip(plain.parameters(), order, strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.nll_bound(x, 5, np.random.default_rng(1)),
                               plain.nll_bound(x, 5, np.random.default_rng(1)), rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(one.encode(x), plain.encode(x), rtol=1e-5)
    samples = [m.sample(4, np.random.default_rng(2)) for m in (one, plain)]
    np.testing.assert_allclose(*samples, rtol=1e-5)


@pytest.mark.parametrize("latents", [(3, 2), (3, 2, 2)])
def test_the_sum_of_the_kls_is_the_mean_of_log_q_over_p(latents):
    model, x = small(latents), images(4)
    z, log_q = model.draw(x, (4000,), np.random.default_rng(0))
    assert z.shape == (4000, 4, sum(latents)) and log_q.shape == (4000, 4)
    ratio = (log_q - model.log_prior(z)).data
    kl = [layer.kl().data for layer in model.layers(x, (4000,), np.random.default_rng(1))]
    exact = sum(part.mean(axis=0) if part.ndim == 2 else part for part in kl)
    error = ratio.std(axis=0) / 4000**0.5
    assert (abs(ratio.mean(axis=0) - exact) < 6 * error).all()
    assert float(min(part.mean() for part in kl)) > 0.01  # every layer has a say


def test_what_the_image_tells_and_the_prior_are_joined_by_their_precisions():
    rng = np.random.default_rng(0)
    m, v, mp, vp = (rng.standard_normal(6) for _ in range(4))
    q = _joined(Normal(Tensor(m), Tensor(v)), Normal(Tensor(mp), Tensor(vp)))
    precision = np.exp(-v) + np.exp(-vp)
    np.testing.assert_allclose(np.exp(-q.logvar.data), precision, rtol=1e-12)
    np.testing.assert_allclose(q.mu.data, (m * np.exp(-v) + mp * np.exp(-vp)) / precision, rtol=1e-12)


def test_a_layer_of_which_the_image_tells_nothing_keeps_its_prior():
    model, x = small(), images(3)
    model.heads[0].bias.data[3:] = 30.0  # a variance of e^30
    terms = model.loss(x, np.random.default_rng(0)).terms
    assert terms["kl_1"].item() == pytest.approx(0, abs=1e-5)
    assert terms["kl"].item() == pytest.approx(terms["kl_1"].item() + terms["kl_2"].item(), rel=1e-5)


def test_the_bound_is_tighter_with_more_samples_and_scores_are_those_of_the_loss():
    model, x = small(), images(4)
    draws = [model.loss(x, np.random.default_rng(i)).total.item() for i in range(50)]
    assert model.nll_bound(x, 500, np.random.default_rng(0)).mean() < sum(draws) / 50
    scores = model.scores(x, np.random.default_rng(7))
    assert float(scores["-ELBO"].mean()) == pytest.approx(
        model.loss(x, np.random.default_rng(7)).total.item(), rel=1e-5
    )


def test_samples_follow_the_top():
    """With one code at the top all images are of one kind: they vary less than those of many."""
    model = small(gain=3.0)
    one = model.sample(200, np.random.default_rng(0), top=np.ones((200, 2), dtype=np.float32))
    many = model.sample(200, np.random.default_rng(0))
    assert one.shape == (200, *SHAPE)
    assert float(one.var(axis=0).mean()) < float(many.var(axis=0).mean())


@pytest.mark.parametrize("arguments", [{"latents": ()}, {"hidden": ()}, {"latents": (3, 0)}])
def test_wrong_layers_are_one_sentence(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        models.hvae(SHAPE, **arguments)


def test_convolutions_below_and_dense_layers_above():
    manual_seed(0)
    model = models.hvae((1, 8, 8), "conv", hidden=(6,), channels=(2, 2), latents=(3, 2))
    x = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    model.loss(x, np.random.default_rng(0)).total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_codes_for_images_are_no_draws(monkeypatch):
    model, x = small(), images(3)
    model.heads[0] = nn.Sequential(nn.Dropout(0.5), model.heads[0])  # which a look at images leaves out
    noise = type("Noise", (), {"standard_normal": lambda *given, **more: pytest.fail("noise was drawn")})()
    model.layers(x, rng=noise, mean=True)
    np.testing.assert_array_equal(model.encode(x), model.encode(x))


def test_the_plane_of_two_codes_is_where_they_lie_as_their_prior_is_not_the_standard_one():
    assert not report._standard_normal(models.hvae(SHAPE, hidden=(6,), latents=(2, 2)))
    assert report._standard_normal(models.vae(SHAPE, hidden=(6,), latent=2))
    assert not report._standard_normal(models.autoencoder(SHAPE, hidden=(6,), latent=2))
