"""Elementwise arithmetic and functions, with NumPy's broadcasting."""

from __future__ import annotations

from typing import Any

from minivae.backend import Array
from minivae.tensor import op

# In every file of ops: g is the cotangent, the gradient of the loss with respect to the result y,
# and the vjp of an input a is g times dy/da. xp is the array library of the operands.


@op
def add(xp: Any, a: Array, b: Array) -> Any:
    """a + b."""
    return xp.add(a, b), (lambda g: g, lambda g: g)


@op
def sub(xp: Any, a: Array, b: Array) -> Any:
    """a - b."""
    return xp.subtract(a, b), (lambda g: g, lambda g: -g)


@op
def mul(xp: Any, a: Array, b: Array) -> Any:
    """a * b, elementwise."""
    return xp.multiply(a, b), (lambda g: g * b, lambda g: g * a)


@op
def div(xp: Any, a: Array, b: Array) -> Any:
    """a / b, elementwise."""
    y = xp.divide(a, b)
    return y, (lambda g: g / b, lambda g: -g * y / b)


@op
def neg(xp: Any, a: Array) -> Any:
    """-a."""
    return xp.negative(a), (lambda g: -g,)


@op
def pow(xp: Any, a: Array, b: Array) -> Any:
    """a ** b. The derivative is 0 where b is 0, and 0 with respect to b where a is 0, as in PyTorch."""
    y = a**b

    def da(g: Array) -> Array:
        if isinstance(b, int | float):
            return g * (b * a ** (b - 1)) if b else xp.zeros_like(g)
        return g * b * a ** xp.where(b == 0, 1, b - 1)

    def db(g: Array) -> Array:
        base = xp.asarray(a, dtype=y.dtype)
        return g * y * xp.log(xp.where(base == 0, 1, base))

    return y, (da, db)


@op
def maximum(xp: Any, a: Array, b: Array) -> Any:
    """The larger of a and b. Equal ones share the gradient evenly."""
    y = xp.maximum(a, b)
    return y, (lambda g: _share(xp, g, a, b, a > b), lambda g: _share(xp, g, a, b, a < b))


@op
def minimum(xp: Any, a: Array, b: Array) -> Any:
    """The smaller of a and b. Equal ones share the gradient evenly."""
    y = xp.minimum(a, b)
    return y, (lambda g: _share(xp, g, a, b, a < b), lambda g: _share(xp, g, a, b, a > b))


def _share(xp: Any, g: Array, a: Array, b: Array, wins: Array) -> Array:
    return xp.where(xp.equal(a, b), g / 2, xp.where(wins, g, 0))


@op
def clip(xp: Any, a: Array, low: Any = None, high: Any = None) -> Any:
    """a, but at least low and at most high (either may be None). At a bound the gradient passes."""
    if low is None and high is None:
        return a, (lambda g: g,)

    def da(g: Array) -> Array:
        inside = a <= high if low is None else a >= low
        if low is not None and high is not None:
            inside = inside & (a <= high)
        return xp.where(inside, g, 0)

    return xp.clip(a, low, high), (da,)


@op
def where(xp: Any, condition: Array, a: Array, b: Array) -> Any:
    """a where condition (boolean) is true, b elsewhere."""
    return xp.where(condition, a, b), (
        None,
        lambda g: xp.where(condition, g, 0),
        lambda g: xp.where(condition, 0, g),
    )


@op
def abs(xp: Any, a: Array) -> Any:
    """|a|. The derivative at 0 is 0."""
    return xp.abs(a), (lambda g: g * xp.sign(a),)


@op
def exp(xp: Any, a: Array) -> Any:
    """e ** a."""
    y = xp.exp(a)
    return y, (lambda g: g * y,)


@op
def expm1(xp: Any, a: Array) -> Any:
    """e ** a - 1, exact for small a."""
    y = xp.expm1(a)
    return y, (lambda g: g * (y + 1),)


@op
def log(xp: Any, a: Array) -> Any:
    """The natural logarithm."""
    return xp.log(a), (lambda g: g / a,)


@op
def log1p(xp: Any, a: Array) -> Any:
    """log(1 + a), exact for small a."""
    return xp.log1p(a), (lambda g: g / (1 + a),)


@op
def sqrt(xp: Any, a: Array) -> Any:
    """The square root. The derivative at 0 is infinite."""
    y = xp.sqrt(a)
    return y, (lambda g: g / (2 * y),)


@op
def sin(xp: Any, a: Array) -> Any:
    """sin a, in radians."""
    return xp.sin(a), (lambda g: g * xp.cos(a),)


@op
def cos(xp: Any, a: Array) -> Any:
    """cos a, in radians."""
    return xp.cos(a), (lambda g: -g * xp.sin(a),)
