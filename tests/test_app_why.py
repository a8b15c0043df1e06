"""`parfocal predict --why`, and `Model.explain`: what moved a row, in numbers and in words."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import parfocal
from app_fits import described, made_table, predict
from app_saved import SAVED, copied, edit, put
from parfocal.app.data.columns import Column
from parfocal.app.data.new_rows import NewRows
from parfocal.app.model import model as model_module
from parfocal.app.model import scoring
from parfocal.app.model.linear import ENGINES
from parfocal.app.model.model import Model
from parfocal.app.model.reasons import log_odds, reasons, values_in_words
from tiers import tiers

FOLDERS = ["fit-lightgbm", "fit-classes", "fit-xgboost", "fit-catboost"]
TABLE = SAVED / "table.csv"
BINARY = re.compile(r"(raises|lowers)( slightly| strongly)?: (\w+) is (.+)")
CLASSES = re.compile(r"(slightly |strongly )?(towards|away from) '(\w+)': (\w+) is (.+)")


def features_of(model: Model, table: pl.DataFrame) -> np.ndarray:
    return NewRows(model.columns, table.schema).read(table)


# -- in Python -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiers(FOLDERS, first=FOLDERS[:3]))
def test_explain_adds_up_to_the_margins_of_the_probabilities(name: str) -> None:
    model, table = parfocal.load_model(SAVED / name), pl.read_csv(TABLE)
    found, digits = model.explain(table), 3e-6 if model.engine == "xgboost" else 1e-12
    classes = () if len(model.classes) == 2 else (3,)
    assert found.columns == ("x", "z", "town", "born")
    assert found.contributions.shape == (24, 4, *classes)
    assert found.contributions.dtype == np.float64
    assert np.shape(found.base) == classes
    matrix = features_of(model, table)
    margins = ENGINES[model.engine].margins(model.booster, model.init_score, matrix)
    np.testing.assert_allclose(found.margins, margins, rtol=digits, atol=digits)
    logits = model.logits(margins)
    probabilities = 1 / (1 + np.exp(-logits)) if logits.ndim == 1 else np.exp(logits)
    np.testing.assert_allclose(probabilities, model.predict_proba(table)[:, 1 if logits.ndim == 1 else slice(None)])
    each = ENGINES[model.engine].contributions(model.booster, matrix)  # month, weekday and days of a date
    np.testing.assert_allclose(found.contributions[:, 3], each[:, 3:6].sum(axis=1), atol=1e-12)
    np.testing.assert_array_equal(found.contributions[:, :3], each[:, :3])
    assert model.explain(pl.read_csv(TABLE).head(0)).contributions.shape == (0, 4, *classes)
    np.testing.assert_array_equal(model.explain(table.head(0)).base, found.base)


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fit-lightgbm", "fit-classes"):
        model, table = parfocal.load_model(SAVED / name), pl.read_csv(TABLE)
        whole = model.explain(table).contributions
        matrix, codes = features_of(model, table), np.zeros(24, dtype=np.int64)
        words = [series.to_list() for series in reasons(model, table, matrix, codes, 4)]
        with monkeypatch.context() as patched:
            patched.setattr(model_module, "MOST_CONTRIBUTIONS", 50)
            assert model.explained_rows < 10
            np.testing.assert_array_equal(model.explain(table).contributions, whole)
            assert [series.to_list() for series in reasons(model, table, matrix, codes, 4)] == words


def test_frames_that_do_not_fit() -> None:
    model = parfocal.load_model(SAVED / "fit-lightgbm")
    with pytest.raises(ValueError, match="columns 'x', 'town' missing"):
        model.explain(pl.read_csv(TABLE).drop("x", "town"))
    with pytest.raises(TypeError, match="LazyFrame is needed, and dict was given"):
        model.explain({"x": [1]})


# -- the command -----------------------------------------------------------------------------------


def test_columns_after_the_decision(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--keep", "name", "--why", "3")
    outputs = []
    for table in ("table.csv", "table.parquet"):
        for ending in ("csv", "tsv", "parquet"):
            out = tmp_path / f"scores.{ending}"
            assert predict(folder / "model", folder / table, out, *more, "--force") == 0
        scores = pl.read_parquet(tmp_path / "scores.parquet")
        assert scores.columns == ["name", "probability", "decision", "why_1", "why_2", "why_3"]
        assert scores.dtypes[3:] == [pl.String] * 3
        assert pl.read_csv(tmp_path / "scores.csv")["why_2"].equals(scores["why_2"])
        outputs.append(scores)
    csv, parquet = outputs
    assert csv.drop("why_1", "why_2", "why_3").equals(parquet.drop("why_1", "why_2", "why_3"))
    assert all(BINARY.fullmatch(text) for text in csv["why_1"])
    assert predict(folder / "model", folder / "table.csv", tmp_path / "plain.parquet", "--keep", "name") == 0
    assert pl.read_parquet(tmp_path / "plain.parquet").equals(csv.select("name", "probability", "decision"))
    capsys.readouterr()
    assert predict(folder / "model", folder / "table.csv", tmp_path / "scores.csv", *more, "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["why"] == 3
    assert predict(folder / "model", folder / "table.csv", tmp_path / "scores.csv", "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["why"] is None


def test_chunks_give_the_same_words(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = []
    for chunk in (10**6, 100):
        monkeypatch.setattr(scoring, "CHUNK", chunk)
        assert predict(folder / "model", folder / "table.csv", tmp_path / "scores.csv", "--why", "5", "--force") == 0
        outputs.append((tmp_path / "scores.csv").read_bytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("name", tiers(FOLDERS, first=FOLDERS[:3]))
def test_the_words_are_the_largest_contributions(name: str, tmp_path: Path) -> None:
    """In their order and with their sign; without a column's part the odds would move against it."""
    model, table = parfocal.load_model(SAVED / name), pl.read_csv(TABLE)
    assert predict(SAVED / name, TABLE, tmp_path / "scores.parquet", "--why", "20") == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.columns[-20:] == [f"why_{number}" for number in range(1, 21)]
    assert all(scores[f"why_{number}"].null_count() == 24 for number in range(5, 21))  # there are four columns
    binary = len(model.classes) == 2
    codes = np.array([1 if binary else model.classes.index(decided) for decided in scores["decision"]])
    added, margins = model.explain(table).contributions, model.explain(table).margins
    moves = added if binary else added[np.arange(24), :, codes] - added.mean(axis=2)
    rows = scores.select(f"why_{number}" for number in range(1, 5)).rows()
    strengths = set()
    for row, texts in enumerate(rows):
        expected = sorted(range(4), key=lambda column: -abs(moves[row, column]))
        told = [text for text in texts if text is not None]
        for text, column in zip(told, expected, strict=False):
            match = (BINARY if binary else CLASSES).fullmatch(text)
            assert match is not None, text
            up, strength, named = (
                (match[1] == "raises", match[2], match[3]) if binary else (match[2] == "towards", match[1], match[4])
            )
            assert binary or match[3] == scores["decision"][row]
            assert named == ["x", "z", "town", "born"][column]
            assert up == (moves[row, column] > 0)
            now, without = (
                log_odds(model, some[None], codes[row : row + 1])[0]
                for some in (margins[row], margins[row] - added[row, column])
            )
            assert not binary or up == (now > without)
            factor = np.exp(abs(now - without))
            if min(abs(factor - 2), abs(factor - 1.1)) > 1e-6:
                expected_strength = "strongly" if factor >= 2 else "slightly" if factor < 1.1 else None
                assert (strength or "").strip() == (expected_strength or "")
            strengths.add(strength)
        assert all(abs(moves[row, column]) < 1e-6 for column in expected[len(told) :])
    assert len(strengths) >= 2


