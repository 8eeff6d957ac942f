"""How much of float32 a gradient keeps: a stated number of bits for every row of CASES, and none lost far out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from minivae import Tensor, ops
from minivae.cases import CASES

EPS = 2.0**-23  # the spacing of float32 at 1

# The error of a gradient, ||g32 - g64|| / ||g64|| for each input, is at most EPS 2^bits: two roundings by default.
# The bits of the others are what was measured over 400 examples, and one or two more.
DEFAULT_BITS = 1
BITS = {
    # a function of its result: 1 - y^2 and y (1 - y) cancel where y is near 1, e^a - 1 near 0
    "tanh": 8, "sigmoid": 6, "silu": 8, "gelu": 6, "elu": 4, "expm1": 3, "nn.Sequential": 12,
    "linear": 10, "conv2d": 12, "conv_transpose2d": 12,  # with an activation
    # terms of both signs, added up by the adjoint of broadcasting or by a sum of products
    "mul": 6, "div": 6, "pow": 5, "matmul": 3, "einsum": 3, "nn.Linear": 3, "nn.BatchNorm.eval": 4,
    "nn.ConvTranspose2d": 2, "nn.ResidualBlock": 6,
    # differences of the operands, and their products
    "gaussian_nll": 6, "gaussian_nll.broadcast": 10, "kl_normal": 5, "kl_normal.broadcast": 8,
    "binary_cross_entropy_with_logits": 8, "binary_cross_entropy_with_logits.broadcast": 7, "cross_entropy": 3,
    "kl_unit_normal.broadcast": 3, "models.vae": 7,
    # gradients that sum to zero over the axis: what is left of a difference of near-equal terms
    "softmax": 10, "log_softmax": 9, "var": 6, "standardize": 12, "nn.LayerNorm": 7, "nn.BatchNorm": 7,
    "nn.GroupNorm": 3, "group_norm": 5,
    # a whole loss, through a decoder and an encoder; and its likelihoods
    "models.vae.monte-carlo": 7, "models.vae.free_bits": 6, "models.vae.capacity": 9, "models.vae.k": 7,
    "models.vae.conv": 9, "models.autoencoder": 9, "models.autoencoder.block": 7, "models.Gaussian.pixel": 6,
    "models.Gaussian": 2, "models.DiscretizedLogistic": 5, "models.Bernoulli": 3, "models.Multinomial": 3,
    # one rounding more than two
    "exp": 2, "logsumexp": 3, "cos": 2, "softplus": 2, "log1p": 2, "kl_unit_normal": 2,
    # losses of the others, with their differences of samples, of classes and of two networks' opinions
    "models.PixelCNN": 12, "models.Planar": 8, "models.IAF": 7, "models.tcvae": 7, "models.cvae": 6,
    "models.cvae.conv": 12, "models.completion": 7, "models.mmd": 7, "models.wae": 8, "models.factorvae": 7,
    "models.factorvae.discriminator": 7, "models.gan": 4, "models.gan.discriminator": 10, "models.vaegan": 8,
    "models.vaegan.decoder": 6, "models.vaegan.discriminator": 13, "models.pixelvae": 7,
    # differences from a code, of a vector from a plane, and 1 - y^2 of tanh
    "models.VectorQuantizer.codebook": 5, "rotation_trick": 3, "models.FSQ.bound": 5,
}  # fmt: skip
OTHER_NOISE = {"models.hvae", "models.vae.planar"}  # drawn in the dtype of the parameters: other numbers in float64


def gradients(fn, args, dtype):
    """The gradients of all float arrays among the arguments, for a cotangent that float32 holds exactly."""
    args = [a.astype(dtype) if is_float(a) else a for a in args]
    leaves = [Tensor(a, requires_grad=True) if is_float(a) else a for a in args]
    y = fn(*leaves)
    y.backward(np.random.default_rng(0).uniform(0.5, 1.5, y.shape).astype(np.float32).astype(dtype))
    return [leaf.grad for leaf in leaves if isinstance(leaf, Tensor)]


def is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def test_the_table_names_rows_that_exist():
    assert set(BITS) | OTHER_NOISE <= set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name not in OTHER_NOISE])
@given(data=st.data())
@settings(derandomize=True)  # the bits are measured: a new draw must not be able to exceed them by an ulp
def test_bits_lost(name, data):
    drawn = data.draw(st.tuples(*CASES[name].arguments))
    args = [a for item in drawn for a in (item if isinstance(item, list) else [item])]
    args = [a.astype(np.float32) if is_float(a) else a for a in args]
    single, double = (gradients(CASES[name].fn, args, dtype) for dtype in (np.float32, np.float64))
    for g32, g64 in zip(single, double, strict=True):
        assert (g32 is None) == (g64 is None)
        if g64 is not None:
            assert (g32.dtype, g64.dtype) == (np.float32, np.float64)
            allowed = EPS * 2.0 ** BITS.get(name, DEFAULT_BITS)
            assert np.linalg.norm(g32 - g64) <= allowed * np.linalg.norm(g64)


# ---- far out: the functions that are written so that nothing overflows ----

FAR = np.array([-1e4, -100, -20, -1, 0, 1, 20, 100, 1e4], np.float32)
WIDE = np.array([[100, -100, 0], [1e4, 0, -1e4], [-1e4, -1e4, -1e4], [1e4, 1e4 - 1, 0]], np.float32)
BEYOND = 1 + np.maximum(abs(FAR.astype(float)) - 16, 0)
SMALL = np.array([-1e4, -100, -20, -1, 0, 1, 20], np.float32)  # of a log-variance whose e^logvar is representable
SOME = np.array([0.0, 0.25, 1.0], np.float32)[:, None]
soft = special.softmax(WIDE.astype(float), axis=-1)
weights = np.array([1.0, 2.0, -1.5])


def softmax_vjp(g):
    return soft * (g - (g * soft).sum(-1, keepdims=True))


FAR_OUT = {
    "sigmoid": (lambda a: ops.sigmoid(a), FAR, special.expit(FAR.astype(float)),
                special.expit(FAR.astype(float)) * special.expit(-FAR.astype(float))),
    "softplus": (lambda a: ops.softplus(a), FAR, np.logaddexp(0, FAR.astype(float)), special.expit(FAR.astype(float))),
    "soft_clip": (
        ops.soft_clip, FAR, np.where(abs(FAR) > 16, np.sign(FAR) * (16 + np.log(BEYOND)), FAR), 1 / BEYOND,
    ),
    "softmax": (lambda a: ops.softmax(a) * weights.astype(a.dtype), WIDE, soft * weights, softmax_vjp(weights)),
    "log_softmax": (lambda a: ops.log_softmax(a), WIDE, special.log_softmax(WIDE.astype(float), axis=-1), 1 - 3 * soft),
    "logsumexp": (lambda a: ops.logsumexp(a, axis=-1), WIDE, special.logsumexp(WIDE.astype(float), axis=-1), soft),
    "binary_cross_entropy_with_logits": (
        lambda a: ops.binary_cross_entropy_with_logits(a + 0 * SOME, SOME + 0 * FAR, axis=()), FAR,
        np.logaddexp(0, FAR.astype(float)) - FAR.astype(float) * SOME,
        (special.expit(FAR.astype(float)) - SOME).sum(0),
    ),
    "kl_unit_normal of mu": (lambda a: ops.kl_unit_normal(a, 0 * FAR, axis=()), FAR, FAR.astype(float) ** 2 / 2, FAR),
    "kl_unit_normal of logvar": (
        lambda a: ops.kl_unit_normal(0 * SMALL, a, axis=()), SMALL,
        (np.exp(SMALL.astype(float)) - 1 - SMALL) / 2, np.expm1(SMALL.astype(float)) / 2,
    ),
    "gaussian_nll of mu": (
        lambda a: ops.gaussian_nll(a, 0 * FAR, 0 * FAR, axis=()), FAR,
        (FAR.astype(float) ** 2 + np.log(2 * np.pi)) / 2, FAR,
    ),
    "gaussian_nll of logvar": (  # at x - mu = 1: far out the variance is too wide to matter
        lambda a: ops.gaussian_nll(0 * SMALL, a, 0 * SMALL + 1, axis=()), -SMALL,
        (np.exp(SMALL.astype(float)) - SMALL + np.log(2 * np.pi)) / 2, -np.expm1(SMALL.astype(float)) / 2,
    ),
    "kl_normal of logvar_p": (
        lambda a: ops.kl_normal(0 * SMALL, 0 * SMALL, 0 * SMALL, a, axis=()), -SMALL,
        (np.exp(SMALL.astype(float)) - SMALL - 1) / 2, -np.expm1(SMALL.astype(float)) / 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", FAR_OUT)
def test_far_out(name, dtype):
    """Value and gradient against SciPy's in float64. A warning of NumPy, as of overflow, would fail the test."""
    fn, points, value, gradient = FAR_OUT[name]
    a = Tensor(points.astype(dtype), requires_grad=True)
    y = fn(a)
    y.backward(np.ones(y.shape, dtype))
    rtol = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(y.numpy(), value, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(a.grad, gradient, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("far", [100.0, 1e4])
def test_the_tails_keep_their_relative_accuracy(far):
    """Where float64 can hold the tiny value, it is there and not 0."""
    far = min(far, 700.0)  # e^-1e4 is not representable
    a = Tensor(np.array([-far]), requires_grad=True)
    for fn in (ops.sigmoid, ops.softplus):
        a.grad = None
        y = fn(a)
        y.backward(np.ones(1))
        np.testing.assert_allclose(y.numpy(), np.exp(-far), rtol=1e-14)
        np.testing.assert_allclose(a.grad, np.exp(-far), rtol=1e-14)
