"""What a run says of itself while it trains: means, a line for each epoch, metrics.csv, a bar on a terminal."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minivae import backend
from minivae.backend import Array
from minivae.files import atomic_write


class Means:
    """Means over examples of values that stay on the device until they are read.

    state: what state() gave, to go on from there.
    """

    def __init__(self, state: dict[str, tuple[float, int]] | None = None) -> None:
        self.sums: dict[str, tuple[Any, int]] = {name: (total, n) for name, (total, n) in (state or {}).items()}

    def add(self, n: int, **values: Array) -> None:
        """Add values (0-d arrays), each the mean over n examples."""
        for name, value in values.items():
            if type(self.sums.get(name, (0.0, 0))[0]) is float:  # none yet, or read from a file
                total, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = (backend.of(value).full((), total, dtype=np.float64), count)
        if values:
            xp = backend.of(next(iter(values.values())))
            xp.accumulate([self.sums[name][0] for name in values], list(values.values()), n)
        self.sums |= {name: (self.sums[name][0], self.sums[name][1] + n) for name in values}

    def read(self) -> dict[str, float]:
        return {name: float(total) / count for name, (total, count) in self.sums.items()}

    def state(self) -> dict[str, tuple[float, int]]:
        """The sums and the numbers of examples, by name."""
        return {name: (float(total), count) for name, (total, count) in self.sums.items()}


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """The rows as CSV, the whole file at once; no rows, no file."""
    if not history:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    columns = dict.fromkeys(name for row in history for name in row)  # a newer version may count more than an old one
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue())


def line(row: dict[str, float], epochs: int) -> str:
    """An epoch in one line: the ELBO, or the loss of a model that has none, and its terms, train and test."""

    def part(split: str) -> str:
        values = {key.removeprefix(f"{split}_"): value for key, value in row.items() if key.startswith(f"{split}_")}
        loss = values.pop("loss")
        bound = elbo(values)
        head = f"loss {_short(loss)}" if bound is None else f"ELBO {bound:.2f}"
        return f"{split} {head} ({', '.join(f'{name} {_short(value)}' for name, value in values.items())})"

    width = len(str(epochs))
    return f"epoch {row['epoch']:{width}}/{epochs}  {part('train')}  {part('test')}  {row['seconds']:.1f} s"


def elbo(terms: dict[str, float]) -> float | None:
    """-(reconstruction + kl), whatever their weights in the loss; None for a model without a KL."""
    return -(terms["reconstruction"] + terms["kl"]) if "kl" in terms else None


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def bar(batches: Iterable[Array], total: int, description: str, done: int = 0) -> Iterable[Array]:
    """The batches under a progress bar on a terminal, or in silence elsewhere."""
    if not sys.stderr.isatty():
        return batches
    from tqdm import tqdm

    shown: Iterable[Array] = tqdm(
        batches, description, total, initial=done, leave=False, unit="batch", dynamic_ncols=True
    )
    return shown
