"""The rows of the table, by name: each a function of the settings that measures and returns its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmarks import children, gemms, kernels, operations, racing
from benchmarks.problems import PROBLEMS, Problem, dense
from benchmarks.steps import Minivae, synchronize
from benchmarks.timing import FULL, QUICK, Pace, Runner, Sample, interleaved, sample
from minivae.blas import cores

FLOOR = "matmuls alone"
OURS = ("minivae", "minivae captured")
GROWTH = {"batch": (16, 64, 256, 1024, 4096), "width": (100, 200, 400, 800, 1600), "depth": (1, 2, 4, 8)}


@dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    backend: str = "numpy"
    against: tuple[str, ...] = ()
    quick: bool = False
    capture: bool = False
    threads: int = field(default_factory=cores)

    @property
    def pace(self) -> Pace:
        return QUICK if self.quick else FULL

    @property
    def torch(self) -> bool:
        return "torch" in self.against


@dataclass(frozen=True)
class Row:
    """sides: what each reached, in the unit. ratios: of ours over the others, turn by turn, by (ours, other).

    x: where the row is a point of a line. notes: what else was found, by name.
    """

    name: str
    section: str
    unit: str
    sides: dict[str, Sample]
    ratios: dict[tuple[str, str], Sample] = field(default_factory=dict)
    x: int | None = None
    notes: dict[str, float | str | None] = field(default_factory=dict)


def raced(name: str, section: str, runners: dict[str, Runner], pace: Pace, unit: str = "ms") -> Row:
    """The sides' interleaved times as a row."""
    turns = interleaved(runners, pace)
    scale = {"ms": 1e3, "s": 1.0}[unit]
    return compared(name, section, turns, scale, unit)


def compared(name: str, section: str, turns: dict[str, list[float]], scale: float, unit: str) -> Row:
    """A row of numbers that belong together turn by turn."""
    ratios = {
        (ours, other): sample([a / b for a, b in zip(turns[ours], turns[other], strict=True)])
        for ours in OURS
        if ours in turns
        for other in turns
        if other not in OURS
    }
    return Row(name, section, unit, {side: sample(values, scale) for side, values in turns.items()}, ratios)


def training(name: str, settings: Settings) -> list[Row]:
    """A training step against all rivals and against its matmuls alone."""
    problem = PROBLEMS[settings.backend][name]
    ours, others = racing.sides(problem, settings.against, settings.backend)
    runners = racing.runners(ours, others, settings.capture)
    row = raced(name, "training steps", runners | {FLOOR: gemms.runner(problem)}, settings.pace)
    best = gemms.ceilings(settings.pace)
    fastest = min((row.sides[side] for side in OURS if side in row.sides), key=lambda side: side.median)
    notes: dict[str, float | str | None] = {
        "images per second": problem.batch / fastest.median * 1e3,
        "share of the matmuls alone": row.sides[FLOOR].median / fastest.median,
        "share of the matmul ceiling": gemms.flops(problem) / best["flops"] / fastest.median * 1e3,
        "share of the copy ceiling": gemms.traffic(problem) / best["bytes"] / fastest.median * 1e3,
    }
    if "torch" in others:
        notes["PyTorch's Adam"] = others["torch"].adam
    if settings.backend == "cupy":
        notes |= {f"kernels of {side}": kernels.launched(runner) for side, runner in runners.items()}
    return [replace(row, notes=notes)]


def loop(settings: Settings) -> list[Row]:
    """What the training loop adds to the dense step: it looks at the loss and at the gradient's norm."""
    problem = dense(128)
    against = tuple(rival for rival in settings.against if rival == "torch")
    ours, others = racing.sides(problem, against, settings.backend)
    runners = {"minivae": Runner(ours.watched(), synchronize), "the bare step": Runner(ours.step, synchronize)}
    runners |= {name: Runner(side.step, side.wait) for name, side in others.items()}
    return [raced("loop", "the training loop", runners, settings.pace)]


def gradients(settings: Settings) -> list[Row]:
    """The dense step without its update: how much of a difference between two sides is that of their Adam."""
    ours, others = racing.sides(dense(128), settings.against, settings.backend)
    runners = {"minivae": Runner(ours.compute_gradients, synchronize)}
    runners |= {name: Runner(side.compute_gradients, side.wait) for name, side in others.items()}
    return [raced("gradients-128", "a step without its update", runners, settings.pace)]


