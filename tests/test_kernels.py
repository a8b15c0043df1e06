"""The native kernels against the formula in NumPy: every shape, type and layout, threads, forks, and which one runs."""

from __future__ import annotations

import csv
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # gives NumPy its bfloat16
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernel_errors
import parfocal
from parfocal.backends import kernel
from parfocal.boosting import gradient_and_curvature

NATIVE = [name for name in kernel.available() if name != "numpy"]
Binary, Dense = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy
FLOATS = ("float16", "float32", "float64", "bfloat16")
INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
GAMMAS = (0.0, 0.3, 1.0, 1 + 1e-10, 2.0, 3.0, 4.4)
ROUNDING = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 3e-6, "float64": 1e-13}


def terms(loss: Any, y: Any, x: np.ndarray, weight: Any) -> tuple[np.ndarray, ...]:
    return (*loss.value_and_grad(y, x, weight), loss.curvature(y, x, weight))


def both(loss: Any, y: Any, x: np.ndarray, weight: Any = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """The terms of every native kernel, each beside those of the formula computed in float64."""
    wide = type(loss).from_config({**loss.get_config(), "dtype": "float64"})
    kernel.use("numpy")
    expected = terms(wide, y, x.astype(np.float64), weight)
    pairs = []
    for name in NATIVE:
        kernel.use(name)
        given_back = terms(loss, y, x, weight)
        assert all(np.shape(a) == np.shape(b) for a, b in zip(given_back, expected, strict=True))
        assert given_back[1].dtype == x.dtype
        pairs += list(zip(given_back, expected, strict=True))
    return pairs


def assert_close(pairs: list[tuple[np.ndarray, np.ndarray]], dtype: str) -> None:
    """Relative to the larger of value and 1: where terms cancel, the sum of their sizes is the measure."""
    for got, expected in pairs:
        got = np.asarray(got, dtype=np.float64)
        scale = np.maximum(np.abs(expected), 1e-2)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(got[~finite], expected[~finite])
        np.testing.assert_array_less((np.abs(got - expected) / scale)[finite], ROUNDING[dtype] * 10)


def layouts(array: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers, differently stored."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "every second":
        return np.repeat(array, 2, axis=0)[::2]
    if layout == "backwards":
        return array[::-1].copy()[::-1]
    if layout == "other end":
        return array.astype(array.dtype.newbyteorder(">"))
    if layout == "misaligned":
        raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
        view = raw[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    frozen = np.array(array)
    frozen.flags.writeable = False
    return frozen


LAYOUTS = st.sampled_from(["C", "F", "every second", "backwards", "other end", "misaligned"])


def logits_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, spread: float) -> np.ndarray:
    return np.asarray(rng.normal(size=shape) * spread).astype(np.dtype(dtype))


@settings(max_examples=150)
@given(st.data())
def test_binary(data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(), (0,), (1,), (7,), (3, 1), (5, 4), (2, 3, 4), (1025,), (33, 65)]))
    dtype, layout = draw(st.sampled_from(FLOATS)), draw(LAYOUTS) if shape else "C"
    dtype = "float32" if layout in ("other end", "misaligned") and dtype == "bfloat16" else dtype
    x = layouts(logits_of(rng, shape, dtype, draw(st.sampled_from([1.0, 6.0, 60.0]))), layout)
    kind = draw(st.sampled_from([*INTEGERS, "float32", "float64", "soft"]))
    y = (rng.random(shape) < 0.3).astype("float64" if kind == "soft" else kind)
    rule = draw(st.sampled_from(["linear", "expected"]))
    if kind == "soft":
        y = np.where(rng.random(shape) < 0.3, rng.random(shape), y)
    y = layouts(np.asarray(y), draw(LAYOUTS) if shape else "C")
    loss = Binary(
        draw(st.booleans()),
        draw(st.sampled_from([0.0, 0.25, 1.0])),
        draw(st.sampled_from(GAMMAS if kind == "soft" and rule == "linear" else [*GAMMAS, (4.0, 1.0)])),
        from_logits=True,
        label_smoothing=0.0 if rule == "linear" and kind != "soft" else draw(st.sampled_from([0.0, 0.1])),
        reduction=draw(st.sampled_from(["sum", "mean", "none", "mean_over_positives"])),
        dtype=dtype,
        soft_labels=rule,
    )
    weight = draw(st.sampled_from([None, "each"])) and rng.random(shape) * (rng.random(shape) < 0.8)
    assert_close(both(loss, y, x, weight), dtype)


