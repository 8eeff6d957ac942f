"""The VAE, dense and convolutional, against PyTorch implementations with the same weights and noise."""

import math

import numpy as np
import pytest

from minivae import manual_seed, models, nn

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")


class TorchVAE(torch.nn.Module):
    """As in PyTorch's own example, with mu and logvar from one layer; the ELBO from torch.distributions."""

    def __init__(self, pixels: int, hidden: int, latent: int):
        super().__init__()
        n = torch.nn
        self.encoder = n.Sequential(n.Flatten(), n.Linear(pixels, hidden), n.ReLU(), n.Linear(hidden, 2 * latent))
        self.decoder = n.Sequential(n.Linear(latent, hidden), n.ReLU(), n.Linear(hidden, pixels))

    def forward(self, x, eps):
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
        logits = self.decoder(mu + q.stddev * eps)
        reconstruction = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, x.flatten(1), reduction="none"
        ).sum(1)
        prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
        return reconstruction.mean(), torch.distributions.kl_divergence(q, prior).sum(1).mean()

    def log_weights(self, x, eps):
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
        z = mu + q.stddev * eps
        log_q = q.log_prob(z).sum(-1)
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        pixels = torch.distributions.Bernoulli(logits=self.decoder(z), validate_args=False)
        return log_p + pixels.log_prob(x.flatten(1)).sum(-1) - log_q


class Fixed:
    """A generator that returns the same noise at each call."""

    def __init__(self, noise: np.ndarray):
        self.noise = noise

    def standard_normal(self, shape, dtype=np.float64):
        assert tuple(shape) == self.noise.shape
        return self.noise.astype(dtype)


def pair(shape: tuple[int, ...], hidden: int, latent: int, n: int):
    manual_seed(0)
    mine, theirs = models.vae(shape, hidden=(hidden,), latent=latent), TorchVAE(int(np.prod(shape)), hidden, latent)
    theirs.load_state_dict({k: torch.from_numpy(3 * v) for k, v in mine.state_dict().items()}, strict=True)
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return mine, theirs, np.random.default_rng(1).random((n, *shape), dtype=np.float32)


@pytest.mark.parametrize(("shape", "hidden", "latent"), [((1, 28, 28), 400, 20), ((3, 8, 8), 30, 4), ((1, 2, 2), 3, 1)])
def test_loss_terms_and_gradients(shape, hidden, latent):
    mine, theirs, x = pair(shape, hidden, latent, 16)
    eps = np.random.default_rng(2).standard_normal((16, latent), dtype=np.float32)
    loss = mine.loss(x, Fixed(eps))
    loss.total.backward()
    reconstruction, kl = theirs(torch.from_numpy(x), torch.from_numpy(eps))
    (reconstruction + kl).backward()
    assert loss.terms["reconstruction"].item() == pytest.approx(reconstruction.item(), rel=1e-5)
    assert loss.terms["kl"].item() == pytest.approx(kl.item(), rel=1e-5)
    assert loss.total.item() == pytest.approx((reconstruction + kl).item(), rel=1e-5)
    parameters = dict(theirs.named_parameters())
    assert list(parameters) == [name for name, _ in mine.named_parameters()]
    for name, p in mine.named_parameters():
        expected = parameters[name].grad.numpy()
        np.testing.assert_allclose(p.grad, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max(), err_msg=name)


def test_importance_weights():
    mine, theirs, x = pair((1, 6, 6), 20, 3, 5)
    eps = np.random.default_rng(3).standard_normal((7, 5, 3), dtype=np.float32)
    weights = mine.log_weights(x, 7, Fixed(eps)).numpy()
    with torch.no_grad():
        expected = theirs.log_weights(torch.from_numpy(x), torch.from_numpy(eps)).numpy()
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-4)
    bound = mine.nll_bound(x, 7, Fixed(eps))
    np.testing.assert_allclose(bound, np.log(7) - np.logaddexp.reduce(expected, axis=0), rtol=1e-5)


# convolutional, with every likelihood


