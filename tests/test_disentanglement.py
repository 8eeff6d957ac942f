"""The disentanglement metrics: perfect, random and rotated codes, their invariances, and examples by hand."""

import functools
import math

import numpy as np
import pytest

from minivae import disentanglement as d
from minivae.data.sprites import FACTORS, render
from minivae.disentanglement.information import binned, entropy, mutual_information
from minivae.disentanglement.trees import BaggedTrees

SIZES = {"color": 1, "shape": 3, "scale": 6, "x": 8}  # of a small world; the colour never changes
K = 3  # that vary
N = 2000


def rng(seed=0):
    return np.random.default_rng(seed)


def cells(n=N, seed=0):
    """Rows of the small world, drawn at random: the factors by name, and those that vary as columns."""
    factors = {name: rng(seed).integers(0, size, n) for seed, (name, size) in enumerate(SIZES.items(), 10 * seed)}
    return factors, np.stack([factors[name] for name in list(SIZES)[1:]], axis=1).astype(float)


FACTORS_OF_ROWS, PERFECT = cells()
NOISE = rng(99).standard_normal((N, 5))
BLURRED = PERFECT / PERFECT.std(0) + 0.4 * rng(98).standard_normal(PERFECT.shape)  # no two codes are equal
ROTATION = np.array([[2, 2, -1], [2, -1, 2], [-1, 2, 2]]) / 3
DEAD = np.hstack([np.zeros((N, 1)), PERFECT, np.full((N, 1), 7.0)])
RELABELLED = {name: 3 - 7 * values for name, values in FACTORS_OF_ROWS.items()}  # a line keeps its R^2
RELABELLED["shape"] = np.array([40, -2, 9])[FACTORS_OF_ROWS["shape"]]

CASES = {
    "perfect": (PERFECT, FACTORS_OF_ROWS),
    "perfect beside latents that never vary": (DEAD, FACTORS_OF_ROWS),
    "blurred": (BLURRED, FACTORS_OF_ROWS),
    "blurred and rotated": (BLURRED @ ROTATION, FACTORS_OF_ROWS),
    "in another order": (BLURRED[:, [2, 0, 1]], FACTORS_OF_ROWS),
    "of other signs": (-BLURRED, FACTORS_OF_ROWS),
    "of other scales": (BLURRED * [1, -4, 0.25] + 2, FACTORS_OF_ROWS),
    "factors in another order": (BLURRED, {name: FACTORS_OF_ROWS[name] for name in reversed(FACTORS_OF_ROWS)}),
    "factors of other values": (BLURRED, RELABELLED),
}


@functools.cache
def scores(case):
    z, v = CASES[case]
    table = d.Table(z, v)
    return {
        "BetaVAE": d.beta_vae_score(table, rng(), train=500, test=400),
        "FactorVAE": d.factor_vae_score(table, rng(), train=500, test=400),
        "MIG": d.mig(z, v),
        **d.dci(z, v, rng(), trees=2)._asdict(),
        "Modularity": d.modularity(z, v),
        "SAP": d.sap(z, v),
        "SAP of a kind": d.sap(z, v, ["shape"]),
    }


def close(case, other, drawn=1e-9, grown=1e-9, but=()):
    """The scores of two cases are the same up to rounding, or to noise: of draws, or of how trees break ties."""
    for name, score in scores(case).items():
        tolerance = drawn if name in ("BetaVAE", "FactorVAE") else grown if name in d.DCI._fields else 1e-9
        assert name in but or score == pytest.approx(scores(other)[name], abs=tolerance), name


def test_a_perfect_code_scores_1():
    """Up to what independent draws share by chance: (a - 1)(b - 1) / 2N nats of information, an R^2 of 1 / N. Of a
    kind the next best latent is right as often as the best guess: of three shapes a third, and a little by chance.
    """
    told = (6 - 1) * (8 - 1) / 2 / N / math.log(3)  # the greatest of such shares
    slack = {"MIG": 3 * told, "Modularity": (3 * told) ** 2, "SAP": 10 / N}
    for name, score in scores("perfect").items():
        if name == "SAP of a kind":
            assert score == pytest.approx(1 - (1 / 3) / K, abs=0.03)
        else:
            assert 1 - slack.get(name, 1e-12) <= score <= 1 + 1e-12, name


