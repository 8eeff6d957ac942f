"""The floor: the matmuls of a step alone, and what the machine does at best.

A convolution is counted as the product of its gathered windows with its kernels, whole; a transposed one likewise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

from benchmarks.problems import Problem
from benchmarks.steps import synchronize
from benchmarks.timing import Pace, Runner, interleaved, sample
from minivae import backend

Shape = tuple[int, int, int]  # (m, k, n): (m, k) times (k, n)


def layers(problem: Problem) -> Iterator[tuple[Shape, int]]:
    """Of each layer that multiplies: the shape of its forward product, and how many numbers it gives."""
    height, width = problem.shape[1:]
    for part, rows in ((problem.encoder(), problem.batch), (problem.decoder(), problem.batch * problem.k)):
        for layer in part:
            taps = layer.kernel**2
            if layer.kind == "linear":
                yield (rows, layer.inputs, layer.outputs), rows * layer.outputs
            elif layer.kind == "conv":
                height, width = height // layer.stride, width // layer.stride
                positions = rows * height * width
                yield (positions, taps * layer.inputs, layer.outputs), positions * layer.outputs
            elif layer.kind == "up":
                positions = rows * height * width
                yield (positions, layer.inputs, taps * layer.outputs), positions * layer.stride**2 * layer.outputs
                height, width = height * layer.stride, width * layer.stride


def products(problem: Problem) -> list[Shape]:
    """All products of a step: forward, gradient of the weight, and gradient of the input but for the first layer's."""
    shapes: list[Shape] = []
    for i, ((m, k, n), _) in enumerate(layers(problem)):
        shapes += [(m, k, n), (k, m, n), *([(m, n, k)] if i else [])]
    if problem.model == "vqvae":
        shapes.append((problem.batch * math.prod(problem.side), problem.dim, problem.codes))  # the nearest codes
    return shapes


def flops(problem: Problem) -> int:
    """Of these products."""
    return sum(2 * m * k * n for m, k, n in products(problem))


def traffic(problem: Problem) -> int:
    """Bytes that a step moves at least: eight passes over the parameters (the gradient is written; w, g, m, v are read
    and w, m, v written) and five over the layers' outputs (written, read twice; the gradient written and read)."""
    parameters = sum(
        layer.inputs * layer.outputs * layer.kernel**2 + layer.outputs
        for layer in problem.encoder() + problem.decoder()
    )
    return 4 * (8 * parameters + 5 * sum(numbers for _, numbers in layers(problem)))


def runner(problem: Problem) -> Runner:
    """The products of a step into arrays that are there."""
    xp = backend.current()
    rng = xp.generator(0)

    def array(*shape: int) -> backend.Array:
        return rng.standard_normal(shape, dtype=xp.float32)

    operands = [(array(m, k), array(k, n), xp.empty((m, n), dtype=xp.float32)) for m, k, n in products(problem)]

    def step() -> None:
        for a, b, out in operands:
            xp.matmul(a, b, out=out)

    return Runner(step, synchronize)


@cache
def ceilings(pace: Pace) -> dict[str, float]:
    """What the machine does at best: FLOP/s of one large product, bytes/s (read and written) of a large copy."""
    xp = backend.current()
    side = 8192 if xp.name == "cupy" else 1024
    a, b, out = (xp.ones((side, side), dtype=xp.float32) for _ in range(3))
    x, y = (xp.ones(1 << (28 if xp.name == "cupy" else 24), dtype=xp.float32) for _ in range(2))

    def copy() -> None:
        y[...] = x

    seconds = interleaved(
        {"matmul": Runner(lambda: xp.matmul(a, b, out=out), synchronize), "copy": Runner(copy, synchronize)}, pace
    )
    best = {name: sample(values).median for name, values in seconds.items()}
    return {"flops": 2 * side**3 / best["matmul"], "bytes": 2 * x.nbytes / best["copy"]}
