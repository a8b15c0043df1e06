"""How tensors lie in memory: which of them the kernels read as they are, and by which strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def collapsed(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """The same places as few axes (length, stride): those that follow each other in memory become one."""
    axes: list[tuple[int, int]] = []
    for length, stride in zip(shape, strides, strict=True):
        if length == 1:
            continue
        if axes and axes[-1][1] == stride * length:
            axes[-1] = (axes[-1][0] * length, stride)
        else:
            axes.append((length, stride))
    return axes


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one piece of memory, in any order of the axes."""
    if tensor.is_contiguous():
        return True
    lying = sorted(zip(tensor.stride(), tensor.shape, strict=True), reverse=True)
    axes = collapsed([length for _, length in lying], [stride for stride, _ in lying])
    return not axes or (len(axes) == 1 and axes[0][1] == 1)


def beside(tensor: Tensor, x: Tensor) -> Tensor:
    """`tensor` with the layout of the dense x."""
    return tensor if tensor.stride() == x.stride() else torch.empty_like(x, dtype=tensor.dtype).copy_(tensor)


def readable(labels: Tensor) -> Tensor:
    """Booleans as the bytes that they are."""
    return labels.view(torch.uint8) if labels.dtype == torch.bool else labels


# Of weights that lie as the logits do.
NO_PLACES = (1, 0, 0, False)


def weight_of(weight: Tensor, x: Tensor) -> tuple[Tensor, tuple[int, int, int, bool]]:
    """(the weight, (the elements of a row, the strides of rows and elements, whether it is read by strides))."""
    if weight.shape == x.shape and weight.stride() == x.stride():
        return weight, NO_PLACES
    if x.is_contiguous():
        axes = collapsed(x.shape, weight.expand(x.shape).stride())
        if len(axes) <= 2:
            (_, outer_stride), (inner, inner_stride) = [(1, 0)] * (2 - len(axes)) + axes
            return weight, (inner, outer_stride, inner_stride, True)
    return beside(weight.expand(x.shape), x), NO_PLACES


class Rows(NamedTuple):
    """Where the rows of a softmax lie: groups of `inner` rows."""

    number: int
    inner: int
    outer_stride: int
    inner_stride: int
    class_stride: int


def rows_of(z: Tensor, axis: int) -> Rows | None:
    """None where the rows need more strides than two."""
    if not z.numel():
        return Rows(0, 0, 0, 0, 1)
    outer = collapsed(z.shape[:axis], z.stride()[:axis])
    inner = collapsed(z.shape[axis + 1 :], z.stride()[axis + 1 :])
    if len(outer) > 1 or len(inner) > 1:
        return None
    (groups, outer_stride), (length, stride) = (outer or [(1, 0)])[0], (inner or [(1, 0)])[0]
    if not inner:  # rows with no neighbours are one group
        return Rows(groups, groups, 0, outer_stride, z.stride(axis))
    return Rows(groups * length, length, outer_stride, stride, z.stride(axis))
