"""A table as training sees it: labels, weights, times, and the columns that a model may use."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from parfocal.app import columns
from parfocal.app.columns import Column, Kind
from parfocal.app.errors import BadInput, counted, listed, quoted, shown
from parfocal.app.options import Roles
from parfocal.app.rare import Joined, join_rare
from parfocal.app.tables import Table

# Of a class: five folds and a final test can't share fewer.
FEWEST_ROWS = 8
MOST_CLASSES = 100  # every class is one more tree a round; numbers with more values are quantities and no classes


@dataclass(frozen=True)
class Target:
    """The classes of the target column by name, and what had to be guessed or left out.

    Two classes are (negative, positive); more are in the order of their numbers or names.
    """

    name: str
    classes: tuple[str, ...]
    missing_rows: int
    weightless_rows: int
    tie: bool
    joined: Joined | None = None  # by --other

    @property
    def rare_rows(self) -> int:
        """Left out."""
        return self.joined.total if self.joined is not None and self.joined.left_out else 0

    @property
    def positive(self) -> str:
        return self.classes[1]


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

    def learn_categories(self, training: np.ndarray) -> Sample:
        """The sample with the categories that occur in the training rows: the final test must not add any."""
        learnt = tuple(
            columns.with_categories(column, self.values[column.name].gather(training))
            if column.kind == "category"
            else column
            for column in self.columns
        )
        return replace(self, columns=learnt)

    def matrix(self) -> np.ndarray:
        """One float64 column for each feature."""
        features = [part for column in self.columns for part in columns.encode(self.values[column.name], column)]
        return np.stack(features, axis=1)

    @property
    def categorical(self) -> list[int]:
        """The places of the category columns among the features."""
        kinds = [column.kind for column in self.columns for _ in column.parts]
        return [place for place, kind in enumerate(kinds) if kind == "category"]


def read_sample(table: Table, roles: Roles) -> Sample:
    """Read a table and decide what each column is."""
    check_roles(table, roles)
    used = [name for name in table.names if name not in roles.drop or name in (roles.weight, roles.time)]
    frame = table.read(used)
    if frame.is_empty():
        raise BadInput(f"{table.path} has column names but no rows")

    named, labelled = read_classes(frame[roles.target], table)
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
    classes, tie = choose_classes(named, roles, table)
    target = Target(roles.target, classes, missing_rows, weightless_rows, tie, joined)

    features = read_features(frame, table, roles)
    return Sample(
        target=target,
        labels=codes(named, classes),
        weights=None if weights is None else weights[kept],
        times=read_times(frame, roles.time, table),
        **vars(features),
    )


@dataclass
class Features:
    """The columns that a model may use, and why it may not use the others."""

    values: dict[str, pl.Series]
    columns: tuple[Column, ...]
    left_out: dict[str, list[str]]
    notes: list[str]


def read_features(frame: pl.DataFrame, table: Table, roles: Roles) -> Features:
    features = Features({}, (), {"--drop": list(roles.drop)} if roles.drop else {}, [])
    for name in frame.columns:
        if name in (roles.target, roles.weight, *roles.drop):
            continue
        column = columns.recognise(frame[name], table.as_text)
        if column is None:
            features.left_out.setdefault(f"of type {frame[name].dtype.base_type()}", []).append(name)
            continue
        # Time itself can't tell a booster about a later time than it has seen; its calendar can.
        column = replace(column, days=name != roles.time)
        values = columns.convert(frame[name], column).values
        reason = why_useless(values, column, is_time=name == roles.time)
        if reason is not None:
            features.left_out.setdefault(reason, []).append(name)
            continue
        features.values[name] = values
        features.columns += (column,)
        if column.kind == "category" and table.as_text:
            features.notes.extend(mostly_numbers(values))
    if not features.columns:
        raise BadInput(
            f"{table.path}: no column is left to learn from; left out: {left_out_in_words(features.left_out)}"
        )
    return features


def check_roles(table: Table, roles: Roles) -> None:
    for option, name in (("--target", roles.target), ("--weight", roles.weight), ("--time", roles.time)):
        if name is not None:
            table.check_column(name, option)
        if name is not None and name == roles.target and option != "--target":
            raise BadInput(f"{option} {name}: that is the target; name another column, or leave {option} out")
    for name in roles.drop:
        table.check_column(name, "--drop")
    if roles.target in roles.drop:
        raise BadInput(f"--drop {roles.target}: that is the target; take it out of --drop, or name another --target")
    if roles.other is not None and roles.positive is not None:
        raise BadInput("--other and --positive: all classes but one are joined by --positive already; leave one out")
    if roles.weight is not None and roles.weight == roles.time:
        raise BadInput(f"--weight and --time are both {roles.time}; a column can't be both")


def why_useless(values: pl.Series, column: Column, is_time: bool) -> str | None:
    if values.n_unique() <= 1:
        return "constant"
    if is_time and column.kind not in ("date", "datetime"):
        return "only orders the rows"
    if column.kind == "category" and columns.looks_like_names(values):
        return "a different text in nearly every row"
    return None


def left_out_in_words(left_out: dict[str, list[str]]) -> str:
    return "; ".join(f"{listed(map(shown, names))} ({reason})" for reason, names in left_out.items()) or "nothing"


def mostly_numbers(values: pl.Series) -> list[str]:
    """A warning for a column that a few words keep from being numbers."""
    given = values.drop_nulls()
    words = given.filter(given.cast(pl.Float64, strict=False).is_null())
    if len(words) * 2 > len(given):
        return []
    examples = listed(map(quoted, words.unique().sort()), 3)
    return [f"{shown(values.name)} is text, not a number, because of {examples} in {counted(len(words), 'row')}"]


# -- the target ------------------------------------------------------------------------------------


def read_classes(values: pl.Series, table: Table) -> tuple[pl.Series, np.ndarray]:
    """The name of each row's class, the same for CSV and Parquet, and which rows have one."""
    column = columns.recognise(values, table.as_text)
    if column is None:
        raise BadInput(f"--target {values.name} holds {values.dtype}; it must be true/false, numbers or text")
    if column.kind in ("date", "datetime"):
        column = replace(column, kind="category")
    converted = columns.convert(values, column).values
    if column.kind == "number":
        classes = converted.drop_nulls().unique()
        names = {value: class_name(value) for value in classes}
        named = converted.replace_strict(names, default=None, return_dtype=pl.String)
    else:
        named = converted.cast(pl.String)
    return named, named.is_not_null().to_numpy()


