"""The folder of a run: how it is taken, what was asked for, and whether what was done is still there."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minivae.errors import InputError
from minivae.files import atomic_write, clear
from minivae.lock import NAME, Lock
from minivae.options import Saving


def new_folder(out: Path) -> tuple[Lock, Path | None]:
    """A folder for a run, held, and where the earlier run in it was moved to: the next free name, OUT.1, OUT.2, ..."""
    ours = {"config.json", "model.npz", "metrics.csv"}
    lock = Lock(out)
    there = ours & {path.name for path in out.iterdir()}
    foreign = there or {path.name for kind in ("*.png", "*.npz") for path in out.glob(kind)}  # as a run leaves them
    if foreign and not _is_run(out):
        lock.release()
        raise InputError(f"'{out}' has a {min(foreign)} that is of no run: name another folder with --out.")
    if not there:
        clear(out)
        return lock, None
    n = 1
    while (aside := out.with_name(f"{out.name}.{n}")).exists():
        n += 1
    try:
        out.rename(aside)
    except OSError as error:
        lock.release()
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the earlier run '{out}' cannot be moved ({reason}): name another with --out.") from None
    print(f"the earlier run was moved to {aside}")
    lock.release(aside / NAME)
    return Lock(out), aside


def _is_run(folder: Path) -> bool:
    """Whether the config.json of a folder is one that `minivae train` wrote; where it is gone, its checkpoint tells."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        return (folder / "model.npz").is_file()
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"model", "arguments", "data", "options"} <= config.keys()


def check_unsaved(folder: Path, path: Path) -> None:
    """Raise InputError unless a run without this checkpoint was stopped before its first one.

    metrics.csv is written before a checkpoint, so that it may have a row more than epochs are saved.
    """
    others = sorted(other.name for kept in ("model-*.npz", "best.npz") for other in folder.glob(kept) if other != path)
    config, metrics = folder / "config.json", folder / "metrics.csv"
    if not config.is_file() and not others:
        raise InputError(f"there is no run to resume in '{folder}': give the folder that 'minivae train' wrote.")
    saving = read_config(config).get("saving") if config.is_file() else None
    every = str(saving.get("every")) if isinstance(saving, dict) else "1"
    epochs = len(metrics.read_text(errors="replace").splitlines()) - 1 if metrics.is_file() else 0
    saved = every.isdecimal() and epochs > int(every)
    if path.name != "model.npz" or path.exists() or saved or not config.is_file():
        name = f"name another of its checkpoints, such as {folder / others[0]}" if others else "train anew"
        raise InputError(
            f"there is no checkpoint '{path}', without which what was done is lost: put it back, or {name}."
        )


def write_config(out: Path, trainer: Any, saving: Saving) -> None:
    name, arguments = trainer.spec
    config = {"model": name, "arguments": arguments, "data": trainer.source}
    config |= {"options": asdict(trainer.options), "saving": asdict(saving)}
    with atomic_write(out / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"'{path}' does not say how to train: train anew.")
    return config
