"""gradcheck finds planted faults of every kind and names them; what is right, it passes."""

import subprocess
import sys
from pathlib import Path

import pytest
from anywhere import np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from minivae import NotFinite, Tensor, gradcheck, nn, no_grad, op, ops
from minivae.findings import NOTES, GradientError
from minivae.pairs import from_vjp

A = np.array([[0.3, -0.7, 1.1], [0.2, 0.9, -0.4]])
B = np.array([[0.5, -0.2, 0.8], [1.2, 0.1, -0.6], [-0.9, 0.4, 0.7]])
MODES = pytest.mark.parametrize("mode", ["fast", "full"])


def findings(fn, inputs, **options):
    return gradcheck(fn, inputs, raise_exception=False, **options).findings


def only(fn, inputs, **options):
    """The one finding that there must be."""
    (finding,) = findings(fn, inputs, **options)
    return finding


def square(vjp, name="square"):
    return from_vjp(lambda a: a * a, vjp, name)


def one_entry(g, a, factor=1 + 1e-4):
    d = 2 * g * a
    d[1, 2] *= factor
    return d


# ---- wrong ----


@MODES
@pytest.mark.parametrize("entry", list(np.ndindex(A.shape)))
def test_one_wrong_entry_is_named(entry, mode):
    def vjp(g, a, b):
        d = 2 * g * a
        d[entry] *= 1 + 1e-4
        return g, d

    found = only(from_vjp(lambda b, a: a * a + b, lambda g, b, a: vjp(g, a, b)), [B[:2], A], mode=mode)
    assert (found.kind, found.input, found.entry) == ("wrong", 1, entry)
    assert found.relative_error == pytest.approx(1e-4, rel=0.01)
    assert found.analytic == pytest.approx(found.numeric * (1 + 1e-4), rel=1e-9)
    assert f"input 1 at {entry}" in found.message
    if mode == "full":
        assert found.output == entry
        assert f"of the output at {entry}" in found.message
        assert found.numeric == pytest.approx(2 * A[entry], rel=1e-9)


def test_full_mode_names_the_entry_of_the_output():
    """The gradient of a product misses the transpose in one of its terms."""
    wrong = from_vjp(lambda a, b: a @ b, lambda g, a, b: (g @ b.T, np.where(np.eye(3, dtype=bool), 1.1, 1) * (a.T @ g)))
    found = findings(wrong, [A, B], mode="full")
    assert {f.kind for f in found} == {"wrong"}
    assert {f.input for f in found} == {1}
    assert {(f.entry, f.output) for f in found} == {((i, i), (row, i)) for i in range(3) for row in range(2)}


@pytest.mark.parametrize(
    ("factor", "hint"),
    [(-1, "the sign is flipped"), (2, "twice too large"), (0.5, "half of it"), (0, "it is zero"), (3, "ratio 3")],
)
@MODES
def test_hints(factor, hint, mode):
    found = findings(square(lambda g, a: factor * 2 * g * a), [A], mode=mode)
    assert {f.kind for f in found} == {"wrong"}
    assert all(hint in f.message for f in found)


def test_the_numbers_in_the_message():
    with pytest.raises(GradientError, match=r"is 1\b.* by finite differences 2\b"):
        gradcheck(square(lambda g, a: g * a), [np.ones(1)], mode="full")


def test_a_raw_op_and_a_vjp_pair_are_judged_alike():
    @op
    def missing_transpose(xp, a, b):
        return a @ b, (lambda g: g @ b, lambda g: a.T @ g)

    pair = from_vjp(lambda a, b: a @ b, lambda g, a, b: (g @ b, a.T @ g), "missing_transpose")
    with pytest.raises(GradientError, match=r"(?s)missing_transpose: wrong.*input 0 at \(0, 0\)") as raw:
        gradcheck(missing_transpose, [A, B])
    with pytest.raises(GradientError) as paired:
        gradcheck(pair, [A, B])
    assert str(raw.value) == str(paired.value)


# ---- form: shape, dtype, missing ----


def test_shape():
    found = only(square(lambda g, a: (2 * g * a).T), [A])
    assert (found.kind, found.input) == ("shape", 0)
    assert "(3, 2)" in found.message and "(2, 3)" in found.message and "input 0" in found.message


def test_shape_of_a_broadcast_operand():
    """from_vjp is strict where the engine would sum: the pair itself must undo its broadcasting."""
    found = only(from_vjp(lambda a, b: a + b, lambda g, a, b: (g, g)), [A, A[0]])
    assert (found.kind, found.input) == ("shape", 1)


