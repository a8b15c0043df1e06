"""The GPU's kernels for rows with weight on several classes: dense labels and smoothed indices, interpreted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp

import oracle
import parfocal
import parfocal.torch
import wide_rows
from cases import SOFTMAX_ROWS
from parfocal.backends.triton import launch
from test_triton import (
    BF16,
    BOUND,
    F16,
    I64,
    INF,
    NAN,
    TINY,
    WORSE_THAN_NATIVE,
    close_to_oracle,
    errors_of_native,
    near,
    numpys,
    quicker_calls,
    softmax,
)
from tiers import tiers
from wide_rows import SMOOTHING, weights_of, worst

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of infinities and NaN

__all__ = ["quicker_calls"]  # a fixture

KINDS = ("smoothed", "dense", "one-hot")


def labels_of(kind: str, targets: np.ndarray, classes: int) -> tuple[Any, np.ndarray, dict[str, float]]:
    """(labels, the weights that they mean, options)."""
    if kind == "smoothed":
        return targets, weights_of("smoothed", targets, classes), {"smoothing": SMOOTHING}
    if kind == "one-hot":
        return np.eye(classes, dtype=np.int8)[targets], weights_of("indices", targets, classes), {}
    soft = np.random.default_rng(0).dirichlet(np.full(classes, 0.3), len(targets)).astype(np.float32)
    return soft, soft.astype(wide_rows.Wide), {}


def errors_of(kind: str, logits: np.ndarray, targets: np.ndarray, gamma: float) -> tuple[float, float]:
    labels, weights, options = labels_of(kind, targets, logits.shape[1])
    loss, gradient, scale = wide_rows.exact(logits, weights, gamma)
    found = numpys(softmax(logits, labels, gamma, **options))
    return worst(found[0], loss, abs(loss), TINY), worst(found[1], gradient, scale, TINY)


def operations(z: Any, targets: Any, gamma: Any = 2.0, axis: int = 1, **options: Any) -> tuple[Any, Any]:
    """Losses and gradient by torch's operations, in float64."""
    moved = torch.as_tensor(z).double().movedim(axis, 1).clone().requires_grad_()
    loss = parfocal.torch.softmax_focal_loss(
        moved,
        targets,
        options.pop("alpha", 1.0),
        gamma,
        "none",
        label_smoothing=options.pop("smoothing", 0.0),
        **options,
    )
    loss.sum().backward()
    return loss.detach(), moved.grad.movedim(1, axis)


def close(found: Any, expected: Any) -> None:
    """A gradient changes sign, so it is near in the size of its row."""
    near(found[0], expected[0])
    torch.testing.assert_close(found[1].double(), expected[1], rtol=BOUND, atol=2e-7)


# -- accuracy


@pytest.mark.parametrize(
    ("kind", "classes", "gamma"),
    tiers(
        itertools.product(KINDS, (2, 3, 10, 1000), (0.0, 1.0, 2.0, 3.0, 10.0)),
        first=[("smoothed", 3, 10.0), ("dense", 10, 2.0)],
    ),
)
def test_accuracy(kind: str, classes: int, gamma: float) -> None:
    """On rows whose sums lose digits where they can."""
    logits, targets = (part[:: 9 if classes == 1000 else 1] for part in wide_rows.rows(classes))
    assert max(errors_of(kind, logits, targets, gamma)) <= BOUND


