"""Eager tensors on a GPU: Triton's kernels where they know the loss, and torch's operations for everything else.

(a) A summed loss and its gradient come from one pass, as on the processor (`KernelLoss`).  In backward a kernel looks
    at the upstream factor and returns at once where that is 1.  Unreduced losses compute their gradient in backward.
(b) No value is read on the host, so nothing waits for the device, and a CUDA graph can capture it all.
(c) Second derivatives, trained parameters, float64, probabilities and a binary loss's gamma schedule stay with
    operations.  So does every call after a kernel has failed (backends/gpu.py).
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from parfocal.backends import gpu
from parfocal.backends.numpy import new_tuple
from parfocal.backends.torch import OPERATIONS, SCORES, TorchOperations, kernel_reads, plain_apply
from parfocal.backends.torch_terms import Namespace
from parfocal.core.batch import Batch
from parfocal.core.formula import Schedule
from parfocal.core.hosts import KERAS, Host
from parfocal.core.parameters import Binary, Categorical

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


checked: set[tuple[torch.device, str]] = set()


def kernels(device: torch.device, kind: str) -> Any:
    """The module that launches them, after a look at their numbers.  A CUDA graph has none: it waits."""
    launch = launcher()
    if (device, kind) not in checked and not capturing(device):
        from parfocal.backends.triton import self_check

        self_check.check(device, kind)
        checked.add((device, kind))
    return launch


@functools.cache
def launcher() -> Any:
    from parfocal.backends.triton import launch

    return launch


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def give_up(error: Exception, device: torch.device) -> None:
    """Operations take over, but in a CUDA graph: a first call in it is no failure of the kernels."""
    if capturing(device):
        raise error
    gpu.fail(error)


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
        known = knows(parameters, scores, labels, dtype)
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
        found = self.counted(mask.labels, mask.ignore) if isinstance(mask, Counting) else None
        return super().count_true(mask.mask() if isinstance(mask, Counting) else mask) if found is None else found

    def positives(self, batch: Batch) -> Tensor:
        divisor: Tensor = self.or_one(self.label_sum(batch))
        return divisor

    def label_sum(self, batch: Batch) -> Tensor:
        ignore = batch.valid.ignore if isinstance(batch.valid, Counting) else None
        found = self.counted(batch.labels, ignore, positives=True)
        return super().label_sum(plain(batch)) if found is None else found

    def target_weight(self, batch: Batch, weights: tuple[float, ...]) -> Tensor:
        valid = batch.valid
        found = self.counted(batch.labels, valid.ignore, weights=weights) if isinstance(valid, Counting) else None
        total: Tensor = super().target_weight(plain(batch), weights) if found is None else found
        return total

    def counted(self, labels: Tensor, ignore: int | None, **options: Any) -> Tensor | None:
        """A sum over the labels; None where the kernels cannot."""
        try:
            with on_device(labels):
                total, divisor = kernels(labels.device, "sums").count(labels, ignore, **options)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            give_up(error, labels.device)
            return None
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
            give_up(error, batch.scores.device)
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
    p, scores, valid = batch.parameters, batch.scores, batch.valid
    ignore = valid.ignore if isinstance(valid, Counting) else getattr(p, "ignore_class", None)
    rest = batch.weight, upstream, ignore, divisor, summed, gradient, losses
    with on_device(scores):
        if batch.binary:
            launch = kernels(scores.device, "binary")
            expected = p.soft_labels == "expected"
            return launch.binary(scores, batch.labels, p.gammas, p.weights, p.label_smoothing, expected, *rest)
        launch = kernels(scores.device, "dense" if p.label_smoothing or scores.ndim == batch.labels.ndim else "indices")
        return launch.softmax(scores, batch.labels, batch.axis, p.gamma, p.alpha, *rest, p.label_smoothing)


class KernelsLoss(torch.autograd.Function):
    """The loss of a batch, with its gradient from the same pass where the losses are summed."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, batch: Batch, divisor: Any, summed: bool) -> Tensor:
        constants = [value for value in (batch.labels, batch.weight, divisor) if isinstance(value, Tensor)]
        ctx.save_for_backward(scores, *constants)  # so that autograd reports an in-place change before backward
        ctx.batch, ctx.divisor, ctx.summed = with_scores(batch, None), divisor, summed
        loss, ctx.gradient = launched(batch, divisor, summed, gradient=summed)
        assert loss is not None
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scores, *_ = ctx.saved_tensors
        factor, gradient, ctx.gradient = upstream[0], ctx.gradient, None
        plainly = not torch.is_grad_enabled() and has_memory(factor)
        if plainly and gradient is not None and multiplied(gradient, factor):
            return gradient, None, None, None
        batch = with_scores(ctx.batch, scores)
        compute = gradient_of if plainly else differentiable_gradient  # it is going to be differentiated, or is batched
        return compute(batch, factor, ctx.divisor, ctx.summed), None, None, None


