"""How often the stand-in was asked to compute: on a GPU each time is a launch from Python, of 5 to 20 microseconds.

    with launches.counted() as asked:
        step()
    asked.total(), asked.most_common()      by place: "ops/matmul.py:63 linear"

A kernel of ours counts once, and so does each function, operator or assignment of CuPy's that fills an array; views
and new arrays that nothing is written to do not. CuPy launches several kernels in some of its functions (argmax of
long rows, var, cumsum): these counts are the least that it can be.
"""

import contextlib
import sys
import traceback
from collections import Counter

import numpy

from strict import arrays, kernels

NO_WORK = {"empty", "empty_like"}


@contextlib.contextmanager
def counted():
    """A Counter of what is asked for within, by the place in minivae that asks."""
    asked = Counter()

    def note():
        places = [frame for frame in traceback.extract_stack() if "/minivae/" in frame.filename]
        outside = [frame for frame in places if "/backend/" not in frame.filename]  # who asked the backend
        if places:
            frame = (outside or places)[-1]
            asked[f"{frame.filename.rpartition('/minivae/')[2]}:{frame.lineno} {frame.name}"] += 1

    def computed(f, *sources):
        function = sys._getframe(1).f_locals.get("f")
        owner = getattr(function, "__self__", None)  # of a method
        result = before["computed"](f, *sources)
        known = [a for a in (*sources, owner) if isinstance(a, numpy.ndarray)]
        fresh = isinstance(result, numpy.ndarray | numpy.generic) and not any(
            numpy.may_share_memory(a, result) for a in known
        )
        if fresh and getattr(function, "__name__", "") not in NO_WORK:
            note()
        return result

    def done(f):
        note()
        before["done"](f)

    before = {"computed": arrays.computed, "done": arrays.done}
    of_kernels = kernels.done
    arrays.computed, arrays.done, kernels.done = computed, done, done
    try:
        yield asked
    finally:
        arrays.computed, arrays.done, kernels.done = before["computed"], before["done"], of_kernels
