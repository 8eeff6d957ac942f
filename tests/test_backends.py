"""NumPy and CuPy: the same results, checkpoints both ways, nothing moved in a step unasked.

CuPy is the strict stand-in for it, or with `pytest --backend cupy` itself.
"""

import functools
import math
import operator
import re
from pathlib import Path

import numpy as np
import nvrtc
import pytest
import strict

from minivae import Tensor, backend, checkpoint, checks, models, ops, optim
from minivae.cases import CASES
from minivae.data import Dataset, Labelled, Split
from minivae.players import players_of
from minivae.testing import check_op
from minivae.train import Options, Trainer

SHAPE = (1, 8, 8)
CODEC = {"model": "vqvae", "arguments": {"shape": SHAPE, "codes": 8, "dim": 4, "channels": (4,)}}
IMAGES = np.random.default_rng(0).random((16, *SHAPE), dtype=np.float32)
MODELS = {
    "ae": ("ae", {}),
    "dae": ("dae", {}),
    "context": ("context", {"arch": "conv", "channels": (2,)}),
    "words": ("ae", {"shape": (12,), "likelihood": "multinomial"}),
    "vae": ("vae", {}),
    "vae conv": ("vae", {"arch": "conv", "channels": (2, 3), "likelihood": "logistic"}),
    "vae gaussian": ("vae", {"likelihood": "gaussian", "variance": 0.1, "kl": "monte-carlo", "samples": 2}),
    "vae pixel": ("vae", {"likelihood": "gaussian", "variance": "pixel", "free_bits": 0.1}),
    "beta-vae": ("beta-vae", {"capacity": 2.0, "likelihood": "gaussian"}),
    "iwae": ("iwae", {}),
    "vae planar": ("vae", {"flow": "planar"}),
    "vae iaf": ("vae", {"flow": "iaf"}),
    "linear-ae": ("linear-ae", {}),
    "beta-tcvae": ("beta-tcvae", {}),
    "cvae": ("cvae", {"classes": 3}),
    "completion": ("completion", {"hidden": (8, 8), "latent": 4}),
    "hvae": ("hvae", {}),
    "pixelvae": ("pixelvae", {"latent": 2, "width": 4, "layers": 2}),
    "prior": ("prior", {"codec": CODEC, "width": 4, "layers": 2, "classes": 3}),
    "factorvae": ("factorvae", {"judge": (8, 8)}),
    "wae": ("wae", {}),
    "gan": ("gan", {}),
    "vaegan": ("vaegan", {"arch": "conv", "channels": (2,), "hidden": (6,)}),
    "vqvae": ("vqvae", {"codes": 8, "dim": 4, "channels": (4, 4), "residual_blocks": 1}),
    "vqvae gradient": ("vqvae", {"codes": 8, "dim": 4, "channels": (4,), "quantizer": "gradient", "kmeans": False}),
    "vqvae rotation": ("vqvae", {"codes": 8, "dim": 4, "channels": (4,), "estimator": "rotation"}),
    "vqvae2": ("vqvae2", {"codes": 8, "dim": 4, "channels": (4, 4)}),
    "vqvae fsq": ("vqvae", {"channels": (4,), "quantizer": "fsq"}),
}
every_model = pytest.mark.parametrize("kind", MODELS)
OTHER = "cupy" if backend.current().name == "cupy" else "strict"
EPS = 2.0**-23
# How far losses and gradients (as vectors) may differ, in roundings of float32: at the first step, and at the tenth.
# On the stand-in exp, log and tanh differ by one or two from NumPy's: measured 2.5 in a gradient. Adam divides each
# entry of it by its own size, so that tiny ones move their weights as far as large ones do, and their roundings too:
# measured 60 at the tenth step. A GPU sums matrix products in another order besides; there nothing is measured yet.
FIRST, TENTH = {"strict": (16, 1024), "cupy": (256, 16384)}[OTHER]
# IWAE weighs its samples by e^(log w): a rounding of log w, here of 45 nats, is a relative error 45 times as large
# at the first step. From there Adam goes on: on NumPy alone, weights that are one rounding off at the start make its
# gradients differ by 14,000 to 33,000 roundings at the tenth step, and one of its 136,564 weights by 2e-3 to 6e-3;
# measured between NumPy and the stand-in 13,000 to 37,000, as its tanh of a sum is C's, one rounding off at each step
# (5,900 and 1.2e-3 while it took NumPy's).
# A VAE-GAN's gradients lead through its judge, of normalised features: on NumPy alone, weights that are one rounding
# off change them by 6 to 600 roundings in the first step; measured 21 between NumPy and the stand-in.
# A codebook begins at means of vectors, where differences cancel: one rounding changes a VQ-VAE's gradients by 17 to
# 45; measured 33 between NumPy, which adds up rows sorted, and the stand-in, which takes them as they come. Where Adam
# moves such a codebook, of whose gradient only roundings are left, no two runs are alike: that one begins elsewhere.
# The factors of the first step, of the tenth, and of the weights' way
SENSITIVE = {"iwae": (4, 64, 8), "vaegan": (4, 1, 1), "vqvae": (4, 1, 1)}
# Some gradients are sums that cancel almost to nothing, to 1e-5 of the others: they are as wrong as their terms
CANCELLED = 1e-4  # of all gradients together
LR, STEPS = 1e-2, 10


