"""A linear model as an engine beside the boosters: one-hot categories, imputed and scaled numbers, saved as JSON.

`FocalLogisticRegression` finds its coefficients.  A missing number counts as the mean, and says so in a feature of its
own if some were missing in training; a category that training did not have counts as none.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from parfocal import engines
from parfocal.app.candidates import LINEAR
from parfocal.app.columns import MOST_CATEGORIES
from parfocal.app.errors import BadInput, one_line
from parfocal.engines import Engine, Stopped, Task, Trained
from parfocal.engines.task import Parameters
from parfocal.objectives import Objective
from parfocal.sklearn import FocalLogisticRegression

MOST_STEPS = 200
LARGEST = 1e150  # of a saved number
SPARSE_FROM = 30  # one-hot features; below, a dense matrix is faster


@dataclass(frozen=True)
class Layout:
    """How a matrix of numbers and codes becomes features."""

    means: list[float]  # of the numbers; 0 for a category
    scales: list[float]  # their standard deviations, 1 where that is 0 and for a category
    missing: list[int]  # places of numbers that get a feature for being missing
    categories: dict[int, int]  # place: number of codes

    @classmethod
    def of(cls, matrix: np.ndarray, categorical: list[int]) -> Layout:
        absent = np.isnan(matrix)
        with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # a column without any number
            means = np.nan_to_num(np.nanmean(matrix, axis=0)) if absent.any() else matrix.mean(axis=0)
            scales = np.nanstd(matrix, axis=0) if absent.any() else matrix.std(axis=0)
        scales = np.where(np.isfinite(scales) & (scales > 0), scales, 1.0)
        means[categorical], scales[categorical] = 0.0, 1.0
        return cls(
            means.tolist(),
            scales.tolist(),
            [place for place in np.flatnonzero(absent.any(axis=0)).tolist() if place not in categorical],
            {place: int(np.nanmax(matrix[:, place], initial=-1)) + 1 for place in categorical},
        )

    @property
    def features(self) -> int:
        return len(self.means)

    def design(self, matrix: np.ndarray) -> Any:
        """The features, dense or sparse: numbers, what is missing, categories."""
        numbers = [place for place in range(self.features) if place not in self.categories]
        scaled = (matrix[:, numbers] - np.array(self.means)[numbers]) / np.array(self.scales)[numbers]
        absent = np.isnan(matrix[:, self.missing]).astype(np.float64)
        dense = np.hstack([np.nan_to_num(scaled, nan=0.0, copy=False), absent])
        if not self.categories:
            return dense
        encoded = [one_hot(matrix[:, place], codes) for place, codes in self.categories.items()]
        together = sparse.hstack([sparse.csr_array(dense), *encoded], format="csr")
        return together if sum(self.categories.values()) >= SPARSE_FROM else together.toarray()


def one_hot(codes: np.ndarray, number: int) -> Any:
    """(rows, number + 1): the last column is for what is missing or unknown."""
    known = (codes >= 0) & (codes < number)  # NaN is neither
    places = np.where(known, codes, number).astype(np.int64)
    rows = np.arange(len(codes) + 1)
    return sparse.csr_array((np.ones(len(codes)), places, rows), shape=(len(codes), number + 1))


@dataclass(frozen=True)
class LinearModel:
    """What a fit leaves: margins are the design times coefficients, plus intercepts."""

    layout: Layout
    coefficients: np.ndarray  # (1, features of the design), or a row for each of more than two classes
    intercepts: np.ndarray

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        margins = np.asarray(self.layout.design(matrix) @ self.coefficients.T) + self.intercepts
        return margins[:, 0] if margins.shape[1] == 1 else margins


def train_linear(task: Task) -> Trained:
    if task.stop():
        raise Stopped
    rows = task.rows
    layout = Layout.of(rows.features, list(task.categorical))
    model = FocalLogisticRegression(**task.objective, **task.more, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where it stopped is judged on held-out rows
        model.fit(layout.design(rows.features), rows.labels, rows.weights)
    objective = Objective(**task.objective)
    objective.begin_with(rows.labels, rows.weights, task.classes if task.classes > 2 else None)
    return Trained(LinearModel(layout, model.coef_, model.intercept_), objective, int(np.max(model.n_iter_)))


def dump_linear(model: LinearModel) -> bytes:
    layout = model.layout
    numbers = {
        "means": layout.means,
        "scales": layout.scales,
        "missing": layout.missing,
        "categories": {str(place): codes for place, codes in layout.categories.items()},
        "coefficients": model.coefficients.tolist(),
        "intercepts": model.intercepts.tolist(),
    }
    return (json.dumps(numbers, allow_nan=False) + "\n").encode()


def load_linear(data: bytes) -> LinearModel:
    """Raises ValueError, KeyError or TypeError for a file that `dump_linear` did not write."""
    numbers = json.loads(data)
    means, scales = (finite(name, numbers[name], 1) for name in ("means", "scales"))
    if len(means) != len(scales) or not np.all(scales > 0):
        raise ValueError("scales must be above 0, one for each mean")
    places = {str(place): place for place in range(len(means))}
    categories = {places.get(place, -1): codes for place, codes in numbers["categories"].items()}
    missing = numbers["missing"]
    if not all(type(codes) is int and 0 <= codes <= MOST_CATEGORIES for codes in categories.values()):
        raise ValueError(f"categories must be 0 to {MOST_CATEGORIES:,} of a column")
    if not all(type(place) is int and 0 <= place < len(means) for place in missing) or -1 in categories:
        raise ValueError("a column is out of range")
    if len({*missing, *categories}) < len(missing) + len(categories):
        raise ValueError("a column is there twice")
    layout = Layout(means.tolist(), scales.tolist(), missing, categories)
    coefficients, intercepts = (
        finite("coefficients", numbers["coefficients"], 2),
        finite("intercepts", numbers["intercepts"], 1),
    )
    features = len(means) - len(categories) + len(missing) + sum(codes + 1 for codes in categories.values())
    if coefficients.shape != (len(intercepts), features):
        raise ValueError(f"coefficients have the shape {coefficients.shape}, not {(len(intercepts), features)}")
    return LinearModel(layout, coefficients, intercepts)


def finite(name: str, values: Any, dimensions: int) -> np.ndarray:
    """An array of finite numbers, of which products stay finite too."""
    array = np.array(values)
    if array.dtype.kind not in "if" or array.ndim != dimensions or not np.all(np.abs(array) <= LARGEST):
        raise ValueError(f"{name} must be finite numbers in {dimensions} dimension{'s'[: dimensions - 1]}")
    return array.astype(np.float64)


def importances(model: LinearModel) -> np.ndarray:
    """How far one standard deviation, or another category, moves a margin."""
    layout, sizes = model.layout, np.abs(model.coefficients).max(axis=0)
    found = np.zeros(layout.features)
    numbers = [place for place in range(layout.features) if place not in layout.categories]
    found[numbers] = sizes[: len(numbers)]
    begin = len(numbers) + len(layout.missing)
    for place, codes in layout.categories.items():
        found[place] = sizes[begin : begin + codes + 1].max(initial=0.0)
        begin += codes + 1
    return found


ENGINE = Engine(
    LINEAR,
    train_linear,
    lambda model, matrix: model.margins(matrix),
    starts_at_zero=False,
    importances=importances,
    file="linear.json",
    load=load_linear,
    dump=dump_linear,
    features=lambda model: model.layout.features,
    parameters=Parameters(lambda: ({}, True), {}, "max_iter", lambda given, early_stopping: ""),
)

# What a fit can train with.
ENGINES = {**engines.ENGINES, LINEAR: ENGINE}


def check_installed(name: str, where: str) -> None:
    """A booster that is missing is told with its cure; the linear model needs nothing."""
    if name != LINEAR:
        try:
            engines.door(name)
        except ModuleNotFoundError as error:
            raise BadInput(f"{where}: {one_line(error)}") from error
