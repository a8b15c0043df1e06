"""`parfocal predict`: from a model's folder and a table to probabilities, chunk by chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.text import Text

from parfocal.app import columns, files
from parfocal.app.columns import Column
from parfocal.app.decisions import Decision, decision
from parfocal.app.errors import BadInput, counted, listed, quoted, shown
from parfocal.app.model import Model, read_model
from parfocal.app.progress import progress
from parfocal.app.tables import Table, is_parquet, open_table

CHUNK = 100_000  # rows; small enough for any memory, large enough that a chunk's overhead vanishes
PROBABILITY, DECISION = "probability", "decision"


@dataclass
class Findings:
    """What was seen while the table passed by."""

    problems: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    first_wrong: dict[str, str] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    decided: Counter[int] = field(default_factory=Counter)  # rows of each class
    total: Any = 0.0  # of the probabilities, or of each class's


def predict(
    folder: Path,
    table_path: Path,
    out: Path,
    keep: Sequence[str],
    rule: str,
    force: bool,
    console: Console,
    progress_console: Console,
) -> None:
    if out.exists() and table_path.exists() and out.samefile(table_path):
        raise BadInput(f"--out {out} is the table itself; choose another name")
    files.check_free(out, force, Path.is_file, "a file")
    if not (is_parquet(out) or out.suffix.lower() in (".csv", ".tsv")):
        raise BadInput(f"--out {out}: the name must end in .csv, .tsv or .parquet")
    model = read_model(folder)
    decided = decision(rule, model)
    table = open_table(table_path)
    keep = list(dict.fromkeys(keep))
    check_keep(keep, table, out, model)
    findings = Findings(problems=list(problems_of_types(model, table)))

    with files.staged(out, force, Path.is_file) as new:
        parts: list[Path] = []
        with progress(progress_console, "scoring chunks") as watch:
            for scored in score_chunks(model, decided, table, keep, findings):
                parts.append(new.parent / f"part-{len(parts):06}.parquet")
                scored.write_parquet(parts[-1])
                watch.advance()
        raise_problems(findings, table, model)
        write_parts(parts, new)
    print_findings(console, findings, model, decided, out)


def names_of_probabilities(model: Model) -> list[str]:
    """One column for each class; of two classes one for the positive."""
    return [PROBABILITY] if len(model.classes) == 2 else [f"{PROBABILITY}_{name}" for name in model.classes]


def check_keep(keep: Sequence[str], table: Table, out: Path, model: Model) -> None:
    for name in keep:
        table.check_column(name, "--keep")
        if name in (*names_of_probabilities(model), DECISION):
            raise BadInput(f"--keep {name}: predict writes a column of that name; rename yours, or don't keep it")
        if not is_parquet(out) and (table.types[name].is_nested() or table.types[name] in (pl.Binary, pl.Object)):
            raise BadInput(f"--keep {name}: a CSV can't hold {table.types[name]}; write .parquet, or don't keep it")


def problems_of_types(model: Model, table: Table) -> Iterator[str]:
    """What the names and types alone tell."""
    missing = [column.name for column in model.columns if column.name not in table.types]
    if missing:
        yield f"column{'s' if len(missing) > 1 else ''} {listed(map(quoted, missing))} missing"
    if table.as_text:
        return
    for column in model.columns:
        if column.name in table.types and not columns.accepts(column, table.types[column.name]):
            yield f"column {quoted(column.name)} must be a {column.kind}, it is {table.types[column.name]}"


def score_chunks(
    model: Model, decided: Decision, table: Table, keep: Sequence[str], findings: Findings
) -> Iterator[pl.DataFrame]:
    """The scored chunks.  After a problem the rest is read on, to tell all problems at once, but not scored."""
    usable = [
        column
        for column in model.columns
        if column.name in table.types and (table.as_text or columns.accepts(column, table.types[column.name]))
    ]
    if findings.problems and not table.as_text:
        return
    names = list(dict.fromkeys([*(column.name for column in usable), *keep]))
    for chunk in table.batches(names, CHUNK):
        features = [part for column in usable for part in read_column(chunk[column.name], column, findings)]
        findings.rows += len(chunk)
        if len(chunk) and not findings.problems and not findings.wrong:
            yield score_chunk(model, decided, chunk.select(keep), np.stack(features, axis=1), findings)


def read_column(values: pl.Series, column: Column, findings: Findings) -> list[np.ndarray]:
    converted = columns.convert(values, column)
    if not converted.clean:
        findings.wrong[column.name] += len(converted.wrong)
        findings.first_wrong.setdefault(column.name, str(converted.wrong[0]))
    unknown = columns.count_unknown(converted.values, column)
    if unknown:
        findings.unknown[column.name] += unknown
    return columns.encode(converted.values, column)


def score_chunk(
    model: Model, decided: Decision, kept: pl.DataFrame, matrix: np.ndarray, findings: Findings
) -> pl.DataFrame:
    probabilities = model.probabilities(matrix)
    codes = decided(probabilities)
    findings.decided.update(Counter(codes.tolist()))
    findings.total = findings.total + probabilities.sum(axis=0)
    of_classes = probabilities[:, None] if probabilities.ndim == 1 else probabilities
    said = [pl.Series(name, of_classes[:, place]) for place, name in enumerate(names_of_probabilities(model))]
    if len(model.classes) == 2:
        of_rows = pl.Series(DECISION, codes.astype(bool))
    else:
        of_rows = pl.Series(DECISION, model.classes).gather(codes)
    return pl.DataFrame([*kept.get_columns(), *said, of_rows])


def raise_problems(findings: Findings, table: Table, model: Model) -> None:
    kinds = {column.name: columns.described(column) for column in model.columns}
    problems = findings.problems + [
        f"column {quoted(name)} must be {kinds[name]}, but in {counted(count, 'row')} it is not "
        f"(first: {quoted(findings.first_wrong[name])})"
        for name, count in findings.wrong.items()
    ]
    if problems:
        raise BadInput(f"{table.path} does not fit the model: {'; '.join(problems)}")
    if findings.rows == 0:
        raise BadInput(f"{table.path} has column names but no rows")


def write_parts(parts: list[Path], new: Path) -> None:
    """All parts as one file, streamed."""
    rows = pl.scan_parquet(parts, glob=False)
    if is_parquet(new):
        rows.sink_parquet(new)
    else:
        rows.sink_csv(new, separator="\t" if new.suffix.lower() == ".tsv" else ",")


def print_findings(console: Console, findings: Findings, model: Model, decided: Decision, out: Path) -> None:
    for name, count in findings.unknown.items():
        console.print(Text(f"{shown(name)}: {counted(count, 'row')} with an unknown category, treated as missing"))
    means = np.atleast_1d(findings.total) / findings.rows
    counts = [findings.decided[place] for place in range(len(model.classes))]
    shares = [f"{counted(count, 'row')} ({100 * count / findings.rows:.3g} %)" for count in counts]
    scored = f"{counted(findings.rows, 'row')} scored"
    if len(model.classes) == 2:
        console.print(Text(f"{scored}, mean probability {means[0]:.4g}"))
        how = f"(probability >= {decided.threshold:.4g}{decided.why and ', ' + decided.why})"
        console.print(Text(f"{shares[1]} decided as {shown(model.target)} = {shown(model.classes[1])} {how}"))
    else:
        how = f"the largest probability{decided.why and ' ' + decided.why}"
        console.print(Text(f"{scored}; {shown(model.target)} decided by {how}:"))
        for name, share, mean in zip(model.classes, shares, means, strict=True):
            console.print(Text(f"  {shown(name)}: {share}, mean probability {mean:.4g}"))
    console.print(Text(f"Wrote {out}."), soft_wrap=True)
