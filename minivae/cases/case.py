"""What a row is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minivae.tensor import Tensor
from minivae.testing import Strategy


class Case(NamedTuple):
    """A function of tensors and options, and the strategies of its arguments."""

    fn: Callable[..., Tensor]
    arguments: tuple[Strategy, ...]


def case(fn: Callable[..., Tensor], *arguments: Strategy) -> Case:
    """A case whose arguments are drawn one by one."""
    return Case(fn, arguments)
