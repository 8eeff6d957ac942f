"""The nearest code, gradients past a quantisation, k-means."""

import tracemalloc

import pytest
from anywhere import np, on_backend
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import vq

from minivae import InputError, Tensor, ops
from minivae.models.kmeans import clusters, kmeans, sample, seeds
from minivae.ops.quantize import nearest

vq = on_backend(vq)


def normal(*shape: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def brute(x: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The nearest code by all differences, in float64."""
    x, codebook = x.astype(np.float64), codebook.astype(np.float64)
    return ((x[:, None] - codebook) ** 2).sum(-1).argmin(1)


# the nearest code


@given(
    m=st.integers(0, 40), k=st.integers(1, 9), d=st.integers(1, 5), scores=st.integers(1, 500), seed=st.integers(0, 999)
)
def test_the_search_is_brute_force_at_any_size_of_its_pieces(m, k, d, scores, seed):
    x, codebook = normal(m, d, seed=seed, dtype=np.float64), normal(k, d, seed=seed + 1, dtype=np.float64)
    indices = nearest(x, codebook, scores)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, brute(x, codebook))


@pytest.mark.parametrize("scores", [1, 7, 1000])
def test_of_equally_near_codes_the_first(scores):
    codebook = np.array([[1.0, 0], [-1, 0], [1, 0], [0, 1]], np.float32)
    x = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [2, 2]], np.float32)
    np.testing.assert_array_equal(nearest(x, codebook, scores), [0, 0, 1, 3, 0, 0])


def test_far_from_the_origin_float32_still_tells_codes_apart():
    x, codebook = normal(500, 8) + np.float32(3000), normal(64, 8, seed=1) + np.float32(3000)
    scores = (codebook**2).sum(1) - 2 * x @ codebook.T
    assert (scores.argmin(1) != brute(x, codebook)).mean() > 0.5  # what the bare formula makes of it
    np.testing.assert_array_equal(nearest(x, codebook), brute(x, codebook))


def test_a_bad_row_does_not_spoil_the_others():
    x, codebook = normal(5, 3), normal(4, 3, seed=1)
    expected = nearest(x, codebook)
    x[2] = np.nan
    np.testing.assert_array_equal(np.delete(nearest(x, codebook), 2), np.delete(expected, 2))


def test_the_search_holds_few_scores():
    x, codebook = normal(20_000, 4), normal(500, 4, seed=1)  # all scores would fill 40 MB

    def peak(scores: int) -> int:
        tracemalloc.start()
        try:
            nearest(x, codebook, scores)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000 * 500) > 40e6
    assert peak(100_000) < 1.5e6


@pytest.mark.parametrize(("x", "codebook"), [((4, 3), (5, 2)), ((4,), (5, 4)), ((4, 3), (0, 3)), ((2, 4, 3), (5, 3))])
def test_shapes_that_have_no_nearest_code(x, codebook):
    with pytest.raises(ValueError, match=r"nearest: x of shape .* a codebook of shape"):
        nearest(np.zeros(x), np.zeros(codebook))


# gradients


@pytest.mark.parametrize("name", ["straight_through", "rotation_trick"])
def test_the_value_is_q_to_the_bit_and_q_has_no_gradient(name):
    x, q = Tensor(normal(3, 4), requires_grad=True), Tensor(1e6 * normal(3, 4, seed=1), requires_grad=True)
    y = getattr(ops, name)(x, q)
    np.testing.assert_array_equal(y.data, q.data)
    y.sum().backward()
    assert q.grad is None and x.grad is not None
    with pytest.raises(ValueError, match=rf"{name}: x of shape \(3, 4\) and q of shape \(4,\)"):
        getattr(ops, name)(x, q[0])


def test_straight_through_is_its_twin():
    g, arrays = normal(2, 3, seed=5, dtype=np.float64), (normal(2, 3), normal(2, 3, seed=1))
    grads = []
    for fn in (ops.straight_through, lambda x, q: x + (q - x).detach()):
        x, q = (Tensor(a.astype(np.float64), requires_grad=True) for a in arrays)
        fn(x, q).backward(g)
        grads.append(x.grad)
    np.testing.assert_array_equal(grads[0], g)
    np.testing.assert_array_equal(grads[1], g)


def rotation(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The rotation of x's direction to q's in their plane, by its angle, that leaves all across it where it is."""
    u, v = x / np.linalg.norm(x), q / np.linalg.norm(q)
    w = v - u * (u @ v)
    w /= np.linalg.norm(w)
    cos = u @ v
    sin = np.sqrt(1 - cos**2)
    plane = np.stack([u, w], axis=1)
    return np.eye(len(x)) + plane @ (np.array([[cos, -sin], [sin, cos]]) - np.eye(2)) @ plane.T


def test_the_rotation_trick_is_the_rotation_of_a_vector_to_its_code():
    x, q, g = (normal(6, 5, seed=seed, dtype=np.float64) for seed in range(3))
    leaf = Tensor(x, requires_grad=True)
    ops.rotation_trick(leaf, Tensor(q)).backward(g)
    for i in range(len(x)):
        matrix = rotation(x[i], q[i]) * np.linalg.norm(q[i]) / np.linalg.norm(x[i])
        np.testing.assert_allclose(matrix @ x[i], q[i], rtol=1e-12)
        np.testing.assert_allclose(leaf.grad[i], g[i] @ matrix, rtol=1e-9, atol=1e-12)


def test_the_rotation_trick_where_there_is_no_direction():
    """From the origin, to the origin, and to the opposite: finite, and no longer than g times the ratio."""
    x, q = np.array([[0.0, 0], [1, 2], [1, 2]], np.float32), np.array([[1.0, 2], [0, 0], [-2, -4]], np.float32)
    leaf, g = Tensor(x, requires_grad=True), np.array([[3.0, 4]] * 3, np.float32)
    ops.rotation_trick(leaf, Tensor(q)).backward(g)
    np.testing.assert_allclose(np.linalg.norm(leaf.grad, axis=1), [5, 0, 10], rtol=1e-5, atol=1e-5)


# k-means


def blobs(k: int, n: int, d: int = 2, width: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n vectors in each of k narrow clouds, whose centres are the corners of a grid; and the centres."""
    side = int(np.ceil(k ** (1 / d)))
    centres = np.stack(np.meshgrid(*[np.arange(side)] * d), -1).reshape(-1, d)[:k].astype(np.float64)
    x = np.repeat(centres, n, axis=0) + width * normal(k * n, d, seed=seed, dtype=np.float64)
    return np.random.default_rng(seed).permutation(x), centres


def test_kmeans_finds_planted_clusters():
    x, planted = blobs(9, 60)
    result = kmeans(x, 9, np.random.default_rng(1), iterations=20)
    distances = np.linalg.norm(result.centres[:, None] - planted, axis=-1)
    assert sorted(distances.argmin(1)) == list(range(9)) and distances.min(1).max() < 0.05
    np.testing.assert_array_equal(np.bincount(result.indices), [60] * 9)
    assert result.distortions[-1] == pytest.approx(0.01, rel=0.1)


@given(k=st.integers(1, 12), seed=st.integers(0, 999))
def test_a_step_of_kmeans_never_increases_the_distortion(k, seed):
    x = normal(60, 3, seed=seed, dtype=np.float64)
    result = kmeans(x, k, np.random.default_rng(seed), iterations=30)
    assert all(np.diff(result.distortions) <= 1e-15)
    np.testing.assert_array_equal(result.indices, brute(x, result.centres))
    assert result.distortions[-1] == pytest.approx(((x - result.centres[result.indices]) ** 2).mean())
    for i in range(k):  # it ended at a fixed point: each centre is the mean of its vectors
        np.testing.assert_allclose(result.centres[i], x[result.indices == i].mean(0), atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 4])
def test_lloyds_steps_are_those_of_scipy(iterations):
    x = normal(300, 4, dtype=np.float64)
    start = seeds(x, 7, np.random.default_rng(3))
    expected, _ = vq.kmeans2(x, start, iter=iterations, minit="matrix")
    result = kmeans(x, 7, np.random.default_rng(3), iterations)
    np.testing.assert_allclose(result.centres, expected, atol=1e-12)
    assert len(result.distortions) == iterations + 1


def test_seeds_are_vectors_far_from_each_other():
    x, planted = blobs(16, 40, width=0.01)
    chosen = seeds(x, 16, np.random.default_rng(0))
    assert (chosen[:, None] == x).all(-1).any(1).all()
    assert sorted(brute(chosen, planted)) == list(range(16))  # 16 drawn evenly hit 10 clouds on average


def test_vectors_drawn_by_weight():
    weights = np.array([0, 1, 0, 3, 0], np.float32)
    drawn = sample(weights, 4000, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 2, 4]].sum() == 0 and counts[1] == pytest.approx(1000, abs=100)
    assert set(sample(np.zeros(3), 5, np.random.default_rng(0)).tolist()) == {2}


def test_an_empty_cluster_stays_and_equal_vectors_are_no_trouble():
    result = kmeans(np.ones((5, 2)), 3, np.random.default_rng(0))
    np.testing.assert_array_equal(result.centres, np.ones((3, 2)))
    assert result.distortions[-1] == 0
    counts, sums = clusters(np.array([[1.0], [2.0], [4.0]]), np.array([2, 0, 2]), 3)
    np.testing.assert_array_equal(counts, [1, 0, 2])
    np.testing.assert_array_equal(sums, [[2], [0], [5]])


@pytest.mark.parametrize(("shape", "k"), [((3, 2), 4), ((3, 2), 0), ((6,), 2), ((0, 2), 1)])
def test_more_codes_than_vectors(shape, k):
    with pytest.raises(InputError, match=rf"k-means of {k} codes needs .* use fewer codes or more vectors"):
        kmeans(np.zeros(shape), k)
