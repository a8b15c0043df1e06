"""What training a booster takes and gives: rows, a task, a trained booster, and the class that every engine is."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from parfocal.boosters.objective import Metric, Objective

# How well whole margins predict the labels of rows with weights; more is better.
Score = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], float]


@dataclass(frozen=True)
class Rows:
    """Rows to train on, to stop by or to be judged by."""

    features: Any  # (N, F), dense or sparse
    labels: np.ndarray  # (N,) class indices
    weights: np.ndarray | None
    categorical: Sequence[int] = ()  # columns of codes, 0 ... and NaN
    classes: int = 2

    def part(self, rows: np.ndarray) -> Rows:
        return replace(self.without_features(rows), features=self.features[rows])

    def without_features(self, rows: np.ndarray) -> Rows:
        """A part whose features the engine has already."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, features=np.empty((len(rows), 0)), labels=self.labels[rows], weights=weights)

    def scaled(self) -> Rows:
        """With weights of mean 1, so that no limit on a leaf depends on their unit."""
        return self if self.weights is None else replace(self, weights=self.weights / self.weights.mean())

    @property
    def num_class(self) -> int | None:
        """As the boosters' parameters have it: of a softmax alone.  Two classes have one margin."""
        return self.classes if self.classes > 2 else None

    @property
    def prior(self) -> Any:
        """As the losses take it: the share of the second of two classes, or that of each class."""
        shares = np.bincount(self.labels.astype(np.int64), self.weights, self.classes)
        shares = shares / shares.sum()
        return float(shares[1]) if self.classes == 2 else shares

    @property
    def of_rarest_class(self) -> int:
        return int(np.bincount(self.labels.astype(np.int64), minlength=self.classes).min())


@dataclass(frozen=True)
class Task:
    """What is to be trained."""

    objective: dict[str, Any]  # of the library's FocalObjective, but for what is learned from the labels
    rows: Rows
    held_out: Rows | None  # to stop by
    rounds: int
    early_stopping_rounds: int
    learning_rate: float
    max_leaf_nodes: int
    max_delta_step: float  # the longest step of a leaf; 0 is no limit
    threads: int
    seed: int
    engine_params: dict[str, Any]  # the engine's own parameters, by the names of `engine_parameters`; they win
    score: Score | None = None  # what to stop by; None: the log loss of the posterior
    score_every: int = 1  # rounds from one score to the next; CatBoost scores every one
    stop: Callable[[], bool] = lambda: False  # asked before each round; True gives up
    tables: tuple[Any, Any] | None = None  # of `Engine.table` and `Engine.part`, where several tasks share them


@dataclass(frozen=True)
class Trained:
    booster: Any
    objective: Objective
    rounds: int
    held_out: np.ndarray | None = None  # the margins of held-out rows at the best round, where they are at hand


class Stopped(Exception):
    """The caller gave up."""


