"""The documents: what of a docstring counts, and what the installed libraries give."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minivae.data.batches import Batches
from minivae.data.dataset import Dataset
from minivae.errors import InputError

module = importlib.import_module("minivae.data.documents")  # in the package, the function has this name
documents, prose, words = module.documents, module.prose, module.words

DOCSTRING = """fold(paper, *, crease=True)

Fold the paper Along its longest edge; see `unfold` and :func:`origami.crease`.

.. versionchanged:: 2.0
   Glue instead.

.. math::

   \\frac{paper}{half}

   + \\alpha

Parameters
----------
paper : sheet
    The sheet, of 80 grams or 80g, with a mid_line and www.corners, asCamelCase.

See Also
--------
unfold : Reverses everything.

Returns
-------
origami
    Folded ``twice``. See https://paper.example/fold for pictures.

Examples
--------
>>> fold(newspaper)
boat
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """The real one; gathering it prints nothing, and (by pytest's setting) does not warn."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        patch.setenv("MINIVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            made = documents()
        assert out.getvalue() == ""
        yield made


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, types.ModuleType]:
    """Two modules in place of all, with 60 documents each of 15 words, and an empty cache."""
    modules = {}
    for subject, letter in (("boats", "b"), ("kites", "k")):
        made = modules[subject] = types.ModuleType(f"mod_{subject}")
        for i in range(60):
            function = types.FunctionType((lambda: None).__code__, {})
            own = "".join(chr(97 + int(digit)) for digit in f"{i:02}")
            function.__doc__ = f"Common {letter}{letter}{letter} " + f"{letter}x{own} " * 13
            setattr(made, f"f{i:02}", function)
        monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(module, "SUBJECTS", {subject: (m.__name__,) for subject, m in modules.items()})
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    return modules


def test_prose() -> None:
    assert [found for line in prose(DOCSTRING) if (found := words(line))] == [
        ["fold", "paper", "longest", "edge"],
        ["glue"],
        ["paper", "sheet"],
        ["sheet", "grams"],
        ["origami"],
        ["folded", "pictures"],
    ]


def test_words() -> None:
    """Lower case; no stop words, no names of the modules, nothing that is written like code."""
    assert words(
        "The Bessel function of X2, in SciPy's `linalg`-like stats: NumPy, sparse (socket) aBc x.y an it zoo."
    ) == [
        "bessel",
        "zoo",
    ]


def test_content(dataset: Dataset) -> None:
    """Enough documents in each subject, some words in each document, a vocabulary in order."""
    assert dataset.name == "documents" and dataset.shape == (2000,) and len(dataset.classes) == 13
    assert len(dataset.vocabulary) == len(set(dataset.vocabulary)) == 2000
    assert not set(dataset.vocabulary) & module.STOP_WORDS
    assert all(word.isascii() and word.islower() and len(word) > 2 for word in dataset.vocabulary)
    for split, least, each in ((dataset.train, 1200, 40), (dataset.test, 250, 5)):
        assert split.images.shape == (len(split), 2000) and split.images.dtype == np.float32
        assert len(split) >= least and split.images.sum(axis=1).min() > 0
        np.testing.assert_array_equal(split.images, np.rint(split.images))
        assert split.labels is not None and split.labels.dtype == np.int64
        assert np.bincount(split.labels, minlength=13).min() >= each
    frequency = (dataset.train.images > 0).sum(axis=0)
    assert (np.diff(frequency) <= 0).all() and frequency[-1] >= 3


def test_subjects_can_be_learnt(dataset: Dataset) -> None:
    """Naive Bayes finds the subject of most, and the words are those of the subject."""
    train, test = dataset.train, dataset.test
    onehot = np.eye(len(dataset.classes))[train.labels]
    counts = onehot.T @ train.images + 0.1
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    found = (test.images @ log_p.T + np.log(onehot.mean(axis=0))).argmax(axis=1)
    assert 0.8 < (found == test.labels).mean() < 0.99
    for word, subject in (("bessel", "special functions"), ("directory", "files"), ("spline", "interp")):
        best = dataset.classes[int(counts[:, dataset.vocabulary.index(word)].argmax())]
        assert best.startswith(subject)


def test_batches(dataset: Dataset) -> None:
    (batch,) = Batches(dataset.test, 1000, shuffle=False).epoch(0)
    np.testing.assert_array_equal(batch, dataset.test.images)


def test_counts(two: dict[str, types.ModuleType]) -> None:
    """Words by their count, labels by module, one in five or so for testing, the vocabulary from the others."""
    data = documents()
    assert data.classes == ("boats", "kites")
    assert len(data.train) + len(data.test) == 120 and 10 <= len(data.test) <= 40
    assert data.vocabulary[0] == "common" and set(data.vocabulary[1:3]) == {"bbb", "kkk"}
    assert len(data.vocabulary) == 3 + len(data.train)
    assert (data.test.images.sum(axis=1) == 2).all()  # their own words are not in the vocabulary
    assert data.train.labels is not None
    for row, label in zip(data.train.images, data.train.labels, strict=True):
        (own,) = np.flatnonzero(row == 13)
        assert data.vocabulary[own][0] == "bk"[label] and row.sum() == 15


def test_same_docstring_counts_once(two: dict[str, types.ModuleType]) -> None:
    """The first module has it."""
    for name in ("f00", "f01", "f02"):
        getattr(two["kites"], name).__doc__ = two["boats"].f07.__doc__
    data = documents()
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert np.bincount(labels).tolist() == [60, 57]


def test_what_is_a_document(two: dict[str, types.ModuleType]) -> None:
    """Not what is private, short, a module or an instance; but classes and their public methods."""
    boats, text = two["boats"], "word " * 14
    Boat = type("Boat", (), {"__doc__": text + "boat", "sail": lambda self: None, "_hull": lambda self: None})
    Boat.sail.__doc__, Boat._hull.__doc__ = text + "sails", text + "private"  # type: ignore[attr-defined]
    Hull = type("Hull", (), {"__doc__": text + "hull"})
    boats.Boat, boats.hull, boats._private = Boat, Hull(), Hull  # type: ignore[attr-defined]
    boats.module = types.ModuleType("module", text + "module")  # type: ignore[attr-defined]
    boats.f00.__doc__ = "word " * 14  # one too few
    data = documents()
    assert np.bincount(np.concatenate([data.train.labels, data.test.labels])).tolist() == [61, 60]


def test_shared_lines_are_dropped(two: dict[str, types.ModuleType]) -> None:
    for name, line in [(f"f{i:02}", "rare") for i in range(4)] + [(f"f{i:02}", "boilerplate") for i in range(9, 14)]:
        function = getattr(two["boats"], name)
        function.__doc__ += f"\n\n{line} text here"
    assert "rare" in documents().vocabulary and "boilerplate" not in documents().vocabulary


def test_split_of_a_document_is_its_own(two: dict[str, types.ModuleType]) -> None:
    """Which of the others there are does not matter."""
    before = documents()
    for name in [name for name in vars(two["boats"]) if name.startswith("f")]:
        delattr(two["boats"], name)
    after = module._gather()
    for split, labels in (("train", before.train.labels), ("test", before.test.labels)):
        assert len(after[f"{split}_labels"]) == (np.asarray(labels) == 1).sum()


def test_cached(two: dict[str, types.ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the versions; a file that is not whole is made anew."""
    data = documents()
    (path,) = (tmp_path / "cache").iterdir()
    for version in (sys.version.split()[0], np.__version__):
        assert version in path.name
    gather = module._gather
    monkeypatch.setattr(module, "_gather", None)
    again = documents()
    np.testing.assert_array_equal(again.train.images, data.train.images)
    np.testing.assert_array_equal(again.test.labels, data.test.labels)
    assert again.vocabulary == data.vocabulary and all(type(word) is str for word in again.vocabulary)
    monkeypatch.setattr(module, "_gather", gather)
    with np.load(path) as file:
        arrays = dict(file)
    changes = {key: arrays[key][:-1] for key in ("vocabulary", "train_labels", "test_counts")}
    changes |= {"train_counts": arrays["train_counts"].astype(np.float64), "test_labels": arrays["train_labels"] * 1.0}
    for key, change in changes.items():
        np.savez(path, **{**arrays, key: change})
        mended = documents()
        assert mended.vocabulary == data.vocabulary
        for split, wanted in ((mended.train, data.train), (mended.test, data.test)):
            assert split.labels is not None and split.labels.dtype == np.int64
            np.testing.assert_array_equal(split.images, wanted.images, strict=True)
            np.testing.assert_array_equal(split.labels, np.asarray(wanted.labels))


def test_without_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: Any = types.SimpleNamespace(optimize=2)
    monkeypatch.setattr(sys, "flags", flags)
    with pytest.raises(InputError, match="python -OO leaves out"):
        documents()
