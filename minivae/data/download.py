"""Fetching a file from the first of several mirrors that delivers it whole.

This is the only file that touches the network.
"""

from __future__ import annotations

import hashlib
import io
import os
import textwrap
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from minivae.data.idx import CHUNK, open_content
from minivae.errors import InputError
from minivae.files import atomic_write

TIMEOUT = 20.0  # seconds without a byte
MAX_BYTES = 256 << 20  # of what is sent and of what it expands to: five times the largest file


def download(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    sha256: str | None,
    description: str,
    check: Callable[[io.BufferedIOBase], object] | None = None,
    md5: str | None = None,
) -> Path:
    """Fetch a file to `path` from the first of `urls` (http or https) that delivers it.

    sha256: the sum of the uncompressed content in hex, which holds however a mirror compressed it;
    None where it is not known. check: reads the uncompressed content and raises ValueError where
    its format is wrong. md5: the sum of the file as it is sent, for a source which gives no other.
    Returns the path, where the file appears whole and verified, or not at all.
    Raises InputError, saying what happened with each mirror, if none delivers.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder '{path.parent}' for {description} ({error.strerror}): set "
            "MINIVAE_CACHE to a folder that can be written."
        ) from None
    failures = []
    for url in urls:
        try:
            with atomic_write(path) as temporary:
                _fetch(url, temporary, description)
                _verify(temporary, sha256)
                if md5:
                    _verify_md5(temporary, md5)
                if check:
                    with open_content(temporary) as stream:
                        check(stream)
        except Exception as error:  # of the network, the disk, gzip, zipfile, tarfile and the check: two dozen kinds
            reason = textwrap.shorten(str(error), 300) or type(error).__name__
            failures.append(f"{url}: {reason}")
        else:
            return path
    raise InputError(
        f"cannot download {description} ({'; '.join(failures)}): put {path.name} into "
        f"'{path.parent}', or set MINIVAE_DATA to a folder with {path.parent.name}/{path.name}."
    )


def _fetch(url: str, path: Path, description: str) -> None:
    """Stream a URL into a file, with a progress bar where someone watches."""
    from tqdm import tqdm

    with _opener().open(url, timeout=TIMEOUT) as response, path.open("wb") as file:
        length = response.headers["Content-Length"]
        total = int(length) if length else None
        with tqdm(total=total, desc=description, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > MAX_BYTES:
                    raise ValueError(f"sends more than {MAX_BYTES} bytes")
        if total is not None and file.tell() != total:  # read1 passes over an early end in silence
            raise ValueError(f"ended after {file.tell()} of {total} bytes")


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https, and nothing else, wherever a mirror redirects to."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "minivae")]
    return opener


def _verify(path: Path, sha256: str | None) -> None:
    """Raise ValueError, or what a damaged gzip raises, unless the content has the sum."""
    digest, size = hashlib.sha256(), 0
    with open_content(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if size > MAX_BYTES:
                raise ValueError(f"expands to more than {MAX_BYTES} bytes")
    if sha256 and digest.hexdigest() != sha256:
        raise ValueError(f"the content has the SHA-256 {digest.hexdigest()}, expected {sha256}")


def _verify_md5(path: Path, md5: str) -> None:
    """Raise ValueError unless the file as it was sent has the sum: against damage, not against malice."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != md5:
        raise ValueError(f"the file has the MD5 {digest}, expected {md5}")
