"""Whether what was read from model.json makes sense.  What does not is a TypeError or a ValueError."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import polars as pl
from polars.exceptions import PanicException

from parfocal.app.data.columns import MOST_CATEGORIES, Column, Kind, convert, encode
from parfocal.app.data.numerals import DECIMALS, GROUPS
from parfocal.app.data.target import MOST_CLASSES
from parfocal.app.errors import brief, counted
from parfocal.app.model.decisions import NEVER
from parfocal.app.model.model import DESCRIPTION, Model
from parfocal.boosters import Engine

MOST_COLUMNS = 100_000
LONGEST_NAME = 10_000  # characters; the terminal takes seconds to break lines of a million
LONGEST_CATEGORY = 1_000_000
MOST_MARKS, LONGEST_UNIT = 1000, 100


def check_texts(target: str, classes: Sequence[str], columns: Sequence[Column]) -> None:
    """Raise a TypeError or ValueError for names and columns with which `predict` could not work."""
    if not 2 <= len(classes) <= MOST_CLASSES or len(classes) != len(set(classes)):
        raise ValueError(f"there must be two different classes at least, and {MOST_CLASSES} at most")
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise ValueError(f"there must be 1 to {MOST_COLUMNS:,} columns")
    names = [column.name for column in columns]
    if not all(isinstance(name, str) for name in (target, *classes, *names)):
        raise ValueError("the names of the target, its classes and the columns must be text")
    if len(set(names)) < len(names):
        raise ValueError("column names must differ")
    longest = max((target, *classes, *names), key=len)
    if len(longest) > LONGEST_NAME:
        raise ValueError(f"{brief(longest)} has {len(longest):,} characters; a name has {LONGEST_NAME:,} at most")
    for column in columns:
        check_column(column)


def check_column(column: Column) -> None:
    name = f"column {brief(column.name)}"
    if column.kind not in get_args(Kind):
        raise ValueError(f"{name} is a {brief(column.kind)}")
    if len(column.categories) > MOST_CATEGORIES or not all(
        isinstance(category, str) and len(category) <= LONGEST_CATEGORY for category in column.categories
    ):
        most = f"{MOST_CATEGORIES:,} texts of {LONGEST_CATEGORY:,} characters"
        raise ValueError(f"the categories of {name} must be {most} at most")
    if len(set(column.categories)) < len(column.categories):
        raise ValueError(f"the categories of {name} must differ")
    for text in (column.date_format, column.zone):
        if text is not None and (not isinstance(text, str) or len(text) > LONGEST_NAME):
            raise ValueError(f"{name} reads dates as {brief(text)}")
    if not isinstance(column.days, bool):
        raise ValueError(f"{name} has the days {brief(column.days)}")
    marks = column.missing
    if len(marks) > MOST_MARKS or not all(isinstance(mark, str) and len(mark) <= LONGEST_NAME for mark in marks):
        raise ValueError(f"the marks of {name} for missing values must be {MOST_MARKS:,} texts at most")
    if column.decimal not in DECIMALS or column.thousands not in GROUPS or column.decimal == column.thousands:
        raise ValueError(f"{name} has numbers with {brief(column.decimal)} and {brief(column.thousands)}")
    if not isinstance(column.unit, str) or len(column.unit) > LONGEST_UNIT:
        raise ValueError(f"{name} has the unit {brief(column.unit)}")
    if column.kind in ("date", "datetime"):
        try:
            for given in (pl.Series(["1990-01-31"]), pl.Series([0]).cast(pl.Datetime("us", "UTC"))):
                encode(convert(given, column).values, column)
        except (Exception, PanicException) as error:
            raise ValueError(f"{name} has no dates as {brief(column.date_format)} in {brief(column.zone)}") from error


def check_numbers(model: Model) -> None:
    """Numbers: single ones for two classes, otherwise one for each class."""
    classes = len(model.classes)
    check_number("gamma", model.gamma)
    for name in ("init_score", "prior", *(["alpha"] if model.alpha is not None else [])):
        check_of_classes(name, getattr(model, name), classes)
    prior = np.array(model.prior)
    if not (prior > 0).all() or not (prior < 1).all() or (prior.ndim and abs(prior.sum() - 1) > 1e-6):
        raise ValueError(f"prior {brief(model.prior)} does not hold shares of classes")
    if (model.threshold is None) != (classes > 2):
        raise ValueError("two classes need a threshold, and more have none")
    if model.threshold is not None:
        check_number("threshold", model.threshold)
        if not 0 <= model.threshold <= NEVER:
            raise ValueError(f"threshold {model.threshold!r} is outside [0, 1]")
    if model.rows_per_day is not None:
        check_number("rows_per_day", model.rows_per_day)
        if not model.rows_per_day > 0:
            raise ValueError(f"rows_per_day {model.rows_per_day!r} is not above 0")
    if model.decision.threshold != model.threshold:  # `decision` raises what is wrong with it
        raise ValueError(f"rule {brief(model.rule)} has another threshold")
    if not np.all(np.abs(model.init_score) < 1e6) or not np.all(model.loss.posterior(np.array([model.init_score])) > 0):
        raise ValueError(f"init_score {brief(model.init_score)} has no posterior")


def check_calibration(model: Model) -> None:
    if model.calibration is None:
        return
    temperature, bias = model.calibration["temperature"], model.calibration["bias"]
    if temperature is not None:
        check_number("temperature", temperature)
        if not temperature > 0:
            raise ValueError(f"temperature {temperature!r} is not above 0")
    check_of_classes("bias", bias, len(model.classes))


def check_of_classes(name: str, values: Any, classes: int) -> None:
    """One number for two classes, otherwise a list of one for each class."""
    numbers = values if isinstance(values, list) else [values]
    if isinstance(values, list) != (classes > 2) or len(numbers) != (classes if classes > 2 else 1):
        raise ValueError(f"{name} must be {'a number' if classes == 2 else counted(classes, 'number')}")
    for value in numbers:
        check_number(name, value)


def check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {brief(value)}, not a number")


def check_features(model: Model, engine: Engine) -> None:
    features = sum(len(column.parts) for column in model.columns)
    if engine.features(model.booster) != features:
        has = counted(engine.features(model.booster), "feature")
        raise ValueError(f"{engine.file} has {has}, {DESCRIPTION} {features}")
    row = np.full((1, features), np.nan)
    scores = engine.scores(model.booster, row).shape[1:]
    if scores != np.shape(model.init_score):
        classes = counted(len(model.classes), "class")
        raise ValueError(f"{engine.file} has scores of the shape {scores}, {DESCRIPTION} {classes}")
    if not np.isfinite(model.probabilities(row)).all():
        raise ValueError("a row without any value has no finite probability")
