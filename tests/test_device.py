"""Choosing a device, each way in which there is none, and what is said of its memory.

The errors are those that CuPy 14.2.0 raises: without a GPU, without a library, without a driver its wheel was asked.
"""

import sys

import pytest
import strict
from strict._core import _routines_linalg
from strict.device import CUDARuntimeError, OutOfMemoryError

from minivae import backend, cli
from minivae.errors import InputError


@pytest.fixture(autouse=True)
def as_it_was():
    before, loaded = backend._current, dict(backend._loaded)
    yield
    backend._current = before
    backend._loaded.clear()
    backend._loaded.update(loaded)


def raises(error):
    def call(*args, **options):
        raise error

    return call


def sentence(name="strict:1", **options):
    """What is said where a backend cannot be used; the device 1, so that it is tried anew."""
    with pytest.raises(InputError) as raised:
        backend.use(name, **options)
    text = str(raised.value)
    assert "\n" not in text and text.endswith(".") and "  " not in text
    return text


# ---- choosing ----


def test_a_device_by_its_number():
    assert backend.use("strict:1").device() == "GPU 1, the host as GPU 1" and strict.cuda.Device().id == 1
    assert backend.current().name == "strict"
    first = backend.use("strict")
    assert strict.cuda.Device().id == 0 and backend.use("strict:0") is first
    assert "no GPU 7: choose one of 0 (the host as GPU 0), 1 (the host as GPU 1)" in sentence("strict:7")
    assert backend.current() is first  # as it was


@pytest.mark.parametrize("name", ["torch", "numpy:0", "strict:", "strict:x", "strict:-1", "cupy:1.5", "auto:1"])
def test_a_name_that_means_nothing(name):
    assert sentence(name) == f"unknown backend '{name}': choose numpy, cupy, cupy:N for GPU number N, or auto."


def test_the_environment(monkeypatch):
    monkeypatch.setattr(backend, "_current", None)
    monkeypatch.setenv("MINIVAE_BACKEND", "strict:1")
    assert backend.current().device() == "GPU 1, the host as GPU 1"


