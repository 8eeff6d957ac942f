"""The VAE's loss and gradients against a PyTorch implementation with the same weights and noise."""

import numpy as np
import pytest

from minivae import manual_seed, models

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
    mine, theirs = models.vae(shape, (hidden,), latent), TorchVAE(int(np.prod(shape)), hidden, latent)
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
