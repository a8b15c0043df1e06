"""What the tests of the command line share: a table, fits that take a second, and how their results are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from parfocal import boosters
from parfocal.app import main
from parfocal.app.model import linear
from parfocal.app.options import Metric
from parfocal.app.study import study, training, trials
from parfocal.app.study.candidates import Candidate
from parfocal.app.study.columns_matter import ColumnsMatter
from parfocal.app.study.training import FoldResult
from parfocal.app.study.trials import Trial
from parfocal.app.tell import page, plots

LIGHTGBM = training.Training(boosters.ENGINES["lightgbm"], seed=0)
QUICK = ("--gamma", "2", "--alpha", "0.25")  # three candidates with trees, and logistic regression


def made_table(rows: int = 1200, seed: int = 0) -> pl.DataFrame:
    """A rare event that trees find and no linear model; every kind of column, and columns that must be left out."""
    generator = np.random.default_rng(seed)
    x, z = generator.normal(size=(2, rows))
    town = generator.choice(["Bonn", "Oslo", "Rome"], size=rows, p=[0.5, 0.3, 0.2])
    event = generator.random(rows) < 1 / (1 + np.exp(4 - 4 * (np.abs(x) > 1.2) - 2 * (town == "Oslo") * z))
    hours = np.sort(generator.integers(0, 24 * 200, size=rows))
    missing = generator.random(rows) < 0.1
    return pl.DataFrame(
        {
            "x": np.where(missing, np.nan, x),
            "z": z,
            "town": town,
            "member": generator.random(rows) < 0.5,
            "born": pl.select(pl.date(1990, 1, 1) + pl.duration(days=pl.Series(generator.integers(0, 9000, rows)))),
            "at": pl.select(pl.datetime(2020, 1, 1) + pl.duration(hours=pl.Series(hours))),
            "unit": "kg",
            "name": [f"person {number}" for number in range(rows)],
            "weight": generator.integers(1, 4, size=rows),
            "event": event,
        }
    ).with_columns(pl.col("x").fill_nan(None))


DRAWN = plots.draw_report  # a second
MATTER, WRITTEN = study.columns_matter, page.page_of  # another
NOTHING = ColumnsMatter([], [], [], 0, 0, 0, 1)


def fit(table: Path, out: Path, *more: str, target: str = "event") -> int:
    return main(["fit", str(table), "--target", target, "--out", str(out), *QUICK, *more])


def predict(folder: Path, table: Path, out: Path, *more: str) -> int:
    return main(["predict", str(folder), str(table), "--out", str(out), *more])


def recovered(final: training.FinalFit, matrix: np.ndarray) -> np.ndarray:
    """Its probabilities before any calibration."""
    return np.asarray(final.loss.posterior(final.margins(matrix)))


def choosing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the candidate of that name win, whatever it reached."""

    def choose(contest: Sequence[Trial], select: Metric) -> Trial:
        return max((trial for trial in contest if trial.candidate.name == name), key=lambda trial: trial.mean(select))

    monkeypatch.setattr(study, "choose", choose)
    monkeypatch.setattr(trials, "RACE_ERRORS", np.inf)  # it must not be dropped


def described(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"model.json is no strict JSON: it holds {constant}")

    return json.loads((folder / "model.json").read_text(encoding="utf-8"), parse_constant=refuse)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def is_plain(candidate: dict[str, Any]) -> bool:
    return candidate["gamma"] == candidate["balance"] == 0 and candidate["alpha"] is None


def trial_of(candidate: Candidate, *values: float) -> Trial:
    """With these losses on the folds."""
    fits = [FoldResult(candidate, fold, 1, np.zeros(1), {}, {}) for fold in range(len(values))]
    return Trial(candidate, fits, [], [{"log_loss": value, "average_precision": value} for value in values])


def few_rounds(patience: int, rounds: int, steps: int = linear.MOST_STEPS) -> Any:
    """A fixture for a module: boosters stop soon, linear models after `steps`, and no picture or page is made."""

    @pytest.fixture(scope="module", autouse=True)
    def impatience() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(training, "PATIENCE", patience)
            patched.setattr(training, "MOST_ROUNDS", rounds)
            patched.setattr(linear, "MOST_STEPS", steps)
            patched.setattr(plots, "draw_report", lambda *_: b"no picture")
            patched.setattr(study, "columns_matter", lambda *_: NOTHING)
            patched.setattr(page, "page_of", lambda *_: "no page")
            yield

    return impatience


def make_folder(folder: Path) -> Path:
    """The made table as CSV and Parquet, and a model for it, with its picture and its page."""
    made_table().write_csv(folder / "table.csv")
    made_table().write_parquet(folder / "table.parquet")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "PATIENCE", 5)
        patched.setattr(training, "MOST_ROUNDS", 25)
        patched.setattr(plots, "draw_report", DRAWN)
        patched.setattr(study, "columns_matter", MATTER)
        patched.setattr(page, "page_of", WRITTEN)
        assert fit(folder / "table.csv", folder / "model") == 0
    return folder
