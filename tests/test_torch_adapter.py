"""parfocal.torch: PyTorch's own losses at gamma 0, torchvision's formula, NumPy's numbers, and what modules must do."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import parfocal
from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from tiers import tiers

EXTREMES = [0.0, 1e-6, -1e-6, 17.0, -17.0, 89.0, -89.0, 1e4, -1e4]
GAMMAS = [0.0, 0.3, 2.0, 10.0]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def coins(*shape: int, seed: int = 1) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3).double()


def classes(*shape: int, high: int = 4, seed: int = 2) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def both(loss: Callable[..., Tensor], inputs: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of a weighted sum of it."""
    inputs = inputs.detach().clone().requires_grad_()
    value = loss(inputs, *others)
    factors = torch.arange(1, value.numel() + 1, dtype=value.dtype).reshape(value.shape)
    return value.detach(), torch.autograd.grad((value * factors).sum(), inputs)[0]


def same(got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], rtol: float = 1e-12) -> None:
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-15)


# -- the same as PyTorch's and torchvision's


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_0_is_binary_cross_entropy_with_logits(reduction: str, shape: tuple[int, ...], weighted: bool) -> None:
    x, y = noise(*shape), coins(*shape)
    weight = coins(*shape[-1:], seed=5) + 0.5 if weighted else None
    loss = SigmoidFocalLoss(None, 0, reduction, weight=weight)
    wanted = both(lambda x: F.binary_cross_entropy_with_logits(x, y, weight, reduction=reduction), x)
    same(both(loss, x, y), wanted)
    same(both(lambda x: sigmoid_focal_loss(x, y, -1, 0, reduction, weight=weight), x), wanted)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_single_logit_without_an_axis(each_kernel: str, reduction: str) -> None:
    """Of one element NumPy makes a number, which is no array."""
    x, y = noise(), torch.tensor(1.0)
    got = both(SigmoidFocalLoss(None, 0, reduction), x, y)
    same(got, both(lambda x: F.binary_cross_entropy_with_logits(x, y.double(), reduction=reduction), x))


def torchvisions(inputs: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """The formula as torchvision's page has it."""
    p = torch.sigmoid(inputs)
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets) if alpha >= 0 else 1.0
    log_loss = -(targets * torch.log(p) + (1 - targets) * torch.log(1 - p))
    return alpha_t * (1 - p_t) ** gamma * log_loss


@pytest.mark.parametrize("alpha", [0.25, 0.9, 0, 1, -1])
@pytest.mark.parametrize("gamma", [0, 0.5, 2, 3.5])
@pytest.mark.parametrize("soft", [False, True])
def test_a_drop_in_for_torchvision(alpha: float, gamma: float, soft: bool) -> None:
    x = noise(6, 5)
    y = torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) if soft else coins(6, 5)
    wanted = torchvisions(x, y, alpha, gamma)
    torch.testing.assert_close(sigmoid_focal_loss(x, y, alpha, gamma), wanted, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(sigmoid_focal_loss(x, y, alpha, gamma, "mean"), wanted.mean(), rtol=1e-9, atol=0)
    torch.testing.assert_close(sigmoid_focal_loss(x, y, alpha, gamma, "sum"), wanted.sum(), rtol=1e-9, atol=0)


def test_defaults_are_torchvisions() -> None:
    x, y = noise(6, 5), coins(6, 5)
    torch.testing.assert_close(sigmoid_focal_loss(inputs=x, targets=y), torchvisions(x, y, 0.25, 2), rtol=1e-9, atol=0)
    torch.testing.assert_close(SigmoidFocalLoss()(x, y), torchvisions(x, y, 0.25, 2).mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4,), (6, 4), (3, 4, 5), (2, 4, 3, 5)])
