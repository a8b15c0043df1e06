"""Train on a Parquet data set of many files with Dask, with an objective that knows the prior of all files.

python examples/many_files.py [--engine xgboost]            the flights, one file a month
python examples/many_files.py FOLDER --target COLUMN        files of your own: two classes, file names in order of time

Each file is a partition, and each worker reads its own files: no process holds the whole table.  The last files are
held out: training stops by their log loss, and the printed numbers are for them.

Needs: pip install "dask[dataframe]" distributed
"""

import argparse
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost.dask
from distributed import Client, LocalCluster
from sklearn.metrics import average_precision_score, log_loss

import parfocal.lightgbm
import parfocal.xgboost

PATIENCE, GAMMA, LABEL = 20, 2.0, "label"
FIXED = {"learning_rate": 0.1, "max_delta_step": 4 / (1 + GAMMA)}  # docs/boosting.md has the limit of the step
FLIGHTS = Path(__file__).with_name("flights.parquet")


def write_months(folder: Path) -> None:
    for month, rows in pd.read_parquet(FLIGHTS).groupby("month"):
        rows.to_parquet(folder / f"{month:02}.parquet", index=False)


def read(files: list[Path], target: str) -> dd.DataFrame:
    """Numbers, labels, and texts as category codes, which a first pass makes the same in every file."""
    frame = dd.read_parquet(files, split_row_groups=False)
    frame = frame.assign(**{LABEL: frame[target].astype("int8")}).drop(columns=target)
    frame = frame.select_dtypes(["number", "bool", "string", "object"])
    texts = list(frame.select_dtypes(["string", "object"]).columns)
    frame = frame.categorize(columns=texts)
    return frame.assign(**{text: frame[text].cat.codes for text in texts})


def split(frame: dd.DataFrame) -> tuple[da.Array, da.Array]:
    """Arrays, not frames: XGBoost checks the column names of frames, and a worker without a held-out file has none."""
    x, y = frame.drop(columns=LABEL).astype("float32"), frame[LABEL]
    return x.to_dask_array(lengths=True), y.to_dask_array(lengths=True)


def with_lightgbm(client: Client, objective: Any, train: dd.DataFrame, held_out: dd.DataFrame, rounds: int) -> Any:
    """The number of rounds, and the raw scores of the held-out rows."""
    # Each worker of LightGBM stops by its own held-out rows, so each gets all of them: one copy for every training
    # part.  So there are as many parts as workers; LightGBM would join them anyway.
    train = train.repartition(npartitions=len(client.ncores())).persist()
    copies = dd.concat([held_out.repartition(npartitions=1)] * train.npartitions).persist()
    (x, y), (seen, truth) = split(train), split(copies)
    # A regressor in name only: LGBMClassifier would number the classes of each worker's part separately.
    params = {**objective.params(), **FIXED, "n_estimators": rounds, "verbosity": -1, "metric": "none"}
    metric, stop = parfocal.lightgbm.FocalMetric(objective, "log_loss"), lgb.early_stopping(PATIENCE, verbose=False)
    model = lgb.DaskLGBMRegressor(client=client, **params)
    model.fit(x, y, eval_X=(seen,), eval_y=(truth,), eval_metric=metric, callbacks=[stop])
    return model.best_iteration_, model.predict(split(held_out)[0], raw_score=True).compute()


def with_xgboost(client: Client, objective: Any, train: dd.DataFrame, held_out: dd.DataFrame, rounds: int) -> Any:
    table, judged = (xgboost.dask.DaskDMatrix(client, *split(frame)) for frame in (train, held_out))
    params = {**objective.params(), **FIXED, "disable_default_eval_metric": 1}
    metric = parfocal.xgboost.FocalMetric(objective, "log_loss")  # it sums over the workers
    stopping = {"evals": [(judged, "held_out")], "early_stopping_rounds": PATIENCE, "verbose_eval": False}
    stopping |= {"obj": objective, "custom_metric": metric}
    booster = xgboost.dask.train(client, params, table, rounds, **stopping)["booster"]
    booster = booster[: booster.best_iteration + 1]
    return booster.num_boosted_rounds(), xgboost.dask.predict(client, booster, judged, output_margin=True).compute()


ENGINES = {"lightgbm": (parfocal.lightgbm, with_lightgbm), "xgboost": (parfocal.xgboost, with_xgboost)}


def run(client: Client, folder: Path, target: str, engine: str, rounds: int, held_out: int) -> None:
    files = sorted(folder.glob("*.parquet"))
    frame = read(files, target)
    train, judged = frame.partitions[:-held_out], frame.partitions[-held_out:]
    rows, positive = dask.compute(train[LABEL].count(), train[LABEL].sum())  # one pass over one column
    print(f"{rows:,} rows in {len(files) - held_out} files; held out: {held_out}; workers: {len(client.ncores())}")
    print(f"prior {positive / rows:.4f}")
    # Read first, split afterwards: for a single column Dask may join several files, and rows would lose their labels.
    train, judged = dask.persist(train, judged)
    adapter, fit = ENGINES[engine]
    objective = adapter.FocalObjective(GAMMA, prior=positive / rows)
    best, scores = fit(client, objective, train, judged, rounds)
    margins = scores + (objective.start_ if engine == "lightgbm" else 0.0)
    truth = judged[LABEL].compute()
    print(f"{engine}: {best} rounds")
    for name, p in {"raw focal": 1 / (1 + np.exp(-margins)), "recovered": objective.posterior(scores)}.items():
        print(f"  {name}: log loss {log_loss(truth, p):.4f}, mean {p.mean():.4f} (true: {truth.mean():.4f})")
    print(f"  average precision, of both: {average_precision_score(truth, scores):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--target", default="cancelled")
    parser.add_argument("--engine", choices=ENGINES, default="lightgbm")
    for option, number in {"--rounds": 500, "--held-out": 2, "--workers": 2}.items():
        parser.add_argument(option, type=int, default=number)
    given = vars(parser.parse_args())
    warnings.filterwarnings("ignore", message="Parameter n_jobs will be ignored")  # LightGBM says so of every model
    options = {"n_workers": given.pop("workers"), "threads_per_worker": 1, "dashboard_address": ":0"}
    options["silence_logs"] = logging.CRITICAL  # a mistake still comes back as an exception
    with LocalCluster(**options) as cluster, Client(cluster) as client, tempfile.TemporaryDirectory() as months:
        if given["folder"] is None:
            given["folder"] = Path(months)
            write_months(given["folder"])
        run(client, **given)
