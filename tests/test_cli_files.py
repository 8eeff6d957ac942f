"""Damaged files at the command line: each reason that a reader gives stands in one sentence after the file's name."""

import gzip
import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from minivae.cli import main

IDX, NPY, NPZ = "mnist/train-images-idx3-ubyte", "a.npy", "a.npz"
FREY, DSPRITES, PICTURE = (
    "frey-faces/frey_rawface.mat",
    "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    "pictures/a.png",
)
OMNIGLOT = "omniglot/images_background.zip"
FACES = np.zeros((560, 3), np.uint8)


def idx(*shape: int, kind: int = 8, body: bytes = b"") -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, kind, len(shape), *shape) + body


def npy(array: object, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), version)
    return out.getvalue()


def header(text: str, length: int | None = None) -> bytes:
    """An .npy file that claims this, and 64 bytes of elements."""
    return np.lib.format.magic(1, 0) + struct.pack("<H", length or len(text)) + text.encode() + bytes(64)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def mat(**options: bool) -> bytes:
    out = io.BytesIO()
    savemat(out, {"ff": FACES}, **options)
    return out.getvalue()


def dsprites(imgs: object = None, classes: object = None, cut: int = 0) -> bytes:
    images = npy(np.zeros((9, 64, 64), np.uint8) if imgs is None else imgs)
    numbers = npy(np.zeros((9, 6), np.int64) if classes is None else classes)
    return archive({"imgs.npy": images[: len(images) - cut], "latents_classes.npy": numbers})


def png(*size: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", size).save(out, "PNG")
    return out.getvalue()


def tiff32() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), 1 << 20, np.int32)).save(out, "TIFF")
    return out.getvalue()


def compressed(content: bytes) -> bytes:
    """A MATLAB file with this as its one compressed variable."""
    packed = zlib.compress(content)
    return mat()[:128] + struct.pack("<II", 15, len(packed)) + packed


