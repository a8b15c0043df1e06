"""What each feature adds to a score, by the engines' own code: against sums, Shapley's definition, and by hand."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from parfocal.app.model import linear
from parfocal.boosters import ENGINES, Rows, Task, Trained
from tiers import tiers

NAN = np.nan
DIGITS = {"lightgbm": 1e-13, "catboost": 1e-13, "xgboost": 3e-6, "linear": 1e-12}  # XGBoost adds them up in float32


def made_rows(classes: int, rows: int = 300) -> Rows:
    """Three numbers, of which one has holes and one says nothing, and a category with holes."""
    generator = np.random.default_rng(5)
    numbers = generator.normal(size=(rows, 3)) * [1, 3, 0]
    town = generator.integers(0, 5, size=rows).astype(float)
    labels = np.digitize(numbers[:, 0] + (town == 1) + generator.normal(size=rows), [0.5, 1.5][: classes - 1])
    numbers[::7, 0], town[::9] = NAN, NAN
    return Rows(np.column_stack([numbers, town]), labels, None, [3], classes)


def trained(name: str, rows: Rows, rounds: int = 12, leaves: int = 6, **engine_params: Any) -> Trained:
    task = Task({"gamma": 1.0}, rows, None, rounds, 5, 0.2, leaves, 0.0, 2, 0, engine_params)
    return linear.ENGINES[name].train(task)


CASES = list(itertools.product(linear.ENGINES, [2, 3]))


@pytest.mark.parametrize(("name", "classes"), tiers(CASES, first=[case for case in CASES if case != ("catboost", 3)]))
def test_they_add_up_to_the_scores(name: str, classes: int) -> None:
    rows, engine = made_rows(classes), linear.ENGINES[name]
    booster = trained(name, rows).booster
    for model in (booster, engine.load(engine.dump(booster))):
        found, scores = engine.contributions(model, rows.features), engine.scores(model, rows.features)
        assert found.shape == ((300, 5) if classes == 2 else (300, 5, 3))
        np.testing.assert_allclose(found.sum(axis=1), scores, rtol=DIGITS[name], atol=DIGITS[name])
        assert (found[:, -1] == found[0, -1]).all()  # the base
        assert (found[:, 2] == 0).all()  # what says nothing
        assert np.ptp(found[:, [0, 3]], axis=0).min() > 0.1
        np.testing.assert_array_equal(engine.contributions(model, rows.features[:1]), found[:1])


def test_lightgbm_without_its_package_gives_its_bits() -> None:
    engine = ENGINES["lightgbm"]
    for classes in (2, 3):
        rows = made_rows(classes)
        booster = trained("lightgbm", rows).booster
        found = engine.contributions(engine.load(engine.dump(booster)), rows.features)
        np.testing.assert_array_equal(found, engine.contributions(booster, rows.features))


# -- against Shapley's definition ------------------------------------------------------------------


def goes_left(node: dict[str, Any], value: float) -> bool:
    if node["decision_type"] == "==":
        return not math.isnan(value) and str(int(value)) in node["threshold"].split("||")
    if math.isnan(value) and node["missing_type"] == "NaN":
        return bool(node["default_left"])
    return bool(np.nan_to_num(value) <= node["threshold"])


def rows_in(node: dict[str, Any]) -> float:
    return float(node["internal_count"] if "left_child" in node else node["leaf_count"])


def expected(node: dict[str, Any], row: np.ndarray, known: tuple[int, ...]) -> float:
    """The mean of a tree over training, with the features of the row that are known."""
    if "left_child" not in node:
        return float(node["leaf_value"])
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expected(left if goes_left(node, row[node["split_feature"]]) else right, row, known)
    share = rows_in(left) / (rows_in(left) + rows_in(right))
    return share * expected(left, row, known) + (1 - share) * expected(right, row, known)


def shapley(trees: list[dict[str, Any]], row: np.ndarray) -> np.ndarray:
    """Over all orders in which features may become known: how far each one moves the mean.  The base comes last."""

    def value(known: tuple[int, ...]) -> float:
        return sum(expected(tree["tree_structure"], row, known) for tree in trees)

    found = np.zeros(len(row) + 1)
    orders = list(itertools.permutations(range(len(row))))
    for order in orders:
        for place, feature in enumerate(order):
            found[feature] += (value(order[: place + 1]) - value(order[:place])) / len(orders)
    found[-1] = value(())
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbm_against_the_definition(classes: int) -> None:
    rows, engine = made_rows(classes), ENGINES["lightgbm"]
    booster = trained("lightgbm", rows, rounds=3, leaves=5, min_data_per_group=1, cat_smooth=0.1).booster
    found = engine.contributions(engine.load(engine.dump(booster)), rows.features[:8])
    trees = booster.dump_model()["tree_info"]
    assert '"=="' in json.dumps(trees)  # a split by categories
    assert '"default_left": true' in json.dumps(trees)
    scores = 1 if classes == 2 else classes
    for number, row in enumerate(rows.features[:8]):
        each = [shapley(trees[score::scores], row) for score in range(scores)]
        np.testing.assert_allclose(
            found[number], each[0] if classes == 2 else np.stack(each, axis=1), rtol=1e-9, atol=1e-12
        )


# -- the linear model ------------------------------------------------------------------------------


def test_linear_by_hand() -> None:
    """Coefficient times (feature minus its mean in training), over all features that a column becomes."""
    rows, engine = made_rows(2), linear.ENGINE
    model = trained("linear", rows).booster
    design = model.layout.design(rows.features)
    assert model.layout.columns.tolist() == [0, 1, 2, 0, *[3] * 6]  # numbers, a mark, five codes and one for others
    np.testing.assert_allclose(model.layout.centre, design.mean(axis=0), atol=1e-12)
    added = model.coefficients[0] * (design - design.mean(axis=0))
    expected = np.stack([added[:, [0, 3]].sum(1), added[:, 1], added[:, 2], added[:, 4:].sum(1)], axis=1)
    found = engine.contributions(model, rows.features)
    np.testing.assert_allclose(found[:, :-1], expected, atol=1e-12)
    np.testing.assert_allclose(found[:, :-1].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found[:, -1], engine.scores(model, rows.features).mean())


def test_linear_models_of_earlier_versions_take_categories_as_equally_frequent() -> None:
    rows, engine = made_rows(3), linear.ENGINE
    model = trained("linear", rows).booster
    text = json.loads(engine.dump(model))
    del text["shares"]
    read = engine.load(json.dumps(text).encode())
    np.testing.assert_array_equal(engine.scores(read, rows.features), engine.scores(model, rows.features))
    found = engine.contributions(read, rows.features)
    np.testing.assert_allclose(found.sum(axis=1), engine.scores(model, rows.features), rtol=1e-12, atol=1e-12)
    known = [found[rows.features[:, 3] == code, 3][0] for code in range(5)]
    np.testing.assert_allclose(np.sum(known, axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("shares", [[0.5], [2.0] * 7, "half", [None] * 7, 1])
def test_wrong_shares_are_refused(shares: Any) -> None:
    text = json.loads(linear.ENGINE.dump(trained("linear", made_rows(2)).booster))
    assert len(text["shares"]) == 7
    with pytest.raises((ValueError, TypeError)):
        linear.ENGINE.load(json.dumps({**text, "shares": shares}).encode())


def test_a_lightgbm_booster_of_the_package_is_taken_too() -> None:
    rows = made_rows(2)
    booster = trained("lightgbm", rows).booster
    assert isinstance(booster, lgb.Booster)
    expected = booster.predict(rows.features, pred_contrib=True)
    np.testing.assert_array_equal(ENGINES["lightgbm"].contributions(booster, rows.features), expected)
