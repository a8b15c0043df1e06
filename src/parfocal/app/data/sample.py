"""A table as training sees it: labels, weights, times, and the columns that a model may use."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from parfocal.app.data import columns, leakage
from parfocal.app.data.columns import AS_IT_IS, Column, Kind, Reading
from parfocal.app.data.rare import join_rare
from parfocal.app.data.roles import Roles, check_roles
from parfocal.app.data.tables import Table
from parfocal.app.data.target import FEWEST_ROWS, Target, choose_classes, codes, read_classes, similar_names
from parfocal.app.errors import BadInput, counted, listed, shown


@dataclass(frozen=True)
class Sample:
    """The rows of a table that have a label and a weight.  `values` are the converted columns."""

    target: Target
    labels: np.ndarray  # codes: the place in target.classes
    weights: np.ndarray | None
    times: np.ndarray | None
    values: dict[str, pl.Series]
    columns: tuple[Column, ...]
    left_out: dict[str, list[str]]  # reason: columns
    notes: list[str]
    rows_per_day: float | None = None  # None: --time has no dates

    def learn_categories(self, training: np.ndarray) -> Sample:
        """The sample with the categories of the training rows; the final test must not add any."""
        learnt = tuple(
            columns.with_categories(column, self.values[column.name].gather(training))
            if column.kind == "category"
            else column
            for column in self.columns
        )
        return replace(self, columns=learnt)

    def matrix(self) -> np.ndarray:
        """One float64 column for each feature."""
        places = iter(range(sum(len(column.parts) for column in self.columns)))
        matrix = np.empty((len(self.labels), sum(len(column.parts) for column in self.columns)))
        for column in self.columns:
            for part in columns.encode(self.values[column.name], column):
                matrix[:, next(places)] = part
        return matrix

    @property
    def categorical(self) -> list[int]:
        """The places of the category columns among the features."""
        kinds = [column.kind for column in self.columns for _ in column.parts]
        return [place for place, kind in enumerate(kinds) if kind == "category"]


def read_sample(table: Table, roles: Roles, reading: Reading = AS_IT_IS) -> Sample:
    """Read a table and decide what each column is."""
    check_roles(table, roles)
    used = [name for name in table.names if name not in roles.drop or name in (roles.weight, roles.time)]
    frame = table.read(used)
    if frame.is_empty():
        raise BadInput(f"{table.path} has column names but no rows")

    named, labelled, marks = read_classes(frame[roles.target], table, roles, reading)
    missing_rows = len(frame) - int(labelled.sum())
    weights = read_weights(frame, roles.weight, table, labelled)
    kept = labelled & (weights > 0) if weights is not None else labelled
    weightless_rows = len(labelled) - int(kept.sum()) - missing_rows
    named, joined = named.filter(pl.Series(kept)), None
    if roles.other is not None and len(named):
        named, joined = join_rare(named, roles.other, FEWEST_ROWS, f"--target {roles.target}")
        kept = kept.copy()
        kept[kept] = named.is_not_null().to_numpy()
        named = named.drop_nulls()
    frame = frame.filter(pl.Series(kept))
    classes, tie = choose_classes(named, roles, table, marks)
    target = Target(roles.target, classes, missing_rows, weightless_rows, tie, marks, joined)

    features = read_features(frame, table, roles, reading)
    labels = codes(named, classes)
    times, rows_per_day = read_times(frame, roles.time, table, reading)
    known_too_much = leakage.leaking_columns(features.values, features.columns, labels)
    features.notes += [*similar_names(classes), *(f"{shown(column.name)}: {told}" for column, told in known_too_much)]
    return Sample(
        target=target,
        labels=labels,
        weights=None if weights is None else weights[kept],
        times=times,
        rows_per_day=rows_per_day,
        **vars(features),
    )


@dataclass
class Features:
    """The columns that a model may use, and why it may not use the others."""

    values: dict[str, pl.Series]
    columns: tuple[Column, ...]
    left_out: dict[str, list[str]]
    notes: list[str]


def read_features(frame: pl.DataFrame, table: Table, roles: Roles, reading: Reading) -> Features:
    features = Features({}, (), {"--drop": list(roles.drop)} if roles.drop else {}, list(table.notes))
    elsewhere = {roles.target, roles.weight, *roles.drop}
    features_only = frame.select(name for name in frame.columns if name not in elsewhere)
    plain = columns.plain_numbers(features_only, reading) if table.as_text else {}
    for place, name in enumerate(frame.columns):
        if name in elsewhere:
            continue
        column = Column(name, "number", missing=reading.missing) if name in plain else None
        column = column or columns.recognise(frame[name], table.as_text, reading)
        if column is None:
            features.left_out.setdefault(f"of type {frame[name].dtype.base_type()}", []).append(name)
            continue
        # Trees cannot extrapolate in time, so the --time column contributes its month, weekday and hour only.
        column = replace(column, days=name != roles.time, zone=table.offsets.get(name, column.zone))
        values = plain[name] if name in plain else columns.convert(frame[name], column).values
        reason = why_useless(values, column, is_time=name == roles.time)
        if name != roles.time and is_index(name, place, values, column):
            reason = "the index that pandas or R writes"
        if reason == "constant" and frame[name].drop_nulls().n_unique() > 1:
            reason = "its values are one number, once they are floats"
        if table.as_text and name not in plain and reason != "constant":
            features.notes += [f"{shown(name)}: {told}" for told in columns.reading_notes(frame[name], column, reading)]
        if reason is not None:
            features.left_out.setdefault(reason, []).append(name)
            continue
        features.values[name] = values
        features.columns += (column,)
    if table.as_text and any(column.decimal == "," for column in features.columns):
        for column in features.columns:
            told = columns.ambiguous_thousands(frame[column.name], column)
            features.notes += [f"{shown(column.name)}: {sentence}" for sentence in told]
    if not features.columns:
        raise BadInput(f"{table.path}: no column is left to learn from; {why_none_is_left(features.left_out, roles)}")
    return features


def is_index(name: str, place: int, values: pl.Series, column: Column) -> bool:
    """Whether a column only numbers the rows of a data frame: unnamed, or named as pandas names its index."""
    unnamed = name.strip() == "" or re.fullmatch(r"Unnamed: \d+(_level_\d+)?", name) is not None
    if re.fullmatch(r"__index_level_\d+__", name):
        return True
    if not unnamed or place > 0:
        return False
    return column.kind == "category" or values.drop_nulls().n_unique() == len(values)


def why_useless(values: pl.Series, column: Column, is_time: bool) -> str | None:
    if values.n_unique() <= 1:
        return "constant"
    if is_time and column.kind not in ("date", "datetime"):
        return "only orders the rows"
    if column.kind == "category" and columns.looks_like_identifier(values):
        return "a different text in nearly every row"
    return None


def why_none_is_left(left_out: dict[str, list[str]], roles: Roles) -> str:
    if left_out:
        return "left out: " + "; ".join(f"{listed(map(shown, names))} ({reason})" for reason, names in left_out.items())
    return f"the table has only the target{'' if roles.weight is None else ' and the weights'}"


# -- weights and times -----------------------------------------------------------------------------


def read_weights(frame: pl.DataFrame, name: str | None, table: Table, labelled: np.ndarray) -> np.ndarray | None:
    """One weight >= 0 for each row; NaN only in rows without a label."""
    if name is None:
        return None
    column = columns.recognise(frame[name], table.as_text)
    if column is None or column.kind not in ("number", "boolean"):
        kind = frame[name].dtype if column is None else column.kind
        raise BadInput(f"--weight {name}: weights must be numbers; the column is a {kind}")
    weights = columns.floats(columns.convert(frame[name], column).values)
    missing = int(np.isnan(weights[labelled]).sum())
    if missing:
        raise BadInput(f"--weight {name}: {counted(missing, 'row')} without a weight; fill it in, or remove the rows")
    negative = weights[labelled] < 0
    if negative.any():
        first = weights[labelled][negative][0]
        raise BadInput(
            f"--weight {name}: {counted(int(negative.sum()), 'weight')} below 0 (first: {first:g}); use 0 or more"
        )
    if not weights[labelled].max() > 0:
        raise BadInput(f"--weight {name}: all weights are 0; at least some must be larger")
    return weights / weights[labelled].max()  # only their ratios count, and so no product under- or overflows


def read_times(
    frame: pl.DataFrame, name: str | None, table: Table, reading: Reading
) -> tuple[np.ndarray | None, float | None]:
    """Numbers in the order of time; and how many rows there are a day, from the first day to the last."""
    if name is None:
        return None, None
    allowed: tuple[Kind, ...] = ("number", "date", "datetime")
    column = columns.recognise(frame[name], table.as_text, reading)
    if column is None or column.kind not in allowed:
        kind = frame[name].dtype if column is None else column.kind
        raise BadInput(f"--time {name}: times must be dates, times or numbers; the column is a {kind}")
    values = columns.convert(frame[name], column).values
    missing = values.null_count()
    if missing:
        raise BadInput(f"--time {name}: {counted(missing, 'row')} without a time; fill it in, or remove the rows")
    if column.kind == "number":
        return values.to_numpy(), None
    days = values.dt.date()
    # polars declares every type that a column's extremes can have; these are dates.
    spanned = (days.max() - days.min()).days + 1  # type: ignore[operator, union-attr]
    return values.dt.epoch("us").to_numpy(), len(values) / spanned
