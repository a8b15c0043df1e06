"""kornia, which computes from log-sigmoids as parfocal does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from kornia.losses import binary_focal_loss_with_logits

from bench.contenders import Contender, Question
from bench.contenders.torch import SUMMED, detached, differentiated
from bench.works import ALPHA, Data, Task


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # It wants a batch axis and a class axis.
    return binary_focal_loss_with_logits(logits[:, None], labels[:, None], ALPHA, 2.0, "mean")


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    if task.work == "binary":
        logits, labels = torch.from_numpy(data.logits).requires_grad_(), torch.from_numpy(data.labels)
        call = partial(differentiated, loss, labels, logits)
        yield Contender("kornia", call, detached, Question(alpha=task.alpha), SUMMED)
