"""What `fit` prints: how the table was read, how the losses compare, and what was saved."""

from __future__ import annotations

import shlex

import numpy as np
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from parfocal.app.data.columns import Column, written_like
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import Sample
from parfocal.app.data.splits import Split
from parfocal.app.errors import counted, escaped, listed, quoted, shown
from parfocal.app.model.linear import LINEAR
from parfocal.app.study.candidates import Candidate, Settings
from parfocal.app.study.metrics import BINS, TITLES
from parfocal.app.study.study import Prepared, Study
from parfocal.app.study.trials import CALIBRATED, RAW, RECOVERED
from parfocal.app.study.verdict import mean_and_error
from parfocal.app.tell.decisions import print_decisions
from parfocal.app.tell.tables import Numbers

NAMES_SHOWN = 16
CLASSES_SHOWN = 20
LEAST_NAME = len("* cross-entropy")


def print_sample(console: Console, prepared: Prepared) -> None:
    """What each column was taken for, and which rows train and test."""
    options, sample, split = prepared.options, prepared.sample, prepared.split
    rows, width = counted(rows_of_table(sample), "row"), counted(prepared.table_columns, "column")
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for head, text in (
        ("table", f"{options.table}: {rows}, {width}"),
        ("target", describe_target(sample)),
        ("other", "" if sample.target.joined is None else sample.target.joined.sentence),
        ("numbers", listed(named(sample, "number"), NAMES_SHOWN)),
        ("booleans", listed(named(sample, "boolean"), NAMES_SHOWN)),
        ("categories", listed(map(with_count, of_kind(sample, "category")), NAMES_SHOWN)),
        ("dates", listed(map(with_parts, of_kind(sample, "date", "datetime")), NAMES_SHOWN)),
        *(("left out", f"{', '.join(map(shown, names))} ({reason})") for reason, names in sample.left_out.items()),
        *(("note", note) for note in sample.notes),
        ("weights", "" if options.roles.weight is None else shown(options.roles.weight)),
        ("training", describe_training(sample, split, options.roles)),
        ("final test", describe_test(sample, split)),
        ("engine", "" if options.engine == "lightgbm" else options.engine),  # LightGBM is the default
    ):
        if text:
            grid.add_row(Text(head, style="bold"), Text(text))
    console.print(grid)
    console.print()


def rows_of_table(sample: Sample) -> int:
    target = sample.target
    return len(sample.labels) + target.missing_rows + target.weightless_rows + target.rare_rows


def of_kind(sample: Sample, *kinds: str) -> list[Column]:
    return [column for column in sample.columns if column.kind in kinds]


def named(sample: Sample, kind: str) -> list[str]:
    return [shown(column.name) for column in of_kind(sample, kind)]


def with_count(column: Column) -> str:
    return f"{shown(column.name)} ({len(column.categories):,})"


def with_parts(column: Column) -> str:
    read_as = f" ({written_like(column)})" if column.date_format else ""
    return f"{shown(column.name)}{read_as} as {', '.join(column.parts)}"


def describe_target(sample: Sample) -> str:
    target, rows = sample.target, np.bincount(sample.labels)
    name, classes = shown(target.name), [quoted(name) for name in target.classes]
    shares = [f"{counted(count, 'row')} ({100 * count / len(sample.labels):.3g} %)" for count in rows]
    if len(rows) == 2:
        text = f"{name}: positive is {classes[1]}, {shares[1]}; negative is {classes[0]}"
    else:
        each = [" ".join(both) for both in zip(classes, shares, strict=True)]
        text = f"{name}: {counted(len(rows), 'class')}, {listed(each, CLASSES_SHOWN)}"
    if target.tie:
        text += "; both are equally frequent, so the last in order was taken (--positive chooses)"
    if target.missing_rows:
        marks = f" ({listed(map(quoted, target.missing_marks))} is taken for missing)" if target.missing_marks else ""
        text += left_out(target.missing_rows, "without a label") + marks
    if target.weightless_rows:
        text += left_out(target.weightless_rows, "of weight 0")
    return text


def left_out(count: int, which: str) -> str:
    return f"; {counted(count, 'row')} {which} {'is' if count == 1 else 'are'} left out"


def describe_training(sample: Sample, split: Split, roles: Roles) -> str:
    folds = counted(len(split.folds), "fold")
    how = f"{folds} that roll forward in {shown(roles.time or '')}" if split.by_time else f"{folds}, stratified"
    return f"{describe_rows(sample, split.training)}; {how}"


def describe_test(sample: Sample, split: Split) -> str:
    how = "the last in time" if split.by_time else "stratified"
    return f"{describe_rows(sample, split.test)}, {how}; no choice of loss, rounds or threshold sees them"


def describe_rows(sample: Sample, rows: np.ndarray) -> str:
    counts = np.bincount(sample.labels[rows], minlength=len(sample.target.classes))
    rarest = f"{counts[1]:,} positive" if len(counts) == 2 else f"{counts.min():,} of the rarest class"
    return f"{counted(len(rows), 'row')}, {rarest}"


def print_study(console: Console, study: Study) -> None:
    print_trials(console, study)
    print_test(console, study)
    print_classes(console, study)
    for sentence in study.verdict:
        console.print(Text(sentence, style="bold"))
    for caution in (*study.cautions, *study.out_of_reach):
        console.print(Text(f"Caution: {caution}", style="bold"))
    console.print()
    print_decisions(console, study.decisions, study.sample.target.name, study.sample.target.classes)


