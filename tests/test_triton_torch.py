"""The torch adapter on a GPU, with tensors of the processor in its place and interpreted kernels (test_triton.py)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import parfocal.torch
from parfocal.backends import gpu, torch_gpu
from parfocal.backends import torch as backends
from parfocal.backends.triton import launch, self_check
from test_triton import near, quicker_calls

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")

__all__ = ["quicker_calls"]  # a fixture


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain tensors of the processor go where those of a GPU go."""
    ordinary = backends.backend

    def backend(scores: Tensor, labels: Any, weight: Any, differentiable: bool, host: Any) -> Any:
        found = None if differentiable else torch_gpu.backend(scores, labels, weight, host)
        return found or ordinary(scores, labels, weight, differentiable, host)

    monkeypatch.setattr(torch_gpu, "KINDS", ("cpu",))
    monkeypatch.setattr(backends, "backend", backend)
    for kind in ("sums", "binary", "indices", "dense"):
        torch_gpu.kernels(torch.device("cpu"), kind)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are launched."""
    names: list[str] = []
    before = launch.launch

    def noted(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        names.append(kernel.fn.__name__)
        before(kernel, programs, *arguments, **constants)

    monkeypatch.setattr(launch, "launch", noted)
    return names


torch.manual_seed(0)
X, Y = 3 * torch.randn(40), (torch.rand(40) < 0.3).float()
Z, CLASSES = 3 * torch.randn(12, 5), torch.randint(0, 5, (12,))
MARKED, MARKED_CLASSES = Y.clone(), CLASSES.clone()
MARKED[::7], MARKED_CLASSES[::5] = -1, -100
WEIGHT = torch.rand(40)

SIGMOID: dict[str, tuple[Tensor, dict[str, Any]]] = {
    "plain": (Y, {}),
    "bytes": (Y.to(torch.uint8), {"gamma": 1.5}),
    "no alpha": (Y, {"alpha": None, "gamma": 0.0}),
    "ignored": (MARKED, {"ignore_index": -1}),
    "ignored bytes": (MARKED.to(torch.int8), {"ignore_index": -1, "gamma": (0.5, 3.0)}),
    "weights": (Y, {"weight": WEIGHT}),
    "weights and ignored": (MARKED, {"weight": WEIGHT, "ignore_index": -1}),
    "smoothed": (Y, {"label_smoothing": 0.1}),
    "soft": (torch.sigmoid(X.flip(0)), {"soft_labels": "expected"}),
    "a schedule": (Y, {"gamma": parfocal.FLSD53}),
}
SOFTMAX: dict[str, tuple[Tensor, dict[str, Any]]] = {
    "plain": (CLASSES, {}),
    "ignored": (MARKED_CLASSES, {"alpha": 0.5}),
    "per class": (CLASSES, {"alpha": [1, 2, 3, 4, 5], "gamma": [0, 1, 2, 3, 4]}),
    "class weights": (MARKED_CLASSES, {"weight": [1, 2, 3, 4, 5.0]}),
    "a schedule": (CLASSES, {"gamma": parfocal.FLSD53}),
    "smoothed": (CLASSES, {"label_smoothing": 0.1}),
    "smoothed and ignored": (MARKED_CLASSES, {"label_smoothing": 0.2, "weight": [1, 2, 3, 4, 5.0]}),
    "smoothed, a schedule": (CLASSES, {"label_smoothing": 0.1, "gamma": parfocal.FLSD53}),
    "dense": (torch.softmax(Z.flip(0), 1), {}),
    "dense and smoothed": (torch.softmax(Z.flip(0), 1).half(), {"label_smoothing": 0.1, "gamma": [0, 1, 2, 3, 4]}),
}
SIGMOID_LOSS, SOFTMAX_LOSS = parfocal.torch.sigmoid_focal_loss, parfocal.torch.softmax_focal_loss
PLAIN = [(SIGMOID_LOSS, "a schedule")]  # left to operations


def calls() -> Iterator[Any]:
    for name, reduction in itertools.product(SIGMOID, ("none", "sum", "mean", "mean_over_positives")):
        yield pytest.param(
            *(SIGMOID_LOSS, X, SIGMOID, name, reduction), id=f"sigmoid-{name}-{reduction}", marks=later(reduction)
        )
    for name, reduction in itertools.product(SOFTMAX, ("none", "sum", "mean")):
        yield pytest.param(
            *(SOFTMAX_LOSS, Z, SOFTMAX, name, reduction), id=f"softmax-{name}-{reduction}", marks=later(reduction)
        )


def later(reduction: str) -> list[pytest.MarkDecorator]:
    """A sum is a mean without its divisor."""
    return [pytest.mark.full] * (reduction == "sum")


def loss_and_gradient(function: Any, inputs: Tensor, targets: Tensor, factor: Any = None, **options: Any) -> Any:
    inputs = inputs.clone().requires_grad_()
    loss = function(inputs, targets, **options)
    loss.backward(torch.linspace(0.5, 2, loss.numel()).reshape(loss.shape) if factor is None else factor)
    return loss.detach(), inputs.grad


@pytest.mark.parametrize(("function", "inputs", "table", "name", "reduction"), list(calls()))
def test_it_is_the_same_loss(
    function: Any, inputs: Tensor, table: dict[str, Any], name: str, reduction: str, request: pytest.FixtureRequest
) -> None:
    targets, options = table[name]
    expected = loss_and_gradient(function, inputs.double(), targets, reduction=reduction, **options)
    request.getfixturevalue("as_on_gpu")
    names = request.getfixturevalue("launches")
    found = loss_and_gradient(function, inputs, targets, reduction=reduction, **options)
    assert found[0].dtype == found[1].dtype == torch.float32
    near(found[0], expected[0])
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-6, atol=1e-7)
    assert bool(names) == ((function, name) not in PLAIN)


class Counted(TorchDispatchMode):
    """The operations that write memory; views and empty tensors launch nothing."""

    FREE = ("empty", "view", "expand", "detach", "unbind", "alias", "as_strided", "select", "reshape", "unsqueeze")

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.__name__.partition(".")[0]
        if name in ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_to_copy"):
            raise AssertionError(f"{name} waits for the device, or copies")
        if not name.startswith(self.FREE):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("function", "inputs", "targets", "options", "most"),
    [
        (SIGMOID_LOSS, X, Y, {"reduction": "mean"}, 2),
        (SIGMOID_LOSS, X.repeat(30), Y.repeat(30), {"reduction": "mean"}, 3),
        (SIGMOID_LOSS, X, Y, {"reduction": "sum", "weight": WEIGHT}, 2),
        (SIGMOID_LOSS, X, Y, {"reduction": "none"}, 4),
        (SIGMOID_LOSS, X, MARKED, {"reduction": "mean", "ignore_index": -1}, 5),
        (SIGMOID_LOSS, X, Y, {"reduction": "mean_over_positives"}, 5),
        (SOFTMAX_LOSS, Z, CLASSES, {"reduction": "sum"}, 3),
        (SOFTMAX_LOSS, Z, CLASSES, {"reduction": "mean"}, 5),
        (SOFTMAX_LOSS, Z, CLASSES, {"reduction": "mean", "weight": [1, 2, 3, 4, 5.0]}, 5),
        (SOFTMAX_LOSS, Z, CLASSES, {"reduction": "none"}, 4),
        (SOFTMAX_LOSS, Z, CLASSES, {"reduction": "mean", "label_smoothing": 0.1}, 5),
        (SOFTMAX_LOSS, Z, torch.softmax(Z, 1), {"reduction": "mean"}, 3),
    ],
)
@pytest.mark.usefixtures("as_on_gpu")
def test_how_many_launches(
    function: Any, inputs: Tensor, targets: Tensor, options: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels and torch's operations together, forward and backward; and nothing waits for the device."""
    monkeypatch.setattr(torch_gpu, "kernel_reads", lambda *given: True)  # a dispatch mode sends it to operations
    loss_and_gradient(function, inputs, targets, **options)  # tables of class weights are made once
    names: list[str] = []
    monkeypatch.setattr(launch, "launch", lambda kernel, *given, **named: names.append(kernel.fn.__name__))
    inputs = inputs.clone().requires_grad_()
    with Counted(names):
        loss = function(inputs, targets, **options)
    factors = torch.ones_like(loss)
    with Counted(names):
        torch.autograd.grad(loss, inputs, factors)
    assert len(names) <= most, names


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize(("function", "inputs", "targets"), [(SIGMOID_LOSS, X, Y), (SOFTMAX_LOSS, Z, CLASSES)])
def test_one_factor_for_all_losses_is_read_as_it_lies(
    function: Any, inputs: Tensor, targets: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody adds up the losses: it is expanded, and no copy of it is needed."""
    inputs, names = inputs.clone().requires_grad_(), list[str]()
    loss = function(inputs, targets, reduction="none")
    factor = torch.tensor(2.0).expand(loss.shape)
    (gradient,) = torch.autograd.grad(loss, inputs, factor, retain_graph=True)
    (expected,) = torch.autograd.grad(loss, inputs, factor.contiguous(), retain_graph=True)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
    monkeypatch.setattr(launch, "launch", lambda kernel, *given, **named: names.append(kernel.fn.__name__))
    with Counted(names):
        torch.autograd.grad(loss, inputs, factor)
    assert len(names) == 1, names


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
class TestDerivatives:
    def call(self, loss: str, reduction: str) -> tuple[Tensor, Tensor]:
        x = (X if loss == "sigmoid" else Z).clone().requires_grad_()
        if loss == "sigmoid":
            return x, parfocal.torch.sigmoid_focal_loss(x, MARKED, reduction=reduction, ignore_index=-1)
        return x, parfocal.torch.softmax_focal_loss(x, MARKED_CLASSES, reduction=reduction)

    def test_a_second_backward_is_right(self, loss: str, reduction: str) -> None:
        x, value = self.call(loss, reduction)
        factor = torch.full_like(value, 2.0)
        (first,) = torch.autograd.grad(value, x, factor, retain_graph=True)
        kept = first.clone()
        (second,) = torch.autograd.grad(value, x, factor, retain_graph=True)
        (third,) = torch.autograd.grad(value, x, torch.ones_like(value))
        torch.testing.assert_close(first, kept, rtol=0, atol=0)
        torch.testing.assert_close(second, first, rtol=0, atol=0)
        torch.testing.assert_close(third * 2, first, rtol=0, atol=0)

    def test_second_derivatives(self, loss: str, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def product(vector: Tensor) -> Tensor:
            x, value = self.call(loss, reduction)
            (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
            (found,) = torch.autograd.grad((gradient * vector).sum(), x)
            return found

        vector = torch.linspace(-1, 1, (X if loss == "sigmoid" else Z).numel()).reshape(
            (X if loss == "sigmoid" else Z).shape
        )
        found = product(vector)
        monkeypatch.setenv("PARFOCAL_GPU", "torch")
        gpu.forced.cache_clear()
        torch.testing.assert_close(found, product(vector), rtol=2e-6, atol=1e-9)
        gpu.forced.cache_clear()

    def test_batched_gradients(self, loss: str, reduction: str) -> None:
        x, value = self.call(loss, reduction)
        factors = torch.stack([torch.ones_like(value), torch.full_like(value, 2.0)])
        (found,) = torch.autograd.grad(value, x, factors, is_grads_batched=True, retain_graph=True)
        (one,) = torch.autograd.grad(value, x, factors[0])
        torch.testing.assert_close(found, torch.stack([one, 2 * one]), rtol=2e-6, atol=1e-9)

    def test_a_change_before_backward_is_an_error(self, loss: str, reduction: str) -> None:
        x, value = self.call(loss, reduction)
        with torch.no_grad():
            x.mul_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.sum().backward()


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    for function, inputs, targets in (
        (SIGMOID_LOSS, X, Y),
        (SOFTMAX_LOSS, Z, CLASSES),
    ):
        loss, gradient = loss_and_gradient(function, inputs.to(dtype), targets, reduction="mean")
        wide, slopes = loss_and_gradient(function, inputs.to(dtype).float(), targets, reduction="mean")
        assert loss.dtype == gradient.dtype == dtype
        torch.testing.assert_close(loss, wide.to(dtype))
        torch.testing.assert_close(gradient.float(), slopes, rtol=2**-7, atol=2**-20)


@pytest.fixture
def gpu_forgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gpu, "failure", "")
    gpu.forced.cache_clear()
    yield
    monkeypatch.undo()
    gpu.forced.cache_clear()


@pytest.mark.usefixtures("as_on_gpu", "gpu_forgets")
class TestTheChoice:
    def failing(self, *given: Any, **named: Any) -> None:
        raise OSError("no such card")

    def test_a_failure_warns_once_and_operations_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = parfocal.torch.sigmoid_focal_loss(X.double(), Y, reduction="mean")
        monkeypatch.setattr(launch, "launch", self.failing)
        with pytest.warns(RuntimeWarning, match=r"OSError: no such card.*PARFOCAL_GPU=torch"):
            loss, _ = loss_and_gradient(SIGMOID_LOSS, X, Y, reduction="mean")
        again, _ = loss_and_gradient(SIGMOID_LOSS, X, Y, reduction="mean")
        near(loss, expected)
        near(again, expected)
        assert gpu.why() == "torch (Triton failed: OSError: no such card)"

    def test_a_failure_in_backward(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x = X.clone().requires_grad_()
        loss = parfocal.torch.sigmoid_focal_loss(x, Y)
        monkeypatch.setattr(launch, "launch", self.failing)
        with pytest.warns(RuntimeWarning, match="no such card"):
            loss.sum().backward()
        expected = loss_and_gradient(SIGMOID_LOSS, X.double(), Y, torch.ones(40))[1]
        torch.testing.assert_close(x.grad.double(), expected, rtol=1e-6, atol=1e-9)

    def test_where_triton_is_forced_it_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PARFOCAL_GPU", "triton")
        monkeypatch.setattr(launch, "launch", self.failing)
        with pytest.raises(OSError, match="no such card"):
            parfocal.torch.sigmoid_focal_loss(X, Y)
        assert gpu.why() == parfocal.kernel_info()["gpu"] == "triton (PARFOCAL_GPU)"

    def test_torch_can_be_forced(self, monkeypatch: pytest.MonkeyPatch, launches: list[str]) -> None:
        monkeypatch.setenv("PARFOCAL_GPU", "torch")
        parfocal.torch.sigmoid_focal_loss(X, MARKED, ignore_index=-1)
        assert not launches
        assert gpu.why() == "torch (PARFOCAL_GPU)"

    def test_another_name_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PARFOCAL_GPU", "cuda")
        with pytest.raises(ValueError, match="PARFOCAL_GPU must be one of triton, torch; got 'cuda'"):
            parfocal.torch.sigmoid_focal_loss(X, Y)

    def test_where_triton_is_not_installed(self, monkeypatch: pytest.MonkeyPatch, launches: list[str]) -> None:
        monkeypatch.setattr(gpu, "installed", lambda: False)
        parfocal.torch.sigmoid_focal_loss(X, Y)
        assert not launches
        assert gpu.why() == "torch (Triton is not installed)"


def test_wrong_sums_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = launch.launch

    def no_product(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        if kernel.fn.__name__ != "multiply_kernel":
            before(kernel, programs, *arguments, **constants)

    monkeypatch.setattr(launch, "launch", no_product)
    with pytest.raises(ArithmeticError, match="numbers are wrong on cpu"):
        self_check.check(torch.device("cpu"), "sums")


@pytest.mark.usefixtures("as_on_gpu", "gpu_forgets")
@pytest.mark.parametrize("kind", ["binary", "indices", "dense"])
def test_wrong_numbers_of_a_device_are_found_at_its_first_use(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, inputs, targets = (SIGMOID_LOSS, X, Y) if kind == "binary" else (SOFTMAX_LOSS, Z, CLASSES)
    if kind == "dense":
        targets = torch.nn.functional.one_hot(CLASSES, 5).float()
    expected = loss_and_gradient(function, inputs.double(), targets, reduction="mean")
    before = launch.launch

    def slightly_wrong(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        before(kernel, programs, *arguments, **constants)
        for result in (value for value in arguments[4:7] if isinstance(value, Tensor)):  # losses, sums, gradient
            result.mul_(1 + 1e-5)

    monkeypatch.setattr(launch, "launch", slightly_wrong)
    torch_gpu.checked.clear()
    with pytest.warns(RuntimeWarning, match="numbers are wrong on cpu, by a factor of [0-9.]*e-05"):
        found = loss_and_gradient(function, inputs, targets, reduction="mean")
    near(found[0], expected[0])
    near(found[1], expected[1])
