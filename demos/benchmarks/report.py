"""The table, the JSON and the figure of rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.rows import FLOOR, OURS, Row
from benchmarks.targets import REACH, Target
from minivae.files import atomic_write

NOTES = {  # of a row, as columns of the table: their titles and how they are written
    "images per second": ("images/s", "{:,.0f}"),
    "share of the matmuls alone": ("their share of the step", "{:.0%}"),
    "share of the matmul ceiling": ("of the matmul ceiling", "{:.0%}"),
    "share of the copy ceiling": ("of the copy ceiling", "{:.0%}"),
    "kernels of minivae": ("kernels", "{:.0f}"),
    "kernels of minivae captured": ("kernels captured", "{:.0f}"),
    "kernels of torch": ("kernels of torch", "{:.0f}"),
    "minivae, beyond its import": ("minivae beyond its import", "{:.0f} MB"),
    "torch, beyond its import": ("torch beyond its import", "{:.0f} MB"),
    "minivae, reserved on the device": ("minivae reserved", "{:.0f} MB"),
    "torch, reserved on the device": ("torch reserved", "{:.0f} MB"),
}


def judged(row: Row, backend: str) -> list[tuple[Target, float]]:
    """The targets of a row for which there is a number, and the number."""
    found = []
    for target in REACH[backend].get(row.name, []):
        if target.rival is None and target.ours in row.sides:
            found.append((target, row.sides[target.ours].median))
        elif (target.ours, target.rival) in row.ratios:
            found.append((target, row.ratios[target.ours, target.rival].median))
    return found


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def markdown(rows: list[Row], backend: str, about: dict[str, Any], quick: bool) -> str:
    """A table for each section; behind a rival's number stands the ratio of ours to it."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    blas = {f"{pool['internal_api']} ({pool['architecture']})" for pool in about["blas"] if pool["architecture"]}
    threads = f"{about['threads']} thread{'s' * (about['threads'] > 1)}"
    head = f"{about['device']}; {about['cpu']}, {threads}, {', '.join(sorted(blas))}; {versions}; {about['date'][:10]}."
    lines = [f"Medians; in brackets the median ratio of minivae to the other, turn by turn. {head}", ""]
    if quick:
        lines = ["A quick look with --quick: these are no results.", "", *lines]
    for section, group in groupby(rows, key=lambda row: row.section):
        lines += [*_table(section, list(group), backend), ""]
    return "\n".join(lines)


def _table(section: str, rows: list[Row], backend: str) -> list[str]:
    """The rows of one section, with the columns that any of them has."""
    sides = list(dict.fromkeys(side for row in rows for side in row.sides))
    notes = [name for name in NOTES if any(row.notes.get(name) is not None for row in rows)]
    notes = [name for name in notes if backend == "cupy" or "ceiling" not in name]
    reach = any(judged(row, backend) for row in rows)
    titles = [section, *sides, *(NOTES[name][0] for name in notes), *["reach"] * reach]
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    for row in rows:
        cells = [row.name, *(_cell(row, side) for side in sides)]
        cells += ["" if (value := row.notes.get(name)) is None else NOTES[name][1].format(value) for name in notes]
        cells += ["; ".join(_verdict(target, value, row.unit) for target, value in judged(row, backend))] * reach
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(row: Row, side: str) -> str:
    """What a side reached, and the ratios of ours to it."""
    if side not in row.sides:
        return ""
    ratios = [f"{row.ratios[ours, side].median:.2f}" for ours in OURS if (ours, side) in row.ratios and side != FLOOR]
    return f"{number(row.sides[side].median)} {row.unit}" + f" ({', '.join(ratios)})" * bool(ratios)


def _verdict(target: Target, value: float, unit: str) -> str:
    whom = (target.rival or unit) + (", captured" if target.ours != "minivae" else "")
    return f"{target.at_most:.2f} {whom}: {'reached' if value <= target.at_most else '**not reached**'}"


def record(rows: list[Row], backend: str, about: dict[str, Any], asked: dict[str, Any]) -> str:
    """All of it as JSON."""
    return (
        json.dumps({"machine": about, "asked": asked, "rows": [_plain(row, backend) for row in rows]}, indent=1) + "\n"
    )


def _plain(row: Row, backend: str) -> dict[str, Any]:
    ratios = [{"ours": ours, "other": other, **asdict(s)} for (ours, other), s in row.ratios.items()]
    targets = [{**asdict(t), "value": value, "reached": value <= t.at_most} for t, value in judged(row, backend)]
    return {**asdict(row), "ratios": ratios, "targets": targets}


def figure(rows: list[Row], backend: str, path: Path) -> None:
    """On the left the ratios to each rival, with lines where they should end; on the right how steps grow."""
    from matplotlib.figure import Figure

    lines = {section: list(group) for section, group in groupby((r for r in rows if r.x), key=lambda row: row.section)}
    bars = [row for row in rows if not row.x and row.name != "import" and any(o != FLOOR for _, o in row.ratios)]
    height = max(4.0, 0.24 * sum(len(row.ratios) for row in bars) + 1, 2.6 * len(lines))
    drawing = Figure(figsize=(13 if lines else 9, height), layout="constrained")
    areas = drawing.subfigures(1, 2, width_ratios=[3, 2]) if lines else [drawing]
    _bars(areas[0].subplots(), bars, backend)
    if lines:
        for axes, (section, points) in zip(
            areas[1].subplots(len(lines), 1, squeeze=False)[:, 0], lines.items(), strict=True
        ):
            for side in points[0].sides:
                axes.plot([row.x for row in points], [row.sides[side].median for row in points], "o-", label=side)
            axes.set(xscale="log", yscale="log", xlabel=section.removeprefix("growth with the "), ylabel="ms a step")
            axes.set_xticks([row.x for row in points], [str(row.x) for row in points])
            axes.set_xticks([], minor=True)
            axes.legend()
    with atomic_write(path) as temporary:
        drawing.savefig(temporary, dpi=120)


def _bars(axes: Any, rows: list[Row], backend: str) -> None:
    """A bar for each pair of ours and a rival; its colour is the rival's."""
    pairs = [(row, *pair) for row in rows for pair in row.ratios if pair[1] != FLOOR]
    colours = {other: f"C{i}" for i, other in enumerate(dict.fromkeys(other for _, _, other in pairs))}
    for y, (row, ours, other) in enumerate(pairs):
        s = row.ratios[ours, other]
        axes.barh(y, s.median, color=colours[other], xerr=[[s.median - s.q1], [s.q3 - s.median]], ecolor="0.3")
        for target in REACH[backend].get(row.name, []):
            if (target.ours, target.rival) == (ours, other):
                axes.plot([target.at_most] * 2, [y - 0.45, y + 0.45], color="black", lw=2.5)
    names = [f"{row.name}{', captured' * (ours != 'minivae')} / {other}" for row, ours, other in pairs]
    axes.set_yticks(range(len(pairs)), names)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.axvline(1, color="0.6", ls=":")
    axes.set(xlabel="minivae / rival (less is better; the black marks should not be passed)")


def write(path: Path, text: str) -> None:
    """The whole file at once, or the old one."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
