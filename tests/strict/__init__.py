"""A strict stand-in for CuPy, on the host: what would fail, convert or wait on a GPU fails or is counted here.

It has the names of CuPy 14 and no others (names.json, which derive.py takes from the wheel), with CuPy's
parameters. Its arrays wrap NumPy's (arrays.py). So the backend of it is the class that runs CuPy, unchanged but for
its name: `install()` makes `minivae.use("strict")` work.

`counts` counts what costs time on a GPU: "to_device" and "to_host" copies, and "waits" for the device (float(),
bool(), and functions whose result's shape depends on values).
"""

import functools
from types import SimpleNamespace

import numpy

from strict import device as cuda
from strict import recording
from strict.arrays import NAMES, bare, counts, function, ndarray, wrapped
from strict.functions import ufunc, upload
from strict.kernels import RawKernel, compiled
from strict.recording import drawn

__all__ = ["RawKernel", "asnumpy", "compiled", "counts", "cuda", "install", "lib", "linalg", "ndarray", "random"]

UPLOADS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")


def __getattr__(name):
    """A name of CuPy's."""
    known = NAMES["cupy"]
    if name not in known or not hasattr(numpy, name):
        raise AttributeError(f"module 'cupy' has no attribute '{name}' (the stand-in's list of names is of CuPy 14)")
    value = getattr(numpy, name)
    if known[name] == "constant":
        return value
    if name in ("empty", "empty_like"):
        value = _poisoned(value)
    if name in UPLOADS:
        return upload(value, known[name])
    return ufunc(value) if known[name] == "ufunc" else function(value, known[name])


def from_dlpack(x):
    """Of what says that it lies on a GPU. Arrays of the host are refused, as by CuPy."""
    if x.__dlpack_device__()[0] == 1:
        raise TypeError("CPU arrays cannot be directly imported to CuPy.")
    host = SimpleNamespace(__dlpack__=x.__dlpack__, __dlpack_device__=lambda: (1, 0))
    return wrapped(numpy.from_dlpack(host))


def get_default_memory_pool():
    return cuda.default_pool


def _poisoned(f):
    """numpy.empty or empty_like, with entries that show where they are read."""

    @functools.wraps(f)
    def call(*args, **options):
        a = f(*args, **options)
        # while a graph is recorded nothing fills it, and what stands in it must be usable as an index
        a.fill(numpy.nan if a.dtype.kind in "fc" else 99 if recording.tape is None else 0)
        return a

    return call


def asnumpy(a):
    """A copy on the host."""
    return a.get() if isinstance(a, ndarray) else numpy.asarray(a)


class Generator:
    """cupy.random.Generator, with NumPy's numbers, so that results can be compared to the last bit."""

    def __init__(self, seed):
        self._host = numpy.random.default_rng(seed)

    def __getattr__(self, name):
        if name not in NAMES["Generator"]:
            raise AttributeError(f"cupy.random.Generator has no '{name}'")

        def draw(*args, **options):
            checked = function(lambda *a, **o: None, NAMES["Generator"][name])
            checked(*args, **options)
            args, options = [*map(bare, args)], {key: bare(value) for key, value in options.items()}
            return wrapped(drawn(lambda rng: getattr(rng, name)(*args, **options), self._host))

        return draw


def _part(name, module):
    return SimpleNamespace(**{n: function(getattr(module, n), p) for n, p in NAMES[name].items() if hasattr(module, n)})


random = SimpleNamespace(default_rng=Generator, Generator=Generator)
linalg = _part("linalg", numpy.linalg)
lib = SimpleNamespace(stride_tricks=_part("stride_tricks", numpy.lib.stride_tricks))


def install():
    """Make the stand-in one of minivae's backends."""
    from minivae import backend

    class Strict(backend.CuPy):
        name = library = "strict"
        special_functions = "strict.special"

    backend.LIBRARIES["strict"] = Strict
    backend._on_device("strict", 0, False)
