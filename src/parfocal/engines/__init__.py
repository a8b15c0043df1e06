"""LightGBM, XGBoost and CatBoost behind one call: train with a focal loss, stop at the best round, give whole margins.

An engine's `train` takes a `Task` and returns a booster that pickles and has no use for Python's objective any more.
`parfocal.sklearn.FocalBoostingClassifier` and the command line train with it.  No library is imported before it trains,
loads or predicts.
"""

from __future__ import annotations

from parfocal.engines import catboost, lightgbm, xgboost
from parfocal.engines.parameters import engine_parameters
from parfocal.engines.task import Engine, Rows, Stopped, Task, Trained, door

__all__ = ["ENGINES", "Engine", "Rows", "Stopped", "Task", "Trained", "door", "engine_parameters"]

ENGINES = {engine.name: engine for engine in (lightgbm.ENGINE, xgboost.ENGINE, catboost.ENGINE)}
