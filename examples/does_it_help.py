"""Does focal loss help on real tables with rare classes?  The runs behind docs/does-it-help.md, and that page's tables.

python examples/does_it_help.py data      data: the folder of packages that examples/tables.py reads; runs everything
                                          and writes docs/does-it-help.csv and the page
python examples/does_it_help.py --page    writes the results of the csv into the page
python examples/does_it_help.py --check   exits with 1 if the page differs from the csv

(a) Every loss trains with the same estimator, rows, stopping rounds and leaves; only gamma and class_weight differ.
(b) Each seed is a split.  Differences to cross-entropy are taken within a split, so a hard split affects all alike.
(c) Splits share training rows, so their results are not independent, and the usual standard error is too small.  Nadeau
    and Bengio (2003, doi:10.1023/A:1024068626366) use 1 / n + test rows / training rows in place of 1 / n.
(d) "Beyond noise" is a difference outside the 95 % interval of Student's t around 0.
"""

from __future__ import annotations

import csv
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from tables import Table, every

from parfocal.app.study.metrics import calibration_error
from parfocal.sklearn import FocalBoostingClassifier

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, RESULTS = DOCS / "does-it-help.md", DOCS / "does-it-help.csv"
START, END = "<!-- made by examples/does_it_help.py: start -->", "<!-- made by examples/does_it_help.py: end -->"

PLAN: dict[str, dict[str, Any]] = {
    "cross-entropy": {"gamma": 0.0},
    "balanced": {"gamma": 0.0, "class_weight": "balanced"},
    "gamma 1": {"gamma": 1.0},
    "gamma 2": {"gamma": 2.0},
}
BASE = "cross-entropy"
METHODS = [BASE, *(f"{name}, {scores}" for name in list(PLAN)[1:] for scores in ("raw", "recovered"))]
SETTINGS: dict[str, Any] = {"n_estimators": 1000, "early_stopping_rounds": 30, "validation_fraction": 0.2}
SEEDS, SEEDS_OF_SMALL, SMALL = 5, 10, 10_000
WINDOW, WINDOWS = 5, 10  # by time: train on five tenths, test on the next; seeds 0 to 4 move on by a tenth
LOSSES = ("log_loss", "brier", "calibration_error")  # less is better
TITLES = {
    name: name.replace("_", " ").replace("brier", "Brier score")
    for name in (*LOSSES, "average_precision", "recall", "balanced_recall")
}
SHOWN = ("log_loss", "average_precision")  # with differences to cross-entropy and a verdict in words
WORDS = ("helped", "no difference", "harmed")
Results = dict[str, dict[str, np.ndarray]]  # of one table: by method and column, a value for each seed


# -- the runs


