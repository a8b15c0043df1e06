"""The GPU's kernels, interpreted: they compute the GPU's bits on a processor (tests/test_triton_code.py shows why)."""

from __future__ import annotations

import csv
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

import kernel_errors
import oracle
import parfocal
import parfocal.torch
import wide_rows
from bench.gpu import interpreter
from cases import GAMMAS, LOGITS, SOFT_LABELS, SOFTMAX_ROWS, TOLERANCE, smallest_normal
from kernel_errors import extremes
from parfocal.backends.triton import launch
from parfocal.backends.triton.launch import Result
from tiers import tiers
from wide_rows import loss_of, weights_of, worst

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of infinities and NaN

BOUND, TINY = TOLERANCE[np.float32], smallest_normal(np.float32)
WORSE_THAN_NATIVE = 1.2  # at most
NAN, INF = float("nan"), float("inf")
F32, F16, BF16, I64 = torch.float32, torch.float16, torch.bfloat16, torch.int64


@pytest.fixture(autouse=True)
def quicker_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter.quicken(monkeypatch.setattr)


def both(gamma: float) -> tuple[float, float]:
    return gamma, gamma


def binary(x: Any, y: Any, gammas: tuple[float, float] = (2.0, 2.0), **options: Any) -> Result:
    """Without class weights, and with a gradient, unless they are given."""
    x, y = (torch.as_tensor(given) for given in (x, y))
    return launch.binary(x, y, gammas, options.pop("weights", (1.0, 1.0)), **{"gradient": True, **options})


def softmax(z: Any, targets: Any, gamma: Any = 2.0, axis: int = 1, **options: Any) -> Result:
    z, targets = (torch.as_tensor(given) for given in (z, targets))
    return launch.softmax(z, targets, axis, gamma, **{"gradient": True, **options})


def numpys(result: Result) -> tuple[np.ndarray, np.ndarray]:
    assert result.loss is not None
    assert result.gradient is not None
    return result.loss.double().numpy(), result.gradient.double().numpy()


def same(a: Any, b: Any) -> None:
    """Two results have the same bits, but for the sign of 0."""
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def near(got: Any, exact: Any, rtol: float = 2 * BOUND) -> None:
    """Two tellings of the formula differ by at most twice the bound."""
    torch.testing.assert_close(got.double(), exact.double(), rtol=rtol, atol=TINY)


def test_the_quicker_interpreter_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(9)
    x, y = 3 * torch.randn(1500), (torch.rand(1500) < 0.3).float()
    z, soft = 3 * torch.randn(9, 100), torch.softmax(torch.randn(9, 100), 1).half()

    def found() -> Any:
        results = binary(x, y, both(1.5)), binary(x.bfloat16(), y.bool()), softmax(z, soft), softmax(z[:, :5], [2] * 9)
        return [part for result in results for part in result] + list(launch.count(y, positives=True))

    quick = found()
    monkeypatch.undo()
    same(found(), quick)


# -- accuracy: binary


def native_errors() -> dict[tuple[str, str], float]:
    """The worst error of the native kernels by gamma and term, as recorded."""
    with kernel_errors.TABLE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["dtype"] == "float32" and row["kernel"] != "numpy"]
    return {
        (gamma, term): max(float(r["error"]) for r in rows if (r["gamma"], r["term"]) == (gamma, term))
        for gamma, term in {(row["gamma"], row["term"]) for row in rows}
    }


@pytest.mark.parametrize("gamma", tiers(kernel_errors.GAMMAS, first=(2.0, 10.0)))
def test_binary(gamma: float) -> None:
    """On the grid that the native kernels' errors are recorded for."""
    x = extremes(np.float32)
    loss, slope = wide_rows.terms_of(x.astype(wide_rows.Wide), gamma)
    errors = np.zeros(2)
    for label, sign in ((1, 1), (0, -1)):
        kind = np.float32 if label else np.int8
        got, gradient = numpys(binary((sign * x).astype(np.float32), np.full(x.size, label, kind), both(gamma)))
        found = worst(got, loss, abs(loss), TINY), worst(sign * gradient, slope, abs(slope), TINY)
        errors = np.maximum(errors, found)
    native = native_errors()
    assert errors[0] <= min(BOUND, WORSE_THAN_NATIVE * native[str(gamma), "loss"])
    assert errors[1] <= min(BOUND, WORSE_THAN_NATIVE * native[str(gamma), "gradient"])


