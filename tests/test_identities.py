"""What must hold between losses, whatever the numbers: identities beat decimals."""

from __future__ import annotations

from types import ModuleType

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import parfocal
from parfocal.core import formula, probability, softmax

pytestmark = pytest.mark.usefixtures("two_kernels")

logits = arrays(np.float64, (4, 3), elements=st.floats(-800, 800))
Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy


def settings_of(**more: object) -> dict[str, object]:
    return {"from_logits": True, "reduction": None, "dtype": "float64", **more}


def derivatives(loss: parfocal.Loss, labels: object, scores: np.ndarray) -> list[np.ndarray]:
    return [*loss.value_and_grad(labels, scores), loss.curvature(labels, scores)]


@given(logits)
def test_gamma_0_is_cross_entropy(z: np.ndarray) -> None:
    binary = parfocal.binary_focal_crossentropy(np.ones_like(z), z, gamma=0, from_logits=True)
    np.testing.assert_allclose(binary, np.logaddexp(0, -z).mean(axis=-1), rtol=1e-15, atol=2.3e-308)
    labels = np.asarray([[0.2, 0.3, 0.5]] * 4)
    categorical = parfocal.categorical_focal_crossentropy(labels, z, alpha=1, gamma=0, from_logits=True)
    log_p = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    np.testing.assert_allclose(categorical, -(labels * log_p).sum(axis=-1), rtol=1e-12)


@given(arrays(np.float64, (5, 1), elements=st.floats(-500, 500)), st.sampled_from([0.0, 0.3, 1.0, 2.0, 7.5]))
def test_a_softmax_of_two_classes_is_a_sigmoid(x: np.ndarray, gamma: float) -> None:
    two = np.concatenate([np.zeros_like(x), x], axis=-1)
    for label in (0, 1):
        one = derivatives(Binary(gamma=gamma, **settings_of()), np.full(x.shape, label), x)
        sparse = derivatives(Sparse(1.0, gamma, **settings_of()), [label] * 5, two)
        np.testing.assert_allclose(sparse[0], one[0], rtol=1e-14)
        np.testing.assert_allclose(sparse[1][:, 1:], one[1], rtol=1e-14)
        np.testing.assert_allclose(sparse[1][:, :1], -one[1], rtol=1e-14)
        np.testing.assert_allclose(sparse[2][:, 1:], one[2], rtol=1e-13, atol=1e-300)


@given(logits, st.sampled_from([0.0, 0.5, 2.0, 3.0]))
def test_one_hot_labels_are_class_indices(z: np.ndarray, gamma: float) -> None:
    alphas, gammas, indices = [0.2, 0.5, 3.0], [gamma, 1.0, gamma + 1], np.asarray([0, 1, 2, 1])
    sparse = derivatives(Sparse(alphas, gammas, **settings_of()), indices, z)
    dense = derivatives(Categorical(alphas, gammas, **settings_of()), np.eye(3)[indices], z)
    # A label of 1e-300 beside the 1 changes nothing, but takes the way of soft labels.
    soft = derivatives(Categorical(alphas, gammas, **settings_of()), np.eye(3)[indices] + 1e-300 * (z < 0), z)
    for a, b, c in zip(sparse, dense, soft, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-13, atol=1e-290)


@given(logits, st.sampled_from([0.0, 0.5, 2.0]))
def test_a_shift_of_all_logits_changes_nothing(z: np.ndarray, gamma: float) -> None:
    """A shift by a power of two is exact where the logits are multiples of it."""
    z = np.round(z)
    for labels in (np.eye(3)[[0, 1, 2, 0]], np.full((4, 3), 1 / 3)):
        loss = Categorical(1.0, gamma, **settings_of())
        for a, b in zip(derivatives(loss, labels, z), derivatives(loss, labels, z + 4096.0), strict=True):
            np.testing.assert_array_equal(a, b)


@given(logits)
def test_gradients_sum_to_zero(z: np.ndarray) -> None:
    for labels in (np.eye(3)[[0, 1, 2, 0]], np.asarray([[0.6, 0.1, 0.3]] * 4)):
        gradient = Categorical([0.2, 0.5, 3.0], [0.5, 1.0, 2.0], **settings_of()).value_and_grad(labels, z)[1]
        assert (np.abs(gradient.sum(axis=-1)) <= 1e-12 * np.abs(gradient).sum(axis=-1) + 1e-300).all()


