"""What moved a row's probability most, in words for people who read a list of rows.

Two classes:    raises: town is Oslo       lowers strongly: x is 2.31        raises slightly: born is missing
More:           towards 'rare': town is Oslo            slightly away from 'rare': x is 2.31

A reason is a column of the table with the value that stands there.  `raises` and `lowers` are the sign of what the
column adds to the margin (`Model.explain`), with which the probability of the positive class always rises.  With more
classes, `towards` is the sign of what it adds to the lead of the decided class over the mean of all classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import polars as pl

from parfocal.app.data.columns import Column, convert, tidy
from parfocal.app.errors import BadInput, quoted, shown
from parfocal.app.model.model import Model

WHY, MOST_REASONS = "why_", 20

# How far a column moves the odds of the class: what they would be, if it added nothing.
STRONG, SLIGHT = math.log(2), math.log(1.1)
NOTHING = 1e-6  # of log-odds: rounding, and no reason

RAISES = ("raises slightly: ", "raises: ", "raises strongly: ")
LOWERS = ("lowers slightly: ", "lowers: ", "lowers strongly: ")
TOWARDS = ("slightly towards {}: ", "towards {}: ", "strongly towards {}: ")
AWAY = ("slightly away from {}: ", "away from {}: ", "strongly away from {}: ")


def check_why(why: int | None) -> int:
    """How many reasons --why asks for: none, if it was not given."""
    if why is not None and not 1 <= why <= MOST_REASONS:
        raise BadInput(f"--why {why}: it must be 1 to {MOST_REASONS}, the number of columns to name for each row")
    return why or 0


def names_of_reasons(count: int) -> list[str]:
    return [f"{WHY}{number}" for number in range(1, count + 1)]


def reasons(model: Model, table: pl.DataFrame, matrix: np.ndarray, codes: np.ndarray, count: int) -> list[pl.Series]:
    """The `count` columns that moved each row most, as columns of text; null where fewer moved it.

    `table` has the model's columns as they were read, `matrix` the features that they became, `codes` the decisions.
    """
    step = model.explained_rows
    found = [
        reasons_of(model, table[first : first + step], matrix[first : first + step], codes[first : first + step], count)
        for first in range(0, len(matrix), step)
    ]
    texts = np.concatenate(found)
    return [pl.Series(name, texts[:, rank].tolist(), pl.String) for rank, name in enumerate(names_of_reasons(count))]


def reasons_of(model: Model, table: pl.DataFrame, matrix: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Texts, (rows, count), and None."""
    texts = np.full((len(matrix), count), None, dtype=object)
    chosen, direction, size = strongest(model, matrix, codes, count)
    starts = beginnings(model)
    place, first = np.flatnonzero(direction.ravel()), np.cumsum([0, *(len(column.parts) for column in model.columns)])
    place = place[np.argsort(chosen.ravel()[place], kind="stable")]
    of_column = chosen.ravel()[place]
    for some in np.split(place, np.flatnonzero(np.diff(of_column)) + 1) if len(place) else []:
        number = chosen.ravel()[some[0]]
        column, rows, ranks = model.columns[number], some // chosen.shape[1], some % chosen.shape[1]
        values = values_in_words(table[column.name].gather(rows), column, matrix[rows, first[number]])
        name = shown(column.name)
        for row, rank, value in zip(rows.tolist(), ranks.tolist(), values, strict=True):
            start = starts[codes[row] if len(model.classes) > 2 else 0]
            texts[row, rank] = f"{start[direction[row, rank]][size[row, rank]]}{name} is {value}"
    return texts


