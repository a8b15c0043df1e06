"""The rows that decisions are made on, as a file: labels and calibrated probabilities, and no column of the table.

`parfocal decide` and `predict --decide` choose a threshold with it, without training again.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from parfocal.app.model.decisions import Evidence, Judged

JUDGED = "judged.parquet"  # in the folder of a model
MOST_BYTES = 1 << 32


def dump(evidence: Evidence) -> bytes:
    """The out-of-fold rows, then those of the final test."""
    parts = (evidence.folds, evidence.test)
    probabilities = np.concatenate([part.probabilities for part in parts])
    columns = probabilities[:, None] if probabilities.ndim == 1 else probabilities
    frame = pl.DataFrame(
        {
            "final_test": np.repeat([False, True], [len(part.labels) for part in parts]),
            "fold": np.concatenate([_folds(part) for part in parts]).astype(np.uint8),
            "label": np.concatenate([part.labels for part in parts]).astype(np.uint8),
            **{f"probability_{place}": columns[:, place] for place in range(columns.shape[1])},
        }
    )
    if evidence.folds.weights is not None:
        frame = frame.with_columns(weight=np.concatenate([_weights(part) for part in parts]))
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def _folds(part: Judged) -> np.ndarray:
    return np.zeros(len(part.labels)) if part.folds is None else part.folds


def _weights(part: Judged) -> np.ndarray:
    assert part.weights is not None
    return part.weights


def load(data: bytes, classes: int, prior: Any, rows_per_day: float | None) -> Evidence:
    """Raises ValueError for what `dump` did not write."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
        if any(frame.null_count().row(0)):
            raise ValueError(f"{JUDGED} has missing values")
        names = [f"probability_{place}" for place in range(1 if classes == 2 else classes)]
        test = frame["final_test"].cast(pl.Boolean, strict=True).to_numpy()
        labels = frame["label"].cast(pl.Int64).to_numpy()
        numbers = frame["fold"].cast(pl.Int64).to_numpy()
        probabilities = frame.select(names).to_numpy()
        weights = frame["weight"].cast(pl.Float64).to_numpy() if "weight" in frame.columns else None
    except (PolarsError, TypeError) as error:
        raise ValueError(f"{JUDGED} is not as it was written: {error}") from error
    if len(labels) == 0 or test.all() or not test.any() or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{JUDGED} has labels out of range")
    if probabilities.dtype.kind != "f" or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(f"{JUDGED} has probabilities outside [0, 1]")
    if weights is not None and not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"{JUDGED} has weights that are not above 0")
    probabilities = probabilities[:, 0] if classes == 2 else probabilities
    check_folds(numbers[~test], labels[~test], labels[test], classes)
    rows = Judged(labels, probabilities, weights)
    return Evidence(replace(rows.part(~test), folds=numbers[~test]), rows.part(test), prior, rows_per_day)


def check_folds(numbers: np.ndarray, labels: np.ndarray, tested: np.ndarray, classes: int) -> None:
    """Every class must be in the final test, and left where any fold is taken away."""
    parts = [tested, *(labels[numbers != number] for number in np.unique(numbers))]
    if any(len(np.unique(part)) < classes for part in parts):
        raise ValueError(f"{JUDGED} lacks a class in some of its parts")
