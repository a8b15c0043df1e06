"""The focal losses as modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from parfocal.core import validation
from parfocal.losses import recover
from parfocal.torch.arguments import MODULES, check_normalizer, element_weights, no_normalizer
from parfocal.torch.distributed import ALONE, check_group, is_initialized, warn_if_alone
from parfocal.torch.rules import Rule, SigmoidRule, SoftmaxRule

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup  # a build of torch may have none


class FocalModule(nn.Module):
    """What both modules have: settings read once, buffers that show them, and the recovery of probabilities.

    Several numbers for a setting are shown as a buffer, which moves with the module and takes its dtype; numbers per
    class are computed with as Python holds them.  Buffers are not in the state dict: they are settings, as ignore_index
    is, and a checkpoint must not bring back old ones.
    """

    rule: Rule
    shown: tuple[str, ...]
    _trained: tuple[str, ...] = ()  # settings that ask for a gradient
    group: Any = ALONE
    averaged = True
    _host = MODULES  # the words of a Calibrator's errors
    _own_count = False  # it divides by a count that other processes have a part of, and has not warned of it yet

    def __init__(self, rule: Rule, normalizer: float | Tensor | None, group: Any, averaged: bool, **given: Any) -> None:
        super().__init__()
        self.group, self.averaged = check_group(group), validation.flag("averaged", averaged)
        self.rule, self.reduction, self.normalizer = rule, rule.reduction, normalizer
        self._exact: dict[str, Tensor] = {}
        self._trained = rule.trained
        for name, value in (("alpha", rule.alpha), ("gamma", rule.loss.gamma)):
            if name in rule.trained:
                setattr(self, name, given[name])  # an nn.Parameter becomes one of the module
            else:
                self._show(name, value)
        if rule.reduction == "none":
            no_normalizer(normalizer)
        elif normalizer is not None:
            check_normalizer(normalizer)
        if self.group is ALONE:
            self._own_count = rule.counts != "" and normalizer is None
        elif normalizer is not None or rule.reduction == "none":
            raise ValueError(
                "group adds up what the reduction divides by over its processes, so it goes neither with normalizer "
                f"nor with reduction='none'; got normalizer={normalizer!r} and reduction={rule.reduction!r}"
            )

    def forward(self, input: Tensor, target: Tensor, normalizer: float | Tensor | None = None) -> Tensor:
        """The loss; a normalizer given here takes the place of the constructor's, and of the group's count."""
        normalizer = self.normalizer if normalizer is None else normalizer
        trained = self._now() if self._trained else None
        if normalizer is None:
            if self.group is not ALONE:
                return self.rule.over_ranks(input, target, None, trained, self.group, self.averaged)
            if self._own_count and is_initialized():
                self._warn(input, target)
        return self.rule(input, target, None, normalizer, trained)

    def _warn(self, input: Tensor, target: Tensor) -> None:
        """Once, of gradients that are averaged over processes with different counts."""
        probabilities = self.rule.dimensions == 2 and getattr(input, "shape", 0) == getattr(target, "shape", 1)
        if not probabilities and warn_if_alone(self, input):
            self._own_count = False

    def _now(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self._trained}

    def sum_and_count(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the losses, and `count`, what the reduction divides it by; both are to be added over batches.

        If the count is 0 after adding up, divide by 1, as the loss itself does: torch.where(count == 0, 1, count), or
        count.clamp(min=1) for "mean_over_positives".  Over processes `parfocal.torch.global_loss` does it.  Errors are
        those of a call.

        >>> loss, total, count = SigmoidFocalLoss(reduction="mean_over_positives"), 0, 0
        >>> logits, labels = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
        >>> for batch in (slice(0, 2), slice(2, 3)):  # the second one has no positive
        ...     losses, positives = loss.sum_and_count(logits[batch], labels[batch])
        ...     total, count = total + losses, count + positives
        >>> print(count, total / count.clamp(min=1), loss(logits, labels))
        tensor(1.) tensor(0.3005) tensor(0.3005)
        """
        return self.rule.sum_and_count(input, target, None, self._now())

    def count(self, target: Tensor, weight: Any = None) -> Tensor:
        """What the reduction divides by, from the targets alone: the `count` of `parfocal.torch.global_divisor`.

        "mean" : the number of elements (sigmoid) or of samples (softmax); with class indices and class weights the sum
            of weight[target].
        "mean_over_positives" : the number of positives, which is the sum of the targets as given: neither smoothed nor
            weighted.
        "sum" and "none" : these divide by nothing, so the count is that of "mean".

        Ignored elements are left out.  A normalizer has no part in it.  The count is not clamped: it may be 0, and is
        to be added over batches or processes.

        Parameters
        ----------
        target : as in a call.  For softmax integers are class indices, and floats are probabilities.
        weight : softmax: class weights in place of the loss's own.  Sigmoid: it has no part in a mean over elements.

        Returns
        -------
        A tensor of shape () on the target's device: int64 if it counts, otherwise a float.

        Raises
        ------
        TypeError and ValueError as a call does, for what can be seen without logits.

        >>> SigmoidFocalLoss(reduction="mean_over_positives", ignore_index=-1).count(torch.tensor([1, 0, -1, 1]))
        tensor(2)
        >>> SoftmaxFocalLoss(weight=[1.0, 0.5, 2.0]).count(torch.tensor([0, 1, -100, 1]))
        tensor(2., dtype=torch.float64)
        """
        return self.rule.count_of(target, weight)

    @property
    def at_least(self) -> int:
        """What a smaller total of counts is replaced by: 1 for "mean_over_positives"; 0: a total of 0 counts as 1."""
        return self.rule.at_least

    def posterior(self, input: Tensor, *, prior: Any = None, prior_now: Any = None) -> Tensor:
        """The class probabilities that a model trained with this loss believes in, in its logits' shape and dtype.

        A focal score is not a probability; see `parfocal.BinaryFocalCrossentropy.posterior`, also for `prior` and
        `prior_now`, the shares of the classes in training and now.

        >>> SigmoidFocalLoss(alpha=None, gamma=2).posterior(torch.tensor([-1.7065, 0.0, 0.8473]))
        tensor([0.0100, 0.5000, 0.9064])
        """
        loss = self.rule.current_loss(self._now())
        return recover(loss, "posterior", input, host=MODULES, prior=prior, prior_now=prior_now)

    def optimal_logit(self, prior: Any) -> Any:
        """The best constant logit for a prior, to start the last layer's bias with; a number, or for softmax an array.

        See `parfocal.BinaryFocalCrossentropy.optimal_logit`.

        >>> round(SigmoidFocalLoss(alpha=None, gamma=2).optimal_logit(0.01), 3)
        -1.706
        """
        if isinstance(prior, Tensor):
            prior = prior.detach().cpu().double()
        return self.rule.current_loss(self._now()).optimal_logit(prior)

    def extra_repr(self) -> str:
        values = {name: getattr(self, name) for name in self.shown}
        listed = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
        if self.group is not ALONE:
            listed |= {"group": self.group, "averaged": self.averaged}
        return ", ".join(f"{name}={value!r}" for name, value in listed.items())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy for the same processes, as a group cannot be copied."""
        twin = type(self).__new__(type(self))
        memo |= {id(self): twin, id(self.group): self.group}
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def _show(self, name: str, value: Any, dtype: torch.dtype | None = None) -> None:
        """A setting as an attribute, as a buffer if it has several numbers."""
        if isinstance(value, tuple):
            value = torch.tensor(value, dtype=torch.float64, device="cpu")
            dtype = torch.get_default_dtype()
        if isinstance(value, Tensor):
            self._exact[name] = value.detach().to("cpu", torch.float64, copy=True)
            self.register_buffer(name, value.detach().to(dtype or value.dtype, copy=True), persistent=False)
        else:
            setattr(self, name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """What `.to` and its like do.  Buffers get their numbers anew: .half().float() loses no digit, and to_empty,
        which would leave them empty, does not."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch gives it none
        for name, exact in self._exact.items():
            buffer = getattr(self, name)
            setattr(self, name, exact.to(buffer.device, buffer.dtype))
        return self


