"""The README's table: a row for each system, with the number that it reaches beside the one that it should.

    python demos/results.py --data mnist [--preset paper] [--only NAME ...] [--out runs/results]

Each row is an experiment of demos/experiments, and its result a file OUT/NAME.json. What is there is not run
again, so that Ctrl-C loses the row in hand only; `--only NAME` runs a row anew. results.md and results.csv
hold all rows so far. Rows that need the same model share it, so the seconds of a row depend on those before it.
`--preset paper` runs the rows that are too long for a CPU.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
from experiments import EXPERIMENTS, Experiment, Lab

import minivae
from minivae.errors import InputError
from minivae.files import atomic_write

COLUMNS = {"model": "model", "data": "data", "setup": "setup", "ours": "our number", "required": "published / required"}
FIELDS = [*COLUMNS, "verdict", "reason", "note", "seconds", "cpu_seconds", "seed"]  # of results.csv
VERDICTS = {True: "reached", False: "not reached", None: "nothing to reach"}


def main(arguments: list[str] | None = None, experiments: Mapping[str, Experiment] = EXPERIMENTS) -> int:
    """Run what is asked for. 0: all rows stand; 2: bad usage; 130: stopped."""
    parser = argparse.ArgumentParser(description="Makes the README's table of results, row by row.")
    parser.add_argument("--data", default="mnist", help="mnist or glyphs, or another data set of 28x28 grey images")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"rows: {', '.join(experiments)}")
    parser.add_argument("--preset", choices=("cpu", "paper"), default="cpu", help="paper: the rows for a GPU")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="folder of the rows and the table")
    parser.add_argument("--train", type=int, help="no more training (and test) images than these: for a quick look")
    parser.add_argument("--epochs", type=int, help="no more epochs than these: for a quick look")
    asked = parser.parse_args(arguments)
    conditions = {"data": asked.data, "train": asked.train, "epochs": asked.epochs}
    try:
        if unknown := [name for name in asked.only if name not in experiments]:
            raise InputError(f"there is no row '{unknown[0]}': choose among {', '.join(experiments)}.")
        for name, count in (("--train", asked.train), ("--epochs", asked.epochs)):
            if count is not None and count < 1:
                raise InputError(f"{name} {count} trains nothing: give a whole number of at least 1.")
        check(asked.out, conditions)
        lab = Lab(asked.data, asked.train, asked.epochs)
        if lab.data.shape != (1, 28, 28):
            raise InputError(f"'{asked.data}' has images of shape {lab.data.shape}: give 28x28 grey ones, as mnist's.")
        of_preset = [name for name, experiment in experiments.items() if experiment.preset == asked.preset]
        todo = asked.only or [name for name in of_preset if not (asked.out / f"{name}.json").exists()]
        for i, name in enumerate(todo, 1):
            print(f"[{i}/{len(todo)}] {name}", flush=True)
            row = measure(experiments[name], lab, conditions)
            write(asked.out / f"{name}.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")
            print(f"    {row['ours']}  ({row['verdict']}; required: {row['required']})  {row['seconds']:.0f} s")
            write_tables(asked.out, experiments)
    except InputError as error:
        print(f"minivae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: the row in hand is lost, the others are kept; the same command goes on.", file=sys.stderr)
        return 130
    write_tables(asked.out, experiments)
    print(f"The table: {asked.out / 'results.md'}")
    return 0


def measure(experiment: Experiment, lab: Lab, conditions: dict[str, Any]) -> dict[str, Any]:
    """A row: the finding of an experiment, and how it came about."""
    started, cpu = time.perf_counter(), time.process_time()
    finding = experiment.run(lab)
    return {
        "model": experiment.model,
        "data": experiment.data or lab.data.name,
        **asdict(finding),
        "reason": finding.reason if finding.reached is False else "",
        "verdict": VERDICTS[finding.reached],
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "seed": lab.seed,
        "asked": conditions,
        "versions": {
            "minivae": minivae.__version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "backend": minivae.backend.current().name, "device": minivae.backend.current().device(),
        },
    }  # fmt: skip


def check(out: Path, conditions: dict[str, Any]) -> None:
    """Raise InputError where the folder holds rows of other data or of a quick look: a table has one kind."""
    for path in sorted(out.glob("*.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            before, _ = row["asked"], [row[name] for name in (*FIELDS, "reached")]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"'{path}' is no row of results: remove it, or give another folder with --out.") from None
        if before != conditions:
            described = ", ".join(f"{name} {value}" for name, value in before.items() if value is not None)
            raise InputError(f"'{out}' holds rows made with {described}: give another folder with --out.")


def write_tables(out: Path, experiments: Mapping[str, Experiment]) -> None:
    """results.md and results.csv of the rows that are there, in the order of the experiments."""
    paths = {name: out / f"{name}.json" for name in experiments}
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths.values() if path.exists()]
    waiting = [not_run(name, experiments[name]) for name in paths if not paths[name].exists()]
    quick = [f"--{name} {rows[0]['asked'][name]}" for name in ("train", "epochs") if rows and rows[0]["asked"][name]]
    head = f"A quick look with {' '.join(quick)}: these are no results.\n\n" if quick else ""
    write(out / "results.md", head + markdown(rows + [row for row in waiting if row]))
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(out / "results.csv", text.getvalue())


def not_run(name: str, experiment: Experiment) -> dict[str, Any]:
    """The row of an experiment for a GPU that nobody has run; none of another."""
    if experiment.preset != "paper":
        return {}
    command = f"`MINIVAE_BACKEND=cupy python demos/results.py --preset paper --only {name}`"
    told = {"setup": command, "ours": "not run", "required": experiment.required, "reached": None}
    return {"model": experiment.model, "data": experiment.data or "mnist", "note": "", "reason": "", **told}


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table; one that falls short says so, with the reason where it is known."""
    lines = [f"| {' | '.join(COLUMNS.values())} |", "|" + " --- |" * len(COLUMNS)]
    for row in rows:
        short = f"**Not reached**{': ' * bool(row['reason'])}{row['reason']}" if row["reached"] is False else ""
        ours = ". ".join(part for part in (row["ours"], row["note"], short) if part)
        cells = [row["model"], row["data"], row["setup"], ours, row["required"]]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """The whole file at once, or the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
