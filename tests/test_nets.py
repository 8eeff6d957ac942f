"""The networks: layers and shapes by architecture, mirrored decoders, and the sizes that they cannot take."""

import pytest
from anywhere import np

from minivae import InputError, Tensor, manual_seed, nn
from minivae.models import nets

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 28, 20), (2, 8, 16), (4, 6, 10)]


def kinds(net: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in net.layers]


def weights(net: nn.Module) -> list[tuple[int, ...]]:
    return [p.shape for name, p in net.named_parameters() if name.endswith("weight")]


@pytest.mark.parametrize("arch", ["dense", "conv"])
@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(arch, shape):
    x = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    manual_seed(0)
    channels = None if arch == "dense" else (3, 5) if shape[1] % 4 == 0 else (3,)
    encoder = nets.encoder(arch, shape, (7,), channels, 6, "relu")
    decoder = nets.decoder(arch, 6, (7,), channels, shape, "relu")
    z = encoder(Tensor(x))
    assert z.shape == (2, 6)
    back = decoder(z)
    assert back.shape == x.shape and back.dtype == np.float32
    assert not np.allclose(back.numpy()[0], back.numpy()[1])
    back.sum().backward()
    assert all(p.grad is not None and np.abs(p.grad).max() > 0 for p in [*encoder.parameters(), *decoder.parameters()])


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_there_and_back(blocks, shape):
    x = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    channels = (3, 5) if shape[1] % 4 == 0 else (3,)
    part = 2 ** len(channels)
    z = nets.map_encoder(shape, channels, 4, blocks)(Tensor(x))
    assert z.shape == (2, 4, shape[1] // part, shape[2] // part)
    decoder = nets.map_decoder(4, channels[::-1], shape, blocks)
    assert decoder(z).shape == x.shape
    assert kinds(decoder).count("ResidualBlock") == blocks


def test_the_layers_of_dense_networks():
    encoder, decoder = nets.encoder("dense", (1, 4, 6), (9, 8), None, 5, "tanh"), None
    assert kinds(encoder) == ["Flatten", "Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert weights(encoder) == [(9, 24), (8, 9), (5, 8)]
    decoder = nets.decoder("dense", 5, (9, 8), None, (1, 4, 6), "tanh")
    assert kinds(decoder) == ["Linear", "Tanh", "Linear", "Tanh", "Linear", "Unflatten"]
    assert weights(decoder) == [(8, 5), (9, 8), (24, 9)]
    assert kinds(nets.encoder("dense", (1, 4, 6), (), None, 5, "relu")) == ["Flatten", "Linear"]
    assert kinds(nets.decoder("dense", 5, (), None, (1, 4, 6), "relu")) == ["Linear", "Unflatten"]


def test_the_layers_of_convolutional_networks():
    encoder = nets.encoder("conv", (3, 8, 12), (9,), (4, 5), 6, "elu")
    assert kinds(encoder) == ["Conv2d", "ELU", "Conv2d", "ELU", "Flatten", "Linear", "ELU", "Linear"]
    assert weights(encoder) == [(4, 3, 4, 4), (5, 4, 4, 4), (9, 5 * 2 * 3), (6, 9)]
    decoder = nets.decoder("conv", 6, (9,), (4, 5), (3, 8, 12), "elu")
    assert kinds(decoder) == [
        "Linear", "ELU", "Linear", "ELU", "Unflatten", "ConvTranspose2d", "ELU", "ConvTranspose2d",
    ]  # fmt: skip
    assert weights(decoder) == [(9, 6), (30, 9), (5, 4, 4, 4), (4, 3, 4, 4)]


@pytest.mark.parametrize("name", nets.ACTIVATIONS)
def test_every_activation_is_the_one_that_is_named(name):
    layer = nets.activation_layer(name)()
    at = layer(Tensor(np.array([-1.0, 2.0]))).numpy()
    expected = {
        "relu": (0, 2), "tanh": np.tanh([-1, 2]), "elu": (np.expm1(-1), 2), "sigmoid": (0.26894142, 0.88079708),
        "leaky-relu": (-0.2, 2), "gelu": (-0.15865525, 1.95449974), "silu": (-0.26894142, 1.76159416),
    }  # fmt: skip
    np.testing.assert_allclose(at, expected[name], rtol=1e-6)
    assert kinds(nets.dense_encoder((1, 2, 2), (3,), 2, name))[2].lower() == name.replace("-", "")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 28, 28), (16, 32)),
        ((1, 28, 20), (16, 32)),
        ((3, 32, 32), (16, 32, 64)),
        ((3, 64, 64), (16, 32, 64, 64)),
        ((1, 8, 64), (16,)),
        ((4, 12, 12), (16,)),
    ],
)
def test_usual_channels(shape, expected):
    assert nets.widths(shape) == expected
    sides = nets.halved(shape, len(expected))
    assert min(sides) >= 4
    assert sides == (shape[1] >> len(expected), shape[2] >> len(expected))


