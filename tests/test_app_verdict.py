"""How good probabilities are, who wins, and whether that is more than noise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from parfocal.app import metrics, splits, verdict
from parfocal.app.fitting import Trial, choose, choose_finalists, threshold_from_folds
from parfocal.app.options import Metric
from parfocal.app.training import CROSS_ENTROPY, Candidate, FoldFit, Rows, Settings

# -- metrics ---------------------------------------------------------------------------------------


def test_calibration_error_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0, 0, 1, 1.0])
    probabilities = np.array([0.1, 0.3, 0.6, 0.6])
    monkeypatch.setattr(metrics.equal_count_bins, "__defaults__", (2,))
    # Bins {0.1, 0.3} and {0.6, 0.6}: |0.2 - 0| and |0.6 - 1|, half of the rows each.
    assert metrics.calibration_error(labels, probabilities) == pytest.approx((0.2 + 0.4) / 2)
    # With weights 3, 1, 1, 1: |0.15 - 0| in 4 of 6, |0.6 - 1| in 2 of 6.
    weights = np.array([3, 1, 1, 1.0])
    assert metrics.calibration_error(labels, probabilities, weights) == pytest.approx((0.15 * 4 + 0.4 * 2) / 6)


def test_bins_hold_equally_many_rows_and_equal_probabilities_share_one() -> None:
    generator = np.random.default_rng(0)
    counts = np.bincount(metrics.equal_count_bins(generator.random(1500)))
    assert (counts == 100).all()
    tied = generator.choice([0.1, 0.2, 0.3], size=1500)
    assert len(set(zip(tied, metrics.equal_count_bins(tied), strict=True))) == 3


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_metrics_are_those_of_scikit_learn(ties: bool) -> None:
    generator = np.random.default_rng(2)
    labels = (generator.random(300) < 0.2).astype(float)
    probabilities = generator.random(300).round(1 if ties else 17) * 0.98 + 0.01
    weights = generator.integers(0, 4, size=300).astype(float)
    references = {
        Metric.average_precision: average_precision_score,
        Metric.log_loss: log_loss,
        Metric.brier: brier_score_loss,
    }
    for metric, reference in references.items():
        ours = metrics.weighted_scorer(metric, labels, probabilities)(weights)
        assert ours == pytest.approx(reference(labels, probabilities, sample_weight=weights), rel=1e-12)
        assert ours == pytest.approx(metrics.score(metric, labels, probabilities, weights), rel=1e-12)


def made_classes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of three classes, probabilities and weights."""
    generator = np.random.default_rng(6)
    labels = generator.choice(3, size=400, p=[0.8, 0.15, 0.05])
    probabilities = generator.dirichlet([2, 1, 0.5], size=400) + 0.3 * np.eye(3)[labels]
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True), generator.integers(1, 4, 400).astype(float)


def test_metrics_of_more_classes_are_those_of_scikit_learn() -> None:
    labels, probabilities, weights = made_classes()
    one_hot = np.eye(3)[labels]
    references = {
        "average_precision": average_precision_score(one_hot, probabilities, average="macro", sample_weight=weights),
        "roc_auc": roc_auc_score(one_hot, probabilities, average="macro", sample_weight=weights),
        "log_loss": log_loss(labels, probabilities, sample_weight=weights),
        "brier": brier_score_loss(labels, probabilities, sample_weight=weights),
    }
    found = metrics.scores(labels, probabilities, weights)
    for metric, reference in references.items():
        assert found[metric] == pytest.approx(reference, rel=1e-12)
    for metric in Metric:
        ours = metrics.weighted_scorer(metric, labels, probabilities)(weights)
        assert ours == pytest.approx(references[metric], rel=1e-12)
    assert found["calibration_error"] == pytest.approx(
        np.mean([metrics.calibration_error(labels == k, probabilities[:, k], weights) for k in range(3)])
    )


def test_a_class_that_a_resample_misses_does_not_count() -> None:
    labels, probabilities, weights = made_classes()
    weights[labels == 2] = 0
    found = metrics.weighted_scorer(Metric.average_precision, labels, probabilities)(weights)
    each = [average_precision_score(labels == k, probabilities[:, k], sample_weight=weights) for k in range(2)]
    assert found == pytest.approx(np.mean(each))


