"""The figures: what they show, that they are whole PNG files, and that nothing else is left behind."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from minivae import plots

CLASSES = tuple("abc")


def images(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def history(epochs, terms=("loss", "reconstruction", "kl")):
    """Epochs in which train_X = 100 i + 1 / epoch and test_X = 1 more, for the i-th term X; and other columns."""
    rows = [{"epoch": e, "step": 9 * e, "gradient_norm": 3.0, "seconds": 1.0} for e in range(1, epochs + 1)]
    for row in rows:
        for i, term in enumerate(terms):
            row[f"train_{term}"] = 100 * i + 1 / row["epoch"]
            row[f"test_{term}"] = 100 * i + 1 / row["epoch"] + 1
    return rows


def codes(latent, n=90):
    return np.random.default_rng(1).normal(size=(n, latent)), np.arange(n) % 3


FIGURES = {
    "one epoch": lambda path: plots.loss_curves(history(1), path),
    "ten epochs": lambda path: plots.loss_curves(history(10), path),
    "a thousand epochs": lambda path: plots.loss_curves(history(1000), path),
    "one term": lambda path: plots.loss_curves(history(3, ["loss"]), path),
    "reconstructions": lambda path: plots.reconstructions(images(20, 1, 8, 8), images(20, 1, 8, 8), path),
    "reconstructions, RGB": lambda path: plots.reconstructions(images(13, 3, 8, 6), images(13, 3, 8, 6), path),
    "one reconstruction": lambda path: plots.reconstructions(images(1, 1, 8, 8), images(1, 1, 8, 8), path),
    "samples": lambda path: plots.samples(images(64, 1, 8, 8), path),
    "samples, RGB": lambda path: plots.samples(images(5, 3, 8, 8), path),
    "latent 1": lambda path: plots.latent(*codes(1), CLASSES, path),
    "latent 2": lambda path: plots.latent(*codes(2), CLASSES, path),
    "latent 9": lambda path: plots.latent(*codes(9), CLASSES, path),
    "latent 9, no labels": lambda path: plots.latent(codes(9)[0], None, (), path),
    "latent, many classes": lambda path: plots.latent(codes(4)[0], np.arange(90) % 45, list(map(str, range(45))), path),
    "latent, constant": lambda path: plots.latent(np.zeros((9, 5)), np.arange(9) % 3, CLASSES, path),
    "interpolations": lambda path: plots.interpolations(images(6, 11, 1, 8, 8), path),
    "interpolations, RGB": lambda path: plots.interpolations(images(1, 11, 3, 8, 8), path),
}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """draw(function, *arguments): the axes of the figure which that saves."""
    save, figures = Figure.savefig, []

    def savefig(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    def draw(function, *args):
        function(*args, tmp_path / "figure.png")
        return figures[-1].axes

    monkeypatch.setattr(Figure, "savefig", savefig)
    return draw


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_one_whole_png(name, tmp_path):
    path = tmp_path / "figure.png"
    FIGURES[name](path)
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 200 and max(image.size) <= 3000
        pixels = np.asarray(image.convert("RGB"))  # decodes all of it
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()  # a white page, nothing cut off at its corners
    assert pixels.min() < 100  # with something on it


@pytest.mark.parametrize("name", ["ten epochs", "reconstructions", "samples", "latent 9", "interpolations"])
def test_a_failing_write_leaves_the_old_figure(name, monkeypatch, tmp_path):
    def savefig(figure, target, **kwargs):
        target.write_bytes(b"\x89PNG, in part")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", savefig)
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no space left"):
        FIGURES[name](path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_matplotlib_waits_for_a_figure_and_pyplot_is_never_needed(tmp_path):
    script = f"""
import sys
import warnings
from pathlib import Path
import numpy as np
from minivae import plots
assert "matplotlib" not in sys.modules, "imported too early"
plots.samples(np.zeros((4, 1, 2, 2)), Path({str(tmp_path / "figure.png")!r}))
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules, "pyplot has global state"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_grid_tiles_row_by_row_with_white_gaps_and_clips():
    tiles = np.array([[[[0.1, 0.2]]], [[[0.3, 0.4]]], [[[-1.0, 2.0]]]], np.float32)
    expected = np.array([[0.1, 0.2, 1, 0.3, 0.4], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]], np.float32)
    np.testing.assert_array_equal(plots.grid(tiles, 2), expected)


def test_grid_puts_colour_last():
    tiles = images(6, 3, 4, 5)
    page = plots.grid(tiles, 3)
    assert page.shape == (2 * 4 + 1, 3 * 5 + 2, 3)
    np.testing.assert_array_equal(page[5:9, 12:17], tiles[5].transpose(1, 2, 0))


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (5, 2, 3), (64, 8, 8), (65, 8, 9)])
def test_grid_is_square_unless_told_otherwise(n, rows, columns):
    assert plots.grid(images(n, 1, 2, 2)).shape == (3 * rows - 1, 3 * columns - 1)


