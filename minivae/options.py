"""How to train and how to save: what the options may be, and what they do to the result."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from minivae import optim
from minivae.errors import InputError

OPTIMIZERS = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adamax": optim.Adamax,
    "adagrad": optim.Adagrad,
    "sgd": optim.SGD,
}

KINDS: dict[str, tuple[tuple[type, ...], str]] = {  # by annotation
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
    "float | None": ((Real, type(None)), "a number, or none"),
    "str": ((str,), "a word"),
    "bool": ((bool,), "true or false"),
}
LARGEST = 1 << 128  # of whole numbers; beyond, floats overflow


def _check_kinds(options: Options | Saving) -> None:
    """Raise InputError where a field is not of its kind: a file that was written by hand may hold anything."""
    for field in fields(options):
        value, (kinds, name) = getattr(options, field.name), KINDS[str(field.type)]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InputError(f"{field.name} {value!r} must be {name}.")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise InputError(f"{field.name} has {len(str(value))} digits: give a smaller number.")


@dataclass(frozen=True)
class Options:
    """How to train. Raises InputError where a value cannot work.

    binarize: draw each pixel anew as 0 or 1 with its grey level as the probability, at every step
    (dynamic binarisation), in training and in evaluation. clip: the largest norm of the gradient, or None.
    lr_schedule: "constant", or "cosine" for a fall to 0. anneal: epochs over which a VAE's beta, or its capacity
    where it has one, rises from 0. inner_steps: of a VAE's encoder, at most so many before each step of its decoder,
    for as long as they pay; see minivae.lagging. on_nan: what to do at a step whose loss or gradient is not finite:
    "stop", or "skip", which leaves the model as it was before the step (on a GPU each step then waits for its loss).
    capture: let a GPU replay the step as a CUDA graph (experimental); on NumPy nothing changes.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    seed: int = 0
    binarize: bool = False
    clip: float | None = None
    lr_schedule: str = "constant"
    anneal: int = 0
    on_nan: str = "stop"
    capture: bool = False
    inner_steps: int = 0

    def __post_init__(self) -> None:
        _check_kinds(self)
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise InputError(f"{name} {value} trains nothing: give a whole number of at least 1.")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr {self.lr} is no learning rate: give a number above 0, such as 1e-3.")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip {self.clip} is no norm of a gradient: give a number above 0.")
        if not 0 <= self.anneal <= self.epochs:
            raise InputError(f"anneal {self.anneal} must be from 0 to the {self.epochs} epochs, or beta never arrives.")
        if self.lr_schedule not in ("constant", "cosine"):
            raise InputError(f"unknown lr_schedule '{self.lr_schedule}': choose constant or cosine.")
        if self.on_nan not in ("stop", "skip"):
            raise InputError(f"unknown on_nan '{self.on_nan}': choose stop or skip.")
        if self.capture and self.on_nan == "skip":
            raise InputError(
                "on_nan skip asks after each step whether it was finite, which --capture cannot: choose one."
            )
        if self.inner_steps < 0 or (self.inner_steps and (self.capture or self.on_nan == "skip")):
            raise InputError(
                f"inner_steps {self.inner_steps} with on_nan {self.on_nan} and capture {self.capture}: give a whole "
                "number of at least 0, on_nan stop and no capture, as inner steps are not undone and wait for their "
                "loss."
            )
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is no seed: give a whole number of at least 0.")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer '{self.optimizer}': choose one of {', '.join(OPTIMIZERS)}.")

    def resumed(self, given: dict[str, Any]) -> Options:
        """These options with what is given anew where a run goes on: that may not change what it has done.

        Raises InputError where it would: only `on_nan` and `capture` are free, and `epochs` unless the learning rate
        follows them.
        """
        for name, value in given.items():
            before = getattr(self, name)
            if value == before or name in ("on_nan", "capture"):
                continue
            if name == "epochs" and self.lr_schedule == "constant":
                continue
            why = f"its lr_schedule {self.lr_schedule} spans them" if name == "epochs" else "it would change the result"
            raise InputError(
                f"{name} {value} cannot be given to a run that was begun with {name} {before}, as {why}: "
                "leave it out, or train anew without --resume."
            )
        return replace(self, **given)


@dataclass(frozen=True)
class Saving:
    """When to write checkpoints, and which to keep. Raises InputError where a value cannot work.

    every: "5" for each fifth epoch, "10m" for every ten minutes, in the middle of an epoch too; and at the end always.
    keep: how many of the last checkpoints; with more than 1 each stands in model-STEP.npz too. best: keep that of the
    lowest test loss in best.npz, from the end of Options.anneal on, before which losses mean different things.
    """

    every: str = "1"
    keep: int = 1
    best: bool = False

    def __post_init__(self) -> None:
        _check_kinds(self)
        number = self.every.removesuffix("m")
        minutes = number != self.every
        try:
            value = float(number) if minutes else int(number)
        except ValueError:
            value = 0
        if not (0 < value < float("inf")):
            raise InputError(
                f"save_every '{self.every}' is no interval: give epochs, such as 5, or minutes with an m, such as 10m."
            )
        if self.keep < 1:
            raise InputError(f"keep {self.keep} keeps no checkpoint: give a whole number of at least 1.")

    @property
    def epochs(self) -> int | None:
        """The interval where it is one of epochs."""
        return None if self.every.endswith("m") else int(self.every)

    @property
    def seconds(self) -> float:
        """The interval where it is one of minutes; infinity where it is not."""
        return 60 * float(self.every[:-1]) if self.every.endswith("m") else float("inf")
