"""A focal loss for a Hugging Face Trainer.  Nothing of transformers is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parfocal.core import validation
from parfocal.core.hosts import counted
from parfocal.torch.arguments import NORMALIZER
from parfocal.torch.distributed import ALONE
from parfocal.torch.losses import SigmoidFocalLoss, SoftmaxFocalLoss

__all__ = ["trainer_loss"]

TorchLoss = SigmoidFocalLoss | SoftmaxFocalLoss
IGNORED = -100  # the label that a Trainer does not count
ITEMS = "num_items_in_batch must be one number >= 0, how many labels the accumulated batches have"


def trainer_loss(loss: nn.Module, causal: bool = False) -> Callable[..., Tensor]:
    """A loss of this module as `Trainer(compute_loss_func=...)` calls it: (outputs, labels, num_items_in_batch).

    Parameters
    ----------
    loss : a `SigmoidFocalLoss` or `SoftmaxFocalLoss`.  Its reduction says what num_items_in_batch is for:

        "mean" : num_items_in_batch divides the sum of the losses, so that accumulated batches are one batch.  It must
            count what "mean" counts, so a softmax loss must not have `weight` (give the numbers as alpha), and
            ignore_index must be -100.
        "sum", or a loss with a normalizer of its own : num_items_in_batch is not used.  The Trainer adds the losses
            of accumulated batches.
        "mean_over_positives", "none", or a loss with a group : refused.
    causal : the model is a language model, and what it says at a position is judged by the label of the next one.

    Returns
    -------
    A function, which can be pickled.

        outputs : a model's output with `logits`, as a key or an attribute; or a tuple that starts with them.
        labels : softmax: class indices of shape (...) for logits (..., C), classes last as transformers' models have
            them, with -100 for those to leave out; or probabilities of the logits' shape.  Sigmoid: the logits' shape.
            Axes of length 1 may be missing or too many.
        num_items_in_batch : how many entries other than -100 the labels have in all batches that the trainer
            accumulates, on all processes if it averages over them.  Without it the loss divides as its reduction says.

    Raises
    ------
    TypeError for another loss, or a loss with reduction "none"; at a call for outputs without logits, labels that are
        not a tensor, or a num_items_in_batch that is not a number.
    ValueError for a loss whose mean num_items_in_batch does not divide; at a call for shapes that do not fit, a
        num_items_in_batch below 0 or not finite, and the errors of the loss itself.

    Examples
    --------
    >>> import torch
    >>> compute_loss = trainer_loss(SoftmaxFocalLoss(gamma=2.0))
    >>> outputs, labels = {"logits": torch.zeros(1, 4, 3)}, torch.tensor([[0, 1, 2, -100]])
    >>> compute_loss(outputs, labels)
    tensor(0.4883)
    >>> compute_loss(outputs, labels, num_items_in_batch=torch.tensor(6))  # six labels in two accumulated batches
    tensor(0.2441)
    """
    if not isinstance(loss, TorchLoss) or loss.reduction == "none":
        raise TypeError(
            "trainer_loss needs a SigmoidFocalLoss or a SoftmaxFocalLoss, with a reduction other than 'none'; got "
            f"{loss!r}"
        )
    causal = validation.flag("causal", causal)
    if causal and not isinstance(loss, SoftmaxFocalLoss):
        raise ValueError(f"causal=True is for next tokens, class indices, and needs a SoftmaxFocalLoss; got {loss!r}")
    if loss.group is not ALONE:
        raise ValueError(
            f"group adds up what reduction={loss.reduction!r} divides by, but Trainer's num_items_in_batch takes its "
            "place, and is the number of labels on all processes already; leave out group"
        )
    if divides_by_items(loss):
        same_divisor(loss)
    return partial(trainers_loss, loss, causal)


def divides_by_items(loss: TorchLoss) -> bool:
    """Whether num_items_in_batch divides the sum; "sum" and a normalizer of the loss's own mean something else."""
    return loss.normalizer is None and loss.reduction != "sum"


def same_divisor(loss: TorchLoss) -> None:
    """Refuses a mean over anything but the labels that a Trainer counts; it would silently become a mean over them."""
    but = "but Trainer's num_items_in_batch, which would take its place, is the number of labels"
    if loss.reduction == "mean_over_positives":
        raise ValueError(
            f"reduction='mean_over_positives' divides by the number of positives, {but}. Use reduction='mean', the "
            "same but for a factor, the share of positives; or a normalizer, the number of positives in an average step"
        )
    if isinstance(loss, SoftmaxFocalLoss) and loss.weight is not None:
        raise ValueError(
            f"weight makes reduction='mean' divide by the sum of weight[target], {but}. Give the numbers of weight as "
            "alpha, which multiplies the losses and leaves their divisor alone"
        )
    if loss.ignore_index not in (None, IGNORED):
        raise ValueError(
            f"ignore_index={loss.ignore_index} takes labels out of reduction='mean', {but} other than {IGNORED}. Mark "
            f"the labels to leave out by {IGNORED}, and give ignore_index={IGNORED}"
        )


