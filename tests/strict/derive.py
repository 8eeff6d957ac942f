"""Write names.json: the names that the real CuPy has, and what their parameters are called.

    pip install --target /tmp/cupy --no-deps 'cupy-cuda12x==14.2.0' cuda-pathfinder
    PYTHONPATH=/tmp/cupy python tests/strict/derive.py

No GPU is needed: importing CuPy and looking at it touches none.
"""

import inspect
import json
import re
from pathlib import Path

import cupy
import cupyx.scipy.special


def parameters(function):
    """The names of a function's parameters, with their stars; None where neither signature nor docstring tells."""
    try:
        names = [
            str(p.replace(annotation=p.empty, default=p.empty)) for p in inspect.signature(function).parameters.values()
        ]
    except (TypeError, ValueError):
        found = re.match(r"[\w.]+\((.*)\)", (function.__doc__ or "").partition("\n")[0])
        if not found:
            return None
        names = [part.partition("=")[0].split()[-1] for part in found[1].split(",") if part.strip()]
    return [name for name in names if name != "self"]


def described(owner):
    """For each public name of a module or class: the parameters of a function, or what else it is, in a word."""
    table = {}
    for name in dir(owner):
        value = getattr(owner, name)
        if name.startswith("_") or inspect.ismodule(value) or type(value).__name__ in ("_Feature", "_LazyModule"):
            continue
        if isinstance(value, cupy.ufunc):
            table[name] = "ufunc"
        elif isinstance(value, type) or not callable(value):
            table[name] = "constant"
        else:
            table[name] = parameters(value)
    return table


names = {
    "version": cupy.__version__,
    "cupy": described(cupy),
    "linalg": described(cupy.linalg),
    "stride_tricks": described(cupy.lib.stride_tricks),
    "special": described(cupyx.scipy.special),
    "ndarray": described(cupy.ndarray) | {n: None for n in dir(cupy.ndarray) if re.fullmatch(r"__\w+__", n)},
    "Generator": described(cupy.random.Generator),
    "ufunc": described(cupy.ufunc),
    "cuda": described(cupy.cuda),
    "cuda.runtime": described(cupy.cuda.runtime),
    "cuda.Device": described(cupy.cuda.Device),
    "cuda.MemoryPool": described(cupy.cuda.MemoryPool),
    "_core._routines_linalg": described(cupy._core._routines_linalg),
}
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in names.items())
Path(__file__).with_name("names.json").write_text("{\n" + lines.replace("], ", "],\n ") + "\n}\n")
