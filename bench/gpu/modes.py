"""Stage 7: graphs, compilers, double backward, autocast, streams and sizes give what a plain eager call gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.gpu.device import EXACT, device, loss_and_gradient, truth, worst
from bench.gpu.stage import Stage
from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss

Pair = tuple[Tensor, Tensor]
BINARY, SOFTMAX = partial(sigmoid_focal_loss, reduction="mean"), partial(softmax_focal_loss, reduction="mean")


def binary_inputs(number: int, stage: Stage) -> Pair:
    torch.manual_seed(number)
    x = 3 * torch.randn(1000 if stage.tiny else 100_000, device=device())
    return x, (torch.rand(len(x), device=device()) < 0.3).float()


def softmax_inputs(number: int, stage: Stage) -> Pair:
    torch.manual_seed(number)
    z = 3 * torch.randn(2 if stage.tiny else 512, 1000, device=device())
    return z, torch.randint(0, 1000, (len(z),), device=device())


def modes(stage: Stage) -> None:
    for name, loss, inputs in (("binary", BINARY, binary_inputs), ("softmax", SOFTMAX, softmax_inputs)):
        first, other = inputs(0, stage), inputs(1, stage)
        for part in (graph, second_stream, kept_graph, autocast):
            with stage.part(f"{name}, {part.__name__}"):
                part(stage, name, loss, first, other)
        with stage.part(f"{name}, double backward"):
            double_backward(stage, name, loss, first)
    with stage.part("2^31 + 5 logits"):
        many_logits(stage)
    with stage.part("2^31 + 65,536 logits of a softmax"):
        many_rows(stage)
    for name, module, first in (
        ("binary", SigmoidFocalLoss(reduction="mean"), binary_inputs(0, stage)),
        ("softmax", SoftmaxFocalLoss(), softmax_inputs(0, stage)),
    ):
        for mode in (None, "reduce-overhead"):
            with stage.part(f"{name}, torch.compile, mode {mode}"):
                compiled(stage, f"{name}, torch.compile, mode {mode}", module, first, mode, EXACT)
        with stage.part(f"{name}, bfloat16, torch.compile"):
            half = first[0].bfloat16(), first[1]
            compiled(stage, f"{name}, bfloat16, torch.compile", module, half, None, 1.001 * 2.0**-7)


def equal(stage: Stage, what: str, found: Any, expected: Any) -> None:
    """Bit for bit."""
    same = all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    difference = max(float((a.double() - b.double()).abs().max()) for a, b in zip(found, expected, strict=True))
    stage.line(what, "equal" if same else f"differs by {difference:.2g}", "", "equal", same)


# -- CUDA graphs, streams, retained graphs, autocast


def captured(step: Callable[[], Any]) -> tuple[Any, Callable[[], object]]:
    """(what a step returns, what computes it again)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    return results, graph.replay


def graph(stage: Stage, name: str, loss: Callable[..., Tensor], first: Pair, other: Pair) -> None:
    """Captured with some inputs, and replayed with others."""
    inputs, targets = first[0].clone().requires_grad_(), first[1].clone()

    def step() -> Any:
        value = loss(inputs, targets)
        return value.detach(), torch.autograd.grad(value, inputs)[0]

    results, replay = captured(step)
    with torch.no_grad():
        inputs.copy_(other[0])
        targets.copy_(other[1])
    replay()
    torch.cuda.synchronize()
    equal(stage, f"{name}, a CUDA graph, replayed", results, loss_and_gradient(loss, *other))


def second_stream(stage: Stage, name: str, loss: Callable[..., Tensor], first: Pair, other: Pair) -> None:
    expected = loss_and_gradient(loss, *first)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = loss_and_gradient(loss, *first)
    torch.cuda.current_stream().wait_stream(stream)
    equal(stage, f"{name}, a second stream", found, expected)


