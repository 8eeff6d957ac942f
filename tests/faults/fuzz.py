"""A process that reads damaged files, one after the other: within a second of the processor and 200 MB each."""

from __future__ import annotations

import random
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from faults.bench import TARGETS, Bench

__all__ = ["TARGETS", "work"]

SECONDS, MEMORY = 1.0, 200 << 20


def check(value: Any) -> None:
    """AssertionError unless what was read can be worked with."""
    from minivae.data import Dataset

    if isinstance(value, Dataset):
        for split in (value.train, value.test):
            images = split.images
            assert len(images) and images.ndim == 4 and images.dtype in (np.uint8, np.float32), images.dtype
            assert images.dtype == np.uint8 or (images.min() >= 0 and images.max() <= 1)
            assert split.labels is None or len(split.labels) == len(images)
        assert value.train.images.shape[1:] == value.test.images.shape[1:]


def work(target: str, cases: range, command_every: int, folder: Path, case: Any, counts: Any, log: Path) -> None:
    """Read the cases of a target. The first that goes wrong is told in log, and ends the process with 1.

    case: the one in hand, which is all that is left where the system ends the process: SIGPROF after a second of the
    processor, SIGSEGV. counts: of those refused, and of those read.
    """
    import minivae.plots
    from minivae import report
    from minivae.errors import InputError
    from minivae.train import Trainer

    warnings.simplefilter("ignore")
    report.figures = lambda *_: None
    minivae.plots.reconstructions = lambda *_, **__: None
    bench = Bench(folder)
    step = Trainer._step

    def first_steps(self: Any, x: Any) -> Any:
        self.interrupted = self.batch >= 2  # a damaged option may ask for a million epochs
        return step(self, x)

    Trainer._step = first_steps  # type: ignore[method-assign]
    for i in range(3):  # what is imported and allocated at the first use
        _case(bench, target, random.Random(f"warm {i}"), True)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for i in cases:
        case.value = i
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            read = _case(bench, target, random.Random(f"{target} {i}"), i % command_every == 0)
            counts[read] += 1
        except InputError as error:
            counts[0] += 1
            if _memory(error) and target not in ("read_config", "resume"):  # which may ask for large models
                log.write_text(f"{target} {i} wanted more than {MEMORY >> 20} MB: {error}")
                sys.exit(1)
        except BaseException:
            log.write_text(f"{target} {i}:\n{traceback.format_exc()[-3000:]}")
            sys.exit(1)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _case(bench: Bench, target: str, rng: random.Random, by_command: bool) -> int:
    """1 where the file was read from Python, 2 from the command line; InputError where it was refused."""
    _, read, command = getattr(bench, target)(rng)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # not for the damage
    if by_command:
        # two epochs of what can be read would take long: whether it goes on is not asked here
        more = [] if command[0] != "train" or "--resume" in command else ["--epochs", 1, "--hidden", 2, "--latent", 1]
        bench.run([*command, *more, *(["--out", bench.folder / "out"] if more else [])])
        return 2
    value = read()
    check(value)
    return int(value != 2) if isinstance(value, int) else 1  # a command refuses by its exit code


def _memory(error: BaseException | None) -> bool:
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, MemoryError) and not frames[-1].filename.endswith("ast.py"):  # whose stack is bounded
            return True
        error = error.__cause__ or error.__context__
    return False
