"""A rehearsal: tensors of the processor in place of a GPU's, with kernels that Triton interprets.

Each line of the stages runs once before it meets a GPU.  What torch.cuda does is pretended here, and here alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bench.gpu import device, interpreter, modes
from parfocal.backends import torch as backends
from parfocal.backends import torch_gpu
from parfocal.backends.torch_terms import Namespace
from parfocal.backends.triton import launch


def as_on_gpu() -> None:
    """Tensors of the processor go where those of a GPU go, and nothing to the native kernel."""

    def backend(scores: Tensor, labels: Any, weight: Any, differentiable: bool, host: Any) -> Any:
        found = None if differentiable else torch_gpu.backend(scores, labels, weight, host)
        return found or backends.TorchOperations(Namespace(scores.device), host)

    torch_gpu.KINDS, backends.backend = ("cpu",), backend


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return (other.at - self.at) * 1e3


class Stream:
    def wait_stream(self, other: Stream) -> None:
        pass


class Graph:
    def replay(self) -> None:
        pass


@contextmanager
def nothing(*given: Any) -> Iterator[None]:
    yield


def pretend() -> None:
    """Everything of torch.cuda that the stages call."""
    cuda: Any = torch.cuda
    cuda.Event, cuda.Stream, cuda.CUDAGraph = Event, Stream, Graph
    cuda.stream = cuda.graph = nothing
    cuda.current_stream = Stream
    cuda.synchronize = cuda._sleep = cuda.set_sync_debug_mode = lambda *given: None
    cuda.get_device_properties = lambda number: SimpleNamespace(
        name="none: a rehearsal", major=0, minor=0, multi_processor_count=0, total_memory=0
    )
    compile_, capture = torch.compile, modes.captured

    def without_inductor(function: Any, mode: Any = None, **options: Any) -> Any:
        return compile_(function, backend="aot_eager", **options)

    def replayed(step: Callable[[], Any]) -> tuple[Any, Callable[[], object]]:
        """A pretended graph has recorded nothing: the step runs again."""
        results, replay = capture(step)

        def again() -> None:
            replay()
            for kept, new in zip(results, step(), strict=True):
                kept.copy_(new)

        return results, again

    torch.compile = without_inductor
    modes.captured, device.LEAST = replayed, 1


def begin(whole: bool = True) -> None:
    """Interpreted kernels; and, for `whole`, a GPU that is not there."""
    as_on_gpu()
    interpreter.quicken()
    launch.ROWS = 2**12  # of a program: the interpreter's time goes with their number
    if whole:
        pretend()
