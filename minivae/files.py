"""Where files are kept, and how they are written: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".unfinished-"  # how the names of temporary files begin


def cache_dir() -> Path:
    """The folder of downloaded and generated data: $MINIVAE_CACHE, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("MINIVAE_CACHE") or platformdirs.user_cache_dir("minivae"))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place at the end, and goes on failure.

    Where `path` is a link, it stays one, and what it leads to is replaced. The data are flushed to the disk before the
    rename, so that a crash at any instant leaves the old file or the new one, whole. Raises OSError with the file's
    name where there is no room or no permission.
    """
    temporary, target = None, Path(os.path.realpath(path))
    try:
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{target.name}-", suffix=path.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's own mode lets no one else read
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, os.strerror(error.errno), str(path)) from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)
