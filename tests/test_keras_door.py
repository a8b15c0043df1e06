"""parfocal.keras on each of Keras's backends, and models that are loaded in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("keras_door.py")


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_the_door(backend: str, tmp_path: Path) -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    for arguments in ([], ["load"]):
        result = subprocess.run(
            [sys.executable, DRIVER, tmp_path, *arguments],
            env={**os.environ, **quiet, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
        assert f"done {backend}" in result.stdout
