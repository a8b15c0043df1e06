"""The worst mistakes on the final test, with the values of the columns as a reader knows them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parfocal.app.data.columns import DAY, Column
from parfocal.app.study.columns_matter import features_of_columns

EPOCH = dt.datetime(1970, 1, 1)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Mistake:
    """A row of the final test: what it is, what was decided, and with which probability."""

    place: int  # in the final test
    label: int
    decided: int
    probability: float  # of the positive class; of more than two classes of the right one


def misses(labels: np.ndarray, probabilities: np.ndarray, decided: np.ndarray, most: int) -> list[Mistake]:
    """Positives that are not decided as such, the least probable first."""
    return worst(np.flatnonzero((labels == 1) & (decided == 0)), probabilities, labels, most, 1)


def false_alarms(labels: np.ndarray, probabilities: np.ndarray, decided: np.ndarray, most: int) -> list[Mistake]:
    """Negatives that are decided as positives, the most probable first."""
    return worst(np.flatnonzero((labels == 0) & (decided == 1)), probabilities, labels, most, -1)


def worst(places: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, most: int, sign: int) -> list[Mistake]:
    order = places[np.argsort(sign * probabilities[places], kind="stable")][:most]
    return [Mistake(int(k), int(labels[k]), 1 - int(labels[k]), float(probabilities[k])) for k in order]


def wrong_classes(labels: np.ndarray, probabilities: np.ndarray, decided: np.ndarray, most: int) -> list[Mistake]:
    """Of more than two classes: the wrong rows whose right class was least probable."""
    of_right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    places = np.flatnonzero(decided != labels)
    order = places[np.argsort(of_right[places], kind="stable")][:most]
    return [Mistake(int(k), int(labels[k]), int(decided[k]), float(of_right[k])) for k in order]


def values_of(features: np.ndarray, columns: Sequence[Column], time: float | None = None) -> dict[str, str | None]:
    """The values of a row, by column, from its features; None where there is none.

    `time` is the row's place on the --time column, in microseconds since 1970, which its features leave out.
    """
    groups = features_of_columns(columns)
    return {column.name: value_of(features[group], column, time) for column, group in zip(columns, groups, strict=True)}


def value_of(numbers: np.ndarray, column: Column, time: float | None) -> str | None:
    if np.isnan(numbers[0]):
        return None
    if column.kind == "category":
        return column.categories[int(numbers[0])]
    if column.kind == "boolean":
        return "true" if numbers[0] else "false"
    if column.kind == "number":
        return number_text(float(numbers[0]))
    parts = dict(zip(column.parts, numbers.tolist(), strict=True))
    if "days" not in parts and time is None:
        hour = f", {parts['hour']:.0f} h" if "hour" in parts else ""
        return f"month {parts['month']:.0f}, {WEEKDAYS[int(parts['weekday']) - 1]}{hour}"
    moment = EPOCH + dt.timedelta(microseconds=round(parts["days"] * DAY) if "days" in parts else int(time or 0))
    return moment.strftime("%Y-%m-%d" if column.kind == "date" else "%Y-%m-%d %H:%M")


def number_text(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.6g}"
