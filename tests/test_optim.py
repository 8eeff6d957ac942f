"""Optimisers against their formulas on whole arrays, schedules, clipping. PyTorch: oracle/test_optim_torch.py."""

import math
import tracemalloc

import pytest
from anywhere import np

from minivae import InputError, Tensor, backend, checks, nn, ops, optim

BLOCK = 1 << 15


class Twins:
    """Each optimiser in a few lines: w, g, its state s and the step t give the new w."""

    @staticmethod
    def sgd(w, g, s, t, lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False):
        g = g + weight_decay * w
        s["v"] = momentum * s.get("v", 0) + g
        return w - lr * (g + momentum * s["v"] if nesterov else s["v"])

    @staticmethod
    def adam(w, g, s, t, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
        w, g = (w - lr * weight_decay * w, g) if decoupled else (w, g + weight_decay * w)
        s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
        s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
        return w - lr * (s["m"] / (1 - betas[0] ** t)) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)

    @staticmethod
    def adamw(*args, **options):
        return Twins.adam(*args, **options, decoupled=True)

    @staticmethod
    def adamax(w, g, s, t, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        g = g + weight_decay * w
        s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
        s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
        return w - lr / (1 - betas[0] ** t) * s["m"] / s["u"]

    @staticmethod
    def adagrad(w, g, s, t, lr=0.1, eps=1e-10, weight_decay=0.0):
        g = g + weight_decay * w
        s["s"] = s.get("s", 0) + g * g
        return w - lr * g / (np.sqrt(s["s"]) + eps)


CASES = {
    "SGD": (optim.SGD, Twins.sgd, {"lr": 0.1}),
    "SGD decay": (optim.SGD, Twins.sgd, {"lr": 0.1, "weight_decay": 0.2}),
    "SGD momentum": (optim.SGD, Twins.sgd, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1}),
    "SGD nesterov": (optim.SGD, Twins.sgd, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "nesterov": True}),
    "Adam": (optim.Adam, Twins.adam, {"lr": 0.01}),
    "Adam options": (
        optim.Adam,
        Twins.adam,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1},
    ),
    "AdamW": (optim.AdamW, Twins.adamw, {"lr": 0.01, "weight_decay": 0.3}),
    "Adamax": (optim.Adamax, Twins.adamax, {"lr": 0.01, "weight_decay": 0.1}),
    "Adagrad": (optim.Adagrad, Twins.adagrad, {"lr": 0.1, "weight_decay": 0.1}),
}
each = pytest.mark.parametrize("name", CASES)


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


SHAPES = ((), (3, 4), (0, 2), (BLOCK,), (BLOCK + 1,), (7, 10_001))


