"""Which kernels OpenBLAS runs, and on how many threads: what `minivae` the command decides, and the library never.

OpenBLAS looks at the processor once, as NumPy loads it. Where it does not know what it sees, it takes kernels for AVX2
on a processor that has AVX-512, at about half the speed. The variable OPENBLAS_CORETYPE names other ones, but only
before OpenBLAS is loaded; so the command, which has done nothing yet, sets it and starts itself anew.
`import minivae` does nothing of the kind, and what the user has set stays as it is.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from minivae.errors import InputError

CORETYPE = "OPENBLAS_CORETYPE"
PICKED = "MINIVAE_OPENBLAS_PICKED"  # what OpenBLAS had picked by itself; goes with the CORETYPE that minivae has set
THREADS = ("OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")

# What OpenBLAS's kernels for SkylakeX are compiled for; AMD's processors from Zen 4 on have it too
AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})
OLDER = frozenset({"Prescott", "Core2", "Nehalem", "Barcelona", "Sandybridge", "Bulldozer", "Piledriver",
                   "Steamroller", "Excavator", "Haswell", "Zen"})  # fmt: skip

# OpenBLAS cuts even a small product into a piece for every core, and they wait for each other: a layer of
# 128 x 784 x 400 is 80 million operations, a hundred microseconds on eight cores
MOST_THREADS = 8

CGROUP = Path("/sys/fs/cgroup")  # where a container on Linux reads what its machine grants it
QUOTA = ["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]  # cgroup v2, v1


def cores() -> int:
    """How many cores this process may use: the system's, without those that a container or a mask keeps from it.

    A thread of OpenBLAS that has no core of its own is waited for by the others, which turn round and round meanwhile:
    with three threads on two cores a training took thirty times as long as with two.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in QUOTA:
        try:
            quota, period = " ".join((CGROUP / name).read_text() for name in names).split()
            if quota not in ("max", "-1"):
                return max(1, min(allowed, math.ceil(int(quota) / int(period))))
        except (OSError, ValueError):
            continue
    return allowed


def flags() -> Set[str]:
    """The processor's instruction sets, of those that the system lets programs use. Linux tells; elsewhere none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def library() -> dict[str, Any]:
    """NumPy's BLAS, as threadpoolctl tells of it; nothing where that does not know it."""
    from threadpoolctl import threadpool_info

    return next((dict(pool) for pool in threadpool_info() if pool["user_api"] == "blas"), {})


def too_old(kernels: str, flags: Set[str]) -> bool:
    """Whether these kernels use AVX2 or less, where the processor has AVX-512."""
    return kernels in OLDER and flags >= AVX512


def chosen(kernels: str, flags: Set[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to start anew with, after OpenBLAS has picked these kernels; none where they may stay."""
    if CORETYPE in environment or not too_old(kernels, flags):
        return {}
    return {CORETYPE: "SkylakeX", PICKED: kernels}


def start() -> None:
    """Choose kernels and threads for the command that this process is, before it has done anything.

    Where OpenBLAS picked kernels for an older processor, this does not return: the command starts anew.
    """
    openblas = library()
    if openblas.get("internal_api") != "openblas":
        return  # MKL and Accelerate choose well
    variables = chosen(openblas["architecture"], flags(), os.environ)
    if variables and sys.executable:
        # this very process, with its own arguments
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | variables)  # nosec B606
    most = min(MOST_THREADS, cores())
    if openblas["num_threads"] > most and not any(name in os.environ for name in THREADS):
        set_threads(most)


def set_threads(n: int) -> None:
    """Let BLAS compute on n threads from now on, in this process. Raises InputError for more than its cores()."""
    from threadpoolctl import threadpool_limits

    if n > cores():
        raise InputError(
            f"--threads {n} is out of range: this process may use {cores()} of the machine's cores, and threads "
            f"without a core keep the others waiting; give a number from 1 to {cores()}."
        )
    threadpool_limits(n, user_api="blas")


def reason(kernels: str, flags: Set[str], environment: Mapping[str, str]) -> str:
    """Who chose these kernels, why, and what could be better, in a sentence for `minivae info`."""
    wanted, picked, old = environment.get(CORETYPE), environment.get(PICKED), too_old(kernels, flags)
    if wanted == "SkylakeX" and picked:
        if old:
            return f"{CORETYPE}={wanted}, chosen by minivae, but this OpenBLAS has no such kernels"
        return (
            f"{CORETYPE}={wanted}, chosen by minivae: OpenBLAS would take {picked} kernels on this AVX-512 processor; "
            "set the variable yourself to change that"
        )
    if old:
        mend = f"set {CORETYPE}=SkylakeX" if wanted is None else "unset it"
        who = "picked by OpenBLAS" if wanted is None else f"{CORETYPE}={wanted} in the environment"
        return f"{who}: about half as fast as this AVX-512 processor can be; {mend}"
    return "picked by OpenBLAS" if wanted is None else f"{CORETYPE}={wanted} in the environment"


def name() -> str:
    """The library, its kernels and its threads: each of the three may change the last bits of a product."""
    pool = library()
    if not pool:
        return "unknown"
    kernels, n = pool.get("architecture", "its own"), pool["num_threads"]
    return f"{pool['internal_api']} {pool['version']}, {kernels} kernels, {n} {'thread' if n == 1 else 'threads'}"