def test_grid_leaves_its_images_alone():
    tiles = 3 * images(4, 1, 2, 2)
    before = tiles.copy()
    plots.grid(tiles)
    np.testing.assert_array_equal(tiles, before)


def test_loss_curves_draw_each_term_found_and_nothing_else(drawn):
    rows = history(10, ["loss", "reconstruction", "commitment", "codebook"])
    panels = drawn(plots.loss_curves, rows)
    assert [axes.get_title().split(":")[0].split(" =")[0] for axes in panels] == [
        "loss", "reconstruction", "commitment", "codebook",
    ]  # fmt: skip
    for i, axes in enumerate(panels):
        train, test = axes.get_lines()
        assert (train.get_label(), test.get_label()) == ("train", "test")
        np.testing.assert_array_equal(train.get_xdata(), np.arange(1, 11))
        np.testing.assert_allclose(train.get_ydata(), 100 * i + 1 / np.arange(1, 11))
        np.testing.assert_allclose(test.get_ydata(), 100 * i + 1 / np.arange(1, 11) + 1)
        assert axes.get_title().endswith(f"test {100 * i + 1.1:.4g}")  # the last test value
        assert axes.get_legend() is not None


@pytest.mark.parametrize("epochs", [2, 10, 1000])
def test_the_epoch_axis_has_whole_numbers(drawn, epochs):
    for axes in drawn(plots.loss_curves, history(epochs)):
        assert (axes.get_xticks() % 1 == 0).all()


def test_one_epoch_shows_a_point(drawn):
    for axes in drawn(plots.loss_curves, history(1)):
        assert all(line.get_marker() not in (None, "None") for line in axes.get_lines())


def test_inputs_stand_over_their_reconstructions(drawn):
    inputs, outputs = images(13, 1, 8, 8), 1 - images(13, 1, 8, 8)
    blocks = drawn(plots.reconstructions, inputs, outputs)
    assert len(blocks) == 2
    for start, axes in zip((0, 10), blocks, strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == ["input", "reconstruction"]
        page = axes.images[0].get_array()
        np.testing.assert_array_equal(page[:8, 18:26], inputs[start + 2, 0])
        np.testing.assert_array_equal(page[9:, 18:26], outputs[start + 2, 0])
    assert (page[:, 27:] == 1).all()  # three images in the second block, then white


def points(axes):
    """What was scattered, without the empty ones that make the legend."""
    return np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections if len(c.get_offsets())])


def test_two_dimensional_codes_are_shown_as_they_are(drawn):
    z, labels = codes(2)
    (axes,) = drawn(plots.latent, z, labels, CLASSES)
    np.testing.assert_allclose(points(axes), z[np.argsort(labels, kind="stable")])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(CLASSES)
    assert {text.get_text() for text in axes.texts} == set(CLASSES)
    for text in axes.texts:
        np.testing.assert_allclose(text.get_position(), np.median(z[labels == CLASSES.index(text.get_text())], axis=0))