def kept_graph(stage: Stage, name: str, loss: Callable[..., Tensor], first: Pair, other: Pair) -> None:
    """Backward three times, with other factors."""
    expected = loss_and_gradient(loss, *first)[1]
    inputs = first[0].detach().requires_grad_()
    value = loss(inputs, first[1])
    two = torch.full_like(value, 2.0)
    found = [torch.autograd.grad(value, inputs, two, retain_graph=True)[0] for _ in range(2)]
    found.append(torch.autograd.grad(value, inputs)[0])
    equal(stage, f"{name}, backward three times", found, [2 * expected, 2 * expected, expected])


def autocast(stage: Stage, name: str, loss: Callable[..., Tensor], first: Pair, other: Pair) -> None:
    half = first[0].bfloat16()
    with torch.autocast(device().type, dtype=torch.bfloat16):
        found = loss_and_gradient(loss, half, first[1])
    value, gradient = loss_and_gradient(loss, half.float(), first[1])[0], loss_and_gradient(loss, half, first[1])[1]
    dtype = found[0].dtype
    stage.line(f"{name}, autocast, the loss's dtype", str(dtype), "", "torch.float32", dtype == torch.float32)
    equal(stage, f"{name}, autocast", found, (value, gradient))


def double_backward(stage: Stage, name: str, loss: Callable[..., Tensor], first: Pair) -> None:
    def product(inputs: Tensor) -> Tensor:
        inputs = inputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(inputs, first[1]), inputs, create_graph=True)
        vector = torch.linspace(-1, 1, inputs.numel(), device=device(), dtype=inputs.dtype).reshape(inputs.shape)
        return torch.autograd.grad((gradient * vector).sum(), inputs)[0]

    found, true = product(first[0]).double(), product(first[0].double())
    error = float((found - true).abs().max() / true.abs().max())
    stage.at_most(f"{name}, double backward, error", error, 2e-6, "of the largest")


# -- sizes


def many_logits(stage: Stage) -> None:
    size = 5005 if stage.tiny else 2**31 + 5
    logits = torch.empty(size, dtype=torch.bfloat16, device=device()).normal_(0, 3)
    labels = torch.zeros(size, dtype=torch.int8, device=device())
    labels[-1000::7] = 1
    total = partial(sigmoid_focal_loss, reduction="sum")
    tail = loss_and_gradient(total, logits[-1000:], labels[-1000:])[1]
    loss, gradient = loss_and_gradient(total, logits, labels)
    equal(stage, f"{size:,} bfloat16 logits, the last gradients as alone", (gradient[-1000:],), (tail,))
    head = loss_and_gradient(total, logits[: size // 64], labels[: size // 64])[0]
    near = abs(float(loss) / (64 * float(head)) - 1)
    stage.at_most(f"{size:,} bfloat16 logits, the sum from a part of it", near, 0.5 if stage.tiny else 0.01, "relative")


def many_rows(stage: Stage) -> None:
    shape = (2, 5000) if stage.tiny else (2**15 + 1, 2**16)
    logits = torch.empty(shape, dtype=torch.bfloat16, device=device()).normal_()
    targets = torch.arange(shape[0], device=device()) % shape[1]
    total = partial(softmax_focal_loss, reduction="sum")
    gradient = loss_and_gradient(total, logits, targets)[1]
    alone = loss_and_gradient(total, logits[-1:], targets[-1:])[1]
    equal(stage, f"softmax {shape[0]:,} x {shape[1]:,}, the last row as alone", (gradient[-1:],), (alone,))


# -- compilers


def compiled(stage: Stage, what: str, module: torch.nn.Module, first: Pair, mode: str | None, limit: float) -> None:
    """An operator computes it there, or Inductor, whose logarithm is approximate."""
    torch._dynamo.reset()
    call = torch.compile(module, fullgraph=True, dynamic=False, mode=mode)
    for _ in range(3):  # a graph is captured at the second call
        found = [value.clone() for value in loss_and_gradient(call, *first)]
    true = truth(*first, reduction="mean")
    stage.at_most(f"{what}, error", max(worst(a, b) for a, b in zip(found, true, strict=True)), limit)
    eager = loss_and_gradient(module, *first)
    same = all(torch.equal(a, b) for a, b in zip(found, eager, strict=True))
    stage.line(f"{what}, as eager", "equal" if same else "not the same bits")
