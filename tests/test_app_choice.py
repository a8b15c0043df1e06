"""Which trial wins, and which candidates meet on the final test."""

from __future__ import annotations

from app_fits import trial_of
from parfocal.app.options import Metric
from parfocal.app.study import trials
from parfocal.app.study.candidates import BALANCED, CROSS_ENTROPY, LOGISTIC, Candidate, Settings
from parfocal.app.study.trials import choose, choose_finalists

FOCAL = Candidate(2.0, 0.25)


def test_the_simplest_within_one_standard_error_of_the_best() -> None:
    best = trial_of(FOCAL, 0.30, 0.40, 0.50)
    # The differences 0.00, 0.01, 0.02: mean 0.0100, standard error 0.01 / sqrt(3) = 0.0058.
    outside = trial_of(CROSS_ENTROPY, 0.30, 0.41, 0.52)
    # -0.01, 0.01, 0.02: mean 0.0067, standard error 0.0153 / sqrt(3) = 0.0088.
    within = trial_of(CROSS_ENTROPY, 0.29, 0.41, 0.52)
    assert choose([outside, best], Metric.log_loss) is best
    assert choose([within, best], Metric.log_loss) is within
    assert choose([best, within], Metric.log_loss) is within
    # By average precision the greater is the better.
    assert (
        choose([trial_of(CROSS_ENTROPY, 0.50, 0.38, 0.29), best], Metric.average_precision).candidate == CROSS_ENTROPY
    )
    assert choose([trial_of(CROSS_ENTROPY, 0.29, 0.385, 0.48), best], Metric.average_precision) is best


def test_the_order_of_simplicity_and_of_equals_the_better() -> None:
    noisy = [0.2, 0.5, 0.3]
    unweighted, weighted = trial_of(Candidate(1.0), 0.299, 0.31, 0.4), trial_of(BALANCED, 0.302, 0.299, 0.4)
    best = trial_of(FOCAL, 0.3, 0.3, 0.4)
    assert choose([best, weighted, unweighted], Metric.log_loss) is unweighted
    assert choose([weighted, best], Metric.log_loss) is best
    assert choose([best, weighted, trial_of(LOGISTIC, *noisy), unweighted], Metric.log_loss).candidate == LOGISTIC
    # Within one standard error of each other, trees and a linear model are equally simple.
    trees, line = trial_of(CROSS_ENTROPY, 0.3, 0.31, 0.4), trial_of(LOGISTIC, 0.31, 0.3, 0.401)
    assert choose([trees, line], Metric.log_loss) is trees
    assert choose([line, trees], Metric.log_loss) is trees
    # Two of equal simplicity near a third: the better of both, not the first.
    near = [trial_of(LOGISTIC, 0.2, 0.5, 0.35), trial_of(CROSS_ENTROPY, 0.2, 0.5, 0.32)]
    assert choose([*near, best], Metric.log_loss) is near[1]
    # Ties: the first.
    same = [trial_of(Candidate(1.0), 0.3, 0.4), trial_of(Candidate(2.0), 0.3, 0.4)]
    assert choose(same, Metric.log_loss) is same[0]


def test_one_trial_of_each_loss_with_its_best_settings() -> None:
    weak, strong = (Candidate(0.0, linear=True, settings=Settings(inverse_penalty=c)) for c in (1.0, 0.01))
    some = [
        trial_of(CROSS_ENTROPY, 0.5, 0.5),
        trial_of(weak, 0.4, 0.6),
        trial_of(strong, 0.4, 0.5),
        trial_of(FOCAL, 0.3, 0.3),
    ]
    assert trials.best_of_each(some, Metric.log_loss) == [some[0], some[2], some[3]]
    assert trials.best_of_each(some, Metric.average_precision) == [some[0], some[1], some[3]]


def test_the_best_of_each_kind_meets_on_the_final_test() -> None:
    """A tuned focal loss against the best tuned cross-entropy, not against the first."""
    tuned = Settings(leaves=7)
    plain = [trial_of(CROSS_ENTROPY, 0.5), trial_of(Candidate(0.0, settings=tuned), 0.4)]
    focal = [trial_of(Candidate(2.0, 0.25), 0.45), trial_of(Candidate(1.0, 0.25, settings=tuned), 0.42)]
    balanced, line = trial_of(BALANCED, 0.3), trial_of(LOGISTIC, 0.2)
    assert choose_finalists([*plain, *focal], plain[1], Metric.log_loss) == [plain[1], focal[1]]
    assert choose_finalists([*plain, balanced, *focal], balanced, Metric.log_loss) == [plain[1], focal[1], balanced]
    assert choose_finalists([*plain, balanced], balanced, Metric.log_loss) == [plain[1], balanced]
    assert choose_finalists([*plain, *focal, line], line, Metric.log_loss) == [plain[1], focal[1], line]
    assert choose_finalists([*plain, *focal, line], plain[0], Metric.log_loss) == [plain[0], focal[1]]  # the simplest
