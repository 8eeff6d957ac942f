"""The command line: `minivae ...`, the same as `python -m minivae ...`.

Exit codes: 0 done, 1 failed, 2 bad input (one sentence on stderr), 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from minivae import backend, blas, commands, data, models, runs
from minivae.errors import InputError, NotFinite
from minivae.options import LARGEST


class Parser(argparse.ArgumentParser):
    """Bad usage is one sentence, with the command that shows the help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minivae: {message}; see '{self.prog} --help'.\n")


MOST_DRAWN = 1000  # images in a figure
MOST = 100_000_000  # of what is counted: the size of an array is a product of two or three, and fits into 64 bits


def at_least(low: int, most: int = MOST) -> Callable[[str], int]:
    """A whole number from low to most."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is too small: give a whole number of at least {low}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{value} is too large: give a whole number of at most {most:,}")
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


def at_least_zero(text: str) -> float:
    """A number of at least 0."""
    if text.strip("0.") == "" and "0" in text:
        return 0.0
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace("above 0", "of at least 0")) from None


def number_or_word(text: str) -> float | str:
    """A number, where it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def parser() -> Parser:
    """All subcommands with their options."""
    top = Parser(prog="minivae", description="Train and look at autoencoders, VAEs and VQ-VAEs, on NumPy or CuPy.")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = Parser(add_help=False)
    common.add_argument("--backend", metavar="NAME", help="numpy (default), cupy for an NVIDIA GPU, cupy:1, or auto")
    common.add_argument("--tf32", action="store_true", help="let a GPU round the factors of matrix products to 10 bits")
    threads = f"threads on which BLAS computes (default: one for each core, at most {blas.MOST_THREADS})"
    common.add_argument("--threads", type=at_least(1), metavar="N", help=threads)
    on_run = Parser(add_help=False, parents=[common])
    on_run.add_argument("run", type=Path, help="a run, such as runs/vae-glyphs, its model.npz, or what was exported")
    data_help = f"{', '.join(data.NAMES)}, or the path of a folder of images, an .npy or an .npz"
    on_data = Parser(add_help=False, parents=[on_run])
    seeded = Parser(add_help=False)
    seeded.add_argument("--seed", type=at_least(0, LARGEST), default=0, help="of what is drawn (default 0)")
    on_data.add_argument("--data", help=f"{data_help} (default: what it was trained on)")

    def add(
        name: str, function: Callable[[argparse.Namespace], None], parent: Parser, text: str, *more: Parser
    ) -> argparse.ArgumentParser:
        command = subparsers.add_parser(
            name, parents=[parent, *more], help=text, description=text[0].upper() + text[1:] + "."
        )
        command.set_defaults(function=function)
        return command

    p = add("train", runs.train, common, "train a model; leave weights, metrics and figures in a folder")
    p.add_argument("model", nargs="?", help=f"what to train: {', '.join(models.MODELS)}")
    p.add_argument("--data", help=f"{data_help} (default glyphs, which needs no download)")
    p.add_argument(
        "--out", type=Path, help="the folder to write (default runs/MODEL-DATA); an earlier run is moved aside"
    )
    p.add_argument("--of", type=Path, metavar="RUN", help="of a prior: the run of the vqvae whose codes it learns")
    p.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with a run that was stopped, to the bits of one that was not"
    )
    _add_training_options(p)
    _add_model_arguments(p)

    p = add(
        "evaluate", commands.evaluate, on_data, "print a trained model's loss; of a VAE a tighter bound too", seeded
    )
    p.add_argument("--samples", type=at_least(1), help="K of the importance-weighted bound (default 50)")

    def add_figure(
        name: str, function: Callable[[argparse.Namespace], None], parent: Parser, text: str, count: int, *more: Parser
    ) -> argparse.ArgumentParser:
        p = add(name, function, parent, text, *more)
        p.add_argument("--count", type=at_least(1, MOST_DRAWN), default=count, help=f"how many (default {count})")
        p.add_argument("--out", type=Path, help="the PNG to write (default in the run's folder)")
        return p

    p = add_figure("sample", commands.sample, on_run, "draw images from the prior of a trained model", 64, seeded)
    p.add_argument("--label", type=at_least(0), metavar="N", help="of this class alone, by a model that knows classes")
    text = "draw test images over their reconstructions"
    add_figure("reconstruct", commands.reconstruct, on_data, text, 20, seeded)
    add_figure("traverse", commands.traverse, on_data, "vary the latents of a test image, one at a time", 10)
    add_figure("interpolate", commands.interpolate, on_data, "draw what lies between pairs of test images", 6)

    p = add("encode", commands.encode, on_data, "write the codes of images, with their labels, as .npz or .csv")
    p.add_argument("--split", choices=("train", "test"), default="test", help="which images (default test)")
    p.add_argument("--out", type=Path, help="the .npz or .csv to write (default codes.npz in the run's folder)")

    p = add("export", commands.export, common, "write a trained model's weights as .safetensors, for PyTorch and back")
    p.add_argument("run", type=Path, help="a run, such as runs/vae-glyphs, or its model.npz")
    p.add_argument("--out", type=Path, help="the file to write (default model.safetensors in the run's folder)")
    p = add(
        "metrics", commands.metrics, on_data, "measure how well each latent follows one factor of the images", seeded
    )
    p.add_argument("--samples", type=at_least(100), default=10_000, help="test images, at random (default 10000)")

    p = add(
        "outliers", commands.outliers, on_data, "tell strange images from the run's own by the model's scores", seeded
    )
    p.add_argument("--against", required=True, metavar="DATA", help=f"the strange images: {data_help}")
    p.add_argument("--out", type=Path, help="the PNG to write (default outliers.png in the run's folder)")

    for name, function, text in (
        ("compress", _compress, "write images as the entropy-coded codes of a vqvae, vqvae2 or prior"),
        ("decompress", _decompress, "read such a file, and write the decoded images"),
    ):
        p = add(name, function, common, text)
        what = "an image, an .npy or a folder of images" if name == "compress" else "a file that compress wrote"
        p.add_argument("file", type=Path, metavar="FILE", help=what)
        p.add_argument("--run", type=Path, required=True, help="the folder of the run that codes and decodes")
        p.add_argument("--out", type=Path, help="the file to write (default FILE.mvae, or FILE.decoded.png or .npy)")

    p = add("gradcheck", commands.gradcheck, common, "check every op, layer and model loss against finite differences")
    p.add_argument("--op", nargs="+", metavar="NAME", help="only these, such as matmul or nn.Linear (default all)")
    p.add_argument("--examples", type=at_least(1), default=50, help="drawn inputs for each (default 50)")
    p.add_argument("--seed", type=at_least(0, LARGEST), default=0, help="of the inputs (default 0)")

    add("info", commands.info, common, "show versions, backend, BLAS and its kernel, threads and GPU")
    return top


