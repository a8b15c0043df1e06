"""`parfocal fit`: what it says, what it saves, and what its numbers rest on."""

from __future__ import annotations

import os
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from app_fits import DRAWN, LIGHTGBM, described, few_rounds, fit, is_plain, made_table, predict, recovered
from parfocal import boosters
from parfocal.app import main
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import read_sample
from parfocal.app.data.splits import split_by_class
from parfocal.app.data.tables import open_table
from parfocal.app.model.saved import read_model
from parfocal.app.study import training
from parfocal.app.study.candidates import CROSS_ENTROPY, Candidate
from parfocal.app.tell import plots
from tiers import tiers

impatience = few_rounds(5, 25)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_report", DRAWN)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PATIENCE", 50)
    monkeypatch.setattr(training, "MOST_ROUNDS", 500)


def test_fit_says_what_it_took_each_column_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(folder / "table.csv", folder / "said") == 0
    said = capsys.readouterr()
    command = said.out.strip().splitlines()[-1].split()
    assert command[:4] == ["parfocal", "predict", str(folder / "said"), str(folder / "table.csv")]
    command[command.index("--out") + 1] = str(folder / "suggested.csv")
    assert main(command[1:]) == 0  # the suggested command works
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    for line in (
        "numbers x, z, weight",
        "booleans member",
        "categories town (3)",
        "left out unit (constant)",
        "left out name (a different text in nearly every row)",
        f"training 960 rows, {int(made_table()['event'].sum() * 0.8 + 0.5)} positive; 5 folds, stratified",
    ):
        assert line in lines
    assert "born (written like 2013-01-31) as month, weekday, days" in " ".join(lines)
    assert "at (written like 2013-01-31T17:05:01) as month, weekday, hour, days" in " ".join(lines)
    assert not [line for line in said.out.splitlines() if line != line.rstrip()]
    assert said.err == ""  # no progress bar where nobody watches
    report = said.out[: said.out.index("Wrote ")]  # then paths follow, which are not broken
    assert max(map(len, report.splitlines())) <= 80
    folds = said.out[said.out.index("Mean ±") : said.out.index("Final test, ")]
    rows = [line.strip(" *").split("  ")[0] for line in folds.splitlines()]  # the first column
    assert (rows.count("raw"), rows.count("recovered"), rows.count("calibrated")) == (1, 1, 3)  # of the winner; of all
    assert rows.count("cross-entropy") == 2 + 1  # its own two rows, and the second line of the balanced one
    test = said.out[said.out.index("Final test, ") : said.out.index("Final test by class")]
    rows = [line.strip(" *").split("  ")[0] for line in test.splitlines()]
    assert (rows.count("raw"), rows.count("recovered"), rows.count("calibrated")) == (1, 1, 2)
    assert "observed/" in folds
    assert said.out.count("\n   true: ") == 1  # and how each class fares


def test_model_folder(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "model").iterdir()) == [
        "judged.parquet",
        "model.json",
        "model.txt",
        "report.html",
        "report.png",
    ]
    assert (folder / "model" / "report.png").read_bytes().startswith(b"\x89PNG")
    facts = described(folder / "model")
    assert (facts["format"], facts["target"], facts["classes"]) == (4, "event", ["false", "true"])
    assert [column["name"] for column in facts["columns"]] == ["x", "z", "town", "member", "born", "at", "weight"]
    assert facts["columns"][2]["categories"] == ["Bonn", "Oslo", "Rome"]  # the most frequent first
    assert facts["rounds"] >= 1
    assert 0 < facts["threshold"] < 1
    loss = boosters.focal_loss(2, facts["gamma"], facts["alpha"], from_logits=True)
    assert facts["init_score"] == pytest.approx(loss.optimal_logit(facts["prior"]))
    of_true = facts["fit"]["by_class"][facts["fit"]["winner"]]["true"]
    assert of_true["rows"] == round(facts["fit"]["rows"]["final_test"] * of_true["share"])
    assert 0 < of_true["recall"] <= 1
    for candidate in facts["fit"]["candidates"]:
        for kind in ("raw", "recovered", "calibrated"):
            assert len(candidate["rounds"]) == len(candidate[kind]["log_loss"]) == 5
    assert facts["fit"]["dropped_after_one_fold"] == ["logistic regression"]
    assert facts["fit"]["selection_metric"] == "log_loss"
    assert facts["calibration"] == facts["fit"]["calibration"][facts["fit"]["winner"]]
    assert set(facts["calibration"]) == {"temperature", "bias"}
    cross_entropy = facts["fit"]["candidates"][0]
    assert cross_entropy["raw"] == cross_entropy["recovered"]


