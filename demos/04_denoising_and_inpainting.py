"""Denoising and inpainting: an autoencoder that is shown less than it must return learns what images are like.

    python demos/04_denoising_and_inpainting.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    denoising autoencoder   x~ = x + noise, or x with pixels set to 0      loss |x - decoder(encoder(x~))|^2
    context encoder         x~ = x with a hole M, painted grey             loss |M * (x - decoder(encoder(x~)))|^2

The noise is drawn anew in each epoch, and the target is always clean, so the noise cannot be learnt by heart
[Vincent et al. 2010]. Of a hole only what surrounds it tells something: here the error counts in it alone
[Pathak et al. 2016]. Nothing but `corruption` tells these models from the plain autoencoder. A random region leaves
much to see around it: there the nearest training image is a strong rival, and with 5,000 of them wins on glyphs.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import backend, models
from minivae.data import Batches
from minivae.plots import grid
from minivae.train import Options, Trainer

NOISES = {"gaussian": 0.5, "masking": 0.5}  # its standard deviation; how probable it is that a pixel is lost
HOLES = {"central": 0.5, "block": 0.5, "region": 0.3}  # the part of each side, or of the area, that is hidden
SHOWN = 12  # columns of the figure


def main(dataset, epochs, path):
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test))

    def fit(name, **corruption):
        print(f"\n{name}, {corruption or 'no noise'}")
        backend.manual_seed(0)  # the same initial weights for all
        model = models.build(name, shape=dataset.shape, hidden=(256,), latent=64, **corruption)
        Trainer(model, dataset, Options(epochs=epochs, batch_size=50, lr=2e-3, lr_schedule="cosine")).run()
        return model

    plain = fit("ae")
    denoised = {}  # by noise: what was seen, and what became of it
    for noise, level in NOISES.items():
        model = fit("dae", corruption=noise, level=level)
        seen, _ = model.corrupt(test, backend.current().generator(1))
        denoised[noise] = {
            "original": test, "corrupted": seen,
            "plain AE": plain.reconstruct(seen), "denoising AE": model.reconstruct(seen),
        }  # fmt: skip

    filled, masks = {}, {}
    for hole, level in HOLES.items():
        model = fit("context", corruption=hole, level=level)
        seen, mask = model.corrupt(test, backend.current().generator(1))
        outputs = {
            "mean-fill": x.mean(axis=0),
            "nearest-fill": nearest(x, test, mask),
            "context": model.reconstruct(seen),
        }
        masks[hole] = mask
        filled[hole] = {"original": test, "masked": seen}
        filled[hole] |= {name: test * (1 - mask) + output * mask for name, output in outputs.items()}

    print("\nDenoising: the squared error to the clean test image, summed over its pixels")
    errors = {noise: {name: squares(y - test).mean() for name, y in ys.items()} for noise, ys in denoised.items()}
    table(errors)
    print("\nInpainting: the root of the mean squared error of the pixels in the hole")
    holes = {
        h: {n: (squares(y - test).sum() / masks[h].sum()) ** 0.5 for n, y in ys.items()} for h, ys in filled.items()
    }
    table(holes)
    draw(denoised, filled, errors, holes, path)
    print(f"\nThe images: {path}")


def nearest(x, test, mask):
    """For each test image, the training image that is nearest to it outside the mask."""
    a, b, seen = (y.reshape(len(y), -1) for y in (x, test, 1 - np.broadcast_to(mask, test.shape)))
    distance = seen @ (a * a).T - 2 * (seen * b) @ a.T  # less that part of the square which is the same for all
    return x[distance.argmin(axis=1)]


def squares(y):
    """The sum of squares of each image."""
    return (y * y).sum(axis=(1, 2, 3), dtype=np.float64)


def table(errors):
    for kind, row in errors.items():
        print(f"    {kind:9}", "   ".join(f"{name} {value:6.3f}" for name, value in row.items() if value))


def draw(denoised, filled, errors, holes, path):
    """A column for each image; under each group of columns, what its rows are and how far from the truth."""
    figure = Figure((12.5, 9.6), dpi=150, layout="constrained")
    figure.suptitle("Shown less than it must return, an autoencoder learns to mend images", fontsize=15)
    for part, groups, measures, unit in zip(
        figure.subfigures(2, 1, height_ratios=[4, 5]), (denoised, filled), (errors, holes),
        ("squared error", "RMSE in the hole"), strict=True,
    ):  # fmt: skip
        n = SHOWN // len(groups)
        for axes, (kind, images) in zip(part.subplots(1, len(groups)), groups.items(), strict=True):
            rows = np.concatenate([ys[:n] for ys in images.values()])
            page = grid(rows, n)
            axes.imshow(page, cmap="gray", vmin=0, vmax=1, extent=(0, n, len(images), 0), aspect=1)
            values = [f"{name}\n{measures[kind][name]:.3g}" if i else name for i, name in enumerate(images)]
            axes.set_yticks(np.arange(len(images)) + 0.5, values)
            axes.set(xticks=[], title=f"{kind}: {unit} at the left")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=3000, epochs=25, test=1000)
