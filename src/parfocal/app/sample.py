"""A table as training sees it: labels, weights, times, and the columns that a model may use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from parfocal.app import columns, suspicions
from parfocal.app.columns import AS_IT_IS, Column, Kind, Reading
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
    missing_marks: tuple[str, ...] = ()  # what stood in the rows without a label, where it was not nothing
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
    known_too_much = suspicions.of(features.values, features.columns, labels)
    features.notes += [*alike(classes), *(f"{shown(column.name)}: {told}" for column, told in known_too_much)]
    return Sample(
        target=target,
        labels=labels,
        weights=None if weights is None else weights[kept],
        times=read_times(frame, roles.time, table, reading),
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
        # Time itself can't tell a booster about a later time than it has seen; its calendar can.
        column = replace(column, days=name != roles.time, zone=table.offsets.get(name, column.zone))
        values = plain[name] if name in plain else columns.convert(frame[name], column).values
        reason = why_useless(values, column, is_time=name == roles.time)
        if name != roles.time and is_index(name, place, values, column):
            reason = "the index that pandas or R writes"
        if reason == "constant" and frame[name].drop_nulls().n_unique() > 1:
            reason = "its values are one number, once they are floats"
        if table.as_text and name not in plain and reason != "constant":
            features.notes += [
                f"{shown(name)}: {told}" for told in columns.how_it_was_read(frame[name], column, reading)
            ]
        if reason is not None:
            features.left_out.setdefault(reason, []).append(name)
            continue
        features.values[name] = values
        features.columns += (column,)
    if table.as_text and any(column.decimal == "," for column in features.columns):
        for column in features.columns:
            told = columns.thousands_or_not(frame[column.name], column)
            features.notes += [f"{shown(column.name)}: {sentence}" for sentence in told]
    if not features.columns:
        raise BadInput(
            f"{table.path}: no column is left to learn from; left out: {left_out_in_words(features.left_out)}"
        )
    return features


def is_index(name: str, place: int, values: pl.Series, column: Column) -> bool:
    """Whether a column only numbers the rows of a data frame: unnamed, or named as pandas names its index."""
    unnamed = name.strip() == "" or re.fullmatch(r"Unnamed: \d+(_level_\d+)?", name) is not None
    if re.fullmatch(r"__index_level_\d+__", name):
        return True
    if not unnamed or place > 0:
        return False
    return column.kind == "category" or values.drop_nulls().n_unique() == len(values)


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


# -- the target ------------------------------------------------------------------------------------


def read_classes(
    values: pl.Series, table: Table, roles: Roles, reading: Reading
) -> tuple[pl.Series, np.ndarray, tuple[str, ...]]:
    """The name of each row's class, the same for CSV and Parquet; which rows have one; what stands in the others."""
    column = columns.recognise(values, table.as_text, reading)
    if column is None or values.dtype in (pl.Duration, pl.Time):
        raise BadInput(f"--target {values.name} holds {values.dtype}; it must be true/false, numbers or text")
    if column.kind in ("date", "datetime"):
        column = replace(column, kind="category")
    wanted = () if roles.positive is None else (roles.positive.strip(),)  # --positive NA makes NA a class
    marks: tuple[str, ...] = ()
    if table.as_text or column.kind == "category":
        texts = values.cast(pl.String).str.strip_chars()
        given = columns.tidy(texts, wanted, reading.missing)
        if column.kind in ("number", "boolean"):
            given = columns.tidy(given, wanted, columns.MARKS)
        left = texts.filter(given.is_null() & texts.is_not_null()).unique().sort()
        marks = tuple(mark for mark in left if mark)
    else:
        given = values
        if values.dtype == pl.Float32:
            given = values.cast(pl.String)  # 0.1 and not 0.10000000149011612
        elif not values.dtype.is_integer():
            given = columns.convert(values, column).values
    if column.kind == "number":
        names = {value: class_name(value, column) for value in given.drop_nulls().unique()}
        named = given.replace_strict(names, default=None, return_dtype=pl.String)
    elif column.kind == "boolean" and given.dtype == pl.String:
        named = given.str.to_lowercase().replace({"1": "true", "0": "false"})
    else:
        named = given.cast(pl.String)
    return named, named.is_not_null().to_numpy(), marks


def class_name(value: float | str, column: Column) -> str:
    """1 for 1.0; integers keep all of their digits, which a float would not."""
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?\d+", value):
            return str(int(value))
        read = columns.convert(pl.Series([value]), column).values[0]
        if read is None:
            return value  # --positive NA
        value = float(read)
    return str(int(value)) if value == int(value) else repr(value)


def alike(classes: Sequence[str]) -> Iterator[str]:
    """A hint at classes that only capitals or blanks tell apart."""
    first: dict[str, str] = {}
    for name in classes:
        key = " ".join(name.lower().split())
        if key in first:
            both = f"{quoted(first[key])} and {quoted(name)}"
            yield f"the classes {both} differ in capitals or blanks alone; are they the same?"
        first.setdefault(key, name)


def choose_classes(
    named: pl.Series, roles: Roles, table: Table, marks: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], bool]:
    """The classes, and whether two of them are equally frequent and nobody chose the positive one."""
    where = f"--target {roles.target}"
    counts = named.alias("class").value_counts(name="rows").sort("class", nulls_last=True)
    rows = dict(zip(counts["class"], counts["rows"], strict=True))
    taken = (
        f"; {listed(map(quoted, marks))} was taken for missing, and --positive {marks[0]} makes it a class"
        if marks
        else ""
    )
    if len(rows) == 0:
        raise BadInput(f"{where}: no row of {table.path} has a label; it needs two classes{taken}")
    if len(rows) == 1:
        all_rows = counted(len(named), "row")
        only = quoted(next(iter(rows)))
        raise BadInput(f"{where} has one class only, {only}, in all {all_rows}; it needs two{taken}")
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


def read_times(frame: pl.DataFrame, name: str | None, table: Table, reading: Reading) -> np.ndarray | None:
    """Numbers in the order of time."""
    if name is None:
        return None
    allowed: tuple[Kind, ...] = ("number", "date", "datetime")
    column = columns.recognise(frame[name], table.as_text, reading)
    if column is None or column.kind not in allowed:
        kind = frame[name].dtype if column is None else column.kind
        raise BadInput(f"--time {name}: times must be dates, times or numbers; the column is a {kind}")
    values = columns.convert(frame[name], column).values
    missing = values.null_count()
    if missing:
        raise BadInput(f"--time {name}: {counted(missing, 'row')} without a time; fill it in, or remove the rows")
    return (values if column.kind == "number" else values.dt.epoch("us")).to_numpy()
