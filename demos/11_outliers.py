"""Outliers: a model of digits finds some images strange, but not always those that we do.

    python demos/11_outliers.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    PCA, AE     s(x) = |x - x^|^2, where x^ is x out of its code
    VAE         s(x) = -ELBO(x) = -log p(x | z) + KL(q(z | x) || p(z)) >= -log p(x), with z of q(z | x)
    typicality  s(x) = |-ELBO(x) - its mean over the training images|      [Nalisnick et al. 2019b]

AUROC: how often the score of a strange image is above that of a test digit; 1 always, 0.5 chance, 0 the wrong way.
A density is no measure of belonging: a black image, which is like no digit, may be more probable than any, as the
mode of a Gaussian is like no sample of it. [Nalisnick et al. 2019a, "Do deep generative models know what they
don't know?"] Digits cost what their strokes cost; an image without strokes costs less.
"""

import demo
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from minivae import InputError, backend, data, models, report
from minivae.data import Batches, Split
from minivae.data.places import own_folder
from minivae.metrics import auroc
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

K = 30  # numbers in a code


def main(dataset, epochs, path):
    if dataset.shape != (1, 28, 28):
        raise InputError(f"this demo compares grey images of 28x28, not {dataset.shape}: choose glyphs or mnist.")
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test))
    sets = {"test digits": test} | strange(test)
    fitted = {}
    for name in ("ae", "vae"):
        print(f"\n{name}")
        backend.manual_seed(0)
        fitted[name] = models.build(name, shape=dataset.shape, hidden=(400,), latent=K)
        Trainer(fitted[name], dataset, Options(epochs=epochs, lr=2e-3, lr_schedule="cosine")).run()
    flat = x.reshape(len(x), -1)
    mean = flat.mean(axis=0)
    components = np.linalg.svd(flat - mean, full_matrices=False)[2][:K]
    typical = report.score(fitted["vae"], Split(x))["-ELBO"].mean()
    scores = {}  # by score, then by set
    for name, images in sets.items():
        centred, vae = images.reshape(len(images), -1) - mean, report.score(fitted["vae"], Split(images))
        row = {
            "PCA": (centred**2).sum(axis=1) - ((centred @ components.T) ** 2).sum(axis=1),
            "AE": report.score(fitted["ae"], Split(images))["reconstruction"],
            "VAE, -ELBO": vae["-ELBO"],
            "-log p(x|z)": vae["reconstruction"],
            "KL": vae["kl"],
            "typicality": abs(vae["-ELBO"] - typical),
        }
        for score, values in row.items():
            scores.setdefault(score, {})[name] = values
    areas = {s: {name: auroc(by["test digits"], by[name]) for name in sets} for s, by in scores.items()}
    print(f"\n{'AUROC against test digits':26}" + "".join(f"{score:>13}" for score in scores))
    for name in list(sets)[1:]:
        print(f"    {name:22}" + "".join(f"{areas[score][name]:13.3f}" for score in scores))
    failed = [name for name, area in areas["VAE, -ELBO"].items() if area < 0.5 and name != "test digits"]
    print(f"Below 0.5: images that count as more ordinary than digits; by -ELBO {', '.join(failed) or 'none'}.")
    draw(sets, scores, areas, path)
    print(f"\n{path}")


def strange(test):
    """Images that are no digits as those of training are, by name, (N, 1, 28, 28) in [0, 1]."""
    n = len(test)
    small = np.zeros_like(test)
    small[:, :, 7:21, 7:21] = test.reshape(n, 1, 14, 2, 14, 2).mean(axis=(3, 5))
    sets = {"letters": next(Batches(data.letters(1, n).test, n, shuffle=False).epoch(0))}
    if own_folder("cifar10"):
        colour = data.cifar10().test.images[:n].transpose(0, 2, 3, 1)
        grey = [Image.fromarray(image).convert("L").resize((28, 28), Image.Resampling.BOX) for image in colour]
        sets["photographs"] = np.float32(np.stack([np.asarray(image) for image in grey])[:, None]) / 255
    else:
        print("No photographs: set MINIVAE_DATA to a folder with cifar10/ in it to see them.")
    sets["noise"] = np.random.default_rng(0).random(test.shape, dtype=np.float32)
    sets["inverted digits"] = 1 - test
    sets["digits of half size"] = small
    sets["dim digits"] = test * np.float32(0.3)
    sets["one grey"] = np.broadcast_to(np.linspace(0, 1, n, dtype=np.float32)[:, None, None, None], test.shape)
    sets["black"] = np.zeros_like(test)
    return sets


def draw(sets, scores, areas, path, columns=8):
    figure = Figure((13, 11), dpi=150, layout="constrained")
    figure.suptitle("What is strange to us is not always strange to a model of digits", fontsize=16)
    top, bottom = figure.subfigures(2, 1)
    top.suptitle("orange: less strange than the digits themselves (AUROC below 0.5)", color=COLOURS[3], fontsize=12)
    units = {"PCA": "squared error", "AE": "squared error", "VAE, -ELBO": "nats", "typicality": "nats from the mean"}
    for axes, (score, unit) in zip(top.subplots(1, 4, sharey=True), units.items(), strict=True):
        by, right = scores[score], axes.get_yaxis_transform()
        low, high = min(np.quantile(v, 0.02) for v in by.values()), max(v.max() for v in by.values())
        bins = np.geomspace(max(low, 1e-4 * high), high, 70)
        for row, (name, values) in enumerate(by.items()):
            counts = np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0]
            colour = "black" if not row else COLOURS[0] if areas[score][name] >= 0.5 else COLOURS[3]
            axes.fill_between(bins[:-1], -row, 0.85 * counts / counts.max() - row, step="post", color=colour)
            area = f"{areas[score][name]:.3f}" if row else "AUROC"
            axes.text(1.02, -row + 0.2, area, color=colour, transform=right)
        axes.axvline(np.median(by["test digits"]), color="black", lw=1, ls=":")
        axes.set(xscale="log", title=score, xlabel=unit)
        axes.set_yticks(-np.arange(len(sets)) + 0.2, list(sets))
        axes.grid(axis="x", alpha=0.3)
    ends = {"least": slice(columns), "most": slice(-columns, None)}
    for axes, (side, part) in zip(bottom.subplots(1, 2), ends.items(), strict=True):
        picked = [images[np.argsort(scores["VAE, -ELBO"][name])[part]] for name, images in sets.items()]
        axes.imshow(grid(np.concatenate(picked), columns), cmap="gray")
        axes.set(title=f"The {side} strange of each, by -ELBO", xticks=[])
        axes.set_yticks(29 * np.arange(len(sets)) + 14, list(sets))
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=12)
