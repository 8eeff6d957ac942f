"""What a VQ-VAE cannot do is invent: a PixelCNN learns which maps of its codes are probable, and draws new ones.

    python demos/14_vq_prior.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    one code      log p(c_i | c_1 .. c_(i-1), class), from masked convolutions: a place sees only what was read before
    an image      -log p(c) = -sum_i log p(c_i | c_before), in nats; / log 2: the bits of its codes in a file
    a new image   draw c_1, then c_2 given it, ..., c_49, and let the VQ-VAE decode the map

Codes drawn without regard to each other, all alike or each as frequent as it is, decode to rubble: what makes a
picture lies between the codes. [van den Oord et al. 2016b, 2017]
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, models
from minivae.data import Batches
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

CODES, COLUMNS = 32, 10


def main(dataset, epochs, path):
    test = next(Batches(dataset.test, 500, shuffle=False).epoch(0))
    variance = float((dataset.train.images / np.float32(255)).var())
    print(f"First the VQ-VAE: {CODES} codes, maps of 7x7")
    codec = models.vqvae(dataset.shape, CODES, dim=8, channels=(16, 32), data_variance=variance)
    Trainer(codec, dataset, Options(epochs, 64, lr=2e-3, lr_schedule="cosine")).run()
    print("\nThen the prior of its codes, told the class")
    backend.manual_seed(0)
    prior = models.Prior(codec.eval(), dataset.shape, 32, 4, 3, len(dataset.classes))
    trainer = Trainer(prior, prior.examples(dataset), Options(epochs, 64, lr=4e-3, lr_schedule="cosine"))
    trainer.run()
    prior.eval()

    rows, labels = prior.encode(test), dataset.test.labels[: len(test)]
    counts = np.bincount(prior.encode(next(Batches(dataset.train, 2000).epoch(0))).ravel(), minlength=CODES) + 1e-3
    p = counts / counts.sum()
    place = prior.networks[0].nll(rows.reshape(-1, *prior.maps[0]), labels).data  # (N, h, w)
    nats = {
        "all alike": np.log(CODES),
        "by frequency": float(-np.log(p)[rows].mean()),
        "PixelCNN": float(place.mean()),
    }
    places = rows.shape[1]
    for name, value in nats.items():
        print(f"    {name:14} {value:6.3f} nats per code, {value * places / np.log(2):6.1f} bits per image")

    rng = np.random.default_rng(0)
    drawn = {
        "Codes drawn all alike": prior.decode(rng.integers(0, CODES, (20, places))),
        "Codes drawn by frequency": prior.decode(rng.choice(CODES, (20, places), p=p)),
        "Test images, encoded and decoded": prior.decode(rows[:20]),
    }
    classes = np.repeat(np.arange(len(dataset.classes))[:COLUMNS], COLUMNS)
    told = prior.sample(len(classes), rng, classes)
    steps = grown(prior, 3, counts.argmax(), rng)
    draw(drawn, told, steps, nats, place.mean(axis=0), dataset.classes, path)
    print(f"\n{path}")


def grown(prior, label, common, rng):
    """One image while it is drawn: after 0, 7, 14, ... codes; the places yet to come have the commonest one."""
    h, w = prior.maps[0]
    codes = prior.networks[0].sample((h, w), 1, rng, np.array([label])).reshape(1, -1)
    maps = np.full((h + 1, h * w), common)
    for row in range(h + 1):
        maps[row, : row * w] = codes[0, : row * w]
    return prior.decode(maps)


def draw(drawn, told, steps, nats, place, names, path):
    figure = Figure((13.5, 8.2), dpi=150, layout="constrained")
    figure.suptitle("A prior of codes: what a VQ-VAE needs to draw new images", fontsize=16)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.15])
    top, bottom = left.subfigures(2, 1, height_ratios=[1.25, 1])
    for axes, (title, images) in zip(top.subplots(3, 1), drawn.items(), strict=True):
        axes.imshow(grid(images, COLUMNS), cmap="gray", vmin=0, vmax=1)
        axes.set(title=title, xticks=[], yticks=[])
    bars, where = bottom.subplots(1, 2)
    bars.bar(list(nats), list(nats.values()), color=COLOURS[: len(nats)])
    bars.set(title="What a code costs", ylabel="nats per code, test images")
    bars.tick_params(axis="x", labelrotation=20)
    for i, value in enumerate(nats.values()):
        bars.text(i, value, f"{value:.2f}", ha="center", va="bottom")
    bars.set_ylim(0, 1.12 * max(nats.values()))
    shown = where.imshow(place, cmap="viridis", vmin=0)
    where.set(title="Where it costs", xticks=[], yticks=[])
    bottom.colorbar(shown, ax=where, label="nats, mean of the place", shrink=0.8)
    upper, lower = right.subfigures(2, 1, height_ratios=[1, 0.2])
    axes = upper.subplots()
    axes.imshow(grid(told, COLUMNS), cmap="gray", vmin=0, vmax=1)
    side = told.shape[2] + 1
    axes.set_yticks([side * (i + 0.5) for i in range(len(told) // COLUMNS)], names[: len(told) // COLUMNS])
    axes.set(title="Drawn by the PixelCNN, a row for each class", xticks=[])
    axes.tick_params(length=0)
    axes = lower.subplots()
    axes.imshow(grid(steps, len(steps)), cmap="gray", vmin=0, vmax=1)
    axes.set(title=f"A {names[3]} while it is drawn, row of codes after row of codes", xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=6000, epochs=8)
