"""Layers against PyTorch's, with the same weights: outputs, gradients, running statistics, state."""

import numpy as np
import pytest

from minivae import Tensor, nn

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")

TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}  # float32, through a few layers


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dense() -> tuple[nn.Module, torch.nn.Module]:
    mine = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.LayerNorm(5), nn.BatchNorm(5), nn.Sequential(nn.Linear(5, 3))
    )
    t = torch.nn
    theirs = t.Sequential(
        t.Linear(6, 8), t.ReLU(), t.Linear(8, 5), t.LayerNorm(5), t.BatchNorm1d(5), t.Sequential(t.Linear(5, 3))
    )
    return mine, theirs


def as_torch(state):
    return {name: torch.from_numpy(value) for name, value in state.items()}


def as_numpy(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def randomize(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.2, 1.5)
    return module


def compare(mine, theirs, *arrays: np.ndarray) -> None:
    """The same outputs, gradients of input and parameters, and state after each of the batches."""
    for i, array in enumerate(arrays):
        x, tx = Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        y, ty = mine(x), theirs(tx)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), **TOLERANCE)
        seed = normal(*y.shape, seed=100 + i)
        for p in mine.parameters():
            p.grad = None
        theirs.zero_grad()
        y.backward(seed)
        ty.backward(torch.from_numpy(seed))
        np.testing.assert_allclose(x.grad, tx.grad.numpy(), rtol=2e-4, atol=2e-5)
        for (name, p), (their_name, tp) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
            assert name == their_name
            np.testing.assert_allclose(p.grad, tp.grad.numpy(), rtol=2e-4, atol=2e-5, err_msg=name)
    state = mine.state_dict()
    for name, value in as_numpy(theirs).items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_state_to_pytorch():
    mine, theirs = dense()
    mine(Tensor(normal(9, 6)))  # so that the running statistics are not the initial ones
    state = mine.state_dict()
    theirs.load_state_dict(as_torch(state), strict=True)
    after = as_numpy(theirs)
    names = [name for name in after if not name.endswith("num_batches_tracked")]
    assert [name for name in state if not name.endswith("num_batches_tracked")] == names
    for name in names:
        assert state[name].dtype == np.float32
        np.testing.assert_array_equal(state[name], after[name])


def test_state_from_pytorch():
    mine, theirs = dense()
    randomize(theirs)
    state = as_numpy(theirs)
    mine.load_state_dict(state)
    assert set(mine.state_dict()) == set(state)
    for name, value in mine.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("training", [True, False])
def test_a_network_computes_the_same(training):
    mine, theirs = dense()
    randomize(theirs)
    theirs.load_state_dict(as_torch(mine.state_dict()), strict=True)
    with torch.no_grad():
        theirs[4].running_mean.uniform_(-1, 1)
    mine[4].running_mean.data[...] = theirs[4].running_mean.numpy()
    batches = [normal(7, 6, seed=i) for i in range(3)]
    compare(mine.train(training), theirs.train(training), *batches)


