"""Flows bend a normal distribution into what it should be.

    python demos/17_flows.py [--data glyphs|mnist] [--train N] [--epochs N] [--out FOLDER]

    z_0 ~ N(mu, s^2),  z_t = f_t(z_(t-1)),  log q(z_T) = log q(z_0) - sum_t log |det f_t'|   [Rezende & Mohamed 2015]

Densities p = e^-U / Z of the plane, and what planar flows of ever more steps make of them when they are trained to let
KL(q || p) = E_q[log q + U] + log Z fall (Z is summed over a grid). With no step it is the mean field, a normal with
independent coordinates, which covers none of them; each step can bend it along one line. --epochs: how many times 200
steps; --train: of how many draws the KL is a mean at the end. No images are needed.
"""

import demo
import numpy as np
from matplotlib.figure import Figure

from minivae import Tensor, nn, no_grad, ops, optim
from minivae.models.flow import make_flow

DEPTHS = (0, 2, 6, 16)
SIDE = np.linspace(-4, 4, 161, dtype=np.float32)
GRID = np.stack(np.meshgrid(SIDE, SIDE), -1).reshape(-1, 2)
CELL = float(SIDE[1] - SIDE[0]) ** 2


def ring(a, b):
    r = ops.sqrt(a * a + b * b + 1e-6)
    sides = ops.stack([-0.5 * ((a - 2.0) / 0.6) ** 2.0, -0.5 * ((a + 2.0) / 0.6) ** 2.0])
    return 0.5 * ((r - 2.0) / 0.4) ** 2.0 - ops.logsumexp(sides, axis=0)


def wave(a, b):
    return 0.5 * ((b - ops.sin(np.pi / 2 * a)) / 0.4) ** 2.0 + 0.5 * (a / 2.0) ** 2.0


def fork(a, b):
    w, gap = ops.sin(np.pi / 2 * a), 3.0 * ops.exp(-0.5 * ((a - 1.0) / 0.6) ** 2.0)
    both = ops.stack([-0.5 * ((b - w) / 0.35) ** 2.0, -0.5 * ((b - w + gap) / 0.35) ** 2.0])
    return 0.5 * (a / 2.0) ** 2.0 - ops.logsumexp(both, axis=0)


def energy(u, z):
    return u(z[..., 0], z[..., 1])


def fit(u, depth, steps, count, rng):
    """Draws of a planar flow fitted to e^-U / Z, and its KL(q || p)."""
    flow, numbers = make_flow("planar", 2, depth), nn.Parameter(np.zeros((1, 6 if depth else 4), np.float32))
    optimizer = optim.Adam([*flow.parameters(), numbers], lr=1e-2)
    fall = optim.cosine(steps)
    for step in range(steps):
        optimizer.lr = 1e-2 * fall(step)
        optimizer.zero_grad()
        z, log_q = flow(numbers, (256,), rng)
        heat = min(1.0, 0.1 + 2 * step / steps)  # from flat to steep, as in the paper: modes are found before they part
        (log_q + heat * energy(u, z)).mean().backward()
        optimizer.step()
    with no_grad():
        z, log_q = flow(numbers, (count,), rng)
        log_z = float(np.log(np.exp(-energy(u, Tensor(GRID)).data.astype(float)).sum() * CELL))
        return z.data[:, 0], (log_q + energy(u, z)).mean().item() + log_z


def main(dataset, epochs, path):
    rng, steps, count = np.random.default_rng(0), 200 * epochs, len(dataset.train)
    fits = {}
    print(f"KL(q || p) in nats of planar flows with {', '.join(map(str, DEPTHS))} steps")
    for u in (ring, wave, fork):
        fits[u] = {depth: fit(u, depth, steps, count, rng) for depth in DEPTHS}
        print(f"  {u.__name__:8}" + "".join(f"{kl:8.3f}" for _, kl in fits[u].values()))
    draw(fits, path)
    print(f"\n{path}")


def draw(fits, path):
    figure = Figure((14, 8.8), dpi=100, layout="constrained")
    axes = figure.subplots(3, 5)
    for row, (u, found) in zip(axes, fits.items(), strict=True):
        row[0].imshow(np.exp(-energy(u, Tensor(GRID)).data).reshape(161, 161), extent=(-4, 4, -4, 4), origin="lower")
        row[0].set_title(f"p: {u.__name__}")
        for ax, (depth, (z, kl)) in zip(row[1:], found.items(), strict=True):
            ax.hist2d(*z.T, bins=SIDE[::2])
            ax.set_title(f"{'mean field' if not depth else f'{depth} planar steps'}: KL {kl:.2f}")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[], aspect="equal")
    figure.savefig(path)


if __name__ == "__main__":
    demo.run(main, __doc__, train=10_000, epochs=6)
