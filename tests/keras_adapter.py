"""What test_keras_adapter.py runs with pytest in a process for each Keras backend: the numbers."""

from __future__ import annotations

import doctest
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.backend import set_keras_mask

import parfocal
import parfocal.keras
from parfocal.backends import Backend
from parfocal.core import parameters
from parfocal.keras import batches

Losses, Metrics = parfocal.keras, parfocal.keras.metrics
BACKEND = keras.config.backend()
RNG = np.random.default_rng(0)


def same(got: Any, exact: Any, relative: float = 2e-6) -> None:
    np.testing.assert_allclose(keras.ops.convert_to_numpy(got), exact, rtol=relative, atol=1e-7)


def value_and_grad(
    loss: Any, y_true: Any, y_pred: Any, weight: Any = None, mask: Any = None, graph: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and the gradient of its sum, as each backend takes it; `graph` compiles, for batches of any length."""

    def value(scores: Any) -> Any:
        if mask is not None:
            set_keras_mask(scores, mask=keras.ops.convert_to_tensor(mask))
        total = loss(y_true, scores, weight)
        return keras.ops.sum(total), total

    if BACKEND == "torch":
        import torch

        scores = torch.tensor(y_pred, requires_grad=True)
        total, losses = value(scores)
        total.backward()
        return losses.detach().numpy(), scores.grad.numpy()
    if BACKEND == "jax":
        import jax

        both = jax.value_and_grad(value, has_aux=True)
        (_, losses), gradient = (jax.jit(both) if graph else both)(y_pred)
        return np.asarray(losses), np.asarray(gradient)
    import tensorflow as tf

    def both(scores: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            total, losses = value(scores)
        return losses, tape.gradient(total, scores)

    if graph:
        both = tf.function(both, input_signature=[tf.TensorSpec([None, *np.shape(y_pred)[1:]])])
    losses, gradient = both(tf.constant(y_pred))
    return losses.numpy(), gradient.numpy()


def of_core(loss: Any) -> Any:
    """The core's loss with the same config, in NumPy."""
    return getattr(parfocal, type(loss).__name__).from_config(loss.get_config())


# -- the numbers


PAGES = ("BinaryFocalCrossentropy", "CategoricalFocalCrossentropy")
PAGES += ("binary_focal_crossentropy", "categorical_focal_crossentropy")


def evaluated(line: str, printed: str, names: dict[str, Any]) -> Any:
    """What a line gives; or its error, as one of them asserts on a name that does not exist."""
    try:
        if not printed:
            return exec(line, names)
        return np.ravel(keras.ops.convert_to_numpy(eval(line, names)))
    except NameError as error:
        return str(error)


def prints(values: np.ndarray, printed: str) -> bool:
    """Whether all printed digits come out; the last of eight may be one step of float32 away."""
    texts = re.findall(r"\d+\.\d+(?:e[+-]\d+)?", printed)
    assert len(texts) == len(values)
    for value, text in zip(values, texts, strict=True):
        mantissa, exponent, _ = text.partition("e")
        style = f".{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}"
        step = np.spacing(np.float32(value))
        if format(float(value), style) != text and abs(np.float32(text) - np.float32(value)) > step:
            return False
    return True


def test_the_examples_on_kerass_pages_run_with_only_the_import_exchanged() -> None:
    as_printed, otherwise = 0, []
    for page in PAGES:
        theirs, ours = ({"keras": keras, "parfocal": parfocal, "np": np} for _ in range(2))
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(getattr(keras.losses, page))):
            line, printed = example.source, example.want
            expected = evaluated(line, printed, theirs)
            got = evaluated(line.replace("keras.losses.", "parfocal.keras."), printed, ours)
            if not printed:
                assert got == expected
                continue
            np.testing.assert_allclose(got, expected, rtol=5e-6)
            if prints(expected, printed):
                assert prints(got, printed), (line, got, printed)
                as_printed += 1
            else:
                otherwise.append(line.strip())
    # The pages cut a number off, call the focal function for a "bce_loss", and show digits of a float64.
    assert otherwise == ["loss(y_true, y_pred)", "bce_loss", "focal_loss/bce_loss", "loss"]
    assert as_printed == 14


def test_extremes() -> None:
    x = np.asarray([[-1e4], [-89.0], [-16.2], [0.0], [17.0], [1e4]], "float32")
    for gamma in (0.0, 0.5, 2.0, parfocal.FLSD53):
        loss = Losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction=None)
        value, gradient = value_and_grad(loss, np.ones_like(x), x)
        exact, slope = of_core(loss).value_and_grad(np.ones_like(x), x)
        same(value, exact)
        same(gradient, slope)


