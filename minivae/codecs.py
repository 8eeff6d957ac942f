"""The VQ-VAE that a prior belongs to, its codec: found when a prior is trained, and kept with the prior's weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minivae import checkpoint, models
from minivae.errors import InputError


def asked(args: argparse.Namespace) -> tuple[dict[str, Any], str | None]:
    """Of `minivae train prior --of RUN`: the argument `codec` of the prior, and the data of that run.

    Nothing and None for other models. Raises InputError for a prior of nothing, and for other models with --of.
    """
    if (args.model == "prior") != (args.of is not None):
        raise InputError(
            "a prior is learnt from the codes of a trained vqvae or vqvae2: minivae train prior --of RUN."
            if args.of is None
            else f"--of {args.of} belongs to 'minivae train prior', not to {args.model}: leave it out."
        )
    if args.of is None:
        return {}, None
    if args.binarize:
        raise InputError("binarize draws pixels, but a prior trains on codes: leave it out.")
    model, header = checkpoint.load_model(path(args.of))
    if not isinstance(model, models.VQVAE | models.VQVAE2):
        raise InputError(f"'{args.of}' is a {header['model']}, which has no codes: give the run of a vqvae or vqvae2.")
    codec = {"run": str(args.of.absolute()), "model": header["model"], "arguments": header["arguments"]}
    return {"codec": codec}, header["data"]


def attach(model: Any, dataset: Any, arguments: dict[str, Any], arrays: dict[str, Any] | None) -> Any:
    """Give a prior its codec's weights; returns the codes of the images of dataset, on which it trains.

    arrays: of the prior's checkpoint, where it goes on from one; else the weights are those of the codec's own run.
    """
    codec = arguments["codec"]
    prefix = "model." if arrays is None else "model.codec."
    if arrays is None:
        _, arrays = checkpoint.load(path(Path(codec["run"])))
    model.codec.load_state_dict({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
    return model.examples(dataset)


def check_shape(dataset: Any, codec: dict[str, Any]) -> None:
    """Raise InputError where the images are of another shape than those of the codec."""
    if dataset.shape != tuple(codec["arguments"]["shape"]):
        raise InputError(
            f"the images of '{dataset.name}' have shape {dataset.shape}, but those of '{codec['run']}' "
            f"{tuple(codec['arguments']['shape'])}: choose data of that shape with --data."
        )


def path(run: Path) -> Path:
    """The checkpoint of a run's folder, or the one that is named."""
    return run / "model.npz" if run.is_dir() else run
