"""`minivae compress` and `minivae decompress`: images to files of codes, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from minivae import checkpoint, codecs, compression, data
from minivae.commands import writable
from minivae.errors import InputError
from minivae.files import atomic_write


def compress(args: argparse.Namespace) -> None:
    """An image, or a file or a folder of images, as a file of entropy-coded codes."""
    model, header = checkpoint.load_model(codecs.path(args.run))
    path = writable(args.out or Path(f"{args.file}.mvae"), ".mvae")
    images = data.read_images(args.file)
    if images.shape[1:] != tuple(header["arguments"]["shape"]):
        raise InputError(
            f"the images of '{args.file}' have shape {images.shape[1:]}, but the model in '{args.run}' was trained on "
            f"{tuple(header['arguments']['shape'])}, channels, height and width: make them alike, or give another "
            "run with --run."
        )
    images = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    made = compression.compress(model, images)
    with atomic_write(path) as temporary:
        temporary.write_bytes(made.data)
    error = float(((compression.images_of(model, made.codes, images.shape[1:]) - images) ** 2).mean())
    n = len(images)
    print(
        f"{path}: {n:,} {'image' if n == 1 else 'images'} in {len(made.data):,} bytes, {8 * len(made.data) / n:.1f} "
        f"bits each; their codes have {made.bits / n:.1f} bits each; mean squared error {error:.5f}"
    )


def decompress(args: argparse.Namespace) -> None:
    """The images of a compressed file: a PNG of one, an .npy of several."""
    model, _ = checkpoint.load_model(codecs.path(args.run))
    try:
        compressed = args.file.read_bytes()
    except OSError as error:
        raise InputError(
            f"'{args.file}' cannot be read ({error.strerror}): give a file of 'minivae compress'."
        ) from None
    codes = compression.decompress(model, compressed, str(args.file))
    images = compression.images_of(model, codes, compression.shape_of(compressed))
    levels = np.rint(images * 255).astype(np.uint8)
    path = writable(args.out or args.file.with_suffix(f".decoded{'.png' if len(levels) == 1 else '.npy'}"))
    if path.suffix not in (".npy", ".png") or (path.suffix == ".png" and len(levels) > 1):
        raise InputError(f"'{path}' cannot hold {len(levels)} images: name an .npy, or a .png for one image.")
    with atomic_write(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, levels)
        else:
            from PIL import Image

            Image.fromarray(levels[0, 0] if levels.shape[1] == 1 else levels[0].transpose(1, 2, 0)).save(temporary)
    print(f"{path}: {len(levels):,} {'image' if len(levels) == 1 else 'images'} of shape {levels.shape[1:]}")
