"""Conditional VAEs: images of a class that is asked for, and the rest of an image of which a part is seen.

    python demos/19_conditional.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    log p(x | y) >= E_q[log p(x | y, z)] - KL(q(z | x, y) || p(z | y))       [Sohn et al. 2015]

Above, y is the class, and p(z | y) = N(0, I): what z tells is what the class does not. Each column of samples has one
class, each row one z. Below, y is what is seen of an image, a quarter, a half, or three. A network without z, the
baseline, gives each hidden pixel a probability of its own: its guess is the mean of all that may come, a blur. Each z
of p(z | y) is one way to go on.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, models
from minivae.data import Batches
from minivae.plots import grid
from minivae.train import Options, Trainer, evaluate

SHOWN, WAYS = 8, 4


def trained(name, dataset, epochs, **arguments):
    backend.manual_seed(0)
    model = models.build(name, shape=dataset.shape, **arguments)
    Trainer(model, dataset, Options(epochs=epochs, lr=1e-3)).run()
    return model.eval()


def main(dataset, epochs, path):
    sizes = {"hidden": (200,), "latent": 4}
    print("of a class")
    classes = len(dataset.classes)
    conditional = trained("cvae", dataset, epochs, classes=classes, **sizes)
    plain = trained("vae", dataset, epochs, **sizes)
    few = dataset.test[:1000]
    bounds = [evaluate(model, few, samples=50)["nll"] for model in (conditional, plain)]
    completions, table = {}, []
    for seen in (1, 2, 3):
        print(f"{seen} of 4 quadrants are seen")
        completions[seen] = trained("completion", dataset, epochs, quadrants=seen, hidden=(200, 200), latent=32)
        table.append((seen, evaluate(completions[seen], few, samples=50)))
    print(f"\n-log p(x | class) {bounds[0]:.2f}, -log p(x) of a VAE {bounds[1]:.2f} nats")
    print("quadrants seen    baseline    CVAE, -ELBO    CVAE, 50 samples: -log p(hidden | seen), nats")
    for seen, found in table:
        print(f"{seen:14} {found['baseline']:11.2f} {found['reconstruction'] + found['kl']:14.2f} {found['nll']:12.2f}")
    x = next(Batches(dataset.test, SHOWN, shuffle=False).epoch(0))
    draw(conditional, completions, x, path)
    print(f"\n{path}")


def draw(conditional, completions, x, path):
    rng, classes = backend.current().generator(1), conditional.classes
    figure = Figure((13, 11), dpi=100, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    z = np.repeat(rng.standard_normal((5, conditional.latent), dtype=np.float32), classes, axis=0)
    images = conditional.decode(z, np.tile(np.arange(classes), 5))
    axes = above.subplots()
    axes.imshow(grid(images, classes), cmap="gray", vmin=0, vmax=1)
    axes.set_title("One class a column, one z a row")
    axes.axis("off")
    for (seen, model), axes in zip(completions.items(), below.subplots(1, 3), strict=True):
        output = model.guess(x)
        guess = x * model.seen + model.likelihood.mean(output, 3).data * (1 - model.seen)
        grey = x * model.seen + 0.35 * (1 - model.seen)
        rows = [grey, guess, *[model.complete(x, rng) for _ in range(WAYS)], x]
        axes.imshow(grid(np.concatenate(rows), len(x)), cmap="gray", vmin=0, vmax=1)
        axes.set_title(
            f"{seen} of 4 quadrants: seen, baseline,\n{WAYS} draws of the CVAE, the image itself", fontsize=11
        )
        axes.axis("off")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=8000, epochs=15)
