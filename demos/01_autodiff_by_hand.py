"""Autodiff by hand: the chain rule, one step at a time, and then by minivae.

    python demos/01_autodiff_by_hand.py [--train POINTS] [--epochs STEPS] [--out FOLDER]

    L = (tanh(w x + b) - y)^2 + w^2 / 10       one neuron, a target y, and a penalty on its weight

Forward, each line computes a value from earlier ones. Backward, the same lines in reverse: each turns the gradient of
L with respect to its value into that with respect to what it was computed from. Where a value is used twice, as w is,
its gradients add up. That is all of reverse-mode differentiation, and enough to train a network.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from minivae import Tensor, ops
from minivae.plots import COLOURS

# where each value of the graph is drawn, what it is, and of what it was computed
GRAPH = {
    "x": (0, 3.3, "x", ""), "w": (0, 1.5, "w", ""), "b": (0, 4.5, "b", ""), "y": (2, 5.2, "y", ""),
    "a": (1.2, 2.5, "a = w x", "wx"), "s": (2.1, 3.6, "s = a + b", "ab"), "h": (3.4, 3.6, "h = tanh s", "s"),
    "e": (4.2, 4.5, "e = h - y", "hy"), "c": (5.1, 3.5, "c = e²", "e"), "r": (3, 1.5, "r = w² / 10", "w"),
    "L": (6, 2.5, "L = c + r", "cr"),
}  # fmt: skip


def neuron(x, w, b, y):
    """The values of the graph, and the gradients of L with respect to them."""
    a = w * x
    s = a + b
    h = np.tanh(s)
    e = h - y
    c, r = e * e, w * w / 10
    values = {"x": x, "w": w, "b": b, "y": y, "a": a, "s": s, "h": h, "e": e, "c": c, "r": r, "L": c + r}
    dL = dc = dr = 1.0  # L = c + r: a sum passes its gradient on
    de = dc * 2 * e
    dh, dy, ds = de, -de, de * (1 - h * h)  # tanh' = 1 - tanh^2
    da = db = ds
    dx, dw = da * w, da * x + dr * w / 5  # w is used twice: by a and by r
    return values, {"x": dx, "w": dw, "b": db, "y": dy, "a": da, "s": ds, "h": dh, "e": de, "c": dc, "r": dr, "L": dL}


def network(x, y, w1, b1, w2, b2, xp=np):
    """h = tanh(x w1 + b1), the logit l = h w2 + b2, and L = mean(log(1 + e^-yl)) for y = +-1."""
    h = xp.tanh(x @ w1 + b1)
    logit = h @ w2 + b2
    return xp.log1p(xp.exp(-y * logit)).mean(), logit, h


def gradients(x, y, w1, b1, w2, b2):
    """By hand: from L back to each weight. A product A @ B has the gradients g @ B.T and A.T @ g."""
    _, logit, h = network(x, y, w1, b1, w2, b2)
    dlogit = -y / (1 + np.exp(y * logit)) / len(x)
    ds = dlogit @ w2.T * (1 - h * h)
    return x.T @ ds, ds.sum(axis=0), h.T @ dlogit, dlogit.sum(axis=0)


def main(points, steps, path):
    values, grads = neuron(x=1.5, w=0.8, b=-0.5, y=-0.4)
    x, w, b, y = (leaves := {name: Tensor(np.array(values[name]), requires_grad=True) for name in "xwby"}).values()
    ((ops.tanh(w * x + b) - y) ** 2 + w * w / 10).backward()
    print("value        forward    gradient of L by hand    by minivae")
    for name, value in values.items():
        print(f"{GRAPH[name][2]:11} {value:8.4f} {grads[name]:24.6f}", leaves[name].grad if name in leaves else "")

    rng = np.random.default_rng(0)
    t = rng.random((points, 1))
    y = np.where(np.arange(points)[:, None] % 2, 1.0, -1.0)  # two arms of a spiral
    x = y * (0.3 + 2 * t) * np.hstack([np.cos(4.5 * t), np.sin(4.5 * t)]) + 0.08 * rng.standard_normal((points, 2))
    weights = [a for n, m in ((2, 32), (32, 1)) for a in (rng.standard_normal((n, m)) / np.sqrt(n), np.zeros(m))]
    network(x, y, *(tensors := [Tensor(w, requires_grad=True) for w in weights]), xp=ops)[0].backward()
    apart = max(abs(g - t.grad).max() for g, t in zip(gradients(x, y, *weights), tensors, strict=True))
    print(f"\nA network 2-32-1: its gradients by hand and by minivae are at most {apart:.1e} apart")
    for _ in range(steps):
        for w, g in zip(weights, gradients(x, y, *weights), strict=True):
            w -= 1.0 * g
    loss, logit, _ = network(x, y, *weights)
    print(f"After {steps} steps by hand: loss {loss:.4f}, {np.mean(logit * y > 0):.1%} of {points} points right")
    title = f"... and train a network: {np.mean(logit * y > 0):.0%} right after {steps:,} steps"
    draw(values, grads, x, y, weights, title, path)
    print(f"\nThe graph and the network: {path}")


def draw(values, grads, x, y, weights, title, path):
    figure = Figure((13, 6.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    left.axis("off")
    for name, (i, j, text, sources) in GRAPH.items():
        for source in sources:
            arrow = {"arrowstyle": "-|>", "shrinkA": 32, "shrinkB": 42, "lw": 1.3}
            left.annotate("", (i, j), GRAPH[source][:2], arrowprops=arrow)
        box = {"boxstyle": "round,pad=0.6", "fc": "white" if sources else "#E8F1F8", "ec": "gray"}
        left.text(i, j, f"{text}\n{values[name]:^12.3f}\n", ha="center", va="center", bbox=box)
        left.text(i, j - 0.16, f"∂L: {grads[name]:.3f}", ha="center", va="center", color=COLOURS[3], fontsize=10)
    left.set(xlim=(-0.5, 6.5), ylim=(1, 5.7), title="Values flow to the right, gradients of L (∂L) flow back ...")
    mesh = np.stack(np.meshgrid(np.linspace(-2.9, 2.9, 200), np.linspace(-2.9, 2.9, 200)), axis=-1)
    p = 1 / (1 + np.exp(-network(mesh.reshape(-1, 2), 1, *weights)[1].reshape(200, 200)))
    shades = right.contourf(mesh[..., 0], mesh[..., 1], p, np.linspace(0, 1, 11), cmap="PuOr", alpha=0.7)
    for sign, marker, colour in ((-1, "o", "#7F3B08"), (1, "^", "#2D004B")):
        right.plot(*x[y[:, 0] == sign].T, marker, color=colour, ms=4, label=f"y = {sign:+}")
    figure.colorbar(shades, ax=right, label="p(y = +1 | x)", shrink=0.7)
    right.set(title=title, xlabel="first coordinate of x", ylabel="second coordinate of x", aspect="equal")
    right.legend(loc="upper left")
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"train": 400, "epochs": 3000}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"points, or steps (default {default})")
    parser.add_argument("--out", type=Path, default=Path("runs/demos"), help="folder of the figure")
    args = parser.parse_args()
    for name in [name for name in ("train", "epochs") if getattr(args, name) < 1]:
        parser.exit(2, f"minivae: --{name} {getattr(args, name)} trains nothing: give a whole number of at least 1.\n")
    args.out.mkdir(parents=True, exist_ok=True)
    main(args.train, args.epochs, args.out / "01_autodiff_by_hand.png")
