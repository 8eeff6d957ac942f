"""Threads for work on pieces of large arrays: NumPy lets go of Python's lock while it computes.

There is one thread unless set_threads() says more. The others have to wait for Python's lock between any two steps on
a piece, which pays only on cores that have nothing else to do: on two busy ones Adam took longer with two threads.
No thread starts before there is work for it, and a process that was forked off starts its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from minivae.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_threads = 1
_pool: ThreadPoolExecutor | None = None


def threads() -> int:
    """How many threads work on a large array: what set_threads() set, else one."""
    return _threads


def set_threads(n: int) -> None:
    """Let n threads work on an array from now on. The results are the same for each n, to the bit."""
    global _threads, _pool
    if n < 1:
        raise InputError(f"{n} threads cannot compute: give a number of at least 1.")
    if _pool:
        _pool.shutdown()
    _threads, _pool = n, None


def spread(work: Callable[[Iterator[Any]], object], pieces: Sequence[Any], fewest: int) -> None:
    """Call work(iterator) in as many threads as have `fewest` pieces each: they share the iterator, so each piece is
    worked on once, by a thread that is free. Here is one of the threads. np.errstate holds in all.
    """
    global _pool
    count = min(threads(), len(pieces) // fewest)
    shared = iter(pieces)
    if count < 2:
        work(shared)
        return
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor  # only now: its import costs some milliseconds

        _pool = ThreadPoolExecutor(threads() - 1, "minivae")
    others = [_pool.submit(copy_context().run, work, shared) for _ in range(count - 1)]
    try:
        work(shared)
    finally:
        errors = [other.exception() for other in others]
    for error in errors:
        if error:
            raise error


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
