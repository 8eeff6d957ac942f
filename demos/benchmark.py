"""How fast minivae is: training steps, single ops, the engine, memory, against PyTorch and others in one process.

    python demos/benchmark.py [--backend numpy|cupy] [--against torch jax autograd numpy] [--only NAME ...] [--quick]

The sides of a row get the same weights, must compute the same loss, and then take turns: A B A B ... Medians and
ratios go to the terminal as a table, and with the quartiles and all about the machine to OUT/benchmark.json; the
figure is OUT/benchmark.png. A rival needs its package; "numpy" is a step written by hand. What each file of
demos/benchmarks measures stands in its first line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import racing, report
from benchmarks.machine import description, threads
from benchmarks.problems import PROBLEMS
from benchmarks.rows import Settings, rows

from minivae import backend
from minivae.blas import cores
from minivae.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for. 0: done; 2: bad usage; 130: stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy", choices=list(PROBLEMS), help="where minivae computes")
    parser.add_argument("--against", nargs="+", default=[], choices=racing.RIVALS, help="rivals, in the same process")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows; all by default")
    parser.add_argument("--quick", action="store_true", help="few repetitions: a look, no results")
    parser.add_argument("--capture", action="store_true", help="the step recorded once and replayed, too")
    parser.add_argument("--threads", type=int, default=cores(), help="of every side; all cores by default")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder of the table and the figure")
    asked = parser.parse_args(arguments)
    before = backend.current().name
    try:
        known = rows(asked.backend)
        if unknown := [name for name in asked.only if name not in known]:
            raise InputError(f"there is no row '{unknown[0]}': choose among {', '.join(known)}.")
        if not 1 <= asked.threads <= cores():
            raise InputError(f"--threads {asked.threads} is out of range: this process may use 1 to {cores()}.")
        backend.use(asked.backend)
        racing.require(asked.against, asked.backend)
        asked.out.mkdir(parents=True, exist_ok=True)
        measure(asked, [name for name in known if name in asked.only or not asked.only])
    except (InputError, OSError) as error:
        print(f"minivae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: nothing was written.", file=sys.stderr)
        return 130
    finally:
        backend.use(before)
    return 0


def measure(asked: argparse.Namespace, names: list[str]) -> None:
    """Measure the rows of these names and write the table, the JSON and the figure."""
    known = rows(asked.backend)
    settings = Settings(asked.backend, tuple(asked.against), asked.quick, asked.capture, asked.threads)
    found = []
    with threads(asked.threads):
        about = description(asked.against, asked.threads)
        for i, name in enumerate(names, 1):
            print(f"[{i}/{len(names)}] {name}", file=sys.stderr, flush=True)
            found += known[name](settings)
    table = report.markdown(found, asked.backend, about, asked.quick)
    report.write(asked.out / "benchmark.md", table)
    options = {name: str(value) if name == "out" else value for name, value in vars(asked).items()}
    report.write(asked.out / "benchmark.json", report.record(found, asked.backend, about, options))
    report.figure(found, asked.backend, asked.out / "benchmark.png")
    print(table)
    print(f"The numbers: {asked.out / 'benchmark.json'}; the figure: {asked.out / 'benchmark.png'}")


if __name__ == "__main__":
    sys.exit(main())