def test_the_wrong_number_of_gradients():
    found = only(from_vjp(lambda a, b: a + b, lambda g, a, b: (g.copy(),)), [A, A])
    assert found.kind == "shape"
    assert "1 gradients for 2 inputs" in found.message


def test_a_raw_op_of_the_wrong_shape_is_named_by_the_engine():
    @op
    def wrong_shape(xp, a):
        return a * 2, (lambda g: (2 * g).T,)

    found = only(wrong_shape, [A])
    assert found.kind == "shape"
    assert all(word in found.message for word in ("wrong_shape", "(3, 2)", "(2, 3)"))
    assert only(op(lambda xp, a: (a * 2, (lambda g: 2 * g[:, None],))), [A[0]]).kind == "shape"


def test_other_errors_of_backward_are_the_callers_to_see():
    @op
    def refuses(xp, a):
        def da(g):
            raise RuntimeError("no memory")

        return a * 2, (da,)

    with pytest.raises(RuntimeError, match="no memory"):
        gradcheck(refuses, [A], raise_exception=False)


def test_dtype_of_a_gradient():
    found = only(square(lambda g, a: (2 * g * a).astype(np.float32)), [A])
    assert (found.kind, found.input) == ("dtype", 0)
    assert "float32" in found.message and "input 0" in found.message


def test_dtype_of_the_output():
    found = only(from_vjp(lambda a: a.astype(np.float32), lambda g, a: g.astype(np.float64)), [A])
    assert found.kind == "dtype"
    assert "output is float32" in found.message


def test_missing_in_a_pair():
    found = only(from_vjp(lambda a, b: a * b, lambda g, a, b: (g * b, None)), [A, A])
    assert (found.kind, found.input) == ("missing", 1)
    assert "input 1" in found.message


def test_missing_in_a_raw_op():
    @op
    def half_done(xp, a, b):
        return a * b, (lambda g: g * b, None)

    found = only(half_done, [A, A], mode="full")
    assert (found.kind, found.input, found.entry, found.output) == ("missing", 1, (0, 0), (0, 0))
    assert found.numeric == pytest.approx(A[0, 0])
    assert "input 1 got no gradient" in found.message and "0.3" in found.message


def test_missing_where_the_graph_is_cut():
    assert only(lambda a: (a * a).detach(), [A]).kind == "missing"


def test_none_is_right_where_no_gradient_is_due():
    """As the docstring of from_vjp says: "None where an input has none"."""
    above = from_vjp(lambda a, b: np.where(a > b, a, 0.0), lambda g, a, b: (np.where(a > b, g, 0.0), None))
    report = gradcheck(above, [A, np.full_like(A, 0.05)])
    assert [f.kind for f in report.findings] == ["constant"]


def test_none_at_one_point_says_nothing_of_another():
    """A gradient of zero may be None: here it is that of a, where b is 0."""
    pair = from_vjp(lambda a, b: a * b, lambda g, a, b: (g * b if b.any() else None, g * a))
    assert gradcheck(pair, [np.ones(2), np.zeros(2)])
    assert gradcheck(pair, [np.ones(2), np.ones(2)]).verdict == "ok"


# ---- manners: nondeterministic, mutated, nonlinear, aliased ----


def test_nondeterministic_forward():
    rng = np.random.default_rng(0)
    found = only(lambda a: a * rng.standard_normal(), [A])
    assert found.kind == "nondeterministic"
    assert "two forward passes" in found.message


@pytest.mark.parametrize("other", [lambda a: a * 2, lambda a: ops.sum(a * a)], ids=["value", "shape"])
def test_a_value_that_hangs_on_recording(other):
    found = only(lambda a: other(a) if a.requires_grad else a * a, [A])
    assert found.kind == "nondeterministic"
    assert "where a graph is recorded" in found.message


def test_nondeterministic_backward():
    rng = np.random.default_rng(0)
    found = only(square(lambda g, a: 2 * g * a * (1 + 1e-12 * rng.standard_normal())), [A])
    assert (found.kind, found.input) == ("nondeterministic", 0)
    assert "two backward passes" in found.message and "input 0" in found.message


def test_mutated_by_forward():
    def forward(a, b):
        b *= 1.5
        return a * b

    found = only(from_vjp(forward, lambda g, a, b: (g * b, g * a)), [A, A])
    assert (found.kind, found.input) == ("mutated", 1)
    assert "input 1" in found.message and "forward" in found.message


def test_mutated_by_backward():
    def vjp(g, a):
        a *= 2
        return g * a

    found = only(square(vjp), [A])
    assert (found.kind, found.input) == ("mutated", 0)
    assert "input 0" in found.message and "backward" in found.message


def test_mutated_cotangent():
    def vjp(g, a):
        g *= 2 * a
        return g

    found = only(square(vjp), [A])
    assert found.kind == "mutated"
    assert "cotangent" in found.message