def split(table: Table, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows: windows that roll forward in time, or 2 to 1 at random with each class on both sides."""
    if table.order is not None:
        parts = np.array_split(np.argsort(table.order, kind="stable"), WINDOWS)
        return np.concatenate(parts[seed : seed + WINDOW]), parts[seed + WINDOW]
    rows = np.arange(len(table.labels))
    train, test = train_test_split(rows, test_size=1 / 3, stratify=table.labels, random_state=seed)
    return train, test


def macro_recall(labels: np.ndarray, chosen: np.ndarray) -> float:
    """The mean, over the classes that occur in the labels, of the share of their rows that were found."""
    return float(np.mean([np.mean(chosen[labels == k] == k) for k in np.unique(labels)]))


def measures(labels: np.ndarray, probabilities: np.ndarray, priors: np.ndarray) -> dict[str, float]:
    """For two classes of the rare class, 1; for more, means over the classes with test rows, each against the rest."""
    kinds = [1] if len(priors) == 2 else list(np.unique(labels))
    right = np.eye(len(priors))[labels]
    ranks = [average_precision_score(right[:, k], probabilities[:, k]) for k in kinds]
    errors = [calibration_error(right[:, k], probabilities[:, k]) for k in kinds]
    of_label = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-15)
    return {
        "log_loss": float(-np.log(of_label).mean()),
        "brier": float(((probabilities - right) ** 2).sum(axis=1).mean() / 2),  # for two classes the usual (p - y)^2
        "calibration_error": float(np.mean(errors)),
        "average_precision": float(np.mean(ranks)),
        "recall": macro_recall(labels, probabilities.argmax(axis=1)),
        "balanced_recall": macro_recall(labels, (probabilities / priors).argmax(axis=1)),
    }


def runs(table: Table, seed: int, **settings: Any) -> Iterator[dict[str, Any]]:
    """One row of the csv for each method on one split."""
    train, test = split(table, seed)
    # Flights are in order of time: random held-out rows would be from the same days as the training rows.
    validation = "random" if table.order is None else "last"
    for name, loss in PLAN.items():
        settings_of_run = {**SETTINGS, **loss, "validation": validation, **settings}
        model = FocalBoostingClassifier("lightgbm", **settings_of_run, n_jobs=1, random_state=seed)
        began = time.process_time()  # processor time, which other programs affect less
        model.fit(table.features[train], table.labels[train])
        seconds = time.process_time() - began
        priors = np.bincount(table.labels[train]) / len(train)
        for method in (method for method in METHODS if method.startswith(name)):
            scores = model.raw_focal_scores if method.endswith("raw") else model.predict_proba
            found = measures(table.labels[test], scores(table.features[test]), priors)
            yield {
                "table": table.name,
                "rows": len(table.labels),
                "classes": table.classes,
                "rarest": np.bincount(table.labels).min(),
                "training_rows": len(train),
                "test_rows": len(test),
                "seed": seed,
                "method": method,
                **{metric: f"{value:.6g}" for metric, value in found.items()},
                "rounds": model.n_iter_,
                "seconds": f"{seconds:.3f}",
            }


def run_all(tables: list[Table], path: Path, **settings: Any) -> None:
    with path.open("w", newline="") as file:
        writer = None
        for table in tables:
            for seed in range(SEEDS_OF_SMALL if len(table.labels) < SMALL else SEEDS):
                for row in runs(table, seed, **settings):
                    writer = writer or csv.DictWriter(file, list(row), lineterminator="\n")
                    if file.tell() == 0:
                        writer.writeheader()
                    writer.writerow(row)
                print(f"{time.strftime('%H:%M:%S')} {table.name}, seed {seed}", flush=True)


# -- the page


def read(path: Path) -> dict[str, Results]:
    """By table, method and column: values in the order of the seeds."""
    with path.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["seed"]))
    found: dict[str, Results] = {}
    for name in dict.fromkeys(row["table"] for row in rows):
        found[name] = {}
        for method in METHODS:
            own = [row for row in rows if (row["table"], row["method"]) == (name, method)]
            numbers = [column for column in own[0] if column not in ("table", "method")]
            found[name][method] = {column: np.array([float(row[column]) for row in own]) for column in numbers}
    return found


def standard_error(values: np.ndarray, of: dict[str, np.ndarray]) -> float:
    """The standard error of a mean over splits that share training rows, see (c)."""
    shared = np.mean(of["test_rows"] / of["training_rows"])
    return float(np.sqrt((1 / len(values) + shared) * values.var(ddof=1)))


def against(results: Results, method: str, metric: str) -> tuple[float, float, str]:
    """The mean difference to cross-entropy, its standard error, and the verdict."""
    difference = results[method][metric] - results[BASE][metric]
    mean, error = float(difference.mean()), standard_error(difference, results[BASE])
    if abs(mean) <= stats.t.ppf(0.975, len(difference) - 1) * error:
        return mean, error, "no difference"
    return mean, error, "helped" if (mean < 0) == (metric in LOSSES) else "harmed"


def decimals(results: Results, metric: str) -> int:
    """How many decimals to print: enough to show a tiny log loss of cross-entropy."""
    size = results[BASE][metric].mean() if metric in LOSSES else 1.0
    return max(4, 2 - int(np.floor(np.log10(size))))


def grid(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def claim(tables: dict[str, Results]) -> str:
    """The claim to be verified, and the results."""
    lines = ["Recovered, log loss is within noise of that of cross-entropy, or better; raw, worse beyond noise:\n"]
    for name in ("flights", "census"):
        for gamma in ("gamma 1", "gamma 2"):
            recovered, raw = (against(tables[name], f"{gamma}, {kind}", "log_loss") for kind in ("recovered", "raw"))
            holds = recovered[2] != "harmed" and raw[2] == "harmed"
            lines.append(
                f"- {name}, {gamma}: **{'holds' if holds else 'does not hold'}**. Log loss against cross-entropy's "
                f"{tables[name][BASE]['log_loss'].mean():.4f}: recovered {recovered[0]:+.4f} ± {recovered[1]:.4f} "
                f"({recovered[2]}), raw {raw[0]:+.4f} ± {raw[1]:.4f} ({raw[2]})."
            )
    return "\n".join(lines)


def verdict(name: str, results: Results) -> str:
    said = []
    for metric in SHOWN:
        words = {method: against(results, method, metric)[2] for method in METHODS[1:]}
        found = [(word, [m for m in words if words[m] == word]) for word in ("helped", "harmed")]
        cases = [f"{word} by {'; '.join(f'*{method}*' for method in methods)}" for word, methods in found if methods]
        said.append(f"{TITLES[metric]}: {'; '.join(cases) or 'no method helped or harmed'}")
    return f"- **{name}**: {'. '.join(part[0].upper() + part[1:] for part in said)}."


def counts(tables: dict[str, Results]) -> str:
    """On how many tables each method helped, made no difference, harmed."""
    rows = []
    for method in METHODS[1:]:
        words = {metric: [against(table, method, metric)[2] for table in tables.values()] for metric in TITLES}
        rows.append([method, *(" / ".join(str(found.count(word)) for word in WORDS) for found in words.values())])
    return grid(["", *TITLES.values()], rows)


def differences(tables: dict[str, Results], metric: str) -> str:
    rows = []
    for name, results in tables.items():
        digits, cells = decimals(results, metric), []
        for mean, error, word in (against(results, method, metric) for method in METHODS[1:]):
            mark = "" if word == "no difference" else f" **{word}**"
            cells.append(f"{mean:+.{digits}f} ±{error:.{digits}f}{mark}")
        rows.append([name, *cells])
    return grid([TITLES[metric], *METHODS[1:]], rows)


def all_metrics(name: str, results: Results) -> str:
    base = {column: values[0] for column, values in results[BASE].items()}
    title = f"{name}: {base['rows']:,.0f} rows, {base['classes']:.0f} classes, {base['rarest']:,.0f} in the rarest"
    rows = []
    for method, own in results.items():
        cells = []
        for metric in TITLES:
            digits = decimals(results, metric)
            cells.append(f"{own[metric].mean():.{digits}f} ±{standard_error(own[metric], own):.{digits}f}")
        ratio = np.mean(own["seconds"] / results[BASE]["seconds"])
        rows.append([method, *cells, f"{own['rounds'].mean():.0f}", f"{ratio:.2f}"])
    table = grid(["", *TITLES.values(), "rounds", "time"], rows)
    seconds = results[BASE]["seconds"].mean()
    return f"### {title}\n\n{len(own['seed'])} splits; cross-entropy trained for {seconds:.1f} s.\n\n{table}"


def made(tables: dict[str, Results]) -> str:
    models = [own for table in tables.values() for method, own in table.items() if not method.endswith("raw")]
    rounds, most = np.concatenate([own["rounds"] for own in models]), SETTINGS["n_estimators"]
    return "\n\n".join([
        "## A claim, checked", claim(tables),
        "## Table by table", "\n".join(verdict(*item) for item in tables.items()),
        "Everything that is not named made no difference beyond noise. The differences to cross-entropy:",
        *(differences(tables, metric) for metric in SHOWN),
        "On how many tables each method helped / made no difference / harmed:", counts(tables),
        "## Every number",
        f"{len(rounds)} models were trained; {np.count_nonzero(rounds == most)} of them took all {most} rounds.",
        *(all_metrics(*item) for item in tables.items()),
    ])  # fmt: skip


def keep_page(page: Path, start: str, end: str, block: str, check: bool) -> int:
    """Write the block between the two marks of a page, or check that it is there.  Returns the exit status."""
    text = page.read_text(encoding="utf-8")
    begin, stop = text.index(start) + len(start), text.index(end)
    if check:
        same = text[begin:stop] == block
        print(f"the page {'says what' if same else 'says something else than'} docs/{page.stem}.csv")
        return 0 if same else 1
    page.write_text(text[:begin] + block + text[stop:], encoding="utf-8")
    return 0


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    if "--page" not in arguments and "--check" not in arguments:
        run_all(every(Path(arguments[0])), RESULTS)
    return keep_page(PAGE, START, END, f"\n\n{made(read(RESULTS))}\n\n", "--check" in arguments)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(sys.argv[1:]))