class Engine(ABC):
    """A library that trains a `Task`, and what can be done with the booster that it trained."""

    name: str  # of the package, and for users
    file: str  # what a saved booster is called
    starts_at_zero: bool  # then the start is to be added to scores
    shares_tables = False  # between tasks, by `table` and `part`

    # Its own parameters, see `parameters.engine_parameters`.
    rounds: str  # what it calls `Task.rounds`
    refused: ClassVar[Mapping[str, str]] = {}  # why, and what to use in place of each

    focal_objective: type[Objective] = Objective

    def library(self) -> Any:
        """The library's module; where it is missing, the error says how to install it."""
        try:
            return importlib.import_module(self.name)
        except ModuleNotFoundError as error:
            if error.name != self.name:
                raise
            raise ModuleNotFoundError(
                f"engine={self.name!r} needs the package {self.name}; install it: python -m pip install {self.name}",
                name=self.name,
            ) from None

    def check_library(self) -> None:
        """Raise what `library` raises where saved boosters of this library can't be opened."""
        self.library()

    def parameter_names(self) -> tuple[dict[str, str], bool]:
        """Every name of a parameter, with the one that `train` uses; and whether the library knows no others."""
        return {}, True

    def impossible(self, params: Mapping[str, Any], early_stopping: bool) -> str:
        """What is wrong with values of its own parameters, if training may stop early; or ""."""
        return ""

    @abstractmethod
    def train(self, task: Task) -> Trained:
        """Raises `Stopped` where `task.stop` says so."""

    @abstractmethod
    def scores(self, booster: Any, features: Any) -> np.ndarray:
        """(N,), or (N, classes) of more than two; without the start where `starts_at_zero`."""

    @abstractmethod
    def contributions(self, booster: Any, features: np.ndarray) -> np.ndarray:
        """What each feature adds to the scores of one row or more: (N, features + 1), or (N, features + 1, classes).

        The last one is the base, about the mean score of training, which all rows share.  Together they are the row's
        scores, to rounding.
        """

    @abstractmethod
    def importances(self, booster: Any) -> np.ndarray:
        """One number >= 0 for each feature."""

    @abstractmethod
    def features(self, booster: Any) -> int:
        """How many it has."""

    @abstractmethod
    def named(self, booster: Any, names: Sequence[str]) -> Any:
        """The booster with these names of its features; it predicts the same."""

    @abstractmethod
    def dump(self, booster: Any) -> bytes:
        """What a file holds.  The libraries could write it themselves, but two of them hide why they could not."""

    @abstractmethod
    def load(self, data: bytes) -> Any:
        """The booster of a file."""

    def table(self, task: Task) -> Any:
        """The rows of a task as the library bins them, for tasks that share rows."""
        raise NotImplementedError(f"{self.name} does not share tables")

    def part(self, table: Any, rows: np.ndarray) -> Any:
        """Some rows of such a table by their numbers, in order."""
        raise NotImplementedError(f"{self.name} does not share tables")

    def margins(self, booster: Any, start: Any, features: Any) -> np.ndarray:
        scores = self.scores(booster, features)
        return scores + np.asarray(start) if self.starts_at_zero else scores

    def begin(self, task: Task) -> tuple[Any, dict[str, Any]]:
        """The task's objective, and the parameters that go with it."""
        objective: Any = self.focal_objective(**task.objective)
        return objective, objective.params(task.rows.labels, task.rows.weights, task.rows.num_class)


class BestRound:
    """Scores held-out rows as training goes on, and says when it has gone on for too long."""

    def __init__(self, task: Task, objective: Objective) -> None:
        self.task, self.score, self.rounds, self.best = task, scoring(task, objective), 0, -np.inf
        self.margins: np.ndarray | None = None

    def after_round(self, number: int, margins: Callable[[], np.ndarray], last: bool) -> bool:
        """Whether training should end after this round, counted from 1."""
        held_out = self.task.held_out
        if held_out is None or (number % self.task.score_every and not last):
            return last
        now = margins()
        reached = self.score(now, held_out.labels, held_out.weights)
        if reached > self.best or not self.rounds:
            self.best, self.rounds, self.margins = reached, number, now
        return last or number - self.rounds >= self.task.early_stopping_rounds


def scoring(task: Task, objective: Objective) -> Score:
    log_loss = Metric(objective, "log_loss").value
    return task.score or (lambda margins, labels, weights: -log_loss(margins, labels, weights))


def csr_matrix(features: Any) -> Any:
    """LightGBM and CatBoost take SciPy's sparse matrices, but not its sparse arrays; CatBoost no 64-bit indices."""
    if isinstance(features, np.ndarray):
        return features
    import scipy.sparse

    if not scipy.sparse.issparse(features):
        return features
    parts = features.data, features.indices.astype(np.int32), features.indptr.astype(np.int32)
    return scipy.sparse.csr_matrix(parts, shape=features.shape)
