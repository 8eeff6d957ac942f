"""A hierarchy of codes: a layer above learns the prior of the one below.

    python demos/18_hierarchy.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    p(x, z) = p(x | z_1) p(z_1 | z_2) p(z_2),   q(z | x) = q(z_2 | x) q(z_1 | z_2, x)
    loss = -log p(x | z_1) + KL(q(z_1 | z_2, x) || p(z_1 | z_2)) + KL(q(z_2 | x) || p(z_2))  [Sonderby et al. 2016]

With one layer it is the VAE. With two and the whole weight on the KL from the start, a layer may be given up before it
has learnt to say anything; with a weight that rises from 0 over the first epochs (warm-up) it stays in use. Right: each
row keeps one z_2 of the prior, and draws z_1 anew. How alike a row is shows what z_2 says: about its KL, in nats, and
that is little, as z_1 can say all that the decoder needs.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, models
from minivae.data import Batches
from minivae.metrics import active_units
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer, evaluate

RUNS = {  # name: dimensions of the layers, and whether beta warms up
    "one layer": ((32,), True),
    "two, no warm-up": ((32, 16), False),
    "two, warm-up": ((32, 16), True),
}
ROWS, COLUMNS = 8, 10


def main(dataset, epochs, path):
    x = next(Batches(dataset.test, 1000, shuffle=False).epoch(0))
    fits = {}
    for name, (latents, warm) in RUNS.items():
        print(name)
        backend.manual_seed(0)
        model = models.build("hvae", shape=dataset.shape, hidden=(200,), latents=latents)
        options = Options(epochs=epochs, lr=2e-3, lr_schedule="cosine", binarize=True, anneal=warm * (epochs // 3))
        trainer = Trainer(model, dataset, options)
        trainer.run()
        fits[name] = model, evaluate(model, dataset.test, binarize=True, samples=20), trainer.history

    print(f"\n{'':18} {'-ELBO':>8} {'-log p(x)':>10} {'KL z_1':>8} {'KL z_2':>8}   active units z_1, z_2")
    for name, (model, found, _) in fits.items():
        kls = found.get("kl_1", found["kl"]), found.get("kl_2", 0.0)
        active = [active_units(layer.z.data) for layer in model.layers(x, mean=True)]
        print(
            f"{name:18} {found['loss']:8.2f} {found['nll']:10.2f} {kls[0]:8.2f} {kls[1]:8.2f}   "
            + ", ".join(map(str, active))
        )
    draw(fits, path)
    print(f"\n{path}")


def draw(fits, path):
    figure = Figure((14, 6), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    elbo, kl = left.subplots(2, 1)
    for (name, (_, _, history)), colour in zip(fits.items(), (COLOURS[0], COLOURS[3], COLOURS[2]), strict=True):
        epochs = [row["epoch"] for row in history]
        bound = [row["test_reconstruction"] + row["test_kl"] for row in history]
        elbo.plot(epochs, bound, "o-", color=colour, label=name)
        if "test_kl_2" in history[0]:
            kl.plot(epochs, [row["test_kl_2"] for row in history], "o-", color=colour, label=f"z$_2$, {name}")
            kl.plot(epochs, [row["test_kl_1"] for row in history], "o:", color=colour, label=f"z$_1$, {name}")
    best = min(row["test_reconstruction"] + row["test_kl"] for _, _, h in fits.values() for row in h)
    elbo.set(ylabel="-ELBO of test images, nats", ylim=(best - 3, best + 50), title="Two layers need the warm-up")
    kl.set(xlabel="epoch", ylabel="KL of each layer, nats", ylim=(0, 1.5 * kl.get_ylim()[1]))
    for axes in (elbo, kl):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, ncols=2, loc="upper right")
    model, rng = fits["two, warm-up"][0], backend.current().generator(1)
    top = np.repeat(rng.standard_normal((ROWS, model.latents[-1]), dtype=np.float32), COLUMNS, axis=0)
    axes = right.subplots()
    axes.imshow(grid(model.sample(len(top), rng, top=top), COLUMNS), cmap="gray", vmin=0, vmax=1)
    axes.set_title("Samples: one z$_2$ a row, z$_1$ drawn anew")
    axes.axis("off")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=8000, epochs=12)
