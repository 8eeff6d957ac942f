"""CIFAR-10: small files in its format, a part, a download, and archives that are not what they say."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minivae.errors import InputError

module = importlib.import_module("minivae.data.cifar10")  # in the package, the function has this name
cifar10 = module.cifar10
REAL = Path(os.environ.get("MINIVAE_DATA") or "absent", "cifar10")
FILES = (*module.TRAIN, module.TEST)
RNG = np.random.default_rng(0)
IMAGES = {file: RNG.integers(0, 256, (4, 3, 32, 32)).astype(np.uint8) for file in FILES}
LABELS = {file: np.arange(4) + i for i, file in enumerate(FILES)}


def encode(file: str) -> bytes:
    """As the page of CIFAR-10 has it: label, red, green, blue; record after record."""
    records = zip(LABELS[file].tolist(), IMAGES[file], strict=True)
    return b"".join(bytes([label]) + b"".join(plane.tobytes() for plane in image) for label, image in records)


def archive(changes: dict[str, bytes | None] | None = None, link: str = "") -> bytes:
    """The .tar.gz, with other members or none where `changes` say so, and one a link."""
    members: dict[str, bytes | None] = {f"{module.FOLDER}/{file}": encode(file) for file in FILES}
    members |= {f"{module.FOLDER}/readme.html": b"<html>", **(changes or {})}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if name == link:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            if content is not None:
                info.size = 0 if info.issym() else len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the files under $MINIVAE_DATA; there is no cache and no network."""
    folder = tmp_path / "own" / "cifar10" / module.FOLDER
    folder.mkdir(parents=True)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("minivae.data.download._fetch", None)
    return folder


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Sets what the network serves, and its sum; no folder of one's own, an empty cache."""
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SENT_RECORDS", 4)

    def set_content(content: bytes) -> None:
        def fetch(url: str, path: Path, description: str) -> None:
            assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
            path.write_bytes(content)

        monkeypatch.setattr(module, "MD5", hashlib.md5(content).hexdigest())
        monkeypatch.setattr("minivae.data.download._fetch", fetch)

    return set_content


def check(dataset: Any, train: tuple[str, ...] = module.TRAIN) -> None:
    assert dataset.name == "cifar10" and dataset.shape == (3, 32, 32)
    assert dataset.classes[::9] == ("airplane", "truck") and len(dataset.classes) == 10
    for split, files in ((dataset.train, train), (dataset.test, (module.TEST,))):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.images, np.concatenate([IMAGES[file] for file in files]))
        np.testing.assert_array_equal(split.labels, np.concatenate([LABELS[file] for file in files]))


def test_whole_and_part(own: Path) -> None:
    """In the order of their numbers, whatever is missing."""
    for file in FILES:
        (own / file).write_bytes(encode(file))
    check(cifar10())
    for file in (FILES[0], FILES[3]):
        (own / file).unlink()
    check(cifar10(), (FILES[1], FILES[2], FILES[4]))


@pytest.mark.parametrize("lacking", [FILES[:5], FILES[5:], FILES])
def test_lacking(own: Path, lacking: tuple[str, ...]) -> None:
    for file in set(FILES) - set(lacking):
        (own / file).write_bytes(encode(file))
    with pytest.raises(InputError, match=f"{module.FOLDER}' lacks {lacking[0]}: add it"):
        cifar10()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes, expected a multiple of 3073"),
        (encode(FILES[0])[:-1], "has 12291 bytes, expected a multiple"),
        (encode(FILES[0]) + b"x", "has 12293 bytes"),
        (b"\x0a" + encode(FILES[0])[1:], "has the label 10, expected 0 to 9"),
    ],
)
@pytest.mark.parametrize("file", [FILES[0], FILES[2], FILES[5]])
def test_refused(own: Path, file: str, content: bytes, message: str) -> None:
    for name in FILES:
        (own / name).write_bytes(encode(name))
    (own / file).write_bytes(content)
    with pytest.raises(InputError, match=f"{file}' {message}"):
        cifar10()


