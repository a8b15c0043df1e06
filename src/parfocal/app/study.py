"""What a fit finds out, as one plain value, which the terminal, the picture and model.json tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from parfocal.app.candidates import LINEAR, Candidate, Settings, candidates, usual_settings
from parfocal.app.errors import counted, listed
from parfocal.app.linear import ENGINES
from parfocal.app.metrics import ClassResult, best_f1_threshold, by_class, scores
from parfocal.app.options import Metric, Options
from parfocal.app.progress import Watch
from parfocal.app.sample import Sample
from parfocal.app.splits import Split
from parfocal.app.training import FinalFit, Folds, Training, fit_finally, quiet, raw_probabilities
from parfocal.app.trials import (
    CALIBRATED,
    RAW,
    RECOVERED,
    Trial,
    best_of_each,
    choose,
    choose_finalists,
    fitted_calibrator,
    race,
    to_trials,
)
from parfocal.app.verdict import (
    FEWEST_FOR_INTERVAL,
    Comparison,
    bootstrap_differences,
    decimals,
    interval_of,
    resampling_blocks,
)
from parfocal.boosters import Rows
from parfocal.calibrator import Calibrator

FEW_TO_LEARN, FEW_TO_JUDGE = 100, 50  # rows of the rarest class; from 50 on, their number is certain to 14 %

# Inverse penalties of linear models, for features of variance 1.  Above 1 little was gained: 1.131 at 10 for 1.133, in
# the unit of the table above FEW_LEAVES in candidates.py.
PENALTIES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Curve:
    """What a candidate says of the final test: raw scores, recovered or calibrated probabilities."""

    candidate: Candidate
    kind: str
    probabilities: np.ndarray
    scores: dict[str, float]

    @property
    def name(self) -> str:
        if self.candidate.is_cross_entropy and self.kind == RECOVERED:
            return self.candidate.name
        return f"{self.candidate.name}, {self.kind}"


@dataclass(frozen=True, eq=False)
class Finalist:
    """A candidate trained on all training rows, calibrated on its out-of-fold scores, and judged by the final test."""

    trial: Trial
    fit: FinalFit
    calibrator: Calibrator
    threshold: float | None  # None: of more than two classes the most probable is taken
    curves: dict[str, Curve]
    by_class: list[ClassResult]

    @property
    def candidate(self) -> Candidate:
        return self.trial.candidate

    @property
    def probabilities(self) -> np.ndarray:
        """Of the final test's rows, calibrated."""
        return self.curves[CALIBRATED].probabilities


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a fit found out."""

    options: Options
    sample: Sample
    split: Split
    usual: Settings  # of the trees
    trials: list[Trial]
    dropped: list[Candidate]  # by the race
    winner: Finalist
    finalists: list[Finalist]  # cross-entropy first; the winner is among them
    comparisons: list[Comparison]  # each of the other finalists with cross-entropy, the winner first
    calibration_harm: tuple[float, float] | None  # what calibrating added to the log loss, where beyond noise
    test: Rows

    @property
    def verdict(self) -> list[str]:
        """Whether another loss beats cross-entropy, who fell out of the race, and whether calibrating hurt."""
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
        """What few rows of a class can't tell."""
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
    def curves(self) -> list[Curve]:
        return [curve for finalist in self.finalists for curve in finalist.curves.values()]

    @property
    def shown_trials(self) -> list[Trial]:
        """One for each loss, whatever the settings that were tried for it."""
        return self.trials if self.options.budget else best_of_each(self.trials, self.options.select)


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


def rows_of(sample: Sample, split: Split) -> tuple[Rows, Rows]:
    """To train on, and of the final test."""
    classes = len(sample.target.classes)
    everything = Rows(sample.matrix(), sample.labels, sample.weights, sample.categorical, classes)
    return everything.part(split.training), everything.part(split.test)


