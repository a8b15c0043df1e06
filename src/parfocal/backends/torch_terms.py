"""A law in torch operations: the array API's names for torch's functions, and terms with the law's own derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from parfocal.core.laws import IN_GAMMA, Law
from parfocal.core.pairs import plus

# Devices that have float64.  On a consumer's GPU it is slow, but a few operations in it take less than many in float32.
WIDE_DEVICES = ("cpu", "cuda")


class Namespace:
    """The array API's names for torch's functions, on one device."""

    abs, exp, log, log1p, isnan = torch.abs, torch.exp, torch.log, torch.log1p, torch.isnan
    clip, zeros_like, ones_like, full_like = torch.clamp, torch.zeros_like, torch.ones_like, torch.full_like
    broadcast_to, moveaxis, reshape = torch.broadcast_to, torch.moveaxis, torch.reshape
    int32, int64, float16, bfloat16 = torch.int32, torch.int64, torch.float16, torch.bfloat16
    float32, float64 = torch.float32, torch.float64

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.scalars: dict[tuple[float, torch.dtype], Tensor] = {}

    def where(self, condition: Tensor, a: Any, b: Any) -> Tensor:
        """torch.where, which would fill a new tensor for every number."""
        if isinstance(a, Tensor):
            return torch.where(condition, a, b if isinstance(b, Tensor) else self.scalar(b, a.dtype))
        return torch.where(condition, self.scalar(a, b.dtype), b)

    def scalar(self, value: float, dtype: torch.dtype) -> Any:
        if torch.compiler.is_compiling():
            return value
        if (value, dtype) not in self.scalars:
            self.scalars[value, dtype] = torch.full((), value, dtype=dtype, device=self.device)
        return self.scalars[value, dtype]

    @staticmethod
    def materialised(values: Tensor) -> Tensor:
        """Inductor 2.13 inlines an expression at every use unless it is a buffer; three chained two_sums took minutes
        to compile.  A strided view forces a buffer and is still fused."""
        return values.as_strided(values.shape, values.stride()) if torch.compiler.is_compiling() else values

    @staticmethod
    def binary_exponent(values: Tensor) -> tuple[Tensor, Tensor]:
        """In one operation: what uses a value twice, ten times in a row, torch.compile writes out 2^10 times."""
        fraction, exponent = torch.frexp(values)
        return fraction, exponent.to(values.dtype)

    def arange(self, length: int) -> Tensor:
        return self.shared(torch.arange(length, device=self.device))

    def shared(self, values: Tensor) -> Tensor:
        """Values that are the same wherever a part of the scores lies."""
        return values

    @staticmethod
    def astype(values: Tensor, dtype: torch.dtype) -> Tensor:
        return values.to(dtype)

    @staticmethod
    def sum(values: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return values.sum() if axis is None else values.sum(dim=axis, keepdim=keepdims)

    @staticmethod
    def max(values: Tensor, axis: int, keepdims: bool) -> Tensor:
        return values.amax(dim=axis, keepdim=keepdims)

    @staticmethod
    def any(values: Tensor, axis: int, keepdims: bool) -> Tensor:
        return values.any(dim=axis, keepdim=keepdims)

    @staticmethod
    def expand_dims(values: Tensor, axis: int) -> Tensor:
        return values.unsqueeze(axis)

    @staticmethod
    def squeeze(values: Tensor, axis: int) -> Tensor:
        return values.squeeze(axis)


class WideNamespace(Namespace):
    """The same for scores in float32, with float64 where float32 loses digits (core/pairs.py)."""

    @staticmethod
    def wide(values: Tensor) -> Tensor:
        return values.to(torch.float64)

    @staticmethod
    def narrow(values: Tensor) -> Tensor:
        return values.to(torch.float32)


class ShardedNamespace(Namespace):
    """The same for scores that are a DTensor: what is made here lies whole on every process of its mesh."""

    def __init__(self, scores: Any) -> None:
        super().__init__(torch.device(scores.device_mesh.device_type))
        self.mesh = scores.device_mesh

    def shared(self, values: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor, Replicate

        if isinstance(values, DTensor):
            return values
        return DTensor.from_local(values, self.mesh, [Replicate()] * self.mesh.ndim, run_check=False)


def namespace_for(scores: Tensor) -> Namespace:
    """What a batch of scores is made in."""
    return ShardedNamespace(scores) if hasattr(scores, "device_mesh") else Namespace(scores.device)


def namespace_of(scores: Tensor) -> Namespace:
    """What a law computes in.  Compiled code keeps to float32: it fuses its operations, whose number matters less."""
    wide = scores.dtype == torch.float32 and scores.device.type in WIDE_DEVICES and not torch.compiler.is_compiling()
    return (WideNamespace if wide else Namespace)(scores.device)


class Term(torch.autograd.Function):
    """A term of a law: its derivative is the next term, and the derivative of that one the law's product."""

    generate_vmap_rule = True

    @staticmethod
    def forward(law: Law, order: int, scores: Tensor, *constants: Tensor) -> Tensor:
        return law.term(namespace_of(scores), order, scores, *constants)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.law, ctx.order, *arrays = inputs
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return backward_of(Term, ctx, upstream[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (scores, *constants), law = ctx.saved_tensors, ctx.law
        vector, in_gamma, xp = tangents[2], tangents[-1] if ctx.law.trained else None, namespace_of(scores)
        if ctx.order == 0:
            change = law.along(xp, Term.apply(law, 1, scores, *constants), zero_or(vector, scores))
            return (
                change
                if in_gamma is None
                else change + summed_like(change, Term.apply(law, IN_GAMMA, scores, *constants) * in_gamma)
            )
        if ctx.order == 1:
            change = law.product(xp, scores, zero_or(vector, scores), *constants)
            return change if in_gamma is None else change + law.gamma_back(xp, scores, in_gamma, *constants)
        change = law.gamma_along(xp, scores, zero_or(vector, scores), *constants)
        return change if in_gamma is None else change + law.in_gamma(xp, scores, *constants)[1] * in_gamma


class LossAndGradient(torch.autograd.Function):
    """The loss of a law and its gradient from one computation, for an eager backward pass.

    The gradient is an output too, so that it can be differentiated without being computed again.
    """

    @staticmethod
    def forward(ctx: Any, law: Law, scores: Tensor, *constants: Tensor) -> tuple[Tensor, ...]:
        loss, gradient = law.terms(namespace_of(scores), scores, 1, *constants)
        ctx.law = law
        ctx.save_for_backward(gradient, scores, *constants)
        ctx.set_materialize_grads(False)
        return loss, gradient

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        (gradient, scores, *constants), law, (of_loss, of_gradient) = ctx.saved_tensors, ctx.law, upstream
        xp, change, in_gamma = namespace_of(scores), None, None
        if of_loss is not None:
            change = of_loss * gradient
            if law.trained:
                in_gamma = of_loss * Term.apply(law, IN_GAMMA, scores, *constants)
        if of_gradient is not None:
            change = plus(law.product(xp, scores, of_gradient, *constants), change)
            if law.trained:
                in_gamma = plus(law.gamma_along(xp, scores, of_gradient, *constants), in_gamma)
        return None, change, *[None] * (len(constants) - 1), in_gamma


def differentiated_plainly(scores: Tensor) -> bool:
    """Whether a backward pass is to come, and nothing but calls on plain values."""
    return (
        scores.requires_grad
        and torch.is_grad_enabled()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._get_tracing_state()
        and forward_ad._current_level < 0
    )


def zero_or(vector: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if vector is None else vector


def summed_like(total: Tensor, terms: Tensor) -> Tensor:
    """The classes of a row added up, where a loss has one term for each."""
    return terms if terms.shape == total.shape else terms.sum(dim=-1, keepdim=True)


class CompiledTerm(torch.autograd.Function):
    """torch.compile 2.13 supports neither `jvp` nor variadic inputs in backward, so this variant takes exactly four
    constants, padded with None."""

    @staticmethod
    def forward(ctx: Any, law: Law, order: int, scores: Tensor, a: Any, b: Any, c: Any, d: Any) -> Tensor:
        ctx.law, ctx.order = law, order
        ctx.save_for_backward(scores, a, b, c, d)
        return Term.forward(law, order, scores, *without_none(a, b, c, d))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return backward_of(CompiledTerm, ctx, upstream[0])


def without_none(*constants: Tensor | None) -> list[Tensor]:
    return [constant for constant in constants if constant is not None]


def backward_of(function: Any, ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """The backward pass of a term: its derivative with respect to the scores, times the upstream gradient."""
    scores, *constants = ctx.saved_tensors
    law, xp, known, in_gamma = ctx.law, namespace_of(scores), without_none(*constants), None
    if ctx.order == 0:
        gradient = upstream * function.apply(law, 1, scores, *constants)
        if law.trained:
            in_gamma = upstream * function.apply(law, IN_GAMMA, scores, *constants)
    elif ctx.order == 1:
        gradient = law.product(xp, scores, upstream, *known)
        if law.trained:
            in_gamma = law.gamma_along(xp, scores, upstream, *known)
    else:
        gradient = law.gamma_back(xp, scores, upstream, *known)
        in_gamma = law.in_gamma(xp, scores, *known)[1] * upstream
    gradients: list[Tensor | None] = [None for _ in constants]
    if law.trained:
        gradients[len(known) - 1] = in_gamma
    return None, None, gradient, *gradients
