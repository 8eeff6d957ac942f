"""The command line: `minivae ...`, the same as `python -m minivae ...`.

Exit codes: 0 done, 1 failed, 2 bad input (one sentence on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from minivae import backend
from minivae.errors import InputError


class Parser(argparse.ArgumentParser):
    """Bad usage is one sentence, with the command that shows the help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minivae: {message}; see '{self.prog} --help'.\n")


def at_least(low: int) -> Callable[[str], int]:
    """A whole number of at least low."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is too small: give a whole number of at least {low}")
        return value

    return integer


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is out of range: give a number above 0")
    return value


def parser() -> Parser:
    """All subcommands with their options."""
    top = Parser(prog="minivae", description="Train and look at variational autoencoders, on NumPy or CuPy.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = Parser(add_help=False)
    common.add_argument("--backend", metavar="NAME", help="numpy (default) or cupy, for an NVIDIA GPU")
    on_run = Parser(add_help=False, parents=[common])
    on_run.add_argument("run", type=Path, help="the folder of a run, such as runs/vae-glyphs, or a model.npz")
    on_run.add_argument("--seed", type=at_least(0), default=0, help="of the noise (default 0)")
    data_help = "glyphs, mnist, fashion-mnist, or the path of a folder of images, an .npy or an .npz"

    def add(
        name: str, function: Callable[[argparse.Namespace], None], parent: Parser, text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[parent], help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=function)
        return command

    p = add("train", train, common, "train a model; leave weights, metrics and figures in a folder")
    p.add_argument("model", help="what to train: vae")
    p.add_argument("--data", default="glyphs", help=f"{data_help} (default glyphs, which needs no download)")
    p.add_argument(
        "--out", type=Path, help="the folder to write (default runs/MODEL-DATA); an earlier run is moved aside"
    )
    p.add_argument("--epochs", type=at_least(1), default=10, help="passes over the training images (default 10)")
    p.add_argument("--batch-size", type=at_least(1), default=128, help="images a step (default 128)")
    p.add_argument("--lr", type=positive, default=1e-3, help="the learning rate (default 0.001)")
    p.add_argument("--optimizer", default="adam", help="adam (default), adamw, adamax, adagrad or sgd")
    p.add_argument("--clip", type=positive, metavar="NORM", help="the largest norm of the gradient (default: any)")
    p.add_argument(
        "--hidden", type=at_least(1), nargs="+", default=[400], help="widths of the hidden layers (default 400)"
    )
    p.add_argument("--latent", type=at_least(1), default=20, help="dimensions of the code z (default 20)")
    p.add_argument("--binarize", action="store_true", help="draw pixels anew as 0 or 1 at every step")
    p.add_argument("--seed", type=at_least(0), default=0, help="of weights, order and noise (default 0)")

    p = add("evaluate", evaluate, on_run, "print the ELBO of a trained model and a tighter bound of log p(x)")
    p.add_argument("--data", help=f"{data_help} (default: what it was trained on)")
    p.add_argument("--samples", type=at_least(1), default=50, help="K of the importance-weighted bound (default 50)")

    p = add("sample", sample, on_run, "draw images from the prior of a trained model")
    p.add_argument("--count", type=at_least(1), default=64, help="how many (default 64)")
    p.add_argument("--out", type=Path, help="the PNG to write (default samples.png in the run's folder)")

    p = add("reconstruct", reconstruct, on_run, "draw test images over their reconstructions")
    p.add_argument("--data", help=f"{data_help} (default: what it was trained on)")
    p.add_argument("--count", type=at_least(1), default=20, help="how many (default 20)")
    p.add_argument("--out", type=Path, help="the PNG to write (default reconstructions.png in the run's folder)")

    add("info", info, common, "show versions, backend, BLAS and its kernel, threads and GPU")
    return top


def train(args: argparse.Namespace) -> None:
    from minivae import data, models, report
    from minivae.files import atomic_write
    from minivae.train import Options, Trainer

    if args.model not in models.MODELS:
        raise InputError(f"unknown model '{args.model}': choose one of {', '.join(models.MODELS)}.")
    options = Options(args.epochs, args.batch_size, args.lr, args.optimizer, args.seed, args.binarize, args.clip)
    dataset = data.load(args.data)
    arguments = {"shape": dataset.shape, "hidden": args.hidden, "latent": args.latent}
    backend.manual_seed(args.seed)
    model = models.build(args.model, **arguments)
    out = _run_folder(args.out or Path("runs") / f"{args.model}-{dataset.name}")
    print(f"{args.model} on {dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} test images")
    print(model, flush=True)
    config = {"model": args.model, "arguments": arguments, "data": str(args.data), "options": vars(options)}
    with atomic_write(out / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")
    trainer = Trainer(model, dataset, options, (args.model, arguments), str(args.data))
    trainer.run(out)
    if trainer.interrupted:
        print(f"minivae: stopped; the checkpoint is {out / 'model.npz'}", file=sys.stderr)
        raise KeyboardInterrupt
    report.figures(model, dataset, trainer.history, out)
    print(f"{out}/: " + ", ".join(sorted(path.name for path in out.iterdir())))


def _run_folder(out: Path) -> Path:
    """A folder that can be written. An earlier run in it is moved to the next free name, OUT.1, OUT.2, ..."""
    try:
        if (out / "config.json").exists():
            n = 1
            while (aside := out.with_name(f"{out.name}.{n}")).exists():
                n += 1
            out.rename(aside)
            print(f"the earlier run was moved to {aside}")
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError("no permission")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the folder '{out}' cannot be written ({reason}): name another with --out.") from None
    return out


def _load(args: argparse.Namespace) -> tuple[Any, dict[str, Any], Path]:
    """The model of a run, its header, and the run's folder."""
    from minivae import checkpoint

    path = args.run / "model.npz" if args.run.is_dir() else args.run
    model, header = checkpoint.load_model(path)
    return model, header, path.parent


