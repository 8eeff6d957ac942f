"""Bagged decision trees of binned inputs: which inputs tell the label, and how often they tell it right.

A tree asks one question at a time, "is the bin of input i at most t?", and takes the question whose answer tells most
of the label, in nats. [Quinlan 1986] Each tree is grown on a bootstrap sample of the rows, and the trees vote.
[Breiman 1996] It is a random forest that may ask for any input at any question: where one input tells the label, no
other is ever asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivae.data.dataset import Array


class BaggedTrees:
    """Classifiers of rows of bins (N, D), counted from 0, by labels (N,), counted from 0.

    trees, depth: how many, and how many questions in a row at most. leaf: the fewest rows on either side of a question.
    importance (D,): what the answers about each input tell, as shares that sum to 1; all 0 where nothing was asked.
    """

    def __init__(self, bins: Array, labels: Array, rng: Any, trees: int = 10, depth: int = 10, leaf: int = 5):
        self.kinds = int(labels.max()) + 1
        self.width = int(bins.max()) + 1
        self.leaf = leaf
        self.importance = np.zeros(bins.shape[1])
        self.roots = []
        for _ in range(trees):
            rows = rng.integers(len(bins), size=len(bins))
            self.roots.append(self._grow(bins[rows], labels[rows], depth))
        self.importance /= self.importance.sum() or 1

    def predict(self, bins: Array) -> Array:
        """The label that most trees vote for, (N,); of several the lowest."""
        votes = np.zeros((len(bins), self.kinds), int)
        for root in self.roots:
            _vote(root, bins, np.arange(len(bins)), votes)
        winner: Array = votes.argmax(axis=1)
        return winner

    def _grow(self, bins: Array, labels: Array, depth: int) -> Any:
        """A node: (input, threshold, the node of the rows at most there, that of the others), or a label."""
        n, d = bins.shape
        totals = np.bincount(labels, minlength=self.kinds)
        if depth == 0 or n < 2 * self.leaf or totals.max() == n:
            return int(totals.argmax())
        cells = (np.arange(d) * self.width + bins) * self.kinds + labels[:, None]
        counts = np.bincount(cells.ravel(), minlength=d * self.width * self.kinds)
        low = counts.reshape(d, self.width, self.kinds).cumsum(axis=1)[:, :-1]  # of each label, at most the threshold
        below = low.sum(axis=2)
        told = _nats(totals) - _nats(low) - _nats(totals - low)
        told[(below < self.leaf) | (n - below < self.leaf)] = 0
        if not told.size or told.max() <= 1e-9 * n:
            return int(totals.argmax())
        i, threshold = np.unravel_index(told.argmax(), told.shape)
        self.importance[i] += told[i, threshold]
        left = bins[:, i] <= threshold
        return i, threshold, *(self._grow(bins[side], labels[side], depth - 1) for side in (left, ~left))


def _nats(counts: Array) -> Any:
    """n H of the labels of n rows, by their counts (..., K): n log n - sum_k n_k log n_k."""
    n = counts.sum(axis=-1)
    return n * np.log(np.maximum(n, 1)) - np.sum(counts * np.log(np.maximum(counts, 1)), axis=-1)


def _vote(node: Any, bins: Array, rows: Array, votes: Array) -> None:
    """Add a tree's vote for each of these rows."""
    if isinstance(node, int):
        votes[rows, node] += 1
        return
    i, threshold, left, right = node
    below = bins[rows, i] <= threshold
    _vote(left, bins, rows[below], votes)
    _vote(right, bins, rows[~below], votes)