def strongest(
    model: Model, matrix: np.ndarray, codes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns that moved each row most, their directions (1, -1; 0: none) and sizes (0, 1, 2): (rows, count)."""
    found = model.contributions(matrix)
    margins, added = found.sum(axis=1), found[:, :-1]
    rows = np.arange(len(matrix))
    moves = added[rows, :, codes] - added.mean(axis=2) if added.ndim == 3 else added
    chosen = np.argsort(-np.abs(moves), axis=1, kind="stable")[:, :count]
    direction = np.take_along_axis(np.sign(moves), chosen, axis=1).astype(np.int64)
    now = log_odds(model, margins, codes)
    without = np.stack([log_odds(model, margins - added[rows, column], codes) for column in chosen.T], axis=1)
    with np.errstate(invalid="ignore"):  # beyond all numbers, odds are infinite with it and without
        effect = np.abs(now[:, None] - without)
    direction[(np.abs(np.take_along_axis(moves, chosen, axis=1)) < NOTHING) | is_constant(model)] = 0
    size = np.where(np.isnan(effect), 1, (effect >= SLIGHT).astype(np.int64) + (effect >= STRONG))
    return chosen, direction, size


def is_constant(model: Model) -> bool:
    """Whether all rows have one probability, which nothing moves: the temperature is infinite."""
    return model.calibration is not None and model.calibration["temperature"] is None


def log_odds(model: Model, margins: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Of the positive class of two, or of the decided one of more."""
    logits = model.logits(margins)
    if logits.ndim == 1:
        return logits
    others = np.where(np.arange(logits.shape[1]) == codes[:, None], -np.inf, logits)
    return logits[np.arange(len(codes)), codes] - np.logaddexp.reduce(others, axis=1)


def beginnings(model: Model) -> list[dict[int, tuple[str, ...]]]:
    """By direction and size; of more than two classes for each of them."""
    if len(model.classes) == 2:
        return [{1: RAISES, -1: LOWERS}]
    return [
        {sign: tuple(text.format(name) for text in texts) for sign, texts in ((1, TOWARDS), (-1, AWAY))}
        for name in map(quoted, model.classes)
    ]


# -- values as they stand in the table -------------------------------------------------------------


def values_in_words(given: pl.Series, column: Column, numbers: np.ndarray) -> list[str]:
    """Short texts without line breaks or invisible characters; `numbers` are the first of the features."""
    missing, numbers = np.isnan(numbers), np.nan_to_num(numbers)
    texts: Iterable[str]
    if column.kind == "category":
        texts = tidy(given.cast(pl.String), column.categories, column.missing).to_list()
        both = list(zip(texts, missing.tolist(), strict=True))
        words = {pair: category_in_words(*pair) for pair in set(both)}
        return [words[pair] for pair in both]
    if given.dtype.is_integer():
        texts = map(str, given.to_list())
    elif column.kind == "number" and (given.dtype != pl.String or column.notation.plain):
        texts = map(clock if given.dtype in (pl.Duration, pl.Time) else digits, numbers.tolist())
    elif given.dtype == pl.String:
        texts = map(shown, given.fill_null("").str.strip_chars().str.replace(r"(:\d\d)\.0+\b", "$1").to_list())
    elif column.kind == "boolean":
        texts = ("true" if number else "false" for number in numbers.tolist())
    else:
        pattern = "%Y-%m-%d" if column.kind == "date" else "%Y-%m-%d %H:%M"
        texts = map(str, convert(given, column).values.dt.to_string(pattern).to_list())
    return ["missing" if gone else text for gone, text in zip(missing.tolist(), texts, strict=True)]


def category_in_words(text: str | None, unknown: bool) -> str:
    return "missing" if text is None else f"{shown(text)}{' (unknown)' if unknown else ''}"


def digits(number: float) -> str:
    """Three digits, or all of a whole number."""
    if abs(number) < 1e15 and (number == round(number) or abs(number) >= 1000):
        return f"{round(number)}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """5:00:00, as a clock or a stopwatch has it."""
    minutes, rest = divmod(round(abs(seconds)), 60)
    return f"{'-' if seconds < 0 else ''}{minutes // 60}:{minutes % 60:02}:{rest:02}"
