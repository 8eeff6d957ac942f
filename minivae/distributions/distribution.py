"""What every distribution is."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minivae import backend, ops
from minivae.backend import Array
from minivae.ops.reduction import Axis
from minivae.tensor import Operand, Tensor, as_tensor, no_grad


class Distribution:
    """p(x), one for each entry of its parameters: they broadcast to the shape of the batch, `shape`.

    All methods give tensors that are differentiable in the parameters, `sample` excepted. Parameters are tensors,
    arrays or numbers; numbers are taken in the dtype of the others, float32 where all are numbers. As in ops.loss
    results are summed over `axis`; here the default, (), sums nothing.
    """

    shape: tuple[int, ...]
    dtype: Any
    pathwise = True  # whether there is rsample

    def log_prob(self, x: Operand, axis: Axis = ()) -> Tensor:
        """log p(x), in nats: x broadcasts with the batch. Outside of the support it is -inf, and its gradient 0."""
        return _summed(self._log_prob(self._tensor(x)), axis)

    def rsample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        """Samples (*shape, *batch) as a function of the parameters and of noise: its gradients are pathwise.

        rng: a generator with `random` and `standard_normal`; the backend's by default.
        """
        raise TypeError(f"{type(self).__name__} has no reparameterised samples: use sample().")

    @no_grad()
    def sample(self, shape: tuple[int, ...] = (), rng: Any = None) -> Tensor:
        """Samples (*shape, *batch), without gradients."""
        return self.rsample(shape, rng)

    def rsample_with_log_prob(
        self, shape: tuple[int, ...] = (), rng: Any = None, axis: Axis = ()
    ) -> tuple[Tensor, Tensor]:
        """Samples and their log p, summed over axis: (z, log_q), all that a variational posterior has to give."""
        z = self.rsample(shape, rng)
        return z, self.log_prob(z, axis)

    def entropy(self, axis: Axis = ()) -> Tensor:
        """-E[log p(x)], in nats; that of a density may be negative."""
        return _summed(self._entropy(), axis)

    def astype(self, dtype: Any) -> Any:
        """The distribution of the same parameters in another dtype, to which gradients go through."""
        other = copy.copy(self)
        other.dtype = np.dtype(dtype)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, ops.astype(value, other.dtype))
            elif isinstance(value, Distribution):
                setattr(other, name, value.astype(dtype))
        return other

    def mean(self) -> Tensor:
        """E[x]. NaN where there is none."""
        raise TypeError(f"the mean of {type(self).__name__} is not known.")

    def variance(self) -> Tensor:
        """E[(x - E[x])^2]. NaN where there is none."""
        raise TypeError(f"the variance of {type(self).__name__} is not known.")

    def _log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _entropy(self) -> Tensor:
        raise TypeError(f"the entropy of {type(self).__name__} has no closed form: average -log_prob of samples.")

    def _parameters(self, **given: Operand) -> None:
        """Set parameters as attributes, tensors of one dtype, and the shape of the batch."""
        dtypes = [np.dtype(value.dtype) for value in given.values() if _is_array(value)]
        self.dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float32)
        if self.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__}: parameters of dtype {self.dtype}: give floating-point numbers.")
        tensors = {name: self._tensor(value) for name, value in given.items()}
        try:
            self.shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors.values()))
        except ValueError:
            shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in tensors.items())
            raise ValueError(f"{type(self).__name__}: shapes that do not broadcast together: {shapes}.") from None
        vars(self).update(tensors)

    def _tensor(self, value: Operand) -> Tensor:
        """A value as a tensor; a number in the dtype of the parameters."""
        return as_tensor(value) if _is_array(value) else Tensor(backend.current().asarray(value, dtype=self.dtype))

    def _require(self, name: str, holds: Array, expected: str) -> None:
        """Raise ValueError where a condition on a parameter fails (on NumPy; a GPU would have to be waited for)."""
        value = getattr(self, name).data
        if backend.of(value).eager and not holds.all():
            wrong = value[~holds].flat[0]
            raise ValueError(f"{type(self).__name__}: {name} must be {expected}, but holds {wrong:g}.")

    def _require_positive(self, *names: str) -> None:
        for name in names:
            self._require(name, getattr(self, name).data > 0, "above 0")

    def _uniform(self, shape: tuple[int, ...], rng: Any, event: tuple[int, ...] = ()) -> Array:
        """Uniform numbers in the open interval (0, 1), (*shape, *batch, *event).

        float64 whatever the parameters: float32 has no number between 1 - 6e-8 and 1, so the tails would end there.
        """
        xp = backend.of(self._example().data)
        u = (rng or xp.rng).random((*shape, *self.shape, *event), dtype=xp.float64)
        return xp.asarray(xp.clip(u, 2.0**-54, 1 - 2.0**-53))

    def _normal(self, shape: tuple[int, ...], rng: Any) -> Tensor:
        """Standard normal numbers (*shape, *batch), in the dtype of the parameters."""
        xp = backend.of(self._example().data)
        return Tensor((rng or xp.rng).standard_normal((*shape, *self.shape), dtype=self.dtype))

    def _example(self) -> Tensor:
        """One of the parameters."""
        return next(value for value in vars(self).values() if isinstance(value, Tensor))

    def _over_batch(self, value: Tensor) -> Tensor:
        """A function of some of the parameters, for each entry of the batch."""
        return value if value.shape == self.shape else ops.broadcast_to(value, self.shape)


def in_float64(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of distributions and tensors that is a small difference of large numbers: it is computed in float64,
    and only the result has the dtype of what is given.
    """

    @functools.wraps(function)
    def wide(*given: Any) -> Tensor:
        dtype = np.result_type(*(a.dtype for a in given))
        if dtype == np.float64:
            return function(*given)
        each = [a.astype(np.float64) if isinstance(a, Distribution) else ops.astype(a, np.float64) for a in given]
        return ops.astype(function(*each), dtype)

    return wide


def supported(
    log_density: Callable[[Tensor], Tensor], x: Tensor, outside: Array, instead: float, axis: int | None = None
) -> Tensor:
    """log_density(x), but -inf with gradient 0 where x is outside of the support. A NaN is not outside: it stays.

    There the density is computed at another point, `instead`, and thrown away: a NaN of log(-1) times a cotangent of 0
    would still be NaN. axis: that of x over which a point extends, if any.
    """
    xp = backend.of(x.data)
    density = log_density(ops.where(outside if axis is None else xp.expand_dims(outside, axis), instead, x))
    return ops.where(outside, -math.inf, density)


def _is_array(value: Operand) -> bool:
    """Whether a value has a dtype that counts: NumPy's scalars are weak, like Python's numbers."""
    return isinstance(value, Tensor) or backend.is_array(value)


def _summed(terms: Tensor, axis: Axis) -> Tensor:
    return terms if axis == () else terms.sum(axis=axis)