@pytest.mark.usefixtures("patience")
def test_recovery_repairs_what_focal_loss_and_balancing_distort(folder: Path, tmp_path: Path) -> None:
    assert fit(folder / "table.csv", tmp_path / "model") == 0
    distorted = [
        candidate for candidate in described(tmp_path / "model")["fit"]["candidates"] if not is_plain(candidate)
    ]
    assert len(distorted) == 2
    for candidate in distorted:
        for metric in ("log_loss", "brier", "calibration_error"):
            assert np.mean(candidate["recovered"][metric]) < np.mean(candidate["raw"][metric])
        for metric in ("average_precision", "roc_auc"):  # the ranking is kept
            np.testing.assert_allclose(candidate["recovered"][metric], candidate["raw"][metric], atol=1e-6)


@pytest.mark.usefixtures("pictures")
def test_same_seed_same_bits_another_seed_other_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 5)  # many threads: the order in which they end changes
    for name, seed in (("again", "0"), ("other", "1")):
        assert fit(folder / "table.csv", tmp_path / name, "--seed", seed) == 0
    names = ("model.txt", "model.json", "report.png")
    first, again, other = (
        [(where / name).read_bytes() for name in names]
        for where in (folder / "model", tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert first[0] != other[0]


def test_csv_and_parquet_agree(folder: Path, tmp_path: Path) -> None:
    assert fit(folder / "table.parquet", tmp_path / "model") == 0
    assert (tmp_path / "model" / "model.txt").read_bytes() == (folder / "model" / "model.txt").read_bytes()
    scored = []
    for model_folder in (folder / "model", tmp_path / "model"):
        for ending in ("csv", "parquet"):
            out = tmp_path / f"scores{len(scored)}.parquet"
            assert predict(model_folder, folder / f"table.{ending}", out) == 0
            scored.append(pl.read_parquet(out))
    for other in scored[1:]:
        assert scored[0].equals(other)


def test_fit_by_time(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(folder / "table.csv", tmp_path / "model", "--time", "at", "--select", "brier") == 0
    said = capsys.readouterr().out
    assert "3 folds that roll forward in at" in said
    columns = {column["name"]: column for column in described(tmp_path / "model")["columns"]}
    assert not columns["at"]["days"]  # a later time lies outside of everything seen
    assert columns["born"]["days"]
    assert described(tmp_path / "model")["fit"]["selection_metric"] == "brier"


@pytest.mark.full
def test_time_may_be_a_number_or_dropped_as_a_feature(folder: Path, tmp_path: Path) -> None:
    assert fit(folder / "table.csv", tmp_path / "number", "--time", "z") == 0
    assert described(tmp_path / "number")["fit"]["left_out"]["only orders the rows"] == ["z"]
    assert fit(folder / "table.csv", tmp_path / "dropped", "--time", "at", "--drop", "at", "--drop", "x") == 0
    names = [column["name"] for column in described(tmp_path / "dropped")["columns"]]
    assert names == ["z", "town", "member", "born", "weight"]


def test_final_test_chooses_nothing(folder: Path, tmp_path: Path) -> None:
    """Scramble the final test: model, threshold and choice stay the same."""
    table = made_table()
    labels = table["event"].cast(pl.Float64).to_numpy()
    test = split_by_class(labels, seed=0).test
    town = table["town"].to_numpy().copy()
    x = table["x"].to_numpy().copy()
    town[test], x[test] = "Elsewhere", 99.0
    table.with_columns(town=pl.Series(town), x=pl.Series(x)).write_parquet(tmp_path / "scrambled.parquet")
    assert fit(tmp_path / "scrambled.parquet", tmp_path / "model") == 0
    assert (tmp_path / "model" / "model.txt").read_bytes() == (folder / "model" / "model.txt").read_bytes()
    ours, theirs = described(folder / "model"), described(tmp_path / "model")
    for key in ("threshold", "gamma", "alpha", "rounds", "prior", "init_score", "calibration"):
        assert ours[key] == theirs[key]
    assert ours["columns"][2]["categories"] == theirs["columns"][2]["categories"]
    assert ours["fit"]["final_test"] != theirs["fit"]["final_test"]


def test_weights_count_like_repeated_rows() -> None:
    """One fit with weights 1, 2, 3 is the fit in which rows stand once, twice, three times."""
    generator = np.random.default_rng(7)
    matrix = np.round(generator.normal(size=(600, 3)), 1)  # few values, so that both are binned alike
    labels = (generator.random(600) < 1 / (1 + np.exp(2 - matrix[:, 0]))).astype(int)
    weights = generator.integers(1, 4, size=600)
    candidate = Candidate(2.0, 0.25)
    weighted = training.Rows(matrix, labels, weights.astype(float), [])
    repeated = training.Rows(np.repeat(matrix, weights, axis=0), np.repeat(labels, weights), None, [])
    assert weighted.prior == pytest.approx(repeated.prior)
    fits = [training.fit_finally(LIGHTGBM, [(candidate, 1)], rows)[0] for rows in (weighted, repeated)]
    assert fits[0].init_score == pytest.approx(fits[1].init_score)
    # LightGBM counts rows for min_data_in_leaf, so the trees may differ in small leaves; the root split does not.
    assert [fit.booster.dump_model()["tree_info"][0]["tree_structure"]["split_feature"] for fit in fits] == [0, 0]
    unit = training.Rows(matrix, labels, weights * 1e-6, [])
    other_unit = training.fit_finally(LIGHTGBM, [(candidate, 20)], unit)[0]
    same = training.fit_finally(LIGHTGBM, [(candidate, 20)], weighted)[0]
    np.testing.assert_allclose(recovered(other_unit, matrix), recovered(same, matrix), rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_cross_entropy_is_lightgbms_own(classes: int) -> None:
    """It trains what LightGBM's built-in objectives train."""
    generator = np.random.default_rng(8)
    matrix = generator.normal(size=(2000, 4))
    labels = (generator.random(2000) < 1 / (1 + np.exp(2 - matrix[:, 0]))).astype(int)
    if classes == 3:
        labels *= 1 + (matrix[:, 1] > 0.5)
    rows = training.Rows(matrix, labels, None, [], classes)
    ours = training.fit_finally(LIGHTGBM, [(CROSS_ENTROPY, 30)], rows)
    parameters = LIGHTGBM.engine.params(LIGHTGBM.task(CROSS_ENTROPY, rows, 30))
    parameters |= {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": 3}
    theirs = lightgbm.train(parameters, lightgbm.Dataset(matrix, labels), 30)
    np.testing.assert_allclose(recovered(ours[0], matrix), theirs.predict(matrix), rtol=1e-6)


def test_rows_without_label_or_weight_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = made_table(600).with_columns(
        event=pl.when(pl.int_range(pl.len()) < 30).then(None).otherwise(pl.col("event").cast(pl.String)),
        weight=pl.when(pl.int_range(pl.len()) >= 560).then(0).otherwise(pl.col("weight")),
    )
    table.write_csv(tmp_path / "table.csv")
    assert fit(tmp_path / "table.csv", tmp_path / "model", "--weight", "weight") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "30 rows without a label are left out" in said
    assert "40 rows of weight 0 are left out" in said
    facts = described(tmp_path / "model")
    assert sum(facts["fit"]["rows"].values()) == 600 - 30 - 40
    assert "weight" not in [column["name"] for column in facts["columns"]]


@pytest.mark.parametrize(
    ("values", "given", "positive"),
    [
        (["no", "yes"], None, "yes"),
        (["no", "yes"], "no", "no"),
        (["False", "True"], "true", "true"),
        (["0", "1"], "1.0", "1"),
        (["-1.0", "1.0"], None, "1"),
        (["7", "7.5"], "7", "7"),
    ],
)
def test_positive_class(tmp_path: Path, values: list[str], given: str | None, positive: str) -> None:
    rare = np.arange(100) % 5 == 0
    pl.DataFrame({"x": np.arange(100), "y": np.where(rare, values[1], values[0])}).write_csv(tmp_path / "t.csv")
    sample = read_sample(open_table(tmp_path / "t.csv"), Roles("y", given))
    assert sample.target.positive == positive
    assert sample.labels.sum() == (80 if given is not None and positive in ("no", "7") else 20)


def test_tables_too_small_to_split_give_the_prior(tmp_path: Path) -> None:
    pl.DataFrame({"x": np.arange(40), "y": np.arange(40) % 4 == 0}).write_csv(tmp_path / "t.csv")
    assert fit(tmp_path / "t.csv", tmp_path / "model", target="y") == 0
    assert predict(tmp_path / "model", tmp_path / "t.csv", tmp_path / "scores.csv") == 0
    probabilities, read = pl.read_csv(tmp_path / "scores.csv")["probability"], read_model(tmp_path / "model")
    assert read.prior == 8 / 32
    margins = read.booster.predict(np.arange(40.0)[:, None], raw_score=True) + read.init_score
    np.testing.assert_allclose(read.loss.posterior(margins), read.prior, rtol=1e-9)
    assert probabilities.n_unique() == 1
    np.testing.assert_allclose(probabilities, read.prior, rtol=0.05)  # calibrated


def test_tie_takes_the_last_class_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"x": np.arange(100) // 2, "y": ["a", "b"] * 50}).write_csv(tmp_path / "t.csv")
    assert fit(tmp_path / "t.csv", tmp_path / "model", target="y") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "positive is 'b'" in said
    assert "both are equally frequent" in said


def test_columns_of_other_types_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = made_table(400).with_columns(lists=pl.concat_list("x", "z"), bytes=pl.lit(b"b"), nothing=pl.lit(None))
    table.write_parquet(tmp_path / "t.parquet")
    assert fit(tmp_path / "t.parquet", tmp_path / "model") == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"left out lists (of type List)", "left out bytes (of type Binary)"} <= set(said)
    assert "left out unit, nothing (constant)" in said


def test_a_few_words_among_numbers_are_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [str(number % 40) for number in range(200)]
    values[3] = "tall"
    pl.DataFrame({"x": values, "y": np.arange(200) % 4 == 0}).write_csv(tmp_path / "t.csv")
    assert fit(tmp_path / "t.csv", tmp_path / "model", target="y") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "x: taken for text, not for numbers, because of 'tall' in 1 row" in said


@pytest.mark.full
def test_names_with_quotes_and_commas(folder: Path, tmp_path: Path) -> None:
    table = made_table().rename({"x": 'x "q"', "town": "town, state "})
    table.write_csv(tmp_path / "t.csv")
    table.write_parquet(tmp_path / "t.parquet")
    for kind in ("csv", "parquet"):
        assert fit(tmp_path / f"t.{kind}", tmp_path / kind) == 0
    assert (tmp_path / "csv" / "model.txt").read_bytes() == (tmp_path / "parquet" / "model.txt").read_bytes()
    # The names do not matter to the trees.
    ours, theirs = (trees_of(model / "model.txt") for model in (tmp_path / "csv", folder / "model"))
    assert ours == theirs


def trees_of(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").partition("end of trees")[0].splitlines()
    return [line for line in lines if not line.startswith("feature_names=")]


def test_the_best_focal_loss_reaches_the_final_test(folder: Path) -> None:
    facts = described(folder / "model")["fit"]
    assert {"cross-entropy", "focal (gamma 2, alpha 0.25), raw", "focal (gamma 2, alpha 0.25), recovered"} <= set(
        facts["final_test"]
    )
    assert "focal" in facts["verdict"]
    assert facts["winner"] in facts["verdict"].lower()


@pytest.mark.parametrize("weight", tiers([5e-324, 1e300], [5e-324]))
def test_only_the_ratios_of_weights_count(folder: Path, tmp_path: Path, weight: float) -> None:
    made_table().with_columns(weight=pl.lit(weight)).write_parquet(tmp_path / "t.parquet")
    made_table().with_columns(weight=pl.lit(1.0)).write_parquet(tmp_path / "one.parquet")
    for name in ("t", "one"):
        assert fit(tmp_path / f"{name}.parquet", tmp_path / name, "--weight", "weight") == 0
    assert (tmp_path / "t" / "model.txt").read_bytes() == (tmp_path / "one" / "model.txt").read_bytes()
