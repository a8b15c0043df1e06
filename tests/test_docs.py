"""Pages that show what was measured show what is on file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "script", ["docs/make_performance.py", "examples/does_it_help.py", "examples/true_probabilities.py"]
)
def test_the_page_shows_the_recorded_run(script: str) -> None:
    command = [sys.executable, ROOT / script, "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
