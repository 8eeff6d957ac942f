"""The figures: the only file that draws. Arrays in, a PNG out; matplotlib is imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minivae.files import atomic_write

# Okabe and Ito's palette, told apart by colour-blind eyes too; then darker ones for more classes
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A800", "#7F3C8D", "#7F7F7F",
)  # fmt: skip


def grid(images: Any, columns: int | None = None, gap: int = 1) -> Any:
    """Images (N, C, H, W) in [0, 1] as tiles of one: (H', W') for C = 1, (H', W', 3) for C = 3. The gaps are white."""
    n, c, h, w = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    tiles = np.ones((rows * columns, c, h + gap, w + gap), np.float32)
    tiles[:n, :, :h, :w] = np.clip(images, 0, 1)
    page = tiles.reshape(rows, columns, c, h + gap, w + gap).transpose(0, 3, 1, 4, 2)
    page = page.reshape(rows * (h + gap), columns * (w + gap), c)[:-gap, :-gap]
    return page[..., 0] if c == 1 else page


def loss_curves(history: list[dict[str, float]], path: Path) -> None:
    """The loss and each of its terms over the epochs, a panel each; train_X and test_X are columns of history."""
    from matplotlib.ticker import MaxNLocator

    names = [key.removeprefix("train_") for key in history[0] if key.startswith("train_")]
    figure = _figure(3.6 * len(names), 3.2)
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for split, colour, marker in (("train", COLOURS[0], "o"), ("test", COLOURS[3], "s")):
            values = [row[f"{split}_{name}"] for row in history]
            axes.plot(epochs, values, color=colour, marker=marker if len(epochs) < 30 else None, ms=4, label=split)
        axes.set_title(f"loss = -ELBO: test {values[-1]:.2f}" if name == "loss" else f"{name}: test {values[-1]:.2f}")
        axes.set_xlabel("epoch")
        axes.margins(x=0.05 if len(epochs) > 1 else 10)  # one epoch alone: wide enough for a whole number
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("nats per image")
    _save(figure, path)


def reconstructions(inputs: Any, outputs: Any, path: Path, columns: int = 10) -> None:
    """Rows of inputs, each over the row of its reconstructions; (N, C, H, W) both."""
    columns = min(columns, len(inputs))
    blocks = -(-len(inputs) // columns)
    figure = _figure(0.8 * columns + 1.2, 1.75 * blocks + 0.6)
    figure.suptitle("Test images and their reconstructions")
    panels = figure.subplots(blocks, 1, squeeze=False)[:, 0]
    for block, axes in enumerate(panels):
        part = slice(block * columns, (block + 1) * columns)
        pair = np.concatenate([_padded(inputs[part], columns), _padded(outputs[part], columns)])
        h = inputs.shape[2] + 1
        _show(axes, grid(pair, columns))
        axes.set_yticks([h / 2, 1.5 * h], ["input", "reconstruction"])
        axes.tick_params(length=0)
    _save(figure, path)


def samples(images: Any, path: Path, title: str = "Samples from the prior: z ~ N(0, I), decoded") -> None:
    """Images (N, C, H, W) in a square."""
    figure = _figure(6, 6.3)
    axes = figure.subplots()
    _show(axes, grid(images))
    axes.set_yticks([])
    axes.set_title(title)
    _save(figure, path)


def latent(codes: Any, labels: Any, classes: tuple[str, ...], path: Path) -> None:
    """Posterior means (N, latent) as points, coloured by class; labels (N,) or None. More than two dimensions are
    projected on the plane that sets the classes apart, or without labels on the principal components.
    """
    figure = _figure(7, 6)
    axes = figure.subplots()
    points, names = _plane(codes, labels)
    kinds = np.zeros(len(points), int) if labels is None else labels
    for kind in np.unique(kinds):
        cloud = points[kinds == kind]
        colour = COLOURS[kind % len(COLOURS)]
        axes.scatter(*cloud.T, s=6, alpha=0.45, linewidths=0, color=colour)
        if labels is not None:
            axes.scatter([], [], s=40, color=colour, label=classes[kind])
            if max(map(len, classes)) <= 2:  # longer names would cover each other and the points
                _mark(axes, np.median(cloud, axis=0), classes[kind], colour)
    if labels is not None and len(classes) <= 30:
        axes.legend(
            title="class", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False,
            alignment="left", handlelength=1, handletextpad=0.4,
        )  # fmt: skip
    axes.set_title(f"Latent space: means of q(z | x) of {len(codes):,} test images")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    _save(figure, path)


def interpolations(rows: Any, path: Path) -> None:
    """Rows (R, S, C, H, W): each leads in S equal steps from one test image's reconstruction to another's."""
    r, s = rows.shape[:2]
    side = max(0.75, 6 / s)  # inches a tile; few steps still leave room for the title
    figure = _figure(side * s + 0.2, side * r + 1.0)
    axes = figure.subplots()
    _show(axes, grid(rows.reshape(-1, *rows.shape[2:]), s))
    w = rows.shape[4] + 1
    axes.set_xticks([w * (i + 0.5) for i in range(s)], [f"{t:.2g}" for t in np.linspace(0, 1, s)])
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set_xlabel("t:  $z = (1 - t) z_0 + t z_1$")
    axes.set_title("Between two test images: the straight line of their codes, decoded")
    _save(figure, path)


def _plane(codes: Any, labels: Any) -> tuple[Any, tuple[str, str]]:
    """Codes as points of a plane, with the names of its axes."""
    if codes.shape[1] == 1:
        bands = np.random.default_rng(0).random(codes.shape) + (0 if labels is None else labels[:, None])
        name = "spread at random" if labels is None else "spread at random in a band for each class"
        return np.hstack([codes, bands]), ("$z_1$", name)
    if codes.shape[1] == 2 or len(codes) == 1:  # one point has no principal components
        return codes[:, :2], ("$z_1$", "$z_2$")
    centred = codes - codes.mean(0)
    if labels is not None and len(np.unique(labels)) > 2:  # Fisher: whiten within classes, then PCA of their means
        kinds = np.unique(labels)
        means = np.array([centred[labels == kind].mean(0) for kind in kinds])
        within = np.cov((centred - means[np.searchsorted(kinds, labels)]).T)
        scale, axes = np.linalg.eigh(within)
        whiten = axes / np.sqrt(np.maximum(scale, 1e-6))
        _, _, v = np.linalg.svd(means @ whiten, full_matrices=False)
        return centred @ whiten @ v[:2].T, ("linear discriminant 1", "linear discriminant 2")
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    share = s**2 / max(np.sum(s**2), np.finfo(np.float32).tiny)
    names = tuple(f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2))
    return centred @ v[:2].T, (names[0], names[1])


def _mark(axes: Any, point: Any, text: str, colour: str) -> None:
    """A class's name at its median, legible on its points."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=3, foreground="white")]
    axes.text(*point, text, color=colour, weight="bold", size=14, ha="center", va="center", path_effects=outline)


def _padded(images: Any, n: int) -> Any:
    """n images: these, then white ones."""
    return np.concatenate([images, np.ones((n - len(images), *images.shape[1:]), images.dtype)])


def _show(axes: Any, page: Any) -> None:
    axes.imshow(page, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, page.shape[1], page.shape[0], 0))
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def _figure(width: float, height: float) -> Any:
    """A figure of so many inches that needs no display."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=150, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
