"""The focal losses as Keras metrics: the weighted mean over all samples seen, ignored and masked ones left out.

They have the names of the losses, and are registered under another package name, or a saved model would get one for the
other.  Keras itself has the functions only, and so have we.
"""

from __future__ import annotations

from typing import Any

import keras

from parfocal import losses as core
from parfocal import metrics as written
from parfocal.keras.batches import batch_of
from parfocal.keras.functional import (
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    sparse_categorical_focal_crossentropy,
)
from parfocal.keras.signatures import takes_the_parameters_of

__all__ = [
    "BinaryFocalCrossentropy",
    "CategoricalFocalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "binary_focal_crossentropy",
    "categorical_focal_crossentropy",
    "sparse_categorical_focal_crossentropy",
]

register = keras.saving.register_keras_serializable(package="parfocal.metrics")


class FocalMetric(keras.metrics.Metric):
    """The constructor takes the arguments of the loss of the same name, without a reduction, and raises its errors.

    Weights (N,) also go with losses (N, T): one for all losses of a sample, as in Keras's metrics.

    >>> metric = BinaryFocalCrossentropy(gamma=2)
    >>> metric.update_state([[0.0, 1.0]], [[0.6, 0.4]])
    >>> metric.update_state([[0.0, 0.0]], [[0.4, 0.6]])
    >>> print(round(float(metric.result()), 3))
    0.268
    """

    kind: Any  # the core's loss of this name

    def __init__(self, *, name: str | None, dtype: Any, **parameters: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        wide = keras.backend.result_type(self.dtype, "float32")  # a float16 ends at 65,504
        self.focal = self.kind(dtype=wide, **parameters)
        self.total = self.add_variable((), "zeros", dtype=wide, name="total")
        self.count = self.add_variable((), "zeros", dtype=wide, name="count")
        self._direction = "down"  # as Keras marks the metrics that callbacks minimise

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; the arguments are those of the loss."""
        if sample_weight is not None:
            sample_weight = keras.ops.convert_to_tensor(sample_weight)
            losses = len(keras.ops.convert_to_tensor(y_pred).shape) - 1  # axes of the losses
            while 0 < len(sample_weight.shape) < losses:
                sample_weight = keras.ops.expand_dims(sample_weight, axis=-1)
        batch = batch_of(self.focal, y_true, y_pred, sample_weight)
        total, count = batch.backend.terms(batch, 0, summed=True)[0], batch.total_weight()
        self.total.assign_add(keras.ops.cast(total, self.total.dtype))
        self.count.assign_add(keras.ops.cast(count, self.count.dtype))

    def result(self) -> Any:
        """The mean so far, a tensor in the metric's dtype; 0 before the first sample."""
        return keras.ops.cast(keras.ops.divide_no_nan(self.total, self.count), self.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**self.focal.parameters.as_config(), **super().get_config()}


@register
class BinaryFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once
    kind = core.BinaryFocalCrossentropy

    @takes_the_parameters_of(written.BinaryFocalCrossentropy.__init__)
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)


@register
class CategoricalFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once
    kind = core.CategoricalFocalCrossentropy

    @takes_the_parameters_of(written.CategoricalFocalCrossentropy.__init__)
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)


@register
class SparseCategoricalFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once
    kind = core.SparseCategoricalFocalCrossentropy

    @takes_the_parameters_of(written.SparseCategoricalFocalCrossentropy.__init__)
    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