@pytest.mark.parametrize("target", ["indices", "ignored", "probabilities"])
@pytest.mark.parametrize("options", [{}, {"weight": [0.5, 1, 2, 0.1]}, {"label_smoothing": 0.2}], ids=str)
def test_gamma_0_is_cross_entropy(reduction: str, shape: tuple[int, ...], target: str, options: dict[str, Any]) -> None:
    z, y = noise(*shape), classes(*shape[:1], *shape[2:]) if len(shape) > 1 else classes()
    if target == "ignored" and y.numel() > 1:
        y.view(-1)[1::3] = -100
    if target == "probabilities":
        y = torch.softmax(noise(*shape, seed=4), dim=min(1, len(shape) - 1))
    theirs = {**options}
    if "weight" in options:
        theirs["weight"] = torch.tensor(options["weight"], dtype=torch.float64)
        theirs["label_smoothing"] = options.setdefault("label_smoothing", 0.1)
    wanted = both(lambda z: F.cross_entropy(z, y, reduction=reduction, **theirs), z)
    same(both(SoftmaxFocalLoss(None, 0, reduction, **options), z, y), wanted)
    same(both(lambda z: softmax_focal_loss(z, y, None, 0, reduction, **options), z), wanted)


def test_weights_without_smoothing_and_bytes_as_indices() -> None:
    z, y, weight = noise(6, 4), classes(6).to(torch.uint8), torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)
    y[2] = 255
    wanted = both(lambda z: F.cross_entropy(z, y.long(), weight, ignore_index=255), z)
    same(both(SoftmaxFocalLoss(gamma=0, weight=weight, ignore_index=255), z, y), wanted)
    wanted = both(lambda z: F.cross_entropy(z, y.long(), ignore_index=255), z)
    same(both(SoftmaxFocalLoss(gamma=0, ignore_index=255), z, y), wanted)


def test_bytes_as_indices_in_traced_tensors() -> None:
    z, y = noise(3, 4), torch.tensor([0, 3, 255], dtype=torch.uint8)
    loss = SoftmaxFocalLoss(gamma=2, weight=[1, 2, 3, 4], ignore_index=255)
    torch.testing.assert_close(torch.func.vmap(lambda z: loss(z, y))(z[None])[0], loss(z, y))
    y[2] = 156  # -100 as a byte; it is neither a class nor to be ignored
    assert torch.func.vmap(lambda z: SoftmaxFocalLoss()(z, y))(z[None]).isnan()
    with pytest.raises(IndexError):
        SoftmaxFocalLoss()(z, y)


def test_alpha_multiplies_and_leaves_the_mean_alone() -> None:
    z, y, alpha = noise(6, 4), classes(6), [0.5, 1.0, 2.0, 0.1]
    each = softmax_focal_loss(z, y, gamma=2, reduction="none")
    torch.testing.assert_close(softmax_focal_loss(z, y, alpha), (each * torch.tensor(alpha, dtype=z.dtype)[y]).mean())
    torch.testing.assert_close(softmax_focal_loss(z, y, 3.0), 3 * each.mean())
    weighted = softmax_focal_loss(z, y, alpha, weight=[1, 2, 3, 4], reduction="sum")
    torch.testing.assert_close(weighted, softmax_focal_loss(z, y, [0.5, 2.0, 6.0, 0.4], reduction="sum"))


# -- the same as NumPy's, where it is hard


@pytest.mark.parametrize("gamma", [*GAMMAS, (3.0, 1.0), parfocal.FLSD53], ids=str)
@pytest.mark.parametrize("path", ["kernel", "traced"])
def test_binary_extremes(gamma: Any, path: str) -> None:
    x = np.repeat(np.array(EXTREMES, dtype=np.float32), 2)
    y = np.tile([0, 1], len(EXTREMES))
    loss = parfocal.BinaryFocalCrossentropy(
        apply_class_balancing=True, gamma=gamma, from_logits=True, reduction="sum", dtype="float64"
    )
    each = parfocal.binary_focal_crossentropy(
        y[:, None], x[:, None].astype(np.float64), True, gamma=gamma, from_logits=True
    )
    gradient = loss.value_and_grad(y[:, None], x[:, None].astype(np.float64))[1][:, 0]
    check_extremes(SigmoidFocalLoss(gamma=gamma, reduction="none"), path, x, y, each, gradient)


@pytest.mark.parametrize("gamma", [*GAMMAS, (0.0, 2.0, 10.0)], ids=str)
@pytest.mark.parametrize("path", ["kernel", "traced"])
def test_softmax_extremes(gamma: Any, path: str) -> None:
    rows = [(a, b, c) for a in EXTREMES for b in EXTREMES for c in (0.0, 0.3)]
    z, y = np.array(rows, dtype=np.float32), np.arange(len(rows)) % 3
    loss = parfocal.SparseCategoricalFocalCrossentropy(1.0, gamma, True, reduction="sum", dtype="float64")
    each = parfocal.sparse_categorical_focal_crossentropy(y, z.astype(np.float64), 1.0, gamma, True)
    gradient = loss.value_and_grad(y, z.astype(np.float64))[1]
    check_extremes(SoftmaxFocalLoss(gamma=gamma, reduction="none"), path, z, y, each, gradient)


