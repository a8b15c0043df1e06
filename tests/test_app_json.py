"""`--json`: the record on standard output, and nothing else there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import parfocal
from app_fits import described, few_rounds, fit, made_table, predict
from parfocal.app import main

impatience = few_rounds(5, 25)

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def loaded(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def run(*arguments: str) -> tuple[str, str]:
    """The real command, in a process of its own."""
    program = "import sys; from parfocal.app import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return ended.stdout, ended.stderr


@pytest.mark.full
def test_the_real_commands(tmp_path: Path) -> None:
    table = made_table(300).with_columns(x=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("?")).otherwise("x"))
    table.write_csv(tmp_path / "t.csv")
    model, scores = str(tmp_path / "model"), str(tmp_path / "scores.csv")
    given = [str(tmp_path / "t.csv"), "--target", "event", "--engine", "linear", "--fast", "--out", model, "--json"]
    out, err = run("fit", *given)
    found = loaded(out)
    assert out.isascii()
    assert found["notes"] == ["x: '?' in 1 row is taken for missing"]
    assert "'?' in 1 row is taken for missing" in " ".join(err.split())  # what is said otherwise is on standard error
    assert f"Wrote {model}: linear.json, model.json, judged.parquet, report.png, report.html." in err
    table.with_columns(town=pl.lit("Atlantis")).write_csv(tmp_path / "new.csv")
    out, err = run("predict", model, str(tmp_path / "new.csv"), "--out", scores, "--json")
    found = loaded(out)
    assert found["cautions"] == ["town: 300 rows with an unknown category, treated as missing"]
    assert found["cautions"][0] in err
    assert "300 rows scored" in err


def test_what_fit_found(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(folder / "table.csv", tmp_path / "model", "--json") == 0
    said = capfd.readouterr()
    found, facts = loaded(said.out), described(tmp_path / "model")
    assert {key: found[key] for key in facts["fit"]} == facts["fit"]  # all that model.json has
    assert found["versions"] == facts["versions"]
    model = parfocal.load_model(tmp_path / "model")
    assert found["model"] == {
        "folder": str(tmp_path / "model"),
        "files": ["model.txt", "model.json", "judged.parquet", "report.png", "report.html"],
        "engine": "lightgbm",
        "threshold": model.threshold,
        "columns": [{"name": column.name, "kind": column.kind} for column in model.columns],
    }
    events = made_table()["event"].sum()
    assert found["target"]["rows"] == {"false": 1200 - events, "true": events}
    assert found["target"]["positive"] == "true"
    assert (found["folds"], found["split_by_time"], found["columns_in_table"]) == (5, False, 10)
    seconds = found["seconds"]
    assert list(seconds) == [
        *("reading the table", "preparing the columns", "binning the rows", "comparing losses"),
        *("training on all training rows", "asking which columns matter", "total"),
    ]
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"])
    assert min(seconds.values()) >= 0
    assert "Cross-entropy was saved" in said.err or "The winner" in said.err


def test_refit_has_a_stage_of_its_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(folder / "table.csv", tmp_path / "model", "--fast", "--refit", "--json") == 0
    found = loaded(capsys.readouterr().out)
    assert list(found["seconds"])[-2:] == ["training on all rows", "total"]
    assert found["refitted_on_all_rows"]


def test_what_predict_did(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.parquet"
    assert predict(folder / "model", folder / "table.csv", out, "--json", "--decide", "balanced") == 0
    said = capfd.readouterr()
    found, scores, facts = loaded(said.out), pl.read_parquet(out), described(folder / "model")
    decided = int(scores["decision"].sum())
    assert found == {
        "model": str(folder / "model"),
        "table": str(folder / "table.csv"),
        "file": str(out),
        "target": "event",
        "rows_read": 1200,
        "rows_written": 1200,
        "rule": "balanced",
        "threshold": facts["prior"],
        "decisions": {"false": 1200 - decided, "true": decided},
        "mean_probability": {"true": pytest.approx(scores["probability"].mean(), rel=1e-12)},
        "why": None,
        "cautions": [],
    }
    assert f"Wrote {out}." in said.err


def test_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = Path(__file__).parent / "saved"
    out = tmp_path / "scores.csv"
    assert predict(saved / "fit-classes", saved / "table.csv", out, "--json") == 0
    found, scores = loaded(capsys.readouterr().out), pl.read_csv(out)
    assert (found["threshold"], found["rule"]) == (None, "most-probable")
    assert found["decisions"] == {name: (scores["decision"] == name).sum() for name in ("common", "rare", "rarer")}
    assert sum(found["mean_probability"].values()) == pytest.approx(1)
    assert sum(found["decisions"].values()) == found["rows_written"] == len(scores)


def test_an_error_leaves_standard_output_empty(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(folder / "table.csv", tmp_path / "model", "--drop", "nothing", "--json") == 2
    assert predict(folder / "model", tmp_path / "none.csv", tmp_path / "s.csv", "--json") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 2


def test_the_page_has_the_keys(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/tables.md lists every key of both records, and no other."""
    assert fit(folder / "table.csv", tmp_path / "model", "--fast", "--json") == 0
    fitted = loaded(capsys.readouterr().out)
    assert predict(tmp_path / "model", folder / "table.csv", tmp_path / "s.csv", "--json") == 0
    predicted = loaded(capsys.readouterr().out)
    _, _, section = PAGE.read_text(encoding="utf-8").partition("## For programs")
    of_fit, of_predict = section.split("| key of `parfocal predict --json`")[:2]
    for record, text in ((fitted, of_fit), (predicted, of_predict.split("\n## ")[0])):
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        keys = [key.strip(" `") for row in rows for key in row.split(",")]
        assert sorted(keys) == sorted(record)


def test_the_option_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "predict"):
        assert main([command, "--help"]) == 0
        assert "--json" in capsys.readouterr().out
