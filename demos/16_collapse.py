"""Posterior collapse: a decoder that is too good leaves nothing to the code, and what helps.

    python demos/16_collapse.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    log p(x | z) = sum_i log p(x_i | x_1 .. x_(i-1), z)        each pixel sees those before it, and z

At first z says little, and the decoder learns to predict each pixel from its neighbours before the encoder has caught
up. Then the cheapest code is none: KL(q(z | x) || p(z)) stays near 0. Remedies: a weight of the KL that rises from 0
[Bowman et al. 2016]; nats that cost nothing [Kingma et al. 2016]; and steps of the encoder alone, for as long as they
pay, before each step of the decoder [He et al. 2019]. I(x; z) is the mutual information of images and codes. Images
of half the sides, so that it takes a minute. Right: what a decoder draws of the code of an image. If the code is
empty, anything may come.
"""

from dataclasses import replace

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, models
from minivae.data import Batches
from minivae.lagging import information
from minivae.metrics import active_units
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer, evaluate

RUNS = {  # name: the model, its arguments, the options
    "plain": ({}, {}),
    "annealed": ({}, {"anneal": 2}),
    "free bits": ({"free_bits": 0.5}, {}),
    "inner steps": ({}, {"inner_steps": 10}),
}
SIZES = {"hidden": (200,), "latent": 8, "width": 12, "layers": 2, "kernel": 5}
SHOWN = 12


def halved(split):
    """The brightest of each 2x2 pixels: strokes stay whole."""
    n, c, h, w = split.images.shape
    return replace(split, images=split.images.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5)))


def main(dataset, epochs, path):
    dataset = replace(dataset, train=halved(dataset.train), test=halved(dataset.test[:1000]))
    x = (next(Batches(dataset.test, SHOWN, shuffle=False).epoch(0)) > 0.5).astype(np.float32)
    fits, pictures = {}, {}
    for name, (arguments, options) in RUNS.items():
        print(name)
        backend.manual_seed(0)
        model = models.build("pixelvae", shape=dataset.shape, **SIZES, **arguments)
        options = {key: min(value, epochs) if key == "anneal" else value for key, value in options.items()}
        trainer = Trainer(model, dataset, Options(epochs=epochs, batch_size=50, lr=2e-3, binarize=True, **options))
        trainer.run()
        mu = np.concatenate([model.encode(x) for x in Batches(dataset.test, 500, shuffle=False).epoch(0)])
        found = evaluate(model, dataset.test, binarize=True)
        found |= {"information": information(model, dataset.test, binarize=True), "units": active_units(mu)}
        fits[name] = found, trainer.history
        pictures[name] = model.decode(model.encode(x), backend.current().generator(1))
    print(f"\n{'':12} {'-ELBO':>8} {'-log p(x|z)':>12} {'KL':>7} {'I(x; z)':>8}  active units of {SIZES['latent']}")
    for name, (found, _) in fits.items():
        bound = found["reconstruction"] + found["kl"]
        print(
            f"{name:12} {bound:8.2f} {found['reconstruction']:12.2f} {found['kl']:7.2f} {found['information']:8.2f}  "
            f"{found['units']}"
        )
    draw(fits, x, pictures, path)
    print(f"\n{path}")


def draw(fits, x, pictures, path):
    figure = Figure((13, 6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, (_, history)), colour in zip(fits.items(), COLOURS, strict=False):
        left.plot(
            [row["epoch"] for row in history], [row["test_kl"] for row in history], "o-", color=colour, label=name
        )
    left.set(
        xlabel="epoch", ylabel="KL(q(z|x) || p(z)) of test images, nats", title="What the code tells", ylim=(0, None)
    )
    left.xaxis.get_major_locator().set_params(integer=True)
    left.grid(alpha=0.3)
    left.legend(frameon=False)
    right.imshow(grid(np.concatenate([x, *pictures.values()]), len(x)), cmap="gray", vmin=0, vmax=1)
    height = grid(np.concatenate([x, *pictures.values()]), len(x)).shape[0] / (1 + len(pictures))
    right.set_yticks([height * (i + 0.5) for i in range(1 + len(pictures))], ["image", *pictures])
    right.set(xticks=[], title="Drawn from the code of each image")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=1500, epochs=4)
