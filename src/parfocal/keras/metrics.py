"""The focal losses as Keras metrics: the weighted mean over all samples seen, ignored and masked ones left out.

They have the names of the losses, and are registered under another package name, or a saved model would get one for the
other.  Keras itself has functions only.
"""

from __future__ import annotations

from typing import Any

import keras
from keras.src.backend import get_keras_mask

from parfocal import keras as losses

__all__ = ["BinaryFocalCrossentropy", "CategoricalFocalCrossentropy", "SparseCategoricalFocalCrossentropy"]

registered = keras.saving.register_keras_serializable(package="parfocal.metrics")


class FocalMetric(keras.metrics.Mean):
    """The constructor takes the arguments of the loss of the same name, without a reduction.

    >>> metric = BinaryFocalCrossentropy(gamma=2)
    >>> metric.update_state([[0.0, 1.0]], [[0.6, 0.4]])
    >>> metric.update_state([[0.0, 0.0]], [[0.4, 0.6]])
    >>> print(round(float(metric.result()), 3))
    0.268
    """

    loss: type[losses.FocalLoss]

    def __init__(self, *args: Any, name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        built = self.loss(*args, **kwargs)
        super().__init__(name=name or built.name, dtype=dtype)
        self.parameters = built.parameters
        self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; the arguments are those of the loss."""
        kept = get_keras_mask(y_pred)
        y_pred = keras.ops.convert_to_tensor(y_pred, dtype=self.dtype)
        values = losses.losses_of(self.parameters, y_true, y_pred)
        known = get_keras_mask(values)
        shape = keras.ops.shape(values)
        weight = keras.ops.ones(shape, dtype=self.dtype)
        for factor in (kept, known, sample_weight):
            if factor is not None:
                factor = keras.ops.convert_to_tensor(factor, dtype=self.dtype)
                if len(factor.shape) == len(values.shape) + 1:
                    factor = keras.ops.squeeze(factor, axis=-1)
                while len(factor.shape) < len(values.shape):  # one weight per sample, for all its losses
                    factor = keras.ops.expand_dims(factor, axis=-1)
                weight = weight * factor
        super().update_state(keras.ops.reshape(values, (-1,)), sample_weight=keras.ops.reshape(weight, (-1,)))

    def get_config(self) -> dict[str, Any]:
        return {**self.parameters.as_config(), **super().get_config()}


@registered
class BinaryFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once
    loss = losses.BinaryFocalCrossentropy


@registered
class CategoricalFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once
    loss = losses.CategoricalFocalCrossentropy


@registered
class SparseCategoricalFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once
    loss = losses.SparseCategoricalFocalCrossentropy
