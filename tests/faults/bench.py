"""Sound files of each kind, how they are damaged, and how they are read."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faults import mutations

GREY = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
FORMATS = {
    "a.png": ("L", {}), "b.png": ("RGB", {}), "c.png": ("P", {}), "d.png": ("RGBA", {}), "e.png": ("I;16", {}),
    "f.jpg": ("L", {}), "g.jpeg": ("RGB", {"progressive": True}), "h.bmp": ("RGB", {}), "i.gif": ("P", {}),
    "j.tif": ("RGB", {"compression": "tiff_lzw"}), "k.tiff": ("L", {"compression": "tiff_deflate"}),
    "l.tif": ("1", {"compression": "group4"}), "m.tif": ("RGB", {"compression": "jpeg"}), "n.webp": ("RGB", {}),
    "o.pgm": ("L", {}), "p.ppm": ("RGB", {}), "q.pbm": ("1", {}), "r.tif": ("L", {}),
}  # fmt: skip


class Bench:
    """Sound files in a folder, and for each target how to damage one of them and how to read it."""

    def __init__(self, folder: Path):
        from scipy.io import savemat

        self.folder = folder
        np.save(folder / "data.npy", GREY)
        self.run(["train", "vae", "--data", folder / "data.npy", "--epochs", 2, "--batch-size", 5,
                  "--hidden", 4, "--latent", 2, "--out", folder / "run"])  # fmt: skip
        vqvae = ["--codes", 4, "--dim", 2, "--channels", 3, "--save-every", "0.0000001m", "--keep", 99]
        self.run(["train", "vqvae", "--data", folder / "data.npy", "--epochs", 2, *vqvae, "--out", folder / "vq",
                  "--batch-size", 5])  # fmt: skip
        self.run(["train", "prior", "--of", folder / "vq", "--epochs", 1, "--width", 4, "--layers", 2,
                  "--out", folder / "prior"])  # fmt: skip
        self.run(["compress", folder / "data.npy", "--run", folder / "prior", "--out", folder / "codes.mvae"])
        self.compressed = (folder / "codes.mvae").read_bytes()
        self.config = (folder / "run" / "config.json").read_bytes()
        self.checkpoints = [(folder / name / "model.npz").read_bytes() for name in ("run", "prior")]
        self.checkpoints += [(folder / "vq" / f"model-{i:08}.npz").read_bytes() for i in (2, 6)]
        self.images = {name: image(*given, name.rpartition(".")[2]) for name, given in FORMATS.items()}
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, *GREY.shape)
        self.idx = [head + GREY.tobytes(), gzip.compress(head + GREY.tobytes())]
        self.mats = []
        for name, options in {"plain": {}, "deflated": {"do_compression": True}, "old": {"format": "4"}}.items():
            savemat(folder / name, {"ff": np.resize(GREY, (560, 4)), "x": np.eye(3)}, appendmat=False, **options)
            self.mats.append((folder / name).read_bytes())
        os.environ["MINIVAE_DATA"] = str(folder)
        self.others = [*self.checkpoints, *self.idx, *self.images.values(), *self.mats, self.config]

    # the command line, as a process would run it

    def run(self, argv: list[Any]) -> int:
        """The exit code of a command: 0, or 1, 2 or 130 with one sentence on stderr; else AssertionError."""
        from minivae.cli import main

        errors = self.folder / "stderr"
        with open(errors, "w") as file, open(os.devnull, "w") as nowhere:
            kept = os.dup(2)
            os.dup2(file.fileno(), 2)  # a library in C writes there too
            try:
                with contextlib.redirect_stderr(file), contextlib.redirect_stdout(nowhere):
                    code = main([str(arg) for arg in argv])
            finally:
                file.flush()
                os.dup2(kept, 2)
                os.close(kept)
        said = errors.read_text()
        sentences = [line for line in said.splitlines() if not line.startswith("minivae: begun with ")]
        assert len(sentences) == (code != 0) and code in (0, 1, 2, 130), (code, said)
        assert all(line.startswith("minivae: ") for line in sentences) and "Traceback" not in said, said
        return code

    def clean(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    # the targets: each makes one damaged file, and returns how to read it from Python and from the command line

    def read_idx(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae.data import read_idx

        content = mutations.idx(rng)
        if rng.random() < 0.6:
            content = mutations.damaged(rng, rng.choice(self.idx), self.others)
        path = self.clean("mnist") / "train-images-idx3-ubyte"
        for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            (path.parent / name).write_bytes(self.idx[0])
        path.write_bytes(content)
        return path, lambda: read_idx(path), ["train", "vae", "--data", "mnist"]

    def read_npy(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        array = rng.choice([GREY, GREY / 255, (GREY > 99)[:, None]])
        out = io.BytesIO()
        np.save(out, array)
        content = mutations.npy(rng, array)
        if rng.random() < 0.4:
            content = mutations.damaged(rng, out.getvalue(), self.others)
        return self.from_path("a.npy", content)

    def read_npz(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        given = {"images": GREY, "labels": np.arange(20) % 3}
        if rng.random() < 0.5:
            given = {"x_train": GREY, "y_train": np.array(list("ab" * 10)), "x_test": GREY, "y_test": np.arange(20)}
        if rng.random() < 0.02:
            return self.from_path("a.npz", mutations.bomb(rng, "images.npy"))
        if rng.random() < 0.3:
            given = mutations.arrays(rng, given)
        members = []
        for name, array in given.items():
            content = io.BytesIO()
            np.save(content, array)
            false = rng.random() < 0.2 and array.size
            members.append((f"{name}.npy", mutations.npy(rng, array) if false else content.getvalue()))
        content = mutations.zipped(rng, members)
        return self.from_path("a.npz", mutations.damaged(rng, content, self.others) if rng.random() < 0.4 else content)

    def from_path(self, name: str, content: bytes) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae.data import from_path

        path = self.folder / name
        path.write_bytes(content)
        return path, lambda: from_path(path), ["train", "vae", "--data", path]

    def read_images(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae.data import from_path

        folder = self.clean("pictures")
        name = rng.choice(list(self.images))
        content = self.images[name]
        if name.endswith("png") and rng.random() < 0.6:
            content = mutations.png(rng, content)
        else:
            content = mutations.damaged(rng, content, list(self.images.values()))
        (folder / name).write_bytes(content)
        (folder / "z.png").write_bytes(self.images["a.png"] if rng.random() < 0.5 else content)
        return folder, lambda: from_path(folder), ["train", "vae", "--data", folder]

    def read_mat(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae.data import frey_faces

        path = self.clean("frey-faces") / "frey_rawface.mat"
        path.write_bytes(mutations.damaged(rng, rng.choice(self.mats), self.others))
        return path, frey_faces, ["train", "vae", "--data", "frey-faces"]

    def read_dsprites(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae.data import dsprites

        path = self.clean("dsprites") / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
        images, classes = np.resize(GREY, (9, 64, 64)) % 2, np.zeros((9, 6), np.int64)
        members = []
        for name, array in mutations.arrays(rng, {"imgs": images, "latents_classes": classes}).items():
            content = io.BytesIO()
            np.save(content, array)
            false = rng.random() < 0.3 and array.size
            members.append((f"{name}.npy", mutations.npy(rng, array) if false else content.getvalue()))
        path.write_bytes(mutations.zipped(rng, members))
        return path, dsprites, ["train", "vae", "--data", "dsprites"]

    def read_omniglot(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae.data import omniglot

        folder = self.clean("omniglot")
        sound = image("1", {}, "png", 105)
        for name in ("images_background", "images_evaluation"):
            drawing = mutations.png(rng, sound) if rng.random() < 0.5 else sound
            members = [(f"{name}/Greek/character0{i}/1.png", drawing) for i in (1, 2)]
            (folder / f"{name}.zip").write_bytes(mutations.zipped(rng, [*members, ("../../evil.png", sound)]))
        return folder, omniglot, ["train", "vae", "--data", "omniglot"]

    def signed(self, rng: random.Random, content: bytes) -> bytes:
        """A checkpoint with other arrays or another header, and the digest of those."""
        from minivae import checkpoint

        with np.load(io.BytesIO(content)) as archive:
            members = {name: archive[name] for name in archive.files if name != "digest"}
        header = members.pop("header").tobytes()
        if rng.random() < 0.7:
            header = mutations.json_of(rng, json.loads(header))
        else:
            members = mutations.arrays(rng, members)
        members["header"] = np.frombuffer(header, np.uint8)
        out = io.BytesIO()
        np.savez(out, digest=checkpoint.digest(members), **members)
        return out.getvalue()

    def read_checkpoint(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        from minivae import checkpoint

        content = rng.choice(self.checkpoints)
        content = self.signed(rng, content) if rng.random() < 0.6 else mutations.damaged(rng, content, self.others)
        path = self.clean("checkpoint") / "model.npz"
        path.write_bytes(content)
        command = rng.choice([["evaluate", path], ["encode", path], ["reconstruct", path, "--count", 2]])
        return path, lambda: checkpoint.load_model(path), command

    def resume(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        out = self.clean("resumed")
        (out / "model.npz").write_bytes(self.signed(rng, rng.choice(self.checkpoints)))
        return out, lambda: self.run(["train", "--resume", out]), ["train", "--resume", out]

    def read_compressed(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        path = self.clean("compressed") / "codes.mvae"
        content = mutations.damaged(rng, self.compressed, self.others)
        if rng.random() < 0.8:  # what the checksum does not tell
            content = bytearray(self.compressed)
            for _ in range(rng.randint(1, 3)):
                content[rng.randrange(13, rng.choice([31, len(content) - 4]))] = rng.randrange(256)
            content = content[:-4] + struct.pack(">I", zlib.crc32(content[:-4]))
        path.write_bytes(content)
        command = ["decompress", path, "--run", self.folder / "prior", "--out", path.with_name("a.npy")]
        return path, lambda: self.run(command), command

    def read_config(self, rng: random.Random) -> tuple[Path, Callable[[], Any], list[Any]]:
        out = self.clean("begun")
        content = mutations.json_of(rng, json.loads(self.config))
        (out / "config.json").write_bytes(content)
        return out, lambda: self.run(["train", "--resume", out]), ["train", "--resume", out]


TARGETS = [name for name in vars(Bench) if name.startswith("read_") or name == "resume"]


def image(mode: str, options: dict[str, Any], ending: str, side: int = 12) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    pixels = np.resize(GREY, (side, side, 3))
    picture = Image.fromarray(pixels.astype(np.uint16)[..., 0] * 9) if mode == "I;16" else Image.fromarray(pixels)
    picture = picture if mode == "I;16" else picture.convert(mode)
    picture.save(out, {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm", "pbm": "ppm"}.get(ending, ending), **options)
    return out.getvalue()
