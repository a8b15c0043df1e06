"""A focal loss for a Hugging Face Trainer.  Nothing of transformers is imported here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from parfocal.torch.losses import SigmoidFocalLoss, SoftmaxFocalLoss

__all__ = ["trainer_loss"]


def trainer_loss(loss: nn.Module, causal: bool = False) -> Callable[..., Tensor]:
    """A loss of this module as `Trainer(compute_loss_func=...)` calls it: (outputs, labels, num_items_in_batch).

    Parameters
    ----------
    loss : a `SigmoidFocalLoss` or `SoftmaxFocalLoss` whose reduction is not "none".
    causal : the model is a language model, and what it says at a position is judged by the label of the next one.

    Returns
    -------
    A function, which can be pickled.  outputs : a model's output with `logits`, or a tuple that starts with them.
    Softmax: logits (..., C) with classes last, as transformers' models give them, and labels (...), -100 for those to
    leave out.  Sigmoid: logits and labels of one shape.  num_items_in_batch : the number of labels in all batches that
    the trainer accumulates, on all processes if it averages over them; it divides the sum of the losses.  Without it
    the loss divides as its reduction says.

    Raises
    ------
    TypeError for another loss, or a loss with reduction "none"; errors of the loss itself at each call.

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
    if not isinstance(loss, SigmoidFocalLoss | SoftmaxFocalLoss) or loss.reduction == "none":
        raise TypeError(
            "trainer_loss needs a SigmoidFocalLoss or a SoftmaxFocalLoss, with a reduction other than 'none'; got "
            f"{loss!r}"
        )
    return partial(trainers_loss, loss, causal)


def trainers_loss(
    loss: nn.Module, causal: bool, outputs: Any, labels: Tensor, num_items_in_batch: int | Tensor | None = None
) -> Tensor:
    logits: Tensor = logits_of(outputs)
    if causal:
        logits, labels = logits[..., :-1, :], labels[..., 1:]
    labels = labels.to(logits.device)  # a model spread over devices ends on another one than the batch
    if isinstance(loss, SoftmaxFocalLoss) and labels.shape != logits.shape:
        logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    return loss(logits, labels, num_items_in_batch)


def logits_of(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, tuple | list):
        return outputs[0]
    return outputs["logits"]
