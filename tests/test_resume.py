"""A run that was stopped and resumed ends with the bits of the run that never was: weights, optimiser, metrics."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from minivae import InputError, backend, checkpoint, manual_seed, models, nn, ops, resume
from minivae.data import Dataset, Split
from minivae.models import Loss
from minivae.options import Options, Saving
from minivae.tensor import as_tensor
from minivae.train import Trainer

SHAPE = (1, 8, 8)
VQVAE = {"shape": list(SHAPE), "codes": 6, "dim": 3, "channels": [4]}
# name of the case: model, its arguments, options of training
CASES = {
    "ae": ("ae", {"hidden": [8], "latent": 3}, {}),
    "linear-ae": ("linear-ae", {"latent": 3}, {"optimizer": "sgd"}),
    "dae": ("dae", {"hidden": [8], "latent": 3}, {"optimizer": "adamax", "clip": 0.5}),
    "context": ("context", {"arch": "conv", "channels": [4, 8], "hidden": [8]}, {"optimizer": "adagrad"}),
    "vae": ("vae", {"hidden": [8], "latent": 2}, {"anneal": 2, "lr_schedule": "cosine", "binarize": True}),
    "beta-vae": ("beta-vae", {"hidden": [8], "latent": 2, "capacity": 5.0}, {"anneal": 2, "optimizer": "adamw"}),
    "iwae": ("iwae", {"hidden": [8], "latent": 2, "k": 3}, {"on_nan": "skip"}),
    "beta-tcvae": ("beta-tcvae", {"hidden": [8], "latent": 2}, {"anneal": 0}),
    "cvae": ("cvae", {"hidden": [8], "latent": 2, "classes": 3}, {"binarize": True}),
    "completion": ("completion", {"hidden": [8], "latent": 2}, {"binarize": True}),
    "hvae": ("hvae", {"hidden": [8]}, {"anneal": 2}),
    "pixelvae": ("pixelvae", {"latent": 2, "width": 4, "layers": 2}, {"binarize": True, "inner_steps": 10}),
    "factorvae": ("factorvae", {"hidden": [8], "latent": 2, "judge": [4, 4]}, {"clip": 1.0, "lr_schedule": "cosine"}),
    "wae": ("wae", {"hidden": [8], "latent": 2}, {}),
    "gan": ("gan", {"hidden": [8], "latent": 2}, {"on_nan": "skip"}),
    "vaegan": ("vaegan", {"hidden": [8], "latent": 2}, {"optimizer": "sgd"}),
    "vqvae": ("vqvae", {"codes": 6, "dim": 3, "channels": [4]}, {}),
    "vqvae, codes as parameters": ("vqvae", {"codes": 6, "dim": 3, "channels": [4], "quantizer": "gradient"}, {}),
    "vqvae2": ("vqvae2", {"codes": 6, "dim": 3, "channels": [4, 4]}, {}),
    "prior": ("prior", {"codec": {"model": "vqvae", "arguments": VQVAE}, "width": 4, "layers": 2, "kernel": 3}, {}),
    "vqvae, fsq": ("vqvae", {"quantizer": "fsq", "levels": [3, 2], "channels": [4]}, {}),
}


def blocks(n: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    return Split(np.kron(rng.integers(0, 256, (n, 1, 2, 2)), np.ones((4, 4))).astype(np.uint8), np.arange(n) % 3)


DATA = Dataset("blocks", blocks(44, 0), blocks(12, 1))  # 5 batches of 10 an epoch, the last of 4


def trainer(case: str, **more: object) -> Trainer:
    name, arguments, options = CASES[case]
    manual_seed(0)
    arguments = {"shape": list(SHAPE), **arguments}
    made = Options(**{"epochs": 3, "batch_size": 10, "lr": 5e-3} | options | more)
    model = models.build(name, **arguments)
    data = model.examples(DATA) if name == "prior" else DATA
    return Trainer(model, data, made, (name, arguments), "blocks")


def again(case: str, path: Path, **more: object) -> Trainer:
    """A new trainer, as a new process would make it, that goes on from a checkpoint."""
    made = trainer(case, **more)
    resume.restore(made, *checkpoint.load(path), path)
    return made


def stopped(run: Trainer, step: int) -> Trainer:
    """The trainer, with Ctrl-C in its way once `step` steps are done."""
    do = run._step

    def once(x):
        result = do(x)
        run.interrupted = run.optimizer.steps == step
        return result

    run._step = once
    return run


def content(folder: Path, name: str = "model.npz") -> tuple[dict, dict, str]:
    """Header and arrays of a checkpoint and the text of metrics.csv, without the times."""
    header, arrays = checkpoint.load(folder / name)
    header["history"] = [{k: v for k, v in row.items() if k != "seconds"} for row in header["history"]]
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    assert rows[0][-1] == "seconds" and all(float(row[-1]) > 0 for row in rows[1:])
    del header["seconds"]
    return header, {k: (a.dtype, a.shape, a.tobytes()) for k, a in arrays.items()}, str([row[:-1] for row in rows])


@pytest.mark.parametrize("case", CASES)
def test_stopped_at_any_step_it_ends_with_the_same_bits(case, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    trainer(case).run(whole)
    for step in (1, 4, 5, 6, 10, 12, 15):  # within an epoch, and at the last step of each
        out = tmp_path / str(step)
        out.mkdir()
        run = stopped(trainer(case), step)
        run.run(out)
        assert run.interrupted and run.optimizer.steps == step and len(run.history) == (step - 1) // 5
        resumed = again(case, out / "model.npz")
        assert resumed.optimizer.steps == step
        resumed.run(out)
        assert content(out) == content(whole), step


def test_stopped_many_times(tmp_path):
    trainer("vqvae").run(tmp_path)
    whole = content(tmp_path)
    run = stopped(trainer("vqvae"), 1)
    run.run(tmp_path)
    for step in range(2, 16):
        run = stopped(again("vqvae", tmp_path / "model.npz"), step)
        run.run(tmp_path)
    again("vqvae", tmp_path / "model.npz").run(tmp_path)
    assert content(tmp_path) == whole


def test_stopped_while_it_evaluates(tmp_path, monkeypatch):
    import minivae.train as train

    trainer("vae").run(tmp_path)
    whole = content(tmp_path)
    run, do = trainer("vae"), train.evaluate

    def evaluate(*args, **options):
        run.interrupted = True
        return do(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluate", evaluate)
        run.run(tmp_path)
    assert len(run.history) == 1 and (run.epoch, run.batch) == (2, 0)
    again("vae", tmp_path / "model.npz").run(tmp_path)
    assert content(tmp_path) == whole


class Dropping(nn.Module):
    """An autoencoder with two dropouts: one draws from the backend's generator, one from its own."""

    def __init__(self):
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 8), nn.BatchNorm(8), nn.Dropout(0.2, np.random.default_rng(5)),
            nn.Linear(8, 64),
        )  # fmt: skip

    def loss(self, x, rng=None):
        x = as_tensor(x)
        total = ops.mse_loss(self.layers(x), x.reshape((-1, 64)))
        return Loss(total, {"reconstruction": total})


