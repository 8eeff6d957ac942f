"""Does each latent follow one factor? Six measures of codes z (N, D) whose images' K factors v are known.

    by drawing groups of images that share a factor    beta_vae_score, factor_vae_score
    from the mutual information I(z_i; v_j)            mig, modularity
    from predicting each factor                        dci (from all latents), sap (from one at a time)

codes are NumPy arrays (N, D), such as the means of q(z | x); factors are whole numbers (N,) by name, as in
`Split.factors`. One that has a single value says nothing and is left out. All measures are blind to the order and the
sign of latents, and to their scale and offset: 1 is best. How they differ: Locatello et al. 2019, "Challenging Common
Assumptions in the Unsupervised Learning of Disentangled Representations".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from minivae.data.dataset import Array
from minivae.disentanglement.information import BINS, binned, counts_of, entropy, entropy_of, mutual_information
from minivae.disentanglement.trees import BaggedTrees
from minivae.disentanglement.worlds import Renderer, Table, World, checked
from minivae.metrics import linear_probe

__all__ = [
    "DCI", "Renderer", "Table", "beta_vae_score", "concentration", "dci", "factor_vae_score", "mig", "modularity",
    "sap", "scores",
]  # fmt: skip


def beta_vae_score(world: World, rng: Any, pairs: int = 64, train: int = 2000, test: int = 1000) -> float:
    """1 where a linear classifier always finds which factor the images of pairs share. [Higgins et al. 2017]

    For each point a factor y is drawn, then L pairs whose images share y and nothing else; the classifier
    (linear_probe) is given z_diff = (1/L) sum_l |z_1l - z_2l| and must say y. Its accuracy by chance is 1 / K.
    disentanglement_lib [Locatello et al. 2019] takes 10,000 training and 5,000 test points. rng: a NumPy generator.
    Raises ValueError where fewer than two factors vary.
    """
    _check_draws("beta_vae_score", world, pairs=pairs, train=train, test=test)
    shared = rng.integers(len(world.names), size=train + test)
    points = []
    few = max(1, 4096 // (2 * pairs))  # points whose images are drawn at once
    for i in range(0, len(shared), few):
        which = shared[i : i + few]
        a, b = world.draw(np.repeat(which, pairs), 2, rng)
        points.append(abs(a - b).reshape(len(which), pairs, -1).mean(axis=1))
    features = np.concatenate(points)
    return linear_probe(features[:train], shared[:train], features[train:], shared[train:])


def factor_vae_score(world: World, rng: Any, size: int = 64, train: int = 2000, test: int = 1000) -> float:
    """1 where the latent that varies least always tells which factor the images of a group share. [Kim & Mnih 2018]

    For each vote a factor k is drawn, then L = size images that share its value; d = argmin_i Var(z_i) / s_i^2 over the
    group, where s_i is the deviation of z_i over the data. The majority vote takes each d to the k that came with it
    most often. Latents that never vary are left out. Chance is 1 / K, as the classifier is judged by other votes
    than those it is made of. Raises ValueError where fewer than two factors vary, or no latent.
    """
    _check_draws("factor_vae_score", world, others=size - 1, train=train, test=test)
    shared = rng.integers(len(world.names), size=train + test)
    few = max(1, 4096 // size)
    anything = np.concatenate([world.draw(shared[i : i + few], 1, rng)[0] for i in range(0, len(shared), few)])
    s = anything.std(axis=0)
    if not (active := _varies(anything)).any():
        raise ValueError("factor_vae_score was given codes that never vary: nothing tells the images apart.")
    groups = [world.draw(shared[i : i + few], size, rng)[..., active] for i in range(0, len(shared), few)]
    d = np.concatenate([(group / s[active]).var(axis=0).argmin(axis=1) for group in groups])
    votes = np.zeros((active.sum(), len(world.names)), int)
    np.add.at(votes, (d[:train], shared[:train]), 1)
    return float(np.mean(votes.argmax(axis=1)[d[train:]] == shared[train:]))


def mig(codes: Any, factors: Mapping[str, Any], bins: int = BINS) -> float:
    """The mutual information gap: (1/K) sum_k (I(z_j(k); v_k) - max_{j != j(k)} I(z_j; v_k)) / H(v_k).
    [Chen et al. 2018]

    j(k) is the latent with the most information about factor k. 1: each factor stands in one latent, whole, and in no
    other; 0: always in two alike. Here the information is that of counts: see mutual_information. (The paper integrates
    over q(z | x) instead.) A factor of more values than there are bins cannot reach 1, but log(bins) / H(v_k).
    """
    x, v, _ = checked("mig", codes, factors)
    information = np.sort(mutual_information(x, v, bins), axis=0)
    return float(np.mean((information[-1] - information[-2]) / entropy(v)))


def modularity(codes: Any, factors: Mapping[str, Any], bins: int = BINS) -> float:
    """How much each latent is about one factor, however many latents share a factor. [Ridgeway & Mozer 2018]

    With m_if = I(z_i; v_f), theta_i = max_f m_if at f = f(i), and the template t_if = theta_i at f(i), else 0:
    1 - delta_i, where delta_i = sum_f (m_if - t_if)^2 / (theta_i^2 (K - 1)), averaged over the latents. Those without
    any information, theta_i = 0, are left out; 0 where none is left. Noise does not score 0: where its small amounts of
    information are not equal, one of them is the greatest.
    """
    x, v, _ = checked("modularity", codes, factors)
    m = mutual_information(x, v, bins)
    m = m[m.max(axis=1) > 1e-12] ** 2
    delta = (m.sum(axis=1) - m.max(axis=1)) / (m.max(axis=1, initial=1e-300) * (m.shape[1] - 1))
    return float(np.mean(1 - delta)) if len(m) else 0.0


class DCI(NamedTuple):
    """disentanglement: a latent matters for one factor; completeness: a factor needs one latent; informativeness: the
    accuracy of the predictions.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(codes: Any, factors: Mapping[str, Any], rng: Any, bins: int = 64, trees: int = 10) -> DCI:
    """Disentanglement, completeness and informativeness. [Eastwood & Williams 2018]

    R_ij is the importance of latent i for predicting factor j, from which come the first two: see concentration. The
    paper's predictors are the lasso and a random forest; here, as shapes have no order and angles have no ends, bagged
    trees (trees.py), fitted to two thirds of the rows, drawn at random. The last third gives the informativeness:
    the mean share of factors that are named exactly, where the paper has an error of regression. The trees see the
    latents in this many bins. R_.j sums to 1, so that a factor that no latent tells counts as one that all tell alike.
    rng: a NumPy generator. Raises ValueError for fewer than 3 rows.
    """
    x, v, _ = checked("dci", codes, factors, rows=3)
    order = rng.permutation(len(x))
    fitted, held = np.split(order, [len(x) * 2 // 3])
    z = binned(x, bins)
    forests = [BaggedTrees(z[fitted], labels[fitted], rng, trees) for labels in v.T]
    right = [np.mean(forest.predict(z[held]) == labels[held]) for forest, labels in zip(forests, v.T, strict=True)]
    disentanglement, completeness = concentration(np.stack([forest.importance for forest in forests], axis=1))
    return DCI(disentanglement, completeness, float(np.mean(right)))


def concentration(importance: Any) -> tuple[float, float]:
    """Disentanglement and completeness of importances R (D, K), not negative. [Eastwood & Williams 2018]

    D = sum_i rho_i D_i, where D_i = 1 - H_K(P_i) with P_ij = R_ij / sum_k R_ik, H_K the entropy to the base K, and
    rho_i = sum_j R_ij / sum_ij R_ij. C = the mean of C_j = 1 - H_D(P_j) with P_ij = R_ij / sum_k R_kj; a factor for
    which nothing matters has C_j = 0.
    """
    r = np.asarray(importance, np.float64)
    by_latent, by_factor = ((1 - entropy_of(q, axis) / np.log(r.shape[axis])) for q, axis in ((r, 1), (r, 0)))
    rho = r.sum(axis=1) / (r.sum() or 1)
    return float(rho @ by_latent), float(np.mean(by_factor))


def sap(codes: Any, factors: Mapping[str, Any], categorical: Collection[str] = (), bins: int = BINS) -> float:
    """Separated attribute predictability: (1/K) sum_j (S_i(j)j - the next largest of S_.j). [Kumar et al. 2018]

    S_ij is how well latent i alone predicts factor j: the R^2 of a line, Cov(z_i, v_j)^2 / (Var(z_i) Var(v_j)), or, for
    the factors named categorical, the balanced accuracy of thresholds on z_i, here the edges of its bins, with the best
    label between each two. A latent that does not vary has S_ij = 0. Even of a perfect code a categorical factor of k
    values gives 1 - 1/k only, as the next best latent, if it varies, guesses.
    """
    x, v, names = checked("sap", codes, factors)
    z, live = binned(x, bins), np.flatnonzero(_varies(x))
    s = np.zeros((x.shape[1], len(names)))
    for j, name in enumerate(names):
        values = np.asarray(factors[name], np.float64)
        for i in live:
            joint = counts_of(z[:, i], v[:, j])
            balanced = (joint / joint.sum(axis=0)).max(axis=1).sum() / joint.shape[1]
            s[i, j] = balanced if name in categorical else np.corrcoef(x[:, i], values)[0, 1] ** 2
    s.sort(axis=0)
    return float(np.mean(s[-1] - s[-2]))


def scores(codes: Any, factors: Mapping[str, Any], rng: Any, categorical: Collection[str] = ()) -> dict[str, float]:
    """All six by name, DCI's three apart, of codes (N, D) and their factors."""
    table = Table(codes, factors)
    parts = dci(codes, factors, rng)
    return {
        "BetaVAE": beta_vae_score(table, rng),
        "FactorVAE": factor_vae_score(table, rng),
        "MIG": mig(codes, factors),
        **{f"DCI {name}": value for name, value in parts._asdict().items()},
        "Modularity": modularity(codes, factors),
        "SAP": sap(codes, factors, categorical),
    }


def _varies(codes: Array) -> Array:
    """Which latents vary by more than the rounding of float32, (D,)."""
    varies: Array = np.ptp(codes, axis=0) > 1e-6 * abs(codes).max(axis=0)
    return varies


def _check_draws(name: str, world: World, **counts: int) -> None:
    if len(world.names) < 2 or min(counts.values()) < 1:
        given = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise ValueError(
            f"{name} was given {len(world.names)} factors that vary, and {given}: give at least two factors, and at "
            "least one of the others."
        )
