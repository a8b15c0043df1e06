"""What a column is, and how its values become numbers.

    kind        from                                             becomes
    number      numbers; in Parquet durations, and times of day  itself, or seconds
    boolean     true and false                                   1 and 0
    category    text                                             a code, the place in the list of categories
    date        dates                                            month, weekday, days since 1970
    datetime    dates with a time of day                         month, weekday, hour, days since 1970

Missing values, infinite numbers and unknown categories become NaN.  Text (every column of a CSV) is read as numbers,
booleans or dates if all of its values are; `fit` decides that once and `predict` holds the next table to it.

A new kind of column: a row above, a name in `Kind`, and a branch in `recognise`, `accepts`, `convert` and `encode`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from parfocal.app.data import numerals
from parfocal.app.data.numerals import Notation
from parfocal.app.errors import counted, listed, quoted

Kind = Literal["number", "boolean", "category", "date", "datetime"]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
# In a column of numbers, dates or booleans these are missing values too; among categories each is a category.
MARKS = ("?", "-", "--", ".", "None", "none", "n/a", "#N/A", "#NA", "<NA>", "\\N", "(null)", "nil", "missing", "na")
TRUTH = {"true": True, "false": False, "1": True, "0": False}
MOST_CATEGORIES = 10_000  # with more they nearly name the rows, and each costs a line in model.json
# A text column with more distinct values than this share of its rows names its rows rather than describing them.
IDENTIFIER_SHARE, IDENTIFIER_ROWS = 0.95, 20

LONG_INTEGER = r"^[+-]?\d{16,}$"  # a double cannot hold all of its digits

ISO_DATE = "%Y-%m-%d"
DAY_FIRST, MONTH_FIRST = ("%d/%m/%Y", "%d-%m-%Y"), ("%m/%d/%Y", "%m-%d-%Y")
NAMED_MONTHS = ("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y", "%B %d %Y")
CLOCK_FORMATS = (
    "",
    *(t + clock + zone for t in " T" for clock in ("%H:%M:%S%.f", "%H:%M") for zone in ("", "%#z")),
    *(f" {clock}{gap}%p" for clock in ("%I:%M:%S", "%I:%M") for gap in (" ", "")),
)
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Reading:
    """What the options say about how columns are written."""

    missing: tuple[str, ...] = ()  # more marks for missing values
    decimal: str | None = None  # "." or ","; None: what all values of a column allow
    month_first: bool | None = None  # how 1/2/2013 is read; None: day first, if both are possible

    @property
    def date_formats(self) -> tuple[str, ...]:
        numbered = MONTH_FIRST + DAY_FIRST if self.month_first else DAY_FIRST + MONTH_FIRST
        return (ISO_DATE, "%Y/%m/%d", "%d.%m.%Y", *numbered, *NAMED_MONTHS)


AS_IT_IS = Reading()


@dataclass(frozen=True)
class Column:
    """A column that a model uses."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()  # the most frequent first
    date_format: str | None = None  # how its text is read as a date; None: ISO 8601
    zone: str | None = None  # the time zone of the hours
    days: bool = True  # whether a date also counts as days since 1970
    missing: tuple[str, ...] = ()  # marks for missing values, beside MISSING and MARKS
    decimal: str = "."  # how its numbers are written: see numerals.Notation
    thousands: str = ""
    unit: str = ""

    @property
    def notation(self) -> Notation:
        return Notation(self.decimal, self.thousands, self.unit)

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
    wrong: pl.Series  # the given values that are not of the column's kind

    @property
    def clean(self) -> bool:
        return len(self.wrong) == 0


# -- what a column is ------------------------------------------------------------------------------


def recognise(values: pl.Series, as_text: bool, reading: Reading = AS_IT_IS) -> Column | None:
    """The kind of a column; None for types that no model here can use, such as lists."""
    name, dtype, missing = values.name, values.dtype, reading.missing
    if as_text:
        return recognise_text(values, reading)
    if dtype == pl.Boolean:
        return Column(name, "boolean")
    if dtype.is_numeric() or dtype in (pl.Duration, pl.Time, pl.Null):
        return Column(name, "number")
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return Column(name, "category", missing=missing)
    if dtype == pl.Date:
        return Column(name, "date")
    if isinstance(dtype, pl.Datetime):
        return Column(name, "datetime", zone=dtype.time_zone)
    return None


