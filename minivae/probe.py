"""A function at a point, as gradcheck meets it: its value, its vjp, and the form of both, short of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minivae import backend, graph, tensor
from minivae.findings import Fault, Report
from minivae.graph import Node
from minivae.tensor import Tensor, no_grad


@contextmanager
def recording() -> Iterator[None]:
    """Within it graphs are recorded, in the caller's no_grad() too. Also a decorator."""
    before, tensor._recording = tensor._recording, True
    try:
        yield
    finally:
        tensor._recording = before


class Probe:
    """A function at a point: its value, and its vjp at any cotangent, each from a fresh forward pass."""

    def __init__(self, fn: Callable[..., Tensor], arrays: list[Any], checked: list[int], report: Report):
        self.fn, self.arrays, self.checked, self.report = fn, arrays, checked, report
        self.first: dict[str, Any] = {}  # what the first vjp handed out, by name
        with np.errstate(all="ignore"):
            self.value = self.call(arrays)

    def call(self, arrays: list[Any]) -> Any:
        """The function's value, on the host, without a graph."""
        with no_grad():
            output = self.fn(*(Tensor(_device(x)) for x in arrays))
        if not isinstance(output, Tensor):
            raise TypeError(f"gradcheck of {self.report.name}: it returned {type(output).__name__}, not a Tensor.")
        return output.numpy().copy()

    def vjp(self, cotangent: Any) -> list[Any]:
        """The gradients of the checked inputs, None where there is none."""
        leaves = [Tensor(_device(x), requires_grad=i in self.checked) for i, x in enumerate(self.arrays)]
        with np.errstate(all="ignore"):
            output = self.fn(*leaves)
            self._unchanged(leaves, "forward")
            self._same_value(output)
            seed = _device(cotangent)
            if output.requires_grad:
                self._fresh("the output", output.data)
            _backward(output, seed, {leaf._node for leaf in leaves})
        if output.requires_grad:
            self._unchanged(leaves, "backward")
            if not np.array_equal(backend.to_numpy(seed), cotangent, equal_nan=True):
                raise Fault("mutated", "the cotangent was changed in place by backward")
        grads = [leaves[i].grad for i in self.checked]
        self._not_shared(leaves, grads)
        missing = getattr(self.fn, "missing", ())  # where a pair of from_vjp returned None
        return [
            None if g is None or i in missing else backend.to_numpy(g).copy()
            for i, g in zip(self.checked, grads, strict=True)
        ]

    def _unchanged(self, leaves: list[Tensor], when: str) -> None:
        for i, (leaf, x) in enumerate(zip(leaves, self.arrays, strict=True)):
            if not np.array_equal(leaf.numpy(), x, equal_nan=x.dtype.kind == "f"):
                raise Fault("mutated", f"input {i} was changed in place by {when}", input=i)

    def _same_value(self, output: Tensor) -> None:
        """The value that the gradient belongs to is the one that the finite differences are taken of."""
        y = output.numpy()
        near = 1e-9 * np.abs(self.value).max(initial=0)
        if y.shape != self.value.shape or not np.abs(y - self.value).max(initial=0) <= near:
            raise Fault("nondeterministic", "the value is another one where a graph is recorded")

    def _not_shared(self, leaves: list[Tensor], grads: list[Any]) -> None:
        others = [(f"input {j}", leaf.data) for j, leaf in enumerate(leaves)]
        for i, g in zip(self.checked, grads, strict=True):
            if g is None:
                continue
            for what, other in others:
                if backend.of(g).shares_memory(g, other):
                    raise Fault("aliased", f"the gradient of input {i} shares memory with {what}", input=i)
            others.append((f"the gradient of input {i}", g))
            self._fresh(f"the gradient of input {i}", g, input=i)

    def _fresh(self, what: str, array: Any, **where: Any) -> None:
        """An array that was handed out belongs to whom it was given: the next call must make another."""
        if what in self.first and backend.of(array).shares_memory(array, self.first[what]):
            raise Fault("aliased", f"{what} is handed out in the same array at each call", **where)
        self.first.setdefault(what, array)

    def check_form(self, rng: np.random.Generator) -> None:
        """Everything about the vjp but its values: finite, repeatable, linear, and there."""
        if self.value.dtype != np.float64:
            raise Fault("dtype", f"the output is {self.value.dtype} for float64 inputs: something inside casts")
        if not np.isfinite(self.value).all():
            raise Fault("nonfinite", "the output holds NaN or infinity at this point")
        if not np.array_equal(self.value, self.call(self.arrays)):
            raise Fault("nondeterministic", "two forward passes at one point differ: fix the random numbers inside")
        u, v = (rng.standard_normal(self.value.shape) for _ in range(2))
        of_u, again, of_v, of_sum = (self.vjp(c) for c in (u, u, v, u + v))
        of_zero = self.vjp(np.zeros_like(u))
        for i, a, b, c, s, z in zip(self.checked, of_u, again, of_v, of_sum, of_zero, strict=True):
            if a is None or c is None:
                continue  # what is due is known when the finite difference is
            if not np.isfinite(a).all():
                raise Fault("nonfinite", f"the gradient of input {i} holds NaN or infinity", input=i)
            if not np.array_equal(a, b):
                raise Fault("nondeterministic", f"two backward passes give input {i} different gradients", input=i)
            rounding = 1e-9 * (np.abs(a).max(initial=0) + np.abs(c).max(initial=0))
            rounding += 1e-12 * (1 + np.abs(self.value).max(initial=0)) * self.value.size  # of sums that cancel
            if z is not None and not np.isfinite(z).all():
                raise Fault("nonfinite", f"a zero cotangent gives input {i} NaN or infinity", input=i)
            if z is not None and z.any():
                raise Fault("nonlinear", f"a zero cotangent gives input {i} a gradient that is not zero", input=i)
            if np.abs(a + c - s).max(initial=0) > rounding:
                raise Fault("nonlinear", f"vjp(u) + vjp(v) is not vjp(u + v) for input {i}", input=i)


def _backward(output: Tensor, seed: Any, inputs: set[Node | None]) -> None:
    """The engine's backward() for these inputs; that a vjp's gradient does not fit is a finding like others.

    Other leaves, as the parameters of a layer, keep the gradients that they have.
    """
    root = output._node
    if root is None:
        return
    others = [node for node in graph._count_consumers(root) if not node.edges and node not in inputs]
    before = [(node.grad, node.home) for node in others]
    for node in others:
        node.grad = node.home = None
    try:
        output.backward(seed)
    except RuntimeError as error:
        if "returned a gradient of shape" not in str(error):
            raise
        raise Fault("shape", str(error)) from error
    finally:
        for node, (grad, home) in zip(others, before, strict=True):
            node.grad, node.home = grad, home


def _device(x: Any) -> Any:
    """A copy on the current backend: the function may change it."""
    return backend.current().asarray(x.copy())
