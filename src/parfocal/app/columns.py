"""What a column is, and how its values become numbers.

    kind        from                                             becomes
    number      numbers; durations and times of day as seconds   itself
    boolean     true and false                                   1 and 0
    category    text                                             a code, the place in the list of categories
    date        dates                                            month, weekday, days since 1970
    datetime    dates with a time of day                         month, weekday, hour, days since 1970

Missing values, infinite numbers and unknown categories become NaN.  Text (every column of a CSV) is taken for a number,
a boolean or a date if all of its values are; `fit` decides that once and `predict` holds the next table to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

Kind = Literal["number", "boolean", "category", "date", "datetime"]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
TRUTH = {"true": True, "false": False, "1": True, "0": False}
MOST_CATEGORIES = 10_000  # more of them are nearly as good as names, and each costs a line in model.json
# A text column with more distinct values than this share of its rows names its rows rather than describing them.
IDENTIFIER_SHARE, IDENTIFIER_ROWS = 0.95, 20

ISO_DATE = "%Y-%m-%d"
DATE_FORMATS = (ISO_DATE, "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
CLOCK_FORMATS = (
    "",
    *(t + clock + zone for t in " T" for clock in ("%H:%M:%S%.f", "%H:%M") for zone in ("", "%#z")),
)
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Column:
    """A column that a model uses."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()  # the most frequent first
    date_format: str | None = None  # how its text is read as a date; None: ISO 8601
    zone: str | None = None  # the time zone that hours are told in
    days: bool = True  # whether a date also counts as days since 1970

    @property
    def parts(self) -> tuple[str, ...]:
        """The numbers that it becomes."""
        if self.kind not in ("date", "datetime"):
            return ("",)
        return (
            "month",
            "weekday",
            *(["hour"] if self.kind == "datetime" else []),
            *(["days"] if self.days else []),
        )


@dataclass(frozen=True)
class Converted:
    values: pl.Series  # Float64, Boolean, String or Datetime
    wrong: pl.Series  # what was given and is not of the column's kind

    @property
    def clean(self) -> bool:
        return len(self.wrong) == 0


# -- what a column is ------------------------------------------------------------------------------


def recognise(values: pl.Series, as_text: bool) -> Column | None:
    """The kind of a column; None for types that no model here can use, such as lists."""
    name, dtype = values.name, values.dtype
    if as_text:
        return recognise_text(values)
    if dtype == pl.Boolean:
        return Column(name, "boolean")
    if dtype.is_numeric() or dtype in (pl.Duration, pl.Time, pl.Null):
        return Column(name, "number")
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return Column(name, "category")
    if dtype == pl.Date:
        return Column(name, "date")
    if isinstance(dtype, pl.Datetime):
        return Column(name, "datetime", zone=dtype.time_zone)
    return None


def recognise_text(values: pl.Series) -> Column:
    number, boolean = Column(values.name, "number"), Column(values.name, "boolean")
    for column in (number, boolean):
        if convert(values.head(1000), column).clean and convert(values, column).clean:
            return column
    date_format = recognise_date_format(values, DATE_FORMATS)
    if date_format is None:
        return Column(values.name, "category")
    kind: Kind = "datetime" if "%H" in date_format else "date"
    return Column(values.name, kind, date_format=date_format, zone="UTC" if "%#z" in date_format else None)


def recognise_date_format(values: pl.Series, date_formats: tuple[str, ...]) -> str | None:
    """The first format that all values have."""
    texts = tidy(values).drop_nulls()
    sample = texts.head(100)
    for date_format in (date + clock for date in date_formats for clock in CLOCK_FORMATS):
        if all(parse_dates(some, date_format).null_count() == 0 < len(some) for some in (sample, texts)):
            return date_format
    return None


def looks_like_names(values: pl.Series) -> bool:
    """Whether (nearly) every row of a category column has a value of its own."""
    given = values.drop_nulls()
    return len(given) >= IDENTIFIER_ROWS and given.n_unique() > IDENTIFIER_SHARE * len(given)


def with_categories(column: Column, values: pl.Series) -> Column:
    """The column with its categories, taken from converted `values`: the most frequent first, then by name."""
    counts = values.drop_nulls().value_counts(name="rows").sort(["rows", values.name], descending=[True, False])
    return replace(column, categories=tuple(counts[values.name].head(MOST_CATEGORIES)))


