"""`minivae train`: a run is a folder with what was asked for, the metrics, the checkpoints and the figures."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from minivae import backend, checkpoint
from minivae.errors import InputError, printable
from minivae.files import clear
from minivae.folders import check_unsaved, new_folder, read_config, write_config
from minivae.lock import Lock
from minivae.options import Options, Saving

SAVING = {"save_every": "every", "keep": "keep", "keep_best": "best"}  # options of the command line, fields of Saving


def train(args: argparse.Namespace) -> None:
    """Train from the beginning, or with --resume from where a run was stopped."""
    from minivae import report
    from minivae.progress import write_metrics

    trainer, saving, lock, earlier = (*_resumed(args), None) if args.resume else _begun(args)
    out = lock.path.parent
    try:
        write_config(out, trainer, saving)
        write_metrics(out / "metrics.csv", trainer.history)  # without the epochs that are to be done again
        try:
            trainer.run(out, saving)
        except InputError:  # such as more codes than vectors: known when the first batch is encoded
            if not trainer.saved:
                (out / "config.json").unlink()
            raise
        if trainer.interrupted:
            go_on = f"go on with: minivae train --resume {out}"
            print(f"minivae: stopped; the checkpoint is {out / 'model.npz'}; {go_on}", file=sys.stderr)
            raise KeyboardInterrupt(trainer.signal)
        report.figures(trainer.model, trainer.dataset, trainer.history, out)
    except OSError as error:
        if error.filename is None:  # no file of the run: a pipe that was closed
            raise
        reason = (error.strerror or str(error)).lower()
        raise OSError(
            f"'{error.filename}' could not be written ({reason}), what was there before is whole: make room or "
            f"give permission, then go on with: minivae train --resume {out}"
        ) from None
    finally:
        lock.release()
        with suppress(OSError):  # where nothing is in it
            out.rmdir()
            if earlier:
                earlier.rename(out)
                print(f"the earlier run was moved back to {out}")
    print(f"{out}/: " + ", ".join(sorted(path.name for path in out.iterdir())))


def _begun(args: argparse.Namespace) -> tuple[Any, Saving, Lock, Path | None]:
    """The trainer of a new run, its folder, held, and where an earlier run was moved that was there."""
    from minivae import codecs, data, models

    if args.model is None:
        raise InputError(f"there is no model to train: name one of {', '.join(models.MODELS)}, or a run to --resume.")
    codec, source = codecs.asked(args)
    given = _given(args, args.model_arguments) | codec
    models.check_used(args.model, given)  # before the data, which may take a while
    options, saving = Options(**_given(args, _names(Options))), Saving(**_saving(args))
    source = args.data if args.data is not None else source or "glyphs"
    dataset, source = data.load(source), _lasting(source)
    arguments = models.arguments(args.model, **_facts(args.model, dataset) | given)
    trainer = _trainer(args.model, arguments, dataset, options, source)
    out = args.out or Path("runs") / f"{args.model}-{dataset.name}"
    if Path(source).is_dir() and Path(source).resolve() in (out.resolve(), out.resolve().parent):
        raise InputError(f"'{out}' holds the data, or would be one of their classes: name another folder with --out.")
    lock, earlier = new_folder(out if out.name else out.resolve())
    print(f"{args.model} on {dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} test images")
    print(trainer.model, flush=True)
    return trainer, saving, lock, earlier


def _resumed(args: argparse.Namespace) -> tuple[Any, Saving, Lock]:
    """The trainer of a run that was stopped, as it was at its checkpoint, and its folder, held."""
    from minivae import data, resume

    folder, path = args.resume, args.resume / "model.npz"
    if args.resume.suffix == ".npz" and not args.resume.is_dir():
        folder, path = args.resume.parent, args.resume
    if not path.is_file():
        check_unsaved(folder, path)
    lock = Lock(folder, "make it writable, or copy it to where it is")
    try:
        clear(folder)
        if path.is_file():
            header, arrays = checkpoint.load(path)
        else:  # it was stopped before its first checkpoint
            path = folder / "config.json"
            header, arrays = read_config(path), None
        name, arguments, options, saving = _settings(args, header, path)
        source = args.data or header["data"]
        dataset, source = data.load(source), _lasting(source)
        if arguments.get("shape") != list(dataset.shape):
            raise InputError(
                f"the images of '{source}' have shape {dataset.shape}, but '{path}' is for {arguments.get('shape')}: "
                "name those that it was begun with by --data."
            )
        if arrays is not None:
            # for nothing but to refuse what does not fit
            checkpoint.build(path, header, checkpoint.model_state(arrays))
        try:
            trainer = _trainer(name, arguments, dataset, options, source, arrays)
        except Exception as error:  # of the builders, for arguments that the command line would have refused
            raise InputError(
                f"'{path}' does not say how to train ({error or type(error).__name__}): train anew."
            ) from None
        if arrays is not None:
            resume.restore(trainer, header, arrays, path)
        if trainer.epoch > options.epochs + 1:
            raise InputError(f"{trainer.epoch - 1} epochs of '{folder}' are done, more than --epochs {options.epochs}.")
        _say_where(trainer, header, dataset, folder)
    except BaseException:
        lock.release()
        raise
    return trainer, saving, lock


def _settings(
    args: argparse.Namespace, header: dict[str, Any], path: Path
) -> tuple[str, dict[str, Any], Options, Saving]:
    """What a checkpoint was asked for, with what may be given anew. InputError names what may not."""
    header.setdefault("versions", {})
    checkpoint.check_header(path, header, model=str, arguments=dict, data=str, options=dict, versions=dict)
    name, arguments = header["model"], header["arguments"]
    checkpoint.check_arguments(path, name, arguments)
    try:
        options, saving = Options(**header["options"]), Saving(**header.get("saving", {}))
    except TypeError:
        raise InputError(f"'{path}' does not say how it was trained, so that none can go on: train anew.") from None
    except InputError as error:
        raise InputError(f"'{path}' does not say how it was trained: {error}") from None
    if args.of is not None:
        raise InputError(f"--of {args.of} cannot be given with --resume: the run knows whose codes it learns.")
    if args.out is not None:
        raise InputError(f"--out {args.out} cannot be given with --resume, which goes on in the run's own folder.")
    wanted = _given(args, args.model_arguments) | ({} if args.model is None else {"model": args.model})
    for key, value in wanted.items():
        before = name if key == "model" else arguments.get(key)
        if value != before:
            raise InputError(
                f"{key} {value} cannot be given to a run that was begun with {key} {before}, as it would change the "
                "result: leave it out, or train anew without --resume."
            )
    options = options.resumed(_given(args, _names(Options)))
    return name, arguments, options, replace(saving, **_saving(args))


def _say_where(trainer: Any, header: dict[str, Any], dataset: Any, folder: Path) -> None:
    from minivae.resume import versions

    if trainer.finished:
        done = f"all {trainer.options.epochs} epochs are done: the figures are drawn anew"
        print(f"{folder} is finished, {done}; to go on give more --epochs", flush=True)
        return
    where = f"epoch {trainer.epoch} of {trainer.options.epochs}, batch {trainer.batch + 1} of {len(trainer.batches)}"
    print(f"{trainer.spec[0]} on {dataset.name}: {folder} goes on at {where}", flush=True)
    now = versions()
    before = now | header["versions"]
    changed = [f"{name} {before[name]}, now {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        print(printable(f"minivae: begun with {', '.join(changed)}: the last bits may differ"), file=sys.stderr)
    if trainer.saved and not backend.current().eager:
        print("minivae: on this backend the noise goes on from a new seed, not as if never stopped", file=sys.stderr)


def _lasting(source: str) -> str:
    """A data set's name, or a path that holds for who looks at the run from another folder."""
    from minivae import data

    return source if source in data.NAMES else str(Path(source).absolute())


