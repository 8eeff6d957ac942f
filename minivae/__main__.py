"""`python -m minivae` is `minivae`."""

from __future__ import annotations

import sys

from minivae import blas, cli


def main() -> int:
    """The command as a process of its own, on the BLAS kernels and threads that suit the machine."""
    blas.start()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
