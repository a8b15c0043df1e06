"""The linear model of the command line: its features, its file, and fits that it wins."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.exceptions import ConvergenceWarning

from app_fits import described, predict
from parfocal import boosters
from parfocal.app import main
from parfocal.app.errors import BadInput
from parfocal.app.model import linear
from parfocal.app.model.saved import read_model
from parfocal.app.study import study, training
from parfocal.app.study.candidates import Candidate, Settings
from parfocal.app.tell import plots
from parfocal.boosters import Stopped
from parfocal.sklearn import FocalLogisticRegression

NAN = np.nan
LINEAR = training.Training(linear.ENGINE, seed=0)


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_report", lambda *_: b"no picture")


def made_rows(classes: int = 2, codes: int = 3, rows: int = 300) -> training.Rows:
    """A number with holes, one without, a category with holes, a boolean, and weights."""
    generator = np.random.default_rng(3)
    numbers = generator.normal([5.0, -2.0], [3.0, 0.1], size=(rows, 2)).clip(-9, 16)
    category = generator.integers(0, codes, size=rows).astype(float)
    labels = np.digitize(numbers[:, 0] + 2 * (category == 1) + generator.normal(size=rows), [6, 8][: classes - 1])
    numbers[::7, 0], category[::11] = NAN, NAN
    matrix = np.column_stack([numbers[:, 0], category, numbers[:, 1], np.arange(rows) % 2])
    return training.Rows(matrix, labels, generator.integers(1, 4, size=rows).astype(float), [1], classes)


def fitted(rows: training.Rows, candidate: Candidate) -> training.FinalFit:
    return training.fit_finally(LINEAR, [(candidate, 1)], rows)[0]


def by_hand(matrix: np.ndarray, of: np.ndarray, codes: int = 3) -> np.ndarray:
    """The features of `matrix`, with what `of` says about means and deviations."""
    columns = []
    for place in (0, 2, 3):
        known = of[~np.isnan(of[:, place]), place]
        columns.append(np.nan_to_num((matrix[:, place] - known.mean()) / known.std()))
    columns.append(np.isnan(matrix[:, 0]))
    columns += [matrix[:, 1] == code for code in range(codes)]
    columns.append(~np.isin(matrix[:, 1], range(codes)))
    return np.column_stack(columns).astype(float)


# -- features --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("codes", [3, 40])  # dense, and sparse
def test_margins_are_those_of_the_estimator_on_a_design_by_hand(classes: int, codes: int) -> None:
    rows = made_rows(classes, codes)
    candidate = Candidate(2.0, balance=1.0, settings=Settings(inverse_penalty=0.1))
    final = fitted(rows, candidate)
    unseen = np.array(
        [[NAN, 0.0, -2.0, 1.0], [4.0, NAN, -1.9, 0.0], [9.0, 400.0, -2.2, NAN], [9.0, NAN, -2.2, NAN], [0.0, 1, 3, 1]]
    )
    reference = FocalLogisticRegression(2.0, candidate.class_weights(rows.prior), C=0.1, max_iter=linear.MOST_STEPS)
    reference.fit(by_hand(rows.features, rows.features, codes), rows.labels, rows.weights / rows.weights.mean())
    for matrix in (rows.features, unseen):
        expected = reference.decision_function(by_hand(matrix, rows.features, codes))
        np.testing.assert_allclose(final.margins(matrix), expected, rtol=1e-3, atol=1e-4)
        assert expected.shape == ((len(matrix),) if classes == 2 else (len(matrix), 3))
    assert (final.margins(unseen)[2] == final.margins(unseen)[3]).all()  # an unknown category is a missing one
    assert final.engine.features(final.booster) == 4
    assert final.rounds == np.max(reference.n_iter_)


def test_dense_and_sparse_designs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_rows()
    layout = linear.Layout.of(rows.features, rows.categorical)
    dense = layout.design(rows.features)
    np.testing.assert_allclose(dense, by_hand(rows.features, rows.features), rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(linear, "SPARSE_FROM", 0)
    found = layout.design(rows.features)
    assert found.format == "csr"
    np.testing.assert_array_equal(found.toarray(), dense)


def test_weights_count_and_their_unit_does_not() -> None:
    rows, candidate = made_rows(), Candidate(1.0, settings=Settings(inverse_penalty=1.0))
    other = training.Rows(rows.features, rows.labels, rows.weights * 1e-6, [1])
    alike = training.Rows(rows.features, rows.labels, None, [1])
    margins = [fitted(some, candidate).margins(rows.features) for some in (rows, other, alike)]
    np.testing.assert_allclose(margins[1], margins[0], rtol=1e-6, atol=1e-8)
    assert np.abs(margins[2] - margins[0]).max() > 1e-2


def test_a_stronger_penalty_makes_smaller_coefficients() -> None:
    sizes = [
        np.abs(fitted(made_rows(), Candidate(0.0, settings=Settings(inverse_penalty=c))).booster.coefficients).sum()
        for c in (0.01, 0.1, 1.0)
    ]
    assert sizes[0] < 0.7 * sizes[1] < 0.7 * sizes[2]


@pytest.mark.parametrize("constant", [0.1, 1e300, NAN])
def test_a_column_that_says_nothing_changes_nothing(constant: float) -> None:
    """Neither in training nor where it varies later: by rounding, the deviation of 300 times 0.1 may be 1e-17."""
    rows, candidate = made_rows(), Candidate(0.0, settings=Settings(inverse_penalty=1.0))
    more = training.Rows(np.column_stack([rows.features, np.full(300, constant)]), rows.labels, rows.weights, [1])
    final, without = fitted(more, candidate), fitted(rows, candidate)
    layout = final.booster.layout
    assert (layout.means[4], layout.scales[4]) == (pytest.approx(np.nan_to_num(constant)), 1.0)
    assert layout.missing == ([0, 4] if np.isnan(constant) else [0])
    later = more.features.copy()
    later[:, 4] = np.where(np.arange(300) % 2, 0.2, NAN)
    np.testing.assert_allclose(final.margins(later)[1::2], without.margins(rows.features)[1::2], rtol=0.01, atol=0.01)
    assert np.isfinite(final.margins(later)).all()


def test_a_category_that_is_always_missing() -> None:
    rows = made_rows()
    rows.features[:, 1] = NAN
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        final = fitted(rows, Candidate(0.0))
    assert final.booster.layout.categories == {1: 0}
    other = np.column_stack([rows.features[:, 0], np.full(300, 3.0), rows.features[:, 2:]])
    np.testing.assert_array_equal(final.margins(other), final.margins(rows.features))


@pytest.mark.parametrize("size", [1e-300, 1e-12, 1e12, 1e160, 1e300, 1e307])
def test_the_unit_of_a_number_does_not_matter(size: float) -> None:
    """Although squares and sums of such numbers overflow."""
    rows, candidate = made_rows(), Candidate(0.0, settings=Settings(inverse_penalty=1.0))
    final = fitted(training.Rows(rows.features * [size, 1, 1, 1], rows.labels, rows.weights, [1]), candidate)
    assert np.isfinite([*final.booster.layout.means, *final.booster.layout.scales]).all()
    expected = fitted(rows, candidate).margins(rows.features)
    np.testing.assert_allclose(final.margins(rows.features * [size, 1, 1, 1]), expected, rtol=1e-6, atol=1e-8)
    assert np.isfinite(final.margins(np.array([[1.7e308, NAN, -1.7e308, 1.7e308]]))).all()


def test_importance_is_what_moves_margins() -> None:
    rows = made_rows()
    final = fitted(rows, Candidate(0.0, settings=Settings(inverse_penalty=1.0)))
    found, coefficients = final.engine.importances(final.booster), np.abs(final.booster.coefficients[0])
    assert found.tolist() == [coefficients[0], coefficients[4:8].max(), coefficients[1], coefficients[2]]
    assert found.argmax() == 0


def test_it_stops_when_asked_and_is_quiet_in_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_rows()
    with pytest.raises(Stopped):
        LINEAR.train(Candidate(0.0), LINEAR.task(Candidate(0.0), rows, 1, stop=lambda: True))
    monkeypatch.setattr(linear, "MOST_STEPS", 1)
    with pytest.warns(ConvergenceWarning):
        LINEAR.train(Candidate(0.0), LINEAR.task(Candidate(0.0), rows, 1))
    assert fitted(rows, Candidate(0.0)).rounds == 1


# -- its file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_the_file_gives_the_same_bits(classes: int) -> None:
    rows = made_rows(classes)
    final = fitted(rows, Candidate(2.0, settings=Settings(inverse_penalty=1.0)))
    read = final.engine.load(final.engine.dump(final.booster))
    assert read.layout == final.booster.layout
    np.testing.assert_array_equal(read.margins(rows.features), final.margins(rows.features))


def linear_table(rows: int = 600) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(2, rows))
    town = generator.choice(["Bonn", "Oslo", "Rome"], size=rows)
    event = generator.random(rows) < 1 / (1 + np.exp(2.5 - 2 * x - z - (town == "Oslo")))
    x[generator.random(rows) < 0.1] = NAN
    return pl.DataFrame({"x": x, "town": town, "z": z, "event": event}).with_columns(pl.col("x").fill_nan(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table on which the logistic regression wins, and its model."""
    folder = tmp_path_factory.mktemp("linear")
    linear_table().write_parquet(folder / "table.parquet")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "draw_report", lambda *_: b"no picture")
        patched.setattr(study, "PENALTIES", (*study.PENALTIES, 1e-6))
        patched.setattr(training, "PATIENCE", 5)
        patched.setattr(training, "MOST_ROUNDS", 25)
        given = ["fit", str(folder / "table.parquet"), "--target", "event", "--out", str(folder / "model")]
        assert main([*given, "--gamma", "2", "--alpha", "0.25"]) == 0
    return folder


