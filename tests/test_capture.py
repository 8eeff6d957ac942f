"""Captured steps on the stand-in, whose graphs do nothing while they are recorded and all of it when launched."""

import warnings

import numpy as np
import pytest
import strict
from strict import recording

from minivae import backend, checks, models
from minivae.backend import cublas
from minivae.data import Dataset, Split
from minivae.errors import InputError
from minivae.train import Options, Trainer

IMAGES = np.rint(255 * np.random.default_rng(0).random((52, 1, 8, 8))).astype(np.uint8)  # the last batch is smaller
LABELS = np.arange(52) % 3
LIBRARY = recording.Library()
MODELS = {
    "vae": ("vae", {}, {}),
    "vae annealed": ("vae", {"likelihood": "gaussian"}, {"anneal": 2, "clip": 1.0}),
    "capacity": ("vae", {"capacity": 3.0}, {"anneal": 2, "lr_schedule": "cosine"}),
    "vae conv": ("vae", {"arch": "conv", "channels": (2, 3), "likelihood": "logistic"}, {"binarize": True}),
    "iwae": ("iwae", {}, {"optimizer": "adamax"}),
    "dae": ("dae", {}, {"optimizer": "adamw"}),
    "vqvae": ("vqvae", {"codes": 8, "dim": 4, "channels": (4, 4), "residual_blocks": 1}, {}),
    "vqvae gradient": ("vqvae", {"codes": 8, "dim": 4, "channels": (4,), "quantizer": "gradient"}, {}),
    "beta-tcvae": ("beta-tcvae", {}, {}),
    "cvae": ("cvae", {"classes": 3}, {}),
    "completion": ("completion", {}, {"binarize": True}),
    "hvae": ("hvae", {}, {}),
    "vae iaf": ("vae", {"flow": "iaf"}, {}),
    "wae": ("wae", {}, {}),
    "gan": ("gan", {}, {}),
    "factorvae": ("factorvae", {"judge": (8, 8)}, {}),
    "vqvae2": ("vqvae2", {"codes": 8, "dim": 4, "channels": (4, 4)}, {}),
    "vqvae fsq": ("vqvae", {"channels": (4,), "quantizer": "fsq"}, {"optimizer": "sgd"}),
}


@pytest.fixture(autouse=True)
def on_the_stand_in(monkeypatch):
    monkeypatch.setattr(cublas, "_loaded", lambda: LIBRARY)
    backend.use("strict")
    with checks(False):  # which wait for the device
        yield


def trained(kind, captured):
    """The history of a training, its model, and how often a graph was launched."""
    name, arguments, options = MODELS[kind]
    backend.manual_seed(0)
    model = models.build(name, shape=(1, 8, 8), **arguments)
    dataset = Dataset("drawn", Split(IMAGES, LABELS), Split(IMAGES[:8], LABELS[:8]), ("a", "b", "c"))
    trainer = Trainer(model, dataset, Options(epochs=4, batch_size=8, lr=3e-3, capture=captured, **options))
    strict.counts.clear()
    trainer.run()
    return trainer, strict.counts["graphs"]


@pytest.mark.parametrize("kind", MODELS)
def test_a_captured_training_is_the_eager_one(kind):
    """Same weights, same noise: the same loss in each epoch, but for what cuBLAS rounds otherwise."""
    eager, launched = trained(kind, captured=False)
    assert not launched
    captured, launched = trained(kind, captured=True)
    # two calls of either size of batch run as they are; 4 epochs of 6 batches of 8 and one of 4
    assert launched == (24 - 2) + (4 - 2)
    for one, other in zip(eager.history, captured.history, strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            assert other[key] == pytest.approx(one[key], rel=2e-4, abs=1e-6), key
    for (name, one), (_, other) in zip(
        eager.model.state_dict().items(), captured.model.state_dict().items(), strict=True
    ):
        np.testing.assert_allclose(other, one, rtol=1e-2, atol=2e-3, err_msg=name)
    assert eager.optimizer.steps == captured.optimizer.steps
    for one, other in zip(eager.optimizers.values(), captured.optimizers.values(), strict=True):
        assert one.counts == other.counts


def test_a_replay_moves_nothing_and_waits_for_nothing():
    trainer, _ = trained("vae annealed", captured=True)
    batches = list(trainer.batches.indices(9))
    trainer._step(batches[0])
    strict.counts.clear()
    trainer._step(batches[1])
    moved = {what: n for what, n in strict.counts.items() if n and what != "launches"}
    assert moved == {"graphs": 1}
    assert strict.counts["launches"] == 3  # two write numbers (the rate with Adam's corrections, beta), one watches


def test_the_noise_differs_at_each_replay():
    xp = backend.current()
    rng = xp.generator(0)
    step = xp.capture(lambda x: x * 0 + rng.random(3, dtype=xp.float32))
    drawn = [xp.to_numpy(step(xp.zeros(3, dtype=xp.float32))).tolist() for _ in range(6)]
    expected = np.random.default_rng(0).random(18, dtype=np.float32).reshape(6, 3).tolist()
    assert drawn == expected


def test_what_python_holds_freezes():
    """Why the learning rate must lie on the device: this is what a graph does with a number."""
    xp = backend.current()
    rate = {"lr": 1.0}
    step = xp.capture(lambda x: x * rate["lr"])
    values = []
    for lr in (1.0, 2.0, 3.0, 4.0):
        rate["lr"] = lr
        values.append(float(step(xp.ones((), dtype=xp.float32))))
    assert values == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda x: x * float(x.sum()), "StreamCaptureError: .*not permitted"),
        (lambda x: x + backend.current().asarray(np.ones(2, np.float32)), "StreamCaptureError"),
        (lambda x: backend.current().einsum("i,i->i", x, x), "NotImplementedError: calling cuBLAS"),
        (lambda x: backend.current().matmul(x[None, None], x[:, None])[0, 0], "NotImplementedError: a product of"),
    ],
    ids=["reads", "uploads", "einsum", "stack"],
)
def test_a_step_that_cannot_be_captured_runs_as_it_is(step, reason):
    xp = backend.current()
    captured = xp.capture(step)
    x = xp.asarray(np.array([1.0, 2.0], np.float32))
    with pytest.warns(UserWarning, match=f"cannot be captured, and runs as it is .{reason}"):
        values = [xp.to_numpy(captured(x)) for _ in range(3)]
    assert recording.tape is None and xp.cublas is None  # all is as it was
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        values.append(xp.to_numpy(captured(x)))
    assert all((value == values[0]).all() for value in values)


def test_on_numpy_it_is_the_function_itself():
    def step(x):
        return x

    assert backend.host().capture(step) is step


def test_options_that_do_not_go_together():
    with pytest.raises(InputError, match="skip"):
        Options(capture=True, on_nan="skip")


def test_streamed_data(monkeypatch):
    """Data that do not fit: each batch is sent, and the step after that is captured."""
    monkeypatch.setattr(strict.cuda.runtime, "memGetInfo", lambda: (1000, 1 << 30))
    trainer, launched = trained("vae", captured=True)
    assert not trainer.batches.resident and launched == 24
