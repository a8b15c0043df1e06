"""What is timed.  Each file has `contenders(task, data, library)`: the ways to do a task in that library's process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Answer = dict[str, np.ndarray]


class Tolerance(NamedTuple):
    """|got - exact| <= relative |exact| + absolute max |exact|, for every element."""

    relative: float
    absolute: float
    why: str


PROMISED = Tolerance(1e-6, 0, "what parfocal promises of float32, for every element")
PROMISED_DOUBLE = Tolerance(2e-14, 0, "twice what parfocal promises of float64: the reference is float64 too")


class Question(NamedTuple):
    """The loss that a contender computes, by which its reference is found."""

    gamma: float = 2.0
    alpha: float | None = None

    def __str__(self) -> str:
        return f"gamma {self.gamma:g}" + ("" if self.alpha is None else f" alpha {self.alpha:g}")


FOCAL = Question()
CROSS_ENTROPY = Question(gamma=0.0)


@dataclass(frozen=True)
class Contender:
    name: str
    call: Callable[[], Any]
    answer: Callable[[Any], Answer] | None = None  # the results of the call by name; None if it does not compute a loss
    question: Question = FOCAL
    tolerance: Tolerance = PROMISED
    base: bool = False  # the one that the others in its process are compared with
    absent: str = ""  # the reason why it is listed but not run


def absent(name: str, why: str) -> Contender:
    return Contender(name, call=lambda: None, absent=why)


def loss_and_gradient(result: tuple[Any, Any]) -> Answer:
    loss, gradient = result
    return {"loss": np.asarray(loss), "gradient": np.asarray(gradient)}


def loss_alone(loss: Any) -> Answer:
    return {"loss": np.asarray(loss)}
