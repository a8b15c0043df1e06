"""Are the probabilities of `parfocal fit` true?  The runs behind docs/true-probabilities.md, and that page's table.

python examples/true_probabilities.py data      data: the folder of packages that examples/tables.py reads; runs all
                                                and writes docs/true-probabilities.csv and the page
python examples/true_probabilities.py --page    writes the results of the csv into the page
python examples/true_probabilities.py --check   exits with 1 if the page differs from the csv

(a) The command line is used as people use it: a Parquet file, `fit`, `predict`.  It never sees the test rows.
(b) The peers get the same features, as `fit` made them from the same rows.
(c) Each seed is an outer split, and differences are taken within it.  Splits share training rows, so standard
    errors are those of Nadeau and Bengio, as in does_it_help.py.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
from does_it_help import grid, keep_page, standard_error
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import Frame, frames

from parfocal.app import main as parfocal
from parfocal.app.data.columns import convert, encode
from parfocal.app.model.model import Model
from parfocal.app.model.saved import read_model

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, RESULTS = DOCS / "true-probabilities.md", DOCS / "true-probabilities.csv"
START, END = (
    "<!-- made by examples/true_probabilities.py: start -->",
    "<!-- made by examples/true_probabilities.py: end -->",
)

SEEDS = range(5, 10)  # 0 to 4 were used in a first run, see the page
WINDOW, WINDOWS = 5, 10  # by time, as in does_it_help.py
OURS, LIGHTGBM, REFITTED, LINEAR = "parfocal fit", "LightGBM", "LightGBM, refitted", "logistic regression"
METHODS, PEERS = (OURS, LIGHTGBM, REFITTED, LINEAR), (LIGHTGBM, LINEAR)
BOUND, SHARE = 1.01, 0.1  # required of the log loss, and of mean probability / rate
Results = dict[str, dict[str, np.ndarray]]  # of one table: by method and column, a value for each seed


# -- the runs


def split(table: Frame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three quarters and a quarter, stratified; by time a window of five tenths and the tenth after it."""
    if table.time is not None:
        order = np.argsort(table.frame[table.time].to_physical().to_numpy(), kind="stable")
        parts = np.array_split(order, WINDOWS)
        first = seed % (WINDOWS - WINDOW)
        return table.frame[np.concatenate(parts[first : first + WINDOW])], table.frame[parts[first + WINDOW]]
    rows = np.arange(len(table.frame))
    train, test = train_test_split(rows, test_size=0.25, stratify=table.frame["target"], random_state=seed)
    return table.frame[np.sort(train)], table.frame[np.sort(test)]


def ours(table: Frame, train: pl.DataFrame, test: pl.DataFrame, seed: int) -> tuple[np.ndarray, Model]:
    """The probabilities that `fit` and `predict` write, and the model."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        train.write_parquet(here / "train.parquet")
        test.write_parquet(here / "test.parquet")
        by_time = [] if table.time is None else ["--time", table.time]
        fit = ["fit", here / "train.parquet", "--target", "target", "--out", here / "model", "--seed", seed, *by_time]
        predict = ["predict", here / "model", here / "test.parquet", "--out", here / "scores.parquet"]
        for command in (fit, predict):
            if parfocal([str(word) for word in command]) != 0:
                raise RuntimeError(f"{table.name}, seed {seed}: {command[0]} failed")
        return pl.read_parquet(here / "scores.parquet")["probability"].to_numpy(), read_model(here / "model")


def features(model: Model, frame: pl.DataFrame) -> np.ndarray:
    return np.stack([part for c in model.columns for part in encode(convert(frame[c.name], c).values, c)], axis=1)


def lightgbm(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, categorical: list[int], by_time: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """LightGBM, stopped by the log loss of a fifth of the rows, and then trained on all rows for as many rounds."""
    rows = np.arange(len(labels))
    if by_time:
        inner, held_out = np.split(rows, [round(0.8 * len(rows))])
    else:
        inner, held_out = train_test_split(rows, test_size=0.2, stratify=labels, random_state=seed)
    params = {"objective": "binary", "learning_rate": 0.05, "metric": "binary_logloss", "verbosity": -1, "seed": seed}

    def data(part: np.ndarray, like: Any = None) -> Any:
        return lgb.Dataset(train[part], labels[part], categorical_feature=categorical, reference=like)

    table = data(inner)
    stopping = lgb.early_stopping(50, verbose=False)
    stopped = lgb.train(params, table, 2000, valid_sets=[data(held_out, table)], callbacks=[stopping])
    refitted = lgb.train(params, data(rows), stopped.best_iteration)
    return stopped.predict(test), refitted.predict(test)


def logistic_regression(train: np.ndarray, labels: np.ndarray, test: np.ndarray, categorical: list[int]) -> np.ndarray:
    """scikit-learn's, with C 1: missing numbers are the mean, then scaled; categories one-hot, even rare codes."""
    numbers = [place for place in range(train.shape[1]) if place not in categorical]
    means = np.nan_to_num(np.nanmean(train[:, numbers], axis=0))
    codes = {place: np.unique(train[:, place][~np.isnan(train[:, place])]) for place in categorical}

    def design(matrix: np.ndarray) -> np.ndarray:
        parts = [np.where(np.isnan(matrix[:, numbers]), means, matrix[:, numbers])]
        return np.hstack([*parts, *(matrix[:, [place]] == codes[place] for place in categorical)])

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(design(train), labels)
    return model.predict_proba(design(test))[:, 1]


