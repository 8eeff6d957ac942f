"""beta and the trade of rate for distortion.

    python demos/08_rate_distortion.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    rate R = KL(q(z | x) || p(z))       the nats that the code tells of x
    distortion D = -E_q[log p(x | z)]   the nats of x that the code leaves out
    loss = D + beta R                   -ELBO for beta = 1      [Higgins et al. 2017; Alemi et al. 2018]

Every model is a point (R, D). Those that no other model beats make a falling convex curve, on which dD/dR = -beta:
beta chooses a point by its slope, and the lines D + beta R = const touch the curve. No model is below D = H - R,
where H is the entropy of the data. Annealing, free bits and a capacity are other ways to a point.
"""

import itertools

import demo
from matplotlib.figure import Figure

from minivae import backend, models
from minivae.data import Batches
from minivae.metrics import active_units
from minivae.plots import COLOURS, grid
from minivae.train import Options, Trainer, evaluate

LATENT = 16
BETAS = (0.1, 0.3, 0.7, 1.0, 2.0, 4.0, 10.0)
OTHERS = {  # name: the model's arguments, epochs of annealing as a share of all
    "annealed to beta 4": (dict(beta=4.0), 0.5),
    "free bits 2 a latent": (dict(free_bits=2.0), 0.0),
    "capacity 12 nats": (dict(beta=4.0, capacity=12.0), 0.5),
}


def main(dataset, epochs, path):
    fit = {beta: train(dataset, epochs, f"beta {beta:g}", dict(beta=beta)) for beta in BETAS}
    others = {name: train(dataset, epochs, name, *how) for name, how in OTHERS.items()}
    points = {beta: point for beta, (_, point) in fit.items()}

    print(f"\n{'':22} {'R (KL)':>8} {'D':>8} {'-ELBO':>8}  active units of {LATENT}")
    x = next(Batches(dataset.test, 1000, shuffle=False).epoch(0))
    for name, (model, (r, d)) in ({f"beta {beta:g}": pair for beta, pair in fit.items()} | others).items():
        print(f"{name:22} {r:8.2f} {d:8.2f} {r + d:8.2f}  {active_units(model.encode(x)):6}")
    rates, distortions = zip(*points.values(), strict=True)
    falls = all(a > b for a, b in itertools.pairwise(rates))
    rises = all(a < b for a, b in itertools.pairwise(distortions))
    print(f"\nKL falls with beta: {falls}. Reconstruction error rises with beta: {rises}.")
    own = sum(min(points, key=lambda b: points[b][1] + beta * points[b][0]) == beta for beta in BETAS)
    print(
        f"By D + beta R the model trained with that beta is the best of all {len(BETAS)}: {own} of {len(BETAS)} times."
    )
    print(f"The best ELBO is that of beta = {min(points, key=lambda b: sum(points[b])):g}.")
    draw(fit, others, dataset, path)
    print(f"\n{path}")


def train(dataset, epochs, name, arguments, annealed=0.0):
    """A VAE, and its (R, D) on the test images."""
    print(name)
    backend.manual_seed(0)
    model = models.build("vae", shape=dataset.shape, hidden=(200,), latent=LATENT, **arguments)
    trainer = Trainer(model, dataset, Options(epochs=epochs, anneal=round(annealed * epochs), lr=2e-3))
    trainer.run()
    terms = evaluate(model, dataset.test)
    return model, (terms["kl"], terms["reconstruction"])


def draw(fit, others, dataset, path):
    figure = Figure((12, 8), dpi=150, layout="constrained")
    figure.suptitle("beta trades rate for distortion: each model lies where the slope is -beta", fontsize=15)
    left, right = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    axes = left.subplots()
    rates, distortions = zip(*[point for _, point in fit.values()], strict=True)
    axes.plot(rates, distortions, "o", color=COLOURS[0], ms=8, label="VAE with this beta")
    span = (max(rates) - min(rates)) / 7
    for beta, (_, (r, d)) in fit.items():
        step = span / (1 + 0.3 * beta**2) ** 0.5  # about as long on the page for every slope
        axes.plot([r - step, r + step], [d + beta * step, d - beta * step], "-", color=COLOURS[5], lw=1.5, zorder=0)
        axes.annotate(f"$\\beta$ = {beta:g}", (r, d), (-9, -14), textcoords="offset points", fontsize=11, ha="right")
    axes.plot([], [], "-", color=COLOURS[5], label="slope $-\\beta$")
    for (name, (_, point)), i, marker in zip(others.items(), (3, 2, 4), "D^s", strict=True):
        axes.plot(*point, marker, color=COLOURS[i], ms=9, label=name)
    axes.set(
        xlabel="rate R = KL(q(z|x) || p(z)), nats per image", ylabel="distortion D = -E log p(x|z), nats per image"
    )
    axes.margins(x=0.14)  # room for the labels
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=11)
    shown = (min(fit), 1.0, max(fit))
    x = next(Batches(dataset.test[:16], 16, shuffle=False).epoch(0))
    panels = right.subplots(3, 2)
    for row, beta in zip(panels, shown, strict=True):
        model, _ = fit[beta]
        images = model.reconstruct(x), model.sample(16, backend.current().generator(1))
        for axes, picture, title in zip(row, images, ("reconstructions", "samples"), strict=True):
            axes.imshow(grid(picture, 4), cmap="gray", vmin=0, vmax=1)
            axes.set_title(f"{title}, $\\beta$ = {beta:g}", fontsize=11)
            axes.axis("off")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=8)
