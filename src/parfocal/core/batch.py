"""From a loss for each sample to one number: sample weights, denominators, reductions; in any array library."""

from __future__ import annotations

from typing import Any

from parfocal.core import validation
from parfocal.core.formula import Array
from parfocal.core.validation import Shape

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", None, "none", "mean_with_sample_weight")
BINARY_REDUCTIONS = (*REDUCTIONS, "mean_over_positives")


def broadcast_weight(
    backend: Any, weight: Array, losses: Shape, lengths: Any, elements: Shape | None = None
) -> tuple[Array, bool]:
    """A sample weight for losses of a given shape; and whether it weighs single elements of a shape `elements` instead.

    Keras's rule: a trailing axis of 1 that only one side has is added or dropped, so that (N, 1) on (N,) stays (N,);
    then each axis is equal or 1.  The losses are never enlarged.  `lengths` is their shape as the library takes it.
    """
    xp, given = backend.xp, backend.shape(weight)
    if elements is not None and validation.fits(given, elements) and not validation.fits(given, losses):
        return weight, True
    shape = given
    if len(given) == len(losses) + 1 and given[-1] == 1:
        shape, weight = given[:-1], xp.squeeze(weight, axis=-1)
    elif len(given) == 1 and len(losses) == 2 and losses[-1] == 1:
        shape, weight = (*given, 1), xp.expand_dims(weight, axis=-1)
    ones = tuple(b if a == 1 else a for a, b in zip(shape, losses, strict=False))
    if shape and (len(shape) != len(losses) or not validation.fits(ones, losses)):
        validation.weight_shape(given, losses, elements)
    return xp.broadcast_to(weight, lengths), False


def total_weight(backend: Any, count: Any, weights: Array | None, valid: Array | None) -> Any:
    """The weights of the samples that count, summed; without weights their number, `count` if all do."""
    if weights is not None:
        if valid is not None:
            weights = backend.xp.where(valid, weights, backend.xp.zeros_like(weights))
        return backend.xp.sum(weights)
    return count if valid is None else backend.count_true(valid)


def divisor(backend: Any, reduction: str | None, count: Any, weights: Array | None, valid: Array | None) -> Any:
    """What the summed loss is divided by.  Ignored samples leave it; a 0 becomes 1, as there is nothing to average."""
    if reduction in ("sum", None, "none"):
        return 1.0
    if weights is valid is None:
        return backend.at_least_one(count)
    weights = weights if reduction == "mean_with_sample_weight" else None
    return backend.or_one(total_weight(backend, count, weights, valid))