def with_scores(batch: Batch, scores: Tensor | None) -> Batch:
    """batch._replace(scores=scores), in a third of the time."""
    return new_tuple(Batch, (*batch[:SCORES], scores, *batch[SCORES + 1 :]))


def multiplied(gradient: Tensor, factor: Tensor) -> bool:
    """Whether a kernel has multiplied the gradient by the upstream factor; it returns at once where that is 1."""
    try:
        with on_device(gradient):
            kernels(gradient.device, "sums").multiply(gradient, factor)
    except Exception as error:
        give_up(error, gradient.device)
        return False
    return True


def gradient_of(batch: Batch, upstream: Tensor | None, divisor: Any, summed: bool) -> Tensor:
    """The gradient times the upstream factors, by a kernel if one can."""
    if gpu.uses_triton():
        try:
            found = launched(batch, divisor, summed, True, upstream, losses=False)[1]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            give_up(error, batch.scores.device)
        else:
            assert found is not None
            return found
    made = plain(batch._replace(scores=batch.scores.detach()))
    slope: Tensor = made.backend.computed(made, 1, divisor, summed, torch.float32, False)[1]
    if upstream is not None:
        slope = slope * (upstream if summed or batch.binary else upstream.unsqueeze(batch.axis))
    return slope.to(batch.scores.dtype)


apply_kernels = plain_apply(KernelsLoss)


def differentiable_gradient(batch: Batch, upstream: Tensor, divisor: Any, summed: bool) -> Tensor:
    """The gradient as torch operations that can be differentiated again."""
    with torch.enable_grad():
        made = plain(batch)
        loss = made.backend.computed(made, 0, divisor, summed, batch.scores.dtype, False)[0]
        return torch.autograd.grad(loss, batch.scores, upstream.to(loss.dtype), create_graph=True)[0]


def has_memory(values: Tensor) -> bool:
    """False for the batched tensors of `is_grads_batched`, which have no storage to read."""
    return bool(torch._C._dispatch_keys(values).has(DISPATCH[values.device.type]))


DISPATCH = {kind: getattr(torch._C.DispatchKey, kind.upper()) for kind in ("cpu", "cuda", "xpu")}


def backend(scores: Tensor, labels: Any, weight: Any, host: Host) -> TorchOperations | None:
    """Kernels for tensors on a GPU, launched at once or as operators of a graph; None where operations compute."""
    kind = scores.device.type
    if kind not in KINDS:
        return None
    if kernel_reads(scores, labels, weight, kind):
        return TorchGPU(Namespace(scores.device), host) if gpu.uses_triton() else None
    if goes_into_a_graph(scores, labels, weight) and used_by_graphs():
        from parfocal.backends import torch_ops

        return torch_ops.CompiledGPU(Namespace(scores.device), host)
    return None


KINDS = ("cuda", "xpu")  # ROCm's devices are "cuda" too


def goes_into_a_graph(scores: Tensor, labels: Any, weight: Any) -> bool:
    """Whether torch.compile or torch.export is looking, and nothing but a plain backward pass is coming."""
    if (
        not torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or getattr(weight, "requires_grad", False)
    ):
        return False
    given = (values for values in (scores, labels, weight) if isinstance(values, Tensor))
    return all(values.layout is torch.strided and values.device == scores.device for values in given)


@torch.compiler.assume_constant_result
def used_by_graphs() -> bool:
    return gpu.uses_triton()
