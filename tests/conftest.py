"""pytest --backend NAME: the suite on numpy (the default), strict (a stand-in for CuPy, on the host) or cupy.

And how many examples hypothesis draws: HYPOTHESIS_PROFILE=dev (the default), ci or thorough.
"""

import os
from pathlib import Path

import numpy_only
import nvrtc
import pytest
import strict
from hypothesis import HealthCheck, settings

from minivae import backend
from minivae.checks import turn_on
from minivae.errors import InputError

for name, examples in {"dev": 15, "ci": 40, "thorough": 500}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],  # two slow cores are no fault of a test
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_addoption(parser):
    parser.addoption("--backend", default="numpy", choices=["numpy", "strict", "cupy"], help="where the tests compute")


def pytest_configure(config):
    """Choose the backend before the tests are imported: what they make as they are imported is on it."""
    strict.install()
    if config.getoption("backend") == "numpy" and os.environ.get("MINIVAE_CHECKS") != "0":
        turn_on()  # elsewhere they wait for the device, which tests count
    try:
        backend.use(config.getoption("backend"))
    except InputError as error:
        pytest.exit(f"no test ran: {error}", returncode=1)
    if backend.current().name != "numpy":
        import anywhere  # only now: it asks for the backend

        pytest.approx = anywhere.approx


def pytest_collection_modifyitems(config, items):
    left_out = [] if nvrtc.library() else [item for item in items if "nvrtc" in item.originalname]
    if config.getoption("backend") != "numpy":
        left_out += [item for item in items if numpy_only.reason(Path(item.path).name, item.name)]
    if config.getoption("backend") == "strict":  # on NumPy it has compared the two already
        left_out += [item for item in items if Path(item.path).name == "test_backends.py"]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def backend_as_it_was():
    """A test may choose another backend, or seed one: the next test finds them as they were."""
    before, generators = backend.current(), [(b, b.rng) for b in backend._loaded.values()]
    yield
    backend._current = before
    for one, rng in generators:
        one.rng = rng


def pytest_report_header(config):
    lines = [f"backend: {backend.current().name} ({backend.current().device()})"]
    if not nvrtc.library():
        lines.append(f"NVRTC is not installed: the tests that compile kernels for GPUs are left out; {nvrtc.HINT}")
    return lines
