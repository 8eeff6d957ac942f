"""Weights that were trained here give the same outputs in PyTorch's modules of the same shape, and the other way."""

from itertools import pairwise

import numpy as np
import pytest

from minivae import Tensor, manual_seed, models, nn, no_grad, optim, weights

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
files = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
t = torch.nn


def dense(*sizes: int) -> list[torch.nn.Module]:
    """Linear layers with ReLU between them."""
    layers = [layer for i, o in pairwise(sizes) for layer in (t.Linear(i, o), t.ReLU())]
    return layers[:-1]


def dense_pair(builder, outputs: int):
    mine = builder((1, 8, 8), hidden=(30, 20), latent=3)
    encoder = t.Sequential(t.Flatten(), *dense(64, 30, 20, outputs))
    decoder = t.Sequential(*dense(3, 20, 30, 64), t.Unflatten(1, (1, 8, 8)))
    return mine, t.ModuleDict({"encoder": encoder, "decoder": decoder})


def conv_pair():
    mine = models.vae((3, 8, 12), "conv", (9,), (4, 5), latent=3)
    encoder = t.Sequential(
        t.Conv2d(3, 4, 4, 2, 1), t.ReLU(), t.Conv2d(4, 5, 4, 2, 1), t.ReLU(), t.Flatten(), *dense(30, 9, 6)
    )
    decoder = t.Sequential(
        *dense(3, 9, 30), t.ReLU(), t.Unflatten(1, (5, 2, 3)),
        t.ConvTranspose2d(5, 4, 4, 2, 1), t.ReLU(), t.ConvTranspose2d(4, 3, 4, 2, 1),
    )  # fmt: skip
    return mine, t.ModuleDict({"encoder": encoder, "decoder": decoder})


PAIRS = {
    "vae": lambda: dense_pair(models.vae, 6),
    "ae": lambda: dense_pair(lambda *a, **k: models.autoencoder(*a, likelihood="bernoulli", **k), 3),
    "conv vae": conv_pair,
}


def outputs(mine, theirs) -> None:
    """Both give the same codes and images."""
    shape = (3, 8, 12) if mine.encoder[0].__class__ is nn.Conv2d else (1, 8, 8)
    x, z = (np.random.default_rng(5).random((7, *s), dtype=np.float32) for s in (shape, (3,)))
    with no_grad(), torch.no_grad():
        for part, given in (("encoder", x), ("decoder", z)):
            here, there = getattr(mine, part)(Tensor(given)).numpy(), theirs[part](torch.from_numpy(given)).numpy()
            assert here.shape == there.shape and np.ptp(here) > 0.01
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_trained_here_and_loaded_there(name, tmp_path):
    manual_seed(0)
    mine, theirs = PAIRS[name]()
    adam, shape = optim.Adam(mine.parameters(), lr=0.01), (1, 8, 8) if name != "conv vae" else (3, 8, 12)
    for _ in range(5):
        adam.zero_grad()
        mine.loss(np.random.default_rng(0).random((20, *shape), dtype=np.float32)).total.backward()
        adam.step()
    weights.save(tmp_path / "mine.safetensors", mine.state_dict(), {"model": name})
    theirs.load_state_dict(files.load_file(tmp_path / "mine.safetensors"), strict=True)
    outputs(mine, theirs)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("by", ["file", "arrays"])
def test_trained_there_and_loaded_here(name, by, tmp_path):
    torch.manual_seed(0)
    mine, theirs = PAIRS[name]()
    x, adam = torch.rand(20, *((1, 8, 8) if name != "conv vae" else (3, 8, 12))), torch.optim.Adam(theirs.parameters())
    for _ in range(5):
        adam.zero_grad()
        (theirs["decoder"](theirs["encoder"](x)[:, :3]) - x).square().mean().backward()
        adam.step()
    if by == "file":
        files.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
        state, header = weights.load(tmp_path / "theirs.safetensors")
        assert header == {}
    else:
        state = {key: a.numpy() for key, a in theirs.state_dict().items()}
    mine.load_state_dict(state)
    outputs(mine, theirs)


IMAGES = (5, 6, 4, 4)
LAYERS = {  # here, there, the shape of what it is given
    "Linear": (lambda: nn.Linear(6, 3), lambda: t.Linear(6, 3), (5, 6)),
    "Embedding": (lambda: nn.Embedding(9, 4), lambda: t.Embedding(9, 4), (5, 2)),
    "LayerNorm": (lambda: nn.LayerNorm((4, 4)), lambda: t.LayerNorm((4, 4)), IMAGES),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), lambda: t.GroupNorm(3, 6), IMAGES),
    "BatchNorm": (lambda: nn.BatchNorm(6), lambda: t.BatchNorm2d(6), IMAGES),
    "Conv2d": (lambda: nn.Conv2d(6, 8, 3, padding=1, groups=2), lambda: t.Conv2d(6, 8, 3, padding=1, groups=2), IMAGES),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(6, 3, 4, 2, 1), lambda: t.ConvTranspose2d(6, 3, 4, 2, 1), IMAGES),
    "Sequential": (
        lambda: nn.Sequential(nn.Conv2d(6, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(16, 2)),
        lambda: t.Sequential(t.Conv2d(6, 4, 3), t.GroupNorm(2, 4), t.SiLU(), t.Flatten(), t.Linear(16, 2)),
        IMAGES,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_both_ways(name, tmp_path):
    """Every array is changed at random on one side, its file is loaded on the other, and the outputs agree."""
    here, there, shape = LAYERS[name]
    mine, theirs, rng = here(), there(), np.random.default_rng(3)
    x = rng.integers(0, 9, shape) if name == "Embedding" else rng.random(shape, dtype=np.float32)
    for way, path in (("out", tmp_path / "out.safetensors"), ("in", tmp_path / "in.safetensors")):
        mine, theirs = (here(), theirs) if way == "in" else (mine, there())
        state = {
            key: rng.random(a.shape, dtype=np.float32) + 0.5 if a.dtype.kind == "f" else np.array(7)
            for key, a in mine.state_dict().items()
        }
        if way == "out":
            mine.load_state_dict(state)
            weights.save(path, mine.state_dict())
            theirs.load_state_dict(files.load_file(path), strict=True)
        else:
            theirs.load_state_dict({key: torch.from_numpy(np.asarray(a)) for key, a in state.items()}, strict=True)
            files.save_file(theirs.state_dict(), path)
            mine.load_state_dict(weights.load(path)[0])
        mine.eval()
        theirs.eval()
        expected = theirs(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(mine(Tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-5)