def runs(table: Frame, seed: int) -> list[dict[str, Any]]:
    """One row of the csv for each method on one split."""
    train, test = split(table, seed)
    began = time.process_time()
    said, model = ours(table, train, test, seed)
    seconds = {OURS: time.process_time() - began}
    kinds = [column.kind for column in model.columns for _ in column.parts]
    categorical = [place for place, kind in enumerate(kinds) if kind == "category"]
    inside, outside, labels = features(model, train), features(model, test), train["target"].to_numpy()
    began = time.process_time()
    trees = lightgbm(inside, labels, outside, categorical, table.time is not None, seed)
    seconds[LIGHTGBM] = seconds[REFITTED] = time.process_time() - began
    began = time.process_time()
    linear = logistic_regression(inside, labels, outside, categorical)
    seconds[LINEAR] = time.process_time() - began
    truth = test["target"].to_numpy()
    rows = []
    for method, of_method in zip(METHODS, (said, *trees, linear), strict=True):
        rows.append(
            {
                "table": table.name,
                "seed": seed,
                "method": method,
                "training_rows": len(train),
                "test_rows": len(test),
                "training_positives": int(labels.sum()),
                "test_positives": int(truth.sum()),
                "mean_over_rate": f"{of_method.mean() / truth.mean():.6g}",
                "log_loss": f"{log_loss(truth, of_method):.6g}",
                "average_precision": f"{average_precision_score(truth, of_method):.6g}",
                "seconds": f"{seconds[method]:.2f}",
                "winner": model.fit["winner"] if method == OURS else "",
            }
        )
    return rows


def run_all(tables: list[Frame], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = None
        for table in tables:
            for seed in SEEDS:
                rows = runs(table, seed)
                writer = writer or csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerows(rows)
                file.flush()
                print(f"{time.strftime('%H:%M:%S')} {table.name}, seed {seed}", file=sys.stderr, flush=True)


# -- the page


def read(path: Path) -> tuple[dict[str, Results], dict[str, list[str]]]:
    """By table, method and column, values in the order of the seeds; and by table the winners."""
    with path.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["seed"]))
    found: dict[str, Results] = {}
    winners: dict[str, list[str]] = {}
    for name in dict.fromkeys(row["table"] for row in rows):
        found[name] = {}
        for method in METHODS:
            own = [row for row in rows if (row["table"], row["method"]) == (name, method)]
            numbers = [column for column in own[0] if column not in ("table", "method", "winner")]
            found[name][method] = {column: np.array([float(row[column]) for row in own]) for column in numbers}
        winners[name] = [row["winner"] for row in rows if (row["table"], row["method"]) == (name, OURS)]
    return found, winners


def best_peer(results: Results) -> str:
    return min(PEERS, key=lambda peer: float(results[peer]["log_loss"].mean()))


def judged(results: Results) -> dict[str, tuple[str, bool]]:
    """For each requirement the value, and whether it is within the bound or two standard errors of it."""
    mine, peer = results[OURS], results[best_peer(results)]
    share = mine["mean_over_rate"]
    off, share_error = float(share.mean()) - 1, standard_error(share, mine)
    ratio = float(mine["log_loss"].mean() / peer["log_loss"].mean())
    difference = mine["log_loss"] - peer["log_loss"]
    noise = 2 * standard_error(difference, mine)
    best = max(PEERS, key=lambda one: float(results[one]["average_precision"].mean()))
    ranking = mine["average_precision"] - results[best]["average_precision"]
    ranking_error = standard_error(ranking, mine)
    return {
        "mean p / rate": (
            f"{share.mean():.3f} ±{share_error:.3f}",
            abs(off) <= max(SHARE, 2 * share_error),
        ),
        "log loss / better peer's": (
            f"{ratio:.3f}",
            ratio <= BOUND or float(difference.mean()) <= noise,
        ),
        "average precision less better peer's": (
            f"{ranking.mean():+.4f} ±{ranking_error:.4f}",
            float(ranking.mean()) >= -2 * ranking_error,
        ),
    }


def asked(tables: dict[str, Results]) -> str:
    rows = []
    for name, results in tables.items():
        cells = [f"{text}{'' if holds else ' **not met**'}" for text, holds in judged(results).values()]
        rows.append([name, *cells])
    return grid(["table", *judged(next(iter(tables.values())))], rows)


def numbers(tables: dict[str, Results], winners: dict[str, list[str]]) -> str:
    rows = []
    for name, results in tables.items():
        of_table = results[OURS]
        size = f"{of_table['training_rows'][0]:,.0f}, {of_table['training_positives'].mean():,.0f}"
        for method, own in results.items():
            cells = [
                f"{own['mean_over_rate'].mean():.2f}",
                f"{own['log_loss'].mean():.4f}",
                f"{own['average_precision'].mean():.3f}",
                f"{own['seconds'].mean():.0f}",
            ]
            head = [name, size] if method == OURS else ["", ""]
            rows.append([*head, method, *cells])
    table = grid(
        ["table", "rows, positives", "", "mean p / rate", "log loss", "average precision", "CPU seconds"], rows
    )
    saved = [
        f"- {name}: {', '.join(f'{chosen} ({names.count(chosen)})' for chosen in dict.fromkeys(names))}"
        for name, names in winners.items()
    ]
    return "\n\n".join([table, "What `fit` saved, and in how many of the splits:", "\n".join(saved)])


def made(tables: dict[str, Results], winners: dict[str, list[str]]) -> str:
    verdicts = [holds for results in tables.values() for _, holds in judged(results).values()]
    return "\n\n".join([
        "## What was asked, and what was reached",
        f"Met in {sum(verdicts)} of {len(verdicts)} cases.",
        asked(tables),
        "## Every method",
        numbers(tables, winners),
    ])  # fmt: skip


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    if "--page" not in arguments and "--check" not in arguments:
        run_all(frames(Path(arguments[0])), RESULTS)
    return keep_page(PAGE, START, END, f"\n\n{made(*read(RESULTS))}\n\n", "--check" in arguments)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(sys.argv[1:]))
