"""A process that trains, and to which something happens: it is killed at an instant, or its disk is full."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
# all that is imported late: another user may not read it
CONTEXT.set_forkserver_preload(
    ["mmap", "encodings.cp437", "scipy.special", "minivae.runs", "minivae.train", "minivae.report", "matplotlib.figure"]
)


def run(argv: list[Any], log: Path, **fate: Any) -> tuple[int, str]:
    """The exit code of `minivae ...` in a process of its own (negative: the signal), and what it said on stderr."""
    process = CONTEXT.Process(target=_work, args=([str(arg) for arg in argv], log), kwargs=fate)
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    return code, log.read_text()


def _work(
    argv: list[str], log: Path, kill_at: int = 0, saving: bool = False, count: Path | None = None, limit: int = 0,
    figures: bool = False, user: int = 0,
) -> None:  # fmt: skip
    """kill_at: the call of a function, counted from 1, at which kill -9 comes; with saving only those within the
    writing of a file count. count: the file for how many there were. limit: of a file, in bytes.
    """
    from minivae import checkpoint, folders, report
    from minivae.cli import main
    from minivae.progress import write_metrics
    from minivae.saving import Saver

    with open(log, "w") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if not figures:
        report.figures = lambda *_: None
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if user:
        os.setuid(user)
    calls, depth = 0, 0
    writers = {f.__code__ for f in (checkpoint.save, write_metrics, Saver.write, folders.write_config)}

    def event(frame: Any, kind: str, argument: Any) -> None:
        nonlocal calls, depth
        if frame.f_code in writers:
            depth += {"call": 1, "return": -1}.get(kind, 0)
        if kind in ("call", "c_call") and (depth or not saving):
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at or count:
        sys.setprofile(event)
    code = main(argv)
    sys.setprofile(None)
    if count:
        count.write_text(str(calls))
    sys.exit(code)
