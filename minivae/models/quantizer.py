"""Vector quantisers: maps of vectors become maps of codes, with a gradient past the step and the terms that train it.

Here what all share, and the nearest of K learnt vectors. [van den Oord et al. 2017, "Neural Discrete Representation
Learning"] In fsq.py stands the rounding of each channel, which learns nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minivae import backend, nn, ops
from minivae.backend import Array, fuse
from minivae.errors import InputError
from minivae.metrics import perplexity
from minivae.models.kmeans import clusters, kmeans, sample
from minivae.ops.quantize import nearest
from minivae.tensor import Tensor, as_tensor

USE_DECAY = 0.9  # of the running counts of use, where the codes themselves are no running means
ESTIMATORS = {"straight-through": ops.straight_through, "rotation": ops.rotation_trick}


class Quantized(NamedTuple):
    """values: like z, with a gradient to z. indices: z's shape without its channels. terms: of the loss, scalars."""

    values: Tensor
    indices: Array
    terms: dict[str, Tensor]


class Quantizer(nn.Module):
    """What quantisers share: the way from maps (N, dim, ...) to rows of vectors and back, and counts of use.

    A subclass defines `assign`, `vectors` and `quantize` for rows (M, dim) and indices (M,).
    """

    def __init__(self, codes: int, dim: int):
        if codes < 1 or dim < 1:
            raise InputError(f"a codebook of {codes} codes of dimension {dim} is none: both must be at least 1.")
        self.codes = codes
        self.dim = dim
        self._use = {True: _Use(codes), False: _Use(codes)}  # in training, in evaluation

    def assign(self, rows: Array) -> Array:
        """The indices of the codes of rows."""
        raise NotImplementedError

    def vectors(self, indices: Array) -> Array:
        """The rows that codes stand for."""
        raise NotImplementedError

    def quantize(self, rows: Tensor, rng: Any) -> tuple[Tensor, Array, Array, dict[str, Tensor]]:
        """Values (with a gradient to the rows), indices, the squared error of each row, and the loss's terms."""
        raise NotImplementedError

    def forward(self, z: Tensor, rng: Any = None) -> Quantized:
        """z (N, dim, ...) -> its quantisation. In training the state follows; rng draws what is drawn for it."""
        z = as_tensor(z)
        rows = self._rows(z)
        values, indices, squares, terms = self.quantize(rows, rng)
        self._use[self.training].add(indices, squares.sum() / self.dim)
        where = (z.shape[0], *z.shape[2:])
        maps = values.reshape((*where, self.dim)).transpose((0, z.ndim - 1, *range(1, z.ndim - 1)))
        return Quantized(maps, indices.reshape(where), terms)

    def encode(self, z: Any) -> Array:
        """z (N, dim, ...) -> the indices of its codes, (N, ...). It counts and changes nothing."""
        z = as_tensor(z)
        return self.assign(self._rows(z).data).reshape((z.shape[0], *z.shape[2:]))

    def lookup(self, indices: Array) -> Array:
        """Indices (N, ...) -> the vectors that they stand for, (N, dim, ...)."""
        if indices.dtype.kind not in "iu" or indices.ndim < 1:
            raise InputError(
                f"codes of dtype {indices.dtype} and shape {indices.shape} are no indices of a codebook: "
                f"give whole numbers from 0 to {self.codes - 1}, (N, ...)."
            )
        xp = backend.of(indices)
        xp.check_indices("the codes", indices, self.codes)
        return xp.moveaxis(self.vectors(indices.reshape(-1)).reshape((*indices.shape, self.dim)), -1, 1)

    def statistics(self) -> dict[str, float]:
        """What was counted in this mode (training or evaluation) since the last call; none if nothing was.

        perplexity: e^entropy of the frequencies of the codes, 1 to K. code_use: the share of the codes that
        were used at all. distortion: the mean of (z - code)^2 over all entries.
        """
        return self._use[self.training].read()

    def counted(self) -> tuple[Any, Any]:
        """What was counted in training since the last call of statistics(), for count_on()."""
        return self._use[True].state()

    def count_on(self, counted: tuple[Any, Any]) -> None:
        """Go on counting in training from there."""
        self._use[True].restore(counted)

    def _rows(self, z: Tensor) -> Tensor:
        if z.ndim < 2 or z.shape[1] != self.dim:
            raise ValueError(
                f"{type(self).__name__}: z of shape {z.shape} must be (N, {self.dim}, ...), "
                f"with the {self.dim} channels of a code in its second axis."
            )
        return z.transpose((0, *range(2, z.ndim), 1)).reshape((-1, self.dim))


