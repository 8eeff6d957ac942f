"""A linear autoencoder is PCA, up to a change of basis.

    python demos/03_linear_ae_is_pca.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    encoder z = A x + a,  decoder x^ = W z + b,  loss |x - x^|^2 : no nonlinearity, a code of k = 30 numbers

The loss cannot fall below that of PCA, whose components are the k leading right singular vectors V of the centred
data [Eckart & Young 1936], and has no other minimum than their subspace [Baldi & Hornik 1989]. But any basis of it
will do: W R and R^-1 A have the same loss, so the columns of W are not the components; a rotation makes them so.
The principal angles between the two subspaces say how far training still is.
"""

import demo
import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import subspace_angles

from minivae import models, optim
from minivae.data import Batches, Split
from minivae.plots import COLOURS, grid
from minivae.train import evaluate

K = 30


def error(x, basis):
    """The mean over rows of |x - x^|^2, where x^ is the projection of x on the span of the basis's columns."""
    q = np.linalg.qr(basis)[0]
    return float((x * x).sum() - ((x @ q) ** 2).sum()) / len(x)


def main(dataset, epochs, path):
    x, test = (next(Batches(s, len(s), shuffle=False).epoch(0)) for s in (dataset.train, dataset.test))
    x, test = x - x.mean(axis=0), test - x.mean(axis=0)  # centred, as for PCA: the biases stay near 0
    flat, flat_test = x.reshape(len(x), -1), test.reshape(len(test), -1)
    pca = np.linalg.svd(flat, full_matrices=False)[2][:K].T  # V (784, 30), a component in each column

    model = models.build("linear-ae", shape=dataset.shape, latent=K)
    weight = model.decoder[0].weight.data  # W (784, 30)
    angles = train(model, Split(x), epochs, lambda: np.degrees(subspace_angles(weight, pca)))

    ours, best = evaluate(model, Split(test))["loss"], error(flat_test, pca)
    print(
        f"\n{'test squared error per image':34} PCA {best:.3f}, linear autoencoder {ours:.3f} ({ours / best - 1:+.2%})"
    )
    print(f"{'largest principal angle':34} {angles[-1][0]:.2f} degrees; {angles[0][0]:.0f} after the first epoch")
    columns = weight / np.linalg.norm(weight, axis=0)
    print(f"{'columns of W that are components':34} {int((abs(columns.T @ pca) > 0.99).sum())} of {K}")
    # the orthonormal basis of W's span nearest to the components: Procrustes
    q = np.linalg.qr(weight)[0]
    u, _, v = np.linalg.svd(q.T @ pca)
    rotated = q @ u @ v
    print(f"{'... after a rotation':34} {int(((rotated * pca).sum(0) > 0.99).sum())} of {K}")

    ks = sorted({*range(1, K + 1, 3), K})
    errors = {"PCA": [error(flat_test, pca[:, :k]) for k in ks]}
    errors["columns of W, the first k"] = [error(flat_test, weight[:, :k]) for k in ks]
    errors["the same, rotated"] = [error(flat_test, rotated[:, :k]) for k in ks]
    bases = {"PCA's components": pca, "the autoencoder's columns of W": columns, "those columns, rotated": rotated}
    draw(bases, ks, errors, np.array(angles), dataset.shape, path)
    print(f"\nThe components, the errors and the angles: {path}")


def train(model, split, epochs, angles):
    """Adam, its rate falling to 0 over half a cosine; returns the angles after each epoch, the largest first."""
    batches = Batches(split, 100)
    adam = optim.Adam(model.parameters(), lr=1e-2)
    schedule = optim.cosine(epochs * len(batches))
    history = []
    for epoch in range(1, epochs + 1):
        for x in batches.epoch(epoch):
            adam.lr = 1e-2 * schedule(adam.steps)
            adam.zero_grad()
            loss = model.loss(x).total
            loss.backward()
            adam.step()
        history.append(angles())
        if epoch in (1, epochs) or epoch % 20 == 0:
            print(f"epoch {epoch:3}: loss of the last batch {float(loss):6.2f}, angle {history[-1][0]:5.2f} degrees")
    return history


def draw(bases, ks, errors, angles, shape, path):
    figure = Figure((11, 7.8), dpi=150, layout="constrained")
    figure.suptitle("A linear autoencoder finds PCA's subspace, in a basis of its own", fontsize=15)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    for axes, (title, basis) in zip(top.subplots(1, 3), bases.items(), strict=True):
        tiles = basis.T[:20].reshape(20, *shape)
        axes.imshow(grid(0.5 + 0.5 * tiles / abs(tiles).max(axis=(1, 2, 3), keepdims=True), 5), cmap="gray")
        axes.set_title(title + "\n(the first 20)", fontsize=12)
        axes.axis("off")
    left, right = bottom.subplots(1, 2)
    for (name, values), colour, style in zip(errors.items(), COLOURS, ("o-", "s-", "x--"), strict=False):
        left.plot(ks, values, style, color=colour, label=name, ms=7)
    left.set(title="Any k columns are worse than PCA; all 30 are as good", xlabel="k, how many columns are used")
    left.set(ylabel="squared error per test image")
    right.semilogy(range(1, len(angles) + 1), angles[:, 0], "o-", color=COLOURS[3], ms=3, label="largest")
    right.semilogy(range(1, len(angles) + 1), np.median(angles, axis=1), "-", color=COLOURS[0], label="median")
    right.axhline(1, color="gray", ls=":")
    right.set(title="The subspaces turn towards each other", xlabel="epoch", ylabel="principal angle, degrees")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=5000, epochs=120)
