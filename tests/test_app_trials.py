"""How candidates are calibrated, raced and chosen between, and what of that reaches the final test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app_fits import few_rounds, trial_of
from parfocal import BinaryFocalCrossentropy, Calibrator, SparseCategoricalFocalCrossentropy, boosters, thresholds
from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import Sample
from parfocal.app.data.splits import Fold, split_by_class, split_by_time
from parfocal.app.data.target import Target
from parfocal.app.model.linear import ENGINES
from parfocal.app.options import Metric, Options
from parfocal.app.study import final_test, study, training, trials
from parfocal.app.study.candidates import BALANCED, CROSS_ENTROPY, LOGISTIC, Candidate, Settings
from parfocal.app.study.metrics import observed_over_expected
from parfocal.app.study.training import FoldResult, Folds, Rows
from parfocal.app.study.trials import Trial, choose

LIGHTGBM = training.Training(boosters.ENGINES["lightgbm"], seed=0)
FOCAL = Candidate(2.0, 0.25)


impatience = few_rounds(5, 15)


def made_rows(classes: int = 2, weighted: bool = True, rows: int = 600) -> Rows:
    generator = np.random.default_rng(4)
    matrix = generator.normal(size=(rows, 3))
    matrix[:, 2] = generator.integers(0, 5, size=rows)
    labels = np.digitize(matrix[:, 0] + generator.normal(size=rows), [1.3, 1.9][: classes - 1])
    return Rows(matrix, labels, generator.integers(1, 4, rows).astype(float) if weighted else None, [2], classes)


def said_of(rows: Rows, folds: list[Fold], candidate: Candidate = FOCAL) -> list[FoldResult]:
    """Fits that know something, and are too sure of it."""
    generator, fits = np.random.default_rng(5), []
    for number, fold in enumerate(folds):
        signal = 2 * rows.features[fold.validation, 0] - 1 + generator.normal(size=len(fold.validation))
        logits = signal
        if rows.classes > 2:
            logits = np.column_stack([np.zeros(len(signal)), signal, signal - 1])
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        fits.append(FoldResult(candidate, number, 10 + number, logits, {}, {}))
    return fits


def made_folds(rows: Rows) -> Folds:
    parts = np.array_split(np.random.default_rng(6).permutation(len(rows.labels)), 3)
    everything = np.arange(len(rows.labels))
    folds = [Fold(np.setdiff1d(everything, part), np.sort(part)) for part in parts]
    return Folds(LIGHTGBM, rows, folds, None, [None] * 3)


# -- calibrated by the others ----------------------------------------------------------------------


def plain_loss(classes: int) -> Any:
    if classes == 2:
        return BinaryFocalCrossentropy(gamma=0.0, from_logits=True)
    return SparseCategoricalFocalCrossentropy(alpha=1, gamma=0.0, from_logits=True)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_each_fold_is_calibrated_by_the_others(classes: int, weighted: bool) -> None:
    rows = made_rows(classes, weighted)
    folds = made_folds(rows)
    fits = said_of(rows, folds.folds)
    trial = trials.to_trial(fits[::-1], folds)  # in any order
    assert [fit.fold for fit in trial.fits] == [0, 1, 2]
    for number, fold in enumerate(folds.folds):
        others = [k for k in range(3) if k != number]
        seen = np.concatenate([folds.folds[k].validation for k in others])
        weights = None if rows.weights is None else rows.weights[seen] / rows.weights[seen].mean()
        logits = np.concatenate([fits[k].logits for k in others])
        expected = (
            Calibrator(plain_loss(classes)).fit(rows.labels[seen], logits, weights).posterior(fits[number].logits)
        )
        np.testing.assert_allclose(trial.calibrated[number], expected, rtol=1e-9)
        if classes == 2:
            found = trial.per_fold("observed_over_expected")[number]
            judged = rows.without_features(fold.validation)
            assert found == pytest.approx(observed_over_expected(judged.labels, expected, judged.weights))
    assert trial.mean(Metric.log_loss) == -trial.per_fold("log_loss").mean()
    assert trial.mean(Metric.average_precision) == trial.per_fold("average_precision").mean()
    assert trial.mean_rounds == 11


def test_no_row_calibrates_itself() -> None:
    rows = made_rows()
    folds = made_folds(rows)
    fits = said_of(rows, folds.folds)
    before = trials.to_trial(fits, folds)
    labels = rows.labels.copy()
    changed = folds.folds[1].validation
    labels[changed] = 1 - labels[changed]
    flipped = Folds(LIGHTGBM, Rows(rows.features, labels, rows.weights, [2]), folds.folds, None, [None] * 3)
    with training.quiet():
        after = trials.to_trial(fits, flipped)
    np.testing.assert_array_equal(after.calibrated[1], before.calibrated[1])
    for other in (0, 2):
        assert np.abs(after.calibrated[other] - before.calibrated[other]).max() > 0.05


def test_a_model_that_ranks_backwards_is_no_trouble() -> None:
    """Its probabilities come out as one number, and nothing is printed: warnings are errors here."""
    rows = made_rows()
    folds = made_folds(rows)
    fits = [FoldResult(LOGISTIC, fit.fold, 1, -fit.logits, {}, {}) for fit in said_of(rows, folds.folds)]
    (trial,) = trials.to_trials(fits, folds)
    assert all(np.ptp(said) < 1e-12 for said in trial.calibrated)
    blocks = np.arange(len(folds.folds[2].validation))
    last = rows.without_features(folds.folds[2].validation)
    assert trials.survivors([fits[2]], last, Metric.log_loss, blocks, 0) == [LOGISTIC]


# -- the race --------------------------------------------------------------------------------------


def fits_by_quality(rows: Rows, numbers: list[int], **quality: float) -> list[FoldResult]:
    """What knows more of the truth has more of it in its logits; names are of candidates."""
    known = {
        "plain": CROSS_ENTROPY,
        "balanced": BALANCED,
        "line": LOGISTIC,
        "focal": FOCAL,
        "other_focal": Candidate(1.0),
    }
    generator = np.random.default_rng(8)
    noise = generator.normal(size=len(rows.labels))
    return [
        FoldResult(known[name], number, 1, (2 * rows.labels - 1) * share + noise, {}, {})
        for number in numbers
        for name, share in quality.items()
    ]


def test_the_race_drops_who_is_far_behind_and_keeps_who_is_near() -> None:
    rows = made_rows()
    blocks = np.arange(600)

    def kept(select: Metric = Metric.log_loss, **quality: float) -> list[str]:
        fits = fits_by_quality(rows, [0], **quality)
        return [candidate.name for candidate in trials.survivors(fits, rows, select, blocks, 0)]

    for select in Metric:
        assert kept(select, plain=1.0, balanced=0.2, line=1.01, focal=0.99) == [
            "cross-entropy",
            "logistic regression",
            "focal (gamma 2, alpha 0.25)",
        ]
    # Cross-entropy and one focal loss, the better, stay in any case.
    assert kept(plain=0.1, balanced=1.0, line=0.1, focal=0.2, other_focal=0.1) == [
        "cross-entropy",
        "balanced cross-entropy",
        "focal (gamma 2, alpha 0.25)",
    ]
    assert kept(plain=0.1, focal=0.1, other_focal=1.0) == ["cross-entropy", "focal (gamma 1)"]
    assert kept(plain=1.0, line=0.2) == ["cross-entropy"]


def test_two_standard_errors_of_the_bootstrap_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, blocks = made_rows(weighted=False), np.arange(600)
    fits = fits_by_quality(rows, [0], plain=1.0, line=0.8)
    losses = []
    for fit in fits:
        calibrated = Calibrator(plain_loss(2)).fit(rows.labels, fit.logits).posterior(fit.logits)
        losses.append(-np.log(np.where(rows.labels == 1, calibrated, 1 - calibrated)))
    differences = losses[1] - losses[0]
    behind = differences.mean() / (differences.std() / np.sqrt(600))
    assert behind > 2  # in standard errors
    for errors, stays in ((2.0, False), (behind * 0.7, False), (behind * 1.5, True)):
        monkeypatch.setattr(trials, "RACE_ERRORS", errors)
        kept = trials.survivors(fits, rows, Metric.log_loss, blocks, 0)
        assert (LOGISTIC in kept) == stays
    monkeypatch.setattr(trials, "RACE_ERRORS", 2.0)
    # Where all that differs is one storm of six, the rows of one storm fall together, and the rest is luck.
    fits[1].logits[:] = np.where(blocks < 100, 0.0, fits[0].logits)
    assert LOGISTIC not in trials.survivors(fits, rows, Metric.log_loss, blocks, 0)
    assert LOGISTIC in trials.survivors(fits, rows, Metric.log_loss, blocks // 100, 0)


def test_the_race_is_on_the_last_fold_and_the_others_are_for_those_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_rows()
    split = split_by_time(np.arange(600), rows.labels, ("a", "b"))
    ran: list[tuple[list[Candidate], list[int]]] = []

    class FakeFolds:
        def __init__(self) -> None:
            self.rows, self.folds = rows, split.folds

        def fit(self, tried: list[Candidate], numbers: Any) -> list[FoldResult]:
            ran.append((list(tried), list(numbers)))
            return [FoldResult(candidate, number, 1, np.zeros(0), {}, {}) for number in numbers for candidate in tried]

    seen: list[Any] = []

    def survivors(fits: list[FoldResult], part: Rows, *_: Any) -> list[Candidate]:
        seen.append(part)
        return [CROSS_ENTROPY, FOCAL]

    monkeypatch.setattr(trials, "survivors", survivors)
    folds: Any = FakeFolds()
    blocks = [np.arange(len(fold.validation)) for fold in split.folds]
    expected: list[int] = []
    found = trials.race(folds, [CROSS_ENTROPY, BALANCED, FOCAL], Metric.log_loss, blocks, 0, expected.append)
    assert ran == [([CROSS_ENTROPY, BALANCED, FOCAL], [2]), ([CROSS_ENTROPY, FOCAL], [0, 1])]
    np.testing.assert_array_equal(seen[0].labels, rows.labels[split.folds[2].validation])
    assert len(split.folds[2].training) > len(split.folds[0].training)  # it has the most to train with
    assert expected == [3 + 2 * 2]
    assert found.dropped == [BALANCED]
    assert {(fit.candidate, fit.fold) for fit in found.fits} == {
        (c, k) for c in (CROSS_ENTROPY, FOCAL) for k in range(3)
    }


# -- folds, and the final test ---------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_parts_of_a_binned_table_train_what_copies_of_the_rows_would(classes: int) -> None:
    rows = made_rows(classes)
    split = split_by_class(rows.labels, 0, fast=True)
    rows = rows.part(split.training)
    folds = Folds.of(LIGHTGBM, rows, split.inner_folds)
    candidate = Candidate(2.0, balance=1.0)
    for fit, fold in zip(sorted(folds.fit([candidate]), key=lambda fit: fit.fold), split.inner_folds, strict=True):
        trained, validation = rows.part(fold.training), rows.part(fold.validation)
        more = {"held_out": validation.scaled(), "score_every": training.SCORED_EVERY}
        task = LIGHTGBM.task(candidate, trained, training.MOST_ROUNDS, **more)
        tables = tuple(LIGHTGBM.engine.binned(part, task, folds.whole) for part in (task.rows, task.held_out))
        found = LIGHTGBM.train(
            candidate, LIGHTGBM.task(candidate, trained, training.MOST_ROUNDS, **more, tables=tables)
        )
        assert fit.rounds == found.rounds
        margins = LIGHTGBM.engine.margins(found.booster, found.objective.start_, validation.features)
        np.testing.assert_allclose(found.held_out, margins, rtol=1e-12, atol=1e-12)
        logits = found.objective.loss(trained.num_class).posterior_logit(margins)
        np.testing.assert_allclose(fit.logits, logits, rtol=1e-9, atol=1e-9)
        recovered = np.asarray(found.objective.loss(trained.num_class).posterior(margins))
        assert fit.recovered_scores == pytest.approx(training.scores(validation.labels, recovered, validation.weights))


@pytest.mark.parametrize("engine", ["xgboost", "catboost", "linear"])
def test_folds_of_the_other_engines_are_judged_by_their_margins(engine: str) -> None:
    rows = made_rows()
    trainer = training.Training(ENGINES[engine], seed=0)
    folds = Folds.of(trainer, rows, split_by_class(rows.labels, 0, fast=True).folds)
    assert folds.tables == [None] * 3
    (fit,) = folds.fit([FOCAL], [1])
    trained, validation = rows.part(folds.folds[1].training), rows.part(folds.folds[1].validation)
    more = {"held_out": validation.scaled(), "score_every": training.SCORED_EVERY}
    found = trainer.train(FOCAL, trainer.task(FOCAL, trained, training.MOST_ROUNDS, **more))
    margins = trainer.engine.margins(found.booster, found.objective.start_, validation.features)
    expected = found.objective.loss(trained.num_class).posterior_logit(margins)
    np.testing.assert_allclose(fit.logits, expected, rtol=1e-6, atol=1e-6)
    assert (fit.fold, fit.rounds) == (1, found.rounds)


def test_trees_copy_no_rows_for_their_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_rows()
    folds = Folds.of(LIGHTGBM, rows, split_by_class(rows.labels, 0, fast=True).folds)

    def refuse(*_: Any) -> Rows:
        raise AssertionError("the matrix is copied")

    monkeypatch.setattr(Rows, "part", refuse)
    assert len(folds.fit([CROSS_ENTROPY], [0, 2])) == 2
    with pytest.raises(AssertionError, match="copied"):
        folds.fit([LOGISTIC], [0])


@pytest.mark.parametrize("classes", [2, 3])
def test_finalists_are_calibrated_on_all_folds_and_thresholds_are_cross_fitted(classes: int) -> None:
    everything = made_rows(classes)
    assert everything.weights is not None
    everything.weights[everything.labels == 0] *= 4
    split = split_by_class(everything.labels, 0, fast=True)
    rows, test = everything.part(split.training), everything.part(split.test)
    folds = Folds.of(LIGHTGBM, rows, split.inner_folds)
    (trial,) = trials.to_trials(folds.fit([Candidate(2.0)]), folds)
    (final,) = training.fit_finally(LIGHTGBM, [(trial.candidate, 5)], rows, folds.whole)
    finalist = final_test.judge(trial, final, folds, test)
    validation = np.concatenate([fold.validation for fold in split.inner_folds])
    labels, weights = rows.labels[validation], rows.without_features(validation).weights
    assert weights is not None
    logits = np.concatenate([fit.logits for fit in trial.fits])
    expected = Calibrator(plain_loss(classes)).fit(labels, logits, weights / weights.mean())
    assert finalist.calibrator.temperature_ == pytest.approx(expected.temperature_, rel=1e-9)
    np.testing.assert_allclose(finalist.calibrator.bias_, expected.bias_, rtol=1e-9, atol=1e-12)
    of_test = expected.posterior(np.asarray(final.loss.posterior_logit(final.margins(test.features))))
    np.testing.assert_allclose(finalist.probabilities, of_test, rtol=1e-9)
    assert list(finalist.results) == ["raw", "recovered", "calibrated"]
    if classes == 3:
        assert finalist.decision.threshold is None
        return
    calibrated = np.concatenate(trial.calibrated)
    best = thresholds.best_f_beta(calibrated, labels, sample_weight=weights)
    assert best.threshold != thresholds.best_f_beta(calibrated, labels).threshold
    below = calibrated[calibrated < best.threshold].max()
    assert finalist.decision.threshold == (best.threshold + below) / 2
    assert best.threshold not in expected.posterior(logits)  # no row helps to calibrate itself


def test_a_forgotten_trial_never_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be within a standard error of the best, where the best that is remembered is not."""
    best, better = trial_of(FOCAL, 0.30, 0.30, 0.30), trial_of(CROSS_ENTROPY, 0.31, 0.31, 0.31)
    forgotten = trial_of(Candidate(0.0, settings=Settings(leaves=7)), 0.20, 0.30, 0.50)
    assert choose([best, better, forgotten], Metric.log_loss) is forgotten
    contest: list[Trial] = []

    class Ended(Exception):
        pass

    def end(some: list[Trial], select: Metric) -> Trial:
        contest.extend(some)
        raise Ended

    remembered = [Trial(t.candidate, t.fits, [np.zeros(1)], t.calibrated_scores) for t in (best, better)]
    monkeypatch.setattr(study, "searched", lambda *_: [*remembered, forgotten.forgotten()])
    monkeypatch.setattr(study, "choose", end)
    run_study(budget=60.0, expected=Ended)
    assert contest == remembered


def run_study(expected: type[Exception], **given: Any) -> None:
    rows = made_rows(weighted=False)
    sample = Sample(Target("y", ("a", "b"), 0, 0, False), rows.labels, None, None, {}, (), {}, [])
    watch: Any = type("Watch", (), dict.fromkeys(("stage", "advance", "expect"), lambda *_: None))()
    options = Options(Path("t"), Path("o"), Roles("y"), **given)
    split = split_by_class(rows.labels, 0)
    prepared = study.Prepared(options, sample, split, 2, began=0.0, read=0.0)
    with pytest.raises(expected):
        study.study(prepared, rows.part(split.training), rows.part(split.test), watch)
