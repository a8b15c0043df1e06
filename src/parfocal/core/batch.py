"""What a call was given, checked and shaped, and what a mean over its losses divides by.

Every adapter has its backend make a `Batch`, and every backend computes from one:

    adapter     the host's arguments and shape rules
    batch       backend.batch(parameters, labels, scores, weight, valid, host): the only place that looks at types,
                shapes, axes and labels
    terms       backend.terms(batch, order, ...): the native kernel, or a law in the library's operations
    adapter     the reduced loss in the host's dtype
"""

from __future__ import annotations

from typing import Any, NamedTuple

from parfocal.core import validation
from parfocal.core.formula import Array, weighted
from parfocal.core.hosts import KERAS, Host
from parfocal.core.validation import Shape

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", None, "none", "mean_with_sample_weight")
BINARY_REDUCTIONS = (*REDUCTIONS, "mean_over_positives")


class Batch(NamedTuple):
    """A batch as its backend computes it.

    Weights and `valid` broadcast to the scores of a binary batch, and have one entry for each row of a softmax batch.
    """

    backend: Any
    binary: bool
    parameters: Any  # Binary or Categorical; None: losses that were computed elsewhere
    labels: Array  # of the scores' shape; class indices of the rows' shape
    scores: Array  # as floats, in the dtype of the loss
    axis: Any  # binary: that a loss is the mean over, None where each element is a loss; else the class axis
    elements: Any  # that a loss is the mean of; a length that may be unknown while a graph is built
    weight: Array | None  # multiplies the losses, or their elements
    valid: Array | None  # which losses, or elements, count; None: all
    dtype: Any  # of the derivatives: that of the caller's scores
    host: Host = KERAS
    gamma: Array | None = None  # in place of the parameters': one that is trained
    alpha: Array | None = None
    source: Any = None  # the caller's scores and labels, where a library watches or differentiates them

    def reduced(self, reduction: str | None, order: int = 0) -> tuple[Array, ...]:
        """The reduced loss, and its gradient and curvature, up to `order`."""
        terms: tuple[Array, ...] = self.backend.terms(
            self, order, self.divisor(reduction), reduction not in (None, "none")
        )
        return terms

    def reduce(self, losses: Array, reduction: str | None, weight: Array = None, valid: Array = None) -> Array:
        """Losses that were computed elsewhere, weighted and reduced."""
        backend, weight = self.backend, self.weight if weight is None else weight
        if valid is not None:
            losses = backend.xp.where(valid, losses, backend.xp.zeros_like(losses))
        if weight is not None:
            losses = weighted(backend.xp, weight, losses)
        if reduction in (None, "none"):
            return losses
        return backend.xp.sum(losses) / backend.number(self.divisor(reduction), losses)

    def total_weight(self, with_weights: bool = True) -> Any:
        """The sum of the weights of the losses that count; without weights their number."""
        backend, weight = self.backend, self.weight
        if weight is None or not with_weights:
            if self.valid is None:
                return backend.count_without(self.scores, self.axis)
            return backend.count_true(self.valid)
        if self.valid is not None:
            weight = backend.xp.where(self.valid, weight, backend.xp.zeros_like(weight))
        # A loss whose elements have weights of their own has their mean.
        by_element = self.binary and self.axis is not None and backend.shape(weight)[self.axis] != 1
        total = backend.xp.sum(weight)
        return total / backend.number(self.elements, total) if by_element else total

    def divisor(self, reduction: str | None) -> Any:
        """What the summed loss is divided by: 1 in place of 0, as there is nothing to average."""
        backend = self.backend
        if reduction in ("sum", None, "none"):
            return 1.0
        if reduction == "mean_over_positives":  # the sum over all elements is `elements` times that of the losses
            positives, elements = backend.positives(self), self.elements
            return positives if type(elements) is int and elements == 1 else positives / elements
        with_weights = self.weight is not None and reduction == "mean_with_sample_weight"
        if self.valid is None and not with_weights:
            return backend.count_or_one(self.scores, self.axis)
        return backend.or_one(self.total_weight(with_weights))


def weight_per_loss(
    backend: Any, weight: Array, losses: Shape, lengths: Any, elements: Shape | None = None, host: Host = KERAS
) -> tuple[Array, bool]:
    """A weight for losses of a given shape; and whether it weighs single elements of a shape `elements` instead.

    Keras's rule: a trailing axis of 1 that only one side has is added or dropped, so that (N, 1) on (N,) stays (N,);
    then each axis is equal or 1.  The losses are never enlarged.  `lengths` is their shape as the library takes it.
    """
    xp, given = backend.xp, backend.shape(weight)
    if elements is not None and validation.fits(given, elements) and not validation.fits(given, losses):
        return weight, True
    shape = given
    if len(given) == len(losses) + 1 and given[-1] == 1:
        shape, weight = given[:-1], xp.squeeze(weight, axis=-1)
    elif len(given) == 1 and len(losses) == 2 and losses[-1] == 1:
        shape, weight = (*given, 1), xp.expand_dims(weight, axis=-1)
    ones = tuple(b if a == 1 else a for a, b in zip(shape, losses, strict=False))
    if shape and (len(shape) != len(losses) or not validation.fits(ones, losses)):
        validation.weight_shape(given, losses, elements, host)
    return xp.broadcast_to(weight, lengths), False


def mask_per_loss(backend: Any, mask: Array, losses: Shape, lengths: Any, host: Host = KERAS) -> Array:
    """A mask for losses of a given shape: one entry for each, or for their leading axes."""
    xp, given = backend.xp, backend.shape(mask)
    shape = given
    if len(given) == len(losses) + 1 and given[-1] == 1:
        shape, mask = given[:-1], xp.squeeze(mask, axis=-1)
    while len(shape) < len(losses):
        shape, mask = (*shape, 1), xp.expand_dims(mask, axis=-1)
    ones = tuple(b if a == 1 else a for a, b in zip(shape, losses, strict=False))
    if len(shape) != len(losses) or not validation.fits(ones, losses):
        raise ValueError(
            f"the mask of {host.scores} has shape {given}, and the losses have {losses}: one entry for each loss"
        )
    return xp.broadcast_to(mask, lengths)