def test_too_large(own: Path) -> None:
    """A sparse file of 30 GB is refused by its size, before memory is taken."""
    (own / FILES[5]).write_bytes(encode(FILES[5]))
    with (own / FILES[0]).open("wb") as file:
        file.truncate(3073 * 10_000_000)
    with pytest.raises(InputError, match="at most 1000000 records"):
        cifar10()


def test_a_folder_in_place_of_a_file(own: Path) -> None:
    (own / FILES[0]).mkdir()
    (own / FILES[5]).write_bytes(encode(FILES[5]))
    with pytest.raises(InputError, match=f"cannot read '.*{FILES[0]}' .Is a directory.: put"):
        cifar10()


def test_download(serve: Callable[[bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the named files are written, and the archive goes; then the cache has them."""
    serve(archive({"../evil.bin": b"evil", "/tmp/evil.bin": b"evil", f"{module.FOLDER}/../evil": b"evil"}))
    check(cifar10())
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / "cache" / "cifar10" / module.FOLDER / file for file in FILES}
    monkeypatch.setattr("minivae.data.download._fetch", None)
    check(cifar10())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>moved</html>" * 100, "no tar archive"),
        (gzip.compress(b"<html>moved</html>" * 100, mtime=0), "no tar archive"),
        (archive()[:-5000], "cifar10 .*: "),
        (archive({f"{module.FOLDER}/{FILES[5]}": None}), f"lacks {module.FOLDER}/{FILES[5]}"),
        (archive({f"{module.FOLDER}/{FILES[1]}": bytes(3073 * 3)}), f"{FILES[1]} is no file of 12292 bytes"),
        (archive(link=f"{module.FOLDER}/{FILES[2]}"), f"{FILES[2]} is no file of 12292 bytes"),
    ],
)
def test_wrong_archive(serve: Callable[[bytes], None], tmp_path: Path, content: bytes, message: str) -> None:
    serve(content)
    with pytest.raises(InputError, match=message) as caught:
        cifar10()
    assert "cannot download cifar10" in str(caught.value) and module.URL in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_bomb(serve: Callable[[bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivae.data.download.MAX_BYTES", 1 << 20)
    serve(archive({"zeros": bytes(2 << 20)}))
    with pytest.raises(InputError, match="expands to more than 1048576 bytes"):
        cifar10()


def test_sum(serve: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum is of what is sent, compressed: the same content in other bytes is another file."""
    serve(archive())
    monkeypatch.setattr(module, "MD5", hashlib.md5(gzip.decompress(archive())).hexdigest())
    with pytest.raises(InputError, match=f"the file has the MD5 [0-9a-f]{{32}}, expected {module.MD5}"):
        cifar10()


def test_full_disk(serve: Callable[[bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(archive())

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(InputError, match=r"cannot write CIFAR-10 .*No space left on device.*MINIVAE_CACHE"):
        cifar10()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs MINIVAE_DATA with CIFAR-10, or a part, in cifar10/")
def test_real() -> None:
    dataset = cifar10()
    assert len(dataset.test) == 10_000 and len(dataset.train) % 10_000 == 0
    assert dataset.test.labels is not None and np.bincount(dataset.test.labels).tolist() == [1000] * 10
    means = dataset.train.images[::10].mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.01)  # as everyone normalises by


def test_another_process_was_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has unpacked the archive and taken it away just as this one wants to open it."""
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path))
    monkeypatch.delenv("MINIVAE_DATA", raising=False)

    def download(urls: list[str], path: Path, *_: object, **__: object) -> Path:
        folder = path.with_name("cifar-10-batches-bin")
        folder.mkdir(parents=True)
        for name in FILES:
            (folder / name).write_bytes(bytes(2 * 3073))
        return path

    monkeypatch.setattr("minivae.data.download.download", download)
    assert len(cifar10().train) == 10
