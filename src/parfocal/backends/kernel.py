"""Which kernel computes, on how many threads, and how a batch reaches it.

A kernel is native, made for an instruction set of this processor, or the formula in NumPy.  The environment variable
PARFOCAL_KERNEL forces one by its name, and PARFOCAL_NUM_THREADS sets the number of threads.

A native kernel reads arrays where they lie, whatever their type and strides, computes float64 in float64 and everything
else in float32, and writes new arrays.  Only what it cannot read is copied: foreign byte orders, misaligned items, and
more axes than it knows.  It checks labels in the same pass; when it reports a bad one, `validation` writes the error.
"""

from __future__ import annotations

import math
import os
from types import ModuleType
from typing import Any

import numpy as np

from parfocal.core import validation
from parfocal.core.batch import Batch
from parfocal.core.parameters import SparseCategorical

native: ModuleType | None
try:
    import parfocal._native as _native

    native, why_not = _native, ""
except ImportError as error:  # built without a compiler, or for another machine
    native, why_not = None, str(error)

active = native  # the module, while it computes; None while NumPy does
threads_beside_others = 1  # that a loss may use beside a library with threads of its own; 0: as many as were chosen


def available() -> list[str]:
    """The names of the kernels that run here, the fastest first; the last one is "numpy"."""
    return [*(native.names() if native else []), "numpy"]


def use(name: str) -> None:
    """Compute with the kernel of that name from now on.  Raises ValueError for one that does not run here."""
    global active
    if name not in available():
        raise ValueError(
            f"no kernel named {name!r} runs here; choose one of {', '.join(available())}"
            + (f" (the native ones are missing: {why_not})" if why_not else "")
        )
    active = None if name == "numpy" else native
    if active:
        active.use(name)


def kernel_info() -> dict[str, Any]:
    """What computes the losses of NumPy arrays in this process.

    Returns a dict: "kernel", the one in use: "v4" (AVX-512), "v3" (AVX2), "baseline" (any processor) or "numpy";
    "available", all that run here; "threads", how many a large array may use; "note", why there is no native kernel;
    "gpu", what computes those of tensors on a GPU, and why.

    >>> kernel_info()["kernel"] in kernel_info()["available"]
    True
    """
    from parfocal.backends import gpu  # it looks for Triton

    return {
        "kernel": active.in_use() if active else "numpy",
        "available": available(),
        "threads": active.threads() if active else 1,
        "note": why_not,
        "gpu": gpu.why(),
    }


def set_num_threads(number: int) -> None:
    """How many threads the native kernel may use for a large array; at the start, one for each processor.

    PyTorch tensors are computed with one thread until a number has been set, here or by PARFOCAL_NUM_THREADS.  The
    result has the same bits whatever the number.  NumPy, where it computes, has one thread of its own.  Raises
    ValueError for anything but a whole number above 0.

    >>> before = kernel_info()["threads"]
    >>> set_num_threads(1)
    >>> set_num_threads(before)
    """
    if isinstance(number, bool) or not hasattr(number, "__index__") or not 0 < number.__index__() < 1 << 16:
        raise ValueError(f"the number of threads must be a whole number from 1 to 65535; got {number!r}")
    global threads_beside_others
    threads_beside_others = 0
    if native:
        native.set_threads(number.__index__())


def from_environment() -> None:
    """Follow PARFOCAL_KERNEL and PARFOCAL_NUM_THREADS."""
    if name := os.environ.get("PARFOCAL_KERNEL"):
        try:
            use(name)
        except ValueError as error:
            raise ValueError(f"PARFOCAL_KERNEL: {error}") from None
    if threads := os.environ.get("PARFOCAL_NUM_THREADS"):
        try:
            # Text that is not a number is passed on unchanged, so that set_num_threads raises its usual error.
            set_num_threads(int(threads) if threads.isdecimal() else threads)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"PARFOCAL_NUM_THREADS: {error}") from None


from_environment()


# -- a batch as the kernel's job; a dtype of the kind "V" is the bfloat16 of ml_dtypes