def trainers_loss(
    loss: TorchLoss, causal: bool, outputs: Any, labels: Any, num_items_in_batch: int | Tensor | None = None
) -> Tensor:
    logits = logits_of(outputs)
    labels = on_device(labels, logits)
    if not divides_by_items(loss):
        return reduced(loss, causal, logits, labels, None)
    items = one_number(num_items_in_batch, logits)
    try:
        return reduced(loss, causal, logits, labels, items)
    except ValueError as error:  # the loss, which looks at the value where this waits for no device, has another name
        if str(error).startswith(NORMALIZER):
            raise ValueError(f"{ITEMS}; got {num_items_in_batch!r}") from None
        raise


def reduced(loss: TorchLoss, causal: bool, logits: Tensor, labels: Tensor, items: Any) -> Tensor:
    if isinstance(loss, SigmoidFocalLoss):
        if loss.weight is not None and loss.weight.device != logits.device:
            loss.to(logits.device)  # a Trainer moves the model, not the loss
        return loss(logits, fitted(labels, logits, logits.shape), items)
    if logits.ndim < 1 + causal or logits.shape[-1] < 2:
        raise ValueError(
            f"logits must have the shape {'(..., positions, classes)' if causal else '(..., classes)'} with at least 2 "
            f"classes; got {tuple(logits.shape)}. For one score per label use SigmoidFocalLoss."
        )
    classes = logits.shape[-1]
    if labels.shape == logits.shape and not causal:  # probabilities: a Trainer counts each of them
        items = None if items is None else items / classes
        return loss(logits.reshape(-1, classes), labels.reshape(-1, classes), items)
    labels = fitted(labels, logits, logits.shape[:-1], "" if causal else " (indices), or the logits' (probabilities)")
    if causal:
        logits, labels = logits[..., :-1, :], labels[..., 1:]
    return loss(logits.reshape(-1, classes), labels.reshape(-1), items)


def logits_of(outputs: Any) -> Tensor:
    """What a model returned, or the part of it that holds the logits."""
    logits, got = outputs, type(outputs).__name__
    if isinstance(outputs, Mapping):
        logits, got = outputs.get("logits"), f"{got} with the keys {list(outputs)}"
    elif not isinstance(outputs, Tensor) and hasattr(outputs, "logits"):
        logits = outputs.logits
    elif isinstance(outputs, tuple | list):
        logits, got = (outputs[0] if outputs else None), f"{got} of {counted(len(outputs), 'item')}"
    if not isinstance(logits, Tensor):
        got += "" if logits is None or logits is outputs else f", with logits of type {type(logits).__name__}"
        raise TypeError(
            "outputs must hold logits, a torch.Tensor: as the key or attribute 'logits', or as the first item of a "
            f"tuple; got {got}. For another model "
            "write compute_loss_func as a function that finds the logits and calls this one with them"
        )
    return logits


def on_device(labels: Any, logits: Tensor) -> Tensor:
    """Labels where the logits lie: a model that is spread over devices ends on another one than the batch."""
    if labels is None:
        raise TypeError(
            "labels must be a torch.Tensor; got None. A Trainer takes them from the batch's entry 'labels': give the "
            "dataset's column this name, and see that the collator keeps it"
        )
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"labels must be a torch.Tensor; got {type(labels).__name__}. Write torch.as_tensor(labels), or choose the "
            "labels that belong to these logits"
        )
    return labels.to(logits.device)


def fitted(labels: Tensor, logits: Tensor, shape: torch.Size, or_else: str = "") -> Tensor:
    """Labels in a shape that they have but for axes of length 1."""
    if [length for length in labels.shape if length != 1] != [length for length in shape if length != 1]:
        raise ValueError(
            f"labels must have the shape {tuple(shape)}{or_else} for logits of shape {tuple(logits.shape)}; got "
            f"{tuple(labels.shape)}"
        )
    return labels.reshape(shape)


def one_number(items: Any, logits: Tensor) -> Any:
    if items is None:
        return None
    if not isinstance(items, Tensor):
        try:
            number = validation.number_or_list("num_items_in_batch", items)
        except TypeError:
            raise TypeError(f"{ITEMS}; got {items!r}") from None
        if isinstance(number, tuple):
            raise ValueError(f"{ITEMS}; got {items!r}")
        return number
    if items.numel() != 1:
        raise ValueError(
            f"num_items_in_batch must be one number; got a tensor of shape {tuple(items.shape)}, as from a Trainer "
            "with several devices in one process. Start one process for each device (torchrun), or use one device"
        )
    return items.reshape(()).to(logits.device)
