"""The gradient of a function against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivae.tensor import Tensor, asarray, no_grad


class GradientError(AssertionError):
    """A gradient differs from the finite difference, in value or in form."""


def gradcheck(
    fn: Callable[..., Tensor], inputs: Sequence[Any], rtol: float = 1e-5, atol: float = 1e-7, seed: int = 0
) -> None:
    """Compare the gradient of fn with central differences, in float64, entry by entry.

    fn: a function of len(inputs) tensors that returns a tensor of any shape; random choices inside
    must be the same at each call. inputs: arrays; those of a float dtype are checked. The output is
    projected on a random direction v drawn from seed: what is compared is the gradient of sum(v * fn).

        (f(x + h) - f(x - h)) / 2h = f'(x) + O(h^2),  h = eps^(1/3) max(1, |x|)

    Raises GradientError that names the function, the input, the entry and both numbers.
    """
    name = getattr(fn, "__name__", str(fn))
    arrays = [_float64(x) for x in inputs]
    leaves = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
    output = fn(*leaves)
    direction = np.random.default_rng(seed).standard_normal(output.shape)
    if output.requires_grad:  # it may not, where an input is empty or the function constant
        output.backward(asarray(direction, output.dtype))

    def projected(changed: list[Any]) -> float:
        with no_grad():
            return float(np.sum(direction * fn(*map(Tensor, changed)).numpy()))

    for i, (leaf, x) in enumerate(zip(leaves, arrays, strict=True)):
        if not leaf.requires_grad:
            continue
        grad = np.zeros(x.shape) if leaf.grad is None else leaf.grad
        if grad.shape != x.shape or grad.dtype != x.dtype:
            raise GradientError(f"{name}: the gradient of input {i} is {grad.dtype} {grad.shape}, not {x.shape}.")
        for entry in np.ndindex(x.shape):
            h = np.finfo(x.dtype).eps ** (1 / 3) * max(1.0, abs(x[entry]))
            up, down = x.copy(), x.copy()
            up[entry] += h
            down[entry] -= h
            numeric = (
                projected([*arrays[:i], up, *arrays[i + 1 :]]) - projected([*arrays[:i], down, *arrays[i + 1 :]])
            ) / (up[entry] - down[entry])
            if not abs(grad[entry] - numeric) <= atol + rtol * abs(numeric):
                raise GradientError(
                    f"{name}: the gradient of input {i} at {entry} is {grad[entry]:.10g}, "
                    f"by finite differences {numeric:.10g} (input shapes {[a.shape for a in arrays]})."
                )


def _float64(x: Any) -> Any:
    x = np.array(x.numpy() if isinstance(x, Tensor) else x)
    return x.astype(np.float64) if x.dtype.kind == "f" else x
