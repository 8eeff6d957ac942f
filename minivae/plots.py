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
LONGEST = 24  # letters of a name; more would leave no room for the figure
MARKERS = "o^sDv"  # of classes: one for as many as there are colours, then the next


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


def loss_curves(history: list[dict[str, float]], path: Path, columns: int = 4) -> None:
    """The loss, its terms and what else is counted over the epochs, a panel each: train_X and test_X of history."""
    from matplotlib.ticker import MaxNLocator

    names = [key.removeprefix("train_") for key in history[0] if key.startswith("train_")]
    rows, columns = -(-len(names) // columns), min(columns, len(names))
    figure = _figure(3.6 * columns, 3.2 * rows)
    epochs = [row["epoch"] for row in history]
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for split, colour, marker in (("train", COLOURS[0], "o"), ("test", COLOURS[3], "s")):
            if f"{split}_{name}" not in history[0]:  # of a player whose loss is one of training alone
                continue
            last, values = split, [row.get(f"{split}_{name}", np.nan) for row in history]
            axes.plot(epochs, values, color=colour, marker=marker if len(epochs) < 30 else None, ms=4, label=split)
        axes.set_title(f"{name.replace('_', ' ')}: {last} {values[-1]:.4g}")
        axes.set_xlabel("epoch")
        axes.margins(x=0.05 if len(epochs) > 1 else 10)  # one epoch alone: wide enough for a whole number
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    if "kl" in names:
        figure.supylabel("nats per image", size="medium")
    _save(figure, path)


def reconstructions(inputs: Any, outputs: Any, path: Path, columns: int = 10, seen: Any = None) -> None:
    """Rows of inputs over the rows of their reconstructions, (N, C, H, W) each; between them what the encoder has
    seen, where that differs.
    """
    columns = min(columns, len(inputs))
    kinds = {"input": inputs} | ({} if seen is None else {"corrupted": seen}) | {"reconstruction": outputs}
    blocks = -(-len(inputs) // columns)
    figure = _figure(max(0.8 * columns + 1.2, 4), (0.85 * len(kinds) + 0.05) * blocks + 0.6)
    figure.suptitle("Test images and their reconstructions")
    h = inputs.shape[2] + 1
    for block, axes in enumerate(figure.subplots(blocks, 1, squeeze=False)[:, 0]):
        part = slice(block * columns, (block + 1) * columns)
        _show(axes, grid(np.concatenate([_padded(images[part], columns) for images in kinds.values()]), columns))
        axes.set_yticks([h * (i + 0.5) for i in range(len(kinds))], list(kinds))
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
    """Codes (N, latent), such as posterior means, as points, coloured by class; labels (N,) or None.

    More than two dimensions are projected on the plane that sets the classes apart, or without labels on the
    principal components.
    """
    figure = _figure(7, 6)
    axes = figure.subplots()
    points, names = _plane(codes, labels)
    kinds = np.zeros(len(points), int) if labels is None else labels
    size = min(60, max(6, 600 / len(points)))  # few points are to be seen, too
    for kind in np.unique(kinds):
        cloud = points[kinds == kind]
        colour = COLOURS[kind % len(COLOURS)]
        marker = MARKERS[kind // len(COLOURS) % len(MARKERS)]
        axes.scatter(*cloud.T, s=size, alpha=0.45, linewidths=0, color=colour, marker=marker)
        if labels is not None:
            name = _legible(classes[kind], f"number {kind}")
            axes.scatter([], [], s=40, color=colour, marker=marker, label=name)
            if max(map(len, classes)) <= 2:  # longer names would cover each other and the points
                _mark(axes, np.median(cloud, axis=0), name, colour)
    if labels is not None and len(classes) <= 30:
        axes.legend(
            title="class", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False,
            alignment="left", handlelength=1, handletextpad=0.4,
        )  # fmt: skip
    axes.set_title(f"Latent space: the codes of {len(codes):,} test example{'s' * (len(codes) != 1)}")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    _save(figure, path)


def interpolations(rows: Any, path: Path) -> None:
    """Rows (R, S, C, H, W): each leads in S equal steps from one test image's reconstruction to another's."""
    ticks = [f"{t:.2g}" for t in np.linspace(0, 1, rows.shape[1])]
    _strips(
        rows, path, "Between two test images: the straight line of their codes, decoded", ticks,
        "t:  $z = (1 - t) z_0 + t z_1$", [],
    )  # fmt: skip


def traversals(rows: Any, latents: list[int], values: list[float], unit: str, path: Path) -> None:
    """Rows (R, S, C, H, W): in each, one latent goes through the S values; the others stay as they are."""
    names = [f"$z_{{{i + 1}}}$" for i in latents]
    _strips(
        rows, path, "One latent at a time, the others those of a test image", [f"{v:.2g}" for v in values],
        f"value of the latent{unit}", names,
    )  # fmt: skip


def manifold(images: Any, z: list[float], path: Path) -> None:
    """The plane of a two-dimensional code, decoded: images (S S, C, H, W), row by row from the top, at z by z."""
    figure = _figure(7, 7.2)
    axes = figure.subplots()
    side = images.shape[2] + 1
    _show(axes, grid(images, len(z)))
    shown = range(0, len(z), max(1, len(z) // 7))
    axes.set_xticks([side * (i + 0.5) for i in shown], [f"{z[i]:.1f}" for i in shown])
    axes.set_yticks([side * (i + 0.5) for i in shown], [f"{z[-1 - i]:.1f}" for i in shown])
    axes.tick_params(length=0)
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
    axes.set_title("The plane of codes, decoded at equal steps of probability")
    _save(figure, path)


def codes(inputs: Any, maps: Any, outputs: Any, counts: Any, path: Path) -> None:
    """Inputs and outputs (N, C, H, W), their maps of codes (N, h, w), and how often each code is used, counts (K,)."""
    n = len(inputs)
    figure = _figure(max(0.9 * n + 1.2, 4.8), 5.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2.2])
    used = int((counts > 0).sum())
    top.suptitle(f"Images as codes: {maps.shape[1]}x{maps.shape[2]} of {len(counts)}; {used} are in use")
    panels = top.subplots(3, n, squeeze=False)
    for row, images in ((0, inputs), (2, outputs)):
        for axes, image in zip(panels[row], images, strict=True):
            _show(axes, grid(image[None]))
            axes.set_yticks([])
    for axes, indices in zip(panels[1], maps, strict=True):
        axes.imshow(indices, cmap="cividis", vmin=0, vmax=len(counts) - 1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
    for row, name in enumerate(("input", "codes", "reconstruction")):
        panels[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    axes = bottom.subplots()
    axes.bar(np.arange(len(counts)), np.sort(counts)[::-1] / max(counts.sum(), 1), width=1.0, color=COLOURS[0])
    axes.axhline(1 / len(counts), color=COLOURS[3], lw=1.5, label="all alike")
    axes.set_xlabel("code, the most used first")
    axes.set_ylabel("share of use")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    _save(figure, path)


def outliers(scores: dict[str, tuple[Any, Any, float]], names: tuple[str, str], path: Path) -> None:
    """A panel for each score: its values on the data and on the strange images, and the area under the ROC curve."""
    figure = _figure(4.2 * len(scores), 3.6)
    names = _legible(names[0], "the run's own"), _legible(names[1], "the others")
    figure.suptitle(f"Telling {names[1]} (strange) from {names[0]} by a score")
    for axes, (score, (inside, outside, area)) in zip(
        figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True
    ):
        low, high = np.percentile(np.concatenate([inside, outside]), [0.5, 99.5])
        bins = np.linspace(low, max(high, low + 1e-6), 60)
        for values, colour, name in ((inside, COLOURS[0], names[0]), (outside, COLOURS[3], names[1])):
            axes.hist(np.clip(values, low, high), bins, density=True, alpha=0.6, color=colour, label=name)
        axes.set_title(f"{score}: AUROC {area:.3f}")
        axes.set_xlabel(score)
        axes.set_yticks([])
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("density")
    _save(figure, path)


def _strips(rows: Any, path: Path, title: str, ticks: list[str], xlabel: str, names: list[str]) -> None:
    """Rows of images (R, S, C, H, W) with a tick for each column and a name for each row."""
    r, s = rows.shape[:2]
    side = max(0.75, 6 / s)  # inches a tile; few steps still leave room for the title
    figure = _figure(side * s + 0.2 + 0.5 * bool(names), side * r + 1.0)
    axes = figure.subplots()
    _show(axes, grid(rows.reshape(-1, *rows.shape[2:]), s))
    h, w = rows.shape[3] + 1, rows.shape[4] + 1
    axes.set_xticks([w * (i + 0.5) for i in range(s)], ticks)
    axes.set_yticks([h * (i + 0.5) for i in range(len(names))], names)
    axes.tick_params(length=0)
    axes.set_xlabel(xlabel)
    axes.set_title(title)
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


def _legible(name: str, instead: str) -> str:
    """A name from the data as it is, or another where the font lacks a letter of it.

    matplotlib would set what stands between dollars, and leave out what begins with a line.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    if not all(font.get_char_index(ord(letter)) for letter in name):
        return instead
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


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
