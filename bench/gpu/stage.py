"""A stage: its lines, its deadline, and the parts that may fail alone."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass
class Line:
    stage: int
    what: str
    value: float | str
    unit: str = ""
    expected: str = ""
    met: bool | None = None  # None: nothing was expected

    def text(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        expected = f"   expected {self.expected}" if self.expected else ""
        verdict = "" if self.met is None else "   ok" if self.met else "   MISSED"
        return f"{self.stage}  {self.what}: {value} {self.unit}{expected}{verdict}".rstrip()


class Late(Exception):
    """The stage's time is over."""


class Stage:
    """Prints lines as JSON for the process that started this one."""

    def __init__(self, number: int, deadline: float, tiny: bool) -> None:
        self.number, self.deadline = number, deadline
        self.tiny = tiny  # a rehearsal

    def line(self, what: str, value: float | str, unit: str = "", expected: str = "", met: bool | None = None) -> None:
        print(json.dumps(asdict(Line(self.number, what, value, unit, expected, met))), flush=True)

    def at_most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        self.line(what, value, unit, f"at most {limit:g}", value <= limit)

    def speed(self, what: str, value: float, limit: float, unit: str, at_least: bool = True) -> None:
        """An expectation of a time, which a rehearsal cannot meet."""
        met = None if self.tiny else (value >= limit) == at_least or value == limit
        self.line(what, value, unit, f"at {'least' if at_least else 'most'} {limit:g}", met)

    def check_time(self) -> None:
        if time.time() > self.deadline:
            raise Late

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """What fails in it is a line, and the stage goes on; a late one does not begin."""
        self.check_time()
        try:
            yield
        except Late:
            raise
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            first = (str(error).strip() or "no message").splitlines()[0][:300]
            self.line(what, f"failed: {type(error).__name__}: {first}", "", "no error", False)
