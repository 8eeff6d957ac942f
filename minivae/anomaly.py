"""detect_anomaly: which op made the first NaN or infinity, and where in the user's code."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minivae import backend, tensor
from minivae.backend import Array
from minivae.errors import NotFinite
from minivae.graph import Vjp

PACKAGE = Path(__file__).parent
ENGINE = [str(PACKAGE / name) for name in ("tensor.py", "anomaly.py", "graph.py", "ops/")]


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within it every value and every gradient of an op is looked at, and the first that is not finite is an error.

        with minivae.detect_anomaly():
            model.loss(x).total.backward()

    The error, NotFinite, names the op, the shapes of its operands and the line that called it; for a gradient, the
    line of the forward pass. It costs a pass over every array, and on a GPU a wait for each: use it to find a fault.
    """
    before = tensor.inspect_op  # the checks for changes in place, where they are on, go on
    tensor.inspect_op = (
        _inspect
        if before is None
        else lambda name, operands, value, vjps: _inspect(name, operands, value, before(name, operands, value, vjps))
    )
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what the warnings tell, the error does
            yield
    finally:
        tensor.inspect_op = before


def _inspect(name: str, operands: Sequence[Any], value: Array, vjps: Sequence[Vjp | None]) -> Sequence[Vjp | None]:
    """Raise NotFinite if an op's value is not finite; else its vjps, which look at what they return."""
    arrays = [a for a in operands if backend.is_array(a)]
    shapes = f"'{name}' of {' and '.join(str(a.shape) for a in arrays) or 'numbers'}"
    if fault := _fault(value):
        given = [f"operand {i} held {f} already" for i, a in enumerate(arrays) if (f := _fault(a))]
        how = f"was given what is not finite ({', '.join(given)}), and returned" if given else "made"
        raise NotFinite(f"{shapes} {how} {fault}, {_caller()}")
    caller = _caller()

    def watched(i: int, vjp: Vjp) -> Callable[[Array], Array]:
        def look(g: Array) -> Array:
            gradient = vjp(g)
            if fault := _fault(gradient):
                given = " (its cotangent was not finite already)" if _fault(g) else ""
                raise NotFinite(f"the gradient of {shapes} with respect to operand {i} has {fault}{given}, {caller}")
            return gradient

        return look

    return [None if vjp is None else watched(i, vjp) for i, vjp in enumerate(vjps)]


def _fault(array: Array) -> str:
    """What is not finite in an array, in words; empty where all is."""
    if array.dtype.kind != "f":
        return ""
    xp = backend.of(array) if backend.is_array(array) else backend.current()
    nan, inf = int(xp.isnan(array).sum()), int(xp.isinf(array).sum())
    return f"{nan} NaN and {inf} infinite of {array.size} entries" if nan or inf else ""


def _caller() -> str:
    """The line that called the op, and if it is of minivae, the line outside of it that led there."""
    frame: FrameType | None = sys._getframe(1)
    lines: list[str] = []
    while frame is not None:
        path = frame.f_code.co_filename
        outside = not path.startswith(str(PACKAGE))
        if outside or not (lines or path.startswith(tuple(ENGINE))):
            text = linecache.getline(path, frame.f_lineno).strip()
            lines.append(f"{path}:{frame.f_lineno} in {frame.f_code.co_name}: {text}")
        if outside:
            break
        frame = frame.f_back
    return "at " + ", called from ".join(lines)
