"""What the README shows is true: its examples run, its files exist."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_run(tmp_path):
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        if "torch" in block and not (find_spec("torch") and find_spec("safetensors")):
            continue
        done = subprocess.run(
            [sys.executable, "-c", block],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"MINIVAE_CACHE": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        losses = [float(value) for value in re.findall(r"epoch \d: ([\d.]+)", done.stdout)]
        assert losses == sorted(losses, reverse=True)
    assert 0 < len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 30


def test_the_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert not [link for link in links if "://" not in link and not (README.parent / link).exists()]
