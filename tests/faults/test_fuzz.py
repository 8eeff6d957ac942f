"""Damaged files end in one sentence or in valid data, each within a second of the processor and 200 MB.

40 cases a target, a tenth of them by the command line; with HYPOTHESIS_PROFILE=ci 100, thorough 2,000.
"""

import argparse
import os
import signal
from unittest.mock import patch

import numpy as np
import pytest
from faults import fuzz
from faults.worker import CONTEXT
from hypothesis import given
from hypothesis import strategies as st

from minivae import InputError, checkpoint, runs

CASES = {"thorough": 2000, "ci": 100}.get(os.environ.get("HYPOTHESIS_PROFILE", "dev"), 40)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damaged_files(target, tmp_path):
    case, counts, log = CONTEXT.Value("q", -1), CONTEXT.Array("q", 3), tmp_path / "log"
    (tmp_path / "files").mkdir()
    arguments = (target, range(CASES), 10, tmp_path / "files", case, counts, log)
    process = CONTEXT.Process(target=fuzz.work, args=arguments)
    process.start()
    process.join()
    said = log.read_text() if log.exists() else ""
    if process.exitcode < 0:
        said = f"{target} {case.value} ended by {signal.Signals(-process.exitcode).name}"
    assert process.exitcode == 0, said
    assert sum(counts) == CASES
    assert counts[0] > CASES / 20, "hardly one was refused: are they damaged?"
    print(f"{target}: {counts[0]} refused, {counts[1]} read, {counts[2]} by the command line")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
fields = ("model", "arguments", "data", "options", "saving", "versions")


known = st.fixed_dictionaries({"format": st.just(checkpoint.FORMAT)}, optional=dict.fromkeys(fields, json))


@given(header=json | known)
def test_headers_of_any_json(header, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "model.npz"
    with patch.object(checkpoint, "json", wraps=checkpoint.json) as module:
        module.loads = lambda _: header
        checkpoint.save(path, {}, {"model.weight": np.zeros(3)})
        for read in (checkpoint.load_model, resumed):
            with pytest.raises(InputError, match=r"model\.npz"):
                read(path)


def resumed(path):
    header, _ = checkpoint.load(path)
    runs._settings(argparse.Namespace(), header, path)
