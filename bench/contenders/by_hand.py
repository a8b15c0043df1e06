"""Focal loss in NumPy as people write it, and `np.add`, the lower bound that memory sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from bench.contenders import Contender, Tolerance, loss_and_gradient
from bench.works import Data, Task

GAMMA = 2.0

ROUNDED = Tolerance(0, 1e-5, "1 - sigmoid(x) is a subtraction: an easy example keeps the digits that 1 has, no more")
CLIPPED = Tolerance(0, 1e-7, "1e-9 is added to a probability before its logarithm is taken")


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    if task.work == "boosting":
        call = partial(booster_objective, data.logits, data.labels)
        yield Contender("NumPy by hand", call, gradient_and_exact_curvature, tolerance=CLIPPED)
    elif task.work in ("binary", "call"):
        yield Contender("NumPy by hand", fused(data), loss_and_gradient, tolerance=ROUNDED)
        yield Contender("np.add(logits, labels)", partial(np.add, data.logits, data.labels))


def gradient_and_exact_curvature(result: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(("gradient", "exact curvature"), result, strict=True))


def fused(data: Data) -> Callable[[], tuple[np.float32, np.ndarray]]:
    """Loss and gradient.  Only the gradient is a new array; all other arrays are made once and reused."""
    x, y = data.logits, data.labels
    p, q, log_p, sign = np.empty_like(x), np.empty_like(x), np.empty_like(x), np.empty_like(x)

    def step() -> tuple[np.float32, np.ndarray]:
        np.multiply(y, -2, out=sign)
        np.add(sign, 1, out=sign)  # -1 for label 1
        np.multiply(x, sign, out=p)
        np.exp(p, out=p)
        np.add(p, 1, out=p)
        np.reciprocal(p, out=p)  # p_t
        np.subtract(1, p, out=q)
        np.log(p, out=log_p)
        gradient = np.multiply(p, log_p)
        gradient *= GAMMA
        gradient -= q
        np.multiply(q, q, out=q)
        gradient *= q
        gradient *= sign
        gradient *= -1 / x.size
        return -np.multiply(q, log_p, out=q).mean(), gradient  # np.dot sums less accurately: 1e-3 off at 40M

    return step


def booster_objective(margins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The closed form that is copied from one booster's example to the next (Wang et al. 2020, arXiv:1908.01672)."""
    p = 1 / (1 + np.exp(-margins))
    sign = np.power(-1.0, labels)
    distance = labels + sign * p  # 1 - p_t
    log_p_t = np.log(1 - labels - sign * p + 1e-9)
    gradient = GAMMA * (p + labels - 1) * np.power(distance, GAMMA) * log_p_t + sign * np.power(distance, GAMMA + 1)
    first = np.power(distance, GAMMA) + GAMMA * sign * (p + labels - 1) * np.power(distance, GAMMA - 1)
    second = sign * (p + labels - 1) * np.power(distance, GAMMA) / (1 - labels - sign * p)
    curvature = ((first * log_p_t - second) * GAMMA + (GAMMA + 1) * np.power(distance, GAMMA)) * p * (1 - p)
    return gradient, curvature