def test_moderate_logits_give_the_numbers_of_keras() -> None:
    scores, labels = RNG.uniform(-4, 4, (8, 3)).astype("float32"), np.eye(3, dtype="float32")[np.arange(8) % 3]
    for name in ("BinaryFocalCrossentropy", "CategoricalFocalCrossentropy"):
        ours, theirs = (
            value_and_grad(getattr(package, name)(gamma=2, from_logits=True), labels, scores)
            for package in (Losses, keras.losses)
        )
        same(ours[0], theirs[0], 2e-5)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-4, atol=1e-6)


# -- weights, reductions and masks against rows that were picked by hand

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", None, "mean_with_sample_weight")
SHAPE = (4, 3, 2)
STEPS, MASK = RNG.integers(0, 2, SHAPE[:2]), np.asarray([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
SCORES = RNG.normal(size=SHAPE).astype("float32") * 3
PROBABILITIES = RNG.uniform(0.05, 0.95, SHAPE).astype("float32")
KINDS: dict[str, tuple[Callable[..., Any], np.ndarray, np.ndarray]] = {
    "binary": (
        lambda **more: Losses.BinaryFocalCrossentropy(True, 0.3, 1.5, True, **more),
        RNG.integers(0, 2, SHAPE).astype("float32"),
        SCORES,
    ),
    "binary, smoothed": (
        lambda **more: Losses.BinaryFocalCrossentropy(label_smoothing=0.1, from_logits=True, **more),
        RNG.integers(0, 2, SHAPE),
        SCORES,
    ),
    "binary, probabilities": (Losses.BinaryFocalCrossentropy, STEPS[..., None], PROBABILITIES[..., :1]),
    "dense": (
        lambda **more: Losses.CategoricalFocalCrossentropy([0.3, 0.7], [1, 3], True, **more),
        np.eye(2, dtype="float32")[STEPS],
        SCORES,
    ),
    "dense, probabilities": (Losses.CategoricalFocalCrossentropy, np.eye(2)[STEPS], PROBABILITIES),
    "sparse": (
        lambda **more: Losses.SparseCategoricalFocalCrossentropy([0.3, 0.7], [1, 3], True, **more),
        STEPS.astype("float32"),
        SCORES,
    ),
    "sparse, ignoring": (
        lambda **more: Losses.SparseCategoricalFocalCrossentropy(from_logits=True, ignore_class=255, **more),
        np.where(RNG.random(SHAPE[:2]) < 0.3, 255, STEPS)[..., None],
        SCORES,
    ),
}
PER_STEP = RNG.uniform(0.5, 2, SHAPE[:2]).astype("float32")


def spoilt(array: np.ndarray, value: float) -> np.ndarray:
    return np.where(MASK.reshape(*MASK.shape, *[1] * (array.ndim - 2)), array, value).astype(array.dtype)


def check_mask(kind: str, reduction: str | None, weighted: bool, graph: bool = False) -> None:
    """Labels of -7, NaN scores and NaN weights under it leave no trace."""
    build, labels, scores = KINDS[kind]
    given = spoilt(labels, -7), spoilt(scores, np.nan), spoilt(PER_STEP, np.nan) if weighted else None
    loss = build(reduction=reduction)
    value, gradient = value_and_grad(loss, *given, mask=MASK, graph=graph)
    exact, slopes = of_core(loss).value_and_grad(labels[MASK], scores[MASK], PER_STEP[MASK] if weighted else None)
    same(value if reduction else value[MASK], exact)
    same(gradient[MASK], slopes)
    assert not gradient[~MASK].any()
    assert reduction or not value[~MASK].any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_mask_covers_does_not_exist(kind: str) -> None:
    check_mask(kind, "sum_over_batch_size", weighted=False)
    for reduction in REDUCTIONS[2:]:
        check_mask(kind, reduction, weighted=True)
    if "binary" in kind:
        check_mask(kind, "mean_over_positives", weighted=True)


@pytest.mark.parametrize("kind", ["binary", "sparse, ignoring"])
def test_in_a_graph_too(kind: str) -> None:
    check_mask(kind, "sum_over_batch_size", weighted=True, graph=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_of_masked_batches(kind: str) -> None:
    build, labels, scores = KINDS[kind]
    loss = build()
    metric = getattr(Metrics, type(loss).__name__).from_config(without_reduction(loss))
    for weight in (PER_STEP, 2 * PER_STEP):
        tensor = keras.ops.convert_to_tensor(spoilt(scores, np.nan))
        set_keras_mask(tensor, mask=keras.ops.convert_to_tensor(MASK))
        metric.update_state(spoilt(labels, -7), tensor, spoilt(weight, np.nan))
    config = {**loss.get_config(), "reduction": "mean_with_sample_weight"}
    exact = type(of_core(loss)).from_config(config)(labels[MASK], scores[MASK], PER_STEP[MASK])
    same(metric.result(), exact)
    metric.reset_state()
    assert float(metric.result()) == 0


def without_reduction(loss: Any) -> dict[str, Any]:
    return {name: value for name, value in loss.get_config().items() if name != "reduction"}


def test_masks_of_other_shapes() -> None:
    labels, scores = np.ones(SHAPE), SCORES
    loss = Losses.BinaryFocalCrossentropy(from_logits=True)
    same(value_and_grad(loss, labels, scores, mask=MASK[..., None])[0], of_core(loss)(labels[MASK], scores[MASK]))
    rows = np.asarray([True, False, True, True])  # all steps of a sample
    same(value_and_grad(loss, labels, scores, mask=rows)[0], of_core(loss)(labels[rows], scores[rows]))
    same(value_and_grad(loss, labels, scores, mask=np.zeros_like(MASK))[0], 0)
    per_label = RNG.uniform(0.5, 2, SHAPE).astype("float32")
    exact = of_core(loss)(labels[MASK], scores[MASK], per_label[MASK])
    same(value_and_grad(loss, labels, scores, per_label, MASK)[0], exact)
    classes_first = Losses.SparseCategoricalFocalCrossentropy(from_logits=True, axis=1)
    got, _ = value_and_grad(classes_first, STEPS[..., None], np.moveaxis(scores, -1, 1), mask=MASK)
    last = parfocal.SparseCategoricalFocalCrossentropy(from_logits=True)
    same(got, last(STEPS[MASK], scores[MASK]))
    with pytest.raises(ValueError, match=r"mask of y_pred has shape \(4, 2\)"):
        value_and_grad(loss, labels, scores, mask=np.ones((4, 2), bool))


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "mean_over_positives"])
def test_weights_for_each_label(reduction: str | None) -> None:
    labels, scores = KINDS["binary"][1], SCORES
    loss = Losses.BinaryFocalCrossentropy(True, 0.3, 1.5, True, reduction=reduction)
    for weight in (None, PER_STEP, PER_STEP[..., None], RNG.uniform(0.5, 2, SHAPE)):
        value, gradient = value_and_grad(loss, labels, scores, weight)
        exact, slopes = of_core(loss).value_and_grad(labels, scores, weight)
        same(value, exact)
        same(gradient, slopes)
    with pytest.raises(ValueError, match=r"weight\[:, None\]"):
        loss(labels, scores, np.ones(4))


def test_a_metric_takes_one_weight_for_all_steps_of_a_sample() -> None:
    metric = Metrics.BinaryFocalCrossentropy(from_logits=True)
    metric.update_state(np.ones(SHAPE), SCORES, sample_weight=[1.0, 0, 0, 2])
    losses = parfocal.binary_focal_crossentropy(np.ones(SHAPE), SCORES, from_logits=True).mean(axis=1)
    same(metric.result(), (losses[0] + 2 * losses[3]) / 3)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_ignored_samples_leave_the_denominator(reduction: str) -> None:
    labels, scores, weight = np.where(MASK, STEPS, -1), SCORES, PER_STEP
    loss = Losses.SparseCategoricalFocalCrossentropy(from_logits=True, ignore_class=-1, reduction=reduction)
    exact, slopes = of_core(loss).value_and_grad(STEPS[MASK], scores[MASK], weight[MASK])
    value, gradient = value_and_grad(loss, labels, spoilt(scores, np.nan), weight)
    same(value, exact)
    same(gradient[MASK], slopes)
    assert not gradient[~MASK].any()
    assert float(loss(np.full_like(labels, -1), scores)) == 0


# -- dtypes


def test_half_precision_rounds_no_class_index_and_sums_in_float32() -> None:
    loss = Losses.SparseCategoricalFocalCrossentropy(from_logits=True, dtype="float16", reduction="sum")
    scores = np.full((1, 4099), -8.0, "float32")
    scores[0, 4097] = 8
    for labels in ([4097], [4097.0], np.asarray([4097])):  # a float16 takes it for 4096
        assert float(loss(labels, scores)) < 1e-3 < float(loss([4096], scores))
    metric = Metrics.SparseCategoricalFocalCrossentropy(from_logits=True, dtype="float16")
    metric.update_state([4097.0], scores)
    assert float(metric.result()) < 1e-3

    ones, zeros = np.ones((5000, 1)), np.zeros((5000, 1))
    for dtype in ("float16", "bfloat16", keras.DTypePolicy("mixed_float16")):
        loss = Losses.BinaryFocalCrossentropy(from_logits=True, dtype=dtype, reduction="sum")
        same(keras.ops.cast(loss(ones, zeros), "float32"), 5000 * np.log(2) / 4, 4e-3)
        metric = Metrics.BinaryFocalCrossentropy(from_logits=True, dtype=dtype)
        for _ in range(14):  # 70,000 samples, and a float16 ends at 65,504
            metric.update_state(ones, zeros)
        same(keras.ops.cast(metric.result(), "float32"), np.log(2) / 4, 4e-3)
    theirs = keras.metrics.Mean(dtype="float16")
    for _ in range(14):
        theirs.update_state(ones)
    assert float(theirs.result()) != 1  # differences.md says so
    assert loss.get_config()["dtype"] == metric.get_config()["dtype"] == "float16"
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float16"


# -- subclasses


def doubled(kind: type) -> type:
    return type(kind.__name__, (kind,), {"call": lambda self, a, b: 2 * kind.call(self, a, b)})


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_of_ones_own(kind: str, masked: bool) -> None:
    """Twice the loss and twice its gradient, by every reduction, as a subclass of Keras's own class has it."""
    build, labels, scores = KINDS[kind]
    loss = build()
    reductions = [*REDUCTIONS, "mean_over_positives"] if "binary" in kind else REDUCTIONS
    for reduction in reductions:
        arguments = labels, scores, PER_STEP, MASK if masked else None
        config = {**loss.get_config(), "reduction": reduction}
        once = value_and_grad(type(loss).from_config(config), *arguments)
        twice = value_and_grad(doubled(type(loss)).from_config(config), *arguments)
        for one, two in zip(once, twice, strict=True):
            same(two, 2 * keras.ops.convert_to_numpy(one))


def test_a_call_of_ones_own_in_fit_as_kerass_class_has_it() -> None:
    values = []
    for kind in (Losses.BinaryFocalCrossentropy, keras.losses.BinaryFocalCrossentropy):
        loss = doubled(kind)(gamma=1.0, name="doubled")
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")])
        model.compile("sgd", loss)
        x = np.linspace(-2, 2, 16).reshape(8, 2)
        values.append(model.evaluate(x, (x[:, :1] > 0.3).astype("float32"), verbose=0))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_a_call_of_ones_own_says_nothing_of_probabilities() -> None:
    loss = doubled(Losses.BinaryFocalCrossentropy)()
    for name, argument in (("posterior", [[0.5]]), ("posterior_logit", [[0.5]]), ("optimal_logit", 0.1)):
        with pytest.raises(NotImplementedError, match=f"overrides call, and {name} knows the formula"):
            getattr(loss, name)(argument)


# -- the checks above can fail


def mutated(function: Any, original: str, broken: str) -> Any:
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(original) == 1, f"{original!r} is not in {function.__name__} once; mend the mutant"
    names = dict(function.__globals__)
    exec(source.replace(original, broken), names)
    return names[function.__name__]


MASKED_SCORES = "scores = xp.where(entries, scores, xp.full_like(scores, HARMLESS))"
MASKED_LABELS = "labels = xp.where(valid if sparse else entries, labels, xp.zeros_like(labels))"
MASKED_WEIGHT = "weight = xp.where(valid, batch.weight, 0.0)"
MUTANTS = [
    (batches, "batch_of", "to_tensor(y_true),", "to_tensor(y_true, dtype=loss.dtype),", "half_precision"),
    (batches, "batch_of", "sample_weight, mask, OBJECTS)", "sample_weight, None, OBJECTS)", "mask"),
    (Backend, "with_valid", MASKED_SCORES, "pass", "mask"),
    (Backend, "with_valid", MASKED_LABELS, "pass", "mask"),
    (Backend, "with_valid", MASKED_WEIGHT, "weight = batch.weight", "mask, weighted"),
    (Backend, "with_valid", "valid=counting", "valid=batch.valid", "mask"),
]
CHECKS: dict[str, Callable[[], None]] = {
    "half_precision": test_half_precision_rounds_no_class_index_and_sums_in_float32,
    "mask": lambda: check_mask("binary", "mean", weighted=False),
    "mask, weighted": lambda: check_mask("binary", "sum", weighted=True),
}


@pytest.mark.parametrize(("owner", "name", "original", "broken", "check"), MUTANTS)
def test_a_broken_adapter_turns_them_red(
    owner: Any, name: str, original: str, broken: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = mutated(getattr(owner, name), original, broken)
    for user in (owner, parfocal.keras.losses, parfocal.keras.metrics):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, mutant)
    with pytest.raises((AssertionError, ValueError)):
        CHECKS[check]()


def test_swapped_class_weights_turn_them_red(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parameters.Binary.__init__

    def swapped(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self.weights = self.weights[::-1]
        self.for_kernel = (*self.gammas, *self.weights, *self.for_kernel[4:])

    monkeypatch.setattr(parameters.Binary, "__init__", swapped)
    with pytest.raises(AssertionError):
        test_the_examples_on_kerass_pages_run_with_only_the_import_exchanged()
