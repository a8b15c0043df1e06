"""Tables of numbers for the terminal.  A number is never cut: columns that have no room go to a table below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text


@dataclass
class Numbers:
    """A table whose first column is text, which folds, and whose other columns are numbers, which do not."""

    title: str
    first: str  # the heading of the first column
    least: int  # characters that the first column keeps, unless a single column of numbers needs the room
    headings: Sequence[str]
    rows: list[tuple[Text, Sequence[Text], str]] = field(default_factory=list)  # the last is the row's style

    def add(self, first: str | Text, cells: Sequence[str | Text] = (), style: str = "") -> None:
        texts = [cell if isinstance(cell, Text) else Text(cell) for cell in (first, *cells)]
        blank = [Text("")] * (len(self.headings) - len(cells))
        self.rows.append((texts[0], [*texts[1:], *blank], style))

    def print(self, console: Console) -> None:
        for number, places in enumerate(self.in_room(console.width)):
            console.print(self.grid(self.title if number == 0 else None, places))

    def in_room(self, room: int) -> Iterator[list[int]]:
        """The columns of numbers in order, as many together as have room."""
        taken: list[int] = []
        used = start = min(self.least, self.width(self.first, *(first.plain for first, _, _ in self.rows))) + 3
        for place, heading in enumerate(self.headings):
            width = self.width(heading, *(cells[place].plain for _, cells, _ in self.rows)) + 2  # between two columns
            if taken and used + width > room:
                yield taken
                taken, used = [], start
            taken.append(place)
            used += width
        yield taken

    def width(self, *texts: str) -> int:
        return max(cell_len(line) for text in texts for line in text.split("\n"))

    def grid(self, title: str | None, places: Sequence[int]) -> Grid:
        grid = Grid(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        grid.add_column(self.first, overflow="fold")
        for place in places:
            grid.add_column(self.headings[place], justify="right", no_wrap=True)
        for first, cells, style in self.with_something_in(places):
            grid.add_row(first, *(cells[place] for place in places), style=style)
        return grid

    def with_something_in(self, places: Sequence[int]) -> Iterator[tuple[Text, Sequence[Text], str]]:
        """The rows with numbers in these columns, and the rows that head them."""
        head = None
        for row in self.rows:
            _, cells, _ = row
            if not any(cells):
                head = row
            elif any(cells[place] for place in places):
                if head is not None:
                    yield head
                    head = None
                yield row
