"""The engines' own parameters: their names, their aliases, and those that cannot work with a loss of ours."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from parfocal.engines.task import door

if TYPE_CHECKING:
    from parfocal.engines.task import Engine

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
    engine: Engine, given: Any, *, early_stopping: bool = False, ours: Collection[str] = ()
) -> dict[str, Any]:
    """`given` under the names that the engine's module uses; what is None is left out, as the engine's default.

    early_stopping : whether held-out rows may stop the training.
    ours : names of the caller's own parameters, to tell that one of them stands in the wrong place.

    One ValueError names everything that would be ignored or overruled: unknown names, parameters that have no effect
    on a custom objective, and two names of one parameter.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"engine_params must be a dict from parameter names to values; got {given!r}")
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return {}
    door(engine.name)  # says what to install
    canonical, complete = engine.parameters.names()
    first: dict[str, str] = {}
    problems = []
    for name in given:
        one = canonical.get(name, name)
        if one in engine.parameters.refused:
            problems.append(f"engine_params must leave {name} alone: {engine.parameters.refused[one]}")
        elif complete and name not in canonical:
            problems.append(unknown(name, engine, canonical, ours))
        elif one in first:
            problems.append(f"engine_params has {first[one]} and {name}, two names of one parameter; give one of them")
        first[one] = name
    settled = {one: given[name] for one, name in first.items()}
    problem = engine.parameters.impossible(settled, early_stopping)
    if problem:
        problems.append(f"engine_params: {problem}")
    if problems:
        raise ValueError(". ".join(problems))
    return settled


def unknown(name: str, engine: Engine, canonical: dict[str, str], ours: Collection[str]) -> str:
    problem = f"engine_params has {name!r}, which is not a parameter of {engine.name}"
    if name in ours:
        return f"{problem} but of the estimator; give {name}= there"
    allowed = [known for known, one in canonical.items() if one not in engine.parameters.refused]
    close = difflib.get_close_matches(name, allowed)
    if not close:
        return f"{problem}; its documentation lists them"
    return f"{problem}; did you mean {' or '.join(map(repr, close))}?"
