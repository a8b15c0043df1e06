"""PyTorch tensors, in two ways with the same derivatives.

(a) Eager tensors in the processor's memory go to the native kernel as they lie (`TorchKernel`): loss and gradient in
    one pass, labels checked in it.  A plain autograd.Function costs a batch of 32 half of what torch's custom operators
    cost.
(b) So do those on a GPU, to Triton's kernels (torch_gpu.py), and under torch.compile and torch.export as operators
    (torch_ops.py).
(c) Everything else (other devices, graphs on the processor, torch.func, second derivatives, posteriors) runs the
    formula in torch operations (`TorchOperations`), without a graph break and without waiting for a device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from parfocal.backends import kernel
from parfocal.backends.base import HARMLESS, Backend
from parfocal.backends.numpy import FLOAT32, FLOAT64, NAMESPACE, NumPy, new_tuple
from parfocal.backends.torch_terms import (
    CompiledTerm,
    LossAndGradient,
    Namespace,
    Term,
    differentiated_plainly,
    namespace_for,
    namespace_of,
)
from parfocal.core import parameters
from parfocal.core.batch import Batch
from parfocal.core.hosts import KERAS, Host
from parfocal.core.laws import Law
from parfocal.core.parameters import Binary, Categorical

LETTERS = {
    torch.bool: "b",
    **dict.fromkeys((torch.int8, torch.int16, torch.int32, torch.int64), "i"),
    **dict.fromkeys((torch.uint8, torch.uint16, torch.uint32, torch.uint64), "u"),
    **dict.fromkeys((torch.float16, torch.bfloat16, torch.float32, torch.float64), "f"),
}


class TorchOperations(Backend):
    """Torch operations, wherever the tensors lie."""

    def __init__(self, xp: Namespace, host: Host = KERAS) -> None:
        super().__init__(xp)
        self.host = host

    def from_numpy(self, array: np.ndarray, like: Tensor) -> Tensor:
        """A copy, in an order that torch reads; a copy from pageable memory keeps no device waiting."""
        if torch.compiler.is_compiling():  # which knows few of NumPy's ways
            return torch.as_tensor(array, device=like.device)
        copy = np.array(array, array.dtype.newbyteorder("="), order="C")
        return self.xp.shared(torch.from_numpy(copy).to(like.device, non_blocking=True))

    def owns(self, values: Any) -> bool:
        return isinstance(values, Tensor)

    def kind(self, array: Tensor) -> str:
        return LETTERS.get(array.dtype, "")

    def detached(self, array: Tensor) -> Tensor:
        return array.detach()

    def no_warnings(self) -> AbstractContextManager[Any]:
        return nullcontext()  # torch warns of nothing, and its compiler knows no errstate

    def number(self, value: Any, like: Tensor) -> Any:
        """While torch.jit.trace runs, a length is an int64 tensor, and a Python number divided by it is float32.  And a
        float64 tensor would make the loss one, if neither has an axis."""
        if not isinstance(value, Tensor):
            return value
        traced = not torch.compiler.is_compiling() and torch._C._get_tracing_state()
        return value.to(like.dtype) if traced or value.dtype == torch.float64 else value

    def array_like(self, name: str, values: Any, like: Tensor) -> Tensor:
        if isinstance(values, Tensor) and values.device != like.device and values.ndim:
            raise ValueError(
                f"{name} is on the device {values.device} and {self.host.scores} on {like.device}; bring both to one, "
                f"{name}.to({self.host.scores}.device)"
            )
        found: Tensor = super().array_like(name, values, like)
        return found if type(found) is type(like) else self.xp.shared(found)

    def differentiable_term(self, law: Law, order: int, scores: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        if order == 2:
            return law.terms(namespace_of(scores), scores, 2, *constants)[2]
        if torch.compiler.is_compiling():
            return CompiledTerm.apply(law, order, scores, *constants, *[None] * (4 - len(constants)))
        if order == 0 and differentiated_plainly(scores):
            return LossAndGradient.apply(law, scores, *constants)[0]
        return Term.apply(law, order, scores, *constants)

    def all_terms(self, law: Law, scores: Tensor, constants: tuple[Tensor, ...], order: int) -> list[Tensor]:
        if order == 0:
            return super().all_terms(law, scores, constants, order)
        return list(law.terms(namespace_of(scores), scores.detach(), order, *constants))

    def counting(self, labels: Tensor, ignore: int) -> Tensor:
        """Integers are compared as they are: as a byte, -1 is 255, and 256 is 0."""
        whole = not labels.is_floating_point() and labels.dtype != torch.bool
        return (labels.long() if whole else labels) != ignore

    def count_true(self, mask: Tensor) -> Tensor:
        return mask.sum()  # int64: exact

    def label_sum(self, batch: Batch) -> Tensor:
        """The sum of the labels that count."""
        return exact_sum(batch.labels)

    def target_weight(self, batch: Batch, weights: tuple[float, ...]) -> Any:
        """The sum of the weights of the rows' classes; an invalid index is reported elsewhere."""
        each = self.per_class(weights, batch.scores)[0][batch.labels.clamp(0, len(weights) - 1)]
        return batch._replace(weight=each).total_weight()