def test_results_by_class() -> None:
    labels, probabilities, weights = made_classes()
    decided = metrics.decide(probabilities, None)
    np.testing.assert_array_equal(decided, probabilities.argmax(axis=1))
    results = metrics.by_class(labels, probabilities, None, weights)
    for number, result in enumerate(results):
        assert result.rows == (labels == number).sum()
        assert result.share == pytest.approx(weights[labels == number].sum() / weights.sum())
        assert result.mean_probability == pytest.approx(np.average(probabilities[:, number], weights=weights))
        assert result.f1 == pytest.approx(f1_score(labels == number, decided == number, sample_weight=weights))
        hits = weights @ ((labels == number) & (decided == number))
        assert result.recall == pytest.approx(hits / weights[labels == number].sum())
        assert result.precision == pytest.approx(hits / weights[decided == number].sum())
    of_two = metrics.by_class(labels == 2, probabilities[:, 2], 0.3, None)
    assert of_two[1].recall == pytest.approx(np.mean(probabilities[labels == 2, 2] >= 0.3))
    assert of_two[0].mean_probability == pytest.approx(1 - of_two[1].mean_probability)


def test_threshold_has_the_best_f1() -> None:
    generator = np.random.default_rng(4)
    labels = (generator.random(200) < 0.3).astype(float)
    probabilities = np.clip(labels * 0.2 + generator.random(200), 0, 1)
    threshold = metrics.best_f1_threshold(labels, probabilities)
    reached = f1_score(labels, probabilities >= threshold)
    assert reached == pytest.approx(max(f1_score(labels, probabilities >= p) for p in probabilities))


def test_threshold_pairs_each_fold_with_its_own_rows() -> None:
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0])
    rows = Rows(np.zeros((8, 1)), labels, None, [])
    folds = tuple(splits.Fold(np.array([6, 7]), np.array(part)) for part in ([3, 0], [5, 4]))
    split = splits.Split(folds, np.arange(6), np.array([6, 7]), by_time=False)
    fits = [
        FoldFit(CROSS_ENTROPY, fold, 1, np.array(probabilities), {}, {})
        for fold, probabilities in enumerate([[0.7, 0.2], [0.6, 0.65]])
    ]
    # Labels 1, 0, 0, 1 with 0.7, 0.2, 0.6, 0.65: all is found and nothing else from 0.65 on.
    assert threshold_from_folds(Trial(CROSS_ENTROPY, fits), rows, split) == 0.65


def test_winner_has_the_best_mean_and_of_equals_the_first_is_taken() -> None:
    def trial(gamma: float, *values: float) -> Trial:
        scores = [{"average_precision": value, "log_loss": value} for value in values]
        fits = [FoldFit(Candidate(gamma, 0.5), 0, 1, np.empty(0), {}, of_fold) for of_fold in scores]
        return Trial(Candidate(gamma, 0.5), fits)

    trials = [trial(0, 0.1, 0.3), trial(1, 0.3, 0.5), trial(2, 0.5, 0.3)]
    assert choose(trials, Metric.average_precision) is trials[1]
    assert choose(trials, Metric.log_loss) is trials[0]


def test_the_best_of_each_kind_meets_on_the_final_test() -> None:
    """A tuned focal loss against the best tuned cross-entropy, not against the first."""

    def trial(candidate: Candidate, value: float) -> Trial:
        return Trial(candidate, [FoldFit(candidate, 0, 1, np.empty(0), {}, {"log_loss": value})])

    tuned = Settings(leaves=7)
    plain = [trial(CROSS_ENTROPY, 0.5), trial(Candidate(0.0, settings=tuned), 0.4)]
    focal = [trial(Candidate(2.0, 0.25), 0.45), trial(Candidate(1.0, 0.25, settings=tuned), 0.42)]
    balanced = trial(Candidate(0.0, balance=1.0), 0.3)
    assert choose_finalists([*plain, *focal], plain[1], Metric.log_loss) == [plain[1], focal[1]]
    assert choose_finalists([*plain, balanced, *focal], balanced, Metric.log_loss) == [plain[1], focal[1], balanced]
    assert choose_finalists([*plain, balanced], balanced, Metric.log_loss) == [plain[1], balanced]


