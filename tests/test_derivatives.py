"""Second derivatives, and every way there is to ask for derivatives, in the libraries that differentiate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from mpmath import mp, mpf

import oracle
import parfocal
from cases import smallest_normal
from libraries import Library, numpys, precision
from tiers import tiers

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy
Function, Product, Matrix = Callable[[Any], Any], Callable[[Any, Any], Any], list[list[mpf]]

TOLERANCE = {np.float32: 2e-6, np.float64: 2e-14}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
GAMMAS = (0.0, 0.3, 1 - 1e-10, 1 + 1e-10, 2.0, 10.0)

# -- the ways to the second derivative of a summed loss, times a vector: each makes (scores, vector) -> product


def torch_twice_back(f: Function) -> Product:
    def product(s: Any, v: Any) -> Any:
        s = s.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(f(s), s, create_graph=True)
        return torch.autograd.grad(gradient, s, v)[0]

    return product


def torch_forward_over_reverse(f: Function) -> Product:
    return lambda s, v: torch.func.jvp(torch.func.grad(f), (s,), (v,))[1]


def torch_reverse_over_reverse(f: Function) -> Product:
    return lambda s, v: torch.func.vjp(torch.func.grad(f), s)[1](v)[0]


def jax_forward_over_reverse(f: Function) -> Product:
    return jax.jit(lambda s, v: jax.jvp(jax.grad(f), (s,), (v,))[1])


def jax_reverse_over_reverse(f: Function) -> Product:
    return jax.jit(lambda s, v: jax.vjp(jax.grad(f), s)[1](v)[0])


def tf_tape_in_tape(f: Function) -> Product:
    import tensorflow as tf

    def product(s: Any, v: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(s)
            with tf.GradientTape() as inner:
                inner.watch(s)
                value = f(s)
            gradient = inner.gradient(value, s)
        return outer.gradient(gradient, s, output_gradients=v)

    return product


def tf_function(f: Function) -> Product:
    import tensorflow as tf

    return tf.function(tf_tape_in_tape(f))


WAYS = {
    torch_twice_back: Library.TORCH,
    torch_forward_over_reverse: Library.TORCH,
    torch_reverse_over_reverse: Library.TORCH,
    jax_forward_over_reverse: Library.JAX,
    jax_reverse_over_reverse: Library.JAX,
    tf_tape_in_tape: Library.TENSORFLOW,
    tf_function: Library.TENSORFLOW,
}
SLOW = (jax_forward_over_reverse, jax_reverse_over_reverse, tf_function)  # they compile each case

# torch's own forward mode uses what torch deprecates
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


# -- cases, and their exact Hessians, row by row


class Case(NamedTuple):
    loss: type
    settings: dict[str, Any]
    labels: Any
    scores: np.ndarray


X = [0, 1e-6, -1e-6, 17, -17, 89, -89, 1e4, -1e4]
BOTH, SOFT = np.repeat([0.0, 1.0], len(X))[:, None], np.resize([0.05, 0.3, 0.875, 0.5, 1.0], 2 * len(X))[:, None]
LOGITS = np.tile(X, 2)[:, None]
# 1 - p and the division by the sum round nothing here.
P = np.tile([2**-20, 0.25, 0.5, 0.75, 0.96875, 1 - 2**-20], 2)[:, None]
P_LABELS, P_SOFT = np.repeat([0.0, 1.0], 6)[:, None], np.resize([0.25, 0.875, 0.5, 0.0, 1.0], 12)[:, None]
ROWS = np.asarray([[0, 1e-6, -1e-6], [17, -17, 0], [89, -89, 1e-6], [17, 17, -89], [-17, 0, 1e4], [1e4, -1e4, 0]])
Z, T = np.repeat(ROWS, 3, axis=0), np.tile([0, 1, 2], len(ROWS))
MIXED = np.asarray([[0.25, 0.5, 0.25], [0.0625, 0.875, 0.0625], [0.0, 0.375, 0.625]])[T]
SHARES = np.repeat([[0.25, 0.5, 0.25], [0.125, 0.125, 0.25], [2**-10, 1 - 2**-9, 2**-10]], 3, axis=0)
S = np.tile([0, 1, 2], 3)
LISTS = {"alpha": [0.25, 0.5, 3.0], "gamma": [0.3, 2.0, 10.0]}

EVERY_GAMMA = {
    "binary": Case(Binary, {"apply_class_balancing": True}, BOTH, LOGITS),
    "linear": Case(Binary, {"apply_class_balancing": True}, SOFT, LOGITS),
    "expected": Case(Binary, {"soft_labels": "expected"}, SOFT, LOGITS),
    "sparse": Case(Sparse, {"alpha": 0.5}, T, Z),
}
CASES = {
    f"{name}, {gamma}": case._replace(settings={**case.settings, "gamma": gamma})
    for name, case in EVERY_GAMMA.items()
    for gamma in GAMMAS
} | {
    "a pair": Case(Binary, {"gamma": (0.3, 2.0)}, BOTH.astype(int), LOGITS),
    "a pair, expected": Case(Binary, {"gamma": (10.0, 0.3), "soft_labels": "expected"}, SOFT, LOGITS),
    "probabilities": Case(Binary, {"from_logits": False, "gamma": 0.3}, P_LABELS, P),
    "probabilities, linear": Case(Binary, {"from_logits": False}, P_SOFT, P),
    "probabilities, expected": Case(Binary, {"from_logits": False, "soft_labels": "expected"}, P_SOFT, P),
    "sparse, lists, ignored": Case(Sparse, {**LISTS, "ignore_class": 2}, T, Z),
    "sparse, smoothed, ignored": Case(Sparse, {"ignore_class": 0, "label_smoothing": 0.1875}, T, Z),
    "dense, one-hot": Case(Categorical, {"gamma": 0.3}, np.eye(3)[T], Z),
    "dense, lists": Case(Categorical, LISTS, MIXED, Z),
    "sparse probabilities": Case(Sparse, {**LISTS, "from_logits": False, "ignore_class": 1}, S, SHARES),
    "dense probabilities": Case(Categorical, {"from_logits": False, "gamma": 0.3}, MIXED[: len(S)], SHARES),
}
COMPILED = ("linear, 10.0", "expected, 0.3", "sparse, 0.3", "dense, lists", "sparse probabilities")


FIRST = (jax_forward_over_reverse, np.float32, "dense, lists")  # of those that compile


def tried() -> Iterator[Any]:
    for way, dtype, name in itertools.product(WAYS, (np.float32, np.float64), CASES):
        if way not in SLOW or (name in COMPILED and (dtype is np.float32 or way is not tf_function)):
            marks = [pytest.mark.full] * (way in SLOW and (way, dtype, name) != FIRST)
            yield pytest.param(way, dtype, name, id=f"{way.__name__}-{dtype.__name__}-{name}", marks=marks)


@cache
def exact(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Every row's second derivatives, and the sums of their absolute terms."""
    case = CASES[name]
    rows = binary_row if case.loss is Binary else softmax_row
    scores = case.scores.astype(dtype).astype(float)
    found = [rows(case, label, row) for label, row in zip(case.labels, scores.tolist(), strict=True)]
    truth, scale = (np.asarray(matrices, dtype=np.float64) for matrices in zip(*found, strict=True))
    return truth, scale