def test_the_generators_of_dropout_and_running_statistics_go_on(tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, "dropping", lambda shape: Dropping())
    monkeypatch.setitem(CASES, "dropping", ("dropping", {}, {}))
    trainer("dropping").run(tmp_path)
    whole = content(tmp_path)
    stopped(trainer("dropping"), 7).run(tmp_path)
    again("dropping", tmp_path / "model.npz").run(tmp_path)
    assert content(tmp_path) == whole
    assert len(whole[0]["generators"]) == 3


def test_more_epochs_are_as_if_asked_for_at_first(tmp_path):
    trainer("dae", epochs=4).run(tmp_path)
    whole = content(tmp_path)
    trainer("dae", epochs=2).run(tmp_path)
    again("dae", tmp_path / "model.npz", epochs=4).run(tmp_path)
    assert content(tmp_path) == whole


def test_the_seconds_of_an_epoch_are_those_of_both_its_parts(tmp_path):
    stopped(trainer("ae"), 3).run(tmp_path)
    header, arrays = checkpoint.load(tmp_path / "model.npz")
    assert 0 < header["seconds"] < 60
    run = trainer("ae")
    resume.restore(run, header | {"seconds": 1000.0}, arrays, tmp_path / "model.npz")
    run.run(tmp_path)
    assert 1000 < run.history[0]["seconds"] < 1060 and run.history[1]["seconds"] < 60


def test_what_a_checkpoint_says(tmp_path):
    run = trainer("vqvae")
    stopped(run, 8).run(tmp_path, Saving("2", keep=1))
    header, _ = checkpoint.load(tmp_path / "model.npz")
    assert header["format"] == checkpoint.FORMAT
    assert header["versions"]["numpy"] == np.__version__ and {"python", "minivae", "scipy"} < set(header["versions"])
    assert (header["steps"], header["epoch"], header["batch"]) == (8, 2, 3)
    assert header["options"] == asdict(run.options) and header["saving"] == {"every": "2", "keep": 1, "best": False}
    assert header["generators"]["trainer"] == run.rng.bit_generator.state
    assert header["fingerprint"] == resume.fingerprint(DATA) and header["backend"] == "numpy"
    assert sum(header["counted"][0]) == 30 * 16  # the vectors of the three batches of the epoch in hand
    assert json.dumps(header)


