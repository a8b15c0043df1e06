"""A batch that lies on several devices of JAX: the loss and its gradient are those of one device with all rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from parfocal.jax import sigmoid_focal_loss, softmax_focal_loss

RANKS = Path(__file__).with_name("jax_ranks.py")
LIMIT = 400  # seconds, on a busy machine


@pytest.mark.full
def test_shard_map_pmap_and_jit_over_four_devices() -> None:
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, RANKS],
        env={**os.environ, **devices},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "13 cases are right" in result.stdout


X, Y, Z, T = jnp.array([0.5, -1.0, 2.0]), jnp.array([1, 0, 1]), jnp.array([[0.1, 2.0], [1.0, 0.0]]), jnp.array([1, 0])


def same(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_reductions_on_one_device() -> None:
    losses, where = sigmoid_focal_loss(X, Y), jnp.array([True, True, False])
    for reduction, by in (("sum", 1), ("mean", 3), ("mean_over_positives", 2)):
        same(sigmoid_focal_loss(X, Y, reduction=reduction), losses.sum() / by)
    for reduction, by in (("sum", 1), ("mean", 2), ("mean_over_positives", 1)):
        same(sigmoid_focal_loss(X, Y, where=where, reduction=reduction), losses[:2].sum() / by)
    same(sigmoid_focal_loss(X, 0 * Y, reduction="mean_over_positives"), sigmoid_focal_loss(X, 0 * Y).sum())
    same(sigmoid_focal_loss(X[:0], Y[:0], reduction="mean"), 0)
    rows = softmax_focal_loss(Z, T)
    same(softmax_focal_loss(Z, T, reduction="mean"), rows.mean())
    same(softmax_focal_loss(Z, T, where=jnp.array([True, False]), reduction="mean"), rows[0])
    assert sigmoid_focal_loss(X.astype(jnp.float16), Y, reduction="mean").dtype == jnp.float16


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"reduction must be .*'mean_over_positives'; got 'avg'"):
        sigmoid_focal_loss(X, Y, reduction="avg")
    with pytest.raises(ValueError, match="reduction must be"):
        softmax_focal_loss(Z, T, reduction="mean_over_positives")
    with pytest.raises(ValueError, match=r"axis_name='data' adds up a reduced loss.*give a reduction"):
        sigmoid_focal_loss(X, Y, axis_name="data")
