"""gradcheck finds three bugs: wrong gradients of the kind that one writes by hand, each beside its mend.

    python demos/02_gradcheck.py [--out FILE]

The layers are plain NumPy: a forward and a vjp, which turns the gradient g of a loss with respect to the layer's
result into that with respect to its inputs. Of minivae they use `from_vjp` and `gradcheck`, nothing else.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from minivae import from_vjp, gradcheck


# 1. softmax over the last axis: y = e^x / sum e^x
def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_wrong(g, x):
    return g * softmax(x) * (1 - softmax(x))  # forgets that every entry moves all the others


def softmax_right(g, x):
    y = softmax(x)
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


# 2. a bias (3,) added to every row of x (4, 3)
def add_bias(x, b):
    return x + b


def add_bias_wrong(g, x, b):
    return g.copy(), g[0].copy()  # of the right shape, but of the first row only: b was used in all of them


def add_bias_right(g, x, b):
    return g.copy(), g.sum(axis=0)


# 3. a convolution of x (n,) with a kernel w (k,): y[i] = sum_j x[i + j] w[j]
def convolve(x, w):
    return np.correlate(x, w, mode="valid")


def convolve_wrong(g, x, w):
    return np.correlate(g, w, mode="full"), np.correlate(x, g, mode="valid")  # the kernel must be flipped


def convolve_right(g, x, w):
    return np.correlate(g, w[::-1], mode="full"), np.correlate(x, g, mode="valid")


rng = np.random.default_rng(0)
LAYERS = {
    "softmax": (softmax, softmax_wrong, softmax_right, [rng.standard_normal((1, 6))], 0),
    "bias": (add_bias, add_bias_wrong, add_bias_right, [rng.standard_normal((4, 3)), rng.standard_normal(3)], 1),
    "convolution": (convolve, convolve_wrong, convolve_right, [rng.standard_normal(8), np.array([1.0, 2.0, -1.5])], 0),
}


def by_vjp(forward, vjp, inputs, i):
    """d output / d input i, (m, n), a row for each entry of the output."""
    y = forward(*inputs)
    grads = [vjp(e.reshape(y.shape), *inputs) for e in np.eye(y.size)]
    return np.array([np.ravel(g[i] if isinstance(g, tuple) else g) for g in grads])


def by_differences(forward, inputs, i, h=1e-6):
    """The same, a column for each entry of the input."""
    before, x, after = inputs[:i], inputs[i], inputs[i + 1 :]
    changes = []
    for e in h * np.eye(x.size).reshape(-1, *x.shape):
        changes.append(forward(*before, x + e, *after) - forward(*before, x - e, *after))
    return np.reshape(changes, (x.size, -1)).T / (2 * h)


def main():
    parser = argparse.ArgumentParser(description="gradcheck finds three bugs, and leaves a figure of them.")
    parser.add_argument("--out", type=Path, default=Path("runs/demos/02_gradcheck.png"), help="the figure to write")
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, (forward, wrong, right, inputs, _) in LAYERS.items():
        print(gradcheck(from_vjp(forward, wrong, f"{name}, as written"), inputs, mode="full", raise_exception=False))
        print(gradcheck(from_vjp(forward, right, f"{name}, mended"), inputs, mode="full"), end="\n\n")
    draw(out)
    print(f"The Jacobians of all three: {out}")


def draw(path):
    """A row for each layer: its Jacobian by the wrong vjp, by differences, by the right vjp."""
    figure = Figure(figsize=(9.5, 9), layout="constrained")
    panels = figure.subplots(3, 3)
    figure.suptitle("Three wrong gradients: the Jacobian by the vjp, beside that by finite differences", fontsize=13)
    for row, (name, (forward, wrong, right, inputs, i)) in zip(panels, LAYERS.items(), strict=True):
        bad, good = (by_vjp(forward, vjp, inputs, i) for vjp in (wrong, right))
        numeric = by_differences(forward, inputs, i)
        limit = np.abs([bad, numeric, good]).max()
        off = np.abs(bad - numeric) > 1e-6
        titles = (f"vjp as written\n{off.sum()} of {off.size} entries wrong", "finite differences", "vjp mended")
        for axes, jacobian, title in zip(row, (bad, numeric, good), titles, strict=True):
            image = axes.imshow(jacobian, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
            axes.set(title=f"{name}: {title}", ylabel="entry of the output")
            axes.set(xlabel=f"entry of the {'bias' if i else 'input'}", xticks=range(off.shape[1]))
        row[0].plot(*np.argwhere(off)[:, ::-1].T, "kx", ms=6, mew=1.5)  # seen without colour, too
        figure.colorbar(image, ax=row, label="derivative")
    figure.text(0.5, -0.02, "x: differs from the finite difference", ha="center")
    figure.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
