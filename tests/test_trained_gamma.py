"""Derivatives with respect to a gamma or an alpha that is trained, exact at the extremes too, in PyTorch and JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads
from mpmath import mp, mpf
from torch.autograd import gradcheck, gradgradcheck

import oracle
import parfocal
import parfocal.jax
import parfocal.torch
from cases import GAMMAS, LOGITS, SOFTMAX_ROWS, TOLERANCE, smallest_normal
from libraries import precision

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LIBRARY = pytest.mark.parametrize("library", ["torch", "jax"])
QUICK_ROWS = ("a tie on top", "three apart", "nearly one winner")  # the others need thousands of digits, or are alike
RNG = np.random.default_rng(0)


def slopes(library: str, scores: np.ndarray, labels: Any, gamma: np.ndarray, **settings: Any) -> np.ndarray:
    """d(loss)/d(gamma) of every sample, by the library's own differentiation: each has a gamma of its own."""
    sigmoid = scores.ndim == 1
    if library == "torch":
        function: Any = parfocal.torch.sigmoid_focal_loss if sigmoid else parfocal.torch.softmax_focal_loss
        if sigmoid:
            settings = {"alpha": None, **settings}
        found = []
        for x, y in zip(torch.from_numpy(scores), torch.as_tensor(labels), strict=True):
            leaf = torch.from_numpy(gamma.copy()).requires_grad_()
            function(x[None], y[None], gamma=leaf, reduction="sum", **settings).backward()
            assert leaf.grad is not None
            found.append(leaf.grad.numpy())
        return np.asarray(found)
    function = parfocal.jax.sigmoid_focal_loss if sigmoid else parfocal.jax.softmax_focal_loss

    def one(x: Any, y: Any) -> Any:
        return jax.grad(lambda g: function(x[None], y[None], gamma=g, **settings).sum())(jnp.asarray(gamma))

    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(scores), jnp.asarray(labels)))


def compare(got: float, exact: mpf, dtype: type, where: object) -> None:
    if abs(exact) < smallest_normal(dtype):
        assert abs(float(got)) <= 2 * smallest_normal(dtype), where
        return
    error = oracle.relative_error(got, exact, abs(exact))
    assert error <= TOLERANCE[dtype], f"{where}: {got!r}, exact {mp.nstr(exact, 20)}, error {error:.1e}"


@LIBRARY
@DTYPES
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("label", "rule"), [(0, "linear"), (1, "linear"), (0.9, "linear"), (0.25, "expected")])
def test_binary(library: str, dtype: type, gamma: float, label: float, rule: str) -> None:
    x, gamma = np.asarray(LOGITS, dtype=dtype), float(dtype(gamma))
    label = float(dtype(label))
    labels = np.full(x.shape, label, dtype if label % 1 else np.int64)
    with precision(dtype):
        got = slopes(library, x, labels, np.asarray(gamma, dtype), soft_labels=rule)
    for logit, value in zip(x.tolist(), got.tolist(), strict=True):
        digits = oracle.digits_for(logit)

        def loss(g: mpf, logit: float = logit) -> mpf:
            return oracle.binary_loss(mpf(logit), label, (g, g), (1, 1), rule)

        exact = oracle.derivatives(loss, gamma, digits)[1]
        compare(value, exact, dtype, (logit, label, gamma))


@LIBRARY
@DTYPES
@pytest.mark.parametrize("gamma", [0.5, 2.0, *(pytest.param(gamma, marks=pytest.mark.full) for gamma in (0.0, 4.4))])
@pytest.mark.parametrize(
    "row", [name if name in QUICK_ROWS else pytest.param(name, marks=pytest.mark.full) for name in SOFTMAX_ROWS]
)
def test_softmax(library: str, dtype: type, gamma: float, row: int) -> None:
    z, gamma = np.asarray(SOFTMAX_ROWS[row], dtype=dtype), float(dtype(gamma))
    classes, digits = len(z), oracle.digits_for(*z.tolist())
    with precision(dtype):
        each = np.full(classes, gamma, dtype)
        hard = slopes(library, np.tile(z, (classes, 1)), np.arange(classes), np.asarray(gamma, dtype))
        dense = slopes(library, z[None], np.full((1, classes), 0.5, dtype), each)[0]
    for k in range(classes):

        def loss(g: mpf, k: int = k) -> mpf:
            return oracle.focal_of_probability(oracle.softmax([mpf(x) for x in z.tolist()])[k], g)

        exact = oracle.derivatives(loss, gamma, digits)[1]
        compare(hard[k], exact, dtype, (row, k, gamma))
        compare(dense[k], exact / 2, dtype, (row, k, gamma, "dense"))


