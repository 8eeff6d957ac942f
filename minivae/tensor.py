"""Tensor: an array that remembers how it was computed, and `op`, which makes it remember.

An op is a function of plain arrays that returns its value and one vjp per input (see graph.py); the
decorator lifts it to tensors:

    @op
    def mul(xp, a, b):
        return a * b, (lambda g: g * b, lambda g: g * a)

`xp` is the backend of the operands. A vjp need not undo broadcasting: the engine does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from minivae import backend, dlpack, graph
from minivae.backend import Array
from minivae.graph import Node, Vjp

Operand: TypeAlias = Any  # a Tensor, an array of the same library, or a Python number

_recording = True
inspect_op: Callable[..., Sequence[Vjp | None]] | None = None  # set by minivae.detect_anomaly


class Tensor:
    """An array that takes part in differentiation.

    data: the array, of NumPy or CuPy. grad: after backward(), the gradient of a leaf with respect
    to which one was asked, an array of the same shape and dtype; else None. Python numbers become
    float32; arrays keep their dtype.
    """

    __slots__ = ("__weakref__", "_node", "data")
    __array_ufunc__ = None  # so that `array * tensor` asks the tensor

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None):
        self.data = asarray(data, dtype)
        self._node: Node | None = None
        self.requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor. It can be set on a leaf only."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self._node is not None and self._node.edges != ():
            raise RuntimeError(
                f"requires_grad of the result of '{self._node.name}' cannot be set: only a leaf's can; use detach()."
            )
        if wanted == self.requires_grad:
            return
        if wanted and self.data.dtype.kind != "f":
            raise TypeError(
                f"a tensor of dtype {self.data.dtype} and shape {self.shape} cannot have a gradient: "
                "only floating-point tensors can; convert it with astype(numpy.float32)."
            )
        self._node = Node("leaf", self.data, ()) if wanted else None

    @property
    def grad(self) -> Array | None:
        return self._node.grad if self._node is not None else None

    @grad.setter
    def grad(self, value: Array | None) -> None:
        if isinstance(value, np.generic):  # as 0-d arithmetic makes them
            value = np.asarray(value)
        if value is not None and (self._node is None or value.shape != self.shape):
            raise RuntimeError(
                f"a tensor of shape {self.shape}, requires_grad={self.requires_grad}, cannot hold a gradient of shape "
                f"{value.shape}: its shape must be the same, and requires_grad true."
            )
        if self._node is not None:
            self._node.grad = value

    def gradient_to(self, array: Array) -> None:
        """Let backward() write the next gradient to this array, of the same shape and dtype, where a vjp can."""
        if self._node is not None:
            self._node.home = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self.data.size  # type: ignore[no-any-return]

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return self.transpose()

    def numpy(self) -> Any:
        """The data as a NumPy array; a view where the data are NumPy's already."""
        return backend.to_numpy(self.data)

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        return self.data.item()

    def detach(self) -> Tensor:
        """The same data, cut from the graph."""
        return _wrap(self.data, None)

    def __len__(self) -> int:
        return len(self.data)

    def __float__(self) -> float:
        return float(self.data.item())

    def __bool__(self) -> bool:
        return bool(self.data)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a Tensor does not turn into a NumPy array by itself: call its numpy().")

    def __dlpack__(self, **options: Any) -> Any:
        return dlpack.exported(self, options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), separator=", ", threshold=20, precision=4, prefix="Tensor(")
        origin = f", op={self._node.name}" if self._node is not None and self._node.edges != () else ""
        wants = ", requires_grad=True" if self.requires_grad and not origin else ""
        return f"Tensor({body}, shape={self.shape}, dtype={self.dtype}{origin}{wants})"

    def backward(self, gradient: Array | None = None) -> None:
        """Add to the `grad` of every leaf the gradient of this tensor with respect to it.

        gradient: the cotangent, of this tensor's shape; may be left out for a single element (1).
        The graph is freed on the way.
        """
        root = self._node
        if root is None:
            raise RuntimeError(
                f"backward() from a tensor of shape {self.shape} that depends on nothing which needs a gradient: "
                "make a leaf with requires_grad=True, and leave no_grad()."
            )
        graph.backward(root, self._seed(gradient), backend.of(self.data))

    def _seed(self, gradient: Array | None) -> Array:
        xp = backend.of(self.data)
        if gradient is None:
            if self.size != 1:
                raise RuntimeError(
                    f"backward() from a tensor of shape {self.shape} needs a gradient of that shape: "
                    "give one, or reduce the tensor to a scalar, as by sum() or mean()."
                )
            return xp.ones_like(self.data)
        gradient = gradient.data if isinstance(gradient, Tensor) else gradient
        if isinstance(gradient, int | float) and self.ndim == 0:
            gradient = xp.asarray(gradient)
        if type(gradient) is not xp.ndarray or gradient.shape != self.shape:
            shape = gradient.shape if backend.is_array(gradient) else np.shape(gradient)
            raise ValueError(
                f"backward() from a tensor of shape {self.shape} on {xp.name} needs a gradient of that shape "
                f"and library, not {type(gradient).__module__} of shape {shape}."
            )
        return gradient.astype(self.dtype, copy=False)

    if TYPE_CHECKING:  # minivae/ops/__init__.py attaches these and every other op that is a method

        def __add__(self, other: Operand) -> Tensor: ...
        def __radd__(self, other: Operand) -> Tensor: ...
        def __sub__(self, other: Operand) -> Tensor: ...
        def __rsub__(self, other: Operand) -> Tensor: ...
        def __mul__(self, other: Operand) -> Tensor: ...
        def __rmul__(self, other: Operand) -> Tensor: ...
        def __truediv__(self, other: Operand) -> Tensor: ...
        def __rtruediv__(self, other: Operand) -> Tensor: ...
        def __pow__(self, other: Operand) -> Tensor: ...
        def __rpow__(self, other: Operand) -> Tensor: ...
        def __matmul__(self, other: Operand) -> Tensor: ...
        def __rmatmul__(self, other: Operand) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __getattr__(self, name: str) -> Callable[..., Tensor]: ...


