"""Tables on disk: CSV and Parquet, opened without being read.

A CSV stays text here: `columns.py` decides what a column is and converts it, with the same code for fit and predict,
so that both commands and both kinds of file agree.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from parfocal.app.errors import BadInput, listed, nearest, one_line

CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
READ_ERRORS = (PolarsError, OSError)  # OSError: a gzip that ends too early
PARQUET_ENDINGS = (".parquet", ".pq")


@dataclass(frozen=True)
class Table:
    """A table on disk.  With `as_text` (a CSV) every column is still text, missing values too."""

    path: Path
    rows: pl.LazyFrame
    types: dict[str, pl.DataType]
    as_text: bool

    @property
    def names(self) -> list[str]:
        return list(self.types)

    def check_column(self, name: str, option: str) -> None:
        if name not in self.types:
            raise BadInput(f"{option}: {self.path} has no column {name!r}; {nearest(name, self.names)}")

    def read(self, names: list[str]) -> pl.DataFrame:
        try:
            return (self.rows if self.as_text else self.rows.select(names)).collect().select(names)
        except READ_ERRORS as error:
            raise self.unreadable(error) from error

    def batches(self, names: list[str], rows: int) -> Iterator[pl.DataFrame]:
        """The rows in order, some at a time, so that the table may be larger than memory."""
        # Of a CSV all columns are read: for fewer, polars would let a line with too many fields pass, and shift.
        wanted = self.rows if self.as_text else self.rows.select(names)
        try:
            for batch in wanted.collect_batches(chunk_size=rows, maintain_order=True, lazy=True):
                yield batch.select(names)
        except READ_ERRORS as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> BadInput:
        kind = "CSV" if self.as_text else "Parquet"
        return BadInput(f"{self.path} can't be read as {kind}: {one_line(error)}")


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith(CSV_ENDINGS)


def is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET_ENDINGS)


def open_table(path: Path) -> Table:
    """Look at a table's columns, and say clearly if there are none to look at."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give a CSV or Parquet file")
    if not path.exists():
        raise BadInput(f"there is no file {path}")
    if not (is_csv(path) or is_parquet(path)):
        raise BadInput(f"{path}: the name must end in {listed(CSV_ENDINGS + PARQUET_ENDINGS)}")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty (0 bytes); it needs a line of column names, and rows")
    try:
        return open_csv(path) if is_csv(path) else open_parquet(path)
    except PermissionError:
        raise
    except READ_ERRORS as error:
        kind = "CSV" if is_csv(path) else "Parquet"
        raise BadInput(f"{path} is no {kind} file: {one_line(error)}") from error


def open_parquet(path: Path) -> Table:
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    return Table(path, rows, dict(rows.collect_schema()), as_text=False)


def open_csv(path: Path) -> Table:
    separator, names = read_header(path)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:  # polars would rename the second one in silence
        raise BadInput(f"{path}: column names must differ; {listed(map(repr, twice))} is there more than once")
    rows = pl.scan_csv(path, separator=separator, infer_schema=False, glob=False)
    if len(rows.collect_schema()) != len(names):
        raise BadInput(f"{path} is no CSV file with a line of column names at its head")
    rows = rows.rename(dict(zip(rows.collect_schema(), names, strict=True)))  # polars keeps doubled quotes in names
    types = dict(rows.collect_schema())
    return Table(path, rows, types, as_text=True)


def read_header(path: Path) -> tuple[str, list[str]]:
    """The separator and the column names."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            binary = gzip.GzipFile(fileobj=raw) if packed else raw
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            first = text.readline()
            separator = "\t" if ".tsv" in path.name.lower() else ","
            if separator == "," and "," not in first:
                separator = next((other for other in ";\t" if other in first), ",")
            text.seek(0)
            names = next(csv.reader(text, delimiter=separator))
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error, StopIteration) as error:
        raise BadInput(f"{path} is no CSV file in UTF-8: {one_line(error)}; save it as UTF-8") from error
    if not names or any("\0" in name for name in names):
        raise BadInput(f"{path} is no CSV file with a line of column names at its head")
    return separator, names
