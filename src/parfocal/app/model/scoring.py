"""A table scored by a model, in chunks, and what there is to say about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from parfocal.app.data.new_rows import CHUNK, NewRows
from parfocal.app.data.tables import Table, is_parquet
from parfocal.app.errors import BadInput, counted, shown
from parfocal.app.model.decisions import Decision
from parfocal.app.model.model import Model
from parfocal.app.model.reasons import names_of_reasons, reasons

PROBABILITY, DECISION = "probability", "decision"


@dataclass(frozen=True)
class Scores:
    """What `parfocal predict` found, of which the terminal and the JSON are views."""

    folder: Path
    table: Path
    file: Path
    model: Model
    decision: Decision
    rows: int  # read and written: they are the same
    decided: tuple[int, ...]  # rows of each class
    mean_probability: tuple[float, ...]  # of each class; of two classes of the positive alone
    unknown_categories: dict[str, int]  # by column, the rows
    why: int = 0  # reasons for each row

    @property
    def cautions(self) -> list[str]:
        return [
            f"{shown(name)}: {counted(count, 'row')} with an unknown category, treated as missing"
            for name, count in self.unknown_categories.items()
        ]


class Scorer:
    """Scores the chunks of a table, and counts."""

    def __init__(self, model: Model, decision: Decision, table: Table, keep: Sequence[str], why: int = 0) -> None:
        self.model, self.decision, self.table, self.keep, self.why = model, decision, table, keep, why
        self.new_rows = NewRows(model.columns, table.types, text=table.as_text)
        self.decided: Counter[int] = Counter()
        self.total = np.zeros(np.shape(model.init_score))

    def chunks(self) -> Iterator[pl.DataFrame]:
        """The scored chunks.  After a problem the rest is read, to tell all problems at once, but not scored."""
        rows = self.new_rows
        if rows.problems and not self.table.as_text:
            return
        names = list(dict.fromkeys([*(column.name for column in rows.usable), *self.keep]))
        for chunk in self.table.batches(names, CHUNK):
            matrix = rows.read(chunk)
            if len(chunk) and rows.fit_so_far:
                yield self.score(chunk, matrix)

    def score(self, chunk: pl.DataFrame, matrix: np.ndarray) -> pl.DataFrame:
        model, probabilities = self.model, self.model.probabilities(matrix)
        codes = self.decision(probabilities)
        self.decided.update(Counter(codes.tolist()))
        self.total = self.total + probabilities.sum(axis=0)
        of_classes = probabilities[:, None] if probabilities.ndim == 1 else probabilities
        columns = [pl.Series(name, of_classes[:, place]) for place, name in enumerate(names_of_probabilities(model))]
        if len(model.classes) == 2:
            decided = pl.Series(DECISION, codes.astype(bool))
        else:
            decided = pl.Series(DECISION, model.classes).gather(codes)
        why = reasons(self.model, chunk, matrix, codes, self.why) if self.why else []
        return pl.DataFrame([*chunk.select(self.keep).get_columns(), *columns, decided, *why])

    def check(self) -> None:
        """Raise everything that was wrong with the table."""
        self.new_rows.check(self.table.path)
        if self.new_rows.rows == 0:
            raise BadInput(f"{self.table.path} has column names but no rows")

    def found(self, folder: Path, file: Path) -> Scores:
        rows = self.new_rows.rows
        return Scores(
            folder=folder,
            table=self.table.path,
            file=file,
            model=self.model,
            decision=self.decision,
            rows=rows,
            decided=tuple(self.decided[place] for place in range(len(self.model.classes))),
            mean_probability=tuple((np.atleast_1d(self.total) / rows).tolist()),
            unknown_categories=dict(self.new_rows.unknown),
            why=self.why,
        )


def names_of_probabilities(model: Model) -> list[str]:
    """One column for each class; of two classes one for the positive."""
    return [PROBABILITY] if len(model.classes) == 2 else [f"{PROBABILITY}_{name}" for name in model.classes]


def check_keep(keep: Sequence[str], table: Table, out: Path, model: Model, why: int = 0) -> None:
    for name in keep:
        table.check_column(name, "--keep")
        if name in (*names_of_probabilities(model), DECISION, *names_of_reasons(why)):
            raise BadInput(f"--keep {name}: predict writes a column of that name; rename yours, or don't keep it")
        if not is_parquet(out) and (table.types[name].is_nested() or table.types[name] in (pl.Binary, pl.Object)):
            raise BadInput(f"--keep {name}: a CSV can't hold {table.types[name]}; write .parquet, or don't keep it")
