"""A silent mistake made loud: an array that was changed in place between the forward pass and backward().

A vjp reads what the forward pass left: operands, the result, what was computed on the way. Whoever writes into one of
these before backward() gets a wrong gradient and no word of it. With checks on, each array that a vjp holds has its
fingerprint taken when the op is recorded, and compared just before the vjp is called. MINIVAE_CHECKS=1 turns them on.
What no vjp holds may be changed: what an addition was given, or anything after backward(), as an optimiser does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minivae import backend, tensor
from minivae.backend import Array
from minivae.graph import Into, Vjp
from minivae.ops.conv import Rows


@contextmanager
def checks(on: bool = True) -> Iterator[None]:
    """Within it an array that is changed in place before backward() is an error, a RuntimeError that names it.

    It costs a pass over the arrays, and on a GPU a wait for each in backward(). on=False: not looked for within it.
    """
    before, tensor.inspect_op = tensor.inspect_op, _inspect if on else None
    try:
        yield
    finally:
        tensor.inspect_op = before


def turn_on() -> None:
    """Look for changes in place from now on."""
    tensor.inspect_op = _inspect


def _inspect(name: str, operands: Sequence[Any], value: Array, vjps: Sequence[Vjp | None]) -> Sequence[Vjp | None]:
    """The vjps of an op, which look whether what they read is as it was; where nothing is recorded, as they are."""
    if not tensor._recording:
        return vjps
    taken: dict[int, Any] = {}  # fingerprints by id: two vjps of an op may share an array

    def fingerprint(array: Array) -> Any:
        if id(array) not in taken:
            taken[id(array)] = backend.of(array).fingerprint(array)
        return taken[id(array)]

    def watched(vjp: Vjp) -> Vjp:
        held = [(array, fingerprint(array)) for array in _held(vjp, set())]
        if not held:
            return vjp
        names = [_what(array, operands, value) for array, _ in held]

        def look(g: Array) -> Array:
            for (array, before), what in zip(held, names, strict=True):
                if bool(backend.of(array).fingerprint(array) != before):
                    raise RuntimeError(
                        f"{what} of '{name}', an array of shape {array.shape}, was changed in place between the "
                        "forward pass and backward(), which needs it as it was: change it after backward(), or change "
                        "a copy of it."
                    )
            return vjp(g)

        return look

    return [None if vjp is None else watched(vjp) for vjp in vjps]


def _held(value: Any, seen: set[int]) -> Iterator[Array]:
    """The arrays that a vjp reads from where it was made, each once: those in its closure, however deep."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if backend.is_array(value):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _held(item, seen)
    elif isinstance(value, functools.partial):
        yield from _held((value.func, *value.args, *value.keywords.values()), seen)
    elif isinstance(value, Into):
        yield from _held(value.f, seen)
    elif isinstance(value, Rows):
        yield from _held([value.x, value.kept], seen)
    elif closure := getattr(value, "__closure__", None):
        for cell in closure:
            try:
                yield from _held(cell.cell_contents, seen)
            except ValueError:  # a cell that is still empty
                continue


def _what(array: Array, operands: Sequence[Any], value: Array) -> str:
    """Where an array of a vjp comes from, in words."""
    shared: Callable[..., Any] = backend.of(array).may_share_memory
    for i, operand in enumerate(operands):
        if operand is array or (backend.is_array(operand) and shared(operand, array)):
            return f"operand {i}"
    return "the result" if value is array or shared(value, array) else "what was computed on the way"
