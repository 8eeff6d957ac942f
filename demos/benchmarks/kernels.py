"""How many kernels a step launches on a GPU."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.timing import Runner


def launched(runner: Runner) -> int | None:
    """Kernels of one step of any library, copies and fills not counted; None where they cannot be counted.

    CuPy has no counter. PyTorch's profiler has: it asks the driver (CUPTI), which tells of the whole process.
    """
    try:
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        return None
    runner.step()
    runner.wait()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        _run(runner.step, runner.wait)
    names = [event.name for event in profiler.events() if event.device_type == DeviceType.CUDA]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in names) or None


def _run(*functions: Callable[[], object]) -> None:
    for function in functions:
        function()
