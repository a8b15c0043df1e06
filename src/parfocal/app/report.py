"""What `fit` prints: what it took the table for, how the losses compare, and what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from parfocal.app.columns import Column
from parfocal.app.errors import counted, listed
from parfocal.app.metrics import BINS, TITLES, ClassResult
from parfocal.app.model import DESCRIPTION, PICTURE, Model
from parfocal.app.options import Metric, Options, Roles
from parfocal.app.sample import Sample
from parfocal.app.splits import Split
from parfocal.app.tables import Table
from parfocal.app.training import Candidate, Rows, Settings
from parfocal.app.verdict import mean_and_error
from parfocal.engines import ENGINES

if TYPE_CHECKING:
    from parfocal.app.fitting import Curve, Trial

NAMES_SHOWN = 16
CLASSES_SHOWN = 20
TRIALS_SHOWN = 8  # of a search


def print_sample(console: Console, table: Table, sample: Sample, split: Split, options: Options) -> None:
    """What each column was taken for, and which rows train and test."""
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for head, text in (
        ("table", f"{table.path}: {counted(rows_of_table(sample), 'row')}, {counted(len(table.names), 'column')}"),
        ("target", describe_target(sample)),
        ("numbers", listed(named(sample, "number"), NAMES_SHOWN)),
        ("booleans", listed(named(sample, "boolean"), NAMES_SHOWN)),
        ("categories", listed(map(with_count, of_kind(sample, "category")), NAMES_SHOWN)),
        ("dates", listed(map(with_parts, of_kind(sample, "date", "datetime")), NAMES_SHOWN)),
        *(("left out", f"{', '.join(names)} ({reason})") for reason, names in sample.left_out.items()),
        *(("note", note) for note in sample.notes),
        ("weights", options.roles.weight or ""),
        ("training", describe_training(sample, split, options.roles)),
        ("final test", describe_test(sample, split)),
        ("engine", "" if options.engine == "lightgbm" else options.engine),  # LightGBM goes without saying
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
    target, rows = sample.target, np.bincount(sample.labels)
    shares = [f"{counted(count, 'row')} ({100 * count / len(sample.labels):.3g} %)" for count in rows]
    if len(rows) == 2:
        text = f"{target.name}: positive is {target.positive!r}, {shares[1]}; negative is {target.classes[0]!r}"
    else:
        each = [f"{name!r} {share}" for name, share in zip(target.classes, shares, strict=True)]
        text = f"{target.name}: {counted(len(rows), 'class')}, {listed(each, CLASSES_SHOWN)}"
    if target.tie:
        text += "; both are equally frequent, so the last in order was taken (--positive chooses)"
    if target.missing_rows:
        text += left_out(target.missing_rows, "without a label")
    if target.weightless_rows:
        text += left_out(target.weightless_rows, "of weight 0")
    return text


def left_out(count: int, which: str) -> str:
    return f"; {counted(count, 'row')} {which} {'is' if count == 1 else 'are'} left out"


def describe_training(sample: Sample, split: Split, roles: Roles) -> str:
    folds = counted(len(split.folds), "fold")
    how = f"{folds} that roll forward in {roles.time}" if split.by_time else f"{folds}, stratified"
    return f"{describe_rows(sample, split.training)}; {how}"


def describe_test(sample: Sample, split: Split) -> str:
    how = "the last in time" if split.by_time else "stratified"
    return f"{describe_rows(sample, split.test)}, {how}; no choice of loss, rounds or threshold sees them"


def describe_rows(sample: Sample, rows: np.ndarray) -> str:
    counts = np.bincount(sample.labels[rows], minlength=len(sample.target.classes))
    rarest = f"{counts[1]:,} positive" if len(counts) == 2 else f"{counts.min():,} of the rarest class"
    return f"{counted(len(rows), 'row')}, {rarest}"


def print_trials(
    console: Console,
    trials: Sequence[Trial],
    finalists: Sequence[Trial],
    winner: Trial,
    options: Options,
    split: Split,
) -> None:
    """Each candidate's mean and standard error over folds, for raw scores and for recovered probabilities."""
    shown = best_of_search(trials, finalists, options.select) if options.budget else trials
    grid = metric_grid(f"Mean ± standard error over {counted(len(split.folds), 'fold')}")
    for trial in shown:
        # Cross-entropy's scores are probabilities already.
        for recovered in (True,) if trial.candidate.is_cross_entropy else (False, True):
            wins = trial is winner and recovered
            cells = [mean_cell(trial.per_fold(metric, recovered)) for metric in TITLES]
            grid.add_row(name_cell(trial.candidate, recovered, wins), *cells, style="bold" if wins else "")
    console.print(grid)
    console.print(Text(f"* has the best mean {TITLES[options.select]}, judged by recovered probabilities"))
    console.print(Text(f"calibration error: expected, over {BINS} bins of equal count", style="dim"))
    if winner.fits[0].probabilities.ndim == 2:
        over = "average precision, ROC AUC and calibration error: means over the classes, each against the rest"
        console.print(Text(over, style="dim"))
    if options.budget:
        tried = counted(len(trials), "candidate")
        spent = f"the best of {tried} that the budget was spent on; model.json has all of them"
        console.print(Text(spent, style="dim"))
    console.print()