def test_a_linear_winner_is_saved(folder: Path, tmp_path: Path) -> None:
    facts = described(folder / "model")
    assert facts["fit"]["winner"] == "logistic regression"
    assert (facts["engine"], facts["gamma"], facts["alpha"]) == ("linear", 0, None)
    assert sorted(path.name for path in (folder / "model").iterdir()) == [
        "judged.parquet",
        "linear.json",
        "model.json",
        "report.html",
        "report.png",
    ]
    assert facts["fit"]["settings"]["inverse_penalty"] in study.PENALTIES
    penalties = [c["settings"]["inverse_penalty"] for c in facts["fit"]["candidates"] if c["linear"]]
    assert penalties == list(study.PENALTIES)  # the fourth was far behind,
    assert "logistic regression" not in facts["fit"]["dropped_after_one_fold"]  # and the loss was not dropped with it
    assert facts["fit"]["candidates"][0]["name"] == "cross-entropy"  # never dropped
    assert predict(folder / "model", folder / "table.parquet", tmp_path / "scores.parquet") == 0
    said, event = pl.read_parquet(tmp_path / "scores.parquet")["probability"].to_numpy(), linear_table()["event"]
    read = read_model(folder / "model")
    matrix = np.column_stack(
        [
            linear_table()["x"].fill_null(NAN).to_numpy(),
            linear_table()["town"].replace_strict({name: k for k, name in enumerate(read.columns[1].categories)}),
            linear_table()["z"].to_numpy(),
        ]
    )
    np.testing.assert_array_equal(said, read.probabilities(matrix))
    calibration = facts["calibration"]
    logits = read.booster.margins(matrix) / calibration["temperature"] + calibration["bias"]
    np.testing.assert_allclose(said, 1 / (1 + np.exp(-logits)), rtol=1e-12)
    assert said[event.to_numpy()].mean() > said.mean() == pytest.approx(event.mean(), rel=0.1)


