"""Reverse-mode differentiation: the chain rule over a graph of nodes, once, in one pass.

A node stands for a value that was computed. Its edges lead to the nodes of the inputs, each with a vjp
(vector-Jacobian product): the function that turns the gradient of the loss with respect to the value,
the cotangent g, into its gradient with respect to that input. Where a value is used several times its
cotangents add up, so a node must wait for all of its consumers: that is all that backward() organises.

A vjp returns a fresh array, its cotangent g, or a view of g; never an array that someone keeps. So what
is neither g nor a view belongs to backward(), which may add to it in place.

A product of matrices can be written to a given array. So an optimiser, whose parameters' gradients have their places
in one array (a leaf's `home`), gets the largest of them there: by a vjp that is an `Into`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from minivae.backend import Array, Backend

Vjp: TypeAlias = Callable[[Array], Array]


class Into:
    """A vjp that writes its result to an array where one is given: f(g, out), with out None for a fresh one."""

    __slots__ = ("f",)

    def __init__(self, f: Callable[[Array, Array | None], Array]):
        self.f = f

    def __call__(self, g: Array) -> Array:
        return self.f(g, None)


class Node:
    """What a gradient needs to know of a value, without the value.

    name: of the op. edges: (node of an input, vjp) pairs; () for a leaf; None once backward() freed them.
    grad: the gradient that a leaf has received. home: the array where the next is to lie, if that saves a copy.
    """

    __slots__ = ("dtype", "edges", "grad", "home", "name", "shape")

    def __init__(self, name: str, value: Array, edges: Sequence[tuple[Node, Vjp]] | None):
        self.name = name
        self.shape: tuple[int, ...] = value.shape
        self.dtype = value.dtype
        self.edges = edges
        self.grad: Array | None = None
        self.home: Array | None = None


def backward(root: Node, seed: Array, xp: Backend) -> None:
    """Add to every leaf's grad its part of the gradient whose cotangent at root is seed.

    Each node is visited once, after all that consumed it, and what it saved is freed on the way.
    """
    pending = _count_consumers(root)
    cotangents = {root: seed}
    owned: set[Node] = set()  # nodes whose cotangent no one else holds
    ready = [root]
    ndarray = xp.ndarray
    while ready:
        node = ready.pop()
        g = cotangents.pop(node)
        if not node.edges:
            if node.grad is None:
                node.grad = g if node in owned else g.copy()
            else:
                node.grad += g
            continue
        edges, node.edges = node.edges, None
        for parent, vjp in edges:
            before = cotangents.get(parent)
            home = None
            if isinstance(vjp, Into) and before is None and parent.grad is None:
                home, parent.home = parent.home, None
                gradient = vjp.f(g, home)
            else:
                gradient = vjp(g)
            if type(gradient) is not ndarray or gradient.shape != parent.shape or gradient.dtype != parent.dtype:
                gradient = _fit(xp, gradient, parent, node)
            if before is None:
                cotangents[parent] = gradient
                if home is not None or (gradient is not g and gradient.base is None):
                    owned.add(parent)
            elif parent in owned:
                before += gradient
            else:
                cotangents[parent] = xp.asarray(before + gradient)
                owned.add(parent)
            waiting = pending[parent] - 1
            if waiting:
                pending[parent] = waiting
            else:
                ready.append(parent)


def _count_consumers(root: Node) -> dict[Node, int]:
    """For every node that root depends on, the number of edges that lead to it."""
    pending = {root: 0}
    stack = [root]
    while stack:
        node = stack.pop()
        if node.edges is None:
            raise RuntimeError(
                f"backward() a second time through '{node.name}' of shape {node.shape}, whose graph is freed: "
                "compute the forward pass again, or add the losses and call backward() once."
            )
        for parent, _ in node.edges:
            if parent in pending:
                pending[parent] += 1
            else:
                pending[parent] = 1
                stack.append(parent)
    return pending


def _fit(xp: Backend, gradient: Array, parent: Node, node: Node) -> Array:
    """A vjp's result in the shape and dtype of the input: the adjoint of broadcasting is a sum."""
    gradient = xp.asarray(gradient)
    extra = gradient.ndim - len(parent.shape)
    if extra > 0:
        gradient = xp.sum(gradient, axis=tuple(range(extra)))
    if gradient.ndim == len(parent.shape):
        stretched = tuple(i for i, n in enumerate(parent.shape) if n == 1 and gradient.shape[i] != 1)
        if stretched:
            gradient = xp.sum(gradient, axis=stretched, keepdims=True)
    if gradient.shape != parent.shape:
        raise RuntimeError(
            f"a vjp of '{node.name}' returned a gradient of shape {gradient.shape} "
            f"for an input of shape {parent.shape}: they must agree."
        )
    return xp.asarray(gradient, dtype=parent.dtype)
