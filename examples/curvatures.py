"""Which curvature should a booster use?  An experiment on real tables with rare classes, with LightGBM.

python examples/curvatures.py data        data: the folder of packages that examples/tables.py reads; prints the table

Every run stops where the log loss of the recovered posterior has not improved on held-out rows for 20 rounds.  Tables
with up to 60,000 rows are split twice, the others once.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import lightgbm as lgb
import numpy as np
from tables import Table, caravan, census, flights, keel, shuttle

from parfocal.boosting import CURVATURES
from parfocal.lightgbm import FocalMetric, FocalObjective

ROUNDS, PATIENCE = 400, 20
GAMMAS = (1.0, 2.0, 5.0)
# Learning rate, and the longest step of a leaf in logits of the posterior; 0: no limit.
WAYS = {"no limit": (0.1, 0.0), "limit": (0.1, 1.0), "limit, rate 0.5": (0.5, 1.0)}


def split(table: Table, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows, 2 to 1: by time where there is one (the same for every seed), else at random."""
    rows = np.random.default_rng(seed).permutation(len(table.labels))
    if table.order is not None:
        rows = np.argsort(table.order, kind="stable")
    cut = 2 * len(rows) // 3
    return rows[:cut], rows[cut:]


def run(table: Table, gamma: float, curvature: str, way: tuple[float, float], seed: int) -> tuple[int, float]:
    """The best round, and the log loss there."""
    train, held_out = split(table, seed)
    objective = FocalObjective(gamma, curvature=curvature)
    number = table.classes if table.classes > 2 else None
    params = {**objective.params(table.labels[train], num_class=number), "learning_rate": way[0], "seed": seed}
    params["max_delta_step"] = way[1] / (1 + gamma)
    params |= {"verbosity": -1, "metric": "none", "num_threads": 1, "feature_pre_filter": False}
    rows = lgb.Dataset(table.features[train], table.labels[train])
    others = lgb.Dataset(table.features[held_out], table.labels[held_out], reference=rows)
    seen: dict[str, dict[str, list[float]]] = {}
    lgb.train(
        params,
        rows,
        ROUNDS,
        valid_sets=[others],
        feval=FocalMetric(objective, "log_loss"),
        callbacks=[lgb.record_evaluation(seen), lgb.early_stopping(PATIENCE, verbose=False)],
    )
    losses = np.nan_to_num(seen["valid_0"]["posterior_log_loss"], nan=np.inf)
    return int(np.argmin(losses)) + 1, float(losses.min())


def main(folder: Path) -> None:
    tables = [caravan(folder), keel(folder, "yeast4"), flights(), census(folder), shuttle(folder)]
    print(f"| table | gamma | | {' | '.join(CURVATURES)} |\n|---|---|---|{'---|' * len(CURVATURES)}", flush=True)
    for table in tables:
        small = len(table.labels) <= 60_000
        for gamma in GAMMAS if small else GAMMAS[1:2]:
            for name, way in WAYS.items():
                cells = []
                for curvature in CURVATURES:
                    found = [run(table, gamma, curvature, way, seed) for seed in range(2 if small else 1)]
                    rounds, losses = zip(*found, strict=True)
                    cells.append(f"{np.mean(losses):.4f} ({np.mean(rounds):.0f})")
                print(f"| {table.name} | {gamma:g} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