def check_extremes(module: Any, path: str, x: Any, y: Any, each: Any, gradient: Any) -> None:
    inputs, targets = torch.tensor(x, requires_grad=True), torch.tensor(y)
    if path == "kernel":
        got = module(inputs, targets)
        (slope,) = torch.autograd.grad(got.sum(), inputs)
    else:
        got = torch.func.vmap(lambda x: module(x, targets))(inputs[None])[0].detach()
        slope = torch.func.grad(lambda x: module(x, targets).sum())(inputs.detach())
    for mine, exact in ((got, each), (slope, gradient)):
        np.testing.assert_allclose(mine.detach().numpy(), exact, rtol=1e-6, atol=1.2e-38)


# -- divisors


def test_what_the_reductions_divide_by() -> None:
    x, y = noise(6, 5), coins(6, 5)
    each = sigmoid_focal_loss(x, y)
    for reduction, by in (("mean", 30), ("sum", 1), ("mean_over_positives", y.sum())):
        torch.testing.assert_close(SigmoidFocalLoss(reduction=reduction)(x, y), each.sum() / by)
    nothing = torch.zeros_like(y)
    by_one = SigmoidFocalLoss(reduction="mean_over_positives")(x, nothing)
    torch.testing.assert_close(by_one, sigmoid_focal_loss(x, nothing).sum())


@pytest.mark.parametrize("normalizer", [7, 7.0, torch.tensor(7), torch.tensor([7.0]), np.int64(7)], ids=repr)
@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_over_positives"])
def test_a_normalizer_takes_the_place_of_the_divisor(normalizer: Any, reduction: str) -> None:
    x, y = noise(6, 4), coins(6, 4)
    wanted = both(lambda x: sigmoid_focal_loss(x, y).sum() / 7, x)
    same(both(SigmoidFocalLoss(reduction=reduction, normalizer=normalizer), x, y), wanted)
    same(both(SigmoidFocalLoss(reduction=reduction, normalizer=100), x, y, normalizer), wanted)
    same(both(lambda x: sigmoid_focal_loss(x, y, reduction=reduction, normalizer=normalizer), x), wanted)
    if reduction != "mean_over_positives":
        t = classes(6)
        wanted = both(lambda z: softmax_focal_loss(z, t, reduction="none").sum() / 7, x)
        same(both(SoftmaxFocalLoss(reduction=reduction, weight=[1] * 4), x, t, normalizer), wanted)
        same(both(lambda z: softmax_focal_loss(z, t, reduction=reduction, normalizer=normalizer), x), wanted)


@pytest.mark.parametrize("zero", [0, torch.tensor(0), torch.tensor(0.0)], ids=repr)
def test_where_there_is_nothing_to_average_the_loss_is_0(zero: Any) -> None:
    nobody = torch.full((6,), -100)
    for module in (SoftmaxFocalLoss(), SoftmaxFocalLoss(weight=[1, 2, 3, 4]), SoftmaxFocalLoss(normalizer=zero)):
        same(both(module, noise(6, 4), nobody), (torch.tensor(0.0).double(), torch.zeros(6, 4).double()))
    module = SigmoidFocalLoss(ignore_index=-1, normalizer=zero)
    same(both(module, noise(6), -torch.ones(6)), (torch.tensor(0.0).double(), torch.zeros(6).double()))
    assert SigmoidFocalLoss()(torch.zeros(0, 3), torch.zeros(0, 3)) == 0
    assert SoftmaxFocalLoss()(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) == 0
    each = SoftmaxFocalLoss(weight=[0, 1, 1, 1])(noise(2, 4), torch.tensor([0, 0]))
    assert each == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "mean_over_positives"])
