"""A layer takes the activation that follows it along: what one by one gives, in fewer passes and launches."""

import numpy
import pytest
from anywhere import np
from strict import launches

from minivae import Tensor, backend, detect_anomaly, gradcheck, nn, ops
from minivae.backend.host import Backend
from minivae.checks import checks
from minivae.errors import NotFinite
from minivae.nn.module import Parameter
from minivae.ops.affine import activated

EPS = 2.0**-23
ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "leaky relu turned up": lambda: nn.LeakyReLU(-0.3),  # the sign of the result is not that of the sum
    "elu": lambda: nn.ELU(0.7),
    "elu turned up": lambda: nn.ELU(-0.5),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}
LAYERS = {
    "linear": (lambda **o: nn.Linear(4, 3, **o), (5, 4)),
    "linear of a vector": (lambda **o: nn.Linear(4, 3, **o), (4,)),
    "linear of a stack": (lambda **o: nn.Linear(4, 3, **o), (2, 5, 4)),
    "linear of nothing": (lambda **o: nn.Linear(4, 3, **o), (0, 4)),
    "conv2d": (lambda **o: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, **o), (2, 4, 5, 4)),
    "conv2d of pixels": (lambda **o: nn.Conv2d(4, 3, 1, **o), (2, 4, 3, 2)),
    "conv_transpose2d": (lambda **o: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, **o), (2, 3, 2, 3)),
}
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
each_layer = pytest.mark.parametrize("layer", LAYERS)
biased = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


