"""One run at a time in a folder: a lock which the system takes back when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from minivae.errors import InputError

NAME = ".lock"


class Lock:
    """Holds a folder, which is made where it is missing, until release().

    The lock is the system's (flock) on a file with the number of the process; what kill -9 leaves is a file that
    nothing holds. Raises InputError where another process holds it, or the folder cannot be written. (On Windows,
    which has no flock, it holds nothing.)
    """

    def __init__(self, folder: Path, mend: str = "name another with --out"):
        self.path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
                if self._held() and self._current():
                    break
                os.close(self.file)  # of a run that ended between the two lines above: its file is gone
        except BlockingIOError:
            pid = os.read(self.file, 20).decode(errors="replace").strip()
            os.close(self.file)
            raise InputError(
                f"process {pid} is at work in the folder '{folder}': wait until it ends, or name another folder."
            ) from None
        except OSError as error:
            raise _unwritable(folder, error, mend) from None
        try:
            os.truncate(self.file, 0)
            os.write(self.file, f"{os.getpid()}\n".encode())
        except OSError as error:  # a full disk has no room for the number either
            self.release()
            raise _unwritable(folder, error, mend) from None

    def _held(self) -> bool:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    def _current(self) -> bool:
        """Whether the file that is locked is the one of that name."""
        try:
            return os.path.samestat(os.fstat(self.file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self, path: Path | None = None) -> None:
        """Give the folder free, and take the file away: from path, where the folder was renamed."""
        (path or self.path).unlink(missing_ok=True)
        os.close(self.file)


def _unwritable(folder: Path, error: OSError, mend: str) -> InputError:
    reason = (error.strerror or str(error)).lower()
    return InputError(f"the folder '{folder}' cannot be written ({reason}): {mend}.")
