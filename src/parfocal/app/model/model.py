"""A saved model: what it knows, and what it predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parfocal.app.data.columns import Column
from parfocal.app.data.frames import polars_of
from parfocal.app.data.new_rows import CHUNK, NewRows
from parfocal.app.errors import BadInput
from parfocal.app.model.decisions import Decision, saved_decision
from parfocal.app.model.linear import ENGINES
from parfocal.boosters import BoostingLoss, focal_loss
from parfocal.calibrator import Calibrator

DESCRIPTION, PICTURE, PAGE = "model.json", "report.png", "report.html"  # in its folder
# Numbers at a time, of rows, features and classes: a few seconds of a booster, which does not hear Ctrl-C.
MOST_CONTRIBUTIONS = 1 << 18


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each column of a table adds to the margins of its rows.

    A margin is a score before it becomes a probability.  Of two classes the probability of the positive one rises with
    it, whatever gamma is and however it was calibrated.  Of more classes each has a margin, and what counts is how far
    one is ahead of the others.
    """

    columns: tuple[str, ...]
    contributions: np.ndarray  # float64 (N, columns), or (N, columns, classes) of more than two
    base: Any  # what all rows share, about the mean margin of training: a float, or (classes,)

    @property
    def margins(self) -> np.ndarray:
        """(N,), or (N, classes): the base and all contributions together."""
        return self.base + self.contributions.sum(axis=1)


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model that `parfocal fit` saved; `parfocal.load_model` reads it.

    Two classes are (negative, positive), with numbers for alpha, init_score and prior; more have a list of each.
    """

    booster: Any
    engine: str
    target: str
    classes: tuple[str, ...]
    columns: tuple[Column, ...]  # what a table must have, with the kind of each
    gamma: float
    alpha: Any  # None: no class weights
    init_score: Any
    prior: Any
    calibration: dict[str, Any] | None  # temperature (None: infinite) and bias of the posterior's logits; None: neither
    threshold: float | None  # of the positive class; None: more than two classes are decided otherwise
    rule: str  # that decides, as --decide takes it
    costs: Any  # of the rule costs:FILE: a row for each true class; otherwise None
    rows_per_day: float | None  # None: the table had no dates
    rounds: int
    record: Mapping[str, Any]  # what the fit found, with the keys of `parfocal fit --json`

    def __repr__(self) -> str:
        return f"Model(target={self.target!r}, classes={self.classes!r}, engine={self.engine!r}, gamma={self.gamma:g})"

    def predict_proba(self, frame: Any) -> np.ndarray:
        """The calibrated probability of every class for every row.

        frame : a pandas or polars DataFrame, or a polars LazyFrame, with at least the model's columns.  Text is read as
            in a CSV: as the number, date or boolean that the column was in the fit.  Missing values and categories that
            the fit did not see count as missing.

        Returns float64 (N, classes), in the order of the rows and of `classes`; of two classes (negative, positive).
        Raises ValueError if a column is missing, or its values are not what the model needs, with all such columns, and
        TypeError if `frame` is not a data frame.
        """
        probabilities = self._probabilities(frame)
        if probabilities.ndim == 1:
            return np.stack([1 - probabilities, probabilities], axis=1)
        return probabilities

    def decide(self, frame: Any) -> np.ndarray:
        """The column `decision` of `parfocal predict`.

        frame : as for `predict_proba`, with its errors.

        Returns (N,): of two classes booleans, true where the positive class is as probable as `threshold`; of more the
        name of the class that `rule` takes, usually the most probable one.
        """
        codes = self.decision(self._probabilities(frame))
        return codes.astype(bool) if len(self.classes) == 2 else np.array(self.classes)[codes]

    def explain(self, frame: Any) -> Explanation:
        """What each column adds to the margin of each row, which `parfocal predict --why` puts into words.

        These are Shapley values: of trees those that the booster's own code computes (TreeSHAP), of a linear model each
        coefficient times the feature's distance from its mean in training.  What the parts of a date, or the categories
        of a column, add is summed.  The contributions and the base add up to the margin, to rounding; XGBoost computes
        them in float32.

        frame : as for `predict_proba`, with its errors.

        Returns an `Explanation`: `columns`, `contributions` (N, columns), or (N, columns, classes) of more than two
        classes, `base` and `margins`.
        """
        found = [self.contributions(matrix) for matrix in self._matrices(frame)]
        shape = np.shape(self.init_score)
        together = np.concatenate(found) if found else np.empty((0, len(self.columns) + 1, *shape))
        # Its last column is the same in every row; without rows it is that of a row without any value.
        base = (together if found else self.contributions(np.full((1, self.features), np.nan)))[0, -1]
        names = tuple(column.name for column in self.columns)
        return Explanation(names, together[:, :-1], base if shape else float(base))

    def _probabilities(self, frame: Any) -> np.ndarray:
        found = [self.probabilities(matrix) for matrix in self._matrices(frame)]
        return np.concatenate(found) if found else np.empty((0, *np.shape(self.init_score)))

    def _matrices(self, frame: Any) -> list[np.ndarray]:
        table = polars_of(frame, [column.name for column in self.columns])
        rows = NewRows(self.columns, table.schema)
        matrices = [rows.read(chunk) for chunk in table.iter_slices(CHUNK)]
        rows.check("the frame", "; model.columns says what it needs")
        return [matrix for matrix in matrices if len(matrix)]

    @property
    def features(self) -> int:
        """The numbers that its columns become."""
        return sum(len(column.parts) for column in self.columns)

    @property
    def explained_rows(self) -> int:
        """How many rows at a time, so that wide tables and many classes do not fill the memory, and Ctrl-C is heard."""
        return max(1, MOST_CONTRIBUTIONS // ((self.features + 1) * np.size(self.init_score)))

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What each column adds to the margins of a matrix of features, and the base: (N, columns + 1[, classes])."""
        engine, parts = ENGINES[self.engine], [len(column.parts) for column in self.columns]
        begin = np.cumsum([0, *parts])  # of each column's features, and of the base
        rows = self.explained_rows
        slices = (matrix[first : first + rows] for first in range(0, len(matrix), rows))
        found = [np.add.reduceat(engine.contributions(self.booster, some), begin, axis=1) for some in slices]
        together = np.concatenate(found)
        if engine.starts_at_zero:
            together[:, -1] += np.asarray(self.init_score)
        if not np.isfinite(together).all():
            raise BadInput(f"{engine.file} can't say what moved a row: its trees count no training rows; fit again")
        return together

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """The probabilities of a matrix of features: of the positive class (N,), or of every class (N, classes)."""
        margins = ENGINES[self.engine].margins(self.booster, self.init_score, matrix)
        calibrator = self.calibrator
        if calibrator is None:
            return np.asarray(self.loss.posterior(margins))
        return np.asarray(calibrator.posterior(np.asarray(self.loss.posterior_logit(margins))))

    def logits(self, margins: np.ndarray) -> np.ndarray:
        """What the probabilities of margins are: log-odds (N,), or log-probabilities (N, classes)."""
        logits, calibrator = np.asarray(self.loss.posterior_logit(margins)), self.calibrator
        return logits if calibrator is None else np.asarray(calibrator.posterior_logit(logits))

    @property
    def decision(self) -> Decision:
        """How it decides where nothing else is asked for."""
        return saved_decision(self.rule, self.threshold, self.costs, self.prior)

    @property
    def loss(self) -> BoostingLoss:
        """The loss that the booster was trained with."""
        return focal_loss(len(self.classes), self.gamma, self.alpha, from_logits=True)

    @property
    def calibrator(self) -> Calibrator | None:
        """It takes logits of the recovered posterior; None in models of formats 1 and 2."""
        if self.calibration is None:
            return None
        temperature = self.calibration["temperature"]
        fitted = {
            "inverse_temperature": 0.0 if temperature is None else 1 / temperature,
            "bias": self.calibration["bias"],
        }
        unfitted = Calibrator(focal_loss(len(self.classes), 0.0, None, from_logits=True)).get_config()
        return Calibrator.from_config({**unfitted, "fitted": fitted})


def calibration_of(calibrator: Calibrator) -> dict[str, Any]:
    """For model.json, because JSON has no infinity."""
    temperature = calibrator.temperature_
    return {
        "temperature": temperature if math.isfinite(temperature) else None,
        "bias": np.asarray(calibrator.bias_).tolist(),
    }
