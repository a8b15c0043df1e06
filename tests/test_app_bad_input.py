"""Tables and options that `parfocal fit` refuses, each with one line."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from app_fits import few_rounds, fit, predict
from parfocal.app import main
from parfocal.app.study import study

impatience = few_rounds(5, 25)


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
        (GOOD, "t.csv", ["--gamma", "two"], "--gamma two: it must be a number, such as 2 or 0.5 .parfocal fit --help"),
        (GOOD, "t.csv", ["--alpha", "0"], "--alpha 0: alpha must lie between 0 and 1"),
        (GOOD, "t.csv", ["--alpha", "1"], "--alpha 1"),
        (GOOD, "t.csv", ["--alpha", "nan"], "--alpha nan"),
        (GOOD, "t.csv", ["--select", "accuracy"], "accuracy"),
        (GOOD, "t.csv", ["--seed", "-1"], "--seed -1: it must be 0 or more"),
        (GOOD, "t.csv", ["--seed", "1.5"], "--seed 1.5: it must be a whole number .parfocal fit --help shows"),
        (GOOD, "t.csv", ["--frobnicate"], "--frobnicate.* .parfocal fit --help shows the options"),
        (GOOD, "t.csv", ["--seed"], "'--seed' requires an argument. .parfocal fit --help shows the options"),
        (GOOD, "t.csv", ["--weight", "c"], "--weight c: weights must be numbers; the column is a category"),
        (GOOD, "t.csv", ["--time", "c"], "--time c: times must be .* the column is a category"),
        (GOOD, "t.xlsx", [], "must end in .csv, .*; save the sheet as CSV"),
        (GOOD, "t.txt", [], "must end in .csv, [^;]*$"),
        (bytes_of(b"PK\x03\x04" + b"\0" * 100), "t.csv", [], r"this is a zip or Excel file, not text; .*#csv-files\)$"),
        (bytes_of(b"\xd0\xcf\x11\xe0" + b"\0" * 100), "t.tsv", [], "this is an Excel file, not text"),
        (bytes_of(b"PAR1" + b"\0" * 100), "t.csv", [], "this is a Parquet file, not text; .* end in .parquet"),
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
        (GOOD, "t.csv", ["--engine", "sklearn"], "parfocal: --engine: 'sklearn' is not one of 'lightgbm', "),
        (GOOD, "t.csv", ["--budget", "5"], "--budget 5: give a time such as 90s, 5m or 1h30m"),
        (GOOD, "t.csv", ["--budget", "5m", "--gamma", "2"], "--budget and --gamma: .* leave one of the two out"),
        (columns_of(x=X, y=[n / 7 for n in X]), "t.csv", [], "has 200 classes .*fits at most 100; if it is a quantity"),
        (columns_of(x=X, y=[n < 7 for n in X]), "t.csv", [], "only 7 positive rows .* at least 8"),
        (columns_of(x=X, y=[n > 5 for n in X]), "t.csv", ["--positive", "true"], "only 6 negative rows"),
        (columns_of(y=Y), "t.csv", [], "no column is left to learn from; the table has only the target$"),
        (columns_of(y=Y, w=X), "t.csv", ["--weight", "w"], "the table has only the target and the weights$"),
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
        (bytes_of(b"x,y\n1,2\n1,2,3\n"), "t.csv", [], "line 3 has 3 fields, and the head has 2 .*#csv-files.$"),
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
    assert pl.Series([said.err]).str.strip_chars().str.contains(f"(?i){says}").all(), said.err
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


def test_a_line_with_too_many_fields_is_refused_by_both(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    lines[700] = "1,5," + lines[700].partition(",")[2]
    (tmp_path / "shifted.csv").write_text("\n".join(lines) + "\n")
    assert fit(tmp_path / "shifted.csv", tmp_path / "model") == 2
    assert predict(folder / "model", tmp_path / "shifted.csv", tmp_path / "scores.csv") == 2
    assert capsys.readouterr().err.count("shifted.csv, line 701 has 11 fields, and the head has 10") == 2
