"""How a CSV file is written: its separator, its quotes, its head.

`survey` looks at every byte first, by RFC 4180 and, where that does not fit, with backslashes before quotes.  A file
that fits neither is refused, with the line.

What the reader of `tables.py` would not understand is copied into a plain file first (`plain_copy`).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parfocal.app.data.csv_survey import Survey, opened, survey
from parfocal.app.errors import BadInput, counted, one_line

SEPARATORS = ",;\t|"
ESCAPED, ESCAPE = re.compile(r"\\.", re.DOTALL), re.compile(r'\\(["\\])')
HEAD = 1 << 16  # bytes that the separator is found in
OTHER_FILES = {  # by their first bytes
    b"PK\x03\x04": "this is a zip or Excel file, not text; save the sheet as CSV, or unpack the file",
    b"\xd0\xcf\x11\xe0": "this is an Excel file, not text; save the sheet as CSV",
    b"PAR1": "this is a Parquet file, not text; let its name end in .parquet",
}
LARGEST_FIELD = 1 << 27  # characters, where Python's reader has to copy the file

UNREADABLE = (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error, StopIteration)


@dataclass(frozen=True)
class Layout:
    """How a file is written."""

    separator: str
    names: tuple[str, ...]
    head_lines: int  # lines before the rows
    backslash: bool  # quotes within quotes have a backslash before them
    rows: int
    blank_lines: int
    notes: tuple[str, ...]

    @property
    def plain(self) -> bool:
        return not (self.backslash or self.blank_lines)


def layout_of(path: Path) -> Layout:
    """How a file is written, or one error that says what is wrong with it, and where."""
    try:
        with opened(path) as binary:
            head = binary.read(HEAD)
        for beginning, what in OTHER_FILES.items():
            if head.startswith(beginning):
                raise BadInput(f"{path}: {what}")
        head.decode("utf-8", "strict" if len(head) < HEAD else "ignore")
        notes: list[str] = []
        first = head.split(b"\n", 1)[0].strip().decode("utf-8", "replace")
        declared = first[4:].strip('"') or None if first.lower().startswith("sep=") else None
        if declared is not None and len(declared) != 1:
            raise BadInput(f"{path}: the first line is {first!r}, and a separator is one character; remove the line")
        skip = int(declared is not None)
        separator = declared or separator_of(path, head)
        names, head_lines = head_of(path, separator, skip)
    except UNREADABLE as error:
        raise BadInput(f"{path} is not a CSV file in UTF-8: {one_line(error)}; save it as UTF-8") from error
    if not names or any("\0" in name for name in names):
        raise BadInput(f"{path} is not a CSV file with a line of column names at its head")
    try:
        found = survey(path, separator, backslash=False, skip=skip)
        backslash = False
        if not found.clean:
            escaped = survey(path, separator, backslash=True, skip=skip)
            if escaped.clean or (escaped.records > found.records and only_row_names(escaped, names)):
                found, backslash = escaped, True
    except UNREADABLE as error:
        raise BadInput(f"{path} can't be read: {one_line(error)}; is it complete?") from error
    if only_row_names(found, names) and not ends_empty(head, separator, head_lines):
        names = ("", *names)
        notes.append(
            "the head has one name less than the rows have fields, so the first are row names, as R writes them"
        )
    else:
        refuse_unclean(path, found, separator, len(names))
    if declared is not None:
        notes.append(f"the first line, {first!r}, tells the separator")
    elif separator not in ",\t":
        notes.append(f"fields are separated by {separator!r}")
    if backslash:
        notes.append('a backslash stands before quotes within quotes (\\"), as Spark, MySQL and R write them')
    if found.blank_lines:
        notes.append(f"{counted(found.blank_lines, 'blank line')} skipped")
    return Layout(separator, names, head_lines, backslash, found.records - 1, found.blank_lines, tuple(notes))


def only_row_names(found: Survey, names: tuple[str, ...]) -> bool:
    """Whether all rows have one field more than the head and nothing else is wrong."""
    if found.stray_quote is not None or found.open_quote is not None:
        return False
    return {width: records for width, (_, records) in found.widths.items()} == {
        len(names): 1,
        len(names) + 1: found.records - 1,
    }


def ends_empty(head: bytes, separator: str, head_lines: int) -> bool:
    """Whether the first rows end with a separator: then their additional field is not a row name."""
    lines = head.decode("utf-8", "ignore").split("\n")[head_lines : head_lines + 50]
    return all(line.rstrip("\r").endswith(separator) for line in lines[:-1] or lines if line.strip())


def separator_of(path: Path, head: bytes) -> str:
    """The separator that splits the head and the first rows alike; otherwise the most frequent one in the head."""
    if ".tsv" in path.name.lower():
        return "\t"
    text = head.decode("utf-8", "ignore").removeprefix("\ufeff")
    lines = [f"{line}\n" for line in text.split("\n")]
    if len(head) == HEAD:
        lines = lines[:-1]  # cut in the middle
    best = (False, 0, ",")
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):  # the quotes fit another separator, or `survey` says where
            rows.extend(row for row in csv.reader(lines[:200], delimiter=separator) if row)
        width = len(rows[0]) if rows else 0
        even = width > 1 and all(len(row) == width for row in rows[:100])
        best = max(best, (even, width, separator), key=lambda found: found[:2])
    return best[2] if best[1] > 1 else ","


def head_of(path: Path, separator: str, skip: int) -> tuple[tuple[str, ...], int]:
    """The column names, and how many lines stand before the rows."""
    with opened(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        for _ in range(skip):
            text.readline()
        reader = csv.reader(text, delimiter=separator)
        names: list[str] = []
        while not names:  # blank lines
            names = next(reader)
        text.detach()
        return tuple(names), skip + reader.line_num


def refuse_unclean(path: Path, found: Survey, separator: str, width: int) -> None:
    if found.stray_quote is not None:
        raise BadInput(
            f"{path}, line {found.stray_quote}: a quote stands neither at the beginning nor at the end of a field; "
            'within quotes write it twice ("5"" pipe"), and put a field that holds quotes into quotes'
        )
    if found.open_quote is not None:
        raise BadInput(
            f"{path}, line {found.open_quote}: a quote is opened there and never closed; close it, or write it twice "
            "if it belongs to the text"
        )
    for fields, (line, _) in sorted(found.widths.items(), key=lambda item: item[1]):
        if fields != width:
            kind = {"\t": "a tab"}.get(separator, repr(separator))
            raise BadInput(
                f"{path}, line {line} has {counted(fields, 'field')}, and the head has "
                f"{counted(width, 'column name')}; put fields that hold {kind} into quotes, and give every line as "
                "many fields"
            )


def plain_copy(path: Path, layout: Layout, to: Path) -> None:
    """The rows again, by RFC 4180 and without blank lines."""
    limit = csv.field_size_limit(LARGEST_FIELD)
    try:
        with opened(path) as binary, to.open("w", encoding="utf-8", newline="") as new:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
            for _ in range(layout.head_lines):
                text.readline()
            writer = csv.writer(new, lineterminator="\n")
            if layout.backslash:
                rows: Iterator[list[str]] = records_with_backslashes(text, layout.separator)
            else:
                rows = csv.reader(text, delimiter=layout.separator)
            for number, row in enumerate((row for row in rows if row), 1):
                if len(row) != len(layout.names):
                    raise BadInput(
                        f"{path}: row {number} has {counted(len(row), 'field')}, and the head has "
                        f"{counted(len(layout.names), 'column name')}; write the file again, or as Parquet"
                    )
                writer.writerow(row)
            text.detach()
    except UNREADABLE as error:
        raise BadInput(f"{path} is not a CSV file in UTF-8: {one_line(error)}; save it as UTF-8") from error
    finally:
        csv.field_size_limit(limit)


def records_with_backslashes(text: Iterator[str], separator: str) -> Iterator[list[str]]:
    """Records whose quoted fields have a backslash before quotes and backslashes.

    Elsewhere it is a letter like others, as in C:\\new and in MySQL's \\N.  Python's reader would take it away there.
    """
    ends = re.escape(separator)
    one_field = re.compile(rf'"((?:[^"\\]|\\.)*)"(?={ends}|\Z)|([^{ends}]*)', re.DOTALL)
    record = ""
    for line in text:
        record += line
        if ESCAPED.sub("", record).count('"') % 2:
            continue  # a line break within quotes
        record = record.removesuffix("\n").removesuffix("\r")
        row: list[str] = []
        place = 0 if record else -1
        while place >= 0:
            found = one_field.match(record, place)
            assert found is not None  # the second way takes anything
            quoted_field, bare = found[1], found[2]
            row.append(bare if quoted_field is None else ESCAPE.sub(r"\1", quoted_field))
            place = found.end() + 1 if found.end() < len(record) else -1
        yield row
        record = ""
