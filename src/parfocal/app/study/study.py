"""What a fit finds out, as one value.  The terminal, the picture, model.json and `--json` are views of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from parfocal.app.data.columns import Column
from parfocal.app.data.sample import Sample, read_sample
from parfocal.app.data.splits import Split, split_by_class, split_by_time
from parfocal.app.data.tables import open_table
from parfocal.app.errors import BadInput, counted, listed
from parfocal.app.model.checks import check_texts
from parfocal.app.model.decisions import OutOfReach, check_days
from parfocal.app.model.evidence import JUDGED
from parfocal.app.model.linear import ENGINES, LINEAR, check_installed
from parfocal.app.model.model import DESCRIPTION, PAGE, PICTURE
from parfocal.app.model.outcomes import Decided, decided
from parfocal.app.model.rules import Rule, with_costs
from parfocal.app.model.saved import versions
from parfocal.app.options import Options
from parfocal.app.study.candidates import Candidate, Settings, candidates, usual_settings
from parfocal.app.study.columns_matter import ColumnsMatter, columns_matter
from parfocal.app.study.final_test import Finalist, FinalResult, calibration_harm, compare, judge
from parfocal.app.study.training import FinalFit, Folds, Training, fit_finally
from parfocal.app.study.trials import Trial, best_of_each, choose, choose_finalists, race, to_trials
from parfocal.app.study.verdict import Comparison, decimals, resampling_blocks
from parfocal.boosters import Rows

FEW_TO_LEARN, FEW_TO_JUDGE = 100, 50  # rows of the rarest class; from 50 on, their number is certain to 14 %
TRIALS_SHOWN = 8  # of a search

# Inverse penalties of linear models, for features of variance 1.  Above 1 little was gained: 1.131 at 10 for 1.133, in
# the unit of the table above FEW_LEAVES in candidates.py.
PENALTIES = (0.01, 0.1, 1.0)


class Watch(Protocol):
    """Shows how far a study is: tell/progress.py has one."""

    def stage(self, what: str, steps: int | None = None) -> None: ...

    def expect(self, steps: int) -> None: ...

    def advance(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is known before anything is trained."""

    options: Options
    sample: Sample  # with the categories of the training rows
    split: Split
    table_columns: int  # of the whole table
    began: float  # on the clock of time.monotonic
    read: float  # when the table had been read
    rules: tuple[Rule, ...] = ()  # of --decide, with the prices of their files

    def without_values(self) -> Prepared:
        """To free their memory, once the matrix has them; only --refit needs them again."""
        return replace(self, sample=replace(self.sample, values={}))


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a fit found out."""

    options: Options
    sample: Sample
    split: Split
    table_columns: int
    usual: Settings  # of the trees
    trials: list[Trial]
    dropped: list[Candidate]  # by the race
    winner: Finalist
    finalists: list[Finalist]  # cross-entropy first; the winner is among them
    comparisons: list[Comparison]  # each of the other finalists with cross-entropy, the winner first
    decisions: list[Decided]  # of the winner; by the first `predict` decides
    out_of_reach: list[str]  # the rules that no threshold obeys, and why
    calibration_harm: tuple[float, float] | None  # what calibrating added to the log loss, where beyond noise
    matter: ColumnsMatter  # which columns the winner rests on
    test: Rows
    saved: FinalFit  # of the winner; by --refit of all rows
    saved_columns: tuple[Column, ...]  # with the categories of the rows that `saved` saw
    seconds: dict[str, float]  # by stage
    versions: dict[str, str]

    @property
    def verdict(self) -> list[str]:
        """Whether another loss beats cross-entropy, which candidates the race dropped, and whether calibration hurt."""
        said = [comparison.sentence for comparison in self.comparisons]
        if self.dropped:
            names = listed(dict.fromkeys(candidate.name for candidate in self.dropped), len(self.dropped))
            said.append(f"More than two standard errors behind the best on one fold, and dropped: {names}.")
        if self.calibration_harm is not None:
            low, high = self.calibration_harm
            digits = decimals(low, high)
            said.append(
                "Calibrating on the folds made the log loss of the final test worse, beyond noise (95 % interval "
                f"{low:+.{digits}f} to {high:+.{digits}f}): what the folds saw is not what came later."
            )
        return said

    @property
    def cautions(self) -> list[str]:
        """What few rows of a class leave uncertain."""
        said = []
        rare, rare_tested = self.training_rarest, self.test.of_rarest_class
        if rare < FEW_TO_LEARN:
            said.append(
                f"Only {counted(rare, 'row')} of the rarest class to learn from, on which it rests which loss is better"
                f"{', and the threshold' if len(self.sample.target.classes) == 2 else ''}."
            )
        if rare_tested < FEW_TO_JUDGE:
            error = 100 / np.sqrt(rare_tested)
            said.append(
                f"The final test has {counted(rare_tested, 'row')} of the rarest class, so its observed / expected is "
                f"uncertain by about {error:.0f} %, and its other numbers are rough as well."
            )
        return said

    @property
    def training_rarest(self) -> int:
        labels = self.sample.labels[self.split.training]
        return int(np.bincount(labels, minlength=len(self.sample.target.classes)).min())

    @property
    def files(self) -> list[str]:
        """In the folder of the model."""
        return [self.saved.engine.file, DESCRIPTION, JUDGED, PICTURE, PAGE]

    @property
    def results(self) -> list[FinalResult]:
        """Of the final test."""
        return [result for finalist in self.finalists for result in finalist.results.values()]

    @property
    def best_trial(self) -> Trial:
        """The best mean on the folds; a simpler one may have won."""
        return max(self.shown_trials, key=lambda trial: trial.mean(self.options.select))

    @property
    def shown_trials(self) -> list[Trial]:
        """One for each loss, whatever the settings that were tried for it; of a search the best."""
        select = self.options.select
        if not self.options.budget:
            return best_of_each(self.trials, select)
        finalists = [finalist.trial for finalist in self.finalists]
        ranked = sorted(self.trials, key=lambda trial: -trial.mean(select))
        others = [trial for trial in ranked if trial not in finalists][: TRIALS_SHOWN - len(finalists)]
        return [trial for trial in ranked if trial in finalists or trial in others]


def prepare(options: Options) -> Prepared:
    """Read the table, decide what its columns are, and split its rows.  Raises BadInput for what cannot be fitted."""
    began = time.monotonic()
    options.check()
    check_installed(str(options.engine), f"--engine {options.engine}")
    table = open_table(options.table)
    sample = read_sample(table, options.roles, options.reading)
    classes = sample.target.classes
    check_speed(options, len(classes))
    rules = tuple(with_costs(rule, classes) for rule in options.rules)
    for rule in rules:
        check_days(rule, sample.rows_per_day)
    if sample.times is None:
        split = split_by_class(sample.labels, options.seed, options.fast)
    else:
        split = split_by_time(sample.times, sample.labels, classes)
    learnt = sample.learn_categories(split.training)
    try:
        check_texts(learnt.target.name, classes, learnt.columns)  # what predict would refuse is better refused now
    except ValueError as error:
        raise BadInput(f"{options.table}: {error}; leave the column out (--drop), or shorten it") from error
    return Prepared(options, learnt, split, len(table.names), began, time.monotonic(), rules)


def check_speed(options: Options, classes: int) -> None:
    """Refuse what takes hours: a table of 2,000 rows and three classes was not done after ten minutes."""
    if options.engine == "catboost" and classes > 2:
        raise BadInput(
            "--engine catboost: with more than two classes CatBoost asks Python about every row of every tree, which "
            "takes hours; use --engine lightgbm or xgboost, or set one class against the rest with --positive"
        )


def study(prepared: Prepared, rows: Rows, test: Rows, watch: Watch) -> Study:
    """Try the candidates on the folds, choose one, and judge it by the final test."""
    options, sample, split = prepared.options, prepared.sample, prepared.split
    clock = Clock(watch, prepared)
    training = Training(ENGINES[options.engine], options.seed, watch.advance)
    tried = tried_losses(options, rows)
    clock.stage("binning the rows")
    folds = Folds.of(training, rows, split.inner_folds, tried[0])
    clock.stage("comparing losses", None if options.budget else len(tried) * len(folds.folds))
    blocks = [resampling_blocks(len(fold.validation), split.by_time) for fold in split.folds]
    dropped: list[Candidate] = []
    if options.budget is None:
        raced = race(folds, tried, options.select, blocks, options.seed, watch.expect)
        trials, dropped = to_trials(raced.fits, folds), raced.dropped
        contest = best_of_each(trials, options.select)
    else:
        trials = searched(folds, tried, options, prepared.began)
        contest = [trial for trial in trials if trial.calibrated]  # the others are forgotten, and were never the best
    winner = choose(contest, options.select)
    chosen = choose_finalists(contest, winner, options.select)
    clock.stage("training on all training rows", len(chosen))
    finals = fit_finally(training, [(trial.candidate, trial.mean_rounds) for trial in chosen], rows, folds.whole)
    finalists = [
        judge(trial, final, folds, test, prepared.rules, sample.rows_per_day)
        for trial, final in zip(chosen, finals, strict=True)
    ]
    best = finalists[chosen.index(winner)]
    decisions, out_of_reach = decisions_of(best, prepared.rules, options.seed)
    rivals = sorted(finalists[1:], key=lambda finalist: finalist is not best)
    comparisons = [compare(finalists[0], rival, best, test, options, split) for rival in rivals]
    harm = calibration_harm(best, test, options, split)
    clock.stage("asking which columns matter")
    matter = columns_matter(
        best, test, sample.columns, resampling_blocks(len(test.labels), split.by_time), options.seed
    )
    saved, saved_columns = best.fit, sample.columns
    if options.refit:
        clock.stage("training on all rows")
        saved, saved_columns = refitted(best, sample, Training(best.fit.engine, options.seed, watch.advance))
    return Study(
        options=options,
        sample=prepared.without_values().sample,
        split=split,
        table_columns=prepared.table_columns,
        usual=tried[0].settings,
        trials=trials,
        dropped=[candidate for candidate in dropped if candidate.name not in {t.candidate.name for t in trials}],
        winner=best,
        finalists=finalists,
        comparisons=comparisons,
        decisions=decisions,
        out_of_reach=out_of_reach,
        calibration_harm=harm,
        matter=matter,
        test=test,
        saved=saved,
        saved_columns=saved_columns,
        seconds=clock.seconds(),
        versions=versions(),
    )


def decisions_of(winner: Finalist, rules: Sequence[Rule], seed: int) -> tuple[list[Decided], list[str]]:
    """Every rule's decision, or the usual one where none was asked for or is in reach; and why others have none."""
    found: list[Decided] = []
    refused: list[str] = []
    for rule in rules:
        try:
            found += decided([rule], winner.evidence, seed)
        except OutOfReach as error:
            refused.append(str(error))
    found = found or decided([winner.decision.rule], winner.evidence, seed)
    return found, [f"{reason}; {found[0].rule.text} decides" for reason in refused]


