"""How the suite is run, tried on a small one: two tiers, groups of tests, and no skip in silence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.full


def run(folder: Path, file: str, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest with this project's settings on one file of tests."""
    (folder / "tests").mkdir()
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "tests" / file).write_text(f"import pytest\n{content}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_group_has_one_worker_and_the_second_tier_is_left_out(tmp_path: Path) -> None:
    tests = """
@pytest.mark.parametrize("number", range(6))
def test_together(number): pass

@pytest.mark.full
def test_later(): raise ValueError
"""
    result = run(tmp_path, "test_app_classes.py", tests)
    assert result.returncode == 0, result.stdout
    assert len(set(re.findall(r"\[(gw\d)\].*PASSED.*test_together", result.stdout))) == 1, result.stdout
    assert "6 passed" in result.stdout
    assert 'The whole suite: python -m pytest -m ""' in result.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("skip", ["pytest.importorskip('nothing')", "def test_skips(): pytest.skip('no')"])
def test_a_skip_turns_the_run_red(skip: str, workers: str, tmp_path: Path) -> None:
    result = run(tmp_path, "test_skips.py", f"def test_passes(): pass\n{skip}\n", "-n", workers)
    assert result.returncode == 1, result.stdout
    assert "skipped, but not in ALLOWED_SKIPS (conftest.py): tests/test_skips.py" in result.stdout