def epoch(settings: Settings) -> list[Row]:
    """An epoch of the dense VAE over 60,000 images, on the device."""
    problem = dense(128)
    images = np.resize(problem.images(), (60_000, *problem.shape))
    step = Minivae(problem, images).captured() if settings.capture else Minivae(problem, images).step

    def once() -> None:
        for _ in range(60_000 // problem.batch):
            step()

    return [raced("epoch", "training steps", {"minivae": Runner(once, synchronize)}, settings.pace, "s")]


def operation(name: str, make: Callable[[bool], operations.Sides], settings: Settings) -> list[Row]:
    """A single op, after its sides have given the same value."""
    runners, values = make(settings.torch)
    expected, *others = [value() for value in values.values()] or [None]
    for value in others:
        if not np.allclose(value, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max())):
            raise RuntimeError(f"{name}: the sides compute different values.")
    return [raced(name, "single ops", runners, settings.pace)]


def engine(settings: Settings) -> list[Row]:
    """Microseconds of a node, forward and backward, beyond those of its arithmetic."""
    turns = interleaved(operations.engine(settings.torch), settings.pace)
    beyond = {
        side: [a - b for a, b in zip(turns[side], turns[f"{side}'s arithmetic"], strict=True)]
        for side in ("minivae", "torch")
        if side in turns
    }
    # no ratios: a difference of two times may come near to 0
    sides = {side: sample(values, 1e6 / operations.CHAIN) for side, values in beyond.items()}
    return [Row("engine", "the engine", "us a node", sides)]


def growth(what: str, settings: Settings) -> list[Row]:
    """The dense step as it grows, ours and PyTorch's: a row for each point."""
    against = tuple(rival for rival in settings.against if rival == "torch")
    rows = []
    largest = 200 if settings.quick else GROWTH[what][-1]
    for x in (x for x in GROWTH[what] if x <= largest):
        problem: Problem = {
            "batch": lambda x=x: dense(x),
            "width": lambda x=x: dense(128, (x,)),
            "depth": lambda x=x: dense(128, (200,) * x),
        }[what]()
        ours, others = racing.sides(problem, against, settings.backend)
        row = raced(f"{what}-{x}", f"growth with the {what}", racing.runners(ours, others, False), settings.pace)
        rows.append(replace(row, x=x))
    return rows


def memory(name: str, problem: str, settings: Settings) -> list[Row]:
    """The peak of a process that trains; on a GPU, that of the device's memory."""
    steps = 3 if settings.quick else 30
    found = {
        side: children.memory(side, problem, settings.backend, steps, settings.threads)
        for side in ("minivae", *(["torch"] if settings.torch else []))
    }
    counted = "device" if settings.backend == "cupy" else "process"
    row = compared(
        name, "peak memory", {side: [float(figures[counted])] for side, figures in found.items()}, 1e-6, "MB"
    )
    notes: dict[str, float | str | None] = {}
    for side, figures in found.items():
        notes[f"{side}, beyond its import"] = (figures["process"] - figures["imports"]) / 1e6
        if "device_reserved" in figures:
            notes[f"{side}, reserved on the device"] = figures["device_reserved"] / 1e6
    return [replace(row, notes=notes)]


def imports(settings: Settings) -> list[Row]:
    """Seconds of an import beyond NumPy's."""
    times = 1 if settings.quick else 11
    modules = ["minivae", *(rival for rival in settings.against if rival != "numpy")]
    turns = {module: children.import_seconds(module, times) for module in modules}
    return [compared("import", "import", turns, 1.0, "s")]


def rows(backend: str) -> dict[str, Callable[[Settings], list[Row]]]:
    """All rows of a backend, in their order."""
    makers: dict[str, Callable[[bool], operations.Sides]] = {
        **{name: partial(operations.convolution, name) for name in operations.CONVOLUTIONS},
        "adam": operations.adam, "bce": operations.bce, "gaussian": operations.gaussian, "nearest": operations.codes,
    }  # fmt: skip
    return {
        **{name: partial(training, name) for name in PROBLEMS[backend]},
        **({"epoch": epoch} if backend == "cupy" else {}),
        "gradients": gradients,
        "loop": loop,
        "engine": engine,
        **{name: partial(operation, name, make) for name, make in makers.items()},
        **{f"growth-{what}": partial(growth, what) for what in ("batch", "width", "depth")},
        **{
            f"memory-{name}": partial(memory, f"memory-{name}", problem)
            for name, problem in {"dense": "dense-128", "conv": "conv-28", "vqvae": "vqvae-32"}.items()
        },
        "import": imports,
    }
