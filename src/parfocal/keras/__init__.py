"""The focal losses as Keras losses, on Keras's torch, JAX and TensorFlow backends.

Constructors, config, masks, sample weights and reductions are Keras's; the numbers and gradients are parfocal's.  Pass
the object: the string "BinaryFocalCrossentropy" means Keras's own loss, with parfocal imported or not.  A model
that was saved with a loss, metric or function of parfocal loads in a process that has imported `parfocal.keras`,
without custom_objects.

As in Keras, alpha is 0.25 and ignored by the binary loss without `apply_class_balancing=True`, and the mean
("sum_over_batch_size") is over the losses; samples of `ignore_class` and masked ones leave it.
"""

from parfocal.keras import metrics
from parfocal.keras.functional import (
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    sparse_categorical_focal_crossentropy,
)
from parfocal.keras.losses import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalFocalCrossentropy,
)

__all__ = [
    "BinaryFocalCrossentropy",
    "CategoricalFocalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "binary_focal_crossentropy",
    "categorical_focal_crossentropy",
    "metrics",
    "sparse_categorical_focal_crossentropy",
]
