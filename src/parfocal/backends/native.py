"""How NumPy arrays reach the native kernel, and what comes back.

The kernel reads arrays where they lie, whatever their type and strides, computes float64 in float64 and everything else
in float32, and writes new arrays.  Copied is only what it cannot read: foreign byte orders, misaligned items, and more
axes than it knows.  Labels are checked in the same pass; when it reports a bad one, `checks` finds the words.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parfocal.core import validation
from parfocal.core.parameters import Binary, Categorical, SparseCategorical

Results = tuple[Any, ...]

# Rows whose classes lie apart are read in blocks of neighbours; with fewer than this a copy is faster.  Shape
# (100000, 10, 2), classes in the middle: 16 ns a logit as it lies.
SHORT = 32


def is_bfloat16(dtype: np.dtype) -> bool:
    return dtype.itemsize == 2 and dtype.name == "bfloat16"


def readable(array: np.ndarray) -> np.ndarray:
    """`array` as the kernel reads it: in this machine's byte order, aligned, its strides whole items."""
    flags = array.flags
    whole = flags.c_contiguous or all(stride % array.itemsize == 0 for stride in array.strides)
    if whole and flags.aligned and array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def native_order(dtype: np.dtype) -> np.dtype:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def flat(array: np.ndarray) -> np.ndarray:
    """One value a sample: contiguous, or along one axis."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative and array.dtype.kind != "V":
        return array
    if is_bfloat16(array.dtype):
        array = array.astype(np.float32)
    if array.size and not any(array.strides):  # one number for all, as a mean sends back
        return np.broadcast_to(array[(0,) * array.ndim], array.size)
    array = readable(array)
    return array if array.ndim == 1 else np.ascontiguousarray(array)


def bits(array: Any) -> Any:
    """bfloat16 as 16-bit integers, which is how the kernel is given them; no array is none."""
    return array if array is None or not is_bfloat16(array.dtype) else array.view(np.uint16)


def loss_dtype(scores: np.ndarray) -> type:
    """Losses of half-precision scores are averaged before they are rounded to half precision."""
    return np.float64 if scores.dtype.itemsize == 8 else np.float32


def binary(
    module: Any,
    parameters: Binary,
    labels: np.ndarray,
    x: np.ndarray,
    order: int,
    weights: np.ndarray | None,
    by: float,
    total: bool,
    dtype: np.dtype,
    positive: bool,
    cotangent: np.ndarray | None,
    threads: int,
) -> Results:
    """What `backends.numpy.binary` returns, for logits."""
    shape = x.shape
    loss: Any = None if total else np.empty(shape, loss_dtype(x))
    gradient = np.empty(shape, native_order(dtype)) if order else None
    curvature = np.empty(shape, native_order(dtype)) if order > 1 else None
    weights, factor = scaled(weights)
    if weights is not None:
        weights = flat(np.broadcast_to(weights, shape))
    value, bad_label, soft_label = module.binary(
        flat(bits(x)),
        flat(labels),
        weights,
        None if cotangent is None else flat(cotangent),
        loss,
        bits(gradient),
        bits(curvature),
        *parameters.for_kernel,
        1.0 / (by * factor),
        positive,
        threads,
    )
    if bad_label >= 0:
        validation.labels_in_unit_interval(labels)
    if soft_label:
        validation.gamma_pair_with_soft_labels(parameters.soft_labels, parameters.gamma)
    return finished(value / by if total else loss, gradient, curvature, factor, dtype)[: order + 1]


def finished(first: Any, gradient: Any, curvature: Any, factor: float, dtype: np.dtype) -> Results:
    """The losses without the factor of the weights; the slopes in the byte order that was asked for."""
    terms = [first if factor == 1.0 else first / factor, gradient, curvature]
    if not dtype.isnative:
        terms[1:] = [term if term is None else term.astype(dtype) for term in terms[1:]]
    return tuple(terms)


def scaled(weights: np.ndarray | None) -> tuple[np.ndarray | None, float]:
    """Weights as the kernel can hold them in float32, and what they were multiplied by: a power of two, mostly 1.

    Weights like 1e-50 mean something beside each other, and `by` may be their sum.
    """
    if weights is None or not weights.size:
        return weights, 1.0
    sizes = np.abs(weights)
    largest = float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))
    if largest == 0.0 or 1e-20 < largest < 1e20:
        return weights, 1.0
    factor = 2.0 ** min(1000, -math.frexp(largest)[1])
    return weights * factor, factor


def as_rows(array: np.ndarray | None, axis: int) -> np.ndarray | None:
    """`array` with three axes, classes last: a view where there is one."""
    if array is None:
        return None
    if array.ndim == 2 and axis == 1:
        return array[None]
    if array.ndim == 2:
        return array.T[None]
    outer, classes = math.prod(array.shape[:axis]), array.shape[axis]
    inner = math.prod(array.shape[axis + 1 :])
    if inner == 1:
        return array.reshape(1, outer, classes)
    return array.reshape(outer, classes, inner).transpose(0, 2, 1)


def numbers(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def categorical(
    module: Any,
    parameters: Categorical,
    labels: np.ndarray,
    z: np.ndarray,
    axis: int,
    order: int,
    weights: np.ndarray | None,
    by: float,
    total: bool,
    dtype: np.dtype,
    positive: bool,
    cotangent: np.ndarray | None,
    threads: int,
) -> Results:
    """What `backends.numpy.categorical` returns, for logits."""
    last, sparse = z.ndim - 1, isinstance(parameters, SparseCategorical)
    if axis != last and math.prod(z.shape[axis + 1 :]) < SHORT:
        moved = [array if sparse and array is labels else np.moveaxis(array, axis, -1) for array in (z, labels)]
        copies = np.ascontiguousarray(moved[0]), moved[1] if sparse else np.ascontiguousarray(moved[1])
        first, *slopes = categorical(
            module,
            parameters,
            copies[1],
            copies[0],
            last,
            order,
            weights,
            by,
            total,
            dtype,
            positive,
            cotangent,
            threads,
        )
        return (first, *(np.moveaxis(slope, -1, axis) for slope in slopes))
    rows = (*z.shape[:axis], *z.shape[axis + 1 :])
    scores = readable(z)
    if scores.ndim != 2:
        scores = np.ascontiguousarray(scores)
    weights, factor = scaled(weights)
    loss: Any = None if total else np.empty(rows, loss_dtype(z))
    gradient = np.empty_like(scores, dtype=native_order(dtype)) if order else None
    curvature = np.empty_like(scores, dtype=native_order(dtype)) if order > 1 else None
    ignore_class = parameters.ignore_class if isinstance(parameters, SparseCategorical) else None
    given = labels
    if ignore_class is not None and abs(ignore_class) > 2**53:  # a double would take its neighbours for it
        labels = np.where(labels == ignore_class, -1.0, np.where(labels == -1, -2.0, labels))
        ignore_class = -1
    if not sparse:
        labels = readable(labels.astype(np.float32) if is_bfloat16(labels.dtype) else labels)
        labels = labels if labels.ndim == 2 else np.ascontiguousarray(labels)
    value, bad_label, _ = module.softmax(
        as_rows(bits(scores), axis),
        flat(labels).reshape(-1) if sparse else None,
        as_rows(None if sparse else labels, axis),
        None if weights is None else flat(weights).reshape(-1),
        None if cotangent is None else flat(cotangent).reshape(-1),
        None if loss is None else loss.reshape(-1),
        as_rows(bits(gradient), axis),
        as_rows(bits(curvature), axis),
        numbers(parameters.alpha),
        numbers(parameters.gamma),
        parameters.label_smoothing,
        ignore_class,
        1.0 / (by * factor),
        positive,
        threads,
    )
    if bad_label >= 0 and isinstance(parameters, SparseCategorical):
        validation.class_indices(given, z.shape[axis], parameters.ignore_class)
    elif bad_label >= 0:
        validation.labels_in_unit_interval(labels)
    return finished(value / by if total else loss, gradient, curvature, factor, dtype)[: order + 1]
