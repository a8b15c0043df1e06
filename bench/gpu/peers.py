"""Other people's losses, in torch's operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def torchvision_focal(logits: Tensor, labels: Tensor, reduction: str = "sum", gamma: float = 2.0) -> Tensor:
    """The formula of torchvision.ops.sigmoid_focal_loss, with its alpha of 0.25."""
    labels = labels.to(logits.dtype)
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    p_t = p * labels + (1 - p) * (1 - labels)
    alpha_t = 0.25 * labels + 0.75 * (1 - labels)
    loss = alpha_t * (cross_entropy * (1 - p_t) ** gamma)
    return loss.sum() if reduction == "sum" else loss


def bce(logits: Tensor, labels: Tensor, reduction: str = "sum", gamma: float = 0.0) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction=reduction)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets)


def focal_over_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """As people write it, gamma 2."""
    loss = F.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-loss)) ** 2 * loss).mean()