@LIBRARY
def test_infinite_logits_have_a_slope_of_0(library: str) -> None:
    infinite = np.asarray([-np.inf, np.inf, -1e30, 1e30], np.float32)
    for labels in (np.ones(4, np.int64), np.zeros(4, np.int64), np.ones(4, np.float32)):
        assert not slopes(library, infinite, labels, np.asarray(2.0, np.float32)).any()


# -- second derivatives, by differences


X, Z = RNG.normal(size=5) * 3, RNG.normal(size=(4, 3)) * 2
HARD, SOFT = np.asarray([1.0, 0, 1, 0, 1]), np.asarray([0.9, 0.2, 0.5, 0.0, 1.0])
T, SHARES = np.asarray([0, 2, 1, 0]), RNG.dirichlet(np.ones(3), 4)
CASES: dict[str, tuple[str, Any, np.ndarray, dict[str, Any], dict[str, Any]]] = {
    f"{name}, {rule}": ("sigmoid", labels, X, {"gamma": 1.5, "alpha": 0.3}, {"soft_labels": rule})
    for name, labels in {"hard": HARD, "soft": SOFT}.items()
    for rule in ("linear", "expected")
} | {
    "a pair": ("sigmoid", HARD, X, {"gamma": [0.5, 3.0]}, {}),
    "a pair, expected": ("sigmoid", SOFT, X, {"gamma": [0.5, 3.0]}, {"soft_labels": "expected"}),
    "a pair that is not trained": ("sigmoid", SOFT, X, {"alpha": 0.3}, {"gamma": (0.5, 3), "soft_labels": "expected"}),
    "softmax": ("softmax", T, Z, {"gamma": 1.5, "alpha": 0.7}, {}),
    "softmax, per class": ("softmax", T, Z, {"gamma": [0.5, 1.0, 3.0], "alpha": [1.0, 2.0, 0.5]}, {}),
    "softmax, shares": ("softmax", SHARES, Z, {"gamma": 1.5, "alpha": 0.7}, {}),
    "softmax, shares, per class": ("softmax", SHARES, Z, {"gamma": [0.5, 1.0, 3.0]}, {}),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's forward mode
@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_of_torch(name: str) -> None:
    of, labels, scores, trained, settings = CASES[name]
    function: Any = getattr(parfocal.torch, f"{of}_focal_loss")
    if of == "sigmoid":
        settings = {"alpha": None, **settings}

    def loss(scores: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        named = {**settings, **dict(zip(trained, values, strict=True))}
        return function(scores, torch.as_tensor(labels), **named)

    leaves = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in trained.values()]
    inputs = (torch.tensor(scores, requires_grad=True), *leaves)
    assert gradcheck(loss, inputs, check_forward_ad=True)
    assert gradgradcheck(loss, inputs)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rule", ["linear", "expected"])
@pytest.mark.parametrize("gamma", [1.7, [0.5, 3.0]])
def test_a_trained_setting_has_the_loss_of_a_constant_one(gamma: Any, rule: str, smoothing: float, soft: bool) -> None:
    if isinstance(gamma, list) and rule == "linear" and (soft or smoothing):
        return
    x, y = torch.from_numpy(X), torch.from_numpy(SOFT if soft else HARD)
    settings: dict[str, Any] = {"label_smoothing": smoothing, "soft_labels": rule, "weight": 2.0}
    if not soft:
        settings["ignore_index"] = 1
    exact = parfocal.torch.sigmoid_focal_loss(x, y, 0.3, gamma, "none", **settings)
    alpha, trained = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, gamma))
    for given in ((alpha, gamma), (0.3, trained), (alpha, trained)):
        found = parfocal.torch.sigmoid_focal_loss(x, y, *given, "none", **settings)
        assert torch.allclose(found, exact, rtol=1e-13, atol=0)


