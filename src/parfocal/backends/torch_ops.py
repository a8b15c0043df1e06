"""Compiled graphs on a GPU: the kernels as operators that a compiler does not look into.

(a) Inductor would fuse multiplications with additions, and Triton's own wrapper for compiled graphs takes no
    `enable_fp_fusion`.  So `parfocal::loss` and `parfocal::gradient` are opaque.
(b) The loss is computed in the forward pass and the gradient in the backward pass: 20 bytes a float32 logit.  A graph
    that kept the gradient and multiplied it by the upstream factor would move as many, and hold one array more.
(c) An operator takes tensors and numbers alone; from them it makes the parameters and the batch again.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from parfocal.backends import torch_gpu
from parfocal.backends.torch_terms import Namespace
from parfocal.core.batch import Batch
from parfocal.core.hosts import Host
from parfocal.core.parameters import Binary, Categorical, GammaSchedule, SparseCategorical

# What divides is `divisor`, or else `number` times `count`, a length that may be unknown while a graph is built.
# `axis` is that of the classes, and None for a binary loss.  `alpha` is empty where nothing is balanced.
SCHEMA = (
    "(Tensor scores, Tensor labels, Tensor? weight, Tensor? divisor, Tensor? upstream, float number, SymInt count, "
    "float[] gamma, float[] thresholds, float[] alpha, float smoothing, bool expected, int? axis, int? ignore, "
    "bool summed) -> Tensor"
)
TENSORS = 5
Settings = tuple[float, int, list[float], list[float], list[float], float, bool, int | None, int | None, bool]

library = torch.library.Library("parfocal", "DEF")
library.define("loss" + SCHEMA)
library.define("gradient" + SCHEMA)


class CompiledGPU(torch_gpu.TorchGPU):
    """A graph has the operators for the losses, and torch's operations for what divides them."""

    def computed(
        self, batch: Batch, order: int, divisor: Any, summed: bool, dtype: Any, boosting: bool
    ) -> tuple[Tensor, ...]:
        if order > 1:
            return super().computed(batch, order, divisor, summed, dtype, boosting)
        arguments = arguments_of(batch, divisor if summed or order else 1.0, summed)
        loss = torch.ops.parfocal.loss(*arguments)
        return (loss,) if order == 0 else (loss, self.cast(torch.ops.parfocal.gradient(*arguments), dtype))

    def counted(self, labels: Tensor, ignore: int | None, **options: Any) -> None:
        """Sums over labels are operations, which a compiler fuses."""


def arguments_of(batch: Batch, divisor: Any, summed: bool) -> tuple[Any, ...]:
    """What the operators take."""
    p, valid = batch.parameters, batch.valid
    ignore = valid.ignore if isinstance(valid, torch_gpu.Counting) else getattr(p, "ignore_class", None)
    scheduled, alpha = isinstance(p.gamma, GammaSchedule), p.alpha
    if batch.binary and not p.apply_class_balancing:
        alpha = ()
    return (
        *(batch.scores, batch.labels, batch.weight),
        *((divisor, None, 1.0, 1) if isinstance(divisor, Tensor) else (None, None, *number_and_count(divisor))),
        *((list(p.gamma.gammas), list(p.gamma.thresholds)) if scheduled else (listed(p.gamma), [])),
        *(listed(alpha), p.label_smoothing, batch.binary and p.soft_labels == "expected"),
        *(None if batch.binary else batch.axis, ignore, summed),
    )


def number_and_count(divisor: Any) -> tuple[float, Any]:
    return (1.0, divisor) if isinstance(divisor, int | torch.SymInt) else (divisor, 1)


def listed(values: float | tuple[float, ...]) -> list[float]:
    return list(values) if isinstance(values, tuple) else [values]


# -- what an operator does


@functools.lru_cache(maxsize=64)
def parameters_of(
    gamma: tuple[float, ...],
    thresholds: tuple[float, ...],
    alpha: tuple[float, ...],
    smoothing: float,
    expected: bool,
    axis: int | None,
    ignore: int | None,
    dense: bool,
) -> Binary | Categorical:
    g: Any = GammaSchedule(thresholds, gamma) if thresholds else gamma[0] if len(gamma) == 1 else gamma
    if axis is None:
        rule = "expected" if expected else "linear"
        return Binary(bool(alpha), alpha[0] if alpha else 0.25, g, True, smoothing, soft_labels=rule)
    a = alpha[0] if len(alpha) == 1 else alpha
    return Categorical(a, g, True, smoothing, axis) if dense else SparseCategorical(a, g, True, smoothing, axis, ignore)


