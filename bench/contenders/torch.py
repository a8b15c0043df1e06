"""PyTorch on the processor: its own cross-entropies, and focal loss as people write it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F

import parfocal
from bench.contenders import CROSS_ENTROPY, PROMISED, Answer, Contender, Question, Tolerance, absent
from bench.contenders.ours import binary_loss, softmax_loss
from bench.works import ALPHA, Data, Task

ROUNDED = Tolerance(0, 1e-5, "1 - p_t is a subtraction: an easy example keeps the digits that 1 has, no more")
SUMMED = Tolerance(0, 1e-5, "each loss is right to rounding; the mean is a float32 sum")

GAMMA = 2.0

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def differentiated(loss: Loss, labels: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and a new gradient, as in one step of training."""
    logits.grad = None
    value = loss(logits, labels)
    value.backward()
    return value, logits.grad


def detached(result: tuple[torch.Tensor, torch.Tensor]) -> Answer:
    return {name: tensor.detach().numpy() for name, tensor in zip(("loss", "gradient"), result, strict=True)}


def sigmoid_focal_loss(logits: torch.Tensor, labels: torch.Tensor, alpha: float = ALPHA) -> torch.Tensor:
    """torchvision's formula: binary cross-entropy, times (1 - p_t)^gamma, times alpha_t."""
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    p_t = p * labels + (1 - p) * (1 - labels)
    alpha_t = alpha * labels + (1 - alpha) * (1 - labels)
    return (alpha_t * (cross_entropy * (1 - p_t) ** GAMMA)).mean()


def softmax_focal_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    log_p_t = F.log_softmax(logits, dim=-1).gather(1, labels[:, None]).squeeze(1)
    return (-((1 - log_p_t.exp()) ** GAMMA) * log_p_t).mean()


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    logits, labels = torch.from_numpy(data.logits).requires_grad_(), torch.from_numpy(data.labels)

    def timed(name: str, loss: Loss, question: Question, tolerance: Tolerance) -> Contender:
        return Contender(name, partial(differentiated, loss, labels, logits), detached, question, tolerance)

    focal = Question(alpha=task.alpha)
    if task.work == "softmax":
        yield ours(softmax_loss(focal), labels, logits, focal)
        yield timed("torch cross_entropy", F.cross_entropy, CROSS_ENTROPY, SUMMED)
        yield timed("focal by hand, torch eager", softmax_focal_loss, focal, ROUNDED)
        compiled = torch.compile(softmax_focal_loss, dynamic=False)
        yield timed("focal by hand, torch.compile", compiled, focal, ROUNDED)
        return
    yield ours(binary_loss(focal), labels, logits, focal)
    yield timed("torch bce_with_logits", F.binary_cross_entropy_with_logits, CROSS_ENTROPY, SUMMED)
    yield timed("torchvision's formula, eager", sigmoid_focal_loss, focal, ROUNDED)
    if task.work == "binary":
        compiled = torch.compile(sigmoid_focal_loss, dynamic=False)
        yield timed("torchvision's formula, torch.compile", compiled, focal, ROUNDED)


def ours(loss: parfocal.Loss, labels: torch.Tensor, logits: torch.Tensor, question: Question) -> Contender:
    """parfocal on the tensors themselves, forward and backward, once it takes them."""
    name = "parfocal on torch tensors"
    try:
        loss(labels[:2], logits[:2])
    except TypeError:
        return absent(name, "takes no torch tensors yet")
    call = partial(differentiated, lambda x, y: loss(y, x), labels, logits)
    return Contender(name, call, detached, question, PROMISED, base=True)
