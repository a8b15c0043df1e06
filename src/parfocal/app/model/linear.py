"""A linear model as an engine beside the boosters: one-hot categories, imputed and scaled numbers, saved as JSON.

`FocalLogisticRegression` finds the coefficients.  A missing number counts as the mean; where training had missing
numbers, a feature marks them.  A category that training did not have counts as missing.

scikit-learn and SciPy are imported by training alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parfocal import boosters
from parfocal.app.data.columns import MOST_CATEGORIES
from parfocal.app.errors import BadInput, one_line
from parfocal.boosters import Engine, Objective, Stopped, Task, Trained

LINEAR = "linear"  # the engine's name

MOST_STEPS = 200
FARTHEST = 1e9  # standard deviations, so that margins are finite whatever a table holds
LARGEST = 1e150  # of a saved coefficient or intercept
SPARSE_FROM = 30  # one-hot features; below, a dense matrix is faster


@dataclass(frozen=True)
class Layout:
    """How a matrix of numbers and codes becomes features."""

    means: list[float]  # of numbers; 0 for a category
    scales: list[float]  # their standard deviations, 1 where that is 0 and for a category
    missing: list[int]  # indices of numbers with a feature that marks missing ones
    categories: dict[int, int]  # index: number of codes
    shares: tuple[float, ...] = ()  # of training rows: with each mark, then with each code; earlier versions saved none

    @classmethod
    def of(cls, matrix: np.ndarray, categorical: list[int]) -> Layout:
        absent = np.isnan(matrix)
        numbers, known = np.where(absent, 0.0, matrix), np.maximum((~absent).sum(axis=0), 1)
        unit = np.abs(numbers).max(axis=0)  # sums, and squares, of what is as large as 1e308 or as small as 1e-300
        numbers /= np.where(unit > 0, unit, 1.0)  # and makes equal numbers 1 or -1, whose deviation rounds to 0
        means = numbers.sum(axis=0) / known
        scales = np.sqrt((np.where(absent, 0.0, numbers - means) ** 2).sum(axis=0) / known) * unit
        scales[scales == 0] = 1.0
        means *= unit
        means[categorical], scales[categorical] = 0.0, 1.0
        layout = cls(
            means.tolist(),
            scales.tolist(),
            [place for place in np.flatnonzero(absent.any(axis=0)).tolist() if place not in categorical],
            {place: int(np.fmax.reduce(matrix[:, place], initial=-1)) + 1 for place in categorical},
        )
        counts = np.zeros(layout.width)
        counts[layout.dense - len(layout.missing) : layout.dense] = absent[:, layout.missing].sum(axis=0)
        for places in layout.places(matrix).T:
            counts += np.bincount(places, minlength=layout.width)
        return replace(layout, shares=tuple((counts / len(matrix))[layout.numbers :].tolist()))

    @property
    def features(self) -> int:
        return len(self.means)

    @property
    def numbers(self) -> int:
        """Features of the design that are numbers; they come first."""
        return self.features - len(self.categories)

    @property
    def dense(self) -> int:
        """Numbers and marks of missing ones, which come next."""
        return self.numbers + len(self.missing)

    @property
    def width(self) -> int:
        """Features of the design: numbers, marks of missing ones, the codes of each category and one for others."""
        codes = sum(number + 1 for number in self.categories.values())
        return self.dense + codes

    @property
    def columns(self) -> np.ndarray:
        """For each feature of the design, the column of the matrix that it comes from."""
        numbers = [place for place in range(self.features) if place not in self.categories]
        codes = [place for place, number in self.categories.items() for _ in range(number + 1)]
        return np.array([*numbers, *self.missing, *codes], dtype=np.int64)

    @property
    def centre(self) -> np.ndarray:
        """The mean of each feature of the design in training; without `shares`, all categories are equally frequent."""
        centre = np.zeros(self.width)
        if self.shares:
            centre[self.numbers :] = self.shares
            return centre
        begin = self.dense
        for number in self.categories.values():
            centre[begin : begin + number] = 1 / max(number, 1)
            centre[begin + number] = 0.0 if number else 1.0
            begin += number + 1
        return centre

    def design(self, matrix: np.ndarray) -> Any:
        """The features, dense or sparse: numbers, marks of missing ones, categories."""
        values = np.ones((len(matrix), self.dense + len(self.categories)))
        values[:, : self.dense] = self.numbers_and_marks(matrix)
        if not self.categories:
            return values
        from scipy import sparse  # a fifth of a second, which predictions need not wait for

        # Every row has as many entries; SciPy's own ways to join parts take several times the memory.
        places = np.empty(values.shape, dtype=np.int32)
        places[:, : self.dense] = np.arange(self.dense)
        places[:, self.dense :] = self.places(matrix)
        rows = np.arange(0, values.size + 1, values.shape[1])
        together = sparse.csr_array((values.ravel(), places.ravel(), rows), shape=(len(matrix), self.width))
        return together if self.width - self.dense >= SPARSE_FROM else together.toarray()

    def numbers_and_marks(self, matrix: np.ndarray) -> np.ndarray:
        """The first features of the design, (N, dense)."""
        numbers = self.columns[: self.numbers]
        means, scales = np.array(self.means)[numbers], np.array(self.scales)[numbers]
        with np.errstate(over="ignore"):
            scaled = np.clip((matrix[:, numbers] - means) / scales, -FARTHEST, FARTHEST)
        values = np.empty((len(matrix), self.dense))
        values[:, : self.numbers] = np.nan_to_num(scaled, nan=0.0, copy=False)
        values[:, self.numbers :] = np.isnan(matrix[:, self.missing])
        return values

    def places(self, matrix: np.ndarray) -> np.ndarray:
        """The features of the design that are 1 for each category, (N, categories)."""
        places = np.empty((len(matrix), len(self.categories)), dtype=np.int32)
        begin = self.dense
        for column, (place, codes) in enumerate(self.categories.items()):
            known = (matrix[:, place] >= 0) & (matrix[:, place] < codes)  # NaN is neither
            places[:, column] = begin + np.where(known, matrix[:, place], codes)  # the last one is for all other values
            begin += codes + 1
        return places


@dataclass(frozen=True)
class LinearModel:
    """Margins are the design times the coefficients, plus the intercepts."""

    layout: Layout
    coefficients: np.ndarray  # (1, features of the design), or a row for each of more than two classes
    intercepts: np.ndarray
    names: tuple[str, ...] = ()  # of the matrix's columns; earlier versions saved none

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        layout, by_feature = self.layout, self.coefficients.T
        margins = layout.numbers_and_marks(matrix) @ by_feature[: layout.dense] + self.intercepts
        for places in layout.places(matrix).T:
            margins += by_feature[places]
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """Each coefficient times its feature less the feature's mean in training, summed over each column."""
        layout, by_feature = self.layout, self.coefficients.T
        columns, mean = layout.columns, layout.centre[:, None] * by_feature
        found = np.zeros((len(matrix), layout.features + 1, len(self.intercepts)))
        for feature, values in enumerate(layout.numbers_and_marks(matrix).T):
            found[:, columns[feature]] += values[:, None] * by_feature[feature]
        for place, places in zip(layout.categories, layout.places(matrix).T, strict=True):
            found[:, place] += by_feature[places]
        of_column = np.zeros(found.shape[1:])
        np.add.at(of_column, columns, mean)
        found -= of_column
        found[:, -1] = self.intercepts + of_column.sum(axis=0)
        return found[..., 0] if len(self.intercepts) == 1 else found


