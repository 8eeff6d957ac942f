"""Module: parameters, buffers and submodules are its attributes, found by walking them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from minivae import backend
from minivae.backend import Array
from minivae.errors import InputError
from minivae.graph import Node
from minivae.tensor import Tensor, asarray, no_grad

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that training changes. Its data may be replaced by an array of another shape or dtype."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True):
        super().__init__(data, requires_grad)

    @property
    def data(self) -> Array:
        return _DATA.__get__(self)

    @data.setter
    def data(self, value: Array) -> None:
        value = value if backend.is_array(value) else asarray(value)  # 0-d arithmetic makes NumPy's scalars
        _DATA.__set__(self, value)
        node: Node | None = getattr(self, "_node", None)
        if node is not None:  # to whose shape and dtype gradients are brought
            node.shape, node.dtype = value.shape, value.dtype


_DATA: Any = Tensor.__dict__["data"]  # the slot under the property


class Buffer(Tensor):
    """A tensor that is part of a module's state but not trained, such as running statistics."""

    __slots__ = ()


class Module:
    """A function with parameters. Subclasses set attributes in __init__ and define forward().

    Parameters, buffers and modules are found in attributes and in lists of modules, and named by their
    path: "encoder.0.weight". Calling a module calls its forward().
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a forward().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list | tuple):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer with its path."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter | Buffer):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named_tensors(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its path."""
        yield from ((name, t) for name, t in self.named_tensors() if isinstance(t, Parameter))

    def parameters(self) -> list[Parameter]:
        """Every parameter, each once, however many modules share it."""
        return list({id(p): p for _, p in self.named_parameters()}.values())

    def train(self, mode: bool = True) -> Module:
        """Behave as in training (dropout drops, batch statistics are used)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Behave as in evaluation."""
        return self.train(False)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all parameters and buffers as NumPy arrays, by path. The names are PyTorch's."""
        return {name: np.array(t.numpy()) for name, t in self.named_tensors()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all parameters and buffers. Raises InputError, and changes nothing, where names or shapes differ."""
        own = dict(self.named_tensors())
        faults = [f"'{name}' is missing" for name in own if name not in state]
        faults += [f"'{name}' is unexpected" for name in state if name not in own]
        faults += [
            f"'{name}' has shape {tuple(np.shape(state[name]))} instead of {t.shape}"
            for name, t in own.items()
            if name in state and np.shape(state[name]) != t.shape
        ]
        faults += [
            f"'{name}' holds {np.asarray(state[name]).dtype} instead of numbers"
            for name in own
            if name in state and np.asarray(state[name]).dtype.kind not in "fiub"
        ]
        if faults:
            more = f", and {len(faults) - 4} more" if len(faults) > 4 else ""
            raise InputError(
                f"these weights do not fit {type(self).__name__}: {', '.join(faults[:4])}{more}; "
                "build the model with the arguments that it was saved with."
            )
        for name, t in own.items():
            t.data[...] = backend.of(t.data).asarray(state[name], dtype=t.dtype)

    def extra_repr(self) -> str:
        """The arguments to show in the repr."""
        return ""

    def __repr__(self) -> str:
        """The tree of modules, with the number of parameters of each."""
        count = sum(p.size for p in self.parameters())
        arguments = self.extra_repr()
        head = f"{type(self).__name__}({arguments})" + (f"  # {count:,} parameters" if count else "")
        lines = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        return "\n  ".join([head, *lines])


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Within it a model is in its evaluation mode, and nothing is recorded; each module's mode comes back after it."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in before:
            module.training = mode


def evaluation(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """A method of a model that looks at data but learns nothing: it runs in the evaluation mode, whatever the mode."""

    @functools.wraps(method)
    def apply(self: M, /, *args: P.args, **options: P.kwargs) -> R:
        with evaluating(self):
            return method(self, *args, **options)

    return apply


def frozen(module: Module) -> Module:
    """The module, its parameters turned into buffers: part of the state still, but nothing trains them."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, Parameter):
                setattr(part, name, Buffer(value.data))
    return module