def test_ignored_elements_of_the_sigmoid_loss(weighted: bool, reduction: str) -> None:
    x, y = noise(6, 5), coins(6, 5)
    weight = noise(6, 5, seed=9).abs() if weighted else None
    out = coins(6, 5, seed=7) == 1
    kept = {"reduction": reduction, "weight": None if weight is None else weight[~out]}
    wanted = both(lambda x: sigmoid_focal_loss(x, y[~out], **kept), x[~out])
    hostile = x.masked_fill(out, float("nan"))
    loss = SigmoidFocalLoss(reduction=reduction, ignore_index=-1, weight=weight)
    got = loss(hostile.requires_grad_(), y.masked_fill(out, -1))
    factors = torch.zeros(6, 5).double()
    factors[~out] = torch.arange(1, int((~out).sum()) + 1).double()
    (gradient,) = torch.autograd.grad((got * factors).sum() if reduction == "none" else got, hostile)
    torch.testing.assert_close(got[~out] if reduction == "none" else got, wanted[0])
    torch.testing.assert_close(gradient[~out], wanted[1])
    assert (gradient[out] == 0).all()
    assert reduction != "none" or (got[out] == 0).all()


# -- sums and counts


@pytest.mark.parametrize("reduction", ["mean", "mean_over_positives"])
@pytest.mark.parametrize("labels", ["hard", "soft", "no positives"])
@pytest.mark.parametrize(
    "options",
    [{}, {"gamma": 0}, {"ignore_index": -1}, {"weight": [1, 2, 0, 4]}, {"label_smoothing": 0.2}, {"ignore_index": 0}],
    ids=str,
)
def test_sums_over_counts_are_the_sigmoid_loss_of_all_batches(
    reduction: str, labels: str, options: dict[str, Any]
) -> None:
    loss, x = SigmoidFocalLoss(reduction=reduction, **options), noise(9, 4)
    y = coins(9, 4) * {"hard": 1, "soft": 0.01, "no positives": 0}[labels]  # 0.01: the sum is below 1
    y[7:] = 0  # the last batch has no positive
    if options.get("ignore_index") == -1:
        y[::2, 1] = -1

    def of_batches(x: Tensor) -> Tensor:
        parts = [loss.sum_and_count(x[part], y[part]) for part in (slice(0, 4), slice(4, 7), slice(7, 9))]
        total, count = (sum(column) for column in zip(*parts, strict=True))
        return total / (count.clamp(min=1) if reduction == "mean_over_positives" else torch.where(count == 0, 1, count))

    same(both(of_batches, x), both(loss, x, y))
    kept = y[y != options.get("ignore_index", -1)]
    count = loss.sum_and_count(x, y)[1]
    assert count == (kept.sum() if reduction == "mean_over_positives" else kept.numel())
    assert count.shape == ()


@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize(
    "options", [{}, {"gamma": 0}, {"weight": [0.1, 0.2, 0.3, 0]}, {"label_smoothing": 0.2}], ids=str
)
def test_sums_over_counts_are_the_softmax_loss_of_all_batches(target: str, options: dict[str, Any]) -> None:
    loss, x, y = SoftmaxFocalLoss(**options), noise(9, 4, 2), classes(9, 2)
    y[::3, 1] = -100
    if target == "probabilities":
        y = torch.softmax(noise(9, 4, 2, seed=4), dim=1)

    def of_batches(x: Tensor) -> Tensor:
        parts = [loss.sum_and_count(x[i : i + 3], y[i : i + 3]) for i in (0, 3, 6)]
        total, count = (sum(column) for column in zip(*parts, strict=True))
        return total / count

    same(both(of_batches, x), both(loss, x, y))
    weights = torch.tensor(options.get("weight", [1] * 4), dtype=torch.float64)
    wanted = 18 if target == "probabilities" else weights[y[y >= 0]].sum()
    torch.testing.assert_close(loss.sum_and_count(x, y)[1].double(), torch.as_tensor(wanted).double())
    assert loss.sum_and_count(x, torch.full((9, 2), -100))[1] == 0


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64])
def test_positives_are_counted_in_any_dtype(kind: torch.dtype) -> None:
    x, y = noise(300, 3, dtype=torch.float32), torch.ones(300, 3)
    y[0, 0] = 0
    for ignore_index, wanted in ((None, 899), (0, 899), (1, 0)):
        loss = SigmoidFocalLoss(reduction="mean_over_positives", ignore_index=ignore_index)
        count = loss.sum_and_count(x, y.to(kind))[1]
        assert count == wanted  # neither bfloat16 nor a byte can hold 899
        traced = torch.func.vmap(loss.sum_and_count)(x[None], y.to(kind)[None])[1]
        assert traced == wanted
        assert traced.dtype == count.dtype


