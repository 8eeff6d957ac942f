"""The stand-in's functions that take data to the device, and its universal functions."""

from strict.arrays import NAMES, bare, counts, function, ndarray, wrapped


def upload(f, parameters):
    """A function that takes what lies on the host to the device."""
    inner = function(f, parameters)

    def call(value, *args, **options):
        if _on_device(value):
            return inner(value, *args, **options)
        counts["to_device"] += 1
        options = {key: bare(option) for key, option in options.items()}
        result = f(value, *args, **options)
        return wrapped(result.copy(order="K") if result is value or result.base is not None else result)

    return call


def _on_device(value):
    return type(value) is ndarray or (type(value) in (list, tuple) and any(map(_on_device, value)))


class ufunc:
    """A universal function: no `where`; reduces for add and multiply alone, `at` for what a device adds atomically."""

    def __init__(self, f):
        self._host = f
        self.__name__ = f.__name__
        self.nin, self.nout = f.nin, f.nout

    def __call__(self, *args, **options):
        return function(self._host, ["*args", "out", "dtype", "casting"])(*args, **options)

    def __getattr__(self, name):
        known = NAMES["ufunc"].get(name)
        allowed = {"reduce": ("add", "multiply"), "at": ("add", "maximum", "minimum")}.get(name)
        if known is None or (allowed and self.__name__ not in allowed):
            raise AttributeError(f"CuPy's ufunc '{self.__name__}' has no '{name}'")
        return function(getattr(self._host, name), known)