def recognise_text(values: pl.Series, reading: Reading = AS_IT_IS) -> Column:
    blank = Column(values.name, "category", missing=reading.missing)
    plain, boolean = replace(blank, kind="number"), replace(blank, kind="boolean")
    texts = tidy(values, missing=(*reading.missing, *MARKS)).drop_nulls()
    if all(convert(some, plain).clean for some in (values.head(1000), values)):
        chosen = chosen_notation(numerals.recognise(texts), reading) if reading.decimal == "," else None
        return plain if chosen is None else replace(plain, **asdict(chosen))
    if all(convert(some, boolean).clean for some in (values.head(1000), values)):
        return boolean
    chosen = chosen_notation(numerals.recognise(texts), reading)
    if chosen is not None:
        return replace(plain, **asdict(chosen))
    date_format = recognise_date_format(texts, reading.date_formats)
    if date_format is None:
        return blank
    kind: Kind = "datetime" if "%H" in date_format or "%I" in date_format else "date"
    return replace(blank, kind=kind, date_format=date_format, zone="UTC" if "%#z" in date_format else None)


def plain_numbers(frame: pl.DataFrame, reading: Reading) -> dict[str, pl.Series]:
    """The columns of text that are plain numbers and need no note, converted.

    All at once: one by one, 20,000 columns take two minutes.
    """
    if reading.decimal == "," or not frame.width:
        return {}
    nothing = list(dict.fromkeys((*MISSING, *reading.missing)))
    texts = frame.select(pl.all().str.strip_chars().replace(nothing, [None] * len(nothing)))
    numbers = texts.select(pl.all().cast(pl.Float64, strict=False))
    lost = np.array(numbers.null_count().row(0)) - np.array(texts.null_count().row(0))
    merging = np.array(texts.select(pl.all().str.contains(LONG_INTEGER).any()).row(0))
    plain = numbers.select(
        pl.col(name).replace([float("inf"), float("-inf"), float("nan")], [None, None, None])
        for name, good in zip(frame.columns, (lost == 0) & ~merging, strict=True)
        if good
    )
    return {values.name: values for values in plain}


def chosen_notation(written: list[Notation], reading: Reading) -> Notation | None:
    """The only way to read the numbers, or the one that --decimal asks for."""
    asked = [notation for notation in written if notation.decimal == reading.decimal]
    if len(written) == 1 or not asked:
        return written[0] if len(written) == 1 else None
    return asked[0]


def recognise_date_format(texts: pl.Series, date_formats: tuple[str, ...]) -> str | None:
    """The first format that all texts have."""
    sample = texts.head(100)
    for date_format in (date + clock for date in date_formats for clock in CLOCK_FORMATS):
        if all(parse_dates(some, date_format).null_count() == 0 < len(some) for some in (sample, texts)):
            return date_format
    return None


def described(column: Column) -> str:
    """What its values must be, in the words of an error."""
    how = written_like(column)
    return f"a {column.kind} {how}" if how else f"a {column.kind}"


def written_like(column: Column) -> str:
    """How its numbers or dates are written, by an example; nothing where that is plain."""
    if column.kind == "number" and not column.notation.plain:
        return f"written like {column.notation.words}"
    if column.date_format is not None:
        example = dt.datetime(2013, 1, 31, 17, 5, 1).strftime(column.date_format.replace("%.f", "").replace("%#z", "Z"))
        return f"written like {example}"
    return ""


def reading_notes(values: pl.Series, column: Column, reading: Reading) -> Iterator[str]:
    """Notes on a column of text: what was taken for missing, and what could be read in another way."""
    given = tidy(values, missing=column.missing).drop_nulls()
    if column.kind != "category":
        marks = given.filter(given.is_in(MARKS))
        for mark in marks.unique().sort():
            yield f"{quoted(mark)} in {counted(int((marks == mark).sum()), 'row')} is taken for missing"
        given = given.filter(~given.is_in(MARKS))
    if column.kind == "number" and not column.notation.plain:
        yield f"read as numbers that are written like {column.notation.words}"
    if column.kind == "number":
        negative = given.filter(given.str.contains(r"^[^-]*\(|\d\s*-$"))
        if len(negative):
            yield f"{quoted(negative[0])} is read as {convert(negative.head(1), column).values[0]:.15g}"
    if column.kind == "number" and column.notation.plain and given.str.contains(LONG_INTEGER).any():
        yield "holds integers of 16 digits or more, which merge as numbers; if they are names of something, --drop it"
    if column.kind in ("date", "datetime") and column.date_format is not None and reading.month_first is None:
        other = column.date_format.translate(str.maketrans("dm", "md"))
        both = column.date_format.startswith(DAY_FIRST) and parse_dates(given, other).null_count() == 0
        if both:
            yield "read with the day first; --dates month-first says otherwise"
    if column.kind == "category":
        numbers = given.filter(~given.is_in(MARKS))
        written = numerals.recognise(numbers)
        if len(written) > 1:
            text, may_be = numerals.first_difference(numbers, written)
            ways = " or ".join(f"{number:.15g}" for number in may_be)
            yield f"taken for text: {quoted(text)} may be {ways}; --decimal point or --decimal comma says which"
        elif not written:
            yield from words_among_numbers(numbers)


