"""What `fit` prints: what it took the table for, how the losses compare, and what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from parfocal.app.columns import Column
from parfocal.app.errors import listed
from parfocal.app.metrics import BINS, TITLES
from parfocal.app.options import Metric, Roles
from parfocal.app.sample import Sample, Target
from parfocal.app.splits import Split
from parfocal.app.tables import Table
from parfocal.app.training import CROSS_ENTROPY, Candidate, Rows
from parfocal.app.verdict import mean_and_error

if TYPE_CHECKING:
    from parfocal.app.fitting import Curve, Trial

NAMES_SHOWN = 16


def print_sample(console: Console, table: Table, sample: Sample, split: Split, roles: Roles) -> None:
    """What each column was taken for, and which rows train and test."""
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for head, text in (
        ("table", f"{table.path}: {rows_of_table(sample):,} rows, {len(table.names)} columns"),
        ("target", describe_target(sample)),
        ("numbers", listed(named(sample, "number"), NAMES_SHOWN)),
        ("booleans", listed(named(sample, "boolean"), NAMES_SHOWN)),
        ("categories", listed(map(with_count, of_kind(sample, "category")), NAMES_SHOWN)),
        ("dates", listed(map(with_parts, of_kind(sample, "date", "datetime")), NAMES_SHOWN)),
        *(("left out", f"{', '.join(names)} ({reason})") for reason, names in sample.left_out.items()),
        *(("note", note) for note in sample.notes),
        ("weights", roles.weight or ""),
        ("training", describe_training(sample, split, roles)),
        ("final test", describe_test(sample, split)),
    ):
        if text:
            grid.add_row(Text(head, style="bold"), Text(text))
    console.print(grid)
    console.print()


def rows_of_table(sample: Sample) -> int:
    return len(sample.labels) + sample.target.missing_rows + sample.target.weightless_rows


def of_kind(sample: Sample, *kinds: str) -> list[Column]:
    return [column for column in sample.columns if column.kind in kinds]


def named(sample: Sample, kind: str) -> list[str]:
    return [column.name for column in of_kind(sample, kind)]


def with_count(column: Column) -> str:
    return f"{column.name} ({len(column.categories):,})"


def with_parts(column: Column) -> str:
    read_as = f" {column.date_format}" if column.date_format else ""
    return f"{column.name}{read_as} as {', '.join(column.parts)}"


def describe_target(sample: Sample) -> str:
    target, positives = sample.target, int(sample.labels.sum())
    share = 100 * positives / len(sample.labels)
    text = f"{target.name}: positive is {target.positive!r}, {positives:,} rows ({share:.3g} %)"
    text += f"; negative is {target.negative!r}"
    if target.tie:
        text += "; both are equally frequent, so the last in order was taken (--positive chooses)"
    if target.missing_rows:
        text += f"; {target.missing_rows:,} rows without a label are left out"
    if target.weightless_rows:
        text += f"; {target.weightless_rows:,} rows of weight 0 are left out"
    return text


def describe_training(sample: Sample, split: Split, roles: Roles) -> str:
    folds = f"{len(split.folds)} folds"
    how = f"{folds} that roll forward in {roles.time}" if split.by_time else f"{folds}, stratified"
    return f"{len(split.training):,} rows, {int(sample.labels[split.training].sum()):,} positive; {how}"


def describe_test(sample: Sample, split: Split) -> str:
    how = "the last in time" if split.by_time else "stratified"
    counts = f"{len(split.test):,} rows, {int(sample.labels[split.test].sum()):,} positive"
    return f"{counts}, {how}; no choice of loss, rounds or threshold sees them"


def print_trials(console: Console, trials: Sequence[Trial], winner: Trial, select: Metric, split: Split) -> None:
    """Each candidate's mean and standard error over folds, for raw scores and for recovered probabilities."""
    grid = metric_grid(f"Mean ± standard error over {len(split.folds)} folds")
    for trial in trials:
        # Cross-entropy's scores are probabilities already.
        for recovered in (True,) if trial.candidate == CROSS_ENTROPY else (False, True):
            wins = trial is winner and recovered
            cells = [mean_cell(trial.per_fold(metric, recovered)) for metric in TITLES]
            name = name_cell(trial.candidate.name, trial.candidate != CROSS_ENTROPY, recovered, wins)
            grid.add_row(name, *cells, style="bold" if wins else "")
    console.print(grid)
    console.print(Text(f"* has the best mean {TITLES[select]}, judged by recovered probabilities"))
    console.print(Text(f"calibration error: expected, over {BINS} bins of equal count\n", style="dim"))


def print_test(console: Console, curves: Sequence[Curve], winner: Candidate, test: Rows) -> None:
    """The final test of those that came so far."""
    grid = metric_grid(f"Final test, {len(test.labels):,} rows, trained on all training rows")
    for curve in curves:
        wins = curve.candidate == winner and curve.recovered
        cell = name_cell(curve.candidate.name, curve.candidate != CROSS_ENTROPY, curve.recovered, wins)
        grid.add_row(cell, *(number(curve.scores[metric]) for metric in TITLES), style="bold" if wins else "")
    console.print(grid)


def metric_grid(title: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("  loss")
    for metric in TITLES.values():
        heading = metric.replace("calibration", "calibr.").replace(" ", "\n", 1)  # 80 columns are not many
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid


def name_cell(name: str, two_kinds: bool, recovered: bool, wins: bool) -> Text:
    kind = ("\n  recovered probabilities" if recovered else "\n  raw scores") if two_kinds else ""
    return Text.assemble(("* " if wins else "  ") + name, (kind, "dim"))


def mean_cell(values: np.ndarray) -> Text:
    mean, error = mean_and_error(values)
    return Text.assemble(number(mean), ("\n±" + number(error), "dim"))


def number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def print_verdict(console: Console, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console.print(Text(sentence, style="bold"))
    console.print()


def print_folder(console: Console, table: Path, out: Path, threshold: float, target: Target) -> None:
    """Where the model is, and a command to try."""
    console.print(Text(f"Wrote {out}: model.txt, model.json, report.png."), soft_wrap=True)
    decision = f"It decides {target.name} = {target.positive} from a probability of {threshold:.4g} on"
    console.print(Text(f"{decision} (best F1 over the folds)."))
    console.print(Text("To score a table, for example the same one:"))
    command = [
        "parfocal",
        "predict",
        str(out),
        str(table),
        "--out",
        f"{out.name}-scores.csv",
        "--keep",
        target.name,
    ]
    console.print(Text(f"\n    {shlex.join(command)}\n"), soft_wrap=True)