def test_linear_models_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["fit", str(folder / "table.parquet"), "--target", "event", "--engine", "linear", "--fast"]
    for name in ("model", "again"):
        assert main([*given, "--out", str(tmp_path / name)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "engine linear" in " ".join(said.out.split())
    assert "trees:" not in said.out
    assert "logistic regression" not in said.out  # it is cross-entropy here
    facts = described(tmp_path / "model")
    assert facts["engine"] == "linear"
    assert not any(candidate["linear"] for candidate in facts["fit"]["candidates"])
    assert all(candidate["settings"]["inverse_penalty"] for candidate in facts["fit"]["candidates"])
    for file in ("linear.json", "model.json"):
        assert (tmp_path / "model" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert predict(tmp_path / "model", folder / "table.parquet", tmp_path / "scores.parquet") == 0
    probabilities = pl.read_parquet(tmp_path / "scores.parquet")["probability"]
    assert probabilities.mean() == pytest.approx(linear_table()["event"].mean(), rel=0.1)


def test_linear_models_of_three_classes(tmp_path: Path) -> None:
    table = linear_table().with_columns(
        kind=pl.when("event").then(pl.lit("a")).when(pl.col("z") > 0.5).then(pl.lit("b"))
    )
    table = table.drop("event").with_columns(pl.col("kind").fill_null("c"))
    table.write_parquet(tmp_path / "t.parquet")
    given = ["fit", str(tmp_path / "t.parquet"), "--target", "kind", "--engine", "linear", "--fast"]
    assert main([*given, "--out", str(tmp_path / "model")]) == 0
    assert predict(tmp_path / "model", tmp_path / "t.parquet", tmp_path / "scores.parquet") == 0
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.columns == ["probability_a", "probability_b", "probability_c", "decision"]
    assert (scores["decision"] == table["kind"]).mean() > 0.7


def damage(folder: Path, **changes: Any) -> None:
    """Change the file, and the checksum with it."""
    numbers = json.loads((folder / "linear.json").read_text())
    numbers = {key: value for key, value in {**numbers, **changes}.items() if value is not None}
    resign(folder, json.dumps(numbers))


def resign(folder: Path, text: str) -> None:
    (folder / "linear.json").write_text(text)
    facts = json.loads((folder / "model.json").read_text())
    facts["booster_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "model.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "linear.json").unlink(), "damaged"),
        (lambda folder: (folder / "linear.json").write_text("{}"), "linear.json is not the one"),
        (lambda folder: resign(folder, "{"), "damaged"),
        (lambda folder: resign(folder, "[]"), "damaged"),
        (lambda folder: resign(folder, "[" * 100_000), "damaged"),
        (lambda folder: resign(folder, "{}"), "damaged"),
        (lambda folder: damage(folder, means=None), "damaged"),
        (lambda folder: damage(folder, means=[0.0]), "damaged"),
        (lambda folder: damage(folder, means=[0.0, "x", 0.0]), "damaged"),
        (lambda folder: damage(folder, scales=[1.0, 1.0]), "damaged"),
        (lambda folder: damage(folder, scales=[0.0, 1.0, 1.0]), "damaged"),
        (lambda folder: damage(folder, missing=[7]), "damaged"),
        (lambda folder: damage(folder, missing="x"), "damaged"),
        (lambda folder: damage(folder, categories={"1": -1}), "damaged"),
        (lambda folder: damage(folder, categories={"x": 3}), "damaged"),
        (lambda folder: damage(folder, categories={"9": 3}), "damaged"),
        (lambda folder: damage(folder, categories=[]), "damaged"),
        (lambda folder: damage(folder, coefficients=[[1.0, 2.0]]), "damaged"),
        (lambda folder: damage(folder, coefficients=[[1.0] * 7] * 3), "damaged"),
        (lambda folder: damage(folder, coefficients=[1.0] * 7), "damaged"),
        (lambda folder: damage(folder, coefficients="x"), "damaged"),
        (lambda folder: damage(folder, coefficients=[["x"] * 7]), "damaged"),
        (lambda folder: damage(folder, coefficients=[[NAN] * 7]), "damaged"),
        (lambda folder: damage(folder, intercepts=[1.0, 2.0]), "damaged"),
        (lambda folder: damage(folder, intercepts=[]), "damaged"),
        (lambda folder: damage(folder, intercepts=[float("inf")]), "damaged"),
        (lambda folder: damage(folder, intercepts=1.0), "damaged"),
    ],
)
def test_damaged_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, says: str
) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    change(tmp_path / "model")
    assert predict(tmp_path / "model", folder / "table.parquet", tmp_path / "scores.csv") == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_linear_needs_no_booster(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(engine: Any) -> None:
        raise ModuleNotFoundError(f"no {engine.name}", name=engine.name)

    monkeypatch.setattr(boosters.Engine, "library", missing)
    linear.check_installed("linear", "--engine linear")
    with pytest.raises(BadInput, match="--engine lightgbm: no lightgbm"):
        linear.check_installed("lightgbm", "--engine lightgbm")