def _data(args: argparse.Namespace, header: dict[str, Any]) -> Any:
    """The data set to look at, with images of the model's shape."""
    from minivae import data

    dataset = data.load(args.data or header["data"])
    shape = tuple(header["arguments"]["shape"])
    if dataset.shape != shape:
        raise InputError(
            f"the images of '{args.data or header['data']}' have shape {dataset.shape}, but the model in '{args.run}' "
            f"was trained on {shape}: choose data of that shape with --data."
        )
    return dataset


def _writable(path: Path) -> Path:
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"'{path}' cannot be written: name a file in a folder that exists and can be, with --out.")
    return path


def evaluate(args: argparse.Namespace) -> None:
    from minivae.train import evaluate

    model, header, _ = _load(args)
    dataset = _data(args, header)
    means = evaluate(model, dataset.test, binarize=header["options"]["binarize"], samples=args.samples, seed=args.seed)
    print(f"{header['model']} on {dataset.name}, {len(dataset.test):,} test images, nats per image")
    print(f"  ELBO                     {-means.pop('loss'):10.2f}")
    bound = means.pop("nll")
    for name, value in means.items():
        print(f"    {name:22} {value:10.2f}")
    print(f"  log p(x) at least        {-bound:10.2f}   (importance-weighted, K = {args.samples})")


def sample(args: argparse.Namespace) -> None:
    from minivae import report

    model, _, folder = _load(args)
    path = _writable(args.out or folder / "samples.png")
    report.samples(model, args.count, path, args.seed)
    print(path)


def reconstruct(args: argparse.Namespace) -> None:
    from minivae import report

    model, header, folder = _load(args)
    path = _writable(args.out or folder / "reconstructions.png")
    report.reconstructions(model, _data(args, header).test, path, args.count)
    print(path)


def info(args: argparse.Namespace) -> None:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from threadpoolctl import threadpool_info

    rows = {"minivae": version("minivae"), "Python": platform.python_version()}
    for package in ("numpy", "scipy", "matplotlib", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "not installed"
    rows["backend"] = f"{backend.current().name} ({backend.current().device()})"
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            rows["BLAS"] = f"{pool['internal_api']} {pool['version']}, kernels for {pool.get('architecture', '?')}"
            rows["threads"] = str(pool["num_threads"])
    try:
        rows["GPU"] = backend.CuPy().device()
    except InputError as error:
        rows["GPU"] = f"none: {error}"
    for name, value in rows.items():
        print(f"{name:14} {value}")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        args = parser().parse_args(argv)
        if args.backend:
            backend.use(args.backend)
        backend.current()
        args.function(args)
    except InputError as error:
        print(f"minivae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # a full disk, a file taken away
        print(f"minivae: {error}", file=sys.stderr)
        return 1
    return 0