def test_latents_that_never_vary_cost_nothing():
    close("perfect beside latents that never vary", "perfect")


def test_the_order_and_the_sign_and_the_scale_of_latents_say_nothing():
    """A share of 400 points has a deviation of 0.025 where it is a half, but both have the same draws."""
    for case in ("in another order", "of other signs", "of other scales"):
        close(case, "blurred", drawn=0.01, grown=0.03)


def test_the_names_and_the_order_of_factors_say_nothing():
    """Here the draws are others."""
    close("factors in another order", "blurred", drawn=0.1, grown=0.05)


def test_the_names_of_the_values_say_nothing():
    """Of kinds; the line of SAP asks for an order, up to its direction and its unit."""
    close("factors of other values", "blurred", drawn=0.1, grown=0.05, but=["SAP"])


def test_a_rotated_code_scores_lower():
    """Each latent has two thirds of two factors. What all latents together tell stays told, as BetaVAE's classifier
    sees them all.
    """
    rotated = scores("blurred and rotated")
    for name, score in scores("blurred").items():
        assert rotated[name] < score - 0.05 or name in ("BetaVAE", "informativeness"), name
    assert rotated["BetaVAE"] > 0.8 and rotated["informativeness"] > scores("blurred")["informativeness"] - 0.1


def test_noise_has_the_beta_and_the_factor_vae_score_of_chance():
    """The share of 1,500 guesses among K = 3, within five of its standard deviations."""
    for score in (d.beta_vae_score, d.factor_vae_score):
        guessed = score(d.Table(rng(5).standard_normal((20000, 4)), cells(20000)[0]), rng(), train=1500, test=1500)
        assert guessed == pytest.approx(1 / K, abs=5 * math.sqrt(2 / 9 / 1500)), score.__name__


def test_noise_has_the_information_of_chance():
    """2 N I of independent numbers is chi-squared with (bins - 1)(values - 1) degrees of freedom: MIG and modularity
    by chance are those of such draws.
    """
    dof = (20 - 1) * (np.array([3, 6, 8]) - 1)
    uniform, sizes = rng(1).random((20000, 5)), np.array([3, 6, 8])  # all bins alike: the law needs counts in each
    factors = {name: rng(k).integers(0, k, 20000) for name, k in zip("abc", sizes, strict=True)}
    drawn = rng().chisquare(dof, (4000, 5, 3)) / 2 / 20000
    ordered = np.sort(drawn, axis=1)
    gaps = ((ordered[:, -1] - ordered[:, -2]) / np.log(sizes)).mean(axis=1)
    assert d.mig(uniform, factors) == pytest.approx(gaps.mean(), abs=5 * gaps.std())
    squares = drawn**2
    modularities = (1 - (squares.sum(2) / squares.max(2) - 1) / 2).mean(axis=1)
    assert d.modularity(uniform, factors) == pytest.approx(modularities.mean(), abs=5 * modularities.std())
    values = np.stack(list(factors.values()), axis=1)
    information = mutual_information(uniform, values).mean(axis=0)
    np.testing.assert_allclose(information, dof / 40000, atol=5 * np.sqrt(2 * dof.max() / 5) / 40000)


