"""How much one number tells of another, by counting: the entropy H and the mutual information I, in nats."""

from __future__ import annotations

from typing import Any

import numpy as np

from minivae.data.dataset import Array

BINS = 20  # for a latent: as many as disentanglement_lib takes [Locatello et al. 2019]


def binned(codes: Any, bins: int) -> Array:
    """The bin of each code, (N, D) whole numbers from 0: of so many, equally wide, from a latent's least value to its
    greatest; of a latent with no more values than that, a bin for each.
    """
    x = np.asarray(codes, np.float64)
    z = np.empty(x.shape, int)
    for i, column in enumerate(x.T):
        values, index = np.unique(column, return_inverse=True)
        if len(values) > bins:
            place = (column - values[0]) / (values[-1] - values[0]) * bins
            index = np.minimum(place.astype(int), bins - 1)  # the greatest value belongs to the last bin
        z[:, i] = index
    return z


def mutual_information(codes: Any, factors: Any, bins: int = BINS) -> Array:
    """I(z_i; v_j) in nats, (D, K), of codes (N, D) and factors (N, K) counted from 0: that of the counts in the bins of
    each code. So few rows make it too large, between independent numbers by about (bins - 1)(values - 1) / 2N.
    [Miller 1955]
    """
    v = np.asarray(factors)
    information = np.empty((np.shape(codes)[1], v.shape[1]))
    for i, z in enumerate(binned(codes, bins).T):
        for j in range(v.shape[1]):
            joint = counts_of(z, v[:, j])  # (values of z, values of v)
            information[i, j] = (
                entropy_of(joint.sum(axis=1)) + entropy_of(joint.sum(axis=0)) - entropy_of(joint.ravel())
            )
    return information


def entropy(factors: Any) -> Array:
    """H(v_j) in nats, (K,), of factors (N, K) counted from 0."""
    return np.array([entropy_of(np.bincount(v)) for v in np.asarray(factors).T])


def entropy_of(counts: Any, axis: int = 0) -> Any:
    """The entropies in nats of the distributions that counts, or weights, along an axis are of; without any, the
    greatest: all are alike.
    """
    total = counts.sum(axis=axis, keepdims=True)
    p = np.where(total > 0, counts / np.where(total > 0, total, 1), 1 / counts.shape[axis])
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=axis)


def counts_of(a: Array, b: Array) -> Array:
    """How often each pair of values occurs: (values of a, values of b), of whole numbers (N,) from 0."""
    shape = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