@settings(max_examples=150)
@given(st.data())
def test_softmax(data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.sampled_from([2, 3, 10, 63, 64, 65, 100, 1030]))
    rows = draw(st.sampled_from([(0,), (1,), (5,), (66,), (3, 4), (2, 2, 3)]))
    axis = draw(st.integers(0, len(rows)))
    shape = (*rows[:axis], classes, *rows[axis:])
    dtype, layout = draw(st.sampled_from(FLOATS)), draw(LAYOUTS)
    dtype = "float32" if layout in ("other end", "misaligned") and dtype == "bfloat16" else dtype
    z = layouts(logits_of(rng, shape, dtype, draw(st.sampled_from([1.0, 6.0, 60.0]))), layout)
    alpha = draw(st.sampled_from([1.0, 0.25])) if draw(st.booleans()) else (rng.random(classes) * 2).tolist()
    gamma = draw(st.sampled_from(GAMMAS)) if draw(st.booleans()) else (rng.random(classes) * 4).tolist()
    smoothing = draw(st.sampled_from([0.0, 0.0, 0.1]))
    reduction = draw(st.sampled_from(["sum", "mean", "none", "mean_with_sample_weight"]))
    weight = draw(st.sampled_from([None, "each"])) and rng.random(rows)
    target = rng.integers(0, classes, size=rows)
    kind = draw(st.sampled_from(["indices", "ignored", "one-hot", "soft", "no label"]))
    if kind in ("indices", "ignored"):
        label_types = ["int32", "int64", "float32", *(["uint8", "int8"] if classes < 100 else [])]
        y = target.astype(draw(st.sampled_from(label_types)))
        ignore = int(target.flat[0]) if kind == "ignored" and target.size else None
        if ignore is not None:
            hidden = np.moveaxis(z.copy(), axis, -1)
            hidden[target == ignore] = np.nan  # whatever an ignored row holds
            z = np.moveaxis(hidden, -1, axis)
        loss = Sparse(alpha, gamma, True, smoothing, ignore, axis, reduction, dtype=dtype)
    else:
        y = np.moveaxis(np.eye(classes)[target], -1, axis)
        if kind == "soft":
            y = (y + rng.random(shape) * (rng.random(shape) < 0.5)) / 2
        if kind == "no label":
            y = y * (rng.random(shape) < 0.5)
        y = layouts(y.astype(draw(st.sampled_from(["float32", "float64"]))), draw(LAYOUTS))
        loss = Dense(alpha, gamma, True, smoothing, axis, reduction, dtype=dtype)
    assert_close(both(loss, y, z, weight), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_hundred_thousand_classes(dtype: str) -> None:
    """Rows longer than the caches; the largest sum there is."""
    rng = np.random.default_rng(1)
    z, target = (rng.normal(size=(3, 100_000)) * 6).astype(dtype), np.asarray([0, 99_999, 1234])
    one_hot = np.zeros(z.shape, dtype=np.float32)
    one_hot[np.arange(3), target] = 1
    assert_close(both(Sparse(1.0, 2.0, True, dtype=dtype), target, z), dtype)
    assert_close(both(Dense(1.0, 2.0, True, dtype=dtype), one_hot, z), dtype)
    # With smoothed labels the terms of all classes nearly cancel in the gradient: 1e-14 of their sum, not of the rest.
    assert_close(both(Dense(1.0, 2.0, True, 0.1, dtype="float32"), one_hot, z.astype("float32")), "float32")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("classes", [2, 7, 100])
def test_boosting_in_rows_and_in_columns(order: str, classes: int) -> None:
    """LightGBM hands its margins column by column, and gets its answer so."""
    rng = np.random.default_rng(classes)
    margins = np.asarray(rng.normal(size=(500, classes)) * 5, order=order)
    labels, weight = rng.integers(0, classes, size=500), rng.random(500)
    loss = Sparse([0.5 + 0.1 * k for k in range(classes)], 2.0, True)
    kernel.use("numpy")
    expected = gradient_and_curvature(loss, margins, labels, weight)
    for name in NATIVE:
        kernel.use(name)
        got = gradient_and_curvature(loss, margins, labels, weight)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)
            assert a.flags.c_contiguous == margins.flags.c_contiguous