NORMS = {
    "batch norm": (lambda: nn.BatchNorm(4), lambda: torch.nn.BatchNorm1d(4), (6, 4)),
    "batch norm of sequences": (lambda: nn.BatchNorm(4), lambda: torch.nn.BatchNorm1d(4), (6, 4, 5)),
    "batch norm of images": (lambda: nn.BatchNorm(3), lambda: torch.nn.BatchNorm2d(3), (2, 3, 4, 5)),
    "batch norm of one image": (lambda: nn.BatchNorm(3), lambda: torch.nn.BatchNorm2d(3), (1, 3, 4, 5)),
    "batch norm with options": (
        lambda: nn.BatchNorm(3, eps=0.1, momentum=0.7),
        lambda: torch.nn.BatchNorm2d(3, eps=0.1, momentum=0.7),
        (2, 3, 4, 5),
    ),
    "layer norm": (lambda: nn.LayerNorm(5), lambda: torch.nn.LayerNorm(5), (4, 5)),
    "layer norm of a tuple": (lambda: nn.LayerNorm((5,)), lambda: torch.nn.LayerNorm((5,)), (2, 3, 5)),
    "layer norm over two axes": (lambda: nn.LayerNorm((3, 5)), lambda: torch.nn.LayerNorm((3, 5)), (4, 3, 5)),
    "layer norm over all": (lambda: nn.LayerNorm((2, 3), eps=0.1), lambda: torch.nn.LayerNorm((2, 3), eps=0.1), (2, 3)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_norms(name, training):
    make, make_theirs, shape = NORMS[name]
    mine, theirs = make(), randomize(make_theirs())
    for key, tensor in mine.named_tensors():
        tensor.data[...] = theirs.state_dict()[key].numpy()
    batches = [2 * normal(*shape, seed=i) + 1 for i in range(3)]
    compare(mine.train(training), theirs.train(training), *batches)


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), lambda: torch.nn.Linear(4, 3), (5, 4)),
    "linear of a vector": (lambda: nn.Linear(4, 3), lambda: torch.nn.Linear(4, 3), (4,)),
    "linear of a stack": (lambda: nn.Linear(4, 3), lambda: torch.nn.Linear(4, 3), (2, 5, 4)),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), lambda: torch.nn.Linear(4, 3, bias=False), (5, 4)),
    "flatten": (nn.Flatten, torch.nn.Flatten, (3, 2, 4)),
    "unflatten": (lambda: nn.Unflatten((2, 3)), lambda: torch.nn.Unflatten(-1, (2, 3)), (4, 6)),
    "relu": (nn.ReLU, torch.nn.ReLU, (4, 9)),
    "leaky relu": (nn.LeakyReLU, torch.nn.LeakyReLU, (4, 9)),
    "leaky relu with a slope": (
        lambda: nn.LeakyReLU(negative_slope=0.3),
        lambda: torch.nn.LeakyReLU(negative_slope=0.3),
        (4, 9),
    ),
    "elu": (nn.ELU, torch.nn.ELU, (4, 9)),
    "elu with alpha": (lambda: nn.ELU(alpha=0.4), lambda: torch.nn.ELU(alpha=0.4), (4, 9)),
    "gelu": (nn.GELU, torch.nn.GELU, (4, 9)),
    "silu": (nn.SiLU, torch.nn.SiLU, (4, 9)),
    "sigmoid": (nn.Sigmoid, torch.nn.Sigmoid, (4, 9)),
    "tanh": (nn.Tanh, torch.nn.Tanh, (4, 9)),
    "softplus": (nn.Softplus, torch.nn.Softplus, (4, 9)),
    "dropout in evaluation": (lambda: nn.Dropout().eval(), lambda: torch.nn.Dropout().eval(), (4, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    make, make_theirs, shape = LAYERS[name]
    mine, theirs = make(), make_theirs()
    theirs.load_state_dict(as_torch(mine.state_dict()), strict=True)
    x = 3 * normal(*shape)
    x.flat[0] = 0  # the kink
    compare(mine, theirs, x)


ACTIVATIONS = ["relu", "leaky relu with a slope", "elu with alpha", "gelu", "silu", "sigmoid", "tanh", "softplus"]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_layers_with_their_activation(name, bias):
    """Linear, Conv2d and ConvTranspose2d, each of which takes the activation that follows along."""
    make, make_theirs, _ = LAYERS[name]

    def network(n, act):
        return n.Sequential(
            n.Conv2d(2, 4, 3, padding=1, bias=bias), act(), n.ConvTranspose2d(4, 3, 4, stride=2, padding=1, bias=bias),
            act(), n.Flatten(), n.Linear(48, 5, bias=bias), act(),
        )  # fmt: skip

    mine, theirs = network(nn, make), network(torch.nn, make_theirs)
    theirs.load_state_dict(as_torch(mine.state_dict()), strict=True)
    compare(mine, theirs, normal(3, 2, 2, 2))


def test_embedding():
    mine, theirs = nn.Embedding(6, 4), torch.nn.Embedding(6, 4)
    mine.load_state_dict(as_numpy(theirs))
    indices = np.array([[1, 5, 1], [1, 0, 5]])
    y, ty = mine(indices), theirs(torch.from_numpy(indices))
    np.testing.assert_array_equal(y.numpy(), ty.detach().numpy())
    seed = normal(2, 3, 4)
    y.backward(seed)
    ty.backward(torch.from_numpy(seed))
    np.testing.assert_allclose(mine.weight.grad, theirs.weight.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "make_theirs"),
    [
        (lambda: nn.Linear(150, 400), lambda: torch.nn.Linear(150, 400)),
        (lambda: nn.Embedding(300, 100), lambda: torch.nn.Embedding(300, 100)),
    ],
    ids=["Linear", "Embedding"],
)
def test_initial_values_have_the_moments_of_pytorch(make, make_theirs):
    mine, theirs = make().state_dict(), as_numpy(make_theirs())
    for name, value in mine.items():
        other = theirs[name]
        assert value.shape == other.shape
        assert value.std() == pytest.approx(other.std(), rel=0.15 if value.size < 1000 else 0.02)
        assert np.abs(value).max() == pytest.approx(np.abs(other).max(), rel=0.02 if "Linear" in repr(make()) else 0.3)
