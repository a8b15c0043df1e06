"""The target: the classes of a column by name, which of them is the positive one, and the code of each row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from parfocal.app.data import columns
from parfocal.app.data.columns import Column, Reading
from parfocal.app.data.rare import Joined
from parfocal.app.data.roles import Roles
from parfocal.app.data.tables import Table
from parfocal.app.errors import BadInput, counted, listed, quoted

# of a class: fewer cannot be shared among five folds and a final test
FEWEST_ROWS = 8
MOST_CLASSES = 100  # every class is one more tree a round; numbers with more values are quantities, not classes


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
    missing_marks: tuple[str, ...] = ()  # the texts that stood in the rows without a label
    joined: Joined | None = None  # by --other

    @property
    def rare_rows(self) -> int:
        """The rows of rare classes that were left out."""
        return self.joined.total if self.joined is not None and self.joined.left_out else 0

    @property
    def positive(self) -> str:
        return self.classes[1]


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


def similar_names(classes: Sequence[str]) -> Iterator[str]:
    """A hint at classes that differ in capitals or blanks only."""
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
    """The place of each row's class; of two classes, every class but the positive one counts as the negative."""
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