class VectorQuantizer(Quantizer):
    """K codes e of dimension D; a vector z becomes the nearest one.

    terms: commitment, c mean((z - sg[e])^2); codebook, mean((sg[z] - e)^2), unless the codebook is that of decay.
    commitment: c. decay: the codes are running means of their vectors with this decay, and no parameters; None:
    parameters, which the term moves. kmeans: the codes begin as k-means of the first batch in training, else as
    small random vectors. restart: a code used less often than this share of the mean use (a running mean) is drawn
    anew from the batch; 0: never. estimator: how gradients pass, "straight-through" or "rotation".
    """

    def __init__(
        self,
        codes: int,
        dim: int,
        commitment: float = 0.25,
        decay: float | None = 0.95,
        kmeans: bool = True,
        restart: float = 0.03,
        estimator: str = "straight-through",
    ):
        super().__init__(codes, dim)
        if estimator not in ESTIMATORS:
            raise InputError(f"unknown estimator '{estimator}': choose one of {', '.join(ESTIMATORS)}.")
        if decay is not None and not 0 <= decay < 1:
            raise InputError(f"decay {decay} of the codebook makes no running mean: give a number from 0 to below 1.")
        if not commitment >= 0 or not 0 <= restart < 1:
            raise InputError(
                f"commitment {commitment} must be at least 0, and restart {restart} a share from 0 to below 1."
            )
        xp = backend.current()
        start = ((2 * xp.rng.random((codes, dim)) - 1) / codes).astype(np.float32)
        self.codebook: Tensor = nn.Parameter(start) if decay is None else nn.Buffer(start)
        self.counts = nn.Buffer(xp.zeros(codes, dtype=np.float32))
        if decay is not None:
            self.sums = nn.Buffer(xp.zeros((codes, dim), dtype=np.float32))
        # on the host with every backend: each step asks it, and must not wait for the device
        self.initialised = nn.Buffer(np.zeros((), dtype=bool))
        self.commitment = commitment
        self.decay = decay
        self.kmeans = kmeans
        self.restart = restart
        self.estimator = estimator

    def assign(self, rows: Array) -> Array:
        return nearest(rows, self.codebook.data)

    def vectors(self, indices: Array) -> Array:
        return self.codebook.data[indices]

    def quantize(self, rows: Tensor, rng: Any) -> tuple[Tensor, Array, Array, dict[str, Tensor]]:
        z = rows.data
        if self.training and not self.initialised.data:
            self._initialise(z, rng)
        indices = self.assign(z)
        codes = ops.take(self.codebook, indices, axis=0)
        e = codes.detach()
        squares = ((z - e.data) ** 2).sum(axis=1)
        terms = {"codebook": ops.mse_loss(codes, rows.detach())} if self.decay is None else {}
        terms["commitment"] = ops.mse_loss(rows, e) * self.commitment
        if self.training:
            self._follow(z, indices)
            if self.restart:
                self._revive(z, squares, rng)
        return ESTIMATORS[self.estimator](rows, e), indices, squares, terms

    def _initialise(self, z: Array, rng: Any) -> None:
        """Codes from the first batch, each with an equal share of its vectors as the count from which it begins."""
        if self.kmeans:
            self.codebook.data[...] = kmeans(z, self.codes, rng).centres
        self.counts.data[...] = len(z) / self.codes
        if self.decay is not None:
            self.sums.data[...] = self.counts.data[:, None] * self.codebook.data
        self.initialised.data[...] = True

    def _follow(self, z: Array, indices: Array) -> None:
        """The running means: N <- d N + (1 - d) n, m <- d m + (1 - d) sum z, e = m / N. [appendix A.1]

        The Laplace smoothing adds its pseudo-count to N at the place where the code is, so that a code to which
        nothing comes stays there, however long, where m / (N + eps) would go to 0, and 0 / 0 to nothing.
        """
        decay, eps = USE_DECAY if self.decay is None else self.decay, 1e-5
        n, sums = clusters(z, indices, self.codes)
        xp = backend.of(z)
        _running(xp, self.counts.data, n.astype(np.float32), decay, out=(self.counts.data,))
        if self.decay is not None:
            _running(xp, self.sums.data, sums, decay, out=(self.sums.data,))
            smoothed = self.sums.data + eps * self.codebook.data
            self.codebook.data[...] = smoothed / (self.counts.data + eps)[:, None]

    def _revive(self, z: Array, squares: Array, rng: Any) -> None:
        """Each code that is hardly used becomes a vector of the batch, rather one that is far from its code.

        It does so without asking which: a question to the device would have to wait for the answer.
        """
        xp = backend.of(z)
        counts, codebook = self.counts.data, self.codebook.data
        mean = counts.mean()
        dead = counts < self.restart * mean
        drawn = z[sample(squares, self.codes, rng)]
        codebook[...] = xp.where(dead[:, None], drawn, codebook)
        counts[...] = xp.where(dead, mean, counts)
        if self.decay is not None:
            self.sums.data[...] = xp.where(dead[:, None], mean * drawn, self.sums.data)

    def extra_repr(self) -> str:
        how = "gradient" if self.decay is None else f"decay={self.decay}"
        return f"{self.codes}, {self.dim}, {how}, commitment={self.commitment}"


@fuse
def _running(xp: Any, mean: Array, value: Array, decay: float) -> Array:
    return decay * mean + (1 - decay) * value


class _Use:
    """How often each code was used and the sum of squared errors, kept on the device until they are read.

    Always in the same two arrays: a captured step goes on to write to those that it was recorded with.
    """

    def __init__(self, codes: int):
        xp = backend.current()
        self.counts = xp.zeros(codes, dtype=np.int64)
        self.squares = xp.zeros((), dtype=np.float64)

    def add(self, indices: Array, squares: Array) -> None:
        self.counts += backend.of(indices).count(indices, len(self.counts))
        self.squares += squares

    def state(self) -> tuple[Any, Any]:
        """The counts and the sum of squared errors, on the host; None each where nothing was counted."""
        counts = backend.to_numpy(self.counts)
        return (counts.copy(), float(self.squares)) if counts.any() else (None, None)

    def restore(self, state: tuple[Any, Any]) -> None:
        """Count on from there."""
        counts, squares = state
        if counts is None:
            self.counts.fill(0)
            self.squares.fill(0)
        else:
            self.counts[...] = backend.of(self.counts).asarray(counts, dtype=np.int64)
            self.squares.fill(squares)

    def read(self) -> dict[str, float]:
        counts, squares = self.state()
        self.restore((None, None))
        if counts is None:
            return {}
        return {
            "perplexity": perplexity(counts),
            "code_use": float((counts > 0).mean()),
            "distortion": squares / int(counts.sum()),
        }
