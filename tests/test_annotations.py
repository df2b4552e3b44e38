"""The types of the whole package. The longest test, so its file comes first."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_types_agree():
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