def test_mutated_integers():
    def forward(a, i):
        i += 1
        return a[i]

    with pytest.raises(GradientError, match="input 1 was changed in place by forward"):
        gradcheck(from_vjp(forward, lambda g, a, i: (np.ones_like(a), None)), [A, np.array([0])])


def test_nonlinear_at_zero():
    found = only(square(lambda g, a: 2 * g * a + 1), [A])
    assert (found.kind, found.input) == ("nonlinear", 0)
    assert "zero cotangent" in found.message and "input 0" in found.message


def test_nonlinear_in_a_sum():
    found = only(square(lambda g, a: 2 * a * np.abs(g)), [A])
    assert (found.kind, found.input) == ("nonlinear", 0)
    assert "vjp(u + v)" in found.message and "input 0" in found.message


def test_aliased_with_an_input():
    """Linear on paper; what it hands out is the input itself, written over."""

    @op
    def scratch(xp, a):
        x = a.copy()

        def da(g):
            np.multiply(g, 2 * x, out=a)
            return a

        return a * a, (da,)

    found = only(scratch, [A])
    assert found.kind in ("aliased", "mutated")
    same = only(op(lambda xp, a, b: (a * b, (lambda g: b if g.any() else 0 * b, lambda g: g * a))), [A, A])
    assert (same.kind, same.input) == ("aliased", 0)
    assert "input 0 shares memory with input 1" in same.message


def test_aliased_with_another_gradient():
    @op
    def both(xp, a, b):
        made = {}

        def once(g):
            return made.setdefault("d", 2.0 * g)

        return 2.0 * a + 2.0 * b, (once, once)

    found = only(both, [A, A])
    assert (found.kind, found.input) == ("aliased", 1)
    assert "input 1 shares memory with the gradient of input 0" in found.message


def test_a_pair_that_returns_one_array_twice():
    def vjp(g, a, b):
        d = 2 * g
        return d, d

    found = only(from_vjp(lambda a, b: 2 * a + 2 * b, vjp), [A, A])
    assert (found.kind, found.input) == ("aliased", 1)
    assert "input 1 shares memory with that of input 0" in found.message
    assert gradcheck(from_vjp(lambda a, b: a + b, lambda g, a, b: (g, g)), [A, A]).verdict == "ok"


def filled(buffer, values):
    buffer[...] = values
    return buffer


def test_aliased_with_an_earlier_gradient():
    """It gives the right numbers, and overwrites those that were given before."""
    buffer = np.empty(3)
    reuses = op(lambda xp, a: (a * a, (lambda g: filled(buffer, 2 * g * a),)))
    for fn in (reuses, square(lambda g, a: filled(buffer, 2 * g * a))):
        found = only(fn, [np.array([0.3, -0.7, 1.1])])
        assert (found.kind, found.input) == ("aliased", 0)
        assert "the gradient of input 0 is handed out in the same array at each call" in found.message


def test_aliased_with_an_earlier_output():
    buffer = np.empty(3)
    reuses = op(lambda xp, a: (filled(buffer, a * a), (lambda g: 2 * g * a,)))
    found = only(reuses, [np.array([0.3, -0.7, 1.1])])
    assert found.kind == "aliased"
    assert "the output is handed out in the same array at each call" in found.message


def test_the_cotangent_and_views_of_it_may_be_handed_out():
    for fn in (op(lambda xp, a: (a + 1, (lambda g: g,))), op(lambda xp, a: (a.T * 1, (lambda g: g.T,)))):
        assert gradcheck(fn, [A]).verdict == "ok"


# ---- nonfinite, unresolved, kink, constant ----


def test_nonfinite_output():
    found = only(ops.log, [np.array([1.0, 0.0])])
    assert found.kind == "nonfinite"
    assert "output" in found.message


def test_nonfinite_gradient():
    found = only(lambda a, b: b + ops.sqrt(a), [np.array([1.0, 0.0]), np.ones(2)])
    assert (found.kind, found.input) == ("nonfinite", 0)
    assert "input 0" in found.message


def test_nonfinite_gradient_for_a_zero_cotangent():
    """As of g^2 / g."""
    found = only(square(lambda g, a: 2 * a * (g * g / np.where(g == 0, np.nan, g))), [A])
    assert (found.kind, found.input) == ("nonfinite", 0)
    assert "a zero cotangent gives input 0 NaN" in found.message


