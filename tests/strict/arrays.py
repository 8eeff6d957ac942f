"""The stand-in's arrays: NumPy's, wrapped, with CuPy's manners."""

import json
import operator
from pathlib import Path
from types import SimpleNamespace

import numpy

from strict.recording import WRITING, computed, counts, done, refuse_cublas

NAMES = json.loads(Path(__file__).with_name("names.json").read_text())

# their results' shapes, or their checks, depend on values: CuPy waits for the device
WAITING = {
    "argwhere", "bincount", "compress", "extract", "flatnonzero", "histogram", "histogram2d", "histogramdd", "nonzero",
    "setdiff1d", "trim_zeros", "unique",
}  # fmt: skip
ADDED = {"int32", "uint32", "uint64", "float16", "float32", "float64"}  # what a device adds atomically


class ndarray:
    """An array of the stand-in. It has what cupy.ndarray has."""

    __slots__ = ("__weakref__", "_host")
    __array_ufunc__ = None  # NumPy's arrays leave an operator to this class, which refuses them
    __hash__ = None

    def __array__(self, *args, **options):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy.{function.__name__} was given an array of the device")

    def __init_subclass__(cls):
        raise TypeError("the stand-in's arrays have no subclasses")

    # ---- what waits for the device ----

    def get(self, stream=None, order="C", out=None, blocking=True):
        counts["to_host"] += 1
        return self._host.copy()

    def item(self):
        counts["waits"] += 1
        return self._host.item()

    def tolist(self):
        counts["waits"] += 1
        return self._host.tolist()

    def __bool__(self):
        counts["waits"] += 1
        return bool(self._host)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __format__(self, form):
        return format(self._host.item() if form else self._host, form)

    def __repr__(self):
        return repr(self._host)

    def __str__(self):
        return str(self._host)

    # ---- the rest ----

    def set(self, array, stream=None):
        counts["to_device"] += 1
        if type(array) is not numpy.ndarray or array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError("set() takes a NumPy array of the same shape and dtype")
        self._host[...] = array

    @property
    def base(self):
        return None if self._host.base is None else wrapped(self._host.base)

    @property
    def flags(self):
        flags = self._host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        index = _index(index)
        basic = all(isinstance(part, int | slice | None | type(Ellipsis)) for part in index)
        if any(getattr(part, "dtype", None) == "bool" for part in index):
            counts["waits"] += 1
        if basic and all(part is not Ellipsis for part in index):
            index = (*index, ...)  # so that a single entry is a view, as in CuPy, and no scalar
        return wrapped(computed(lambda: self._host[index], self._host))

    def __setitem__(self, index, value):
        if isinstance(value, list | tuple):
            raise TypeError(f"Unsupported type {type(value)}")
        index = _index(index)
        if any(isinstance(part, list) or getattr(part, "dtype", numpy.bool_) != numpy.bool_ for part in index):
            places = numpy.arange(self._host.size).reshape(self.shape)[index].reshape(-1)
            if len(numpy.unique(places)) < len(places):  # which of them stays is undefined
                raise ValueError("an entry is assigned to more than once")
        value = bare(value)
        done(lambda: self._host.__setitem__(index, value))

    def __dlpack_device__(self):
        return 2, 0  # CUDA's

    def __dlpack__(self, **options):
        return self._host.__dlpack__(**{key: v for key, v in options.items() if key != "stream"})

    def copy(self, order="C"):
        return wrapped(computed(lambda: self._host.copy(order)))

    def fill(self, value):
        value = bare(value)
        done(lambda: self._host.fill(value))

    @property
    def data(self):
        return SimpleNamespace(ptr=self._host.ctypes.data)


def _index(index):
    """An index as a tuple. CuPy copies a list in it to the device."""
    parts = index if isinstance(index, tuple) else (index,)
    counts["to_device"] += sum(isinstance(part, list) for part in parts)
    return tuple(bare(part.__index__() if isinstance(part, numpy.integer) else part) for part in parts)


def wrapped(value):
    """NumPy's result as the stand-in's: arrays for arrays and for scalars."""
    if isinstance(value, numpy.ndarray | numpy.generic | bool):
        array = ndarray.__new__(ndarray)
        array._host = numpy.asarray(value)
        return array
    return type(value)(map(wrapped, value)) if type(value) in (tuple, list) else value


