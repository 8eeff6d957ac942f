"""How matrix products of a dtype are computed."""

import numpy

from strict.arrays import NAMES

COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32 = 1, 7  # as in CuPy 14.2.0

assert {"COMPUTE_TYPE_DEFAULT", "COMPUTE_TYPE_TF32", "set_compute_type"} <= set(NAMES["_core._routines_linalg"])

compute_types = {}


def set_compute_type(dtype, compute_type):
    compute_types[numpy.dtype(dtype).name] = compute_type
