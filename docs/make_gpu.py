"""Writes the table of launches and bytes into docs/gpu.md: `python docs/make_gpu.py`, with triton installed.

python docs/make_gpu.py            writes the block between the two markers
python docs/make_gpu.py --check    exits with 1 if the page shows another table

No GPU is needed: nothing is computed on one.  An operation of torch is a launch if it writes memory; its bytes are
those of all tensors that it reads and writes.  A kernel's launches are counted in place of being made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from parfocal.backends import torch as backends
from parfocal.backends import torch_gpu
from parfocal.backends.triton import launch
from parfocal.torch import sigmoid_focal_loss, softmax_focal_loss

PAGE = Path(__file__).resolve().parent / "gpu.md"
START, END = "<!-- made by docs/make_gpu.py: start -->", "<!-- made by docs/make_gpu.py: end -->"

ROWS = {10: 3200, 1000: 32}
LOGITS = 32_000
aten = torch.ops.aten


class Cost(NamedTuple):
    forward: int
    backward: int
    bytes: float  # of a logit, forward and backward

    def __str__(self) -> str:
        return (
            f"{self.forward} + {self.backward} | {self.bytes:,.3g}"
            if self.bytes < 1000
            else (f"{self.forward} + {self.backward} | {self.bytes:,.0f}")
        )


class Counted(TorchDispatchMode):
    """Adds up what operations launch, and the bytes of their tensors."""

    launches, bytes = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is aten.binary_cross_entropy_with_logits.default:
            with self:
                return as_on_cuda(*args)
        result = function(*args, **(kwargs or {}))
        if not (function.is_view or function.__name__.startswith(("empty", "new_empty", "detach", "lift_fresh"))):
            self.add(*tree_leaves((args, kwargs, result)))
        return result

    def add(self, *values: Any) -> None:
        self.launches += 1
        sizes = {(v.data_ptr(), v.shape): v.numel() * v.element_size() for v in values if isinstance(v, Tensor)}
        self.bytes += sum(sizes.values())


def as_on_cuda(x: Tensor, y: Tensor, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Tensor:
    """What the implementation for CUDA launches one by one."""
    loss = (1 - y).mul_(x).sub_(F.logsigmoid(x))
    return loss if reduction == 0 else loss.mean() if reduction == 1 else loss.sum()


def cost(call: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, mode: Counted) -> Cost:
    inputs = inputs.detach().requires_grad_()
    with mode:
        loss = call(inputs, targets)
    forward, factors = mode.launches, torch.ones_like(loss)
    with mode:
        torch.autograd.grad(loss, inputs, factors)
    return Cost(forward, mode.launches - forward, mode.bytes / inputs.numel())


@contextmanager
def kernels(mode: Counted) -> Iterator[None]:
    """Tensors of the processor go where those of a GPU go, and launches are counted and not made."""
    before = backends.backend, torch_gpu.kernel_reads, torch_gpu.KINDS, launch.launch
    for kind in ("sums", "binary", "indices", "dense"):  # as the first calls on a GPU do
        torch_gpu.kernels(torch.device("cpu"), kind)

    def counted(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        if kernel.fn.__name__ == "multiply_kernel":  # it reads its factor, 1, and returns
            arguments = arguments[1:2]
        mode.add(*arguments)

    def backend(scores: Tensor, labels: Any, weight: Any, differentiable: bool, host: Any) -> Any:
        return torch_gpu.backend(scores, labels, weight, host)

    backends.backend, torch_gpu.kernel_reads = backend, lambda *given: True  # a dispatch mode sends it to operations
    torch_gpu.KINDS, launch.launch = ("cpu",), counted
    try:
        yield
    finally:
        backends.backend, torch_gpu.kernel_reads, torch_gpu.KINDS, launch.launch = before


def torchvision_focal(x: Tensor, y: Tensor) -> Tensor:
    p = torch.sigmoid(x)
    cross_entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    alpha_t = 0.25 * y + 0.75 * (1 - y)
    return (alpha_t * (cross_entropy * (1 - p_t) ** 2.0)).mean()


def focal_by_hand(z: Tensor, targets: Tensor) -> Tensor:
    loss = F.cross_entropy(z, targets, reduction="none")
    return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


class Work(NamedTuple):
    name: str
    call: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor
    before: str = ""  # operations at commit 67480ed, forward and backward together


def works() -> tuple[list[Work], list[Work]]:
    """(ours, peers)."""
    torch.manual_seed(0)
    x, y = torch.randn(LOGITS), (torch.rand(LOGITS) < 0.1).float()
    marked = torch.where(torch.rand(LOGITS) < 0.1, -1.0, y)

    def binary(name: str, inputs: Tensor = x, targets: Tensor = y, before: str = "", **options: Any) -> Work:
        options = {"reduction": "mean", **options}
        return Work(name, lambda a, b: sigmoid_focal_loss(a, b, **options), inputs, targets, before)

    def softmax(classes: int, name: str, before: str = "", **options: Any) -> Work:
        z, targets = torch.randn(ROWS[classes], classes), torch.randint(0, classes, (ROWS[classes],))
        return Work(name, lambda a, b: softmax_focal_loss(a, b, **options), z, targets, before)

    half = x.bfloat16()
    ours = [
        binary("binary, gamma 2, mean", before="149"),
        binary("binary, gamma 2, unreduced", reduction="none"),
        binary("binary, gamma 1.5, mean", before="281", gamma=1.5),
        binary("binary, a gamma pair, mean", before="180", gamma=(4.0, 1.5)),
        binary("binary, ignored labels, mean", targets=marked, before="167", ignore_index=-1),
        binary("binary, mean over positives", reduction="mean_over_positives"),
        binary("binary, bfloat16 logits and labels", half, y.bfloat16(), before="154"),
        softmax(1000, "softmax, 1000 classes, mean", before="303"),
        softmax(1000, "softmax, 1000 classes, unreduced", reduction="none"),
        softmax(1000, "softmax, 1000 classes, gamma 1.5", before="337", gamma=1.5),
        softmax(10, "softmax, 10 classes, mean", before="303"),
        softmax(1000, "softmax, 1000 classes, smoothed", before="560", label_smoothing=0.1),
    ]
    z, targets = ours[7].inputs, ours[7].targets
    peers = [
        Work("torchvision's formula", torchvision_focal, x, y),
        Work("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, x, y),
        Work("cross_entropy, 1000 classes", F.cross_entropy, z, targets),
        Work("focal by hand over cross_entropy", focal_by_hand, z, targets),
    ]
    return ours, peers


def table() -> str:
    ours, peers = works()
    lines = [
        "| loss | operations at first | operations | bytes a logit | kernels | bytes a logit |",
        "|---|---|---|---|---|---|",
    ]
    for work in ours:
        operations, mode = cost(work.call, work.inputs, work.targets, Counted()), Counted()
        with kernels(mode):
            cost(work.call, work.inputs, work.targets, Counted())  # tables of class weights are made once
            mode.launches = mode.bytes = 0
            found = cost(work.call, work.inputs, work.targets, mode)
        lines.append(f"| {work.name} | {work.before} | {operations} | {found} |")
    beside = [f"| *{work.name}* | | {cost(work.call, work.inputs, work.targets, Counted())} | | |" for work in peers]
    return "\n".join(lines + beside)


def main(arguments: list[str]) -> int:
    text = PAGE.read_text()
    start, end = text.index(START) + len(START), text.index(END)
    made = f"\n{table()}\n"
    if "--check" in arguments:
        same = text[start:end] == made
        print("the page shows what is counted" if same else "the page shows another table; run without --check")
        return 0 if same else 1
    PAGE.write_text(text[:start] + made + text[end:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
