"""What the stages share: PARFOCAL_GPU, float64 truth, errors, and times by the device's own clock."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from parfocal.backends import gpu, torch_gpu
from parfocal.torch import sigmoid_focal_loss, softmax_focal_loss

EXACT = 1e-6  # of float32, relative
SMALLEST_NORMAL = 2.0**-126

CACHE = 60e6  # bytes of the H200's second-level cache
# Before a timed step the device waits for 2 ms, so that the host has launched everything when the clock starts.
WAIT = 4_000_000  # cycles

LEAST = 5  # samples


@contextmanager
def using(choice: str) -> Iterator[None]:
    """PARFOCAL_GPU, which is read once otherwise."""
    before = os.environ["PARFOCAL_GPU"]
    forget: Any = getattr(gpu.forced, "cache_clear", lambda: None)
    os.environ["PARFOCAL_GPU"] = choice
    forget()
    try:
        yield
    finally:
        os.environ["PARFOCAL_GPU"] = before
        forget()


def trust_the_kernels() -> None:
    """No look at their numbers at the first use, which stops where they are wrong: the stages measure by how much."""
    place = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    torch_gpu.checked.update((place, kind) for kind in ("sums", "binary", "indices", "dense"))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def loss_and_gradient(function: Callable[..., Tensor], inputs: Tensor, *targets: Any, **options: Any) -> Any:
    """Of the sum of what a function returns."""
    inputs = inputs.detach().requires_grad_()
    loss = function(inputs, *targets, **options)
    (gradient,) = torch.autograd.grad(loss, inputs, torch.ones_like(loss))
    return loss.detach(), gradient


def truth(inputs: Tensor, targets: Tensor, **options: Any) -> Any:
    """The loss and the gradient by operations in float64, which are right to 1e-14."""
    function = sigmoid_focal_loss if inputs.shape == targets.shape else softmax_focal_loss
    with using("torch"):
        return loss_and_gradient(function, inputs.double(), targets, **options)


def worst(found: Tensor, true: Tensor) -> float:
    """The largest relative error where the truth is a normal float32."""
    found, true = found.double(), true.double()
    same = (found == true) | (found.isnan() & true.isnan()) | (true.abs() < SMALLEST_NORMAL)
    error = torch.where(same, 0.0, (found - true).abs() / true.abs())
    return float(torch.nan_to_num(error, nan=float("inf")).max()) if error.numel() else 0.0


def ulps(found: Tensor, true: Tensor) -> float:
    """The largest error in units of the last place of float32."""
    true = true.double()
    _, exponent = torch.frexp(torch.where(true.isfinite() & (true.abs() >= SMALLEST_NORMAL), true, 1.0))
    unit = torch.ldexp(torch.ones_like(true), exponent - 24)
    error = torch.where(true.isfinite(), (found.double() - true).abs() / unit, 0.0)
    return float(torch.nan_to_num(error, nan=float("inf")).max())


# -- times


def device_seconds(step: Callable[[int], object], seconds: float = 0.2, most: int = 30) -> float:
    """The median time of a step on the device; each step is given its number, to take other inputs than the last."""
    for number in range(2):  # compiles
        step(number)
    torch.cuda.synchronize()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < LEAST or (len(times) < most and time.perf_counter() - began < seconds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(WAIT)
        start.record()
        step(len(times))
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def host_microseconds(steps: dict[str, Callable[[], object]], calls: int, rounds: int = 5) -> dict[str, float]:
    """The median time of each step on the host, in microseconds; the steps take turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    for _ in range(rounds):
        for name, step in steps.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(calls):
                step()
            torch.cuda.synchronize()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return {name: statistics.median(found) for name, found in times.items()}


def copy_rate(numbers: int) -> float:
    """Bytes a second, read and written, of a copy of so many float32."""
    source = torch.zeros(numbers, device=device())
    target = torch.empty_like(source)
    return 8 * numbers / device_seconds(lambda number: target.copy_(source))


def copies(bytes_of_one: int) -> int:
    """How many sets of inputs are needed so that none of them is still in the cache when its turn comes."""
    return max(1, min(64, int(4 * CACHE / bytes_of_one) + 1))