@each
def test_twenty_steps_follow_the_formula(name):
    make, twin, options = CASES[name]
    starts = [normal(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    parameters = [nn.Parameter(start.copy()) for start in starts]
    optimizer = make(parameters, **options)
    arrays = [p.data for p in parameters]
    states: list[dict] = [{} for _ in starts]
    for t in range(1, 21):
        for i, p in enumerate(parameters):
            g = normal(*p.shape, seed=100 * t + i)
            p.grad = g.copy()
            starts[i] = twin(starts[i], g, states[i], t, **options)
        kept = [p.grad for p in parameters]
        before = [g.copy() for g in kept]
        optimizer.step()
        for p, g, copy in zip(parameters, kept, before, strict=True):
            assert p.grad is g
            np.testing.assert_array_equal(g, copy)  # the gradient is only read
    for p, array, expected in zip(parameters, arrays, starts, strict=True):
        assert p.data is array
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-13)


@each
def test_strides_do_not_matter(name):
    make, _, options = CASES[name]
    data, grads = normal(300, 130), [normal(300, 130, seed=i) for i in range(1, 4)]
    plain = nn.Parameter(data.copy())
    strided = nn.Parameter(np.asfortranarray(data))
    wide = np.zeros((300, 260))
    view = nn.Parameter(wide[:, ::2])
    view.data[...] = data
    parameters = [plain, strided, view]
    optimizer = make(parameters, **options)
    for g in grads:
        plain.grad, strided.grad, view.grad = g, np.asfortranarray(g), np.repeat(g, 2, axis=1)[:, ::2]
        optimizer.step()
    np.testing.assert_array_equal(strided.data, plain.data)
    np.testing.assert_array_equal(view.data, plain.data)
    assert not wide[:, 1::2].any()


@each
def test_an_array_that_replaced_a_parameters_is_updated_where_it_is(name):
    """In whatever order it lies in memory, and its neighbours as if nothing had happened."""
    make, _, options = CASES[name]
    plain, odd = ([nn.Parameter(normal(30, 13, seed=i)) for i in range(3)] for _ in range(2))
    optimizers = [make(parameters, **options) for parameters in (plain, odd)]
    odd[1].data = mine = np.asfortranarray(odd[1].data)
    for t in range(3):
        for i in range(3):
            plain[i].grad = normal(30, 13, seed=10 * t + i)
            odd[i].grad = np.asfortranarray(plain[i].grad)
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(plain, odd, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert odd[1].data is mine


@each
def test_a_parameter_without_gradient_is_skipped(name):
    make, _, options = CASES[name]
    used, unused = nn.Parameter(normal(5)), nn.Parameter(normal(5))
    frozen = nn.Parameter(normal(5), requires_grad=False)
    optimizer = make([used, unused, frozen], **options)
    used.grad = normal(5, seed=1)
    optimizer.step()
    assert not np.array_equal(used.data, normal(5))
    np.testing.assert_array_equal(unused.data, normal(5))
    np.testing.assert_array_equal(frozen.data, normal(5))
    for slot in optimizer.slots:
        assert not optimizer.state[slot][1].any()


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW, optim.Adamax])
def test_a_late_first_gradient_moves_by_the_learning_rate(make):
    early, late = nn.Parameter(np.zeros(3)), nn.Parameter(np.zeros(3))
    optimizer = make([early, late], lr=0.01)
    for t in range(50):
        early.grad = np.ones(3)
        late.grad = np.full(3, 2.0) if t == 49 else None
        optimizer.step()
    np.testing.assert_allclose(late.data, -0.01, rtol=1e-6)  # as each parameter's first step in PyTorch


def test_zero_grad_forgets_and_leaves_frozen_ones_alone():
    p, frozen = nn.Parameter(normal(3)), nn.Parameter(normal(3), requires_grad=False)
    p.grad = normal(3)
    optim.SGD([p, frozen]).zero_grad()
    assert p.grad is None and frozen.grad is None


@each
def test_a_step_needs_no_memory_of_the_size_of_the_model(name):
    make, _, options = CASES[name]
    n = 10_000_000
    p = nn.Parameter(np.zeros(n, np.float32))
    p.grad = np.ones(n, np.float32)
    optimizer = make([p], **options)
    tracemalloc.start()
    try:
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < p.data.nbytes / 20  # 2 MB of 40; measured 0.5
    assert p.data.max() < 0