def binary_row(case: Case, label: np.ndarray, row: list[float]) -> tuple[Matrix, Matrix]:
    loss, y = case.loss(**case.settings).parameters, float(label[0])
    gammas, weights, rule = loss.gammas, loss.weights, loss.soft_labels
    if not case.settings.get("from_logits", True):
        bends = oracle.hessian(
            lambda p: oracle.binary_loss_of_probability(p[0], y, gammas, weights, rule), row, oracle.digits_for(50)
        )
        return bends, [[abs(bends[0][0])]]
    bends = oracle.hessian(lambda x: oracle.binary_loss(x[0], y, gammas, weights, rule), row, oracle.digits_for(*row))
    with mp.workdps(oracle.digits_for(*row)):
        if rule == "linear" and y not in (0, 1):
            return bends, [[oracle.linear_scale(row[0], y, gammas[1], weights)[1]]]
        sides = [(-1, 1 - y), (1, y)]
        return bends, [
            [mp.fsum(w * s * oracle.curvature_scale(sign * mpf(row[0]), g)
                     for (sign, s), w, g in zip(sides, weights, gammas, strict=True))]
        ]  # fmt: skip


def softmax_row(case: Case, label: Any, row: list[float]) -> tuple[Matrix, Matrix]:
    loss, n = case.loss(**case.settings).parameters, len(row)
    ignored = case.loss is Sparse and label == loss.ignore_class
    y = np.eye(n)[label] if case.loss is Sparse else label
    y = y * (1 - loss.label_smoothing) + loss.label_smoothing / n
    weights = [0.0 if ignored else w for w in (y * np.asarray(loss.alpha)).tolist()]
    gammas = np.broadcast_to(loss.gamma, n).tolist()
    if not case.settings.get("from_logits", True):
        bends = oracle.hessian(lambda s: oracle.softmax_loss_of_scores(s, weights, gammas), row, 60)
        largest = max(abs(bend) for line in bends for bend in line)
        return bends, [[largest] * n] * n
    # q below 1e-1000 gives no float64 number, whatever gamma is
    digits = min(oracle.digits_for(*row), 1100)
    bends = oracle.hessian(lambda z: oracle.softmax_loss(z, weights, gammas), row, digits)
    with mp.workdps(oracle.digits_for(*row)):
        return bends, oracle.softmax_hessian_scale(row, weights, gammas)