def test_counts_are_tensors_where_the_targets_lie() -> None:
    x, y, t = noise(6, 4), coins(6, 4), classes(6)
    for loss, target in (
        (SigmoidFocalLoss(), y),
        (SigmoidFocalLoss(reduction="mean_over_positives"), y),
        (SoftmaxFocalLoss(), t),
        (SoftmaxFocalLoss(weight=[1, 2, 3, 4]), t),
        (SoftmaxFocalLoss(), y),
    ):
        real, meta = loss.sum_and_count(x, target)[1], loss.sum_and_count(x.to("meta"), target.to("meta"))[1]
        assert (real.device.type, meta.device.type) == ("cpu", "meta")
        assert real.dtype == meta.dtype
        assert real.shape == meta.shape == ()


def test_sums_without_a_divisor_count_as_a_mean() -> None:
    x, y, t = noise(6, 4), coins(6, 4), classes(6)
    for reduction in ("mean", "sum", "none"):
        total, count = SigmoidFocalLoss(reduction=reduction).sum_and_count(x, y)
        torch.testing.assert_close(total, sigmoid_focal_loss(x, y).sum())
        assert count == 24
        total, count = SoftmaxFocalLoss(reduction=reduction, weight=[1, 2, 3, 4]).sum_and_count(x, t)
        torch.testing.assert_close(total, softmax_focal_loss(x, t, weight=[1, 2, 3, 4], reduction="sum"))
        assert count == (t + 1).sum()
    assert SigmoidFocalLoss(normalizer=7).sum_and_count(x, y)[1] == 24


# -- derivatives


MODULES = {
    "sigmoid": (SigmoidFocalLoss(0.3, 1.5), (5, 4), coins(5, 4)),
    "sigmoid, pair": (SigmoidFocalLoss(0.3, (3.0, 0.5), "none"), (5, 4), coins(5, 4)),
    "sigmoid, soft": (SigmoidFocalLoss(gamma=2, label_smoothing=0.1, weight=[1, 2, 3, 4]), (5, 4), coins(5, 4)),
    "sigmoid, ignored": (SigmoidFocalLoss(ignore_index=0, weight=[1, 2, 3, 4]), (5, 4), coins(5, 4)),
    "softmax": (SoftmaxFocalLoss(gamma=1.5), (5, 4), classes(5)),
    "softmax, lists": (SoftmaxFocalLoss([1, 2, 3, 4], [0, 0.5, 2, 3], weight=[2, 1, 1, 3]), (3, 4, 2), classes(3, 2)),
    "softmax, soft": (SoftmaxFocalLoss(gamma=2, label_smoothing=0.1, reduction="none"), (5, 4), classes(5)),
    "softmax, probabilities": (SoftmaxFocalLoss(gamma=2), (5, 4), torch.softmax(noise(5, 4, seed=8), 1)),
}
each_module = pytest.mark.parametrize("name", MODULES)


@each_module
def test_first_and_second_derivatives(name: str) -> None:
    module, shape, target = MODULES[name]
    x = noise(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, target, 3 if module.reduction == "mean" else None), x)
    assert torch.autograd.gradgradcheck(lambda x: module(x, target), x)


@each_module
def test_a_second_way_back(name: str) -> None:
    module, shape, target = MODULES[name]
    x = noise(*shape).requires_grad_()
    value = module(x, target).sum()
    value.backward(retain_graph=True)
    once = x.grad.clone()
    value.backward()
    torch.testing.assert_close(x.grad, 2 * once)
    assert once.abs().sum() > 0


# -- compiled, exported, moved, saved

dynamos_own_warning = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated", "ignore:`torch.jit.script_method`"
)


FIRST_COMPILED = ("sigmoid, soft", "sigmoid, ignored", "softmax, lists")


@pytest.mark.parametrize("name", tiers(MODULES, FIRST_COMPILED))
@dynamos_own_warning
def test_compiled_without_a_graph_break(name: str) -> None:
    module, shape, target = MODULES[name]
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    same(both(compiled, noise(*shape), target), both(module, noise(*shape), target), rtol=1e-9)


