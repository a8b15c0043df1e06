"""The parts of the command line: columns, splits, candidates, files; test_app_verdict.py has the others."""

from __future__ import annotations

import datetime as dt
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from rich.text import Text

from parfocal.app import files
from parfocal.app.data import columns, splits
from parfocal.app.data.sample import Sample
from parfocal.app.data.target import Target
from parfocal.app.errors import BadInput, counted, listed, nearest
from parfocal.app.options import seconds
from parfocal.app.study.candidates import Candidate, candidates, usual_settings
from parfocal.app.tell.text import class_table, metric_table, number


def text(*values: str | None) -> pl.Series:
    return pl.Series("c", values, dtype=pl.String)


# -- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "date_format"),
    [
        (["1", " 2.5", "NA", "1e3", None, "inf", "-.5"], "number", None),
        (["0", "1"], "number", None),
        (["true", "FALSE", "", "True"], "boolean", None),
        (["2013-01-31", "N/A"], "date", "%Y-%m-%d"),
        (["2013/01/31"], "date", "%Y/%m/%d"),
        (["31.1.2013"], "date", "%d.%m.%Y"),
        (["1/2/2013", "31/1/2013"], "date", "%d/%m/%Y"),
        (["1/2/2013", "1/31/2013"], "date", "%m/%d/%Y"),
        (["2013-01-31 05:00", None], "datetime", "%Y-%m-%d %H:%M"),
        (["2013-01-31T05:00:00.5", "2013-01-31T05:00:00"], "datetime", "%Y-%m-%dT%H:%M:%S%.f"),
        (["2013-01-31T05:00:00Z"], "datetime", "%Y-%m-%dT%H:%M:%S%.f%#z"),
        (["31/12/13"], "category", None),  # the year 31 or 13?
        (["1", "2", "three"], "category", None),
        (["true", "perhaps"], "category", None),
        (["2013-01-31", "soon"], "category", None),
    ],
)
def test_text_is_taken_for_what_all_of_its_values_are(
    values: list[str | None], kind: str, date_format: str | None
) -> None:
    column = columns.recognise(text(*values), as_text=True)
    assert column is not None
    assert (column.kind, column.date_format) == (kind, date_format)


@pytest.mark.parametrize(
    ("values", "kind", "numbers"),
    [
        (pl.Series("c", [1, None], dtype=pl.Int8), "number", [[1, np.nan]]),
        (pl.Series("c", [0.5, float("nan"), float("inf")]), "number", [[0.5, np.nan, np.nan]]),
        (pl.Series("c", ["1.50"]).cast(pl.Decimal(9, 2)), "number", [[1.5]]),
        (pl.Series("c", [dt.timedelta(minutes=1, milliseconds=500)]), "number", [[60.5]]),
        (pl.Series("c", [dt.time(0, 1, 1)]), "number", [[61]]),
        (pl.Series("c", [True, None, False]), "boolean", [[1, np.nan, 0]]),
        (pl.Series("c", [dt.date(1970, 2, 2)]), "date", [[2], [1], [32]]),
        (pl.Series("c", [dt.datetime(1970, 1, 2, 12)]), "datetime", [[1], [5], [12], [1.5]]),
        (pl.Series("c", ["b", "a", "b", None], dtype=pl.Categorical), "category", [[0, 1, 0, np.nan]]),
        (pl.Series("c", ["b", "a", "a"], dtype=pl.Enum(["b", "a"])), "category", [[1, 0, 0]]),
    ],
)
def test_typed_columns_become_numbers(values: pl.Series, kind: str, numbers: list[list[float]]) -> None:
    column = columns.recognise(values, as_text=False)
    assert column is not None
    assert column.kind == kind
    converted = columns.convert(values, column)
    assert converted.clean
    column = columns.with_categories(column, converted.values) if kind == "category" else column
    np.testing.assert_allclose(columns.encode(converted.values, column), numbers, rtol=1e-15)


@pytest.mark.parametrize("values", [pl.Series("c", [[1]]), pl.Series("c", [{"a": 1}]), pl.Series("c", [b"x"])])
def test_types_that_no_model_can_use_are_not_recognised(values: pl.Series) -> None:
    assert columns.recognise(values, as_text=False) is None