class SigmoidFocalLoss(FocalModule):
    """`sigmoid_focal_loss` as a module: `loss(input, target, normalizer=None)`.

    Parameters, errors and the meaning of each reduction are the function's, but `reduction` is "mean" unless given,
    and `weight`, a number, a list or a tensor, is a buffer.  So is a gamma pair.  An `nn.Parameter` for alpha or gamma
    becomes a parameter of the module and is trained; below 0 such a gamma makes the loss NaN.

    Two more are for a batch that lies on several processes (docs/scale.md):

    group : the processes whose batches are one, a torch.distributed.ProcessGroup; None for the default group; False for
        this process alone.  With a group each call adds up what the reduction divides by, so that gradients that DDP or
        FSDP average are those of the whole batch.  Every process of the group must then make every call, without
        gradients too; its batch may be empty.  When gradients are accumulated use `parfocal.torch.global_divisor`.
        ValueError on every process where their reductions differ or a count is negative, and without a process group;
        on a GPU, where nobody looks, the loss is NaN on every process.
    averaged : gradients will be averaged over the group.  False where they are added up.

    >>> loss = SigmoidFocalLoss(alpha=0.25, gamma=2.0)
    >>> logits = torch.tensor([[-40.0, 2.0]], requires_grad=True)
    >>> value = loss(logits, torch.tensor([[1.0, 0.0]]))
    >>> value.backward()
    >>> print(value.detach(), logits.grad)
    tensor(5.6188) tensor([[-0.1250,  0.4038]])
    """

    shown = ("alpha", "gamma", "reduction", "ignore_index", "label_smoothing", "normalizer")
    weight: Tensor | None

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: Any = 2.0,
        reduction: str = "mean",
        *,
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        soft_labels: str = "linear",
        normalizer: float | Tensor | None = None,
        group: ProcessGroup | Literal[False] | None = ALONE,
        averaged: bool = True,
    ) -> None:
        rule = SigmoidRule(alpha, gamma, reduction, ignore_index, label_smoothing, soft_labels)
        super().__init__(rule, normalizer, group, averaged, alpha=alpha, gamma=gamma)
        self.ignore_index, self.label_smoothing = rule.ignore_index, rule.loss.parameters.label_smoothing
        self._show("weight", None if weight is None else element_weights(weight))

    def forward(self, input: Tensor, target: Tensor, normalizer: float | Tensor | None = None) -> Tensor:
        normalizer = self.normalizer if normalizer is None else normalizer
        trained = self._now() if self._trained else None
        if normalizer is None:
            if self.group is not ALONE:
                return self.rule.over_ranks(input, target, self.weight, trained, self.group, self.averaged)
            if self._own_count and is_initialized():
                self._warn(input, target)
        return self.rule(input, target, self.weight, normalizer, trained)

    def sum_and_count(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.rule.sum_and_count(input, target, self.weight, self._now())


class SoftmaxFocalLoss(FocalModule):
    """`softmax_focal_loss` as a module: `loss(input, target, normalizer=None)`.

    Parameters, errors and the meaning of each reduction are the function's; group and averaged are those of
    `SigmoidFocalLoss`.  alpha, gamma and weight are buffers where they have one number per class.

    >>> loss = SoftmaxFocalLoss(gamma=2.0, ignore_index=255)
    >>> image = torch.zeros(1, 3, 2, 2)  # three classes
    >>> loss(image, torch.tensor([[[0, 1], [2, 255]]]))  # (1 - 1/3)^2 log 3
    tensor(0.4883)
    >>> loss(image, torch.tensor([[[0, 1], [2, 255]]]), normalizer=30)
    tensor(0.0488)
    """

    shown = ("alpha", "gamma", "reduction", "weight", "ignore_index", "label_smoothing", "normalizer")

    def __init__(
        self,
        alpha: Any = None,
        gamma: Any = 2.0,
        reduction: str = "mean",
        *,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        normalizer: float | Tensor | None = None,
        group: ProcessGroup | Literal[False] | None = ALONE,
        averaged: bool = True,
    ) -> None:
        rule = SoftmaxRule(alpha, gamma, reduction, weight, ignore_index, label_smoothing)
        super().__init__(rule, normalizer, group, averaged, alpha=alpha, gamma=gamma)
        self.ignore_index, self.label_smoothing = rule.ignore_index, rule.loss.parameters.label_smoothing
        self._show("weight", rule.weight)

    def posterior(self, input: Tensor, *, prior: Any = None, prior_now: Any = None) -> Tensor:
        scores: Any = input if hasattr(input, "ndim") else np.asarray(input)
        rows = scores if scores.ndim > 1 else scores.reshape(1, -1)
        return super().posterior(rows, prior=prior, prior_now=prior_now).reshape(scores.shape)