def _trainer(
    name: str, arguments: dict[str, Any], dataset: Any, options: Options, source: str, arrays: Any = None
) -> Any:
    from minivae import codecs, models
    from minivae.train import Trainer

    backend.manual_seed(options.seed)
    if "codec" in arguments:
        codecs.check_shape(dataset, arguments["codec"])
    model = models.build(name, **arguments)
    if isinstance(model, models.Prior):
        dataset = codecs.attach(model, dataset, arguments, arrays)
    return Trainer(model, dataset, options, (name, arguments), source)


def _given(args: argparse.Namespace, names: Any) -> dict[str, Any]:
    """The options of the command line that were given."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _saving(args: argparse.Namespace) -> dict[str, Any]:
    return {SAVING[name]: value for name, value in _given(args, SAVING).items()}


def _names(options: type) -> list[str]:
    return [field.name for field in fields(options)]


def _facts(name: str, dataset: Any) -> dict[str, Any]:
    """What a model's builder must know of the data."""
    from minivae import models

    facts = {"shape": dataset.shape}
    known = models.arguments(name)
    if "data_variance" in known:
        images = dataset.train.images
        scale = 255.0 if images.dtype.kind == "u" else 1.0
        facts["data_variance"] = float(images.var(dtype="float64")) / scale**2
    if "data_size" in known:
        facts["data_size"] = len(dataset.train)
    if known.get("classes") and dataset.classes:  # a prior knows none unless it is asked to
        facts["classes"] = len(dataset.classes)
    if dataset.vocabulary and "likelihood" in known:
        facts["likelihood"] = "multinomial"
    return facts
