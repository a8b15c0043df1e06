"""PyTorch tensors, in two ways with the same derivatives.

(a) Eager tensors in the processor's memory go to the native kernel as they lie (`Eager`): loss and gradient in one
    pass, labels checked in it.  A plain autograd.Function costs a batch of 32 half of what torch's custom operators
    cost.
(b) Everything else (other devices, torch.compile, torch.export, torch.func, fake and meta tensors, second
    derivatives) runs the formula in torch operations (`Traced`), without a graph break and without waiting for a
    device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from parfocal.backends import kernel, numpy
from parfocal.backends.base import Rows, Tensors
from parfocal.core import parameters
from parfocal.core.laws import Law
from parfocal.core.parameters import Binary, Categorical

# -- torch operations under the array API's names


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
    def once(values: Tensor) -> Tensor:
        """Inductor (2.13) writes a value out at each use until it meets one in memory: three sums with their errors in
        a row took it minutes.  A view with strides is one; the loops are fused all the same."""
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
        return law.terms(Namespace(scores.device), scores, order, *constants)[order]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.law, ctx.order, *arrays = inputs
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return turned(Term, ctx, upstream[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        scores, *constants = ctx.saved_tensors
        vector, xp = tangents[2], Namespace(scores.device)
        if ctx.order == 0:
            return ctx.law.along(xp, Term.apply(ctx.law, 1, scores, *constants), vector)
        return ctx.law.product(xp, scores, vector, *constants)


class CompiledTerm(torch.autograd.Function):
    """The same for torch.compile (2.13), which traces no `jvp`, and on the way back no `*constants`: None fills up."""

    @staticmethod
    def forward(ctx: Any, law: Law, order: int, scores: Tensor, a: Any, b: Any, c: Any, d: Any) -> Tensor:
        ctx.law, ctx.order = law, order
        ctx.save_for_backward(scores, a, b, c, d)
        return Term.forward(law, order, scores, *given(a, b, c, d))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return turned(CompiledTerm, ctx, upstream[0])


def given(*constants: Tensor | None) -> list[Tensor]:
    return [constant for constant in constants if constant is not None]


def turned(function: Any, ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """What a term's backward returns: its derivative to the scores, along what comes from above."""
    scores, *constants = ctx.saved_tensors
    if ctx.order == 0:
        gradient = upstream * function.apply(ctx.law, 1, scores, *constants)
    else:
        gradient = ctx.law.product(Namespace(scores.device), scores, upstream, *given(*constants))
    return None, None, gradient, *(None for _ in constants)