def test_auto(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert backend.use("auto").name == "numpy"
    assert capsys.readouterr().out == (
        "minivae: on NumPy, as backend 'cupy' needs the package cupy, which is not installed: "
        "install minivae[cuda12] or minivae[cuda13] on a machine with an NVIDIA GPU.\n"
    )
    monkeypatch.setitem(backend.LIBRARIES, "cupy", backend.LIBRARIES["strict"])
    assert backend.use("auto").name == "strict"
    assert capsys.readouterr().out == "minivae: on GPU 0, the host as GPU 0\n"


def test_cupy_is_imported_only_when_asked_for():
    import subprocess

    code = "import sys, minivae; assert not {'cupy', 'cupyx', 'cupy_backends'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tf32_is_a_switch_and_off():
    assert not backend.use("strict").tf32
    assert _routines_linalg.compute_types == {"float32": _routines_linalg.COMPUTE_TYPE_DEFAULT}
    assert backend.use("strict", tf32=True).device().endswith(", TF32")
    assert _routines_linalg.compute_types == {"float32": _routines_linalg.COMPUTE_TYPE_TF32}
    backend.use("strict")
    assert _routines_linalg.compute_types == {"float32": _routines_linalg.COMPUTE_TYPE_DEFAULT}
    assert sentence("numpy", tf32=True).startswith("tf32 is a way of GPUs to multiply")
    assert cli.main(["info", "--tf32", "--backend", "numpy"]) == 2


# ---- what may be missing ----


def test_the_package_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert sentence("cupy").startswith("backend 'cupy' needs the package cupy, which is not installed: install")


def test_the_package_cannot_be_loaded(monkeypatch):
    """As CuPy says it: its own advice, and at last what happened."""
    text = "\n====\nFailed to import CuPy.\n\nIf you installed ...\n\nOriginal error:\n  ImportError: {}\n====\n"

    def importing(name):
        raise ImportError(text.format(why))

    monkeypatch.setattr("minivae.backend.device.import_module", importing)
    why = "libcudart.so.12: cannot open shared object file: No such file or directory"
    assert "does not find CUDA's library libcudart.so.12: install CUDA of the version" in sentence()
    why = "numpy.core.multiarray failed to import"
    assert "cannot use the GPU (ImportError: numpy.core.multiarray failed to import): mend that" in sentence()


@pytest.mark.parametrize(
    ("status", "driver", "words"),
    [
        (35, 0, "needs NVIDIA's driver, which this machine has not: install it, or"),
        (35, 11040, "needs a newer driver: this one is for CUDA 11.4, and CuPy was built with 12.9: update the driver"),
        (100, 12090, "needs a GPU, and the driver finds none: is CUDA_VISIBLE_DEVICES right?"),
        (209, 12090, "cannot use the GPU (cudaErrorNoKernelImageForDevice: no kernel image is available"),
    ],
)
def test_no_driver_or_no_device(monkeypatch, status, driver, words):
    monkeypatch.setattr(strict.cuda.runtime, "getDeviceCount", raises(CUDARuntimeError(status)))
    monkeypatch.setattr(strict.cuda.runtime, "driverGetVersion", lambda: driver)
    assert words in sentence()


def test_a_driver_that_counts_none(monkeypatch):
    monkeypatch.setattr(strict.cuda.runtime, "getDeviceCount", lambda: 0)
    assert "the driver finds none" in sentence()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.13\n'),
            "does not find CUDA's library libnvrtc.so",
        ),
        (
            ImportError("libcublas.so.12: cannot open shared object file: No such file or directory"),
            "does not find CUDA's library libcublas.so.12: install",
        ),
        (CUDARuntimeError(209), "cannot use the GPU (cudaErrorNoKernelImageForDevice"),
    ],
)
def test_a_part_of_cuda_is_missing(monkeypatch, error, words):
    """It shows at the first kernel or the first matrix product."""
    monkeypatch.setattr(strict.ndarray, "__matmul__", raises(error))
    assert words in sentence()


def test_a_device_that_computes_wrongly(monkeypatch):
    monkeypatch.setattr(strict.ndarray, "__matmul__", lambda a, b: a)
    assert "cannot use the GPU (it computes wrongly)" in sentence()


# ---- memory ----


def test_figures_of_memory(monkeypatch, capsys):
    xp = backend.use("strict")
    assert xp.memory() == (3 << 20, 4 << 20, 4 << 20)
    monkeypatch.setattr(strict.cuda.MemoryPool, "held", 9 << 20)
    assert xp.memory().peak == 9 << 20
    monkeypatch.setattr(strict.cuda.MemoryPool, "held", 5 << 20)
    assert xp.memory() == (3 << 20, 5 << 20, 9 << 20)
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "memory         3 MB used, 5 MB held, 9 MB peak\n" in out and "GPU            GPU 0, the host" in out
    host = backend.use("numpy").memory()
    assert 1 << 20 < host.used <= host.peak


def test_synchronize():
    strict.counts.clear()
    backend.use("strict").synchronize()
    assert strict.counts["waits"] == 1
    assert backend.use("numpy").synchronize() is None


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (
            "strict",
            OutOfMemoryError(2_000_000_000, 5),
            "the GPU's memory is full: 2,000,000,000 bytes were asked for, 8,589,934,592 of its 17,179,869,184 are "
            "free and this program holds 4,194,304: use a smaller --batch-size",
        ),
        ("strict", MemoryError(), "the memory is full (of the machine): use a smaller"),
        ("numpy", MemoryError("Unable to allocate 7.45 GiB"), "the memory is full (Unable to allocate 7.45 GiB): use"),
    ],
)
def test_out_of_memory_in_a_command_is_one_sentence(monkeypatch, capsys, name, error, words):
    backend.use(name)
    monkeypatch.setattr("minivae.commands.gradcheck", raises(error))
    assert cli.main(["gradcheck"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"minivae: {words}") and said.count("\n") == 1