def _add_training_options(p: argparse.ArgumentParser) -> None:
    """The fields of Options and Saving, by the same names. What is not given is left to them."""
    p.add_argument("--epochs", type=at_least(1), help="passes over the training images (default 10)")
    p.add_argument("--batch-size", type=at_least(1), help="images a step (default 128)")
    p.add_argument("--lr", type=positive, help="the learning rate (default 0.001)")
    p.add_argument("--lr-schedule", help="constant (default), or cosine for a fall to 0")
    p.add_argument("--optimizer", help="adam (default), adamw, adamax, adagrad or sgd")
    p.add_argument("--clip", type=positive, metavar="NORM", help="the largest norm of the gradient (default: any)")
    p.add_argument("--binarize", action="store_true", default=None, help="draw pixels anew as 0 or 1 at every step")
    p.add_argument("--anneal", type=at_least(0), metavar="EPOCHS", help="beta, or the capacity, rises from 0 in these")
    p.add_argument("--inner-steps", type=at_least(0), metavar="N", help="of the encoder alone, at most, before a step")
    p.add_argument("--seed", type=at_least(0, LARGEST), help="of weights, order and noise (default 0)")
    p.add_argument("--on-nan", help="stop (default) at a loss that is not finite, or skip the step")
    capture = "replay the step as a CUDA graph (experimental)"
    p.add_argument("--capture", action=argparse.BooleanOptionalAction, default=None, help=capture)
    p.add_argument("--save-every", metavar="N", help="checkpoints: each N epochs, or with an m minutes (default 1)")
    p.add_argument("--keep", type=at_least(1), metavar="N", help="how many of the last checkpoints (default 1)")
    p.add_argument("--keep-best", action="store_true", default=None, help="the one of the lowest test loss too")


