"""Decisions: from probabilities to a class.  A rule is a function of the model; `--decide` takes its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from parfocal.app.errors import BadInput, quoted


class DecidingModel(Protocol):
    """What a rule asks of a model."""

    @property
    def threshold(self) -> float | None: ...

    @property
    def prior(self) -> Any: ...


@dataclass(frozen=True)
class Decision:
    """How a row's class is found."""

    threshold: float | None  # two classes: the positive one from this probability on
    divisors: np.ndarray | None = None  # more classes: probabilities are divided by these, and the largest wins
    why: str = ""
    rule: str = "default"  # what --decide was given

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Codes of classes."""
        return decide(probabilities if self.divisors is None else probabilities / self.divisors, self.threshold)


def decision(text: str, model: DecidingModel) -> Decision:
    """What `--decide TEXT` asks for."""
    if text not in RULES:
        raise BadInput(f"--decide {quoted(text)}: there is no such rule; it must be {' or '.join(RULES)}")
    return replace(RULES[text](model), rule=text)


def default(model: DecidingModel) -> Decision:
    """Two classes: the threshold with the best F1 over the folds; more: the most probable class."""
    return Decision(model.threshold)


def balanced(model: DecidingModel) -> Decision:
    """The class whose probability is the largest multiple of its share in training, so that rare classes are found."""
    if model.threshold is not None:
        return Decision(float(model.prior), why="its share in training")
    return Decision(None, np.asarray(model.prior, dtype=np.float64), why="divided by the class's share in training")


RULES: dict[str, Callable[[DecidingModel], Decision]] = {"default": default, "balanced": balanced}


def decide(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Codes of classes: the most probable one, or of two the positive one if it reaches the threshold."""
    if threshold is None:
        return np.argmax(probabilities, axis=1)
    return (probabilities >= threshold).astype(np.int64)
