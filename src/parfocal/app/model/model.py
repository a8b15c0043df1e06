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
from parfocal.app.model.decisions import decision
from parfocal.app.model.linear import ENGINES
from parfocal.boosters import BoostingLoss, focal_loss
from parfocal.calibrator import Calibrator

DESCRIPTION, PICTURE, PAGE = "model.json", "report.png", "report.html"  # in its folder


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
    threshold: float | None  # of the positive class; None: of more than two classes the most probable is taken
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
        name of the most probable class.
        """
        codes = decision("default", self)(self._probabilities(frame))
        return codes.astype(bool) if len(self.classes) == 2 else np.array(self.classes)[codes]

    def _probabilities(self, frame: Any) -> np.ndarray:
        table = polars_of(frame, [column.name for column in self.columns])
        rows = NewRows(self.columns, table.schema)
        matrices = [rows.read(chunk) for chunk in table.iter_slices(CHUNK)]
        rows.check("the frame", "; the model's columns say what it needs")
        found = [self.probabilities(matrix) for matrix in matrices]
        return np.concatenate(found) if found else np.empty((0, *np.shape(self.init_score)))

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """The same of a matrix of features: of the positive class (N,), or of every class (N, classes)."""
        margins = ENGINES[self.engine].margins(self.booster, self.init_score, matrix)
        calibrator = self.calibrator
        if calibrator is None:
            return np.asarray(self.loss.posterior(margins))
        return np.asarray(calibrator.posterior(np.asarray(self.loss.posterior_logit(margins))))

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
