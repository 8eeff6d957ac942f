"""from_vjp: a hand-written pair of plain functions, forward and vjp, as a function of tensors for gradcheck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minivae import backend
from minivae.findings import Fault
from minivae.tensor import Tensor, op


def from_vjp(forward: Callable[..., Any], vjp: Callable[..., Any], name: str | None = None) -> Callable[..., Tensor]:
    """A function of tensors from a hand-written pair of plain functions, for gradcheck.

    forward(*arrays) -> array. vjp(g, *arrays) -> the gradients of the arrays, in their order (one alone need not
    be a tuple; None where an input has none), for the gradient g of a loss with respect to the result.
    """

    def pair(xp: Any, *arrays: Any) -> Any:
        lifted.missing.clear()  # type: ignore[attr-defined]  # of the pass before
        y = forward(*arrays)
        if not (backend.is_array(y) or np.isscalar(y) or isinstance(y, np.generic)):
            raise TypeError(f"from_vjp of {pair.__name__}: forward returned {type(y).__name__}, not an array.")
        y = xp.asarray(y)

        def gradient(i: int) -> Callable[[Any], Any]:
            def of(g: Any) -> Any:
                grads = vjp(g, *arrays)
                grads = grads if isinstance(grads, tuple | list) else (grads,)
                if len(grads) != len(arrays):
                    raise Fault("shape", f"vjp returned {len(grads)} gradients for {len(arrays)} inputs")
                d, x = grads[i], arrays[i]
                if d is None:
                    lifted.missing.add(i)  # type: ignore[attr-defined]
                    return xp.zeros_like(x)
                if not (backend.is_array(d) or isinstance(d, np.generic)):
                    raise Fault("shape", f"vjp's gradient of input {i} is a {type(d).__name__}, not an array", input=i)
                if xp.shape(d) != x.shape:
                    raise Fault("shape", f"vjp's gradient of input {i} has shape {xp.shape(d)}, not {x.shape}", input=i)
                if d.dtype != x.dtype:
                    raise Fault("dtype", f"vjp's gradient of input {i} is {d.dtype}, not {x.dtype}", input=i)
                for j, other in enumerate(grads if backend.is_array(d) else ()):
                    # the cotangent may be handed on as it is, and to several
                    if j != i and backend.is_array(other) and xp.shares_memory(d, other) and not xp.shares_memory(d, g):
                        message = f"the gradient of input {max(i, j)} shares memory with that of input {min(i, j)}"
                        raise Fault("aliased", message, input=max(i, j))
                return d

            return of

        floats = [backend.is_array(x) and x.dtype.kind == "f" for x in arrays]  # a number has no gradient to ask for
        return y, [gradient(i) if wanted else None for i, wanted in enumerate(floats)]

    pair.__name__ = name or str(getattr(forward, "__name__", "pair"))
    lifted = op(pair)
    lifted.missing = set()  # type: ignore[attr-defined]
    return lifted
