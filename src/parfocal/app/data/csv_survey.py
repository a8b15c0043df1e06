"""A pass over every byte of a CSV: how many records and fields it has, and whether its quotes make sense.

A reader that guesses wrong about quotes joins rows in silence.  So the place of every quote is checked, by RFC 4180 (a
quote within quotes is doubled) or with backslashes before quotes, as Spark, MySQL and R write.
"""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CHUNK = 1 << 23  # bytes at a time
QUOTE, BACKSLASH, NEWLINE, RETURN = 34, 92, 10, 13


class Width(NamedTuple):
    """Records with one number of fields."""

    line: int  # of the first
    records: int


@dataclass
class Survey:
    """What the pass found; lines are counted from 1."""

    records: int = 0  # with the head, without blank lines
    blank_lines: int = 0
    widths: dict[int, Width] = field(default_factory=dict)  # by the number of fields
    stray_quote: int | None = None  # the line of a quote that neither begins nor ends a field
    open_quote: int | None = None  # the line of one that is never closed

    @property
    def clean(self) -> bool:
        return self.stray_quote is None and self.open_quote is None and len(self.widths) <= 1


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The bytes of a file, unpacked, behind a byte order mark."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with io.BufferedReader(gzip.GzipFile(fileobj=raw) if packed else raw) as binary:
            if binary.peek(3)[:3] == b"\xef\xbb\xbf":
                binary.read(3)
            yield binary


class Surveyor:
    """A survey in progress.  Most bytes are text: only quotes, separators and line ends are looked at."""

    def __init__(self, separator: str, backslash: bool, line: int) -> None:
        self.found = Survey()
        self.separator, self.backslash = ord(separator), backslash
        self.special = np.zeros(256, dtype=bool)
        self.special[[QUOTE, NEWLINE, self.separator]] = True
        self.inside = 0  # quotes
        self.line = self.record_line = self.quote_line = line
        self.separators = self.length = 0  # of the record so far
        self.before = NEWLINE  # the byte before

    def look(self, text: bytes, following: int) -> None:
        """Survey the next bytes; `following` is the one after them."""
        here = np.frombuffer(text, np.uint8)
        places = np.flatnonzero(self.special[here])
        kinds = here[places]
        quotes = kinds == QUOTE
        if self.backslash and quotes.any():
            quotes &= ~after_odd_backslashes(here)[places]
        outside = (np.cumsum(quotes) - quotes + self.inside) & 1 == 0
        newlines = kinds == NEWLINE
        lines = self.line + np.cumsum(newlines) - newlines  # that each place is in
        if quotes.any():
            self.judge_quotes(here, places[quotes], outside[quotes], lines[quotes], following)
        ends = np.flatnonzero(newlines & outside)
        so_far = np.cumsum((kinds == self.separator) & outside)
        if len(ends):
            self.count_records(here, places[ends], so_far[ends], lines[ends])
            self.separators, self.length = int(so_far[-1] - so_far[ends[-1]]), len(text) - int(places[ends[-1]]) - 1
            self.record_line = int(lines[ends[-1]]) + 1
        else:
            self.separators += int(so_far[-1]) if len(so_far) else 0
            self.length += len(text)
        self.inside = (self.inside + int(quotes.sum())) & 1
        self.line, self.before = self.line + int(newlines.sum()), text[-1]

    def judge_quotes(
        self, here: np.ndarray, places: np.ndarray, outside: np.ndarray, lines: np.ndarray, following: int
    ) -> None:
        """A quote opens at the beginning of a field, and closes at its end."""
        previous = np.where(places > 0, here[places - 1], np.uint8(self.before))
        after = np.where(places + 1 < len(here), here[(places + 1) % len(here)], np.uint8(following))
        may_open = np.isin(previous, (NEWLINE, self.separator))
        may_close = np.isin(after, (NEWLINE, RETURN, self.separator))
        if not self.backslash:  # the first of two closes, and the second opens again
            may_open |= previous == QUOTE
            may_close |= after == QUOTE
        bad = ~np.where(outside, may_open, may_close)
        if self.found.stray_quote is None and bad.any():
            self.found.stray_quote = int(lines[np.argmax(bad)])
        if outside.any():
            self.quote_line = int(lines[outside][-1])

    def count_records(self, here: np.ndarray, ends: np.ndarray, separators: np.ndarray, lines: np.ndarray) -> None:
        of_record = np.diff(separators, prepend=0)
        of_record[0] += self.separators
        lengths = np.diff(ends, prepend=-1 - self.length) - 1
        last = np.where(ends > 0, here[ends - 1], np.uint8(self.before))
        blank = (lengths == 0) | ((lengths == 1) & (last == RETURN))
        begins = np.append(self.record_line, lines[:-1] + 1)
        self.found.blank_lines += int(blank.sum())
        self.found.records += len(ends) - int(blank.sum())
        widths, first, counts = np.unique(of_record[~blank], return_index=True, return_counts=True)
        for width, line, count in zip(widths.tolist(), begins[~blank][first].tolist(), counts.tolist(), strict=True):
            known = self.found.widths.get(width + 1, Width(line, 0))
            self.found.widths[width + 1] = Width(known.line, known.records + count)


def survey(path: Path, separator: str, backslash: bool, skip: int = 0) -> Survey:
    """Count records, fields and blank lines, and check every quote.  The first `skip` lines are not looked at."""
    surveyor = Surveyor(separator, backslash, 1 + skip)
    with opened(path) as binary:
        for _ in range(skip):
            binary.readline()
        rest, ended = b"", False
        while not ended:
            read = binary.read(CHUNK)
            ended = not read
            text = rest + read
            if ended and text and text[-1] != NEWLINE:
                text += b"\n"
            # Each byte is judged with the one after it, and backslashes in pairs, so a few wait for the next chunk.
            keep = len(text) if ended else max(len(text) - 1, 0)
            while not ended and keep and text[keep - 1] == BACKSLASH:
                keep -= 1
            rest = text[keep:]
            if keep:
                surveyor.look(text[:keep], rest[0] if rest else NEWLINE)
    if surveyor.inside:
        surveyor.found.open_quote = surveyor.quote_line
    return surveyor.found


def after_odd_backslashes(text: np.ndarray) -> np.ndarray:
    """Which bytes follow an odd number of backslashes, so that they are escaped."""
    slashes = text == BACKSLASH
    places = np.arange(len(text))
    last_other = np.maximum.accumulate(np.where(slashes, -1, places))  # the last byte that is not a backslash
    run = np.append(0, (places - last_other)[:-1])
    return (run & 1).astype(bool)
