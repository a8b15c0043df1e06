"""Names as people write them: harmless where they are shown, true in the data, and known to the boosters' own tools."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import polars as pl
import pytest
import xgboost

from app_fits import DRAWN, few_rounds
from parfocal import boosters
from parfocal.app import main
from parfocal.app.data.columns import Column
from parfocal.app.errors import LONGEST_NAME, quoted, shown
from parfocal.app.model import linear
from parfocal.app.model.feature_names import cleaned, features_of
from parfocal.app.model.saved import read_model
from parfocal.app.tell import plots
from tiers import tiers

# Steps that are few make it warn; fits in threads can't hide that from one another.
pytestmark = pytest.mark.filterwarnings("ignore:FocalLogisticRegression stopped")

ODD = ["a:b", "a,b", "a b", "a_b", '"x"', "[y]", "", "🦊", "Column_0", "a=b\\", "line\nbreak", "n" * 300]
FOX, BROKEN, RED = "fox 🦊", "line\nbreak\tand tab", "\x1b[31m" + "red " * 40 + "red"

impatience = few_rounds(5, 10, steps=5)


def odd_table(rows: int = 400) -> pl.DataFrame:
    """Two columns that only trees can read, and a date, all with odd names; the classes have them as well."""
    generator = np.random.default_rng(0)
    values = {name: generator.normal(size=rows) for name in ODD}
    kind = np.where(values["a:b"] * values["a,b"] > 0, FOX, BROKEN)
    kind = np.where(values["🦊"] > 1, RED, kind)
    at = pl.Series(generator.integers(0, 10**6, rows) * 60_000_000).cast(pl.Datetime("us"))
    return pl.DataFrame({**values, "t\tm": at, "[c]": generator.choice(["u", "v", "w"], rows), "kind\n🦊": kind})


def fit(folder: Path, *more: str) -> Path:
    odd_table().write_parquet(folder / "table.parquet")
    given = ["fit", str(folder / "table.parquet"), "--target", "kind\n🦊", "--out", str(folder / "model"), "--fast"]
    assert main([*given, *more]) == 0
    return folder / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        fit(folder)
    (folder / "said").write_text(said.getvalue(), encoding="utf-8")
    return folder


def features(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))["features"]


# -- where they are shown --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("event", "event"),
        ("fox 🦊 東京 é", "fox 🦊 東京 é"),
        ("a\nb\tc\r\x1b[31m\x00", "a\\nb\\tc\\r\\x1b[31m\\x00"),
        ("\u2028\u202e\u200b\u00a0", "\\u2028\\u202e\\u200b\\xa0"),
        ("", "''"),
        (" a", "' a'"),
        ("x" * LONGEST_NAME, "x" * LONGEST_NAME),
        ("begin" + "x" * 10**6 + "end", "begin" + "x" * 19 + "…" + "x" * 20 + "end"),
    ],
)
def test_shown(name: str, text: str) -> None:
    assert shown(name) == text


def test_what_is_shown_is_one_short_line() -> None:
    generator = np.random.default_rng(0)
    for length in (1, 20, 48, 49, 200):
        for _ in range(200):
            name = "".join(map(chr, generator.choice([10, 27, 65, 0x202E, 0x10FFFF, 0x1F98A, 0xD800], length)))
            for text in (shown(name), quoted(name)[1:-1]):
                assert text.isprintable()
                assert len(text) <= LONGEST_NAME
                assert text.endswith((name[-1], ascii(name[-1])[1:-1]))


def test_quoted() -> None:
    assert [quoted(name) for name in ("a", "it's", '"', "a\\b\n")] == ["'a'", '"it\'s"', "'\"'", "'a\\b\\n'"]


def test_the_picture_draws_what_its_font_has() -> None:
    assert plots.drawn_name("é $x_1$ 🦊 東\n") == "é $x_1$ \\U0001f98a \\u6771\\n"
    assert len(plots.drawn_name("🦊" * 300)) <= plots.LONGEST_NAME


def test_the_terminal_shows_harmless_names(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = (folder / "said").read_text(encoding="utf-8")
    assert all(character.isprintable() or character == "\n" for character in said)
    assert max(map(len, said[: said.index("Wrote ")].splitlines())) <= 80
    words = " ".join(said.split())
    for text in (
        "kind\\n🦊: 3 classes",
        "'fox 🦊' ",
        "'line\\nbreak\\tand tab' ",
        "'\\x1b[31mred red ",
        ", '', 🦊, Column_0",
        " t\\tm as month, ",
    ):
        assert text in words
    assert "\n   line\\nbreak\\tand tab: " in said
    heads = [line[:12].strip() for line in said[: said.index("Mean ±")].splitlines()]
    shown_heads = [head for head in heads if head not in ("", "note")]
    assert shown_heads == ["table", "target", "numbers", "categories", "dates", "training", "final test"]
    assert "--keep" not in said  # of a name with a line break
    scores = tmp_path / "scores.csv"
    assert main(["predict", str(folder / "model"), str(folder / "table.parquet"), "--out", str(scores)]) == 0
    said = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in said)
    assert "\n  line\\nbreak\\tand tab: " in said
    lacking = tmp_path / "lacking.parquet"
    pl.read_parquet(folder / "table.parquet").drop("line\nbreak", "n" * 300).write_parquet(lacking)
    assert main(["predict", str(folder / "model"), str(lacking), "--out", str(tmp_path / "none.csv")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "columns 'line\\nbreak', 'nnn" in error
    assert "n" * 60 not in error


def test_errors_are_one_harmless_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd_table(40).write_parquet(tmp_path / "table.parquet")
    table = str(tmp_path / "table.parquet")
    for target, positive in (("no\x1b[31m\nsuch", "a"), ("line\nbrek", "a"), ("kind\n🦊", "\x1b[31m\u202e")):
        given = ["fit", table, "--target", target, "--positive", positive, "--out", str(tmp_path / "model")]
        assert main(given) == 2
        error = capsys.readouterr().err
        assert error[:-1].isprintable()
        assert error.endswith("\n")


@pytest.mark.full
def test_pictures_warn_of_no_glyph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_report", DRAWN)
    """Here a warning is an error."""
    assert (fit(tmp_path) / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (fit(tmp_path, "--force", "--positive", FOX) / "report.png").stat().st_size > 10_000


# -- in the data -----------------------------------------------------------------------------------


def test_data_have_the_true_names(folder: Path) -> None:
    facts = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
    assert sorted(facts["classes"]) == sorted([FOX, BROKEN, RED])
    assert facts["target"] == "kind\n🦊"
    assert [column["name"] for column in facts["columns"]] == [*ODD, "t\tm", "[c]"]
    out = folder / "scores.csv"
    assert main(["predict", str(folder / "model"), str(folder / "table.parquet"), "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as lines:
        head, *rows = csv.reader(lines)
    assert head == [*(f"probability_{name}" for name in facts["classes"]), "decision"]
    assert {row[-1] for row in rows} <= {FOX, BROKEN, RED}
    assert len({row[-1] for row in rows}) > 1


# -- in the booster --------------------------------------------------------------------------------


def test_features_are_called_by_their_columns(folder: Path) -> None:
    found = features(folder / "model")
    assert [feature["column"] for feature in found] == [*ODD, *["t\tm"] * 4, "[c]"]
    assert [feature["part"] for feature in found] == [*[None] * 12, "month", "weekday", "hour", "days", None]
    names = [feature["name"] for feature in found]
    assert names == [
        *("a_b_2", "a_b_3", "a_b_4", "a_b", "_x_", "_y_", "unnamed", "🦊", "Column_0", "a_b_", "line_break", "n" * 100),
        *("t_m_month", "t_m_weekday", "t_m_hour", "t_m_days", "_c_"),
    ]
    assert lightgbm.Booster(model_file=str(folder / "model" / "model.txt")).feature_name() == names


def test_a_right_name_is_its_columns() -> None:
    """Whatever comes before it."""
    date = Column("at", "date")
    found = features_of([Column("a b", "number"), date, Column("at_month", "number"), Column("a_b", "number")])
    assert [feature.name for feature in found] == ["a_b_2", "at_month_2", "at_weekday", "at_days", "at_month", "a_b"]
    found = features_of([Column(name, "number") for name in ("x y", "x:y", "x_y_2", "x_y")])
    assert [feature.name for feature in found] == ["x_y_3", "x_y_4", "x_y_2", "x_y"]


def test_names_differ_and_are_found_fast() -> None:
    """Column names that all clean to the same one."""
    columns = [Column("x" * 200 + str(number), "number") for number in range(20_000)]
    names = [feature.name for feature in features_of(columns)]
    assert len(set(names)) == len(names)
    assert names[:3] == ["x" * 100, "x" * 100 + "_2", "x" * 100 + "_3"]


def test_every_character_is_cleaned_for_lightgbm() -> None:
    table = np.random.default_rng(0).normal(size=(60, 1))
    names = [chr(code) for code in [*range(256), 0x2028, 0x3000, 0x202E, 0xFEFF]]
    kept = sorted({cleaned(f"a{name}b") for name in names})
    assert len(kept) > 120
    for name in kept:
        assert " " not in name
        assert name.isprintable()
    together = lightgbm.Dataset(np.tile(table, len(kept)), table[:, 0], feature_name=kept).construct()
    assert together.feature_name == kept
    matrix = xgboost.DMatrix(np.tile(table, len(kept)), feature_names=kept)
    assert matrix.feature_names == kept


def trained(name: str, categorical: list[int]) -> tuple[boosters.Engine, Any, np.ndarray]:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(300, 4))
    matrix[:, 3] = generator.integers(0, 3, 300)
    matrix[::7, 1] = np.nan
    labels = (matrix[:, 0] + matrix[:, 3] + generator.normal(size=300) > 2).astype(np.int64)
    engine = linear.ENGINES[name]
    task = boosters.Task(
        objective={"gamma": 2.0, "alpha": 0.25},
        rows=boosters.Rows(matrix, labels, None, categorical),
        **{"held_out": None, "rounds": 5, "early_stopping_rounds": 5, "learning_rate": 0.3, "max_leaf_nodes": 6},
        **{"max_delta_step": 1.0, "threads": 1, "seed": 0, "engine_params": {}},
    )
    return engine, engine.train(task).booster, matrix


NAMES = ["a_b", "🦊", "1", "Column_0"]


@pytest.mark.parametrize("categorical", [[], [3]])
@pytest.mark.parametrize("name", list(linear.ENGINES))
def test_names_change_no_bit(name: str, categorical: list[int]) -> None:
    engine, booster, matrix = trained(name, categorical)
    matrix[::5, 3] = np.nan
    before, importances = engine.scores(booster, matrix), engine.importances(booster)
    named = engine.named(booster, NAMES)
    for again in (named, engine.load(engine.dump(named))):
        np.testing.assert_array_equal(engine.scores(again, matrix), before)
        np.testing.assert_array_equal(engine.importances(again), importances)
        assert names_of(name, again) == NAMES
    assert importances.max() > 0
    assert names_of(name, booster) != NAMES  # it is left as it was
    assert len(np.unique(before)) > 10


def names_of(name: str, booster: Any) -> list[str]:
    if name == "lightgbm":
        return list(booster.feature_name())
    return list(
        getattr(booster, {"xgboost": "feature_names", "catboost": "feature_names_", "linear": "names"}[name]) or ()
    )


@pytest.mark.parametrize("engine", tiers(["lightgbm", "xgboost", "catboost"], first=["lightgbm"]))
def test_the_boosters_own_library_reads_the_file(engine: str, folder: Path, tmp_path: Path) -> None:
    path = folder / "model"
    if engine != "lightgbm":
        path = fit(tmp_path, "--engine", engine, *(["--positive", FOX] if engine == "catboost" else []))
    model = read_model(path)
    assert model.engine == engine  # the table is one that logistic regression can't read
    names = [feature["name"] for feature in features(path)]
    generator = np.random.default_rng(1)
    matrix = generator.normal(size=(50, len(names)))
    matrix[:, -1] = generator.integers(0, 3, 50)
    file = str(path / linear.ENGINES[engine].file)
    frame = pl.DataFrame(matrix, schema=names).to_pandas()
    if engine == "lightgbm":
        booster = lightgbm.Booster(model_file=file)
        own = booster.predict(frame, raw_score=True, validate_features=True)
        assert set(booster.trees_to_dataframe()["split_feature"].dropna()) <= set(names)
        assert booster.dump_model()["feature_names"] == names
        own = own + np.asarray(model.init_score)
    elif engine == "xgboost":
        booster = xgboost.Booster(model_file=file)
        types = booster.feature_types
        own = booster.predict(xgboost.DMatrix(frame, feature_types=types, enable_categorical=True), output_margin=True)
        assert set(booster.get_score()) <= set(names)
    else:
        booster = catboost.CatBoost().load_model(file)
        frame[names[-1]] = frame[names[-1]].astype(int)
        own = booster.predict(frame, prediction_type="RawFormulaVal") + model.init_score
        assert booster.get_feature_importance(prettified=True)["Feature Id"].isin(names).all()
    ours = linear.ENGINES[engine].margins(model.booster, model.init_score, matrix)
    np.testing.assert_array_equal(np.asarray(own, dtype=np.float64), ours)
    assert len(np.unique(ours)) > 10


@pytest.mark.full
def test_linear_models_have_the_names(tmp_path: Path) -> None:
    model = fit(tmp_path, "--engine", "linear")
    saved = json.loads((model / "linear.json").read_text(encoding="utf-8"))
    assert saved["features"] == [feature["name"] for feature in features(model)]
    assert list(read_model(model).booster.names) == saved["features"]