@pytest.mark.parametrize("kind", tiers(KINDS, first=("one-hot",)))
def test_many_rows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exponentials lose counts most at a large gamma, where two classes are about as likely."""
    monkeypatch.setattr(launch, "ROWS", 16384)  # of a program: the interpreter's time goes with their number
    assert max(errors_of(kind, *wide_rows.many_rows(3), 10.0)) <= BOUND


@pytest.mark.parametrize(("classes", "gamma"), tiers(itertools.product((2, 3, 10), (2.0, 10.0)), first=[]))
def test_beside_the_native_kernel(classes: int, gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On so many logits that both meet their worst.

    The native kernel computes weight on one class in float32, and on several in float64.  So several classes stand
    beside its one class too, and may be worse by the rounding of their weights and of their sum.
    """
    monkeypatch.setattr(launch, "ROWS", 16384)
    logits, targets = wide_rows.many_rows(classes)
    native = max(errors_of_native(logits, targets, gamma))
    assert max(errors_of("one-hot", logits, targets, gamma)) <= min(BOUND, WORSE_THAN_NATIVE * native)
    for kind in ("smoothed", "dense"):
        assert max(errors_of(kind, logits, targets, gamma)) <= min(BOUND, 1.5 * native)


@pytest.mark.parametrize(("order", "gamma"), tiers([("rising", 10.0), ("falling", 2.0)], first=[("rising", 10.0)]))
def test_a_row_of_many_tiles(order: str, gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest logits come in the last tile, or in the first."""
    monkeypatch.setattr(launch, "WIDEST", 128)
    logits, targets = (part[::9] for part in wide_rows.rows(300))
    order_of = np.argsort(logits, axis=1)[:, :: 1 if order == "rising" else -1]
    logits, targets = np.take_along_axis(logits, order_of, axis=1), np.argmax(order_of == targets[:, None], axis=1)
    for kind in ("smoothed", "dense"):
        assert max(errors_of(kind, logits, targets, gamma)) <= BOUND


@pytest.mark.parametrize("gamma", tiers([0.3, 10.0], first=(0.3,)))
@pytest.mark.parametrize("name", SOFTMAX_ROWS)
def test_extremes(name: str, gamma: float) -> None:
    row = np.asarray(SOFTMAX_ROWS[name], dtype=np.float32)
    z, classes = [float(v) for v in row], len(row)
    weights = np.linspace(0.0, 0.5, classes).astype(np.float32)
    loss, gradient = numpys(softmax(row[None], weights[None], gamma))
    exact = oracle.categorical(z, weights.tolist(), [gamma] * classes)
    with mp.workdps(oracle.digits_for(*z)):
        scales = oracle.softmax_scale(z, weights.tolist(), [gamma] * classes)
    close_to_oracle(loss[0], exact[0], exact[0], name)
    for k in range(classes):
        close_to_oracle(gradient[0, k], exact[1][k], scales[k][0], k)


@pytest.mark.parametrize("classes", [10, 100])
def test_no_gradient_is_0_above_the_smallest_normal_number(classes: int) -> None:
    rng, rows = np.random.default_rng(0), 300 // classes
    logits = np.zeros((rows, classes), dtype=np.float32)
    logits[:, 0] = rng.uniform(-9, -1, rows)
    logits[:, 2:] = np.log(TINY) + rng.uniform(-0.5, 0.5, (rows, classes - 2))
    for shares in ([0.5, 0.5], [0.0, 0.0, 1.0]):
        weights = np.zeros((rows, classes), dtype=np.float32)
        weights[:, : len(shares)] = shares
        _, gradient, scale = wide_rows.exact(logits, weights.astype(wide_rows.Wide), 10.0)
        assert worst(numpys(softmax(logits, weights, 10.0))[1], gradient, scale, TINY) <= BOUND


# -- types, shapes, strides


@pytest.mark.parametrize("classes", [5, 70])
@pytest.mark.parametrize("labels", [torch.bool, torch.uint8, torch.int32, I64, F16, BF16, torch.float64])
def test_label_types(labels: torch.dtype, classes: int) -> None:
    torch.manual_seed(0)
    z, y = torch.randn(3, classes), torch.eye(classes)[:3]
    if labels.is_floating_point:
        y = torch.softmax(torch.randn(3, classes), 1).to(labels)
    found, expected = softmax(z, y.to(labels)), softmax(z, y.float())
    assert found.loss is not None
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.gradient, expected.gradient)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    for classes in (5, 70):
        z, y = torch.randn(3, classes).to(dtype), torch.softmax(torch.randn(3, classes), 1)
        wide, found = softmax(z.float(), y, smoothing=0.1), softmax(z, y, smoothing=0.1)
        assert found.gradient is not None
        assert found.gradient.dtype == dtype
        assert torch.equal(found.loss, wide.loss)
        # The interpreter cuts bfloat16, and a GPU rounds it.
        torch.testing.assert_close(
            found.gradient.float(), wide.gradient, rtol=2**-7 if dtype == BF16 else 2**-11, atol=6e-8
        )


@pytest.mark.parametrize(
    ("shape", "axis", "gamma"),
    [
        ((7, 3), 1, "per class"),
        ((7, 3), 1, parfocal.FLSD53),
        ((3, 70), 1, 2.0),
        ((3, 70), 1, parfocal.FLSD53),
        ((3, 70), 1, "per class"),
        ((2, 5, 40), 1, 1.3),
        ((2, 4, 5, 16), 1, "per class"),
        ((3, 5, 7), 1, 2.0),
        ((2, 3, 70), 2, 3.0),
        ((0, 5), 1, 2.0),
    ],
)
def test_shapes_and_strides(shape: tuple[int, ...], axis: int, gamma: Any) -> None:
    """Beside the same formula in torch's operations."""
    torch.manual_seed(4)
    classes, z = shape[axis], 3 * torch.randn(shape)
    gamma = tuple(np.linspace(0, 3, classes).tolist()) if gamma == "per class" else gamma
    alpha = tuple(np.linspace(0.5, 1, classes).tolist())
    indices = torch.randint(0, classes, (*shape[:axis], *shape[axis + 1 :]))
    indices.view(-1)[:1] = -100
    expected = operations(z, indices, gamma, axis, alpha=alpha, smoothing=0.1)
    close(softmax(z, indices, gamma, axis, alpha=alpha, ignore=-100, smoothing=0.1), expected)
    labels = torch.softmax(torch.randn(shape), axis)
    expected = operations(z, labels.movedim(axis, 1), gamma, axis, alpha=alpha, smoothing=0.2)
    turned = z.transpose(0, -1).contiguous().transpose(0, -1)
    every_other = torch.stack([labels, labels + 5], -1)[..., 0]
    for logits, given in ((z, labels), (turned if classes < 70 else z, every_other)):
        close(softmax(logits, given, gamma, axis, alpha=alpha, smoothing=0.2), expected)


# -- labels that do not count, or cannot be


@pytest.mark.parametrize("classes", [5, 100])
def test_an_invalid_label_spoils_its_row_alone(classes: int) -> None:
    torch.manual_seed(5)
    z, y = torch.randn(4, classes), torch.softmax(torch.randn(4, classes), 1)
    indices = torch.tensor([0, 1, 2, 3])
    place = z[0].argmax(), z[3].argmin()
    for bad in (1.5, -0.25, NAN, INF):
        spoiled = y.clone()
        spoiled[0, place[0]] = spoiled[3, place[1]] = bad
        only_rows_are_nan(softmax(z, spoiled), [0, 3])
        assert softmax(z, spoiled, summed=True).loss.isnan()
    for bad in (classes, -1, 2**40, -(2**62)):
        spoiled = indices.clone()
        spoiled[[0, 3]] = bad
        only_rows_are_nan(softmax(z, spoiled, smoothing=0.1), [0, 3])
    only_rows_are_nan(softmax(z, (2 * torch.eye(classes))[:4].long() - torch.eye(classes)[:4].long()), [])


def only_rows_are_nan(found: Any, rows: list[int]) -> None:
    assert found.loss.isnan().nonzero().flatten().tolist() == rows
    nan = found.gradient.isnan()
    assert nan.all(dim=1).nonzero().flatten().tolist() == nan.any(dim=1).nonzero().flatten().tolist() == rows


@pytest.mark.parametrize("classes", [5, 100, 300])
def test_ignored_rows_have_no_effect(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WIDEST", 128)
    torch.manual_seed(6)
    z, targets = torch.randn(4, classes), torch.randint(0, classes, (4,))
    loss, gradient = softmax(z, targets, smoothing=0.1)
    assert loss is not None
    assert gradient is not None
    z[1:3], targets[1:3], loss[1:3], gradient[1:3] = NAN, 255 + classes, 0, 0
    found = softmax(z, targets, ignore=255 + classes, smoothing=0.1)
    assert torch.equal(found.loss, loss)
    assert torch.equal(found.gradient, gradient)


# -- infinities and NaN


@pytest.mark.parametrize("classes", [3, 100, 300])
@pytest.mark.parametrize("gamma", tiers([2.0, 0.5], first=(2.0,)))
def test_infinite_logits_take_the_limit(gamma: float, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's operations do.  A class without weight has no loss."""
    monkeypatch.setattr(launch, "WIDEST", 128)
    rows = [[INF, 0, 1], [1, INF, 0.5], [INF, INF, 0], [-INF, 0, 1], [1, -INF, -INF]]
    weights = [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [1, 0, 0]]
    z, y = torch.full((5, classes), -INF), torch.zeros(5, classes)
    z[:, :3], y[:, :3] = torch.tensor(rows), torch.tensor(weights)
    expected = operations(z, y, gamma)
    assert expected[0].isinf().tolist() == [True, False, False, False, False]
    close(softmax(z, y, gamma), expected)
    assert softmax(z, y, gamma, summed=True).loss == INF
    # every class has weight
    assert softmax(z, [0] * 5, gamma, smoothing=0.1).loss.tolist() == [INF] * (5 if classes > 3 else 2) + (
        [] if classes > 3 else operations(z[2:], torch.zeros(3, dtype=I64), gamma, smoothing=0.1)[0].tolist()
    )


@pytest.mark.parametrize("classes", [3, 100, 300])
def test_nan_stays_in_its_own_row(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WIDEST", 128)
    torch.manual_seed(7)
    z, y = torch.randn(5, classes), torch.eye(classes)[[0] * 5]
    before = softmax(z, y)
    z[1, 1], z[3, 0] = NAN, NAN
    found = softmax(z, y)
    only_rows_are_nan(found, [1, 3])
    assert found.loss is not None
    assert before.loss is not None
    assert torch.equal(found.loss[[0, 2, 4]], before.loss[[0, 2, 4]])


# -- sums, divisors, weights, upstream factors


@pytest.mark.parametrize("classes", [4, 100])
def test_sums_and_factors(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PROGRAMS", 2)  # so that each has several tiles, the last fewer
    torch.manual_seed(8)
    n = 600 if classes == 4 else 5
    z, y, factors = torch.randn(n, classes), torch.softmax(torch.randn(n, classes), 1), torch.rand(n)
    factors[1] = 0
    loss, gradient = softmax(z, y)
    assert loss is not None
    assert gradient is not None
    summed = softmax(z, y, summed=True, divisor=torch.tensor(3.0))
    near(summed.loss, loss.double().sum() / 3, rtol=2**-23)
    near(summed.gradient, gradient.double() / 3)
    weighted = softmax(z, y, weight=factors, alpha=0.25)
    near(weighted.loss, loss.double() * factors * 0.25)
    near(weighted.gradient, gradient.double() * factors[:, None] * 0.25)
    for factor in (factors, torch.tensor(0.5)):
        only = softmax(z, y, upstream=factor, losses=False)
        assert only.loss is None
        near(only.gradient, gradient.double() * (factor[:, None] if factor.ndim else factor))
    z[1, 0] = -INF  # an infinite loss of a row without weight
    assert softmax(z, y, weight=factors).loss[1] == 0