def test_softmax_curvature_for_boosting_is_positive_and_cross_entropy_s_at_gamma_0(each_kernel: str) -> None:
    rng = np.random.default_rng(0)
    margins, labels = rng.normal(size=(200, 5)) * 10, rng.integers(0, 5, size=200)
    for gamma in (0.0, 0.5, 2.0, 5.0):
        loss = Sparse(1.0, gamma, True, reduction="sum", dtype="float64")
        gradient, curvature = gradient_and_curvature(loss, margins, labels)
        assert (curvature > 0).all()
        np.testing.assert_allclose(gradient, loss.value_and_grad(labels, margins)[1], rtol=1e-13)
        if gamma == 0:
            np.testing.assert_allclose(curvature, loss.curvature(labels, margins), rtol=1e-13)
            p = np.exp(margins - np.logaddexp.reduce(margins, axis=1, keepdims=True))
            np.testing.assert_allclose(curvature, p * (1 - p), rtol=1e-9, atol=1e-14)
        else:
            assert (curvature >= loss.curvature(labels, margins) * (1 - 1e-13)).all()


# -- sums and threads


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("logit", [0.3, -7.7, 16.1])
def test_a_hundred_million_equal_losses_average_to_that_loss(name: str, logit: float) -> None:
    kernel.use(name)
    x, y = (np.broadcast_to(np.float32(value), 10**8) for value in (logit, 1.0))  # one number, strides of 0
    loss = Binary(gamma=2, from_logits=True, axis=0)
    one = float(loss(y[:1], x[:1]))
    assert float(loss(y, x)) == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("name", NATIVE)
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    kernel.use(name)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=1_000_003) * 4).astype(np.float32)
    y, z, target = rng.random(x.size) < 0.1, rng.normal(size=(30_001, 11)), rng.integers(0, 11, size=30_001)
    soft = rng.random(x.size)
    answers = []
    for threads in (1, 2, 3, 7):
        parfocal.set_num_threads(threads)
        assert parfocal.kernel_info()["threads"] == threads
        answers.append(
            [
                *Binary(gamma=1.5, from_logits=True).value_and_grad(y, x),
                *Binary(gamma=2, from_logits=True).value_and_grad(soft, x),
                *Sparse(gamma=2, from_logits=True).value_and_grad(target, z),
            ]
        )
    for other in answers[1:]:
        for a, b in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_as_numpy_rounds_it(name: str, dtype: str) -> None:
    """Every half there is goes in; what comes out is what float32 gives, rounded to the nearest, ties to even."""
    kernel.use(name)
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    y = (np.arange(x.size) % 3 == 0).astype(np.float32)
    for scale in (1.0, 1e-3, 7e-6):  # the last ones are subnormal
        loss = Binary(gamma=1, from_logits=True, reduction="sum", dtype=dtype)
        half = loss.value_and_grad(y, x, np.full(x.size, scale))[1]
        wide = Binary(gamma=1, from_logits=True, reduction="sum", dtype="float32")
        with np.errstate(all="ignore"):
            single = wide.value_and_grad(y, x.astype(np.float32), np.full(x.size, scale))[1].astype(dtype)
        np.testing.assert_array_equal(
            half.view(np.uint16)[~np.isnan(single)], single.view(np.uint16)[~np.isnan(single)]
        )
        np.testing.assert_array_equal(np.isnan(half), np.isnan(single))


@pytest.mark.parametrize("name", NATIVE)
def test_a_cotangent_multiplies_slopes_and_not_the_loss(name: str) -> None:
    """What a framework hands back in a backward pass; NumPy's own functions have no use for it."""
    kernel.use(name)
    native: Any = kernel.native
    rng = np.random.default_rng(0)
    x, y, cotangent = rng.normal(size=3000), (rng.random(3000) < 0.5) * 1.0, rng.normal(size=3000)
    plain, pulled, losses = np.empty((2, 3000)), np.empty((2, 3000)), np.empty((2, 3000))
    rest = (2.0, 2.0, 1.0, 1.0, 0.0, False, 1.0, False)
    native.binary(x, y, None, None, losses[0], plain[0], plain[1], *rest)
    native.binary(x, y, None, cotangent, losses[1], pulled[0], pulled[1], *rest)
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(pulled, plain * cotangent, rtol=1e-15)
    z, two = rng.normal(size=(1, 3000, 4)), np.full(1, 2.0)
    plain_rows, pulled_rows = np.empty((2, *z.shape)), np.empty((2, *z.shape))
    for target, labels in ((y, None), (None, np.full(z.shape, 0.25))):
        rest_rows = (two, two, 0.0, None, 1.0, False)
        native.softmax(z, target, labels, None, None, losses[0], plain_rows[0], plain_rows[1], *rest_rows)
        native.softmax(z, target, labels, None, cotangent, losses[1], pulled_rows[0], pulled_rows[1], *rest_rows)
        np.testing.assert_array_equal(losses[0], losses[1])
        np.testing.assert_allclose(pulled_rows, plain_rows * cotangent[:, None], rtol=1e-13, atol=1e-300)


