"""The focal losses as metrics: a weighted mean that runs over batches and can be merged across workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from parfocal import backends, losses
from parfocal.core.hosts import OBJECTS
from parfocal.functional import (
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    sparse_categorical_focal_crossentropy,
)

__all__ = [
    "BinaryFocalCrossentropy",
    "CategoricalFocalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "binary_focal_crossentropy",
    "categorical_focal_crossentropy",
    "sparse_categorical_focal_crossentropy",
]


class FocalMetric:
    """The mean focal loss of all samples seen, each with its weight; ignored samples do not count.

    The constructor takes the arguments of the loss of the same name, without a reduction.

    >>> metric = BinaryFocalCrossentropy(gamma=2)
    >>> metric.update_state([[0, 1]], [[0.6, 0.4]])
    >>> metric.update_state([[0, 0]], [[0.4, 0.6]])
    >>> print(metric.result().round(3))
    0.268
    """

    loss: losses.FocalLoss
    total: float
    count: float

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; the arguments are those of the loss."""
        backend = backends.find(y_pred, y_true, sample_weight)
        scores = backend.detached(backend.float_array("y_pred", y_pred))  # no gradient is computed in passing
        batch = backend.batch(self.loss.parameters, y_true, scores, sample_weight, host=OBJECTS, dtype=self.loss.dtype)
        self.total += float(backend.terms(batch, 0, summed=True)[0])
        self.count += float(batch.total_weight())

    def result(self) -> Any:
        """The mean so far, in the metric's dtype; 0 before the first sample."""
        return np.float64(self.total / self.count if self.count else 0.0).astype(self.loss.dtype)

    def reset_state(self) -> None:
        """Forget all samples."""
        self.total = self.count = 0.0

    def merge_state(self, metrics: Iterable[FocalMetric]) -> None:
        """Add what other metrics of the same loss have seen.  Raises ValueError for any other."""
        for other in metrics:
            if not isinstance(other, FocalMetric) or other.loss.parameters != self.loss.parameters:
                raise ValueError(f"only a metric with the same parameters can be merged into {self!r}; got {other!r}")
            self.total += other.total
            self.count += other.count

    def get_config(self) -> dict[str, Any]:
        """Everything `from_config` needs to build the same metric again, without its state."""
        return {name: value for name, value in self.loss.get_config().items() if name != "reduction"}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A metric from what `get_config` returned."""
        return cls(**config)

    @property
    def name(self) -> str:
        return self.loss.name

    @property
    def dtype(self) -> str:
        return self.loss.dtype

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class BinaryFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
        *,
        soft_labels: str = "linear",
    ) -> None:
        self.loss = losses.BinaryFocalCrossentropy(
            apply_class_balancing,
            alpha,
            gamma,
            from_logits,
            label_smoothing,
            axis,
            name=name,
            dtype=dtype,
            soft_labels=soft_labels,
        )
        self.reset_state()


class CategoricalFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        self.loss = losses.CategoricalFocalCrossentropy(
            alpha, gamma, from_logits, label_smoothing, axis, name=name, dtype=dtype
        )
        self.reset_state()


class SparseCategoricalFocalCrossentropy(FocalMetric):
    __doc__ = FocalMetric.__doc__  # written once

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: Any = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        axis: int = -1,
        name: str | None = "sparse_categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        self.loss = losses.SparseCategoricalFocalCrossentropy(
            alpha, gamma, from_logits, label_smoothing, ignore_class, axis, name=name, dtype=dtype
        )
        self.reset_state()
