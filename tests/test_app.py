"""`parfocal fit` and `parfocal predict`, from files to files."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from parfocal import engines, objectives
from parfocal.app import fitting, main, predicting
from parfocal.app.data.columns import convert, encode
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import read_sample
from parfocal.app.data.splits import split_by_class
from parfocal.app.data.tables import open_table
from parfocal.app.model import scoring
from parfocal.app.model.saved import read_model
from parfocal.app.options import Metric
from parfocal.app.study import study, training, trials
from parfocal.app.study.candidates import CROSS_ENTROPY, Candidate
from parfocal.app.study.trials import Trial
from parfocal.app.tell import plots
from tiers import tiers

LIGHTGBM = training.Training(engines.ENGINES["lightgbm"], seed=0)
QUICK = ("--gamma", "2", "--alpha", "0.25")  # three candidates with trees, and logistic regression


def made_table(rows: int = 1200, seed: int = 0) -> pl.DataFrame:
    """A rare event that trees find and no linear model; every kind of column, and columns that must be left out."""
    generator = np.random.default_rng(seed)
    x, z = generator.normal(size=(2, rows))
    town = generator.choice(["Bonn", "Oslo", "Rome"], size=rows, p=[0.5, 0.3, 0.2])
    event = generator.random(rows) < 1 / (1 + np.exp(4 - 4 * (np.abs(x) > 1.2) - 2 * (town == "Oslo") * z))
    hours = np.sort(generator.integers(0, 24 * 200, size=rows))
    missing = generator.random(rows) < 0.1
    return pl.DataFrame(
        {
            "x": np.where(missing, np.nan, x),
            "z": z,
            "town": town,
            "member": generator.random(rows) < 0.5,
            "born": pl.select(pl.date(1990, 1, 1) + pl.duration(days=pl.Series(generator.integers(0, 9000, rows)))),
            "at": pl.select(pl.datetime(2020, 1, 1) + pl.duration(hours=pl.Series(hours))),
            "unit": "kg",
            "name": [f"person {number}" for number in range(rows)],
            "weight": generator.integers(1, 4, size=rows),
            "event": event,
        }
    ).with_columns(pl.col("x").fill_nan(None))


DRAWN = plots.draw_report  # a second


@pytest.fixture(scope="module", autouse=True)
def impatience() -> Iterator[None]:
    """A few rounds and no picture do for all but the tests that ask for `patience` or `pictures`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "PATIENCE", 5)
        patched.setattr(training, "MOST_ROUNDS", 25)
        patched.setattr(plots, "draw_report", lambda *_: b"no picture")
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_report", DRAWN)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PATIENCE", 50)
    monkeypatch.setattr(training, "MOST_ROUNDS", 500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made table as CSV and Parquet, and a model for it."""
    folder = tmp_path_factory.mktemp("app")
    table = made_table()
    table.write_csv(folder / "table.csv")
    table.write_parquet(folder / "table.parquet")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "draw_report", DRAWN)
        assert fit(folder / "table.csv", folder / "model") == 0
    return folder


def fit(table: Path, out: Path, *more: str, target: str = "event") -> int:
    return main(["fit", str(table), "--target", target, "--out", str(out), *QUICK, *more])


def predict(folder: Path, table: Path, out: Path, *more: str) -> int:
    return main(["predict", str(folder), str(table), "--out", str(out), *more])


def recovered(final: training.FinalFit, matrix: np.ndarray) -> np.ndarray:
    """Its probabilities before any calibration."""
    return np.asarray(final.loss.posterior(final.margins(matrix)))


def choosing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the candidate of that name win, whatever it reached."""

    def choose(contest: Sequence[Trial], select: Metric) -> Trial:
        return max((trial for trial in contest if trial.candidate.name == name), key=lambda trial: trial.mean(select))

    monkeypatch.setattr(study, "choose", choose)
    monkeypatch.setattr(trials, "RACE_ERRORS", np.inf)  # it must not be dropped


def described(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"model.json is no strict JSON: it holds {constant}")

    return json.loads((folder / "model.json").read_text(encoding="utf-8"), parse_constant=refuse)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def is_plain(candidate: dict[str, Any]) -> bool:
    return candidate["gamma"] == candidate["balance"] == 0 and candidate["alpha"] is None


# -- fit -------------------------------------------------------------------------------------------


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
    assert "born %Y-%m-%d as month, weekday, days" in " ".join(lines)
    assert "at %Y-%m-%dT%H:%M:%S%.f as month, weekday, hour, days" in " ".join(lines)
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
    assert sorted(path.name for path in (folder / "model").iterdir()) == ["model.json", "model.txt", "report.png"]
    assert (folder / "model" / "report.png").read_bytes().startswith(b"\x89PNG")
    facts = described(folder / "model")
    assert (facts["format"], facts["target"], facts["classes"]) == (3, "event", ["false", "true"])
    assert [column["name"] for column in facts["columns"]] == ["x", "z", "town", "member", "born", "at", "weight"]
    assert facts["columns"][2]["categories"] == ["Bonn", "Oslo", "Rome"]  # the most frequent first
    assert facts["rounds"] >= 1
    assert 0 < facts["threshold"] < 1
    loss = objectives.focal_loss(None, facts["gamma"], facts["alpha"], from_logits=True)
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
    parameters = engines.lightgbm.lightgbm_params(LIGHTGBM.task(CROSS_ENTROPY, rows, 30))
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


# -- predict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["focal (gamma 2, alpha 0.25)", "balanced cross-entropy", "logistic regression"])
def test_predict_equals_the_model_in_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    choosing(monkeypatch, name)
    studies: list[study.Study] = []
    monkeypatch.setattr(fitting, "study", lambda *given: studies.append(study.study(*given)) or studies[0])
    assert fit(folder / "table.parquet", tmp_path / "model") == 0
    assert predict(tmp_path / "model", folder / "table.parquet", tmp_path / "scores.parquet") == 0
    scored = pl.read_parquet(tmp_path / "scores.parquet")["probability"].to_numpy()
    table, read = made_table(), read_model(tmp_path / "model")
    test = split_by_class(table["event"].cast(pl.Float64).to_numpy(), seed=0).test
    matrix = np.stack(
        [part for column in read.columns for part in encode(convert(table[column.name], column).values, column)], axis=1
    )
    winner = studies[0].winner
    assert winner.candidate.name == described(tmp_path / "model")["fit"]["winner"] == name
    np.testing.assert_array_equal(scored[test], winner.probabilities)
    logits = np.asarray(winner.fit.loss.posterior_logit(winner.fit.margins(matrix[test])))
    np.testing.assert_array_equal(scored[test], winner.calibrator.posterior(logits))
    assert np.abs(scored[test] - recovered(winner.fit, matrix[test])).max() > 1e-3  # calibrating does something
    assert scored.mean() == pytest.approx(table["event"].mean(), rel=0.15)


def test_chunks_give_the_same_bits_as_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = []
    for chunk in (10**6, 100):
        monkeypatch.setattr(scoring, "CHUNK", chunk)
        for ending in ("csv", "parquet"):
            out = tmp_path / f"scores{len(outputs)}.csv"
            assert predict(folder / "model", folder / f"table.{ending}", out, "--keep", "z") == 0
            outputs.append(out.read_bytes())
    assert len(set(outputs)) == 1


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_output(folder: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"scores.{ending}"
    assert (
        predict(folder / "model", folder / "table.csv", out, "--keep", "name", "--keep", "town", "--keep", "name") == 0
    )
    read = {"csv": pl.read_csv, "tsv": lambda path: pl.read_csv(path, separator="\t"), "parquet": pl.read_parquet}
    scores = read[ending](out)
    assert scores.columns == ["name", "town", "probability", "decision"]
    assert scores.dtypes == [pl.String, pl.String, pl.Float64, pl.Boolean]
    assert scores["name"].equals(made_table()["name"])
    assert scores["probability"].is_between(0, 1).all()
    threshold = described(folder / "model")["threshold"]
    assert (scores["decision"] == (scores["probability"] >= threshold)).all()
    said = capsys.readouterr().out
    assert f"1,200 rows scored, mean probability {scores['probability'].mean():.4g}" in said
    assert f"{scores['decision'].sum():,} rows (" in said
    assert left_behind(tmp_path) == []


def test_target_need_not_be_present_and_kept_text_is_untouched(folder: Path, tmp_path: Path) -> None:
    table = made_table(50).drop("event", "unit").with_columns(code=pl.lit("007"))
    table.write_csv(tmp_path / "new.csv")
    assert predict(folder / "model", tmp_path / "new.csv", tmp_path / "scores.csv", "--keep", "code") == 0
    assert (tmp_path / "scores.csv").read_text().splitlines()[1].startswith("007,")


def test_unknown_categories_are_counted_and_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = made_table()
    outputs = []
    for unknown in ("Atlantis", None):
        town = pl.when(pl.int_range(pl.len()) < 7).then(pl.lit(unknown, dtype=pl.String)).otherwise("town")
        table.with_columns(town=town).write_csv(tmp_path / "new.csv")
        assert predict(folder / "model", tmp_path / "new.csv", tmp_path / "scores.csv", "--force") == 0
        outputs.append((tmp_path / "scores.csv").read_bytes())
        said = capsys.readouterr().out
        assert ("town: 7 rows with an unknown category, treated as missing" in said) == (unknown is not None)
    assert outputs[0] == outputs[1]


def test_packed_semicolon_and_windows_tables(folder: Path, tmp_path: Path) -> None:
    plain = (folder / "table.csv").read_text()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(plain.encode()))
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + plain.replace(",", ";").replace("\n", "\r\n").encode())
    (tmp_path / "c.tsv").write_text(plain.replace(",", "\t"))
    expected = folder / "plain.csv"
    assert predict(folder / "model", folder / "table.csv", expected, "--force") == 0
    for name in ("a.csv.gz", "b.csv", "c.tsv"):
        assert predict(folder / "model", tmp_path / name, tmp_path / "scores.csv", "--force") == 0
        assert (tmp_path / "scores.csv").read_bytes() == expected.read_bytes()