def test_unresolved():
    """So near a boundary of the domain no step is small enough: the right gradient is not called wrong."""
    found = only(lambda a, b: b * ops.sqrt(a), [np.array([1.0, 1e-8]), np.ones(2)])
    assert (found.kind, found.input, found.entry) == ("unresolved", 0, (1,))
    assert found.uncertainty > 1e-3 * abs(found.analytic)
    assert "too uncertain" in found.message and "input 0 at (1,)" in found.message


def test_a_derivative_of_zero_is_not_unresolved_by_rounding():
    """The KL's by logvar_q where it equals logvar_p: finite differences make 8e-13 of it, give or take 9e-13."""
    mu = np.array([0.12655545176899152, 0.1869964535537938, -0.9839658636123187, -0.8903511304367739])
    logvar = np.array([0.042771475950125426])
    report = gradcheck(ops.kl_normal, [mu, logvar, np.array(-0.6986757954952862), logvar])
    assert [f.kind for f in report.findings] == ["constant"]
    wrong = from_vjp(lambda x: x * x, lambda g, x: g * (2 * x + 1e-10), name="a little too much")
    assert only(wrong, [np.zeros(1)]).kind == "wrong"


@MODES
def test_a_kink_is_a_note(mode):
    report = gradcheck(ops.relu, [np.array([1.0, 0.0])], mode=mode)
    assert report
    assert {f.kind for f in report.findings} == {"kink"}
    assert {(f.input, f.entry) for f in report.findings} == {(0, (1,))}
    assert "input 0 at (1,)" in report.findings[0].message and "between the one-sided" in report.findings[0].message


def test_a_gradient_outside_a_kink_is_wrong():
    found = only(from_vjp(lambda a: np.abs(a), lambda g, a: np.where(a == 0, 1.2, np.sign(a)) * g), [np.zeros(1)])
    assert (found.kind, found.input, found.entry) == ("wrong", 0, (0,))
    assert "not between" in found.message


def test_constant_is_a_note():
    report = gradcheck(lambda a, b: b * 2 + a * 0, [A, A])
    assert [(f.kind, f.input) for f in report.findings] == [("constant", 0)]
    assert "input 0" in report.findings[0].message
    assert report.verdict == "constant"


def test_notes_are_no_faults():
    assert set(NOTES) == {"kink", "constant"}


# ---- right ones pass ----

tan = from_vjp(np.tan, lambda g, a: g / np.cos(a) ** 2)
HARD = {
    "steep": (lambda a: ops.exp(a), [50.0, 49.0, 700.0]),
    "steep downwards": (lambda a: ops.exp(a * -40), [0.3, 1.0]),
    "tiny points": (lambda a: ops.sin(a) + a * a, [1e-6, -2e-6, 3e-7]),
    "tiny points of a steep function": (lambda a: ops.sin(a * 1e6), [1e-6, -2e-6, 3e-7]),
    "the logarithm of tiny points": (lambda a: ops.log(a), [1e-6, 3e-6]),
    "huge points": (lambda a: ops.log(a) * a, [1e6, 3e6]),
    "huge squares": (lambda a: a * a, [1e6, -3e6]),
    "cancellation": (from_vjp(lambda a: (1e6 + a * a) - 1e6, lambda g, a: 2 * a * g), [0.5, 2.0]),
    "worse cancellation": (from_vjp(lambda a: np.sqrt(a + 1) - np.sqrt(a),
                           lambda g, a: g * (0.5 / np.sqrt(a + 1) - 0.5 / np.sqrt(a))), [1e3, 1e4]),
    "oscillating": (lambda a: ops.sin(a * 30), [0.1, 1.0, 2.3]),
    "oscillating faster": (lambda a: ops.sin(a * 1000), [0.1, 1.0, 2.3]),
    "a turning point": (lambda a: ops.cos(a * 30), [0.0, np.pi / 30]),
    "near a pole": (lambda a: 1.0 / a, [0.05, -0.05, 0.02]),
    "nearer a pole": (lambda a: 1.0 / a, [1e-3, -1e-4]),
    "near a pole of tan": (tan, [1.5, 1.57]),
    "a root": (lambda a: ops.sqrt(a), [1e-4, 0.01]),
    "flat": (lambda a: ops.tanh(a), [15.0, -18.0]),
    "flat then steep": (lambda a: ops.exp(-1.0 / (a * a)), [0.1, 0.2]),
    "near kinks": (lambda a: ops.relu(a), [1e-4, -1e-4, 1e-6, 1e-8, -1e-8]),
    "near kinks, curved": (lambda a: ops.abs(a) * ops.exp(a), [1e-4, -1e-4, 1e-6, 1e-8]),
    "near a step": (from_vjp(lambda a: np.floor(a) + a, lambda g, a: 1.0 * g), [1e-3, 1 - 1e-3]),
    "a polynomial": (lambda a: a**7, [1.5, 3.0]),
    "zero at zero": (lambda a: a * a * a, [0.0]),
}  # fmt: skip


