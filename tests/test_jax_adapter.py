"""parfocal.jax: optax's calls, with one import exchanged."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import parfocal
from parfocal.jax import sigmoid_focal_loss, softmax_focal_loss

RNG = np.random.default_rng(0)
Z = jnp.asarray(RNG.normal(size=(6, 4)) * 3, jnp.float32)
T = jnp.asarray([0, 1, 2, 3, 1, 0])
ONE_HOT = jax.nn.one_hot(T, 4)
SOFT = jnp.asarray(RNG.dirichlet(np.ones(4), size=6), jnp.float32)
MASK = jnp.asarray(RNG.random((6, 4)) < 0.7).at[:, 0].set(True)


def close(got: Any, exact: Any, relative: float = 2e-6) -> None:
    """optax is right to 1.8e-6 itself."""
    np.testing.assert_allclose(got, exact, rtol=relative, atol=1e-7)


@pytest.mark.full
@pytest.mark.parametrize("labels", [ONE_HOT, SOFT, T[:, None] > 1, jnp.asarray([0, 1, 1, 0])], ids=str)
@pytest.mark.parametrize("arguments", [{}, {"alpha": 0.3}, {"gamma": 0.5}, {"alpha": 0.9, "gamma": 3}], ids=str)
def test_sigmoid_is_optax_s(labels: jax.Array, arguments: dict[str, Any]) -> None:
    close(sigmoid_focal_loss(Z, labels, **arguments), optax.sigmoid_focal_loss(Z, labels, **arguments))
    for ours, theirs in zip(
        *(
            jax.grad(lambda z, f=f: f(z, labels, **arguments).sum())(Z)
            for f in (sigmoid_focal_loss, optax.sigmoid_focal_loss)
        ),
        strict=True,
    ):
        close(ours, theirs, 5e-6)


@pytest.mark.full
def test_softmax_at_gamma_0_is_optax_s() -> None:
    close(softmax_focal_loss(Z, T, gamma=0), optax.softmax_cross_entropy_with_integer_labels(Z, T))
    for labels in (ONE_HOT, SOFT):
        close(softmax_focal_loss(Z, labels, gamma=0), optax.softmax_cross_entropy(Z, labels))
    turned = softmax_focal_loss(Z.T, ONE_HOT.T, gamma=0, axis=0)
    close(turned, optax.softmax_cross_entropy(Z, ONE_HOT))
    close(softmax_focal_loss(Z[0], T[0], gamma=0), optax.softmax_cross_entropy_with_integer_labels(Z[0], T[0]))


def test_a_mask_leaves_out_rows_or_classes() -> None:
    rows = jnp.asarray([True, False, True, True, False, True])
    for labels in (T, ONE_HOT):
        whole, masked = softmax_focal_loss(Z, labels), softmax_focal_loss(Z, labels, where=rows)
        np.testing.assert_array_equal(masked, jnp.where(rows, whole, 0))
    close(softmax_focal_loss(Z, SOFT, gamma=0, where=MASK), optax.softmax_cross_entropy(Z, SOFT, where=MASK), 5e-6)
    # A class that is left out does not count: the others have the loss of a smaller softmax.
    kept = jnp.asarray([True, True, False, True])
    few = softmax_focal_loss(Z[:, kept], jnp.asarray([0, 1, 0, 2, 1, 0]), gamma=1.5, alpha=[1.0, 2.0, 3.0])
    many = softmax_focal_loss(Z, T, gamma=1.5, alpha=[1.0, 2.0, 9.0, 3.0], where=jnp.broadcast_to(kept, Z.shape))
    close(many[jnp.asarray([0, 1, 3, 4, 5])], few[jnp.asarray([0, 1, 3, 4, 5])])
    assert many[2] == 0  # its label is left out
    element = sigmoid_focal_loss(Z, ONE_HOT, where=MASK)
    np.testing.assert_array_equal(element, jnp.where(MASK, sigmoid_focal_loss(Z, ONE_HOT), 0))


@pytest.mark.parametrize("what", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_a_mask_leaves_out_leaves_no_trace(what: float) -> None:
    z = Z.at[1].set(what).at[3, 2].set(what)
    mask = jnp.ones_like(z, bool).at[1].set(False).at[3, 2].set(False)
    for loss in (
        lambda z: sigmoid_focal_loss(z, ONE_HOT, where=mask).sum(),
        lambda z: softmax_focal_loss(z, T, where=mask).sum(),
        lambda z: softmax_focal_loss(z, SOFT, where=mask).sum(),
    ):
        value, gradient = jax.value_and_grad(loss)(z)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()
        assert (gradient[1] == 0).all()
        assert gradient[3, 2] == 0
        assert (gradient[0] != 0).all()


def test_alpha_and_gamma_per_class() -> None:
    alpha, gamma = [0.2, 1.0, 3.0, 0.5], [0.0, 1.0, 2.5, 4.4]
    loss = parfocal.SparseCategoricalFocalCrossentropy(alpha, gamma, True, reduction=None)
    for given in ((alpha, gamma), (np.asarray(alpha), jnp.asarray(gamma)), (jnp.asarray(alpha), tuple(gamma))):
        got = softmax_focal_loss(Z, T, alpha=given[0], gamma=given[1])
        close(got, loss(np.asarray(T), np.asarray(Z)))
    pair = sigmoid_focal_loss(Z, ONE_HOT, gamma=(4.0, 1.0))
    exact = jnp.where(ONE_HOT == 1, sigmoid_focal_loss(Z, ONE_HOT, gamma=1), sigmoid_focal_loss(Z, ONE_HOT, gamma=4))
    close(pair, exact)


def test_traced_alpha_and_gamma_of_the_sigmoid_loss() -> None:
    gammas = jnp.asarray([0.0, 0.3, 2.0, 4.4], jnp.float32)
    for gamma, loss in zip(gammas, jax.vmap(lambda g: sigmoid_focal_loss(Z, SOFT, gamma=g))(gammas), strict=True):
        close(loss, sigmoid_focal_loss(Z, SOFT, gamma=float(gamma)))
    traced = jax.jit(lambda a, g: sigmoid_focal_loss(Z, ONE_HOT, alpha=a, gamma=g))
    close(traced(0.3, 2.0), sigmoid_focal_loss(Z, ONE_HOT, alpha=0.3))
    assert jnp.isnan(traced(0.3, -1.0)).all()
    close(jax.jit(lambda g: softmax_focal_loss(Z, T, gamma=g))(2.0), softmax_focal_loss(Z, T))


def test_dtypes_and_extremes() -> None:
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        assert sigmoid_focal_loss(Z.astype(dtype), ONE_HOT).dtype == dtype
        assert softmax_focal_loss(Z.astype(dtype), T).dtype == dtype
    x = jnp.asarray([-1e4, -89.0, -16.2, 0.0, 17.0, 89.0])
    for gamma in (0.0, 0.5, 2.0):
        gradient = jax.grad(lambda x, g=gamma: sigmoid_focal_loss(x, 1, gamma=g).sum())(x)
        assert jnp.isfinite(gradient).all()
        np.testing.assert_allclose(gradient[:2], [-1, -1])


def test_mistakes() -> None:
    bad = jnp.asarray([0.0, 2.0, -1.0])
    np.testing.assert_array_equal(jnp.isnan(sigmoid_focal_loss(jnp.zeros(3), bad)), [False, True, True])
    np.testing.assert_array_equal(jnp.isnan(softmax_focal_loss(Z[:3], jnp.asarray([0, 4, -1]))), [False, True, True])
    for call, error, message in (
        (
            lambda: sigmoid_focal_loss(Z, T),
            ValueError,
            r"labels of shape \(6,\) do not broadcast to \(6, 4\); for one number a row write labels\[:, None\]. "
            r"For class indices use softmax_focal_loss",
        ),
        (
            lambda: sigmoid_focal_loss(T, T[:, None]),
            ValueError,
            r"do not broadcast to \(6,\); write labels.reshape\(6,\)",
        ),
        (lambda: softmax_focal_loss(Z, T, where=T[:2] > 0), ValueError, r"where of shape \(2,\) does not .* \(6,\)$"),
        (lambda: sigmoid_focal_loss(Z, ONE_HOT, alpha=2), ValueError, "alpha must be one number"),
        (lambda: sigmoid_focal_loss(Z, ONE_HOT, gamma=-1), ValueError, "gamma must be a number from 0"),
        (lambda: sigmoid_focal_loss(Z, ONE_HOT, where=MASK[0, :3]), ValueError, "where of shape"),
        (lambda: softmax_focal_loss(Z, T[:5]), ValueError, r"\(5,\)"),
        (lambda: softmax_focal_loss(Z, T, alpha=[1, 2]), ValueError, "alpha has 2 numbers"),
        (lambda: softmax_focal_loss(Z, T, axis=3), ValueError, "axis 3 is out of range"),
        (lambda: sigmoid_focal_loss(Z + 1j, ONE_HOT), TypeError, "logits must hold real numbers"),
        (lambda: sigmoid_focal_loss(Z, ["yes"]), TypeError, "labels must hold real numbers"),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: softmax_focal_loss(jnp.zeros((2, 1)), jnp.zeros(2, int)), "softmax_focal_loss .* logits have shape"),
        (lambda: softmax_focal_loss(jnp.zeros((2, 1)), jnp.zeros(2, int)), "use sigmoid_focal_loss"),
        (lambda: softmax_focal_loss(jnp.zeros((2, 3)), jnp.zeros((2, 2), int)), r"indices have the shape \(2,\)"),
        (lambda: softmax_focal_loss(jnp.zeros((2, 3)), T, gamma=[1, 2]), "logits have 3 classes"),
        (lambda: softmax_focal_loss(jnp.zeros(3), 0, axis=4), "axis 4 is out of range for logits"),
        (lambda: sigmoid_focal_loss(jnp.zeros(3), "abc"), "labels must hold real numbers"),
        (lambda: sigmoid_focal_loss("abc", jnp.zeros(3)), "abc"),
    ],
)
def test_errors_name_what_the_caller_wrote(call: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as raised:
        call()
    assert not re.search("y_true|y_pred|sample_weight|crossentropy", str(raised.value))
