"""The rows of a new table as the numbers that a model was trained on, and everything that does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from parfocal.app.data.columns import Column, accepts, convert, count_unknown, described, encode
from parfocal.app.errors import BadInput, counted, listed, quoted

CHUNK = 100_000  # rows; small enough for any memory, large enough that a chunk's overhead vanishes


@dataclass
class NewRows:
    """A reader of chunks, which counts what it saw.

    `text` is whether text is read as numbers, dates and booleans, as that of a CSV is.  A Parquet file has types.
    """

    columns: Sequence[Column]
    types: Mapping[str, pl.DataType]
    text: bool = True
    rows: int = 0
    usable: list[Column] = field(init=False)  # the columns that can be read
    problems: list[str] = field(init=False)  # what names and types alone show
    wrong: Counter[str] = field(default_factory=Counter)  # by column, the values that are not of its kind
    first_wrong: dict[str, str] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)  # by column, the values that are not a known category

    def __post_init__(self) -> None:
        known = [column for column in self.columns if column.name in self.types]
        self.usable = [column for column in known if self._accepts(column)]
        self.problems = list(self._problems_of_types())

    def _problems_of_types(self) -> Iterator[str]:
        missing = [column.name for column in self.columns if column.name not in self.types]
        if missing:
            yield f"column{'s' if len(missing) > 1 else ''} {listed(map(quoted, missing))} missing"
        for column in self.columns:
            if column.name in self.types and not self._accepts(column):
                yield f"column {quoted(column.name)} must be a {column.kind}, it is {self.types[column.name]}"

    def _accepts(self, column: Column) -> bool:
        dtype = self.types[column.name]
        return (self.text and dtype == pl.String) or accepts(column, dtype)

    @property
    def fit_so_far(self) -> bool:
        return not self.problems and not self.wrong

    def read(self, chunk: pl.DataFrame) -> np.ndarray:
        """The features, (N, features), of the usable columns.  After a problem they are not complete."""
        self.rows += len(chunk)
        features = [part for column in self.usable for part in self._read_column(chunk[column.name], column)]
        return np.stack(features, axis=1) if features else np.empty((len(chunk), 0))

    def _read_column(self, values: pl.Series, column: Column) -> list[np.ndarray]:
        converted = convert(values, column)
        if not converted.clean:
            self.wrong[column.name] += len(converted.wrong)
            self.first_wrong.setdefault(column.name, str(converted.wrong[0]))
        unknown = count_unknown(converted.values, column)
        if unknown:
            self.unknown[column.name] += unknown
        return encode(converted.values, column)

    def check(self, what: object, cure: str = "") -> None:
        """Raise one error with everything that did not fit."""
        kinds = {column.name: described(column) for column in self.columns}
        problems = self.problems + [
            f"column {quoted(name)} must be {kinds[name]}, but in {counted(count, 'row')} it is not "
            f"(first: {quoted(self.first_wrong[name])})"
            for name, count in self.wrong.items()
        ]
        if problems:
            raise BadInput(f"{what} does not fit the model: {'; '.join(problems)}{cure}")