@each
def test_the_state_goes_on_to_the_bit(name):
    make, _, options = CASES[name]

    def steps(optimizer, first, last):
        for t in range(first, last):
            for i, p in enumerate(optimizer.parameters):
                p.grad = normal(*p.shape, seed=10 * t + i, dtype=np.float32)
            optimizer.step()

    def parameters(values):
        return [nn.Parameter(np.array(v)) for v in values]

    whole = make(parameters([normal(4, 3, dtype=np.float32), normal(6, dtype=np.float32)]), **options)
    steps(whole, 0, 3)
    state = whole.state_dict()
    resumed = make(parameters([p.data for p in whole.parameters]), **options)
    resumed.load_state_dict(state)
    arrays = {key: value.copy() for key, value in state.items() if key != "steps"}
    steps(whole, 3, 6)
    steps(resumed, 3, 6)
    for a, b in zip(whole.parameters, resumed.parameters, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    for key, value in arrays.items():
        np.testing.assert_array_equal(state[key], value)  # what was saved is a copy
    assert resumed.steps == 6


def test_a_foreign_state_is_refused_and_changes_nothing():
    p = nn.Parameter(normal(3))
    optimizer = optim.Adam([p])
    p.grad = normal(3)
    optimizer.step()
    good = optimizer.state_dict()
    adamax = optim.Adamax([p]).state_dict()
    bad = [
        {},
        adamax,
        {key: value for key, value in good.items() if key != "steps"},
        {key: value for key, value in good.items() if key != "v.0"},
        good | {"v.1": np.zeros(3)},
        good | {"m.0": np.zeros(4)},
    ]
    for state in bad:
        with pytest.raises(InputError, match="Adam") as caught:
            optimizer.load_state_dict(state)
        assert "\n" not in str(caught.value)
        after = optimizer.state_dict()
        assert after["steps"] == 1
        np.testing.assert_array_equal(after["m.0"], good["m.0"])
        np.testing.assert_array_equal(after["v.0"], good["v.0"])


@pytest.mark.parametrize(
    ("make", "options", "word"),
    [
        (optim.SGD, {"lr": -1.0}, "lr"),
        (optim.Adam, {"lr": math.nan}, "lr"),
        (optim.AdamW, {"lr": math.inf}, "lr"),
        (optim.Adagrad, {"weight_decay": -0.1}, "weight_decay"),
        (optim.SGD, {"nesterov": True}, "nesterov"),
        (optim.SGD, {"momentum": -0.5}, "momentum"),
        (optim.SGD, {"momentum": math.nan}, "momentum"),
        (optim.Adam, {"betas": (0.9, 1.0)}, "betas"),
        (optim.AdamW, {"betas": (-0.1, 0.9)}, "betas"),
        (optim.Adamax, {"betas": (math.nan, 0.9)}, "betas"),
        (optim.Adam, {"eps": -1e-8}, "eps"),
        (optim.Adagrad, {"eps": -1e-8}, "eps"),
    ],
)
def test_values_that_cannot_work(make, options, word):
    with pytest.raises(InputError, match=word):
        make([nn.Parameter(normal(3))], **options)


@each
def test_numbers_on_the_device(name):
    """What a captured step reads: arrays that advance() writes, instead of Python's numbers."""
    make, _, options = CASES[name]
    plain, resident = (make([nn.Parameter(normal(5)), nn.Parameter(normal(2, 3))], **options) for _ in range(2))
    resident.resident = True
    for t in range(4):
        plain.lr = resident.lr = 0.1 / (t + 1)
        for i in range(2):
            g = normal(*plain.parameters[i].shape, seed=10 * t + i) if i or t != 2 else None
            plain.parameters[i].grad = g
            resident.parameters[i].grad = None if g is None else g.copy()
        plain.step()
        resident.advance()
        lr, resident.lr = resident.lr, math.nan  # apply() takes no number from Python that changes
        resident.apply()
        resident.lr = lr
    assert plain.counts == resident.counts == [3, 4]
    for p, q in zip(plain.parameters, resident.parameters, strict=True):
        np.testing.assert_allclose(q.data, p.data, rtol=1e-13)


def test_an_advance_before_the_first_gradients():
    p, frozen = nn.Parameter(normal(3)), nn.Parameter(normal(3), requires_grad=False)
    optimizer = optim.Adam([p, frozen])
    optimizer.resident = True
    optimizer.advance()
    assert optimizer.counts == [1, 0]


@each
def test_data_that_somebody_replaced(name):
    """An update goes to the array that a parameter has now, whichever it had before."""
    make, _, options = CASES[name]
    ours, theirs = ([nn.Parameter(normal(4)), nn.Parameter(normal(3, 2))] for _ in range(2))
    optimizers = [make(parameters, **options) for parameters in (ours, theirs)]
    for t in range(3):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for i, p in enumerate(parameters):
                p.grad = normal(*p.shape, seed=10 * t + i)
            if parameters is ours:
                parameters[1].data = parameters[1].data.copy()
            optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_parameters_that_two_optimisers_share():
    shared, own, other = (nn.Parameter(np.zeros(2)) for _ in range(3))
    optimizers = optim.SGD([shared, own], lr=1.0), optim.SGD([other, shared, shared], lr=1.0)
    for _ in range(3):
        for p in (shared, own, other):
            p.grad = np.ones(2)
        for optimizer in optimizers:
            optimizer.step()
    np.testing.assert_array_equal([p.data[0] for p in (shared, own, other)], [-6, -3, -3])


def test_parameters_of_several_dtypes():
    parameters = [nn.Parameter(normal(3, dtype=t, seed=i)) for i, t in enumerate([np.float32, np.float64] * 2)]
    expected = [p.data - 0.5 * p.data for p in parameters]
    for p in parameters:
        p.grad = p.data.copy()
    optim.SGD(parameters, lr=0.5).step()
    for p, e in zip(parameters, expected, strict=True):
        assert p.dtype == e.dtype
        np.testing.assert_allclose(p.data, e)


# gradients in one array


def layers(wide=4):
    rng = backend.current().generator(0)
    made = nn.Sequential(nn.Linear(3, wide, rng=rng), nn.Tanh(), nn.Linear(wide, 3, rng=rng))
    conv = nn.Conv2d(1, 2, 3, padding=1, rng=rng)
    return made, conv, [*made.parameters(), *conv.parameters()]


def gradients_of(parameters, total):
    for p in parameters:
        p.grad = None
    total().backward()
    return [p.grad.copy() for p in parameters]


@pytest.mark.parametrize("times", [1, 2])
def test_gradients_in_their_places_are_those_elsewhere(times):
    """Of layers that are used once and twice: a second cotangent is added to the first, not written over it."""
    made, conv, parameters = layers()
    x, image = Tensor(normal(5, 3, dtype=np.float32)), Tensor(normal(2, 1, 4, 4, dtype=np.float32))

    def total():
        y, z = x, image
        for _ in range(times):
            y, z = made(y), conv(z)[:, :1]
        return (y * y).sum() + (z * z).sum()

    expected = gradients_of(parameters, total)
    optimizer = optim.SGD(parameters, lr=0.0)
    with checks(on=False):  # they put themselves between backward() and the vjps, which are then as any others
        for _ in range(2):
            optimizer.zero_grad()
            total().backward()
            for p, g in zip(parameters, expected, strict=True):
                np.testing.assert_array_equal(p.grad, g)
        total().backward()  # a third without zero_grad() adds up
    for p, g in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-6)
    flat, _ = optimizer.places[0]
    places = [p.grad is home for p, home in zip(parameters, flat.gradients, strict=True)]
    assert places == [p.ndim > 1 and flat.xp.eager for p in parameters]  # biases are copied there by the step