def test_a_fingerprint_tells_data_apart():
    def changed(images: np.ndarray) -> str:
        return resume.fingerprint(Dataset("other name", Split(images), DATA.test))

    images = DATA.train.images
    one = images.copy()
    one[3, 0, 2, 2] ^= 1
    kinds = [images, one, images[::-1], images[:-1], images.reshape(44, 1, 4, 16), images.astype(np.float32) / 255]
    prints = [changed(kind) for kind in kinds]
    assert prints[0] == resume.fingerprint(DATA)
    assert len(set(prints)) == len(kinds)
    assert changed(np.asfortranarray(images)) == prints[0]  # the layout is no part of the data
    assert resume.fingerprint(Dataset("blocks", DATA.train, Split(one[:12]))) != prints[0]


def test_every_model_has_a_case():
    assert {name for name, *_ in CASES.values()} == set(models.MODELS)


def test_a_generator_whose_state_is_not_told_begins_anew():
    """As CuPy's: from the seed and the step, so that the noise of what is done is not drawn again."""
    cupy = object.__new__(backend.CuPy)
    cupy.module = np
    assert cupy.generator_state(np.random.default_rng(0)) is None
    assert cupy.restored_generator(None, None, 7).random() == np.random.default_rng(7).random()


# what is refused


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.npz"
    stopped(trainer("vqvae"), 8).run(tmp_path)
    return path


def refused(run: Trainer, path: Path, header: dict, arrays: dict) -> str:
    with pytest.raises(InputError) as caught:
        resume.restore(run, header, arrays, path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_other_data(saved):
    run = trainer("vqvae")
    run.dataset = Dataset("blocks", blocks(44, 7), DATA.test)
    run.source = "elsewhere"
    message = refused(run, saved, *checkpoint.load(saved))
    assert "'elsewhere'" in message and "--data" in message


def test_another_backend(saved):
    header, arrays = checkpoint.load(saved)
    assert "--backend cupy" in refused(trainer("vqvae"), saved, header | {"backend": "cupy"}, arrays)


@pytest.mark.parametrize(
    "key", ["fingerprint", "backend", "generators", "counted", "history", "epoch", "means", "steps"]
)
def test_weights_without_the_state_of_a_training(saved, key):
    header, arrays = checkpoint.load(saved)
    del header[key]
    assert "train anew" in refused(trainer("vqvae"), saved, header, arrays)


@pytest.mark.parametrize("name", ["model.quantizer.sums", "optimizer.m.0", "optimizer.counts"])
@pytest.mark.parametrize("change", ["missing", "misshaped"])
def test_arrays_that_do_not_fit(saved, name, change):
    header, arrays = checkpoint.load(saved)
    value = arrays.pop(name)
    if change == "misshaped":
        arrays[name] = np.concatenate([value, value])
    assert name.split(".", 1)[1] in refused(trainer("vqvae"), saved, header, arrays)


def test_another_optimizer(saved):
    assert "SGD" in refused(trainer("vqvae", optimizer="sgd"), saved, *checkpoint.load(saved))


@pytest.mark.parametrize(
    ("begun", "given", "words"),
    [
        ({}, {"lr": 0.1}, ["lr 0.1", "lr 0.001"]),
        ({}, {"batch_size": 5}, ["batch_size 5", "batch_size 128"]),
        ({}, {"binarize": True}, ["binarize"]),
        ({}, {"seed": 1}, ["seed 1", "seed 0"]),
        ({"anneal": 2}, {"anneal": 3}, ["anneal 3", "anneal 2"]),
        ({"anneal": 4}, {"epochs": 3}, ["anneal 4", "3 epochs"]),
        ({"lr_schedule": "cosine"}, {"epochs": 20}, ["epochs 20", "cosine"]),
        ({}, {"lr_schedule": "cosine"}, ["lr_schedule"]),
    ],
)
def test_options_that_would_change_the_result(begun, given, words):
    with pytest.raises(InputError) as caught:
        Options(**begun).resumed(given)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_options_that_would_not():
    begun = Options(anneal=2)
    assert begun.resumed({}) == begun
    assert begun.resumed({"lr": 1e-3, "epochs": 30, "on_nan": "skip"}) == Options(30, anneal=2, on_nan="skip")
    assert Options(lr_schedule="cosine").resumed({"epochs": 10}).epochs == 10
