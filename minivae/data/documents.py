"""Documents: the docstrings of NumPy, SciPy and the standard library, as counts of words.

Text that every machine has, in thirteen subjects that overlap as real subjects do. A document is
the docstring of one public function, class or method. The installed versions decide which documents
there are: figures are comparable where those are the same.

What is no prose, or would give the module away, is dropped: the signature, the examples, the
references, mathematics, and whatever is written like code (in backquotes, or with a dot, an
underscore, a digit or a capital within); lines that many docstrings share (as of the array API or
of the arguments of every ufunc); the words of the modules' names, and those of `STOP_WORDS`.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np

from minivae.data.dataset import Array, Dataset, Split
from minivae.data.generated import cached
from minivae.errors import InputError

# Modules whose import neither prints nor opens anything, by the subject that labels them.
SUBJECTS = {
    "arrays": ("numpy",),
    "linear algebra": ("numpy.linalg", "scipy.linalg"),
    "random numbers": ("numpy.random",),
    "statistics": ("scipy.stats",),
    "signals": ("scipy.signal", "scipy.fft"),
    "sparse matrices": ("scipy.sparse", "scipy.sparse.linalg"),
    "special functions": ("scipy.special",),
    "optimisation": ("scipy.optimize",),
    "images": ("scipy.ndimage",),
    "interpolation and integrals": ("scipy.interpolate", "scipy.integrate"),
    "distances and clusters": ("scipy.spatial", "scipy.spatial.distance", "scipy.cluster.hierarchy"),
    "files": ("os", "os.path", "shutil", "pathlib", "tempfile", "tarfile", "zipfile"),
    "network": ("asyncio", "socket", "http.client", "http.server", "urllib.parse", "urllib.request"),
}

VOCABULARY = 2000  # words
LEAST_WORDS = 15  # of a document
SHARED = 5  # a line that so many docstrings have tells nothing of any of them
TEST_SHARE = 5  # one document in so many is for testing
VERSION = 1  # of the content; a new one leaves old cache files alone

# Words that tell nothing of the subject: grammar, and what numpydoc and Python say everywhere.
_STOP = """
about above after all along also among and any are argument arguments available based been before being below
between both bool boolean but can cannot class could default defaults deprecated different docstring does each
either else equal etc every example examples existing false first following for from function functions further
given gives has have having hence here how however if ignored in included including info input instead int integer
into is it its itself kwargs keyword known larger last less like list look made may method methods might more
most must name named need new none nor not note notes now numpy object objects of often old on once one only
option optional or other otherwise out output over own param parameter parameters particular pass passed per
please possible python raise raised raises rather references require required result results return returned
returning returns same scipy second see set several shape should similar since single size smaller some specified
specify still str string such than that the their them then there therefore these they this those three through
thus to too true tuple two type types under unless until up upon use used useful user uses using usually value
values version very via was way well were what when where whether which while who whose will with within without
would yet you your
"""
STOP_WORDS = frozenset(_STOP.split())

_MODULE_WORDS = frozenset(word for modules in SUBJECTS.values() for name in modules for word in name.split("."))

_HEADING = re.compile(r"^([A-Z][\w ]+)\n-{3,}$", re.MULTILINE)
_NO_PROSE = ("Examples", "Example", "References", "See Also")
_CODE = re.compile(
    r"\A[\w.]+\(.*$"  # a signature
    r"|^([ ]*)\.\. (?:math|plot|code-block)::.*(?:\n(?:\1[ ]+\S.*|[ ]*$))*"  # with what is indented below
    r"|\.\. [\w-]+::"  # other directives
    r"|^[ ]*(?:>>>|\.\.\.).*$"  # what one would type
    r"|:[\w:]+:`[^`]*`|``[^`]*``|`[^`]*`"  # roles and literals
    r"|https?://\S+",
    re.MULTILINE,
)
_TOKEN = re.compile(r"[\w.]*\w")
_WORD = re.compile(r"[A-Za-z][a-z]{2,}")


def documents() -> Dataset:
    """Docstrings as counts of words, (N, V) float32, labelled by subject, with `vocabulary`.

    About 2,000 documents in all; V is 2,000: the words that most documents of the training split
    have, the commonest first. One document in five, by a sum of its text, is for testing. They are
    gathered once for each set of versions and then kept in the cache folder, where that can be
    written. Raises InputError where Python runs without docstrings (-OO).
    """
    if sys.flags.optimize > 1:
        raise InputError("documents are docstrings, which python -OO leaves out: run python without -OO.")
    versions = "-".join((sys.version.split()[0], metadata.version("numpy"), metadata.version("scipy")))
    arrays = cached(f"documents-v{VERSION}-{versions}.npz", _gather, _fits)
    train, test = (Split(arrays[f"{split}_counts"], arrays[f"{split}_labels"]) for split in ("train", "test"))
    return Dataset("documents", train, test, tuple(SUBJECTS), tuple(arrays["vocabulary"].tolist()))


def prose(docstring: str) -> list[str]:
    """The lines of a docstring without those that are empty, its headings and what is no prose."""
    first, *rest = _HEADING.split(docstring)
    kept = (body for title, body in zip(rest[::2], rest[1::2], strict=True) if title not in _NO_PROSE)
    lines = _CODE.sub(" ", "\n".join((first, *kept))).splitlines()
    return [line.strip() for line in lines if line.strip()]


def words(line: str) -> list[str]:
    """The words of a line, in order and in lower case, each of three letters or more."""
    found = (token.lower() for token in _TOKEN.findall(line) if _WORD.fullmatch(token))
    return [word for word in found if word not in STOP_WORDS and word not in _MODULE_WORDS]


def _gather() -> dict[str, Any]:
    """The arrays that `documents` keeps."""
    texts: dict[str, int] = {}  # with its label; a docstring that several modules have is the first's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for label, modules in enumerate(SUBJECTS.values()):
            for text in itertools.chain(*map(_docstrings, modules)):
                texts.setdefault(text, label)
    proses = {text: prose(text) for text in texts}
    sharers = Counter(line for lines in proses.values() for line in set(lines))
    splits: dict[str, list[tuple[Counter[str], int]]] = {"train": [], "test": []}
    for text, lines in proses.items():
        counted = Counter(word for line in lines if sharers[line] < SHARED for word in words(line))
        if counted.total() >= LEAST_WORDS:
            tested = zlib.crc32(text.encode()) % TEST_SHARE == 0  # whatever else is installed
            splits["test" if tested else "train"].append((counted, texts[text]))
    frequency = Counter(word for counted, _ in splits["train"] for word in counted)
    vocabulary = sorted(frequency, key=lambda word: (-frequency[word], word))[:VOCABULARY]
    arrays: dict[str, Any] = {"vocabulary": np.array(vocabulary)}
    for split, found in splits.items():
        rows = [[counted.get(word, 0) for word in vocabulary] for counted, _ in found]
        arrays[f"{split}_counts"] = np.array(rows, np.float32)
        arrays[f"{split}_labels"] = np.array([label for _, label in found], np.int64)
    return arrays


def _docstrings(module: str) -> Iterator[str]:
    """The docstrings of the public functions, classes and methods of a module, by name."""
    members = vars(importlib.import_module(module))  # by getattr, some would import or warn
    for member in _public(members):
        yield from _own_docstring(member)
        if inspect.isclass(member):
            for method in _public(vars(member)):
                yield from _own_docstring(method)


def _public(members: Mapping[str, Any]) -> list[Any]:
    return [members[name] for name in sorted(members) if not name.startswith("_")]


def _own_docstring(member: Any) -> Iterator[str]:
    """The docstring of a function, class, ufunc or property; not that of a module or of an instance's type."""
    text = getattr(member, "__doc__", None)
    inherited = not inspect.isclass(member) and text == type(member).__doc__
    if isinstance(text, str) and not inspect.ismodule(member) and not inherited:
        yield inspect.cleandoc(text)


def _fits(arrays: dict[str, Array]) -> bool:
    shapes = [(arrays[f"{split}_counts"], arrays[f"{split}_labels"]) for split in ("train", "test")]
    size = arrays["vocabulary"].shape
    return arrays["vocabulary"].dtype.kind == "U" and all(
        counts.dtype == np.float32 and labels.dtype == np.int64 and counts.shape == labels.shape + size
        for counts, labels in shapes
    )
