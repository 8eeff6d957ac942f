"""Ctrl-C and SIGTERM while a model trains: the step in hand is ended, and nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minivae.train import Trainer


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Within it the first Ctrl-C or SIGTERM asks the trainer to stop after its step; a second one is immediate."""
    handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def stop(signum: int, frame: FrameType | None) -> None:
        trainer.interrupted, trainer.signal = True, signum
        for number, handler in handlers.items():
            signal.signal(number, handler)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.signal(number, stop) for number in handlers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