def test_where_all_rows_have_one_probability_there_is_no_reason() -> None:
    model, table = parfocal.load_model(SAVED / "fit-lightgbm"), pl.read_csv(TABLE)
    still = replace(model, calibration={"temperature": None, "bias": 0.0})
    for some, nothing in ((model, False), (still, True)):
        matrix = features_of(some, table)
        first = reasons(some, table, matrix, np.zeros(24, dtype=np.int64), 1)[0]
        assert (first.null_count() == 24) == nothing


def test_an_empty_cell_where_no_column_is_left(folder: Path, tmp_path: Path) -> None:
    assert predict(folder / "model", folder / "table.csv", tmp_path / "scores.csv", "--why", "20") == 0
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[1].endswith("," * 13)  # the model has seven columns
    assert len(described(folder / "model")["columns"]) == 7


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "given", "says"),
    [
        (
            Column("c", "number"),
            pl.Series([2.3141592, -0.00012345, 12.0, 1234.56, 1e300, -0.0, None, float("inf")]),
            None,
        ),
        (
            Column("c", "number"),
            pl.Series(["2.3141592", " 007 ", "NA", "?", "(5.00)"]),
            ["2.31", "7", "missing", "missing", "-5"],
        ),
        (Column("c", "number"), pl.Series([2**62 + 1, None]), [str(2**62 + 1), "missing"]),
        (Column("c", "number", decimal=",", thousands=".", unit="EUR"), pl.Series([" 1.234,50 EUR"]), ["1.234,50 EUR"]),
        (Column("c", "number"), pl.Series([dt.timedelta(hours=30, seconds=5), None]), ["30:00:05", "missing"]),
        (Column("c", "number"), pl.Series([dt.time(5, 7)]), ["5:07:00"]),
        (Column("c", "boolean"), pl.Series([True, False, None]), ["true", "false", "missing"]),
        (Column("c", "boolean"), pl.Series([1, 0]), ["1", "0"]),
        (Column("c", "boolean"), pl.Series(["True", "0", ""]), ["True", "0", "missing"]),
        (Column("c", "date"), pl.Series([dt.date(2013, 1, 31), None]), ["2013-01-31", "missing"]),
        (Column("c", "date", date_format="%d/%m/%Y"), pl.Series(["31/01/2013"]), ["31/01/2013"]),
        (Column("c", "datetime"), pl.Series([dt.datetime(2013, 1, 31, 17, 5, 1)]), ["2013-01-31 17:05"]),
        (
            Column("c", "datetime", date_format="%Y-%m-%dT%H:%M:%S%.f"),
            pl.Series(["2013-01-31T17:05:01.000000"]),
            ["2013-01-31T17:05:01"],
        ),
        (
            Column("c", "category", ("Oslo", "NA")),
            pl.Series(["Oslo ", "Lima", None, "NA"]),
            ["Oslo", "Lima (unknown)", "missing", "NA"],
        ),
        (
            Column("c", "category", ("a\nb",)),
            pl.Series(["a\nb", "\x1b[31m\u202e"]),
            [r"a\nb", r"\x1b[31m\u202e (unknown)"],
        ),
        (Column("c", "category", ("y" * 200,)), pl.Series(["y" * 200]), ["y" * 24 + "…" + "y" * 23]),
    ],
    ids=range(16),
)
def test_values_as_they_stand_in_the_table(column: Column, given: pl.Series, says: list[str] | None) -> None:
    frame = pl.DataFrame([given.alias("c")])
    numbers = NewRows([column], frame.schema).read(frame)[:, 0]
    expected = ["2.31", "-0.000123", "12", "1235", "1e+300", "0", "missing", "missing"] if says is None else says
    assert values_in_words(frame["c"], column, numbers) == expected


