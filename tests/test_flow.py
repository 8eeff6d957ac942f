"""Flows: log-determinants against numerical Jacobians, invertibility, what may depend on what, limit cases."""

import math

import numpy
import pytest
from anywhere import np

from minivae import InputError, Tensor, manual_seed, models, nn
from minivae.distributions import MeanField
from minivae.models.flow import IAF, MADE, Flow, Planar, make_flow
from minivae.train import Options

SHAPE = (1, 4, 4)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *SHAPE), dtype=np.float32)


def wild(module: nn.Module, gain: float = 3.0) -> nn.Module:
    """The module in float64, its weights gain times the initial ones."""
    for owner in module.modules():
        for name, value in list(vars(owner).items()):
            if isinstance(value, nn.Parameter):
                setattr(owner, name, nn.Parameter(gain * value.data.astype(np.float64)))
    return module


def moved(flow: Flow, z: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the steps of a flow make of z, and the sum of their log-determinants."""
    total, z = 0.0, Tensor(z)
    for step in flow.steps:
        z, log_det = step(z, Tensor(h))
        total = total + log_det
    return z.data, total.data


@pytest.mark.parametrize("name", ["planar", "iaf"])
@pytest.mark.parametrize("latent", [1, 2, 5])
def test_the_log_determinants_are_those_of_a_numerical_jacobian(name, latent):
    manual_seed(latent)
    flow, rng, step = wild(make_flow(name, latent, 3)), np.random.default_rng(0), 1e-6
    for _ in range(5):
        z, h = rng.standard_normal((1, latent)), rng.standard_normal((1, latent))
        around = np.concatenate([z + step * np.eye(latent), z - step * np.eye(latent)])
        ends = moved(flow, around, np.broadcast_to(h, around.shape))[0]
        jacobian = (ends[:latent] - ends[latent:]).T / (2 * step)
        assert moved(flow, z, h)[1][0] == pytest.approx(math.log(abs(np.linalg.det(jacobian))), abs=1e-5)


def test_a_planar_step_is_invertible_however_its_u_and_w_lie():
    manual_seed(0)
    step, n = wild(Planar(1), 1.0), 400
    z = np.linspace(-8, 8, n)[:, None]
    for wu in (-50.0, -3.0, -1.0, 0.0, 2.0):  # without the move of u those below -1 would turn back
        step.parameters_of.weight.data[:] = 0
        step.parameters_of.bias.data[:] = np.array([wu / 2, 2.0, 0.3])
        end, log_det = step(Tensor(z), Tensor(np.zeros((n, 1))))
        assert (np.diff(end.data[:, 0]) > 0).all()
        assert np.isfinite(log_det.data).all()


def test_an_autoregressive_network_sees_only_the_latents_before():
    manual_seed(0)
    latent = 5
    network = wild(MADE(latent, 16, 2))
    h = Tensor(np.random.default_rng(1).standard_normal((1, 2)))
    sees = np.zeros((latent, latent), bool)
    for i in range(latent):
        for half in (0, latent):
            z = Tensor(np.random.default_rng(0).standard_normal((1, latent)), requires_grad=True)
            network(z, h)[0, half + i].backward()
            sees[i] |= z.grad[0] != 0
    assert (sees == np.tri(latent, k=-1, dtype=bool)).all()  # all of those, and no other


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_all_that_an_autoregressive_network_tells_is_told_by_h(latent):
    manual_seed(0)
    network = wild(MADE(latent, 16, 2))
    z, rng = Tensor(np.zeros((1, latent))), np.random.default_rng(0)
    for i in range(2 * latent):
        h = Tensor(rng.standard_normal((1, 2)), requires_grad=True)
        network(z, h)[0, i].backward()
        assert (h.grad != 0).all(), i


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-6, 1e-5, 1e-3])
def test_the_log_determinant_of_a_planar_step_whose_w_is_next_to_nothing(size):
    step = wild(Planar(2), 1.0)
    step.parameters_of.weight.data[:] = 0
    step.parameters_of.bias.data[:] = np.array([0.4, -0.3, size, 2 * size, 0.2])  # u, w, b
    z, h = np.array([[0.3, -0.5]]), np.zeros((1, 2))
    w, tanh = np.array([size, 2 * size]), math.tanh(0.3 * size - size + 0.2)
    u = (step(Tensor(z), Tensor(h))[0].data - z)[0] / tanh
    expected = math.log1p(float(w @ u) * (1 - tanh**2))
    assert step(Tensor(z), Tensor(h))[1].data[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["planar", "iaf"])
def test_a_flow_of_no_steps_is_the_mean_field(name):
    manual_seed(0)
    plain = models.vae(SHAPE, hidden=(6,), latent=3, kl="monte-carlo", samples=2)
    flow = models.vae(SHAPE, hidden=(6,), latent=3, flow=name, depth=0, samples=2)
    flow.load_state_dict(plain.state_dict())
    x = images(5)
    losses = [m.loss(x, np.random.default_rng(1)) for m in (plain, flow)]
    assert losses[0].total.item() == pytest.approx(losses[1].total.item(), rel=1e-6)
    for loss in losses:
        loss.total.backward()
    for p, q in zip(plain.parameters(), flow.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(plain.encode(x), flow.encode(x), rtol=1e-6)
    for k in (1, 7):
        bounds = [m.nll_bound(x, k, np.random.default_rng(1)) for m in (plain, flow)]
        np.testing.assert_allclose(*bounds, rtol=1e-5)


def test_the_mean_field_may_be_given_as_a_posterior():
    manual_seed(0)
    plain = models.vae(SHAPE, hidden=(6,), latent=3, k=4)
    given = models.VAE(plain.encoder, plain.decoder, 3, k=4, q=MeanField())
    losses = [m.loss(images(5), np.random.default_rng(1)).total.item() for m in (plain, given)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("name", ["planar", "iaf"])
def test_a_flow_is_a_density(name):
    """The mean of p / q over samples of q is the integral of p, here 1."""
    manual_seed(3)
    flow = wild(make_flow(name, 2, 3), 1.0)
    numbers = Tensor(np.broadcast_to(np.array([0.2, -0.1, 0.5, 0.4, 0.3, -1.0]), (20_000, 6)))
    z, log_q = flow(numbers, (), np.random.default_rng(0))
    mean, deviation = z.data.mean(0), 0.8 * z.data.std(0)  # narrower than q, so that few samples weigh much
    log_p = -0.5 * (((z.data - mean) / deviation) ** 2 + math.log(2 * math.pi)).sum(-1) - np.log(deviation).sum()
    weights = np.exp(log_p - log_q.data)
    error = weights.std() / math.sqrt(len(weights))
    assert error < 0.05
    assert weights.mean() == pytest.approx(1, abs=5 * error)


@pytest.mark.parametrize("name", ["planar", "iaf"])
def test_a_trained_flow_fits_a_posterior_that_no_mean_field_can(name):
    """A correlated normal: KL(q || p) of the best mean field is -log(1 - r^2) / 2 = 0.83."""
    manual_seed(1)
    from minivae import optim

    r = 0.9
    flow, numbers = make_flow(name, 2, 4), nn.Parameter(np.zeros((1, 6), np.float32))
    optimizer, rng = optim.Adam([*flow.parameters(), numbers], lr=2e-2), np.random.default_rng(0)

    def divergence(samples: int) -> Tensor:
        z, log_q = flow(numbers, (samples,), rng)
        a, b = z[..., 0], z[..., 1]
        log_p = -(a * a - 2 * r * a * b + b * b) / (2 * (1 - r * r)) - math.log(2 * math.pi * math.sqrt(1 - r * r))
        return (log_q - log_p).mean()

    for _ in range(150):
        optimizer.zero_grad()
        divergence(100).backward()
        optimizer.step()
    assert divergence(5000).item() < 0.35


def test_codes_and_scores_of_a_flow():
    manual_seed(0)
    model = models.vae(SHAPE, hidden=(6,), latent=3, flow="iaf", depth=2, k=1)
    x = images(4)
    assert model.encode(x).shape == (4, 3)
    assert model.reconstruct(x).shape == x.shape
    scores = model.scores(x, np.random.default_rng(0))
    np.testing.assert_allclose(scores["-ELBO"], scores["reconstruction"] + scores["kl"], rtol=1e-6)
    assert model.loss(x, np.random.default_rng(0)).total.item() == pytest.approx(
        float(scores["-ELBO"].mean()), rel=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"flow": "radial"}, "unknown flow 'radial'"),
        ({"flow": "iaf", "depth": -1}, "depth -1"),
        ({"flow": "iaf", "free_bits": 0.1}, "free_bits"),
    ],
)
def test_wrong_flows_are_one_sentence(arguments, says):
    with pytest.raises(InputError, match=says):
        models.vae(SHAPE, **arguments)


def test_a_checkpoint_holds_the_flow(tmp_path):
    from minivae import checkpoint
    from minivae.data import Dataset, Split
    from minivae.train import Trainer

    split = Split(numpy.random.default_rng(0).integers(0, 256, (20, *SHAPE), dtype=numpy.uint8))
    arguments = models.arguments("vae", shape=SHAPE, hidden=(6,), latent=3, flow="iaf", depth=2)
    trainer = Trainer(
        models.build("vae", **arguments), Dataset("x", split, split), Options(epochs=1), ("vae", arguments)
    )
    trainer.run(tmp_path)
    model, _ = checkpoint.load_model(tmp_path / "model.npz")
    x = images(3)
    np.testing.assert_allclose(model.encode(x), trainer.model.encode(x))
    assert isinstance(model.q.steps[0], IAF)
