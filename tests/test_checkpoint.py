"""Checkpoints: what was saved comes back, or one sentence says why not; and files are whole or not at all."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from anywhere import host, there
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import InputError, checkpoint, manual_seed, models, nn
from minivae.files import atomic_write

MANY = settings(max_examples=max(200, settings().max_examples))  # an example takes a millisecond
SPEC = {"model": "vae", "arguments": {"shape": [1, 4, 4], "hidden": [8], "latent": 2}}


def model() -> nn.Module:
    manual_seed(0)
    return models.build("vae", **SPEC["arguments"])


def weights() -> dict[str, np.ndarray]:
    return {f"model.{name}": value for name, value in model().state_dict().items()}


def refused(path: Path, load=checkpoint.load) -> str:
    """The one sentence with which this file is refused."""
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def write(path: Path, header: object, **arrays: np.ndarray) -> Path:
    """A checkpoint with any header, and the digest that belongs to it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    members = {"header": np.frombuffer(text, np.uint8), **arrays}
    np.savez(path, digest=checkpoint.digest(members), **members)
    return path


# there and back


def test_arrays_and_header_come_back(tmp_path):
    path = tmp_path / "model.npz"
    rng = np.random.default_rng(0)
    rng.random(5)
    arrays = {
        "model.0.weight": rng.standard_normal((30, 50)),
        "optimizer.m.0": np.float32([[1.5, -0.0], [np.inf, np.nan]]),
        "a": np.array(3, np.int64),
        "empty": np.zeros((0, 2), np.float32),
        "columns": np.asfortranarray(rng.standard_normal((3, 4))),
        "flags": np.array([True, False]),
    }
    header = {
        "model": "vae",
        "text": "naïve ☃",
        "numbers": [1, 2.5, None, True],
        "numpy": [np.float32(0.1), np.int64(2**53 + 1), np.arange(3)],
        "rng": rng.bit_generator.state,
        "mt19937": np.random.RandomState(0).get_state(legacy=False),
    }
    checkpoint.save(path, header, arrays)
    loaded, values = checkpoint.load(path)
    assert loaded["text"] == "naïve ☃" and loaded["numbers"] == [1, 2.5, None, True]
    assert loaded["numpy"] == [np.float32(0.1).item(), 2**53 + 1, [0, 1, 2]]
    assert loaded["rng"] == rng.bit_generator.state  # 128-bit integers
    assert loaded["mt19937"]["state"]["key"] == header["mt19937"]["state"]["key"].tolist()
    assert values.keys() == arrays.keys()
    for name, value in arrays.items():
        assert values[name].dtype == value.dtype
        np.testing.assert_array_equal(values[name], value)


def test_a_model_comes_back(tmp_path):
    path = tmp_path / "model.npz"
    checkpoint.save(path, SPEC | {"extra": 1}, weights() | {"optimizer.m.0": np.zeros(3)})
    loaded, header = checkpoint.load_model(path)
    assert header["extra"] == 1 and header["model"] == "vae"
    assert not loaded.training and not loaded.encoder[1].training
    for name, value in model().state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)
    x = there(np.random.default_rng(0).random((3, 1, 4, 4), dtype=np.float32))
    np.testing.assert_array_equal(host(loaded.reconstruct(x)), host(model().reconstruct(x)))


def test_saving_again_replaces(tmp_path):
    path = tmp_path / "model.npz"
    for value in (1, 2):
        checkpoint.save(path, {"model": "vae", "value": value}, {"a": np.full(value, value)})
    header, arrays = checkpoint.load(path)
    assert header["value"] == 2
    np.testing.assert_array_equal(arrays["a"], [2, 2])
    assert os.listdir(tmp_path) == ["model.npz"]


# what is no checkpoint


def test_no_file(tmp_path):
    assert "no checkpoint" in refused(tmp_path / "model.npz")
    refused(tmp_path)  # a folder


@pytest.mark.parametrize(
    "content",
    [b"", b"P", b"PK\x03\x04", b"hello, world\n" * 50, b"\x93NUMPY", b"\x80\x04K\x01.", os.urandom(4000), b"\0" * 5000],
    ids=["empty", "one byte", "zip magic", "text", "npy magic", "pickle", "noise", "zeros"],
)
def test_other_content(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    refused(path)
    refused(path, checkpoint.load_model)


def test_one_array_instead_of_an_archive(tmp_path):
    path = tmp_path / "model.npz"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    refused(path)


def test_an_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros(3), labels=np.zeros(3))
    assert "header" in refused(tmp_path / "images.npz")


