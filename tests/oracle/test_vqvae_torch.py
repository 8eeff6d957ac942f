"""Vector quantisation in PyTorch, as Sonnet's VectorQuantizer and VectorQuantizerEMA do it: steps side by side."""

import numpy as np
import pytest

from minivae import Tensor, manual_seed, optim
from minivae.models.quantizer import VectorQuantizer
from minivae.models.vqvae import VQVAE, vqvae

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
F = torch.nn.functional


class TorchQuantizer(torch.nn.Module):
    """decay None: the codebook is a parameter. Else its counts begin at `count`, its sums at count times the code."""

    def __init__(self, codebook, decay, count, commitment=0.25):
        super().__init__()
        self.codebook = torch.nn.Parameter(torch.tensor(codebook), requires_grad=decay is None)
        self.counts = torch.full((len(codebook),), count)
        self.sums = count * self.codebook.detach().clone()
        self.decay, self.commitment = decay, commitment

    def forward(self, z):
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        indices = torch.cdist(rows.detach(), self.codebook.detach()).argmin(1)
        q = F.embedding(indices, self.codebook)
        loss = self.commitment * F.mse_loss(q.detach(), rows)
        if self.decay is None:
            loss = loss + F.mse_loss(q, rows.detach())
        else:
            hot = F.one_hot(indices, len(self.codebook)).to(rows.dtype)
            self.counts = self.decay * self.counts + (1 - self.decay) * hot.sum(0)
            self.sums = self.decay * self.sums + (1 - self.decay) * hot.T @ rows.detach()
            n = self.counts.sum()
            smoothed = (self.counts + 1e-5) / (n + len(self.codebook) * 1e-5) * n
            self.codebook.data = self.sums / smoothed[:, None]
        q = rows + (q - rows).detach()
        return q.reshape(z.shape[0], *z.shape[2:], -1).permute(0, 3, 1, 2), indices.reshape(z[:, 0].shape), loss


class TorchVQVAE(torch.nn.Module):
    """The network of `vqvae` for one halving: convolutions of 4x4 and stride 2."""

    def __init__(self, channels, width, dim, quantizer, variance):
        super().__init__()
        n = torch.nn
        self.encoder = n.Sequential(n.Conv2d(channels, width, 4, 2, 1), n.ReLU(), n.Conv2d(width, dim, 1))
        self.decoder = n.Sequential(
            n.Conv2d(dim, width, 3, padding=1), n.ReLU(), n.ConvTranspose2d(width, channels, 4, 2, 1)
        )
        self.quantizer = quantizer
        self.variance = variance

    def forward(self, x):
        q, indices, loss = self.quantizer(self.encoder(x))
        return F.mse_loss(self.decoder(q), x) / self.variance + loss, indices


K, D, WIDTH, VARIANCE = 9, 4, 6, 0.08


def start(decay):
    """Codes near what the encoder gives, and the same models of both."""
    manual_seed(0)
    x = np.random.default_rng(1).random((6, 2, 8, 8), dtype=np.float32)
    mine = vqvae(
        (2, 8, 8), K, D, (WIDTH,), 0, "gradient" if decay is None else "ema", restart=0, data_variance=VARIANCE,
        **({} if decay is None else {"decay": decay}),
    )  # fmt: skip
    z = mine.encoder(Tensor(x)).data.transpose(0, 2, 3, 1).reshape(-1, D)
    state = mine.state_dict() | {"quantizer.codebook": z[:: len(z) // K][:K] * 1.3, "quantizer.initialised": True}
    if decay is not None:
        state |= {"quantizer.counts": np.full(K, 3.0), "quantizer.sums": 3 * state["quantizer.codebook"]}
    mine.load_state_dict(state)
    theirs = TorchVQVAE(2, WIDTH, D, TorchQuantizer(state["quantizer.codebook"], decay, 3.0), VARIANCE)
    shared = {name: torch.tensor(v) for name, v in state.items() if not name.startswith("quantizer.")}
    theirs.load_state_dict(shared | {"quantizer.codebook": torch.tensor(state["quantizer.codebook"])}, strict=True)
    return mine, theirs, x


@pytest.mark.parametrize("decay", [None, 0.7, 0.99])
def test_steps_of_training(decay):
    """Ten steps of Adam on the same data: the losses, the indices, the codes and the weights agree throughout."""
    mine, theirs, x = start(decay)
    optimizer = optim.Adam(mine.parameters(), 3e-3)
    their_optimizer = torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], 3e-3)
    codebook = mine.quantizer.codebook.data.copy()
    for _ in range(10):
        optimizer.zero_grad()
        indices = mine.encode(x)
        loss = mine.loss(x)
        loss.total.backward()
        their_optimizer.zero_grad()
        total, their_indices = theirs(torch.tensor(x))
        total.backward()
        np.testing.assert_array_equal(indices, their_indices)
        assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)
        for name, p in theirs.named_parameters():
            if p.requires_grad:
                g = dict(mine.named_parameters())[name].grad
                np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-3, atol=1e-5 * p.grad.abs().max().item())
        optimizer.step()
        their_optimizer.step()
    np.testing.assert_allclose(mine.quantizer.codebook.data, theirs.quantizer.codebook.detach(), rtol=1e-4, atol=1e-5)
    assert np.abs(mine.quantizer.codebook.data - codebook).max() > 1e-3
    if decay is not None:
        np.testing.assert_allclose(mine.quantizer.counts.data, theirs.quantizer.counts, rtol=1e-5)
        np.testing.assert_allclose(mine.quantizer.sums.data, theirs.quantizer.sums, rtol=1e-4, atol=1e-5)


def test_the_search_finds_the_code_of_cdist():
    z, codebook = (
        np.random.default_rng(i).standard_normal((n, 8)).astype(np.float32) for i, n in ((0, 4000), (1, 200))
    )
    quantizer = VectorQuantizer(200, 8)
    quantizer.codebook.data[...] = codebook
    expected = torch.cdist(torch.tensor(z).double(), torch.tensor(codebook).double()).argmin(1)
    np.testing.assert_array_equal(quantizer.encode(z), expected)


def test_the_model_is_the_networks_of_torch():
    mine, theirs, x = start(None)
    assert isinstance(mine, VQVAE)
    indices = mine.encode(x)
    q = theirs.quantizer.codebook[torch.tensor(indices)].permute(0, 3, 1, 2)
    np.testing.assert_allclose(mine.decode(indices), theirs.decoder(q).detach(), rtol=1e-4, atol=1e-5)