def batch_of(scores: Tensor, labels: Tensor, weight: Tensor | None, settings: Settings) -> Batch:
    _, _, gamma, thresholds, alpha, smoothing, expected, axis, ignore, _ = settings
    dense = labels.ndim == scores.ndim
    parameters = parameters_of(tuple(gamma), tuple(thresholds), tuple(alpha), smoothing, expected, axis, ignore, dense)
    backend, binary = torch_gpu.TorchGPU(Namespace(scores.device), Host()), axis is None
    valid = None if ignore is None else torch_gpu.Counting(labels, ignore)
    return Batch(backend, binary, parameters, labels, scores, axis, 1, weight, valid, scores.dtype)


def divisor_of(divisor: Tensor | None, settings: Settings) -> float | Tensor:
    return settings[0] * settings[1] if divisor is None else divisor


def compute_loss(scores: Tensor, labels: Tensor, weight: Any, divisor: Any, upstream: Any, *settings: Any) -> Tensor:
    batch, summed = batch_of(scores.detach(), labels, weight, settings), settings[-1]
    loss: Tensor = batch.backend.computed(batch, 0, divisor_of(divisor, settings), summed, None, False)[0]
    return loss if summed else laid_out(loss, loss_like(scores, settings))


def compute_gradient(
    scores: Tensor, labels: Tensor, weight: Any, divisor: Any, upstream: Any, *settings: Any
) -> Tensor:
    batch, summed = batch_of(scores.detach(), labels, weight, settings), settings[-1]
    gradient = torch_gpu.gradient_of(batch, upstream, divisor_of(divisor, settings), summed)
    return laid_out(gradient, torch.empty_like(scores))


def laid_out(found: Tensor, like: Tensor) -> Tensor:
    """With the strides that a graph was told of."""
    return found if found.stride() == like.stride() else like.copy_(found)


def loss_like(scores: Tensor, settings: Settings) -> Tensor:
    *_, axis, _, summed = settings
    if summed:
        return scores.new_empty((), dtype=torch.float32)
    if axis is None:
        return torch.empty_like(scores, dtype=torch.float32)
    return scores.new_empty((*scores.shape[:axis], *scores.shape[axis + 1 :]), dtype=torch.float32)


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, ctx.settings = inputs[:TENSORS], inputs[TENSORS:]
    ctx.save_for_backward(*tensors)


def nothing(arguments: int) -> tuple[None, ...]:
    """The gradients of arguments that have none."""
    return (None,) * arguments


def loss_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    *given, _ = ctx.saved_tensors
    gradient = torch.ops.parfocal.gradient(*given, upstream, *ctx.settings)
    return gradient, *nothing(TENSORS - 1 + len(ctx.settings))


def gradient_backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
    """The second derivative, in torch's operations."""
    scores, labels, weight, divisor, upstream = ctx.saved_tensors
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        made = torch_gpu.plain(batch_of(scores, labels, weight, ctx.settings))
        loss = made.backend.computed(made, 0, divisor_of(divisor, ctx.settings), ctx.settings[-1], None, False)[0]
        factor = torch.ones_like(loss) if upstream is None else upstream.detach().to(loss.dtype).requires_grad_()
        (gradient,) = torch.autograd.grad(loss, scores, factor, create_graph=True)
        wanted = (scores,) if upstream is None else (scores, factor)
        to_scores, *to_upstream = torch.autograd.grad(gradient, wanted, change.to(gradient.dtype), allow_unused=True)
    to_factor = to_upstream[0] if to_upstream else None
    return to_scores, None, None, None, to_factor, *nothing(len(ctx.settings))


for name, compute, backward in (
    ("loss", compute_loss, loss_backward),
    ("gradient", compute_gradient, gradient_backward),
):
    library.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_autograd(f"parfocal::{name}", backward, setup_context=save, lib=library)


@torch.library.register_fake("parfocal::loss", lib=library)
def fake_loss(scores: Tensor, labels: Tensor, weight: Any, divisor: Any, upstream: Any, *settings: Any) -> Tensor:
    return loss_like(scores, settings)


@torch.library.register_fake("parfocal::gradient", lib=library)
def fake_gradient(scores: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(scores)
