"""cupyx.scipy.special, as far as SciPy has the same names."""

import scipy.special

from strict.arrays import NAMES
from strict.functions import ufunc


def __getattr__(name):
    if name not in NAMES["special"] or not hasattr(scipy.special, name):
        raise AttributeError(f"module 'cupyx.scipy.special' has no attribute '{name}'")
    return ufunc(getattr(scipy.special, name))