@MODES
@pytest.mark.parametrize("case", HARD)
def test_hard_but_right(case, mode):
    fn, points = HARD[case]
    for point in points:
        assert not gradcheck(fn, [np.array([point])], mode=mode, raise_exception=False).faults, point
    report = gradcheck(fn, [np.array(points)], mode="full", raise_exception=False)
    assert not report.faults, report


@pytest.mark.parametrize("case", HARD)
def test_hard_and_wrong(case):
    """The same points, with a gradient that is 1 % off: the allowance for uncertainty is no loophole."""
    fn, points = HARD[case]
    off = op(lambda xp, a: (a, (lambda g: 1.01 * g,)))
    for point in points:
        leaf = Tensor(np.array(point), requires_grad=True)
        fn(leaf).backward()
        if abs(leaf.grad) > 1e-5:  # a derivative near atol is nearly nothing
            assert gradcheck(lambda a: fn(off(a)), [np.array(point)], raise_exception=False).faults, point


@pytest.mark.parametrize("scale", [1e-100, 1e-15, 1e-12, 1e-9, 1e-6, 1e6, 1e12])
def test_units_do_not_matter(scale):
    """The gradient of one loss in other units: right it passes, flipped it is found."""
    right = from_vjp(lambda a: scale * np.sin(a), lambda g, a: scale * g * np.cos(a))
    flipped = from_vjp(lambda a: scale * np.sin(a), lambda g, a: -scale * g * np.cos(a))
    gradcheck(right, [A])
    assert not gradcheck(flipped, [A], raise_exception=False)


def test_a_large_output_does_not_hide_a_small_one():
    scales = np.array([1e12, 1.0])
    wrong = from_vjp(lambda a: scales * np.sin(a), lambda g, a: scales * g * np.cos(a) * np.array([1.0, 1.1]))
    assert [f.output for f in findings(wrong, [np.array([0.3, 0.4])], mode="full")] == [(1,)]


ROUGH = {
    "float32 inside": lambda a: np.sin(a.astype(np.float32)).astype(np.float64),
    "cancellation": lambda a: (1e8 + np.sin(a)) - 1e8,
    "noise": lambda a: np.sin(a) + 1e-6 * np.sin(1e13 * a),
}


@pytest.mark.parametrize("case", ROUGH)
def test_a_right_gradient_of_rough_values_is_not_called_wrong(case):
    """Values rounded to few digits are flat at small steps: those prove nothing.

    Rounded values can agree by chance, so that errors down to one in a thousand are all that is asked for.
    """
    x = np.random.default_rng(0).uniform(-3, 3, 40)
    found = findings(from_vjp(ROUGH[case], lambda g, a: g * np.cos(a)), [x])
    assert not [f for f in found if f.kind == "wrong" and f.relative_error > 1e-3]
    found = findings(from_vjp(ROUGH[case], lambda g, a: 1.1 * g * np.cos(a)), [x])
    assert sum(f.kind == "wrong" for f in found) > 20


@MODES
def test_a_cast_to_float32_does_not_prove_a_derivative_of_zero(mode):
    """At small steps a sum of 40 squares in float32 stays as it is."""

    def forward(a):
        return (a.astype(np.float32) ** 2).sum().astype(np.float64)

    flawed = 0
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal(40)
        found = findings(from_vjp(forward, lambda g, a: 2 * g * a), [x], mode=mode)
        assert not [f for f in found if f.kind == "wrong" and f.relative_error > 0.02]
        found = findings(from_vjp(forward, lambda g, a: 2.2 * g * a), [x], mode=mode)
        flawed += sum(f.kind in ("wrong", "unresolved") for f in found)
    assert flawed > 0.95 * 5 * 40


@pytest.mark.parametrize("offset", [0.0, 40.0, 1e4])
@pytest.mark.parametrize("x", [-0.3, -0.01, -1e-3, -(2.0**-12), -1e-6])
def test_a_function_that_is_flat_by_itself_is_not_taken_for_a_rounded_one(x, offset):
    flat = from_vjp(lambda a: np.maximum(a, 0.0) + offset, lambda g, a: 0.0 * g)
    assert gradcheck(flat, [np.array([x])]).verdict == "constant"
    assert only(from_vjp(lambda a: np.maximum(a, 0.0) + offset, lambda g, a: 0.3 * g), [np.array([x])]).kind == "wrong"


def standardised(x):
    centred = x - x.mean()
    return centred / (centred * centred).mean() ** 0.5


