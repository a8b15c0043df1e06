"""Compiled graphs on a GPU: the operators, with tensors of the processor in its place and interpreted kernels."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import parfocal.torch
from parfocal.backends import torch_ops
from parfocal.backends.triton import launch
from test_torch_adapter import dynamos_own_warning
from test_triton import near, quicker_calls
from test_triton_torch import (
    CLASSES,
    MARKED,
    MARKED_CLASSES,
    PLAIN,
    SIGMOID,
    SIGMOID_LOSS,
    SOFTMAX,
    SOFTMAX_LOSS,
    WEIGHT,
    X,
    Y,
    Z,
    as_on_gpu,
    gpu_forgets,
    launches,
    loss_and_gradient,
)
from tiers import tiers

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
    pytest.mark.usefixtures("as_on_gpu"),
    dynamos_own_warning,
]

__all__ = ["as_on_gpu", "gpu_forgets", "launches", "quicker_calls"]  # fixtures


def compiled(function: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(functools.partial(function, **options), fullgraph=True, backend="aot_eager")


QUICK = ("plain", "weights and ignored", "class weights", "smoothed and ignored")  # the first tier, with a mean


def tables() -> list[Any]:
    reductions = ("none", "mean", "mean_over_positives")
    sigmoid = [(SIGMOID_LOSS, X, name, given, r) for name, given in SIGMOID.items() for r in reductions]
    softmax = [(SOFTMAX_LOSS, Z, name, given, r) for name, given in SOFTMAX.items() for r in reductions[:2]]
    return [
        pytest.param(
            *case,
            id=f"{case[0].__name__}-{case[2]}-{case[4]}",
            marks=[pytest.mark.full] * (case[2] not in QUICK or case[4] != "mean"),
        )
        for case in (*sigmoid, *softmax)
    ]


@pytest.mark.parametrize(("function", "inputs", "name", "given", "reduction"), tables())
def test_compiled_without_a_graph_break(
    function: Any, inputs: Tensor, name: str, given: Any, reduction: str, launches: list[str]
) -> None:
    targets, options = given
    expected = loss_and_gradient(function, inputs, targets, reduction=reduction, **options)
    launches.clear()
    found = loss_and_gradient(compiled(function, reduction=reduction, **options), inputs, targets)
    assert bool(launches) == ((function, name) not in PLAIN)
    torch.testing.assert_close(found[0], expected[0], rtol=2e-7, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    for function, inputs, targets in ((SIGMOID_LOSS, X, Y), (SOFTMAX_LOSS, Z, CLASSES)):
        found = loss_and_gradient(compiled(function, reduction="mean"), inputs.to(dtype), targets)
        expected = loss_and_gradient(function, inputs.to(dtype), targets, reduction="mean")
        torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-20)


@pytest.mark.parametrize("shown", ["a slice", "other axes", "other axes of classes"])
def test_results_have_the_strides_that_the_graph_was_told(shown: str) -> None:
    z, y = torch.randn(6, 5, 8), (torch.rand(6, 5, 8) < 0.3).float()
    inputs = z[:, :, ::2] if shown == "a slice" else z.permute(2, 0, 1)
    targets = y[:, :, ::2] if shown == "a slice" else y.permute(2, 0, 1)
    function = SIGMOID_LOSS
    if shown == "other axes of classes":
        function, targets = SOFTMAX_LOSS, torch.randint(0, 6, (8, 5))
    found = loss_and_gradient(compiled(function, reduction="none"), inputs, targets)
    expected = loss_and_gradient(function, inputs, targets, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["Binary", "Sparse"])
def test_the_losses_of_other_adapters(loss: str, launches: list[str]) -> None:
    """Keras's names, on tensors: losses and gradients at once, by Keras's rule for weights."""
    if loss == "Binary":
        core, inputs, labels = parfocal.BinaryFocalCrossentropy(from_logits=True), X.reshape(8, 5), Y.reshape(8, 5)
    else:
        core = parfocal.SparseCategoricalFocalCrossentropy(from_logits=True, ignore_class=2)
        inputs, labels = Z, CLASSES
    weight = torch.rand(len(inputs))
    expected = core.value_and_grad(labels, inputs.double(), weight)
    for call in (core.value_and_grad, compiled(core.value_and_grad)):
        launches.clear()
        found = call(labels, inputs, weight)
        assert launches
        near(found[0], expected[0])
        torch.testing.assert_close(found[1].double(), expected[1], rtol=2e-6, atol=1e-9)


@pytest.mark.full
def test_by_inductor(launches: list[str]) -> None:
    """With the layer before it, as people compile a training step."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer, loss, x = torch.nn.Linear(3, 5), parfocal.torch.SoftmaxFocalLoss(), torch.randn(12, 3)
    expected = torch.autograd.grad(loss(layer(x), MARKED_CLASSES), layer.parameters())
    launches.clear()
    step = torch.compile(lambda: loss(layer(x), MARKED_CLASSES), fullgraph=True)
    found = torch.autograd.grad(step(), layer.parameters())
    assert launches
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("function", [SIGMOID_LOSS, SOFTMAX_LOSS])
def test_any_number_of_rows(function: Any) -> None:
    torch._dynamo.reset()
    wanted = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    inputs, targets = (X, Y) if function is SIGMOID_LOSS else (Z, CLASSES)
    for rows in (6, 7, 12):
        found = loss_and_gradient(wanted, inputs[:rows], targets[:rows], gamma=1.5, reduction="mean")
        expected = loss_and_gradient(function, inputs[:rows], targets[:rows], gamma=1.5, reduction="mean")
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["SigmoidFocalLoss", "SoftmaxFocalLoss"])
def test_exported_for_any_batch(name: str, launches: list[str]) -> None:
    """And what was exported has second derivatives."""
    module = getattr(parfocal.torch, name)()
    inputs, targets = (X, Y) if name == "SigmoidFocalLoss" else (Z, CLASSES)
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(module, (inputs, targets), dynamic_shapes=(batch, batch))
    assert "parfocal.loss" in str(exported.graph)
    program, x = exported.module(), inputs[:5]
    torch.testing.assert_close(
        loss_and_gradient(program, x, targets[:5]), loss_and_gradient(module, x, targets[:5]), rtol=1e-6, atol=1e-9
    )
    assert launches
    second = torch.autograd.functional.hessian(lambda z: program(z, targets[:5]), x)
    near(second, torch.autograd.functional.hessian(lambda z: module(z.double(), targets[:5]), x.double()), rtol=2e-6)