def _wrap(data: Array, node: Node | None) -> Tensor:
    """A tensor of an array and a node, without the constructor's checks."""
    tensor = Tensor.__new__(Tensor)
    tensor.data = data
    tensor._node = node
    return tensor


def asarray(data: Any, dtype: Any = None) -> Array:
    """An array as it is; anything else as an array of the current backend, floats as float32."""
    if isinstance(data, Tensor):
        data = data.data
    if backend.is_array(data):
        return data if dtype is None else data.astype(dtype, copy=False)
    if dtype is None and not hasattr(data, "dtype") and np.asarray(data).dtype == np.float64:
        dtype = np.float32
    return backend.current().asarray(data, dtype=dtype)


def as_tensor(data: Any) -> Tensor:
    """A tensor as it is; anything else as a tensor that needs no gradient."""
    return data if isinstance(data, Tensor) else Tensor(data)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within it nothing is recorded: results need no gradient. Also a decorator."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


def op(forward: Callable[..., tuple[Array, Sequence[Vjp | None]]]) -> Callable[..., Tensor]:
    """Lift a function of arrays that returns (value, vjps) to tensors.

    `forward(xp, *operands, **options)` is given arrays in place of tensors. The vjps stand in the order
    of the operands: None where there is no derivative, and those at the end may be left out. Only the
    vjps whose operand needs a gradient are kept and called. The un-lifted function is `.forward`.
    """
    name = forward.__name__.lstrip("_")
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    signature = inspect.Signature(parameters, return_annotation=Tensor)

    @functools.wraps(forward)
    def apply(*args: Any, **options: Any) -> Tensor:
        if options:
            options = {key: v.item() if isinstance(v, np.generic) else v for key, v in options.items()}
            if any(isinstance(value, Tensor) for value in options.values()):
                bound = signature.bind(*args, **options)
                bound.apply_defaults()
                args, options = bound.args, bound.kwargs
        arrays = list(args)
        parents = []  # (i, node) of each operand i that needs a gradient
        xp = None
        for i, arg in enumerate(args):
            if isinstance(arg, Tensor):
                arrays[i] = array = arg.data
                if arg._node is not None:
                    parents.append((i, arg._node))
            elif backend.is_array(arg):
                array = arg
            else:
                if isinstance(arg, np.generic):
                    arrays[i] = arg.item()  # a NumPy scalar is weak, like a Python number: float32 stays float32
                continue
            if xp is None:
                xp = backend.of(array)
            elif type(array) is not xp.ndarray:
                raise _mixed(name, args)
        if xp is None:
            xp = backend.current()
        value, vjps = forward(xp, *arrays, **options)
        if type(value) is not xp.ndarray:
            value = xp.asarray(value)
        if inspect_op is not None:
            vjps = inspect_op(name, arrays, value, vjps)
        if not _recording or not parents:
            return _wrap(value, None)
        if parents[-1][0] >= len(vjps):
            raise TypeError(f"'{name}' has no derivative with respect to operand {parents[-1][0]}: detach() it.")
        edges = [(node, vjp) for i, node in parents if (vjp := vjps[i]) is not None]
        return _wrap(value, Node(name, value, edges) if edges else None)

    apply.__signature__ = signature  # type: ignore[attr-defined]
    apply.forward = forward  # type: ignore[attr-defined]
    return apply


def _mixed(name: str, args: Sequence[Any]) -> TypeError:
    arrays = [a.data if isinstance(a, Tensor) else a for a in args]
    kinds = [f"{backend.of(a).name} {a.shape}" for a in arrays if backend.is_array(a)]
    return TypeError(
        f"'{name}' was given arrays of two backends ({', '.join(kinds)}): "
        "make them on one, with minivae.use(), or move one with Tensor(x.numpy())."
    )
