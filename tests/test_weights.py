"""Weights as .safetensors: what goes out comes in, and what is wrong with a file is said in one sentence."""

import json
import sys

import numpy as np
import pytest

from minivae import InputError, backend, checkpoint, models, nn, weights
from minivae.cli import main

numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with small data, a run on it, and the run's weights, exported."""
    folder = tmp_path_factory.mktemp("weights")
    np.save(folder / "data.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    train = ["train", "vae", "--data", folder / "data.npy", "--epochs", 1, "--hidden", 8, "--latent", 2]
    given = ["--likelihood", "gaussian", "--out", folder / "run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minivae.report.figures", lambda *args: None)  # which take seconds
        assert main([str(a) for a in (*train, *given)]) == 0
    assert main(["export", str(folder / "run")]) == 0
    return folder


def test_export_holds_the_weights_and_what_builds_the_model(folder):
    state, header = weights.load(folder / "run/model.safetensors")
    assert weights.load(str(folder / "run/model.safetensors"))[0].keys() == state.keys()  # a path may be text
    model, there = checkpoint.load_model(str(folder / "run/model.npz"))
    assert header["model"] == "vae" and header["arguments"] == there["arguments"] and header["arguments"]["latent"] == 2
    assert state.keys() == model.state_dict().keys() and state["likelihood.logvar"].shape == ()
    for name, a in model.state_dict().items():
        assert state[name].dtype == a.dtype and (state[name] == a).all()
    again, _ = checkpoint.load_model(folder / "run/model.safetensors")
    x = backend.current().asarray(np.random.default_rng(1).random((3, 1, 8, 8), dtype=np.float32))
    assert (again.reconstruct(x) == model.reconstruct(x)).all() and not again.training


@pytest.mark.parametrize("command", ["evaluate", "sample", "reconstruct", "encode", "export"])
def test_commands_take_what_was_exported(folder, command, tmp_path, capsys):
    given = (
        []
        if command == "evaluate"
        else ["--out", str(tmp_path / {"encode": "a.npz", "export": "a.safetensors"}.get(command, "a.png"))]
    )
    for name in ("model.npz", "model.safetensors"):
        assert main([command, str(folder / "run" / name), *given]) == 0
    first, second = np.array_split(capsys.readouterr().out.splitlines(), 2)
    assert (first == second).all() and len(first)


def test_arrays_of_every_layout_and_kind(tmp_path):
    state = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T, "steps": np.arange(10.0)[::2], "scalar": np.array(3),
        "none": np.zeros((0, 4), np.float32), "half": np.array([1.5], np.float16), "flags": np.array([True, False]),
    }  # fmt: skip
    weights.save(tmp_path / "a.safetensors", state)
    found, header = weights.load(tmp_path / "a.safetensors")
    assert header == {} and found.keys() == state.keys()
    for name, a in state.items():
        assert found[name].shape == a.shape and found[name].dtype == a.dtype and (found[name] == a).all()


def test_a_file_that_is_there_stays_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    weights.save(path, {"a": np.ones(3)})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        weights.save(path, {"a": np.zeros(3)}, {"model": object()})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_wrong_names_and_shapes_are_told():
    layer = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"do not fit Linear: 'bias' is missing, 'weight' has shape \(2, 4\) instead"):
        layer.load_state_dict({"weight": np.zeros((2, 4))})


def damaged(folder, path, how):
    """A file that is wrong in a way."""
    source = folder / "run/model.safetensors"
    state, header = weights.load(source)
    if how == "text":
        path.write_text("no weights\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(source.read_bytes()[:-100])
    elif how == "long":
        path.write_bytes(b"\xff" * 8 + source.read_bytes()[8:])  # a header of 2^64 bytes
    elif how == "bfloat16":
        text = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0")
    elif how == "foreign":
        numpy_files.save_file(state, path)
    elif how == "header":
        numpy_files.save_file(state, path, {weights.KEY: "[1,"})
    elif how == "list":
        numpy_files.save_file(state, path, {weights.KEY: "[]"})
    elif how == "model":
        weights.save(path, state, header | {"model": "transformer"})
    elif how == "arguments":
        weights.save(path, state, header | {"arguments": {"shape": "round"}})
    elif how == "sizes":
        weights.save(path, state, header | {"arguments": header["arguments"] | {"hidden": [9]}})
    elif how == "names":
        weights.save(path, {f"x.{name}": a for name, a in state.items()}, header)
    elif how == "nan":
        weights.save(path, state | {"decoder.0.bias": np.full(8, np.nan, np.float32)}, header)
    elif how == "options":
        weights.save(path, state, header | {"options": {}})


DAMAGED = {
    "missing": "there are no weights", "text": "cannot be read as safetensors", "empty": "cannot be read",
    "truncated": "cannot be read", "long": "cannot be read", "bfloat16": "cannot be read", "foreign": "does not tell",
    "header": "no JSON object", "list": "no JSON object", "model": "unknown model 'transformer'",
    "nan": "'decoder.0.bias' in", "arguments": "not a checkpoint of a model", "names": "is missing",
    "options": "does not tell", "sizes": "'encoder.1.weight' has shape (8, 64) instead of (9, 64)",
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGED)
def test_a_bad_file_is_one_sentence(folder, how, tmp_path, capsys):
    path = tmp_path / "bad.safetensors"
    damaged(folder, path, how)
    assert main(["sample", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("minivae: ") and said.count("\n") == 1 and "Traceback" not in said
    assert str(path) in said and DAMAGED[how] in said
    assert set(tmp_path.iterdir()) <= {path}


def test_bad_exports(folder, tmp_path, capsys):
    for given, word in (
        (["nowhere"], "nowhere"),
        ([str(folder / "run"), "--out", str(tmp_path / "a.bin")], "a.bin"),
        ([str(folder / "run"), "--out", str(tmp_path / "no/a.safetensors")], "--out"),
    ):
        assert main(["export", *given]) == 2
        said = capsys.readouterr().err
        assert word in said and said.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_without_the_package_the_extra_is_named(folder, monkeypatch, capsys):
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for command in (["export", str(folder / "run")], ["sample", str(folder / "run/model.safetensors")]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "pip install 'minivae[safetensors]'" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_goes_out_and_in(name, tmp_path):
    codec = {"model": "vqvae", "arguments": {"shape": [1, 8, 8], "channels": [4]}}
    arguments = models.arguments(name, shape=(1, 8, 8), **({"codec": codec} if name == "prior" else {}))
    model = models.build(name, **arguments)
    header = {"model": name, "arguments": arguments, "data": "glyphs", "options": {"binarize": False}}
    weights.save(tmp_path / "a.safetensors", model.state_dict(), header)
    again, _ = checkpoint.load_model(tmp_path / "a.safetensors")
    assert all((again.state_dict()[key] == a).all() for key, a in model.state_dict().items())
