"""What the torch losses are given: numbers and tensors, checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from parfocal.core import validation
from parfocal.core.hosts import Host, counted
from parfocal.core.parameters import Numbers

# torch's names; each element of a binary batch is a loss of its own.
TORCH = Host(
    scores="input",
    labels="target",
    weight="weight",
    indices="class indices",
    ignored="ignore_index",
    binary="sigmoid_focal_loss",
    dense="softmax_focal_loss",
    sparse="softmax_focal_loss",
    by_element=True,
)
ONE_SAMPLE = TORCH._replace(one_sample=True)  # an input (C,)
MODULES = TORCH._replace(binary="SigmoidFocalLoss", dense="SoftmaxFocalLoss", sparse="SoftmaxFocalLoss")

# -- numbers


def python_numbers(name: str, value: Any) -> Any:
    """What a tensor holds, as Python's own numbers; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim > 1 or value.is_complex():
        raise ValueError(
            f"{name} must be one number, or one per class in one dimension; got a tensor of shape {tuple(value.shape)} "
            f"and dtype {value.dtype}"
        )
    try:
        return value.detach().tolist()
    except RuntimeError:
        if not torch._C._functorch.is_functorch_wrapped_tensor(value):
            raise
        return torch.ones(value.shape).tolist()  # under vmap it has no numbers that could be checked


def trained_of(**settings: Any) -> tuple[str, ...]:
    """The names of those settings that are tensors and ask for a gradient, have a tangent, or are mapped over."""
    return tuple(name for name, value in settings.items() if isinstance(value, Tensor) and is_trained(value))


def is_trained(value: Tensor) -> bool:
    if value.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return True
    if forward_ad._current_level < 0:
        return False
    tangent: Tensor | None = forward_ad.unpack_dual(value).tangent  # type: ignore[no-untyped-call]  # torch gives it none
    return tangent is not None


def class_weights(value: Any) -> tuple[float, ...]:
    weights = validation.number_or_list("weight", python_numbers("weight", value))
    validation.at_least_one("weight", weights)
    if not isinstance(weights, tuple) or not all(0 <= item < float("inf") for item in weights):
        raise ValueError(f"weight must be one number >= 0 for each class, in a tensor or a list; got {value!r}")
    return weights


def product(alpha: Numbers | None, weight: tuple[float, ...] | None) -> Numbers:
    """alpha times weight, class by class."""
    if weight is None:
        return 1.0 if alpha is None else alpha
    if not isinstance(alpha, tuple):
        return weight if alpha is None else tuple(alpha * item for item in weight)
    if len(alpha) != len(weight):
        raise ValueError(
            f"alpha has {counted(len(alpha), 'number')} and weight has {len(weight):,}; give one per class in both"
        )
    return tuple(a * b for a, b in zip(alpha, weight, strict=True))


def no_normalizer(normalizer: Any) -> None:
    if normalizer is not None:
        raise ValueError(
            "normalizer divides the sum of the losses, and reduction='none' has no sum; use 'sum' or 'mean'"
        )


NORMALIZER = "normalizer must be one number >= 0, which divides the sum of the losses"


def check_normalizer(normalizer: Any) -> None:
    """What can be said of it at construction; a tensor's value is not looked at."""
    if not isinstance(normalizer, Tensor):
        given_divisor(None, normalizer)
    elif normalizer.numel() != 1 or normalizer.is_complex():
        raise ValueError(f"{NORMALIZER}; got a tensor of shape {tuple(normalizer.shape)} and dtype {normalizer.dtype}")


def given_divisor(backend: Any, normalizer: Any) -> Any:
    """What the caller divides by: a constant, and 1 in place of 0."""
    divisor = normalizer
    if isinstance(normalizer, Tensor):
        check_normalizer(normalizer)
        divisor = backend.or_one(normalizer.detach().reshape(()))
        if isinstance(divisor, Tensor):  # on a device, or traced: not looked at
            return divisor
    elif not isinstance(normalizer, int | float):
        try:
            divisor = validation.number_or_list("normalizer", normalizer)
        except TypeError:
            raise TypeError(f"{NORMALIZER}; got {normalizer!r}") from None
    if isinstance(divisor, tuple) or not 0 <= divisor < float("inf"):
        raise ValueError(f"{NORMALIZER}; got {normalizer!r}")
    return divisor or 1.0


# -- tensors


def check_tensors(inputs: Any, targets: Any) -> None:
    """Both are dense tensors."""
    if type(inputs) is not Tensor or inputs.layout is not torch.strided or inputs.is_nested:
        check_tensor("input", inputs)
    if type(targets) is not Tensor or targets.layout is not torch.strided or targets.is_nested:
        check_tensor("target", targets)


def check_tensor(name: str, value: Any) -> None:
    if value is None:
        raise TypeError(f"{name} must be a torch.Tensor; got None")
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor; got {type(value).__name__}. Write torch.as_tensor({name}); the "
            "functions of parfocal itself take lists and NumPy arrays."
        )
    if value.is_nested:
        raise TypeError(f"{name} is a nested tensor, which has no one shape; write torch.cat({name}.unbind())")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} has the layout {value.layout}, and must be dense; write {name}.to_dense()")


def check_labels(name: str, value: Any) -> None:
    """Targets without their logits."""
    check_tensor(name, value)
    if value.is_complex():
        raise TypeError(f"{name} must hold real numbers; it has dtype {value.dtype}")


def check_indices(targets: Tensor) -> None:
    if targets.dtype.is_floating_point or targets.dtype.is_complex or targets.dtype == torch.bool:
        raise TypeError(f"class indices must be integers; target has dtype {targets.dtype}; use target.long()")


def element_weights(weight: Any, inputs: Tensor | None = None) -> Tensor:
    """A number, a list or an array of weights as a tensor, beside the inputs if there are any; a tensor as it is."""
    if isinstance(weight, Tensor):
        return weight
    try:
        if inputs is None:
            return torch.as_tensor(weight)
        double = inputs.dtype == torch.float64
        return torch.as_tensor(weight, dtype=torch.float64 if double else torch.float32, device=inputs.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            "weight must be a tensor, a number, or a list of numbers whose rows are equally long; got "
            f"{type(weight).__name__} {weight!r}"
        ) from None


def index(name: str, value: Any) -> int:
    if value is None:
        raise ValueError(
            f"{name} must be a whole number; got None. Leave it out: then samples with the target -100 do not count, "
            "as in cross_entropy"
        )
    number = validation.whole_number(name, value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} must be a whole number of at most 64 bits; got {value!r}")
    return number


def broadcasts_to(given: torch.Size, wanted: torch.Size) -> bool:
    """Whether a shape broadcasts to another one without enlarging it."""
    return len(given) <= len(wanted) and all(
        a in (1, b) for a, b in zip(reversed(given), reversed(wanted), strict=False)
    )


# Devices whose autocast is asked for without `is_autocast_available`, which PyTorch 2.11 cannot compile.
AUTOCAST = ("cpu", "cuda", "xpu")


def in_torchs_dtype(loss: Tensor, inputs: Tensor) -> Tensor:
    """Losses of half precision are rounded to it, but not under autocast, where torch's losses are float32 too."""
    if loss.dtype == inputs.dtype or not inputs.is_floating_point():
        return loss
    device = inputs.device.type
    known = device in AUTOCAST or (not torch.compiler.is_compiling() and torch.amp.is_autocast_available(device))
    if known and torch.is_autocast_enabled(device):
        return loss
    return loss.to(inputs.dtype)