@pytest.mark.full
@pytest.mark.parametrize("gamma", [2.0, 1.5])
@dynamos_own_warning
def test_functions_compiled_for_any_number_of_rows(gamma: float) -> None:
    """With dynamic shapes dynamo traces the settings too: they are no more Python numbers."""
    torch._dynamo.reset()
    compile_ = functools.partial(torch.compile, fullgraph=True, dynamic=True, backend="aot_eager")
    sigmoid, softmax = compile_(sigmoid_focal_loss), compile_(softmax_focal_loss)
    for rows in (6, 7):
        for got, function, arguments in [
            (sigmoid, sigmoid_focal_loss, (noise(rows), coins(rows), 0.25, gamma)),
            (softmax, softmax_focal_loss, (noise(rows, 4), classes(rows), 0.25, gamma)),
        ]:
            same(both(got, *arguments), both(function, *arguments), rtol=1e-9)


@pytest.mark.full
@dynamos_own_warning
def test_compiled_sums_and_counts() -> None:
    torch._dynamo.reset()
    loss = SigmoidFocalLoss(reduction="mean_over_positives")
    compiled = torch.compile(loss.sum_and_count, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(noise(6, 4), coins(6, 4)), loss.sum_and_count(noise(6, 4), coins(6, 4)))


@pytest.mark.full
@dynamos_own_warning
def test_a_compiled_training_step_with_a_normalizer() -> None:
    torch._dynamo.reset()
    x, y, normalizer = noise(16, 3, dtype=torch.float32), classes(16), torch.tensor(11)

    def trained(wrap: Callable[..., Any]) -> Tensor:
        torch.manual_seed(0)
        model, loss = torch.nn.Linear(3, 4), SoftmaxFocalLoss(gamma=2.0, weight=[1, 2, 3, 4])
        step = wrap(lambda x, y, n: loss(model(x), y, n) + sigmoid_focal_loss(model(x)[:, 0], (y == 0).float()).mean())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            step(x, y, normalizer).backward()
            optimizer.step()
        return model.weight.detach()

    torch.testing.assert_close(trained(lambda f: torch.compile(f, fullgraph=True)), trained(lambda f: f))


@pytest.mark.parametrize("name", tiers(MODULES, FIRST_COMPILED))
@dynamos_own_warning
def test_exported_for_any_batch(name: str) -> None:
    module, shape, target = MODULES[name]
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(module, (noise(*shape), target), dynamic_shapes=(batch, batch)).module()
    x, y = noise(*shape, seed=6)[:2], target[:2]
    torch.testing.assert_close(program(x, y), module(x, y))


TRACED: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    **{name: (module, target) for name, (module, shape, target) in MODULES.items() if shape == (5, 4)},
    "sigmoid, a schedule": (SigmoidFocalLoss(gamma=parfocal.GammaSchedule([0.3], [4, 1])), coins(5, 4)),
    "sigmoid, positives": (SigmoidFocalLoss(reduction="mean_over_positives"), coins(5, 4)),
    "sigmoid, function": (functools.partial(sigmoid_focal_loss, gamma=1.5), coins(5, 4)),
    "softmax, function": (functools.partial(softmax_focal_loss, weight=[1, 2, 3, 4]), classes(5)),
    "core, binary": (lambda x, y: parfocal.BinaryFocalCrossentropy(from_logits=True)(y, x), coins(5, 4)),
    "core, sparse": (
        lambda x, y: parfocal.SparseCategoricalFocalCrossentropy(from_logits=True, reduction="none")(y, x),
        classes(5),
    ),
}


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_jit_trace_with_its_check(name: str, dtype: torch.dtype) -> None:
    loss, target = TRACED[name]
    target = target.to(dtype) if target.is_floating_point() else target
    traceable = loss if isinstance(loss, torch.nn.Module) else lambda x, y: loss(x, y)
    for needs_gradient in (False, True):
        traced = torch.jit.trace(traceable, (noise(5, 4, dtype=dtype).requires_grad_(needs_gradient), target))
        x, y = noise(5, 4, seed=6, dtype=dtype)[:3], target[:3]  # another batch, and a smaller one
        same(both(traced, x, y), both(loss, x, y), rtol=1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.full
@dynamos_own_warning
def test_functions_compiled_with_lists_and_schedules() -> None:
    z, y, lists = noise(6, 4), classes(6), {"alpha": [1, 2, 3, 4], "gamma": [0, 1, 2, 3], "weight": [4, 3, 2, 1]}
    for options in (lists, {"gamma": parfocal.FLSD53}, {"label_smoothing": 0.1, "normalizer": 7}):
        torch._dynamo.reset()
        loss = functools.partial(softmax_focal_loss, targets=y, **options)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(z), softmax_focal_loss(z, y, **options))


