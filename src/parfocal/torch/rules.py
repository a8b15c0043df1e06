"""A loss in torch's terms: what was asked for, checked once; then batches, what their mean divides by, and the sum.

(a) A `Rule` holds the loss object whose parameters the backends read: a call checks only what it is given.
(b) Numbers per class are Python's: reading them from a tensor on a device would wait for it at each call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parfocal import losses
from parfocal.backends import torch as backends
from parfocal.backends.torch_terms import WIDE_DEVICES
from parfocal.core import validation
from parfocal.core.batch import Batch
from parfocal.core.hosts import counted
from parfocal.core.parameters import Numbers
from parfocal.torch import distributed
from parfocal.torch.arguments import (
    ONE_SAMPLE,
    TORCH,
    broadcasts_to,
    check_indices,
    check_labels,
    check_tensors,
    class_weights,
    element_weights,
    given_divisor,
    in_torchs_dtype,
    index,
    no_normalizer,
    product,
    python_numbers,
    trained_of,
)

INDICES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # others are looked at
REDUCTIONS = ("mean", "sum", "none")
SIGMOID_REDUCTIONS = (*REDUCTIONS, "mean_over_positives")


class Rule:
    """What the two losses share: reductions, and the way through a backend."""

    loss: losses.FocalLoss
    alpha: Numbers | None
    reduction: str
    trained: tuple[str, ...] = ()  # "alpha" and "gamma", where they are tensors that ask for a gradient
    weight: tuple[float, ...] | None = None  # of the classes, where a mean divides by the sum of the targets' weights
    dimensions = 1  # that inputs with several losses have

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        normalizer: Any = None,
        trained: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The reduced loss, in the dtype that torch's own would have; `trained` has what `self.trained` names."""
        check_tensors(inputs, targets)
        batch = self.trained_batch(inputs, targets, weight, trained) if trained else self.batch(inputs, targets, weight)
        backend = batch.backend
        if self.reduction == "none":
            no_normalizer(normalizer)
            loss = backend.terms(batch, 0)[0]
            return in_torchs_dtype(loss if inputs.ndim >= self.dimensions else loss.reshape(()), inputs)
        if normalizer is not None:
            divisor = given_divisor(backend, normalizer)
        elif self.weight is None or self.reduction != "mean":
            divisor = batch.divisor(self.reduction)
        else:
            divisor = backend.or_one(self.counted(batch))
        return in_torchs_dtype(backend.terms(batch, 0, divisor, True)[0], inputs)

    def over_ranks(
        self,
        inputs: Tensor,
        targets: Tensor,
        weight: Tensor | None,
        trained: dict[str, Tensor] | None,
        group: Any,
        averaged: bool,
    ) -> Tensor:
        """The loss of this process's part of a batch, divided for the mean of the whole one (distributed.py)."""
        ranks = distributed.initialised(group)
        with distributed.told_to_others(ranks, self.reduction, getattr(targets, "device", "cpu")):
            check_tensors(inputs, targets)
            distributed.no_shards(inputs, targets)
            batch = self.trained_batch(inputs, targets, weight, trained or {})
            count = self.count(batch, targets)
        total = distributed.summed(count, ranks, self.reduction)
        total = total * 0 + 1 if self.reduction == "sum" else total  # a NaN stays
        divisor = given_divisor(batch.backend, distributed.divisor(total, ranks, averaged, self.at_least))
        return in_torchs_dtype(batch.backend.terms(batch, 0, divisor, True)[0], inputs)

    def sum_and_count(
        self,
        inputs: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        trained: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What a mean over several batches adds up: its numerator and its denominator."""
        check_tensors(inputs, targets)
        batch = self.trained_batch(inputs, targets, weight, trained) if trained else self.batch(inputs, targets, weight)
        return batch.backend.terms(batch, 0, summed=True)[0], self.count(batch, targets)

    def count(self, batch: Batch, targets: Tensor) -> Tensor:
        """What the mean divides by before a 0 becomes 1: a tensor on the targets' device, exact where it counts."""
        count = self.counted(batch)
        if isinstance(count, Tensor):
            return count.to(targets.device)
        dtype = torch.float64 if isinstance(count, float) else torch.int64
        dtype = torch.promote_types(batch.dtype, torch.float32) if dtype.is_floating_point else dtype
        return torch.full((), count, dtype=dtype, device=targets.device)  # filled there: no copy that waits

    def counted(self, batch: Batch) -> Any:
        return batch.total_weight(with_weights=False)

    @property
    def at_least(self) -> int:
        """What a smaller total counts as; at 0 a total of 0 counts as 1."""
        return 0

    @property
    def counts(self) -> str:
        """What is counted in each batch to divide by; "" where it is the number of losses, or nothing."""
        return ""

    def never_zero(self, count: Tensor) -> Tensor:
        """A count as a divisor."""
        return distributed.never_small(count, self.at_least)

    def count_of(self, targets: Tensor, weight: Any) -> Tensor:
        """`count`, of the targets alone."""
        raise NotImplementedError  # each of the two has its own

    def batch(self, inputs: Tensor, targets: Tensor, weight: Tensor | None, differentiable: bool = False) -> Batch:
        """What a call was given, checked and shaped."""
        raise NotImplementedError  # each of the two has its own

    def trained_batch(
        self, inputs: Tensor, targets: Tensor, weight: Tensor | None, trained: dict[str, Tensor]
    ) -> Batch:
        """A batch, perhaps with a trained alpha or gamma, with its labels checked here where they can be: operations
        check none."""
        batch = self.batch(inputs, targets, weight, differentiable=bool(trained))
        batch = batch._replace(alpha=trained.get("alpha"), gamma=trained.get("gamma"))
        if backends.kernel_reads(inputs, targets, weight):
            self.check_labels(batch, backends.in_memory(batch.labels))
        return batch

    def check_labels(self, batch: Batch, labels: np.ndarray) -> None:
        validation.labels_in_unit_interval(labels, batch.host, batch.binary)

    def current_loss(self, trained: dict[str, Tensor]) -> losses.FocalLoss:
        """The loss with the present numbers of what is trained."""
        if not trained:
            return self.loss
        config = {**self.loss.get_config(), **{name: value.detach().tolist() for name, value in trained.items()}}
        if "alpha" in trained:
            self.put_alpha(config)
        current: losses.FocalLoss = type(self.loss).from_config(config)
        return current

    def put_alpha(self, config: dict[str, Any]) -> None:
        """Have the loss of a configuration take the alpha in it."""
        raise NotImplementedError  # each of the two has its own


class SigmoidRule(Rule):
    def __init__(
        self,
        alpha: float | None,
        gamma: Any,
        reduction: str,
        ignore_index: int | None,
        label_smoothing: float,
        soft_labels: str,
    ) -> None:
        self.reduction = validation.one_of("reduction", reduction, SIGMOID_REDUCTIONS)
        self.ignore_index = None if ignore_index is None else index("ignore_index", ignore_index)
        self.trained = trained_of(alpha=alpha, gamma=gamma)
        alpha = python_numbers("alpha", alpha)
        if alpha is None or (isinstance(alpha, int | float) and alpha < 0 and "alpha" not in self.trained):
            self.alpha = None
        else:
            self.alpha = validation.binary_alpha(alpha)
        self.loss = losses.BinaryFocalCrossentropy(
            self.alpha is not None and "alpha" not in self.trained,
            0.25 if self.alpha is None else self.alpha,
            python_numbers("gamma", gamma),
            from_logits=True,
            label_smoothing=label_smoothing,
            soft_labels=soft_labels,
        )

    def batch(self, inputs: Tensor, targets: Tensor, weight: Tensor | None, differentiable: bool = False) -> Batch:
        shape = inputs.shape
        if targets.shape != shape:
            raise ValueError(
                f"input and target must have one shape; got input {tuple(shape)} and target {tuple(targets.shape)}. "
                "Where an axis of 1 is too many or missing, write target.view_as(input). For class indices use "
                "softmax_focal_loss or SoftmaxFocalLoss."
            )
        if weight is not None:
            weight = element_weights(weight, inputs)
            if not broadcasts_to(weight.shape, shape):
                raise ValueError(
                    f"weight must broadcast to the input's shape {tuple(shape)}; got weight {tuple(weight.shape)}"
                )
        batch: Batch = backends.backend(inputs, targets, weight, differentiable, TORCH).batch(
            self.loss.parameters, targets, inputs, weight, host=TORCH, ignore=self.ignore_index
        )
        return batch

    def put_alpha(self, config: dict[str, Any]) -> None:
        config["apply_class_balancing"] = True

    def check_labels(self, batch: Batch, labels: np.ndarray) -> None:
        super().check_labels(batch, labels)
        gamma = batch.parameters.gamma if batch.gamma is None else python_numbers("gamma", batch.gamma)
        if ((labels > 0) & (labels < 1)).any():
            gamma = tuple(gamma) if isinstance(gamma, list) else gamma
            validation.gamma_pair_with_soft_labels(batch.parameters.soft_labels, gamma)

    def counted(self, batch: Batch) -> Any:
        if self.reduction != "mean_over_positives":
            return super().counted(batch)
        return batch.backend.label_sum(batch)

    @property
    def counts(self) -> str:
        if self.reduction == "mean_over_positives":
            return "positives"
        return "elements that are not ignored" if self.reduction == "mean" and self.ignore_index is not None else ""

    @property
    def at_least(self) -> int:
        return int(self.reduction == "mean_over_positives")

    def count_of(self, targets: Tensor, weight: Any) -> Tensor:
        check_labels("target", targets)
        if weight is not None and not broadcasts_to(element_weights(weight).shape, targets.shape):
            raise ValueError(
                f"weight must broadcast to the target's shape {tuple(targets.shape)}; got weight "
                f"{tuple(element_weights(weight).shape)}"
            )
        counting = None if self.ignore_index is None else backends.OPERATIONS.counting(targets, self.ignore_index)
        if self.reduction != "mean_over_positives":
            return counting.sum() if counting is not None else whole(targets.numel(), targets)
        labels = targets if counting is None else torch.where(counting, targets, torch.zeros_like(targets))
        if backends.kernel_reads(labels, None, None):
            validation.labels_in_unit_interval(backends.in_memory(labels), TORCH, binary=True)
        return backends.exact_sum(labels)


class SoftmaxRule(Rule):
    dimensions = 2

    def __init__(
        self, alpha: Any, gamma: Any, reduction: str, weight: Any, ignore_index: int, label_smoothing: float
    ) -> None:
        self.reduction = validation.one_of("reduction", reduction, REDUCTIONS)
        self.ignore_index = index("ignore_index", ignore_index)
        self.trained = trained_of(alpha=alpha, gamma=gamma)
        self.alpha = None if alpha is None else validation.categorical_alpha(python_numbers("alpha", alpha))
        self.weight = None if weight is None else class_weights(weight)
        factors = product(None if "alpha" in self.trained else self.alpha, self.weight)
        gamma = python_numbers("gamma", gamma)
        # Classes lie on axis 1, as in cross_entropy; a single sample gets a batch axis.
        self.loss: losses.SparseCategoricalFocalCrossentropy = losses.SparseCategoricalFocalCrossentropy(
            factors, gamma, True, label_smoothing, self.ignore_index, axis=1
        )
        self.dense = losses.CategoricalFocalCrossentropy(factors, gamma, True, label_smoothing, axis=1)

    def batch(self, inputs: Tensor, targets: Tensor, weight: Tensor | None, differentiable: bool = False) -> Batch:
        shape, given = inputs.shape, targets.shape
        dense = given == shape
        if not dense and given != shape[:1] + shape[2:] and not (len(shape) == 1 and not given):
            raise ValueError(
                f"for input {tuple(shape)}, classes on axis 1, target must hold class indices of shape "
                f"{tuple(shape[:1] + shape[2:]) if len(shape) > 1 else ()} or probabilities of the input's shape; got "
                f"target {tuple(given)}. For one score per label use sigmoid_focal_loss or SigmoidFocalLoss."
            )
        host = TORCH
        if len(shape) < 2:  # (C,)
            host = ONE_SAMPLE
            inputs, targets = inputs.reshape(1, -1), targets.reshape(1, -1) if dense else targets.reshape(1)
        if inputs.shape[1] < 2:
            raise ValueError(
                f"softmax needs at least 2 classes on axis 1; input has shape {tuple(shape)}. For one score per label "
                "use sigmoid_focal_loss or SigmoidFocalLoss."
            )
        if self.weight is not None and len(self.weight) != inputs.shape[1]:
            raise ValueError(
                f"weight has {counted(len(self.weight), 'number')} and input has "
                f"{counted(inputs.shape[1], 'class')} on axis 1; give one number for each class"
            )
        if dense:
            if self.ignore_index >= 0:
                raise ValueError(
                    f"ignore_index={self.ignore_index} goes with class indices, and target holds probabilities; leave "
                    "it out, and give samples that do not count a row of zeros and a normalizer"
                )
            parameters: Any = self.dense.parameters
        else:
            if targets.dtype not in INDICES:
                check_indices(targets)
            parameters, targets = self.loss.parameters, targets.long()  # as bytes, 156 would be -100
        batch: Batch = backends.backend(inputs, targets, None, differentiable, host).batch(
            parameters, targets, inputs, host=host
        )
        for name, values in (("alpha", self.alpha), ("gamma", self.loss.gamma)):
            if name in self.trained:
                validation.one_per_class(name, values, inputs.shape[1], TORCH)
        return batch

    def put_alpha(self, config: dict[str, Any]) -> None:
        config["alpha"] = product(validation.categorical_alpha(config["alpha"]), self.weight)

    def check_labels(self, batch: Batch, labels: np.ndarray) -> None:
        if batch.valid is None:
            super().check_labels(batch, labels)
        else:
            validation.class_indices(labels, batch.scores.shape[1], self.ignore_index, TORCH)

    def counted(self, batch: Batch) -> Any:
        """With `weight` and class indices the sum of weight[target]."""
        if self.weight is None or batch.valid is None:
            return super().counted(batch)
        return batch.backend.target_weight(batch, self.weight)

    @property
    def counts(self) -> str:
        if self.reduction != "mean":
            return ""
        return "samples that are not ignored" if self.weight is None else "weights of the targets' classes"

    def count_of(self, targets: Tensor, weight: Any) -> Tensor:
        check_labels("target", targets)
        if targets.is_floating_point():  # probabilities: each sample counts as one
            shape = targets.shape
            return whole(math.prod(shape[:1] + shape[2:]) if len(shape) > 1 else 1, targets)
        check_indices(targets)
        weights, labels = self.weight if weight is None else class_weights(weight), targets.long()
        counting = labels != self.ignore_index
        if weights is None:
            return counting.sum()
        if backends.kernel_reads(labels, None, None):
            validation.class_indices(labels.numpy(), len(weights), self.ignore_index, TORCH)
        double = targets.device.type in WIDE_DEVICES
        each = torch.tensor(weights, dtype=torch.float64 if double else torch.float32, device=targets.device)
        return torch.where(counting, each[labels.clamp(0, len(weights) - 1)], 0.0).sum()


def whole(number: Any, like: Tensor) -> Tensor:
    return torch.full((), number, dtype=torch.int64, device=like.device)  # filled there: no copy that waits
