"""A law in torch operations: the array API's names for torch's functions, and terms with the law's own derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parfocal.core.laws import IN_GAMMA, Law


class Namespace:
    """The array API's names for torch's functions, on one device."""

    abs, exp, log, log1p, isfinite, where = torch.abs, torch.exp, torch.log, torch.log1p, torch.isfinite, torch.where
    clip, zeros_like, ones_like, full_like = torch.clamp, torch.zeros_like, torch.ones_like, torch.full_like
    broadcast_to, moveaxis, reshape = torch.broadcast_to, torch.moveaxis, torch.reshape
    int32, int64, float16, bfloat16 = torch.int32, torch.int64, torch.float16, torch.bfloat16
    float32, float64 = torch.float32, torch.float64

    def __init__(self, device: torch.device) -> None:
        self.device = device

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
        return torch.arange(length, device=self.device)

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


class Term(torch.autograd.Function):
    """A term of a law: its derivative is the next term, and the derivative of that one the law's product."""

    generate_vmap_rule = True

    @staticmethod
    def forward(law: Law, order: int, scores: Tensor, *constants: Tensor) -> Tensor:
        return law.term(Namespace(scores.device), order, scores, *constants)

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
        vector, in_gamma, xp = tangents[2], tangents[-1] if ctx.law.trained else None, Namespace(scores.device)
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
    law, xp, known, in_gamma = ctx.law, Namespace(scores.device), without_none(*constants), None
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