@pytest.mark.parametrize("seed", [71, 126, 251, 370, 420])
def test_estimates_that_agree_by_chance_accuse_no_one(seed):
    """A first step of 100 / 64 is too large where the function's own scale is 1: its estimates can still agree."""
    report = gradcheck(standardised, [100 + np.random.default_rng(seed).standard_normal(6)], mode="full")
    assert report.worst < 1e-8  # of the series that was believed


def test_a_period_of_a_power_of_2_is_no_derivative_of_zero():
    gradcheck(lambda x: ops.sin(x * (2.0**9 * np.pi)), [np.array([0.5])])
    assert only(lambda x: ops.sin(x * (2.0**9 * np.pi)).detach() + 0 * x, [np.array([0.3])]).kind == "wrong"


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, np.linalg.LinAlgError, NotFinite])
def test_a_function_may_raise_outside_of_its_domain(error):
    """At points that the user never gave: there it is as undefined as np.log is, which gives NaN."""

    def root(a):
        if a < 0:
            raise error("outside")
        return np.sqrt(a)

    assert gradcheck(from_vjp(root, lambda g, a: g * 0.5 / np.sqrt(a)), [0.01]).verdict == "ok"
    assert only(from_vjp(root, lambda g, a: g / np.sqrt(a)), [0.01]).kind == "wrong"
    with pytest.raises(error):
        gradcheck(from_vjp(root, lambda g, a: g), [-0.01])


def test_the_callers_no_grad_changes_nothing():
    with no_grad():
        assert gradcheck(ops.tanh, [A]).verdict == "ok"
        assert not ops.tanh(Tensor(A, requires_grad=True)).requires_grad


@pytest.mark.parametrize("factor", [3, 2.5, np.array([1, 2, 3])], ids=str)
def test_a_pair_takes_numbers_too(factor):
    scaled = from_vjp(lambda a, k: a * k, lambda g, a, k: (g * k, None))
    assert gradcheck(lambda a: scaled(a, factor), [A]).verdict == "ok"


def test_everyday_ones():
    assert gradcheck(ops.matmul, [A, B]).entries == 2 * 6 + 2 * 9
    gradcheck(lambda x: ops.getitem(x, np.array([0, 0, 1])), [A.astype(np.float32)])  # float32 is checked in float64
    gradcheck(lambda x, i: ops.take(x, i.data, axis=0), [A, np.array([1, 1])])  # integers are not checked
    assert gradcheck(lambda x: x.sum(), [np.zeros((0, 3))]).entries == 0
    gradcheck(lambda x: x * 2, [Tensor(3.0)])
    gradcheck(lambda x: x * 2, [3.0])
    gradcheck(lambda x, y: x + y, [A, A[:, :1]])  # the engine sums over what was broadcast
    gradcheck(lambda x: x, [A])


def test_the_inputs_are_left_alone():
    a, t = A.copy(), Tensor(A.copy(), requires_grad=True)
    gradcheck(lambda x, y: (x * y).sum(), [a, t])
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(t.data, A)
    assert t.grad is None


@pytest.mark.parametrize("had", [True, False])
def test_the_gradients_of_a_layer_are_left_alone(had):
    layer = nn.Linear(3, 2, rng=0)
    x = Tensor(A.astype(np.float32))
    if had:
        layer(x).sum().backward()
    before = [None if p.grad is None else p.grad.copy() for p in layer.parameters()]
    grads = [p.grad for p in layer.parameters()]
    gradcheck(lambda t: layer(t), [A])
    for p, grad, values in zip(layer.parameters(), grads, before, strict=True):
        assert p.grad is grad
        np.testing.assert_array_equal(p.grad, values)


# ---- options ----


def count_calls(size, mode):
    calls = []

    def fn(a):
        calls.append(1)
        return ops.sin(a) * np.linspace(1, 2, size)

    gradcheck(fn, [np.array([0.4])], mode=mode)
    return len(calls)


def test_the_cost_of_fast_mode_does_not_grow_with_the_output():
    assert count_calls(10_000, "fast") < 50
    assert count_calls(100, "full") > 100


def test_wrt():
    wrong_second = from_vjp(lambda a, b: a * b, lambda g, a, b: (g * b, g * a * 1.1))
    assert gradcheck(wrong_second, [A, A], wrt=[0]).entries == 2 * A.size
    for wrt in ([1], [1, 0], None):
        assert {f.input for f in findings(wrong_second, [A, A], wrt=wrt)} == {1}


def test_seed():
    wrong = square(one_entry)
    first, same, other = (only(wrong, [A], seed=s) for s in (3, 3, 4))
    assert first == same
    assert first.analytic != other.analytic


