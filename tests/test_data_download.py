"""Downloads from a server in this process, whose mirrors fail in every way that is known."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from minivae.data import download as module
from minivae.data.download import download
from minivae.data.idx import parse_idx, read_idx
from minivae.errors import InputError

CONTENT = b"\0\0\x08\1\0\0\x40\0" + bytes(range(256)) * 64  # IDX
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GZ = gzip.compress(CONTENT)


class Mirrors(http.server.BaseHTTPRequestHandler):
    """One path for each way to answer."""

    bodies: ClassVar = {
        "right": GZ,
        "stronger": gzip.compress(CONTENT, 1),
        "raw": CONTENT,
        "page": b"<html>Please accept our terms.</html>",
        "other": gzip.compress(CONTENT[:-1] + b"?"),
        "corrupt": GZ[:40] + bytes([GZ[40] ^ 255]) + GZ[41:],
        "cut": GZ[: len(GZ) // 2],  # whole to HTTP, cut short as gzip
        "empty": b"",
        "large": bytes(100_000),
        "bomb": gzip.compress(bytes(10_000_000)),
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.asked.append(name)
        if name in self.bodies:
            self.send(200, self.bodies[name], ("Content-Length", str(len(self.bodies[name]))))
        elif name == "truncated":
            self.send(200, GZ[:-20], ("Content-Length", str(len(GZ))))
        elif name == "unsized":
            self.send(200, GZ)
        elif name == "negative":
            self.send(200, GZ, ("Content-Length", "-5"))
        elif name == "moved":
            self.send(302, b"", ("Location", "/right"))
        elif name == "local":
            self.send(302, b"", ("Location", Path(__file__).as_uri()))
        elif name == "ftp":
            self.send(302, b"", ("Location", "ftp://127.0.0.1/file"))
        elif name == "circle":
            self.send(302, b"", ("Location", "/circle"))
        elif name == "hangup":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif name == "noise":
            self.wfile.write(b"no HTTP at all\r\n\r\n")
        elif name == "silent":
            self.server.released.wait(20)  # type: ignore[attr-defined]
        elif name == "stalled":
            self.send(200, GZ[:100], ("Content-Length", str(len(GZ))))
            self.server.released.wait(20)  # type: ignore[attr-defined]
        elif name == "broken":
            self.send(500, b"")
        else:
            self.send(404, b"not here")

    def send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """On a free port of the loopback; a silent handler waits until `released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), Mirrors)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that gave up, which is what the tests are about


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Mirrors.asked.clear()


@pytest.mark.parametrize("name", ["right", "stronger", "raw", "unsized", "moved"])
def test_delivered(base: str, tmp_path: Path, name: str) -> None:
    """The sum is of the uncompressed content: however a mirror compressed it."""
    path = tmp_path / "cache" / "mnist" / "file.gz"  # in folders that are not there yet
    assert download([base + name, base + "never"], path, SHA256, "test") == path
    assert path.read_bytes() == Mirrors.bodies.get(name, GZ)
    assert [entry.name for entry in path.parent.iterdir()] == ["file.gz"]
    assert "never" not in Mirrors.asked


FAILURES = {
    "missing": "HTTP Error 404: Not Found",
    "broken": "HTTP Error 500",
    "truncated": f"ended after {len(GZ) - 20} of {len(GZ)} bytes",
    "corrupt": "",  # zlib.error or a wrong CRC, as the byte may have it
    "cut": "ended before the end-of-stream marker",
    "other": "the content has the SHA-256",
    "page": "the content has the SHA-256",
    "empty": "the content has the SHA-256",
    "negative": "",
    "large": "sends more than 50000 bytes",
    "bomb": "expands to more than 50000 bytes",
    "local": "file://",
    "ftp": "unknown url type: ftp",
    "circle": "infinite loop",
    "hangup": "",
    "noise": "no HTTP at all",
    "silent": "timed out",
    "stalled": "timed out",
}


@pytest.mark.parametrize("name", FAILURES)
def test_next_mirror_is_asked(base: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 50_000)
    path = download([base + name, base + "right"], tmp_path / "file.gz", SHA256, "test")
    assert Mirrors.asked[0] == name and Mirrors.asked[-1] == "right"
    assert path.read_bytes() == GZ
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.gz"]


def test_all_fail(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with what happened at each mirror, and nothing is left behind."""
    monkeypatch.setattr(module, "MAX_BYTES", 50_000)
    path = tmp_path / "mnist" / "file.gz"
    with pytest.raises(InputError) as caught:
        download([base + name for name in FAILURES], path, SHA256, "the digits")
    message = str(caught.value)
    assert message.startswith("cannot download the digits (") and "\n" not in message
    parts = message.split(base)[1:]
    for part, (name, reason) in zip(parts, FAILURES.items(), strict=True):
        assert part.startswith(f"{name}: ") and reason in part
        assert len(part.split(";")[0]) > len(name) + 5  # never without a reason
    assert message.endswith(f"put file.gz into '{path.parent}', or set MINIVAE_DATA to a folder with mnist/file.gz.")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",  # nothing listens: connection refused
        "http://mirror.invalid/",  # a name that cannot exist
        Path(__file__).as_uri(),
        "ftp://127.0.0.1/",
        "data:text/plain,hello",
        "http://127.0.0.1:port/",
        "no url",
    ],
)
def test_nothing_else_is_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="cannot download"):
        download([url], tmp_path / "file", None, "test")
    assert list(tmp_path.iterdir()) == []


def test_without_a_sum_the_format_decides(base: str, tmp_path: Path) -> None:
    names = ("page", "cut", "corrupt", "empty", "other")
    path = download([base + n for n in names], tmp_path / "file", None, "test", check=parse_idx)
    assert Mirrors.asked == list(names)
    assert read_idx(path)[-1] == ord("?")
    with pytest.raises(InputError, match="page: it begins with 3c 68 74 6d, not"):
        download([base + "page"], tmp_path / "other", None, "test", check=parse_idx)


def test_existing_file_survives_failure(base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(InputError):
        download([base + "truncated"], tmp_path / "file", SHA256, "test")
    assert (tmp_path / "file").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_error_without_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, path: Path, description: str) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(module, "_fetch", fail)
    with pytest.raises(InputError, match="http://a: ConnectionResetError"):
        download(["http://a"], tmp_path / "file", SHA256, "test")


def test_no_folder(base: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file in the way")
    with pytest.raises(InputError, match=r"cannot make the folder .*: set MINIVAE_CACHE"):
        download([base + "right"], tmp_path / "cache" / "mnist" / "file.gz", SHA256, "test")


def test_interrupted(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C goes through at once and leaves nothing behind."""

    def interrupt(path: Path, sha256: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download([base + "right", base + "raw"], tmp_path / "file", SHA256, "test")
    assert list(tmp_path.iterdir()) == [] and Mirrors.asked == ["right"]
