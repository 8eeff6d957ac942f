"""Layers: gradients, values, initial values; modules: names, state, freezing. PyTorch: oracle/test_nn_torch.py."""

import math

import pytest
from anywhere import host, np

from minivae import InputError, Tensor, gradcheck, manual_seed, nn, optim
from minivae.nn import init


class Repeated:
    """A generator that draws the same numbers at each call."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def random(self, shape, dtype=np.float64):
        return np.random.default_rng(self.seed).random(shape, dtype=dtype)


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def randomize(module: nn.Module, seed: int = 1) -> nn.Module:
    """Other values than ones and zeros in every parameter and buffer."""
    rng = np.random.default_rng(seed)
    for _, t in module.named_tensors():
        if t.dtype.kind == "f":
            t.data[...] = rng.uniform(0.3, 1.5, t.shape)  # positive, as a variance must be
    return module


def forward_with(module: nn.Module, values: dict[str, Tensor], x: Tensor) -> Tensor:
    """The module's output where the tensors of these names stand in its parameters' place."""
    for path, value in values.items():
        *owners, name = path.split(".")
        owner = module
        for step in owners:
            owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
        setattr(owner, name, value)
    return module(x)


# layers: gradients

LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "linear of a stack": (lambda: nn.Linear(4, 3), (2, 5, 4)),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), (5, 4)),
    "layer norm": (lambda: nn.LayerNorm(5), (4, 5)),
    "layer norm over two axes": (lambda: nn.LayerNorm((2, 3), eps=0.1), (4, 2, 3)),
    "batch norm": (lambda: nn.BatchNorm(3), (5, 3)),
    "batch norm of images": (lambda: nn.BatchNorm(2, eps=0.1), (3, 2, 2, 3)),
    "batch norm in evaluation": (lambda: nn.BatchNorm(3).eval(), (5, 3)),
    "batch norm of images in evaluation": (lambda: nn.BatchNorm(2).eval(), (3, 2, 2, 3)),
    "dropout": (lambda: nn.Dropout(0.4, rng=Repeated()), (6, 5)),
    "flatten": (nn.Flatten, (3, 2, 2)),
    "unflatten": (lambda: nn.Unflatten((2, 3)), (4, 6)),
    "relu": (nn.ReLU, (4, 3)),
    "leaky relu": (lambda: nn.LeakyReLU(negative_slope=0.2), (4, 3)),
    "elu": (lambda: nn.ELU(alpha=0.7), (4, 3)),
    "gelu": (nn.GELU, (4, 3)),
    "silu": (nn.SiLU, (4, 3)),
    "sigmoid": (nn.Sigmoid, (4, 3)),
    "tanh": (nn.Tanh, (4, 3)),
    "softplus": (nn.Softplus, (4, 3)),
    "a network": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm(4), nn.Linear(4, 2)), (5, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_input_and_parameters(name):
    make, shape = LAYERS[name]
    module = randomize(make())
    names = [name for name, _ in module.named_parameters()]
    values = [p.data for p in module.parameters()]
    gradcheck(lambda x, *p: forward_with(module, dict(zip(names, p, strict=True)), x), [normal(*shape), *values])


def test_gradient_of_an_embedding():
    indices = np.array([[2, 0], [2, 2]])
    layer = nn.Embedding(4, 3)
    gradcheck(lambda weight: forward_with(layer, {"weight": weight}, indices), [normal(4, 3)])


# layers: values


def test_embedding_repeated_rows_add_up():
    layer = nn.Embedding(5, 2)
    out = layer(np.array([[3, 1, 3], [3, 0, 1]]))
    np.testing.assert_array_equal(out.numpy()[0], layer.weight.data[[3, 1, 3]])
    out.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, np.array([1, 2, 0, 3, 0], np.float32)[:, None] * np.ones(2))
    np.testing.assert_array_equal(layer(Tensor(np.array([4, 4]))).numpy(), layer.weight.data[[4, 4]])
    with pytest.raises(IndexError):
        layer(np.array([5]))


def test_flatten_and_unflatten_are_inverse():
    x = Tensor(normal(2, 1, 3, 4))
    flat = nn.Flatten()(x)
    assert flat.shape == (2, 12)
    np.testing.assert_array_equal(nn.Unflatten((1, 3, 4))(flat).numpy(), x.numpy())
    assert nn.Flatten()(Tensor(np.zeros((0, 3, 4)))).shape == (0, 12)
    assert nn.Unflatten((2, 3))(Tensor(np.zeros((5, 4, 6)))).shape == (5, 4, 2, 3)


def test_layer_norm_and_batch_norm_standardise():
    x = normal(64, 6) * 3 + 2
    by_row = nn.LayerNorm(6)(Tensor(x)).numpy()
    np.testing.assert_allclose(by_row.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(by_row.var(1), 1, atol=1e-4)
    by_column = nn.BatchNorm(6)(Tensor(x)).numpy()
    np.testing.assert_allclose(by_column.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(by_column.var(0), 1, atol=1e-4)


def test_batch_norm_tracks_unbiased_statistics_in_training_only():
    layer = nn.BatchNorm(2, momentum=0.25)
    x = normal(8, 2, 3, seed=3)
    layer(Tensor(x))
    np.testing.assert_allclose(layer.running_mean.data, 0.25 * x.mean((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(layer.running_var.data, 0.75 + 0.25 * x.var((0, 2), ddof=1), rtol=1e-6)
    before = layer.state_dict()
    layer.eval()(Tensor(x + 100))
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm(3), (1, 3)),
        (nn.BatchNorm(3), (0, 3)),
        (nn.BatchNorm(3), (8, 1)),
        (nn.BatchNorm(3), (8, 4)),
        (nn.BatchNorm(3), (3,)),
        (nn.LayerNorm(5), (4, 1)),
        (nn.LayerNorm(5), (4, 6)),
        (nn.LayerNorm((2, 5)), (1, 5)),
    ],
)
def test_normalisation_refuses_what_does_not_fit(layer, shape):
    before = layer.state_dict()
    with pytest.raises(ValueError, match=type(layer).__name__):
        layer(Tensor(np.ones(shape, np.float32)))
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_dropout():
    x = Tensor(np.ones((400, 500), np.float32), requires_grad=True)
    layer = nn.Dropout(0.3, rng=np.random.default_rng(7))
    y = layer(x)
    values, counts = np.unique(y.numpy(), return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
    # of n = 200,000 draws the zeros have the standard deviation sqrt(p (1 - p) / n) = 0.001
    assert counts[0] / y.size == pytest.approx(0.3, abs=0.005)
    assert y.numpy().mean() == pytest.approx(1, abs=0.0075)
    assert y.dtype == np.float32
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.numpy())  # of ones, the output is the scaled mask
    again = nn.Dropout(0.3, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(again(x).numpy(), y.numpy())
    assert not np.array_equal(again(x).numpy(), y.numpy())
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x.numpy())
    np.testing.assert_array_equal(nn.Dropout(0)(x).numpy(), x.numpy())
    assert nn.Dropout(0.5)(Tensor(normal(2, 2))).dtype == np.float64


def test_dropout_draws_from_the_seeded_generator():
    x = Tensor(np.ones((20, 20), np.float32))
    manual_seed(3)
    first = nn.Dropout()(x).numpy()
    manual_seed(3)
    np.testing.assert_array_equal(nn.Dropout()(x).numpy(), first)


@pytest.mark.parametrize("p", [1, 1.5, -0.1, math.nan])
def test_dropout_refuses(p):
    with pytest.raises(ValueError, match="p must be"):
        nn.Dropout(p)


def test_a_float32_network_stays_float32():
    net = nn.Sequential(
        nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.BatchNorm(6), nn.Dropout(0.2), nn.ELU(), nn.Linear(6, 2)
    )
    for mode in (True, False):
        out = net.train(mode)(Tensor(normal(5, 4, dtype=np.float32)))
        assert out.dtype == np.float32
        out.sum().backward()
        assert {p.grad.dtype for p in net.parameters()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("make", "keyword"),
    [(lambda: nn.LeakyReLU(0.2), {"negative_slope": 0.2}), (lambda: nn.ELU(0.5), {"alpha": 0.5})],
    ids=["LeakyReLU", "ELU"],
)
def test_activations_take_their_option_by_position_as_in_pytorch(make, keyword):
    layer = make()
    x = Tensor(normal(3, 4))
    np.testing.assert_array_equal(layer(x).numpy(), type(layer)(**keyword)(x).numpy())


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 2)])
def test_linear_refuses_to_be_empty(sizes):
    with pytest.raises(ValueError, match="Linear"):
        nn.Linear(*sizes)


# initial values


def assert_uniform(values: np.ndarray, bound: float) -> None:
    """Within (-bound, bound), near both ends, with mean 0 and variance bound^2 / 3: to five standard errors."""
    n = values.size
    assert values.dtype == np.float32
    assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    assert abs(values.mean()) < 5 * bound / math.sqrt(3 * n)
    assert abs(values.var() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / n)  # u^2 of a uniform u: 4/5 of its mean^2
    assert values.min() < -0.99 * bound


def test_initial_values_are_those_of_pytorch():
    manual_seed(5)
    layer = nn.Linear(120, 500)
    assert layer.weight.shape == (500, 120) and layer.bias.shape == (500,)
    assert_uniform(layer.weight.data, 1 / math.sqrt(120))
    assert_uniform(nn.Linear(40, 20_000).bias.data, 1 / math.sqrt(40))
    assert nn.Linear(3, 2, bias=False).bias is None
    table = nn.Embedding(500, 100).weight.data
    assert table.dtype == np.float32
    assert abs(table.mean()) < 5 / math.sqrt(table.size)
    assert abs(table.var() - 1) < 5 * math.sqrt(2 / table.size)
    for layer in (nn.LayerNorm((3, 4)), nn.BatchNorm(4)):
        assert (layer.weight.data == 1).all() and (layer.bias.data == 0).all()
    assert (nn.BatchNorm(4).running_mean.data == 0).all() and (nn.BatchNorm(4).running_var.data == 1).all()


def test_init_bounds():
    rng = np.random.default_rng(2)
    assert_uniform(init.uniform((50_000,), 0.3, rng), 0.3)
    assert_uniform(init.kaiming_uniform((200, 30, 3, 3), rng=rng), 1 / math.sqrt(270))
    assert_uniform(init.kaiming_uniform((300, 200), a=0.0, rng=rng), math.sqrt(6 / 200))
    assert_uniform(init.xavier_uniform((300, 200), rng=rng), math.sqrt(6 / 500))
    assert_uniform(init.xavier_uniform((30, 50, 4, 5), gain=2.0, rng=rng), 2 * math.sqrt(6 / (80 * 20)))
    values = init.normal((300, 300), 0.1, rng)
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(0.1, rel=0.02)


def test_the_same_seed_gives_the_same_layer():
    manual_seed(9)
    first = nn.Linear(3, 4)
    manual_seed(9)
    second = nn.Linear(3, 4)
    own = nn.Linear(3, 4, rng=np.random.default_rng(9))
    for layer in (second, own):
        np.testing.assert_array_equal(layer.weight.data, first.weight.data)
        np.testing.assert_array_equal(layer.bias.data, first.bias.data)
    assert not np.array_equal(nn.Linear(3, 4).weight.data, first.weight.data)


# modules


class Block(nn.Module):
    """A module with all that a module can hold."""

    def __init__(self) -> None:
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.count = nn.Buffer(np.zeros(1, np.float32))
        self.branches = [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU())]
        self.norm = nn.BatchNorm(2)
        self.note = "text"
        self.numbers = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        return self.branches[0](x) * self.scale


def test_names_and_their_order():
    net = nn.Sequential(nn.Flatten(), Block(), nn.Sequential(nn.Linear(2, 1)))
    assert [name for name, _ in net.named_parameters()] == [
        "1.scale", "1.branches.0.weight", "1.branches.0.bias", "1.branches.1.0.weight", "1.norm.weight", "1.norm.bias",
        "2.0.weight", "2.0.bias",
    ]  # fmt: skip
    tensors = dict(net.named_tensors())
    assert {"1.count", "1.norm.running_mean", "1.norm.running_var"} <= set(tensors)
    assert list(net.state_dict()) == list(tensors)
    assert tensors["1.branches.1.0.weight"] is net[1].branches[1][0].weight
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert len(net) == 3


def test_a_shared_parameter_counts_once():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.Tanh(), shared)
    assert len(net.parameters()) == 2
    assert set(net.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert repr(net).splitlines()[0] == "Sequential()  # 12 parameters"
    net(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    once = shared.weight.grad.copy()
    optim.SGD(net.parameters(), lr=1.0).step()
    np.testing.assert_array_equal(shared.weight.grad, once)


def test_train_and_eval_reach_all():
    net = nn.Sequential(Block(), nn.Dropout())
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert len(list(net.modules())) == 8
    assert not any(module.training for module in net.modules())
    net.train()
    assert net[0].branches[1][1].training
    assert nn.Linear(1, 1).training  # another module's mode is its own


def test_sequential_takes_functions():
    net = nn.Sequential(nn.Linear(2, 2), lambda x: x * 2)
    x = Tensor(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(net(x).numpy(), 2 * net[0](x).numpy())
    assert list(net.state_dict()) == ["0.weight", "0.bias"]


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty"):
        Empty()(1)


def test_repr_shows_the_tree_and_the_counts():
    net = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(negative_slope=0.2), nn.Sequential(nn.Dropout(0.1), Block()))
    assert repr(net) == "\n".join(
        [
            "Sequential()  # 34 parameters",
            "  0: Linear(3, 4)  # 16 parameters",
            "  1: LeakyReLU(negative_slope=0.2)",
            "  2: Sequential()  # 18 parameters",
            "    0: Dropout(p=0.1)",
            "    1: Block()  # 18 parameters",
            "      branches.0: Linear(2, 2)  # 6 parameters",
            "      branches.1: Sequential()  # 6 parameters",
            "        0: Linear(2, 3)  # 6 parameters",
            "        1: ReLU()",
            "      norm: BatchNorm(2, eps=1e-05, momentum=0.1)  # 4 parameters",
        ]
    )
    assert repr(nn.Linear(1000, 1000)).endswith("# 1,001,000 parameters")


# state


def test_state_is_a_copy_and_is_set_in_place():
    layer = randomize(nn.BatchNorm(3))
    state = layer.state_dict()
    array = layer.weight.data
    layer.weight.data += 1
    assert not np.array_equal(state["weight"], layer.weight.data)
    layer.load_state_dict(state)
    assert layer.weight.data is array  # an optimiser holds the parameter, a graph its array
    np.testing.assert_array_equal(array, state["weight"])
    state["weight"][...] = 7
    assert not (layer.weight.data == 7).any()


def test_loading_keeps_the_dtype():
    layer = nn.Linear(2, 2)
    layer.load_state_dict(host({"weight": [[1, 2], [3, 4]], "bias": np.zeros(2, np.float64)}))
    assert layer.weight.dtype == layer.bias.dtype == np.float32
    np.testing.assert_array_equal(layer.weight.data, [[1, 2], [3, 4]])


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: without(s, "1.bias"), ["'1.bias' is missing"]),
        (lambda s: s | {"2.weight": np.zeros(1)}, ["'2.weight' is unexpected"]),
        (lambda s: s | {"1.weight": np.zeros((2, 4))}, ["'1.weight'", r"\(2, 4\)", r"\(4, 2\)"]),
        (lambda s: s | {"1.weight": np.zeros(())}, ["'1.weight'", r"\(4, 2\)"]),
        (lambda s: without(s, "0.bias") | {"x": 0, "1.bias": np.zeros(9)}, ["'0.bias'", "'x'", "'1.bias'"]),
        (lambda s: {}, ["'0.weight'", "'1.bias' is missing"]),
        (lambda s: {f"a{i}": 0 for i in range(9)}, ["and 9 more"]),
        (lambda s: s | {"1.bias": np.array(list("abcd"))}, ["'1.bias'"]),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, words):
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    before = net.state_dict()
    bad = host(change({name: value + 1 for name, value in before.items()}))
    for word in words:
        with pytest.raises(InputError, match=word) as caught:
            net.load_state_dict(bad)
    assert str(caught.value).count("\n") == 0 and "Sequential" in str(caught.value)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_frozen_parameter_stays():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    net[0].weight.requires_grad = False
    before = net.state_dict()
    optimizer = optim.AdamW(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (net(Tensor(normal(5, 3, dtype=np.float32))) ** 2).mean().backward()
        optim.clip_grad_norm(net.parameters(), 1.0)
        optimizer.step()
    assert net[0].weight.grad is None
    changed = [name for name, value in net.state_dict().items() if not np.array_equal(value, before[name])]
    assert changed == ["0.bias", "2.weight", "2.bias"]
    net[0].weight.requires_grad = True
    net(Tensor(normal(5, 3, dtype=np.float32))).sum().backward()
    assert net[0].weight.grad is not None


def test_a_parameter_of_another_dtype_or_shape():
    """Its gradient is of the data that it has now, not of those it was made with."""
    layer = nn.Linear(3, 2)
    for p in layer.parameters():
        p.data = p.data.astype(np.float64)
    x = normal(5, 3)
    (layer(Tensor(x)) ** 2).sum().backward()
    exact = 2 * (x @ layer.weight.data.T + layer.bias.data).T @ x
    assert layer.weight.grad.dtype == np.float64
    np.testing.assert_allclose(layer.weight.grad, exact, rtol=1e-12)
    p, row = nn.Parameter(np.ones(3)), np.arange(6.0).reshape(2, 3)
    p.data = np.ones((2, 3))
    (p * row).sum().backward()
    np.testing.assert_array_equal(p.grad, row)


def test_numbers_that_arithmetic_of_0_d_arrays_makes():
    p, q = nn.Parameter(np.array(2.0, dtype=np.float32)), nn.Parameter(np.ones(2, dtype=np.float32))
    (p * 30.0 + (q * q).sum()).backward()
    p.grad = p.grad * 1.0
    norm = optim.clip_grad_norm([q, p], 1.0)
    assert float(p.grad) == pytest.approx(30 / float(norm), rel=1e-6)
    p.data = p.data * 0.5
    assert float((p * 2.0).data) == 2


def test_group_norm_of_no_images():
    x = Tensor(np.zeros((0, 4, 3, 3), dtype=np.float32), requires_grad=True)
    y = nn.GroupNorm(2, 4)(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, 4, 3, 3)
