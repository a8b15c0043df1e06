"""CSV files as others write them: read right, or refused with the line and the cure."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.app import main
from parfocal.app.data import csv_files, csv_survey
from parfocal.app.data.tables import open_table
from parfocal.app.errors import BadInput
from parfocal.app.tell import plots


def rows_of(path: Path) -> list[tuple[str | None, ...]]:
    table = open_table(path)
    return table.read(table.names).rows()


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "names", "rows", "note"),
    [
        ('a,b\n"5\\" pipe",2\n"p",3\n', ["a", "b"], [('5" pipe', "2"), ("p", "3")], "backslash"),
        ('a,b\n"x \\\\",1\n"a \\"b\\"",2\n', ["a", "b"], [("x \\", "1"), ('a "b"', "2")], "backslash"),
        ('a,b\n"5\\" x",\\N\nC:\\new,2\n', ["a", "b"], [('5" x', "\\N"), ("C:\\new", "2")], "backslash"),
        ('a,b\n"D:\\new \\"y\\"",1\nC:\\,2\n', ["a", "b"], [('D:\\new "y"', "1"), ("C:\\", "2")], "backslash"),
        ('a,b\n"x\n\\"y\\"",\n"p",3\r\n', ["a", "b"], [('x\n"y"', None), ("p", "3")], "backslash"),
        ('a,b\n"C:\\",1\n"D:\\",2\n', ["a", "b"], [("C:\\", "1"), ("D:\\", "2")], ""),  # RFC 4180, and no escape
        ('a,b\n"5"" pipe",2\n', ["a", "b"], [('5" pipe', "2")], ""),
        ("a,b\n1,2\n\n3,4\n\n\n", ["a", "b"], [("1", "2"), ("3", "4")], "3 blank lines skipped"),
        ("a,b\r\n1,2\r\n\r\n3,4", ["a", "b"], [("1", "2"), ("3", "4")], "1 blank line skipped"),
        ("sep=;\na;b\n1,5;2\n", ["a", "b"], [("1,5", "2")], "tells the separator"),
        ("a|b\n1|2\n", ["a", "b"], [("1", "2")], "separated by '|'"),
        ('"a;b";"c, d"\n1;2\n', ["a;b", "c, d"], [("1", "2")], "separated by ';'"),
        ('"a,b",c\n1,2\n', ["a,b", "c"], [("1", "2")], ""),
        ("x;y\n1,5;2,5\n3,1;4,1\n", ["x", "y"], [("1,5", "2,5"), ("3,1", "4,1")], "separated by ';'"),
        ('"a","b"\n"1",5,6\n"2",7,8\n', ["", "a", "b"], [("1", "5", "6"), ("2", "7", "8")], "row names"),
        ('"a\nb",c\n"1\n2",3\n', ["a\nb", "c"], [("1\n2", "3")], ""),
        ("\ufeffa,b\n1,2\n", ["a", "b"], [("1", "2")], ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_read_right(
    tmp_path: Path, text: str, names: list[str], rows: list[tuple[str, ...]], note: str, packed: bool
) -> None:
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    table = open_table(written(path, gzip.compress(text.encode()) if packed else text))
    assert table.names == names
    assert table.read(names).rows() == rows
    assert table.count == len(rows)
    assert note in " ".join(table.notes)
    assert bool(table.notes) == bool(note)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n1\n", "line 3 has 1 field, and the head has 2 column names"),
        ("a,b\n1,2,3\n1,2\n", "line 2 has 3 fields"),
        ("a,b\n1,2,\n3,4,\n", "line 2 has 3 fields"),  # no row names: every row ends with a separator
        ('a,b\n1,2\n5" pipe,2\n6,3\n', "line 3: a quote stands neither at the beginning nor at the end"),
        ('a,b\n"x" y,2\n', "line 2: a quote stands"),
        ('a,b\n1,2\n"x,2\n6,3\n', "line 3: a quote is opened there and never closed"),
        ("sep=ab\na;b\n", "a separator is one character"),
        (b"a,b\n\xe9,1\n", "save it as UTF-8"),
        ("a,y,,\n1,2,,\n", "columns 3, 4 have no names"),
    ],
)
def test_refused_with_the_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says.replace("(", r"\(")):
        open_table(written(tmp_path / "t.csv", text))


FIELDS = st.text(st.sampled_from('ab1 ,;|\t"\\\n\r'), max_size=6)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(FIELDS, min_size=2, max_size=2), min_size=1, max_size=6),
    separator=st.sampled_from(csv_files.SEPARATORS),
    chunk=st.sampled_from([1, 2, 3, 7, 1 << 20]),
)
def test_what_was_written_by_rfc_4180_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], separator: str, chunk: int
) -> None:
    """Whatever the bytes at which the survey stops to take the next ones."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["first", "second"], *rows])
    path = written(tmp_path_factory.mktemp("csv") / "t.csv", text.getvalue())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(csv_survey, "CHUNK", chunk)
        found = csv_survey.survey(path, separator, backslash=False)
    assert found.clean
    assert found.records == len(rows) + 1
    assert [[field or "" for field in row] for row in rows_of(path)] == rows


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(FIELDS, min_size=2, max_size=2), min_size=1, max_size=6),
    chunk=st.sampled_from([1, 2, 3, 7, 1 << 20]),
)
def test_what_was_written_with_backslashes_is_surveyed_right(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], chunk: int
) -> None:
    text = io.StringIO()
    writer = csv.writer(
        text, quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\", lineterminator="\n", quotechar='"'
    )
    writer.writerows([["first", "second"], *rows])
    path = written(tmp_path_factory.mktemp("csv") / "t.csv", text.getvalue())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(csv_survey, "CHUNK", chunk)
        found = csv_survey.survey(path, ",", backslash=True)
    assert found.clean
    assert found.records == len(rows) + 1


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.lists(FIELDS, min_size=2, max_size=2), min_size=1, max_size=6), separator=st.sampled_from(",;"))
def test_what_was_written_with_backslashes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], separator: str
) -> None:
    def field(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = [separator.join(map(field, row)) for row in [["first", '"second"'], ["\\", '\\"'], *rows]]
    path = written(tmp_path_factory.mktemp("csv") / "t.csv", "\n".join(lines).replace('\\"second\\"', "second") + "\n")
    with path.open(encoding="utf-8", newline="") as text:
        read = list(csv_files.records_with_backslashes(text, separator))
    assert read == [["first", "second"], ["\\", '\\"'], *rows]


def test_late_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", b"a,b\n" + b"1,2\n" * 40_000 + b"\xe9,3\n")
    with pytest.raises(BadInput, match="save it as UTF-8"):
        rows_of(path)


def test_lines_are_told_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "t.csv", 'a,b\n"1\n2",3\n\n4,5,6\n7,8\n"9,10\n')
    for chunk in (1, 2, 3, 5, 1 << 20):
        monkeypatch.setattr(csv_survey, "CHUNK", chunk)
        found = csv_survey.survey(path, ",", backslash=False)
        assert (found.widths[3].line, found.widths[2].line, found.open_quote) == (5, 1, 7)