def test_tolerances():
    wrong = square(lambda g, a: 2 * g * a * (1 + 1e-4))
    assert not gradcheck(wrong, [A], raise_exception=False)
    assert gradcheck(wrong, [A], rtol=1e-3)
    assert gradcheck(wrong, [A], atol=1e-2)
    slightly = square(lambda g, a: 2 * g * a * (1 + 1e-8))
    assert gradcheck(slightly, [A])
    assert not gradcheck(slightly, [A], rtol=1e-10, atol=0.0, raise_exception=False)


def test_the_report():
    report = gradcheck(square(one_entry, "my square"), [A], raise_exception=False)
    assert (report.name, report.verdict, bool(report)) == ("my square", "wrong", False)
    assert report.worst == pytest.approx(1e-4, rel=0.5)
    with pytest.raises(GradientError) as caught:
        gradcheck(square(one_entry, "my square"), [A])
    assert str(caught.value) == str(report)
    assert caught.value.report.findings == report.findings
    assert isinstance(caught.value, AssertionError)
    assert str(gradcheck(ops.tanh, [A])).startswith("tanh: ok (12 derivatives, worst relative error ")
    assert gradcheck(ops.tanh, [A], name="other").name == "other"
    many = gradcheck(square(lambda g, a: -g), [A], mode="full", raise_exception=False)
    assert len(many.findings) > 5
    assert str(many).endswith(f"and {len(many.findings) - 5} more")


# ---- bad input: one sentence that names it ----


def loss(a):
    return (a * a).sum()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gradcheck(loss, [np.arange(3)], wrt=[0]), TypeError, ["loss", "input 0", "int64"]),
        (lambda: gradcheck(loss, [np.array([1, np.nan])]), ValueError, ["loss", "input 0", "NaN"]),
        (lambda: gradcheck(loss, [np.array([1, np.inf])]), ValueError, ["loss", "input 0", "infinity"]),
        (lambda: gradcheck(lambda a: a.data, [A], name="f"), TypeError, ["f", "ndarray", "Tensor"]),
        (lambda: gradcheck(lambda a: [a, a], [A], name="f"), TypeError, ["f", "list", "Tensor"]),
        (lambda: gradcheck(lambda a: None, [A], name="f"), TypeError, ["f", "None", "Tensor"]),
        (lambda: gradcheck(from_vjp(lambda a: None, lambda g, a: g, "f"), [A]),
         (TypeError, GradientError), ["f", "None"]),
        (lambda: gradcheck(from_vjp(lambda a: [a, 1.0], lambda g, a: g, "f"), [A]),
         (TypeError, ValueError, GradientError), ["f", "forward"]),
        (lambda: gradcheck(from_vjp(lambda a: a.sum(), lambda g, a: float(g), "f"), [np.array(2.0)]),
         (TypeError, GradientError), ["f", "input 0", "float"]),
        (lambda: gradcheck(loss, [A], wrt=[1]), (ValueError, TypeError), ["loss", "1"]),
        (lambda: gradcheck(lambda i: i * 1.5, [np.arange(3)], name="loss"), (ValueError, TypeError), ["loss", "float"]),
        (lambda: gradcheck(loss, [A], mode="ful"), ValueError, ["mode", "ful", "fast", "full"]),
        (lambda: gradcheck(loss, A), TypeError, ["loss", "inputs"]),
        (lambda: gradcheck(loss, [A], wrt=[]), ValueError, ["loss", "wrt is []", "at least one"]),
        (lambda: gradcheck(loss, [A], wrt=[0, 0]), ValueError, ["loss", "wrt is [0, 0]", "once"]),
        (lambda: gradcheck(loss, [A], wrt=0), TypeError, ["loss", "wrt is 0", "list"]),
        (lambda: gradcheck(loss, [A], wrt=["a"]), TypeError, ["loss", "wrt is ['a']", "list"]),
        (lambda: gradcheck(loss, [A], rtol=float("nan")), ValueError, ["loss", "rtol is nan", "finite"]),
        (lambda: gradcheck(loss, [A], atol=float("inf")), ValueError, ["loss", "atol is inf", "finite"]),
        (lambda: gradcheck(loss, [A], rtol=-1.0), ValueError, ["loss", "rtol is -1.0", "negative"]),
    ],
    ids=["integer wrt", "NaN", "infinity", "an array", "a list", "None", "forward: None", "forward: ragged",
         "vjp: a float", "wrt out of range", "no float", "mode", "a bare array",
         "wrt empty", "wrt twice", "wrt a number", "wrt a name", "rtol", "atol", "negative"],
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


# ---- power ----


