"""What the numbered demos share: their arguments, their data, and one clear sentence for bad input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from minivae import backend, data
from minivae.data import Dataset
from minivae.errors import InputError


def run(
    main: Callable[[Dataset, int, Path], None], doc: str, train: int, epochs: int, test: int = 2000,
    source: str = "glyphs",
) -> None:  # fmt: skip
    """main(dataset, epochs, path) as the command line asks: --data, --train, --epochs, --out.

    doc: the demo's docstring, its --help. train, test: how many images of each split; source: what --data is by
    default; path: where its figure goes, OUT/NN_name.png, in a folder that exists. Bad input ends the program with one
    sentence and the code 2.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=source, help=f"{source} (default), or images of that kind, as mnist to glyphs"
    )
    parser.add_argument("--train", type=int, default=train, help=f"how many training images (default {train})")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"how often each is seen (default {epochs})")
    parser.add_argument("--out", type=Path, default=Path("runs/demos"), help="folder of the figures")
    args = parser.parse_args()
    try:
        for name, value in (("train", args.train), ("epochs", args.epochs)):
            if value < 1:
                raise InputError(f"--{name} {value} trains nothing: give a whole number of at least 1.")
        dataset = data.load(args.data)
        dataset = replace(dataset, train=dataset.train[: args.train], test=dataset.test[:test])
        args.out.mkdir(parents=True, exist_ok=True)
        backend.manual_seed(0)
        main(dataset, args.epochs, args.out / f"{Path(sys.argv[0]).stem}.png")
    except (InputError, OSError) as error:
        print(f"minivae: {error}", file=sys.stderr)
        sys.exit(2)
