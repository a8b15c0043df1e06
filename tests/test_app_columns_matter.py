"""Importance by permutation, accumulated local effects and the curves of the page, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from parfocal.app.data.columns import Column
from parfocal.app.study import columns_matter as matter
from parfocal.app.study import effects
from parfocal.app.study.curves import confusion, joined, ranking, reliability, wilson
from parfocal.app.study.metrics import calibration_error, of_rows
from parfocal.boosters import Rows


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def made(rows: int = 6000, shift: float = 3.0, seed: int = 0) -> Rows:
    """A rare event that depends on feature 0 alone; features 2 and 3 are equal."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, 4))
    features[:, 3] = features[:, 2]
    labels = (generator.random(rows) < sigmoid(2 * features[:, 0] - shift)).astype(np.int64)
    return Rows(features, labels, None)


def model(features: np.ndarray) -> np.ndarray:
    """It looks at a useless feature too, and at the difference of two that are equal."""
    return sigmoid(2 * features[:, 0] + 0.4 * features[:, 1] + features[:, 2] - features[:, 3] - 3)


def test_a_useless_column_is_around_0_and_the_useful_one_the_highest() -> None:
    test = made()
    found = matter.importances(model, test, [[0], [1], [2, 3], [2]], np.arange(6000), 3000, 2, 0)
    (useful, of_useful), (useless, of_useless), (together, _), (alone, of_alone) = found
    assert of_useless[0] < 0 < of_useless[1]
    assert abs(useless) < 0.01
    assert useful == max(loss for loss, _ in found)
    assert of_useful[0] > 0.05
    assert together == pytest.approx(0, abs=1e-12)  # the parts of a column move together
    assert of_alone[0] > 0 < alone


def test_few_rows_say_what_all_rows_say() -> None:
    """Rows are drawn class by class, and weighted back."""
    test = made()
    truth, _ = matter.importances(model, test, [[0]], np.arange(6000), 6000, 10, 0)[0]
    inside, widths = 0, []
    for seed in range(20):
        loss, (low, high) = matter.importances(model, test, [[0]], np.arange(6000), 800, 2, seed)[0]
        inside += low <= truth <= high
        widths.append(high - low)
        assert low <= loss <= high
    assert inside >= 17
    assert np.mean(widths) < truth


def test_rows_are_drawn_with_the_shares_of_their_classes() -> None:
    test = made()
    drawn, weights = matter.draw_by_class(test, 500, np.random.default_rng(0))
    labels = test.labels[drawn]
    assert len(set(drawn.tolist())) == 500
    assert abs(int(labels.sum()) - 250) <= 1
    assert weights.sum() == pytest.approx(6000)
    assert np.average(labels, weights=weights) == pytest.approx(test.labels.mean())


def test_sample_weights_make_some_rows_count_more() -> None:
    """With all weight on rows in which feature 0 is constant, shuffling it among them changes nothing."""
    test = made()
    test.features[:3000, 0] = 1.0
    weights = np.where(np.arange(6000) < 3000, 1.0, 0.0)
    weighted = Rows(test.features, test.labels, weights)
    assert matter.importances(model, weighted, [[0]], np.arange(6000), 1000, 2, 0)[0][0] == pytest.approx(0, abs=1e-12)
    assert matter.importances(model, test, [[0]], np.arange(6000), 1000, 2, 0)[0][0] > 0.01