def test_noise_has_the_predictability_of_chance():
    """N R^2 of independent numbers is chi-squared with one degree of freedom; the trees guess one of each factor's
    values, and ask for all latents alike.
    """
    squares = np.sort(rng().chisquare(1, (4000, 5, K)), axis=1)
    gaps = (squares[:, -1] - squares[:, -2]).mean(axis=1) / N
    assert d.sap(NOISE, FACTORS_OF_ROWS) == pytest.approx(gaps.mean(), abs=5 * gaps.std())
    disentanglement, completeness, informativeness = d.dci(NOISE, FACTORS_OF_ROWS, rng())
    guessed = np.mean([1 / 3, 1 / 6, 1 / 8])
    assert informativeness == pytest.approx(guessed, abs=5 * math.sqrt(guessed * (1 - guessed) / N))  # N / 3 rows of 3
    assert 0 <= disentanglement < 0.02 and 0 <= completeness < 0.02


def test_two_factors_in_one_latent_and_one_factor_in_two():
    """What tells the two halves of disentanglement apart: modularity and completeness."""
    a, b = rng(1).integers(0, 4, 2000), rng(2).integers(0, 4, 2000)
    both = np.stack([4 * a + b, a], axis=1)  # z_1 has two factors
    twice = np.stack([a, a, b], axis=1)  # two latents have a
    factors = {"a": a, "b": b}
    assert d.modularity(both, factors) == pytest.approx((0 + 1) / 2, abs=0.01)
    assert d.modularity(twice, factors) == pytest.approx(1, abs=0.01)
    assert d.mig(twice, factors) == pytest.approx((0 + 1) / 2, abs=0.01)
    parts = d.dci(twice, factors, rng())
    assert parts.disentanglement == pytest.approx(1) and parts.informativeness == 1


# Four images of two binary factors; in bits H(a) = H(b) = 1
FOUR = {"a": np.array([0, 0, 1, 1]), "b": np.array([0, 1, 0, 1])}
A, B, AND, EACH = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [0, 1, 2, 3]], float)
TOLD = (
    0.5 * math.log2(0.5 / 0.75**1 / 0.5) if False else 1 - 0.75 * (-(2 / 3) * math.log2(2 / 3) - math.log2(1 / 3) / 3)
)


@pytest.mark.parametrize(
    ("codes", "gap", "modular"),
    [
        ((A, B), 1, 1),
        ((B, A), 1, 1),
        ((A, A), 0, 1),
        ((EACH, A), (0 + 1) / 2, (0 + 1) / 2),  # EACH has one bit of both: of a no gap, of b all
        ((A, AND), ((1 - TOLD) + TOLD) / 2, (1 + 0) / 2),  # AND tells as much of a as of b
        ((AND, AND), 0, 0),
        ((A, 0 * A), 1 / 2, 1),  # nothing of b: its gap is 0; the latent that is dead is left out
        ((0 * A, 0 * A), 0, 0),
    ],
)
def test_information_of_four_images_by_hand(codes, gap, modular):
    z = np.stack(codes, axis=1)
    assert d.mig(z, FOUR) == pytest.approx(gap, abs=1e-12)
    assert d.modularity(z, FOUR) == pytest.approx(modular, abs=1e-12)


