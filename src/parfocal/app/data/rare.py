"""`--other N` joins the classes with fewer than N rows; if that is too rare as well, its rows are left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from parfocal.app.errors import BadInput, counted, listed, quoted

OTHER = "other"


@dataclass(frozen=True)
class Joined:
    """What `--other` did."""

    fewest: int  # rows that a class needs to stay a class
    name: str | None  # of the new class; None: nothing was joined
    rows: dict[str, int]  # of each rare class, the most frequent first
    left_out: bool  # the new class would be too rare

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @property
    def sentence(self) -> str:
        if not self.rows:
            return f"none, every class has {counted(self.fewest, 'row')} at least"
        each = listed((f"{quoted(name)} {counted(rows, 'row')}" for name, rows in self.rows.items()), 5)
        which = f"{counted(len(self.rows), 'class')} with fewer than {counted(self.fewest, 'row')}"
        if self.left_out:
            return f"{counted(self.total, 'row')} of {which} are left out, too few even together: {each}"
        return f"{which} became one, {self.name!r}, {counted(self.total, 'row')}: {each}"


def join_rare(named: pl.Series, fewest: int, enough: int, where: str) -> tuple[pl.Series, Joined]:
    """The name of each row's class, null where it is left out.  A class needs `enough` rows."""
    if fewest < enough:
        needed = counted(enough, "row")
        raise BadInput(f"--other {fewest}: parfocal needs at least {needed} of each class; give {enough} or more")
    counts = named.alias("class").value_counts(name="rows").sort(["rows", "class"], descending=[True, False])
    rows = dict(zip(counts["class"], counts["rows"], strict=True))
    rare = {name: count for name, count in rows.items() if count < fewest}
    if not rare:
        return named, Joined(fewest, None, {}, left_out=False)
    kept = [name for name in rows if name not in rare]
    left_out = sum(rare.values()) < enough
    if len(kept) + (not left_out) < 2:
        one = "one class only" if kept or not left_out else "no class"
        raise BadInput(
            f"--other {fewest}: {where} would have {one}, because {counted(len(rare), 'class')} with fewer rows would "
            f"be {'left out' if left_out else 'joined'}; it needs two, so give a smaller number, or collect more rows"
        )
    name = None if left_out else new_name(kept)
    joined = named.replace(list(rare), [name] * len(rare))
    return joined, Joined(fewest, name, rare, left_out)


def new_name(kept: Iterable[str]) -> str:
    """`other`, unless a frequent class has that name."""
    taken = {name.casefold() for name in kept}
    number, name = 1, OTHER
    while name in taken:
        name = "other classes" if number == 1 else f"other classes {number}"
        number += 1
    return name