def test_hostile_names_are_harmless(tmp_path: Path) -> None:
    """One line of bounded length, which no spreadsheet takes for a formula."""
    names = {"x": "=cmd|' /C calc'!A0", "z": "a\nb\x1b[2J\u202e", "town": "{0} %s is 'x'", "born": "l" * 5000}
    folder = copied("classes", tmp_path)
    columns = [{**column, "name": names[column["name"]]} for column in described(folder)["columns"]]
    edit(folder, columns=columns, classes=["{common}", "=1+1", "rarer\n\u202e"])
    pl.read_csv(TABLE, infer_schema=False).rename(names).write_csv(tmp_path / "table.csv")
    assert predict(folder, tmp_path / "table.csv", tmp_path / "scores.parquet", "--why", "4") == 0
    told = pl.read_parquet(tmp_path / "scores.parquet").select("why_1", "why_2", "why_3", "why_4")
    texts = [text for row in told.rows() for text in row if text is not None]
    assert len(texts) > 50
    for text in texts:
        assert text.isprintable()
        assert text[0] in "tas"  # towards, away, slightly, strongly
        assert len(text) < 200
    assert any("'{common}': =cmd|' /C calc'!A0 is " in text for text in texts)
    assert any(r"a\nb\x1b[2J\u202e is" in text for text in texts)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--why", "0"], "--why 0: it must be 1 to 20, the number of columns to name for each row"),
        (["--why", "-1"], "--why -1: it must be 1 to 20"),
        (["--why", "21"], "--why 21: it must be 1 to 20"),
        (["--why", "three"], "--why three: it must be a whole number (parfocal predict --help shows the options)"),
        (["--why", "2.5"], "--why 2.5: it must be a whole number"),
        (["--why", "2", "--keep", "why_1"], "--keep why_1: predict writes a column of that name; rename yours"),
        (["--why", "2", "--keep", "why_2"], "--keep why_2: predict writes a column of that name; rename yours"),
    ],
)
def test_bad_whys(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: list[str], says: str) -> None:
    made_table(50).with_columns(why_1=1, why_2=2, why_3=3).write_csv(tmp_path / "table.csv")
    assert predict(folder / "model", tmp_path / "table.csv", tmp_path / "scores.csv", *more) == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_column_of_that_name_may_be_kept_if_predict_writes_none(folder: Path, tmp_path: Path) -> None:
    made_table(50).with_columns(why_1=1, why_3=3).write_csv(tmp_path / "table.csv")
    for more, name in (([], "why_1"), (["--why", "2"], "why_3")):
        out = tmp_path / f"{name}.csv"
        assert predict(folder / "model", tmp_path / "table.csv", out, "--keep", name, *more) == 0
        assert pl.read_csv(out).columns[0] == name


def test_trees_that_count_no_rows_explain_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A changed file may say that no row of training went through a tree.  Scores do not need that, shares do."""
    folder = copied("lightgbm", tmp_path)
    text = re.sub(
        rb"(_count)=[0-9 ]+",
        lambda found: found[0].translate(bytes.maketrans(b"123456789", b"0" * 9)),
        (folder / "model.txt").read_bytes(),
    )
    put(folder, text)
    assert predict(folder, TABLE, tmp_path / "scores.csv") == 0
    capfd.readouterr()
    assert predict(folder, TABLE, tmp_path / "why.csv", "--why", "1") == 2
    said = capfd.readouterr().err
    assert "can't say what moved a row" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "why.csv").exists()


def test_explain_finds_what_the_table_was_made_from(folder: Path) -> None:
    found = parfocal.load_model(folder / "model").explain(made_table(200))
    assert found.columns == ("x", "z", "town", "member", "born", "at", "weight")
    assert np.abs(found.contributions).sum(axis=0).argmax() in (0, 1, 2)
