"""parfocal.keras on each of Keras's backends, in a process of its own; and models that are loaded in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiers import tiers

ADAPTER, MODELS = (Path(__file__).with_name(name) for name in ("keras_adapter.py", "keras_models.py"))
ALONE = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore")

# The new process imports only parfocal.keras.
LOADING = """
import sys
from pathlib import Path

import keras
import numpy as np

import parfocal.keras

folder = Path(sys.argv[1])
x = np.load(folder / "data.npz")["x"]
for name in ("binary", "sparse", "dense"):
    model = keras.saving.load_model(folder / f"{name}.keras")
    saved = np.load(folder / f"{name}.npz")
    assert type(model.loss).__module__ == "parfocal.keras.losses", type(model.loss)
    values = model.evaluate(x, saved["labels"], batch_size=64, verbose=0, return_dict=True)
    (metric,) = model.metrics[1].metrics
    assert type(metric).__module__ == "parfocal.keras.metrics", type(metric)
    np.testing.assert_allclose([values["loss"], values[metric.name]], saved["exact"], rtol=1e-5)
model = keras.saving.load_model(folder / "functions.keras")
assert model.loss is parfocal.keras.binary_focal_crossentropy
model.evaluate(x, np.zeros(64), verbose=0)
assert model.metrics[1].metrics[0]._fn is parfocal.keras.binary_focal_crossentropy
"""


@pytest.mark.parametrize("backend", tiers(["torch", "jax", "tensorflow"], ["torch"]))
def test_the_numbers(backend: str, tmp_path: Path) -> None:
    run(backend, tmp_path, *ALONE, ADAPTER)


@pytest.mark.full
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_models(backend: str, tmp_path: Path) -> None:
    run(backend, tmp_path, *ALONE, MODELS)
    run(backend, tmp_path, "-c", LOADING, tmp_path)


def run(backend: str, folder: Path, *arguments: str | Path) -> None:
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"} if backend == "jax" else {}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **quiet, **devices, "KERAS_BACKEND": backend, "KERAS_ADAPTER_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-4000:]
