"""`parfocal predict`: what it writes, and what it refuses."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app_fits import choosing, described, few_rounds, fit, left_behind, made_table, predict, recovered
from parfocal.app import fitting
from parfocal.app.data.columns import convert, encode
from parfocal.app.data.splits import split_by_class
from parfocal.app.model import scoring
from parfocal.app.model.saved import read_model
from parfocal.app.study import study

impatience = few_rounds(5, 25)


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