def bare(value):
    """An argument for NumPy. TypeError for what CuPy does not take."""
    if type(value) is ndarray:
        return value._host
    if isinstance(value, numpy.ndarray) or (hasattr(value, "__array_ufunc__") and not isinstance(value, numpy.generic)):
        raise TypeError(f"Unsupported type {type(value)}")
    return type(value)(map(bare, value)) if type(value) in (tuple, list) else value


def function(f, parameters=None):
    """A function of NumPy as one of the stand-in, with CuPy's parameters."""

    def call(*args, **options):
        unknown = [key for key in options if parameters and key not in parameters and "**kwargs" not in parameters]
        if unknown or (parameters and len(args) > len(parameters) and not any(p[0] == "*" for p in parameters)):
            raise TypeError(f"CuPy's {f.__name__}({', '.join(parameters)}) got {len(args)} arguments and {unknown}")
        if f.__name__ in WAITING or (f.__name__ == "where" and len(args) == 1):
            counts["waits"] += 1
        if f.__name__ == "at" and args[0].dtype.name not in ADDED:
            raise TypeError(f"cupy.add.at does not support {args[0].dtype}")
        if f.__name__ == "where" and type(args[0]) is not ndarray:
            raise AttributeError(f"'{type(args[0]).__name__}' object has no attribute 'astype'")
        refuse_cublas(f.__name__)
        hosts, named = [*map(bare, args)], {key: bare(value) for key, value in options.items()}
        out = named.get("out")
        with numpy.errstate(all="ignore"):  # a device gives no warnings
            if out is not None or f.__name__ in WRITING:
                done(lambda: f(*hosts, **named))
                result = out
            else:
                result = computed(lambda: f(*hosts, **named), *hosts)
        if f.__name__ == "may_share_memory":
            return result  # which CuPy tells from the addresses, on the host
        same = [a for a in (*args, options.get("out")) if type(a) is ndarray and a._host is result]
        return same[0] if same else wrapped(result)  # as the caller knows it

    return call


def _operator(name, f, reflected=False):
    def binary(self, other):
        if hasattr(other, "__array_ufunc__") and type(other) is not ndarray and other.__array_ufunc__ is None:
            return NotImplemented  # a Tensor's turn
        if not isinstance(other, ndarray | numpy.generic | numpy.ndarray | bool | int | float | complex):
            raise TypeError(f"Unsupported type {type(other)}")
        a, b = (bare(other), self._host) if reflected else (self._host, bare(other))
        with numpy.errstate(all="ignore"):
            refuse_cublas(name.strip("_"))
            return wrapped(computed(lambda: f(a, b)))

    def in_place(self, other):
        other = bare(other)
        with numpy.errstate(all="ignore"):
            done(lambda: f(self._host, other))
        return self

    made = in_place if name.startswith("__i") and name not in ("__invert__",) else binary
    made.__name__ = name
    return made


def _unary(f):
    return lambda self: wrapped(computed(lambda: f(self._host)))


def _method(name, parameters):
    def method(self, *args, **options):
        # shapes and axes may come one by one
        call = function(getattr(self._host, name), [*parameters, "*args"] if parameters is not None else None)
        result = call(*args, **options)
        return self if type(result) is ndarray and result._host is self._host else result

    method.__name__ = name
    return method


def _attribute(name):
    return property(lambda self: wrapped_array(getattr(self._host, name)))


def wrapped_array(value):
    return wrapped(value) if isinstance(value, numpy.ndarray) else value


for _name, _known in NAMES["ndarray"].items():
    if _name in vars(ndarray) or ((_name.startswith("__") and hasattr(object, _name)) and _name not in (
        "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__or__", "__ror__",  # type has the last two
    )):  # fmt: skip
        continue
    if _name.startswith("__"):
        _plain = _name.replace("__r", "__", 1) if hasattr(operator, _name.replace("__r", "__", 1)) else _name
        if _name in ("__abs__", "__neg__", "__pos__", "__invert__"):
            setattr(ndarray, _name, _unary(getattr(operator, _name)))
        elif _name == "__rshift__" or hasattr(operator, _name):
            setattr(ndarray, _name, _operator(_name, getattr(operator, _name)))
        elif hasattr(operator, _plain):
            setattr(ndarray, _name, _operator(_name, getattr(operator, _plain), reflected=True))
    elif hasattr(numpy.ndarray, _name):
        setattr(ndarray, _name, _attribute(_name) if _known == "constant" else _method(_name, _known))
