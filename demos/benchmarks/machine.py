"""Threads, alike for all sides, and what the numbers were measured on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info, threadpool_limits

from minivae import __version__, backend

PACKAGES = {"torch": ["torch"], "jax": ["jax", "jaxlib"], "autograd": ["autograd"], "numpy": []}


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let every library compute with n threads: BLAS and OpenMP by threadpoolctl, PyTorch by its own call.

    JAX and others that make a pool take as many as the process has cores, so it is given n of them.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    try:
        if 0 < n < len(allowed):
            os.sched_setaffinity(0, sorted(allowed)[:n])
        with threadpool_limits(n):
            if torch:
                torch.set_num_threads(n)
            yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
        if torch:
            torch.set_num_threads(before)


def description(against: Sequence[str], n: int) -> dict[str, Any]:
    """Of the machine and of all that computes."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ["numpy", *(name for rival in against for name in PACKAGES[rival])]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": n,
        "device": backend.current().device(),
        "system": platform.platform(),
        "blas": [
            {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads", "filepath")}
            for pool in threadpool_info()
        ],
        "versions": {
            "minivae": __version__, "python": platform.python_version(), **{name: _version(name) for name in packages},
            **({"cupy": backend.current().module.__version__} if backend.current().name == "cupy" else {}),
        },
    }  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
