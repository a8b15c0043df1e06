"""The mean focal loss as torchmetrics: states that are sums, so that batches and processes add up exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from parfocal.torch.losses import SigmoidFocalLoss, SoftmaxFocalLoss

__all__ = ["SigmoidFocalMetric", "SoftmaxFocalMetric"]


class FocalMetric(Metric):
    """The mean focal loss of all that was seen: the sum of the losses and what "mean" divides it by, each a state.

    update(preds, target) takes logits and targets as the loss does.  The states are float64: a sum over millions
    of samples keeps its digits.  For a device without float64 call `metric.set_dtype(torch.float32)` first.
    Before the first sample the metric is 0.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, loss: SigmoidFocalLoss | SoftmaxFocalLoss, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss = loss
        for state in ("total", "count"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch."""
        total, count = self.loss.sum_and_count(preds.detach() if isinstance(preds, Tensor) else preds, target)
        self.total += total
        self.count += count

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.total / self.loss.rule.never_zero(self.count)


class SigmoidFocalMetric(FocalMetric):
    __doc__ = f"""{FocalMetric.__doc__}
    Parameters are those of `SigmoidFocalLoss` without reduction and normalizer; further ones are torchmetrics' own.

    >>> metric = SigmoidFocalMetric(alpha=None, gamma=0)
    >>> metric.update(torch.tensor([0.0, 0.0]), torch.tensor([1, 0]))
    >>> metric.update(torch.tensor([-3.0]), torch.tensor([1]))
    >>> print(metric.compute())  # (2 log 2 + 3.0486) / 3
    tensor(1.4783, dtype=torch.float64)
    """

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: Any = 2.0,
        *,
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        soft_labels: str = "linear",
        **kwargs: Any,
    ) -> None:
        loss = SigmoidFocalLoss(
            alpha,
            gamma,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            soft_labels=soft_labels,
        )
        super().__init__(loss, **kwargs)


class SoftmaxFocalMetric(FocalMetric):
    __doc__ = f"""{FocalMetric.__doc__}
    Parameters are those of `SoftmaxFocalLoss` without reduction and normalizer; further ones are torchmetrics' own.

    >>> metric = SoftmaxFocalMetric(gamma=2)
    >>> metric.update(torch.zeros(4, 3), torch.tensor([0, 1, 2, -100]))
    >>> print(metric.compute())  # (1 - 1/3)^2 log 3
    tensor(0.4883, dtype=torch.float64)
    """

    def __init__(
        self,
        alpha: Any = None,
        gamma: Any = 2.0,
        *,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        loss = SoftmaxFocalLoss(alpha, gamma, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)
        super().__init__(loss, **kwargs)