def test_labels_are_checked_where_they_can_be() -> None:
    gamma = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(ValueError, match=r"class indices must be .* target holds 7 at position 1"):
        parfocal.torch.softmax_focal_loss(torch.zeros(2, 3), torch.tensor([0, 7]), gamma=gamma)
    with pytest.raises(ValueError, match=r"target holds 2.0 at position 0"):
        parfocal.torch.sigmoid_focal_loss(torch.zeros(2), torch.tensor([2.0, 0.0]), gamma=gamma)
    with pytest.raises(ValueError, match="needs soft_labels='expected'"):
        parfocal.torch.sigmoid_focal_loss(torch.zeros(2), torch.tensor([0.5, 0.0]), gamma=gamma + torch.zeros(2))


def test_gammas_may_be_mapped_over() -> None:
    z, t, gammas = torch.from_numpy(Z), torch.from_numpy(T), torch.tensor([0.0, 1.0, 2.5], dtype=torch.float64)

    def loss(gamma: torch.Tensor) -> torch.Tensor:
        return parfocal.torch.softmax_focal_loss(z, t, gamma=gamma)

    each = torch.stack([loss(gamma) for gamma in gammas])
    assert torch.allclose(torch.func.vmap(loss)(gammas), each, rtol=1e-12)
    slopes = torch.func.vmap(torch.func.grad(loss))(gammas)
    assert torch.allclose(slopes, torch.stack([torch.func.grad(loss)(gamma) for gamma in gammas]), rtol=1e-12)


def test_an_alpha_that_leaves_its_range_is_nan() -> None:
    with pytest.raises(ValueError, match="alpha must be one number in"):
        parfocal.torch.SigmoidFocalLoss(torch.nn.Parameter(torch.tensor(-1.0)))
    loss = parfocal.torch.SigmoidFocalLoss(torch.nn.Parameter(torch.tensor(0.5)))
    with torch.no_grad():
        loss.alpha.fill_(1.5)
    assert loss(torch.zeros(2), torch.ones(2)).isnan()


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_of_jax(name: str) -> None:
    of, labels, scores, trained, settings = CASES[name]
    function: Any = getattr(parfocal.jax, f"{of}_focal_loss")
    with precision(np.float64):

        def loss(scores: Any, *values: Any) -> Any:
            return function(scores, jnp.asarray(labels), **settings, **dict(zip(trained, values, strict=True))).sum()

        arrays = (jnp.asarray(scores), *(jnp.asarray(value) for value in trained.values()))
        check_grads(loss, arrays, order=2, modes=["fwd", "rev"], rtol=1e-4, atol=1e-5)


# -- as a module, compiled, refused


def test_a_module_trains_its_gamma_and_alpha() -> None:
    gamma, alpha = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(0.25))
    loss = parfocal.torch.SigmoidFocalLoss(alpha, gamma)
    assert dict(loss.named_parameters()).keys() == {"alpha", "gamma"}
    assert loss.state_dict().keys() == {"alpha", "gamma"}
    x, y = torch.from_numpy(X).float(), torch.from_numpy(HARD).float()
    constant = parfocal.torch.SigmoidFocalLoss(0.25, 2.0)
    assert torch.allclose(loss(x, y), constant(x, y), rtol=1e-6)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    loss(x, y).backward()
    assert gamma.grad is not None
    assert gamma.grad < 0
    optimizer.step()
    now = parfocal.torch.SigmoidFocalLoss(alpha.item(), gamma.item())
    assert torch.allclose(loss(x, y), now(x, y), rtol=1e-6)
    assert loss.optimal_logit(0.1) == now.optimal_logit(0.1)
    assert torch.equal(loss.posterior(x), now.posterior(x))
    assert torch.allclose(loss.sum_and_count(x, y)[0], now.sum_and_count(x, y)[0], rtol=1e-6)
    moved = loss.double()
    assert torch.allclose(moved(x.double(), y), now(x, y).double(), rtol=1e-6)
    other = torch.func.functional_call(loss, {"gamma": torch.tensor(0.0), "alpha": torch.tensor(0.5)}, (x, y))
    assert torch.allclose(2 * other, torch.nn.functional.binary_cross_entropy_with_logits(x, y))


