"""`--refit` and `--fast`: what they change, and what they leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from app_fits import choosing, described, few_rounds, made_table, predict
from parfocal.app import main
from parfocal.app.data.splits import split_by_class
from parfocal.app.model.linear import ENGINES
from parfocal.app.model.saved import read_model
from parfocal.app.study import training
from parfocal.app.study.candidates import Candidate, Settings

impatience = few_rounds(5, 25)


def table_with_a_late_town() -> pl.DataFrame:
    """Lima is in the final test alone."""
    table = made_table(800)
    town = table["town"].to_numpy().copy()
    town[split_by_class(table["event"].cast(pl.Int64).to_numpy(), seed=0, fast=True).test[-40:]] = "Lima"
    return table.with_columns(town=pl.Series(town)).select("x", "z", "town", "weight", "event")


def fit(table: Path, out: Path, *more: str) -> dict[str, Any]:
    given = ["fit", str(table), "--target", "event", "--out", str(out), "--gamma", "2", "--alpha", "0.25", *more]
    assert main(given) == 0
    return described(out)


@pytest.mark.parametrize("engine", ["lightgbm", "linear"])
def test_refit_trains_what_was_chosen_on_all_rows(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choosing(monkeypatch, "focal (gamma 2, alpha 0.25)")
    table = table_with_a_late_town()
    table.write_parquet(tmp_path / "t.parquet")
    given = tmp_path / "t.parquet", ("--fast", "--weight", "weight", "--engine", engine)
    before = fit(given[0], tmp_path / "before", *given[1])
    after = fit(given[0], tmp_path / "after", *given[1], "--refit")

    # The numbers are those of the model before.
    for key in ("final_test", "by_class", "candidates", "winner", "settings", "verdict", "cautions", "calibration"):
        assert after["fit"][key] == before["fit"][key], key
    for key in ("calibration", "threshold", "gamma", "alpha", "classes"):
        assert after[key] == before[key], key
    assert (before["fit"]["refitted_on_all_rows"], after["fit"]["refitted_on_all_rows"]) == (False, True)
    assert after["booster_sha256"] != before["booster_sha256"]
    assert after["fit"]["rows"] == before["fit"]["rows"]

    # The model is of all rows.
    weights, event = table["weight"].to_numpy().astype(float), table["event"].to_numpy()
    assert after["prior"] == pytest.approx(weights @ event / weights.sum())
    trained = split_by_class(event.astype(int), seed=0, fast=True).training
    assert before["prior"] == pytest.approx(weights[trained] @ event[trained] / weights[trained].sum())
    towns = [
        column["categories"] for facts in (before, after) for column in facts["columns"] if column["name"] == "town"
    ]
    assert [sorted(some) for some in towns] == [["Bonn", "Oslo", "Rome"], ["Bonn", "Lima", "Oslo", "Rome"]]
    codes = table["town"].replace_strict({name: code for code, name in enumerate(towns[1])})
    matrix = np.column_stack([table["x"].fill_null(np.nan), table["z"], codes]).astype(float)
    rows = training.Rows(matrix, event.astype(int), weights, [2])
    trainer = training.Training(ENGINES[engine], seed=0)
    candidate = Candidate(2.0, 0.25, settings=Settings(**after["fit"]["settings"]))
    (expected,) = training.fit_finally(trainer, [(candidate, after["rounds"])], rows)
    read = read_model(tmp_path / "after")
    margins = ENGINES[engine].margins(read.booster, read.init_score, matrix)
    np.testing.assert_allclose(margins, expected.margins(matrix), rtol=1e-12)
    if engine == "lightgbm":
        assert after["rounds"] == before["rounds"]

    # The town is known now.
    capsys.readouterr()
    for name, unknown in (("before", True), ("after", False)):
        assert predict(tmp_path / name, tmp_path / "t.parquet", tmp_path / f"{name}.csv") == 0
        assert ("40 rows with an unknown category" in capsys.readouterr().out) == unknown
    said = pl.read_csv(tmp_path / "after.csv")["probability"].to_numpy()
    np.testing.assert_array_equal(said, read.probabilities(matrix))


def test_fast_tries_three_losses_on_three_folds(tmp_path: Path) -> None:
    made_table(600).write_parquet(tmp_path / "t.parquet")
    assert main(["fit", str(tmp_path / "t.parquet"), "--target", "event", "--out", str(tmp_path / "m"), "--fast"]) == 0
    facts = described(tmp_path / "m")["fit"]
    assert facts["fast"] is True
    names = {candidate["name"] for candidate in facts["candidates"]} | set(facts["dropped_after_one_fold"])
    assert names == {"cross-entropy", "logistic regression", "focal (gamma 2, alpha 0.5)"}
    for candidate in facts["candidates"]:
        assert len(candidate["rounds"]) == len(candidate["calibrated"]["log_loss"]) == 3


def test_select_chooses_the_winner_and_not_the_rounds(tmp_path: Path) -> None:
    made_table(600).write_parquet(tmp_path / "t.parquet")
    found = [
        fit(tmp_path / "t.parquet", tmp_path / select, "--fast", "--select", select)["fit"]
        for select in ("log_loss", "average_precision")
    ]
    rounds = [{c["name"]: c["rounds"] for c in facts["candidates"] if not c["linear"]} for facts in found]
    assert rounds[0] == rounds[1]
    assert len(rounds[0]) == 2
    assert [facts["selection_metric"] for facts in found] == ["log_loss", "average_precision"]


def test_small_tables_have_few_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the settings of the winner are printed."""
    made_table(600).write_parquet(tmp_path / "t.parquet")
    choosing(monkeypatch, "cross-entropy")
    facts = fit(tmp_path / "t.parquet", tmp_path / "m", "--fast")
    assert facts["fit"]["settings"]["leaves"] == 8
    trees = read_model(tmp_path / "m").booster.dump_model()["tree_info"]
    assert 2 < max(tree["num_leaves"] for tree in trees) <= 8


def test_two_positives_in_the_final_test_give_no_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = made_table(600)
    rare = table.filter("event").head(12)
    pl.concat([rare, table.filter(~pl.col("event"))]).write_parquet(tmp_path / "t.parquet")
    choosing(monkeypatch, "focal (gamma 2, alpha 0.25)")
    facts = fit(tmp_path / "t.parquet", tmp_path / "m", "--fast")
    said = " ".join(capsys.readouterr().out.split())
    assert "2 rows of the rarest class are too few for an interval" in said
    assert "(95 % interval" not in said  # of the difference; what to expect of a decision has one, a wide one
    assert "Caution: Only 10 rows of the rarest class to learn from" in said
    assert "is uncertain by about 71 %" in said
    assert len(facts["fit"]["cautions"]) == 2
    assert all(caution in said for caution in facts["fit"]["cautions"])


def test_a_fold_without_any_variety_is_no_trouble(tmp_path: Path) -> None:
    """x is constant in the first of four blocks, where LightGBM would abort with a table of these rows alone."""
    numbers = np.arange(200)
    pl.DataFrame({"x": numbers > 50, "t": numbers, "y": numbers % 4 == 0}).write_parquet(tmp_path / "t.parquet")
    given = ["fit", str(tmp_path / "t.parquet"), "--target", "y", "--time", "t", "--drop", "t", "--fast"]
    for engine in ("lightgbm", "linear"):
        assert main([*given, "--out", str(tmp_path / engine), "--engine", engine]) == 0
        assert predict(tmp_path / engine, tmp_path / "t.parquet", tmp_path / f"{engine}.csv") == 0
        assert pl.read_csv(tmp_path / f"{engine}.csv")["probability"].is_between(0.15, 0.35).all()