# -- nothing is lost, nothing half done ------------------------------------------------------------


def test_existing_output_is_refused_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "model" / "model.json").stat().st_mtime_ns
    assert fit(folder / "no such table.csv", folder / "model") == 2
    assert "add --force" in capsys.readouterr().err  # and not that there is no such table
    assert (folder / "model" / "model.json").stat().st_mtime_ns == before


def test_force_replaces_models_and_empty_folders_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert fit(folder / "table.csv", out) == 2
    shutil.copytree(folder / "model", out, dirs_exist_ok=True)
    (out / "notes").touch()
    assert fit(folder / "table.csv", out, "--force") == 2
    assert (out / "notes").exists()
    (out / "notes").unlink()
    assert fit(folder / "table.csv", out, "--force") == 0
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.txt", "report.png"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text("{}")
    (tmp_path / "file").touch()
    capsys.readouterr()
    for name in ("precious", "other", "file"):
        assert fit(folder / "table.csv", tmp_path / name, "--force") == 2
        assert "is not a parfocal model" in capsys.readouterr().err
    assert (tmp_path / "precious" / "data").exists()


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, pytest.param(OSError(28, "No space left on device"), marks=pytest.mark.full)], ids=repr
)
def test_failure_while_writing_leaves_nothing_new(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    before = (tmp_path / "model" / "model.json").read_bytes()
    status = 130 if error is KeyboardInterrupt else 2

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fail)  # the picture, the last of the three files
        assert fit(folder / "table.csv", tmp_path / "model", "--force") == status
        assert fit(folder / "table.csv", tmp_path / "other") == status
    with monkeypatch.context() as patched:
        patched.setattr(predicting, "write_parts", fail)
        assert predict(folder / "model", folder / "table.csv", tmp_path / "scores.csv") == status
    assert capsys.readouterr().err.count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert (tmp_path / "model" / "model.json").read_bytes() == before


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "status"), tiers(SIGNALS, SIGNALS[:1]))
def test_signals_end_a_fit_and_leave_nothing(tmp_path: Path, number: int, status: int) -> None:
    made_table(100_000).write_parquet(tmp_path / "table.parquet")  # half a minute of fitting
    program = "import sys; from parfocal.app import main; sys.exit(main())"
    arguments = ["fit", "table.parquet", "--target", "event", "--out", "model"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("final test"):  # now the fits begin
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_failing_thread_stops_the_others() -> None:
    def work(job: int, stop: Any) -> int:
        if job == 3:
            raise ValueError("three")
        assert stop.wait(timeout=30)  # would wait for ever if nobody told it
        raise engines.Stopped

    with pytest.raises(ValueError, match="three"):
        training.in_threads(work, [3, 1])


# -- bad input -------------------------------------------------------------------------------------


def columns_of(**columns: Any) -> Callable[[Path], None]:
    return lambda path: pl.DataFrame(columns).write_csv(path)


def bytes_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


X = list(range(200))
Y = [number % 4 == 0 for number in X]
GOOD = columns_of(x=X, y=Y, t=X, c=["a", "b"] * 100)


@pytest.mark.parametrize(
    ("make", "name", "more", "says"),
    [
        (GOOD, "t.csv", ["--target", "why"], "--target: .* has no column 'why'; .*x, y"),
        (GOOD, "t.csv", ["--target", "Y"], "did you mean 'y'"),
        (GOOD, "t.csv", ["--drop", "q"], "--drop: .* has no column 'q'"),
        (GOOD, "t.csv", ["--weight", "q"], "--weight: .* has no column 'q'"),
        (GOOD, "t.csv", ["--time", "q"], "--time: .* has no column 'q'"),
        (GOOD, "t.csv", ["--time", "y"], "--time y: that is the target"),
        (GOOD, "t.csv", ["--weight", "y"], "--weight y: that is the target"),
        (GOOD, "t.csv", ["--drop", "y"], "--drop y: that is the target"),
        (GOOD, "t.csv", ["--weight", "x", "--time", "x"], "can't be both"),
        (GOOD, "t.csv", ["--drop", "x", "--drop", "t", "--drop", "c"], "no column is left to learn from"),
        (GOOD, "t.csv", ["--positive", "maybe"], "--positive maybe: .* 'false' and 'true'"),
        (GOOD, "t.csv", ["--gamma", "-1"], "--gamma -1: gamma must be a number from 0 to 50"),
        (GOOD, "t.csv", ["--gamma", "nan"], "--gamma nan"),
        (GOOD, "t.csv", ["--gamma", "inf"], "--gamma inf"),
        (GOOD, "t.csv", ["--gamma", "two"], "--gamma.* valid number"),
        (GOOD, "t.csv", ["--alpha", "0"], "--alpha 0: alpha must lie between 0 and 1"),
        (GOOD, "t.csv", ["--alpha", "1"], "--alpha 1"),
        (GOOD, "t.csv", ["--alpha", "nan"], "--alpha nan"),
        (GOOD, "t.csv", ["--select", "accuracy"], "accuracy"),
        (GOOD, "t.csv", ["--seed", "-1"], "--seed.* greater than or equal to 0"),
        (GOOD, "t.csv", ["--frobnicate"], "--frobnicate"),
        (GOOD, "t.csv", ["--weight", "c"], "--weight c: weights must be numbers; the column is a category"),
        (GOOD, "t.csv", ["--time", "c"], "--time c: times must be .* the column is a category"),
        (GOOD, "t.xlsx", [], "must end in .csv"),
        (GOOD, "t.csv", ["--out", "nowhere/model"], "there is no folder nowhere"),
        (columns_of(x=X, y=[True] * 200), "t.csv", [], "has one class only, 'true'"),
        (columns_of(x=X, y=[None] * 200), "t.csv", [], "has a label"),
        (
            columns_of(x=X, y=[min(n // 3, 2) for n in X]),
            "t.csv",
            [],
            "only 3 rows .'0'.; .* of each class .* join classes",
        ),
        (columns_of(x=X, y=[n % 3 for n in X]), "t.csv", ["--alpha", "0.3"], "--alpha is the weight .* has 3 classes"),
        (columns_of(x=X, y=[n % 3 for n in X]), "t.csv", ["--positive", "3"], "no such class; .* '0', '1', '2'"),
        (columns_of(x=X, y=[n % 3 for n in X]), "t.csv", ["--engine", "catboost"], "takes hours; use .* --positive"),
        (GOOD, "t.csv", ["--engine", "sklearn"], "--engine.*'lightgbm', 'xgboost', 'catboost', 'linear'"),
        (GOOD, "t.csv", ["--budget", "5"], "--budget 5: give a time such as 90s, 5m or 1h30m"),
        (GOOD, "t.csv", ["--budget", "5m", "--gamma", "2"], "--budget and --gamma: .* leave one of the two out"),
        (columns_of(x=X, y=[n / 7 for n in X]), "t.csv", [], "has 200 classes .*fits at most 100; if it is a quantity"),
        (columns_of(x=X, y=[n < 7 for n in X]), "t.csv", [], "only 7 positive rows .* at least 8"),
        (columns_of(x=X, y=[n > 5 for n in X]), "t.csv", ["--positive", "true"], "only 6 negative rows"),
        (columns_of(y=Y), "t.csv", [], "no column is left to learn from"),
        (columns_of(x=[1] * 200, y=Y), "t.csv", [], "no column is left to learn from; left out: x .constant."),
        (columns_of(x=X, y=Y, w=[-1, *X[1:]]), "t.csv", ["--weight", "w"], "1 weight below 0 .first: -1"),
        (columns_of(x=X, y=Y, w=[None, *X[1:]]), "t.csv", ["--weight", "w"], "1 row without a weight"),
        (columns_of(x=X, y=Y, w=[0] * 200), "t.csv", ["--weight", "w"], "all weights are 0"),
        (columns_of(x=X, y=Y, t=[None, *X[1:]]), "t.csv", ["--time", "t"], "1 row without a time"),
        (columns_of(x=X, y=Y, t=[1] * 200), "t.csv", ["--time", "t"], "all times are equal"),
        (
            columns_of(x=[n >= 150 for n in X], y=Y, t=X),  # x is constant before the final test
            "t.csv",
            ["--time", "t", "--drop", "t"],
            "the columns are constant in the 150 rows to train on; use more rows, or other columns",
        ),
        (GOOD, "t.csv", ["--fast", "--budget", "5m"], "--budget and --fast: one spends more time, the other less"),
        (bytes_of(b""), "t.csv", [], r"is empty \(0 bytes\)"),
        (bytes_of(b""), "t.parquet", [], r"is empty \(0 bytes\)"),
        (bytes_of(b"x,y\n"), "t.csv", [], "has column names but no rows"),
        (bytes_of(b"x,y"), "t.csv", [], "has column names but no rows"),
        (bytes_of(b"\n\n"), "t.csv", [], "not a CSV"),
        (bytes_of(b"x,y,x\n1,2,3\n"), "t.csv", [], "column names must differ; 'x' is there more than once"),
        (bytes_of(b"x,y\n1,2\n1,2,3\n"), "t.csv", [], "line 3 has 3 fields, and the head has 2 column names"),
        (bytes_of("x,y\n1,é\n".encode("latin-1")), "t.csv", [], "not a CSV file in UTF-8"),
        (
            bytes_of(b"x,y\n" + b"1,2\n" * 9999 + "1,é\n".encode("latin-1")),
            "t.csv",
            [],
            "not a CSV file in UTF-8: .* position 40002",
        ),
        (bytes_of("é,y\n1,2\n".encode("latin-1")), "t.csv", [], "not a CSV file in UTF-8"),
        (bytes_of(np.random.default_rng(0).bytes(5000)), "t.csv", [], "not a CSV"),
        (bytes_of(b"\0" * 1000), "t.csv", [], "not a CSV"),
        (bytes_of(b'"x,y\n1,2\n' * 50), "t.csv", [], "CSV|column"),
        (bytes_of(b"\x1f\x8b" + b"x" * 100), "t.csv.gz", [], "not a CSV"),
        (bytes_of(gzip.compress(b"x,y\n1,2\n" * 900)[:40]), "t.csv.gz", [], "CSV"),
        (bytes_of(b"x,y\n1,2\n"), "t.parquet", [], "not a Parquet file"),
        (bytes_of(b"PAR1" + b"\0" * 100 + b"PAR1"), "t.parquet", [], "not a Parquet file"),
    ],
)
def test_bad_input_is_one_line(
    make: Callable[[Path], None],
    name: str,
    more: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    given = ["fit", name, "--target", "y", "--out", "model"]
    assert main([*given, *more]) == 2
    said = capfd.readouterr()
    assert said.err.startswith("parfocal: ")
    assert said.err.count("\n") == 1, said.err
    assert pl.Series([said.err]).str.contains(f"(?i){says}").all(), said.err
    assert os.listdir() == [name]


def test_no_such_table_and_folders_as_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "none.csv", tmp_path / "model") == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "folder.csv").mkdir()
    assert fit(tmp_path / "folder.csv", tmp_path / "model") == 2
    assert "is a folder" in capsys.readouterr().err


def test_trouble_with_the_system_names_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(study, "open_table", refuse)
    assert fit(folder / "table.csv", tmp_path / "model") == 2
    assert capsys.readouterr().err == f"parfocal: {folder / 'table.csv'}: Permission denied\n"


def test_all_problems_of_a_table_are_told_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 100)
    table = made_table().with_columns(
        x=pl.when(pl.int_range(pl.len()) % 300 == 299).then(pl.lit("tall")).otherwise(pl.lit("1")),
        member=pl.when(pl.int_range(pl.len()) == 1000).then(pl.lit("perhaps")).otherwise(pl.lit("true")),
    )
    table.drop("z", "town").write_csv(tmp_path / "new.csv")
    assert predict(folder / "model", tmp_path / "new.csv", tmp_path / "scores.csv") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "columns 'z', 'town' missing" in said
    assert "column 'x' must be a number, but in 4 rows it is not (first: 'tall')" in said
    assert "column 'member' must be a boolean, but in 1 row it is not (first: 'perhaps')" in said
    table.drop("z").write_parquet(tmp_path / "new.parquet")
    assert predict(folder / "model", tmp_path / "new.parquet", tmp_path / "scores.csv") == 2
    said = capsys.readouterr().err
    assert "column 'z' missing" in said
    assert "column 'x' must be a number, it is String" in said
    assert "column 'member' must be a boolean, it is String" in said
    assert [path.name for path in tmp_path.iterdir() if "scores" in path.name] == []


def test_predict_does_not_write_over_its_own_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_bytes((folder / "table.csv").read_bytes())
    assert predict(folder / "model", mine, mine, "--force") == 2
    assert "is the table itself" in capsys.readouterr().err
    assert mine.read_bytes() == (folder / "table.csv").read_bytes()


def test_a_line_with_too_many_fields_is_refused_by_both(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    lines[700] = "1,5," + lines[700].partition(",")[2]
    (tmp_path / "shifted.csv").write_text("\n".join(lines) + "\n")
    assert fit(tmp_path / "shifted.csv", tmp_path / "model") == 2
    assert predict(folder / "model", tmp_path / "shifted.csv", tmp_path / "scores.csv") == 2
    assert capsys.readouterr().err.count("shifted.csv, line 701 has 11 fields, and the head has 10") == 2


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


def edit(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, **changes}))


def delete_booster(folder: Path) -> None:
    (folder / "model.txt").unlink()


def cut_booster(folder: Path) -> None:
    (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes()[:-500])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "model.json").unlink(), "is not a parfocal model"),
        (lambda folder: (folder / "model.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "model.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "model.json").write_text('{"format": 1}'), "damaged"),
        (lambda folder: edit(folder, format=4), "has the model format 4"),
        (lambda folder: edit(folder, columns=[{"name": "x"}]), "damaged"),
        (lambda folder: edit(folder, gamma="two"), "damaged"),
        (lambda folder: edit(folder, gamma=True), "damaged"),
        (lambda folder: edit(folder, init_score=float("inf")), "damaged"),
        (lambda folder: edit(folder, format=-5), "has the model format -5"),
        (lambda folder: edit(folder, classes=["false", None]), "damaged"),
        (lambda folder: edit(folder, classes=["false"]), "damaged"),
        (lambda folder: edit(folder, classes=["a", "b", "c"]), "damaged"),
        (lambda folder: edit(folder, engine="sklearn"), "damaged"),
        (lambda folder: edit(folder, threshold=None), "damaged"),
        (lambda folder: edit(folder, alpha=[1.0, 2.0]), "damaged"),
        (lambda folder: edit(folder, columns=[{**c, "kind": "x"} for c in described(folder)["columns"]]), "damaged"),
        (lambda folder: edit(folder, columns=described(folder)["columns"][:1] * 2), "damaged"),
        (lambda folder: (folder / "model.json").write_text("[" * 100_000), "damaged"),
        (lambda folder: edit(folder, calibration={"temperature": 1.0}), "model.json has no 'bias'"),
        (lambda folder: edit(folder, calibration={"temperature": 0.0, "bias": 0.0}), "temperature 0.0 is not above 0"),
        (lambda folder: edit(folder, calibration={"temperature": -1.0, "bias": 0.0}), "temperature -1.0 is not above"),
        (
            lambda folder: edit(folder, calibration={"temperature": "1", "bias": 0.0}),
            "temperature is '1', not a number",
        ),
        (lambda folder: edit(folder, calibration={"temperature": 1.0, "bias": [0.0]}), "bias must be a number"),
        (lambda folder: edit(folder, calibration={"temperature": 1.0, "bias": None}), "bias is None, not a number"),
        (lambda folder: edit(folder, calibration={"temperature": 1.0, "bias": float("nan")}), "bias is nan, not a"),
        (lambda folder: edit(folder, calibration=[1.0, 0.0]), "damaged"),
        (delete_booster, "damaged"),
        (cut_booster, "damaged"),
    ],
)
def test_damaged_models(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    says: str,
) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(folder / "model", damaged)
    damage(damaged)
    assert predict(damaged, folder / "table.csv", tmp_path / "scores.csv") == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("table", "out", "more", "says"),
    [
        ("table.csv", "scores.xlsx", [], "must end in .csv, .tsv or .parquet"),
        ("table.csv", "scores.csv", ["--keep", "nome"], "did you mean 'name'"),
        ("clash.csv", "scores.csv", ["--keep", "probability"], "predict writes a column of that name"),
        ("lists.parquet", "scores.csv", ["--keep", "lists"], "a CSV can't hold"),
        ("none.csv", "scores.csv", [], "there is no file"),
        ("header.csv", "scores.csv", [], "no rows"),
        ("table.csv", "table.parquet", [], "add --force"),
        ("table.csv", "model", ["--force"], "is not a file"),
    ],
)
def test_bad_predictions(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    table: str,
    out: str,
    more: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(folder)
    made_table().with_columns(probability=0.5).write_csv("clash.csv")
    made_table().with_columns(lists=pl.concat_list("x")).write_parquet("lists.parquet")
    made_table(0).write_csv("header.csv")
    before = sorted(os.listdir())
    assert predict(Path("model"), Path(table), Path(out), *more) == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("parfocal ")
    for arguments in ([], ["--help"], ["fit", "--help"], ["predict", "--help"]):
        assert main(arguments) == 0
        assert "Usage: parfocal" in capsys.readouterr().out
    assert main(["fit", "t.csv"]) == 2
    assert "Missing option '--target'" in capsys.readouterr().err


def test_a_bug_of_ours_is_one_line_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(study, "read_sample", fail)
    assert fit(folder / "table.csv", tmp_path / "model") == 1
    said = capsys.readouterr().err
    assert "internal error, please report it: ZeroDivisionError: oops" in said
    assert said.count("\n") == 1


@pytest.mark.full
def test_a_reader_that_leaves_does_not_stop_the_fit(folder: Path, tmp_path: Path) -> None:
    """`parfocal fit ... | head -1`"""
    command = "import sys; from parfocal.app import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["fit", str(folder / "table.csv"), "--target", "event", "--out", str(tmp_path / "model"), *QUICK]
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
    assert (tmp_path / "model" / "model.json").is_file()
