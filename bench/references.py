"""The reference results: parfocal in float64 NumPy, a few samples checked against exact arithmetic (tests/oracle.py).

The process with PARFOCAL_KERNEL=numpy computes them once, and saves them in files for the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import parfocal
from bench.contenders import CROSS_ENTROPY, FOCAL, Answer, Question
from bench.contenders.ours import binary_loss, softmax_loss
from bench.works import Data, Task, draw

EXACT = 1e-13  # a float64 reference against tests/oracle.py: parfocal promises 1e-14, a mean divides and adds


def path(folder: Path, task: Task, question: Question) -> Path:
    size = replace(task, shape=task.base_shape).size
    return folder / f"{task.work} {size} {question}.npz"


def questions(task: Task) -> tuple[Question, ...]:
    """The questions that the contenders of a task answer."""
    if task.work == "import":
        return ()
    if task.work in ("boosting", "lightgbm"):
        return (FOCAL,)
    if task.work == "softmax" or task.alpha is not None:
        return Question(alpha=task.alpha), CROSS_ENTROPY
    return FOCAL, Question(gamma=1.5), CROSS_ENTROPY


def write_references(folder: Path, task: Task) -> None:
    """Writes the references of a task, unless a larger or smaller copy of the task has written them."""
    data = draw(replace(task, shape=task.base_shape))
    for question in questions(task):
        file = path(folder, task, question)
        if not file.exists():
            np.savez(file, **reference(task, question, data))


def reference(task: Task, question: Question, data: Data) -> Answer:
    softmax = len(task.shape) == 2
    if task.work in ("boosting", "lightgbm") and not softmax:
        return boosting_reference(question, data)
    loss = (softmax_loss if softmax else binary_loss)(question, "float64")
    value, gradient = loss.value_and_grad(data.labels, data.logits.astype(np.float64))
    exact = (exact_softmax if softmax else exact_binary)(question, data)
    got = loss(data.labels[exact.samples], data.logits[exact.samples].astype(np.float64))
    pairs = [(got, sum(exact.losses) / len(exact.losses))]
    agree(pairs + [(gradient[at] * len(data.logits), slope) for at, slope in exact.slopes.items()])
    return {"loss": value, "gradient": gradient}


def boosting_reference(question: Question, data: Data) -> Answer:
    """The curvature that parfocal gives to boosters, and the exact one, which others give them."""
    from tests import oracle

    margins, labels = data.logits[:, None], data.labels[:, None]
    loss = parfocal.BinaryFocalCrossentropy(gamma=question.gamma, from_logits=True, reduction="sum", dtype="float64")
    gradient, curvature = loss.value_and_grad(labels, margins)[1][:, 0], loss.curvature(labels, margins)[:, 0]
    exact = exact_binary(question, data)
    agree([(gradient[i], slope) for i, slope in exact.slopes.items()])
    for i, bend in exact.bends.items():
        margin = float(margins[i, 0] if labels[i, 0] else -margins[i, 0])
        agree([(curvature[i], bend)], oracle.curvature_scale(oracle.mpf(margin), question.gamma))
    _, positive = parfocal.boosting.gradient_and_curvature(loss, data.logits, data.labels)
    return {"gradient": gradient, "curvature": positive, "exact curvature": curvature}


def agree(pairs: list[tuple[Any, Any]], scale: Any = None) -> None:
    from tests import oracle  # imported here because it needs mpmath, which only this process needs

    error = max(oracle.relative_error(float(got), exact, scale) for got, exact in pairs)
    if not error <= EXACT:
        raise ArithmeticError(f"the float64 reference is off by {error:.1e}")


class Exact(NamedTuple):
    """Exact values by tests/oracle.py for a few samples."""

    samples: np.ndarray
    losses: list[Any]
    slopes: dict[Any, Any]  # by their index in the gradient
    bends: dict[Any, Any]  # the second derivatives


def exact_binary(question: Question, data: Data) -> Exact:
    """The extremes, the logit nearest to 0, and the first ones."""
    from tests import oracle

    x, y = data.logits, data.labels
    samples = np.unique([0, 1, 2, np.argmax(x), np.argmin(x), np.argmin(np.abs(x))])
    weights = (1.0, 1.0) if question.alpha is None else (1 - question.alpha, question.alpha)
    gammas = (question.gamma, question.gamma)
    losses, slopes, bends = [], {}, {}
    for i in samples:
        loss, slopes[i], bends[i] = oracle.binary(float(x[i]), float(y[i]), gammas, weights)
        losses.append(loss)
    return Exact(samples, losses, slopes, bends)


def exact_softmax(question: Question, data: Data) -> Exact:
    """Two rows: the losses, and the derivatives in the logits of the true class, the largest and the smallest logit.

    `oracle.categorical` would give all derivatives, and take minutes at 32,000 classes.
    """
    from tests import oracle

    samples, losses, slopes, bends = np.arange(2), [], {}, {}
    for row in samples:
        logits, target = data.logits[row].tolist(), int(data.labels[row])
        weights, gammas = [float(k == target) for k in range(len(logits))], [question.gamma] * len(logits)
        for j in {target, int(np.argmax(logits)), int(np.argmin(logits))}:

            def along(t: Any, j: int = j, z: list = logits, w: list = weights, g: list = gammas) -> Any:
                return oracle.softmax_loss([t if k == j else oracle.mpf(z[k]) for k in range(len(z))], w, g)

            loss, slopes[row, j], bends[row, j] = oracle.derivatives(along, logits[j], oracle.digits_for(*logits))
        losses.append(loss)
    return Exact(samples, losses, slopes, bends)