def test_weights_that_float32_cannot_hold(each_kernel: str) -> None:
    """They mean something beside each other."""
    x = np.zeros((2, 1), dtype=np.float32)
    for size in (1e-50, 1e-40, 1.0, 1e39, 1e300):
        loss = Binary(from_logits=True, reduction="mean_with_sample_weight")
        value, gradient = loss.value_and_grad([[1], [1]], x, [size, 3 * size])
        assert value == pytest.approx(0.1732868, rel=1e-6)
        assert gradient[:, 0] == pytest.approx([-0.0745716, -0.2237149], rel=1e-5)
        sparse = Sparse(1.0, from_logits=True, reduction="mean_with_sample_weight")
        assert sparse([0, 1], np.zeros((2, 2), "f4"), [size, 3 * size]) == pytest.approx(0.1732868, rel=1e-6)
    small = Binary(from_logits=True, reduction="mean_with_sample_weight", dtype="float64")
    gradient = small.value_and_grad([[1], [1]], np.zeros((2, 1)), [1e-310, 3e-310])[1]
    assert gradient[:, 0] == pytest.approx([-0.0745716, -0.2237149], rel=1e-5)


def test_a_row_without_a_label_or_a_logit_is_0(each_kernel: str) -> None:
    """Padding: every class is masked, and none has weight."""
    for classes in (3, 70):
        z, y = np.zeros((2, classes), dtype=np.float32), np.zeros((2, classes))
        z[0], y[1, 0] = -np.inf, 1
        loss = Dense(1.0, 2.0, True, reduction="sum")
        value, gradient = loss.value_and_grad(y, z)
        assert value == pytest.approx(Dense(1.0, 2.0, True)(y[1:], z[1:]))
        assert (gradient[0] == 0).all()
        z[0, 1] = np.nan
        assert np.isnan(loss(y, z))


def test_a_sum_beyond_float32_is_still_a_mean(each_kernel: str) -> None:
    x = np.full((1000, 1), -3e38, dtype=np.float32)
    assert Binary(from_logits=True)(np.ones((1000, 1)), x) == np.float32(3e38)


def test_large_ignore_classes_hide_no_neighbour(each_kernel: str) -> None:
    for ignore, neighbour in ((2**53 + 1, 2**53), (2**64 - 1, 2**64 - 5)):
        loss = Sparse(from_logits=True, ignore_class=ignore)
        labels = np.asarray([0, neighbour], dtype=np.uint64)
        with pytest.raises(ValueError, match="at position 1"):
            loss(labels, np.zeros((2, 3)))
        labels[1] = ignore
        assert loss(labels, np.zeros((2, 3))) == loss([0], np.zeros((1, 3)))


