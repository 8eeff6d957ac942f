"""NumPy and the strict stand-in for CuPy: the same results, checkpoints both ways, nothing moved in a step unasked."""

import functools
import operator
import re
from pathlib import Path

import numpy as np
import pytest
import strict

from minivae import backend, checkpoint, models, ops, optim
from minivae.cases import CASES
from minivae.players import players_of
from minivae.testing import check_op

SHAPE = (1, 8, 8)
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
    "factorvae": ("factorvae", {"judge": (8, 8)}),
    "wae": ("wae", {}),
    "gan": ("gan", {}),
    "vaegan": ("vaegan", {"arch": "conv", "channels": (2,), "hidden": (6,)}),
    "vqvae": ("vqvae", {"codes": 8, "dim": 4, "channels": (4, 4), "residual_blocks": 1}),
    "vqvae gradient": ("vqvae", {"codes": 8, "dim": 4, "channels": (4,), "quantizer": "gradient"}),
    "vqvae rotation": ("vqvae", {"codes": 8, "dim": 4, "channels": (4,), "estimator": "rotation"}),
    "vqvae2": ("vqvae2", {"codes": 8, "dim": 4, "channels": (4, 4)}),
    "vqvae fsq": ("vqvae", {"channels": (4,), "quantizer": "fsq"}),
}
every_model = pytest.mark.parametrize("kind", MODELS)


@pytest.fixture(autouse=True)
def backend_as_it_was():
    before, generators = backend.current(), [(b, b.rng) for b in backend._loaded.values()]
    yield
    backend.use(before.name)
    for one, rng in generators:
        one.rng = rng


class Run:
    """A model on a backend, of the same weights and noise on each."""

    def __init__(self, library, kind):
        self.xp = backend.use(library)
        backend.manual_seed(0)
        name, arguments = MODELS[kind]
        self.spec = name, {"shape": SHAPE} | arguments
        self.model = models.build(name, **self.spec[1])
        self.optimizer = optim.Adam(self.model.parameters(), 1e-2)
        self.rng = self.xp.generator(1)
        images = np.rint(3 * IMAGES[:, 0, 0:1].repeat(2, 1).reshape(16, -1)[:, :12]) if kind == "words" else IMAGES
        self.x = self.xp.asarray(images)

    def step(self):
        self.optimizer.zero_grad()
        losses = [player.loss(self.x, self.rng) for player in players_of(self.model).values()]
        functools.reduce(operator.add, (loss.total for loss in losses)).backward()
        optim.clip_grad_norm(self.optimizer.parameters, 1.0)
        self.optimizer.step()
        return losses[-1]

    def gradients(self):
        return [backend.to_numpy(p.grad) for p in self.optimizer.parameters]


@every_model
def test_ten_steps_agree_to_the_bit(kind):
    runs = [Run(library, kind) for library in ("numpy", "strict")]
    for _ in range(10):
        totals = []
        for run in runs:
            backend.use(run.xp.name)
            totals.append(run.step().total.item())
        assert totals[0] == totals[1]
        for a, b in zip(*(run.gradients() for run in runs), strict=True):
            np.testing.assert_array_equal(a, b)
    ours, theirs = (run.model.state_dict() for run in runs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@every_model
def test_a_step_moves_nothing_and_waits_for_nothing(kind):
    """The batch is there already. The first step may look at its data: a codebook begins by k-means."""
    run = Run("strict", kind)
    run.step()
    strict.counts.clear()
    loss = run.step()
    assert not +strict.counts, strict.counts
    loss.total.item()
    assert +strict.counts == {"waits": 1}  # so they are counted


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
    np.testing.assert_array_equal(backend.to_numpy(model.reconstruct(xp.asarray(backend.to_numpy(run.x)))), expected)
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


# ---- the stand-in itself ----

REFUSED = {
    "numpy on the right": lambda a, n: a + n,
    "numpy on the left": lambda a, n: n + a,
    "numpy in place": lambda a, n: a.__iadd__(n),
    "numpy in a function": lambda a, n: strict.add(a, n),
    "numpy alone in a function": lambda a, n: strict.sum(n),
    "numpy assigned": lambda a, n: a.__setitem__(slice(None), n),
    "numpy as an index": lambda a, n: a[np.array([0])],
    "numpy's function": lambda a, n: np.sum(a),
    "numpy's ufunc": lambda a, n: np.exp(a),
    "conversion": lambda a, n: np.asarray(a),
    "a ufunc's where": lambda a, n: strict.exp(a, where=a > 0),
    "a sum's initial": lambda a, n: strict.sum(a, initial=0),
    "a method's where": lambda a, n: a.max(where=a > 0),
    "at of int64": lambda a, n: strict.add.at(strict.zeros(2, int), strict.zeros(1, int), 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_stand_in_refuses(name):
    with pytest.raises(TypeError):
        REFUSED[name](strict.ones(3), np.ones(3))


@pytest.mark.parametrize("name", ["errstate", "vecdot", "block", "nditer", "insert", "einsum_path"])
def test_the_stand_in_lacks_what_cupy_lacks(name):
    assert hasattr(np, name)
    assert not hasattr(strict, name)


def test_what_arrays_generators_and_ufuncs_lack():
    assert not hasattr(strict.ones(2), "setflags") and not hasattr(strict.ones(2).flags, "writeable")
    assert not any(hasattr(strict.random.default_rng(0), name) for name in ("normal", "permutation", "shuffle"))
    assert hasattr(strict.add, "reduce") and not hasattr(strict.maximum, "reduce")
    assert hasattr(strict.maximum, "at") and not hasattr(strict.multiply, "at")
    assert hasattr(ops, "sum") and not isinstance(strict.ones(2), np.ndarray)


def test_reductions_and_entries_are_arrays_and_reading_them_is_counted():
    a = strict.ones((2, 3))
    for scalar in (a.sum(), strict.mean(a), a[0, 1], a.max() + 1):
        assert type(scalar) is strict.ndarray and scalar.shape == ()
    strict.counts.clear()
    assert (float(a.sum()), int(a.sum()), bool(a.all()), a.sum().item(), f"{a.sum():.1f}") == (6, 6, True, 6, "6.0")
    assert strict.counts["waits"] >= 4
    assert (strict.counts["to_host"], strict.counts["to_device"]) == (0, 0)
    strict.asnumpy(strict.asarray(np.ones(2)))
    assert (strict.counts["to_host"], strict.counts["to_device"]) == (1, 1)


def test_entries_are_views():
    a = strict.ones(3)
    a[1][...] = 5
    assert a.tolist() == [1, 5, 1]
    assert a[1:].base is not None and a.copy().base is None


def test_only_backend_py_knows_of_cupy():
    folder = Path(backend.__file__).parent
    users = [p.name for p in folder.rglob("*.py") if re.search(r"^\s*(import|from) cupy", p.read_text(), re.M)]
    assert users == []
