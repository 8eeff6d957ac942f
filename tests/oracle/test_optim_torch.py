"""Optimisers, schedules and clipping against PyTorch's."""

import numpy as np
import pytest

from minivae import nn, optim

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads, of no use on arrays as small as these, would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SHAPES = ((5,), (3, 4), ((1 << 15) + 1,), (3, 30_001))  # the last two: more than a block, no multiple of it

SGD, ADAM, ADAMW = (optim.SGD, torch.optim.SGD), (optim.Adam, torch.optim.Adam), (optim.AdamW, torch.optim.AdamW)
ADAMAX, ADAGRAD = (optim.Adamax, torch.optim.Adamax), (optim.Adagrad, torch.optim.Adagrad)
CASES = [
    (*SGD, {"lr": 0.1}),
    (*SGD, {"lr": 0.1, "weight_decay": 0.2}),
    (*SGD, {"lr": 0.1, "momentum": 0.9}),
    (*SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    (*SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (*SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2}),
    (*ADAM, {}),
    (*ADAM, {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-3}),
    (*ADAM, {"lr": 0.02, "weight_decay": 0.3}),
    (*ADAMW, {}),
    (*ADAMW, {"lr": 0.02, "weight_decay": 0.3, "betas": (0.8, 0.99)}),
    (*ADAMAX, {}),
    (*ADAMAX, {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-2, "weight_decay": 0.3}),
    (*ADAGRAD, {}),
    (*ADAGRAD, {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.3}),
]


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("make", "make_theirs", "options"), CASES, ids=lambda value: str(getattr(value, "__name__", value))
)
def test_twenty_steps(make, make_theirs, options, dtype):
    mine = [nn.Parameter(normal(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(SHAPES)]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in mine]
    optimizer, their_optimizer = make(mine, **options), make_theirs(theirs, **options)
    for t in range(20):
        for i, (p, tp) in enumerate(zip(mine, theirs, strict=True)):
            p.grad = normal(*p.shape, seed=100 + 10 * t + i, dtype=dtype)
            tp.grad = torch.from_numpy(p.grad.copy())
        optimizer.step()
        their_optimizer.step()
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    for p, tp in zip(mine, theirs, strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.data, tp.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("make", "make_theirs"), [SGD, ADAM, ADAMW, ADAMAX, ADAGRAD], ids=lambda v: v.__name__)
def test_gradients_that_are_sometimes_missing(make, make_theirs):
    options = {"lr": 0.05} | ({"momentum": 0.9} if make is optim.SGD else {})
    mine = [nn.Parameter(normal(4, seed=i)) for i in range(2)]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in mine]
    optimizer, their_optimizer = make(mine, **options), make_theirs(theirs, **options)
    for t in range(12):
        for i, (p, tp) in enumerate(zip(mine, theirs, strict=True)):
            p.grad = normal(4, seed=100 + 10 * t + i) if i == 0 or t % 3 == 2 else None
            tp.grad = None if p.grad is None else torch.from_numpy(p.grad.copy())
        optimizer.step()
        their_optimizer.step()
    for p, tp in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(p.data, tp.detach().numpy(), rtol=1e-10)


def rates(schedule, lr, steps):
    return [lr * schedule(t) for t in range(steps)]


def their_rates(make, lr, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    result = []
    for _ in range(steps):
        result.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return result


def test_schedules():
    lrs = torch.optim.lr_scheduler
    np.testing.assert_allclose(
        rates(optim.step_schedule(4, 0.3), 0.1, 15), their_rates(lambda o: lrs.StepLR(o, 4, 0.3), 0.1, 15), rtol=1e-12
    )
    np.testing.assert_allclose(
        rates(optim.cosine(10, final=0.1), 0.2, 11),
        their_rates(lambda o: lrs.CosineAnnealingLR(o, 10, eta_min=0.02), 0.2, 11),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        rates(optim.warmup(5), 0.2, 9),
        their_rates(lambda o: lrs.LinearLR(o, start_factor=1 / 5, total_iters=4), 0.2, 9),
        rtol=1e-12,
    )

    def both(o):
        parts = [lrs.LinearLR(o, 1 / 5, total_iters=4), lrs.CosineAnnealingLR(o, 8)]
        return lrs.SequentialLR(o, parts, milestones=[5])

    np.testing.assert_allclose(
        rates(optim.warmup(5, optim.cosine(8)), 0.2, 13), their_rates(both, 0.2, 13), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("max_norm", [0.1, 3.0, 1e4])
def test_clipping(max_norm, dtype):
    grads = [normal(50, 40, dtype=dtype), normal(7, seed=1, dtype=dtype), normal(30, 20, seed=2, dtype=dtype).T]
    mine = [nn.Parameter(np.zeros(g.shape, dtype)) for g in [*grads, np.zeros(3)]]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in mine]
    for p, tp, g in zip(mine, theirs, grads, strict=False):
        p.grad = g.copy(order="K")
        tp.grad = torch.from_numpy(g.copy())
    norm = optim.clip_grad_norm(mine, max_norm)
    their_norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    assert float(norm) == pytest.approx(float(their_norm), rel=tolerance)
    for p, tp in zip(mine[:3], theirs, strict=False):
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad, tp.grad.numpy(), rtol=tolerance)
    assert mine[3].grad is None
