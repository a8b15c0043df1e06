"""A subclass that overrides `call` gets its own losses, weighted and reduced; what rests on the formula is an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import parfocal
from libraries import Library, numpys, precision
from parfocal.boosting import gradient_and_curvature

KINDS = (
    parfocal.BinaryFocalCrossentropy,
    parfocal.CategoricalFocalCrossentropy,
    parfocal.SparseCategoricalFocalCrossentropy,
)
REDUCTIONS = ("sum_over_batch_size", "mean", "sum", None, "none", "mean_with_sample_weight")
LIBRARIES = [
    Library.NUMPY,
    Library.TORCH,
    *(pytest.param(x, marks=pytest.mark.full) for x in (Library.JAX, Library.TENSORFLOW)),
]

SCORES = np.asarray([[0.3, -1.7], [2.0, 17.0], [-88.9, 5.3], [0.1, 0.2]])
WEIGHT = np.asarray([0.25, 0.0, 3.0, 2.0])
LABELS = {KINDS[0]: np.asarray([[1, 0], [0, 1], [1, 1], [0, 0]]), KINDS[1]: np.eye(2)[[0, 1, 1, 0]]}


def doubled(kind: type) -> Any:
    class Doubled(kind):  # type: ignore[misc,valid-type]
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return 2 * super().call(y_true, y_pred)

    return Doubled


CASES = [(kind, {"reduction": reduction}) for kind in KINDS for reduction in REDUCTIONS]
CASES += [
    (KINDS[0], {"reduction": "mean_over_positives"}),
    (KINDS[0], {"reduction": "mean", "axis": 0}),
    (KINDS[2], {"reduction": "mean", "ignore_class": 0}),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "settings"), CASES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_twice_the_loss_is_twice_the_loss(
    library: Library, kind: type, settings: dict[str, Any], weighted: bool
) -> None:
    """And twice the gradient, where the library finds it."""
    labels, weight = LABELS.get(kind, np.asarray([0, 1, 1, 0])), WEIGHT if weighted else None
    if settings.get("axis") == 0:
        weight = None if weight is None else weight[:2]
    settings = {"from_logits": True, "dtype": "float64", **settings}
    with precision(np.float64):
        given = [library.array(array) for array in (labels, SCORES, weight)]

        def run(kind: type) -> list[np.ndarray]:
            loss = kind(**settings)
            if not library.differentiates:
                return [numpys(loss(*given))]
            return [numpys(x) for x in library.loss_and_gradient(lambda s: loss(given[0], s, given[2]), given[1])]

        for once, twice in zip(run(kind), run(doubled(kind)), strict=True):
            np.testing.assert_allclose(twice, 2 * once, rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_what_rests_on_the_formula_is_an_error(kind: type) -> None:
    loss = doubled(kind)(from_logits=True)
    labels = LABELS.get(kind, np.asarray([0, 1, 1, 0]))
    calls = {
        "value_and_grad": (labels, SCORES),
        "curvature": (labels, SCORES),
        "posterior": (SCORES,),
        "posterior_logit": (SCORES,),
        "optimal_logit": ([0.2, 0.8],),
    }
    for name, arguments in calls.items():
        with pytest.raises(
            NotImplementedError, match=f"Doubled overrides call, and {name} knows the formula of {kind.__name__} alone"
        ):
            getattr(loss, name)(*arguments)


def test_boosting_takes_no_such_loss() -> None:
    with pytest.raises(TypeError, match="does not override call"):
        gradient_and_curvature(doubled(KINDS[0])(from_logits=True), [0.0], [1])


def test_an_attribute_and_a_subclass_of_a_subclass() -> None:
    loss = KINDS[0](from_logits=True, dtype="float64")
    once = loss(LABELS[KINDS[0]], SCORES)
    assert doubled(doubled(KINDS[0]))(from_logits=True, dtype="float64")(LABELS[KINDS[0]], SCORES) == 4 * once
    assert type("Same", (KINDS[0],), {})(from_logits=True, dtype="float64").posterior(0.3) == loss.posterior(0.3)
    loss.call = lambda y_true, y_pred: np.full(4, 7.0)
    assert loss(LABELS[KINDS[0]], SCORES) == 7
    words = (
        "this BinaryFocalCrossentropy has been assigned a call of its own, and curvature .* or assign a curvature too"
    )
    with pytest.raises(NotImplementedError, match=words):
        loss.curvature(LABELS[KINDS[0]], SCORES)
    loss.curvature = lambda y_true, y_pred: 3.0
    assert loss.curvature(LABELS[KINDS[0]], SCORES) == 3
    del loss.call
    assert loss(LABELS[KINDS[0]], SCORES) == once


def test_weights_of_elements_do_not_go_with_one_loss_per_sample() -> None:
    loss = doubled(KINDS[0])(from_logits=True)
    with pytest.raises(ValueError, match="give one weight per sample, shape"):
        loss(LABELS[KINDS[0]], SCORES, np.ones(SCORES.shape))


@pytest.mark.parametrize(
    ("returned", "error"),
    [(np.ones((4, 2)), ValueError), (np.ones(5), ValueError), (3.0, ValueError), (None, TypeError)],
)
def test_a_call_returns_one_loss_per_sample(returned: Any, error: type[Exception]) -> None:
    kind: Any = type("Own", (KINDS[0],), {"call": lambda self, y_true, y_pred: returned})
    with pytest.raises(error, match="one loss per sample"):
        kind(from_logits=True)(LABELS[KINDS[0]], SCORES)


def test_a_calibrator_takes_no_such_loss_but_other_subclasses() -> None:
    with pytest.raises(TypeError, match="not override call"):
        parfocal.Calibrator(doubled(KINDS[0])(from_logits=True))
    calibrator = parfocal.Calibrator(type("Same", (KINDS[0],), {})(from_logits=True)).fit([1, 1, 0, 0], SCORES[:, :1])
    again = parfocal.Calibrator.from_config(calibrator.get_config())
    assert again.posterior(0.3) == calibrator.posterior(0.3)
