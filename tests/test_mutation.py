"""The mutator makes the mutants it promises, and a sample of them is caught. All of them: python tests/mutation.py."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import mutation
import pytest

SOURCE = '''
@op
def scale(xp: Any, a: Array, b: Array, axis: int = 0) -> Any:
    """Not gradient code: 1 - 2."""
    y = xp.exp(a) * b
    turned = xp.swapaxes(b, 0, 1)

    def db(g: Array) -> Array:
        total = xp.zeros(b.shape)
        xp.scatter_add(total, axis, g)
        return xp.sum(total - y, axis=axis)

    return y, (lambda g: xp.where(a > 0, g * y, turned.T), db)
'''


@pytest.fixture(scope="module")
def mutants():
    path = mutation.ROOT / "minivae/ops/planted.py"
    return list(mutation.mutants_of(path, SOURCE, {"planted.scale": set()}))


@pytest.mark.parametrize(
    "kind, text",
    [
        ("sign", "lambda g: -xp.where(a > 0, g * y, turned.T)"),
        ("sign", "return xp.sum(total + y, axis=axis)"),
        ("factor", "lambda g: 2 * xp.where(a > 0, g * y, turned.T)"),
        ("factor dropped", "lambda g: xp.where(a > 0, g, turned.T)"),
        ("inverse", "lambda g: xp.where(a > 0, g / y, turned.T)"),
        ("term dropped", "return xp.sum(total, axis=axis)"),
        ("transposition dropped", "lambda g: xp.where(a > 0, g * y, turned)"),
        ("transposition dropped", "turned = b"),
        ("axis wrong", "return xp.sum(total - y, axis=None)"),
        ("axis wrong", "turned = xp.swapaxes(b, 1, 1)"),
        ("sum dropped", "return total - y"),
        ("mask inverted", "lambda g: xp.where(a > 0, turned.T, g * y)"),
        ("mask inverted", "lambda g: xp.where(a <= 0, g * y, turned.T)"),
        ("input for output", "lambda g: xp.where(a > 0, g * a, turned.T)"),
        ("operand wrong", "lambda g: xp.where(b > 0, g * y, turned.T)"),
        ("accumulation lost", "total[axis] = g"),
        ("gradients swapped", "return (y, (db, lambda g:"),
        ("gradient missing", "return (y, (None, db))"),
        ("changed in place", "y.fill(0.5)"),
    ],
)
def test_makes(mutants, kind, text):
    assert any(m.kind == kind and text in m.after and text in m.source for m in mutants)


def test_each_mutant_is_one_change_of_gradient_code_that_compiles(mutants):
    whole = ast.unparse(ast.parse(SOURCE))
    assert len({m.source for m in mutants}) == len(mutants) > 30
    for mutant in mutants:
        compile(mutant.source, "planted", "exec")
        assert mutant.source != whole
        assert '"""Not gradient code: 1 - 2."""' in mutant.source
        assert "y = xp.exp(a) * b" in mutant.source
        assert mutant.before in whole


def test_the_source_is_left_as_it_was(mutants):
    assert [m.key for m in mutation.mutants_of(mutants[0].path, SOURCE, {})] == [m.key for m in mutants]


def test_gradient_code_is_found():
    function = ast.parse(SOURCE).body[0]
    assert [ast.unparse(n).splitlines()[0] for n in mutation.gradient_code(function)] == [
        "def db(g: Array) -> Array:",
        "(lambda g: xp.where(a > 0, g * y, turned.T), db)",
        "turned = xp.swapaxes(b, 0, 1)",
    ]


def test_a_helper_is_judged_by_the_ops_that_reach_it():
    graph = mutation.call_graph()
    assert set(mutation._cases("reduction._share", graph)) == {"share", "max", "min"}  # einsum's max is Python's
    assert {"sum", "mse_loss", "kl_normal", "logsumexp"} & set(mutation._cases("reduction.spread", graph)) == {
        "sum", "kl_normal", "logsumexp",
    }  # fmt: skip


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, str(Path(mutation.__file__)), *options], capture_output=True, text=True, env=environment
    )


def test_a_sample_over_all_kinds_is_caught():
    done = run("--sample", "25", "--examples", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    total = next(line.split() for line in done.stdout.splitlines() if line.startswith("all "))
    assert int(total[1]) == 25 and int(total[4]) == 0


def test_nothing_is_caught_where_nothing_is_damaged():
    exp = next(p for p in mutation.FILES if p.stem == "arithmetic")
    unharmed = mutation.Mutant("arithmetic.exp", "none", 1, "", "", exp, exp.read_text(), ("exp", "mul"))
    broken = unharmed._replace(source=exp.read_text().replace("g * y,", "g * a,"))
    verdicts = dict(mutation.run([unharmed, broken], 5, 2, tests=False))
    assert verdicts == {unharmed: "", broken: "gradcheck"}