@pytest.mark.parametrize("shape", [(1, 27, 28), (1, 28, 27), (1, 6, 6), (1, 4, 64), (1, 1, 1)])
def test_images_that_cannot_be_halved_at_all(shape):
    with pytest.raises(InputError, match=f"{shape[1]}x{shape[2]} cannot be halved.*even sides of at least 8.*dense"):
        nets.encoder("conv", shape, (), None, 2, "relu")


@pytest.mark.parametrize(("shape", "channels"), [((1, 28, 28), (2, 2, 2)), ((1, 28, 6), (2, 2)), ((3, 7, 8), (2,))])
def test_images_that_cannot_be_halved_so_often(shape, channels):
    n = len(channels)
    message = f"{shape[1]}x{shape[2]} cannot be halved {n} times?[, ].*multiples of {2**n}"
    for build in [
        lambda: nets.encoder("conv", shape, (), channels, 2, "relu"),
        lambda: nets.decoder("conv", 2, (), channels, shape, "relu"),
        lambda: nets.map_encoder(shape, channels, 2),
        lambda: nets.map_decoder(2, channels, shape),
    ]:
        with pytest.raises(InputError, match=message):
            build()


def test_vectors_are_no_images():
    for build in [
        lambda: nets.encoder("conv", (30,), (), None, 2, "relu"),
        lambda: nets.encoder("conv", (30,), (), (4,), 2, "relu"),
        lambda: nets.decoder("conv", 2, (), (4,), (30,), "relu"),
    ]:
        with pytest.raises(InputError, match=r"images \(C, H, W\), but these data have shape \(30,\): use the dense"):
            build()
    assert nets.encoder("dense", (30,), (), None, 2, "relu")(Tensor(np.ones((4, 30), np.float32))).shape == (4, 2)
    assert nets.decoder("dense", 2, (), None, (30,), "relu")(Tensor(np.ones((4, 2), np.float32))).shape == (4, 30)


@pytest.mark.parametrize("sizes", [{"latent": 0}, {"hidden": (3, -1)}, {"channels": [0]}, {"shape": (0, 3, 3)}])
def test_sizes_below_one(sizes):
    (name,) = sizes
    with pytest.raises(InputError, match=f"{name} .* is too small .* at least 1"):
        nets.check_sizes(**sizes)
    nets.check_sizes(latent=1, hidden=(), channels=[2], shape=(1, 1, 1))


def test_unknown_names():
    with pytest.raises(InputError, match="'rnn': choose dense or conv"):
        nets.encoder("rnn", (1, 8, 8), (), None, 2, "relu")
    with pytest.raises(InputError, match="'rnn': choose dense or conv"):
        nets.decoder("rnn", 2, (), None, (1, 8, 8), "relu")
    with pytest.raises(InputError, match=f"'step': choose one of {', '.join(nets.ACTIVATIONS)}"):
        nets.encoder("conv", (1, 8, 8), (), None, 2, "step")


def test_channels_without_convolutions():
    with pytest.raises(InputError, match="channels"):
        nets.encoder("dense", (1, 8, 8), (), (4,), 2, "relu")


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_a_seed_makes_the_same_weights(arch):
    nets_ = []
    for seed in (0, 0, 1):
        manual_seed(seed)
        nets_.append(nets.encoder(arch, (1, 8, 8), (4,), None, 2, "relu").state_dict())
    a, b, c = nets_
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not any(np.array_equal(a[name], c[name]) for name in a)
