"""The latent space: what the prior asks for is a map around 0 in which few places are empty.

    python demos/07_latent_space.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

An autoencoder puts codes where it likes. The VAE's KL term draws q(z | x) towards p(z) = N(0, I): codes fill what the
prior covers, and a grid z = Phi^-1(u) through the inverse normal CDF shows it in equal shares. Figures: codes of two
numbers; codes of ten, by PCA and t-SNE; straight lines between codes (of means, not of samples); single latents.

A point of the latent space is empty if it is farther from every training code than 99% of the test codes are.
"""

import itertools

import demo
import numpy as np
from matplotlib.figure import Figure
from scipy import spatial, stats

from minivae import models, plots
from minivae.data import Batches
from minivae.metrics import nearest_neighbour_accuracy
from minivae.train import Options, Trainer


def main(dataset, epochs, path):
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test))
    fitted = {}
    for name, latent in itertools.product(("ae", "vae"), (2, 10)):
        sizes = dict(shape=dataset.shape, hidden=(256, 128), latent=latent, likelihood="bernoulli")
        fitted[name, latent] = model = models.build(name, **sizes)
        Trainer(model, dataset, Options(epochs=epochs, lr_schedule="cosine")).run()
    codes = {key: (model.encode(x), model.encode(test)) for key, model in fitted.items()}

    print(f"\n{'':8} {'5-NN accuracy':>14} {'empty: draws of the prior':>26} {'empty: halfway':>15}")
    for (name, latent), (z, z_test) in codes.items():
        right = nearest_neighbour_accuracy(z, dataset.train.labels, z_test, dataset.test.labels, k=5)
        prior, halfway = gaps(name, fitted[name, latent], x, test)
        print(f"{name.upper():4} {latent:3} {right:14.1%} {prior:26.1%} {halfway:15.1%}")
    print("The AE has no prior: it is given the normal distribution of its codes. Halfway: between two test images.")

    paths = path, *[path.with_stem(f"{path.stem}_{part}") for part in ("projections", "lines", "latents")]
    draw_plane({name: (fitted[name, 2], *codes[name, 2]) for name in ("ae", "vae")}, dataset.test.labels, paths[0])
    draw_projections({name: codes[name, 10][1] for name in ("ae", "vae")}, dataset.test.labels, paths[1])
    draw_lines({name: (fitted[name, 10], codes[name, 10][1]) for name in ("ae", "vae")}, paths[2])
    draw_latents(fitted["vae", 10], codes["vae", 10][1], paths[3])
    print("\n" + "\n".join(map(str, paths)))


def gaps(name, model, x, test):
    """The share of empty points among draws of the prior, and among points halfway between two test codes."""
    rng = np.random.default_rng(0)
    z, z_test = model.encode(x), model.encode(test)
    prior = rng.multivariate_normal(z.mean(axis=0), np.cov(z.T), 2000)
    if name == "vae":  # a code is a draw of q(z | x): the means alone are narrower than the prior
        posteriors = (model.posterior(images) for images in (x, test))
        z, z_test = (rng.normal(mu.data, np.exp(logvar.data / 2)) for mu, logvar in posteriors)
        prior = rng.standard_normal((2000, model.latent))
    halfway, tree = (z_test + np.roll(z_test, 1, axis=0)) / 2, spatial.cKDTree(z)
    far = np.quantile(tree.query(z_test)[0], 0.99)
    return tuple(float(np.mean(tree.query(points)[0] > far)) for points in (prior, halfway))


def scatter(axes, points, labels):
    for kind in np.unique(labels):
        colour = plots.COLOURS[kind]
        axes.scatter(*points[labels == kind].T, s=5, alpha=0.6, linewidths=0, color=colour)
        middle, box = np.median(points[labels == kind], axis=0), dict(boxstyle="round,pad=0.1", fc="white", ec=colour)
        axes.annotate(str(kind), middle, color=colour, weight="bold", ha="center", va="center", bbox=box)


def draw_plane(fitted, labels, path, side=18):
    figure = Figure((11, 11.5), dpi=150, layout="constrained")
    figure.suptitle("Two numbers for an image: the AE puts codes anywhere, the VAE around 0", fontsize=15)
    steps = stats.norm.ppf((np.arange(side, dtype=np.float32) + 0.5) / side)  # equal shares of the prior
    for column, (name, (model, z, z_test)) in zip(figure.subplots(2, 2).T, fitted.items(), strict=True):
        a, b = (steps, steps) if name == "vae" else z.mean(0)[:, None] + z.std(0)[:, None] * steps
        scatter(column[0], z_test, labels)
        column[0].plot(a[[0, -1, -1, 0, 0]], b[[0, 0, -1, -1, 0]], "k--", lw=1.5)
        column[0].set(title=f"{name.upper()}: codes of test images", xlabel="$z_1$", ylabel="$z_2$")
        plane = np.stack(np.meshgrid(a, b[::-1]), axis=-1).reshape(-1, 2)  # z2 rises upwards, as above
        column[1].imshow(plots.grid(model.decode(plane), side), cmap="gray", vmin=0, vmax=1)
        column[1].set(title=f"{name.upper()}: the dashed frame, decoded", xticks=[], yticks=[])
    figure.savefig(path)


def draw_projections(codes, labels, path, count=1000):
    from sklearn.manifold import TSNE

    figure = Figure((10, 9.5), dpi=150, layout="constrained")
    figure.suptitle("Ten numbers for an image, seen in the plane (digits: medians of the classes)", fontsize=15)
    for row, (name, z) in zip(figure.subplots(2, 2), codes.items(), strict=True):
        z, kinds = z[:count] - z[:count].mean(axis=0), labels[:count]
        scatter(row[0], z @ np.linalg.svd(z, full_matrices=False)[2][:2].T, kinds)
        scatter(row[1], TSNE(init="pca", perplexity=30, random_state=0, max_iter=500).fit_transform(z), kinds)
        row[0].set_title(f"{name.upper()}: PCA of the codes")
        row[1].set_title(f"{name.upper()}: t-SNE, where only neighbours count")
    figure.savefig(path)


def draw_lines(fitted, path, steps=11, rows=4):
    figure = Figure((14, 3.4), dpi=150, layout="constrained")
    t = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    for axes, (name, (model, z)) in zip(figure.subplots(1, 2), fitted.items(), strict=True):
        lines = np.concatenate([(1 - t) * z[2 * i] + t * z[2 * i + 1] for i in range(rows)])
        axes.imshow(plots.grid(model.decode(lines), steps), cmap="gray", vmin=0, vmax=1)
        axes.set(title=f"{name.upper()}: straight lines between codes of ten numbers", xticks=[], yticks=[])
    figure.savefig(path)


def draw_latents(model, z, path):
    """One latent of a code at a time, from -3 to 3: a row for each, first those that vary most over the images."""
    order, values = np.argsort(-z.var(axis=0)).tolist(), np.linspace(-3, 3, 9, dtype=np.float32)
    one = np.eye(len(order), dtype=np.float32)[order][:, None]
    rows = z[0] * (1 - one) + values[:, None] * one
    plots.traversals(model.decode(rows), order, values.tolist(), "", path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=15)
