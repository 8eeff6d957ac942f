"""demos/benchmark.py: the sides are the same network, and what is measured is written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minivae.errors import InputError

DEMOS = Path(__file__).parents[1] / "demos"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(DEMOS))
    import benchmark

    yield benchmark


def small(name: str) -> Any:
    """A problem of the table with a small batch."""
    from benchmarks.problems import PROBLEMS

    return replace(PROBLEMS["numpy"][name], batch=5)


@pytest.mark.parametrize("name", ["dense-128", "conv-28", "conv-32", "vqvae-32", "iwae-50"])
def test_pytorch_and_the_hand_written_step_compute_our_loss(benchmark: Any, name: str) -> None:
    pytest.importorskip("torch")
    from benchmarks import racing

    problem = small(name)
    ours, others = racing.sides(problem, ["torch", "numpy"], "numpy")  # raises where a loss differs
    assert ("torch channels-last" in others) == bool(problem.channels)
    assert ("numpy" in others) == (name == "dense-128")
    for p in ours.model.parameters():  # at the start the KL is next to nothing, and an error in it too
        p.data *= 3
    before = ours.state()
    for side in others.values():
        side.load(before)
    racing.agree(problem, ours, others, problem.images())
    before = ours.state()
    for side in others.values():
        assert np.isfinite(float(side.step()))
    state = ours.state()
    assert all((state[key] == before[key]).all() for key in state)  # each side has weights of its own


def test_a_side_that_computes_another_loss_does_not_race(benchmark: Any) -> None:
    from benchmarks import racing

    problem = small("dense-128")
    ours, others = racing.sides(problem, ["numpy"], "numpy")
    others["numpy"].parameters["decoder.2.bias"] += 1e-3
    with pytest.raises(RuntimeError, match="numpy computes the loss"):
        racing.agree(problem, ours, others, problem.images())


@pytest.mark.parametrize("name", ["dense-128", "conv-28", "vqvae-32", "iwae-50"])
def test_one_step_of_adam_agrees(benchmark: Any, name: str) -> None:
    """From the same weights with the same batch and noise all sides come to the same weights."""
    torch = pytest.importorskip("torch")
    from benchmarks import racing
    from benchmarks.steps import Given

    problem = small(name)
    images = problem.images()
    ours, others = racing.sides(problem, ["torch", "numpy"], "numpy")
    before = ours.state()
    for side in others.values():  # ours may have moved its codebook when the losses were compared
        side.load(before)
    x, noise = images[:5], problem.noise(np.random.default_rng(3))
    ours.optimizer.zero_grad()
    ours.model.loss(x, Given(noise)).total.backward()
    ours.optimizer.step()
    after = ours.state()
    theirs = others["torch"]
    theirs.optimizer.zero_grad()
    theirs.model(torch.from_numpy(x), torch.from_numpy(noise)).backward()
    theirs.optimizer.step()
    trained = {"torch": {key: p.detach().numpy() for key, p in theirs.model.named_parameters()}}
    if "numpy" in others:
        hand = others["numpy"]
        hand.loss(x, noise)
        hand.backward()
        hand.adam()
        trained["numpy"] = hand.parameters
    for side, weights in trained.items():
        assert weights.keys() == {key for key, _ in ours.model.named_parameters()}
        for key, w in weights.items():
            # Adam's first step is lr g / (|g| + eps): where g is next to nothing its rounding shows
            moved, expected = w - before[key], after[key] - before[key]
            assert np.mean(np.abs(moved - expected) > 1e-5) < 0.003, (side, key)
            assert np.abs(expected).max() > 5e-4


def test_the_gradients_by_hand_are_ours(benchmark: Any) -> None:
    from benchmarks import racing
    from benchmarks.steps import Given

    problem = small("dense-128")
    ours, others = racing.sides(problem, ["numpy"], "numpy")
    hand, x, noise = others["numpy"], problem.images()[:5], problem.noise(np.random.default_rng(3))
    hand.loss(x, noise)
    hand.backward()
    ours.optimizer.zero_grad()
    ours.model.loss(x, Given(noise)).total.backward()
    for name, p in ours.model.named_parameters():
        np.testing.assert_allclose(hand.gradients[name], p.grad, rtol=1e-4, atol=1e-5 * float(np.abs(p.grad).max()))


def test_interleaved_runs_take_turns(benchmark: Any) -> None:
    from benchmarks.timing import Pace, Runner, interleaved, sample

    calls: list[str] = []
    sides = {name: Runner(lambda name=name: calls.append(name), lambda: calls.append("wait")) for name in "AB"}
    seconds = interleaved(sides, Pace(warm_up=1, rounds=4, turn=0.0, rest=0.0))
    turn = ["A", "wait"] * 2 + ["B", "wait"] * 2  # a step that does not count, and one that does
    assert calls == turn + turn * 4
    assert {name: len(turns) for name, turns in seconds.items()} == {"A": 4, "B": 4}
    s = sample([4.0, 1.0, 2.0, 3.0, 5.0], 10)
    assert (s.q1, s.median, s.q3, s.n) == (20, 30, 40, 5)


def test_the_matmuls_of_a_step(benchmark: Any) -> None:
    from benchmarks import gemms
    from benchmarks.problems import CONV_28, PROBLEMS, VQVAE_32, dense

    assert gemms.products(dense(100))[:3] == [(100, 784, 400), (784, 100, 400), (100, 400, 40)]
    assert len(gemms.products(dense(100))) == 3 * 4 - 1  # the gradient of the images is not asked for
    forward = [shape for shape, _ in gemms.layers(CONV_28)]
    assert forward[0] == (128 * 14 * 14, 16, 16) and forward[-1] == (128 * 14 * 14, 16, 16)
    assert gemms.products(VQVAE_32)[-1] == (128 * 8 * 8, 16, 128)
    last = [numbers for _, numbers in gemms.layers(PROBLEMS["cupy"]["conv-64"])][-1]
    assert last == 128 * 3 * 64 * 64


def test_targets_name_rows_and_sides(benchmark: Any) -> None:
    from benchmarks.report import judged, markdown
    from benchmarks.rows import Row, rows
    from benchmarks.targets import REACH
    from benchmarks.timing import sample

    for backend, targets in REACH.items():
        assert set(targets) <= set(rows(backend))
    row = Row("dense-512", "s", "ms", {"minivae": sample([1.0])}, {("minivae", "torch"): sample([0.86])})
    ((target, value),) = judged(row, "numpy")
    assert (target.at_most, target.rival, value) == (0.85, "torch", 0.86)
    about = {"versions": {}, "blas": [], "threads": 1, "device": "d", "cpu": "c", "date": "2026-11-21"}
    assert "0.85 torch: **not reached**" in markdown([row], "numpy", about, False)
    good = replace(row, ratios={("minivae", "torch"): sample([0.84])})
    assert "0.85 torch: reached" in markdown([good], "numpy", about, False)


def test_a_quick_look_writes_all(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--quick", "--threads", "1", "--out", str(tmp_path), "--against", "numpy"]
    assert benchmark.main([*asked, "--only", "bce", "gradients", "dense-100"]) == 0
    table = (tmp_path / "benchmark.md").read_text()
    assert table in capsys.readouterr().out and table.startswith("A quick look")
    assert re.search(r"\| dense-100 \| \S+ ms \| \S+ ms \(\d+\.\d\d\) \|", table)
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["dense-100", "gradients-128", "bce"]
    assert found["machine"]["threads"] == 1 and found["machine"]["versions"]["numpy"] == np.__version__
    ours = found["rows"][0]["sides"]["minivae"]
    assert 0 < ours["q1"] <= ours["median"] <= ours["q3"] and ours["n"] == 3
    assert found["rows"][0]["notes"]["images per second"] == pytest.approx(100 / ours["median"] * 1e3)
    with Image.open(tmp_path / "benchmark.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_the_peak_of_a_child_is_its_own(benchmark: Any) -> None:
    """Of a process that starts from a large one."""
    from benchmarks import children

    ballast = np.ones(1 << 26, np.float32)  # 256 MB
    figures = children.memory("minivae", "dense-100", "numpy", 1, 1)
    assert 2e7 < figures["imports"] < figures["process"] < ballast.nbytes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "nothing"], "there is no row 'nothing': choose among dense-100"),
        (["--threads", "0"], "--threads 0 is out of range"),
        (["--against", "autograd"], "--against autograd needs the package autograd, which is not installed"),
    ],
)
def test_bad_input_is_one_sentence(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "autograd", None)
    assert benchmark.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"minivae: {sentence}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_rivals_on_the_host_do_not_race_a_gpu(benchmark: Any) -> None:
    from benchmarks import racing

    with pytest.raises(InputError, match="--against numpy computes on the CPU"):
        racing.require(["numpy"], "cupy")
