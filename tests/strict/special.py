"""cupyx.scipy.special, as far as SciPy has the same names."""

import numpy
import scipy.special

from strict.arrays import NAMES, function
from strict.functions import ufunc


def __getattr__(name):
    if name not in NAMES["special"] or not hasattr(scipy.special, name):
        raise AttributeError(f"module 'cupyx.scipy.special' has no attribute '{name}'")
    f = getattr(scipy.special, name)
    return ufunc(f) if isinstance(f, numpy.ufunc) else function(f)  # SciPy's zeta is a plain function