def normal(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def results(model, layer, x):
    """The value, and the gradients of x and of the parameters."""
    x = Tensor(x, requires_grad=True)
    for p in layer.parameters():
        p.grad = None
    y = model(x)
    y.backward(normal(y.shape, seed=1))
    return [y.data, x.grad, *(p.grad for p in layer.parameters())]


def assert_same(ours, theirs):
    """To the bit: a sum is rounded once, whether it is written to memory or not.

    On a device to a few roundings: alone, tanh and relu are the library's own functions.
    """
    exact = backend.current().name == "numpy"
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype == np.float32 and a.shape == b.shape
            atol = 0 if exact else 8 * EPS * float(abs(b).max() if b.size else 0)
            np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def assert_same_as_one_by_one(layer, act, x):
    assert_same(results(nn.Sequential(layer, act), layer, x), results(lambda x: act(layer(x)), layer, x))


@each_activation
@each_layer
@biased
def test_the_same_as_one_by_one(layer, activation, bias):
    make, shape = LAYERS[layer]
    assert_same_as_one_by_one(make(bias=bias), ACTIVATIONS[activation](), normal(shape))


@each_activation
def test_the_same_in_large(activation):
    """So large that NumPy goes piece by piece."""
    x = normal((4, 2, 140, 240))
    assert 3 * x[:, 0].size > Backend.smallest_repeating
    assert_same_as_one_by_one(nn.Conv2d(2, 3, 1), ACTIVATIONS[activation](), x)


@pytest.mark.parametrize(
    ("layer", "activation"), [*(("linear", a) for a in ACTIVATIONS), ("conv2d", "relu"), ("conv_transpose2d", "elu")]
)
def test_gradients(layer, activation):
    make, shape = LAYERS[layer]
    model = nn.Sequential(make(), ACTIVATIONS[activation]())
    weight, bias = model[0].parameters()

    def fn(x, w, b):
        model[0].weight, model[0].bias = w, b
        return model(x)

    arrays = [normal(a, seed, np.float64) for seed, a in enumerate((shape, weight.shape, bias.shape))]
    gradcheck(fn, arrays)


def asked(model, x):
    """How often forward and backward ask for something to be computed, after a first time."""
    for _ in range(2):
        with checks(False), launches.counted() as counted:
            y = model(Tensor(x, requires_grad=True))
            y.backward(backend.of(y.data).ones_like(y.data))  # it lies as y does
    return counted.total()


@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
@pytest.mark.parametrize("layer", ["linear", "conv2d", "conv_transpose2d"])
@biased
def test_one_launch_less(layer, activation, bias, request):
    """One kernel for bias and activation. Backward takes no more than one by one, where d is computed once, too."""
    before = backend.current().name
    request.addfinalizer(lambda: backend.use(before))
    xp = backend.use("strict")
    make, shape = LAYERS[layer]
    layer, act = make(bias=bias), ACTIVATIONS[activation]()
    x = xp.asarray(numpy.random.default_rng(0).standard_normal(shape, numpy.float32))
    assert asked(lambda x: act(layer(x)), x) - asked(nn.Sequential(layer, act), x) == bias


def test_a_forward_of_another_is_called():
    """Who overrides forward(), in a class or in an object, is not passed over."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    class Negative(nn.ReLU):
        def forward(self, x):
            return -super().forward(x)

    x = Tensor(normal((5, 4)))
    plain, doubled, relu = nn.Linear(4, 3), Doubled(4, 3), nn.ReLU()
    np.testing.assert_array_equal(nn.Sequential(doubled, relu)(x).data, relu(doubled(x)).data)
    np.testing.assert_array_equal(nn.Sequential(plain, Negative())(x).data, -relu(plain(x)).data)
    seen = []
    plain.forward = lambda x: seen.append(x) or nn.Linear.forward(plain, x)
    np.testing.assert_array_equal(nn.Sequential(plain, relu)(x).data, relu(nn.Linear.forward(plain, x)).data)
    assert seen == [x]


def test_activations_in_a_row_and_at_the_ends():
    x = Tensor(normal((5, 4)))
    layers = [nn.Tanh(), nn.Linear(4, 4), nn.ELU(), nn.Sigmoid(), nn.Linear(4, 4), nn.Linear(4, 4), ops.relu]
    expected = x
    for layer in layers:
        expected = layer(expected)
    np.testing.assert_array_equal(nn.Sequential(*layers)(x).data, expected.data)
    np.testing.assert_array_equal(nn.Sequential()(x).data, x.data)


def test_a_frozen_bias_and_a_frozen_weight():
    for name in ("weight", "bias"):
        layer = nn.Linear(4, 3)
        getattr(layer, name).requires_grad = False
        assert_same_as_one_by_one(layer, nn.SiLU(), normal((5, 4)))


def test_the_names_in_errors():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    x = Tensor(normal((4, 2)), requires_grad=True)
    model[0].bias = Parameter(np.full(3, np.nan, np.float32))
    with detect_anomaly(), pytest.raises(NotFinite, match=r"'linear' of .*operand 2 held 3 NaN"):
        model(x)
    model[0].bias = Parameter(np.zeros(3, np.float32))
    with checks():
        y = model(x)
        y.data[0] = 5
        with pytest.raises(RuntimeError, match=r"the result of 'linear'.*was changed in place"):
            y.sum().backward()


@each_activation
@biased
@pytest.mark.parametrize("rows", [3, 3000], ids=["few", "in pieces"])
def test_a_layer_writes_the_value_over_its_product(activation, bias, rows):
    """The vjp is that of the same values in new arrays."""
    xp, b = backend.current(), normal((40,), seed=2) if bias else None
    a, g = normal((rows, 40)), normal((rows, 40), seed=1)
    function = ACTIVATIONS[activation]().of_arrays()
    y, (dy, *_) = function(xp, a.copy() if b is None else a + b)
    ours, da = activated(xp, a, b, function)
    assert ours is a
    assert_same([ours, da(g)], [y, dy(g)])


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64])
def test_alone_an_activation_keeps_its_bits(dtype):
    """Those of its formula and of its derivative's, far out too; on NumPy: a device has functions of its own."""
    far = numpy.array([0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 80.0, -80.0, 1e30, -1e30, numpy.inf, -numpy.inf], dtype)
    rng = numpy.random.default_rng(0)
    a, g = numpy.concatenate([far, rng.standard_normal(9, dtype)]), rng.standard_normal(len(far) + 9, dtype)
    with numpy.errstate(all="ignore"):
        y = numpy.maximum(a, 0) + 0.7 * numpy.expm1(numpy.minimum(a, 0))
        expected = [
            (ops.relu, numpy.maximum(a, 0), numpy.where(a > 0, g, 0)),
            (lambda x: ops.leaky_relu(x, 0.3), numpy.where(a > 0, a, 0.3 * a), numpy.where(a > 0, g, 0.3 * g)),
            (lambda x: ops.elu(x, 0.7), y, numpy.where(a > 0, g, g * (y + 0.7))),
        ]
        for op, value, gradient in expected:
            x = Tensor(a, requires_grad=True)
            found = op(x)
            found.backward(g)
            numpy.testing.assert_array_equal(found.data, value)
            numpy.testing.assert_array_equal(x.grad, gradient)
            assert found.dtype == x.grad.dtype == dtype
