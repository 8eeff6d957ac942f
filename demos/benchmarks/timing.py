"""Interleaved runs: A B A B ..., so that a machine that slows down or speeds up does so for both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How long to measure: steps to warm up, then rounds of turns, each of so many seconds a side, after a rest."""

    warm_up: int
    rounds: int
    turn: float
    rest: float


FULL = Pace(warm_up=5, rounds=21, turn=0.08, rest=0.04)
QUICK = Pace(warm_up=1, rounds=3, turn=0.003, rest=0.002)


@dataclass(frozen=True)
class Sample:
    """The median and the quartiles of n turns."""

    median: float
    q1: float
    q3: float
    n: int


def sample(values: Sequence[float], scale: float = 1.0) -> Sample:
    """Of measured values, times a scale."""
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Sample(median * scale, q1 * scale, q3 * scale, len(values))


@dataclass(frozen=True)
class Runner:
    """step() does the work once, or begins it; wait() returns when the device has done all that was begun."""

    step: Callable[[], object]
    wait: Callable[[], object] = lambda: None


def interleaved(sides: Mapping[str, Runner], pace: Pace) -> dict[str, list[float]]:
    """Seconds of one step of each side, one number a turn; turn i of all sides belongs together.

    In a turn a side rests, takes one step that does not count, then as many as fill the turn, and waits once for
    its device at the end: a training loop does not wait at each step either. It rests because the threads of
    another library's pool go on spinning for some milliseconds (OpenBLAS: up to 25) and would take its cores;
    the step that does not count wakes its own threads and fills the caches. The garbage collector is off.
    """
    counts = {name: _steps(runner, pace) for name, runner in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with no_collector():
        for _ in range(pace.rounds):
            for name, runner in sides.items():
                time.sleep(pace.rest)
                runner.step()
                runner.wait()
                started = time.perf_counter()
                for _ in range(counts[name]):
                    runner.step()
                runner.wait()
                seconds[name].append((time.perf_counter() - started) / counts[name])
    return seconds


def _steps(runner: Runner, pace: Pace) -> int:
    """Warm a side up (compilation, scratch memory, the optimiser's state); how many of its steps fill a turn."""
    for _ in range(pace.warm_up):
        runner.step()
    runner.wait()
    started = time.perf_counter()
    runner.step()
    runner.wait()
    return max(1, round(pace.turn / max(time.perf_counter() - started, 1e-7)))


@contextmanager
def no_collector() -> Iterator[None]:
    """The garbage is collected now, and not within."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
