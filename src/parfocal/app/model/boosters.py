"""Whether a booster's file is safe to open.

The boosters' libraries trust their files: a missing node, a loop or a length of two billion ends the process, or hangs
it where Ctrl-C does not reach.  So a file is parsed before its library sees it, and everything that the library uses as
an index, a length or a next step is checked.

CatBoost's file is binary, and much of it is a table of hashes.  It is opened in a process of its own first.
"""

from __future__ import annotations

import subprocess
import sys

from parfocal.app.model.trees_lightgbm import check_lightgbm
from parfocal.app.model.trees_xgboost import check_xgboost

MOST_BYTES = 1 << 30  # of a booster's file
CATBOOST_SECONDS = 120.0


def check_booster(engine: str, data: bytes, features: int, scores: int) -> bytes:
    """The part of a file that its library needs, if it is safe; otherwise a ValueError that says what is wrong.

    `scores` is their number for a row: one for two classes, otherwise one for each class.
    """
    try:
        if engine == "lightgbm":
            return check_lightgbm(data, features, scores)
        if engine == "xgboost":
            check_xgboost(data, features, scores)
        elif engine == "catboost":
            try_catboost(data, features, scores)
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error
    except (AttributeError, IndexError, OverflowError, RecursionError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("it is not as its library writes it") from error
    return data


TRIAL = """
import sys
import catboost, numpy as np, pandas as pd
features, scores = map(int, sys.argv[1:])
model = catboost.CatBoost().load_model(blob=sys.stdin.buffer.read())
assert len(model.feature_names_) == features, "it has another number of features"
leaves = model.get_tree_leaf_counts()
assert not (leaves & (leaves - 1)).any(), "it has a tree that is not symmetric"
assert len(model.get_leaf_values()) == leaves.sum() * scores, "it has leaves out of range"
draw = np.random.default_rng(0)
rows = draw.normal(size=(256, features)) * 10.0 ** draw.integers(-3, 9, size=(256, 1))
rows[::8] = np.nan
codes = {place: draw.integers(-1, 50, size=256) for place in model.get_cat_feature_indices()}
rows = pd.DataFrame({place: codes.get(place, rows[:, place]) for place in range(features)})
rows.columns = model.feature_names_
assert np.isfinite(model.predict(rows, prediction_type="RawFormulaVal")).all(), "it gives scores that are not finite"
"""


def try_catboost(data: bytes, features: int, scores: int) -> None:
    """CatBoost checks the frame of its file itself; what it misses ends only the process of the trial."""
    command = [sys.executable, "-P", "-c", TRIAL, str(features), str(scores)]
    try:
        ended = subprocess.run(command, input=data, capture_output=True, timeout=CATBOOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"CatBoost was not done with it after {CATBOOST_SECONDS:g} seconds") from None
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(
            lines[-1][:300] if lines and ended.returncode > 0 else "CatBoost can't open it without a crash"
        )
