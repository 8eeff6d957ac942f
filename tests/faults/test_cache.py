"""Processes that fill one cache at the same time: each gets the right data, and the cache ends up whole."""

import gzip
import hashlib
import http.server
import io
import os
import struct
import tarfile
import threading
import time
from typing import ClassVar

import numpy as np
import pytest
from faults import filler
from faults.worker import CONTEXT

from minivae.files import TEMPORARY

PROCESSES = 12 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 4
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 10
RECORDS = 3  # of a file of CIFAR-10


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes())


def cifar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            content = bytes([i]) * (3073 * RECORDS)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)  # the same in every process


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends a file in two halves, so that downloads overlap."""

    files: ClassVar[dict[str, bytes]] = {"images": idx(IMAGES), "labels": idx(LABELS), "cifar": cifar()}
    sent: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        content = next(content for name, content in self.files.items() if name in self.path)
        self.sent.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        time.sleep(0.05)
        self.wfile.write(content[len(content) // 2 :])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_processes_that_fill_one_cache_at_once(url, tmp_path):
    cache, barrier = tmp_path / "cache", CONTEXT.Barrier(PROCESSES)
    outs = [tmp_path / f"{i}" for i in range(PROCESSES)]
    md5 = hashlib.md5(Slow.files["cifar"]).hexdigest()
    processes = [CONTEXT.Process(target=filler.fill, args=(cache, url, barrier, out, md5, RECORDS)) for out in outs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert len(Slow.sent) > 5  # several downloaded the same file
    sums = {out.read_text() for out in outs}
    assert len(sums) == 1
    alone = CONTEXT.Barrier(1)
    again = CONTEXT.Process(
        target=filler.fill, args=(cache, "http://127.0.0.1:9/", alone, tmp_path / "again", md5, RECORDS)
    )
    again.start()
    again.join()  # from the cache alone
    assert (tmp_path / "again").read_text() in sums
    files = sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())
    assert not [name for name in files if TEMPORARY in name]
    assert len([name for name in files if name.startswith("mnist/")]) == 4
    assert len([name for name in files if name.startswith("cifar10/")]) == 6  # and not the archive
