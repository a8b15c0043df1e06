"""NumPy arrays and lists: logits go to the native kernel, or to the formula in float64; invalid labels are errors.

Given probabilities are normalised, clipped and subtracted from 1 in the dtype they came in, in Keras's order: the
digits in Keras's documentation come out only so.  Everything else is computed in float64, which costs NumPy little and
rounds once, at the end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np

from parfocal.backends import kernel
from parfocal.backends.base import Backend
from parfocal.core import validation
from parfocal.core.batch import Batch
from parfocal.core.hosts import KERAS, Host
from parfocal.core.laws import HardSoftmaxLaw, Law
from parfocal.core.parameters import Binary, Categorical, SparseCategorical
from parfocal.core.validation import as_array

# Elements at a time.  The formula makes some forty temporaries; at 2^14 float64 they stay in a 1 MB cache.  Gradient
# and curvature of 252,000 margins: 52 ns each at 2^13 and 2^14, 58 at 2^12, 133 at 2^15, 143 in one piece.
BLOCK = 1 << 14


# NumPy for the laws, which compute probabilities in float64 once they are rounded as Keras rounds them.
NAMESPACE = SimpleNamespace(**vars(np), widened=functools.partial(np.asarray, dtype=np.float64))


class NumPy(Backend):
    """Arrays and lists in the processor's memory, with labels and probabilities that are checked."""

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
        """As in `Backend`, with fewer calls: a batch of 32 spends more time here than in the kernel."""
        if type(scores) is not np.ndarray or scores.dtype.kind != "f" or scores.dtype.itemsize > 8:
            scores = self.float_array(host.scores, scores)
        make: Any = self.binary_batch if isinstance(parameters, Binary) else self.softmax_batch
        if scores.ndim < 2 and not host.by_element and isinstance(parameters, Binary):
            scores = self.with_an_axis(labels, scores)
        if dtype is None or scores.dtype is dtype_named(dtype):
            made: Batch = make(parameters, labels, scores, host)
        else:
            rounded = self.rounded(scores, dtype, parameters.from_logits)
            made = make(parameters, labels, rounded, host)._replace(dtype=scores.dtype)
        if weight is not None:
            made = self.with_weight(made, weight)
        if ignore is not None:
            made = self.without_label(made, ignore)
        return made if valid is None else self.with_valid(made, valid)

    def binary_batch(self, parameters: Binary, labels: Any, scores: np.ndarray, host: Host) -> Batch:
        labels, shape = as_array(host.labels, labels), scores.shape
        if labels.shape != shape:
            if labels.shape != (*shape, 1) and (*labels.shape, 1) != shape:
                validation.binary_labels(labels.shape, shape, host)
            labels = labels.reshape(shape)
        if host.by_element:
            return Batch(self, True, parameters, labels, scores, None, 1, None, None, scores.dtype, host)
        axis, axes = parameters.axis, len(shape)
        if axis < 0:
            axis += axes
        if not 0 <= axis < axes:
            axis = validation.axis_in_range(parameters.axis, axes, host.binary, host.scores)
        elements = shape[axis] or 1
        # What `Batch(...)` calls, in a third of the time.
        return new_tuple(
            Batch,
            (self, True, parameters, labels, scores, axis, elements, None, None, scores.dtype, host, None, None, None),
        )

    def softmax_batch(self, parameters: Categorical, labels: Any, scores: np.ndarray, host: Host) -> Batch:
        labels, shape, axis = as_array(host.labels, labels), scores.shape, parameters.axis
        axis += len(shape) if axis < 0 else 0
        plain = 0 <= axis < len(shape) and shape[axis] > 1
        if not plain or type(parameters.alpha) is tuple or type(parameters.gamma) is tuple:
            name = host.sparse if isinstance(parameters, SparseCategorical) else host.dense
            axis = validation.class_axis(parameters, shape, name, host)
        rows, valid = (*shape[:axis], *shape[axis + 1 :]), None
        if not isinstance(parameters, SparseCategorical):
            if labels.shape != shape:
                validation.dense_labels(labels.shape, shape, axis, host)
        else:
            if labels.shape != rows:
                validation.sparse_labels(labels.shape, shape, axis, host)
                labels = labels.reshape(rows)
            valid = None if parameters.ignore_class is None else labels != parameters.ignore_class
        return Batch(self, False, parameters, labels, scores, axis, 1, None, valid, scores.dtype, host)

    def with_an_axis(self, labels: Any, scores: np.ndarray) -> np.ndarray:
        if scores.ndim == 0 or as_array("y_true", labels).shape == (*scores.shape, 1):
            return scores[..., None]
        return scores

    # -- losses and derivatives

    def computed(
        self, batch: Batch, order: int, divisor: float, summed: bool, dtype: Any, boosting: bool
    ) -> tuple[Any, ...]:
        if batch.parameters.native and kernel.active is not None:
            compute = kernel.binary if batch.binary else kernel.softmax
            return compute(batch, order, divisor, summed, dtype, boosting)
        with np.errstate(all="ignore"):  # a weight of 0 on an infinite loss, for one
            first, *slopes = super().computed(batch, order, divisor, summed, dtype, boosting)
        # Of one element NumPy makes a number.
        return (first if summed else np.asarray(first), *map(np.asarray, slopes))

    def law(self, batch: Batch, boosting: bool = False) -> tuple[Law, np.ndarray, tuple[np.ndarray, ...]]:
        parameters = batch.parameters
        if isinstance(parameters, SparseCategorical):
            classes = batch.scores.shape[batch.axis]
            validation.class_indices(batch.labels, classes, parameters.ignore_class, batch.host)
        if not parameters.from_logits:
            scores = batch.scores
            if not batch.binary and batch.valid is not None:  # whatever an ignored row holds, it is not a mistake
                scores = np.where(np.expand_dims(batch.valid, batch.axis), scores, scores.dtype.type(1))
            self.probabilities(scores, None if batch.binary else batch.axis, batch.host)
        return super().law(batch, boosting)

    def law_scores(self, batch: Batch) -> np.ndarray:
        """Logits in float64; probabilities in their own dtype, in which Keras's digits are rounded."""
        scores = batch.scores
        if batch.parameters.from_logits:
            return scores.astype(np.float64, copy=False)
        return scores.astype(np.float32) if scores.dtype.itemsize < 4 else scores

    def softmax_law(
        self, parameters: Categorical, batch: Batch, scores: np.ndarray, boosting: bool
    ) -> tuple[Law, tuple[np.ndarray, ...]]:
        """One-hot rows of a dense batch are a sparse one, which is computed in half the time."""
        labels = batch.labels
        if isinstance(parameters, SparseCategorical) or parameters.label_smoothing or not parameters.from_logits:
            return super().softmax_law(parameters, batch, scores, boosting)
        labels = np.moveaxis(labels, batch.axis, -1)
        self.known_labels(batch, labels)
        if (np.count_nonzero(labels, axis=-1) > 1).any():
            return super().softmax_law(parameters, batch, scores, boosting)
        gammas = self.per_class(parameters.gamma, scores, halved=True) if isinstance(parameters.gamma, tuple) else []
        target = labels != 0
        weight = (labels * np.asarray(parameters.alpha)).sum(axis=-1, keepdims=True)
        mixed = [np.where(target, gamma, 0.0).sum(axis=-1, keepdims=True) for gamma in gammas]
        return HardSoftmaxLaw(parameters.gamma, boosting), (target, weight, *mixed)

    def are_hard(self, labels: np.ndarray) -> bool:
        return labels.dtype.kind in "biu" or bool(((labels == 0) | (labels == 1)).all())

    def known_labels(self, batch: Batch, labels: np.ndarray) -> np.ndarray:
        validation.labels_in_unit_interval(batch.labels, batch.host, batch.binary)
        if batch.binary and isinstance(batch.parameters.gamma, tuple) and not self.are_hard(labels):
            validation.gamma_pair_with_soft_labels(batch.parameters.soft_labels, batch.parameters.gamma)
        return labels

    def all_terms(
        self, law: Law, scores: np.ndarray, constants: tuple[np.ndarray, ...], order: int
    ) -> list[np.ndarray]:
        """On pieces of the leading axis that stay in cache."""
        loss_shape = (*scores.shape[:-1], 1) if law.by_row else scores.shape
        arrays = [scores, *constants]
        if law.by_row:
            arrays = [array.reshape(-1, array.shape[-1]) for array in arrays]
        else:
            arrays = [np.broadcast_to(array, scores.shape).reshape(-1) for array in arrays]
        loss, *slopes = blockwise(functools.partial(law.terms, NAMESPACE), order, *arrays)
        return [loss.reshape(loss_shape), *(slope.reshape(scores.shape) for slope in slopes)]

    def probabilities(self, scores: np.ndarray, axis: int | None, host: Host = KERAS) -> np.ndarray:
        """An error in place of NaN; half precision is computed in float32."""
        validation.probabilities_in_unit_interval(scores, host)
        scores = scores.astype(np.float32) if scores.dtype.itemsize < 4 else scores
        if axis is None:
            return scores
        sums = scores.sum(axis=axis, keepdims=True)
        validation.rows_have_a_sum(sums.squeeze(axis))
        return scores / sums

    # -- arrays

    def from_numpy(self, array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return array

    def array_like(self, name: str, values: Any, like: Any) -> np.ndarray:
        return as_array(name, values)

    def weights(self, values: Any, like: Any, host: Host = KERAS) -> np.ndarray:
        """A copy: a backward pass may read it after the caller has changed the original."""
        return np.array(as_array(host.weight, values), dtype=np.float64)

    def kind(self, array: np.ndarray) -> str:
        return array.dtype.kind if array.dtype.kind in "biuf" else "f"  # bfloat16, of ml_dtypes

    def float_array(self, name: str, values: Any) -> np.ndarray:
        """`values` as floats: lists and integers become float64."""
        array = as_array(name, values)
        return array.astype(np.float64) if array.dtype.kind in "biu" else array

    def dtype_named(self, name: str) -> np.dtype:
        return dtype_named(name)

    def cast(self, values: Any, dtype: str | np.dtype) -> Any:
        """An array or a number in another dtype, or the array itself; what is too large becomes infinite."""
        if isinstance(dtype, str):
            dtype = dtype_named(dtype)
        if type(values) is float and -6e4 < values < 6e4:
            return dtype.type(values)
        if not isinstance(values, np.ndarray):
            values = np.asarray(values)
        elif values.dtype == dtype:
            return values
        with np.errstate(over="ignore"):
            return values.astype(dtype)[()]

    def is_double(self, array: np.ndarray) -> bool:
        return array.dtype.itemsize == 8

    def working_dtype(self, like: Any) -> np.dtype:
        return FLOAT64

    def working(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores, dtype=np.float64)

    def no_warnings(self) -> AbstractContextManager[Any]:
        return np.errstate(all="ignore")

    # -- shapes, counts and sums

    def shape(self, array: np.ndarray) -> tuple[int, ...]:
        return array.shape

    def lengths_without(self, array: np.ndarray, axis: int | None) -> tuple[int, ...]:
        return array.shape if axis is None else (*array.shape[:axis], *array.shape[axis + 1 :])

    def count_or_one(self, array: np.ndarray, axis: int | None) -> int:
        if axis is None:
            return array.size or 1
        length = array.shape[axis]
        return (array.size // length if length else self.count_without(array, axis)) or 1

    def count_without(self, array: np.ndarray, axis: int | None) -> int:
        return math.prod(array.shape if axis is None else (*array.shape[:axis], *array.shape[axis + 1 :]))

    def like_scores(self, term: np.ndarray, scores: Any) -> np.ndarray:
        shape = scores.shape if isinstance(scores, np.ndarray) else np.shape(scores)
        return term if term.shape == shape else term.reshape(shape)

    def mean(self, values: np.ndarray, axis: int) -> np.ndarray:
        if values.shape[axis] == 1:
            return values.squeeze(axis)
        return values.sum(axis=axis, dtype=np.float64) / max(values.shape[axis], 1)

    def count_true(self, mask: np.ndarray) -> int:
        return int(np.count_nonzero(mask))

    def or_one(self, total: float) -> float:
        return float(total) or 1.0

    def positives(self, batch: Batch) -> float:
        return max(1.0, float(np.sum(batch.labels, dtype=np.float64)))


new_tuple = tuple.__new__
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
NUMPY = NumPy(NAMESPACE)


@functools.cache
def dtype_named(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        raise TypeError(f"NumPy has no {name} of its own; install ml_dtypes and import it, or use float32") from None


def blockwise(
    compute: Callable[..., tuple[np.ndarray, ...]], order: int, *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    """compute(scores, order, *constants), on pieces of the leading axis that stay in cache."""
    rows = max(1, BLOCK // max(1, math.prod(arrays[0].shape[1:])))
    if len(arrays[0]) <= rows:
        return compute(arrays[0], order, *arrays[1:])
    pieces = []
    for start in range(0, len(arrays[0]), rows):
        scores, *constants = (array[start : start + rows] for array in arrays)
        pieces.append(compute(scores, order, *constants))
    return tuple(np.concatenate(term) for term in zip(*pieces, strict=True))
