"""Every numbered demo runs from its command line with tiny settings, leaves real images, and stays short."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DEMOS = sorted((Path(__file__).parents[1] / "demos").glob("[0-9][0-9]_*.py"))
TRAINING = [path for path in DEMOS if not path.name.startswith("02")]


def run(path, folder, *arguments):
    """The finished process of a demo in an empty folder, in which every warning is an error."""
    command = [sys.executable, "-W", "error", str(path), *arguments]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # such small products gain nothing from more
    return subprocess.run(command, cwd=folder, env=os.environ | threads, capture_output=True, text=True, timeout=300)


def test_there_are_demos():
    assert DEMOS


@pytest.mark.parametrize("path", DEMOS, ids=lambda path: path.stem)
def test_a_demo_runs_and_leaves_the_images_that_it_names(path, tmp_path):
    tiny = ["--train", "600", "--epochs", "1", "--out", "figures"] if path in TRAINING else []
    done = run(path, tmp_path, *tiny)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    named = {tmp_path / name for name in re.findall(r"\S+\.png", done.stdout)}
    assert named and named == set(tmp_path.rglob("*.png"))
    for png in named:
        with Image.open(png) as image:
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) >= 500, f"{png.name} is too small to show: {pixels.shape}"
        assert pixels.std() > 5, f"{png.name} is blank"


@pytest.mark.parametrize("path", DEMOS, ids=lambda path: path.stem)
def test_a_demo_is_short_and_says_how_it_is_run(path):
    text = path.read_text()
    assert len(text.splitlines()) < 120
    assert text.startswith('"""') and f"python demos/{path.name}" in text.split('"""')[1]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_demo_without_training_images_is_one_sentence(path, tmp_path):
    done = run(path, tmp_path, "--train", "0")
    assert done.returncode == 2
    assert re.fullmatch(r"minivae: --train 0 .*\n", done.stderr)
    assert not list(tmp_path.iterdir())