def arguments(library: Library, name: str, dtype: type) -> tuple[parfocal.Loss, Any, Any]:
    """The summed loss, and labels and scores of the library."""
    case = CASES[name]
    labels = case.labels.astype(dtype) if case.labels.dtype == np.float64 else case.labels
    loss = case.loss(**{"from_logits": True, **case.settings}, dtype=np.dtype(dtype).name, reduction="sum")
    return loss, library.array(labels), library.array(case.scores.astype(dtype))


def assert_exact(got: np.ndarray, truth: np.ndarray, scale: np.ndarray, dtype: type) -> None:
    """To the promised digits of the sum of absolute terms; no NaN, and no zero unless those terms cancel."""
    tolerance = TOLERANCE[dtype]
    assert got.dtype == dtype
    tiny = 4 * smallest_normal(dtype)  # which XLA and TensorFlow lose, where a term is not a normal number
    error = np.abs(got - truth)
    assert (error <= tolerance * scale + tiny).all(), (np.max(error / (scale + tiny)), got, truth)
    assert (got[np.abs(truth) >= 2 * np.maximum(tiny, tolerance * scale)] != 0).all()


@forward_mode
@pytest.mark.parametrize(("way", "dtype", "name"), list(tried()))
def test_second_derivatives(way: Any, dtype: type, name: str) -> None:
    """Each column of every row's Hessian; its diagonal is the curvature."""
    library, scores, columns = WAYS[way], CASES[name].scores, np.eye(CASES[name].scores.shape[1])
    truth, scale = exact(name, dtype)
    with precision(dtype), np.errstate(all="ignore"):
        loss, labels, given = arguments(library, name, dtype)
        product = way(lambda s: loss(labels, s))
        for j, vector in enumerate(columns):
            v = library.array(np.broadcast_to(vector, scores.shape).astype(dtype))
            assert_exact(numpys(product(given, v)), truth[:, :, j], scale[:, :, j], dtype)
        curvature = numpys(loss.curvature(labels, given))
    assert_exact(curvature, *(np.diagonal(rows, axis1=1, axis2=2) for rows in (truth, scale)), dtype)


@forward_mode
@DTYPES
@pytest.mark.parametrize("name", ["sparse, 2.0", "dense, lists", "sparse probabilities"])
@pytest.mark.parametrize("way", tiers([way for way in WAYS if way is not tf_function], WAYS.keys() - set(SLOW)))
def test_second_derivatives_along_a_vector(way: Any, name: str, dtype: type) -> None:
    library, vector = WAYS[way], np.asarray([1.0, -2.0, 0.5])
    truth, scale = exact(name, dtype)
    with precision(dtype), np.errstate(all="ignore"):
        loss, labels, given = arguments(library, name, dtype)
        v = library.array(np.broadcast_to(vector, CASES[name].scores.shape).astype(dtype))
        product = numpys(way(lambda s: loss(labels, s))(given, v))
    assert_exact(product, truth @ vector, scale @ np.abs(vector), dtype)
