"""Stages 0, 4 and 5: the copy rate, and times on the device beside what people use, each checked before it is timed.

A step is a loss and its gradient.  Inputs rotate, so that none is still in the cache; the device waits while the host
launches, so times are those of the device alone (host.py has the host's).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.gpu import peers
from bench.gpu.device import EXACT, copies, copy_rate, device, device_seconds, loss_and_gradient, truth, worst
from bench.gpu.stage import Stage
from parfocal.torch import sigmoid_focal_loss, softmax_focal_loss

Loss = Callable[..., Tensor]

# -- 0


def rate(stage: Stage) -> float:
    """The copy rate that the others are compared with: 8.6 GB read and written."""
    return copy_rate(2**16 if stage.tiny else 2**30)


# -- 4


class Case(NamedTuple):
    dtype: torch.dtype
    labels: torch.dtype
    gamma: float
    reduction: str
    beside: bool  # with peers, and where a sum is asked for, with the compiled one

    def __str__(self) -> str:
        names = [str(dtype).removeprefix("torch.") for dtype in (self.dtype, self.labels)]
        return f"{names[0]}, labels {names[1]}, gamma {self.gamma:g}, {self.reduction}"

    @property
    def bytes(self) -> int:
        """Of a logit, read and written: once where the sum's gradient comes with it, else forward and backward."""
        x, y = self.dtype.itemsize, self.labels.itemsize
        return x + y + x if self.reduction == "sum" else (x + y + x) + (x + y + x + x)


F32, BF16, INT8 = torch.float32, torch.bfloat16, torch.int8
CASES = [  # the most important first: the stage may be cut
    Case(F32, F32, 2.0, "sum", True),
    Case(BF16, BF16, 2.0, "sum", True),
    Case(F32, F32, 2.0, "none", True),
    Case(F32, F32, 1.5, "sum", False),
    Case(F32, INT8, 2.0, "sum", False),
    Case(BF16, INT8, 2.0, "sum", False),
    Case(BF16, BF16, 1.5, "sum", False),
    Case(F32, INT8, 1.5, "sum", False),
    Case(F32, F32, 1.5, "none", False),
    Case(BF16, BF16, 2.0, "none", False),
    Case(F32, INT8, 2.0, "none", False),
    Case(BF16, INT8, 1.5, "sum", False),
]
SIZES = {"256M": 2**28, "16M": 2**24, "1M": 2**20}
COMPILED = "torchvision's, compiled"


