"""`parfocal fit` and `predict` with more than two classes, on other engines, and with a time budget."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss

from app_fits import DRAWN, choosing, described, few_rounds, fit, is_plain, made_table, predict, recovered
from parfocal.app import main
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import read_sample
from parfocal.app.data.splits import split_by_class
from parfocal.app.data.tables import open_table
from parfocal.app.model.saved import read_model
from parfocal.app.study import training, trials
from parfocal.app.study.candidates import CROSS_ENTROPY, Candidate, Settings, candidates
from parfocal.app.tell import plots
from parfocal.boosters import ENGINES, Stopped

CLASSES = ["cold", "hot", "mild"]


def table_of_classes(rows: int = 1200) -> pl.DataFrame:
    """The event of `made_table`, hot or cold by z."""
    table = made_table(rows)
    kind = np.where(table["event"], np.where(table["z"] > 0, "hot", "cold"), "mild")
    return table.drop("event").with_columns(kind=pl.Series(kind))


impatience = few_rounds(8, 30)  # three classes are three trees a round


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of three classes as CSV and Parquet, its model, and its scores."""
    folder = tmp_path_factory.mktemp("classes")
    table = table_of_classes()
    table.write_csv(folder / "table.csv")
    table.write_parquet(folder / "table.parquet")
    given = ["fit", str(folder / "table.csv"), "--target", "kind", "--out", str(folder / "model"), "--gamma", "2"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "draw_report", DRAWN)
        patched.setattr(trials, "RACE_ERRORS", np.inf)  # all candidates stay
        assert main(given) == 0
    assert predict(folder / "model", folder / "table.parquet", folder / "scores.parquet", "--keep", "kind") == 0
    return folder


def test_each_class_has_a_probability(folder: Path) -> None:
    scores = pl.read_parquet(folder / "scores.parquet")
    names = [f"probability_{name}" for name in CLASSES]
    assert scores.columns == ["kind", *names, "decision"]
    probabilities = scores.select(names).to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert scores["decision"].to_list() == [CLASSES[place] for place in probabilities.argmax(axis=1)]
    shares = [(scores["kind"] == name).mean() for name in CLASSES]
    np.testing.assert_allclose(probabilities.mean(axis=0), shares, rtol=0.25)
    labels = scores["kind"].to_list()
    assert log_loss(labels, probabilities) < 0.8 * log_loss(labels, np.tile(shares, (len(labels), 1)))


def test_the_folder_of_classes(folder: Path) -> None:
    facts = described(folder / "model")
    assert (facts["format"], facts["engine"], facts["classes"]) == (4, "lightgbm", CLASSES)
    assert facts["threshold"] is None
    assert len(facts["init_score"]) == 3
    assert sum(facts["prior"]) == pytest.approx(1)
    names = [candidate["name"] for candidate in facts["fit"]["candidates"]]
    assert sorted(set(names)) == sorted(candidate.name for candidate in candidates([2.0], (), 3))
    assert len(names) == 4 + 3  # penalties of the logistic regression
    assert len(facts["calibration"]["bias"]) == 3
    assert sum(facts["calibration"]["bias"]) == pytest.approx(0, abs=1e-12)
    distorted = [candidate for candidate in facts["fit"]["candidates"] if not is_plain(candidate)]
    assert len(distorted) == 3
    for candidate in distorted:
        for metric in ("log_loss", "brier"):
            assert np.mean(candidate["recovered"][metric]) < np.mean(candidate["raw"][metric])
    by_class = facts["fit"]["by_class"]["cross-entropy"]
    assert list(by_class) == CLASSES
    assert sum(result["rows"] for result in by_class.values()) == facts["fit"]["rows"]["final_test"]
    macro = np.mean([result["average_precision"] for result in by_class.values()])
    assert macro == pytest.approx(facts["fit"]["final_test"]["cross-entropy, calibrated"]["average_precision"])