def print_trials(console: Console, study: Study) -> None:
    """Each candidate's mean and standard error over folds: raw scores, recovered and calibrated probabilities."""
    options, winner = study.options, study.winner.trial
    table = metric_table(f"Mean ± standard error over {counted(len(study.split.folds), 'fold')}")
    for trial in study.shown_trials:
        kinds = [RECOVERED, CALIBRATED] if trial.candidate.is_cross_entropy else [RAW, RECOVERED, CALIBRATED]
        for kind in kinds if trial in (winner, study.finalists[0].trial) else [CALIBRATED]:
            wins = trial is winner and kind == CALIBRATED
            cells = [mean_cell(trial.per_fold(metric, kind)) for metric in TITLES]
            table.add(name_cell(trial.candidate, kind, wins, study.usual), cells, style="bold" if wins else "")
    table.print(console)
    chosen = f"* has the best mean {TITLES[options.select]}, calibrated"
    if study.best_trial is not winner:
        chosen = (
            f"* is the simplest within one standard error of the best mean {TITLES[options.select]}, calibrated, "
            f"which {study.best_trial.candidate.name} has"
        )
    console.print(Text(chosen))
    if options.engine != LINEAR:
        console.print(Text(f"trees: {study.usual}, where nothing else is said", style="dim"))
    console.print(Text(f"calibration error: expected, over {BINS} bins of equal count", style="dim"))
    console.print(Text("calibrated: on the out-of-fold scores, each fold by those of the other folds", style="dim"))
    if len(study.sample.target.classes) > 2:
        over = "average precision, ROC AUC and calibration error: means over the classes, each against the rest; "
        console.print(Text(over + "observed / expected: of the rarest class", style="dim"))
    if options.budget:
        tried = counted(len(study.trials), "candidate")
        spent = f"the best of {tried} that the budget was spent on; model.json has all of them"
        console.print(Text(spent, style="dim"))
    console.print()


def print_test(console: Console, study: Study) -> None:
    """The finalists on the final test."""
    table = metric_table(f"Final test, {counted(len(study.test.labels), 'row')}, trained on all training rows")
    for result in study.results:
        wins = result.candidate == study.winner.candidate and result.kind == CALIBRATED
        cells = [number(result.scores[metric]) for metric in TITLES]
        table.add(name_cell(result.candidate, result.kind, wins, study.usual), cells, style="bold" if wins else "")
    table.print(console)


def print_classes(console: Console, study: Study) -> None:
    """Each class by calibrated probabilities: the winner, and the other finalists below it."""
    classes, winner = study.sample.target.classes, study.winner
    finalists = sorted(study.finalists, key=lambda finalist: finalist is not winner)
    rows = [result.rows for result in winner.by_class]
    rarest = sorted(np.argsort(rows, kind="stable")[:CLASSES_SHOWN])
    table = class_table()
    for place in rarest:
        share = 100 * winner.by_class[place].share
        table.add(f"  {shown(classes[place])}: {counted(rows[place], 'row')} ({share:.3g} %)", style="bold")
        for finalist in finalists:
            result = finalist.by_class[place]
            cells = (result.mean_probability, result.average_precision, result.precision, result.recall, result.f1)
            name = ("* " if finalist is winner else "  ") + finalist.candidate.name
            table.add(Text(name, style="" if name[0] == "*" else "dim"), [number(cell) for cell in cells])
    table.print(console)
    if len(rarest) < len(rows):
        more = f"the rarest {len(rarest)} of {counted(len(rows), 'class')}; model.json has all of them\n"
        console.print(Text(more, style="dim"))


def class_table() -> Numbers:
    headings = ("mean\nprobab.", "average\nprecision", "precision", "recall", "F1")
    return Numbers("Final test by class", "  class", LEAST_NAME, headings)


def metric_table(title: str) -> Numbers:
    short = [name.replace("calibration", "calibr.").replace(" / ", "/\n") for name in TITLES.values()]  # 80 columns
    return Numbers(title, "  loss", LEAST_NAME, [heading.replace(" ", "\n", 1) for heading in short])


def name_cell(candidate: Candidate, kind: str, wins: bool, usual: Settings) -> Text:
    """The usual settings are printed once, above."""
    said = "" if candidate.is_cross_entropy and kind == RECOVERED else kind
    settings = "" if candidate.settings == usual else str(candidate.settings)
    more = ", ".join(filter(None, (said, settings)))
    return Text.assemble(("* " if wins else "  ") + candidate.name, (more and f"\n  {more}", "dim"))


def mean_cell(values: np.ndarray) -> Text:
    mean, error = mean_and_error(values)
    return Text.assemble(number(mean), ("\n±" + number(error), "dim"))


def number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def print_folder(console: Console, study: Study) -> None:
    """Where the model is, and a command to try."""
    options, target = study.options, study.sample.target
    console.print(Text(f"Wrote {options.out}: {', '.join(study.files)}."), soft_wrap=True)
    command = f"parfocal predict {shlex.quote(str(options.out))} {shlex.quote(str(options.table))}"
    keep = ""
    if escaped(target.name) == target.name:  # a line break would look like two commands
        keep = f" --keep {shlex.quote(target.name)}"
    if not options.rules and len(target.classes) > 2:
        balanced = shlex.quote(f"{options.out.name}-balanced.csv")
        console.print(Text("To find rare classes more often:"))
        console.print(Text(f"\n    {command} --out {balanced}{keep} --decide balanced\n"), soft_wrap=True)
    elif not options.rules:
        after = f"parfocal decide {shlex.quote(str(options.out))} cost:5,1"
        console.print(Text(f"To decide by what a miss and a false alarm cost: {after}."), soft_wrap=True)
    console.print(Text("To score a table, for example the same one:"))
    scores = shlex.quote(f"{options.out.name}-scores.csv")
    console.print(Text(f"\n    {command} --out {scores}{keep}\n"), soft_wrap=True)
