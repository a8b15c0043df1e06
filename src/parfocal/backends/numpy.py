"""How NumPy arrays are computed: logits by the native kernel, or by the formula in NumPy; probabilities by the latter.

Here logits of every dtype are computed in float64, which costs NumPy little and rounds once, at the end.  Given
probabilities are normalised, clipped and subtracted from 1 in the dtype they came in, in Keras's order: the digits in
Keras's documentation come out only so.  Labels are checked here, in the open, where a check can stall nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from parfocal import config
from parfocal.backends import kernel, native
from parfocal.core import formula, probability, softmax, validation
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

Terms = tuple[np.ndarray, ...]
Results = tuple[Any, ...]  # terms, or the sum of the first and the others

FLOAT64 = np.dtype(np.float64)
xp = np  # the namespace of labels and weights

# What needs no second look.
USUAL = frozenset(np.dtype(name) for name in ("bool", "int32", "int64", "uint8", "float16", "float32", "float64"))

# Elements at a time.  The formula makes some forty temporaries; at 2^14 float64 they stay in a 1 MB cache.  Gradient
# and curvature of 252,000 margins: 52 ns each at 2^13 and 2^14, 58 at 2^12, 133 at 2^15, 143 in one piece.
BLOCK = 1 << 14


def as_array(name: str, values: Any) -> np.ndarray:
    """`values` as an array of real numbers; nothing is copied that need not be."""
    if type(values) is np.ndarray and values.dtype in USUAL:
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; leave samples out with sample_weight=0, or with ignore_class")
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name} is not a rectangular array: {error}") from None
    validation.is_real(name, array)
    return array


def float_array(name: str, values: Any) -> np.ndarray:
    """`values` as floats: lists and integers become float64."""
    array = as_array(name, values)
    return array.astype(np.float64) if array.dtype.kind in "biu" else array


def binary_scores(y_true: Any, y_pred: Any) -> np.ndarray:
    """y_pred as floats with an axis to average over: scores (N,) beside labels (N, 1) become (N, 1), as in Keras."""
    scores = float_array("y_pred", y_pred)
    if scores.ndim > 1 or scores.shape == getattr(y_true, "shape", None) != ():
        return scores
    if scores.ndim == 0 or as_array("y_true", y_true).shape == (*scores.shape, 1):
        return scores[..., None]
    return scores


def weights(values: Any, like: Any) -> np.ndarray:
    """Sample weights as float64."""
    return as_array("sample_weight", values).astype(np.float64)


def positives(y_true: Any, like: Any) -> float:
    """The sum of the labels, at least 1."""
    return max(1.0, float(np.sum(as_array("y_true", y_true), dtype=np.float64)))


def shape(array: np.ndarray) -> tuple[int, ...]:
    return array.shape


def length(array: np.ndarray, axis: int) -> int:
    return array.shape[axis]


def lengths_without(array: Any, axis: int | None) -> tuple[int, ...]:
    """The shape without an axis, as `broadcast_to` takes it."""
    return array.shape if axis is None else (*array.shape[:axis], *array.shape[axis + 1 :])


def count_without(array: Any, axis: int | None) -> int:
    """The number of losses."""
    return math.prod(lengths_without(array, axis))


def count_true(mask: np.ndarray) -> float:
    return float(np.count_nonzero(mask))


def at_least_one(length: int) -> int:
    return max(length, 1)


def stopped(array: np.ndarray) -> np.ndarray:
    return array


def quiet() -> AbstractContextManager[Any]:
    return np.errstate(all="ignore")


def wide(losses: Any) -> np.ndarray:
    """Losses as they are summed: in float64."""
    return np.asarray(losses, dtype=np.float64)


def shaped_like(term: np.ndarray, y_pred: Any) -> np.ndarray:
    """A term of scores that may have got an axis."""
    shape = y_pred.shape if isinstance(y_pred, np.ndarray) else np.shape(y_pred)
    return term if term.shape == shape else term.reshape(shape)


def companion(name: str, values: Any, like: np.ndarray) -> np.ndarray:
    return as_array(name, values)


def or_one(total: float) -> float:
    return float(total) or 1.0


def number(value: Any, like: Any) -> Any:
    """A divisor beside `like`."""
    return value


def is_double(array: np.ndarray) -> bool:
    return array.dtype.itemsize == 8


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean over an axis; the mean of nothing is 0."""
    if values.shape[axis] == 1:
        return values.squeeze(axis)
    return values.sum(axis=axis, dtype=np.float64) / max(values.shape[axis], 1)


