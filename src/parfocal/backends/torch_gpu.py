"""Eager tensors on a GPU: Triton's kernels where they know the loss, and torch's operations for everything else.

(a) A summed loss and its gradient come from one pass, as on the processor (`KernelLoss`).  In backward a kernel looks
    at the upstream factor and returns at once where that is 1.  Unreduced losses compute their gradient in backward.
(b) No value is read on the host, so nothing waits for the device, and a CUDA graph can capture it all.
(c) Second derivatives, trained parameters, float64, probabilities and a binary loss's gamma schedule stay with
    operations.  So does every call after a kernel has failed (backends/gpu.py).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parfocal.backends import gpu
from parfocal.backends.torch import OPERATIONS, TorchOperations
from parfocal.backends.torch_terms import Namespace
from parfocal.core.batch import Batch
from parfocal.core.formula import Schedule
from parfocal.core.parameters import Binary, Categorical
from parfocal.core.validation import KERAS, Host

# The attribute of a sum over labels that has it as a divisor, 1 in place of 0: two numbers from one launch.
DIVISOR = "parfocal_divisor"

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Counting(NamedTuple):
    """Which losses count, for kernels, which compare the labels themselves."""

    labels: Tensor
    ignore: int

    def mask(self) -> Tensor:
        return OPERATIONS.counting(self.labels, self.ignore)


def knows(parameters: Binary | Categorical, scores: Tensor, labels: Any, dtype: Any) -> bool:
    """Whether the kernels compute this loss."""
    gamma = parameters.gamma
    if scores.dtype not in DTYPES or not parameters.from_logits or dtype == "float64":
        return False
    if isinstance(parameters, Binary):
        return not isinstance(gamma, Schedule)
    return not isinstance(gamma, Schedule) or len(gamma.gammas) == 2


def on_device(tensor: Tensor) -> AbstractContextManager[Any]:
    """Launches go to the device of the current context, which need not be the tensor's."""
    kind = tensor.device.type
    if kind == "cpu":  # interpreted
        return nullcontext()
    module: Any = torch.get_device_module(kind)
    context: AbstractContextManager[Any] = module.device_of(tensor)
    return context


class TorchGPU(TorchOperations):
    """Kernels for the losses that they know; made for one call."""

    def batch(
        self,
        parameters: Binary | Categorical,
        labels: Any,
        scores: Tensor,
        weight: Any = None,
        valid: Any = None,
        host: Host = KERAS,
        dtype: Any = None,
        ignore: int | None = None,
    ) -> Batch:
        known = gpu.uses_triton() and knows(parameters, scores, labels, dtype)
        make = super().batch if known else TorchOperations(self.xp, host).batch
        return make(parameters, labels, scores, weight, valid, host, dtype, ignore)

    def without_label(self, batch: Batch, ignore: int) -> Batch:
        return batch._replace(valid=self.counting(batch.labels, ignore))

    # -- what the kernels find out themselves

    def counting(self, labels: Tensor, ignore: int) -> Any:
        return Counting(labels, ignore)

    def with_weight(self, batch: Batch, weight: Any) -> Batch:
        return super().with_weight(masked(batch), weight)

    def with_valid(self, batch: Batch, valid: Any) -> Batch:
        return super().with_valid(masked(batch), valid)

    def count_true(self, mask: Any) -> Tensor:
        if not isinstance(mask, Counting):
            return super().count_true(mask)
        return self.counted(mask.labels, mask.ignore)

    def positives(self, batch: Batch) -> Tensor:
        divisor: Tensor = self.or_one(self.label_sum(batch))
        return divisor

    def label_sum(self, batch: Batch) -> Tensor:
        ignore = batch.valid.ignore if isinstance(batch.valid, Counting) else None
        return self.counted(batch.labels, ignore, positives=True)

    def target_weight(self, batch: Batch, weights: tuple[float, ...]) -> Tensor:
        if not isinstance(batch.valid, Counting):
            total: Tensor = super().target_weight(batch, weights)
            return total
        return self.counted(batch.labels, batch.valid.ignore, weights=weights)

    def counted(self, labels: Tensor, ignore: int | None, **options: Any) -> Tensor:
        """A sum over the labels."""
        from parfocal.backends.triton import launch

        with on_device(labels):
            total, divisor = launch.count(labels, ignore, **options)
        setattr(total, DIVISOR, divisor)
        return total

    def or_one(self, total: Any) -> Any:
        return getattr(total, DIVISOR) if hasattr(total, DIVISOR) else super().or_one(total)

    # -- losses and derivatives

    def computed(
        self, batch: Batch, order: int, divisor: Any, summed: bool, dtype: Any, boosting: bool
    ) -> tuple[Tensor, ...]:
        if order > 1 or not gpu.uses_triton():
            made = plain(batch)
            return made.backend.computed(made, order, divisor, summed, dtype, boosting)
        divisor = divisor if summed or order else 1.0
        try:
            if order == 0 and batch.scores.requires_grad and torch.is_grad_enabled():
                return (apply_kernels(batch.scores, batch, divisor, summed),)
            loss, gradient = launched(batch, divisor, summed, gradient=order == 1)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            gpu.fail(error)
            return self.computed(batch, order, divisor, summed, dtype, boosting)
        assert loss is not None
        return (loss,) if gradient is None else (loss, self.cast(gradient, dtype))


