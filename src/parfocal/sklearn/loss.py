"""The loss object of a number of classes: for two the binary loss, for more the softmax's."""

from __future__ import annotations

from typing import Any

from parfocal.losses import BinaryFocalCrossentropy, SparseCategoricalFocalCrossentropy


def focal_loss(
    classes: int, gamma: Any, alpha: Any, **config: Any
) -> BinaryFocalCrossentropy | SparseCategoricalFocalCrossentropy:
    """In float64; alpha None weighs no class, and smoothed labels are expectations, as the softmax has them anyway."""
    if classes == 2:
        balanced = alpha is not None
        return BinaryFocalCrossentropy(
            balanced, alpha if balanced else 0.25, gamma, dtype="float64", soft_labels="expected", **config
        )
    loss = SparseCategoricalFocalCrossentropy(1.0 if alpha is None else alpha, gamma, dtype="float64", **config)
    for name, values in (("alpha", loss.alpha), ("gamma", loss.gamma)):
        if isinstance(values, tuple) and len(values) != classes:
            raise ValueError(
                f"{name} has {len(values)} numbers, and there are {classes} classes; give one number, or one for each "
                "class in sorted order"
            )
    return loss