def test_a_gradient_that_is_kept_holds_until_after_zero_grad():
    made, _, parameters = layers()
    optimizer = optim.SGD(parameters, lr=0.0)
    optimizer.zero_grad()
    x = Tensor(normal(5, 3, dtype=np.float32))
    made(x).sum().backward()
    kept, values = parameters[0].grad, parameters[0].grad.copy()
    parameters[0].grad = None  # forgotten by hand, and asked for again
    (3 * made(x)).sum().backward()
    np.testing.assert_array_equal(kept, values)
    np.testing.assert_allclose(parameters[0].grad, 3 * values, rtol=1e-6)


def test_a_parameter_that_rested_gets_its_gradient_in_place_again():
    made, _, parameters = layers()
    optimizer = optim.SGD(parameters, lr=0.1)
    before = [p.data.copy() for p in parameters]
    parameters[0].requires_grad = False
    for rests in (True, False):
        optimizer.zero_grad()
        made(Tensor(normal(5, 3, dtype=np.float32))).sum().backward()
        optimizer.step()
        assert np.array_equal(parameters[0].data, before[0]) == rests
        parameters[0].requires_grad = True
    assert optimizer.counts[:2] == [1, 2]


def test_neighbours_that_were_updated_as_often_are_one_slice():
    parameters = [nn.Parameter(normal(2, seed=i)) for i in range(6)]
    optimizer = optim.Adam(parameters)

    def runs(having):
        for i, p in enumerate(parameters):
            p.grad = np.ones(2) if i in having else None
        optimizer.advance()
        return [(first, len(run)) for first, run in optimizer._runs()]

    assert runs({0, 1, 2, 3, 4, 5}) == [(0, 6)]
    assert runs({0, 1, 3, 4}) == [(0, 2), (3, 2)]
    assert runs({0, 1, 2, 3, 4, 5}) == [(0, 2), (2, 1), (3, 2), (5, 1)]
    parameters[1].data = parameters[1].data.copy()
    assert runs({0, 1, 2}) == [(0, 1), (1, 1), (2, 1)]
    assert runs(set()) == []


# schedules


