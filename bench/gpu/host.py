"""Stages 0 and 6: the machine; and a step of a small batch, whose time is the host's, with no wait for the device."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

import parfocal
from bench.gpu import peers, speed
from bench.gpu.device import device, host_microseconds, using
from bench.gpu.stage import Stage
from parfocal.backends.triton import self_check
from parfocal.torch import sigmoid_focal_loss, softmax_focal_loss

# -- 0


def machine(stage: Stage) -> None:
    properties = torch.cuda.get_device_properties(0)
    stage.line("card", properties.name, f"capability {properties.major}.{properties.minor}")
    stage.line("multiprocessors", properties.multi_processor_count)
    stage.line("memory", properties.total_memory / 1e9, "GB")
    found = {"torch": torch.__version__, "triton": triton.__version__, "numpy": np.__version__}
    stage.line("versions", "; ".join(f"{a} {b}" for a, b in {"python": platform.python_version(), **found}.items()))
    stage.line("parfocal", f"{parfocal.__version__}, {parfocal.kernel_info()['gpu']}")
    if shutil.which("nvidia-smi"):
        with stage.part("clocks"):
            query = "clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,driver_version"
            command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True).stdout
            stage.line("clocks and driver", answer.strip().splitlines()[0], query)
    kinds = {"summing": "sums", "binary": "binary", "softmax": "indices", "smoothed softmax": "dense"}
    for name, kind in kinds.items():
        with stage.part(f"the look at {name} kernels before their first use"):
            self_check.check(torch.zeros((), device=device()).device, kind)
            stage.line(f"the look at {name} kernels before their first use", "right", "", "right", True)
    with stage.part("copy"):
        stage.speed("copy of 4.3 GB, read and written", speed.rate(stage) / 1e12, 4.0, "TB/s")


# -- 6

BATCH = 32
Step = Callable[[], object]


def step(loss: Callable[..., Tensor], *inputs: Tensor) -> Step:
    """As in training: a new gradient for the logits."""
    logits = inputs[0].detach().requires_grad_()

    def run() -> object:
        logits.grad = None
        loss(logits, *inputs[1:]).backward()
        return logits.grad

    return run


def small_batches(stage: Stage) -> None:
    x, y = torch.randn(BATCH, device=device()), torch.ones(BATCH, device=device())
    z, targets = torch.randn(BATCH, 10, device=device()), torch.zeros(BATCH, dtype=torch.int64, device=device())
    steps = {
        "binary, mean": step(partial(sigmoid_focal_loss, reduction="mean"), x, y),
        "binary, mean over positives": step(partial(sigmoid_focal_loss, reduction="mean_over_positives"), x, y),
        "softmax": step(softmax_focal_loss, z, targets),
        "bce_with_logits": step(peers.bce, x, y),
        "cross_entropy": step(peers.cross_entropy, z, targets),
        "torchvision's formula": step(peers.torchvision_focal, x, y),
    }
    calls = 5 if stage.tiny else 400
    with stage.part("a step of 32 logits"):
        times = host_microseconds(steps, calls)
        for name in list(times)[1:]:
            stage.line(f"a step of 32, {name}", times[name], "us")
        stage.speed("a step of 32, binary, mean", times["binary, mean"], 35, "us", at_least=False)
        ratio = times["binary, mean"] / times["bce_with_logits"]
        stage.speed("binary, mean / bce_with_logits", ratio, 2.0, "times", at_least=False)
        stage.line("softmax / cross_entropy", times["softmax"] / times["cross_entropy"], "times")
    with stage.part("operations"), using("torch"):
        found = host_microseconds({"binary": steps["binary, mean"], "softmax": steps["softmax"]}, calls, 3)
        for name, microseconds in found.items():
            stage.line(f"a step of 32, {name}, by operations", microseconds, "us")
    waits(stage, x, y, z, targets)
    with stage.part("a launch"):
        launches(stage, x, calls)


def waits(stage: Stage, x: Tensor, y: Tensor, z: Tensor, targets: Tensor) -> None:
    """A call that waits for the device is an error here."""
    marked, skipped = y.clone(), targets.clone()
    marked[::5], skipped[::5] = -1, -100
    calls: dict[str, Step] = {
        "binary, mean": step(partial(sigmoid_focal_loss, reduction="mean"), x, y),
        "binary, none": step(lambda *given: sigmoid_focal_loss(*given).sum(), x, y),
        "binary, ignored": step(partial(sigmoid_focal_loss, reduction="mean", ignore_index=-1), x, marked),
        "binary, positives": step(partial(sigmoid_focal_loss, reduction="mean_over_positives"), x, y),
        "binary, weights": step(partial(sigmoid_focal_loss, reduction="sum", weight=x.abs()), x, y),
        "softmax, mean": step(softmax_focal_loss, z, skipped),
        "softmax, class weights": step(partial(softmax_focal_loss, weight=[1.0] * 10), z, skipped),
        "softmax, smoothed, by operations": step(partial(softmax_focal_loss, label_smoothing=0.1), z, skipped),
    }
    for name, call in calls.items():
        with stage.part(f"no wait, {name}"):
            call()  # tables of the classes are copied to the device once
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                call()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            stage.line(f"no wait, {name}", "yes", "", "yes", True)


def launches(stage: Stage, x: Tensor, calls: int) -> None:
    """Triton's own launch, and launch.py's, which finds the compiled kernel itself."""
    from parfocal.backends.triton import launch
    from parfocal.backends.triton.sums import multiply_kernel

    values, factor = x.clone(), torch.ones((), device=device())
    options: dict[str, Any] = {"TILE": 1024, "num_warps": 4, **launch.OPTIONS}
    steps: dict[str, Step] = {
        "by Triton": lambda: multiply_kernel[(1,)](values, factor, BATCH, **options),
        "by launch.py": lambda: launch.multiply(values, factor),
    }
    for name, microseconds in host_microseconds(steps, calls).items():
        stage.line(f"a launch {name}", microseconds, "us")