def test_zones_tell_the_hour_that_the_clock_showed() -> None:
    noon = pl.Series("c", [dt.datetime(2020, 7, 1, 12)]).dt.replace_time_zone("America/New_York")
    column = columns.recognise(noon, as_text=False)
    assert column is not None
    hour = column.parts.index("hour")
    for same in (noon, noon.dt.convert_time_zone("UTC"), text("2020-07-01T16:00:00Z")):
        assert columns.encode(columns.convert(same, column).values, column)[hour] == 12


def test_values_of_another_kind_are_reported() -> None:
    number = columns.Column("c", "number")
    assert columns.convert(text("1", "two", "NA"), number).wrong.to_list() == ["two"]
    assert columns.convert(pl.Series("c", [0, 1, 2]), columns.Column("c", "boolean")).wrong.to_list() == [2]
    assert columns.convert(text("2020-01-01", "1"), columns.Column("c", "date")).wrong.to_list() == ["1"]


def test_categories_are_the_most_frequent_and_the_rest_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_CATEGORIES", 2)
    values = text("b", "a", "c", "b", "a", None)
    column = columns.with_categories(columns.Column("c", "category"), values)
    assert column.categories == ("a", "b")
    np.testing.assert_array_equal(columns.encode(values, column)[0], [1, 0, np.nan, 1, 0, np.nan])
    assert columns.count_unknown(values, column) == 1


def test_dates_are_read_as_in_training() -> None:
    column = columns.recognise(text("1/2/2013", "31/12/2013"), as_text=True)
    assert column is not None
    months = columns.encode(columns.convert(text("3/4/2013"), column).values, column)[0]
    assert months == [4]  # the 3rd of April, though March 4th would do for this chunk too
    assert columns.convert(text("4/31/2013"), column).wrong.to_list() == ["4/31/2013"]


def test_a_category_may_be_called_na() -> None:
    column = columns.Column("c", "category", categories=("NA", "EU"))  # from Parquet, where NA is a text
    assert columns.convert(text("NA", "EU", "null"), column).values.to_list() == ["NA", "EU", None]


TWO = ("false", "true")


# -- splits ----------------------------------------------------------------------------------------


def test_split_by_time_rolls_forward_and_never_splits_a_time() -> None:
    generator = np.random.default_rng(1)
    times = generator.integers(0, 40, size=1000)  # unordered, with many ties
    labels = (generator.random(1000) < 0.3).astype(int)
    split = splits.split_by_time(times, labels, TWO)
    assert len(split.folds) == 3
    for fold in split.folds:
        assert times[fold.training].max() < times[fold.validation].min()
    first, second, third = split.folds
    np.testing.assert_array_equal(second.training, np.concatenate([first.training, first.validation]))
    np.testing.assert_array_equal(third.training, np.concatenate([second.training, second.validation]))
    np.testing.assert_array_equal(split.training, np.concatenate([third.training, third.validation]))
    assert times[split.training].max() < times[split.test].min()
    assert sorted([*split.training, *split.test]) == list(range(1000))
    assert 0.22 < len(split.test) / 1000 < 0.28
    assert (np.diff(times[split.test]) >= 0).all()


