"""parfocal on NumPy arrays.  In the processes of other libraries they share the memory of the tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import parfocal
from bench.contenders import (
    CROSS_ENTROPY,
    FOCAL,
    PROMISED,
    Contender,
    Question,
    absent,
    loss_alone,
    loss_and_gradient,
)
from bench.machine import kernel
from bench.works import Data, Task, one_hot
from parfocal.boosting import gradient_and_curvature

MANY = 1_000_000  # logits, from where the other gammas and label types are timed
TOO_MANY = 10_000_000  # logits for NumPy alone


def binary_loss(question: Question, dtype: str = "float32") -> parfocal.BinaryFocalCrossentropy:
    balanced, alpha = question.alpha is not None, 0.25 if question.alpha is None else question.alpha
    return parfocal.BinaryFocalCrossentropy(balanced, alpha, question.gamma, from_logits=True, dtype=dtype)


def softmax_loss(question: Question, dtype: str = "float32") -> parfocal.SparseCategoricalFocalCrossentropy:
    return parfocal.SparseCategoricalFocalCrossentropy(1.0, question.gamma, from_logits=True, dtype=dtype)


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    name = {"numpy": "parfocal", "fallback": "parfocal, NumPy fallback"}.get(library, "parfocal on NumPy views")
    if task.logits > TOO_MANY and kernel() == "numpy":
        yield absent(name, "no native kernel; NumPy alone takes too long")
    elif task.work in ("binary", "call"):
        yield from binary(name, task, data, library)
    elif task.work == "softmax":
        yield from softmax(name, task, data, library)
    elif task.work == "boosting":
        yield boosting(name, data)


def binary(name: str, task: Task, data: Data, library: str) -> Iterator[Contender]:
    asked = Question(alpha=task.alpha)

    def timed(name: str, question: Question, labels: np.ndarray, base: bool = False) -> Contender:
        call = partial(binary_loss(question).value_and_grad, labels, data.logits)
        return Contender(name, call, loss_and_gradient, question, PROMISED, base)

    yield timed(name, asked, data.labels, base=library != "fallback")
    if library != "numpy":
        return
    if task.work == "call":
        yield Contender("parfocal, loss alone", partial(binary_loss(asked), data.labels, data.logits), loss_alone)
        function = partial(parfocal.binary_focal_crossentropy, data.labels, data.logits, gamma=2.0, from_logits=True)
        yield Contender("parfocal, the function", function, loss_alone)
    elif task.logits >= MANY:
        yield timed("parfocal, gamma 1.5", Question(gamma=1.5), data.labels)
        yield timed("parfocal, gamma 0", CROSS_ENTROPY, data.labels)
        yield timed("parfocal, int64 labels", asked, data.labels.astype(np.int64))


def softmax(name: str, task: Task, data: Data, library: str) -> Iterator[Contender]:
    call = partial(softmax_loss(FOCAL).value_and_grad, data.labels, data.logits)
    yield Contender(name, call, loss_and_gradient, base=library != "fallback")
    if library == "numpy":
        dense = parfocal.CategoricalFocalCrossentropy(1.0, 2.0, from_logits=True)
        call = partial(dense.value_and_grad, one_hot(task, data.labels), data.logits)
        yield Contender("parfocal, one-hot labels", call, loss_and_gradient)


def boosting(name: str, data: Data) -> Contender:
    """Of float64 margins float32, which is what boosters have and take."""
    loss = binary_loss(FOCAL, "float64")
    call = partial(gradient_and_curvature, loss, data.logits, data.labels, dtype=np.float32)
    return Contender(
        name,
        call,
        lambda result: dict(zip(("gradient", "curvature"), result, strict=True)),
        tolerance=PROMISED,
        base=name == "parfocal",
    )
