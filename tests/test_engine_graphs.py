"""Random graphs: the engine against finite differences, PyTorch, the rules of differentiation, and its memory."""

import gc
import platform
import subprocess
import sys
import tracemalloc

import pytest
from anywhere import host, np
from hypothesis import given
from hypothesis import strategies as st

from minivae import Tensor, gradcheck, ops

LEAVES = [(2, 3), (3,), (2, 1), ()]

# Every op as a pair, (ours, PyTorch's), that keeps its values within a few units: nothing grows with the depth.
UNARY = {
    "tanh": (lambda a: a.tanh(), lambda t, a: t.tanh(a)),
    "sin": (lambda a: a.sin(), lambda t, a: t.sin(a)),
    "sigmoid": (lambda a: a.sigmoid(), lambda t, a: t.sigmoid(a)),
    "neg": (lambda a: -a, lambda t, a: -a),
    "exp": (lambda a: (-(a * a)).exp(), lambda t, a: t.exp(-(a * a))),
    "log": (lambda a: (a * a + 1.0).log(), lambda t, a: t.log(a * a + 1)),
    "sqrt": (lambda a: (a * a + 0.5).sqrt() * 0.7, lambda t, a: t.sqrt(a * a + 0.5) * 0.7),
    "sum": (lambda a: a.sum() * 0.2, lambda t, a: a.sum() * 0.2),
    "mean": (lambda a: a.mean(axis=-1, keepdims=True) if a.ndim else a,
             lambda t, a: a.mean(dim=-1, keepdim=True) if a.ndim else a),
    "softmax": (lambda a: a.softmax(axis=-1) if a.ndim else a, lambda t, a: t.softmax(a, -1) if a.ndim else a),
    "flip": (lambda a: a.flip(), lambda t, a: t.flip(a, tuple(range(a.ndim)))),
    "first": (lambda a: a[:1] if a.ndim else a, lambda t, a: a[:1] if a.ndim else a),
    "twice": (lambda a: ops.concatenate([a, a * 0.5], axis=0).mean(axis=0) if a.ndim else a,
              lambda t, a: t.cat([a, a * 0.5], dim=0).mean(dim=0) if a.ndim else a),
}  # fmt: skip
BINARY = {
    "add": (lambda a, b: (a + b) * 0.7, lambda t, a, b: (a + b) * 0.7),
    "sub": (lambda a, b: (a - b) * 0.7, lambda t, a, b: (a - b) * 0.7),
    "mul": (lambda a, b: (a * b).tanh(), lambda t, a, b: t.tanh(a * b)),
    "div": (lambda a, b: a / (b * b + 1.0), lambda t, a, b: a / (b * b + 1)),
    "self": (lambda a, b: (a * a - a * b).sin(), lambda t, a, b: t.sin(a * a - a * b)),
}


@st.composite
def programs(draw, max_depth=30):
    """A list of steps (op, operands): each operand is the index of an earlier value, the leaves being the first."""
    steps = []
    for _ in range(draw(st.integers(1, max_depth))):
        values = len(LEAVES) + len(steps)
        recent = st.integers(max(0, values - 3), values - 1)  # deep
        anywhere = st.integers(0, values - 1)  # shared, wide
        operand = st.one_of(recent, anywhere)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(list(UNARY))), (draw(operand),)))
        else:
            steps.append((draw(st.sampled_from(list(BINARY))), (draw(operand), draw(operand))))
    return steps


def run(steps, leaves, torch=None):
    """The loss of a program: all of its values have a part in it."""
    values = list(leaves)
    for name, operands in steps:
        ours, theirs = (UNARY | BINARY)[name]
        args = [values[i] for i in operands]
        values.append(theirs(torch, *args) if torch else ours(*args))
    total = values[-1].sum()
    for i, value in enumerate(values[len(LEAVES) :]):
        total = total + value.mean() * (0.1 + 0.01 * i)
    return total


def points(seed):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1.5, 1.5, shape) for shape in LEAVES]


def gradients(fn, arrays):
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = fn(*leaves)
    y.backward()
    return y.item(), [np.zeros(x.shape) if x.grad is None else x.grad for x in leaves]


seeds = st.integers(0, 2**32 - 1)


@given(programs(), seeds)
def test_random_graphs_against_finite_differences(steps, seed):
    report = gradcheck(lambda *leaves: run(steps, leaves), points(seed), seed=seed % 1000)
    assert not any(f.kind == "kink" for f in report.findings), report