def exact_sum(labels: Tensor) -> Tensor:
    """The sum of labels, exact where they are whole."""
    floating = labels.is_floating_point()
    return labels.sum(dtype=torch.promote_types(labels.dtype, torch.float32) if floating else torch.int64)


# -- the native kernel on the tensors' own memory


class KernelLoss(torch.autograd.Function):
    """The loss of a batch, with its gradient from the same pass where the losses are summed.

    A sum is nearly always multiplied by 1, and then its gradient is handed out as it is; another factor is multiplied
    into it.  Unreduced losses compute the gradient in backward, in a second kernel pass that applies the upstream
    factors: cheaper than storing the gradient and multiplying it.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, batch: Batch, divisor: float, summed: bool) -> Tensor:
        labels = batch.source[1]
        if isinstance(labels, Tensor):  # saved so that autograd reports an in-place change before backward
            ctx.save_for_backward(scores, labels)
        else:
            ctx.save_for_backward(scores)
            if labels is not None:
                batch = batch._replace(labels=batch.labels.copy())
        # Without the scores, which autograd lets go of after the backward pass, though somebody may keep the loss;
        # where elements are ignored, the kernel reads a copy of them.
        own = batch.valid is not None and batch.scores.__array_interface__["data"][0] != scores.data_ptr()
        copied = batch.scores if own else None
        ctx.batch = new_tuple(Batch, (*batch[:SCORES], copied, *batch[SCORES + 1 : SOURCE], None))
        ctx.divisor, ctx.summed, ctx.gradient = divisor, summed, None
        if not summed:
            return as_tensor(batch.backend.in_numpy(batch, 0)[0], scores)
        value, gradient = batch.backend.in_numpy(batch, 1, divisor, True)
        ctx.gradient = torch.from_numpy(gradient)
        return as_tensor(value, scores)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        batch = ctx.batch  # saved tensors are looked at only if they are read: targets may be used again
        if torch.is_grad_enabled() or not has_memory(upstream[0]):  # it is going to be differentiated, or is batched
            scores = ctx.saved_tensors[0]
            gradient = differentiable_gradient(batch, scores, upstream[0], ctx.divisor, ctx.summed)
            return gradient, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # unreduced, or a second backward pass
            scores, *_ = ctx.saved_tensors  # an error, if they were changed
            if batch.scores is None:
                batch = batch._replace(scores=scores.detach().numpy())
            cotangent = None if ctx.summed else upstream[0]
            gradient = torch.from_numpy(batch.backend.in_numpy(batch, 1, ctx.divisor, True, cotangent)[1])
        if ctx.summed and (factor := upstream[0].item()) != 1.0:
            gradient.mul_(factor)
        return gradient, None, None, None


def plain_apply(function: type[torch.autograd.Function]) -> Any:
    """Its apply without the look for functorch with which Function.apply begins: `backend` and `reads` have done that.

    In a function, for a `super` at the top of a module changes what every other one in it is compiled to from Python
    3.12 on, and on 3.13 torch.compile (2.13) cannot read that.
    """
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]  # mypy knows super of an own class


apply_kernel = plain_apply(KernelLoss)

NUMPY_DTYPES = {torch.float16: np.dtype("float16"), torch.float32: FLOAT32, torch.float64: FLOAT64}
WIDE = {torch.bfloat16: torch.float32}  # NumPy has none of its own
PLAIN = (Tensor, torch.nn.Parameter)
SCORES, DTYPE, SOURCE = map(Batch._fields.index, ("scores", "dtype", "source"))


def differentiable_gradient(batch: Batch, scores: Tensor, upstream: Tensor, divisor: float, summed: bool) -> Tensor:
    """The gradient as torch operations that can be differentiated again."""
    backend = TorchOperations(Namespace(scores.device))
    labels, valid = backend.from_numpy(batch.labels, scores), batch.valid
    weight = None if batch.weight is None else backend.weights(batch.weight, scores)
    with torch.enable_grad():
        kept = scores
        if valid is not None:
            valid = backend.from_numpy(valid, scores)
            kept = torch.where(valid if batch.binary else valid.unsqueeze(batch.axis), scores, HARMLESS)
        made = batch._replace(
            backend=backend, labels=labels, scores=kept, weight=weight, valid=valid, dtype=scores.dtype
        )
        loss = backend.computed(made, 0, divisor, summed, scores.dtype, False)[0]
        return torch.autograd.grad(loss, scores, upstream.to(loss.dtype), create_graph=True)[0]


def as_tensor(value: Any, scores: Tensor) -> Tensor:
    """Losses, or their sum, of the kernel."""
    if not isinstance(value, np.ndarray):  # half the time of torch.scalar_tensor
        value = np.asarray(value, FLOAT64 if scores.dtype == torch.float64 else FLOAT32)
    return torch.from_numpy(value)


def in_memory(values: Any) -> Any:
    """A tensor as the NumPy array in the same memory; anything else as it is."""
    if not isinstance(values, Tensor):
        return values
    if values.dtype == torch.bfloat16:
        values = values.float()
    return values.detach().numpy() if values.requires_grad else values.numpy()


class TorchKernel(NumPy):
    """NumPy's backend on the memory of tensors.  `Batch.source` has the tensors themselves."""

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
        derivatives = scores.dtype
        if derivatives not in NUMPY_DTYPES:
            scores = OPERATIONS.float_array(host.scores, scores)
            derivatives, scores = scores.dtype, scores.to(WIDE.get(scores.dtype, scores.dtype))
        if dtype is not None and getattr(torch, dtype) is not scores.dtype:
            rounded = OPERATIONS.rounded(scores, dtype, parameters.from_logits)
            scores = rounded.to(WIDE.get(rounded.dtype, rounded.dtype))
        weight = None if weight is None else in_memory(weight)
        valid = None if valid is None else in_memory(valid).copy()
        made = super().batch(parameters, in_memory(labels), scores.detach().numpy(), weight, valid, host, None, ignore)
        if made.scores.ndim != scores.ndim:
            scores = scores.reshape(made.scores.shape)
        # made._replace(dtype=..., source=...), in a third of the time
        source = scores, labels if valid is ignore is None else None  # otherwise the labels are a copy
        return new_tuple(Batch, (*made[:DTYPE], derivatives, *made[DTYPE + 1 : SOURCE], source))

    def computed(
        self, batch: Batch, order: int, divisor: float, summed: bool, dtype: Any, boosting: bool
    ) -> tuple[Tensor, ...]:
        scores = batch.source[0]
        if order == 0 and scores.requires_grad and torch.is_grad_enabled():
            return (apply_kernel(scores, batch, divisor if summed else 1.0, summed),)
        numpys: Any = NUMPY_DTYPES[WIDE.get(dtype, dtype)]
        loss, *slopes = self.in_numpy(batch, order, divisor, summed, None, numpys, boosting)
        return (as_tensor(loss, scores), *(self.cast(torch.from_numpy(slope), dtype) for slope in slopes))

    def in_numpy(
        self,
        batch: Batch,
        order: int,
        divisor: float = 1.0,
        summed: bool = False,
        cotangent: Tensor | None = None,
        dtype: np.dtype | None = None,
        boosting: bool = False,
    ) -> tuple[Any, ...]:
        """`NumPy.computed`, with the threads that torch leaves, and its derivatives times a cotangent."""
        dtype = batch.scores.dtype if dtype is None else dtype
        factor = None if cotangent is None else in_memory(cotangent)
        if batch.parameters.native and kernel.active is not None:
            compute, threads = kernel.binary if batch.binary else kernel.softmax, kernel.threads_beside_others
            return compute(batch, order, divisor, summed, dtype, boosting, factor, threads)
        loss, *slopes = super().computed(batch, order, divisor, summed, dtype, boosting)
        if factor is None:
            return (loss, *slopes)
        factor = factor if batch.binary else np.expand_dims(factor, batch.axis)
        return (loss, *(np.asarray(slope * factor, dtype) for slope in slopes))

    def label_sum(self, batch: Batch) -> Tensor:
        return OPERATIONS.label_sum(batch._replace(labels=torch.from_numpy(batch.labels)))

    def target_weight(self, batch: Batch, weights: tuple[float, ...]) -> Any:
        return batch._replace(weight=np.take(weights, batch.labels, mode="clip")).total_weight()

    def float_array(self, name: str, values: Any) -> Any:
        return OPERATIONS.float_array(name, values)

    def detached(self, array: Tensor) -> Tensor:
        return array.detach()

    def cast(self, values: Any, dtype: Any) -> Any:
        if not isinstance(values, Tensor):
            return super().cast(values, dtype)
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return values if values.dtype == dtype else values.to(dtype)

    def mean(self, values: Any, axis: int) -> Any:
        return OPERATIONS.mean(values, axis) if isinstance(values, Tensor) else super().mean(values, axis)

    def like_scores(self, term: Any, scores: Any) -> Any:
        return term.reshape(scores.shape)


