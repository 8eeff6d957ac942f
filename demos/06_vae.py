"""The VAE, from the formula to samples.

    python demos/06_vae.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    prior and decoder   z ~ N(0, I),  p(x | z) = Bernoulli(decoder(z))
    encoder             q(z | x) = N(mu, sigma^2), where mu and log sigma^2 are what encoder(x) gives
    ELBO                E_q[log p(x | z)] - KL(q(z | x) || p(z))  <=  log p(x)

The expectation is that of one sample, z = mu + sigma eps with eps ~ N(0, I), so that gradients pass through it to
mu and sigma; the KL is known in closed form, sum (mu^2 + sigma^2 - 1 - log sigma^2) / 2. [Kingma & Welling 2014]
The same two networks give a tighter bound by K samples, log (1/K) sum p(x, z_k) / q(z_k | x). [Burda et al. 2016]
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, metrics, models, ops
from minivae.data import Batches
from minivae.plots import COLOURS, grid
from minivae.tensor import no_grad
from minivae.train import Options, Trainer

KS = (1, 2, 5, 10, 20, 50, 100)
SHOWN = 32


@no_grad()
def by_hand(model, x, rng):
    """The two terms of -ELBO as the formulas have them, nats per image: this is all that model.loss computes."""
    mu, logvar = ops.split(model.encoder(x), 2, axis=-1)
    sigma = ops.exp(logvar / 2)
    z = mu + sigma * rng.standard_normal(mu.shape, dtype=np.float32)
    logits = model.decoder(z)
    reconstruction = ops.binary_cross_entropy_with_logits(logits, x).sum() / len(x)  # -log p(x | z)
    kl = ((mu**2 + sigma**2 - 1 - logvar) / 2).sum() / len(x)
    return float(reconstruction), float(kl)


def main(dataset, epochs, path):
    model = models.build("vae", shape=dataset.shape, hidden=(400,), latent=20)
    trainer = Trainer(model, dataset, Options(epochs=epochs))
    trainer.run()

    x = next(Batches(dataset.test, 500, shuffle=False).epoch(0))
    rng = backend.current().generator
    loss = model.loss(x, rng(0))
    print(f"\nOf {len(x)} test images, in nats per image    -log p(x | z)      KL    -ELBO")
    for name, (reconstruction, kl) in {
        "the formulas above": by_hand(model, x, rng(0)),
        "model.loss": [float(term) for term in loss.terms.values()],
    }.items():
        print(f"    {name:36} {reconstruction:13.3f} {kl:7.3f} {reconstruction + kl:8.3f}")
    bounds = [model.nll_bound(x, k, rng(1)).mean() for k in KS]
    print("\nThe bound of -log p(x) falls with K, the samples for each image, and its steps become small:")
    print("    K      " + "".join(f"{k:8}" for k in KS))
    print("    bound  " + "".join(f"{bound:8.2f}" for bound in bounds))
    active = metrics.active_units(model.encode(x))
    print(f"\n{active} of the {model.latent} latents are in use: their means vary from image to image.")
    draw(trainer.history, bounds, x[:SHOWN], model, path)
    print(f"\nTerms, bounds, reconstructions and samples: {path}")


def draw(history, bounds, x, model, path):
    figure = Figure((11, 9.2), dpi=150, layout="constrained")
    figure.suptitle("A VAE pays for its code, the KL, to save on pixels, and can then invent images", fontsize=15)
    top, pictures = figure.subfigures(2, 1, height_ratios=[1, 1.6])
    terms, tighter = top.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for term, label, colour, style in (
        ("loss", "-ELBO, the sum", COLOURS[6], "-"),
        ("reconstruction", "-log p(x | z)", COLOURS[0], "--"),
        ("kl", "KL(q(z | x) || p(z))", COLOURS[3], "-."),
    ):
        terms.plot(epochs, [row[f"test_{term}"] for row in history], style, color=colour, label=label, lw=2)
    terms.set(title="The terms of the ELBO", xlabel="epoch", ylabel="nats per test image", ylim=(0, None))
    terms.xaxis.get_major_locator().set_params(integer=True)
    terms.legend(frameon=False)
    tighter.semilogx(KS, bounds, "o-", color=COLOURS[2])
    tighter.set_xticks(KS, [str(k) for k in KS])
    tighter.minorticks_off()
    tighter.set(title="The bound tightens with samples", xlabel="K, samples for each image")
    tighter.set_ylabel("bound of -log p(x), nats per image")
    for axes in (terms, tighter):
        axes.grid(alpha=0.3)
    recalled, invented = pictures.subplots(1, 2)
    pairs = np.stack([x, model.reconstruct(x)], axis=1).reshape(-1, *x.shape[1:])
    recalled.imshow(grid(pairs, 8), cmap="gray")
    recalled.set_title("Test images, each beside its reconstruction")
    invented.imshow(grid(model.sample(len(pairs)), 8), cmap="gray")
    invented.set_title("Samples: z ~ N(0, I), decoded")
    for axes in (recalled, invented):
        axes.axis("off")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10000, epochs=25)