@given(arrays(np.float64, (3, 4, 2), elements=st.floats(-50, 50)))
def test_the_class_axis_may_lie_anywhere(z: np.ndarray) -> None:
    indices = np.arange(6).reshape(3, 2) % 4
    along = Sparse([1, 2, 3, 4], [0, 1, 2, 3], axis=1, **settings_of())
    last = Sparse([1, 2, 3, 4], [0, 1, 2, 3], **settings_of())
    one, other = derivatives(along, indices, z), derivatives(last, indices, np.moveaxis(z, 1, -1))
    np.testing.assert_array_equal(one[0], other[0])
    for a, b in zip(one[1:], other[1:], strict=True):
        np.testing.assert_array_equal(a, np.moveaxis(b, -1, 1))
    dense = Categorical([1, 2, 3, 4], [0, 1, 2, 3], axis=1, **settings_of())
    labels = np.moveaxis(np.eye(4)[indices], -1, 1)
    for a, b in zip(one, derivatives(dense, labels, z), strict=True):
        np.testing.assert_array_equal(a, b)


@given(logits, st.floats(0, 1))
def test_expected_is_the_expectation_of_the_hard_labels(x: np.ndarray, y: float) -> None:
    loss = Binary(True, 0.3, (1.5, 3.0), soft_labels="expected", **settings_of())
    soft = derivatives(loss, np.full(x.shape, y), x)
    hard_1, hard_0 = derivatives(loss, np.ones_like(x), x), derivatives(loss, np.zeros_like(x), x)
    for a, b, c in zip(soft, hard_1, hard_0, strict=True):
        size = np.abs(y * b) + np.abs((1 - y) * c)
        assert (np.abs(a - (y * b + (1 - y) * c)) <= 1e-14 * size + 1e-300).all()


@given(logits, st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
def test_linear_is_continuous_at_hard_labels(x: np.ndarray, gamma: float) -> None:
    loss = Binary(True, 0.3, gamma, **settings_of())
    for label, close in ((0.0, 1e-300), (1.0, np.nextafter(1.0, 0.0))):
        hard, soft = (derivatives(loss, np.full(x.shape, y), np.clip(x, -15, 15)) for y in (label, close))
        for a, b in zip(hard, soft, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_gamma_is_continuous(gamma: float) -> None:
    x = np.linspace(-30, 30, 61)[:, None]
    for near in (gamma + 1e-10, abs(gamma - 1e-10)):
        for a, b in zip(
            derivatives(Binary(gamma=gamma, **settings_of()), np.ones_like(x), x),
            derivatives(Binary(gamma=near, **settings_of()), np.ones_like(x), x),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-7)


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 1.0])
def test_smoothing_is_done_to_the_labels(smoothing: float) -> None:
    x = np.asarray([[0.3, -2.0], [1.0, 4.0]])
    y = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    smoothed = derivatives(Binary(label_smoothing=smoothing, **settings_of()), y, x)
    for a, b in zip(
        smoothed, derivatives(Binary(**settings_of()), y * (1 - smoothing) + smoothing / 2, x), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-15)  # not equal: 1 - y is smoothed apart
    smoothed = derivatives(Sparse(label_smoothing=smoothing, **settings_of()), [0, 1], x)
    for a, b in zip(
        smoothed, derivatives(Categorical(**settings_of()), y * (1 - smoothing) + smoothing / 2, x), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_probabilities_and_logits_agree_where_nothing_is_clipped() -> None:
    x = np.linspace(-10, 10, 41)[:, None]
    p = 1 / (1 + np.exp(-x))
    for loss in ({"gamma": 2.0}, {"gamma": 0.5, "label_smoothing": 0.2}):
        from_logits = Binary(**loss, **settings_of())(np.ones_like(x), x)
        from_probabilities = Binary(**loss, reduction=None, dtype="float64")(np.ones_like(x), p)
        np.testing.assert_allclose(from_probabilities, from_logits, rtol=1e-11)
    z = np.random.default_rng(1).normal(size=(20, 4))
    labels = np.arange(20) % 4
    softmax = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        Sparse(reduction=None, dtype="float64")(labels, softmax), Sparse(**settings_of())(labels, z), rtol=1e-13
    )


def test_the_other_notation() -> None:
    """Lin et al. write p_t and alpha_t; with a modulated label it is -alpha_t (1 - p_t)^gamma log(p_t)."""
    x, y = np.asarray([[-1.2], [0.4]]), np.asarray([[1], [0]])
    p = 1 / (1 + np.exp(-x))
    p_t, alpha_t = np.where(y == 1, p, 1 - p), np.where(y == 1, 0.25, 0.75)
    np.testing.assert_allclose(
        Binary(True, 0.25, 2.0, **settings_of())(y, x), (-alpha_t * (1 - p_t) ** 2 * np.log(p_t))[:, 0], rtol=1e-14
    )