class Clock:
    """Reports the stages to a watch, and measures how long each takes."""

    def __init__(self, watch: Watch, prepared: Prepared) -> None:
        self.watch = watch
        self.starts = {"reading the table": prepared.began, "preparing the columns": prepared.read}

    def stage(self, what: str, steps: int | None = None) -> None:
        self.starts[what] = time.monotonic()
        self.watch.stage(what, steps)

    def seconds(self) -> dict[str, float]:
        """By stage, and of all."""
        starts = [*self.starts.values(), time.monotonic()]
        each = {what: end - start for what, start, end in zip(self.starts, starts, starts[1:], strict=False)}
        return {**each, "total": starts[-1] - starts[0]}


def rows_of(sample: Sample, split: Split) -> tuple[Rows, Rows]:
    """To train on, and of the final test."""
    everything = all_rows(sample)
    return everything.part(split.training), everything.part(split.test)


def all_rows(sample: Sample) -> Rows:
    classes = len(sample.target.classes)
    return Rows(sample.matrix(), sample.labels, sample.weights, sample.categorical, classes)


def tried_losses(options: Options, rows: Rows) -> list[Candidate]:
    """The candidates with the settings of this table; a linear one comes with each of the penalties."""
    usual = usual_settings(rows.of_rarest_class, rows.features.shape[1])
    found: list[Candidate] = []
    for candidate in candidates(options.gammas, options.alphas, rows.classes, options.fast):
        if options.engine == LINEAR and candidate.linear:
            continue  # cross-entropy is logistic regression already
        if candidate.linear or options.engine == LINEAR:
            found += [replace(candidate, settings=Settings(inverse_penalty=c)) for c in PENALTIES]
        else:
            found.append(replace(candidate, settings=usual))
    return found


def searched(folds: Folds, usual: Sequence[Candidate], options: Options, began: float) -> list[Trial]:
    from parfocal.app.study import search  # here, because Optuna takes a second to import

    assert options.budget is not None
    return search.search(folds, usual, options.select, options.seed, began + options.budget)


def refitted(winner: Finalist, sample: Sample, training: Training) -> tuple[FinalFit, tuple[Column, ...]]:
    """The winner trained once more, on all rows, those of the final test too; and the columns with their categories."""
    everything = sample.learn_categories(np.arange(len(sample.labels)))
    (final,) = fit_finally(training, [(winner.candidate, winner.trial.mean_rounds)], all_rows(everything))
    return final, everything.columns