class Noise:
    """NumPy's random numbers, moved to a backend."""

    def __init__(self, xp, seed):
        self.xp, self.host = xp, np.random.default_rng(seed)

    def __getattr__(self, name):
        return lambda *args, **options: self.xp.asarray(getattr(self.host, name)(*args, **options))


class Run:
    """A model on a backend, of the same weights and noise on each. own_noise: that of the backend."""

    def __init__(self, library, kind, own_noise=False):
        self.xp = backend.use(library)
        self.xp.rng = Noise(self.xp, 0)
        name, arguments = MODELS[kind]
        self.spec = name, {"shape": SHAPE} | arguments
        self.model = models.build(name, **self.spec[1])
        self.optimizer = optim.Adam(self.model.parameters(), LR)
        self.rng = self.xp.generator(1) if own_noise else Noise(self.xp, 1)
        images = np.rint(3 * IMAGES[:, 0, 0:1].repeat(2, 1).reshape(16, -1)[:, :12]) if kind == "words" else IMAGES
        if kind == "prior":  # rows of a label and the codes
            images = np.random.default_rng(0).integers(0, 3, (16, 1 + 4 * 4))
        self.x = self.xp.asarray(images)
        if kind == "cvae":
            self.x = Labelled(self.x, self.xp.asarray(np.arange(16) % 3))

    def step(self):
        self.optimizer.zero_grad()
        losses = [player.loss(self.x, self.rng) for player in players_of(self.model).values()]
        functools.reduce(operator.add, (loss.total for loss in losses)).backward()
        optim.clip_grad_norm(self.optimizer.parameters, 1.0)
        self.optimizer.step()
        return losses[-1]

    def gradients(self):
        return [backend.to_numpy(p.grad) for p in self.optimizer.parameters]


def test_every_model_is_compared():
    assert {name for name, _ in MODELS.values()} == set(models.MODELS)


@every_model
def test_ten_steps_agree(kind):
    """Of every model, from the same weights and with the same noise: the loss, all gradients, the weights after it."""
    runs = [Run(library, kind) for library in ("numpy", OTHER)]
    for step in range(STEPS):
        first, tenth, way = SENSITIVE.get(kind, (1, 1, 1))
        allowed = EPS * (FIRST * first if step == 0 else TENTH * tenth)
        totals = []
        for run in runs:
            backend.use(run.xp.name)
            totals.append(run.step().total.item())
        assert math.isclose(*totals, rel_tol=allowed)
        ours, theirs = (run.gradients() for run in runs)
        whole = math.hypot(*map(np.linalg.norm, ours))
        for a, b in zip(ours, theirs, strict=True):
            assert np.linalg.norm(b - a) <= allowed * max(np.linalg.norm(a), CANCELLED * whole)
    ours, theirs = (run.model.state_dict() for run in runs)
    for name in ours:  # none has come further than a hundredth of the way that it can have gone
        np.testing.assert_allclose(theirs[name], ours[name], rtol=allowed, atol=way * LR * STEPS / 100)


@every_model
def test_a_step_moves_nothing_and_waits_for_nothing(kind):
    """The batch is there already. The first step may look at its data: a codebook begins by k-means."""
    run = Run("strict", kind, own_noise=True)
    with checks(False):  # which wait
        run.step()
        strict.counts.clear()
        loss = run.step()
    assert not moved(), strict.counts
    loss.total.item()
    assert moved() == {"waits": 1}  # so they are counted


def moved():
    """What the stand-in counted, but for kernels launched."""
    return {what: n for what, n in strict.counts.items() if n and what != "launches"}


