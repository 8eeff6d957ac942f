"""A process that fills a cache of data at the same moment as others; a file of its own, so that it can be started."""

import hashlib
import os
import sys
from pathlib import Path


def fill(cache: Path, url: str, barrier, out: Path, md5: str, records: int) -> None:
    """Load three data sets at the same moment as the others do, and leave a sum of each."""
    os.environ["MINIVAE_CACHE"] = str(cache)
    for name in ("MINIVAE_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    from minivae import data

    cifar10, mnist = (sys.modules[f"minivae.data.{name}"] for name in ("cifar10", "mnist"))
    cifar10.URL, cifar10._SENT_RECORDS = url + "cifar", records
    cifar10.MD5 = md5
    source = mnist.Source("mnist", tuple("0123456789"), (url,), {})
    sums = []
    for load in (lambda: data.glyphs(200, 20), lambda: mnist._load(source), data.cifar10):
        barrier.wait()
        dataset = load()
        sums.append(hashlib.sha256(dataset.train.images.tobytes() + dataset.test.images.tobytes()).hexdigest())
    out.write_text(" ".join(sums))