# Rows whose classes lie apart are read in blocks of neighbours; with fewer than this a copy is faster.  Shape
# (100000, 10, 2), classes in the middle: 16 ns a logit as it lies.
SHORT = 32


PLAIN = 0x101  # of `flags.num`: C-contiguous and aligned


def readable(array: np.ndarray) -> np.ndarray:
    """`array` as the kernel reads it: in this machine's byte order, aligned, its strides whole items."""
    flags = array.flags
    whole = flags.c_contiguous or all(stride % array.itemsize == 0 for stride in array.strides)
    if whole and flags.aligned and array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def flat(array: np.ndarray, scores: bool = False) -> np.ndarray:
    """One value a sample: contiguous, or along one axis."""
    dtype = array.dtype
    if dtype.kind == "V":
        array = bits(array) if scores else array.astype(np.float32)
    if array.flags.num & PLAIN == PLAIN and dtype.isnative:
        return array
    if array.size and not any(array.strides):  # one number for all, as a mean sends back
        return np.broadcast_to(array[(0,) * array.ndim], array.size)
    array = readable(array)
    return array if array.ndim == 1 else np.ascontiguousarray(array)


def bits(array: np.ndarray) -> np.ndarray:
    """bfloat16 as 16-bit integers, which is how the kernel is given scores and derivatives."""
    return array.view(np.uint16) if array.dtype.kind == "V" else array


def loss_dtype(scores: np.ndarray) -> type:
    """Losses of half-precision scores are averaged before they are rounded to half precision."""
    return np.float64 if scores.dtype.itemsize == 8 else np.float32


def binary(
    batch: Batch,
    order: int,
    divisor: float,
    summed: bool,
    dtype: np.dtype,
    boosting: bool = False,
    cotangent: np.ndarray | None = None,
    threads: int = 0,
) -> tuple[Any, ...]:
    """What `NumPy.computed` returns, for logits; `cotangent`, one for each loss, multiplies the derivatives."""
    if not dtype.isnative:
        return in_byte_order(dtype, binary, batch, order, divisor, summed, boosting, cotangent, threads)
    x, labels, parameters, weight = batch.scores, batch.labels, batch.parameters, batch.weight
    assert active is not None
    shape, factor = x.shape, 1.0
    if weight is not None:
        weight, factor = scaled(weight)
        weight = flat(np.broadcast_to(weight, shape))
    loss: Any = None if summed else np.empty(shape, loss_dtype(x))
    gradient: Any = np.empty(shape, dtype) if order else None
    curvature: Any = np.empty(shape, dtype) if order > 1 else None
    bfloat = order and dtype.kind == "V"
    value, bad_label, soft_label = active.binary(
        flat(x, scores=True),
        flat(labels),
        weight,
        None if cotangent is None else flat(cotangent),
        loss,
        bits(gradient) if bfloat else gradient,
        bits(curvature) if bfloat and order > 1 else curvature,
        *parameters.for_kernel,
        1.0 / (divisor * factor),
        boosting,
        threads,
    )
    if bad_label >= 0:
        validation.labels_in_unit_interval(labels, batch.host, binary=True)
    if soft_label:
        validation.gamma_pair_with_soft_labels(parameters.soft_labels, parameters.gamma)
    if summed:
        loss = value / divisor
    return (loss if factor == 1.0 else loss / factor, gradient, curvature)[: order + 1]


