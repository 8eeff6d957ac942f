"""Stream capture of the stand-in: what is done while a step is recorded is not done then, but at each launch.

So a step that relied on a number of Python's, or on a value that was read back, fails here or computes something else,
as it would on a GPU. What waits for the device or moves data to or from the host is refused in a capture, and so are
CuPy's own calls of cuBLAS.
"""

import contextlib
import copy
import ctypes
import itertools
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy

CUBLAS = {"matmul", "dot", "vdot", "inner", "tensordot", "einsum"}  # what CuPy computes by it
WRITING = {"copyto", "at", "put", "place", "fill_diagonal", "put_along_axis"}  # functions that change an argument

tape = None  # what a graph that is being recorded does, a list; else None


class StreamCaptureError(RuntimeError):
    """cudaErrorStreamCaptureUnsupported."""


class Counts(Counter):
    """Counts; in a capture what may not be done there is an error."""

    def __setitem__(self, key, value):
        if tape is not None and key in ("waits", "to_host", "to_device") and value > self[key]:
            raise StreamCaptureError("cudaErrorStreamCaptureUnsupported: not permitted when stream is capturing")
        super().__setitem__(key, value)


counts = Counts()


def computed(f, *sources):
    """The new array that f() gives, now and at each launch; or a view of one of the sources, which needs none."""
    result = f()
    if tape is None or not isinstance(result, numpy.ndarray | numpy.generic):
        return result
    result = numpy.asarray(result)
    if not any(isinstance(a, numpy.ndarray) and numpy.may_share_memory(a, result) for a in sources):
        tape.append(lambda: numpy.copyto(result, f()))
    return result


def done(f):
    """f() changes memory: now, or at each launch."""
    f() if tape is None else tape.append(f)


def drawn(f, generator):
    """The numbers that f() draws from a generator, which moves on now, or at each launch."""
    if tape is None:
        return f(generator)
    result = numpy.asarray(f(copy.deepcopy(generator)))
    tape.append(lambda: numpy.copyto(result, f(generator)))
    return result


def refuse_cublas(name):
    if tape is not None and name in CUBLAS:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


class Stream:
    """cupy.cuda.Stream."""

    numbers = itertools.count(1)

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.ptr = next(self.numbers)
        self.non_blocking = non_blocking

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        counts["waits"] += 1

    def begin_capture(self, mode=None):
        global tape
        if not self.non_blocking or tape is not None:
            raise StreamCaptureError("only a stream of one's own is captured, and once at a time")
        tape = []

    def end_capture(self):
        global tape
        recorded, tape = tape, None
        return Graph(recorded)


class Graph:
    """cupy.cuda.Graph."""

    def __init__(self, recorded):
        self.recorded = recorded

    def launch(self, stream=None):
        counts["graphs"] += 1
        with numpy.errstate(all="ignore"):
            for f in self.recorded:
                f()


@contextlib.contextmanager
def using_allocator(allocator=None):
    """The stand-in's memory is the host's."""
    yield


def alloc(size):
    return SimpleNamespace(ptr=1, size=size)


class Library:
    """cublas.cpp, in which a captured call is made at each launch."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="minivae-cublas-")
        path = Path(self.folder.name) / "libcublas.so"
        source = Path(__file__).with_name("cublas.cpp")
        subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", path, source], check=True)
        self.library = ctypes.CDLL(str(path))

    def __getattr__(self, name):
        def call(*args):
            status = []
            done(lambda: status.append(getattr(self.library, name)(*args)))
            return status[0] if status else 0

        return call
