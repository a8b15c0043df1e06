"""`parfocal.load_model`: a saved model in Python predicts what `parfocal predict` writes."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import parfocal
from app_fits import made_table, predict
from parfocal.app.data import frames
from parfocal.app.model import model as model_module

SAVED = Path(__file__).parent / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text(encoding="utf-8"))
FITS = [name for name in EXPECTED if name.startswith("fit-")]
TABLE = SAVED / "table.csv"

READ: dict[str, Callable[[Path], Any]] = {
    "polars": pl.read_csv,
    "polars, with dates": lambda path: pl.read_csv(path, try_parse_dates=True),
    "polars, text": lambda path: pl.read_csv(path, infer_schema=False),
    "polars, lazy": pl.scan_csv,
    "pandas": pd.read_csv,
    "pandas, with dates": lambda path: pd.read_csv(path, parse_dates=["born"]),
    "pandas, nullable": lambda path: pd.read_csv(path).convert_dtypes(),
    "pandas, categorical": lambda path: pd.read_csv(path, dtype={"town": "category"}),
    "pandas, text": lambda path: pd.read_csv(path, dtype=str),
}


def expected_of(name: str) -> tuple[np.ndarray, list[Any]]:
    """Probabilities of every class, and decisions, as an earlier parfocal wrote them."""
    found = EXPECTED[name]
    each = [np.array(values) for column, values in found.items() if column.startswith("probability")]
    return np.stack([1 - each[0], each[0]] if len(each) == 1 else each, axis=1), found["decision"]


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        *((name, reader) for name in FITS for reader in ("polars", "pandas")),
        *(("fit-lightgbm", reader) for reader in READ if reader not in ("polars", "pandas")),
        *(("fit-classes", reader) for reader in ("polars, lazy", "polars, text", "pandas, nullable")),
    ],
)
def test_saved_models_score_every_kind_of_frame(name: str, reader: str) -> None:
    model = parfocal.load_model(SAVED / name)
    frame = READ[reader](TABLE)
    probabilities, decisions = expected_of(name)
    np.testing.assert_allclose(model.predict_proba(frame), probabilities, rtol=1e-12, atol=1e-14)
    assert model.decide(frame).tolist() == decisions
    assert model.predict_proba(frame).dtype == np.float64


def in_format_1(folder: Path) -> None:
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    facts |= {"format": 1, "negative": "false", "positive": "true"}
    (folder / "model.json").write_text(json.dumps({k: v for k, v in facts.items() if k not in ("engine", "classes")}))


def test_format_1(tmp_path: Path) -> None:
    shutil.copytree(SAVED / "fit-lightgbm", tmp_path / "model")
    in_format_1(tmp_path / "model")
    model = parfocal.load_model(str(tmp_path / "model"))
    assert (model.classes, model.engine) == (("false", "true"), "lightgbm")
    np.testing.assert_allclose(model.predict_proba(pl.read_csv(TABLE)), expected_of("fit-lightgbm")[0], rtol=1e-12)


def test_what_predict_writes_bit_by_bit(folder: Path, tmp_path: Path) -> None:
    model = parfocal.load_model(folder / "model")
    assert predict(folder / "model", folder / "table.parquet", tmp_path / "scores.parquet") == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    for frame in (pl.read_parquet(folder / "table.parquet"), pd.read_csv(folder / "table.csv")):
        probabilities = model.predict_proba(frame)
        assert probabilities.shape == (1200, 2)
        np.testing.assert_array_equal(probabilities[:, 1], scores["probability"])
        np.testing.assert_array_equal(probabilities[:, 0], 1 - probabilities[:, 1])
        np.testing.assert_array_equal(model.decide(frame), scores["decision"])


def test_what_a_model_knows(folder: Path) -> None:
    model = parfocal.load_model(folder / "model")
    facts = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
    assert model.record == facts["fit"]
    assert (model.target, model.classes, model.threshold) == ("event", ("false", "true"), facts["threshold"])
    assert {column.name: column.kind for column in model.columns} == {
        **{"x": "number", "z": "number", "town": "category", "member": "boolean"},
        **{"born": "date", "at": "datetime", "weight": "number"},
    }
    assert repr(model).startswith("Model(target='event', classes=('false', 'true'), engine='lightgbm', gamma=")


def test_rows_stay_in_order_and_chunks_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = parfocal.load_model(folder / "model"), made_table()
    whole = model.predict_proba(table)
    order = np.random.default_rng(0).permutation(len(table))
    np.testing.assert_array_equal(model.predict_proba(table[order]), whole[order])
    shuffled = table.to_pandas().iloc[order]  # with an index that is out of order
    np.testing.assert_array_equal(model.predict_proba(shuffled), whole[order])
    np.testing.assert_array_equal(model.predict_proba(table.select(reversed(table.columns))), whole)
    monkeypatch.setattr(model_module, "CHUNK", 100)
    np.testing.assert_array_equal(model.predict_proba(table), whole)


def test_the_users_frame_is_left_alone(folder: Path) -> None:
    model, table = parfocal.load_model(folder / "model"), made_table(50)
    before, pandas = table.clone(), table.to_pandas()
    copied = pandas.copy(deep=True)
    for frame in (table, pandas):
        model.predict_proba(frame)
        model.decide(frame)
    assert table.equals(before)
    pd.testing.assert_frame_equal(pandas, copied)


@pytest.mark.parametrize("name", ["fit-lightgbm", "fit-classes"])
def test_no_rows(name: str) -> None:
    model = parfocal.load_model(SAVED / name)
    for frame in (pl.read_csv(TABLE).head(0), pd.read_csv(TABLE).head(0), pl.scan_csv(TABLE).head(0)):
        assert model.predict_proba(frame).shape == (0, len(model.classes))
        assert model.decide(frame).shape == (0,)


def test_an_unknown_category_and_a_missing_one_are_alike() -> None:
    model, table = parfocal.load_model(SAVED / "fit-lightgbm"), pl.read_csv(TABLE)
    unknown, missing = (
        model.predict_proba(table.with_columns(town=pl.lit(town, dtype=pl.String))) for town in ("Atlantis", None)
    )
    np.testing.assert_array_equal(unknown, missing)
    assert not np.array_equal(unknown, model.predict_proba(table))


# -- columns of pandas -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Series([1.5, np.nan]), [1.5, None]),
        (pd.Series([1, 2], dtype="uint8"), [1, 2]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([True, False]), [True, False]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series([True, None, False], dtype=object), [True, None, False]),
        (pd.Series(["a", None, np.nan, pd.NA], dtype=object), ["a", None, None, None]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series([1, 2.5], dtype=object), [1.0, 2.5]),
        (pd.Series(pd.to_datetime(["2020-01-31", None])), [dt.datetime(2020, 1, 31), None]),
        (pd.Series([dt.date(2020, 1, 31), None], dtype=object), [dt.date(2020, 1, 31), None]),
        (pd.Series(pd.to_timedelta([1.5, None], unit="s")), [dt.timedelta(seconds=1.5), None]),
        (pd.Series([None, None], dtype=object), [None, None]),
    ],
    ids=lambda given: str(getattr(given, "dtype", "")),
)
def test_columns_of_pandas(values: pd.Series, expected: list[Any]) -> None:
    frame = pd.DataFrame({"c": values, "other": 0})
    found = frames.polars_of(frame, ["c", "not there"])
    assert found.columns == ["c"]
    assert found["c"].to_list() == expected


def test_times_of_pandas_keep_their_clock() -> None:
    times = pd.Series(pd.to_datetime(["2020-07-01 12:00"]).tz_localize("Europe/Berlin"))
    (found,) = frames.polars_of(pd.DataFrame({"t": times}), ["t"])
    assert found.dtype == pl.Datetime("us", "Europe/Berlin")
    assert found.dt.hour().to_list() == [12]
    offset = times.dt.tz_convert(dt.timezone(dt.timedelta(hours=5.5)))
    (found,) = frames.polars_of(pd.DataFrame({"t": offset}), ["t"])
    assert found.dt.convert_time_zone("UTC").dt.hour().to_list() == [10]


# -- bad input -------------------------------------------------------------------------------------


def table_of(**columns: Any) -> pl.DataFrame:
    return pl.read_csv(TABLE).with_columns(**columns)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (
            pl.read_csv(TABLE).drop("x", "town"),
            "the frame does not fit the model: columns 'x', 'town' missing",
        ),
        (pd.read_csv(TABLE).drop(columns="x"), "the frame does not fit the model: column 'x' missing"),
        (table_of(x=pl.lit("tall")), "column 'x' must be a number, but in 24 rows it is not (first: 'tall')"),
        (table_of(x=pl.lit(dt.date(2020, 1, 1))), "column 'x' must be a number, it is Date"),
        (table_of(town=pl.lit(1)), "column 'town' must be a category, it is Int32"),
        (
            table_of(x=pl.lit("a"), born=pl.lit(True)),
            "column 'born' must be a date, it is Boolean; column 'x' ",
        ),
        (table_of(born=pl.lit("soon")), "column 'born' must be a date written like "),
        (pd.read_csv(TABLE)[["x", "x", "z", "town", "born"]], "the frame has more than one column 'x'; keep one"),
        (
            pd.read_csv(TABLE).assign(x=[1, "a"] * 12),
            "column 'x' of the frame holds values of type int, str",
        ),
    ],
    ids=range(9),
)
def test_frames_that_do_not_fit(frame: Any, says: str) -> None:
    model = parfocal.load_model(SAVED / "fit-lightgbm")
    for method in (model.predict_proba, model.decide):
        with pytest.raises(ValueError, match=re.escape(says)) as raised:
            method(frame)
        assert (
            "more than one" in says
            or "int, str" in says
            or str(raised.value).endswith("; model.columns says what it needs")
        )


def test_a_file_of_a_model_is_not_its_folder() -> None:
    for name in ("model.json", "model.txt"):
        path = SAVED / "fit-lightgbm" / name
        with pytest.raises(ValueError, match=re.escape(f"{path} is a file of a model; give the folder, {path.parent}")):
            parfocal.load_model(path)


@pytest.mark.parametrize("frame", [{"x": [1]}, np.zeros((2, 2)), None, pd.Series([1])])
def test_what_is_not_a_frame(frame: Any) -> None:
    model = parfocal.load_model(SAVED / "fit-lightgbm")
    with pytest.raises(TypeError, match=f"LazyFrame is needed, and {type(frame).__name__} was given"):
        model.predict_proba(frame)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a parfocal model: it has no model\.json; give the --out folder"):
        parfocal.load_model(tmp_path)
    shutil.copytree(SAVED / "fit-lightgbm", tmp_path / "model")
    (tmp_path / "model" / "model.txt").write_text("cut")
    with pytest.raises(ValueError, match=r"is damaged or was changed .*; fit again"):
        parfocal.load_model(tmp_path / "model")


def test_without_the_extra_it_is_said_which() -> None:
    code = "import sys; sys.modules['polars'] = None; import parfocal; parfocal.load_model('model')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: parfocal.load_model needs polars, which is not installed; run: "
        'python -m pip install "parfocal[app]"'
    )
