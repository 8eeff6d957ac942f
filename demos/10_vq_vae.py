"""VQ-VAE: an image as a small map of words, from a dictionary that is learnt with them.

    python demos/10_vq_vae.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    encoder, decoder    z = f(x), a map of 7x7 vectors;  x^ = g(z + sg[e_k - z])
    quantiser           e_k, the nearest of K = 128 codes: k = argmin_j |z - e_j|, for each of the 49
    loss                mean (x^ - x)^2 / var(x) + mean (sg[z] - e_k)^2 + 0.25 mean (z - sg[e_k])^2

sg[.] stops the gradient: argmin has none, so that of e_k is handed to z as it is. [van den Oord et al. 2017] Codes
that are never the nearest get no gradient and die. Remedies: begin with k-means, restart them, no codebook (FSQ).
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import Tensor, backend, models
from minivae.data import Batches
from minivae.ops.quantize import nearest
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

K = 128
PLAIN = dict(codes=K, quantizer="gradient", kmeans=False, restart=0.0)
QUANTIZERS = {  # of K codes each
    "plain": PLAIN,
    "k-means to begin": PLAIN | dict(kmeans=True),
    "restart of the dead": PLAIN | dict(restart=0.03),
    "both, running means": dict(codes=K, quantizer="ema", kmeans=True, restart=0.03),
    "FSQ, 16 x 8 levels": dict(quantizer="fsq", levels=(16, 8)),
}


def clouds(path):
    rng = np.random.default_rng(33)
    x = (rng.uniform(-4, 4, (8, 1, 2)) + 0.6 * rng.standard_normal((8, 100, 2))).reshape(-1, 2).astype(np.float32)
    good, bad = (models.kmeans(x, 8, np.random.default_rng(seed), 30).distortions for seed in (2, 4))
    steps = [models.kmeans(x, 8, np.random.default_rng(2), n) for n in range(len(good))]  # always the same seeds
    print(f"\nk-means: distortion {good[0]:.3f}, {good[1]:.3f}, ..., {good[-1]:.3f}; other seeds end at {bad[-1]:.3f}.")
    figure = Figure((13.5, 3.9), dpi=150, layout="constrained")
    figure.suptitle("k-means: each point goes to its nearest centre, each centre to its points' mean", fontsize=14)
    *planes, curve = figure.subplots(1, 4)
    v, u = np.mgrid[-6:6:300j, -6:6:300j].astype(np.float32)
    for axes, n in zip(planes, (0, 1, len(steps) - 1), strict=True):
        voronoi = nearest(np.stack([u.ravel(), v.ravel()], axis=1), steps[n].centres).reshape(u.shape)
        for k in range(8):
            axes.contour(u, v, voronoi == k, levels=[0.5], colors="gray", linewidths=1)
            axes.plot(*x[steps[n].indices == k].T, ".", color=COLOURS[k], ms=3)
            axes.plot(*np.array([step.centres[k] for step in steps[: n + 1]]).T, "-", color="black", lw=1.5)
        axes.plot(*steps[n].centres.T, "X", color="white", mec="black", ms=11, mew=1.5)
        axes.set(title=f"Lloyd's steps: {n}", xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    curve.plot(good, "o-", bad, "s--")
    curve.set(title="No step increases the error", xlabel="Lloyd's steps", ylabel="distortion: mean $(z - e)^2$")
    curve.legend(["these seeds (k-means++)", "other seeds"], frameon=False)
    figure.savefig(path)


def main(dataset, epochs, path):
    z, e = Tensor(np.float32(0.8), requires_grad=True), np.float32(1)  # e: the nearest code to z
    y = z + (e - z).detach()  # the value is e, the derivative by z is 1
    (y**2).backward()
    print(f"Straight through: z = 0.8 becomes y = {float(y):g}, and d(y^2)/dy = 2 y counts as d/dz, {float(z.grad):g}.")
    clouds(path.with_stem(f"{path.stem}_kmeans"))
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test[:1000]))
    network = dict(shape=dataset.shape, dim=8, channels=(16, 32), data_variance=float(x.var()))
    fits, rows = {}, []
    for name, quantizer in QUANTIZERS.items():
        backend.manual_seed(0)
        print(f"\n{name}")
        fits[name] = Trainer(models.build("vqvae", **network, **quantizer), dataset, Options(epochs, 64, lr=2e-3))
        fits[name].run()
        values = [fits[name].history[-1][f"test_{key}"] for key in ("reconstruction", "code_use", "perplexity")]
        rows.append("    {:20} {:14.4f} {:14.0%} {:12.1f}".format(name, *values))
    print(f"\nTest images               error / var(x)   codes in use   perplexity (at most {K})", *rows, sep="\n")
    draw(fits["both, running means"].model.eval(), test, fits, path)
    print(f"\n{path.with_stem(f'{path.stem}_kmeans')}\n{path}")


def draw(model, x, fits, path):
    maps = model.encode(x)
    padded, windows = np.pad(x[:, 0], ((0, 0), (4, 4), (4, 4))), np.lib.stride_tricks.sliding_window_view
    around = windows(padded, (12, 12), axis=(1, 2))[:, ::4, ::4]
    used = np.unique(maps)
    words = np.stack([around[maps == k].mean(axis=0) for k in used])  # 12x12 pixels around the cells with that code
    order = words[:, 4:8, 4:8].mean(axis=(1, 2)).argsort()  # dark to bright
    swapped = np.repeat(maps[:50, None], len(used), axis=1)
    swapped[:, :, 3, 3] = used[order]  # each code in turn in the middle
    outputs = model.decode(swapped.reshape(-1, *maps.shape[1:])).reshape(*swapped.shape[:2], *x.shape[1:])
    change = abs(outputs - model.decode(maps[:50])[:, None]).mean(axis=(0, 1, 2))
    near = f"{change[8:20, 8:20].sum() / change.sum():.0%} in the 12x12 pixels around the cell"
    print(f"More codes in use need not mean less error. What another code changes in the output: {near}.")
    figure = Figure((13, 9), dpi=150, layout="constrained")
    figure.suptitle("VQ-VAE: images, their 7x7 codes (blue: dark patches, yellow: bright ones), decoded", fontsize=15)
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.8, 1])
    left, right = top.subfigures(1, 2, width_ratios=[1.7, 1])
    pictures = [*x[:8, 0], *order.argsort()[np.searchsorted(used, maps[:8])] / len(used), *model.decode(maps[:8])[:, 0]]
    for i, axes in enumerate(left.subplots(3, 8).flat):
        axes.imshow(pictures[i], cmap="cividis" if i // 8 == 1 else "gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
    curve = right.subplots()
    curve.set_prop_cycle(color=COLOURS[:5], marker=list("Xs^oD"))
    for name, trainer in fits.items():
        curve.plot(range(1, len(trainer.history) + 1), [row["test_perplexity"] for row in trainer.history], label=name)
    curve.set(title="A plain codebook collapses", xlabel="epoch", ylabel=f"perplexity (at most {K})", ylim=(0, None))
    right.legend(loc="outside lower center", ncols=2, frameon=False, columnspacing=1, handlelength=1.5)
    panels = {
        f"The {len(used)} codes in use: the mean of images,\n12x12 pixels around them": grid(words[order, None], 12),
        "The middle code replaced by others:\nthe 16x16 pixels around it": grid(outputs[0, ::8, :, 6:22, 6:22], 4),
        f"Where that changes the output (the box: its cell),\n{near}": change,
    }
    for axes, (title, picture) in zip(bottom.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(picture, cmap="gray")
        axes.set(title=title, xticks=[], yticks=[])
    axes.plot([11.5, 15.5, 15.5, 11.5, 11.5], [11.5, 11.5, 15.5, 15.5, 11.5], color=COLOURS[1], lw=2)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=6000, epochs=6)
