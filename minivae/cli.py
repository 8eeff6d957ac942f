"""The command line: `minivae ...`, the same as `python -m minivae ...`.

Exit codes: 0 done, 1 failed, 2 bad input (one sentence on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from minivae import backend, commands
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
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = Parser(add_help=False)
    common.add_argument("--backend", metavar="NAME", help="numpy (default) or cupy, for an NVIDIA GPU")
    on_run = Parser(add_help=False, parents=[common])
    on_run.add_argument("run", type=Path, help="the folder of a run, such as runs/vae-glyphs, or a model.npz")
    on_run.add_argument("--seed", type=at_least(0), default=0, help="of the noise (default 0)")
    data_help = "glyphs, mnist, fashion-mnist, or the path of a folder of images, an .npy or an .npz"

    def add(
        name: str, function: Callable[[argparse.Namespace], None], parent: Parser, text: str
    ) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, parents=[parent], help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=function)
        return command

    p = add("train", commands.train, common, "train a model; leave weights, metrics and figures in a folder")
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

    p = add("evaluate", commands.evaluate, on_run, "print the ELBO of a trained model and a tighter bound of log p(x)")
    p.add_argument("--data", help=f"{data_help} (default: what it was trained on)")
    p.add_argument("--samples", type=at_least(1), default=50, help="K of the importance-weighted bound (default 50)")

    p = add("sample", commands.sample, on_run, "draw images from the prior of a trained model")
    p.add_argument("--count", type=at_least(1), default=64, help="how many (default 64)")
    p.add_argument("--out", type=Path, help="the PNG to write (default samples.png in the run's folder)")

    p = add("reconstruct", commands.reconstruct, on_run, "draw test images over their reconstructions")
    p.add_argument("--data", help=f"{data_help} (default: what it was trained on)")
    p.add_argument("--count", type=at_least(1), default=20, help="how many (default 20)")
    p.add_argument("--out", type=Path, help="the PNG to write (default reconstructions.png in the run's folder)")

    p = add("gradcheck", commands.gradcheck, common, "check every op, layer and model loss against finite differences")
    p.add_argument("--op", nargs="+", metavar="NAME", help="only these, such as matmul or nn.Linear (default all)")
    p.add_argument("--examples", type=at_least(1), default=50, help="drawn inputs for each (default 50)")
    p.add_argument("--seed", type=at_least(0), default=0, help="of the inputs (default 0)")

    add("info", commands.info, common, "show versions, backend, BLAS and its kernel, threads and GPU")
    return top


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
    except commands.CheckFailed as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a file taken away
        print(f"minivae: {error}", file=sys.stderr)
        return 1
    return 0