FIVE = [1.0, 2.0, 3.0, 4.0, 5.0]
SAMPLES: list[tuple[Any, ...]] = [
    (X, Y, None, None, None, 1.0, 1, [2.0], [], [], 0.0, False, None, None, False),
    (X, MARKED, WEIGHT, None, None, 2.0, 20, [1.5], [], [0.25], 0.0, False, None, -1, True),
    (X, Y, None, torch.tensor(3), None, 1.0, 1, [2.0], [], [0.25], 0.1, True, None, None, True),
    (Z, CLASSES, None, None, None, 1.0, 1, [2.0], [], [0.25], 0.0, False, 1, -100, False),
    (
        Z,
        MARKED_CLASSES,
        None,
        torch.tensor(9),
        None,
        1.0,
        1,
        [5, 3],
        [0.2],
        FIVE,
        0.0,
        False,
        1,
        -100,
        True,
    ),
]


@pytest.mark.parametrize(
    ("needs_gradient", "which"),
    tiers(
        itertools.product([False, True], range(5)), first=[(True, 0), (False, 3), (False, 1), (False, 2), (False, 4)]
    ),
)
def test_opcheck(needs_gradient: bool, which: int) -> None:
    scores, *others = SAMPLES[which]
    scores = scores.clone().requires_grad_(needs_gradient)
    torch.library.opcheck(torch.ops.parfocal.loss.default, (scores, *others))
    summed = others[-1]
    upstream = torch.tensor(2.0) if summed else torch.ops.parfocal.loss(scores.detach(), *others)
    others[3] = upstream.requires_grad_(needs_gradient)
    torch.library.opcheck(torch.ops.parfocal.gradient.default, (scores, *others))


@pytest.mark.parametrize("which", range(5))
def test_parameters_survive_the_operators(which: int) -> None:
    """What goes into an operator comes out as the same batch."""
    scores, labels, weight, divisor, _, *settings = SAMPLES[which]
    batch = torch_ops.batch_of(scores, labels, weight, tuple(settings))
    given = torch_ops.divisor_of(divisor, tuple(settings))
    again = torch_ops.arguments_of(batch, given, settings[-1])
    assert torch_ops.divisor_of(again[3], again[5:]) == given
    assert list(again[7:]) == settings[2:]


@pytest.mark.usefixtures("gpu_forgets")
@pytest.mark.parametrize("fails", ["forward", "backward", "the count"])
@pytest.mark.parametrize("reduction", tiers(["mean", "none"], first=["mean"]))
@pytest.mark.parametrize("function", [SIGMOID_LOSS, SOFTMAX_LOSS])
def test_operations_take_over_from_failing_kernels(
    function: Any, reduction: str, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled or not; a count fails before the loss does."""

    def failing(*given: Any, **named: Any) -> None:
        raise OSError("no such card")

    inputs, targets = (X, MARKED) if function is SIGMOID_LOSS else (Z, MARKED_CLASSES)
    options: dict[str, Any] = {"reduction": reduction, "ignore_index": -1 if function is SIGMOID_LOSS else -100}
    factor = torch.ones(()) if reduction == "mean" else torch.linspace(0.5, 2, len(inputs))
    expected = loss_and_gradient(function, inputs.double(), targets, factor, **options)
    call = functools.partial(function, **options) if fails == "the count" else compiled(function, **options)
    if fails == "backward":
        call(inputs.clone().requires_grad_(), targets).sum().backward()
    x = inputs.clone().requires_grad_()
    if fails == "backward":
        loss = call(x, targets)
        monkeypatch.setattr(launch, "launch", failing)
        with pytest.warns(RuntimeWarning, match="no such card"):
            loss.backward(factor)
    else:
        monkeypatch.setattr(launch, "launch", failing)
        with pytest.warns(RuntimeWarning, match="no such card"):
            loss = call(x, targets)
        loss.backward(factor)
    near(loss, expected[0])
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), expected[1], rtol=2e-6, atol=1e-9)


def test_functional_transforms_stay_with_operations(launches: list[str]) -> None:
    def slope(x: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda x: SIGMOID_LOSS(x, Y, reduction="sum"))(x)
        return gradient

    torch._dynamo.reset()
    found = torch.compile(slope, fullgraph=True, backend="aot_eager")(X)
    assert not launches
    near(found, loss_and_gradient(SIGMOID_LOSS, X.double(), Y, torch.tensor(1.0), reduction="sum")[1])


def test_weights_with_a_gradient_stay_with_operations(launches: list[str]) -> None:
    weight = torch.ones(40, requires_grad=True)
    torch._dynamo.reset()
    loss = torch.compile(lambda x, w: SIGMOID_LOSS(x, Y, weight=w, reduction="sum"), backend="aot_eager")
    loss(X, weight).backward()
    assert not launches
    torch.testing.assert_close(weight.grad, SIGMOID_LOSS(X, Y))
