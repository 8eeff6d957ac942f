"""The PixelCNN: what a place sees and what it does not, its likelihood against closed forms, drawing from it."""

import math

import pytest
from anywhere import np

from minivae import InputError, Tensor, manual_seed, nn, optim
from minivae.models import PixelCNN


def rng(seed=0):
    return np.random.default_rng(seed)


def seen(f, h, w, channels=1):
    """(places, places): whether place i of the output of f, maps (1, c, h, w), has a gradient to place j."""
    x = Tensor(rng().standard_normal((1, channels, h, w), dtype=np.float32), requires_grad=True)
    rows = []
    for i in range(h * w):
        x.grad = None
        y = f(x)
        y[:, :, i // w, i % w].sum().backward()
        rows.append((x.grad[0] != 0).any(axis=0).reshape(-1))
    return np.stack(rows)


@pytest.mark.parametrize(
    "mask, reaches",
    [
        ("A", lambda dy, dx: dy < 0 or (dy == 0 and dx < 0)),
        ("B", lambda dy, dx: dy < 0 or (dy == 0 and dx <= 0)),
        ("above", lambda dy, dx: dy < 0),
        ("row", lambda dy, dx: dy <= 0),
    ],
)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (3, 5)])
def test_a_mask_lets_through_what_it_says(mask, reaches, kernel):
    h, w = 5, 6
    layer = nn.MaskedConv2d(2, 3, kernel, mask)
    grid = [(y, x) for y in range(h) for x in range(w)]
    expected = [
        [reaches(v - y, u - x) and abs(v - y) <= kernel[0] // 2 and abs(u - x) <= kernel[1] // 2 for v, u in grid]
        for y, x in grid
    ]
    assert (seen(layer, h, w, 2) == np.array(expected)).all()


@pytest.mark.parametrize("mask", ["A", "B", "above", "row"])
def test_a_row_and_a_place_are_those_of_the_whole_map(mask):
    layer, x = nn.MaskedConv2d(2, 3, (5, 3), mask), rng().standard_normal((2, 2, 4, 5), dtype=np.float32)
    whole = layer(x).data
    assert whole.shape == (2, 3, 4, 5)
    for y in range(4):
        np.testing.assert_allclose(layer(x, row=y).data, whole[:, :, y : y + 1], atol=1e-6)
        for u in range(5):
            place = layer(x, row=y, column=u).data
            np.testing.assert_allclose(place, whole[:, :, y : y + 1, u : u + 1], atol=1e-6)


def test_masks_and_kernels_that_are_none():
    with pytest.raises(ValueError, match="unknown mask 'C': choose one of A, B, above, row"):
        nn.MaskedConv2d(1, 1, (3, 3), "C")
    with pytest.raises(ValueError, match="must be odd"):
        nn.MaskedConv2d(1, 1, (2, 3), "B")
    with pytest.raises(ValueError, match="must leave some"):
        nn.MaskedConv2d(1, 1, (1, 1), "A")
    with pytest.raises(InputError, match="the kernel odd"):
        PixelCNN(8, kernel=4)
    with pytest.raises(InputError, match="temperature 0 draws nothing"):
        PixelCNN(2, channels=1).sample((1, 1), 1, temperature=0)


def small(seed=0, **options):
    manual_seed(seed)
    return PixelCNN(**{"codes": 4, "channels": 6, "layers": 6} | options)


def maps(n, h, w, codes=4, seed=0):
    return rng(seed).integers(0, codes, (n, h, w))


def test_no_place_sees_itself_or_what_comes_after_and_every_one_sees_all_before_by_gradients():
    """Of the preset, on the maps of MNIST: 7x7. The code that a place has is what the embedding gives there."""
    model, c, h, w = small(), maps(1, 7, 7), 7, 7

    class Given(nn.Module):
        def __init__(self, x):
            self.x = x

        def forward(self, indices):
            return self.x.transpose((0, 2, 3, 1))

    def logits(x):
        model.embedding = Given(x)
        return model(c).transpose((0, 3, 1, 2))

    assert (seen(logits, h, w, 6) == np.tril(np.ones((49, 49), bool), -1)).all()


@pytest.mark.parametrize("h, w", [(7, 7), (3, 8), (8, 2)])
def test_the_same_by_values(h, w):
    model, c = small(classes=3), maps(1, h, w)
    for p in model.parameters():  # what comes through many layers is faint
        p.data = p.data.astype(np.float64)
    n = h * w
    others = np.repeat(c.reshape(1, n), n, axis=0)
    others[np.arange(n), np.arange(n)] = (others[np.arange(n), np.arange(n)] + 1) % 4  # row j: another code at j
    before = model(c, np.array([1])).data.reshape(1, n, 4)
    after = model(others.reshape(n, h, w), np.array([1] * n)).data.reshape(n, n, 4)
    moved = (abs(after - before) > 1e-13).any(axis=2)  # (j, i): whether code j changes what is said of place i
    assert (moved == np.triu(np.ones((n, n), bool), 1)).all()


def test_the_walk_computes_what_the_whole_network_does():
    model, c = small(classes=3, above=5), maps(3, 4, 6)
    labels, above = np.array([2, 0, 1]), maps(3, 2, 3, 5)
    expected = model(c, labels, above).data.reshape(3, 24, 4)
    met = []

    def choose(i, logits):
        assert i == len(met)
        met.append(logits)
        return c.reshape(3, 24)[:, i]

    assert (model.walk((4, 6), 3, choose, labels, above) == c).all()
    np.testing.assert_allclose(np.stack(met, axis=1), expected, atol=1e-5)


def test_the_likelihoods_of_all_maps_sum_to_one():
    model = small(codes=2)
    every = np.array([[n >> i & 1 for i in range(6)] for n in range(64)]).reshape(64, 2, 3)
    log_p = -model.nll(every).data.sum(axis=(1, 2)).astype(np.float64)
    assert np.exp(log_p).sum() == pytest.approx(1, rel=1e-5)


def test_samples_have_the_models_probabilities():
    model, n = small(codes=2, channels=4, layers=2, seed=3), 4000
    drawn = model.sample((2, 2), n, rng())
    every = np.array([[m >> i & 1 for i in range(4)] for m in range(16)]).reshape(16, 2, 2)
    p = np.exp(-model.nll(every).data.sum(axis=(1, 2)))
    found = (drawn.reshape(n, 1, 4) == every.reshape(1, 16, 4)).all(axis=2).mean(axis=0)
    assert p.max() > 1.5 * p.min()  # not all alike
    assert (abs(found - p) < 5 * np.sqrt(p * (1 - p) / n)).all()


@pytest.mark.parametrize("temperature", [1e-3, 1e-39])  # the logits over the latter are infinite
def test_a_low_temperature_draws_the_likeliest(temperature):
    model = small()
    drawn = model.sample((3, 3), 5, rng(), temperature=temperature)
    assert (drawn == drawn[:1]).all()
    expected = model(drawn[:1]).data.argmax(axis=-1)
    assert (drawn[:1] == expected).all()


def fit(model, c, steps, lr=0.01, **conditions):
    optimizer = optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.nll(c, **conditions).mean()
        loss.backward()
        optimizer.step()
    return model


def test_independent_codes_cost_their_entropy():
    p = np.array([0.5, 0.25, 0.2, 0.05])
    entropy = -float((p * np.log(p)).sum())
    draw = lambda n, seed: np.searchsorted(np.cumsum(p), rng(seed).random((n, 4, 4)))  # noqa: E731
    model = fit(small(channels=3, layers=2), draw(500, 0), 50, 0.03)
    nats = model.nll(draw(500, 1)).mean().item()
    assert nats == pytest.approx(entropy, abs=0.012)


def test_a_pattern_without_chance_costs_nothing_but_its_first_place():
    """Diagonal stripes of period 4 and a phase: log 4 nats for the first place, 0 for the others."""
    y, x = np.arange(4)[:, None], np.arange(4)
    c = np.stack([(y + x + phase) % 4 for phase in range(4)])
    nats = fit(small(layers=1, channels=16), c, 100, 0.02).nll(c).data
    assert abs(nats[:, 0, 0] - math.log(4)).max() < 0.05
    assert nats.reshape(4, 16)[:, 1:].max() < 0.02


def test_a_condition_that_decides_leaves_nothing_to_say():
    labels = np.array([0, 1, 2] * 4)
    c = np.broadcast_to(labels[:, None, None], (12, 2, 2)).copy()
    told = fit(small(layers=1, channels=12, classes=3), c, 80, 0.02, labels=labels)
    assert told.nll(c, labels=labels).data.max() < 0.02
    above = maps(12, 2, 2)
    fine = above.repeat(2, axis=1).repeat(2, axis=2)
    told = fit(small(layers=1, channels=16, above=4), fine, 100, 0.02, above=above)
    assert told.nll(fine, above=above).mean().item() < 0.02


def test_conditions_must_be_given_where_there_are_some():
    with pytest.raises(ValueError, match="give labels"):
        small(classes=2)(maps(1, 2, 2))
    with pytest.raises(ValueError, match="give labels"):
        small()(maps(1, 2, 2), np.array([0]))
    with pytest.raises(ValueError, match="no whole factor"):
        small(above=2)(maps(1, 3, 3), None, maps(1, 2, 2, 2))