def study(options: Options, sample: Sample, split: Split, rows: Rows, test: Rows, began: float, watch: Watch) -> Study:
    """Try the candidates on the folds, choose one, and judge it by the final test."""
    training = Training(ENGINES[options.engine], options.seed, watch.advance)
    tried = tried_losses(options, rows)
    watch.stage("binning the rows")
    folds = Folds.of(training, rows, split.inner_folds, tried[0])
    watch.stage("comparing losses", None if options.budget else len(tried) * len(folds.folds))
    blocks = [resampling_blocks(len(fold.validation), split.by_time) for fold in split.folds]
    dropped: list[Candidate] = []
    if options.budget is None:
        raced = race(folds, tried, options.select, blocks, options.seed, watch.expect)
        trials, dropped = to_trials(raced.fits, folds), raced.dropped
        contest = best_of_each(trials, options.select)
    else:
        trials = searched(folds, tried, options, began)
        contest = [trial for trial in trials if trial.calibrated]  # the others are forgotten, and were never the best
    winner = choose(contest, options.select)
    chosen = choose_finalists(contest, winner, options.select)
    watch.stage("training on all training rows", len(chosen))
    finals = fit_finally(training, [(trial.candidate, trial.mean_rounds) for trial in chosen], rows, folds.whole)
    finalists = [judge(trial, final, folds, test) for trial, final in zip(chosen, finals, strict=True)]
    best = finalists[chosen.index(winner)]
    rivals = sorted(finalists[1:], key=lambda finalist: finalist is not best)
    return Study(
        options=options,
        sample=sample,
        split=split,
        usual=tried[0].settings,
        trials=trials,
        dropped=[candidate for candidate in dropped if candidate.name not in {t.candidate.name for t in trials}],
        winner=best,
        finalists=finalists,
        comparisons=[compare(finalists[0], rival, best, test, options, split) for rival in rivals],
        calibration_harm=calibration_harm(best, test, options, split),
        test=test,
    )


def searched(folds: Folds, usual: Sequence[Candidate], options: Options, began: float) -> list[Trial]:
    from parfocal.app import search  # here, because Optuna takes a second to import

    assert options.budget is not None
    return search.search(folds, usual, options.select, options.seed, began + options.budget)


@quiet()
def judge(trial: Trial, final: FinalFit, folds: Folds, test: Rows) -> Finalist:
    """Calibrated on the validation rows of all folds, which also choose the threshold: the final test must not."""
    rows, validation = folds.rows, np.concatenate([fold.validation for fold in folds.folds])
    judged = rows.without_features(validation)
    labels, weights = judged.labels, judged.weights
    logits = np.concatenate([fit.logits for fit in trial.fits])
    calibrator = fitted_calibrator(rows.classes, labels, logits, weights)
    threshold = None
    if rows.classes == 2:
        threshold = best_f1_threshold(labels, np.concatenate(trial.calibrated), weights)
    margins = final.margins(test.features)
    said = {
        RAW: raw_probabilities(margins),
        RECOVERED: np.asarray(final.loss.posterior(margins)),
        CALIBRATED: np.asarray(calibrator.posterior(np.asarray(final.loss.posterior_logit(margins)))),
    }
    if final.candidate.is_cross_entropy:
        del said[RAW]  # it is the recovered one
    curves = {
        kind: Curve(final.candidate, kind, probabilities, scores(test.labels, probabilities, test.weights))
        for kind, probabilities in said.items()
    }
    of_classes = by_class(test.labels, said[CALIBRATED], threshold, test.weights)
    return Finalist(trial, final, calibrator, threshold, curves, of_classes)


def interval(
    metric: Metric, rival: np.ndarray, baseline: np.ndarray, test: Rows, options: Options, split: Split
) -> tuple[float, float] | None:
    """The 95 % interval of a difference on the final test; None where too few rows of a class would draw it."""
    if test.of_rarest_class < FEWEST_FOR_INTERVAL:
        return None
    blocks = resampling_blocks(len(test.labels), split.by_time)
    return interval_of(bootstrap_differences(metric, test.labels, rival, baseline, test.weights, blocks, options.seed))


def compare(
    baseline: Finalist, rival: Finalist, winner: Finalist, test: Rows, options: Options, split: Split
) -> Comparison:
    """The rival against cross-entropy, on the folds and on the final test, both calibrated."""
    metric = options.select
    of_rival, of_baseline = (one.curves[CALIBRATED].scores[metric] for one in (rival, baseline))
    return Comparison(
        metric=metric,
        rival=rival.candidate.name,
        winner=winner.candidate.name,
        fold_differences=rival.trial.per_fold(metric) - baseline.trial.per_fold(metric),
        test_difference=of_rival - of_baseline,
        test_interval=interval(metric, rival.probabilities, baseline.probabilities, test, options, split),
        test_rarest=test.of_rarest_class,
    )


def calibration_harm(winner: Finalist, test: Rows, options: Options, split: Split) -> tuple[float, float] | None:
    """The interval of what calibrating added to the log loss of the final test, where it lies above 0."""
    recovered = winner.curves[RECOVERED].probabilities
    found = interval(Metric.log_loss, winner.probabilities, recovered, test, options, split)
    return found if found is not None and found[0] > 0 else None
