"""Where the files of public data sets are: a folder of yours, else the cache, else their source."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

from minivae.errors import InputError
from minivae.files import cache_dir


def own_folder(name: str) -> Path | None:
    """The folder of that data set under $MINIVAE_DATA, where there is one.

    Raises InputError if MINIVAE_DATA is set and names no folder.
    """
    setting = os.environ.get("MINIVAE_DATA")
    if not setting:
        return None
    if not os.path.isdir(setting):
        raise InputError(f"MINIVAE_DATA is '{setting}', which is no folder: correct or unset it.")
    folder = Path(setting, name)
    return folder if folder.is_dir() else None


def obtain(name: str, file: str, url: str, check: Callable[[io.BufferedIOBase], object]) -> Path:
    """A file of that data set: in its own folder where there is one, else in `<cache>/<name>/`.

    What the cache lacks is downloaded into it; check: as for `download`.
    Raises InputError where the own folder lacks it or the download fails.
    """
    own = own_folder(name)
    path = (own or cache_dir() / name) / file
    if path.exists():
        return path
    if own:
        raise InputError(f"'{own}' lacks {file}: add it, or unset MINIVAE_DATA to have the data downloaded.")
    from minivae.data.download import download  # costs 40 ms: only those who download pay

    return download([url], path, None, f"{name} {file}", check)
