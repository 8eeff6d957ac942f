"""demos/results.py: rows are kept, made anew on request, and stand in the table as they are."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DEMOS = Path(__file__).parents[1] / "demos"
QUICK = ["--data", "glyphs", "--train", "300", "--epochs", "1"]


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMOS))
    import results

    return results


@pytest.fixture
def lab(results: Any) -> Any:
    """A lab of random images, which needs no fonts and no files."""
    return results.Lab("glyphs", train=300, epochs=1)


@pytest.fixture
def make(results: Any) -> Callable[..., Any]:
    """Experiments that count how often they ran and return what they are told."""

    from experiments import Experiment, Finding

    def experiment(name: str, calls: list[str], fails: type[BaseException] | None = None, **finding: Any) -> Any:
        def run(lab: Any) -> Any:
            calls.append(name)
            if fails:
                raise fails
            told = {"setup": "s", "ours": f"{len(calls)}", "required": "r", "reached": True, "reason": "why"}
            return Finding(**told | finding)

        return Experiment(f"Model {name}", run)

    return experiment


def test_rows_are_kept_and_only_those_named_run_again(results: Any, make: Any, tmp_path: Path) -> None:
    calls: list[str] = []
    table = {name: make(name, calls) for name in ("a", "b")}
    asked = [*QUICK, "--out", str(tmp_path)]
    assert results.main(asked, table) == 0
    assert calls == ["a", "b"]
    assert results.main(asked, table) == 0
    assert calls == ["a", "b"]  # both are there
    assert results.main([*asked, "--only", "b"], table) == 0
    assert calls == ["a", "b", "b"]
    (tmp_path / "a.json").unlink()
    assert results.main(asked, table) == 0
    assert calls == ["a", "b", "b", "a"]
    assert [json.loads((tmp_path / f"{name}.json").read_text())["ours"] for name in table] == ["4", "3"]


def test_ctrl_c_loses_the_row_in_hand_only(
    results: Any, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    table = {"a": make("a", calls), "b": make("b", calls, fails=KeyboardInterrupt), "c": make("c", calls)}
    assert results.main([*QUICK, "--out", str(tmp_path)], table) == 130
    assert "the row in hand is lost" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "results.csv", "results.md"]
    table["b"] = make("b", calls)
    assert results.main([*QUICK, "--out", str(tmp_path)], table) == 0
    assert calls == ["a", "b", "b", "c"]


def test_a_row_says_all_that_it_should(results: Any, make: Any, tmp_path: Path) -> None:
    table = {"a": make("a", [], numbers={"error": 2.5})}
    results.main([*QUICK, "--out", str(tmp_path)], table)
    row = json.loads((tmp_path / "a.json").read_text())
    assert row["model"] == "Model a" and row["data"] == "glyphs" and row["numbers"] == {"error": 2.5}
    assert row["verdict"] == "reached" and row["reason"] == ""  # a reason is for what falls short
    assert row["seconds"] >= 0 and row["seed"] == 0
    assert row["asked"] == {"data": "glyphs", "train": 300, "epochs": 1}
    assert row["versions"]["numpy"] == np.__version__


def test_the_table_tells_what_falls_short(results: Any, make: Any, tmp_path: Path) -> None:
    table = {
        "good": make("good", []),
        "short": make("short", [], reached=False, ours="7", reason="too | few epochs"),
        "open": make("open", [], reached=None, ours="not run", note="no file"),
        "bare": make("bare", [], reached=False, ours="8", reason=""),
    }
    results.main([*QUICK, "--out", str(tmp_path)], table)
    assert (tmp_path / "results.md").read_text().splitlines() == [
        "A quick look with --train 300 --epochs 1: these are no results.",
        "",
        "| model | data | setup | our number | published / required |",
        "| --- | --- | --- | --- | --- |",
        "| Model good | glyphs | s | 1 | r |",
        "| Model short | glyphs | s | 7. **Not reached**: too / few epochs | r |",
        "| Model open | glyphs | s | not run. no file | r |",
        "| Model bare | glyphs | s | 8. **Not reached** | r |",
    ]
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["reached", "not reached", "nothing to reach", "not reached"]
    assert rows[1]["reason"] == "too | few epochs"


def test_rows_for_a_gpu_are_asked_for_and_else_say_that_they_were_not_run(
    results: Any, make: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    calls: list[str] = []
    long = replace(make("long", calls), preset="paper", required="84.78")
    table = {"a": make("a", calls), "long": long}
    assert results.main([*QUICK, "--out", str(tmp_path)], table) == 0
    assert calls == ["a"]
    last = (tmp_path / "results.md").read_text().splitlines()[-1]
    assert "--preset paper --only long" in last and last.endswith("| not run | 84.78 |")
    assert results.main([*QUICK, "--out", str(tmp_path), "--preset", "paper"], table) == 0
    assert calls == ["a", "long"] and "not run" not in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "nothing"], "there is no row 'nothing': choose among a."),
        (["--data", "nowhere"], "there is no data set and no path 'nowhere'"),
        (["--data", "documents"], "'documents' has images of shape (2000,)"),
        (["--train", "0"], "--train 0 trains nothing"),
        (["--epochs", "0"], "--epochs 0 trains nothing"),
    ],
)
def test_bad_input_is_one_sentence(
    results: Any, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    out = tmp_path / "out"
    assert results.main([*QUICK, "--out", str(out), *arguments], {"a": make("a", [])}) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"minivae: {sentence}") and error.count("\n") == 1
    assert not out.exists()


def test_a_folder_holds_rows_of_one_kind(
    results: Any, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    table = {"a": make("a", calls)}
    results.main([*QUICK, "--out", str(tmp_path)], table)
    assert results.main(["--data", "glyphs", "--out", str(tmp_path)], table) == 2
    assert "holds rows made with data glyphs, train 300, epochs 1" in capsys.readouterr().err
    (tmp_path / "a.json").write_text("{")
    assert results.main([*QUICK, "--out", str(tmp_path)], table) == 2
    assert "a.json' is no row of results" in capsys.readouterr().err
    assert calls == ["a"]


def test_a_real_row(results: Any, tmp_path: Path) -> None:
    """The linear autoencoder, for one epoch: not yet PCA, and the row says so."""
    assert results.main([*QUICK, "--out", str(tmp_path), "--only", "linear-ae"]) == 0
    row = json.loads((tmp_path / "linear-ae.json").read_text())
    assert row["reached"] is False and row["numbers"]["error"] > row["numbers"]["pca"] > 0
    assert "**Not reached**" in (tmp_path / "results.md").read_text()


def test_interrupted_training_is_no_result(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from minivae.train import Options, Trainer

    def stopped(self: Trainer) -> None:
        self.interrupted = True

    monkeypatch.setattr(Trainer, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        lab.train(lab.build("linear-ae"), Options(epochs=1))


def test_models_are_shared_and_rows_repeat(lab: Any) -> None:
    from minivae.train import Options

    first = lab.fitted("vae", Options(epochs=1), latent=2)
    assert lab.fitted("vae", Options(epochs=1), latent=2) is first
    other = lab.fitted("vae", Options(epochs=1), latent=3)
    assert other is not first
    again = lab.train(lab.build("vae", latent=2), Options(epochs=1))
    assert lab.test(again) == lab.test(first)  # whatever was trained before


def test_published_numbers_judge_mnist_only(lab: Any) -> None:
    from dataclasses import replace

    assert lab.published(True) is None
    lab.data = replace(lab.data, name="mnist")
    assert lab.published(True) is True and lab.published(False) is False


def test_ppca_likelihood_is_that_of_the_normal_distribution(results: Any) -> None:
    from experiments.bounds import gaussian_nll
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    x, mean, weights = rng.standard_normal((50, 6)), rng.standard_normal(6), rng.standard_normal((6, 2))
    normal = multivariate_normal(mean, weights @ weights.T + 0.3 * np.eye(6))
    assert gaussian_nll(x, mean, weights, 0.3) == pytest.approx(-normal.logpdf(x).mean(), rel=1e-10)


def test_principal_axes_are_those_of_the_svd(results: Any) -> None:
    from experiments.lab import principal

    x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32) * [5, 4, 3, 2, 1] + 1
    mean, axes = principal(x, 3)
    _, _, vt = np.linalg.svd(x - x.mean(axis=0))
    np.testing.assert_allclose(mean, x.mean(axis=0))
    np.testing.assert_allclose(abs((axes * vt[:3]).sum(axis=1)), 1, atol=1e-5)


def test_naive_monte_carlo_averages_the_likelihood_over_the_prior(results: Any) -> None:
    """Its loss is -log of the mean of p(x | z) over the codes drawn, pair by pair."""
    from experiments.bounds import NaiveMonteCarlo

    from minivae.models import vae

    decoder = vae((1, 4, 4), hidden=(8,), latent=3).decoder
    model = NaiveMonteCarlo(decoder, 3, samples=5)
    x = np.random.default_rng(0).random((2, 1, 4, 4), dtype=np.float32)
    loss = model.loss(x, np.random.default_rng(1)).total.item()
    z = np.random.default_rng(1).standard_normal((5, 3), dtype=np.float32)
    from minivae.tensor import as_tensor

    p = 1 / (1 + np.exp(-decoder(as_tensor(z)).numpy().astype(np.float64)))
    log_p = [[(a * np.log(q) + (1 - a) * np.log(1 - q)).sum() for q in p] for a in x]
    assert loss == pytest.approx(-np.mean([math.log(np.exp(row).mean()) for row in log_p]), rel=1e-5)


def test_elbo_of_each_image_averages_to_the_models(results: Any, lab: Any) -> None:
    from experiments.uses import elbo_of_each

    model = lab.build("vae")
    x = np.concatenate(list(results_batches(lab)))[:50]
    each = elbo_of_each(model, x, np.random.default_rng(0))
    assert each.shape == (50,)
    assert each.mean() == pytest.approx(model.loss(x, np.random.default_rng(1)).total.item(), rel=0.01)


def results_batches(lab: Any) -> Any:
    from experiments.lab import batches

    return batches(lab.data.test).epoch(0)


def test_every_system_has_a_row(results: Any) -> None:
    assert list(results.EXPERIMENTS) == [
        "linear-ae", "deep-ae", "conv-ae", "dae", "context", "stacked-ae", "documents",
        "vae", "conv-vae", "vae-gaussian", "estimators", "iwae", "naive",
        "beta-vae", "kl-schedules", "beta-score", "flow", "hvae", "cvae", "completion", "lagging", "disentanglement",
        "wae", "gan",
        "vqvae", "vqvae-cifar10", "codebook-use", "pixelcnn", "rate-distortion", "vqvae2", "outliers", "representation",
        "reparameterisations", "sampling",
        "iwae-paper", "vqvae-cifar10-paper", "disentanglement-dsprites",
    ]  # fmt: skip


def test_the_error_of_a_curve_at_a_rate(results: Any) -> None:
    from experiments import priors

    points = {8: {"bits": 30.0, "error": 0.01}, 2: {"bits": 10.0, "error": 0.04}}
    found = [priors.at(points, bits) for bits in (9.9, 10, 20, 30, 99)]
    np.testing.assert_allclose(found, [math.inf, 0.04, 0.02, 0.01, 0.01])  # a rate beyond need not be spent
