"""Tables on disk: CSV and Parquet, opened without being read.

A CSV stays text here.  `columns.py` decides what a column is and converts it, by the same code for fit and predict, so
that both commands and both kinds of file agree.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from parfocal.app.data import columns
from parfocal.app.data.csv_files import layout_of, plain_copy
from parfocal.app.errors import BadInput, counted, listed, nearest, one_line

CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
READ_ERRORS = (PolarsError, OSError)  # OSError: a gzip that ends too early
PARQUET_ENDINGS = (".parquet", ".pq")
SHEET_ENDINGS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers")
CSV_PAGE = "docs/tables.md#csv-files"


class Scratch:
    """A temporary folder, removed with the last reference to it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parfocal-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Table:
    """A table on disk.  With `as_text` (a CSV) every column is still text, missing values too."""

    path: Path
    rows: pl.LazyFrame
    types: dict[str, pl.DataType]
    as_text: bool
    count: int  # of rows, counted without the reader that reads them
    notes: tuple[str, ...] = ()  # how the file was read, where there was a choice
    offsets: dict[str, str] = field(default_factory=dict)  # the columns with a fixed offset from UTC, and that offset
    copy: Scratch | None = field(default=None, repr=False)  # holds a plain copy as long as the table is in use

    @property
    def names(self) -> list[str]:
        return list(self.types)

    def check_column(self, name: str, option: str) -> None:
        if name not in self.types:
            raise BadInput(f"{option}: {self.path} has no column {name!r}; {nearest(name, self.names)}")

    def read(self, names: list[str]) -> pl.DataFrame:
        try:
            frame = (self.rows if self.as_text else self.rows.select(names)).collect().select(names)
        except READ_ERRORS as error:
            raise self.unreadable(error) from error
        self.check_count(len(frame) if names else self.count)
        return frame

    def check_count(self, rows: int) -> None:
        """Rows in are rows out: a wrong quote could have joined two of them."""
        if rows != self.count:
            raise BadInput(
                f"{self.path}: {counted(rows, 'row')} were read of {self.count:,}; write the file again with quotes "
                "doubled within quotes, or as Parquet"
            )

    def batches(self, names: list[str], rows: int) -> Iterator[pl.DataFrame]:
        """The rows in order, some at a time, so that the table may be larger than memory."""
        # All columns of a CSV are read: with fewer, polars accepts lines with too many fields, and shifts them.
        wanted = self.rows if self.as_text else self.rows.select(names)
        seen = 0
        try:
            for batch in wanted.collect_batches(chunk_size=rows, maintain_order=True, lazy=True):
                seen += len(batch)
                yield batch.select(names)
        except READ_ERRORS as error:
            raise self.unreadable(error) from error
        self.check_count(seen)

    def unreadable(self, error: Exception) -> BadInput:
        kind = "CSV" if self.as_text else "Parquet"
        cure = "; save it as UTF-8" if "utf-8" in str(error).lower() else ""
        return BadInput(f"{self.path} can't be read as {kind}: {one_line(error)}{cure}")


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith(CSV_ENDINGS)


def is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET_ENDINGS)


def open_table(path: Path) -> Table:
    """The columns and the number of rows of a table, without reading it."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give a CSV or Parquet file")
    if not path.exists():
        raise BadInput(f"there is no file {path}")
    if not (is_csv(path) or is_parquet(path)):
        sheet = path.suffix.lower() in SHEET_ENDINGS
        cure = "; save the sheet as CSV" if sheet else ""
        raise BadInput(f"{path}: the name must end in {listed(CSV_ENDINGS + PARQUET_ENDINGS)}{cure}")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty (0 bytes); it needs a line of column names, and rows")
    try:
        return open_csv(path) if is_csv(path) else open_parquet(path)
    except BadInput as error:
        raise BadInput(f"{error} ({CSV_PAGE})") from error
    except PermissionError:
        raise
    except READ_ERRORS as error:
        kind = "CSV" if is_csv(path) else "Parquet"
        raise BadInput(f"{path} is not a {kind} file: {one_line(error)}") from error


def open_parquet(path: Path) -> Table:
    # Without it polars panics at the time zone "+05:30", whatever the columns that are asked for.
    os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    types = dict(rows.collect_schema())
    offsets = {
        name: str(dtype.time_zone)
        for name, dtype in types.items()
        if isinstance(dtype, pl.Datetime) and columns.is_offset(dtype.time_zone)
    }
    rows = rows.with_columns(pl.col(name).cast(pl.Datetime("us", "UTC")) for name in offsets)
    types = dict(rows.collect_schema())
    count = int(pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item())
    return Table(path, rows, types, as_text=False, count=count, offsets=offsets)


def open_csv(path: Path) -> Table:
    layout = layout_of(path)
    twice = [name for name, count in Counter(layout.names).items() if count > 1]
    if "" in twice:
        nameless = [place for place, name in enumerate(layout.names, 1) if not name]
        raise BadInput(f"{path}: columns {listed(nameless)} have no names; name them in the first line, or remove them")
    if twice:  # polars would rename the second one in silence
        raise BadInput(f"{path}: column names must differ; {listed(map(repr, twice))} is there more than once")
    types: dict[str, pl.DataType] = dict.fromkeys(layout.names, pl.String())
    if not layout.rows:
        return Table(path, pl.LazyFrame(schema=types), types, as_text=True, count=0, notes=layout.notes)
    source, skip, copy = path, layout.head_lines, None
    if not layout.plain:
        copy = Scratch()
        source, skip = copy.folder / "plain.csv", 0
        plain_copy(path, layout, source)
    rows = pl.scan_csv(
        source,
        separator="," if copy else layout.separator,
        has_header=False,
        new_columns=list(layout.names),
        skip_lines=skip,
        infer_schema=False,
        glob=False,
    )
    return Table(path, rows, types, as_text=True, count=layout.rows, notes=layout.notes, copy=copy)
