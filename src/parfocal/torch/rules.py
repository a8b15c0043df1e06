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

from parfocal import backends, checks, losses
from parfocal.parameters import Numbers
from parfocal.reduction import total_weight

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
        if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
            no_tensors(inputs, targets)
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
            if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
                no_tensors(inputs, targets)
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
        self.reduction = checks.one_of("reduction", reduction, SIGMOID_REDUCTIONS)
        self.ignore_index = None if ignore_index is None else checks.whole_number("ignore_index", ignore_index)
        alpha = numbers("alpha", alpha)
        if alpha is None or (isinstance(alpha, int | float) and alpha < 0):
            self.alpha = None
        else:
            self.alpha = checks.binary_alpha(alpha)
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
        if weight is not None and not goes_with(weight.shape, shape):
            raise ValueError(
                f"weight must broadcast to the input's shape {tuple(shape)}; got weight {tuple(weight.shape)}"
            )
        count: Any = inputs.numel()
        if self.ignore_index is not None:  # whatever an ignored element holds, it leaves no trace
            valid = targets != self.ignore_index
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
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)
        self.ignore_index = checks.whole_number("ignore_index", ignore_index)
        self.alpha = None if alpha is None else checks.categorical_alpha(numbers("alpha", alpha))
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
                f"weight has {checks.counted(len(self.weight), 'number')} and input has "
                f"{checks.counted(inputs.shape[1], 'class')} on axis 1; give one number for each class"
            )
        if dense and self.ignore_index >= 0:
            raise ValueError(
                f"ignore_index={self.ignore_index} goes with class indices, and target holds probabilities; leave it "
                "out, and give samples that do not count a row of zeros and a normalizer"
            )
        if not dense:
            if targets.dtype.is_floating_point or targets.dtype == torch.bool:
                raise TypeError(f"class indices must be integers; target has dtype {targets.dtype}; use target.long()")
            targets = targets.long()  # as bytes, 156 would be -100, and an index a mask
        backend = backends.find(inputs, y_true=targets)
        inputs = backend.float_array("y_pred", inputs)
        rows = backend.rows(self.dense.parameters if dense else self.loss.parameters, targets, inputs)
        if dense:
            count: Any = inputs.numel() // inputs.shape[1]
        elif self.weight is None:
            count = rows.valid.sum()
            count = count if isinstance(count, Tensor) else int(count)
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


# -- numbers


def numbers(name: str, value: Any) -> Any:
    """What a tensor holds, as Python's own numbers; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim > 1 or value.is_complex():
        raise ValueError(
            f"{name} must be one number, or one per class in one dimension; got a tensor of shape {tuple(value.shape)} "
            f"and dtype {value.dtype}"
        )
    return value.detach().tolist()


def class_weights(value: Any) -> tuple[float, ...]:
    weights = checks.number_or_list("weight", numbers("weight", value))
    if not isinstance(weights, tuple) or not all(0 <= item < float("inf") for item in weights):
        raise ValueError(f"weight must be one number >= 0 for each class, in a tensor or a list; got {value!r}")
    return weights


def product(alpha: Numbers | None, weight: tuple[float, ...] | None) -> Numbers:
    """alpha times weight, class by class."""
    if weight is None:
        return 1.0 if alpha is None else alpha
    if not isinstance(alpha, tuple):
        return weight if alpha is None else tuple(alpha * item for item in weight)
    if len(alpha) != len(weight):
        raise ValueError(
            f"alpha has {checks.counted(len(alpha), 'number')} and weight has {len(weight):,}; give "
            "one per class in both"
        )
    return tuple(a * b for a, b in zip(alpha, weight, strict=True))


def no_normalizer(normalizer: Any) -> None:
    if normalizer is not None:
        raise ValueError(
            "normalizer divides the sum of the losses, and reduction='none' has no sum; use 'sum' or 'mean'"
        )


def given_divisor(backend: Any, normalizer: Any) -> Any:
    """What the caller divides by: a constant, and 1 in place of 0."""
    if isinstance(normalizer, Tensor):
        if normalizer.numel() != 1:
            raise ValueError(f"normalizer must be one number; got a tensor of shape {tuple(normalizer.shape)}")
        normalizer = backend.or_one(normalizer.detach().reshape(()))
    elif not isinstance(normalizer, int | float):
        normalizer = checks.number_or_list("normalizer", normalizer)
    if isinstance(normalizer, Tensor):  # on a device, or traced: not looked at
        return normalizer
    if isinstance(normalizer, tuple) or not 0 <= normalizer < float("inf"):
        raise ValueError(f"normalizer must be one number >= 0, which divides the sum of the losses; got {normalizer!r}")
    return normalizer or 1.0


# -- tensors


def no_tensors(inputs: Any, targets: Any) -> None:
    for name, value in (("input", inputs), ("target", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor; got {type(value).__name__}. Write torch.as_tensor({name}); the "
                "functions of parfocal itself take lists and NumPy arrays."
            )


def goes_with(given: torch.Size, wanted: torch.Size) -> bool:
    """Whether a shape broadcasts to another one without enlarging it."""
    return len(given) <= len(wanted) and all(
        a in (1, b) for a, b in zip(reversed(given), reversed(wanted), strict=False)
    )


def in_its_dtype(loss: Tensor, inputs: Tensor) -> Tensor:
    """Losses of half precision are rounded to it, but not under autocast, where torch's losses are float32 too."""
    if loss.dtype == inputs.dtype or not inputs.is_floating_point():
        return loss
    device = inputs.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return loss
    return loss.to(inputs.dtype)


WORDS = {
    "y_true": "target",
    "y_pred": "input",
    "sample_weight": "weight",
    "ignore_class": "ignore_index",
    "sparse labels": "class indices",
}


def in_torchs_words(error: Exception) -> Exception:
    message = str(error)
    for word, torchs in WORDS.items():
        message = message.replace(word, torchs)
    return error if message == str(error) else type(error)(message)
