"""One mean over a batch that lies on several processes.

DDP and FSDP average the gradients of W processes.  Process r has the sum of its losses S_r and the count D_r that its
reduction divides by; the whole batch has the mean sum S_r / sum D_r.  So each process divides S_r by (sum D_r) / W.

(a) A total too small to divide by is replaced after the sum and before the division by W.  Clamped on each process, or
    after the division, it is wrong by up to W where a step has few positives or none.
(b) One all_reduce of three numbers does it: the count, and a code of the reduction with its square.  By Cauchy and
    Schwarz W times the sum of the squares is the square of the sum only where all codes are equal, and a NaN on one
    process is a NaN on all.  So every process finds a mistake of any other in the same call, and none is left waiting.
(c) In the processor's memory the three numbers are looked at, and a mistake is an error on every process.  On a device
    that would wait for it at each step: there a mistake makes the divisor NaN, and with it the loss of every process.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor
from torch import distributed as dist

from parfocal.backends.torch_terms import WIDE_DEVICES
from parfocal.core import validation
from parfocal.core.hosts import counted

__all__ = ["global_divisor", "global_loss"]

ALONE: Literal[False] = False  # in place of a group: this process divides by its own count
CODES = ("a count that was handed over", "mean", "sum", "mean_over_positives")
COUNT = "count must be one number >= 0, what this process's losses are divided by"
BY_ITSELF = "is a DTensor: what is summed over it is summed over all of its shards already"


def global_divisor(
    count: Tensor | float, group: dist.ProcessGroup | None = None, averaged: bool = True, at_least: float = 0
) -> Tensor:
    """What each process divides the sum of its losses by, so that averaged gradients are those of the whole batch.

        n = global_divisor(loss.count(target))
        loss(logits, target, normalizer=n).backward()

    Every process of the group must call it, also one whose batch is empty.  When gradients are accumulated, add up the
    counts of the step's micro-batches first, and divide each of them by the one result.

    Parameters
    ----------
    count : what `loss.count` returns, a tensor with one element, or a number; >= 0.  It should lie on a device that the
        group communicates over.
    group : the processes whose batches are one, a ProcessGroup.  None is the default group.  Processes that share rows
        and split the model belong to one batch: give the group over which the data are spread.
    averaged : gradients will be averaged over the group, as DDP and FSDP do.  False where they are added up.
    at_least : a smaller total counts as this number, `loss.at_least`: 1 for "mean_over_positives", where it matters for
        soft labels alone.  0 replaces nothing but a total of 0, by 1: a sum of weights may well be below 1.

    Returns
    -------
    max(total, at_least), divided by the number of processes if `averaged`; a tensor of shape () and dtype float64, on
    the count's device.  Nothing waits for the device.

    Raises
    ------
    TypeError for a count that is not a number, and a group that is not one.
    ValueError without an initialised process group, and for a DTensor; and on every process of the group, where the
    count of one is negative, infinite or NaN.  On a device the result is NaN instead, since nobody looks.

    >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    >>> global_divisor(torch.tensor(12)), global_divisor(0), global_divisor(0.15), global_divisor(0.15, at_least=1)
    (tensor(12., dtype=torch.float64), tensor(1., dtype=torch.float64), tensor(0.1500, dtype=torch.float64),
     tensor(1., dtype=torch.float64))
    >>> torch.distributed.destroy_process_group()
    """
    ranks = initialised(group, "global_divisor, and the loss divides by its own count")
    with told_to_others(ranks):
        mine, least, averaged = one_number("count", count), check_least(at_least), validation.flag("averaged", averaged)
    return divisor(summed(mine, ranks, CODES[0]), ranks, averaged, least)


def global_loss(
    loss: Tensor, count: Tensor | float, group: dist.ProcessGroup | None = None, at_least: float = 0
) -> Tensor:
    """The loss over the rows of all processes, to be shown; it has no gradient.

        global_loss(*loss.sum_and_count(logits, target), at_least=loss.at_least)

    Of a loss with `group=`, or with a `global_divisor`, the mean over the processes is this number too.

    Parameters
    ----------
    loss, count : the sum of this process's losses and what they are divided by, from `loss.sum_and_count`.
    group, at_least : as in `global_divisor`.

    Returns
    -------
    A tensor of shape () and dtype float64, the same on every process.

    Raises
    ------
    As `global_divisor`, which it follows for the count.

    >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    >>> global_loss(torch.tensor(3.0), torch.tensor(4))
    tensor(0.7500, dtype=torch.float64)
    >>> torch.distributed.destroy_process_group()
    """
    ranks = initialised(group, "global_loss, and divide the sum by the count")
    with told_to_others(ranks):
        losses, mine, least = one_number("loss", loss), one_number("count", count), check_least(at_least)
    total = summed(mine, ranks, CODES[0])
    losses = losses.to(total.device, total.dtype, copy=True)
    dist.all_reduce(losses, group=ranks)
    return losses / never_small(total, least)


# -- what they and the modules share


def initialised(group: Any, leave_out: str = "group") -> Any:
    """A group that can communicate; `leave_out` is what one process alone does not need."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "torch.distributed is not initialised, so there is no process group to sum over; call "
            "torch.distributed.init_process_group first, for example under torchrun. On one process leave out "
            f"{leave_out} (docs/scale.md)"
        )
    checked = check_group(group)
    if checked is ALONE:
        raise TypeError("group=False is this process alone, and there is nothing to sum over; leave the call out")
    return dist.group.WORLD if checked is None else checked