DRAWING = "images_background/Greek/character01/0394_01.png"
LARGE = archive({NPY: npy(np.zeros((8, 8, 8), np.uint8))})
CASES = {
    "idx: empty": (IDX, b"", "the file is empty"),
    "idx: text": (IDX, b"hello", "it begins with 68 65 6c 6c"),
    "idx: dimensions": (IDX, idx(*[1] * 33), "it claims 33 dimensions, expected 1 to 32"),
    "idx: header": (IDX, idx(20, 28, 28)[:9], "it ends within its header"),
    "idx: large": (IDX, idx(*[1 << 31] * 3), "it claims the shape (2147483648, 2147483648, 2147483648), more than"),
    "idx: elements": (IDX, idx(20, 28, 28, body=bytes(99)), "it ends after 99 of 15680 bytes"),
    "idx: more": (IDX, idx(2, 28, 28, body=bytes(1569)), "it goes on after the 1568 bytes"),
    "idx: gzip": (IDX, gzip.compress(idx(2, 28, 28, body=bytes(1568)))[:-4], "ended before the end-of-stream"),
    "idx: bomb": (IDX, gzip.compress(idx(60000, 28, 28)), "more than 250 times"),
    "npy: text": (NPY, b"hello, this is no array", "magic string is not correct"),
    "npy: version": (NPY, npy(np.zeros(3), (3, 0)), "the .npy version (3, 0)"),
    "npy: header": (NPY, header("{}", 65000), "its header claims 65,000 bytes, expected 10,000"),
    "npy: pickle": (
        NPY,
        header("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}\n"),
        "Python objects as a pickle",
    ),
    "npy: nothing": (NPY, header("{'descr': '|S0', 'fortran_order': False, 'shape': (2,)}\n"), "which no array has"),
    "npy: elements": (
        NPY,
        npy(np.zeros((9, 8, 8), np.uint8))[:-99],
        "it claims uint8 of shape (9, 8, 8), but has only",
    ),
    "npz: text": (NPZ, b"hello", "not a zip file"),
    "npz: method": (NPZ, archive({NPY: npy(np.zeros(99))}, zipfile.ZIP_BZIP2), "compressed by method 12"),
    "npz: lie": (
        NPZ,
        LARGE[:-92] + LARGE[-92:].replace(struct.pack("<I", 640), b"\xff\xff\0\0"),
        "more than there are",
    ),
    "npz: more": (NPZ, archive({NPY: npy(np.zeros((8, 8, 8), np.uint8)) + b"?"}), "goes on after its 512 bytes"),
    "npz: changed": (NPZ, LARGE.replace(bytes(100), bytes(99) + b"?", 1), "Bad CRC-32"),
    "frey: text": (FREY, b"hello", "it is no MATLAB 5 file"),
    "frey: early": (FREY, mat()[:-99], "it ends early"),
    "frey: shape": (FREY, mat().replace(struct.pack("<II", 560, 3), struct.pack("<II", 56, 30)), "shape (56, 30)"),
    "frey: no matrix": (FREY, compressed(bytes(64)), "its compressed variable is no matrix"),
    "frey: kind": (
        FREY,
        mat().replace(struct.pack("<II", 2, 1680), struct.pack("<II", 3, 1680)),
        "1680 bytes of kind 3",
    ),
    "frey: within": (FREY, compressed(mat()[128:-99]), "its variable ff ends early"),
    "dsprites: text": (DSPRITES, b"hello", "not a zip file"),
    "dsprites: lacks": (DSPRITES, archive({"x.npy": npy(1)}), "no item named"),
    "dsprites: grid": (DSPRITES, dsprites(classes=np.full((9, 6), 99)), "leave the grid"),
    "dsprites: fewer": (DSPRITES, dsprites(classes=np.zeros((8, 6), np.int64)), "9 imgs, but latents_classes of 8"),
    "dsprites: pixels": (DSPRITES, dsprites(np.full((9, 64, 64), 7, np.uint8)), "the pixel 7"),
    "dsprites: shape": (DSPRITES, dsprites(np.zeros((9, 6, 4), np.uint8)), "uint8 of shape (9, 6, 4), expected"),
    "dsprites: version": (
        DSPRITES,
        archive({"latents_classes.npy": npy(1, (2, 0)), "imgs.npy": b""}),
        "version (2, 0)",
    ),
    "dsprites: early": (DSPRITES, dsprites(cut=99), "it ends early"),
    "omniglot: text": (OMNIGLOT, b"hello", "not a zip file"),
    "omniglot: none": (OMNIGLOT, archive({"a.png": b""}), "it has 0 drawings"),
    "omniglot: large": (OMNIGLOT, archive({DRAWING: bytes(1 << 20)}), "expands to 1048576 bytes, expected at most"),
    "omniglot: size": (OMNIGLOT, archive({DRAWING: png(9, 8)}), "is 9x8, expected 105x105"),
    "picture: text": (PICTURE, b"hello", "cannot identify image file"),
    "picture: large": (PICTURE, png(8, 8) + bytes(64 << 20), "bytes, expected at most"),
    "picture: 32 bits": ("pictures/a.tiff", tiff32(), "32 bits for a pixel"),
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_files(case, tmp_path, capsys, monkeypatch):
    path, content, words = CASES[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    if os.path.dirname(path):
        (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_bytes(content)
    source = os.path.dirname(path) or path
    if path == IDX:
        for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            (tmp_path / "mnist" / name).write_bytes(idx(20, body=bytes(20)))
    if path == OMNIGLOT:
        (tmp_path / "omniglot/images_evaluation.zip").write_bytes(archive({DRAWING: png(105, 105)}))
    assert main(["train", "vae", "--data", f"./{source}" if path.startswith("pictures") else source]) == 2
    said = capsys.readouterr().err
    assert said.startswith("minivae: ") and said.count("\n") == 1 and "Traceback" not in said
    assert os.path.basename(path) in said and words in said
    assert not (tmp_path / "runs").exists()


def test_a_pipe_in_the_place_of_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        os.mkfifo(tmp_path / f"mnist/{name}-ubyte")
    assert main(["train", "vae", "--data", "mnist"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "train-images-idx3-ubyte' as IDX (it is no file)" in said
