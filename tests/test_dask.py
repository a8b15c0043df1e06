"""Two workers train the model of one machine, though one of them has hardly a row of the rare class.

The features have seven values, and each worker has them all, so both ways have the same bins.  Then the models differ
by the order of sums only: not at all when this was written, and 1e-6 of a posterior allows for other machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
import xgboost.dask
from distributed import Client, LocalCluster, wait

import parfocal.lightgbm
import parfocal.xgboost

# LightGBM says it of every model: a worker's threads are Dask's affair.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored:UserWarning"),
    pytest.mark.full,
]

RANDOM = np.random.default_rng(0)


def table(rows: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Features, labels of two and of three classes, and weights."""
    features = np.clip(np.round(RANDOM.normal(size=(rows, 5)) * 1.5), -3, 3)
    margins = features[:, 0] + 0.7 * features[:, 1] - 3
    one = (RANDOM.random(rows) < 1 / (1 + np.exp(-margins))).astype(int)
    many = np.digitize(margins + RANDOM.logistic(size=rows), [-1.5, 1])
    return features, {"binary": one, "softmax": many}, np.where(one == 1, 3.0, 1.0) * RANDOM.integers(1, 3, rows)


ROWS, LABELS, WEIGHTS = table(6000)
HELD_OUT, HELD_OUT_LABELS, HELD_OUT_WEIGHTS = table(2000)
HALF = len(ROWS) // 2
ENGINES = {"lightgbm": parfocal.lightgbm, "xgboost": parfocal.xgboost}
each_engine = pytest.mark.parametrize("engine", ENGINES)
FIXED = {
    # min_data_in_leaf: beyond one machine LightGBM estimates the rows of a leaf from its curvature
    "lightgbm": {
        "num_leaves": 8,
        "verbosity": -1,
        "min_data_in_bin": 1,
        "min_data_in_leaf": 1,
        "deterministic": True,
        "metric": "none",
    },
    "xgboost": {"max_depth": 3, "disable_default_eval_metric": 1},
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def spread(client: Client, *arrays: np.ndarray, cut: int = HALF) -> list[da.Array]:
    """Each array with its first rows on one worker and the rest on the other; none where a worker gets no row."""
    workers = sorted(client.scheduler_info()["workers"])
    found = []
    for array in arrays:
        parts = [(w, part) for w, part in zip(workers, np.split(array, [cut]), strict=True) if len(part)]
        futures = [(client.scatter(part, workers=[worker], hash=False), part.shape) for worker, part in parts]
        found.append(da.concatenate([da.from_delayed(dask.delayed(f), shape, array.dtype) for f, shape in futures]))
    return found


def sorted_by_class(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row of the last class stays with the first worker; all the others are on the second."""
    order = np.argsort(LABELS[kind], kind="stable")
    order[[0, -1]] = order[[-1, 0]]
    return ROWS[order], LABELS[kind][order], WEIGHTS[order]


def prior_of(labels: np.ndarray, weight: np.ndarray | None) -> Any:
    shares = np.bincount(labels, weights=weight) / (len(labels) if weight is None else weight.sum())
    return shares[1] if len(shares) == 2 else shares


def raw_scores(engine: str, model: Any, rows: np.ndarray) -> np.ndarray:
    if engine == "lightgbm":
        return model.booster_.predict(rows, raw_score=True)
    return model.predict(xgb.DMatrix(rows), output_margin=True)


def on_two_workers(
    client: Client, engine: str, objective: Any, rows: np.ndarray, labels: np.ndarray, weight: Any, rounds: int = 30
) -> Any:
    params = {**objective.params(), **FIXED[engine]}
    weights = [] if weight is None else [weight]
    x, y, w = [*spread(client, rows, labels, *weights), None][:3]
    if engine == "lightgbm":
        model = lgb.DaskLGBMRegressor(client=client, n_estimators=rounds, **params)
        return model.fit(x, y, sample_weight=w)
    data = xgboost.dask.DaskDMatrix(client, x, y, weight=w)
    return xgboost.dask.train(client, params, data, rounds, obj=objective)["booster"]


def on_one_machine(
    engine: str, objective: Any, rows: np.ndarray, labels: np.ndarray, weight: Any, rounds: int = 30
) -> Any:
    params = {**objective.params(), **FIXED[engine]}
    if engine == "lightgbm":
        model = lgb.LGBMRegressor(n_estimators=rounds, n_jobs=1, **params)
        return model.fit(rows, labels, sample_weight=weight)
    data = xgb.DMatrix(rows, labels, weight=weight)
    return xgb.train({**params, "nthread": 1}, data, rounds, obj=objective)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("kind", ["binary", "softmax"])
@each_engine
def test_two_workers_train_the_model_of_one_machine(client: Client, engine: str, kind: str, weighted: bool) -> None:
    rows, labels, weight = sorted_by_class(kind)
    assert (labels[:HALF] == labels.max()).sum() == 1  # the first worker's own prior would be 1 in 3000
    prior = prior_of(labels, weight if weighted else None)
    assert np.abs(prior_of(labels, weight) - prior_of(labels, None)).max() > 0.05  # weights matter
    weight = weight if weighted else None
    objective = ENGINES[engine].FocalObjective(2.0, prior=prior)
    model = on_two_workers(client, engine, objective, rows, labels, weight)
    posterior = objective.posterior(raw_scores(engine, model, rows))
    alone = objective.posterior(raw_scores(engine, on_one_machine(engine, objective, rows, labels, weight), rows))
    np.testing.assert_allclose(posterior, alone, atol=1e-6)
    np.testing.assert_allclose(np.average(posterior, axis=0, weights=weight), prior, atol=0.012)
    assert np.ptp(posterior) > 0.5


@each_engine
def test_the_rows_are_on_both_workers_and_the_model_predicts_there(client: Client, engine: str) -> None:
    rows, labels, _ = sorted_by_class("softmax")
    x = spread(client, rows)[0].persist()
    wait(x)
    homes = [workers for workers in client.who_has(x).values() if workers]
    assert len({worker for workers in homes for worker in workers}) == 2
    objective = ENGINES[engine].FocalObjective(2.0, prior=prior_of(labels, None))
    model = on_two_workers(client, engine, objective, rows, labels, None, rounds=5)
    if engine == "lightgbm":
        assert model.booster_.params["num_machines"] == 2
        predicted = model.predict(x, raw_score=True)
    else:
        predicted = xgboost.dask.predict(client, model, x, output_margin=True)
    native = objective.posterior(raw_scores(engine, model, rows))
    np.testing.assert_allclose(objective.posterior(predicted.compute()), native, rtol=1e-6)


# -- early stopping


def log_loss(engine: str, objective: Any, model: Any, best: int) -> float:
    """Of the recovered posterior on all held-out rows, by hand."""
    if engine == "lightgbm":
        scores = model.booster_.predict(HELD_OUT, raw_score=True, num_iteration=best)
    else:
        scores = model.predict(xgb.DMatrix(HELD_OUT), output_margin=True, iteration_range=(0, best))
    p = objective.posterior(scores)
    labels = HELD_OUT_LABELS["binary"]
    return float(np.average(-np.log(np.where(labels == 1, p, 1 - p)), weights=HELD_OUT_WEIGHTS))


def test_lightgbm_stops_where_every_worker_judges_all_held_out_rows(client: Client) -> None:
    """LightGBM has no sum over the workers for a metric: each stops by what it has seen, so they must see the same."""
    rows, labels, _ = sorted_by_class("binary")
    objective = parfocal.lightgbm.FocalObjective(2.0, prior=labels.mean())
    metric = parfocal.lightgbm.FocalMetric(objective, "log_loss")
    held_out = [da.from_array(array, chunks=-1) for array in (HELD_OUT, HELD_OUT_LABELS["binary"], HELD_OUT_WEIGHTS)]
    x, y = spread(client, rows, labels)
    copies = [da.concatenate([array] * x.npartitions) for array in held_out]
    params = {**objective.params(), **FIXED["lightgbm"], "learning_rate": 0.3, "n_estimators": 200}
    stop = lgb.early_stopping(10, verbose=False)
    model = lgb.DaskLGBMRegressor(client=client, **params).fit(
        x,
        y,
        eval_X=(copies[0],),
        eval_y=(copies[1],),
        eval_sample_weight=[copies[2]],
        eval_metric=metric,
        callbacks=[stop],
    )
    alone = lgb.LGBMRegressor(n_jobs=1, **params).fit(
        rows,
        labels,
        eval_X=(HELD_OUT,),
        eval_y=(HELD_OUT_LABELS["binary"],),
        eval_sample_weight=[HELD_OUT_WEIGHTS],
        eval_metric=metric,
        callbacks=[stop],
    )
    seen = model.evals_result_["valid_0"][metric.name]
    assert 3 < model.best_iteration_ == alone.best_iteration_ < 190
    assert len(seen) == model.best_iteration_ + 10
    assert min(seen) == pytest.approx(log_loss("lightgbm", objective, model, model.best_iteration_), rel=1e-9)
    # what LightGBM predicts by default is the best iteration
    np.testing.assert_array_equal(
        model.predict(held_out[0], raw_score=True).compute(),
        model.booster_.predict(HELD_OUT, raw_score=True, num_iteration=model.best_iteration_),
    )


@pytest.mark.parametrize("cut", [1500, 2000], ids=["uneven", "one worker has none"])
@pytest.mark.parametrize("of", ["focal_loss", "log_loss"])
def test_xgboosts_metric_is_the_mean_over_the_rows_of_all_workers(client: Client, cut: int, of: str) -> None:
    """XGBoost would take the mean of the workers' means."""
    rows, labels, _ = sorted_by_class("binary")
    order = np.argsort(HELD_OUT_LABELS["binary"], kind="stable")  # the first worker has the easy rows
    held_out = spread(client, HELD_OUT[order], HELD_OUT_LABELS["binary"][order], HELD_OUT_WEIGHTS[order], cut=cut)
    objective = parfocal.xgboost.FocalObjective(2.0, prior=labels.mean())
    metric = parfocal.xgboost.FocalMetric(objective, of)
    params, name = {**objective.params(), **FIXED["xgboost"], "eta": 0.5}, metric.name
    data = xgboost.dask.DaskDMatrix(client, *spread(client, rows, labels))
    evaluated = xgboost.dask.DaskDMatrix(client, held_out[0], held_out[1], weight=held_out[2])
    stopping = {"obj": objective, "custom_metric": metric, "early_stopping_rounds": 10, "verbose_eval": False}
    found = xgboost.dask.train(client, params, data, 200, evals=[(evaluated, "held_out")], **stopping)
    model, seen = found["booster"], found["history"]["held_out"][name]
    alone = xgb.DMatrix(HELD_OUT, HELD_OUT_LABELS["binary"], weight=HELD_OUT_WEIGHTS)
    history: dict[str, Any] = {}
    other = xgb.train(
        {**params, "nthread": 1},
        xgb.DMatrix(rows, labels),
        200,
        evals=[(alone, "held_out")],
        evals_result=history,
        **stopping,
    )
    assert 3 < model.best_iteration == other.best_iteration < 190
    np.testing.assert_allclose(seen, history["held_out"][name], atol=2e-6)  # XGBoost prints six digits
    if of == "log_loss":
        best = log_loss("xgboost", objective, model, model.best_iteration + 1)
        assert min(seen) == pytest.approx(best, abs=2e-6)


def test_a_worker_without_a_training_row(client: Client) -> None:
    rows, labels, _ = sorted_by_class("binary")
    objective = parfocal.xgboost.FocalObjective(2.0, prior=labels.mean())
    data = xgboost.dask.DaskDMatrix(client, *spread(client, rows, labels, cut=len(rows)))
    evaluated = xgboost.dask.DaskDMatrix(client, *spread(client, HELD_OUT, HELD_OUT_LABELS["binary"], cut=1000))
    params = {**objective.params(), **FIXED["xgboost"]}
    metric = parfocal.xgboost.FocalMetric(objective)
    options = {"evals": [(evaluated, "held_out")], "custom_metric": metric, "verbose_eval": False}
    found = xgboost.dask.train(client, params, data, 5, obj=objective, **options)
    assert len(found["history"]["held_out"]["focal_loss"]) == 5
    alone = on_one_machine("xgboost", objective, rows, labels, None, rounds=5)
    np.testing.assert_allclose(
        raw_scores("xgboost", found["booster"], rows), raw_scores("xgboost", alone, rows), atol=1e-6
    )