def test_classes_are_reported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--target", "kind", "--gamma", "1", "--time", "at"]
    assert main(["fit", str(folder / "table.csv"), "--out", str(tmp_path / "model"), *given]) == 0
    said = capsys.readouterr().out
    table = table_of_classes()
    lines = " ".join(said.split())
    assert f"kind: 3 classes, 'cold' {(table['kind'] == 'cold').sum()} rows" in lines
    for name in CLASSES:
        assert f"\n   {name}: " in said
    assert "means over the classes, each against the rest" in lines
    assert "most-probable: each row gets the most probable class." in said
    assert max(map(len, said[: said.index("Wrote ")].splitlines())) <= 80
    assert predict(tmp_path / "model", folder / "table.csv", tmp_path / "scores.csv") == 0
    assert "each row gets the most probable class:\n  cold: " in capsys.readouterr().out


def test_one_class_against_the_rest(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = read_sample(open_table(folder / "table.csv"), Roles("kind", "hot"))
    assert sample.target.classes == ("any but hot", "hot")
    np.testing.assert_array_equal(sample.labels, table_of_classes()["kind"].to_numpy() == "hot")
    assert fit(folder / "table.csv", tmp_path / "model", "--positive", "hot", target="kind") == 0
    assert "positive is 'hot'" in capsys.readouterr().out
    assert predict(tmp_path / "model", folder / "table.csv", tmp_path / "scores.csv") == 0
    assert pl.read_csv(tmp_path / "scores.csv").columns == ["probability", "decision"]


def test_classes_by_number_are_in_their_order(tmp_path: Path) -> None:
    pl.DataFrame({"x": np.arange(300), "y": 2 + np.arange(300) % 10 * 1.0}).write_parquet(tmp_path / "t.parquet")
    sample = read_sample(open_table(tmp_path / "t.parquet"), Roles("y"))
    assert sample.target.classes == tuple(str(number) for number in range(2, 12))
    np.testing.assert_array_equal(sample.labels, np.arange(300) % 10)


def test_a_kept_column_of_the_name_of_a_probability_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table_of_classes().with_columns(probability_hot=0.5).write_csv(tmp_path / "t.csv")
    more = ["--keep", "probability_hot"]
    assert predict(folder / "model", tmp_path / "t.csv", tmp_path / "scores.csv", *more) == 2
    assert "predict writes a column of that name" in capsys.readouterr().err


@pytest.mark.full
def test_classes_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody takes them for markup or for mathematics."""
    monkeypatch.setattr(plots, "draw_report", DRAWN)
    names = ["[/b]é, 'x'", "[red]x", "a$\\alpha_{$b"]
    table = table_of_classes(900).with_columns(pl.col("kind").replace(dict(zip(CLASSES, names, strict=True))))
    table.rename({"kind": "[kind] $\\alpha_{$"}).write_csv(tmp_path / "t.csv")
    target = "[kind] $\\alpha_{$"
    given = ["fit", str(tmp_path / "t.csv"), "--target", target, "--gamma", "1", "--drop", "name"]
    for more in ([], ["--positive", names[1]]):
        assert main([*given, *more, "--out", str(tmp_path / f"model{len(more)}")]) == 0
        said = capsys.readouterr().out
        assert f"  {names[1]}: " in said
    assert predict(tmp_path / "model0", tmp_path / "t.csv", tmp_path / "scores.csv") == 0
    assert pl.read_csv(tmp_path / "scores.csv").columns == [*(f"probability_{name}" for name in names), "decision"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": [*CLASSES, "more"]}, "init_score must be 4 numbers"),
        (
            {
                "classes": [*CLASSES, "more"],
                "prior": [0.25] * 4,
                "init_score": [0.0] * 4,
                "alpha": None,
                "calibration": None,
            },
            "num_class is '3', and must be 4",
        ),
        ({"calibration": {"temperature": 1.0, "bias": [0.0] * 2}}, "bias must be 3 numbers"),
        ({"calibration": {"temperature": 1.0, "bias": 0.0}}, "bias must be 3 numbers"),
        ({"classes": "abc"}, "two different classes"),
        ({"prior": [-1, 1, 1]}, "not hold shares of classes"),
        ({"prior": [0.3, 0.3, 0.3]}, "not hold shares of classes"),
        ({"init_score": [1e308, 0, 0]}, "init_score"),
        ({"engine": "nope"}, "engine is 'nope'; it must be one of lightgbm, xgboost, catboost"),
        ({"engine": ["lightgbm"]}, "it must be one of lightgbm"),
        ({"threshold": 0.5}, "more have none"),
    ],
)
def test_damaged_models_of_classes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], says: str
) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert predict(tmp_path / "model", folder / "table.csv", tmp_path / "scores.csv") == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


# -- engines ---------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize(
    ("engine", "target"), [("xgboost", "event"), ("xgboost", "kind"), ("catboost", "event"), ("lightgbm", "kind")]
)
def test_engines(engine: str, target: str, tmp_path: Path) -> None:
    """The final test's numbers come out again in a new process, from the files alone; the same seed, the same bits."""
    table = made_table(800) if target == "event" else table_of_classes()
    table.write_parquet(tmp_path / "table.parquet")
    given = ["fit", str(tmp_path / "table.parquet"), "--target", target, "--engine", engine, "--gamma", "1"]
    more = ["--alpha", "0.4"] if target == "event" else []
    for name in ("model", "again"):
        assert main([*given, *more, "--out", str(tmp_path / name)]) == 0
    facts = described(tmp_path / "model")
    file = ENGINES[engine].file
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(
        [file, "judged.parquet", "model.json", "report.html", "report.png"]
    )
    first, again = (read_model(tmp_path / name) for name in ("model", "again"))
    program = "import sys; from parfocal.app import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["predict", str(tmp_path / "model"), str(tmp_path / "table.parquet"), "--out", "scores.parquet"]
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, check=True, capture_output=True)
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    said = scores.select(pl.selectors.starts_with("probability")).to_numpy()
    sample = read_sample(open_table(tmp_path / "table.parquet"), Roles(target))
    test = split_by_class(sample.labels, 0).test
    labels = sample.labels[test]
    of_test = said[test, 0] if target == "event" else said[test]
    reported = next(
        scores for name, scores in facts["fit"]["final_test"].items() if name == f"{facts['fit']['winner']}, calibrated"
    )
    assert log_loss(labels, of_test) == pytest.approx(reported["log_loss"], rel=1e-12)
    matrix = sample.learn_categories(split_by_class(sample.labels, 0).training).matrix()
    np.testing.assert_array_equal(first.probabilities(matrix), again.probabilities(matrix))


