"""From tensors and parameters to the kernels' launches.

(a) A rule chooses tiles and programs from shapes and types alone; nothing is tried out and timed.
(b) Tensors are read as they lie where their strides allow it, and copied otherwise.  Results have the layout of the
    logits.
(c) Nothing here reads a value from a device, and all memory is torch's own.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
from torch import Tensor
from triton.runtime.driver import driver

from parfocal.backends.triton.binary import EXPECTED, HARD, LINEAR, PAIR, TILE, WARPS, binary_kernel
from parfocal.backends.triton.dense_kernels import dense_columns_kernel, dense_rows_kernel
from parfocal.backends.triton.focal import ANY, BOTH
from parfocal.backends.triton.layouts import NO_PLACES, beside, is_dense, readable, rows_of, weight_of
from parfocal.backends.triton.softmax import SCHEDULE, columns_kernel, rows_kernel
from parfocal.backends.triton.sums import count_kernel, multiply_kernel, total_kernel
from parfocal.core.formula import Schedule

# Of every launch: what is fused is not computed as written.
OPTIONS = {"enable_fp_fusion": False}

# Programs of one launch, until each has MOST_STEPS tiles: an H200 runs 132 multiprocessors with up to 16 of them each.
PROGRAMS, MOST_STEPS = 4096, 16

# Lengths and strides are part of a kernel's key; there are few of them where batches are equally long.
MOST_COMPILED = 4096

# Of up to this many classes a thread takes a whole row.
FEW = 64

# Classes of a tile of one row: beyond this ptxas spills registers.
WIDEST = 4096

# Rows of a program whose threads take rows.
ROWS = 256

# Fewer neighbouring rows than this would leave most threads idle, and more classes than APART take too long for one
# thread.  Such logits are copied first, with their classes side by side.
SHORT, APART = 32, 1024


class Result(NamedTuple):
    """`loss`: of each element or row, or their sum divided; `gradient` in the layout of the logits."""

    loss: Tensor | None
    gradient: Tensor | None


@functools.lru_cache(maxsize=256)
def split(value: float) -> tuple[float, float]:
    """A number as a float32, and what that misses of it."""
    high = float(np.float32(value))
    return high, float(np.float32(value - high)) if abs(high) < float("inf") else 0.0


def small_gamma(gamma: float) -> int:
    """G of a kernel."""
    return int(gamma) if gamma in (0.0, 1.0, 2.0, 3.0) else ANY.value


def programs_for(tiles: int) -> tuple[int, int]:
    """(programs, tiles of each)."""
    steps = min(max(tiles // PROGRAMS, 1), MOST_STEPS)
    return -(-tiles // steps), steps


compiled: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}


def launch(kernel: Any, programs: int, *arguments: Any, warps: int = 4, **constants: Any) -> None:
    """Runs a kernel: found by what it was compiled for, in a third of the time that Triton takes to find it."""
    if not programs:
        return
    kinds = [
        float
        if (kind := type(value)) is float
        else value
        if kind is int or value is None
        else (value.dtype, value.data_ptr() % 16)
        for value in arguments
    ]
    device = arguments[0].get_device()
    key = kernel.fn, device, *constants.values(), *kinds
    if (found := compiled.get(key)) is not None:
        made, more = found
        stream = driver.active.get_current_stream(device)
        made.run(programs, 1, 1, stream, made.function, made.packed_metadata, None, None, None, *arguments, *more)
        return
    made = kernel[(programs,)](*arguments, **constants, num_warps=warps, **OPTIONS)
    if made is not None:  # the interpreter compiles nothing
        if len(compiled) >= MOST_COMPILED:
            compiled.clear()
        compiled[key] = made, tuple(constants[name] for name in kernel.arg_names if name in constants)


def total(
    sums: Tensor,
    dtype: torch.dtype,
    divisor: float | Tensor = 1.0,
    as_divisor: bool = False,
    at_least_one: bool = False,
) -> Tensor:
    """The sum of what each program has summed, divided; with `as_divisor` two numbers, the second of them a divisor."""
    result = torch.empty(2 if as_divisor else (), dtype=dtype, device=sums.device)
    place, number = (divisor, 1.0) if isinstance(divisor, Tensor) else (None, divisor)
    constants = {"AS_DIVISOR": as_divisor, "AT_LEAST_ONE": at_least_one}
    launch(total_kernel, 1, sums, result, place, sums.numel(), *split(number), **constants)
    return result


def scale_of(divisor: float | Tensor) -> float:
    return 1.0 if isinstance(divisor, Tensor) else 1.0 / divisor


# -- binary


def binary(
    x: Tensor,
    labels: Tensor,
    gammas: tuple[float, float],
    weights: tuple[float, float],
    smoothing: float = 0.0,
    expected: bool = False,
    weight: Tensor | None = None,
    upstream: Tensor | None = None,
    ignore: int | None = None,
    divisor: float | Tensor = 1.0,
    summed: bool = False,
    gradient: bool = False,
    losses: bool = True,
) -> Result:
    """Losses of logits x, or their sum, and their gradient.

    gammas, weights : of label 0 and label 1.
    weight : broadcasts to x.
    upstream : of x's shape, or one number; multiplies the gradient.
    ignore : the label of elements that do not count.
    divisor : of the sum and of the gradient.
    """
    x = x if is_dense(x) else x.contiguous()
    labels, n, places = beside(readable(labels), x), x.numel(), NO_PLACES
    if weight is not None:
        weight, places = weight_of(weight, x)
    one_factor = is_one_factor(upstream, n)
    if upstream is not None and not one_factor:
        upstream = beside(upstream, x)
    place, number = (divisor, 1.0) if isinstance(divisor, Tensor) else (None, divisor)
    programs, numbers, constants = binary_plan(
        n, labels.dtype, gammas, weights, smoothing, expected, ignore, number, places, one_factor
    )
    loss = sums = None
    if losses and not summed:
        loss = torch.empty_like(x, dtype=torch.float32)
    elif losses and programs == 1:
        loss = sums = torch.empty((), dtype=torch.float32, device=x.device)
    elif losses:
        sums = torch.empty(programs, dtype=torch.float64, device=x.device)
    slopes = torch.empty_like(x) if gradient else None
    losses_at = None if summed else loss
    launch(binary_kernel, programs, x, labels, weight, upstream, losses_at, sums, slopes, place, *numbers, **constants)
    return Result(total(sums, torch.float32, divisor) if loss is None and sums is not None else loss, slopes)


@functools.lru_cache(maxsize=1024)
def binary_plan(
    n: int,
    labels: torch.dtype,
    gammas: tuple[float, float],
    weights: tuple[float, float],
    smoothing: float,
    expected: bool,
    ignore: int | None,
    divisor: float,
    places: tuple[int, int, int, bool],
    one_factor: bool,
) -> tuple[int, tuple[float, ...], dict[str, Any]]:
    """The number of programs, and the kernel's numbers and constants: found once for calls that come again."""
    hard, pair = not labels.is_floating_point and not smoothing, gammas[0] != gammas[1]
    rule = HARD if hard else EXPECTED if expected else PAIR if pair else LINEAR
    g, scale, spread = BOTH.value if pair else small_gamma(gammas[0]), scale_of(divisor), places[3]
    programs, steps = programs_for(-(-n // TILE.value))
    numbers = (n, steps, ignore or 0, *places[:3], *split(gammas[0]), *split(gammas[1]), *weights)
    constants = {
        "G": g,
        "RULE": rule.value,
        "SMOOTH": smoothing != 0,
        "IGNORES": ignore is not None,
        "BROADCAST": spread,
        "ONE_FACTOR": one_factor,
        "PART": TILE.value // 2 if g < 0 or spread or labels.itemsize == 8 else TILE.value,
        "warps": WARPS,
    }
    return programs, (*numbers, weights[0] * scale, weights[1] * scale, smoothing, *split(divisor)), constants


def is_one_factor(upstream: Tensor | None, number: int) -> bool:
    """Whether a number that is not the only one is multiplied into every gradient, as where losses are summed later."""
    return upstream is not None and number != 1 and (upstream.numel() == 1 or not any(upstream.stride()))


# -- softmax


@functools.lru_cache(maxsize=64)
def on_device(values: tuple[float, ...], device: torch.device, halves: bool = False) -> Tensor:
    """Numbers of classes as float32 on a device; with `halves`, followed by what float32 misses of each."""
    wide = np.asarray(values, dtype=np.float64)
    high = wide.astype(np.float32)
    if halves:
        high = np.concatenate([high, (wide - high).astype(np.float32)])
    return torch.from_numpy(high).to(device)


def softmax(
    z: Tensor,
    targets: Tensor,
    axis: int,
    gamma: float | tuple[float, ...] | Schedule,
    alpha: float | tuple[float, ...] = 1.0,
    weight: Tensor | None = None,
    upstream: Tensor | None = None,
    ignore: int | None = None,
    divisor: float | Tensor = 1.0,
    summed: bool = False,
    gradient: bool = False,
    losses: bool = True,
    smoothing: float = 0.0,
) -> Result:
    """Losses of the rows of z, whose classes lie on `axis`, or their sum, and their gradient.

    targets : labels of z's shape, or class indices of that shape without the axis; so are weight and upstream, which
        may be one number too.
    gamma, alpha : one number, or one for each class; a gamma may be a schedule of two.
    ignore : the index of rows that do not count.
    divisor : of the sum and of the gradient.
    """
    shape, classes, dense = (*z.shape[:axis], *z.shape[axis + 1 :]), z.shape[axis], targets.ndim == z.ndim
    rows, soft = rows_of(z, axis), dense or smoothing != 0
    if rows is None or (rows.class_stride != 1 and (rows.inner < min(SHORT, rows.number) or classes > APART)):
        targets = targets.movedim(axis, -1) if dense else targets
        moved = softmax(
            *(z.movedim(axis, -1).contiguous(), targets, len(shape), gamma, alpha, weight, upstream, ignore),
            *(divisor, summed, gradient, losses, smoothing),
        )
        return moved._replace(gradient=None if moved.gradient is None else moved.gradient.movedim(-1, axis))
    slopes = torch.empty_like(z) if gradient else None
    if slopes is not None and rows_of(slopes, axis) is None:
        slopes = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    targets, given = readable(targets), rows_of(targets, axis) if dense else None
    if given is None or given.class_stride != rows.class_stride == 1:
        targets = targets.contiguous()
    # Where the logits lie, the gradient, and labels that are not indices; their groups of rows are the same.
    tensors = [z, z if slopes is None else slopes, targets if dense else z][: 3 if soft else 2]
    lying = [found for tensor in tensors if (found := rows_of(tensor, axis)) is not None]
    loss = torch.empty(shape, dtype=torch.float32, device=z.device) if losses and not summed else None
    one_factor = is_one_factor(upstream, rows.number)
    if upstream is not None and not one_factor:
        upstream = upstream.contiguous()
    together = all(of.class_stride == 1 for of in lying) and classes > FEW and rows.inner == rows.number
    block = ROWS // 2 if soft else ROWS  # two rows of several classes a thread would spill registers on some cards
    tiles = rows.number if together else rows.number // max(rows.inner, 1) * -(-rows.inner // block)
    programs, steps = programs_for(tiles)
    sums = torch.empty(programs, dtype=torch.float64, device=z.device) if losses and summed else None
    g, gammas = gamma_of(gamma)
    arrays = (
        *(z, targets, None if weight is None else weight.expand(shape).contiguous(), upstream),
        *(loss, sums, slopes, divisor if isinstance(divisor, Tensor) else None),
        on_device(alpha, z.device) if isinstance(alpha, tuple) else None,
        on_device(gamma, z.device, halves=True) if isinstance(gamma, tuple) else None,
    )
    numbers = (*(steps, ignore or 0, 1.0 if isinstance(alpha, tuple) else alpha, scale_of(divisor), *gammas),)
    constants = {"G": g, "IGNORES": ignore is not None, "ONE_FACTOR": one_factor}
    if soft:
        numbers, constants["DENSE"] = (*numbers, 1 - smoothing, smoothing / classes), dense
    if together:
        width = min(triton.next_power_of_2(classes), WIDEST)
        unit = 16 // z.element_size()
        unit = unit if all(length % unit == 0 for length in (classes, *(of.inner_stride for of in lying))) else 1
        constants.update(UNIT=unit, WHOLE=width >= classes, CLASSES=width)
        # 16 classes a thread, and 8 where that leaves a warp idle: 63 and 81 instructions a logit.  With weight on
        # several classes 8 always: 16 would need 154 to 202 registers.
        warps = max(1, min(width // 256, 16) if soft else min(width // 512, 8))
        places = rows.number, classes // unit, *(of.inner_stride // unit for of in lying)
        kernel = dense_rows_kernel if soft else rows_kernel
        launch(kernel, programs, *arrays, *places, *numbers, warps=warps, **constants)
    else:
        strides = [stride for of in lying for stride in (of.outer_stride, of.inner_stride, of.class_stride)]
        kernel = dense_columns_kernel if soft else columns_kernel
        places = rows.number, rows.inner, classes, *strides
        launch(kernel, programs, *arrays, *places, *numbers, ROWS=block, **constants)
    return Result(loss if sums is None else total(sums, torch.float32, divisor), slopes)


def gamma_of(gamma: float | tuple[float, ...] | Schedule) -> tuple[int, tuple[float, ...]]:
    """(G, the kernel's numbers: gamma and the late gamma, each with what float32 misses; the bound)."""
    if isinstance(gamma, Schedule):
        (threshold,), (early, late) = gamma.thresholds, gamma.gammas
        return SCHEDULE.value, (*split(early), *split(late), float(np.log(threshold) - np.log1p(-threshold)))
    if isinstance(gamma, tuple):
        return ANY.value, (0.0,) * 5
    return small_gamma(gamma), (*split(gamma), 0.0, 0.0, 0.0)


# -- divisors


def count(
    labels: Tensor,
    ignore: int | None = None,
    positives: bool = False,
    weights: tuple[float, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """How many labels are not ignored, their sum, or the sum of the weights of their classes; whole numbers as int64.

    And the same as a divisor: 1 in place of 0, and of positives at least 1.
    """
    labels = readable(labels)
    labels = labels if is_dense(labels) else labels.contiguous()
    tile = 1024
    programs, steps = programs_for(-(-labels.numel() // tile))
    sums = torch.empty(programs, dtype=torch.float64, device=labels.device)
    launch(
        count_kernel,
        programs,
        *(labels, None if weights is None else on_device(weights, labels.device), sums),
        *(labels.numel(), 0 if weights is None else len(weights), steps, ignore or 0),
        IGNORES=ignore is not None,
        POSITIVES=positives,
        TILE=tile,
    )
    whole = weights is None and not (positives and labels.is_floating_point())
    found, divisor = total(
        sums, torch.int64 if whole else torch.float32, as_divisor=True, at_least_one=positives
    ).unbind()
    return found, divisor


def multiply(values: Tensor, factor: Tensor) -> None:
    """Multiplies a dense tensor in place by one number on its device."""
    launch(multiply_kernel, -(-values.numel() // 1024), values, factor, values.numel(), TILE=1024)