def check_group(group: Any) -> Any:
    """What a module is given, False, None or a group, as it keeps it: None is the default group."""
    if group is ALONE or group is None or (dist.is_available() and group is dist.group.WORLD):
        return group if group is ALONE else None
    if dist.is_available():
        if group is dist.GroupMember.NON_GROUP_MEMBER:
            raise ValueError("group is one that this process does not belong to; give the group that has its batches")
        if isinstance(group, dist.ProcessGroup):
            return group
    raise TypeError(
        "group must be a torch.distributed.ProcessGroup, None for the default group, or False for this process alone; "
        f"got {group!r}"
    )


def check_least(at_least: Any) -> float:
    least = validation.number_or_list("at_least", at_least)
    if isinstance(least, tuple) or not 0 <= least < float("inf"):
        raise ValueError(f"at_least must be one number >= 0; got {at_least!r}")
    return least


def is_sharded(value: Any) -> bool:
    return type(value).__name__ == "DTensor"


def no_shards(*tensors: Any) -> None:
    if any(map(is_sharded, tensors)):
        raise ValueError(f"input or target {BY_ITSELF}. Leave out group")


def one_number(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if is_sharded(value):
            raise ValueError(f"{name} {BY_ITSELF}. Leave out group and global_divisor")
        if value.numel() == 1 and not value.is_complex():
            return value.detach().reshape(())
        got = f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    elif isinstance(value, int | float):
        return torch.tensor(float(value), dtype=torch.float64)
    else:
        got = repr(value)
    raise TypeError(f"{name} must be one number, or a tensor with one element; got {got}")


def summed(count: Tensor, group: Any, reduction: str, failed: bool = False) -> Tensor:
    """The counts of all processes, added up; a mistake of any of them is found by all."""
    count = on_a_device_of(group, count)
    dtype = torch.float64 if count.device.type in WIDE_DEVICES else torch.float32
    count, code = count.to(dtype), CODES.index(reduction)
    numbers = torch.full((3,), code, dtype=dtype, device=count.device)  # filled there: no copy that waits
    numbers[0] = torch.where((count >= 0) & ~torch.full_like(count, failed, dtype=torch.bool), count, torch.nan)
    numbers[2] = code * code
    dist.all_reduce(numbers, group=group)
    size = dist.get_world_size(group)
    if numbers.device.type != "cpu" or torch.compiler.is_compiling():
        right = numbers[0].isfinite() & (size * numbers[2] == numbers[1] * numbers[1])
        return torch.where(right, numbers[0], torch.nan)
    total, codes, squares = numbers.tolist()
    if not total < float("inf") or size * squares != codes * codes:
        say_who(count, code, failed, group)
    return numbers[0]


def say_who(count: Tensor, code: int, failed: bool, group: Any) -> NoReturn:
    """Every process has found that one of them is wrong, and asks which."""
    mine = torch.stack([count, torch.full_like(count, code), torch.full_like(count, failed)])
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    said, wrong = [], COUNT
    for rank, numbers in enumerate(everyone):
        theirs, its_code, its_failed = numbers.tolist()
        if its_failed:
            wrong = "another process of the group failed before it had a count, and its own error says why"
        elif its_code != code and wrong is COUNT:
            wrong = "the processes of a group must have one reduction"
        name = CODES[int(its_code)] if its_code == 0 else f"reduction={CODES[int(its_code)]!r}"
        said.append(f"rank {rank}: {name}, {'failed' if its_failed else f'count {theirs:g}'}")
    raise ValueError(f"{wrong}; got {'; '.join(said)}")


@contextlib.contextmanager
def told_to_others(group: Any, reduction: str = CODES[0], device: Any = "cpu") -> Iterator[None]:
    """An error before `summed` is an error of the other processes, too, which wait there for this one."""
    try:
        yield
    except Exception:
        with contextlib.suppress(ValueError):
            summed(torch.zeros((), device=device), group, reduction, failed=True)
        raise


def on_a_device_of(group: Any, count: Tensor) -> Tensor:
    """A count in the processor's memory goes to the group's device, where the group has nothing for processors."""
    if not count.is_cpu:
        return count
    served = [pair.partition(":")[0] for pair in dist.get_backend_config(group).split(",")]
    return count if "cpu" in served else count.to(served[0])


def divisor(total: Tensor, group: Any, averaged: bool, at_least: float) -> Tensor:
    total = never_small(total, at_least)
    return total / dist.get_world_size(group) if averaged else total


def never_small(total: Tensor, at_least: float) -> Tensor:
    return total.clamp(min=at_least) if at_least > 0 else torch.where(total == 0, 1.0, total)


# -- a loss that is alone among several processes

is_initialized = dist.is_initialized if dist.is_available() else bool


def warn_if_alone(loss: Any, inputs: Any) -> bool:
    """Whether a loss that trains divides by the count of its own process, of several; if so, says what to write."""
    if torch.compiler.is_compiling() or dist.get_world_size() < 2 or is_sharded(inputs):
        return False
    if not (loss.training and torch.is_grad_enabled() and getattr(inputs, "requires_grad", False)):
        return False
    name, counts = type(loss).__name__, loss.rule.counts
    warnings.warn(
        f"{counted(dist.get_world_size(), 'process')} train, and this {name} divides by the {counts} of its "
        "own process. "
        "The average of such gradients is not the gradient of the whole batch (parfocal's docs/scale.md). Write "
        f"{name}(..., group=torch.distributed.group.WORLD); or, when gradients are accumulated, loss(input, target, "
        "normalizer=parfocal.torch.global_divisor(counts)) with the sum of loss.count(target) over the step's batches",
        stacklevel=6,  # this, what called it, forward, and two of torch's
    )
    return True
