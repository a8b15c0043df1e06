"""One row of the results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.works import Task


@dataclass
class Row:
    work: str
    size: str
    logits: int
    threads: int
    contender: str
    beside: str  # the library in whose process it ran
    status: str = "ok"  # or why it was not timed
    base: bool = False  # the parfocal that the others are compared with
    median_s: float | None = None  # seconds a call
    p20_s: float | None = None
    p80_s: float | None = None
    times_ours: float | None = None
    repeats: int = 0
    cores_used: float | None = None
    loss_error: float | None = None  # relative to the largest true value
    gradient_error: float | None = None
    kernel: str = ""

    @classmethod
    def of(cls, task: Task, threads: int, library: str, contender: str, **rest: object) -> Row:
        return cls(task.work, task.size, task.logits, threads, contender, library, **rest)

    def ns_per_logit(self, seconds: float | None) -> float | None:
        return 1e9 * seconds / self.logits if self.logits and seconds is not None else None

    @property
    def failed(self) -> bool:
        """Whether it makes the whole run fail: a wrong result, or no result of parfocal itself."""
        return self.status.startswith("WRONG") or (self.status.startswith("failed") and "parfocal" in self.contender)


def compare_with_ours(rows: list[Row]) -> None:
    """Fill in the ratio of each time to parfocal's in the same process.

    The fallback has a process of its own, in which parfocal is the fallback; it is compared with the native one.
    """
    for row in rows:
        ours = find_base(rows, row)
        if ours and ours.median_s and row.median_s:
            row.times_ours = row.median_s / ours.median_s


def find_base(rows: Iterable[Row], of: Row) -> Row | None:
    beside = "numpy" if of.beside == "fallback" else of.beside
    alike = [row for row in rows if row.base and row.beside == beside and row.median_s]
    alike = [row for row in alike if (row.work, row.size, row.threads) == (of.work, of.size, of.threads)]
    return alike[-1] if alike else None  # the last: parfocal on the library's own arrays, if it takes them