class Traced(Tensors):
    """Torch operations, wherever the tensors lie."""

    def from_numpy(self, array: np.ndarray, like: Tensor) -> Tensor:
        """A copy, in an order that torch reads; a copy from pageable memory keeps no device waiting."""
        if torch.compiler.is_compiling():  # which knows few of NumPy's ways
            return torch.as_tensor(array, device=like.device)
        copy = np.array(array, array.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(copy).to(like.device, non_blocking=True)

    def is_ours(self, values: Any) -> bool:
        return isinstance(values, Tensor)

    def stopped(self, array: Tensor) -> Tensor:
        return array.detach()

    def quiet(self) -> AbstractContextManager[Any]:
        return nullcontext()  # torch warns of nothing, and its compiler knows no errstate

    def number(self, value: Any, like: Tensor) -> Any:
        """While torch.jit.trace runs, a length is an int64 tensor, and a Python number divided by it is float32."""
        traced = not torch.compiler.is_compiling() and torch._C._get_tracing_state()
        return value.to(like.dtype) if traced and isinstance(value, Tensor) else value

    def companion(self, name: str, values: Any, like: Tensor) -> Tensor:
        if isinstance(values, Tensor) and values.device != like.device and values.ndim:
            raise ValueError(
                f"{name} is on the device {values.device} and y_pred on {like.device}; bring both to one, "
                f"{name}.to(y_pred.device)"
            )
        return super().companion(name, values, like)

    def stated(self, law: Law, order: int, scores: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        if order == 2:
            return law.terms(self.xp, scores, 2, *constants)[2]
        if torch.compiler.is_compiling():
            return CompiledTerm.apply(law, order, scores, *constants, *[None] * (4 - len(constants)))
        return Term.apply(law, order, scores, *constants)

    def terms(self, law: Law, order: int, scores: Tensor, constants: tuple[Tensor, ...]) -> list[Tensor]:
        if order == 0:
            return super().terms(law, order, scores, constants)
        return list(law.terms(self.xp, scores.detach(), order, *constants))


# -- the native kernel on the tensors' own memory


class Job(NamedTuple):
    """One loss that the NumPy backend computes, and what it takes to compute it again on the way back."""

    of: str  # "binary" or "categorical"
    parameters: Any
    labels: Any  # as the NumPy backend takes them
    weights: np.ndarray | None
    by: float
    total: bool
    given: Any  # the caller's labels: changed in place, they are torch's error on the way back

    def run(self, scores: Tensor, order: int, dtype: Any, cotangent: Tensor | None = None) -> tuple[Any, ...]:
        """The loss, and its derivatives times a cotangent, as NumPy's; with a cotangent nobody asks for the losses."""
        terms: tuple[Any, ...] = getattr(numpy, self.of)(
            self.parameters,
            self.labels,
            scores.detach().numpy(),
            order,
            self.weights,
            self.by,
            self.total or cotangent is not None,
            dtype,
            cotangent=None if cotangent is None else host(cotangent),
            threads=kernel.threads_beside_torch(),
        )
        return terms

    def with_own_labels(self) -> Job:
        rows = self.labels
        return self._replace(
            labels=rows._replace(labels=rows.labels.copy()) if isinstance(rows, numpy.Rows) else rows.copy()
        )

    def loss(self, value: Any, scores: Tensor) -> Tensor:
        if self.total:
            return torch.scalar_tensor(value, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)
        return torch.from_numpy(np.asarray(value))

    def differentiable_gradient(self, scores: Tensor, upstream: Tensor) -> Tensor:
        """The gradient as torch operations that can be differentiated again."""
        traced, rows, weights = Traced(Namespace(scores.device)), self.labels, self.weights
        if isinstance(rows, numpy.Rows):
            valid = None if rows.valid is None else traced.from_numpy(rows.valid, scores)
            rows = Rows(traced.from_numpy(rows.labels, scores), rows.axis, valid)
        if weights is not None:
            weights = traced.weights(weights, scores)
        with torch.enable_grad():
            loss = getattr(traced, self.of)(self.parameters, rows, scores, 0, weights, self.by, self.total)[0]
            return torch.autograd.grad(loss, scores, upstream.to(loss.dtype), create_graph=True)[0]


class KernelLoss(torch.autograd.Function):
    """The loss of a job, with its gradient from the same pass where the losses are summed.

    A sum is nearly always multiplied by 1, and then its gradient is handed out as it is; another factor is multiplied
    into it.  Losses that are not summed get their gradient on the way back, in one more pass of the kernel with the
    factors in it: to keep a gradient and to multiply it later costs more.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, job: Job) -> Tensor:
        dtype = NUMPY_DTYPES[scores.dtype]
        if isinstance(job.given, np.ndarray):  # torch does not see it change
            job = job.with_own_labels()
        ctx.save_for_backward(scores, job.given if isinstance(job.given, Tensor) else None)
        ctx.job, ctx.gradient = job, None
        if not job.total:
            return job.loss(job.run(scores, 0, dtype)[0], scores)
        value, gradient = job.run(scores, 1, dtype)
        ctx.gradient = torch.from_numpy(gradient)
        return job.loss(value, scores)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or not has_memory(upstream[0]):  # it is going to be differentiated, or batched
            return ctx.job.differentiable_gradient(ctx.saved_tensors[0], upstream[0]), None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # not summed, or the way back a second time
            scores, job = ctx.saved_tensors[0], ctx.job
            cotangent = None if job.total else upstream[0]
            gradient = torch.from_numpy(job.run(scores, 1, NUMPY_DTYPES[scores.dtype], cotangent)[1])
        if ctx.job.total and (factor := upstream[0].item()) != 1.0:
            gradient.mul_(factor)
        return gradient, None


# Function.apply first looks for functorch, and `backend` has done that.
apply_kernel = super(torch.autograd.Function, KernelLoss).apply

NUMPY_DTYPES = {torch.float16: np.dtype("float16"), torch.float32: np.dtype("float32"), torch.float64: numpy.FLOAT64}
WIDE = {torch.bfloat16: torch.float32}  # NumPy has none of its own
PLAIN = (Tensor, torch.nn.Parameter)


def host(values: Any) -> Any:
    """A tensor as the NumPy array in the same memory; anything else as it is."""
    if not isinstance(values, Tensor):
        return values
    if values.dtype == torch.bfloat16:
        values = values.float()
    return values.detach().numpy() if values.requires_grad else values.numpy()


class Eager:
    """The NumPy backend for labels and weights, and for scores that are tensors.  It has what `Tensors` has."""

    xp = np
    length = staticmethod(numpy.length)
    shape = staticmethod(numpy.shape)
    lengths_without = staticmethod(numpy.lengths_without)
    count_true, or_one = staticmethod(numpy.count_true), staticmethod(numpy.or_one)
    at_least_one = staticmethod(numpy.at_least_one)

    def count_without(self, array: Tensor, axis: int) -> int:
        return array.numel() // array.shape[axis] if array.shape[axis] else numpy.count_without(array, axis)

    def stopped(self, array: Tensor) -> Tensor:
        return array.detach()

    def float_array(self, name: str, values: Tensor) -> Tensor:
        return TRACED.float_array(name, values)

    def binary_scores(self, y_true: Any, y_pred: Tensor) -> Tensor:
        if y_pred.dtype in NUMPY_DTYPES and (y_pred.ndim > 1 or y_pred.shape == getattr(y_true, "shape", None) != ()):
            return y_pred  # the usual cases
        return TRACED.binary_scores(y_true, y_pred)

    def cast(self, values: Tensor, dtype: Any) -> Tensor:
        if isinstance(dtype, str):
            dtype = getattr(torch, dtype)
        return values if values.dtype == dtype else values.to(dtype)

    def is_double(self, scores: Tensor) -> bool:
        return scores.dtype == torch.float64

    def weights(self, values: Any, like: Tensor) -> np.ndarray:
        return numpy.weights(host(values), like)

    def positives(self, y_true: Any, like: Tensor) -> float:
        return numpy.positives(host(y_true), like)

    def mean(self, values: Any, axis: int) -> Any:
        return numpy.mean(values, axis) if isinstance(values, np.ndarray) else TRACED.mean(values, axis)

    def shaped_like(self, term: Tensor, y_pred: Tensor) -> Tensor:
        return term.reshape(y_pred.shape)

    def rows(self, parameters: Categorical, y_true: Any, y_pred: Tensor) -> numpy.Rows:
        return numpy.rows(parameters, host(y_true), y_pred, y_true)

    def binary(
        self,
        parameters: Binary,
        y_true: Any,
        y_pred: Tensor,
        order: int,
        weights: np.ndarray | None = None,
        by: float = 1.0,
        total: bool = False,
        dtype: Any = None,
    ) -> tuple[Tensor, ...]:
        """What `backends.numpy.binary` returns, but for the curvature of boosters."""
        labels = numpy.binary_labels(host(y_true), y_pred)
        by = by if total or order else 1.0  # losses that are not summed are not divided: their mean is still to come
        return self.computed(Job("binary", parameters, labels, weights, by, total, y_true), y_pred, order, dtype)

    def categorical(
        self,
        parameters: Categorical,
        batch: numpy.Rows,
        y_pred: Tensor,
        order: int,
        weights: np.ndarray | None = None,
        by: float = 1.0,
        total: bool = False,
        dtype: Any = None,
    ) -> tuple[Tensor, ...]:
        """What `backends.numpy.categorical` returns, but for the curvature of boosters."""
        return self.computed(
            Job("categorical", parameters, batch, weights, by, total, batch.given), y_pred, order, dtype
        )

    def computed(self, job: Job, y_pred: Tensor, order: int, dtype: Any) -> tuple[Tensor, ...]:
        scores = y_pred if y_pred.dtype in NUMPY_DTYPES else y_pred.to(WIDE[y_pred.dtype])
        if order == 0 and scores.requires_grad and torch.is_grad_enabled():
            return (apply_kernel(scores, job),)
        dtype = scores.dtype if dtype is None else dtype
        loss, *slopes = job.run(scores, order, NUMPY_DTYPES[WIDE.get(dtype, dtype)])
        return (job.loss(loss, scores), *(self.cast(torch.from_numpy(slope), dtype) for slope in slopes))


EAGER, TRACED = Eager(), Traced(Namespace(torch.device("cpu")))
parameters.is_compiling = torch.compiler.is_compiling


def backend(y_pred: Tensor, y_true: Any, weight: Any, traced: bool) -> Eager | Traced:
    if isinstance(y_true, Tensor) and y_true.requires_grad:
        raise ValueError("y_true requires a gradient, and labels are constants here; pass y_true.detach()")
    plain = not traced and is_eager() and is_plain(y_pred) and is_plain(y_true) and is_plain(weight)
    if plain and not getattr(weight, "requires_grad", False):
        return EAGER
    return Traced(Namespace(y_pred.device))


def is_plain(values: Any) -> bool:
    """Whether an argument lies in the processor's memory as the kernel can read it; not asked under torch.compile."""
    if type(values) in PLAIN:
        return values.is_cpu and values.layout is torch.strided and not values.is_neg()
    return not isinstance(values, Tensor)


def has_memory(values: Tensor) -> bool:
    """Whether it is one tensor: `is_grads_batched` hands the way back many in one, which no operation can look into."""
    return bool(torch._C._dispatch_keys(values).has(torch._C.DispatchKey.CPU))


def is_eager() -> bool:
    """Whether operations are carried out at once, on values: nothing traces, batches or differentiates them forward."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
        or forward_ad._current_level >= 0
    )
