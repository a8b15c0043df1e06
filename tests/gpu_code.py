"""What the GPU kernels are compiled to, without a GPU: `python tests/gpu_code.py 90` prints it as JSON.

Triton compiles for the card of its driver.  Here a driver pretends that there is one; launches are compiled and not
run.  The code goes through Triton's own disassembler.  Runs in a process of its own, as the tests have Triton interpret
its kernels.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from parfocal.backends.triton import launch
from parfocal.core.parameters import FLSD53

DISASSEMBLER = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"

# In PTX, a float instruction with .rn is rounded as IEEE says and never contracted; without it, ptxas may fuse it.
CONTRACTIBLE = re.compile(r"\b(?:mul|add|sub)(?:\.ftz)?\.(?:f32|f64|f32x2)\b")
APPROXIMATE = re.compile(r"\w+\.approx\S*|\w+\.ftz\S*|div\.\S*f32|\b(?:ex2|lg2|sin|cos|tanh|rcp|rsqrt)\.\S+")
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", re.MULTILINE)
BACKWARD = re.compile(r"\bBRA\b.*?0x([0-9a-f]+)")


class PretendedGPU:
    """A driver of Triton's with a card that is not there."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def loops(sass: str) -> tuple[int, list[int]]:
    """(instructions of the loop over the steps without the loops in it, those of each loop in it)."""
    lines = [(int(at, 16), text) for at, text in INSTRUCTION.findall(sass)]
    found = []
    for at, text in lines:
        if (jump := BACKWARD.search(text)) and (to := int(jump[1], 16)) < at:
            found.append((to, at))
    begin, end = max(found, key=lambda loop: loop[1] - loop[0])
    inner = [loop for loop in found if begin < loop[0] and loop[1] < end]
    outside = sum(begin <= at <= end and not any(a <= at <= b for a, b in inner) for at, _ in lines)
    return outside, [sum(a <= at <= b for at, _ in lines) for a, b in inner]


def facts(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any], counted: bool) -> dict[str, Any]:
    compiled = kernel.warmup(*arguments, grid=(1,), **constants)
    ptx, ttir = compiled.asm["ptx"], compiled.asm["ttir"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()

        def dumped(what: str) -> str:
            command = [str(DISASSEMBLER), what, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage, sass = dumped("--dump-resource-usage"), dumped("--dump-sass") if counted else ""
    narrow = re.findall(r"tt\.addptr .*, (?:tensor<)?((?:\d+x)*)i32>? loc", ttir)
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return {
        "contractible": sorted(set(CONTRACTIBLE.findall(ptx))),
        "approximate": sorted(set(APPROXIMATE.findall(ptx))),
        "registers": found["REG"],
        # Registers are spilled to the stack, and the kernels have nothing else there.
        "spilled": found["STACK"] + found["LOCAL"] + len(re.findall(r"\b(?:STL|LDL)\b", sass)),
        "loads": re.findall(r"ld\.global\.\S+", ptx),
        "stores": re.findall(r"st\.global\.\S+", ptx),
        "narrow offsets": sorted(set(narrow)),
    } | ({"loops": loops(sass)} if counted else {})


def recorded(call: Callable[[], Any], counted: bool) -> dict[str, dict[str, Any]]:
    """The facts of each kernel that a call launches, by its name; with `counted` the instructions of its loops too."""
    found: dict[str, dict[str, Any]] = {}

    def compile_only(kernel: Any, programs: int, *arguments: Any, warps: int = 4, **constants: Any) -> None:
        name = kernel.fn.__name__
        count = counted and name != "total_kernel"
        found[name] = facts(kernel, arguments, {**constants, **launch.OPTIONS, "num_warps": warps}, count)
        found[name]["threads"], found[name]["constants"] = 32 * warps, constants

    before, launch.launch = launch.launch, compile_only
    try:
        call()
    finally:
        launch.launch = before
    return found


def binary(dtype: torch.dtype, labels: torch.dtype, gamma: Any, **options: Any) -> Callable[[], Any]:
    gammas = gamma if isinstance(gamma, tuple) else (gamma, gamma)
    x, y = torch.zeros(4096, dtype=dtype), torch.zeros(4096, dtype=labels)
    return lambda: launch.binary(x, y, gammas, (0.75, 0.25), gradient=True, **options)


def softmax(dtype: torch.dtype, shape: tuple[int, ...], gamma: Any, **options: Any) -> Callable[[], Any]:
    z, targets = torch.zeros(shape, dtype=dtype), torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)
    return lambda: launch.softmax(z, targets, 1, gamma, ignore=-100, gradient=True, **options)


def dense(dtype: torch.dtype, labels: torch.dtype, shape: tuple[int, ...], gamma: Any, **options: Any) -> Any:
    z, y = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=labels)
    return lambda: launch.softmax(z, y, 1, gamma, gradient=True, **options)


