"""The focal losses as Keras losses, on Keras's torch, JAX and TensorFlow backends.

Constructors, config, masks, sample weights and reductions are Keras's; the numbers and gradients are parfocal's.  Pass
the object: the string "BinaryFocalCrossentropy" means Keras's own loss, with parfocal imported or not.  A model
that was saved with one loads in a process that has imported `parfocal.keras`, without custom_objects.

As in Keras, alpha is 0.25 and ignored by the binary loss without `apply_class_balancing=True`, and the mean
("sum_over_batch_size") is over the losses; samples of `ignore_class` and masked ones leave it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras.src.backend import set_keras_mask  # the way in which Keras's own losses say what to leave out

from parfocal import functional
from parfocal.parameters import Binary, Categorical, SparseCategorical

__all__ = ["BinaryFocalCrossentropy", "CategoricalFocalCrossentropy", "SparseCategoricalFocalCrossentropy"]

registered = keras.saving.register_keras_serializable(package="parfocal")


def losses_of(parameters: Any, y_true: Any, y_pred: Any) -> Any:
    """One loss per sample, as a tensor of Keras's backend; where samples are ignored, with a mask of the others."""
    y_pred = keras.ops.convert_to_tensor(y_pred)
    if isinstance(parameters, Binary):
        return functional.binary_focal_crossentropy(y_true, y_pred, **parameters.as_dict())
    losses = functional.per_sample(parameters, y_true, y_pred)
    if isinstance(parameters, SparseCategorical) and parameters.ignore_class is not None:
        labels = keras.ops.reshape(keras.ops.convert_to_tensor(y_true), keras.ops.shape(losses))
        set_keras_mask(losses, mask=keras.ops.not_equal(labels, parameters.ignore_class))
    return losses


class FocalLoss(keras.losses.Loss):
    """What the three share: the parameters are checked once, and go into the config with the dtype."""

    parameters: Any

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return losses_of(self.parameters, y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {**self.parameters.as_config(), **super().get_config(), "dtype": self.dtype}


@registered
class BinaryFocalCrossentropy(FocalLoss):
    """`parfocal.binary_focal_crossentropy` as a Keras loss; name, reduction and dtype are those of `keras.losses.Loss`.

    >>> loss = BinaryFocalCrossentropy(gamma=2, from_logits=True)
    >>> print(round(float(loss([[0.0, 1.0, 0.0, 0.0]], [[-18.6, 0.51, 2.94, -12.8]])), 3))
    0.691
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
        *,
        soft_labels: str = "linear",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.parameters = Binary(apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis, soft_labels)


@registered
class CategoricalFocalCrossentropy(FocalLoss):
    """`parfocal.categorical_focal_crossentropy` as a Keras loss.

    >>> loss = CategoricalFocalCrossentropy()
    >>> print(round(float(loss([[0.0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]])), 5))
    0.23315
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.parameters = Categorical(alpha, gamma, from_logits, label_smoothing, axis)


@registered
class SparseCategoricalFocalCrossentropy(FocalLoss):
    """`parfocal.sparse_categorical_focal_crossentropy` as a Keras loss.

    >>> loss = SparseCategoricalFocalCrossentropy(ignore_class=-1)
    >>> print(round(float(loss([1, 2, -1], [[0.05, 0.95, 0], [0.1, 0.8, 0.1], [1, 0, 0]])), 5))
    0.23315
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "sparse_categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.parameters = SparseCategorical(alpha, gamma, from_logits, label_smoothing, axis, ignore_class=ignore_class)