def ambiguous_thousands(values: pl.Series, column: Column) -> Iterator[str]:
    """For a table with decimal commas: how `3.361` was read in a column without any."""
    if column.kind != "number" or not column.notation.plain:
        return
    texts = tidy(values, missing=(*column.missing, *MARKS)).drop_nulls()
    written = [way for way in numerals.recognise(texts) if way.plain or way.thousands == "."]
    if len(written) > 1:
        text, (taken, other) = numerals.first_difference(texts, written[:2])
        yield f"{quoted(text)} is read as {taken:.15g}; --decimal comma makes it {other:.15g}"


def words_among_numbers(texts: pl.Series) -> Iterator[str]:
    """The few words that keep a column from being numbers."""
    numeric = texts.filter(texts.str.contains(r"^[^A-Za-z]*\d[^A-Za-z]*$"))
    written = numerals.recognise(numeric.head(1000))
    words = texts if not written else texts.filter(written[0].read(texts).is_null())
    if not len(texts) or len(words) * 2 > len(texts) or not len(words):
        return
    distinct = words.unique().sort()
    examples = listed(map(quoted, distinct), 3)
    told = f"taken for text, not for numbers, because of {examples} in {counted(len(words), 'row')}"
    yield told + (f"; --missing {distinct[0]} says that nothing is there" if len(distinct) == 1 else "")


def looks_like_identifier(values: pl.Series) -> bool:
    """Whether nearly every row of a category column has a value of its own."""
    given = values.drop_nulls()
    return len(given) >= IDENTIFIER_ROWS and given.n_unique() > IDENTIFIER_SHARE * len(given)


def with_categories(column: Column, values: pl.Series) -> Column:
    """The column with its categories, taken from converted `values`: the most frequent first, then by name."""
    counts = values.alias("value").drop_nulls().value_counts(name="rows")
    counts = counts.sort(["rows", "value"], descending=[True, False])
    return replace(column, categories=tuple(counts["value"].head(MOST_CATEGORIES)))


# -- converting ------------------------------------------------------------------------------------


def accepts(column: Column, dtype: pl.DataType) -> bool:
    """Whether a column of this type, in Parquet or a data frame, can be what the model needs."""
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
        given = converted = tidy(values.cast(pl.String), column.categories, column.missing)
    else:
        given = tidy(values, missing=(*column.missing, *MARKS)) if values.dtype == pl.String else values
        if column.kind == "number" and given.dtype == pl.String and not column.notation.plain:
            converted = column.notation.read(given)
        elif column.kind == "number":
            converted = to_number(given)
            if given.dtype == pl.String and converted.null_count() > given.null_count():
                converted = converted.fill_null(column.notation.read(given))  # such as (5.00)
        elif column.kind == "boolean":
            converted = to_boolean(given)
        else:
            converted = to_datetime(given, column)
    wrong = given.filter(converted.is_null() & given.is_not_null())
    if column.kind == "number":
        converted = converted.replace([float("inf"), float("-inf"), float("nan")], [None, None, None])
    return Converted(converted, wrong)


def tidy(texts: pl.Series, keep: tuple[str, ...] = (), missing: tuple[str, ...] = ()) -> pl.Series:
    """Text without blanks around it, and null where it stands for a missing value and is not a known category."""
    nothing = [text for text in dict.fromkeys((*MISSING, *missing)) if text not in keep]
    return texts.str.strip_chars().replace(nothing, [None] * len(nothing))


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
        date_format = column.date_format or recognise_date_format(values.drop_nulls(), (ISO_DATE,)) or ISO_DATE
        moments = parse_dates(values, date_format)
    else:
        moments = values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None)))
    assert isinstance(moments.dtype, pl.Datetime)
    if moments.dtype.time_zone is not None and column.zone is not None:
        return clock_in(moments, column.zone)
    return moments.dt.replace_time_zone(None)


OFFSET = re.compile(r"[+-]\d\d:?\d\d")


def is_offset(zone: str | None) -> bool:
    """Whether a time zone is a fixed offset from UTC, such as +05:30, which is not in the database of zones."""
    return zone is not None and OFFSET.fullmatch(zone) is not None


def clock_in(moments: pl.Series, zone: str) -> pl.Series:
    """Moments of a known zone as the clock in `zone` shows them."""
    if not is_offset(zone):
        return moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    utc = moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return utc + dt.timedelta(minutes=-minutes if zone[0] == "-" else minutes)


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
    """How many converted values of a category column are not categories of the model."""
    if column.kind != "category":
        return 0
    return values.cast(pl.Enum(column.categories), strict=False).null_count() - values.null_count()


def floats(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
