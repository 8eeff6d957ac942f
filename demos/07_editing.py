"""Editing: to make a stroke bolder, move its code along the direction in which codes of bold strokes lie.

    python demos/07_editing.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

An attribute a(x) is a number that anyone can measure in an image. If it is nearly linear in the code, a ~ w.z + c, then

    z' = z + t sd(a) w / |w|^2       is the nearest code of which t standard deviations more are expected.

Nothing told the VAE of these attributes. What is asked for is then measured in the decoded images themselves.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import models
from minivae.data import Batches
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

STEPS = np.linspace(-2, 2, 9, dtype=np.float32)  # standard deviations that are asked for
SHOWN = 3  # images for each attribute


def attributes(x):
    """Moments of images (N, 1, H, W): how much ink, how wide, how tall, how slanted to the right; (N,) each."""
    h, w = x.shape[2:]
    down, across = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w)[None, :] - (w - 1) / 2
    ink = x[:, 0].sum(axis=(1, 2)) + 1e-6

    def mean(values):
        return (x[:, 0] * values).sum(axis=(1, 2)) / ink

    xx, yy = mean(across**2) - mean(across) ** 2, mean(down**2) - mean(down) ** 2
    xy = mean(across * down) - mean(across) * mean(down)
    return {"ink": ink, "width": np.sqrt(xx), "height": np.sqrt(yy), "slant": -xy / yy}


def main(dataset, epochs, path):
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test))
    model = models.vae(dataset.shape, hidden=(400,), latent=16)
    Trainer(model, dataset, Options(epochs=epochs, lr_schedule="cosine")).run()

    z, z_test = model.encode(x), model.encode(test)
    # the attributes of what the decoder makes, so that its blur is the same on both sides
    seen, before = attributes(model.decode(z)), attributes(model.decode(z_test))
    rows, curves = {}, {}
    print(
        f"\n{'attribute':10} {'linear in z: R^2':>17} {'asked: +1 sd':>13} {'got':>6} {'the others move at most':>24}"
    )
    for name, values in seen.items():
        design = np.hstack([z, np.ones((len(z), 1), np.float32)])
        *w, c = np.linalg.lstsq(design, values, rcond=None)[0]
        w, spread = np.array(w, np.float32), {key: a.std() for key, a in seen.items()}
        explained = 1 - np.mean((before[name] - z_test @ w - c) ** 2) / before[name].var()
        edited = z_test[:, None] + STEPS[:, None] * (spread[name] * w / (w @ w))
        images = model.decode(edited)
        after = attributes(images.reshape(-1, *dataset.shape))
        moved = {key: (a.reshape(len(test), -1) - before[key][:, None]) / spread[key] for key, a in after.items()}
        curves[name] = np.median(moved[name], axis=0)
        rows[name] = images[:SHOWN]
        one = int(np.argmin(abs(STEPS - 1)))
        others = max(abs(np.median(moved[key][:, one])) for key in moved if key != name)
        print(f"{name:10} {explained:17.2f} {'1.00':>13} {curves[name][one]:6.2f} {others:24.2f}")
    print("An edit gives less than was asked, and moves a little of what goes with it in the data.")
    draw(rows, curves, path)
    print(f"\n{path}")


def draw(rows, curves, path):
    """Left: each attribute from less to more, for a few test images. Right: what came out against what was asked."""
    figure = Figure((13, 8), dpi=150, layout="constrained")
    figure.suptitle("Editing by the code: each image, with less and more of one attribute", fontsize=15)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.05])
    for axes, (name, images) in zip(left.subplots(len(rows), 1), rows.items(), strict=True):
        page = grid(images.reshape(-1, *images.shape[2:]), len(STEPS))
        axes.imshow(page, cmap="gray", vmin=0, vmax=1, extent=(0, len(STEPS), SHOWN, 0), aspect="equal")
        axes.set_yticks([SHOWN / 2], [name], fontsize=12)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(STEPS)) + 0.5, [f"{t:+.1f}" if t else "as it is" for t in STEPS])
    axes.set_xlabel("asked for, in standard deviations of the attribute")
    axes = right.subplots()
    axes.plot(STEPS, STEPS, "k:", label="exactly as asked")
    for (name, curve), colour, marker in zip(curves.items(), COLOURS, "os^D", strict=False):
        axes.plot(STEPS, curve, marker=marker, color=colour, label=name)
    axes.set_title("Measured in the decoded images")
    axes.set_xlabel("change asked for, standard deviations")
    axes.set_ylabel("change found, standard deviations (median over test images)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=15, test=1000)
