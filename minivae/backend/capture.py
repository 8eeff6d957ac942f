"""A step of training recorded once, as a CUDA graph, and then replayed: no launch from Python is left.

What a graph records is which kernels run on which addresses. So what changes from step to step must lie in arrays on
the device, which the step changes in place, and not in Python numbers, which freeze; nothing may be read back; the
memory of the step is its own for as long as the graph lives. cuBLAS is called as in cublas.py. Random numbers differ
at each replay, since the state of CuPy's generator lies on the device too.

Experimental: written from the documentation and proven on a stand-in, not yet on a GPU.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from minivae.backend.cublas import Cublas
from minivae.backend.host import Array

RELAXED = 2  # cudaStreamCaptureModeRelaxed: kernels may be loaded and memory taken while a step is recorded


class Captured:
    """step(*inputs) -> outputs, captured for each set of shapes of its inputs.

    inputs: arrays on the device; a replay reads copies of them. outputs: what the step returns; its arrays are the same
    ones at each replay, and hold until the next. What the step does in Python besides is done while it is recorded
    only. The first two calls run as they are: kernels are compiled, at the second one as in the capture. A step that
    cannot be captured goes on without, after one warning that says why.
    """

    def __init__(self, xp: Any, step: Callable[..., Any]):
        self.xp = xp
        self.step = step
        self.stream = xp.module.cuda.Stream(non_blocking=True)
        self.pool = xp.module.cuda.MemoryPool()
        self.calls: Counter[Any] = Counter()
        self.graphs: dict[Any, tuple[Any, tuple[Array, ...], Any]] = {}  # graph, own inputs, outputs
        self.failed = False

    def __call__(self, *inputs: Array) -> Any:
        key = tuple((a.shape, a.dtype.name) for a in inputs)
        self.calls[key] += 1
        if self.failed or self.calls[key] == 1:
            return self.step(*inputs)
        try:
            if self.calls[key] == 2:
                with self._apart():
                    return self.step(*inputs)
            if key not in self.graphs:
                self.graphs[key] = self._record(inputs)
        except Exception as error:  # of CUDA, of cuBLAS, or of what a step may not do in a capture
            self.failed = True
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"the step cannot be captured, and runs as it is ({reason})", stacklevel=2)
            return self.step(*inputs)
        graph, own, outputs = self.graphs[key]
        for mine, given in zip(own, inputs, strict=True):
            mine[...] = given
        graph.launch()
        return outputs

    def _record(self, inputs: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...], Any]:
        """The graph of a step on copies of the inputs. Nothing is computed."""
        own = tuple(a.copy() for a in inputs)
        with self._apart():
            self.stream.begin_capture(RELAXED)
            try:
                outputs = self.step(*own)
            except Exception:
                with suppress(Exception):  # the capture may be void already
                    self.stream.end_capture()
                raise
            return self.stream.end_capture(), own, outputs

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Within it work goes to the stream, memory comes from the pool, and products are cuBLAS's own."""
        cuda = self.xp.module.cuda
        cuda.Device().synchronize()
        self.xp.cublas = self._cublas
        try:
            with cuda.using_allocator(self.pool.malloc), self.stream:
                yield
        finally:
            self.xp.cublas = None
        self.stream.synchronize()

    @cached_property
    def _cublas(self) -> Cublas:
        return Cublas(self.xp.module, self.stream, self.xp.tf32)
