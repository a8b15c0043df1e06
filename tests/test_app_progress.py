"""What those see who wait for the command line."""

from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console

from parfocal.app.tell import progress


def piped() -> Console:
    return Console(file=io.StringIO(), width=40)


def wait_for(console: Console, what: str) -> str:
    until = time.monotonic() + 5
    while what not in console.file.getvalue() and time.monotonic() < until:  # type: ignore[attr-defined]
        time.sleep(0.01)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_line_now_and_then_where_standard_error_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.03)
    console = piped()
    with progress.progress(console, "preparing the columns") as watch:
        said = wait_for(console, "\n")
        assert set(said.splitlines()) == {"parfocal: preparing the columns, 0 s so far"}  # whole, whatever the width
        watch.stage("comparing losses", 8)
        watch.advance()
        assert "parfocal: comparing losses, 1 of 8 done, 0 s so far\n" in wait_for(console, "1 of 8")
        watch.expect(5)
        watch.advance()
        assert "parfocal: comparing losses, 2 of 5 done, 0 s so far\n" in wait_for(console, "2 of 5")
        watch.stage("training on all rows")  # of unknown length again
        assert "parfocal: training on all rows, 0 s so far\n" in wait_for(console, "all rows")
        watch.advance()
        assert "parfocal: training on all rows, 1 done, 0 s so far\n" in wait_for(console, "rows, 1")
    said = wait_for(console, "")
    time.sleep(0.1)
    assert wait_for(console, "") == said  # the end
    assert "\x1b" not in said


def test_no_line_before_half_a_minute_and_none_is_waited_for() -> None:
    console, began, threads = piped(), time.monotonic(), threading.active_count()
    assert progress.SECONDS == 30
    with progress.progress(console, "scoring chunks") as watch:
        assert threading.active_count() == threads + 1
        watch.advance()
        time.sleep(0.05)
    assert wait_for(console, "") == ""
    assert threading.active_count() == threads
    assert time.monotonic() - began < 2


def test_an_error_ends_the_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), progress.progress(piped(), "scoring chunks"):
        raise KeyboardInterrupt
    assert threading.active_count() == threads


def test_a_bar_that_vanishes_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with progress.progress(console, "preparing the columns") as watch:
        watch.stage("comparing losses", 8)
        watch.advance()
        time.sleep(0.05)
        watch.bar.refresh()
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "comparing losses" in said
    assert "1/8" in said
    assert "to go:" in said
    assert "so far" not in said
    assert said.endswith("\x1b[2K")  # the line is cleared