def test_neighbours_in_time_are_drawn_together() -> None:
    """Stretches whose rows share their luck make the interval longer than rows do."""
    generator = np.random.default_rng(0)
    rows, stretches = 4000, 40
    storm = np.repeat(generator.normal(size=stretches), rows // stretches)
    features = np.stack([storm, generator.normal(size=rows)], axis=1)
    labels = (generator.random(rows) < sigmoid(3 * storm - 2)).astype(np.int64)

    def width(blocks: np.ndarray) -> float:
        low, high = matter.importances(
            lambda x: sigmoid(3 * x[:, 0] - 2), Rows(features, labels, None), [[0]], blocks, 2000, 2, 0
        )[0][1]
        return high - low

    assert width(np.repeat(np.arange(stretches), rows // stretches)) > 2 * width(np.arange(rows))


def test_rows_and_repeats_keep_to_the_time() -> None:
    for available, features, columns, cost in (
        (84_000, 23, 20, 80.0),
        (1_000, 85, 40, 50.0),
        (50_000, 20_000, 40, 2e3),
    ):
        rows, repeats = matter.rows_and_repeats(available, features, columns, cost)
        assert min(available, matter.FEWEST_ROWS) <= rows <= matter.MOST_ROWS
        assert rows == matter.FEWEST_ROWS or rows * features <= matter.CELLS
        spent = rows * repeats * columns * cost
        assert spent <= matter.SHUFFLED_VISITS or (rows, repeats) == (matter.FEWEST_ROWS, 1)


# -- accumulated local effects


def additive(features: np.ndarray) -> np.ndarray:
    """Of two features that go together."""
    return 0.4 + 0.05 * features[:, 0] ** 2 - 0.1 * features[:, 1]


def test_the_effect_of_an_additive_function_is_its_term() -> None:
    """Even where columns go together, and the mean of the rows at a value would say something else."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=4000)
    rows = Rows(np.stack([x, x + 0.3 * generator.normal(size=4000)], axis=1), np.zeros(4000, np.int64), None)
    effect = effects.effect_of(Column("x", "number"), [0], additive, rows, [1])
    assert effect is not None
    values = np.array(effect.values)
    term = 0.05 * values**2
    shift = np.array(effect.probabilities) - term
    assert np.ptp(shift) < 0.012  # steps are a twentieth of the rows wide
    between = np.interp(x, values, effect.probabilities)
    assert between.mean() == pytest.approx(additive(rows.features).mean(), abs=0.01)
    assert sum(effect.rows) == pytest.approx(1)
    marginal = np.array([additive(rows.features)[np.abs(x - value) < 0.1].mean() for value in (-1.5, 1.5)])
    assert abs(np.diff(marginal)[0]) > 0.2  # here the two differ by the other column; the effect does not
    assert abs(np.diff(np.interp([-1.5, 1.5], values, effect.probabilities))[0]) < 0.02


def test_few_values_are_taken_one_by_one() -> None:
    generator = np.random.default_rng(0)
    hours = generator.integers(0, 24, size=3000).astype(float)
    truth = np.where(hours >= 18, 0.3, 0.1)
    rows = Rows(hours[:, None], np.zeros(3000, np.int64), None)
    effect = effects.effect_of(Column("hour", "number"), [0], lambda f: np.where(f[:, 0] >= 18, 0.3, 0.1), rows, [])
    assert effect is not None
    assert effect.values == list(range(24))
    assert effect.probabilities == pytest.approx([0.1] * 18 + [0.3] * 6)
    assert np.average(effect.probabilities, weights=effect.rows) == pytest.approx(truth.mean())


def test_categories_are_named_and_in_the_order_of_their_effect() -> None:
    generator = np.random.default_rng(0)
    codes = generator.choice(4, size=3000, p=[0.5, 0.3, 0.15, 0.05]).astype(float)
    codes[:300] = np.nan
    levels = np.array([0.2, 0.5, 0.1, 0.4])
    other = np.nan_to_num(codes) + generator.normal(size=3000)
    rows = Rows(np.stack([codes, other], axis=1), np.zeros(3000, np.int64), None, [0])

    def said(features: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(features[:, 0]), 0.3, levels[np.nan_to_num(features[:, 0]).astype(int)])

    column = Column("town", "category", ("Bonn", "Oslo", "Rome", "Ulm"))
    effect = effects.effect_of(column, [0], said, rows, [1])
    assert effect is not None
    assert effect.names == ["Rome", "Bonn", "Ulm", "Oslo"]
    assert np.diff(effect.probabilities) == pytest.approx([0.1, 0.2, 0.1])
    assert effect.missing == pytest.approx(0.1)


def test_alike_categories_are_neighbours() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, size=4000).astype(float)
    other = np.array([0.0, 3.0, 1.0, 2.0])[codes.astype(int)] + 0.5 * generator.normal(size=4000)
    order = effects.order_of_likeness(np.stack([codes, other], axis=1), codes, np.arange(4.0), [1], [0])
    assert order.tolist() in ([0, 2, 3, 1], [1, 3, 2, 0])


def test_of_a_date_the_part_that_moves_most_is_told() -> None:
    generator = np.random.default_rng(0)
    features = np.stack([generator.integers(1, 13, 2000), generator.integers(1, 8, 2000)], axis=1).astype(float)
    column = Column("at", "date", days=False)

    def said(f: np.ndarray) -> np.ndarray:
        return 0.1 + 0.05 * (f[:, 1] >= 6) + 0.001 * f[:, 0]

    effect = effects.effect_of(column, [0, 1], said, Rows(features, np.zeros(2000, np.int64), None), [])
    assert effect is not None
    assert effect.part == "weekday"


def test_a_column_with_one_value_has_no_effect() -> None:
    rows = Rows(np.ones((50, 1)), np.zeros(50, np.int64), None)
    assert effects.effect_of(Column("x", "number"), [0], lambda f: f[:, 0], rows, []) is None
    rows = Rows(np.full((50, 1), np.nan), np.zeros(50, np.int64), None)
    assert effects.effect_of(Column("x", "number"), [0], lambda f: f[:, 0], rows, []) is None


# -- curves


def test_a_ranking_counts_alarms_and_hits() -> None:
    generator = np.random.default_rng(0)
    probabilities, weights = generator.random(5000), generator.random(5000)
    labels = (generator.random(5000) < probabilities).astype(np.int64)
    for weight in (None, weights):
        each = np.ones(5000) if weight is None else weight
        found = ranking(labels, probabilities, weight, [0.123456])
        assert 0.123456 in found.thresholds
        assert len(found.thresholds) <= 242
        for threshold, alarms, hits in zip(found.thresholds, found.alarms, found.hits, strict=True):
            said = each * (probabilities >= threshold)
            assert alarms == pytest.approx(1000 * said.sum() / each.sum())
            assert hits == pytest.approx(1000 * said[labels == 1].sum() / each.sum())
        assert found.hits[-1] == pytest.approx(found.positives)


def test_groups_of_reliability_are_those_of_the_calibration_error() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.random(3000) ** 3
    labels = (generator.random(3000) < probabilities * 0.8).astype(np.int64)
    groups = reliability(labels, probabilities, None, fewest=0)
    assert len(groups) == 15
    assert sum(group.rows for group in groups) == 3000
    assert sum(group.positives for group in groups) == labels.sum()
    gap = sum(group.rows * abs(group.said - group.happened) for group in groups) / 3000
    assert gap == pytest.approx(calibration_error(labels, probabilities))
    assert all(group.interval[0] <= group.happened <= group.interval[1] for group in groups)
    fewer = reliability(labels, probabilities, None)
    assert 1 < len(fewer) < 15
    assert min(group.positives for group in fewer) >= 5
    assert sum(group.rows for group in fewer) == 3000
    assert sum(group.rows * group.said for group in fewer) == pytest.approx(probabilities.sum())
    classes = np.stack([1 - probabilities, probabilities], axis=1)
    assert sum(group.rows for group in reliability(labels, classes, None)) == 6000


@pytest.mark.parametrize(
    ("positives", "groups"),
    [([0, 3, 2, 9, 0, 7], [0, 0, 0, 1, 2, 2]), ([9, 9, 1], [0, 1, 1]), ([1, 1], [0, 0]), ([0, 0, 5], [0, 0, 0])],
)
def test_groups_with_few_positives_are_joined(positives: list[int], groups: list[int]) -> None:
    assert joined(np.array(positives), 5).tolist() == groups


def test_wilson() -> None:
    square = 1.959963984540054**2
    assert wilson(0.0, 10) == (0.0, pytest.approx(square / (10 + square)))
    low, high = wilson(0.3, 50)
    for end in (low, high):  # the ends are where the distance is 1.96 standard errors of that end
        assert (0.3 - end) ** 2 == pytest.approx(square * end * (1 - end) / 50)


def test_confusion_has_classes_down_and_decisions_across() -> None:
    assert confusion(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0]), 3) == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]


def test_the_loss_is_that_of_the_metrics() -> None:
    test = made(2000)
    loss, _ = matter.importances(model, test, [[0]], np.arange(2000), 2000, 1, 0)[0]
    generator = np.random.default_rng(0)
    drawn, _ = matter.draw_by_class(test, 2000, generator)
    shuffled = test.features[drawn].copy()
    shuffled[:, [0]] = test.features[matter.donors(test, 2000, generator)[:, None], [0]]
    labels = test.labels[drawn]
    rise = of_rows("log_loss", labels, model(shuffled)) - of_rows("log_loss", labels, model(test.features[drawn]))
    assert loss == pytest.approx(rise.mean())
