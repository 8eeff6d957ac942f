"""BLAS kernels and threads: what the command chooses, what it says, and what `import minivae` leaves alone."""

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_limits

from minivae import blas, resume
from minivae.cli import main

ZEN5 = blas.AVX512 | {"avx2", "fma", "avx512_bf16"}
ZEN3 = frozenset({"avx", "avx2", "fma"})
KNIGHTS_LANDING = frozenset({"avx2", "avx512f", "avx512cd", "avx512er", "avx512pf"})
OURS = {blas.CORETYPE: "SkylakeX", blas.PICKED: "Haswell"}


@pytest.mark.parametrize(
    ("kernels", "flags", "environment", "expected"),
    [
        ("Haswell", ZEN5, {}, OURS),
        ("Zen", ZEN5, {"OPENBLAS_NUM_THREADS": "1"}, OURS | {blas.PICKED: "Zen"}),
        ("Prescott", ZEN5, {}, OURS | {blas.PICKED: "Prescott"}),
        ("Haswell", ZEN5, {blas.CORETYPE: "Haswell"}, {}),  # as the user set it
        ("Haswell", ZEN5, {blas.CORETYPE: ""}, {}),
        ("Haswell", ZEN5, OURS, {}),  # started anew in vain: not a second time
        ("Haswell", ZEN3, {}, {}),
        ("Haswell", KNIGHTS_LANDING, {}, {}),
        ("Haswell", frozenset(), {}, {}),  # not on Linux
        ("SkylakeX", ZEN5, {}, {}),
        ("Cooperlake", ZEN5, {}, {}),
        ("SapphireRapids", ZEN5, {}, {}),
        ("one of the future", ZEN5, {}, {}),
        ("neoversen1", frozenset({"asimd"}), {}, {}),
    ],
)
def test_kernels_are_chosen_where_openblas_takes_a_processor_for_an_older_one(kernels, flags, environment, expected):
    assert blas.chosen(kernels, flags, environment) == expected


@pytest.mark.parametrize(
    ("kernels", "flags", "environment", "words"),
    [
        ("SkylakeX", ZEN5, {}, ["picked by OpenBLAS"]),
        ("Haswell", ZEN3, {}, ["picked by OpenBLAS"]),
        ("Haswell", ZEN3, {blas.CORETYPE: "Haswell"}, ["OPENBLAS_CORETYPE=Haswell in the environment"]),
        ("Haswell", ZEN5, {blas.CORETYPE: "Haswell"}, ["OPENBLAS_CORETYPE=Haswell in the env", "half", "unset it"]),
        ("Haswell", ZEN5, {}, ["picked by OpenBLAS", "half", "set OPENBLAS_CORETYPE=SkylakeX"]),
        ("SkylakeX", ZEN5, OURS, ["chosen by minivae", "Haswell kernels on this AVX-512", "set the variable yourself"]),
        ("Haswell", ZEN5, OURS, ["chosen by minivae", "has no such kernels"]),
        (
            "Zen",
            ZEN5,
            OURS | {blas.CORETYPE: "Zen"},
            ["OPENBLAS_CORETYPE=Zen in the env", "half", "unset"],
        ),  # in a child
    ],
)
def test_the_reason_says_who_chose_and_what_is_better(kernels, flags, environment, words):
    reason = blas.reason(kernels, flags, environment)
    assert all(word in reason for word in words), reason
    assert ("half" in reason) == ("half" in words)


@pytest.fixture
def machine(monkeypatch):
    """A machine of one's own making: its OpenBLAS, its instruction sets; what was started and limited there."""
    for name in (blas.CORETYPE, blas.PICKED, *blas.THREADS):
        monkeypatch.delenv(name, raising=False)
    pool = {"internal_api": "openblas", "architecture": "SkylakeX", "num_threads": 2}
    calls = []
    monkeypatch.setattr(blas, "library", lambda: pool)
    monkeypatch.setattr(blas, "flags", lambda: ZEN5)
    monkeypatch.setattr(blas, "set_threads", lambda n: calls.append(("threads", n)))
    monkeypatch.setattr(os, "execve", lambda *args: calls.append(args))
    return pool, calls


def test_a_command_on_a_machine_that_is_known_starts_at_once(machine):
    blas.start()
    assert machine[1] == []


