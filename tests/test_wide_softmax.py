"""The softmax losses keep their digits whatever the number of classes, in every library (tests/wide_rows.py)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import oracle
import wide_rows
from cases import TOLERANCE, smallest_normal
from libraries import Library, all_terms, precision
from wide_rows import loss_of, weights_of, worst

# How the labels of the rows are written.
LABELS = ("indices", "one-hot", "smoothed")

# The first tier, at the gamma that costs most digits.  JAX and TensorFlow take seconds to compile a case.
QUICK = (Library.NUMPY, Library.TORCH_TRACED)


def tried() -> Iterator[Any]:
    for library, classes, gamma, labels in itertools.product(Library, wide_rows.CLASSES, wide_rows.GAMMAS, LABELS):
        if (labels != "indices" and gamma != 10) or (labels == "one-hot" and classes not in (10, 1000)):
            continue  # gamma 10 loses most, and one-hot rows go the way of smoothed ones
        if library is Library.TORCH_INDUCTOR and (classes, gamma, labels) != (1000, 10, "indices"):
            continue  # a minute each; code is generated in the same way for the others
        quick = library in QUICK and classes == 1000 and gamma == 10 and labels == "indices"
        marks = () if quick else pytest.mark.full
        yield pytest.param(
            library, classes, gamma, labels, marks=marks, id=f"{library.value}-{classes}-{gamma}-{labels}"
        )


@pytest.mark.parametrize(("library", "classes", "gamma", "labels"), list(tried()))
def test_loss_and_gradient(library: Library, classes: int, gamma: float, labels: str) -> None:
    check(library, classes, gamma, labels, np.float32)


def check(library: Library, classes: int, gamma: float, labels: str, dtype: type) -> None:
    logits, targets = wide_rows.rows(classes, dtype)
    loss, gradient, scale = wide_rows.exact(logits, weights_of(labels, targets, classes), gamma)
    given: Any = np.eye(classes, dtype=np.float32)[targets] if labels == "one-hot" and classes <= 1000 else targets
    criterion = loss_of(labels if given.ndim > 1 else labels.replace("one-hot", "indices"), gamma, dtype)
    with precision(dtype), np.errstate(all="ignore"):
        found = all_terms(library, criterion, library.array(given), library.array(logits))
    tiny = smallest_normal(dtype)
    assert worst(found[0], loss, np.abs(loss), tiny) <= TOLERANCE[dtype]
    for slope in (found[1], *found[3:]):
        assert worst(slope, gradient, scale, tiny) <= TOLERANCE[dtype]


@pytest.mark.parametrize("labels", ["indices", "smoothed"])
@pytest.mark.parametrize("library", [Library.NUMPY, Library.TORCH_TRACED])
def test_double_precision(library: Library, labels: str) -> None:
    check(library, 1000, 10.0, labels, np.float64)


@pytest.mark.usefixtures("each_kernel")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", ["indices", "smoothed"])
@pytest.mark.parametrize("classes", [10, 64, 100])  # 64 are the most that are turned
def test_every_kernel(classes: int, labels: str, dtype: type) -> None:
    check(Library.NUMPY, classes, 10.0, labels, dtype)


@pytest.mark.usefixtures("each_kernel")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [10, 100])
def test_no_gradient_is_0_above_the_smallest_normal_number(classes: int, dtype: type) -> None:
    """A slope of up to 1.46 times an exponential just below the normal numbers is a normal number."""
    tiny, rng = smallest_normal(dtype), np.random.default_rng(0)
    logits = np.zeros((2000, classes), dtype=dtype)
    # The target is badly wrong; class 1 dominates; the others' exponentials lie on both sides of the smallest number.
    logits[:, 0], logits[:, 1] = rng.uniform(-9, -1, 2000), 0
    logits[:, 2:] = np.log(np.float64(tiny)) + rng.uniform(-0.5, 0.5, (2000, classes - 2))
    weights = np.eye(classes)[[0]]
    _, gradient, scale = wide_rows.exact(logits, weights, 10.0)
    assert ((scale >= tiny) & (np.exp(logits.astype(wide_rows.Wide)) < tiny)).any()
    soft = np.tile([0.5, 0.5] + [0.0] * (classes - 2), (2000, 1))
    _, soft_gradient, soft_scale = wide_rows.exact(logits, soft, 10.0)
    for labels, exact, size in ((weights.repeat(2000, axis=0), gradient, scale), (soft, soft_gradient, soft_scale)):
        _, got = loss_of("one-hot", 10.0, dtype).value_and_grad(labels, logits)
        assert worst(got, exact, size, tiny) <= TOLERANCE[dtype]


@pytest.mark.parametrize("gamma", wide_rows.GAMMAS)
@pytest.mark.parametrize("classes", [10, pytest.param(1000, marks=pytest.mark.full)])
def test_the_reference_is_the_definition(classes: int, gamma: float) -> None:
    """wide_rows.exact beside the oracle: the losses, and gradients by differences of the exact loss."""
    logits, targets = wide_rows.rows(classes)
    for row in (1, 4, 17, 26, 33, 37, 42):
        z, weights = [float(x) for x in logits[row]], weights_of("indices", targets[[row]], classes)
        loss, gradient, _ = wide_rows.exact(logits[[row]], weights, gamma)
        target = int(targets[row])
        for j in (target, int(np.argmax(np.delete(logits[row], target)))):
            digits = oracle.digits_for(*z)
            with mp.workdps(digits):
                others = mp.fsum(mp.exp(mpf(x)) for k, x in enumerate(z) if k not in (target, j))

            def exact_loss(t: mpf, j: int = j, others: mpf = others, z: list[float] = z, target: int = target) -> mpf:
                mine = mp.exp(t if j == target else mpf(z[target]))
                rest = others if j == target else others + mp.exp(t)
                return oracle.focal_of_probability(mine / (mine + rest), gamma)

            exact = oracle.derivatives(exact_loss, z[j], digits)
            for got, truth in ((loss[0], exact[0]), (gradient[0, j], exact[1])):
                if abs(truth) > smallest_normal(np.float64):  # the comparison is in double
                    assert oracle.relative_error(got, truth) < 1e-15
