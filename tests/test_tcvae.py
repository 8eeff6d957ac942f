"""The beta-TCVAE: its three parts against the KL, exact values and the VAE."""

import numpy
import pytest
from anywhere import np

from minivae import InputError, Tensor, manual_seed, models
from minivae.models.tcvae import aggregate, stratified

SHAPE = (1, 4, 4)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *SHAPE), dtype=np.float32)


def codes(n: int, latent: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    mu, logvar = rng.standard_normal((n, latent)), rng.standard_normal((n, latent)) - 1
    return mu, logvar, mu + np.exp(logvar / 2) * rng.standard_normal((n, latent))


def log_density(z, mu, logvar):
    return -0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar + np.log(2 * np.pi))


def small(name: str, **arguments) -> models.VAE:
    manual_seed(0)
    model = models.build(name, shape=SHAPE, hidden=(6,), latent=3, **arguments)
    for p in model.parameters():
        p.data *= 3
    return model


def test_with_all_weights_one_it_is_the_vae():
    x = images(9)
    plain, parts = small("vae"), small("beta-tcvae", beta=1.0, data_size=50)
    losses = [m.loss(x, np.random.default_rng(1)) for m in (plain, parts)]
    assert losses[0].total.item() == pytest.approx(losses[1].total.item(), rel=1e-6)
    for loss in losses:
        loss.total.backward()
    for p, q in zip(plain.parameters(), parts.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-5, atol=1e-6)


def test_the_parts_are_the_kl_of_the_same_codes():
    """By Monte-Carlo, sample by sample: whatever the estimate of q(z), it cancels."""
    x = images(9)
    terms = small("beta-tcvae", data_size=50).loss(x, np.random.default_rng(1)).terms
    names = ("mutual_information", "total_correlation", "dimension_wise")
    sampled = small("vae", kl="monte-carlo").loss(x, np.random.default_rng(1)).terms["kl"]
    assert sum(terms[name].item() for name in names) == pytest.approx(sampled.item(), rel=1e-4)


def test_the_weights_weigh_the_parts():
    x = images(9)
    plain = small("vae").loss(x, np.random.default_rng(1)).total.item()
    for name, part in (("alpha", "mutual_information"), ("beta", "total_correlation"), ("gamma", "dimension_wise")):
        weights = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0} | {name: 3.0}
        loss = small("beta-tcvae", data_size=50, **weights).loss(x, np.random.default_rng(1))
        assert loss.total.item() == pytest.approx(plain + 2 * loss.terms[part].item(), rel=1e-5)


def test_the_estimate_of_q_of_z_is_right_in_the_mean():
    """Over all ordered batches that hold the image of the code first, the mean is the mean over the data, exactly."""
    from itertools import permutations

    n, batch = 6, 4
    mu, logvar, z = codes(n, 2)
    exact = np.exp(log_density(z[:1, None], mu, logvar).sum(-1)).mean()
    found = []
    for others in permutations(range(1, n), batch - 1):
        rows = np.array([0, *others])
        joint, _ = aggregate(*(Tensor(a[rows]) for a in (z, mu, logvar)), data_size=n)
        found.append(np.exp(joint.data[0]))
    assert sum(float(f) for f in found) / len(found) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(("batch", "size"), [(1, 10), (2, 10), (7, 10), (10, 10), (12, 10)])
def test_the_weights_are_a_distribution(batch, size):
    weights = np.exp(stratified(batch, size))
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), np.ones(batch), rtol=1e-12)


def test_codes_that_are_independent_have_no_total_correlation():
    """q(z) of a mean field whose images are alike is a product; that of two far images on a diagonal is not: log 2."""
    n, rng = 400, np.random.default_rng(0)
    same = np.zeros((n, 2))
    z = rng.standard_normal((n, 2))
    joint, marginals = aggregate(*(Tensor(a) for a in (z, same, same)), data_size=n)
    np.testing.assert_allclose(joint.data, marginals.data, atol=1e-9)
    mu = same + 20.0 * (np.arange(n) % 2)[:, None]
    joint, marginals = aggregate(Tensor(z + mu), Tensor(mu), Tensor(same), data_size=n)
    assert float((joint - marginals).mean().data) == pytest.approx(float(np.log(2.0)), abs=0.01)


@pytest.mark.parametrize("arguments", [{"alpha": -1.0}, {"gamma": float("nan")}, {"data_size": 0}, {"beta": -1.0}])
def test_wrong_weights_are_one_sentence(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        models.tcvae(SHAPE, **arguments)


def test_the_command_line_tells_it_how_many_images_there_are(tmp_path):
    from minivae import checkpoint, cli

    numpy.save(tmp_path / "x.npy", numpy.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=numpy.uint8))
    command = [
        "train",
        "beta-tcvae",
        "--data",
        str(tmp_path / "x.npy"),
        "--out",
        str(tmp_path / "run"),
        "--epochs",
        "1",
    ]
    assert cli.main([*command, "--beta", "3", "--alpha", "0.5", "--latent", "2"]) == 0
    model, header = checkpoint.load_model(tmp_path / "run" / "model.npz")
    assert (model.alpha, model.beta, model.gamma, model.latent) == (0.5, 3, 1, 2)
    assert model.data_size == header["arguments"]["data_size"] > 30
