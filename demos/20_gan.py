"""Two networks play against each other: one forges, one judges. Eight clusters on a ring, then images.

    python demos/20_gan.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    judge     minimises -E log D(x) - E log(1 - D(G(z)))        what is real, what is forged?
    forger    minimises -E log D(G(z))                          z ~ N(0, I)

There is no likelihood: neither loss falls as the forgeries get better. The game can go wrong as no minimisation
does. On the ring, with Adam's usual momentum the forger rushes after the judge from cluster to cluster and never
holds all eight (mode collapse); with less momentum it finds them all. [Goodfellow et al. 2014, Radford et al. 2016]
"""

from contextlib import redirect_stdout
from dataclasses import replace

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, classifier, models
from minivae.data import Dataset, Split
from minivae.models import GAN, nets
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

CENTRES = np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4]) * 2
SPREAD = 0.1


class Game(GAN):
    """A GAN on the plane whose players have a momentum."""

    def __init__(self, momentum):
        judge = nets.dense_encoder((2,), (64, 64), 1, "leaky-relu")
        super().__init__(nets.dense_encoder((2,), (64, 64), 2), judge, latent=2)
        self.momentum = momentum

    def players(self):
        return {name: player._replace(betas=(self.momentum, 0.999)) for name, player in super().players().items()}


def main(dataset, epochs, path):
    rng = np.random.default_rng(0)
    count = len(dataset.train)
    points = (CENTRES[rng.integers(0, 8, count)] + SPREAD * rng.standard_normal((count, 2))).astype(np.float32)
    ring = Dataset("ring", Split(points), Split(points[:500]))
    stages = [epochs * k for k in (0, 1, 2, 3, 4)]
    rings = {}
    for momentum in (0.9, 0.5):
        backend.manual_seed(0)
        run = Trainer(Game(momentum), ring, Options(batch_size=64, lr=0.01))
        rings[momentum] = []
        for stage in stages:
            if stage:
                run.options = replace(run.options, epochs=stage)
                with redirect_stdout(None):
                    run.run()
            rings[momentum].append(run.model.sample(2000, np.random.default_rng(1)))
        print(f"Ring, momentum {momentum}: clusters held after {stages} epochs: {[*map(found, rings[momentum])]}")

    print("\nImages, by convolutions")
    backend.manual_seed(0)
    model = models.gan(dataset.shape, arch="conv", hidden=(), channels=(16, 32), noise=0)
    trainer = Trainer(model, dataset, Options(epochs, 64, lr=5e-4))
    trainer.run()
    samples = model.eval().sample(2000, np.random.default_rng(1))
    names = dataset.classes
    judge = classifier.classifier(dataset.train, len(names))
    shares = classifier.class_coverage(judge, samples, len(names))
    labels = classifier.labels_of(judge, samples)
    score = classifier.classification_accuracy_score(samples, labels, dataset.test, len(names))
    print(f"\n  classes of 2,000 samples, as a classifier sees them: {np.round(100 * shares, 1)} %")
    print(f"  rarest class {100 * shares.min():.1f} %; {np.sum(shares > 0.03)} of {len(names)} above 3 %")
    print(f"  a classifier of samples, which the first has labelled, is right of {100 * score:.1f} % of real images")
    print(f"  (the first one itself: {100 * classifier.accuracy(judge, dataset.test):.1f} %)")
    draw(rings, points, stages, samples, shares, names, trainer.history, path)
    print(f"\n{path}")


def found(x):
    """How many clusters have at least 2% of the points within four standard deviations."""
    squares = ((x[:, None] - CENTRES) ** 2).sum(-1)
    near = squares.min(1) < (4 * SPREAD) ** 2
    return int(np.sum(np.bincount(squares.argmin(1)[near], minlength=8) > 0.02 * len(x)))


def draw(rings, points, stages, samples, shares, names, history, path):
    figure = Figure((13.5, 9.4), dpi=150, layout="constrained")
    figure.suptitle("Generative adversarial networks: a game in place of a likelihood", fontsize=16)
    above, below = figure.subfigures(2, 1, height_ratios=[1.05, 1])
    panels = above.subplots(2, len(stages))
    for row, (momentum, states) in zip(panels, rings.items(), strict=True):
        for axes, stage, x in zip(row, stages, states, strict=True):
            axes.scatter(*points[:500].T, s=3, color="0.8", label="data")
            axes.scatter(*x[:500].T, s=3, color=COLOURS[3 if momentum == 0.9 else 0], label="forged")
            axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"{stage} epochs: {found(x)} of 8 clusters", fontsize=10)
        row[0].set_ylabel(f"momentum {momentum}")
    panels[0, 0].legend(loc="upper right", frameon=False, markerscale=3)
    left, middle, right = below.subplots(1, 3, width_ratios=[1.1, 1, 1])
    left.imshow(grid(samples[:100], 10), cmap="gray", vmin=0, vmax=1)
    left.set(title="Forged images, drawn at random", xticks=[], yticks=[])
    middle.bar(names, 100 * shares, color=COLOURS[0])
    middle.axhline(3, color=COLOURS[3], ls="--", label="3 %")
    middle.set(title="Their classes, as a classifier sees them", ylabel="% of the samples")
    middle.legend(frameon=False)
    epochs = [row["epoch"] for row in history]
    for name, colour in (("discriminator", COLOURS[3]), ("generator", COLOURS[0])):
        right.plot(epochs, [row[f"train_{name}"] for row in history], "o-", color=colour, label=name)
    for level in (2 * np.log(2), np.log(2)):
        right.axhline(level, color="0.6", ls=":")
    right.set(title="Their losses do not say how good they are", xlabel="epoch", ylabel="nats; dotted: nobody can tell")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=6000, epochs=8)