def close_to_oracle(got: float, exact: mpf, scale: mpf, where: object) -> None:
    if scale < TINY:
        assert abs(got) <= 2 * TINY, where
        return
    assert oracle.relative_error(got, exact, scale) <= BOUND, where
    if abs(exact) >= TINY:
        assert got != 0, where


@pytest.mark.parametrize("gamma", GAMMAS)
def test_binary_at_the_extremes(gamma: float) -> None:
    x = np.asarray(LOGITS, dtype=np.float32)
    for label in (0, 1):
        loss, gradient = numpys(
            binary(x, np.full(x.shape, float(label), np.float32), both(gamma), weights=(0.75, 0.25))
        )
        for i, logit in enumerate(x.tolist()):
            exact = oracle.binary(logit, label, both(gamma), (0.75, 0.25))
            close_to_oracle(loss[i], exact[0], abs(exact[0]), (logit, label))
            close_to_oracle(gradient[i], exact[1], abs(exact[1]), (logit, label))


@pytest.mark.parametrize("rule", ["linear", "expected"])
@pytest.mark.parametrize("gamma", tiers([0.0, 0.3, 1.0, 2.0, 10.0], first=(0.3, 2.0)))
def test_binary_soft_labels(gamma: float, rule: str) -> None:
    logits = np.asarray([v for v in LOGITS if 1e-7 < abs(v) < 1e4], dtype=np.float32)
    x, y = (part.flatten() for part in np.meshgrid(logits, np.asarray(SOFT_LABELS, dtype=np.float32)))
    weights = (0.75, 0.25)
    loss, gradient = numpys(binary(x, y, both(gamma), weights=weights, expected=rule == "expected"))
    for i, (logit, label) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        exact = oracle.binary(logit, label, both(gamma), weights, rule)
        with mp.workdps(oracle.digits_for(logit)):
            if rule == "linear":
                scale = oracle.linear_scale(logit, label, gamma, weights)[0]
            else:
                sides = ((mpf(logit), label * weights[1]), (mpf(-logit), (1 - label) * weights[0]))
                scale = mp.fsum(w * oracle.slope_scale(m, gamma) for m, w in sides)
        close_to_oracle(loss[i], exact[0], exact[0], (logit, label))
        close_to_oracle(gradient[i], exact[1], scale, (logit, label))


@pytest.mark.parametrize("gammas", [(2.0, 0.0), (0.5, 3.0)])
def test_a_gamma_pair_is_negatives_then_positives(gammas: tuple[float, float]) -> None:
    x = np.asarray([-3.0, 0.5, 2.0, -30.0, 30.0], dtype=np.float32)
    for label in (0.0, 0.25, 1.0):
        loss, gradient = numpys(binary(x, np.full(x.shape, label, np.float32), gammas, expected=True))
        for i, logit in enumerate(x.tolist()):
            exact = oracle.binary(logit, label, gammas, rule="expected")
            close_to_oracle(loss[i], exact[0], exact[0], logit)
            close_to_oracle(gradient[i], exact[1], max(abs(exact[1]), mpf(0.1 if 0 < label < 1 else 0)), logit)


# -- accuracy: softmax


def errors_of(logits: np.ndarray, targets: np.ndarray, gamma: float) -> tuple[float, float]:
    loss, gradient, scale = wide_rows.exact(logits, weights_of("indices", targets, logits.shape[1]), gamma)
    found = numpys(softmax(logits, targets, gamma))
    return worst(found[0], loss, abs(loss), TINY), worst(found[1], gradient, scale, TINY)


