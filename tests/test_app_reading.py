"""What a column is taken for, and what is told about it: numbers, marks for missing, dates, classes, leakage."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from parfocal.app.data import columns, leakage, numerals
from parfocal.app.data.columns import Reading, convert, encode
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import Sample, read_sample
from parfocal.app.data.tables import open_table
from parfocal.app.errors import BadInput

ROWS = 120
GENERATOR = np.random.default_rng(0)
EVENT = GENERATOR.random(ROWS) < 0.3
X = GENERATOR.normal(size=ROWS) + EVENT
EVENTS = Roles("event")


def sample_of(folder: Path, values: dict[str, Any], roles: Roles = EVENTS, ending: str = "csv", **how: Any) -> Sample:
    frame = pl.DataFrame({**values, "event": EVENT})
    path = folder / f"t.{ending}"
    frame.write_parquet(path) if ending == "parquet" else frame.write_csv(path)
    return read_sample(open_table(path), roles, Reading(**how))


def notes(sample: Sample) -> str:
    return "\n".join(sample.notes)


# -- numbers


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1,5", "-2,25"], [1.5, -2.25]),
        (["1,234.50", "7"], [1234.5, 7]),
        (["1.234,50", "3"], [1234.5, 3]),
        (["1 234,5", "7"], [1234.5, 7]),
        (["1\u202f234,5", "1\u00a0000,0"], [1234.5, 1000]),
        (["1'234.5", "8"], [1234.5, 8]),
        (["12%", "3.5 %"], [12, 3.5]),
        (["$5", "-$1,200.50", "($3.00)"], [5, -1200.5, -3]),
        (["5 EUR", "7.5 EUR"], [5, 7.5]),
        (["\u20ac 5", "\u20ac 7,50"], [5, 7.5]),
        (["(5.00)", "6.00"], [-5, 6]),
        (["5-", "6"], [-5, 6]),
        (["\u22125", "6"], [-5, 6]),
        (["12 kg", "7kg"], [12, 7]),
        (["1e3", "2.5E-1"], [1000, 0.25]),
    ],
)
def test_numbers_as_people_write_them(texts: list[str], numbers: list[float]) -> None:
    column = columns.recognise(pl.Series("c", [*texts, "NA", "?"]), as_text=True)
    assert column is not None
    assert column.kind == "number"
    converted = convert(pl.Series("c", texts), column)
    assert converted.clean
    assert converted.values.to_list() == numbers


@pytest.mark.parametrize(
    "texts",
    [["1,234", "5,678"], ["1,5", "2.5"], ["5 \u20ac", "$6"], ["1,23,456", "1"], ["r1", "r2"], ["12%", "3"], ["$", "5"]],
)
def test_what_is_not_unambiguous_stays_text(texts: list[str]) -> None:
    column = columns.recognise(pl.Series("c", texts), as_text=True)
    assert column is not None
    assert column.kind == "category"


def test_decimal_says_which(tmp_path: Path) -> None:
    texts = [f"{1 + k % 9},{100 + k}" for k in range(ROWS)]
    told = notes(sample_of(tmp_path, {"x": texts, "z": X}))
    assert "'1,100' may be 1.1 or 1100; --decimal point or --decimal comma says which" in told
    for decimal, first in ((",", 1.1), (".", 1100.0)):
        sample = sample_of(tmp_path, {"x": texts, "z": X}, decimal=decimal)
        assert sample.values["x"][0] == first
        assert "may be" not in notes(sample)


def test_decimal_comma_leaves_what_can_be_read_in_one_way(tmp_path: Path) -> None:
    values = {"d": [f"{0.5 + k / 1000:.4f}" for k in range(ROWS)], "b": [f"{k},5" for k in range(ROWS)]}
    for decimal in (",", ".", None):
        sample = sample_of(tmp_path, values, decimal=decimal)
        assert sample.values["d"][1] == 0.501
        assert sample.values["b"][1] == 1.5


def test_thousands_without_a_fraction_beside_decimal_commas(tmp_path: Path) -> None:
    values = {"u": ["271", "3.361", "640"] * (ROWS // 3), "p": [f"{k},97" for k in range(ROWS)]}
    sample = sample_of(tmp_path, values)
    assert sample.values["u"][1] == 3.361
    assert "u: '3.361' is read as 3.361; --decimal comma makes it 3361" in notes(sample)
    assert sample_of(tmp_path, values, decimal=",").values["u"].to_list()[:3] == [271, 3361, 640]
    assert "makes it" not in notes(sample_of(tmp_path, {"u": values["u"], "x": X}))


def test_other_ways_to_write_a_minus_are_told(tmp_path: Path) -> None:
    texts = [f"({k})" if k % 2 else str(k) for k in range(ROWS)]
    sample = sample_of(tmp_path, {"x": texts, "z": [text.strip("()") + "-" for text in texts], "m": -X})
    assert notes(sample) == "x: '(1)' is read as -1\nz: '0-' is read as -0"
    assert sample.values["x"][1] == -1


def test_an_ambiguous_zero_is_no_example(tmp_path: Path) -> None:
    told = notes(sample_of(tmp_path, {"x": ["0,000", "1,500"] * (ROWS // 2), "z": X}))
    assert "'1,500' may be 1.5 or 1500" in told


def test_how_numbers_were_read_is_told(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, {"x": [f"{1000 * abs(x):,.2f} EUR" for x in X], "z": [f"{x:.3f}" for x in X]})
    assert "x: read as numbers that are written like 1,234.5 EUR" in notes(sample)
    assert "z:" not in notes(sample)
    assert sample.values["x"].to_list() == pytest.approx([round(1000 * abs(x), 2) for x in X])


def test_a_notation_is_held_to(tmp_path: Path) -> None:
    column = columns.Column("c", "number", decimal=",", thousands=".", unit="EUR")
    converted = convert(pl.Series("c", ["1.234,5 EUR", "1234.5 EUR", "7", "NA", "?"]), column)
    assert converted.values.to_list() == [1234.5, None, None, None, None]
    assert converted.wrong.to_list() == ["1234.5 EUR", "7"]
    assert numerals.Notation().plain


# -- marks for missing values


@pytest.mark.parametrize("mark", ["?", "None", "#N/A", "<NA>", "-", ".", "\\N", "n/a"])
def test_other_marks_for_missing(tmp_path: Path, mark: str) -> None:
    texts = [mark if k % 10 == 0 else f"{x:.4f}" for k, x in enumerate(X)]
    sample = sample_of(tmp_path, {"x": texts, "kind": ["a", mark] * (ROWS // 2)})
    assert [column.kind for column in sample.columns] == ["number", "category"]
    assert sample.values["x"].null_count() == ROWS // 10
    assert f"x: '{mark}' in 12 rows is taken for missing" in notes(sample)
    assert sample.values["kind"].null_count() == 0  # there it is a category like others


def test_missing_adds_a_mark(tmp_path: Path) -> None:
    texts = ["broken" if k % 10 == 0 else f"{x:.4f}" for k, x in enumerate(X)]
    assert "--missing broken says that nothing is there" in notes(sample_of(tmp_path, {"x": texts, "z": X}))
    sample = sample_of(tmp_path, {"x": texts, "kind": ["a", "broken"] * (ROWS // 2)}, missing=("broken",))
    assert [values.null_count() for values in sample.values.values()] == [ROWS // 10, ROWS // 2]
    assert all(column.missing == ("broken",) for column in sample.columns)


# -- dates


def test_days_of_at_most_12(tmp_path: Path) -> None:
    texts = [f"{1 + k % 12}/{1 + k % 11}/2013" for k in range(ROWS)]
    sample = sample_of(tmp_path, {"t": texts})
    assert "t: read with the day first; --dates month-first says otherwise" in notes(sample)
    assert sample.values["t"][1] == dt.datetime(2013, 2, 2)
    assert sample.values["t"][11] == dt.datetime(2013, 1, 12)
    sample = sample_of(tmp_path, {"t": texts}, month_first=True)
    assert sample.values["t"][11] == dt.datetime(2013, 12, 1)
    assert "day first" not in notes(sample)


def test_days_above_12_leave_no_choice(tmp_path: Path) -> None:
    texts = [f"{1 + k % 12}/{1 + k % 28}/2013" for k in range(ROWS)]
    sample = sample_of(tmp_path, {"t": texts})
    assert sample.values["t"][20] == dt.datetime(2013, 9, 21)
    assert "day first" not in notes(sample)


@pytest.mark.parametrize(
    "written",
    ["%d %b %Y %I:%M %p", "%d-%b-%Y", "%B %d, %Y", "%b %d, %Y %I:%M:%S %p", "%m/%d/%Y %I:%M%p", "%d %B %Y %H:%M"],
)
def test_months_by_name_and_clocks_of_12_hours(tmp_path: Path, written: str) -> None:
    moments = [dt.datetime(2013, 1 + k % 12, 1 + k % 28, k % 24) for k in range(ROWS)]
    sample = sample_of(tmp_path, {"t": [moment.strftime(written) for moment in moments]}, Roles("event", time="t"))
    clock = "%I" in written or "%H" in written
    expected = [moment if clock else moment.replace(hour=0) for moment in moments]
    assert sample.values["t"].to_list() == expected
    assert sample.times is not None
    assert np.argmax(sample.times) == expected.index(max(expected))


def test_parquet_times_with_a_fixed_offset(tmp_path: Path) -> None:
    """They ended in a panic of the reader, also where another column was asked for."""
    moments = [dt.datetime(2020, 1, 1, 20) + dt.timedelta(hours=k) for k in range(ROWS)]
    table = pa.table(
        {
            "east": pa.array(moments, pa.timestamp("us", tz="+05:30")),
            "west": pa.array(moments, pa.timestamp("ms", tz="-03:00")),
            "x": X,
            "event": EVENT,
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    sample = read_sample(open_table(tmp_path / "t.parquet"), Roles("event", time="east"))
    assert [column.zone for column in sample.columns[:2]] == ["+05:30", "Etc/GMT+3"]
    assert sample.values["east"][0] == dt.datetime(2020, 1, 2, 1, 30)  # pyarrow's numbers are of UTC
    assert sample.values["west"][0] == dt.datetime(2020, 1, 1, 17)
    same = pl.Series("east", [dt.datetime(2020, 1, 1, 20)]).dt.replace_time_zone("UTC")
    assert encode(convert(same, sample.columns[0]).values, sample.columns[0])[2] == 1  # the hour
    read_sample(open_table(tmp_path / "t.parquet"), Roles("event", drop=("east", "west")))


# -- columns that know too much


@pytest.mark.parametrize(("name", "ending"), [("", "csv"), ("Unnamed: 0", "csv"), ("__index_level_0__", "parquet")])
def test_the_index_of_pandas_is_left_out(tmp_path: Path, name: str, ending: str) -> None:
    sample = sample_of(tmp_path, {name: range(ROWS), "x": X}, ending=ending)
    assert sample.left_out == {"the index that pandas or R writes": [name]}
    assert [column.name for column in sample.columns] == ["x"]


def test_an_unnamed_column_that_says_something_is_kept(tmp_path: Path) -> None:
    assert [column.name for column in sample_of(tmp_path, {"": [1, 2, 3] * (ROWS // 3), "x": X}).columns] == ["", "x"]


def test_what_gives_the_target_away_is_told(tmp_path: Path) -> None:
    sorted_by = np.empty(ROWS, dtype=int)
    sorted_by[np.argsort(EVENT, kind="stable")] = np.arange(ROWS)
    told = sample_of(
        tmp_path,
        {
            "number": np.arange(ROWS),
            "sorted": sorted_by,
            "leak": np.where(EVENT, "paid", "open"),
            "honest": X,
            "town": ["a", "b", "c", "d"] * (ROWS // 4),
        },
    ).notes
    assert [note.partition(":")[0] for note in told] == ["number", "sorted", "leak"]
    assert "it counts the rows" in told[0]
    assert "alone tells the target (ROC AUC 1.000)" in told[1]
    assert "its categories alone tell the target" in told[2]


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_roc_auc_is_scikit_learn_s(digits: int) -> None:
    numbers = X.round(digits)  # with ties
    assert leakage.roc_auc(EVENT, numbers) == pytest.approx(roc_auc_score(EVENT, numbers), rel=1e-12)


def test_numbers_by_which_the_target_comes_in_blocks() -> None:
    numbers = np.random.default_rng(1).permutation(1000).astype(float)
    assert leakage.is_sorted_by(numbers, (numbers // 50) % 4 == 0)
    assert not leakage.is_sorted_by(numbers, np.random.default_rng(2).random(1000) < 0.25)
    strong = numbers + 0.25  # a feature, which no number of rows is
    assert not leakage.is_sorted_by(strong, (numbers // 50) % 4 == 0)


# -- classes


def test_a_column_may_be_called_rows(tmp_path: Path) -> None:
    kinds = ["a", "b", "c", "d"] * (ROWS // 4)
    sample = sample_of(tmp_path, {"rows": kinds, "x": X}).learn_categories(np.arange(ROWS))
    assert sample.columns[0].categories == ("a", "b", "c", "d")
    assert sample_of(tmp_path, {"rows": kinds, "x": X}, Roles("rows")).target.classes == ("a", "b", "c", "d")


def test_na_as_a_class(tmp_path: Path) -> None:
    regions = np.where(EVENT, "NA", "EU")
    with pytest.raises(BadInput, match="'NA' was taken for missing, and --positive NA makes it a class"):
        sample_of(tmp_path, {"region": regions, "x": X}, Roles("region"))
    sample = sample_of(tmp_path, {"region": regions, "x": X}, Roles("region", positive="NA"))
    assert sample.target.classes == ("EU", "NA")
    np.testing.assert_array_equal(sample.labels, EVENT)
    three = np.where(X > 1, "ASIA", regions)
    assert sample_of(tmp_path, {"region": three, "x": X}, Roles("region")).target.missing_marks == ("NA",)


def test_classes_that_capitals_alone_tell_apart(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, {"answer": ["Yes", "yes", "No"] * (ROWS // 3), "x": X}, Roles("answer"))
    assert "the classes 'Yes' and 'yes' differ in capitals or blanks alone; are they the same?" in notes(sample)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_large_integers_are_classes_of_their_own(tmp_path: Path, ending: str) -> None:
    ids = np.where(EVENT, 2**53 + 1, 2**53)
    sample = sample_of(tmp_path, {"id": ids, "x": X}, Roles("id"), ending=ending)
    assert set(sample.target.classes) == {str(2**53), str(2**53 + 1)}


def test_large_integers_that_become_one_number(tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        sample = sample_of(tmp_path, {"id": 10**18 + np.arange(ROWS) % 7, "x": X}, ending=ending)
        assert sample.left_out == {"its values are one number, once they are floats": ["id"]}


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (pl.Series(np.where(EVENT, 0.5, 2.0)).cast(pl.Decimal(9, 2)), {"0.5", "2"}),
        (pl.Series(np.where(EVENT, 0.1, 2.0)).cast(pl.Float32), {"0.1", "2"}),
        (pl.Series(np.where(EVENT, 1, 0)).cast(pl.UInt8), {"0", "1"}),
    ],
)
def test_numbers_of_any_type_as_classes(tmp_path: Path, target: pl.Series, classes: set[str]) -> None:
    sample = sample_of(tmp_path, {"kind": target, "x": X}, Roles("kind"), ending="parquet")
    assert set(sample.target.classes) == classes


def test_a_time_of_day_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must be true/false, numbers or text"):
        sample_of(tmp_path, {"at": [dt.time(k % 3) for k in range(ROWS)], "x": X}, Roles("at"), ending="parquet")


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (columns.Column("c", "number"), "a number"),
        (columns.Column("c", "number", decimal=",", thousands=".", unit="EUR"), "a number written like 1.234,5 EUR"),
        (columns.Column("c", "date", date_format="%d.%m.%Y"), "a date written like 31.01.2013"),
        (
            columns.Column("c", "datetime", date_format="%Y-%m-%d %H:%M:%S%.f%#z"),
            "a datetime written like 2013-01-31 17:05:01Z",
        ),
        (columns.Column("c", "boolean"), "a boolean"),
    ],
)
def test_what_predict_asks_for(column: columns.Column, says: str) -> None:
    assert columns.described(column) == says


def test_large_integers_as_a_feature_are_told(tmp_path: Path) -> None:
    assert "16 digits or more, which merge" in notes(sample_of(tmp_path, {"id": 2**60 + np.arange(ROWS) * 7, "x": X}))


# -- the page --------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"


@pytest.mark.parametrize(
    "values",
    [
        {"x": ["?" if k % 10 == 0 else f"{x:.4f}" for k, x in enumerate(X)]},
        {"x": ["broken" if k % 10 == 0 else f"{x:.4f}" for k, x in enumerate(X)]},
        {"x": [f"{1000 * k},{k % 10} EUR" if k < 2 else f"{k}.000,5 EUR" for k in range(ROWS)]},
        {"x": ["1,234", "5,678"] * (ROWS // 2)},
        {"t": [f"{1 + k % 12}/{1 + k % 11}/2013" for k in range(ROWS)]},
        {"id": np.arange(ROWS)},
        {"x": np.where(EVENT, 2.0, 1.0) + np.arange(ROWS) / 1000},
    ],
    ids=["mark", "word", "notation", "ambiguous", "dates", "number", "leak"],
)
def test_the_page_has_the_sentences_that_are_printed(tmp_path: Path, values: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = sample_of(tmp_path, {**values, "other": X}).notes
    assert len(told) == 1
    assert f"`{told[0]}`" in page


def test_plain_numbers_are_what_one_by_one_finds() -> None:
    frame = pl.DataFrame(
        {
            "plain": [" 1", "-2.5e3", "NA", None],
            "infinite": ["inf", "nan", "3", "-inf"],
            "mark": ["?", "1", "2", "3"],
            "long": ["1234567890123456", "1", "2", "3"],
            "word": ["one", "1", "2", "3"],
            "minus": ["(1)", "1", "2", "3"],
            "empty": [None, "", "NA", None],
            "user's": ["x", "1", "2", "3"],
        },
        schema_overrides={"empty": pl.String},
    )
    found = columns.plain_numbers(frame, Reading(missing=("x",)))
    assert list(found) == ["plain", "infinite", "empty", "user's"]
    for name, values in found.items():
        column = columns.recognise(frame[name], as_text=True, reading=Reading(missing=("x",)))
        assert column == columns.Column(name, "number", missing=("x",))
        assert values.to_list() == convert(frame[name], column).values.to_list()
        assert not list(columns.reading_notes(frame[name], column, Reading()))
    assert columns.plain_numbers(frame, Reading(decimal=",")) == {}