@pytest.mark.parametrize("member", ["header", "header.npy", "x.txt"])
def test_a_zip_of_something_else(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(member, '{"model": 3}')
    refused(tmp_path / "a.npz")


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = write(tmp_path / "model.npz", SPEC | {"format": 1}, trap=np.array([Trap()], dtype=object))
    assert "pickle, which is never opened" in refused(path)
    refused(path, checkpoint.load_model)
    assert os.listdir(tmp_path) == ["model.npz"]


@pytest.mark.parametrize(
    "header",
    [
        b"", b"{", b"\xff\xfe\x00", [], {}, "vae", 3, None, {"model": "vae"},
        pytest.param(b"[" * 200_000, id="deep"),
    ],
)  # fmt: skip
def test_headers_that_are_none(tmp_path, header):
    refused(write(tmp_path / "model.npz", header))
    refused(tmp_path / "model.npz", checkpoint.load_model)


@pytest.mark.parametrize("header", [SPEC | {"format": 2}, {"format": 2}])
def test_a_newer_format_asks_for_an_update(tmp_path, header):
    message = refused(write(tmp_path / "model.npz", header))
    assert "format 2" in message and "update" in message


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (SPEC | {"model": "transformer"}, "'transformer'"),
        ({"model": "vae"}, "arguments"),
        ({"arguments": {}}, "model"),
        (SPEC | {"model": 3}, ""),
        (SPEC | {"model": ["vae"]}, ""),
        (SPEC | {"arguments": None}, ""),
        (SPEC | {"arguments": {}}, "shape"),
        (SPEC | {"arguments": SPEC["arguments"] | {"gamma": 4}}, "gamma"),
        (SPEC | {"arguments": SPEC["arguments"] | {"name": "vae"}}, "name"),
        (SPEC | {"arguments": SPEC["arguments"] | {"latent": 1.5}}, ""),
        (SPEC | {"arguments": SPEC["arguments"] | {"latent": 0}}, "latent"),
        (SPEC | {"arguments": SPEC["arguments"] | {"hidden": "8"}}, ""),
        (SPEC | {"arguments": SPEC["arguments"] | {"hidden": [9]}}, "encoder.1.weight"),
        (SPEC | {"arguments": SPEC["arguments"] | {"shape": [1, 0, 4]}}, "shape"),
        (SPEC | {"arguments": SPEC["arguments"] | {"shape": [1, -2, 4]}}, "shape"),
        (SPEC | {"arguments": SPEC["arguments"] | {"shape": 4}}, ""),
    ],
)
def test_another_model(tmp_path, header, word):
    path = tmp_path / "model.npz"
    checkpoint.save(path, header, weights())
    assert word in refused(path, checkpoint.load_model)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "model.decoder.0.bias"}, "decoder.0.bias"),
        (lambda w: {}, "encoder.1.weight"),
        (lambda w: w | {"model.decoder.9.weight": np.zeros(2)}, "decoder.9.weight"),
        (lambda w: w | {"model.decoder.0.bias": np.zeros((8, 1))}, "decoder.0.bias"),
        (lambda w: w | {"model.decoder.0.bias": np.array(list("abcdefgh"))}, "decoder.0.bias"),
    ],
    ids=["missing", "all missing", "unknown", "misshaped", "words"],
)
def test_other_arrays(tmp_path, change, word):
    path = tmp_path / "model.npz"
    checkpoint.save(path, SPEC, change(weights()))
    assert word in refused(path, checkpoint.load_model)