def test_a_thread_that_computes_while_python_ends() -> None:
    code = """
import threading, time, numpy as np, parfocal
x, loss = np.zeros(70_000, "f4"), parfocal.BinaryFocalCrossentropy(from_logits=True)
def work():
    while True:
        loss(x, x)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr


def compute_without_end(stop: threading.Event) -> None:
    while not stop.is_set():
        threaded_sum()


def threaded_sum() -> float:
    x = np.linspace(-5, 5, 1_000_000, dtype=np.float32)
    return float(Binary(from_logits=True, reduction="sum")(x > 0, x))


def in_child(queue: Any) -> None:
    queue.put(threaded_sum())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_computes_on() -> None:
    parfocal.set_num_threads(4)
    expected = threaded_sum()
    context, stop = multiprocessing.get_context("fork"), threading.Event()
    other = threading.Thread(target=compute_without_end, args=(stop,))
    other.start()
    try:
        for _ in range(3):
            queue = context.Queue()
            child = context.Process(target=in_child, args=(queue,))
            child.start()
            assert queue.get(timeout=60) == expected
            child.join(60)
            assert child.exitcode == 0
    finally:
        stop.set()
        other.join()


# -- labels


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32", "float64"])
def test_the_first_bad_label_is_found_where_it_is(each_kernel: str, dtype: str) -> None:
    y = np.zeros(300_000, dtype=dtype)
    y[200_123] = y[250_000] = 2
    with pytest.raises(ValueError, match=r"y_true holds 2(\.0)? at position 200123 \(2 such values in all\)"):
        Binary(from_logits=True).value_and_grad(y, np.zeros(y.size))
    with pytest.raises(ValueError, match="position 200123"):
        Sparse(from_logits=True).value_and_grad(y, np.zeros((y.size, 2)))


@pytest.mark.parametrize("name", NATIVE)
def test_the_kernel_reports_the_position(name: str) -> None:
    """For callers that do not check again: validation.py finds the position again, with a message of its own."""
    kernel.use(name)
    y, x = np.zeros(300_000), np.zeros(300_000)
    y[[200_123, 250_000]] = 2
    assert kernel.native
    _, bad_label, _ = kernel.native.binary(
        x, y, None, None, None, None, None, 2.0, 2.0, 1.0, 1.0, 0.0, False, 1.0, False
    )
    assert bad_label == 200_123
    z, one = np.zeros((1, 300_000, 2)), np.ones(1)
    for target, labels in ((y, None), (None, np.stack([y, y], axis=-1)[None])):
        _, bad_label, _ = kernel.native.softmax(
            z, target, labels, None, None, None, None, None, one, one, 0.0, None, 1.0, False
        )
        assert bad_label == (200_123 if labels is None else 2 * 200_123)


@pytest.mark.parametrize("label", [np.nan, 1 + 1e-12, -1e-30, np.inf])
def test_a_label_just_beside_the_range_is_bad_beside_float32_logits_too(each_kernel: str, label: float) -> None:
    with pytest.raises(ValueError, match="position 1"):
        Binary(from_logits=True)(np.asarray([0.0, label]), np.zeros(2, dtype=np.float32))
    with pytest.raises(ValueError, match=r"position \(1, 1\)"):
        Dense(from_logits=True)([[1.0, 0.0], [0.0, label]], np.zeros((2, 2), dtype=np.float32))


def test_a_label_nearly_hard_is_soft_beside_float32_logits(each_kernel: str) -> None:
    """As a float32 it would be 1."""
    loss = Binary(gamma=0, from_logits=True, dtype="float32")
    assert loss([1 - 1e-9], np.float32([200.0])) == pytest.approx(2e-7)


@pytest.mark.parametrize("target", [-1, 5, 2**31, 2**40, 2.5, np.nan, -np.inf])
def test_an_index_out_of_range_is_never_followed(each_kernel: str, target: float) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 4; y_true holds .* at position 3"):
        Sparse(from_logits=True).value_and_grad(np.asarray([0, 1, 2, target]), np.zeros((4, 5)))


# -- which kernel


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("name", kernel.available())
def test_the_environment_forces_a_kernel(name: str) -> None:
    code = "import parfocal; print(parfocal.kernel_info()['kernel'], parfocal.kernel_info()['threads'])"
    printed = python(code, PARFOCAL_KERNEL=name, PARFOCAL_NUM_THREADS="3").stdout
    assert printed.split() == [name, "1" if name == "numpy" else "3"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PARFOCAL_KERNEL": "v9"}, "PARFOCAL_KERNEL: no kernel named 'v9' runs here; choose one of"),
        ({"PARFOCAL_NUM_THREADS": "0"}, "PARFOCAL_NUM_THREADS: the number of threads must be a whole number from 1"),
        ({"PARFOCAL_NUM_THREADS": "many"}, "got 'many'"),
    ],
)
def test_a_wrong_environment_is_an_error(environment: dict[str, str], message: str) -> None:
    result = python("import parfocal", **environment)
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize("number", [0, -1, 2.0, None, "2", True, 1 << 20])
def test_a_wrong_number_of_threads_is_an_error(number: Any) -> None:
    with pytest.raises(ValueError, match="whole number from 1"):
        parfocal.set_num_threads(number)


def test_a_native_kernel_runs_here() -> None:
    """Elsewhere NumPy does the work; where the tests run, the native core must have been built."""
    assert NATIVE, kernel.kernel_info()["note"]
    assert kernel.kernel_info()["kernel"] == NATIVE[0]


def test_the_polynomials_are_those_of_the_script() -> None:
    """elementary.hpp holds what native/make_polynomials.py prints."""
    native = Path(__file__).parents[1] / "native"
    printed = subprocess.run(
        [sys.executable, native / "make_polynomials.py"], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() in (native / "elementary.hpp").read_text()


# -- the recorded errors


def recorded() -> list[dict[str, str]]:
    with (Path(__file__).parent / "kernel_errors.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", kernel.available())
def test_no_error_is_larger_than_the_recorded_one(name: str) -> None:
    bounds = {
        (row["kernel"], row["loss"], row["dtype"], row["gamma"], row["term"]): float(row["error"]) for row in recorded()
    }
    for row in kernel_errors.measure(name):
        key = tuple(row[:5])
        assert float(row[5]) <= 1.3 * bounds[key], key  # NumPy's own exponential differs between processors
        assert bounds[key] <= kernel_errors.PROMISED[key[2]], key