def test_split_by_time_says_which_part_lacks_a_class() -> None:
    times = np.arange(400)
    with pytest.raises(BadInput, match=r"final test .* no positive row"):
        splits.split_by_time(times, (times % 10 == 0) & (times < 280), TWO)
    with pytest.raises(BadInput, match=r"block 2 of 4 .* no negative row"):
        splits.split_by_time(times, (times % 10 == 0) | ((times >= 75) & (times < 150)), TWO)
    with pytest.raises(BadInput, match="block 1 of 4"):
        splits.split_by_time(times // 399, times % 10 == 0, TWO)
    with pytest.raises(BadInput, match="all times are equal"):
        splits.split_by_time(np.zeros(400), times % 10 == 0, TWO)
    with pytest.raises(BadInput, match=r"final test .* no row of the class 'c'; every part needs all classes"):
        splits.split_by_time(times, np.where(times < 280, times % 3, times % 2), ("a", "b", "c"))


def test_split_by_class_keeps_shares_and_the_final_test_apart() -> None:
    labels = (np.arange(500) % 10 == 0).astype(float)
    split = splits.split_by_class(labels, seed=3)
    assert labels[split.test].sum() == 10
    assert len(split.test) == 100
    assert not set(split.test) & set(split.training)
    assert sorted(np.concatenate([fold.validation for fold in split.folds])) == sorted(split.training)
    for fold in split.folds:
        assert labels[fold.validation].sum() == 8
        assert not set(fold.training) & set(fold.validation)
    np.testing.assert_array_equal(split.test, splits.split_by_class(labels, seed=3).test)
    assert (split.test != splits.split_by_class(labels, seed=4).test).any()


def test_three_folds_do_for_many_rows_and_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = (np.arange(400) % 10 == 0).astype(int)
    assert splits.MANY_ROWS == 300_000
    monkeypatch.setattr(splits, "MANY_ROWS", 400)
    assert [len(splits.split_by_class(labels[:rows], 0).folds) for rows in (399, 400)] == [5, 3]
    hasty = splits.split_by_class(labels[:399], 0, fast=True)
    assert len(hasty.folds) == 3
    np.testing.assert_array_equal(hasty.test, splits.split_by_class(labels[:399], 0).test)
    assert sorted(np.concatenate([fold.validation for fold in hasty.folds])) == sorted(hasty.training)


@pytest.mark.parametrize("by_time", [True, False])
def test_inner_folds_are_places_among_the_training_rows(by_time: bool) -> None:
    generator = np.random.default_rng(2)
    labels, times = (generator.random(300) < 0.3).astype(int), generator.permutation(300)
    split = splits.split_by_time(times, labels, TWO) if by_time else splits.split_by_class(labels, 0)
    for inner, fold in zip(split.inner_folds, split.folds, strict=True):
        np.testing.assert_array_equal(split.training[inner.training], fold.training)
        np.testing.assert_array_equal(split.training[inner.validation], fold.validation)
        for part in (inner.training, inner.validation):
            assert (np.diff(part) > 0).all()  # LightGBM takes parts in order alone


def test_features_that_share_a_name_are_told_apart() -> None:
    frame = {
        "when month": pl.Series(["a", "b"]),
        "when": pl.Series([dt.date(2020, 1, 1), dt.date(2020, 2, 1)]),
        "colour ": pl.Series(["red", "blue"]),
    }
    found = tuple(columns.recognise(values.rename(name), as_text=False) for name, values in frame.items())
    target = Target("y", ("0", "1"), 0, 0, False)
    sample = Sample(target, np.empty(0), None, None, {}, found, {}, [])
    assert sample.categorical == [0, 4]


# -- candidates, files, messages -------------------------------------------------------------------


def names(*given: Any, **more: Any) -> list[str]:
    return [candidate.name for candidate in candidates(*given, **more)]


def test_seven_candidates_by_default_and_none_twice() -> None:
    first = ["cross-entropy", "balanced cross-entropy", "logistic regression"]
    assert names((), (), 2) == [
        *first,
        "focal (gamma 1, alpha 0.25)",
        "focal (gamma 1, alpha 0.5)",
        "focal (gamma 2, alpha 0.25)",
        "focal (gamma 2, alpha 0.5)",
    ]
    assert names([0, 0], [0.5, 0.5], 2) == first
    assert names((), (), 3) == [
        *first,
        "focal (gamma 1)",
        "focal (gamma 1, balanced)",
        "focal (gamma 2)",
        "focal (gamma 2, balanced)",
    ]
    assert names([0], (), 3) == first
    assert Candidate(0, balance=0.5).name == "cross-entropy (balance 0.5)"
    assert Candidate(2.0, 0.25, linear=True).name == "focal (gamma 2, alpha 0.25), linear"


def test_fast_tries_three_losses_and_no_weights_unless_they_are_given() -> None:
    assert names((), (), 2, fast=True) == ["cross-entropy", "logistic regression", "focal (gamma 2, alpha 0.5)"]
    assert names((), (), 3, fast=True) == ["cross-entropy", "logistic regression", "focal (gamma 2)"]
    assert names([1.0], [0.3], 2, fast=True)[2:] == ["focal (gamma 1, alpha 0.3)"]


def test_from_simple_to_weighted() -> None:
    simplicity = {
        Candidate(0.0): 0,
        Candidate(0.0, linear=True): 0,
        Candidate(2.0): 1,
        Candidate(2.0, 0.5): 1,  # both classes weigh the same
        Candidate(2.0, linear=True): 1,
        Candidate(2.0, 0.25): 2,
        Candidate(2.0, balance=1.0): 2,
        Candidate(0.0, balance=1.0): 2,
        Candidate(0.0, 0.7): 2,
    }
    assert {candidate: candidate.simplicity for candidate in simplicity} == simplicity
    assert [candidate.is_plain for candidate in simplicity] == [True] + [False] * 8
    assert [candidate.is_cross_entropy for candidate in simplicity] == [True, True] + [False] * 7


def test_usual_settings_by_the_size_of_the_table() -> None:
    assert [usual_settings(rare, 10).leaves for rare in (8, 499, 500, 10**6)] == [8, 8, 31, 31]
    assert [usual_settings(500, features).bins for features in (1, 150, 151, 20_000)] == [None, None, 63, 63]
    assert [usual_settings(500, features).feature_share for features in (1, 400, 800, 20_000)] == [1, 1, 0.5, 0.02]


def test_balanced_classes_weigh_the_same() -> None:
    assert Candidate(0, balance=1.0).class_weights(0.1) == pytest.approx(0.9)
    prior = np.array([0.7, 0.2, 0.1])
    weights = np.array(Candidate(0, balance=1.0).class_weights(prior))
    np.testing.assert_allclose(prior * weights, 1 / 3)
    half = np.array(Candidate(0, balance=0.5).class_weights(prior))
    np.testing.assert_allclose(half / half[0], np.sqrt(weights / weights[0]))
    assert prior @ half == pytest.approx(1)
    assert Candidate(2.0).class_weights(prior) is None
    assert Candidate(2.0, 0.3).class_weights(0.1) == 0.3


@pytest.mark.parametrize(
    ("given", "amount"), [("90s", 90), ("5m", 300), ("1h30m", 5400), (" 2h ", 7200), ("1h0m5s", 3605)]
)
def test_budgets(given: str, amount: float) -> None:
    assert seconds(given) == amount


@pytest.mark.parametrize("given", ["", "5", "m", "0s", "-5m", "1.5h", "30s1m", "99999h"])
def test_budgets_that_are_none(given: str) -> None:
    with pytest.raises(BadInput, match="give a time such as 90s, 5m or 1h30m"):
        seconds(given)


def test_staged_folder_keeps_the_old_one_until_the_new_one_stands(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()

    def replace(fails: bool) -> None:
        with files.staged(out, True, lambda _: True) as new:
            new.mkdir()
            (new / "new").touch()
            assert [path.name for path in out.iterdir()] == ["old"]
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(fails=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
    replace(fails=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_staged_restores_the_old_folder_if_the_last_rename_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(OSError, match="No such file"), files.staged(out, True, lambda _: True):
        pass  # nothing was written, so there is nothing to rename
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


@pytest.mark.parametrize("width", [60, 72, 80, 100])
@pytest.mark.parametrize("title", ["Mean ± standard error", "by class"])
def test_tables_cut_no_number(width: int, title: str) -> None:
    """The numbers are the widest that `number` writes for a metric, and names have no blank to break at."""
    values = [-123456.7891, 0.0001234, 12345.6789, 0.5]
    table = metric_table(title) if title != "by class" else class_table()
    cells = [Text(f"{number(values[place % 4])}\n±{number(values[place % 3])}") for place in range(len(table.headings))]
    table.add(f"  {'n' * 48}: 123,456,789 rows (12.3 %)", style="bold")
    table.add("* focal (gamma 2.25, alpha 0.123), linear", cells)
    console = Console(file=io.StringIO(), width=width)
    table.print(console)
    said = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= width
    fields = re.split(r"\s{2,}", said.replace("\n", "  "))
    assert all(line in fields for cell in cells for line in cell.plain.split("\n"))
    assert all(line in fields for heading in table.headings for line in heading.split("\n"))


def test_messages() -> None:
    assert listed("abc", shown=2) == "a, b and 1 more"
    assert counted(1, "row") == "1 row"
    assert counted(2000, "row") == "2,000 rows"
    assert nearest("Canceled", ["cancelled", "x"]) == "did you mean 'cancelled'?"
    assert nearest("q", ["cancelled", "x"]) == "it has cancelled, x"


def test_missing_extra_is_one_line() -> None:
    """`pip install parfocal` alone brings the command but not what it needs."""
    program = (
        "import sys\n"
        "sys.modules['polars'] = None\n"  # as if it were not installed
        "from parfocal.app import main\n"
        "sys.exit(main(['--version']))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert 'python -m pip install "parfocal[app]"' in run.stderr
