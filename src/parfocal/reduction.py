"""From a loss for each sample to one number: sample weights, denominators, reductions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parfocal import checks
from parfocal.backends import numpy

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", None, "none", "mean_with_sample_weight")
BINARY_REDUCTIONS = (*REDUCTIONS, "mean_over_positives")


def broadcast_weight(
    sample_weight: Any, losses: tuple[int, ...], elements: tuple[int, ...] | None = None
) -> tuple[np.ndarray, bool]:
    """sample_weight for losses of a given shape; and whether it weighs single elements of a shape `elements` instead.

    Keras's rule: a trailing axis of 1 that only one side has is added or dropped, so that (N, 1) on (N,) stays (N,);
    then each axis is equal or 1.  The losses are never enlarged.
    """
    weight = numpy.as_array("sample_weight", sample_weight).astype(np.float64)
    if elements is not None and weight.shape == elements and weight.shape != losses:
        return weight, True
    shape = weight.shape
    if len(shape) == len(losses) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(shape) == 1 and len(losses) == 2 and losses[-1] == 1:
        shape = (*shape, 1)
    if shape and (len(shape) != len(losses) or any(a not in (1, b) for a, b in zip(shape, losses, strict=True))):
        checks.weight_shape(weight.shape, losses, elements)
    return np.broadcast_to(weight.reshape(shape), losses), False


def total_weight(losses: tuple[int, ...], weights: np.ndarray | None, valid: np.ndarray | None) -> float:
    """The weights of the samples that count, summed; without weights their number."""
    if weights is not None:
        return float(weights.sum() if valid is None else weights[valid].sum())
    return float(math.prod(losses) if valid is None else np.count_nonzero(valid))


def divisor(
    reduction: str | None, losses: tuple[int, ...], weights: np.ndarray | None, valid: np.ndarray | None
) -> float:
    """What the summed loss is divided by.  Ignored samples leave it; a 0 becomes 1, as there is nothing to average."""
    if reduction in ("sum", None, "none"):
        return 1.0
    if weights is valid is None:
        return math.prod(losses) or 1.0
    return total_weight(losses, weights if reduction == "mean_with_sample_weight" else None, valid) or 1.0
