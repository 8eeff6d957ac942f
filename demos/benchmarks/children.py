"""What only a process of its own can tell: its peak memory, and how long an import takes.

    python -m benchmarks.children SIDE PROBLEM BACKEND STEPS

trains some steps and prints its figures; `memory` and `import_seconds` start such children.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

IMPORT = "import time, numpy; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def peak_bytes() -> int:
    """The most memory that this process has had.

    Linux: VmHWM. getrusage's ru_maxrss is no use in a child there, as it begins with that of the process which
    started it: a benchmark with PyTorch in it would give all its children half a gigabyte.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def trained(side: str, name: str, backend_name: str, steps: int) -> dict[str, int]:
    """Peak bytes of the process at the end and after the imports; on a GPU, of the device too."""
    from benchmarks.problems import PROBLEMS

    problem = PROBLEMS[backend_name][name]
    if side == "torch":
        import torch

        from benchmarks.torch_rival import Torch

        imported = peak_bytes()
        theirs = Torch(problem, problem.images(), "cuda" if backend_name == "cupy" else "cpu")
        for _ in range(steps):
            theirs.step()
        theirs.wait()
        device = {"device": torch.cuda.max_memory_allocated(), "device_reserved": torch.cuda.max_memory_reserved()}
    else:
        from benchmarks.steps import Minivae, synchronize
        from minivae import backend

        xp = backend.use(backend_name)
        imported = peak_bytes()
        ours = Minivae(problem, problem.images())
        with PoolPeak(xp) as pool:
            for _ in range(steps):
                ours.step()
            synchronize()
        device = pool.figures()
    return {"process": peak_bytes(), "imports": imported, **(device if backend_name == "cupy" else {})}


class PoolPeak:
    """Watches CuPy's memory pool at every allocation; on NumPy it does nothing."""

    def __init__(self, xp: Any):
        self.pool = self.hook = None
        if xp.name != "cupy":
            return
        pool = self.pool = xp.get_default_memory_pool()

        class Hook(xp.cuda.MemoryHook):  # type: ignore[misc]
            name = "PoolPeak"
            peak = 0

            def malloc_postprocess(self, **allocation: Any) -> None:
                self.peak = max(self.peak, pool.used_bytes())

        self.hook = Hook()

    def __enter__(self) -> PoolPeak:
        if self.hook is not None:
            self.hook.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.hook is not None:
            self.hook.__exit__(*error)

    def figures(self) -> dict[str, int]:
        if self.pool is None or self.hook is None:
            return {}
        return {"device": self.hook.peak, "device_reserved": self.pool.total_bytes()}


def memory(side: str, name: str, backend_name: str, steps: int, threads: int) -> dict[str, int]:
    """Peak bytes of a child that trains."""
    arguments = ["-m", "benchmarks.children", side, name, backend_name, str(steps)]
    figures: dict[str, int] = json.loads(_child(arguments, threads))
    return figures


def import_seconds(module: str, times: int) -> list[float]:
    """Seconds of an import beyond NumPy's own, each in a child; the first, which may compile, does not count."""
    return [float(_child(["-c", IMPORT.format(module)], 1)) for _ in range(times + 1)][1:]


def _child(arguments: list[str], threads: int) -> str:
    """What Python prints with these arguments."""
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OPENBLAS", "OMP", "MKL")}
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a child of the benchmark failed: {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    print(json.dumps(trained(*sys.argv[1:4], int(sys.argv[4]))))
