"""How good probabilities are, who wins, and whether that is more than noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from parfocal.app.data.roles import Roles
from parfocal.app.data.sample import Sample
from parfocal.app.data.splits import Split
from parfocal.app.data.target import Target
from parfocal.app.model.decisions import Decision
from parfocal.app.model.rules import read_rule
from parfocal.app.options import Metric, Options
from parfocal.app.study import final_test, metrics, study, verdict
from parfocal.app.study.candidates import Candidate, Settings
from parfocal.app.study.training import Rows

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


def test_observed_over_expected_by_hand() -> None:
    labels, probabilities = np.array([0, 1, 1, 0]), np.array([0.1, 0.2, 0.3, 0.4])
    assert metrics.observed_over_expected(labels, probabilities) == pytest.approx(2 / 1.0)
    weights = np.array([1.0, 3.0, 1.0, 1.0])
    found = metrics.observed_over_expected(labels, probabilities, weights)
    assert found == pytest.approx((3 + 1) / (0.1 + 3 * 0.2 + 0.3 + 0.4))
    assert metrics.scores(labels, probabilities, weights)["observed_over_expected"] == found
    assert metrics.observed_over_expected(labels, np.full(4, 0.5)) == 1
    # Of three classes that of the rarest by weight: the last by rows, the first by weight.
    labels = np.array([0, 0, 1, 1, 1, 2])
    rows = np.array(
        [[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.8, 0.1], [0.1, 0.6, 0.3], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]]
    )
    assert metrics.score("observed_over_expected", labels, rows) == pytest.approx(1 / rows[:, 2].sum())
    weights = np.array([0.1, 0.1, 1, 1, 1, 1])
    found = metrics.score("observed_over_expected", labels, rows, weights)
    assert found == pytest.approx(0.2 / (weights @ rows[:, 0]))


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
    most_probable = Decision(read_rule("most-probable"), None)
    decided = most_probable(probabilities)
    np.testing.assert_array_equal(decided, probabilities.argmax(axis=1))
    results = metrics.by_class(labels, probabilities, most_probable, weights)
    for number, result in enumerate(results):
        assert result.rows == (labels == number).sum()
        assert result.share == pytest.approx(weights[labels == number].sum() / weights.sum())
        assert result.mean_probability == pytest.approx(np.average(probabilities[:, number], weights=weights))
        assert result.f1 == pytest.approx(f1_score(labels == number, decided == number, sample_weight=weights))
        hits = weights @ ((labels == number) & (decided == number))
        assert result.recall == pytest.approx(hits / weights[labels == number].sum())
        assert result.precision == pytest.approx(hits / weights[decided == number].sum())
    of_two = metrics.by_class(labels == 2, probabilities[:, 2], Decision(read_rule("f1"), 0.3), None)
    assert of_two[1].recall == pytest.approx(np.mean(probabilities[labels == 2, 2] >= 0.3))
    assert of_two[0].mean_probability == pytest.approx(1 - of_two[1].mean_probability)


# -- verdict ---------------------------------------------------------------------------------------


def comparison(
    differences: list[float],
    interval: tuple[float, float] | None,
    metric: Metric = Metric.log_loss,
    winner: str = "focal",
    rival: str = "focal",
    difference: float = 0.0,
) -> verdict.Comparison:
    return verdict.Comparison(metric, rival, winner, np.array(differences), difference, interval, 7)


BEATS, IN_DOUBT = (
    "The winner, focal, beats cross-entropy by more than noise: ",
    "it does not beat cross-entropy by more",
)
SAVED = "Cross-entropy was saved, focal loss bought nothing here; the best focal loss was focal: "
SIMPLER = (
    "Cross-entropy was saved, which is simpler and within a standard error on the folds; on the final test it lost"
)


@pytest.mark.parametrize(
    ("metric", "winner", "differences", "interval", "says"),
    [
        (Metric.average_precision, "focal", [0.010, 0.011, 0.012], (0.001, 0.02), BEATS),
        (Metric.average_precision, "focal", [0.010, 0.011, 0.012], (-0.001, 0.02), IN_DOUBT),  # test in doubt
        (Metric.average_precision, "focal", [0.00, 0.03, 0.00], (0.001, 0.02), IN_DOUBT),  # folds in doubt
        (Metric.average_precision, "focal", [0.010, 0.011, 0.012], (-0.02, -0.001), IN_DOUBT),  # test against it
        (Metric.average_precision, "focal", [0.010, 0.011, 0.012], None, IN_DOUBT),  # two positives
        (Metric.average_precision, "cross-entropy", [-0.01, -0.01, -0.02], (0.001, 0.02), SAVED),
        (Metric.average_precision, "cross-entropy", [0.0, 0.0, 0.0], (0.0, 0.0), SAVED),
        (Metric.average_precision, "cross-entropy", [0.010, 0.011, 0.012], (0.001, 0.02), SIMPLER),
        (Metric.log_loss, "focal", [-0.010, -0.011, -0.012], (-0.02, -0.001), BEATS),
        (Metric.log_loss, "focal", [-0.010, -0.011, -0.012], (0.001, 0.02), IN_DOUBT),
        (Metric.log_loss, "focal", [-0.010, -0.011, -0.012], None, IN_DOUBT),
        (Metric.brier, "cross-entropy", [0.010, 0.011, 0.012], (0.001, 0.02), SAVED),
        (Metric.brier, "cross-entropy", [-0.010, -0.011, -0.012], (-0.02, -0.001), SIMPLER),
    ],
)
def test_verdict(
    metric: Metric, winner: str, differences: list[float], interval: tuple[float, float] | None, says: str
) -> None:
    found = comparison(differences, interval, metric, winner)
    assert says in found.sentence
    assert found.beyond_noise == (says in (BEATS, SIMPLER))
    assert ("less is better" in found.sentence) == (metric is not Metric.average_precision)
    assert ("7 rows of the rarest class are too few for an interval" in found.sentence) == (interval is None)
    assert ("95 % interval" in found.sentence) == (interval is not None)


def test_verdict_of_a_focal_loss_beside_another_winner() -> None:
    beside = comparison([1e-6, -2e-6], (-3e-6, 4e-6), Metric.brier, "balanced cross-entropy", difference=1e-6)
    assert beside.sentence.startswith("The best focal loss, focal, does not beat cross-entropy by more than noise")
    assert "+0.0000 " not in beside.sentence  # small differences keep two digits
    beats = comparison([-0.01, -0.011], (-0.02, -0.01), Metric.brier, "logistic regression")
    assert beats.sentence.startswith("The best focal loss, focal, beats cross-entropy by more than noise")


def test_verdict_of_a_linear_model() -> None:
    name = "logistic regression"
    wins = comparison([-0.01, -0.011], (-0.02, -0.01), winner=name, rival=name)
    assert wins.sentence.startswith(
        "The winner, logistic regression, beats cross-entropy by more than noise: log loss "
    )
    doubt = comparison([-0.01, -0.03], (-0.02, 0.01), winner=name, rival=name)
    assert doubt.sentence.startswith(
        "The winner, logistic regression, was better on the folds by more than a standard error, but it does not beat"
    )
    loses = comparison([0.01, 0.011], (0.01, 0.02), winner="cross-entropy", rival=name)
    assert loses.sentence.startswith(
        "Cross-entropy was saved, and no focal loss was tried; the next was logistic regression: log loss +0.0105"
    )


def made_study(**more: Any) -> study.Study:
    """With 500 rows to train on and 100 of the final test, as far as `verdict` and `cautions` look."""
    labels = np.arange(600) % 10 == 0
    if "rare" in more:
        trained, tested = more.pop("rare")
        labels = np.zeros(600, int)
        labels[:trained] = labels[500 : 500 + tested] = 1
    labels = labels.astype(int)
    sample = Sample(Target("y", ("no", "yes"), 0, 0, False), labels, None, None, {}, (), {}, [])
    given: dict[str, Any] = dict.fromkeys(study.Study.__dataclass_fields__)
    given |= {
        "options": Options(Path("t"), Path("o"), Roles("y")),
        "sample": sample,
        "split": Split((), np.arange(500), np.arange(500, 600), by_time=False),
        "dropped": [],
        "comparisons": [],
        "test": Rows(np.empty((100, 0)), labels[500:], None, []),
    }
    return study.Study(**{**given, **more})


def test_the_verdict_names_whom_the_race_dropped_once_each() -> None:
    assert made_study().verdict == []
    compared = comparison([-0.01, -0.011], (-0.02, -0.01))
    dropped = [Candidate(0.0, linear=True, settings=Settings(inverse_penalty=c)) for c in (0.1, 1.0)] + [Candidate(2.0)]
    assert made_study(dropped=dropped, comparisons=[compared]).verdict == [
        compared.sentence,
        "More than two standard errors behind the best on one fold, and dropped: logistic regression, focal (gamma 2).",
    ]


def test_the_verdict_tells_harm_of_calibration() -> None:
    (said,) = made_study(calibration_harm=(0.00123, 0.0045)).verdict
    assert said == (
        "Calibrating on the folds made the log loss of the final test worse, beyond noise (95 % interval +0.0012 to "
        "+0.0045): what the folds saw is not what came later."
    )


@pytest.mark.parametrize(
    ("rare", "says"),
    [
        ((100, 50), []),
        ((99, 50), ["Only 99 rows of the rarest class to learn from"]),
        (
            (100, 49),
            ["The final test has 49 rows of the rarest class, so its observed / expected is uncertain by about 14"],
        ),
        ((8, 1), ["Only 8 rows of the rarest class", "has 1 row of the rarest class, so its observed / expected is"]),
        ((499, 98), ["Only 1 row of the rarest class", "has 2 rows of the rarest class"]),  # here the negative
    ],
)
def test_few_rows_carry_their_caution(rare: tuple[int, int], says: list[str]) -> None:
    found = made_study(rare=rare).cautions
    assert len(found) == len(says)
    for caution, part in zip(found, says, strict=True):
        assert part in caution


def two_results(test: Rows) -> Any:
    """What calibrating made of probabilities that were right."""
    right = np.where(test.labels == 1, 0.8, 0.01)
    results = {
        kind: final_test.FinalResult(Candidate(0.0), kind, probabilities, {})
        for kind, probabilities in (("recovered", right), ("calibrated", right / 4))
    }
    finalist: Any = object.__new__(final_test.Finalist)
    finalist.__dict__.update(results=results)
    return finalist


def test_harm_of_calibration_is_what_the_bootstrap_says() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random(400) < 0.2).astype(int)
    test, split = Rows(np.empty((400, 0)), labels, None, []), made_study().split
    options = made_study().options
    harm = final_test.calibration_harm(two_results(test), test, options, split)
    assert harm is not None
    expected = np.where(labels == 1, np.log(4), np.log(0.99 / 0.9975)).mean()
    assert harm[0] < expected < harm[1]
    better = two_results(test)
    better.results["calibrated"], better.results["recovered"] = (
        better.results["recovered"],
        better.results["calibrated"],
    )
    assert final_test.calibration_harm(better, test, options, split) is None
    of_ten, of_nine = (Rows(np.empty((400, 0)), (np.arange(400) < few).astype(int), None, []) for few in (10, 9))
    assert final_test.calibration_harm(two_results(of_ten), of_ten, options, split) is not None
    assert final_test.calibration_harm(two_results(of_nine), of_nine, options, split) is None  # too few for an interval


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
    low, high = verdict.interval_of(
        verdict.bootstrap_differences(Metric.brier, labels, rival, baseline, None, rows, seed=0)
    )
    differences = (rival - 1) ** 2 - 0.25
    mean, error = verdict.mean_and_error(differences)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.4 * error)
    again = verdict.interval_of(
        verdict.bootstrap_differences(Metric.brier, labels, rival, baseline, None, rows, seed=0)
    )
    assert again == (low, high)


def test_blocks_widen_the_interval_where_neighbours_agree() -> None:
    labels = np.ones(5000)
    rival = np.where(np.arange(5000) // 100 % 2, 0.4, 0.7)  # storms of 100 rows
    baseline = np.full(5000, 0.5)
    widths = []
    for by_time in (False, True):
        blocks = verdict.resampling_blocks(5000, by_time)
        low, high = verdict.interval_of(
            verdict.bootstrap_differences(Metric.brier, labels, rival, baseline, None, blocks, seed=0)
        )
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] * 10, rel=0.3)  # sqrt(5000 rows / 50 blocks)
