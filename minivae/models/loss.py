"""What every model's loss() returns."""

from __future__ import annotations

from typing import NamedTuple

from minivae.tensor import Tensor


class Loss(NamedTuple):
    """total: the scalar to minimise, in nats per example. terms: its named parts, each a scalar."""

    total: Tensor
    terms: dict[str, Tensor]
