"""The finalists on the final test, which no choice has seen: their scores, and what separates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parfocal.app.data.splits import Split
from parfocal.app.model.decisions import Decision, Evidence, Judged, first_in_reach
from parfocal.app.model.rules import Rule
from parfocal.app.options import Metric, Options
from parfocal.app.study.candidates import Candidate
from parfocal.app.study.metrics import ClassResult, by_class, scores
from parfocal.app.study.training import FinalFit, Folds, quiet, raw_probabilities
from parfocal.app.study.trials import CALIBRATED, RAW, RECOVERED, Trial, fitted_calibrator
from parfocal.app.study.verdict import (
    FEWEST_FOR_INTERVAL,
    Comparison,
    bootstrap_differences,
    interval_of,
    resampling_blocks,
)
from parfocal.boosters import Rows
from parfocal.calibrator import Calibrator


@dataclass(frozen=True)
class FinalResult:
    """A candidate on the final test: raw scores, recovered or calibrated probabilities, and their metrics."""

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
    decision: Decision  # by the first rule that was asked for
    out_of_reach: list[str]  # why others before it have none
    evidence: Evidence
    results: dict[str, FinalResult]
    by_class: list[ClassResult]

    @property
    def candidate(self) -> Candidate:
        return self.trial.candidate

    @property
    def probabilities(self) -> np.ndarray:
        """Of the final test's rows, calibrated."""
        return self.results[CALIBRATED].probabilities


@quiet()
def judge(
    trial: Trial,
    final: FinalFit,
    folds: Folds,
    test: Rows,
    rules: Sequence[Rule] = (),
    rows_per_day: float | None = None,
) -> Finalist:
    """Calibrate a trained candidate, decide, both on the validation rows of the folds, and test it."""
    rows, validation = folds.rows, np.concatenate([fold.validation for fold in folds.folds])
    judged = rows.without_features(validation)
    labels, weights = judged.labels, judged.weights
    logits = np.concatenate([fit.logits for fit in trial.fits])
    calibrator = fitted_calibrator(rows.classes, labels, logits, weights)
    margins = final.margins(test.features)
    probabilities = {
        RAW: raw_probabilities(margins),
        RECOVERED: np.asarray(final.loss.posterior(margins)),
        CALIBRATED: np.asarray(calibrator.posterior(np.asarray(final.loss.posterior_logit(margins)))),
    }
    if final.candidate.is_cross_entropy:
        del probabilities[RAW]  # the same as recovered
    results = {
        kind: FinalResult(final.candidate, kind, of_kind, scores(test.labels, of_kind, test.weights))
        for kind, of_kind in probabilities.items()
    }
    fold_numbers = np.repeat(np.arange(len(folds.folds)), [len(fold.validation) for fold in folds.folds])
    evidence = Evidence(
        Judged(labels, as_kept(np.concatenate(trial.calibrated)), weights, fold_numbers),
        Judged(test.labels, as_kept(probabilities[CALIBRATED]), test.weights),
        final.prior,
        rows_per_day,
    )
    decision, out_of_reach = first_in_reach(rules, evidence)
    of_classes = by_class(test.labels, probabilities[CALIBRATED], decision, test.weights)
    return Finalist(trial, final, calibrator, decision, out_of_reach, evidence, results, of_classes)


def as_kept(probabilities: np.ndarray) -> np.ndarray:
    """Those of more than two classes as float32, half the size in the folder of the model."""
    return probabilities if probabilities.ndim == 1 else probabilities.astype(np.float32)


def interval(
    metric: Metric, rival: np.ndarray, baseline: np.ndarray, test: Rows, options: Options, split: Split
) -> tuple[float, float] | None:
    """The 95 % interval of a difference on the final test; None where a class has too few rows."""
    if test.of_rarest_class < FEWEST_FOR_INTERVAL:
        return None
    blocks = resampling_blocks(len(test.labels), split.by_time)
    return interval_of(bootstrap_differences(metric, test.labels, rival, baseline, test.weights, blocks, options.seed))


def compare(
    baseline: Finalist, rival: Finalist, winner: Finalist, test: Rows, options: Options, split: Split
) -> Comparison:
    """The calibrated rival minus calibrated cross-entropy, on the folds and on the final test."""
    metric = options.select
    of_rival, of_baseline = (one.results[CALIBRATED].scores[metric] for one in (rival, baseline))
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
    recovered = winner.results[RECOVERED].probabilities
    found = interval(Metric.log_loss, winner.probabilities, recovered, test, options, split)
    return found if found is not None and found[0] > 0 else None
