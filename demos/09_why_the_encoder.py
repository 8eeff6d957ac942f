"""Why the encoder: almost no z of the prior could have made x.

    python demos/09_why_the_encoder.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

log p(x) = log E_p(z)[p(x | z)] needs no encoder: draw z from the prior. Beside it, importance weights:

    naive           log 1/K sum_k p(x | z_k),                      z_k ~ p(z)
    with encoder    log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x)      [Burda et al. 2016]

Both are lower bounds of log p(x), rising with K; (sum w)^2 / sum w^2 says how many of the K samples count. What the
encoder's reparameterised samples buy is in 09_reparameterisation.py.
"""

import math

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, models, no_grad, ops, optim
from minivae.data import Batches
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

LATENT = 20
SIZES = dict(latent=LATENT, hidden=(200,))


def log_likelihoods(decoder, z, x):
    """log p(x_n | z_k) for every pair, (K, N). Bernoulli: x . logits - sum softplus(logits)."""
    logits = decoder(z).reshape((len(z), -1))
    return logits @ x.reshape(len(x), -1).T - ops.softplus(logits).sum(axis=1, keepdims=True)


def train_without_encoder(model, split, epochs, k):
    """Minimise -log 1/K sum_k p(x | z_k), with z_k from the prior: K = 1 is E_p(z)[-log p(x | z)]."""
    rng, batches = backend.current().generator(0), Batches(split, 128)
    adam = optim.Adam(model.decoder.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        for x in batches.epoch(epoch):
            z = rng.standard_normal((k, LATENT), dtype=np.float32)
            adam.zero_grad()
            (math.log(k) - ops.logsumexp(log_likelihoods(model.decoder, z, x), axis=0)).mean().backward()
            adam.step()
    for p in model.decoder.parameters():
        p.requires_grad = False  # the decoder stays as it is when it is given an encoder


@no_grad()
def log_weights(model, x, k, encoder):
    """log w (K, N): with the encoder log p(x, z) - log q(z | x), without it log p(x | z) for z from the prior."""
    rng = backend.current().generator(1)
    if encoder:
        return np.concatenate([model.log_weights(x, min(k, 100), rng).data for _ in range(-(-k // 100))])
    return log_likelihoods(model.decoder, rng.standard_normal((k, LATENT), dtype=np.float32), x).data


def bound(log_w):
    """The mean over images of -log 1/K sum_k w_k in nats, and the median of (sum w)^2 / sum w^2."""
    w = np.exp(log_w - log_w.max(axis=0))
    nats = -(np.log(w.mean(axis=0)) + log_w.max(axis=0)).mean()
    return float(nats), float(np.median(w.sum(axis=0) ** 2 / (w * w).sum(axis=0)))


def main(dataset, epochs, path):
    vae = models.build("vae", shape=dataset.shape, **SIZES)
    Trainer(vae, dataset, Options(epochs=epochs)).run()
    trained = {"VAE": vae}
    for k in (1, 10, 100):
        print(f"A decoder trained without an encoder, K = {k}; then, to evaluate it as the VAE is, an encoder for it:")
        trained[f"no encoder, K = {k}"] = model = models.build("vae", shape=dataset.shape, **SIZES)
        train_without_encoder(model, dataset.train, epochs, k)
        Trainer(model, dataset, Options(epochs=max(1, epochs // 2))).run()

    x = next(Batches(dataset.test, 100, shuffle=False).epoch(0))
    print(f"\n-log p(x) in nats, one evaluator for all: importance weights with K = 1000, {len(x)} test images")
    bounds = {name: bound(log_weights(model, x, 1000, encoder=True))[0] for name, model in trained.items()}
    for name, nats in bounds.items():
        print(f"  {name:22} {nats:7.2f}   {nats - bounds['VAE']:+7.2f}")
    print("Trained on one z of the prior (K = 1) the decoder draws the mean image: nothing tells it which z is for x.")

    curves = {}
    for name, most in (("prior", 10_000), ("encoder", 1000)):
        log_w = log_weights(vae, x, most, encoder=name == "encoder")
        ks = [10**i for i in range(5) if 10**i <= most]
        curves[f"z from the {name}"] = ks, *zip(*[bound(log_w[:k]) for k in ks], strict=True)
        print(f"\nThe VAE, z from the {name}\n{'K':>8} {'nats':>8}  effective sample size")
        for row in zip(*curves[f"z from the {name}"], strict=True):
            print("{:8} {:8.1f} {:10.1f}".format(*row))

    draw(trained, bounds, curves, path)
    print(f"\n{path}")


def draw(trained, bounds, curves, path):
    figure = Figure((12, 8.6), dpi=150, layout="constrained")
    figure.suptitle("Why the encoder: almost no z of the prior could have made x", fontsize=15)
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.8, 1])
    z = backend.current().generator(3).standard_normal((25, LATENT), dtype=np.float32)
    for axes, (name, model) in zip(top.subplots(1, len(trained)), trained.items(), strict=True):
        axes.imshow(grid(model.decode(z), 5), cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{name}: samples\n$-\\log p(x) \\leq$ {bounds[name]:.1f} nats", fontsize=11)
        axes.axis("off")
    left, right = bottom.subplots(1, 2)
    for (name, (ks, nats, size)), style in zip(curves.items(), "so", strict=True):
        left.semilogx(ks, nats, f"{style}-", color=COLOURS[3 * (style == "s")], label=name)
        right.loglog(ks, size, f"{style}-", color=COLOURS[3 * (style == "s")], label=name)
    right.loglog([1, 1000], [1, 1000], ":", color="gray", label="all count equally")
    left.set(title="The VAE's -log p(x), estimated twice", ylabel="bound, nats per image")
    right.set(title="How many of the K samples count", ylabel="effective sample size")
    for axes in (left, right):
        axes.set_xlabel("K, samples for each image")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=10)