@functools.cache
def dtype_named(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        raise TypeError(f"NumPy has no {name} of its own; install ml_dtypes and import it, or use float32") from None


def cast(values: Any, dtype: str | np.dtype) -> Any:
    """An array or a number in another dtype, the array itself where it has it; what is too large becomes infinite."""
    if isinstance(dtype, str):
        dtype = dtype_named(dtype)
    if isinstance(values, float) and -6e4 < values < 6e4:
        return dtype.type(values)
    if not isinstance(values, np.ndarray):
        values = np.asarray(values)
    elif values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(dtype)[()]


def logits(parameters: Binary | Categorical, y_pred: np.ndarray) -> np.ndarray:
    """Scores as float64 logits.  Probabilities are treated as the loss treats them; a softmax's logits are log p."""
    if isinstance(parameters, Categorical):
        validation.class_axis(parameters, y_pred.shape, "posterior")
    if parameters.from_logits:
        return y_pred.astype(np.float64)
    validation.probabilities_in_unit_interval(y_pred)
    scores = working(y_pred)
    if isinstance(parameters, Categorical):
        sums = scores.sum(axis=parameters.axis, keepdims=True)
        validation.rows_have_a_sum(sums)
        return np.log(clipped(scores / sums)[0])
    p, q = clipped(scores)
    return np.log(p) - np.log(q)


def working(probabilities: np.ndarray) -> np.ndarray:
    """Half precision is computed in float32."""
    return probabilities.astype(np.float32) if probabilities.dtype.itemsize < 4 else probabilities


def clipped(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p clipped to [epsilon, 1 - epsilon], and 1 - p as it is rounded in p's own dtype; both then in float64."""
    dtype = probabilities.dtype.type
    epsilon = max(config.epsilon(), float(np.finfo(dtype).epsneg))  # or 1 - epsilon would be 1
    p = np.clip(probabilities, dtype(epsilon), dtype(1) - dtype(epsilon))
    return p.astype(np.float64), (1 - p).astype(np.float64)


def blockwise(compute: Callable[..., Terms], *arrays: np.ndarray) -> Terms:
    """compute(*arrays), on pieces of the leading axis that stay in cache."""
    rows = max(1, BLOCK // max(1, math.prod(arrays[0].shape[1:])))
    with np.errstate(all="ignore"):
        if len(arrays[0]) <= rows:
            return compute(*arrays)
        starts = range(0, len(arrays[0]), rows)
        pieces = [compute(*(array[start : start + rows] for array in arrays)) for start in starts]
    return tuple(np.concatenate(term) for term in zip(*pieces, strict=True))


def weighed(terms: Terms, weights: tuple[np.ndarray, np.ndarray] | None, by: float, total: bool, dtype: Any) -> Results:
    """Terms times the weights of losses and slopes; the losses summed, if asked for, and the slopes divided."""
    loss, *slopes = terms
    if weights is not None:
        with np.errstate(invalid="ignore"):  # a weight of 0 on an infinite loss
            loss = formula.weighted(np, weights[0], loss)
        slopes = [slope * weights[1] for slope in slopes]
    return (loss.sum() / by if total else loss, *(cast(slope / by, dtype) for slope in slopes))


# -- binary


def binary(
    parameters: Binary,
    y_true: Any,
    y_pred: np.ndarray,
    order: int,
    weights: np.ndarray | None = None,
    by: float = 1.0,
    total: bool = False,
    dtype: np.dtype = FLOAT64,
    positive: bool = False,
    cotangent: np.ndarray | None = None,
    threads: int = 0,
) -> Results:
    """Loss, gradient and curvature of every element, up to `order`, in y_pred's shape; with `total` the losses' sum.

    `weights` broadcast to the elements and multiply all terms; gradient and curvature, and the sum, are divided by
    `by`; gradient and curvature are of type `dtype`.  `positive` asks for the curvature that boosters divide by.
    `cotangent`, one for each element, multiplies gradient and curvature.  `threads` are the kernel's, 0 for all.
    """
    labels = binary_labels(y_true, y_pred)
    if parameters.from_logits and not parameters.scheduled and (module := kernel.module()):
        return native.binary(
            module, parameters, labels, y_pred, order, weights, by, total, dtype, positive, cotangent, threads
        )
    labels = labels.astype(np.float64)
    validation.labels_in_unit_interval(labels)
    if not parameters.from_logits:
        validation.probabilities_in_unit_interval(y_pred)
    compute = partial(binary_from_logits, positive) if parameters.from_logits else binary_from_probabilities
    terms = blockwise(partial(compute, parameters, order), y_pred.reshape(-1), labels.reshape(-1))
    terms = tuple(term.reshape(y_pred.shape) for term in terms)
    if cotangent is not None:
        terms = (terms[0], *(term * cotangent for term in terms[1:]))
    return weighed(terms, None if weights is None else (weights, weights), by, total, dtype)


def binary_labels(y_true: Any, y_pred: Any) -> np.ndarray:
    """Labels in y_pred's shape; a trailing axis of 1 that only one side has is nobody's mistake."""
    labels = as_array("y_true", y_true)
    if labels.shape == y_pred.shape:
        return labels
    shape = tuple(y_pred.shape)
    if labels.shape == (*shape, 1) or (*labels.shape, 1) == shape:
        return labels.reshape(shape)
    validation.one_shape(labels.shape, shape, "binary_focal_crossentropy")
    return labels


def binary_from_logits(positive: bool, parameters: Binary, order: int, y_pred: np.ndarray, y: np.ndarray) -> Terms:
    x = y_pred.astype(np.float64)
    gamma_0, gamma_1 = parameters.gammas
    w_0, w_1 = parameters.weights
    if not parameters.label_smoothing and ((y == 0) | (y == 1)).all():
        gamma = gamma_1 if gamma_0 == gamma_1 else np.where(y == 1, gamma_1, gamma_0)
        return formula.binary_hard(np, x, y, gamma, w_1, w_0, order, positive)
    y_1, y_0 = formula.shares(y, parameters.label_smoothing)
    if parameters.soft_labels == "expected":
        return formula.binary_expected(np, x, y_1, y_0, gamma_1, gamma_0, w_1, w_0, order, positive)
    validation.gamma_pair_with_soft_labels(parameters.soft_labels, parameters.gamma)
    terms = formula.binary_linear(np, x, y_1, y_0, gamma_1, w_1, w_0, order)
    if positive:  # the rule "linear" has no positive part of its own
        terms = (*terms[:2], formula.binary_expected(np, x, y_1, y_0, gamma_1, gamma_0, w_1, w_0, order, positive)[2])
    return terms


def binary_from_probabilities(parameters: Binary, order: int, y_pred: np.ndarray, y: np.ndarray) -> Terms:
    p, q = clipped(working(y_pred))
    gamma_0, gamma_1 = parameters.gammas
    w_0, w_1 = parameters.weights
    y_1, y_0 = formula.shares(y, parameters.label_smoothing)
    if parameters.soft_labels == "linear" and gamma_0 == gamma_1:
        return probability.binary_linear(np, p, q, y_1, y_0, gamma_1, w_1, w_0, order)
    if (y_1 * y_0 != 0).any():
        validation.gamma_pair_with_soft_labels(parameters.soft_labels, parameters.gamma)
    return probability.binary_expected(np, p, q, y_1, y_0, gamma_1, gamma_0, w_1, w_0, order)


# -- categorical


class Rows(NamedTuple):
    """A batch of rows: labels that fit the scores, and where the classes lie."""

    labels: np.ndarray  # indices in the shape of the rows, or one label for each score
    axis: int
    valid: np.ndarray | None  # which rows count; None: all
    given: Any = None  # what the caller's labels were, where they share memory with `labels`


def rows(parameters: Categorical, y_true: Any, y_pred: Any, given: Any = None) -> Rows:
    """The labels of a batch, once shapes and types have been checked."""
    axis = validation.class_axis(parameters, y_pred.shape, parameters.function)
    labels = as_array("y_true", y_true)
    if not isinstance(parameters, SparseCategorical):
        validation.dense_labels(labels.shape, y_pred.shape, axis)
        return Rows(labels, axis, None, given)
    if validation.sparse_labels(labels.shape, y_pred.shape, axis) is not None:
        labels = labels.reshape(lengths_without(y_pred, axis))
    ignore = parameters.ignore_class
    return Rows(labels, axis, None if ignore is None else labels != ignore, given)


def categorical(
    parameters: Categorical,
    batch: Rows,
    y_pred: np.ndarray,
    order: int,
    weights: np.ndarray | None = None,
    by: float = 1.0,
    total: bool = False,
    dtype: np.dtype = FLOAT64,
    positive: bool = False,
    cotangent: np.ndarray | None = None,
    threads: int = 0,
) -> Results:
    """The loss of every row, without the class axis, then gradient and curvature in y_pred's shape, up to `order`.

    `weights`, one for each row, and the other arguments are those of `binary`.
    """
    axis, valid = batch.axis, batch.valid
    if parameters.from_logits and not parameters.scheduled and (module := kernel.module()):
        return native.categorical(
            module,
            parameters,
            batch.labels,
            y_pred,
            axis,
            order,
            weights,
            by,
            total,
            dtype,
            positive,
            cotangent,
            threads,
        )
    classes = y_pred.shape[axis]
    label_weights, target = weigh(parameters, one_hot(parameters, batch, classes))
    scores = np.moveaxis(y_pred, axis, -1)
    if not parameters.from_logits:
        if valid is not None:  # whatever an ignored row holds, it is no mistake
            scores = np.where(valid[..., None], scores, scores.dtype.type(1))
        validation.probabilities_in_unit_interval(scores)
        validation.rows_have_a_sum(working(scores).sum(axis=-1))
    compute = partial(rows_from_logits, positive) if parameters.from_logits else rows_from_probabilities
    arrays = [scores.reshape(-1, classes), label_weights.reshape(-1, classes)]
    if target is not None:
        arrays.append(target.reshape(-1, classes))
    loss, *slopes = blockwise(partial(compute, parameters, order), *arrays)
    loss, slopes = loss.reshape(scores.shape[:-1]), [slope.reshape(scores.shape) for slope in slopes]
    if valid is not None:
        loss = np.where(valid, loss, 0.0)
        slopes = [np.where(valid[..., None], slope, 0.0) for slope in slopes]
    if cotangent is not None:
        slopes = [slope * cotangent[..., None] for slope in slopes]
    terms = (loss, *(np.moveaxis(slope, -1, axis) for slope in slopes))
    return weighed(terms, None if weights is None else (weights, np.expand_dims(weights, axis)), by, total, dtype)


def one_hot(parameters: Categorical, batch: Rows, classes: int) -> np.ndarray:
    """The labels as rows of numbers in [0, 1], classes on the last axis."""
    if not isinstance(parameters, SparseCategorical):
        labels = np.moveaxis(batch.labels, batch.axis, -1).astype(np.float64)
        validation.labels_in_unit_interval(labels)
        return labels
    validation.class_indices(batch.labels, classes, parameters.ignore_class)
    target = batch.labels[..., None] == np.arange(classes)
    return (target if batch.valid is None else target & batch.valid[..., None]).astype(np.float64)


def weigh(parameters: Categorical, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Smoothed labels, each times its alpha; and, where no row has more than one class, which that is."""
    smoothing = parameters.label_smoothing
    if smoothing:
        labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
    one_class = not smoothing and bool((np.count_nonzero(labels, axis=-1) <= 1).all())
    return labels * np.asarray(parameters.alpha), labels != 0 if one_class else None


def rows_from_logits(
    positive: bool,
    parameters: Categorical,
    order: int,
    scores: np.ndarray,
    weights: np.ndarray,
    target: np.ndarray | None = None,
) -> Terms:
    z, gamma = scores.astype(np.float64), parameters.gamma
    if target is None:
        gammas = np.broadcast_to(np.asarray(gamma), z.shape) if isinstance(gamma, tuple) else gamma
        return softmax.dense(np, z, weights, gammas, order)
    if isinstance(gamma, tuple):
        gamma = np.where(target, gamma, 0.0).sum(axis=-1, keepdims=True)
    weight = weights.sum(axis=-1, keepdims=True)
    terms = softmax.hard(np, z, target, gamma, order, positive)
    return tuple(formula.weighted(np, weight, term) for term in terms)


def rows_from_probabilities(
    parameters: Categorical, order: int, scores: np.ndarray, weights: np.ndarray, target: np.ndarray | None = None
) -> Terms:
    scores = working(scores)
    scale = scores.sum(axis=-1, keepdims=True)
    probabilities = scores / scale
    p, q = clipped(probabilities)
    gamma = np.asarray(parameters.gamma) if isinstance(parameters.gamma, tuple) else parameters.gamma
    exact, scale = probabilities.astype(np.float64), scale.astype(np.float64)
    return probability.softmax(np, exact, p, q, scale, weights, gamma, order)
