"""Compression: a VQ-VAE says what may be lost, its prior how few bits the rest needs, an entropy coder writes them.

    python demos/15_compression.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    distortion    the mean squared error of the decoded images
    rate          bits per image: -log2 p(codes), which the coder (rANS) reaches to within a per cent and a header

More codes, more bits, less error: a curve. A better model p of the same codes moves it to the left, without any
change of the images. PNG loses nothing; JPEG is made for photographs. All are given one sheet of all images, so that
a file's header counts for little. The codec knows its data, PNG and JPEG know all data: it wins here and nowhere else.
"""

import io

import demo
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from minivae import backend, compression, models
from minivae.data import Batches
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

CODES = (2, 6, 16)
QUALITIES = (5, 10, 20, 40, 75)
COUNT = 400


def sheet(images):
    """Grey images (400, 1, h, w) as one of 20 x 20."""
    n = int(len(images) ** 0.5)
    pixels = images.reshape(n, n, *images.shape[2:]).transpose(0, 2, 1, 3)
    return Image.fromarray(np.rint(255 * pixels.reshape(n * images.shape[2], -1)).astype(np.uint8))


def saved(images, **options):
    """The bytes of a sheet in a format, and the images that come back."""
    file = io.BytesIO()
    sheet(images).save(file, **options)
    n, (h, w) = int(len(images) ** 0.5), images.shape[2:]
    pixels = np.asarray(Image.open(io.BytesIO(file.getvalue())), np.float32) / 255
    return len(file.getvalue()), pixels.reshape(n, h, n, w).transpose(0, 2, 1, 3).reshape(images.shape)


def main(dataset, epochs, path):
    x = next(Batches(dataset.test, COUNT, shuffle=False).epoch(0))
    x = x[: int(len(x) ** 0.5) ** 2]
    variance = float((dataset.train.images / np.float32(255)).var())
    curves, pictures = {"frequencies": [], "PixelCNN": []}, {}
    print(f"{'codes':>5}  {'model of the codes':20} {'bytes per image':>15} {'-log2 p / 8':>12} {'error':>8}")
    for codes in CODES:
        backend.manual_seed(0)
        codec = models.vqvae(dataset.shape, codes, dim=8, channels=(16, 32), data_variance=variance)
        fit(codec, dataset, epochs, 2e-3)
        prior = models.Prior(codec, dataset.shape, 24, 4, 3)
        fit(prior, prior.examples(dataset), epochs, 4e-3)
        for name, model in (("frequencies", codec), ("PixelCNN", prior)):
            made = compression.compress(model, x)
            back = compression.decompress(model, made.data)
            assert (back == made.codes).all()  # without loss
            decoded = compression.images_of(model, back, x.shape[1:])
            curves[name].append((len(made.data) / len(x), float(((decoded - x) ** 2).mean())))
            size, error = curves[name][-1]
            print(f"{codes:5}  {name:20} {size:15.2f} {made.bits / 8 / len(x):12.2f} {error:8.4f}")
        pictures[f"{codes} codes, PixelCNN: {size:.1f} bytes"] = decoded
    png, _ = saved(x, format="PNG", optimize=True)
    curves["PNG (no loss)"] = [(png / len(x), 0.0)]
    curves["JPEG"] = []
    for quality in QUALITIES:
        size, decoded = saved(x, format="JPEG", quality=quality, optimize=True)
        curves["JPEG"].append((size / len(x), float(((decoded - x) ** 2).mean())))
        if quality in (QUALITIES[0], QUALITIES[2]):
            pictures[f"JPEG, quality {quality}: {size / len(x):.1f} bytes"] = decoded
    for name in ("PNG (no loss)", "JPEG"):
        for size, error in curves[name]:
            print(f"{'':5}  {name:20} {size:15.2f} {'':12} {error:8.4f}")
    draw(curves, {f"test images, PNG: {png / len(x):.0f} bytes": x, **pictures}, path)
    print(f"\n{path}")


def fit(model, dataset, epochs, lr):
    """Train in silence."""
    import contextlib

    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(model, dataset, Options(epochs, 64, lr=lr, lr_schedule="cosine")).run()
    model.eval()


def draw(curves, pictures, path):
    figure = Figure((13.5, 5.6), dpi=150, layout="constrained")
    figure.suptitle("Rate and distortion: what an image costs in a file, and what is lost", fontsize=15)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.25])
    axes = left.subplots()
    for i, (name, points) in enumerate(curves.items()):
        axes.plot(*zip(*points, strict=True), "os^D"[i] + "-", color=COLOURS[i], label=name)
    for (size, error), codes in zip(curves["PixelCNN"], CODES, strict=True):
        axes.annotate(f"K = {codes}", (size, error), (8, 0), textcoords="offset points", va="center")
    axes.set(xscale="log", xlabel="bytes per image (log)", ylabel="mean squared error of a pixel", ylim=(-0.002, None))
    axes.legend(frameon=False)
    for axes, (title, images) in zip(right.subplots(len(pictures), 1), pictures.items(), strict=True):
        axes.imshow(grid(images[:14], 14), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=11)
        axes.set(xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=4000, epochs=6)