KERNEL, OPERATIONS = TorchKernel(NAMESPACE), TorchOperations(Namespace(torch.device("cpu")))
parameters.do_not_remember_while(torch.compiler.is_compiling)


def backend(scores: Tensor, labels: Any, weight: Any, differentiable: bool, host: Host) -> Any:
    """The kernel where all arguments lie in the processor's memory, and nothing but a plain backward pass is coming."""
    if isinstance(labels, Tensor) and labels.requires_grad:
        name = host.labels
        raise ValueError(f"{name} requires a gradient, and labels are constants here; pass {name}.detach()")
    if not differentiable and kernel_reads(scores, labels, weight):
        return KERNEL
    if not differentiable and not scores.is_cpu:
        from parfocal.backends import torch_gpu

        if (found := torch_gpu.backend(scores, labels, weight, host)) is not None:
            return found
    return TorchOperations(namespace_for(scores), host)


def kernel_reads(scores: Tensor, labels: Any, weight: Any, device: str = "cpu") -> bool:
    """Whether operations are carried out at once, on plain values in the processor's memory, or on such a device."""
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
        or forward_ad._current_level >= 0
    ):
        return False
    for values in (scores, labels, weight):
        if type(values) in PLAIN:
            here = values.is_cpu if device == "cpu" else values.device.type == device
            if not here or values.layout is not torch.strided or values.is_neg():
                return False
        elif isinstance(values, Tensor):
            return False
    return not getattr(weight, "requires_grad", False)


def has_memory(values: Tensor) -> bool:
    """False for the batched tensors of `is_grads_batched`, which have no CPU storage to read."""
    return bool(torch._C._dispatch_keys(values).has(torch._C.DispatchKey.CPU))
