"""Focal losses for LightGBM, XGBoost and CatBoost: objectives, metrics, and one training loop for each library.

`ENGINES` has a class for each library: its `train` takes a `Task` and returns a booster that pickles and does not need
Python's objective any more.  `parfocal.sklearn.FocalBoostingClassifier` and the command line train with them.  No
library is imported before it trains, loads or predicts.
"""

from __future__ import annotations

from parfocal.boosters.catboost import CatBoost
from parfocal.boosters.gradients import BoostingLoss
from parfocal.boosters.lightgbm import LightGBM
from parfocal.boosters.objective import Objective, focal_loss
from parfocal.boosters.parameters import engine_parameters
from parfocal.boosters.training import Engine, Rows, Stopped, Task, Trained
from parfocal.boosters.xgboost import XGBoost

__all__ = [
    "ENGINES",
    "BoostingLoss",
    "Engine",
    "Objective",
    "Rows",
    "Stopped",
    "Task",
    "Trained",
    "engine_parameters",
    "focal_loss",
]

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (LightGBM(), XGBoost(), CatBoost())}