def test_schedules_in_closed_form():
    assert [optim.step_schedule(3, 0.5)(t) for t in (0, 2, 3, 5, 6)] == [1, 1, 0.5, 0.5, 0.25]
    half = optim.cosine(10, final=0.2)
    assert [half(t) for t in (0, 5, 10, 11, 99)] == pytest.approx([1, 0.6, 0.2, 0.2, 0.2], abs=1e-15)
    assert optim.cosine(4)(1) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    rise = optim.warmup(4)
    assert [rise(t) for t in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    both = optim.warmup(4, optim.cosine(10))
    assert [both(t) for t in (1, 4, 9, 14, 15)] == pytest.approx([0.5, 1, 0.5, 0, 0])
    assert optim.warmup(0)(0) == 1


def test_the_rate_can_be_set_between_steps():
    p = nn.Parameter(np.zeros(1))
    optimizer = optim.SGD([p], lr=1.0)
    schedule = optim.step_schedule(1, 0.5)
    for t in range(3):
        optimizer.lr = schedule(t)
        p.grad = np.ones(1)
        optimizer.step()
    assert p.data[0] == -1.75


# clipping


def test_clipping_scales_all_alike():
    a, b, c = nn.Parameter(np.zeros((2, 2))), nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(3))
    a.grad, b.grad = np.array([[1.0, 2], [0, 4]]), np.array([2.0])  # norm 5
    norm = optim.clip_grad_norm(iter([a, b, c]), 1.0)
    assert norm.shape == () and float(norm) == pytest.approx(5)
    np.testing.assert_allclose(a.grad, [[0.2, 0.4], [0, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(b.grad, [0.4], rtol=1e-6)
    assert c.grad is None
    assert float(optim.grad_norm([a.grad, b.grad])) == pytest.approx(1, rel=1e-6)


def test_no_clipping_under_the_norm():
    p = nn.Parameter(np.zeros(4, np.float32))
    p.grad = normal(4, dtype=np.float32)
    before = p.grad.copy()
    norm = optim.clip_grad_norm([p], 10.0)
    np.testing.assert_array_equal(p.grad, before)
    assert float(norm) == pytest.approx(np.linalg.norm(before), rel=1e-6)
    assert p.grad.dtype == norm.dtype == np.float32


def test_clipping_without_gradients():
    assert float(optim.clip_grad_norm([nn.Parameter(np.zeros(3))], 1.0)) == 0
    assert float(optim.clip_grad_norm([], 1.0)) == 0


def test_clipping_of_gradients_with_strides():
    p = nn.Parameter(np.zeros((3, 4)))
    base = normal(4, 6)
    p.grad = base[:, ::2].T
    before = p.grad.copy()
    norm = optim.clip_grad_norm([p], 0.5)
    assert float(norm) == pytest.approx(np.linalg.norm(before))
    np.testing.assert_allclose(p.grad, before * 0.5 / (np.linalg.norm(before) + 1e-6))


def test_gradients_of_backward_can_be_clipped():
    """sum() hands on a broadcast view; a leaf must own its gradient nevertheless."""
    p, q = nn.Parameter(np.ones((3, 4))), nn.Parameter(np.ones((3, 4)))
    (p + q).sum().backward()
    optim.clip_grad_norm([p, q], 1.0)
    for leaf in (p, q):
        np.testing.assert_allclose(leaf.grad, 1 / math.sqrt(24), rtol=1e-6)


# in use


def test_every_optimiser_finds_the_minimum():
    target = normal(6)
    for make, options in [
        (optim.SGD, {"lr": 0.3, "momentum": 0.5, "nesterov": True}),
        (optim.Adam, {"lr": 0.1}),
        (optim.AdamW, {"lr": 0.1, "weight_decay": 0.0}),
        (optim.Adamax, {"lr": 0.2}),
        (optim.Adagrad, {"lr": 1.0}),
    ]:
        p = nn.Parameter(np.zeros(6))
        optimizer = make([p], **options)
        for _ in range(200):
            optimizer.zero_grad()
            ((p - Tensor(target)) ** 2).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(p.data, target, atol=1e-2, err_msg=make.__name__)


def test_gradients_that_are_exchanged():
    """They lie side by side in one array, into which they are brought one after the other."""
    p, q = (nn.Parameter(np.zeros((1, 2), dtype=np.float32)) for _ in "pq")
    optimizer, x = optim.SGD([p, q], lr=1.0), np.array([[1.0, 2.0]], dtype=np.float32)
    optimizer.zero_grad()
    with checks(on=False):  # with which no product writes its gradient there
        (ops.linear(x, p) + ops.linear(x, q) * 10.0).sum().backward()
    p.grad, q.grad = q.grad, p.grad
    optimizer.step()
    np.testing.assert_array_equal(p.data, [[-10, -20]])
    np.testing.assert_array_equal(q.data, [[-1, -2]])
