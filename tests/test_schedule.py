"""A gamma that depends on how sure the model is: on either side of a threshold it is a gamma like any other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import parfocal
from libraries import QUICK, Library, all_terms, each, numpys

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy

FALLING = parfocal.FLSD53
RISING = parfocal.GammaSchedule([0.1, 0.5, 0.9], [0, 0.5, 2, 4.4])
each_schedule = pytest.mark.parametrize("schedule", [FALLING, RISING], ids=["FLSD-53", "rising"])
each_library = each(QUICK)
each_but_slow = each(QUICK, full=(Library.JAX, Library.TENSORFLOW))


def around(schedule: parfocal.GammaSchedule) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities a millionth below and above each threshold, and far from all, and the gammas there."""
    thresholds = np.asarray(schedule.thresholds)
    sides = np.outer(thresholds, [1 - 1e-6, 1 + 1e-6]).ravel()
    return np.asarray([1e-30, *sides, 1 - 1e-6]), np.repeat(schedule.gammas, 2)


def gammas_at(schedule: parfocal.GammaSchedule, p: np.ndarray) -> np.ndarray:
    return np.asarray(schedule.gammas)[np.searchsorted(schedule.thresholds, p, side="right")]


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def check(
    library: Library, loss: Any, schedule: Any, gammas: np.ndarray, labels: Any, scores: Any, relative: float = 2e-6
) -> None:
    """Loss, gradient, curvature, and the gradient that the library finds, against row by row with a gamma as a number.

    The scores are rounded to float32 first, so that they lie on one side of the threshold.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float32)
    rows = [
        all_terms(Library.NUMPY, loss(gamma), labels[i : i + 1], scores[i : i + 1].astype(np.float64))
        for i, gamma in enumerate(gammas.tolist())
    ]
    with np.errstate(all="ignore"):
        found = all_terms(library, loss(schedule), library.array(labels), library.array(scores))
    exact = [np.concatenate(term) for term in zip(*rows, strict=True)]
    for got, wanted in zip(found, [*exact, exact[1]], strict=False):
        np.testing.assert_allclose(got, wanted, rtol=relative, atol=1e-36)
        assert got.any()


@each_schedule
@each_library
def test_binary(library: Library, schedule: parfocal.GammaSchedule) -> None:
    p, gammas = around(schedule)
    for label, sign in ((1, 1), (0, -1)):
        check(
            library,
            lambda gamma: Binary(True, gamma=gamma, from_logits=True, reduction=None),
            schedule,
            gammas,
            np.full((len(p), 1), label),
            sign * logit(p)[:, None],
        )


@each_schedule
@each_but_slow
def test_softmax_of_one_class(library: Library, schedule: parfocal.GammaSchedule) -> None:
    """Two classes that share what the true one leaves have logits 0; the true one's is log 2 more than its margin."""
    p, gammas = around(schedule)
    true = np.arange(len(p)) % 3
    scores = (logit(p) + np.log(2))[:, None] * np.eye(3)[true]
    check(library, lambda gamma: Sparse(0.5, gamma, True, reduction=None), schedule, gammas, true, scores)


@each_schedule
@each_but_slow
def test_softmax_of_several_classes_asks_each_for_its_own_probability(
    library: Library, schedule: parfocal.GammaSchedule
) -> None:
    p = around(schedule)[0][1:]
    shares = np.stack([p, 0.75 * (1 - p), 0.25 * (1 - p)], axis=1)
    labels = np.broadcast_to([0.5, 0.3, 0.2], shares.shape)
    check(
        library,
        lambda gamma: Categorical([0.3, 0.5, 2.0], gamma, True, reduction=None),
        schedule,
        gammas_at(schedule, shares),
        labels,
        np.log(shares),
    )


@each_schedule
@each_but_slow
def test_probabilities(library: Library, schedule: parfocal.GammaSchedule) -> None:
    """1 - p is as it is rounded in float32, so p = 1 - 1e-6 has no digits to compare."""
    p, gammas = (values[1:-1] for values in around(schedule))
    binary, ones = (lambda gamma: Binary(gamma=gamma, reduction=None)), np.ones(len(p), dtype=int)
    check(library, binary, schedule, gammas, ones[:, None], p[:, None], 1e-5)
    shares = np.stack([(1 - p) / 2, p, (1 - p) / 2], axis=1)
    check(library, lambda gamma: Sparse(0.5, gamma, reduction=None), schedule, gammas, ones, shares, 1e-5)


@each_schedule
@each_library
def test_the_posterior_weighs_the_two_pulls_at_their_own_gammas(
    library: Library, schedule: parfocal.GammaSchedule
) -> None:
    p, gammas = around(schedule)
    scores = logit(p).astype(np.float32)[:, None]
    got = numpys(Binary(gamma=schedule, from_logits=True).posterior(library.array(scores)))
    for x, pair, eta in zip(scores, zip(gammas_at(schedule, 1 - p), gammas, strict=True), got, strict=True):
        np.testing.assert_allclose(eta, Binary(gamma=pair, from_logits=True).posterior(x), rtol=3e-5)


def test_the_derivative_takes_gamma_as_constant() -> None:
    """The loss falls by half at a threshold where gamma does, and no derivative sees it."""
    x = (logit(np.float64(0.2)) + np.asarray([-1e-7, 1e-7]))[:, None]
    loss = Binary(gamma=parfocal.GammaSchedule([0.2], [0.0, 5.0]), from_logits=True, reduction=None, dtype="float64")
    below, above = loss([[1.0], [1.0]], x)
    assert above / below == pytest.approx(0.8**5, rel=1e-5)
    slopes = loss.value_and_grad([[1.0], [1.0]], x)[1]
    for slope, gamma in zip(slopes, (0.0, 5.0), strict=True):
        assert slope == pytest.approx(0.8**gamma * (gamma * 0.2 * np.log(0.2) - 0.8), rel=1e-6)


@pytest.mark.parametrize("kind", [Binary, Categorical, Sparse])
def test_a_schedule_goes_through_json(kind: type) -> None:
    loss = kind(gamma=RISING, from_logits=True)
    again = kind.from_config(json.loads(json.dumps(loss.get_config())))
    assert again.gamma == RISING
    assert again.get_config() == loss.get_config()
    assert repr(again) == repr(loss)


@pytest.mark.parametrize(
    ("thresholds", "gammas"),
    [
        ([], [2.0]),
        ([0.2], [5.0]),
        ([0.2], [5.0, 3.0, 1.0]),
        ([0.5, 0.2], [1.0, 2.0, 3.0]),
        ([0.2, 0.2], [1.0, 2.0, 3.0]),
        ([0.0], [5.0, 3.0]),
        ([1.0], [5.0, 3.0]),
        ([float("nan")], [5.0, 3.0]),
        ([0.2, 0.5], [1.0, 3.0, 2.0]),
        ([0.2], [-1.0, 3.0]),
        ([0.2], [3.0, float("inf")]),
    ],
    ids=str,
)
def test_tables_that_are_none(thresholds: Any, gammas: Any) -> None:
    with pytest.raises(ValueError, match=r"threshold|gamma") as error:
        parfocal.GammaSchedule(thresholds, gammas)
    assert any(str(part) in str(error.value) for part in (thresholds, gammas, *np.atleast_1d(gammas)))