@pytest.fixture
def unchecked():
    """MINIVAE_CHECKS would wait for the device."""
    with checks(False):
        yield


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_what_the_loop_moves(kind, fits, monkeypatch):
    """Data on the device: nothing in a step. Data that do not fit: the batch. In an epoch: the order, and the row."""
    if not fits:
        monkeypatch.setattr(strict.cuda.runtime, "memGetInfo", lambda: (1000, 1 << 30))
    images = IMAGES if kind == "float32" else np.rint(255 * IMAGES).astype(np.uint8)
    counted, read = {}, []
    for steps, test in ((4, images), (8, images.repeat(80, axis=0))):  # one batch to evaluate, and three
        xp = backend.use("strict")
        split = Split(images.repeat(steps // 4, axis=0))
        model = models.build("vae", shape=SHAPE)
        trainer = Trainer(model, Dataset("drawn", split, Split(test), ()), Options(epochs=4, batch_size=4, clip=1.0))
        rows = []
        for _ in range(4):
            strict.counts.clear()
            trainer._epoch(None)
            rows.append(moved())
            trainer._evaluate()
        counted[steps] = rows[1:]  # the data are moved in the first epoch
        assert type(next(trainer.batches.epoch(5))) is xp.ndarray
        strict.counts.clear()
        trainer._epoch(None)
        strict.counts.clear()
        trainer._evaluate()
        assert moved()["to_device"] == (1 if fits else -(-len(test) // 500)), strict.counts  # the order, or the batches
        read.append(moved()["waits"])
    assert read[0] == read[1] <= 16, read  # the numbers of the row, and whether all were finite
    if fits:
        assert all(rows == [{"to_device": 1}] * 3 for rows in counted.values()), counted
    else:
        assert counted == {n: [{"to_device": n}] * 3 for n in counted}, counted


def test_batches_are_the_same_on_both_backends(monkeypatch):
    from minivae.data import Batches

    images = np.random.default_rng(0).integers(0, 256, (11, 1, 3, 3), dtype=np.uint8)
    for data in (images, images.astype(np.float32) / 255):
        for free in (1 << 30, 10):
            monkeypatch.setattr(strict.cuda.runtime, "memGetInfo", lambda free=free: (free, 1 << 30))
            there = Batches(Split(data), 4, seed=3, xp=backend.use("strict")).epoch(2, start=1)
            for ours, theirs in zip(Batches(Split(data), 4, seed=3).epoch(2, start=1), there, strict=True):
                np.testing.assert_array_equal(ours, backend.to_numpy(theirs))


@pytest.mark.parametrize("architecture", ["sm_70", "sm_80", "sm_90"])
def test_nvrtc_compiles_every_kernel_that_ran(architecture):
    """Of the tests before, and the models' at least."""
    for kind in ("vae conv", "vqvae"):
        Run("strict", kind).step()
    assert strict.compiled
    for source in strict.compiled.values():
        size, log = nvrtc.compiled(source, architecture)
        assert size > 0 and not log, log


@pytest.mark.parametrize(("there", "back"), [("numpy", "strict"), ("strict", "numpy")])
@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_checkpoints_go_between_backends(there, back, kind, tmp_path):
    run = Run(there, kind)
    run.step()
    arrays = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    arrays |= {f"optimizer.{k}": v for k, v in run.optimizer.state_dict().items() if k != "steps"}
    header = {"model": run.spec[0], "arguments": run.spec[1]}
    checkpoint.save(tmp_path / "model.npz", header, arrays)
    expected = backend.to_numpy(run.model.eval().reconstruct(run.x))
    xp = backend.use(back)
    model, _ = checkpoint.load_model(tmp_path / "model.npz")
    assert {type(p.data) for p in model.parameters()} == {xp.ndarray}
    reconstructed = backend.to_numpy(model.reconstruct(xp.asarray(backend.to_numpy(run.x))))
    np.testing.assert_allclose(reconstructed, expected, rtol=0, atol=16 * EPS)  # of sigmoids, up to 1
    optimizer = optim.Adam(model.parameters(), 1e-2)
    optimizer.load_state_dict(run.optimizer.state_dict())
    assert type(optimizer.state["m"][0]) is xp.ndarray


@pytest.mark.parametrize("name", CASES)
def test_every_case_of_gradcheck_on_the_stand_in(name):
    backend.use("strict")
    case = CASES[name]
    assert check_op(case.fn, *case.arguments, examples=3).entries >= 0


def test_an_empty_parameter_is_no_obstacle():
    """CuPy's blocks are the whole array, even where there is none."""
    from minivae import nn

    xp = backend.use("strict")
    empty, full = nn.Parameter(xp.zeros((0, 3))), nn.Parameter(xp.ones(2))
    empty.grad, full.grad = xp.zeros((0, 3)), xp.ones(2)
    optim.Adam([empty, full], 0.1).step()
    np.testing.assert_allclose(backend.to_numpy(full.data), 0.9)


def test_counts_of_indices():
    for library in ("numpy", "strict"):
        xp = backend.use(library)
        counted = xp.count(xp.asarray(np.array([0, 2, 2, 4])), 6)
        np.testing.assert_array_equal(backend.to_numpy(counted), [1, 0, 2, 0, 1, 0])
        assert counted.dtype == np.int64


def test_clip_without_bounds():
    """CuPy's clip needs one, and its where an array."""
    a = Tensor(backend.use("strict").ones(3), requires_grad=True)
    (ops.clip(a) * 2 + ops.clip(a, low=2) + ops.clip(a, high=2)).sum().backward()
    assert a.grad.tolist() == [3, 3, 3]


def test_only_backend_py_knows_of_cupy():
    folder = Path(backend.__file__).parent
    users = [p.name for p in folder.rglob("*.py") if re.search(r"^\s*(import|from) cupy", p.read_text(), re.M)]
    assert users == []