def class_name(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def choose_classes(named: pl.Series, roles: Roles, table: Table) -> tuple[tuple[str, ...], bool]:
    """The classes, and whether two of them are equally frequent and nobody chose the positive one."""
    where = f"--target {roles.target}"
    counts = named.value_counts(name="rows").sort(named.name, nulls_last=True)
    rows = dict(zip(counts[named.name], counts["rows"], strict=True))
    if len(rows) == 0:
        raise BadInput(f"{where}: no row of {table.path} has a label; it needs two classes")
    if len(rows) == 1:
        all_rows = counted(len(named), "row")
        raise BadInput(f"{where} has one class only, {quoted(next(iter(rows)))}, in all {all_rows}; it needs two")
    names, tie = sorted(rows, key=sort_key), False
    if roles.positive is not None:
        positive = match_class(roles.positive, names, where)
        names = [name for name in names if name != positive]
        rest = names[0] if len(names) == 1 else f"any but {positive}"
        rows = {rest: sum(rows[name] for name in names), positive: rows[positive]}
    elif len(names) == 2:
        first, last = names
        tie = rows[first] == rows[last]
        rows = {name: rows[name] for name in ([last, first] if rows[first] < rows[last] else names)}
    else:
        rows = {name: rows[name] for name in names}
    check_rows(rows, where)
    return tuple(rows), tie


def check_rows(rows: dict[str, int], where: str) -> None:
    if len(rows) > MOST_CLASSES:
        raise BadInput(
            f"{where} has {counted(len(rows), 'class')} ({listed(map(quoted, rows), 5)}), parfocal fits at most "
            f"{MOST_CLASSES}; if it is a quantity, make a column that is true where it is what you look for; "
            "--positive VALUE sets one class against the rest, --other N joins those with fewer than N rows"
        )
    for number, (name, count) in enumerate(rows.items()):
        if count < FEWEST_ROWS:
            role = f"{('negative', 'positive')[number]} " if len(rows) == 2 else ""
            cure = "" if len(rows) == 2 else ", join classes (--other 20 joins those with fewer than 20 rows)"
            raise BadInput(
                f"{where}: only {counted(count, role + 'row')} ({quoted(name)}); parfocal needs at least {FEWEST_ROWS} "
                f"of each class to train and to test, so collect more{cure}, or choose another --target"
            )


def codes(named: pl.Series, classes: tuple[str, ...]) -> np.ndarray:
    """The place of each row's class; of two classes the negative is all that the positive is not."""
    if len(classes) == 2:
        return (named == classes[1]).cast(pl.Int64).to_numpy()
    return named.replace_strict(list(classes), list(range(len(classes))), return_dtype=pl.Int64).to_numpy()


def sort_key(name: str) -> tuple[float, str]:
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def match_class(given: str, names: list[str], where: str) -> str:
    """The class that --positive names; True means true, and 1.0 means 1."""
    for same in (
        lambda name: name == given.strip(),
        lambda name: name.lower() == given.strip().lower(),
        lambda name: sort_key(name)[0] == sort_key(given)[0] != float("inf"),
    ):
        matches = [name for name in names if same(name)]
        if len(matches) == 1:
            return matches[0]
    known = " and ".join(map(quoted, names)) if len(names) == 2 else listed(map(quoted, names))
    raise BadInput(f"--positive {given}: {where} has no such class; its classes are {known}")


# -- weights and times -----------------------------------------------------------------------------


def read_weights(frame: pl.DataFrame, name: str | None, table: Table, labelled: np.ndarray) -> np.ndarray | None:
    """One weight >= 0 for each row; NaN only where there is no label."""
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
    return weights / weights[labelled].max()  # only their ratios count, and no product of theirs under- or overflows


def read_times(frame: pl.DataFrame, name: str | None, table: Table) -> np.ndarray | None:
    """Numbers in the order of time."""
    if name is None:
        return None
    allowed: tuple[Kind, ...] = ("number", "date", "datetime")
    column = columns.recognise(frame[name], table.as_text)
    if column is None or column.kind not in allowed:
        kind = frame[name].dtype if column is None else column.kind
        raise BadInput(f"--time {name}: times must be dates, times or numbers; the column is a {kind}")
    values = columns.convert(frame[name], column).values
    missing = values.null_count()
    if missing:
        raise BadInput(f"--time {name}: {counted(missing, 'row')} without a time; fill it in, or remove the rows")
    return (values if column.kind == "number" else values.dt.epoch("us")).to_numpy()