@each_module
def test_meta_tensors(name: str) -> None:
    module, shape, target = MODULES[name]
    value = copy.deepcopy(module).to("meta")(torch.empty(shape, device="meta"), target.to("meta"))
    assert value.device.type == "meta"
    assert value.shape == module(noise(*shape), target).shape


@each_module
def test_copies_compute_the_same(name: str) -> None:
    module, shape, target = MODULES[name]
    wanted = module(noise(*shape), target)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(noise(*shape), target), wanted)
        assert repr(twin) == repr(module)
    assert module.state_dict() == {}


def test_buffers_move_and_keep_their_numbers() -> None:
    loss = SoftmaxFocalLoss([0.1, 0.2, 0.7], [1.0, 2.0, 3.3], weight=torch.tensor([1.0, 2.0, 3.0]))
    assert {name for name, _ in loss.named_buffers()} == {"alpha", "gamma", "weight"}
    wanted = loss(noise(5, 3), classes(5, high=3))
    assert loss.half().gamma.dtype == torch.float16
    assert loss.double().gamma.tolist() == [1.0, 2.0, 3.3]
    assert torch.equal(loss(noise(5, 3), classes(5, high=3)), wanted)
    assert loss.to("meta").alpha.device.type == "meta"
    assert loss.to_empty(device="cpu").weight.tolist() == [1.0, 2.0, 3.0]
    assert SigmoidFocalLoss(gamma=(2.0, 1.0)).gamma.tolist() == [2.0, 1.0]
    assert SigmoidFocalLoss(weight=[1.0, 2.0]).weight.tolist() == [1.0, 2.0]


def test_a_checkpoint_in_a_new_process(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"net": torch.nn.Linear(3, 3), "loss": SoftmaxFocalLoss([1, 2, 3])})
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save(model["loss"], tmp_path / "loss.pt")
    code = f"""
import torch
from parfocal.torch import SoftmaxFocalLoss
model = torch.nn.ModuleDict({{"net": torch.nn.Linear(3, 3), "loss": SoftmaxFocalLoss([1, 2, 3])}})
print(model.load_state_dict(torch.load({str(tmp_path / "state.pt")!r}, weights_only=True)))
loss = torch.load({str(tmp_path / "loss.pt")!r}, weights_only=False)
print(loss, loss(torch.zeros(1, 3), torch.tensor([2])).item())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "All keys matched" in out
    assert f"{model['loss']} {model['loss'](torch.zeros(1, 3), torch.tensor([2])).item()}" in out


def test_what_changes_before_the_backward_pass() -> None:
    """Weights were copied; targets of a reduced loss were read in the forward pass; those of other losses must stay."""
    logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    for weight in (torch.ones(3, dtype=torch.float64), torch.ones(3)):
        loss = sigmoid_focal_loss(logits, target, weight=weight, reduction="none")
        weight.zero_()
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert (gradient != 0).all()
    for function, labels in ((SigmoidFocalLoss(), target.clone()), (SoftmaxFocalLoss(), torch.tensor([0]))):
        scores = logits if labels.ndim and len(labels) == 3 else logits[None]
        loss = function(scores, labels)
        labels.zero_()
        loss.backward()
    loss = sigmoid_focal_loss(logits, target, reduction="none")
    target.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_loss_that_is_kept_does_not_keep_the_logits(reduction: str) -> None:
    """People add up losses without detach(); torch lets go of what it saved once the backward pass is over."""
    for function, scores, labels in (
        (SigmoidFocalLoss(reduction=reduction), noise(6), coins(6)),
        (SoftmaxFocalLoss(reduction=reduction), noise(6, 4), classes(6)),
    ):
        logits = scores.requires_grad_() * 1
        loss = function(logits, labels)
        loss.sum().backward()
        node = loss.grad_fn
        while not hasattr(node, "batch"):
            node = node.next_functions[0][0]
        assert node.batch.scores is None
        assert node.batch.source is None
        assert node.gradient is None
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.sum().backward()
