"""The Frey faces: a small file in MATLAB's format, and files that are something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from minivae.data.frey import FILE, frey_faces
from minivae.errors import InputError

FACES = np.random.default_rng(0).integers(0, 256, (25, 28, 20)).astype(np.uint8)  # frame, row, column
FF = FACES.reshape(25, 560).T


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file goes under $MINIVAE_DATA; the cache is empty."""
    (tmp_path / "own" / "frey-faces").mkdir(parents=True)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "own" / "frey-faces"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", ["own", "cache"])
def test_found(folder: Path, compressed: bool, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth frame for testing, all in order, each upright; other variables do not matter."""
    if place == "cache":
        monkeypatch.delenv("MINIVAE_DATA")
        folder = folder.parents[1] / "cache" / "frey-faces"
        folder.mkdir(parents=True)
    savemat(folder / FILE, {"ff": FF, "more": {"a": 1}}, do_compression=compressed)
    dataset = frey_faces()
    assert dataset.name == "frey-faces" and dataset.shape == (1, 28, 20) and dataset.classes == ()
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels is None
    np.testing.assert_array_equal(dataset.test.images[:, 0], FACES[::10])
    np.testing.assert_array_equal(dataset.train.images[:, 0], np.delete(FACES, [0, 10, 20], axis=0))


def test_as_many_as_published(folder: Path) -> None:
    savemat(folder / FILE, {"ff": np.zeros((560, 1965), np.uint8)})
    dataset = frey_faces()
    assert (len(dataset.train), len(dataset.test)) == (1768, 197)


def test_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says where the file goes, in either case."""
    with pytest.raises(InputError) as caught:
        frey_faces()
    assert str(folder / FILE) in str(caught.value)
    monkeypatch.delenv("MINIVAE_DATA")
    with pytest.raises(
        InputError, match=rf"cache/frey-faces/{FILE}': put .* MINIVAE_DATA to a folder with frey-faces/"
    ):
        frey_faces()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"faces": FF}, "its variable ff is nothing of shape"),
        ({"ff": FF.T}, r"ff is uint8 of shape \(25, 560\), expected uint8"),
        ({"ff": FF.astype(np.float64)}, r"ff is double of shape \(560, 25\)"),
        ({"ff": FF[:, :1]}, r"ff is uint8 of shape \(560, 1\)"),
        ({"ff": FF.reshape(28, 20, 25)}, r"ff is uint8 of shape \(28, 20, 25\)"),
        ({"ff": {"a": 1}}, "ff is struct"),
        ({"ff": np.array([FF, FF[:1]], dtype=object)}, "ff is cell"),
    ],
)
def test_refused(folder: Path, content: dict[str, Any], message: str) -> None:
    savemat(folder / FILE, content)
    with pytest.raises(InputError, match=rf"cannot read '.*{FILE}' \(.*{message}"):
        frey_faces()


@pytest.mark.parametrize("content", [b"", b"<html>gone</html>" * 50, b"\x80\x04\x95" + bytes(200)])
def test_not_matlab(folder: Path, content: bytes) -> None:
    (folder / FILE).write_bytes(content)
    with pytest.raises(InputError, match=f"cannot read '.*{FILE}' .*: put the original"):
        frey_faces()


def test_a_folder_in_its_place(folder: Path) -> None:
    (folder / FILE).mkdir()
    with pytest.raises(InputError, match="cannot read"):
        frey_faces()


def test_bomb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the header, before anything of it is expanded."""
    monkeypatch.setattr("minivae.data.frey.MAX_FRAMES", 1000)
    savemat(folder / FILE, {"ff": np.zeros((560, 1001), np.uint8)}, do_compression=True)
    with pytest.raises(InputError, match=r"ff is uint8 of shape \(560, 1001\)"):
        frey_faces()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A place for many files, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("data")
        (root / "frey-faces").mkdir()
        patch.setenv("MINIVAE_DATA", str(root))
        yield root / "frey-faces" / FILE


@given(compressed=st.booleans(), data=st.data())
def test_truncated(shared: Path, compressed: bool, data: st.DataObject) -> None:
    savemat(shared, {"ff": FF}, do_compression=compressed)
    whole = shared.read_bytes()
    shared.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError, match="cannot read"):
        frey_faces()


@given(data=st.data())
def test_flipped_byte(shared: Path, data: st.DataObject) -> None:
    """An InputError, or faces of the right size: the format has no sums unless it is compressed."""
    savemat(shared, {"ff": FF}, do_compression=data.draw(st.booleans()))
    content = bytearray(shared.read_bytes())
    content[data.draw(st.integers(0, min(len(content) - 1, 400)))] ^= data.draw(st.integers(1, 255))
    shared.write_bytes(content)
    try:
        dataset = frey_faces()
    except InputError as error:
        assert str(shared) in str(error)
    else:
        assert dataset.shape == (1, 28, 20)