# damage


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A checkpoint's bytes, its content, and where its structure lies: headers of zip, of arrays, the directory.

    One array is over 4 KB: zipfile reads so much at a time, and tests a checksum at a member's end only.
    """
    path = tmp_path_factory.mktemp("sound") / "model.npz"
    extra = {"optimizer.m.0": np.random.default_rng(0).standard_normal((50, 50)).astype(np.float32)}
    checkpoint.save(path, SPEC, weights() | extra)
    raw = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        starts = [info.header_offset for info in archive.infolist()]
        directory = range(archive.start_dir, len(raw))
    structure = [i for start in starts for i in range(start, start + 220)] + [*directory]
    return path, raw, checkpoint.load(path), structure


def assert_refused_or_whole(sound, damaged: bytes) -> bool:
    """Either an InputError or exactly what was saved; whether it was refused."""
    path, _, (header, arrays), _ = sound
    broken = path.with_name("broken.npz")
    broken.write_bytes(damaged)
    try:
        got_header, got = checkpoint.load(broken)
    except InputError as error:
        assert str(broken) in str(error) and "\n" not in str(error)
        return True
    assert got_header == header
    assert got.keys() == arrays.keys()
    for name, value in arrays.items():
        assert got[name].dtype == value.dtype and got[name].tobytes() == value.tobytes()
    return False


@MANY
@given(st.data())
def test_a_truncated_file(sound, data):
    raw = sound[1]
    assert assert_refused_or_whole(sound, raw[: data.draw(st.integers(0, len(raw) - 1), "length")])


@MANY
@given(st.data())
def test_changed_bytes(sound, data):
    _, raw, _, structure = sound
    damaged = bytearray(raw)
    places = st.integers(0, len(raw) - 1) | st.sampled_from(structure)
    for i, change in data.draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=3), "changes"):
        damaged[i] ^= change
    assert_refused_or_whole(sound, bytes(damaged))


@pytest.mark.parametrize("i", range(9, 22, 4))
def test_lost_and_moved_pieces(sound, i):
    raw = sound[1]
    cut = len(raw) * i // 30
    assert assert_refused_or_whole(sound, raw[:cut] + raw[cut + 64 :])
    assert assert_refused_or_whole(sound, raw[:cut] + bytes(64) + raw[cut + 64 :])


def test_a_changed_number_is_noticed(sound):
    raw = bytearray(sound[1])
    raw[len(raw) // 2] ^= 1  # within optimizer.m.0
    assert assert_refused_or_whole(sound, bytes(raw))


def test_a_changed_dtype_is_noticed(sound):
    """'<f2' in place of '<f4' has NumPy read half of the array, and so never meet its checksum."""
    raw = sound[1]
    at = raw.rindex(b"'<f4'")
    assert assert_refused_or_whole(sound, raw[:at] + b"'<f2'" + raw[at + 5 :])


def test_an_exchanged_array_is_noticed(sound, tmp_path):
    """A sound archive, but not the one that was written."""
    path = tmp_path / "model.npz"
    with np.load(sound[0]) as archive:
        members = dict(archive)
    np.savez(path, **members)
    checkpoint.load(path)  # as it was
    for changed in (
        members | {"model.decoder.0.bias": members["model.decoder.0.bias"] + 1},
        members | {"model.decoder.0.bias": members["model.decoder.0.bias"][None]},
        members | {"model.decoder.0.bias": members["model.decoder.0.bias"].view(np.int32)},
        members | {"more": np.zeros(1)},
        {name: value for name, value in members.items() if name != "optimizer.m.0"},
    ):
        np.savez(path, **changed)
        assert "altered" in refused(path)


def test_a_lost_member_is_noticed(sound):
    """A longer comment in the zip's directory swallows the entries behind it."""
    raw = bytearray(sound[1])
    last = raw.rindex(b"PK\x01\x02")
    before = raw.rindex(b"PK\x01\x02", 0, last)
    raw[before + 32 : before + 34] = (raw.rindex(b"PK\x05\x06") - last).to_bytes(2, "little")
    assert assert_refused_or_whole(sound, bytes(raw))


def test_a_flag_of_encryption(sound):
    raw = bytearray(sound[1])
    raw[raw.index(b"PK\x01\x02") + 8] ^= 1
    assert assert_refused_or_whole(sound, bytes(raw))


@pytest.mark.parametrize("method", [8, 9, 12, 14, 99])
def test_another_method_of_compression(sound, method):
    raw = bytearray(sound[1])
    raw[raw.index(b"PK\x01\x02") + 10] = method
    assert assert_refused_or_whole(sound, bytes(raw))


# writing


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    checkpoint.save(path, SPEC, weights())
    old = path.read_bytes()

    def fails(file, **arrays):
        file.write(b"PK\x03\x04 and then the disk is full")
        file.flush()
        assert Path(file.name).parent == tmp_path and Path(file.name) != path  # the same folder, so the same disk
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", fails)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, SPEC, {})
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["model.npz"]
    path.unlink()
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, SPEC, {})
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_the_data_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("fsync", os.fstat(fd).st_size)), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("replace", Path(a).stat().st_size)), replace(a, b)))
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("12345")
    assert calls == [("fsync", 5), ("replace", 5)]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")
def test_the_mode_is_that_of_any_new_file(tmp_path):
    checkpoint.save(tmp_path / "model.npz", SPEC, {})
    (tmp_path / "other").touch()
    assert (tmp_path / "model.npz").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_header_that_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match="cannot hold"):
        checkpoint.save(tmp_path / "model.npz", SPEC | {"path": tmp_path}, {})
    assert os.listdir(tmp_path) == []
