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

    The data are flushed to the disk before the rename, so that a crash at any instant leaves the
    old file or the new one, whole. Raises OSError with the file's name where there is no room or no permission.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's own mode lets no one else read
        os.replace(temporary, path)
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