# -- verdict ---------------------------------------------------------------------------------------


def comparison(differences: list[float], low: float, high: float, metric: Metric) -> verdict.Comparison:
    winner = "focal" if metric.sign * sum(differences) > 0 else "cross-entropy"
    return verdict.Comparison(metric, "focal", winner, np.array(differences), (low + high) / 2, (low, high))


@pytest.mark.parametrize(
    ("metric", "differences", "interval", "says"),
    [
        (Metric.average_precision, [0.010, 0.011, 0.012], (0.001, 0.02), "by more than noise"),
        (Metric.average_precision, [0.010, 0.011, 0.012], (-0.001, 0.02), "does not beat"),  # test in doubt
        (Metric.average_precision, [0.00, 0.03, 0.00], (0.001, 0.02), "does not beat"),  # folds in doubt
        (Metric.average_precision, [0.010, 0.011, 0.012], (-0.02, -0.001), "does not beat"),  # test against it
        (Metric.average_precision, [-0.01, -0.01, -0.02], (0.001, 0.02), "Cross-entropy won"),
        (Metric.average_precision, [0.0, 0.0, 0.0], (0.0, 0.0), "Cross-entropy won"),
        (Metric.log_loss, [-0.010, -0.011, -0.012], (-0.02, -0.001), "by more than noise"),
        (Metric.log_loss, [-0.010, -0.011, -0.012], (0.001, 0.02), "does not beat"),
        (Metric.brier, [0.010, 0.011, 0.012], (0.001, 0.02), "Cross-entropy won"),
    ],
)
def test_verdict(metric: Metric, differences: list[float], interval: tuple[float, float], says: str) -> None:
    sentence = comparison(differences, *interval, metric).sentence
    assert says in sentence
    assert ("does not" in sentence) == (says == "does not beat")
    assert ("less is better" in sentence) == (metric is not Metric.average_precision)


def test_verdict_of_a_focal_loss_beside_another_winner() -> None:
    beside = verdict.Comparison(
        Metric.brier, "focal", "balanced cross-entropy", np.array([1e-6, -2e-6]), 1e-6, (-3e-6, 4e-6)
    )
    assert beside.sentence.startswith("The best focal loss, focal, does not beat cross-entropy by more than noise")
    assert "+0.0000 " not in beside.sentence  # small differences keep two digits
    winner = verdict.Comparison(Metric.brier, "focal", "focal", np.array([-0.01, -0.03]), 0.01, (-0.01, 0.02))
    assert winner.sentence.endswith("so it was saved; cross-entropy would do as well.")


def test_standard_error_by_hand() -> None:
    mean, error = verdict.mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert mean == 3
    assert error == pytest.approx(np.sqrt((4 + 1 + 9) / 2 / 3))


def test_bootstrap_interval_is_that_of_a_mean() -> None:
    # The Brier score is a mean of rows, so its standard error is known.
    generator = np.random.default_rng(5)
    labels = np.ones(4000)
    baseline = np.full(4000, 0.5)
    rival = np.where(generator.random(4000) < 0.5, 0.4, 0.7)
    rows = np.arange(4000)
    low, high = verdict.bootstrap_interval(Metric.brier, labels, rival, baseline, None, rows, seed=0)
    differences = (rival - 1) ** 2 - 0.25
    mean, error = verdict.mean_and_error(differences)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.4 * error)
    again = verdict.bootstrap_interval(Metric.brier, labels, rival, baseline, None, rows, seed=0)
    assert again == (low, high)


def test_blocks_widen_the_interval_where_neighbours_agree() -> None:
    labels = np.ones(5000)
    rival = np.where(np.arange(5000) // 100 % 2, 0.4, 0.7)  # storms of 100 rows
    baseline = np.full(5000, 0.5)
    widths = []
    for by_time in (False, True):
        blocks = verdict.resampling_blocks(5000, by_time)
        low, high = verdict.bootstrap_interval(Metric.brier, labels, rival, baseline, None, blocks, seed=0)
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] * 10, rel=0.3)  # sqrt(5000 rows / 50 blocks)
