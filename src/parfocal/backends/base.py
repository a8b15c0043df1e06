"""What the backends of all libraries share: a `Batch` is made here, and a law runs on it in the library's operations.

(a) `Backend.batch` checks and shapes what a caller gave; `Backend.terms` computes losses and derivatives from it.
(b) A loss is a law (core/laws.py): labels and parameters become its constants here, and terms become results.
(c) `Backend.differentiable_term` gives a law its derivatives.  Each library overrides it and registers the law's own
    slopes; nothing is left to automatic differentiation of a `where` or an `abs`.  Labels are constants.
(d) Values are never read here: that would synchronise the device, and tracers have no values.  Invalid labels or
    probabilities give NaN for that sample only.  NumPy's backend overrides this with errors.
(e) Half precision is computed in float32, everything else in its own dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parfocal import config
from parfocal.backends import trained
from parfocal.backends.arrays import Arrays
from parfocal.core import formula, softmax, validation
from parfocal.core.batch import Batch, mask_per_loss, weight_per_loss
from parfocal.core.formula import Array
from parfocal.core.hosts import KERAS, Host
from parfocal.core.laws import (
    BinaryLaw,
    DenseSoftmaxLaw,
    HardSoftmaxLaw,
    Law,
    ProbabilitySoftmaxLaw,
    clipped,
    nan_unless,
    plausible,
    widened,
)
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

NARROW = ("bool", "int8", "uint8", "int16", "uint16")

# In place of a score that does not count: a possible logit and a possible probability, and no row of it sums to 0.
HARMLESS = 0.5


class Backend(Arrays):
    """The backend of a library."""

    # -- what a call was given

    def batch(
        self,
        parameters: Binary | Categorical,
        labels: Any,
        scores: Any,
        weight: Any = None,
        valid: Any = None,
        host: Host = KERAS,
        dtype: Any = None,
        ignore: int | None = None,
    ) -> Batch:
        """The arguments of a call, checked and shaped.

        weight : of the losses, by Keras's rule, or of the elements; where `host.by_element`, it broadcasts to them.
        valid : booleans; losses where it is False do not count, whatever their labels, scores and weights hold.
        dtype : of the loss; the scores are rounded to it, and float64 logits are then computed in float64.
        ignore : a label of a binary batch, whose elements do not count.
        """
        scores = self.float_array(host.scores, scores)
        if isinstance(parameters, Binary) and not host.by_element:
            scores = self.with_an_axis(labels, scores)
        derivatives = scores.dtype
        if dtype is not None:
            scores = self.rounded(scores, dtype, parameters.from_logits)
        if isinstance(parameters, Binary):
            made = self.binary_batch(parameters, labels, scores, host)
        else:
            made = self.softmax_batch(parameters, labels, scores, host)
        if dtype is not None:
            made = made._replace(dtype=derivatives)
        if weight is not None:
            made = self.with_weight(made, weight)
        if ignore is not None:
            made = self.without_label(made, ignore)
        return made if valid is None else self.with_valid(made, valid)

    def binary_batch(self, parameters: Binary, labels: Any, scores: Array, host: Host) -> Batch:
        labels, axis, elements = self.binary_labels(labels, scores, host), None, 1
        if not host.by_element:
            axis = validation.axis_in_range(parameters.axis, len(self.shape(scores)), host.binary, host.scores)
            elements = self.at_least_one(self.length(scores, axis))
        return Batch(self, True, parameters, labels, scores, axis, elements, None, None, scores.dtype, host)

    def binary_labels(self, labels: Any, scores: Array, host: Host = KERAS) -> Array:
        """Labels in the scores' shape; one side may lack a trailing axis of 1."""
        labels = self.array_like(host.labels, labels, scores)
        shape, given = self.shape(scores), self.shape(labels)
        if len(given) == len(shape) + 1 and given[-1] == 1:
            labels = self.xp.squeeze(labels, axis=-1)
        elif len(given) == len(shape) - 1 and shape[-1] == 1:
            labels = self.xp.expand_dims(labels, axis=-1)
        validation.binary_labels(self.shape(labels), shape, host)
        return labels

    def softmax_batch(self, parameters: Categorical, labels: Any, scores: Array, host: Host) -> Batch:
        shape, sparse = self.shape(scores), isinstance(parameters, SparseCategorical)
        axis = validation.class_axis(parameters, shape, host.sparse if sparse else host.dense, host)
        labels, valid = self.array_like(host.labels, labels, scores), None
        if isinstance(parameters, SparseCategorical):
            one = validation.sparse_labels(self.shape(labels), shape, axis, host)
            labels = self.indices(labels if one is None else self.xp.squeeze(labels, axis=one))
            valid = None if parameters.ignore_class is None else self.counting(labels, parameters.ignore_class)
        else:
            validation.dense_labels(self.shape(labels), shape, axis, host)
        return Batch(self, False, parameters, labels, scores, axis, 1, None, valid, scores.dtype, host)

    def counting(self, labels: Array, ignore: int) -> Array:
        """Which rows count."""
        return labels != ignore

    def indices(self, labels: Array) -> Array:
        """Class indices in a type that holds every class, and -1: bytes do not."""
        if self.kind(labels) == "f":
            return self.working(labels)
        narrow = str(getattr(labels.dtype, "name", labels.dtype)).rpartition(".")[2] in NARROW
        return self.xp.astype(labels, self.xp.int32) if narrow else labels

    def with_an_axis(self, labels: Any, scores: Array) -> Array:
        """Scores with an axis to average over: (N,) beside labels (N, 1) becomes (N, 1), as in Keras."""
        shape = self.shape(scores)
        if len(shape) > 1:
            return scores
        if not shape:
            return self.xp.reshape(scores, (1,))
        given = self.shape(labels) if self.owns(labels) else np.shape(labels)
        return self.xp.expand_dims(scores, axis=-1) if validation.fits(given, (*shape, 1)) else scores

    def with_weight(self, batch: Batch, weight: Any) -> Batch:
        weight, axis = self.weights(weight, batch.scores, batch.host), batch.axis
        if axis is None:
            return batch._replace(weight=weight)
        shape, lengths = self.shape(batch.scores), self.lengths_without(batch.scores, axis)
        losses, elements = validation.without(shape, axis), shape if batch.binary else None
        weight, by_element = weight_per_loss(self, weight, losses, lengths, elements, batch.host)
        if batch.binary and not by_element:
            weight = self.xp.expand_dims(weight, axis=axis)
        if not batch.binary and batch.valid is not None:
            weight = self.xp.where(batch.valid, weight, 0.0)
        return batch._replace(weight=weight)

    def with_valid(self, batch: Batch, valid: Any) -> Batch:
        """Losses that do not count get harmless scores and labels, and no weight: 0 times NaN is NaN."""
        xp, axis, scores, labels = self.xp, batch.axis, batch.scores, batch.labels
        valid = self.array_like("the mask", valid, scores)
        valid = valid if self.kind(valid) == "b" else valid != 0
        entries = valid
        if axis is not None:
            losses, lengths = validation.without(self.shape(scores), axis), self.lengths_without(scores, axis)
            valid = mask_per_loss(self, valid, losses, lengths, batch.host)
            entries = xp.expand_dims(valid, axis=axis)
            valid = entries if batch.binary else valid
        sparse = isinstance(batch.parameters, SparseCategorical)
        labels = xp.where(valid if sparse else entries, labels, xp.zeros_like(labels))
        scores = xp.where(entries, scores, xp.full_like(scores, HARMLESS))
        weight = xp.astype(valid, self.working_dtype(scores))
        if batch.weight is not None:
            weight = xp.where(valid, batch.weight, 0.0)
        counting = valid if batch.valid is None else valid & batch.valid
        return batch._replace(labels=labels, scores=scores, weight=weight, valid=counting)

    def without_label(self, batch: Batch, ignore: int) -> Batch:
        return self.with_valid(batch, self.counting(batch.labels, ignore))

    # -- losses and derivatives

    def terms(
        self,
        batch: Batch,
        order: int,
        divisor: Any = 1.0,
        summed: bool = False,
        dtype: Any = None,
        boosting: bool = False,
    ) -> tuple[Array, ...]:
        """The loss of every sample, then gradient and curvature in the scores' shape, up to `order`.

        divisor : of gradient and curvature, and of the losses where they are summed.
        summed : the sum of the losses in place of the losses.
        dtype : of gradient and curvature, by default that of the caller's scores.
        boosting : the curvature that boosters divide by, in place of the exact one.
        """
        dtype, axis = batch.dtype if dtype is None else dtype, batch.axis
        if axis is None or not batch.binary:
            return self.computed(batch, order, divisor, summed, dtype, boosting)
        summed = summed or len(batch.scores.shape) == 1  # a single loss is the sum in the same pass
        terms = self.computed(batch, order, divisor * batch.elements, summed, dtype, boosting)
        return terms if summed else (self.mean(terms[0], axis), *terms[1:])

    def computed(
        self, batch: Batch, order: int, divisor: Any, summed: bool, dtype: Any, boosting: bool
    ) -> tuple[Array, ...]:
        """`terms`, but a binary batch has a loss for each element."""
        xp, weight, slope_weight = self.xp, batch.weight, batch.weight
        if batch.gamma is not None or batch.alpha is not None:
            loss, slopes = trained.losses(self, batch), []
        else:
            loss, *slopes = self.all_terms(*self.law(batch, boosting), order)
        if not batch.binary:
            loss = xp.squeeze(loss, axis=-1)
            if batch.axis != len(batch.scores.shape) - 1:
                slopes = [xp.moveaxis(slope, -1, batch.axis) for slope in slopes]
            slope_weight = None if weight is None else xp.expand_dims(weight, axis=batch.axis)
        divisor = self.number(divisor, loss)
        if weight is not None:
            loss = formula.weighted(xp, weight, loss)
            slopes = [slope * slope_weight for slope in slopes]
        if summed:
            loss = over(xp.sum(loss), divisor)
        return (loss, *(self.cast(over(slope, divisor), dtype) for slope in slopes))

    def law(self, batch: Batch, boosting: bool = False) -> tuple[Law, Array, tuple[Array, ...]]:
        """The loss as a law, the scores with any classes on the last axis, and the law's constants."""
        xp, parameters = self.xp, batch.parameters
        scores = self.law_scores(batch)
        if isinstance(parameters, Binary):
            y = self.cast(batch.labels, self.working_dtype(scores))
            hard = self.are_hard(batch.labels)
            return BinaryLaw(parameters, hard, boosting), scores, (self.known_labels(batch, y),)
        last = len(scores.shape) - 1
        scores = scores if batch.axis == last else xp.moveaxis(scores, batch.axis, -1)
        if batch.valid is not None:  # whatever the scores of an ignored row hold, they have no effect
            scores = xp.where(xp.expand_dims(batch.valid, axis=-1), scores, 1.0)
        law, constants = self.softmax_law(parameters, batch, scores, boosting)
        return law, scores, constants

    def law_scores(self, batch: Batch) -> Array:
        """The scores in the dtype that a law begins with."""
        return self.working(batch.scores)

    def are_hard(self, labels: Array) -> bool:
        """Whether binary labels are known to be 0 or 1."""
        return self.kind(labels) in "biu"

    def known_labels(self, batch: Batch, labels: Array) -> Array:
        """Labels that a law may be given: one of a binary loss makes an invalid label NaN itself."""
        return labels if batch.binary else formula.only_labels(self.xp, labels)

    def softmax_law(
        self, parameters: Categorical, batch: Batch, scores: Array, boosting: bool
    ) -> tuple[Law, tuple[Array, ...]]:
        """The loss of rows with their classes on the last axis, and its constants."""
        xp, smoothing, gamma = self.xp, parameters.label_smoothing, parameters.gamma
        classes = scores.shape[-1]
        assert classes is not None  # class_axis has seen to that
        gammas = self.per_class(gamma, scores, halved=True) if isinstance(gamma, tuple) else []
        if isinstance(parameters, SparseCategorical):
            target, found, known = self.targets(batch, classes)
            if not smoothing and parameters.from_logits:
                weight = nan_unless(xp, known, self.row_weight(parameters, target, found, scores))
                mixed = [self.of_target(target, g) for g in gammas]
                return HardSoftmaxLaw(gamma, boosting), (target, weight, *mixed)
            labels = nan_unless(xp, known, self.cast(self.mask(target, classes), self.working_dtype(scores)))
        else:
            labels = self.cast(batch.labels, self.working_dtype(scores))
            labels = labels if batch.axis == len(scores.shape) - 1 else xp.moveaxis(labels, batch.axis, -1)
            labels = self.known_labels(batch, labels)
        if smoothing:
            labels = labels * (1 - smoothing) + smoothing / self.number(classes, labels)
            if batch.valid is not None:
                labels = xp.where(xp.expand_dims(batch.valid, axis=-1), labels, 0.0)
        weight = times(labels, self.alpha(parameters, scores))
        constants = (weight, *(g + xp.zeros_like(scores) for g in gammas))
        if parameters.from_logits:
            return DenseSoftmaxLaw(gamma), constants
        return ProbabilitySoftmaxLaw(gamma, config.epsilon()), constants

    def per_class(self, values: tuple[float, ...], scores: Array, halved: bool = False) -> list[Array]:
        """Numbers along the last axis of `scores`; `halved`, as the two halves of a gamma."""
        columns: Any = [list(values)]
        bits = formula.bits_of(self.xp, self.working_dtype(scores))
        if halved:
            columns = zip(*(formula.halves(value, bits) for value in values), strict=True)
        dtype = np.float64 if bits == 53 else np.float32
        return [self.from_numpy(np.asarray(column, dtype=dtype), scores) for column in columns]

    def targets(self, batch: Batch, classes: int) -> tuple[Array, Array, Array]:
        """The true class of each row, none where it is ignored; whether there is one; and that, or it is ignored.

        The class is a one-hot mask here.
        """
        labels = self.xp.expand_dims(batch.labels, axis=-1)
        target = labels == self.cast(self.xp.arange(classes), labels.dtype)
        if self.kind(labels) == "f":
            found = self.xp.any(target, axis=-1, keepdims=True)
        else:
            found = (labels >= 0) & (labels < classes)
        if batch.valid is None:
            return target, found, found
        valid = self.xp.expand_dims(batch.valid, axis=-1)
        target = target & valid
        return target, found & valid, found | ~valid

    def row_weight(self, parameters: Categorical, target: Array, found: Array, scores: Array) -> Array:
        """The alpha of each row's class; 0 for a row without one."""
        alpha = self.alpha(parameters, scores)
        if isinstance(parameters.alpha, tuple):
            return self.xp.where(found, self.of_target(target, alpha), 0.0)
        return times(self.cast(found, self.working_dtype(scores)), alpha)

    def mask(self, target: Array, classes: int) -> Array:
        """The true class of each row as a one-hot mask."""
        return target

    def of_target(self, target: Array, values: Array) -> Array:
        """The value of the true class of each row; where there is none, any."""
        return softmax.of_target(self.xp, target, values)

    def alpha(self, parameters: Categorical, scores: Array) -> Any:
        alpha = parameters.alpha
        return self.per_class(alpha, scores)[0] if isinstance(alpha, tuple) else alpha

    def all_terms(self, law: Law, scores: Array, constants: tuple[Array, ...], order: int) -> list[Array]:
        return [self.differentiable_term(law, i, scores, constants) for i in range(order + 1)]

    def differentiable_term(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> Array:
        """The term of that order; those of order 0 and 1 with the law's own derivatives, if there are derivatives."""
        return law.terms(self.xp, scores, order, *constants)[order]

    # -- from scores to probabilities

    def logits(self, parameters: Binary | Categorical, scores: Array, host: Host = KERAS) -> Array:
        """Scores as logits.  Probabilities are treated as the loss treats them; a softmax's logits are log p."""
        xp, softmax = self.xp, isinstance(parameters, Categorical)
        if softmax:
            validation.class_axis(parameters, self.shape(scores), "posterior", host)
        if parameters.from_logits:
            return self.working(scores)
        scores = self.probabilities(scores, parameters.axis if softmax else None, host)
        p, q = widened(xp, *clipped(xp, scores, config.epsilon()))
        return xp.log(p) if softmax else xp.log(p) - xp.log(q)

    def probabilities(self, scores: Array, axis: int | None, host: Host = KERAS) -> Array:
        """Probabilities as their library rounds them, divided by their sum over an axis, if there is one."""
        scores = self.working(scores)
        scores = nan_unless(self.xp, plausible(scores), scores)
        return scores if axis is None else scores / self.xp.sum(scores, axis=axis, keepdims=True)


def is_one(number: Any) -> bool:
    """Whether it is Python's 1: run one by one, a product with it is an operation, too."""
    return isinstance(number, int | float) and number == 1


def times(values: Array, factor: Any) -> Array:
    return values if is_one(factor) else values * factor


def over(values: Array, divisor: Any) -> Array:
    return values if is_one(divisor) else values / divisor
