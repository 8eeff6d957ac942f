"""What a checkpoint holds of a training in hand, so that one that goes on from it ends with the same bits."""

from __future__ import annotations

import hashlib
import math
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivae import __version__, backend, blas, checkpoint
from minivae.data import Dataset
from minivae.errors import InputError, NotFinite
from minivae.progress import Means

if TYPE_CHECKING:
    from minivae.train import Trainer


def write(trainer: Trainer, path: Path, saving: dict[str, Any]) -> None:
    """Write the checkpoint of a trainer. Raises NotFinite, and leaves the file as it was, where a weight is not."""
    arrays = {f"model.{name}": a for name, a in trainer.model.state_dict().items()}
    for name, a in arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise NotFinite(f"after step {trainer.optimizer.steps} '{name.removeprefix('model.')}' is not finite")
    state = trainer.optimizer.state_dict()
    arrays |= {f"optimizer.{name}": a for name, a in state.items() if name != "steps"}
    name, arguments = trainer.spec
    header = {
        "model": name,
        "arguments": arguments,
        "data": trainer.source,
        "fingerprint": trainer.fingerprint,
        "options": asdict(trainer.options),
        "saving": saving,
        "steps": state["steps"],
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "seconds": trainer.seconds,
        "skipped": trainer.skipped,
        "means": trainer.means.state(),
        "counted": trainer.model.counted() if hasattr(trainer.model, "counted") else None,
        "history": trainer.history,
        "lagging": trainer.lagging.state() if trainer.lagging else None,
        "backend": backend.current().name,
        "generators": {
            name: backend.current().generator_state(getattr(owner, attribute))
            for name, (owner, attribute) in _generators(trainer).items()
        },
        "versions": versions(),
    }
    checkpoint.save(path, header, arrays)


def restore(trainer: Trainer, header: dict[str, Any], arrays: dict[str, Any], path: Path) -> None:
    """Put a new trainer of the same model, data and options where the checkpoint was written.

    Raises InputError where it cannot go on from there: other data, another backend, missing parts.
    """
    try:
        fingerprint, used = header["fingerprint"], header["backend"]
        states, counted, history = header["generators"], header["counted"], _rows(header["history"])
        epoch, batch, skipped, steps = (_natural(header[name]) for name in ("epoch", "batch", "skipped", "steps"))
        seconds, means = _finite(header["seconds"]), _means(header["means"], history)
        if epoch != len(history) + 1:
            raise ValueError("an epoch is missing")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise InputError(
            f"'{path}' holds weights but not the state of a training, so that none can go on from it: train anew."
        ) from None
    if used != backend.current().name:
        raise InputError(
            f"'{path}' was trained on {used}, and other libraries compute other bits: resume it with --backend {used}."
        )
    if fingerprint != trainer.fingerprint:
        raise InputError(
            f"the data '{trainer.source}' are not those that '{path}' was trained on (their fingerprint differs): "
            "name those with --data, or train anew."
        )
    try:
        if batch > len(trainer.batches):
            raise ValueError(f"{batch} batches of an epoch are done, which has {len(trainer.batches)}")
        trainer.model.load_state_dict(_part(arrays, "model."))
        counts = [a for name, a in arrays.items() if name.startswith("optimizer.") and name.endswith("counts")]
        if any((a > steps * (1 + trainer.options.inner_steps)).any() for a in counts):
            raise ValueError("its optimiser counts more steps than there were")
        trainer.optimizer.load_state_dict(_part(arrays, "optimizer.") | {"steps": steps})
        for i, (name, (owner, attribute)) in enumerate(_generators(trainer).items()):
            seed = abs(hash((trainer.options.seed, steps, i)))  # of integers: the same in every process
            rng = backend.current().restored_generator(getattr(owner, attribute), states[name], seed)
            setattr(owner, attribute, rng)
        if counted is not None:
            trainer.model.count_on(counted)
        if trainer.lagging:
            trainer.lagging.restore(header["lagging"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"'{path}' does not fit the model that it names: {error}") from None
    trainer.epoch, trainer.batch, trainer.seconds, trainer.skipped = epoch, batch, seconds, skipped
    trainer.means, trainer.history = means, history
    if steps:
        trainer.schedule(steps - 1)  # an evaluation may come before the next step
    trainer.saved = (path, steps)


def fingerprint(dataset: Dataset, labels: bool = False) -> str:
    """SHA-256 of the images of both splits, with their shapes and dtypes, in hexadecimal; labels: of theirs too."""
    total = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.images, split.labels if labels else None):
            if array is not None:
                array = np.ascontiguousarray(array)
                total.update(f"{array.dtype.str} {array.shape} ".encode())
                total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def versions() -> dict[str, str]:
    """The packages whose versions may change the last bits, and the BLAS with its kernels and threads."""
    import scipy

    # of what is loaded: what is installed may change meanwhile
    packages = {"minivae": __version__, "numpy": np.__version__, "scipy": scipy.__version__}
    return {"python": platform.python_version()} | packages | {"blas": blas.name()}


def _generators(trainer: Trainer) -> dict[str, tuple[Any, str]]:
    """Every random generator that training draws from: its name, whose attribute it is, and which."""
    found: dict[str, tuple[Any, str]] = {"trainer": (trainer, "rng"), "backend": (backend.current(), "rng")}
    for i, module in enumerate(trainer.model.modules()):
        if getattr(module, "rng", None) is not None:
            found[f"module {i}"] = (module, "rng")  # of dropout
    return found


def _natural(value: Any) -> int:
    """A whole number of at least 0, as JSON gave it; else ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{value!r} is no count")
    return value


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _rows(history: Any) -> list[dict[str, float]]:
    """The rows of metrics.csv as JSON gave them; ValueError and its kin where they are none."""
    if not isinstance(history, list):
        raise ValueError("the history is no list")
    for n, row in enumerate(history, 1):
        if row.keys() != history[0].keys() or row["epoch"] != n or not {"test_loss", "seconds"} <= row.keys():
            raise ValueError(f"row {n} of the history has other columns")
        for value in row.values():
            _finite(value)
    return history


def _means(state: Any, history: list[dict[str, float]]) -> Means:
    """The means of the epoch in hand, of columns that the history has."""
    for name, (total, count) in state.items():
        if (history and name not in history[0]) or not _natural(count):
            raise ValueError(f"the mean of {name} has no column")
        _finite(total)
    return Means(state)


def _part(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