def test_without_labels_the_axes_are_principal_components(drawn):
    z = codes(4, 2000)[0] * [1, 5, 0.1, 3] + 7
    (axes,) = drawn(plots.latent, z, None, ())
    assert axes.get_legend() is None
    shares = np.sort(z.var(0))[::-1] / z.var(0).sum()  # the columns are as good as uncorrelated
    assert f"({shares[0]:.0%} of" in axes.get_xlabel() and f"({shares[1]:.0%} of" in axes.get_ylabel()
    shown = points(axes)
    assert abs(np.corrcoef(shown[:, 0], z[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(shown[:, 1], z[:, 3])[0, 1]) > 0.99


def test_with_labels_the_plane_sets_the_classes_apart(drawn):
    z, labels = codes(6, 300)
    z[:, :4] *= 50  # the variance is here, and the classes differ in the last two
    z[:, 4:] += 20 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    (axes,) = drawn(plots.latent, z, labels, CLASSES)
    clouds = points(axes).reshape(3, 100, 2)
    centres = clouds.mean(1)
    radius = np.linalg.norm(clouds - centres[:, None], axis=2).max()
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 2 * radius


def test_one_dimensional_codes_lie_along_the_horizontal_axis(drawn):
    z, labels = codes(1)
    (axes,) = drawn(plots.latent, z, labels, CLASSES)
    np.testing.assert_allclose(np.sort(points(axes)[:, 0]), np.sort(z[:, 0]))


def test_classes_differ_in_colour(drawn):
    z, labels = codes(2, 100)[0], np.arange(100) % 10
    (axes,) = drawn(plots.latent, z, labels, tuple("0123456789"))
    colours = {tuple(c.get_facecolor()[0]) for c in axes.collections if len(c.get_offsets())}
    assert len(colours) == 10


def test_more_classes_than_colours_differ_in_their_marks(drawn):
    """The first and the last ten of 20 share the colours."""
    z, labels = codes(2, 100)[0], np.arange(100) % 20
    (axes,) = drawn(plots.latent, z, labels, tuple("abcdefghijklmnopqrst"))
    marks = [(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in axes.legend_.legend_handles]
    assert len(marks) == len(set(marks)) == 20


def test_interpolations_run_from_t_0_to_t_1(drawn):
    rows = images(2, 11, 1, 8, 8)
    (axes,) = drawn(plots.interpolations, rows)
    np.testing.assert_allclose(
        [float(label.get_text()) for label in axes.get_xticklabels()], np.linspace(0, 1, 11), atol=1e-9
    )
    page = axes.images[0].get_array()
    np.testing.assert_array_equal(page[9:17, :8], rows[1, 0, 0])
    np.testing.assert_array_equal(page[9:17, -8:], rows[1, -1, 0])
    np.testing.assert_allclose(axes.get_xticks()[[0, -1]], [4.5, 94.5])  # under the middle of the tiles


def test_one_epoch_has_whole_numbers_on_its_axis(drawn):
    for axes in drawn(plots.loss_curves, history(1)):
        assert (axes.get_xticks() % 1 == 0).all()


@pytest.mark.parametrize("labels", [None, np.array([1])])
def test_one_code_is_a_point(drawn, labels):
    """A data set of fewer than 20 images has one test image."""
    (axes,) = drawn(plots.latent, np.array([[1.0, 2.0, 3.0]]), labels, CLASSES)
    np.testing.assert_array_equal(points(axes), [[1, 2]])


def test_long_class_names_stand_in_the_legend_alone(drawn):
    (axes,) = drawn(plots.latent, *codes(4), ("T-shirt/top", "trouser", "pullover"))
    assert not axes.texts
    assert len(axes.get_legend().get_texts()) == 3


def test_class_names_are_shown_as_they_are(drawn, tmp_path):
    """matplotlib would set what stands between dollars, and fail; and leave names like _rest out of a legend."""
    names = ("a$^$", "_rest", "x_{$")
    (axes,) = drawn(plots.latent, *codes(4), names)
    assert [text.get_text().strip().replace(r"\$", "$") for text in axes.get_legend().get_texts()] == list(names)
    plots.latent(*codes(4), names, tmp_path / "latent.png")


def test_names_that_the_font_cannot_write(drawn, tmp_path):
    """They would be boxes, and a warning for each letter."""
    (axes,) = drawn(plots.latent, *codes(4), ("猫", "кот", "γάτα"))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["number 0", "кот", "γάτα"]
    scores = {"loss": (np.arange(4.0), np.arange(4.0), 0.5)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.outliers(scores, ("$^", "猫"), tmp_path / "outliers.png")


def test_a_long_name_leaves_room_for_the_figure(drawn):
    (axes,) = drawn(plots.latent, *codes(4), ("a" * 63, "b", "c"))
    name = axes.get_legend().get_texts()[0].get_text()
    assert len(name) == plots.LONGEST and name.startswith("aaa") and name.endswith("\N{HORIZONTAL ELLIPSIS}")
    axes.figure.canvas.draw()
    assert axes.get_window_extent().width > 0.5 * axes.figure.bbox.width


def test_few_codes_are_large_points(drawn):
    (few,), (many,) = drawn(plots.latent, np.eye(3), None, CLASSES), drawn(plots.latent, *codes(2, 100), CLASSES)
    assert few.collections[0].get_sizes()[0] > 5 * many.collections[0].get_sizes()[0]
    assert few.get_title().endswith("3 test examples")


@pytest.mark.parametrize("n", [1, 2])
def test_the_codes_of_few_images_fit(drawn, n):
    maps, counts = np.zeros((n, 4, 4), int), np.ones(16)
    figure = drawn(plots.codes, images(n, 1, 8, 8), maps, images(n, 1, 8, 8), counts)[0].figure
    while not hasattr(figure, "canvas") or figure.figure is not figure:
        figure = figure.figure
    figure.canvas.draw()
    title = figure.subfigs[0]._suptitle.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= figure.bbox.x1


def test_the_title_over_a_single_image_is_whole(drawn):
    (axes,) = drawn(plots.reconstructions, images(1, 1, 8, 8), images(1, 1, 8, 8))
    title = axes.figure._suptitle.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= axes.figure.bbox.x1


def test_one_dimensional_classes_have_a_band_each(drawn):
    z, labels = codes(1)
    (axes,) = drawn(plots.latent, z, labels, CLASSES)
    np.testing.assert_array_equal(np.floor(points(axes)[:, 1]), np.repeat([0, 1, 2], 30))


def test_the_title_of_few_steps_fits(drawn):
    (axes,) = drawn(plots.interpolations, images(1, 5, 1, 8, 8))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.25", "0.5", "0.75", "1"]
    box = axes.title.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= axes.figure.bbox.x1 and box.y1 <= axes.figure.bbox.y1
