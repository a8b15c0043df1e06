"""A loss in torch's terms: what was asked for, checked once; then batches, what their mean divides by, and the sum.

(a) A `Rule` holds the loss object whose parameters the backends read: a call checks only what it is given.
(b) Numbers per class are Python's: reading them from a tensor on a device would wait for it at each call.
(c) The backends speak of y_true and y_pred.  Their errors are told again in torch's words (`in_torchs_words`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from parfocal import backends, losses
from parfocal.core import validation
from parfocal.core.batch import total_weight
from parfocal.core.parameters import Numbers
from parfocal.torch.arguments import (
    check_tensor,
    class_weights,
    element_weights,
    given_divisor,
    goes_with,
    in_its_dtype,
    in_torchs_words,
    index,
    no_normalizer,
    numbers,
    product,
)

REDUCTIONS = ("mean", "sum", "none")
SIGMOID_REDUCTIONS = (*REDUCTIONS, "mean_over_positives")


class Batch(NamedTuple):
    """A batch as the backend takes it."""

    backend: Any
    inputs: Tensor
    targets: Any
    weights: Any  # of the elements or samples; None: all 1
    count: Any  # what the mean divides the sum by


class Rule:
    """What the two losses share: reductions, and the way through a backend."""

    loss: losses.FocalLoss
    alpha: Numbers | None
    reduction: str
    dimensions = 1  # that inputs with several losses have

    def __call__(self, inputs: Tensor, targets: Tensor, weight: Tensor | None = None, normalizer: Any = None) -> Tensor:
        """The reduced loss, in the dtype that torch's own would have."""
        try:
            return self.reduced(inputs, targets, weight, normalizer)
        except (TypeError, ValueError) as error:
            raise in_torchs_words(error) from None

    def reduced(self, inputs: Tensor, targets: Tensor, weight: Tensor | None, normalizer: Any) -> Tensor:
        check_tensor("input", inputs)
        check_tensor("target", targets)
        batch = self.batch(inputs, targets, weight)
        if self.reduction == "none":
            no_normalizer(normalizer)
            loss = self.computed(batch, 1.0, total=False)
            return in_its_dtype(loss if inputs.ndim >= self.dimensions else loss.reshape(()), inputs)
        by = self.divisor(batch) if normalizer is None else given_divisor(batch.backend, normalizer)
        return in_its_dtype(self.computed(batch, by, total=True), inputs)

    def sum_and_count(self, inputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What a mean over several batches adds up: its numerator and its denominator."""
        try:
            check_tensor("input", inputs)
            check_tensor("target", targets)
            batch = self.batch(inputs, targets, weight)
            return self.computed(batch, 1.0, total=True), self.count(batch, targets)
        except (TypeError, ValueError) as error:
            raise in_torchs_words(error) from None

    def divisor(self, batch: Batch) -> Any:
        if self.reduction == "sum":
            return 1.0
        return batch.backend.or_one(batch.count) if isinstance(batch.count, Tensor) else batch.count or 1.0

    def count(self, batch: Batch, targets: Tensor) -> Tensor:
        """What the mean divides by before a 0 becomes 1: a tensor on the targets' device, exact where it counts."""
        count = batch.count
        if isinstance(count, Tensor):
            return count.to(targets.device)
        dtype = torch.promote_types(batch.inputs.dtype, torch.float32) if isinstance(count, float) else torch.int64
        return torch.full((), count, dtype=dtype, device=targets.device)  # filled there: no copy that waits

    def never_zero(self, count: Tensor) -> Tensor:
        """A count as a divisor."""
        return torch.where(count == 0, 1, count)

    def batch(self, inputs: Tensor, targets: Tensor, weight: Tensor | None) -> Batch:
        """What a call was given, checked and brought into shape."""
        raise NotImplementedError

    def computed(self, batch: Batch, by: Any, total: bool) -> Tensor:
        """The sum of the losses divided by `by`, or each loss."""
        raise NotImplementedError


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
        alpha = numbers("alpha", alpha)
        if alpha is None or (isinstance(alpha, int | float) and alpha < 0):
            self.alpha = None
        else:
            self.alpha = validation.binary_alpha(alpha)
        self.loss = losses.BinaryFocalCrossentropy(
            self.alpha is not None,
            0.25 if self.alpha is None else self.alpha,
            numbers("gamma", gamma),
            from_logits=True,
            label_smoothing=label_smoothing,
            soft_labels=soft_labels,
        )

    def batch(self, inputs: Tensor, targets: Tensor, weight: Tensor | None) -> Batch:
        shape = inputs.shape
        if targets.shape != shape:
            raise ValueError(
                f"input and target must have one shape; got input {tuple(shape)} and target {tuple(targets.shape)}. "
                "Where an axis of 1 is too many or missing, write target.view_as(input). For class indices use "
                "softmax_focal_loss or SoftmaxFocalLoss."
            )
        weight = None if weight is None else element_weights(weight, inputs)
        if weight is not None and not goes_with(weight.shape, shape):
            raise ValueError(
                f"weight must broadcast to the input's shape {tuple(shape)}; got weight {tuple(weight.shape)}"
            )
        count: Any = inputs.numel()
        if self.ignore_index is not None:  # whatever an ignored element holds, it leaves no trace
            kind = targets.dtype
            # -1 as a byte is 255, and 256 is 0: integers are compared as they are.
            whole = not kind.is_floating_point and not kind.is_complex and kind != torch.bool
            valid = (targets.long() if whole else targets) != self.ignore_index
            count = valid.sum()
            inputs, targets = torch.where(valid, inputs, 0), torch.where(valid, targets, 0)
            weight = valid.to(torch.float32) if weight is None else torch.where(valid, weight, 0)
        backend = backends.find(inputs, y_true=targets, sample_weight=weight)
        inputs = backend.float_array("y_pred", inputs)
        return Batch(backend, inputs, targets, None if weight is None else backend.weights(weight, inputs), count)

    def divisor(self, batch: Batch) -> Any:
        if self.reduction == "mean_over_positives":
            return batch.backend.positives(batch.targets, batch.inputs)
        return super().divisor(batch)

    def count(self, batch: Batch, targets: Tensor) -> Tensor:
        if self.reduction == "mean_over_positives":
            labels = batch.targets  # 0 where they are ignored
            floating = labels.is_floating_point()
            return labels.sum(dtype=torch.promote_types(labels.dtype, torch.float32) if floating else torch.int64)
        return super().count(batch, targets)

    def never_zero(self, count: Tensor) -> Tensor:
        return count.clamp(min=1) if self.reduction == "mean_over_positives" else super().never_zero(count)

    def computed(self, batch: Batch, by: Any, total: bool) -> Tensor:
        backend, inputs, targets, weights, _ = batch
        return backend.binary(self.loss.parameters, targets, inputs, 0, weights, by, total)[0]


class SoftmaxRule(Rule):
    dimensions = 2

    def __init__(
        self, alpha: Any, gamma: Any, reduction: str, weight: Any, ignore_index: int, label_smoothing: float
    ) -> None:
        self.reduction = validation.one_of("reduction", reduction, REDUCTIONS)
        self.ignore_index = index("ignore_index", ignore_index)
        self.alpha = None if alpha is None else validation.categorical_alpha(numbers("alpha", alpha))
        self.weight = None if weight is None else class_weights(weight)
        factors, gamma = product(self.alpha, self.weight), numbers("gamma", gamma)
        # Classes lie on axis 1, as in cross_entropy; a single sample gets a batch axis.
        self.loss: losses.SparseCategoricalFocalCrossentropy = losses.SparseCategoricalFocalCrossentropy(
            factors, gamma, True, label_smoothing, self.ignore_index, axis=1
        )
        self.dense = losses.CategoricalFocalCrossentropy(factors, gamma, True, label_smoothing, axis=1)

    def batch(self, inputs: Tensor, targets: Tensor, weight: Tensor | None) -> Batch:
        shape, given = inputs.shape, targets.shape
        dense = given == shape
        if not dense and given != shape[:1] + shape[2:] and not (len(shape) == 1 and not given):
            raise ValueError(
                f"for input {tuple(shape)}, classes on axis 1, target must hold class indices of shape "
                f"{tuple(shape[:1] + shape[2:]) if len(shape) > 1 else ()} or probabilities of the input's shape; got "
                f"target {tuple(given)}. For one score per label use sigmoid_focal_loss or SigmoidFocalLoss."
            )
        if len(shape) < 2:  # (C,)
            inputs, targets = inputs.reshape(1, -1), targets.reshape(1, -1) if dense else targets.reshape(1)
        if inputs.shape[1] < 2:
            raise ValueError(
                f"softmax needs at least 2 classes on axis 1; input has shape {tuple(shape)}. For one score per label "
                "use sigmoid_focal_loss or SigmoidFocalLoss."
            )
        if self.weight is not None and len(self.weight) != inputs.shape[1]:
            raise ValueError(
                f"weight has {validation.counted(len(self.weight), 'number')} and input has "
                f"{validation.counted(inputs.shape[1], 'class')} on axis 1; give one number for each class"
            )
        if dense and self.ignore_index >= 0:
            raise ValueError(
                f"ignore_index={self.ignore_index} goes with class indices, and target holds probabilities; leave it "
                "out, and give samples that do not count a row of zeros and a normalizer"
            )
        if not dense:
            if targets.dtype.is_floating_point or targets.dtype.is_complex or targets.dtype == torch.bool:
                raise TypeError(f"class indices must be integers; target has dtype {targets.dtype}; use target.long()")
            targets = targets.long()  # as bytes, 156 would be -100, and an index a mask
        backend = backends.find(inputs, y_true=targets)
        inputs = backend.float_array("y_pred", inputs)
        rows = backend.rows(self.dense.parameters if dense else self.loss.parameters, targets, inputs)
        if dense:
            count: Any = inputs.numel() // inputs.shape[1]
        elif self.weight is None:
            count = rows.valid.sum() if isinstance(rows.valid, Tensor) else int(backend.count_true(rows.valid))
        else:
            count = total_weight(backend, None, self.weight_of(backend, rows.labels, inputs), rows.valid)
        return Batch(backend, inputs, rows, None, count)

    def weight_of(self, backend: Any, labels: Any, inputs: Tensor) -> Any:
        """The weight of each sample's class; of an index that is none, any: its loss is an error, or NaN."""
        assert self.weight is not None
        if backend.xp is np:
            return np.take(self.weight, labels, mode="clip")
        return backend.per_class(self.weight, inputs)[0][labels.clamp(0, len(self.weight) - 1)]

    def computed(self, batch: Batch, by: Any, total: bool) -> Tensor:
        backend, inputs, rows, _, _ = batch
        loss = self.loss if rows.labels.ndim < inputs.ndim else self.dense
        return backend.categorical(loss.parameters, rows, inputs, 0, None, by, total)[0]