def drawn(case: Case, size: int, number: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(number)
    logits = (3 * torch.randn(size, device=device())).to(case.dtype)
    return logits, (torch.rand(size, device=device()) < 0.1).to(case.labels)


def contenders(case: Case) -> dict[str, Loss]:
    options: dict[str, Any] = {"gamma": case.gamma, "reduction": case.reduction}
    found: dict[str, Loss] = {"parfocal": partial(sigmoid_focal_loss, **options)}
    if case.beside:
        found["torchvision's formula"] = partial(peers.torchvision_focal, **options)
        found["bce_with_logits"] = partial(peers.bce, **options)
        if case.reduction == "sum":
            found[COMPILED] = torch.compile(found["torchvision's formula"], dynamic=False)
    return found


def error_of(stage: Stage, name: str, loss: Loss, case: Case) -> tuple[float, float]:
    """(the error of a contender's gradient, what it may be)."""
    logits, labels = drawn(case, small(stage, SIZES["16M"]))
    found = loss_and_gradient(loss, logits, labels)[1]
    true = truth(logits, labels, gamma=0.0 if "bce" in name else case.gamma, alpha=None if "bce" in name else 0.25)[1]
    if name == "parfocal":
        return worst(found, true), limit_of(stage, case.dtype)
    return float((found.double() - true).abs().max() / true.abs().max()), 1e-5 if case.dtype == F32 else 0.05


def small(stage: Stage, size: int) -> int:
    return 1100 + size // 2**18 if stage.tiny else size


def limit_of(stage: Stage, dtype: torch.dtype) -> float:
    """Half a unit of the last place of bfloat16; the interpreter cuts where a GPU rounds."""
    return EXACT if dtype == F32 else 2.0**-7 if stage.tiny else 1.001 * 2.0**-8


def binary(stage: Stage) -> None:
    copied = rate(stage)
    stage.line("copy", copied / 1e12, "TB/s")
    for case in [*CASES[:3], CASES[5]] if stage.tiny else CASES:
        right = {}
        torch._dynamo.reset()
        for name, loss in contenders(case).items():
            with stage.part(f"binary, {case}, {name}"):
                error, limit = error_of(stage, name, loss, case)
                if error <= limit:
                    right[name] = loss
                else:
                    stage.line(f"binary, {case}, {name}", f"WRONG, and not timed: error {error:.2g}", "", "", False)
        for name, size in SIZES.items() if "parfocal" in right else ():
            chosen = {of: loss for of, loss in right.items() if of != COMPILED or name != "1M"}
            timed(stage, f"binary {name}, {case}", case, small(stage, size), chosen, copied)


def timed(stage: Stage, what: str, case: Case, size: int, losses: dict[str, Loss], copied: float) -> None:
    """All contenders on the same inputs, and their ratios to ours."""
    with stage.part(what):
        sets = [drawn(case, size, number) for number in range(copies(size * (case.dtype.itemsize * 2)))]
        if stage.tiny:
            sets = sets[:2]
        tail = loss_and_gradient(losses["parfocal"], *(given[-1024:] for given in sets[0]))[1]
        whole = loss_and_gradient(losses["parfocal"], *sets[0])[1]
        same = torch.equal(whole[-1024:], tail)
        stage.line(f"{what}, the last gradients as alone", "yes" if same else "no", "", "yes", same)
        del whole
        seconds = {}
        for name, loss in losses.items():
            with stage.part(f"{what}, {name}"):
                seconds[name] = device_seconds(stepping(loss, sets), 0.0 if stage.tiny else 0.2)
                stage.line(f"{what}, {name}", 1e12 * seconds[name] / size, "ps a logit")
        ours, must = seconds["parfocal"], case == CASES[0] and size >= 2**24
        share = f"{what}, share of the copy rate", 100 * case.bytes * size / ours / copied
        if must:
            stage.speed(*share, 85, f"% at {case.bytes} bytes a logit")
        else:
            stage.line(*share, f"% at {case.bytes} bytes a logit")
        for name, limit in (("torchvision's formula", 25.0), (COMPILED, 1.0), ("bce_with_logits", 0.0)):
            if name in seconds and must and limit:
                stage.speed(f"{what}, {name} / ours", seconds[name] / ours, limit, "times")
            elif name in seconds:
                stage.line(f"{what}, {name} / ours", seconds[name] / ours, "times")


def stepping(loss: Loss, sets: list[tuple[Tensor, ...]]) -> Callable[[int], object]:
    """Steps that take the sets of inputs in turn."""
    asking = [(logits.detach().requires_grad_(), *rest) for logits, *rest in sets]
    factors = None if loss(*asking[0]).ndim == 0 else torch.ones_like(asking[0][0])

    def step(number: int) -> object:
        inputs = asking[number % len(asking)]
        return torch.autograd.grad(loss(*inputs), inputs[0], factors)

    return step


# -- 5

SHAPES = {
    "16k x 32k": (2**14, 2**15),
    "64k x 1000": (2**16, 1000),
    "400k x 10": (400_000, 10),
    "4k x 128k": (4096, 2**17),
}
REHEARSED = {F32: 3, BF16: 2}  # of these: the last and the first would be of the same size


def rows(dtype: torch.dtype, shape: tuple[int, int], number: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(number)
    logits = torch.empty(shape, device=device(), dtype=dtype).normal_()
    return logits, torch.randint(0, shape[1], shape[:1], device=device())


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    return softmax_focal_loss(logits, targets)


def softmax(stage: Stage) -> None:
    copied = rate(stage)
    for dtype in (F32, BF16):
        for name, shape in list(SHAPES.items())[: REHEARSED[dtype] if stage.tiny else None]:
            tiny = 2, min(shape[1], 5000)
            what = f"softmax {name}, {str(dtype).removeprefix('torch.')}"
            softmax_shape(stage, what, dtype, tiny if stage.tiny else shape, copied)
    for name in ("16k x 32k",) if stage.tiny else ("16k x 32k", "4k x 128k", "64k x 1000"):
        rule(stage, name, (2, min(SHAPES[name][1], 5000)) if stage.tiny else SHAPES[name])


def softmax_shape(stage: Stage, what: str, dtype: torch.dtype, shape: tuple[int, int], copied: float) -> None:
    losses: dict[str, Loss] = {"parfocal": focal, "cross_entropy": peers.cross_entropy}
    if dtype == F32 or shape[1] == 1000:
        torch._dynamo.reset()
        losses["by hand, compiled"] = torch.compile(peers.focal_over_cross_entropy, dynamic=False)
    with stage.part(what):
        few = [given[:8].contiguous() for given in rows(dtype, shape)]
        true, found = truth(*few), loss_and_gradient(focal, *few)
        error, limit = worst(found[1], true[1]), limit_of(stage, dtype)
        stage.at_most(f"{what}, error of 8 rows", error, limit)
        if error > limit:
            return
        logits = math.prod(shape)
        sets = [rows(dtype, shape, number) for number in range(2 if stage.tiny else copies(logits * dtype.itemsize))]
        seconds = {}
        for name, loss in losses.items():
            with stage.part(f"{what}, {name}"):
                seconds[name] = device_seconds(stepping(loss, sets), 0.0 if stage.tiny else 0.2)
                stage.line(f"{what}, {name}", 1e12 * seconds[name] / logits, "ps a logit")
        ours, moved = seconds["parfocal"], 2 * dtype.itemsize
        stage.line(
            f"{what}, share of the copy rate", 100 * moved * logits / ours / copied, f"% at {moved} bytes a logit"
        )
        for name in list(seconds)[1:]:
            ratio = f"{what}, {name} / ours", seconds[name] / ours
            if dtype == F32 and name == "cross_entropy" and shape[1] >= 1000:
                stage.speed(*ratio, 2.0, "times")
            else:
                stage.line(*ratio, "times")


def rule(stage: Stage, name: str, shape: tuple[int, int]) -> None:
    """Other tiles and warps than launch.py's rule chooses."""
    from parfocal.backends.triton import launch

    sets = [rows(F32, shape)]
    widest, before = launch.WIDEST, launch.launch
    for tile in (2048, 4096, 8192) if shape[1] > 4096 else (widest,):
        for warps in (4, 16) if stage.tiny else (4, 8, 16):
            what = f"softmax {name}, tile {tile}, {warps} warps"
            try:
                with stage.part(what):
                    launch.compiled.clear()  # where kernels are found whatever their warps
                    launch.WIDEST, launch.launch = tile, partial(with_warps, before, warps)
                    seconds = device_seconds(stepping(focal, sets), 0.0 if stage.tiny else 0.1, 10)
                    stage.line(what, 1e12 * seconds / math.prod(shape), "ps a logit")
            finally:
                launch.WIDEST, launch.launch = widest, before
                launch.compiled.clear()


def with_warps(before: Callable[..., None], other: int, kernel: Any, *arguments: Any, **constants: Any) -> None:
    """A launch with other warps, if it is that of a row."""
    if kernel.fn.__name__ == "rows_kernel":
        constants["warps"] = other
    before(kernel, *arguments, **constants)
