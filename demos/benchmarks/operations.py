"""Single ops, forward and backward, ours and PyTorch's; and what a node of the graph costs beyond its arithmetic.

A function here returns the sides, which race, and their values, which must agree before they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.problems import Layer, Problem
from benchmarks.steps import Minivae, synchronize
from benchmarks.timing import Runner
from minivae import Tensor, backend, ops
from minivae.ops.quantize import nearest

Sides = tuple[dict[str, Runner], dict[str, Callable[[], Any]]]
CHAIN = 100  # nodes of the engine's chain

# images, layer and whether the gradient of the images is asked for
CONVOLUTIONS = {
    "conv2d-first": ((128, 1, 28, 28), Layer("conv", 1, 16, 4, 2, 1), False),
    "conv2d-down": ((128, 16, 14, 14), Layer("conv", 16, 32, 4, 2, 1), True),
    "conv2d-3x3": ((128, 64, 8, 8), Layer("conv", 64, 64, 3, 1, 1), True),
    "conv2d-1x1": ((128, 64, 8, 8), Layer("conv", 64, 16, 1, 1, 0), True),
    "conv2d-up": ((128, 64, 8, 8), Layer("up", 64, 32, 4, 2, 1), True),
    "conv2d-up-grey": ((128, 32, 14, 14), Layer("up", 32, 1, 4, 2, 1), True),
    "conv2d-up-colour": ((128, 32, 16, 16), Layer("up", 32, 3, 4, 2, 1), True),
}
ADAM = Problem("vae", 128, hidden=(680,))  # 1.1 million parameters


def draw(*shape: int) -> np.ndarray:
    """Standard normal numbers, float32."""
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def differentiated(function: Callable[..., Any], leaves: list[np.ndarray | None], constants: list[Any]) -> Sides:
    """Ours alone: function(*leaves, *constants) and the gradients of its leaves."""
    xp = backend.current()
    tensors = [Tensor(xp.asarray(leaf), requires_grad=True) for leaf in leaves]
    fixed = [xp.asarray(constant) for constant in constants]
    seed = xp.ones_like(function(*tensors, *fixed).data)

    def step() -> None:
        for tensor in tensors:
            tensor.grad = None
        function(*tensors, *fixed).backward(seed)

    value = function(*tensors, *fixed)
    return {"minivae": Runner(step, synchronize)}, {"minivae": value.numpy}


def differentiated_torch(
    function: Callable[..., Any],
    leaves: list[np.ndarray],
    constants: list[Any],
    name: str = "torch",
    layout: Any = None,
) -> Sides:
    """The same in PyTorch; layout: the memory format of arrays of four axes."""
    import torch

    from benchmarks.torch_rival import wait

    device = device_of_torch()

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(array).to(device, memory_format=layout if array.ndim == 4 and layout else None)

    tensors = [tensor(np.array(leaf)).requires_grad_() for leaf in leaves]
    fixed = [tensor(np.array(constant)) for constant in constants]
    value = function(*tensors, *fixed)
    seed = torch.ones_like(value)

    def step() -> None:
        for leaf in tensors:
            leaf.grad = None
        function(*tensors, *fixed).backward(seed)

    return {name: Runner(step, lambda: wait(device))}, {name: value.detach().cpu().numpy}


def device_of_torch() -> str:
    return "cuda" if backend.current().name == "cupy" else "cpu"


def joined(*parts: Sides) -> Sides:
    return {k: v for p in parts for k, v in p[0].items()}, {k: v for p in parts for k, v in p[1].items()}


def convolution(name: str, torch: bool) -> Sides:
    """conv2d or its transpose; without the gradient of the images for a first layer."""
    shape, layer, inner = CONVOLUTIONS[name]
    ends, function = (layer.outputs, layer.inputs), "conv2d"
    if layer.kind == "up":
        ends, function = ends[::-1], "conv_transpose2d"
    x, weight, bias = draw(*shape), draw(*ends, layer.kernel, layer.kernel), draw(layer.outputs)
    leaves, constants = ([weight, bias, x], []) if inner else ([weight, bias], [x])

    def by(functions: Any) -> Callable[..., Any]:
        return lambda w, b, x: getattr(functions, function)(x, w, b, layer.stride, layer.padding)

    sides = [differentiated(by(ops), leaves, constants)]
    if torch:
        import torch as library

        of_torch = by(library.nn.functional)
        for title, layout in (("torch", None), ("torch channels-last", library.channels_last)):
            sides.append(differentiated_torch(of_torch, leaves, constants, title, layout))
    return joined(*sides)


def bce(torch: bool) -> Sides:
    """The Bernoulli likelihood of 128 images, and the gradient of its logits."""
    logits, x = draw(128, 784), np.random.default_rng(0).random((128, 784), dtype=np.float32)
    sides = [differentiated(ops.binary_cross_entropy_with_logits, [logits], [x])]
    if torch:
        from torch.nn.functional import binary_cross_entropy_with_logits as loss

        sides.append(differentiated_torch(lambda logits, x: loss(logits, x, reduction="sum"), [logits], [x]))
    return joined(*sides)


def gaussian(torch: bool) -> Sides:
    """The Gaussian likelihood of 128 images with one learnt variance, and the gradients of both."""
    leaves, x = [draw(128, 784), np.float32(-0.5)], draw(784, 128).T.copy()
    sides = [differentiated(ops.gaussian_nll, leaves, [x])]
    if torch:

        def loss(mu: Any, logvar: Any, x: Any) -> Any:
            return 0.5 * (logvar + (x - mu) ** 2 * (-logvar).exp() + math.log(2 * math.pi)).sum()

        sides.append(differentiated_torch(loss, leaves, [x]))
    return joined(*sides)


def codes(torch: bool) -> Sides:
    """The nearest of 128 codes to 8192 vectors of 16 numbers."""
    xp = backend.current()
    z, book = xp.asarray(draw(8192, 16)), xp.asarray(draw(128, 16))
    runners = {"minivae": Runner(lambda: nearest(z, book), synchronize)}
    values: dict[str, Callable[[], Any]] = {"minivae": lambda: backend.to_numpy(nearest(z, book))}
    if torch:
        import torch as library

        from benchmarks.torch_rival import wait

        device = device_of_torch()
        theirs, their_book = (library.from_numpy(draw(n, 16)).to(device) for n in (8192, 128))

        def search() -> Any:
            return library.addmm((their_book**2).sum(1), theirs, their_book.T, alpha=-2).argmin(1)

        runners["torch"] = Runner(search, lambda: wait(device))
        values["torch"] = lambda: search().cpu().numpy()
    return runners, values


def adam(torch: bool) -> Sides:
    """One update of 1.1 million parameters, whose gradients are there."""
    images = ADAM.images()
    ours = Minivae(ADAM, images)
    ours.compute_gradients()
    runners = {"minivae": Runner(ours.optimizer.step, synchronize)}
    if torch:
        from benchmarks.torch_rival import Torch

        theirs = Torch(ADAM, images, device_of_torch())
        theirs.step()
        runners[f"torch ({theirs.adam})"] = Runner(theirs.optimizer.step, theirs.wait)
    return runners, {}


def engine(torch: bool) -> dict[str, Runner]:
    """A chain of nodes of four numbers, forward and backward, and the same arithmetic without a graph."""
    xp = backend.current()
    a, seed = xp.full((4,), 0.5, dtype=xp.float32), xp.ones(4, dtype=xp.float32)
    x = Tensor(a.copy(), requires_grad=True)

    def graph(x: Any, a: Any, seed: Any) -> None:
        x.grad, y = None, x
        for _ in range(CHAIN // 2):
            y = y * a + a
        y.backward(seed)

    def arithmetic(x: Any, a: Any, seed: Any) -> None:
        y, g = x, seed
        for _ in range(CHAIN // 2):
            y = y * a + a
        for _ in range(CHAIN // 2):
            g = g * a  # the derivative of the sum is its cotangent

    runners = {
        "minivae": Runner(lambda: graph(x, a, seed), synchronize),
        "minivae's arithmetic": Runner(lambda: arithmetic(x.data, a, seed), synchronize),
    }
    if torch:
        import torch as library

        from benchmarks.torch_rival import wait

        device = device_of_torch()
        their_a, their_seed = library.full((4,), 0.5, device=device), library.ones(4, device=device)
        leaf = their_a.clone().requires_grad_()
        plain = their_a.clone()
        runners["torch"] = Runner(lambda: graph(leaf, their_a, their_seed), lambda: wait(device))
        runners["torch's arithmetic"] = Runner(lambda: arithmetic(plain, their_a, their_seed), lambda: wait(device))
    return runners
