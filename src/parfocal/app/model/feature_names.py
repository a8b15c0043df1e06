"""The names of a booster's features: those of their columns, in letters that all engines accept.

LightGBM refuses names with any of `" , : [ ] { }` and turns a blank into `_`, XGBoost refuses `[ ] <`, and both print
names without quotes, so that `=` and a backslash would mislead.  All of these, and invisible characters, become `_`.
model.json maps each name to the column and, for a date, to the part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parfocal.app.data.columns import Column

REFUSED = frozenset(" \"'`,:;[]{}<>=\\")
LONGEST = 100
NAMELESS = "unnamed"


@dataclass(frozen=True)
class Feature:
    name: str  # in the booster's file
    column: str  # in the table
    part: str | None  # month, weekday, hour or days of a date


def features_of(columns: Iterable[Column]) -> list[Feature]:
    """The features of the columns, in their order, with names that differ."""
    parts = [(column.name, part or None) for column in columns for part in column.parts]
    wanted = [cleaned(column) + (f"_{part}" if part else "") for column, part in parts]
    # A column whose name needs no change keeps it, whatever comes before it.
    taken = {column for (column, part), name in zip(parts, wanted, strict=True) if part is None and name == column}
    features, numbers = [], dict.fromkeys(wanted, 1)
    for (column, part), name in zip(parts, wanted, strict=True):
        own = name
        while own in taken and not (part is None and own == column):
            numbers[name] += 1
            own = f"{name}_{numbers[name]}"
        taken.add(own)
        features.append(Feature(own, column, part))
    return features


def cleaned(name: str) -> str:
    """The name with `_` for every character that an engine might refuse or misread."""
    kept = (letter if letter.isprintable() and letter not in REFUSED else "_" for letter in name[:LONGEST])
    return "".join(kept) or NAMELESS