def _add_model_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of the models' builders, by the same names. What is not given is left to the builder."""
    group = p.add_argument_group("the model", "each model takes some of these; the README's table of models says which")
    whole, several = {"type": at_least(1)}, {"type": at_least(1), "nargs": "+"}
    arguments: dict[str, tuple[dict[str, Any], str]] = {
        "arch": ({}, "dense or conv"),
        "hidden": ({"type": at_least(1), "nargs": "*"}, "widths of the hidden layers; none: linear"),
        "channels": (several, "channels of the convolutions, each of which halves the image"),
        "residual_blocks": ({"type": at_least(0)}, "residual blocks between the convolutions and the codes"),
        "activation": ({}, "relu, tanh, elu, gelu, silu, sigmoid or leaky-relu"),
        "latent": (whole, "dimensions of the code"),
        "latents": (several, "of hvae: dimensions of its layers of codes, that beside the image first"),
        "likelihood": ({}, "bernoulli, gaussian, logistic, squared-error or multinomial"),
        "variance": ({"type": number_or_word}, "of a gaussian likelihood: a number, shared or pixel; vaegan: a number"),
        "beta": ({"type": at_least_zero}, "weight of the KL; of beta-tcvae: of the total correlation"),
        "alpha": ({"type": at_least_zero}, "of beta-tcvae: weight of the mutual information"),
        "gamma": ({"type": at_least_zero}, "weight: beta-tcvae, dimension-wise KL; factorvae, TC; vaegan, features"),
        "penalty": ({"type": at_least_zero}, "of wae: weight of the MMD"),
        "noise": ({"type": at_least_zero}, "of gan: standard deviation of what is added to all that the judge sees"),
        "judge": (several, "of factorvae: widths of the discriminator's hidden layers"),
        "free_bits": ({"type": at_least_zero}, "nats of KL for each latent that cost nothing"),
        "capacity": ({"type": at_least_zero}, "nats to which the KL is drawn, by beta |KL - C|"),
        "samples": (whole, "z for each image over which the loss is averaged"),
        "kl": ({}, "analytic or monte-carlo"),
        "k": (whole, "z for each image of the importance-weighted bound"),
        "flow": ({}, "planar or iaf: steps that bend the posterior"),
        "corruption": ({}, "masking, gaussian, salt-and-pepper, central, block or region"),
        "level": ({"type": positive}, "how much of it: a probability, a standard deviation, a part of the side"),
        "quantizer": ({}, "ema, gradient or fsq"),
        "codes": (whole, "vectors in the codebook"),
        "dim": (whole, "dimensions of a vector"),
        "levels": (several, "of fsq: the levels of each dimension"),
        "commitment": ({"type": at_least_zero}, "weight of the commitment term"),
        "decay": ({"type": positive}, "of the running means of ema"),
        "restart": ({"type": at_least_zero}, "a code used less than this share of evenly is drawn anew; 0: never"),
        "estimator": ({}, "straight-through or rotation"),
        "depth": ({"type": at_least(0)}, "steps of a flow; of vqvae2: maps of codes, each of half the one below"),
        "width": (whole, "of a prior: channels of its masked convolutions"),
        "layers": (whole, "of a prior: layers of masked convolutions"),
        "kernel": (whole, "of a prior: the side of their kernels, odd"),
        "classes": (whole, "how many classes a prior is told, by default none; of cvae: those of the data"),
        "quadrants": (whole, "of completion: how many of an image's quadrants are seen, 1, 2 or 3"),
    }
    for name, (options, text) in arguments.items():
        group.add_argument(f"--{name.replace('_', '-')}", help=text, **options)
    p.set_defaults(model_arguments=tuple(arguments))


def _compress(args: argparse.Namespace) -> None:
    from minivae.compression import commands

    commands.compress(args)


def _decompress(args: argparse.Namespace) -> None:
    from minivae.compression import commands

    commands.decompress(args)


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        args = parser().parse_args(argv)
        if args.backend or args.tf32:
            backend.use(args.backend, args.tf32)
        backend.current()
        if args.threads:
            blas.set_threads(args.threads)
            backend.set_threads(args.threads)
        args.function(args)
        sys.stdout.flush()  # here, where it can be told whether a reader is there
    except InputError as error:
        print(f"minivae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:  # of a run, with the signal's number
        return 128 + int(*stop.args or (signal.SIGINT,))
    except commands.CheckFailed as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads the output has gone, as in `minivae info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it flushes
        return 1
    except (NotFinite, OSError) as error:  # a training that fails, a full disk, a file taken away
        if isinstance(error, OSError) and error.strerror and error.filename:
            error = OSError(
                f"'{error.filename}': {error.strerror.lower()}; make room, or give permission or another name"
            )
        print(f"minivae: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"minivae: {backend.shortage(error)}", file=sys.stderr)
        return 1
    return 0
