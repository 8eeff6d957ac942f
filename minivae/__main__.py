"""`python -m minivae` is `minivae`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from minivae import blas, cli


def main() -> int:
    """The command as a process of its own, on the BLAS kernels and threads that suit the machine.

    SIGTERM ends it as Ctrl-C does, so that nothing half-written stays; but see interruption.py for a training.
    """
    blas.start()
    signal.signal(signal.SIGTERM, _stop)
    return cli.main()


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signum)


if __name__ == "__main__":
    sys.exit(main())
