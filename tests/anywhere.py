"""`from anywhere import np`: NumPy for tests that run on any backend (pytest --backend NAME).

On NumPy it is NumPy itself. On another backend its functions take arrays of that backend, compute on the host what
NumPy computes, and put what comes out on the backend: so what a test makes is where the code under test is, and a
test may compare as it likes. The code under test gets no such comfort: it has the backend alone.
"""

import numpy
import pytest

from minivae import backend

CHANGING = {"at", "copyto", "fill_diagonal", "put", "shuffle"}  # functions that change their first argument


def host(value):
    """A value, or those in a tuple, list or dict, with arrays as NumPy's."""
    return _mapped(value, lambda a: backend.to_numpy(a) if backend.is_array(a) else a)


def there(value):
    """A value, or those in a tuple, list or dict, with NumPy's arrays on the backend."""
    return _mapped(value, lambda a: backend.current().asarray(a) if type(a) is numpy.ndarray else a)


def _mapped(value, f):
    if isinstance(value, tuple | list):
        parts = [_mapped(part, f) for part in value]
        return (
            parts if isinstance(value, list) else type(value)._make(parts) if hasattr(value, "_fields") else (*parts,)
        )
    if type(value) is slice:
        return slice(*(_mapped(part, f) for part in (value.start, value.stop, value.step)))
    return {key: _mapped(part, f) for key, part in value.items()} if type(value) is dict else f(value)


class _There:
    """A module, a generator or a function of NumPy's whose arrays are on the backend."""

    def __init__(self, original):
        self._original = original

    def __getattr__(self, name):
        value = getattr(self._original, name)
        if value is numpy.ndarray:
            return backend.current().ndarray
        is_module = type(value) is type(numpy)
        return _There(value) if is_module or (callable(value) and not isinstance(value, type)) else value

    def __call__(self, *args, **options):
        name = getattr(self._original, "__name__", "")
        if name in ("shares_memory", "may_share_memory"):
            return bool(getattr(backend.current(), name)(*args))
        given = [host(a) for a in args]
        result = self._original(*given, **host(options))
        if name in CHANGING:
            args[0][...] = there(given[0])
        is_object = isinstance(result, numpy.random.Generator) or type(result).__module__.startswith("scipy.")
        return _There(result) if is_object else there(result)


class approx:
    """pytest.approx, which also compares what is on the backend."""

    __array_ufunc__ = None  # an array leaves the comparison to this class
    __hash__ = None
    _approx = staticmethod(pytest.approx)

    def __init__(self, expected, **tolerances):
        self._expected = self._approx(
            host(expected), **{k: v.item() if backend.is_array(v) else v for k, v in tolerances.items()}
        )

    def __eq__(self, other):
        return host(other) == self._expected

    def __repr__(self):
        return repr(self._expected)


def on_backend(module):
    """A module of functions of NumPy's arrays, such as SciPy's, as `np` is."""
    return module if backend.current().name == "numpy" else _There(module)


np = on_backend(numpy)
