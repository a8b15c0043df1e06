"""Keras 3 on PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import keras
import torch

from bench.contenders import Contender, Question, Tolerance
from bench.contenders.torch import detached, differentiated
from bench.works import ALPHA, Data, Task, one_hot

CLIPPED = Tolerance(0, 2e-5, "the probability is clipped to [1e-7, 1 - 1e-7], and 1 - p is a subtraction")


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    logits = torch.from_numpy(data.logits).requires_grad_()
    if task.work == "softmax":
        name, labels = "Keras, one-hot labels", torch.from_numpy(one_hot(task, data.labels))
        loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    else:
        name, labels = "Keras", torch.from_numpy(data.labels)
        loss = keras.losses.BinaryFocalCrossentropy(True, ALPHA, gamma=2.0, from_logits=True)
    call = partial(differentiated, lambda x, y: loss(y, x), labels, logits)
    yield Contender(name, call, detached, Question(alpha=task.alpha), CLIPPED)