# -- converting ------------------------------------------------------------------------------------


def accepts(column: Column, dtype: pl.DataType) -> bool:
    """Whether a column of this type in a typed table (Parquet) can be what the model needs."""
    if dtype == pl.Null:
        return True
    if column.kind == "number" and dtype in (pl.Duration, pl.Time):
        return True
    if column.kind in ("number", "boolean"):
        return dtype == pl.Boolean or dtype.is_numeric()
    if column.kind == "category":
        return dtype in (pl.String, pl.Categorical, pl.Enum)
    return dtype == pl.Date or isinstance(dtype, pl.Datetime)


def convert(values: pl.Series, column: Column) -> Converted:
    """The values as the column's kind has them.  Text is read; other types must be ones that `accepts` allows."""
    if values.dtype == pl.Null:
        values = values.cast(pl.String)
    if column.kind == "category":
        given = converted = tidy(values.cast(pl.String), keep=column.categories)
    else:
        given = tidy(values) if values.dtype == pl.String else values
        if column.kind == "number":
            converted = to_number(given)
        elif column.kind == "boolean":
            converted = to_boolean(given)
        else:
            converted = to_datetime(given, column)
    wrong = given.filter(converted.is_null() & given.is_not_null())
    if column.kind == "number":
        converted = converted.replace([float("inf"), float("-inf"), float("nan")], [None, None, None])
    return Converted(converted, wrong)


def tidy(texts: pl.Series, keep: tuple[str, ...] = ()) -> pl.Series:
    """Text without blanks around it, and null where it says that nothing is there (unless that is a category)."""
    missing = [text for text in MISSING if text not in keep]
    return texts.str.strip_chars().replace(missing, [None] * len(missing))


def to_number(values: pl.Series) -> pl.Series:
    if values.dtype == pl.Duration:
        return values.dt.total_microseconds().cast(pl.Float64) / 1e6
    if values.dtype == pl.Time:
        return values.cast(pl.Int64).cast(pl.Float64) / 1e9
    return values.cast(pl.Float64, strict=False)


def to_boolean(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values.str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)
    if values.dtype == pl.Boolean:
        return values
    return values.cast(pl.Float64).replace_strict({0.0: False, 1.0: True}, default=None, return_dtype=pl.Boolean)


def to_datetime(values: pl.Series, column: Column) -> pl.Series:
    """Dates and times as the clock in the column's time zone shows them."""
    if values.dtype == pl.String:
        date_format = column.date_format or recognise_date_format(values, (ISO_DATE,)) or ISO_DATE
        moments = parse_dates(values, date_format)
    else:
        moments = values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None)))
    assert isinstance(moments.dtype, pl.Datetime)
    if moments.dtype.time_zone is not None and column.zone is not None:
        moments = moments.dt.convert_time_zone(column.zone)
    return moments.dt.replace_time_zone(None)


def parse_dates(texts: pl.Series, date_format: str) -> pl.Series:
    moments = texts.str.to_datetime(date_format, strict=False, time_unit="us")
    # %Y takes 31/12/13 for the year 31.
    return pl.select(pl.when(moments.dt.year() >= 1000).then(moments)).to_series().rename(texts.name)


# -- encoding --------------------------------------------------------------------------------------


def encode(values: pl.Series, column: Column) -> list[np.ndarray]:
    """Converted values as float64 numbers, one array for each of the column's features."""
    if column.kind in ("date", "datetime"):
        days = values.dt.epoch("us").cast(pl.Float64) / DAY
        parts = {
            "month": values.dt.month(),
            "weekday": values.dt.weekday(),
            "hour": values.dt.hour(),
            "days": days.floor() if column.kind == "date" else days,
        }
        return [floats(parts[part]) for part in column.parts]
    if column.kind == "category":
        return [floats(values.cast(pl.Enum(column.categories), strict=False).to_physical())]
    return [floats(values)]


def count_unknown(values: pl.Series, column: Column) -> int:
    """How many converted values of a category column are no category of the model."""
    if column.kind != "category":
        return 0
    return values.cast(pl.Enum(column.categories), strict=False).null_count() - values.null_count()


def floats(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