@pytest.mark.parametrize("engine", ENGINES)
def test_categories_are_no_numbers(engine: str) -> None:
    """A label that depends on which of 40 codes a row has is found by one tree, though no threshold finds it."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 40, size=4000).astype(float)
    codes[::50] = np.nan
    matrix = np.stack([generator.normal(size=4000), codes], axis=1)
    labels = (np.nan_to_num(codes, nan=0) % 2).astype(int)
    found = []
    for categorical in ([1], []):
        rows = training.Rows(matrix, labels, None, categorical)
        settings = Settings(leaves=4)
        trainer = training.Training(ENGINES[engine], seed=0)
        final = training.fit_finally(trainer, [(Candidate(1.0, settings=settings), 8)], rows)[0]
        found.append(log_loss(labels, recovered(final, matrix)))
    assert found[0] < 0.9 * found[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_stops_when_asked(engine: str) -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(500, 3))
    rows = training.Rows(matrix, (matrix[:, 0] > 1).astype(int), None, [])
    rounds: list[int] = []

    def stop() -> bool:
        rounds.append(1)
        return len(rounds) == 3

    trainer = training.Training(ENGINES[engine], seed=0)
    with pytest.raises(Stopped):
        trainer.train(CROSS_ENTROPY, trainer.task(CROSS_ENTROPY, rows, 50, stop=stop))
    assert len(rounds) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_held_out_rows_are_judged_by_their_weights(engine: str) -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(400, 3))
    labels = (generator.random(400) < 1 / (1 + np.exp(1 - matrix[:, 0]))).astype(int)
    rows = training.Rows(matrix, labels, 1.0 + np.arange(400) % 3, [])
    held_out, seen = rows.part(np.arange(300, 400)), []

    def score(margins: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> float:
        seen.append((margins.shape, labels.copy(), None if weights is None else weights.copy()))
        return -len(seen)

    trainer = training.Training(ENGINES[engine], seed=0)
    given = {"held_out": held_out.scaled(), "score": score, "early_stopping_rounds": 2}
    task = trainer.task(Candidate(2.0), rows.part(np.arange(300)), 30, **given)
    assert task.max_delta_step == pytest.approx(1 / 3)
    trained = trainer.train(Candidate(2.0), task)
    assert trained.rounds == 1  # later ones were worse
    for shape, labels, weights in seen:
        assert shape == (100,)
        np.testing.assert_array_equal(labels, held_out.labels)
        np.testing.assert_allclose(weights, held_out.weights / held_out.weights.mean(), rtol=1e-6)


def test_numbers_that_float32_does_not_hold(tmp_path: Path) -> None:
    table = made_table(600).with_columns(x=pl.col("x") * 1e300)
    table.write_parquet(tmp_path / "t.parquet")
    assert fit(tmp_path / "t.parquet", tmp_path / "model", "--engine", "xgboost") == 0
    assert predict(tmp_path / "model", tmp_path / "t.parquet", tmp_path / "scores.csv") == 0


def test_settings_reach_every_engine() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(800, 3))
    labels = (generator.random(800) < 1 / (1 + np.exp(1 - matrix[:, 0]))).astype(int)
    rows = training.Rows(matrix, labels, None, [])
    for engine in ENGINES.values():
        said = []
        for change in ({}, {"learning_rate": 0.3}, {"leaves": 7}, {"l2": 30.0}, {"feature_share": 0.4}, {"bins": 8}):
            candidate = Candidate(1.0, settings=Settings(**change))
            trainer = training.Training(engine, seed=0)
            said.append(recovered(training.fit_finally(trainer, [(candidate, 10)], rows)[0], matrix))
        for other in said[1:]:
            assert np.abs(other - said[0]).max() > 1e-3, engine.name


def test_an_engine_that_is_not_installed_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    assert fit(folder / "table.csv", tmp_path / "model", "--engine", "xgboost", target="kind") == 2
    said = capsys.readouterr().err
    assert said.startswith("parfocal: --engine xgboost: engine='xgboost' needs the package xgboost; install it: ")


# -- models of before ------------------------------------------------------------------------------


def test_models_of_formats_1_and_2_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without calibration; and the first had LightGBM, two classes, and alpha always a number."""
    choosing(monkeypatch, "focal (gamma 2, alpha 0.25)")
    made_table().write_parquet(tmp_path / "table.parquet")
    assert fit(tmp_path / "table.parquet", tmp_path / "now") == 0
    facts = json.loads((tmp_path / "now" / "model.json").read_text())
    assert facts["alpha"] == 0.25
    second = {key: value for key, value in facts.items() if key != "calibration"} | {"format": 2}
    first = {key: value for key, value in second.items() if key not in ("classes", "engine")}
    first |= {"format": 1, "negative": "false", "positive": "true"}
    same = facts | {"calibration": {"temperature": 1.0, "bias": 0.0}}
    said = {}
    for name, description in (("now", facts), ("same", same), ("second", second), ("first", first)):
        if name != "now":
            shutil.copytree(tmp_path / "now", tmp_path / name)
        (tmp_path / name / "model.json").write_text(json.dumps(description))
        assert predict(tmp_path / name, tmp_path / "table.parquet", tmp_path / f"{name}.csv") == 0
        said[name] = pl.read_csv(tmp_path / f"{name}.csv")["probability"].to_numpy()
    np.testing.assert_array_equal(said["first"], said["second"])
    np.testing.assert_allclose(said["second"], said["same"], rtol=1e-12)
    assert np.abs(said["now"] - said["same"]).max() > 1e-3
