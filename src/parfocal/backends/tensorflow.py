"""TensorFlow tensors, eager and in a graph: the formula in its operations, its slopes as nested custom gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from parfocal.backends.base import Backend
from parfocal.core.formula import Array
from parfocal.core.laws import Law

# The most numbers of a row that are added up one after the other.  Of 100,000 equal ones that cost a softmax 2.5e-6.
BLOCK = 512


def in_blocks(values: Array) -> Array:
    """Sums of blocks of the last axis, in its place; values themselves where the axis is known to be short."""
    length = values.shape[-1]
    if length is not None and length <= BLOCK:
        return values
    lengths = tf.shape(values)
    padding = [[0, 0]] * (values.shape.rank - 1) + [[0, -lengths[-1] % BLOCK]]
    blocks = tf.reshape(tf.pad(values, padding), tf.concat([lengths[:-1], [-1, BLOCK]], axis=0))
    return tf.reduce_sum(blocks, axis=-1)


class Namespace:
    """The array API's names for TensorFlow's functions."""

    abs, exp, log, log1p, isnan = tf.abs, tf.exp, tf.math.log, tf.math.log1p, tf.math.is_nan
    zeros_like, ones_like, reshape = tf.zeros_like, tf.ones_like, tf.reshape
    broadcast_to, astype, arange = tf.broadcast_to, tf.cast, tf.range
    int32, int64, float16, bfloat16 = tf.int32, tf.int64, tf.float16, tf.bfloat16
    float32, float64 = tf.float32, tf.float64
    flushes = True  # what lies below the normal numbers becomes 0

    @staticmethod
    def where(condition: Array, a: Any, b: Any) -> Array:
        """tf.where, with a number on either side: alone it takes a number for float32."""
        dtype = a.dtype if tf.is_tensor(a) else b.dtype
        return tf.where(condition, tf.convert_to_tensor(a, dtype), tf.convert_to_tensor(b, dtype))

    @staticmethod
    def sum(values: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        return tf.reduce_sum(in_blocks(values) if axis == -1 else values, axis=axis, keepdims=keepdims)

    @staticmethod
    def max(values: Array, axis: int, keepdims: bool) -> Array:
        return tf.reduce_max(values, axis=axis, keepdims=keepdims)

    @staticmethod
    def any(values: Array, axis: int, keepdims: bool) -> Array:
        return tf.reduce_any(values, axis=axis, keepdims=keepdims)

    @staticmethod
    def clip(values: Array, low: float, high: float | None) -> Array:
        values = tf.maximum(values, tf.constant(low, values.dtype))
        return values if high is None else tf.minimum(values, tf.constant(high, values.dtype))

    @staticmethod
    def full_like(values: Array, value: float) -> Array:
        return tf.fill(tf.shape(values), tf.constant(value, values.dtype))

    @staticmethod
    def expand_dims(values: Array, axis: int) -> Array:
        return tf.expand_dims(values, axis)

    @staticmethod
    def squeeze(values: Array, axis: int) -> Array:
        return tf.squeeze(values, axis=[axis])

    @staticmethod
    def moveaxis(values: Array, source: int, destination: int) -> Array:
        order = list(range(values.shape.rank))
        order.insert(destination % len(order), order.pop(source))
        return tf.transpose(values, order)


class TensorFlow(Backend):
    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        return tf.convert_to_tensor(array)

    def owns(self, values: Any) -> bool:
        return tf.is_tensor(values) or isinstance(values, tf.Variable)

    def shape(self, array: Array) -> tuple[int | None, ...]:
        if array.shape.rank is None:
            raise ValueError("a tensor must know how many axes it has; give it a shape with set_shape or ensure_shape")
        return tuple(array.shape)

    def length(self, array: Array, axis: int) -> Any:
        length = array.shape[axis]
        return tf.cast(tf.shape(array)[axis], tf.float32) if length is None else length

    def lengths_without(self, array: Array, axis: int | None) -> Array:
        shape = tf.shape(array)
        return shape if axis is None else tf.concat([shape[:axis], shape[axis + 1 :]], axis=0)

    def at_least_one(self, length: Any) -> Any:
        return max(length, 1) if isinstance(length, int) else tf.maximum(length, 1.0)

    def number(self, value: Any, like: Array) -> Any:
        return tf.cast(value, like.dtype) if tf.is_tensor(value) else value

    def detached(self, array: Array) -> Array:
        return tf.stop_gradient(array)

    def differentiable_term(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> Array:
        """The term of that order; its derivative is the next term, and the derivative of that one the law's product."""
        constants = tuple(tf.stop_gradient(constant) for constant in constants)

        @tf.custom_gradient
        def term(scores: Array) -> tuple[Array, Any]:
            value = law.terms(Namespace, scores, order, *constants)[order]

            def backward(upstream: Array) -> Array:
                if order == 1:
                    return law.product(Namespace, scores, upstream, *constants)
                return upstream * self.differentiable_term(law, 1, scores, constants)

            return value, backward

        return term(scores) if order < 2 else law.terms(Namespace, scores, 2, *constants)[2]


BACKEND = TensorFlow(Namespace)


def backend(scores: Array) -> TensorFlow:
    return BACKEND