def test_rows_in_are_rows_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 rows with backslashes before quotes were read as 150, and 150 scores were written with status 0."""
    monkeypatch.setattr(plots, "draw_report", lambda _: b"no picture")
    lines = ["name,x,event", *(f'"pipe {k % 7}\\" one",{k % 13},{int(k % 13 > 9)}' for k in range(300))]
    table = written(tmp_path / "t.csv", "\n".join(lines) + "\n\n\n")
    assert (
        main(["fit", str(table), "--target", "event", "--out", str(tmp_path / "m"), "--engine", "linear", "--fast"])
        == 0
    )
    assert "backslash" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "m"), str(table), "--out", str(tmp_path / "s.csv"), "--keep", "name"]) == 0
    scores = pl.read_csv(tmp_path / "s.csv")
    assert len(scores) == 300
    assert scores["name"][0] == 'pipe 0" one'


def test_a_reader_that_joins_rows_is_noticed(tmp_path: Path) -> None:
    table = open_table(written(tmp_path / "t.csv", "a,b\n1,2\n3,4\n"))
    wrong = type(table)(**{**vars(table), "count": 3})
    with pytest.raises(BadInput, match="2 rows were read of 3"):
        wrong.read(["a"])
    with pytest.raises(BadInput, match="2 rows were read of 3"):
        list(wrong.batches(["a"], 10))
