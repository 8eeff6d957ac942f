"""Omniglot: small archives in its format, and such as no one should unpack."""

from __future__ import annotations

import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minivae.errors import InputError

module = importlib.import_module("minivae.data.omniglot")  # in the package, the function has this name
omniglot, FILES = module.omniglot, module.FILES
RNG = np.random.default_rng(0)
CHARACTERS = {
    FILES[0]: ("Greek/character01", "Greek/character02", "Latin/character01"),
    FILES[1]: ("Angelic/character01",),
}


def png(ink: Any, mode: str = "1") -> bytes:
    """A drawing, black ink on white, as a PNG."""
    out = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert(mode).save(out, "PNG")
    return out.getvalue()


def archive(file: str, changes: dict[str, bytes | None] | None = None, drawings: int = 2) -> bytes:
    """The archive of that name, its members in a shuffled order, with folders as the original has."""
    members: dict[str, bytes | None] = {}
    for character in reversed(CHARACTERS[file]):
        members[f"{file[:-4]}/{character}/"] = b""
        for i in range(drawings):
            members[f"{file[:-4]}/{character}/0394_{i + 1:02}.png"] = png(INK[file, character, i])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in {**members, **(changes or {})}.items():
            if content is not None:
                zipped.writestr(name, content)
    return out.getvalue()


INK = {(f, c, i): RNG.random((105, 105)) < 0.3 for f, cs in CHARACTERS.items() for c in cs for i in range(2)}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder under $MINIVAE_DATA with both archives; there is no cache and no network."""
    folder = tmp_path / "own" / "omniglot"
    folder.mkdir(parents=True)
    for file in FILES:
        (folder / file).write_bytes(archive(file))
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("minivae.data.download._fetch", None)
    return folder


def test_content(own: Path, tmp_path: Path) -> None:
    """By alphabet, character, drawing; labels count on from training to test; nothing is extracted."""
    dataset = omniglot()
    assert dataset.name == "omniglot" and dataset.shape == (1, 28, 28)
    assert dataset.classes == (*CHARACTERS[FILES[0]], *CHARACTERS[FILES[1]])
    for file, split, labels in ((FILES[0], dataset.train, [0, 0, 1, 1, 2, 2]), (FILES[1], dataset.test, [3, 3])):
        assert split.images.dtype == np.uint8 and split.labels is not None and split.labels.dtype == np.int64
        assert split.labels.tolist() == labels
        for image, (character, i) in zip(
            split.images, [(c, i) for c in CHARACTERS[file] for i in range(2)], strict=True
        ):
            np.testing.assert_allclose(image[0], shrunk(INK[file, character, i]), atol=0.51)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(own / file for file in FILES)


def shrunk(ink: Any) -> Any:
    """The mean over each of 28x28 boxes of 3.75x3.75 pixels: of a quarter of a pixel, 15 a side."""
    return ink.repeat(4, 0).repeat(4, 1).reshape(28, 15, 28, 15).mean(axis=(1, 3)) * 255


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_modes(own: Path, mode: str) -> None:
    """Ink is white, however a PNG stores it."""
    before = omniglot().test.images
    name = "images_evaluation/Angelic/character01/0394_02.png"
    (own / FILES[1]).write_bytes(archive(FILES[1], {name: png(INK[FILES[1], "Angelic/character01", 1], mode)}))
    np.testing.assert_array_equal(omniglot().test.images, before)


@pytest.mark.parametrize("name", ["../../evil.png", "/tmp/evil.png", "images_background/../../evil/x/a.png", "read.me"])
def test_other_members_do_not_matter(own: Path, tmp_path: Path, name: str) -> None:
    before = omniglot()
    (own / FILES[0]).write_bytes(archive(FILES[0], {name: b"evil"}))
    after = omniglot()
    np.testing.assert_array_equal(after.train.images, before.train.images)
    assert not list(tmp_path.rglob("evil*"))


GREEK = "images_background/Greek/character01/0394_01.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "File is not a zip file"),
        (b"<html>", "File is not a zip file"),
        (archive(FILES[0])[:-100], "File is not a zip file"),
        (archive(FILES[0], drawings=0), "it has 0 drawings named like images_background/Greek"),
        (archive(FILES[0], {GREEK: b"no PNG"}), "cannot identify image"),
        (archive(FILES[0], {GREEK: png(np.ones((105, 104)))}), f"{GREEK} is 104x105, expected 105x105"),
        (archive(FILES[0], {GREEK: png(INK[FILES[0], "Greek/character01", 0])[:-40]}), "cannot read"),
        (archive(FILES[0], {GREEK: bytes(1 << 20)}), f"{GREEK} expands to 1048576 bytes, expected at most 65536"),
    ],
)
def test_refused(own: Path, content: bytes, message: str) -> None:
    (own / FILES[0]).write_bytes(content)
    with pytest.raises(InputError, match=f"{message}.*: put the original {FILES[0]}") as caught:
        omniglot()
    assert str(own / FILES[0]) in str(caught.value)


def test_too_many(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 5)
    with pytest.raises(InputError, match="it has 6 drawings"):
        omniglot()


def test_pixel_bomb(own: Path) -> None:
    """A PNG of 2000x2000 white pixels is small as a file; its header gives it away."""
    bomb = png(np.zeros((2000, 2000), bool))
    assert len(bomb) < module.MAX_FILE
    (own / FILES[0]).write_bytes(archive(FILES[0], {GREEK: bomb}))
    with pytest.raises(InputError, match="is 2000x2000, expected 105x105"):
        omniglot()


def test_damaged_member(own: Path) -> None:
    content = bytearray((own / FILES[1]).read_bytes())
    at = content.index(b"character01/0394_01.png") + 200
    content[at] ^= 255
    (own / FILES[1]).write_bytes(content)
    with pytest.raises(InputError, match=f"cannot read '.*{FILES[1]}'"):
        omniglot()


def test_missing(own: Path) -> None:
    (own / FILES[1]).unlink()
    with pytest.raises(InputError, match=f"omniglot' lacks {FILES[1]}: add it, or unset MINIVAE_DATA"):
        omniglot()


def test_download(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache lacks is fetched into it; what is no such archive is not kept."""
    asked = []

    def fetch(url: str, path: Path, description: str) -> None:
        asked.append(url)
        file = url.removeprefix(module.URL)
        path.write_bytes(archive(file) if good else b"<html>")

    monkeypatch.delenv("MINIVAE_DATA")
    monkeypatch.setattr("minivae.data.download._fetch", fetch)
    good = False
    with pytest.raises(InputError, match=r"cannot download omniglot images_background.zip .*no Omniglot, File is not"):
        omniglot()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    good = True
    assert (len(omniglot().train), len(omniglot().test)) == (6, 2)
    assert asked[1:] == [module.URL + file for file in FILES]