@st.composite
def smooth_functions(draw):
    """(forward, vjp, point, entry): a random smooth function of a vector, and an entry of it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    w, b = rng.uniform(-1.5, 1.5, (m, n)), rng.uniform(-1, 1, m)
    f, df = draw(
        st.sampled_from(
            [(np.sin, np.cos), (np.exp, np.exp), (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
             (lambda z: z**3, lambda z: 3 * z**2), (lambda z: np.log1p(z * z), lambda z: 2 * z / (1 + z * z))]
        )
    )  # fmt: skip

    def forward(x):
        return f(w @ x + b)

    def vjp(g, x):
        return w.T @ (g * df(w @ x + b))

    return forward, vjp, rng.uniform(-2, 2, n), draw(st.integers(0, n - 1))


@given(smooth_functions())
@settings(max_examples=250)
def test_what_is_right_is_never_flagged(drawn):
    forward, vjp, x, _ = drawn
    assert not gradcheck(from_vjp(forward, vjp), [x]).findings


@given(smooth_functions(), st.sampled_from([1e-4, -1e-4]))
@settings(max_examples=250)
def test_a_relative_error_of_1e_4_is_always_found(drawn, damage):
    forward, vjp, x, entry = drawn

    def damaged(g, x):
        d = vjp(g, x)
        d[entry] *= 1 + damage
        return d

    assume(np.abs(vjp(np.ones(len(forward(x))), x)[entry]) > 1e-3)  # the error must be far above atol
    found = only(from_vjp(forward, damaged), [x])
    assert (found.kind, found.input, found.entry) == ("wrong", 0, (entry,))


@pytest.mark.parametrize("seed", range(10))
def test_a_projection_hides_no_error(seed):
    """Errors of the Jacobian that a projection can miss: in one output, of zero sum over outputs, over inputs, both.

    PyTorch's fast mode projects the inputs too, on a vector that is always the same: an error orthogonal to it
    passes. Here each entry of the input is compared by itself.
    """
    rng = np.random.default_rng(seed)
    jacobian = rng.standard_normal((10, 6))
    one = np.zeros((10, 6))
    one[7, 3] = 1
    errors = rng.standard_normal((10, 6))
    over_outputs, over_inputs = errors - errors.mean(axis=0), errors - errors.mean(axis=1, keepdims=True)
    both = over_outputs - over_outputs.mean(axis=1, keepdims=True)
    for error in (one, over_outputs, over_inputs, both):
        wrong = jacobian + 1e-3 * error
        report = gradcheck(
            from_vjp(lambda x: jacobian @ x, lambda g, x, wrong=wrong: wrong.T @ g),
            [rng.standard_normal(6)], seed=seed, raise_exception=False,
        )  # fmt: skip
        assert report.verdict == "wrong"
        assert report.findings[0].entry == (np.flatnonzero(error.any(axis=0))[0],)


def test_pytorch_fast_mode_misses_what_is_found_here():
    """The same wrong vjp, its error orthogonal to the vector on which PyTorch always projects the inputs."""
    torch = pytest.importorskip("torch")
    u = np.array(torch.rand(6, generator=torch.Generator()).tolist())
    v = np.random.default_rng(0).standard_normal(6)
    error = v - u * (u @ v) / (u @ u)  # a row orthogonal to u

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g + g.sum() * torch.tensor(error.tolist(), dtype=torch.double)

    x = torch.linspace(1, 2, 6, dtype=torch.float64, requires_grad=True)
    missed = torch.autograd.gradcheck(Wrong.apply, [x], fast_mode=True, raise_exception=False)
    assert missed, "PyTorch has another projection now: this test no longer shows anything"
    wrong = from_vjp(lambda x: 2 * x, lambda g, x: 2 * g + g.sum() * error)
    for seed in range(10):
        assert not gradcheck(wrong, [np.linspace(1, 2, 6)], seed=seed, raise_exception=False)


# ---- demos/02_gradcheck.py ----


def test_the_demo_finds_its_three_bugs(tmp_path):
    demo = Path(__file__).parents[1] / "demos" / "02_gradcheck.py"
    run = subprocess.run([sys.executable, demo], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    places = {"softmax": "input 0 at (0, 0)", "bias": "input 1 at (0,)", "convolution": "input 0 at (0,)"}
    for name, where in places.items():
        written, mended = run.stdout.split(f"{name}, as written: ")[1].split(f"{name}, mended: ")
        assert written.startswith("wrong (") and f"wrong: the gradient of {where} of the output" in written
        assert mended.startswith("ok (")
    assert (tmp_path / "runs/demos/02_gradcheck.png").read_bytes().startswith(b"\x89PNG")
    with Image.open(tmp_path / "runs/demos/02_gradcheck.png") as image:
        assert min(image.size) > 1000  # 150 dpi
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