def best_of_search(trials: Sequence[Trial], finalists: Sequence[Trial], select: Metric) -> list[Trial]:
    """The finalists and the next best, the best first."""
    ranked = sorted(trials, key=lambda trial: -select.sign * float(trial.per_fold(select).mean()))
    others = [trial for trial in ranked if trial not in finalists][: TRIALS_SHOWN - len(finalists)]
    return [trial for trial in ranked if trial in finalists or trial in others]


def print_test(console: Console, curves: Sequence[Curve], winner: Candidate, test: Rows) -> None:
    """The final test of those that came so far."""
    grid = metric_grid(f"Final test, {counted(len(test.labels), 'row')}, trained on all training rows")
    for curve in curves:
        wins = curve.candidate == winner and curve.recovered
        cells = [number(curve.scores[metric]) for metric in TITLES]
        grid.add_row(name_cell(curve.candidate, curve.recovered, wins), *cells, style="bold" if wins else "")
    console.print(grid)


def print_classes(console: Console, classes: Sequence[str], results: Mapping[Candidate, Sequence[ClassResult]]) -> None:
    """How each class fares, by recovered probabilities: the winner, and the others of the final test below it."""
    winner, *_ = results  # candidates
    rows = [result.rows for result in results[winner]]
    rarest = sorted(np.argsort(rows, kind="stable")[:CLASSES_SHOWN])
    grid = Grid(
        title="Final test by class", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    grid.add_column("  class")
    for heading in ("mean\nprobab.", "average\nprecision", "precision", "recall", "F1"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for place in rarest:
        share = 100 * results[winner][place].share
        grid.add_row(Text(f"  {classes[place]}: {counted(rows[place], 'row')} ({share:.3g} %)"), style="bold")
        for candidate, of_classes in results.items():
            result = of_classes[place]
            cells = (result.mean_probability, result.average_precision, result.precision, result.recall, result.f1)
            name = ("* " if candidate is winner else "  ") + candidate.name
            grid.add_row(Text(name, style="" if name[0] == "*" else "dim"), *(number(cell) for cell in cells))
    console.print(grid)
    if len(rarest) < len(rows):
        more = f"the rarest {len(rarest)} of {counted(len(rows), 'class')}; model.json has all of them\n"
        console.print(Text(more, style="dim"))


def metric_grid(title: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("  loss")
    for metric in TITLES.values():
        heading = metric.replace("calibration", "calibr.").replace(" ", "\n", 1)  # 80 columns are not many
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid


def name_cell(candidate: Candidate, recovered: bool, wins: bool) -> Text:
    kind = "" if candidate.is_cross_entropy else "\n  recovered probabilities" if recovered else "\n  raw scores"
    settings = "" if candidate.settings == Settings() else f"\n  {candidate.settings}"
    return Text.assemble(("* " if wins else "  ") + candidate.name, (kind + settings, "dim"))


def mean_cell(values: np.ndarray) -> Text:
    mean, error = mean_and_error(values)
    return Text.assemble(number(mean), ("\n±" + number(error), "dim"))


def number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def print_verdict(console: Console, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console.print(Text(sentence, style="bold"))
    console.print()


def print_folder(console: Console, options: Options, model: Model) -> None:
    """Where the model is, and a command to try."""
    files = f"{ENGINES[model.engine].file}, {DESCRIPTION}, {PICTURE}"
    console.print(Text(f"Wrote {options.out}: {files}."), soft_wrap=True)
    if model.threshold is None:
        console.print(Text(f"It decides for the class of {model.target} that is most probable."))
    else:
        decision = f"It decides {model.target} = {model.classes[1]} from a probability of {model.threshold:.4g} on"
        console.print(Text(f"{decision} (best F1 over the folds)."))
    console.print(Text("To score a table, for example the same one:"))
    scored = f"{options.out.name}-scores.csv"
    command = ["parfocal", "predict", str(options.out), str(options.table), "--out", scored, "--keep", model.target]
    console.print(Text(f"\n    {shlex.join(command)}\n"), soft_wrap=True)