def test_a_command_on_older_kernels_starts_anew_with_its_own_arguments(machine, monkeypatch):
    pool, calls = machine
    pool["architecture"] = "Haswell"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-W", "error", "-m", "minivae", "train", "vae"])
    blas.start()
    [(path, arguments, environment)] = calls
    assert (path, arguments) == (sys.executable, [sys.executable, "-W", "error", "-m", "minivae", "train", "vae"])
    assert environment == dict(os.environ) | OURS
    assert blas.CORETYPE not in os.environ


@pytest.mark.parametrize("other", [{}, {"internal_api": "mkl", "num_threads": 64}])
def test_another_blas_is_left_alone(machine, other):
    machine[0].clear()
    machine[0].update(other)
    blas.start()
    assert machine[1] == []


def test_many_cores_do_not_all_wait_for_a_small_product(machine, monkeypatch):
    pool, calls = machine
    pool["num_threads"] = 64
    monkeypatch.setattr(blas, "cores", lambda: 64)
    blas.start()
    assert calls == [("threads", blas.MOST_THREADS)]
    monkeypatch.setattr(blas, "cores", lambda: 3)  # of a container that OpenBLAS does not know of
    blas.start()
    assert calls[1:] == [("threads", 3)]
    monkeypatch.setenv("OMP_NUM_THREADS", "64")  # what the user set stays
    blas.start()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "250000 100000"}, 3),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, 16),
        ({"cpu.max": "something else\nin 2040"}, 16),
    ],
)
def test_cores_are_those_that_a_container_grants(files, expected, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(blas, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert blas.cores() == expected


def test_more_threads_than_cores_are_refused_in_one_sentence(monkeypatch, capsys):
    before = blas.library()
    monkeypatch.setattr(blas, "cores", lambda: 2)
    assert main(["info", "--threads", "3"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "--threads 3" in err and "from 1 to 2" in err
    assert blas.library() == before


def test_threads_are_as_many_as_asked_for(capsys):
    if not blas.library():
        pytest.skip("threadpoolctl does not know this BLAS")
    for n in range(1, min(blas.cores(), 2) + 1):
        with threadpool_limits():  # puts back what was
            assert main(["info", "--threads", str(n)]) == 0
        assert f"{n} thread{'' if n == 1 else 's'}\n" in capsys.readouterr().out


def test_a_checkpoint_names_the_kernels_and_the_threads():
    with threadpool_limits(1):
        told = resume.versions()["blas"]
    assert told.endswith("1 thread") and blas.library()["architecture"] in told


def test_threads_of_nought(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["info", "--threads", "0"])
    assert "--threads" in capsys.readouterr().err


def child(code: str, *arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=clean | environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# OpenBLAS is made to see an older processor: it reads the variable, which then is gone, as if nobody had set it
MISTAKEN = """
import os, sys
mistaken = "OPENBLAS_CORETYPE" not in os.environ
if mistaken: os.environ["OPENBLAS_CORETYPE"] = "Haswell"
import numpy
if mistaken: del os.environ["OPENBLAS_CORETYPE"]
"""


@pytest.fixture
def avx512():
    if blas.library().get("internal_api") != "openblas" or not blas.flags() >= blas.AVX512:
        pytest.skip("this machine has no AVX-512, or NumPy another BLAS than OpenBLAS")


IMPORT = "from minivae.__main__ import main"


def test_a_mistaken_openblas_is_set_right_on_this_machine(avx512):
    code = MISTAKEN + f"{IMPORT}; sys.exit(main())"
    told = child(code, "info")
    assert "SkylakeX kernels" in told and "chosen by minivae: OpenBLAS would take Haswell" in told


def test_what_the_user_set_stays_on_this_machine(avx512):
    told = child(f"import sys; {IMPORT}; sys.exit(main())", "info", OPENBLAS_CORETYPE="Haswell")
    assert "Haswell kernels" in told and "OPENBLAS_CORETYPE=Haswell in the environment: about half" in told


def test_the_library_never_starts_anything_anew(avx512):
    code = MISTAKEN + "from minivae.cli import main; main()"
    told = child(code, "info")
    assert "Haswell kernels" in told and "picked by OpenBLAS: about half" in told


def test_import_leaves_the_environment_and_the_heavy_modules_alone():
    heavy = {"cupy", "scipy", "matplotlib", "PIL", "tqdm", "hypothesis", "platformdirs", "threadpoolctl", "torch"}
    for module in ("minivae", "minivae.__main__"):
        code = f"import os, sys; before = dict(os.environ); import {module}; print(before == os.environ)"
        assert child(f"{code}; print(sorted({heavy} & set(sys.modules)))").split("\n") == ["True", "[]", ""]