class LinearEngine(Engine):
    """Logistic regression, called as the boosters are."""

    name = LINEAR
    file = "linear.json"
    starts_at_zero = False
    rounds = "max_iter"

    def train(self, task: Task) -> Trained:
        if task.stop():
            raise Stopped
        from parfocal.sklearn import FocalLogisticRegression  # scikit-learn takes a second

        rows = task.rows
        layout = Layout.of(rows.features, list(rows.categorical))
        model = FocalLogisticRegression(**task.objective, **task.engine_params, max_iter=MOST_STEPS)
        model.fit(layout.design(rows.features), rows.labels, rows.weights)
        objective = Objective(**task.objective)
        objective.learn_prior(rows.labels, rows.weights, rows.num_class)
        return Trained(LinearModel(layout, model.coef_, model.intercept_), objective, int(np.max(model.n_iter_)))

    def scores(self, booster: LinearModel, features: np.ndarray) -> np.ndarray:
        return booster.margins(features)

    def contributions(self, booster: LinearModel, features: np.ndarray) -> np.ndarray:
        return booster.contributions(features)

    def importances(self, booster: LinearModel) -> np.ndarray:
        """How far one standard deviation, or a change of category, moves a margin."""
        layout, sizes = booster.layout, np.abs(booster.coefficients).max(axis=0)
        found = np.zeros(layout.features)
        found[layout.columns[: layout.numbers]] = sizes[: layout.numbers]
        begin = layout.dense
        for place, codes in layout.categories.items():
            found[place] = sizes[begin : begin + codes + 1].max(initial=0.0)
            begin += codes + 1
        return found

    def features(self, booster: LinearModel) -> int:
        return booster.layout.features

    def named(self, booster: LinearModel, names: Sequence[str]) -> LinearModel:
        return replace(booster, names=tuple(names))

    def dump(self, booster: LinearModel) -> bytes:
        layout = booster.layout
        numbers = {
            "features": list(booster.names),
            "means": layout.means,
            "scales": layout.scales,
            "missing": layout.missing,
            "categories": {str(place): codes for place, codes in layout.categories.items()},
            "shares": list(layout.shares),
            "coefficients": booster.coefficients.tolist(),
            "intercepts": booster.intercepts.tolist(),
        }
        return (json.dumps(numbers, allow_nan=False) + "\n").encode()

    def load(self, data: bytes) -> LinearModel:
        """Raises ValueError, KeyError or TypeError for a file that `dump` did not write."""
        numbers = json.loads(data)
        means, scales = (finite(name, numbers[name], 1, np.finfo(float).max) for name in ("means", "scales"))
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
        shares = finite("shares", [0.0, *numbers.get("shares", ())], 1, 1.0)[1:]
        layout = Layout(means.tolist(), scales.tolist(), missing, categories, tuple(shares.tolist()))
        if len(shares) not in (0, layout.width - layout.numbers):
            raise ValueError(f"shares must be {layout.width - layout.numbers:,}")
        coefficients, intercepts = (
            finite("coefficients", numbers["coefficients"], 2),
            finite("intercepts", numbers["intercepts"], 1),
        )
        if coefficients.shape != (len(intercepts), layout.width):
            raise ValueError(f"coefficients have the shape {coefficients.shape}, not {(len(intercepts), layout.width)}")
        return LinearModel(layout, coefficients, intercepts, tuple(numbers.get("features", ())))


def finite(name: str, values: Any, dimensions: int, largest: float = LARGEST) -> np.ndarray:
    """An array of finite numbers, so small that products with features, FARTHEST at most, are finite too."""
    array = np.array(values)
    if array.dtype.kind not in "if" or array.ndim != dimensions or not np.all(np.abs(array) <= largest):
        raise ValueError(f"{name} must be finite numbers in {dimensions} dimension{'s'[: dimensions - 1]}")
    return array.astype(np.float64)


ENGINE = LinearEngine()

# All that a fit can train with.
ENGINES: dict[str, Engine] = {**boosters.ENGINES, LINEAR: ENGINE}


def check_installed(name: str, where: str, train: bool = True) -> None:
    """Raise BadInput, with the cure, for a library that is not installed; the linear model needs none.

    `train` is whether more is asked of it than the scores of a saved booster.
    """
    if name != LINEAR:
        try:
            (ENGINES[name].library if train else ENGINES[name].check_library)()
        except ModuleNotFoundError as error:
            raise BadInput(f"{where}: {one_line(error)}") from error