def errors_of_native(logits: np.ndarray, targets: np.ndarray, gamma: float) -> tuple[float, float]:
    loss, gradient, scale = wide_rows.exact(logits, weights_of("indices", targets, logits.shape[1]), gamma)
    value, slopes = loss_of("indices", gamma, np.float32).value_and_grad(targets, logits)
    return worst(value, loss, abs(loss), TINY), worst(slopes, gradient, scale, TINY)


@pytest.mark.parametrize(
    ("classes", "gamma"),
    tiers(  # rows of 100,000 classes take long, and gamma has no part in their sums
        [(classes, gamma) for classes in wide_rows.CLASSES for gamma in wide_rows.GAMMAS if classes < 1e5 or gamma > 0],
        first=((3, 10.0), (1000, 10.0)),
    ),
)
def test_softmax(classes: int, gamma: float) -> None:
    """On rows whose sums lose digits where they can."""
    assert max(errors_of(*wide_rows.rows(classes), gamma)) <= BOUND


@pytest.mark.parametrize(
    ("classes", "gamma"),
    tiers(itertools.product((2, 3, 10, 63), wide_rows.GAMMAS), first=((2, 10.0),)),
)
def test_softmax_beside_the_native_kernel(classes: int, gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On so many logits that both meet their worst, be it in the loss or in the gradient."""
    monkeypatch.setattr(launch, "ROWS", 8192)  # of a program: the interpreter's time goes with their number
    logits, targets = wide_rows.many_rows(classes)
    native = max(errors_of_native(logits, targets, gamma))
    assert max(errors_of(logits, targets, gamma)) <= min(BOUND, WORSE_THAN_NATIVE * native)


@pytest.mark.parametrize(("order", "gamma"), tiers([("rising", 10.0), ("falling", 2.0)], first=[("rising", 10.0)]))
def test_softmax_in_two_passes(order: str, gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest logit comes in the last tile or in the first, and rises from tile to tile."""
    monkeypatch.setattr(launch, "WIDEST", 128)
    logits, targets = (part[::3] for part in wide_rows.rows(1000))
    step = np.linspace(-300, 300, 1000)[None].repeat(8, axis=0)
    logits = np.concatenate([logits, step.astype(np.float32)])
    targets = np.concatenate([targets, [999, 0, 500, 998, 10, 990, 127, 128]])
    order_of = np.argsort(logits, axis=1)[:, :: 1 if order == "rising" else -1]
    targets = np.argmax(order_of == targets[:, None], axis=1)
    assert max(errors_of(np.take_along_axis(logits, order_of, axis=1), targets, gamma)) <= BOUND


@pytest.mark.parametrize("gamma", tiers([0.0, 0.3, 2.0, 10.0], first=(10.0,)))
@pytest.mark.parametrize("name", SOFTMAX_ROWS)
def test_softmax_at_the_extremes(name: str, gamma: float) -> None:
    row = np.asarray(SOFTMAX_ROWS[name], dtype=np.float32)
    z, classes = [float(v) for v in row], len(row)
    targets = range(classes) if abs(row).max() < 1e3 else [0]
    losses, gradients = numpys(softmax(row[None].repeat(len(targets), axis=0), targets, gamma))
    for target, loss, gradient in zip(targets, losses, gradients, strict=True):
        weights = [float(k == target) for k in range(classes)]
        exact = oracle.categorical(z, weights, [gamma] * classes)
        with mp.workdps(oracle.digits_for(*z)):
            scales = oracle.softmax_scale(z, weights, [gamma] * classes)
        close_to_oracle(loss, exact[0], exact[0], target)
        for k in range(classes):
            close_to_oracle(gradient[k], exact[1][k], scales[k][0], (target, k))


@pytest.mark.parametrize("classes", [10, 100])
def test_no_gradient_is_0_above_the_smallest_normal_number(classes: int) -> None:
    rng = np.random.default_rng(0)
    logits = np.zeros((50, classes), dtype=np.float32)
    logits[:, 0] = rng.uniform(-9, -1, 50)
    logits[:, 2:] = np.log(TINY) + rng.uniform(-0.5, 0.5, (50, classes - 2))
    assert max(errors_of(logits, np.zeros(50, dtype=np.int64), 10.0)) <= BOUND


# -- types, shapes, strides


@pytest.mark.parametrize("labels", [torch.bool, torch.uint8, torch.int8, torch.int32, I64, BF16, F16, torch.float64])
@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_binary_types(dtype: torch.dtype, labels: torch.dtype) -> None:
    torch.manual_seed(0)
    x, y = (3 * torch.randn(1500)).to(dtype), torch.rand(1500) < 0.3
    wide, found = binary(x.float(), y.float()), binary(x, y.to(labels))
    assert found.gradient is not None
    assert wide.gradient is not None
    assert found.gradient.dtype == dtype
    same([found.loss], [wide.loss])
    # The interpreter cuts bfloat16, and a GPU rounds it.
    torch.testing.assert_close(
        found.gradient.float(), wide.gradient, rtol=2**-7 if dtype == BF16 else 2**-11, atol=3e-8
    )


SHAPES = [(), (0,), (1,), (5,), (1024,), (1031,), (7, 33), (0, 3), (3, 4, 50)]


@pytest.mark.parametrize("gamma", [2.0, 1.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_binary_shapes(shape: tuple[int, ...], gamma: float) -> None:
    """Beside the same formula in torch's operations."""
    torch.manual_seed(1)
    x, y = (4 * torch.randn(shape)).requires_grad_(), (torch.rand(shape) < 0.4).float()
    loss = parfocal.torch.sigmoid_focal_loss(x, y, 0.25, gamma)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    found = binary(x.detach(), y, both(gamma), weights=(0.75, 0.25))
    near(found.loss, loss.detach())
    near(found.gradient, gradient)
    summed = binary(x.detach(), y, both(gamma), weights=(0.75, 0.25), summed=True, divisor=3.0)
    near(summed.loss, loss.detach().double().sum() / 3)
    near(summed.gradient, gradient / 3)


@pytest.mark.parametrize("soft", [False, True])
def test_binary_strides(soft: bool) -> None:
    torch.manual_seed(2)
    x, y = 2 * torch.randn(6, 50), torch.rand(6, 50)
    y = y if soft else (y < 0.5).float()
    turned = binary(x.t(), y.t())
    same([part.t() for part in turned if part is not None], binary(x, y))
    for one, other in ((x.t(), y.t().contiguous()), (x[:, ::2], y[:, ::2]), (x[:1].expand(6, 50), y)):
        same(binary(one, other), binary(one.contiguous(), other.contiguous()))


WEIGHTS = {
    "all": (6, 50),
    "rows": (6, 1),
    "columns": (50,),
    "one": (),
    "none but one": (1, 50),
    "three axes": (2, 1, 50),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_broadcast(name: str) -> None:
    torch.manual_seed(3)
    weight = torch.rand(WEIGHTS[name])
    x, y = 2 * torch.randn(6, 50), (torch.rand(6, 50) < 0.5).float()
    if name == "three axes":
        x, y = x.reshape(2, 3, 50), y.reshape(2, 3, 50)
    loss, gradient = binary(x, y)
    assert loss is not None
    same(binary(x, y, weight=weight), (loss * weight, gradient * weight))


@pytest.mark.parametrize("gamma", tiers([2.0, 1.3, "per class", parfocal.FLSD53], first=(2.0,)))
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((7, 3), 1),
        ((5, 100), 1),
        ((5, 101), 1),
        ((3, 21, 40), 1),
        ((2, 5, 4, 16), 1),
        ((1, 7, 300), 1),
        ((3, 5, 7), 1),
        ((2, 3, 70), 2),
        ((0, 5), 1),
        ((4, 0, 5), 2),
    ],
)
def test_softmax_shapes_and_strides(shape: tuple[int, ...], axis: int, gamma: Any) -> None:
    """Beside the same formula in torch's operations."""
    check_shape(shape, axis, gamma)


@pytest.mark.full
def test_softmax_of_many_classes_that_lie_apart() -> None:
    check_shape((1, 1100, 33), 1, "per class")


def check_shape(shape: tuple[int, ...], axis: int, gamma: Any) -> None:
    torch.manual_seed(4)
    classes, z = shape[axis], 3 * torch.randn(shape)
    targets = torch.randint(0, classes, (*shape[:axis], *shape[axis + 1 :]))
    targets.view(-1)[:1] = -100
    if gamma == "per class":
        gamma = tuple(np.linspace(0, 3, classes).tolist())
    alpha = tuple(np.linspace(0.5, 1, classes).tolist())
    moved = z.movedim(axis, 1).clone().requires_grad_()
    loss = parfocal.torch.softmax_focal_loss(moved, targets, alpha, gamma, "none")
    (gradient,) = torch.autograd.grad(loss.sum(), moved)
    for laid in (z, z.transpose(0, -1).contiguous().transpose(0, -1), torch.cat([z, z], dim=-1)[..., : shape[-1]]):
        found = softmax(laid, targets, gamma, axis, alpha=alpha, ignore=-100)
        near(found.loss, loss.detach())
        # Margins of the operations are rounded elsewhere; where the gradient is tiny, so is what that costs.
        torch.testing.assert_close(found.gradient, gradient.movedim(1, axis), rtol=2 * BOUND, atol=1e-30)


# -- labels that do not count, or cannot be


@pytest.mark.parametrize("labels", [F32, I64])
def test_an_invalid_label_spoils_itself_alone(labels: torch.dtype) -> None:
    x, y = torch.linspace(-3, 3, 2048), (torch.arange(2048) % 2).to(labels)
    loss, gradient = binary(x, y)
    assert loss is not None
    assert gradient is not None
    for bad in (2, -1, 300) if labels == I64 else (1.5, -0.5, NAN, INF):
        spoiled = y.clone()
        spoiled[[0, 1030]] = bad
        found = binary(x, spoiled)
        for got, before in zip(found, (loss, gradient), strict=True):
            assert got is not None
            assert got.isnan().nonzero().flatten().tolist() == [0, 1030]
            near(got[~got.isnan()], before[~got.isnan()])  # float labels: its tile goes the longer way
        assert binary(x, spoiled, summed=True).loss.isnan()


@pytest.mark.parametrize("classes", [5, 100])
def test_an_invalid_index_spoils_its_row_alone(classes: int) -> None:
    torch.manual_seed(5)
    z, targets = torch.randn(9, classes), torch.randint(0, classes, (9,))
    loss, gradient = softmax(z, targets)
    assert loss is not None
    assert gradient is not None
    for bad in (classes, -1, 2**40, -(2**62)):
        spoiled = targets.clone()
        spoiled[[0, 7]] = bad
        found = softmax(z, spoiled)
        assert found.loss is not None
        assert found.gradient is not None
        rows = found.loss.isnan()
        assert rows.nonzero().flatten().tolist() == [0, 7]
        assert found.gradient.isnan().all(dim=1).equal(rows)
        same([found.loss[~rows], found.gradient[~rows]], [loss[~rows], gradient[~rows]])
    halves = targets.double()
    halves[3] += 0.5
    assert softmax(z, halves).loss.isnan().nonzero().tolist() == [[3]]


@pytest.mark.parametrize("labels", [F32, I64])
def test_ignored_elements_have_no_effect(labels: torch.dtype) -> None:
    x, y = torch.linspace(-3, 3, 1100), (torch.arange(1100) % 2).to(labels)
    left_out = torch.arange(1100) % 7 == 0
    marked, spoiled = torch.where(left_out, -1, y).to(labels), torch.where(left_out, torch.full_like(x, NAN), x)
    loss, gradient = binary(x, y)
    assert loss is not None
    assert gradient is not None
    same(binary(spoiled, marked, ignore=-1), (torch.where(left_out, 0, loss), torch.where(left_out, 0, gradient)))
    total = binary(spoiled, marked, ignore=-1, summed=True, divisor=launch.count(marked, -1)[1])
    near(total.loss, loss[~left_out].double().sum() / int((~left_out).sum()))


def test_ignored_rows_have_no_effect() -> None:
    torch.manual_seed(6)
    for classes in (5, 100):
        z, targets = torch.randn(10, classes), torch.randint(0, classes, (10,))
        loss, gradient = softmax(z, targets)
        assert loss is not None
        assert gradient is not None
        z[3:5], targets[3:5], loss[3:5], gradient[3:5] = NAN, 255, 0, 0
        same(softmax(z, targets, ignore=255), (loss, gradient))


def test_a_pair_with_a_soft_label_is_nan() -> None:
    loss = binary([0.5, 0.5, 0.5], [0.0, 0.5, 1.0], (0.0, 4.0)).loss
    assert loss is not None
    assert loss.isnan().tolist() == [False, True, False]


# -- infinities and NaN


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_infinite_logits_take_the_limit(gamma: float) -> None:
    x = torch.tensor([-INF, INF, -INF, INF])
    same(
        binary(x, [1.0, 1.0, 0.0, 0.0], both(gamma)),
        (torch.tensor([INF, 0, 0, INF]), torch.tensor([-1.0, 0, 0, 1])),
    )
    loss = binary(x, [1.0, 1.0, 0.0, 0.0], both(gamma), weights=(1.0, 0.0)).loss
    same([loss], [torch.tensor([0.0, 0, 0, INF])])
    assert binary(x, [1.0, 1.0, 0.0, 0.0], both(gamma), summed=True).loss == INF
    near_one, near_zero = (0.25**gamma, 0.75**gamma)
    soft = binary(x[:2], [0.25, 0.25], both(gamma))
    near(soft.gradient, torch.tensor([-0.25 * near_one, 0.75 * near_zero]))
    same([soft.loss], [torch.tensor([INF, INF])])


@pytest.mark.parametrize("classes", [3, 100, 300])
def test_infinite_softmax_logits_take_the_limit(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WIDEST", 128)
    z = torch.full((6, classes), -INF)
    z[:, :3] = torch.tensor([[INF, 0, 1], [INF, 0, 1], [-INF, 0, 0], [0.3, -0.2, -INF], [INF, INF, 0], [1, -INF, -INF]])
    rows = [[0.0, 0, 0], [1, -1, 0], [-1, 0.5, 0.5], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    loss, gradient = softmax(z, [0, 1, 0, 0, 0, 0])
    assert loss is not None
    assert gradient is not None
    two, two_slopes = softmax([[0.3, -0.2], [1.0, 1.0]], [0, 0])
    assert two is not None
    assert two_slopes is not None
    rows[3][:2], rows[4][:2] = two_slopes.tolist()
    same([loss], [torch.tensor([0, INF, INF, two[0], two[1], 0])])
    same([gradient[:, :3]], [torch.tensor(rows)])
    assert not gradient[:, 3:].any()


@pytest.mark.parametrize("classes", [3, 100, 300])
def test_nan_stays_in_its_own_row(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WIDEST", 128)
    z, targets = torch.randn(10, classes), torch.zeros(10, dtype=I64)
    before = softmax(z, targets).loss
    z[2, 1], z[4, 0] = NAN, NAN
    z[2, 2] = 500  # in two passes, what came before is forgotten, but NaN must not be
    found = softmax(z, targets).loss
    assert found is not None
    assert before is not None
    assert found.isnan().nonzero().flatten().tolist() == [2, 4]
    same([found[5:]], [before[5:]])
    assert binary([NAN, 1.0], [1.0, 1.0]).loss.isnan().tolist() == [True, False]


# -- sums, divisors, upstream factors


def test_sums_of_many_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PROGRAMS", 2)  # so that each has several tiles, the last fewer
    torch.manual_seed(7)
    x, y = 3 * torch.randn(11_111), (torch.rand(11_111) < 0.2).float()
    loss, gradient = binary(x, y)
    assert loss is not None
    summed = binary(x, y, summed=True)
    near(summed.loss, loss.double().sum(), rtol=2**-23)
    same([summed.gradient], [gradient])
    z, targets = torch.randn(700, 5), torch.randint(0, 5, (700,))
    near(softmax(z, targets, summed=True).loss, softmax(z, targets).loss.double().sum(), rtol=2**-23)
    z, targets = torch.randn(17, 100), torch.randint(0, 5, (17,))
    near(softmax(z, targets, summed=True).loss, softmax(z, targets).loss.double().sum(), rtol=2**-23)


@pytest.mark.parametrize("divisor", [3.0, torch.tensor(3.0), torch.tensor(3), torch.tensor(3.0, dtype=torch.float64)])
def test_divisors(divisor: Any) -> None:
    x, y = torch.linspace(-5, 5, 50), (torch.arange(50) % 2).float()
    loss, gradient = binary(x, y)
    assert loss is not None
    assert gradient is not None
    found = binary(x, y, summed=True, divisor=divisor)
    near(found.loss, loss.double().sum() / 3, rtol=2**-23)
    near(found.gradient, gradient.double() / 3)
    z, targets = torch.randn(50, 4), torch.arange(50) % 4
    near(softmax(z, targets, divisor=divisor).gradient, softmax(z, targets).gradient.double() / 3)


def test_upstream_factors() -> None:
    torch.manual_seed(8)
    x, y, factors = torch.randn(50), (torch.arange(50) % 2).float(), torch.randn(50)
    gradient = binary(x, y).gradient
    assert gradient is not None
    only = {"losses": False}
    same(binary(x, y, upstream=factors, **only), (None, gradient * factors))
    same(binary(x, y, upstream=torch.tensor(0.5), **only), (None, gradient * 0.5))
    for classes in (4, 100):
        z, targets = torch.randn(50, classes)[:12], torch.arange(12) % 4
        factors = factors[:12]
        gradient = softmax(z, targets).gradient
        assert gradient is not None
        near(softmax(z, targets, upstream=factors, **only).gradient, gradient.double() * factors[:, None])
        near(softmax(z, targets, upstream=torch.tensor(0.5), **only).gradient, gradient.double() * 0.5)


def test_counts() -> None:
    """Each count, and itself as a divisor."""

    def numbers(*given: Any, **options: Any) -> list[float]:
        return [found.item() for found in launch.count(*given, **options)]

    labels = torch.tensor([0, 1, 2, -100, 1, 7])
    assert numbers(labels) == [6, 6]
    assert numbers(labels, -100) == [5, 5]
    assert numbers(labels, -100, weights=(0.5, 2.0, 8.0)) == [12.5, 12.5]  # an invalid index weighs nothing
    assert numbers(torch.full((3,), -100), -100) == [0, 1]
    assert numbers(torch.zeros(0, dtype=I64)) == [0, 1]
    assert numbers(torch.tensor([0.0, 0.25, 0.5, -1]), -1, positives=True) == [0.75, 1]
    assert numbers(torch.ones(5000, dtype=torch.bool), positives=True) == [5000, 5000]


def test_a_factor_multiplies_in_place() -> None:
    values = torch.linspace(-3, 3, 3000)
    expected = values * 0.5
    launch.multiply(values, torch.tensor(1.0))
    launch.multiply(values, torch.tensor(0.5))
    same([values], [expected])