def softmax(
    batch: Batch,
    order: int,
    divisor: float,
    summed: bool,
    dtype: np.dtype,
    boosting: bool = False,
    cotangent: np.ndarray | None = None,
    threads: int = 0,
) -> tuple[Any, ...]:
    """The same for a softmax."""
    if not dtype.isnative:
        return in_byte_order(dtype, softmax, batch, order, divisor, summed, boosting, cotangent, threads)
    z, axis, labels, parameters = batch.scores, batch.axis, batch.labels, batch.parameters
    sparse = isinstance(parameters, SparseCategorical)
    assert active is not None
    assert axis is not None
    if axis != z.ndim - 1 and math.prod(z.shape[axis + 1 :]) < SHORT:
        z = np.ascontiguousarray(np.moveaxis(z, axis, -1))
        labels = labels if sparse else np.ascontiguousarray(np.moveaxis(labels, axis, -1))
        moved = batch._replace(scores=z, labels=labels, axis=z.ndim - 1)
        first, *slopes = softmax(moved, order, divisor, summed, dtype, boosting, cotangent, threads)
        return (first, *(np.moveaxis(slope, -1, axis) for slope in slopes))
    weight, factor = (None, 1.0) if batch.weight is None else scaled(batch.weight)
    scores = readable(z)
    if scores.ndim != 2:
        scores = np.ascontiguousarray(scores)
    loss: Any = None if summed else np.empty((*z.shape[:axis], *z.shape[axis + 1 :]), loss_dtype(z))
    gradient = np.empty_like(scores, dtype=dtype) if order else None
    curvature = np.empty_like(scores, dtype=dtype) if order > 1 else None
    ignore_class = parameters.ignore_class if sparse else None
    if ignore_class is not None and abs(ignore_class) > 2**53:  # a double would take its neighbours for it
        labels = np.where(labels == ignore_class, -1.0, np.where(labels == -1, -2.0, labels))
        ignore_class = -1
    if not sparse:
        labels = readable(labels.astype(np.float32) if labels.dtype.kind == "V" else labels)
        labels = labels if labels.ndim == 2 else np.ascontiguousarray(labels)
    value, bad_label, _ = active.softmax(
        as_rows(scores, axis),
        flat(labels).reshape(-1) if sparse else None,
        None if sparse else as_rows(labels, axis),
        None if weight is None else flat(weight).reshape(-1),
        None if cotangent is None else flat(cotangent).reshape(-1),
        None if loss is None else loss.reshape(-1),
        None if gradient is None else as_rows(gradient, axis),
        None if curvature is None else as_rows(curvature, axis),
        *parameters.for_kernel,
        ignore_class,
        1.0 / (divisor * factor),
        boosting,
        threads,
    )
    if bad_label >= 0 and sparse:
        validation.class_indices(batch.labels, z.shape[axis], parameters.ignore_class, batch.host)
    elif bad_label >= 0:
        validation.labels_in_unit_interval(labels, batch.host)
    if summed:
        loss = value / divisor
    return (loss if factor == 1.0 else loss / factor, gradient, curvature)[: order + 1]


def in_byte_order(dtype: np.dtype, compute: Any, batch: Batch, order: int, *arguments: Any) -> tuple[Any, ...]:
    """Derivatives in the byte order of another machine."""
    divisor, summed, *others = arguments
    first, *slopes = compute(batch, order, divisor, summed, dtype.newbyteorder("="), *others)
    return (first, *(slope.astype(dtype) for slope in slopes))


def scaled(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights as the kernel can hold them in float32, and what they were multiplied by: a power of two, mostly 1.

    Weights like 1e-50 mean something beside each other, and the divisor may be their sum.
    """
    if not weights.size:
        return weights, 1.0
    sizes = np.abs(weights)
    largest = float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))
    if largest == 0.0 or 1e-20 < largest < 1e20:
        return weights, 1.0
    factor = 2.0 ** min(1000, -math.frexp(largest)[1])
    return weights * factor, factor


def as_rows(array: np.ndarray, axis: int) -> np.ndarray:
    """`array` with three axes, classes last: a view where there is one."""
    if array.dtype.kind == "V":
        array = bits(array)
    if array.ndim == 2:
        return array[None] if axis == 1 else array.T[None]
    outer, classes = math.prod(array.shape[:axis]), array.shape[axis]
    inner = math.prod(array.shape[axis + 1 :])
    if inner == 1:
        return array.reshape(1, outer, classes)
    return array.reshape(outer, classes, inner).transpose(0, 2, 1)
