"""The engines' own parameters: their names, their aliases, and those that cannot work with a focal loss."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from parfocal.boosters.training import Engine

# Why a parameter is refused, and what to use in its place.
LOSS = "the probabilities are those of the focal loss; to train with another loss, use the engine's own classifier"
START = "training starts at the best constant score of the labels"
CLASS_WEIGHT = "it changes nothing with a loss of our own; use class_weight= of the estimator"
ALPHA = "it belongs to another loss and changes nothing here; the focal loss has alpha= of the estimator"
STOPPING = "it does not stop this training; use early_stopping_rounds= and validation_fraction= of the estimator"
METRIC = (
    "training stops by the log loss of the probabilities; compute other metrics from predict_proba, or give scoring= "
    "to a search"
)
CATEGORICAL = "categories become codes before the engine sees them; use categorical_features= of the estimator"
OTHER_LOSS = "it belongs to another loss and changes nothing here"
ELSEWHERE = "it changes nothing here"


def refused(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


def engine_parameters(
    engine: Engine, params: Any, *, early_stopping: bool = False, estimator_params: Collection[str] = ()
) -> dict[str, Any]:
    """`params` under the names that `engine.train` uses; what is None is left out, as the engine's default.

    early_stopping : whether held-out rows may stop the training.
    estimator_params : names of the caller's own parameters, to say so where one of them stands in the wrong place.

    One ValueError names everything that would be ignored or overruled: unknown names, parameters that have no effect
    on a custom objective, and two names of one parameter.
    """
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise ValueError(f"engine_params must be a dict from parameter names to values; got {params!r}")
    params = {name: value for name, value in params.items() if value is not None}
    if not params:
        return {}
    engine.library()  # its error says what to install
    canonical, complete = engine.parameter_names()
    first: dict[str, str] = {}
    problems = []
    for name in params:
        one = canonical.get(name, name)
        if one in engine.refused:
            problems.append(f"engine_params must leave {name} alone: {engine.refused[one]}")
        elif complete and name not in canonical:
            problems.append(unknown(name, engine, canonical, estimator_params))
        elif one in first:
            problems.append(f"engine_params has {first[one]} and {name}, two names of one parameter; give one of them")
        first[one] = name
    renamed = {one: params[name] for one, name in first.items()}
    problem = engine.impossible(renamed, early_stopping)
    if problem:
        problems.append(f"engine_params: {problem}")
    if problems:
        raise ValueError(". ".join(problems))
    return renamed


def unknown(name: str, engine: Engine, canonical: dict[str, str], estimator_params: Collection[str]) -> str:
    problem = f"engine_params has {name!r}, which is not a parameter of {engine.name}"
    if name in estimator_params:
        return f"{problem} but of the estimator; give {name}= there"
    allowed = [known for known, one in canonical.items() if one not in engine.refused]
    close = difflib.get_close_matches(name, allowed)
    if not close:
        return f"{problem}; its documentation lists them"
    return f"{problem}; did you mean {' or '.join(map(repr, close))}?"