F32, F16, BF16, INT8, INT64 = torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int64
CASES: dict[str, Callable[[], Any]] = {
    "binary, float labels": binary(F32, F32, 2.0, summed=True, divisor=7.0),
    "binary, float labels, losses": binary(F32, F32, 2.0),
    "binary, any gamma": binary(F32, INT8, 1.5, summed=True),
    "binary, any gamma, float labels": binary(F32, F32, 1.5, summed=True),
    "softmax, 1000 classes": softmax(F32, (64, 1000), 2.0, summed=True, divisor=64.0),
    "softmax, 100,000 classes": softmax(F32, (2, 100_000), 2.0, summed=True),
    "softmax, 10 classes": softmax(F32, (64, 10), 2.0, summed=True),
    "smoothed, 1000 classes": softmax(F32, (64, 1000), 2.0, summed=True, smoothing=0.1),
    "dense, 10 classes, any gamma": dense(F32, F32, (64, 10), 1.5, summed=True),
}
MORE: dict[str, Callable[[], Any]] = {
    "binary, bfloat16": binary(BF16, BF16, 2.0, summed=True),
    "binary, a pair": binary(F32, F32, (0.0, 4.0), ignore=-1, summed=True, divisor=torch.ones(())),
    "binary, one weight": binary(F32, F32, 2.0, weight=torch.ones(1), summed=True),
    "binary, one program": lambda: launch.binary(
        *(torch.zeros(1024),) * 2, (2.0, 2.0), (0.75, 0.25), gradient=True, summed=True, divisor=torch.ones(())
    ),
    "binary, expected": binary(F32, F32, (1.0, 2.5), expected=True, summed=True),
    "softmax, 4096 classes": softmax(F32, (64, 4096), 2.0, summed=True),
    "softmax, 1000 classes, any gamma": softmax(F32, (64, 1000), 1.5, summed=True),
    "softmax, 1001 classes": softmax(F32, (64, 1001), 2.0, summed=True),
    "softmax, segmentation, float16": softmax(F16, (2, 150, 64, 64), FLSD53),
    "smoothed, segmentation, float16": softmax(F16, (2, 150, 64, 64), FLSD53, smoothing=0.1),
    "dense, 1000 classes, bfloat16": dense(BF16, BF16, (64, 1000), FLSD53, weight=torch.ones(64), smoothing=0.1),
    "dense, a gamma per class": dense(F32, F32, (64, 100), tuple(range(100)), alpha=(0.5,) * 100),
}
# Like one of these but for a type or an argument.
SIMILAR: dict[str, Callable[[], Any]] = {
    "binary, int8 labels": binary(F32, INT8, 2.0, summed=True),
    "binary, float16, int64 labels": binary(F16, INT64, 3.0, summed=True),
    "binary, weights": binary(F32, F32, 2.0, weight=torch.ones(4096), summed=True),
    "binary, upstream": binary(F32, F32, 2.0, losses=False, upstream=torch.ones(4096)),
    "binary, smoothed": binary(F32, INT8, 2.0, smoothing=0.1, summed=True),
    "softmax, 1000 classes, bfloat16": softmax(BF16, (64, 1000), 2.0),
    "softmax, 100,000 classes, bfloat16": softmax(BF16, (2, 100_000), 2.0),
    "softmax, segmentation": softmax(F32, (2, 21, 64, 64), 2.0, summed=True, divisor=torch.ones(())),
    "softmax, a gamma per class": softmax(F32, (64, 100), tuple(range(100)), alpha=(0.5,) * 100),
    "smoothed, 100,000 classes": softmax(F32, (2, 100_000), 1.5, summed=True, smoothing=0.1),
    "dense, 1000 classes, any gamma": dense(F32, F32, (64, 1000), 1.5, summed=True, divisor=torch.ones(())),
    "dense, 4096 classes, int8 labels": dense(F32, INT8, (64, 4096), 3.0, summed=True),
    "count": lambda: launch.count(torch.zeros(4096, dtype=INT64), -100),
}


# The disassembler takes longer than the compiler, so it is asked for these alone.
COUNTED = (
    "binary, float labels",
    "binary, float labels, losses",
    "binary, int8 labels",
    "binary, bfloat16",
    "binary, any gamma",
    "binary, any gamma, float labels",
    "softmax, 1000 classes",
    "softmax, 1000 classes, any gamma",
    "softmax, 1000 classes, bfloat16",
    "softmax, 4096 classes",
    "softmax, 100,000 classes",
)


def main() -> None:
    capability, *names = sys.argv[1:]
    driver.set_active(PretendedGPU(int(capability)))
    every = {**CASES, **MORE, **SIMILAR}
    if names[:1] == ["all but"]:
        asked = [name for name in every if name not in names]
    else:
        asked = [*CASES, *MORE] if names == ["most"] else names or list(every)
    first = capability == "90"
    print(json.dumps({name: recorded(every[name], first and name in COUNTED) for name in asked}))


if __name__ == "__main__":
    main()