def test_classes_of_a_module_that_are_trained() -> None:
    gamma, alpha = (torch.nn.Parameter(torch.tensor(values)) for values in ([1.0, 2.0, 3.0], [0.5, 1.0, 2.0]))
    loss = parfocal.torch.SoftmaxFocalLoss(alpha, gamma, weight=[1.0, 2.0, 3.0], ignore_index=1)
    z, t = torch.from_numpy(Z).float(), torch.from_numpy(T)
    constant = parfocal.torch.SoftmaxFocalLoss([0.5, 1, 2], [1, 2, 3], weight=[1.0, 2.0, 3.0], ignore_index=1)
    value = loss(z, t)
    assert torch.allclose(value, constant(z, t), rtol=1e-6)
    value.backward()
    assert gamma.grad is not None
    assert alpha.grad is not None
    assert gamma.grad[1] == alpha.grad[1] == 0  # of the class that is ignored
    assert gamma.grad[0] != 0
    assert torch.equal(loss.posterior(z), constant.posterior(z))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler, in torch itself
def test_it_compiles() -> None:
    loss = parfocal.torch.SoftmaxFocalLoss(gamma=torch.nn.Parameter(torch.tensor(2.0)))
    z, t = torch.from_numpy(Z).float(), torch.from_numpy(T)
    loss(z, t).backward()
    eager, loss.gamma.grad = loss.gamma.grad, None
    torch.compile(loss, fullgraph=True, backend="aot_eager")(z, t).backward()
    assert torch.allclose(loss.gamma.grad, eager)


def test_a_negative_gamma_is_nan_as_its_value_is_not_read() -> None:
    gamma = torch.tensor(-1.0, requires_grad=True)
    with pytest.raises(ValueError, match="gamma must be a number from 0"):
        parfocal.torch.sigmoid_focal_loss(torch.zeros(2), torch.ones(2), gamma=gamma)
    loss = parfocal.torch.SigmoidFocalLoss(gamma=torch.nn.Parameter(torch.tensor(0.0)))
    with torch.no_grad():
        loss.gamma.fill_(-1.0)
    assert loss(torch.zeros(2), torch.ones(2)).isnan()


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda g: parfocal.binary_focal_crossentropy([1.0], [0.0], gamma=g), TypeError, "parfocal.torch and"),
        (lambda g: parfocal.BinaryFocalCrossentropy(alpha=g), TypeError, "alpha asks for a gradient"),
        (
            lambda g: parfocal.torch.softmax_focal_loss(torch.zeros(2, 3), torch.zeros(2).long(), gamma=g[None] * 1),
            ValueError,
            "gamma has 1 number and input has 3 classes",
        ),
        (
            lambda g: parfocal.torch.softmax_focal_loss(torch.zeros(2, 3), torch.ones(2, 3) / 3, alpha=g.repeat(3)),
            ValueError,
            "only with class indices",
        ),
    ],
)
def test_where_it_is_not_offered(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call(torch.tensor(0.5, requires_grad=True))


def test_a_trained_variable_of_tensorflow_is_refused() -> None:
    class Variable:
        trainable = True

    with pytest.raises(TypeError, match="gamma asks for a gradient"):
        parfocal.BinaryFocalCrossentropy(gamma=Variable())


def test_a_traced_gamma_of_the_core_is_refused() -> None:
    with pytest.raises(TypeError, match="gamma is traced, and is a constant here"):
        jax.grad(lambda g: parfocal.binary_focal_crossentropy([1.0], jnp.zeros(1), gamma=g).sum())(2.0)


def test_a_traced_gamma_has_one_number_per_class() -> None:
    with pytest.raises(ValueError, match="one for each of the 3 classes"):
        jax.grad(lambda g: parfocal.jax.softmax_focal_loss(jnp.asarray(Z), jnp.asarray(T), gamma=g).sum())(jnp.ones(2))
    with pytest.raises(ValueError, match="or a pair"):
        jax.grad(lambda g: parfocal.jax.sigmoid_focal_loss(jnp.asarray(X), jnp.asarray(HARD), gamma=g).sum())(
            jnp.ones(3)
        )