def test_a_table_of_information_by_hand():
    """Of latents by factors, not of factors by latents: three of the one, two of the other. And of four in one bin."""
    z, v = np.stack([EACH, AND, A], axis=1), np.stack([A, B], axis=1).astype(int)
    np.testing.assert_allclose(mutual_information(z, v) / math.log(2), [[1, 1], [TOLD, TOLD], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(entropy(v), math.log(2))
    np.testing.assert_array_equal(binned(z, 2), [[0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]])


def test_more_values_than_bins_cost_what_is_said():
    """40 values in 20 bins, two each: 20 / 40 of them are told, log 20 nats of log 40."""
    a, b = (x.ravel() for x in np.meshgrid(np.arange(40), np.arange(10)))
    z = np.stack([a, b], axis=1).astype(float)
    assert d.mig(z, {"a": a, "b": b}) == pytest.approx((math.log(20) / math.log(40) + 1) / 2)


@pytest.mark.parametrize(
    ("importance", "disentanglement", "completeness"),
    [
        ([[1, 0], [0, 1]], 1, 1),
        ([[1, 1], [1, 1]], 0, 0),
        ([[1, 1], [0, 0]], 0, 1),  # one latent has both factors
        ([[1, 0], [0, 1], [1, 0], [0, 1]], 1, 1 - math.log(2) / math.log(4)),  # two latents for each
        # P_1 = (3, 1) / 4 with 3/4 bit too few, rho_1 = 4/6; P_2 = (0, 1); columns (1, 0) and (1/3, 2/3)
        (
            [[3, 1], [0, 2]],
            4 / 6 * (1 - 2 + 0.75 * math.log2(3)) + 2 / 6,
            (1 + 1 + math.log2(1 / 3) / 3 + 2 / 3 * math.log2(2 / 3)) / 2,
        ),
        ([[0, 0], [0, 0]], 0, 0),
    ],
)
def test_concentration_by_hand(importance, disentanglement, completeness):
    assert d.concentration(importance) == pytest.approx((disentanglement, completeness), abs=1e-12)


def test_predictability_of_four_images_by_hand():
    """AND has the mean 1/4 and the variance 3/16, its covariance with a is 1/8: R^2 = 1/3. As kinds: its edge tells all
    of the ones that it has, half, and all the zeros: 3/4; a guess is 1/2.
    """
    z = np.stack([A, AND], axis=1)
    assert d.sap(z, FOUR) == pytest.approx(((1 - 1 / 3) + (1 / 3 - 0)) / 2)
    assert d.sap(z, FOUR, ["a", "b"]) == pytest.approx(((1 - 3 / 4) + (3 / 4 - 1 / 2)) / 2)
    assert d.sap(np.stack([A, 0 * A], axis=1), FOUR, ["a"]) == pytest.approx((1 + 0) / 2)  # one that never varies: 0


def test_a_rare_kind_counts_as_much_as_a_frequent_one():
    """Three zeros and a one: of the zeros (0, 1, 2) has two alone, and its third bin is better spent on the one, of
    which it then has all: (2/3 + 1) / 2. As a line it has the covariance 3/8 with b, and the variance 11/16.
    """
    z = np.stack([AND, [0, 1, 2, 2]], axis=1)
    assert d.sap(z, {"a": AND, "b": A}, ["a"]) == pytest.approx(((1 - 5 / 6) + (9 / 11 - 1 / 3)) / 2)


def test_a_tree_asks_what_tells_most():
    """z_1 tells the label in one question, z_0 in part, z_2 not at all: nothing but z_1 is ever asked for."""
    labels = np.repeat([0, 1], 100)
    z = np.stack([np.repeat([0, 1], [75, 125]), labels, np.tile([0, 1], 100)], axis=1)
    tree = BaggedTrees(z, labels, rng(), trees=4)
    np.testing.assert_array_equal(tree.importance, [0, 1, 0])
    np.testing.assert_array_equal(tree.predict(z), labels)
    nothing = BaggedTrees(z * 0, labels, rng())
    assert not nothing.importance.any() and len(set(nothing.predict(z))) == 1
    assert len(set(BaggedTrees(z, labels, rng(), trees=1, leaf=101).predict(z))) == 1  # no room for two such sides


def test_trees_are_those_of_scikit_learn():
    """The same growing by the same criterion: importances and accuracies but for the bootstraps, ten of each."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    z, labels = CASES["blurred and rotated"][0], FACTORS_OF_ROWS["x"]
    ours = BaggedTrees(binned(z, 64)[:1200], labels[:1200], rng(), trees=10)
    theirs = ensemble.RandomForestClassifier(
        10, criterion="entropy", max_depth=10, min_samples_leaf=5, max_features=None, random_state=0
    ).fit(z[:1200], labels[:1200])
    spread = np.std([tree.feature_importances_ for tree in theirs.estimators_], axis=0)
    assert (abs(ours.importance - theirs.feature_importances_) < 4 * spread * math.sqrt(2 / 10)).all()
    right = np.mean(ours.predict(binned(z, 64)[1200:]) == labels[1200:])
    assert right == pytest.approx(theirs.score(z[1200:], labels[1200:]), abs=4 * math.sqrt(0.5 / 800))


def stacked(factors):
    """The "image" of a cell of the small world is its factors."""
    return np.stack([factors[name] for name in SIZES], axis=1)


def beta_score(encode, seed=0, **options):
    return d.beta_vae_score(d.Renderer(encode, stacked, SIZES), rng(seed), **options)


def test_groups_share_what_they_should():
    """Both worlds: the factor that is asked for and, of a table, the rows that are there."""
    which = rng().integers(K, size=200)
    for world in (d.Table(PERFECT, FACTORS_OF_ROWS), d.Renderer(lambda x: x[:, 1:], stacked, SIZES)):
        assert world.names == ("shape", "scale", "x")
        codes = world.draw(which, 40, rng(1))
        same = (codes == codes[0]).all(axis=0)
        np.testing.assert_array_equal(same, np.eye(K, dtype=bool)[which])
        assert len(np.unique(codes[0, which == 2, 2])) == 8  # all of its values are drawn


def test_a_code_of_some_factors_scores_between():
    """Of the shape alone: whether it is shared is known, but of the two others only a guess remains."""
    assert beta_score(lambda x: x[:, 1:2]) == pytest.approx(2 / 3, abs=0.08)


def test_few_pairs_make_the_beta_vae_score_harder():
    blurred = rng(2)

    def encode(x):
        return x[:, 1:] / [2, 5, 7] + 0.5 * blurred.standard_normal((len(x), 3))

    assert beta_score(encode, pairs=1) + 0.2 < beta_score(encode, pairs=100)


def test_the_scores_on_sprites_of_a_code_that_sees_positions():
    """The middle of the ink gives posX and posY away, its amount something of shape and scale."""

    def encode(images):
        ink = images[:, 0] / 255
        total = ink.sum((1, 2))
        return np.stack([total, ink.sum(1) @ np.arange(64) / total, ink.sum(2) @ np.arange(64) / total], axis=1)

    world = d.Renderer(encode, render, FACTORS)
    assert 0.6 < d.beta_vae_score(world, rng(), 16, 150, 100) < 0.95
    assert 0.5 < d.factor_vae_score(world, rng(), 16, 150, 100) < 0.75  # of five factors three


@pytest.mark.parametrize("score", [d.beta_vae_score, d.factor_vae_score])
def test_draws_of_nothing(score):
    table = d.Table(PERFECT, FACTORS_OF_ROWS)
    one = d.Renderer(lambda x: x, stacked, {"a": 1, "b": 2})
    for world, options in ((one, {}), (table, {"train": 0}), (table, {"test": 0})):
        with pytest.raises(ValueError, match="at least two factors"):
            score(world, rng(), **options)
    with pytest.raises(ValueError, match="at least two factors"):
        score(table, rng(), **{"pairs": 0} if score is d.beta_vae_score else {"size": 1})


def test_codes_that_never_vary_have_no_majority_vote():
    with pytest.raises(ValueError, match="never vary"):
        d.factor_vae_score(d.Table(0 * PERFECT, FACTORS_OF_ROWS), rng(), train=10, test=10)


@pytest.mark.parametrize("measure", [d.mig, d.modularity, d.sap, lambda z, v: d.dci(z, v, rng())])
def test_codes_and_factors_that_do_not_fit(measure):
    v = FACTORS_OF_ROWS
    for z, factors in ((PERFECT.T, v), (PERFECT[:, :1], v), (PERFECT[:0], v), (PERFECT[:, 0], v)):
        with pytest.raises(ValueError, match=r"give codes \(N, D\) of at least 2 latents"):
            measure(z, factors)
    with pytest.raises(ValueError, match="not all finite"):
        measure(PERFECT * np.nan, v)
    for few in ({}, {"shape": v["shape"]}, {"shape": v["shape"], "color": v["color"]}):
        with pytest.raises(ValueError, match="give at least two"):
            measure(PERFECT, few)
