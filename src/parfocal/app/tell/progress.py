"""Progress: a bar on a terminal, a line now and then where standard error is piped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS = 30.0  # between two lines


class Watch:
    """The current stage, and how many of its steps are done."""

    def __init__(self, bar: Progress, what: str) -> None:
        self.bar, self.began = bar, time.monotonic()
        self.task = bar.add_task(what, total=None)

    def stage(self, what: str, steps: int | None = None) -> None:
        before, self.task = self.task, self.bar.add_task(what, total=steps)  # `reset` would keep a total for None
        self.bar.remove_task(before)

    def expect(self, steps: int) -> None:
        """Correct the number of steps."""
        self.bar.update(self.task, total=steps)

    def advance(self) -> None:
        self.bar.advance(self.task)

    @property
    def line(self) -> str:
        task = self.bar.tasks[0]
        of = "" if task.total is None else f" of {task.total:.0f}"
        steps = f", {task.completed:.0f}{of} done" if task.completed or of else ""
        return f"parfocal: {task.description}{steps}, {time.monotonic() - self.began:.0f} s so far"


@contextmanager
def progress(console: Console, what: str) -> Iterator[Watch]:
    """A bar that vanishes when the work is done, or a line every 30 seconds where there is no terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("to go:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        watch, done = Watch(bar, what), threading.Event()
        if console.is_terminal:
            yield watch
            return
        teller = threading.Thread(target=tell, args=(console, watch, done), daemon=True)
        teller.start()
        try:
            yield watch
        finally:
            done.set()
            teller.join()


def tell(console: Console, watch: Watch, done: threading.Event) -> None:
    while not done.wait(SECONDS):
        console.print(Text(watch.line), soft_wrap=True)