def torch_conv(shape, channels, hidden, latent, numbers):
    """Convolutions of stride 2 down and up, with a hidden dense layer, as in DCGAN-like VAEs."""
    n, (c, h, w) = torch.nn, shape
    a, b = channels
    flat = b * (h // 4) * (w // 4)
    encoder = n.Sequential(
        n.Conv2d(c, a, 4, 2, 1), n.ReLU(), n.Conv2d(a, b, 4, 2, 1), n.ReLU(), n.Flatten(),
        n.Linear(flat, hidden), n.ReLU(), n.Linear(hidden, 2 * latent),
    )  # fmt: skip
    decoder = n.Sequential(
        n.Linear(latent, hidden), n.ReLU(), n.Linear(hidden, flat), n.ReLU(), n.Unflatten(1, (b, h // 4, w // 4)),
        n.ConvTranspose2d(b, a, 4, 2, 1), n.ReLU(), n.ConvTranspose2d(a, numbers * c, 4, 2, 1),
    )  # fmt: skip
    return n.ModuleDict({"encoder": encoder, "decoder": decoder})


def soft_floor(raw, floor):
    return floor + torch.nn.functional.softplus(raw - floor)


def log_likelihood(name, output, x, theirs):
    d = torch.distributions
    if name == "bernoulli":
        return d.Bernoulli(logits=output, validate_args=False).log_prob(x)
    if name == "shared":
        return d.Normal(output, (theirs.logvar / 2).exp()).log_prob(x)
    mu, raw = output.chunk(2, dim=1)
    if name == "pixel":
        return d.Normal(mu, (soft_floor(raw, -2 * math.log(256)) / 2).exp()).log_prob(x)
    inverse = (-soft_floor(raw, -7.0)).exp()  # the logistic: a difference of two sigmoids
    upper = torch.where(x == 1, 1.0, torch.sigmoid((x + 1 / 510 - mu) * inverse))
    lower = torch.where(x == 0, 0.0, torch.sigmoid((x - 1 / 510 - mu) * inverse))
    return (upper - lower).log()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12)])
@pytest.mark.parametrize("name", ["bernoulli", "shared", "pixel", "logistic"])
@pytest.mark.parametrize("k", [1, 3])
def test_convolutional_loss_and_gradients(shape, name, k):
    variance = name if name in ("shared", "pixel") else None
    likelihood = "gaussian" if variance else name
    manual_seed(0)
    mine = models.vae(shape, "conv", (9,), (4, 5), latent=3, likelihood=likelihood, variance=variance, k=k)
    theirs = torch_conv(shape, (4, 5), 9, 3, mine.likelihood.channels).double()
    if name == "shared":
        theirs.register_parameter("logvar", torch.nn.Parameter(torch.tensor(-0.7, dtype=torch.float64)))
        mine.likelihood.logvar.data[...] = -0.7
    weights = {n.replace("likelihood.", ""): torch.from_numpy(v) for n, v in mine.state_dict().items()}
    theirs.load_state_dict(weights, strict=True)
    x = np.random.default_rng(1).integers(0, 256, (6, *shape)) / 255
    eps = np.random.default_rng(2).standard_normal((k, 6, 3), dtype=np.float32)

    for owner in mine.modules():
        for attribute, value in list(vars(owner).items()):
            if isinstance(value, nn.Parameter):
                setattr(owner, attribute, nn.Parameter(value.data.astype(np.float64)))
    loss = mine.loss(x, Fixed(eps if k > 1 else eps[0]))
    loss.total.backward()

    y, e = torch.from_numpy(x), torch.from_numpy(eps).double()
    mu, logvar = theirs["encoder"](y).chunk(2, dim=-1)
    q, prior = torch.distributions.Normal(mu, (0.5 * logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    z = mu + q.stddev * e
    log_x = torch.stack([log_likelihood(name, theirs["decoder"](one), y, theirs).flatten(1).sum(1) for one in z])
    if k == 1:
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(mu), 1.0)).sum(1)
        expected = (kl - log_x[0]).mean()
    else:
        log_w = log_x + (prior.log_prob(z) - q.log_prob(z)).sum(-1)
        expected = (math.log(k) - torch.logsumexp(log_w, 0)).mean()
    expected.backward()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-7)
    parameters = dict(theirs.named_parameters())
    assert len(parameters) == len(mine.parameters())
    for parameter, p in mine.named_parameters():
        g = parameters[parameter.replace("likelihood.", "")].grad.numpy()
        np.testing.assert_allclose(p.grad, g, rtol=1e-5, atol=1e-7 * np.abs(g).max(), err_msg=parameter)
