"""What every library but NumPy has in common: how tensors run the formula, whatever their library.

(a) A loss is a law (laws.py): labels and parameters become its constants here, and terms become results.
(b) `Tensors.stated` makes a law differentiable.  Each library overrides it, registers the law's own slopes there,
    and leaves nothing to automatic differentiation of a `where` or an `abs`.  Labels are constants.
(c) No value is looked at: that would stall an accelerator, and a tracer has none.  Labels that are none, and
    probabilities that cannot be meant, make their own sample NaN.
(d) Half precision is computed in float32, everything else in its own dtype.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from parfocal import config
from parfocal.backends import numpy
from parfocal.core import formula, validation
from parfocal.core.formula import Array, Namespace
from parfocal.core.laws import (
    BinaryLaw,
    DenseSoftmaxLaw,
    HardSoftmaxLaw,
    Law,
    ProbabilitySoftmaxLaw,
    clipped,
    meant,
    nan_unless,
)
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

NARROW = ("bool", "int8", "uint8", "int16", "uint16")


class Rows(NamedTuple):
    """A batch of rows: labels that fit the scores, and where the classes lie."""

    labels: Array  # indices in the shape of the rows, or one label for each score
    axis: int
    valid: Array | None  # which rows count; None: all


class StandardNamespace:
    """A library that has no file here, by the array API standard.

    The standard asks for no digits.  NumPy's exponential of a float32 is off by up to 2.5 units in the last place: the
    same for 100,000 equal classes, so their sum, and the loss by 1.2e-6.  So it is taken in double, where there is one.
    """

    def __init__(self, standard: Namespace) -> None:
        self.standard = standard

    def __getattr__(self, name: str) -> Any:
        return getattr(self.standard, name)

    def exp(self, values: Array) -> Array:
        xp = self.standard
        if values.dtype == xp.float64 or "float64" not in dtypes_on(xp, values.device):
            return xp.exp(values)
        return xp.astype(xp.exp(xp.astype(values, xp.float64)), values.dtype)


def dtypes_on(xp: Namespace, device: Any) -> Collection[str]:
    """What a library says that a device can hold; nothing where it follows a standard from before 2023."""
    if not hasattr(xp, "__array_namespace_info__"):
        return ()
    return xp.__array_namespace_info__().dtypes(device=device, kind="real floating")


class Tensors:
    """The backend of a library, given its namespace: the array API's names, as far as the formula uses them."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    # -- what a library says of itself

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        """A NumPy array as this library's, where `like` lies."""
        return self.xp.asarray(array)

    def is_ours(self, values: Any) -> bool:
        return hasattr(values, "__array_namespace__") and not isinstance(values, np.ndarray)

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """None stands for a length that is not known while a graph is built."""
        return tuple(array.shape)

    def length(self, array: Array, axis: int) -> Any:
        return array.shape[axis]

    def lengths_without(self, array: Array, axis: int | None) -> Any:
        """The shape without an axis, as `broadcast_to` takes it."""
        return tuple(array.shape) if axis is None else validation.without(tuple(array.shape), axis)

    def count_without(self, array: Array, axis: int | None) -> Any:
        """The number of losses."""
        count: Any = 1
        for other in range(len(array.shape)):
            if other != axis:
                count = count * self.length(array, other)
        return count

    def shaped_like(self, term: Array, y_pred: Array) -> Array:
        """A term of scores that may have got an axis."""
        wanted = self.lengths_without(y_pred, None)
        return term if len(self.shape(term)) == len(self.shape(y_pred)) else self.xp.reshape(term, wanted)

    def wide(self, losses: Array) -> Array:
        """Losses as they are summed."""
        return self.working(losses)

    def stated(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> Array:
        """The term of that order; those of order 0 and 1 with the law's own derivatives, if there are derivatives."""
        return law.terms(self.xp, scores, order, *constants)[order]

    def terms(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> list[Array]:
        return [self.stated(law, i, scores, constants) for i in range(order + 1)]

    def stopped(self, array: Array) -> Array:
        """The array as a constant of all derivatives."""
        return array

    def quiet(self) -> AbstractContextManager[Any]:
        """No warnings of what the formula means: log 0, or an exponential that underflows."""
        return np.errstate(all="ignore")

    # -- arrays

    def dtype_named(self, name: str) -> Any:
        try:
            return getattr(self.xp, name)
        except AttributeError:
            raise TypeError(f"the library of y_pred has no dtype {name}") from None

    def kind(self, array: Array) -> str:
        """NumPy's letter for the type of the items, "b", "i", "u" or "f"; "" for what is no real number."""
        name = str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]
        return {"bool": "b", "int": "i", "uint": "u", "float": "f", "bfloat": "f"}.get(name.rstrip("0123456789"), "")

    def checked(self, name: str, array: Array) -> Array:
        if not self.kind(array):
            raise TypeError(f"{name} must hold real numbers; it has dtype {array.dtype}")
        return array

    def companion(self, name: str, values: Any, like: Array) -> Array:
        """Labels or weights as an array of the library and of the place of `like`."""
        if self.is_ours(values):
            return self.checked(name, values)
        return self.from_numpy(numpy.as_array(name, values), like)

    def float_array(self, name: str, values: Any) -> Array:
        """`values` as floats: integers become float32."""
        self.checked(name, values)
        return values if self.kind(values) == "f" else self.xp.astype(values, self.xp.float32)

    def binary_scores(self, y_true: Any, y_pred: Any) -> Array:
        """y_pred as floats with an axis to average over: (N,) beside labels (N, 1) becomes (N, 1), as in Keras."""
        scores = self.float_array("y_pred", y_pred)
        shape = self.shape(scores)
        if not shape:
            return self.xp.reshape(scores, (1,))
        labels = self.shape(y_true) if self.is_ours(y_true) else np.shape(y_true)
        return (
            self.xp.expand_dims(scores, axis=-1) if len(shape) == 1 and validation.fits(labels, (*shape, 1)) else scores
        )

    def cast(self, values: Array, dtype: Any) -> Array:
        dtype = self.dtype_named(dtype) if isinstance(dtype, str) else dtype
        return values if values.dtype == dtype else self.xp.astype(values, dtype)

    def is_double(self, array: Array) -> bool:
        return bool(array.dtype == self.xp.float64)

    def working(self, scores: Array) -> Array:
        """Half precision is computed in float32."""
        return scores if self.is_double(scores) else self.cast(scores, self.xp.float32)

    def weights(self, values: Any, like: Array) -> Array:
        """Sample weights, in the dtype that the losses are computed in."""
        return self.cast(self.companion("sample_weight", values, like), self.working(like).dtype)

    def mean(self, values: Array, axis: int) -> Array:
        """The mean over an axis; the mean of nothing is 0."""
        if self.shape(values)[axis] == 1:
            return self.xp.squeeze(values, axis=axis)
        return self.xp.sum(values, axis=axis) / self.number(self.at_least_one(self.length(values, axis)), values)

    def number(self, value: Any, like: Array) -> Any:
        """A divisor that may be an array, beside `like`."""
        return value

    def at_least_one(self, length: Any) -> Any:
        return max(length, 1)

    def count_true(self, mask: Array) -> Array:
        return self.xp.sum(self.xp.astype(mask, self.xp.float32))

    def or_one(self, total: Any) -> Any:
        """A divisor."""
        return (total or 1.0) if isinstance(total, int | float) else formula.or_one(self.xp, total)

    def positives(self, y_true: Any, like: Array) -> Any:
        """The sum of the labels, at least 1."""
        total = self.xp.sum(self.cast(self.companion("y_true", y_true, like), self.working(like).dtype))
        return self.xp.clip(total, 1.0, None)

    def weighed(
        self, terms: list[Array], weights: tuple[Array, Array] | None, by: Any, total: bool, dtype: Any
    ) -> tuple[Array, ...]:
        loss, *slopes = terms
        by = self.number(by, loss)
        if weights is not None:
            loss = formula.weighted(self.xp, weights[0], loss)
            slopes = [slope * weights[1] for slope in slopes]
        if total:
            loss = self.xp.sum(loss) / by
        return (loss, *(self.cast(slope / by, dtype) for slope in slopes))

    # -- binary

    def binary(
        self,
        parameters: Binary,
        y_true: Any,
        y_pred: Array,
        order: int,
        weights: Array | None = None,
        by: Any = 1.0,
        total: bool = False,
        dtype: Any = None,
    ) -> tuple[Array, ...]:
        """What `backends.numpy.binary` returns, but for the curvature of boosters."""
        scores = self.working(y_pred)
        labels = self.binary_labels(y_true, y_pred)
        hard = self.kind(labels) in "biu"
        y = self.cast(labels, scores.dtype)
        y = nan_unless(self.xp, (y >= 0) & (y <= 1), y)
        terms = self.terms(BinaryLaw(parameters, hard), order, scores, (y,))
        return self.weighed(terms, None if weights is None else (weights, weights), by, total, dtype or y_pred.dtype)

    def binary_labels(self, y_true: Any, y_pred: Array) -> Array:
        """Labels in y_pred's shape; a trailing axis of 1 that only one side has is nobody's mistake."""
        labels = self.companion("y_true", y_true, y_pred)
        shape, given = self.shape(y_pred), self.shape(labels)
        if len(given) == len(shape) + 1 and given[-1] == 1:
            labels = self.xp.squeeze(labels, axis=-1)
        elif len(given) == len(shape) - 1 and shape[-1] == 1:
            labels = self.xp.expand_dims(labels, axis=-1)
        validation.one_shape(self.shape(labels), shape, "binary_focal_crossentropy")
        return labels

    # -- categorical

    def rows(self, parameters: Categorical, y_true: Any, y_pred: Array) -> Rows:
        """The labels of a batch, once shapes and types have been checked."""
        shape = self.shape(y_pred)
        axis = validation.class_axis(parameters, shape, parameters.function)
        labels = self.companion("y_true", y_true, y_pred)
        if not isinstance(parameters, SparseCategorical):
            validation.dense_labels(self.shape(labels), shape, axis)
            return Rows(labels, axis, None)
        one = validation.sparse_labels(self.shape(labels), shape, axis)
        labels = self.indices(labels if one is None else self.xp.squeeze(labels, axis=one))
        ignore = parameters.ignore_class
        return Rows(labels, axis, None if ignore is None else labels != ignore)

    def categorical(
        self,
        parameters: Categorical,
        batch: Rows,
        y_pred: Array,
        order: int,
        weights: Array | None = None,
        by: Any = 1.0,
        total: bool = False,
        dtype: Any = None,
    ) -> tuple[Array, ...]:
        """What `backends.numpy.categorical` returns, but for the curvature of boosters."""
        xp, axis = self.xp, batch.axis
        last = len(self.shape(y_pred)) - 1
        scores = self.working(y_pred)
        scores = scores if axis == last else xp.moveaxis(scores, axis, -1)
        if batch.valid is not None:  # whatever an ignored row holds, it leaves no trace
            scores = xp.where(xp.expand_dims(batch.valid, axis=-1), scores, xp.ones_like(scores))
        law, constants = self.softmax_law(parameters, batch, scores)
        loss, *slopes = self.terms(law, order, scores, constants)
        if axis != last:
            slopes = [xp.moveaxis(slope, -1, axis) for slope in slopes]
        both = None if weights is None else (weights, xp.expand_dims(weights, axis=axis))
        return self.weighed([xp.squeeze(loss, axis=-1), *slopes], both, by, total, dtype or y_pred.dtype)

    def softmax_law(self, parameters: Categorical, batch: Rows, scores: Array) -> tuple[Law, tuple[Array, ...]]:
        """The loss of rows with their classes on the last axis, and its constants."""
        xp, smoothing, gamma = self.xp, parameters.label_smoothing, parameters.gamma
        classes = self.shape(scores)[-1]
        assert classes is not None  # class_axis has seen to that
        gammas = self.per_class(gamma, scores, halved=True) if isinstance(gamma, tuple) else []
        if isinstance(parameters, SparseCategorical):
            target, known = self.one_hot(batch, classes)
            labels = self.cast(target, scores.dtype)
            if not smoothing and parameters.from_logits:
                weight = self.row_weight(parameters, labels, known)
                mixed = [xp.sum(xp.where(target, g, xp.zeros_like(scores)), axis=-1, keepdims=True) for g in gammas]
                return HardSoftmaxLaw(gamma), (target, weight, *mixed)
            labels = nan_unless(xp, known | xp.zeros_like(target), labels)
        else:
            labels = self.cast(batch.labels, scores.dtype)
            labels = labels if batch.axis == len(self.shape(scores)) - 1 else xp.moveaxis(labels, batch.axis, -1)
            labels = nan_unless(xp, (labels >= 0) & (labels <= 1), labels)
        if smoothing:
            labels = labels * (1 - smoothing) + smoothing / self.number(classes, labels)
            if batch.valid is not None:
                labels = xp.where(xp.expand_dims(batch.valid, axis=-1), labels, xp.zeros_like(labels))
        alpha = parameters.alpha
        weight = labels * (self.per_class(alpha, scores)[0] if isinstance(alpha, tuple) else alpha)
        constants = (weight, *(g + xp.zeros_like(scores) for g in gammas))
        if parameters.from_logits:
            return DenseSoftmaxLaw(gamma), constants
        return ProbabilitySoftmaxLaw(gamma, config.epsilon()), constants

    def per_class(self, values: tuple[float, ...], scores: Array, halved: bool = False) -> list[Array]:
        """Numbers along the last axis of `scores`; `halved`, as the two halves of a gamma."""
        columns: Any = [list(values)]
        if halved:
            bits = formula.bits_of(self.xp, scores.dtype)
            columns = zip(*(formula.halves(value, bits) for value in values), strict=True)
        dtype = np.float64 if self.is_double(scores) else np.float32
        return [self.from_numpy(np.asarray(column, dtype=dtype), scores) for column in columns]

    def indices(self, labels: Array) -> Array:
        """Class indices in a type that holds every class, and -1: bytes do not."""
        if self.kind(labels) == "f":
            return self.working(labels)
        narrow = str(getattr(labels.dtype, "name", labels.dtype)).rpartition(".")[2] in NARROW
        return self.xp.astype(labels, self.xp.int32) if narrow else labels

    def one_hot(self, batch: Rows, classes: int) -> tuple[Array, Array]:
        """The true class of each row, none where it is ignored; and whether there is one, or it is ignored."""
        labels = self.xp.expand_dims(batch.labels, axis=-1)
        target = labels == self.cast(self.xp.arange(classes), labels.dtype)
        if batch.valid is None:
            return target, self.xp.any(target, axis=-1, keepdims=True)
        valid = self.xp.expand_dims(batch.valid, axis=-1)
        target = target & valid
        return target, self.xp.any(target, axis=-1, keepdims=True) | ~valid

    def row_weight(self, parameters: Categorical, labels: Array, known: Array) -> Array:
        """The alpha of each row's class; 0 for an ignored row, NaN for a label that is none."""
        alpha = parameters.alpha
        share = labels * (self.per_class(alpha, labels)[0] if isinstance(alpha, tuple) else alpha)
        return nan_unless(self.xp, known, self.xp.sum(share, axis=-1, keepdims=True))

    # -- from scores to probabilities

    def logits(self, parameters: Binary | Categorical, y_pred: Array) -> Array:
        """Scores as logits.  Probabilities are treated as the loss treats them; a softmax's logits are log p."""
        xp, scores = self.xp, self.working(y_pred)
        if isinstance(parameters, Categorical):
            validation.class_axis(parameters, self.shape(y_pred), "posterior")
        if parameters.from_logits:
            return scores
        scores = nan_unless(xp, meant(scores), scores)
        if isinstance(parameters, Categorical):
            scores = scores / xp.sum(scores, axis=parameters.axis, keepdims=True)
            return xp.log(clipped(xp, scores, config.epsilon())[0])
        p, q = clipped(xp, scores, config.epsilon())
        return xp.log(p) - xp.log(q)
