"""Pages that show what was measured show what is on file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_performance_page_shows_the_recorded_run() -> None:
    command = [sys.executable, ROOT / "docs" / "make_performance.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
