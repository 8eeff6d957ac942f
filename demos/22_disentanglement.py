"""Disentanglement: does each latent follow one factor of the images? Six measures, and what they do not agree on.

    python demos/22_disentanglement.py [--data sprites|dsprites] [--train N] [--epochs N] [--out FOLDER]

A sprite is made of five numbers: shape, scale, orientation, posX, posY. A beta-VAE, which pays beta times for its code,
finds them without being told that they exist, some of them, each in a latent of its own. [Higgins et al. 2017]

The measures are given the codes and the true factors. Beside the codes of the model they see the same codes rotated, in
which the same is known but no latent stands alone; and noise, of which nothing can be known. What a measure gives to
noise is its own zero: Modularity's is high, and an accuracy's is that of guessing.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import disentanglement, metrics, models
from minivae.data import Batches
from minivae.disentanglement.information import entropy, mutual_information
from minivae.errors import InputError
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer

BETA, LATENT = 4.0, 6
VALUES = np.linspace(-2.5, 2.5, 9, dtype=np.float32)


def main(dataset, epochs, path):
    if not dataset.test.factors:
        raise InputError(f"the factors of '{dataset.name}' are not known: give sprites or dsprites with --data.")
    model = models.build(
        "beta-vae", shape=dataset.shape, hidden=(256, 128), activation="gelu", latent=LATENT, beta=BETA
    )
    Trainer(model, dataset, Options(epochs=epochs, batch_size=64)).run()
    model.eval()

    z = np.concatenate([model.encode(x) for x in Batches(dataset.test, 500, shuffle=False).epoch(0)])
    order = np.argsort(-z.std(axis=0))  # those that vary most come first
    z = z[:, order]
    factors = {name: v for name, v in dataset.test.factors.items() if v.max() > v.min()}
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((LATENT, LATENT)))
    codes = {"the codes": z, "rotated": z @ rotation, "noise": rng.standard_normal(z.shape)}
    table = {name: disentanglement.scores(c, factors, np.random.default_rng(1), ["shape"]) for name, c in codes.items()}

    print(f"\n{'of ' + str(len(z)) + ' test images':22}" + "".join(f"{name:>12}" for name in table))
    for measure in table["noise"]:
        print(f"{measure:22}" + "".join(f"{scores[measure]:12.3f}" for scores in table.values()))
    values = np.stack(list(factors.values()), axis=1)
    told = mutual_information(z, values) / entropy(values)
    print(f"\nShare of each factor that a latent alone tells; {metrics.active_units(z)} latents are active")
    print(f"{'':6}" + "".join(f"{name:>13}" for name in factors))
    for i, row in enumerate(told):
        print(f"  z{i + 1:<3} " + "".join(f"{share:13.0%}" for share in row))
    draw(traversals(model, dataset, order), told, list(factors), table, path)
    print(f"\nTraversals, what each latent tells, and the scores: {path}")


def traversals(model, dataset, order):
    """The code of the first test image, of which one latent after the other takes all VALUES, decoded."""
    z = model.encode(next(Batches(dataset.test, 1, shuffle=False).epoch(0)))[0]
    rows = np.tile(z, (LATENT, len(VALUES), 1))
    for row, latent in zip(rows, order, strict=True):
        row[:, latent] = VALUES
    return model.decode(rows.reshape(-1, LATENT))


def draw(images, told, names, table, path):
    figure = Figure((13, 9), dpi=150, layout="constrained")
    figure.suptitle(f"A beta-VAE (beta = {BETA:g}) that was told no factor: what its latents follow", fontsize=15)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    moves, shares = top.subplots(1, 2, width_ratios=[1.55, 1])

    moves.imshow(grid(images, len(VALUES)), cmap="gray", vmin=0, vmax=1)
    middle = 65 * (np.arange(max(LATENT, len(VALUES))) + 0.5)
    moves.set_xticks(middle[: len(VALUES)], [f"{v:.1f}" for v in VALUES])
    best = [f"$z_{i + 1}$: {names[row.argmax()]}, {row.max():.0%}" for i, row in enumerate(told)]
    moves.set_yticks(middle[:LATENT], best)
    moves.tick_params(length=0)
    moves.set(title="One latent at a time; beside it the factor of which it tells most", xlabel="value of the latent")

    shares.imshow(told, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), share in np.ndenumerate(told):
        shares.text(j, i, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.5 else "black")
    shares.set_xticks(range(len(names)), names)
    shares.set_yticks(range(LATENT), [f"$z_{i + 1}$" for i in range(LATENT)])
    shares.tick_params(length=0)
    shares.set_title("Share of each factor that a latent tells, $I(z_i; v_j) / H(v_j)$")

    bars = bottom.subplots()
    for k, ((name, scores), colour) in enumerate(zip(table.items(), (*COLOURS[:2], COLOURS[9]), strict=True)):
        places = np.arange(len(scores)) + 0.27 * (k - 1)
        drawn = bars.bar(places, list(scores.values()), 0.26, color=colour, label=name)
        bars.bar_label(drawn, fmt="%.2f", fontsize=8, padding=1)
    bars.set_xticks(range(len(scores)), [measure.replace(" ", "\n") for measure in scores])
    bars.set(ylim=(0, 1.1), ylabel="score, 1 is best")
    bars.set_title("Six measures of the codes, of the same codes rotated, and of noise")
    bars.legend(frameon=False, ncols=3, loc="upper right")
    bars.grid(alpha=0.3, axis="y")
    bars.set_axisbelow(True)
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=12, test=6000, source="sprites")
