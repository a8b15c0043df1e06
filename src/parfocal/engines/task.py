"""What the engines share: a task, what comes of it, and which round was best."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parfocal.objectives import Metric, Objective

# How well whole margins say the labels of rows with weights; more is better.
Score = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], float]


@dataclass(frozen=True)
class Rows:
    features: Any
    labels: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True)
class Task:
    """What is to be trained."""

    objective: dict[str, Any]  # of the door's FocalObjective, but for what is learned from the labels
    rows: Rows
    held_out: Rows | None  # to stop by
    rounds: int
    patience: int
    learning_rate: float
    max_leaf_nodes: int
    longest_step: float  # of a leaf; 0 is no limit
    threads: int
    seed: int
    classes: int
    more: dict[str, Any]  # the engine's own parameters, by the names of `engine_parameters`; they win
    categorical: Sequence[int] = ()  # columns of codes, 0 ... and NaN
    score: Score | None = None  # what to stop by; None: the log loss of the posterior
    every: int = 1  # rounds from one score to the next; CatBoost looks at every one
    stop: Callable[[], bool] = lambda: False  # asked before each round; True gives up
    tables: tuple[Any, Any] | None = None  # of `Engine.table` and `Engine.part`, where several tasks share them


@dataclass(frozen=True)
class Trained:
    booster: Any
    objective: Objective
    rounds: int
    held_out: np.ndarray | None = None  # the margins of held-out rows at the best round, where they are at hand


@dataclass(frozen=True)
class Parameters:
    """An engine's own parameters, see `parameters.engine_parameters`."""

    # Every name, with the one that the engine's module uses; and whether these are all that the library knows.
    names: Callable[[], tuple[dict[str, str], bool]]
    refused: Mapping[str, str]  # why, and what to use in its place
    rounds: str  # what `Task.rounds` is called
    impossible: Callable[[dict[str, Any], bool], str]  # what is wrong with values, if training may stop early; or ""


@dataclass(frozen=True)
class Engine:
    name: str
    train: Callable[[Task], Trained]
    raw_scores: Callable[[Any, Any], np.ndarray]  # of a booster and features
    starts_at_zero: bool  # then the start is to be added to raw scores
    importances: Callable[[Any], np.ndarray]
    file: str  # what a saved booster is called
    load: Callable[[bytes], Any]
    # What the file holds.  The libraries could write it themselves, but XGBoost and LightGBM hide why they could not.
    dump: Callable[[Any], bytes]
    features: Callable[[Any], int]
    named: Callable[[Any, Sequence[str]], Any]  # the booster with these names of its features; it predicts the same
    parameters: Parameters
    # A task's rows as the library bins them, and some of the rows of such a table by their numbers, in order: for tasks
    # that share rows.
    table: Callable[[Task], Any] | None = None
    part: Callable[[Any, np.ndarray], Any] | None = None

    def margins(self, booster: Any, start: Any, features: Any) -> np.ndarray:
        scores = self.raw_scores(booster, features)
        return scores + np.asarray(start) if self.starts_at_zero else scores


class Stopped(Exception):
    """The caller gave up."""


class BestRound:
    """Scores held-out rows as training goes on, and says when it has gone on too long."""

    def __init__(self, task: Task, objective: Objective) -> None:
        self.task, self.score, self.rounds, self.best = task, scoring(task, objective), 0, -np.inf
        self.margins: np.ndarray | None = None

    def look(self, number: int, margins: Callable[[], np.ndarray], last: bool) -> bool:
        """Whether training should end after this round, counted from 1."""
        held_out = self.task.held_out
        if held_out is None or (number % self.task.every and not last):
            return last
        now = margins()
        reached = self.score(now, held_out.labels, held_out.weights)
        if reached > self.best or not self.rounds:
            self.best, self.rounds, self.margins = reached, number, now
        return last or number - self.rounds >= self.task.patience


def scoring(task: Task, objective: Objective) -> Score:
    log_loss = Metric(objective, "log_loss").value
    return task.score or (lambda margins, labels, weights: -log_loss(margins, labels, weights))


def door(name: str) -> Any:
    """The door of an engine; a missing library is told with its cure."""
    try:
        return importlib.import_module(f"parfocal.{name}")
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(
            f"engine={name!r} needs the package {name}; install it: python -m pip install {name}", name=name
        ) from None


def begun(task: Task, name: str) -> tuple[Any, dict[str, Any]]:
    """The door's objective, and the parameters that go with it."""
    objective = door(name).FocalObjective(**task.objective)
    number = task.classes if task.classes > 2 else None
    return objective, objective.params(task.rows.labels, task.rows.weights, number)


def readable(features: Any) -> Any:
    """LightGBM and CatBoost know SciPy's sparse matrices, but not its sparse arrays, and CatBoost no 64-bit indices."""
    import scipy.sparse

    if not scipy.sparse.issparse(features):
        return features
    parts = features.data, features.indices.astype(np.int32), features.indptr.astype(np.int32)
    return scipy.sparse.csr_matrix(parts, shape=features.shape)