@given(programs(), seeds)
def test_random_graphs_against_pytorch(steps, seed):
    torch = pytest.importorskip("torch")
    value, grads = gradients(lambda *leaves: run(steps, leaves), points(seed))
    leaves = [torch.tensor(a, requires_grad=True) for a in host(points(seed))]
    theirs = run(steps, leaves, torch)
    theirs.backward()
    assert value == pytest.approx(theirs.item(), rel=1e-9, abs=1e-9)
    for grad, leaf in zip(grads, leaves, strict=True):
        expected = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        np.testing.assert_allclose(grad, expected, rtol=1e-9, atol=1e-9)


# ---- the rules of differentiation ----


@given(programs(10), programs(10), seeds)
def test_backward_is_linear_in_the_function(first, second, seed):
    """The gradient of 3 f - 2 h, of which the leaves are shared, is 3 times that of f less twice that of h."""
    _, of_f = gradients(lambda *leaves: run(first, leaves), points(seed))
    _, of_h = gradients(lambda *leaves: run(second, leaves), points(seed))
    _, both = gradients(lambda *leaves: run(first, leaves) * 3.0 - run(second, leaves) * 2.0, points(seed))
    for f, h, fh in zip(of_f, of_h, both, strict=True):
        np.testing.assert_allclose(fh, 3 * f - 2 * h, rtol=1e-9, atol=1e-9)


@given(programs(10), seeds, st.integers(2, 5))
def test_gradients_add_up_over_calls_as_over_fan_out(steps, seed, times):
    """Backward several times into the same leaves gives what one backward of the sum gives."""
    leaves = [Tensor(a, requires_grad=True) for a in points(seed)]
    for _ in range(times):
        run(steps, leaves).backward()
    _, of_sum = gradients(lambda *xs: sum(run(steps, xs) for _ in range(times)), points(seed))
    for leaf, expected in zip(leaves, of_sum, strict=True):
        np.testing.assert_allclose(np.zeros(leaf.shape) if leaf.grad is None else leaf.grad, expected, atol=1e-9)


@given(seeds, st.lists(st.sampled_from(sorted(set(UNARY) - {"sum", "first", "mean", "twice"})), min_size=2, max_size=6))
def test_the_vjp_of_a_composition_is_the_composition_of_the_vjps(seed, names):
    """f2(f1(x)): the cotangent handed by hand from one graph to the one before it."""
    x, g = np.random.default_rng(seed).uniform(-1.5, 1.5, (2, 2, 3))
    whole = Tensor(x, requires_grad=True)
    y = whole
    for name in names:
        y = UNARY[name][0](y)
    y.backward(g)

    pieces, value = [], x
    for name in names:
        leaf = Tensor(value, requires_grad=True)
        pieces.append((leaf, UNARY[name][0](leaf)))
        value = pieces[-1][1].data
    cotangent = g
    for leaf, piece in reversed(pieces):
        piece.backward(cotangent)
        cotangent = leaf.grad
    np.testing.assert_allclose(whole.grad, cotangent, rtol=1e-12, atol=1e-14)


@given(programs(10), seeds)
def test_a_cut_graph_gives_the_partial_derivatives(steps, seed):
    """With one leaf detached, the others have the gradient that they had."""
    _, grads = gradients(lambda *leaves: run(steps, leaves), points(seed))
    _, cut = gradients(lambda x, *rest: run(steps, [x.detach(), *rest]) + x.sum(), points(seed))
    np.testing.assert_array_equal(cut[0], np.ones(LEAVES[0]))
    for expected, grad in zip(grads[1:], cut[1:], strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-12, atol=1e-14)


def test_paths_that_double_at_each_step():
    """2^60 paths, 60 nodes: each is visited once."""
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


def test_memory_returns_to_where_it_was_without_the_collector():
    leaves = [Tensor(a, requires_grad=True) for a in (np.ones((100, 100)), np.ones(100))]

    def step():
        a, b = leaves
        for _ in range(20):
            a = (a @ leaves[0] * 1e-3 + b).tanh()
        (a * a).mean().backward()
        for leaf in leaves:
            leaf.grad = None

    def held():
        return tracemalloc.get_traced_memory()[0]

    step()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        step()
        before = held()
        for _ in range(5):
            step()
        assert held() - before < 10_000  # one of the arrays is 80,000 bytes
        assert tracemalloc.get_traced_memory()[1] > 1_000_000  # and the graph was there
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory in their own way")
def test_freed_memory_is_kept_for_the_next_step():
    """A step meets no page that the system took back: in a process of its own, whose memory no other test shaped."""
    program = """
import resource
import numpy
from minivae import backend

def step():
    return [numpy.ones(1 << 19, numpy.float32) for _ in range(8)]  # 8 arrays of 512 pages, all freed by the caller

backend.use("numpy")
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 512
