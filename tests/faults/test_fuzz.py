"""Damaged files end in one sentence or in valid data, each within a second of the processor and 200 MB.

40 cases a target, a tenth of them by the command line; with HYPOTHESIS_PROFILE=ci 100, thorough 2,000.
"""

import os
import signal

import pytest
from faults import fuzz
from faults.worker import CONTEXT

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