def test_inputs_are_not_modified_and_layout_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    z, y = rng.normal(size=(6, 5)), (rng.random((6, 5)) < 0.3).astype(np.float64)
    for loss in (Binary(**settings_of()), Categorical(**settings_of(label_smoothing=0.1))):
        expected = derivatives(loss, y, z)
        kept_z, kept_y = z.copy(), y.copy()
        z.flags.writeable = y.flags.writeable = False
        for scores in (z, np.asfortranarray(z), np.repeat(z, 2, axis=0)[::2], z.astype(">f8"), z[:, ::-1][:, ::-1]):
            for a, b in zip(expected, derivatives(loss, y, scores), strict=True):
                np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(z, kept_z)
        np.testing.assert_array_equal(y, kept_y)


def test_blocks_do_not_show() -> None:
    """Large arrays are computed in pieces; the answer is that of one piece."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=50_001) * 5
    y = rng.choice([0.0, 1.0, 0.3], size=x.size, p=[0.9, 0.09, 0.01])
    loss = Binary(**settings_of())
    whole = loss.value_and_grad(y[:, None], x[:, None])
    parts = [loss.value_and_grad(y[i : i + 977, None], x[i : i + 977, None]) for i in range(0, x.size, 977)]
    np.testing.assert_array_equal(whole[0], np.concatenate([part[0] for part in parts]))
    np.testing.assert_array_equal(whole[1], np.concatenate([part[1] for part in parts]))
    z = rng.normal(size=(9_001, 7))
    labels = rng.integers(0, 7, size=9_001)
    sparse = Sparse(**settings_of())
    np.testing.assert_array_equal(sparse(labels, z)[8_000:], sparse(labels[8_000:], z[8_000:]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 4.4])
def test_the_formula_runs_in_any_array_namespace(gamma: float, dtype: str) -> None:
    """The strictest namespace there is gives NumPy's bits, and in float32 the promised digits without float64."""
    z = np.asarray([[0.3, -700.0, 2.0], [1e4, 1.0, -1e4], [np.inf, 0.0, -np.inf], [5.0, 5.0, -60.3]], dtype=dtype)
    y = np.asarray([[0.2, 0.3, 0.5]] * 4, dtype=dtype)
    target, one_hot = np.asarray([[True, False, False]] * 4), np.asarray([[1.0, 0.0, 0.0]] * 4, dtype=dtype)

    def everything_on(xp: ModuleType) -> list[object]:
        a, b, hard, t = (xp.asarray(array) for array in (z, y, one_hot, target))
        return [
            *formula.binary_hard(xp, a, hard, gamma, 0.25, 0.75, 2),
            *formula.binary_expected(xp, a, b, 1 - b, gamma, 1.0, 0.25, 0.75, 2),
            *formula.binary_linear(xp, a, formula.sides(xp, a, b, 1 - b, 0.25, 0.75), gamma, 2),
            *softmax.hard(xp, a, t, gamma, 2),
            *softmax.dense(xp, a, b, gamma, 2),
            *probability.focal(xp, b, 1 - b, gamma, 2),
            *probability.binary_linear(xp, b, 1 - b, b, 1 - b, gamma, 0.25, 0.75, 2),
            *probability.softmax(xp, b, b, 1 - b, xp.sum(b, axis=-1, keepdims=True), b, gamma, 2),
            formula.log_pull(xp, a, gamma),
        ]

    with np.errstate(all="ignore"):
        for numpys, stricts in zip(everything_on(np), everything_on(array_api_strict), strict=True):
            assert str(numpys.dtype) == dtype
            np.testing.assert_array_equal(numpys, np.asarray(stricts))


@pytest.mark.parametrize("gamma", [0.3, 2.0, 4.4, 10.0])
def test_the_formula_itself_is_exact_in_float32(gamma: float) -> None:
    """What NumPy computes in float64 other libraries compute in float32, from the same lines."""
    m = np.linspace(-80, 80, 1601, dtype=np.float32)
    with np.errstate(all="ignore"):
        exact = formula.focal(np, m.astype(np.float64), gamma, 1)
        for narrow, wide in zip(formula.focal(np, m, gamma, 1), exact, strict=True):
            normal = np.abs(wide) >= np.finfo(np.float32).tiny
            np.testing.assert_allclose(narrow[normal], wide[normal], rtol=7e-7)
