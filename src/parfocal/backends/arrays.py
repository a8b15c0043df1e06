"""The arrays of a library: types, shapes, counts and sums, under names that `Backend` uses."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from parfocal.core import formula, validation
from parfocal.core.batch import Batch
from parfocal.core.formula import Array, Namespace
from parfocal.core.hosts import KERAS, Host


class Arrays:
    """A library, given its namespace: the array API's names, as far as the formula uses them."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    # -- arrays and types

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        """A NumPy array as this library's, where `like` lies."""
        return self.xp.asarray(array)

    def owns(self, values: Any) -> bool:
        return hasattr(values, "__array_namespace__") and not isinstance(values, np.ndarray)

    def array_like(self, name: str, values: Any, like: Array) -> Array:
        """Labels or weights as an array of the library and of the place of `like`."""
        if self.owns(values):
            return self.checked(name, values)
        return self.from_numpy(validation.as_array(name, values), like)

    def kind(self, array: Array) -> str:
        """NumPy's letter for the type of the items, "b", "i", "u" or "f"; "" for what is not a real number."""
        name = str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]
        return {"bool": "b", "int": "i", "uint": "u", "float": "f", "bfloat": "f"}.get(name.rstrip("0123456789"), "")

    def checked(self, name: str, array: Array) -> Array:
        if not self.kind(array):
            raise TypeError(f"{name} must hold real numbers; it has dtype {array.dtype}")
        return array

    def float_array(self, name: str, values: Any) -> Array:
        """`values` as floats: integers become float32."""
        self.checked(name, values)
        return values if self.kind(values) == "f" else self.xp.astype(values, self.xp.float32)

    def weights(self, values: Any, like: Array, host: Host = KERAS) -> Array:
        """Sample weights, in the dtype that the losses are computed in."""
        return self.cast(self.array_like(host.weight, values, like), self.working_dtype(like))

    def dtype_named(self, name: str) -> Any:
        try:
            return getattr(self.xp, name)
        except AttributeError:
            raise TypeError(f"the library of the scores has no dtype {name}") from None

    def cast(self, values: Array, dtype: Any) -> Array:
        dtype = self.dtype_named(dtype) if isinstance(dtype, str) else dtype
        return values if values.dtype == dtype else self.xp.astype(values, dtype)

    def rounded(self, scores: Array, dtype: Any, from_logits: bool) -> Array:
        """Scores in a loss's dtype; float64 logits are then computed in float64, so that their gradient is exact."""
        rounded = self.cast(scores, dtype)
        return self.cast(rounded, scores.dtype) if from_logits and self.is_double(scores) else rounded

    def is_double(self, array: Array) -> bool:
        return bool(array.dtype == self.xp.float64)

    def working_dtype(self, like: Array) -> Any:
        return self.xp.float64 if self.is_double(like) else self.xp.float32

    def working(self, scores: Array) -> Array:
        """Half precision is computed in float32."""
        return self.cast(scores, self.working_dtype(scores))

    def for_summing(self, losses: Array) -> Array:
        """Losses in the dtype that they are summed in."""
        return self.working(losses)

    def detached(self, array: Array) -> Array:
        """The array as a constant of all derivatives."""
        return array

    def no_warnings(self) -> AbstractContextManager[Any]:
        """No warnings of what the formula means: log 0, or an exponential that underflows."""
        return np.errstate(all="ignore")

    # -- shapes, counts and sums

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

    def like_scores(self, term: Array, scores: Any) -> Array:
        """A term of scores that may have got an axis, in the caller's shape."""
        wanted = self.lengths_without(scores, None)
        return term if len(self.shape(term)) == len(self.shape(scores)) else self.xp.reshape(term, wanted)

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

    def count_or_one(self, array: Array, axis: int | None) -> Any:
        """The number of losses as a divisor."""
        return self.at_least_one(self.count_without(array, axis))

    def count_true(self, mask: Array) -> Any:
        return self.xp.sum(self.xp.astype(mask, self.xp.float32))

    def or_one(self, total: Any) -> Any:
        """A divisor."""
        return (total or 1.0) if isinstance(total, int | float) else formula.or_one(self.xp, total)

    def positives(self, batch: Batch) -> Any:
        """The sum of the labels, at least 1."""
        labels = self.cast(batch.labels, self.working_dtype(batch.scores))
        return self.xp.clip(self.xp.sum(labels), 1.0, None)
