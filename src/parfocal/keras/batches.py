"""From what Keras hands over to a batch of the core losses, without what a mask leaves out.

A mask lies on y_pred, one entry for each loss, or for its leading axes.  Masked samples leave the denominators.  What
their labels, scores and weights hold is replaced before anything is computed: padding is no label, and 0 times NaN is
NaN, in a gradient too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras.src.backend import get_keras_mask  # Keras's losses and metrics read masks so; there is no public name

from parfocal import backends
from parfocal.core import validation
from parfocal.core.batch import broadcast_weight, divisor
from parfocal.core.parameters import Binary, SparseCategorical
from parfocal.losses import Batch, FocalLoss

# In place of a masked score: any number that is a logit and a probability, and no row of which sums to 0.
HARMLESS = 0.5


class Given(NamedTuple):
    """The arguments of a call as tensors of Keras's backend, with nothing of what a mask leaves out."""

    y_true: Any
    y_pred: Any  # in the loss's dtype
    weight: Any
    kept: Any = None  # booleans, one for each loss; None: all are


def given(loss: FocalLoss, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Given:
    """y_pred alone is taken in the loss's dtype: class indices above 2048 are no float16, and a weight loses digits."""
    mask = get_keras_mask(y_pred)
    y_true, y_pred = keras.ops.convert_to_tensor(y_true), keras.ops.convert_to_tensor(y_pred, dtype=loss.dtype)
    if sample_weight is not None:
        sample_weight = keras.ops.convert_to_tensor(sample_weight)
    if mask is None:
        return Given(y_true, y_pred, sample_weight)
    return without_masked(loss, y_true, y_pred, sample_weight, mask)


def without_masked(loss: FocalLoss, y_true: Any, y_pred: Any, sample_weight: Any, mask: Any) -> Given:
    parameters, where = loss.parameters, keras.ops.where
    backend = backends.find(y_pred, y_true, sample_weight, traced=True)
    if isinstance(parameters, Binary):
        y_pred = backend.binary_scores(y_true, y_pred)
        y_true = backend.binary_labels(y_true, y_pred)
    else:
        y_true = backend.rows(parameters, y_true, y_pred).labels
    shape = backend.shape(y_pred)
    axis = validation.axis_in_range(parameters.axis, len(shape), parameters.function)
    losses, lengths = validation.without(shape, axis), backend.lengths_without(y_pred, axis)

    kept = backend.xp.broadcast_to(leading(mask, losses), lengths)
    elements = keras.ops.expand_dims(kept, axis)
    y_pred = where(elements, y_pred, HARMLESS)
    y_true = where(kept if isinstance(parameters, SparseCategorical) else elements, y_true, 0)
    weight, per_element = keras.ops.cast(kept, "float32"), False
    if sample_weight is not None:
        weight = backend.weights(sample_weight, y_pred)
        wide = shape if isinstance(parameters, Binary) else None
        weight, per_element = broadcast_weight(backend, weight, losses, lengths, wide)
        weight = where(elements if per_element else kept, weight, 0)
    return Given(y_true, y_pred, weight, kept)


def batch_of(loss: FocalLoss, arguments: Given) -> Batch:
    y_true, y_pred, weight, kept = arguments
    batch = loss._batch(y_true, y_pred, weight)
    if kept is None:
        return batch
    valid = batch.backend.weights(kept, batch.scores) > 0
    valid = valid if batch.valid is None else valid & batch.valid
    if loss.reduction == "mean_over_positives":  # no masked label is positive any more
        return batch._replace(valid=valid)
    by = divisor(batch.backend, loss.reduction, batch.count, batch.weights, valid)
    return batch._replace(valid=valid, divisor=by)


def leading(mask: Any, losses: validation.Shape) -> Any:
    """The mask as booleans that broadcast to the losses; one of steps covers all losses of a step."""
    kept = keras.ops.cast(mask, "bool")
    given = tuple(kept.shape)
    if len(given) == len(losses) + 1 and given[-1] == 1:
        kept = keras.ops.squeeze(kept, axis=-1)
    while len(kept.shape) < len(losses):
        kept = keras.ops.expand_dims(kept, axis=-1)
    ones = tuple(b if a == 1 else a for a, b in zip(kept.shape, losses, strict=False))
    if len(kept.shape) != len(losses) or not validation.fits(ones, losses):
        raise ValueError(f"the mask of y_pred has shape {given}, and the losses have {losses}: one entry for each loss")
    return kept