def masked(batch: Batch) -> Batch:
    """A batch whose `valid` is a mask."""
    return batch._replace(valid=batch.valid.mask()) if isinstance(batch.valid, Counting) else batch


def plain(batch: Batch) -> Batch:
    """The same for torch's operations."""
    backend = TorchOperations(Namespace(batch.scores.device), batch.host)
    made, ignored = masked(batch)._replace(backend=backend), isinstance(batch.valid, Counting)
    return backend.with_valid(made._replace(valid=None), made.valid) if batch.binary and ignored else made


def launched(
    batch: Batch,
    divisor: Any,
    summed: bool,
    gradient: bool = False,
    upstream: Tensor | None = None,
    losses: bool = True,
) -> tuple[Tensor | None, Tensor | None]:
    """The losses, or their sum divided, and the gradient times the upstream factors."""
    from parfocal.backends.triton import launch

    p, scores, valid = batch.parameters, batch.scores.detach(), batch.valid
    ignore = valid.ignore if isinstance(valid, Counting) else getattr(p, "ignore_class", None)
    named: dict[str, Any] = {"weight": batch.weight, "upstream": upstream, "ignore": ignore, "divisor": divisor}
    named |= {"summed": summed, "gradient": gradient, "losses": losses}
    with on_device(scores):
        if batch.binary:
            expected = p.soft_labels == "expected"
            return launch.binary(scores, batch.labels, p.gammas, p.weights, p.label_smoothing, expected, **named)
        return launch.softmax(scores, batch.labels, batch.axis, p.gamma, p.alpha, smoothing=p.label_smoothing, **named)


class KernelsLoss(torch.autograd.Function):
    """The loss of a batch, with its gradient from the same pass where the losses are summed."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, batch: Batch, divisor: Any, summed: bool) -> Tensor:
        constants = [value for value in (batch.labels, batch.weight, divisor) if isinstance(value, Tensor)]
        ctx.save_for_backward(scores, *constants)  # so that autograd reports an in-place change before backward
        ctx.batch, ctx.divisor, ctx.summed = batch._replace(scores=None), divisor, summed
        loss, ctx.gradient = launched(batch, divisor, summed, gradient=summed)
        assert loss is not None
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scores, *_ = ctx.saved_tensors
        batch, factor = ctx.batch._replace(scores=scores), upstream[0]
        gradient, ctx.gradient = ctx.gradient, None
        if not torch.is_grad_enabled() and has_memory(factor) and gpu.uses_triton():
            try:
                return multiplied(batch, gradient, factor, ctx.divisor, ctx.summed), None, None, None
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                gpu.fail(error)
        # It is going to be differentiated, or is batched.
        return differentiable_gradient(batch, factor, ctx.divisor, ctx.summed), None, None, None


def multiplied(batch: Batch, gradient: Tensor | None, upstream: Tensor, divisor: Any, summed: bool) -> Tensor | None:
    """The gradient times the upstream factors; computed here if the losses are unreduced, or it was handed out."""
    if gradient is None:
        return launched(batch, divisor, summed, True, upstream, losses=False)[1]
    from parfocal.backends.triton import launch

    with on_device(gradient):
        launch.multiply(gradient, upstream)
    return gradient


# Function.apply first looks for functorch, and `reads` has done that.
apply_kernels = super(torch.autograd.Function, KernelsLoss).apply


def differentiable_gradient(batch: Batch, upstream: Tensor, divisor: Any, summed: bool) -> Tensor:
    """The gradient as torch operations that can be differentiated again."""
    with torch.enable_grad():
        made = plain(batch)
        loss = made.backend.computed(made, 0, divisor, summed, batch.scores.dtype, False)[0]
        return torch.autograd.grad(loss, batch.scores, upstream.to(loss.dtype), create_graph=True)[0]


def has_memory(values: Tensor) -> bool:
    """False for the batched tensors of `is_grads_batched`, which have no storage to read."""
    key = getattr(torch._C.DispatchKey, values.device.type.upper())
    return bool(torch._C._dispatch_keys(values).has(key))


def backend(scores: Tensor, host: Host) -> TorchOperations | None:
    """Kernels for tensors on a GPU, if they are used at all; whoever calls has looked for compilers and functorch."""
    if scores.device.type not in KINDS or not gpu.uses_triton():
        return None
    return TorchGPU(Namespace(scores.device), host)


KINDS = ("cuda", "xpu")  # ROCm's devices are "cuda" too
