"""Quantisation: the nearest of a set of codes, and gradients past a step that has none.

`nearest` has no derivative, and so it is a plain function of arrays. `straight_through` and `rotation_trick` are ops.
Their value is q, what x was quantised to; their gradient to x is one that the quantisation itself does not have.
"""

from __future__ import annotations

from typing import Any

from minivae import backend
from minivae.backend import Array
from minivae.tensor import op


def nearest(x: Array, codebook: Array, scores: int | None = None) -> Array:
    """The index of the code nearest to each vector: x (M, D), codebook (K, D) -> (M,); of equal ones the first.

    |x - e|^2 = |x|^2 - 2 x.e + |e|^2, of which |x|^2 is the same for all codes: one matmul and an argmin.
    scores: how many numbers of the (M, K) that these would fill are held at a time; as the backend likes by default.
    """
    if x.ndim != 2 or codebook.ndim != 2 or x.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(
            f"nearest: x of shape {x.shape} and a codebook of shape {codebook.shape} must be (M, D) and (K, D), "
            "of the same D and with a code at least."
        )
    xp = backend.of(x)
    # far from the origin |e|^2 and 2 x.e are large and cancel: only the distances from the codes' centre are kept
    centre = codebook.mean(axis=0)
    codes = codebook - centre
    squares = xp.sum(codes * codes, axis=1)
    indices = xp.empty(len(x), dtype=xp.int64)
    score = len(codebook) * x.itemsize  # bytes, of one vector
    rows = xp.fitting(len(x), score) if scores is None else max(1, scores // len(codebook))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        xp.nearest(x[part] - centre, codes, squares, indices[part])
    return indices


@op
def straight_through(xp: Any, x: Array, q: Array) -> Any:
    """The value q, the gradient g of q handed to x as it is, none to q: x + stop_gradient(q - x).

    x, q: the same shape. [Bengio et al. 2013; van den Oord et al. 2017]
    """
    _same_shape("straight_through", x, q)
    return q, (lambda g: g, None)


@op
def rotation_trick(xp: Any, x: Array, q: Array) -> Any:
    """The value q as stop_gradient(s R) x: R the rotation of x's direction to q's, s = |q| / |x|; none to q.

    x, q: (..., D). A gradient keeps its angle to the vector on the way from q to x. [Fifty et al. 2024]
    With unit vectors u of x and v of q, and r of u + v:  R = I - 2 r r^T + 2 v u^T.
    """
    _same_shape("rotation_trick", x, q)

    def unit(a: Array) -> tuple[Array, Array]:
        length = xp.maximum(xp.sqrt(xp.sum(a * a, axis=-1, keepdims=True)), 1e-6)
        return a / length, length

    def along(a: Array, b: Array) -> Array:
        return a * xp.sum(a * b, axis=-1, keepdims=True)

    def dx(g: Array) -> Array:
        (u, x_length), (v, q_length) = unit(x), unit(q)
        r, _ = unit(u + v)
        scale = xp.where(x_length > 1e-6, q_length / x_length, 1)  # from the origin no scaling leads anywhere
        return scale * (g - 2 * along(r, g) + 2 * u * xp.sum(v * g, axis=-1, keepdims=True))

    return q, (dx, None)


def _same_shape(name: str, x: Array, q: Array) -> None:
    if x.shape != q.shape:
        raise ValueError(f"{name}: x of shape {x.shape} and q of shape {q.shape} must have the same shape.")
