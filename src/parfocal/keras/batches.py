"""From what Keras hands over to a `Batch`, without what a mask leaves out.

A mask lies on y_pred, one entry for each loss, or for its leading axes.  Masked samples leave the denominators.
"""

from __future__ import annotations

from typing import Any

import keras
from keras.src.backend import get_keras_mask  # Keras's losses and metrics read masks so; there is no public name

from parfocal import backends
from parfocal.core.batch import Batch
from parfocal.core.hosts import OBJECTS
from parfocal.losses import FocalLoss


def batch_of(loss: FocalLoss, y_true: Any, y_pred: Any, sample_weight: Any, differentiable: bool = False) -> Batch:
    """y_pred alone is cast to the loss's dtype: float16 holds no class index above 2048, and rounds weights."""
    mask, to_tensor = get_keras_mask(y_pred), keras.ops.convert_to_tensor
    y_true, y_pred = to_tensor(y_true), to_tensor(y_pred, dtype=loss.dtype)
    if sample_weight is not None:
        sample_weight = to_tensor(sample_weight)
    backend = backends.find(y_pred, y_true, sample_weight, differentiable)
    batch: Batch = backend.batch(loss.parameters, y_true, y_pred, sample_weight, mask, OBJECTS)
    return batch
