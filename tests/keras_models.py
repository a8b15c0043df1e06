"""What test_keras_adapter.py runs with pytest in a process for each Keras backend: models, configs and mistakes."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import parfocal
import parfocal.keras
from keras_adapter import (
    BACKEND,
    KINDS,
    MASK,
    PROBABILITIES,
    RNG,
    Losses,
    Metrics,
    of_core,
    same,
    spoilt,
    value_and_grad,
)

if BACKEND == "tensorflow":  # before anything runs: two devices, between which a sum really goes
    import tensorflow as tf

    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)

# Of the models that the second process loads.
FOLDER = Path(os.environ["KERAS_ADAPTER_FOLDER"])
X = RNG.normal(size=(64, 5)).astype("float32") * 3
ONE = (RNG.random(64) < 0.2).astype("float32")
MANY = RNG.integers(0, 3, size=64)
ONE_HOT = np.eye(3, dtype="float32")[MANY]
WEIGHTS = np.linspace(0.5, 1.5, 64).astype("float32")


def compiled(units: int, **arguments: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(units)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), **arguments)
    return model


TRAINED: dict[str, tuple[int, np.ndarray, Any, str]] = {
    "binary": (1, ONE, (True, 0.3, 1.5, True), "BinaryFocalCrossentropy"),  # labels (N,), scores (N, 1)
    "sparse": (
        3,
        MANY.astype("float32"),
        ([0.2, 0.3, 0.5], [1.0, 2.0, 3.0], True, 0.0, 2),
        "SparseCategoricalFocalCrossentropy",
    ),
    "dense": (3, ONE_HOT, (0.25, parfocal.FLSD53, True, 0.1), "CategoricalFocalCrossentropy"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training(name: str) -> None:
    units, labels, arguments, kind = TRAINED[name]
    loss, metric = getattr(Losses, kind)(*arguments), getattr(Metrics, kind)(*arguments)
    # XLA is JAX's default; TensorFlow is asked for it once.
    model = compiled(units, loss=loss, metrics=[metric], jit_compile=BACKEND != "torch" and name == "sparse")
    # 24 does not divide 64: the last batch has another size.
    history = model.fit(X, labels, batch_size=24, epochs=2, verbose=0, sample_weight=WEIGHTS).history["loss"]
    assert history[-1] < history[0], history
    values = model.evaluate(X, labels, batch_size=24, verbose=0, return_dict=True)
    exact = of_core(loss)(labels, model.predict(X, verbose=0))
    same(values[metric.name], exact, 1e-5)
    config = json.loads(json.dumps(loss.get_config()))
    assert type(loss).from_config(config).get_config() == config
    model.save(FOLDER / f"{name}.keras")
    np.savez(FOLDER / "data.npz", x=X)
    np.savez(FOLDER / f"{name}.npz", exact=exact, labels=labels)


def test_functions_as_loss_and_metric() -> None:
    """Of parfocal and of parfocal.keras; a saved model gets ours, and not Keras's function of the same name."""
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", loss=parfocal.binary_focal_crossentropy, metrics=[Losses.binary_focal_crossentropy])
    model.fit(X, ONE, verbose=0, batch_size=64)
    values = model.evaluate(X, ONE, batch_size=64, verbose=0)
    same(values, [parfocal.BinaryFocalCrossentropy()(ONE, model.predict(X, verbose=0))] * 2, 1e-5)
    model.save(FOLDER / "functions.keras")
    value = Losses.binary_focal_crossentropy([[1.0], [0.0]], [[-1000.0], [0.0]], from_logits=True)
    assert keras.ops.is_tensor(value)
    same(value, [1000, np.log(2) / 4])
    for name in ("binary", "categorical", "sparse_categorical"):
        ours = getattr(Losses, f"{name}_focal_crossentropy")
        assert getattr(Metrics, ours.__name__) is ours
        config = keras.losses.serialize(ours)
        assert keras.losses.deserialize(config) is ours
        assert config == keras.losses.serialize(getattr(parfocal, ours.__name__))


def test_class_weights_are_sample_weights_and_so_is_a_metrics_own() -> None:
    results = []
    for more in ({"class_weight": {0: 1.0, 1: 3.0}}, {"sample_weight": 1 + 2 * ONE}):
        loss = Losses.BinaryFocalCrossentropy(from_logits=True)
        metric = Metrics.BinaryFocalCrossentropy(from_logits=True, name="weighted")
        model = compiled(1, loss=loss, weighted_metrics=[metric], run_eagerly=True)
        history = model.fit(X, ONE, batch_size=32, verbose=0, shuffle=False, **more).history
        results.append([history["loss"][0], history["weighted"][0], *np.ravel(model.get_weights()[0])])
    same(results[0], results[1])
    same(results[0][0] * 64 / (1 + 2 * ONE).sum(), results[0][1], 1e-5)


def test_several_outputs_and_a_mask_that_the_model_makes() -> None:
    """Sequences of words, 0 is padding: a label for each step, and one for the whole."""
    words = np.asarray([[3, 1, 2, 0], [2, 0, 0, 0], [1, 1, 0, 0], [4, 3, 2, 1]])
    tags, kept = np.where(words == 0, -7, words % 3), words != 0
    inputs = keras.layers.Input((4,), dtype="int32")
    hidden = keras.layers.Embedding(5, 3, mask_zero=True)(inputs)
    steps = keras.layers.TimeDistributed(keras.layers.Dense(3), name="steps")(hidden)
    whole = keras.layers.Dense(1, name="whole")(keras.layers.GlobalAveragePooling1D()(hidden))
    model = keras.Model(inputs, {"steps": steps, "whole": whole})
    losses = {
        "steps": Losses.SparseCategoricalFocalCrossentropy(alpha=1, from_logits=True),
        "whole": Losses.BinaryFocalCrossentropy(from_logits=True),
    }
    metric = Metrics.SparseCategoricalFocalCrossentropy(alpha=1, from_logits=True, name="metric")
    model.compile("sgd", loss=losses, loss_weights={"steps": 1.0, "whole": 0.5}, metrics={"steps": [metric]})
    labels = {"steps": tags, "whole": np.asarray([1, 0, 1, 0])}
    before = model.predict(words, verbose=0)
    exact = {
        "steps": parfocal.SparseCategoricalFocalCrossentropy(alpha=1, from_logits=True)(
            tags[kept], before["steps"][kept]
        ),
        "whole": parfocal.BinaryFocalCrossentropy(from_logits=True)(labels["whole"], before["whole"]),
    }
    values = model.evaluate(words, labels, verbose=0, return_dict=True)
    same(values["steps_metric"], exact["steps"], 1e-5)
    same(values["loss"], exact["steps"] + 0.5 * exact["whole"], 1e-5)
    model.fit(words, labels, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_mixed_precision() -> None:
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = compiled(1, loss=Losses.BinaryFocalCrossentropy(from_logits=True))
        assert np.isfinite(model.fit(100 * X, ONE, epochs=1, verbose=0).history["loss"][0])
        assert np.isfinite(model.get_weights()[0]).all()
        keras.config.set_dtype_policy("float32")


OVER: dict[str, Any] = {"from_logits": True, "reduction": "mean_over_positives"}
SPARSE = Losses.SparseCategoricalFocalCrossentropy
REPLICATED: dict[str, tuple[Any, np.ndarray, np.ndarray | None]] = {
    "mean": (Losses.BinaryFocalCrossentropy(from_logits=True), ONE[:, None], None),
    "sum": (Losses.BinaryFocalCrossentropy(from_logits=True, reduction="sum"), ONE[:, None], None),
    "positives": (
        Losses.BinaryFocalCrossentropy(from_logits=True, reduction="mean_over_positives"),
        ONE[:, None],
        None,
    ),
    "no positives": (
        Losses.BinaryFocalCrossentropy(from_logits=True, reduction="mean_over_positives"),
        0 * ONE[:, None],
        None,
    ),
    "ignored": (SPARSE(from_logits=True, ignore_class=2), np.sort(MANY), None),
    "weights": (SPARSE(from_logits=True, reduction="mean_with_sample_weight"), MANY, WEIGHTS**8),
}


@pytest.mark.parametrize("name", REPLICATED)
def test_replicas_have_the_loss_of_the_whole_batch(name: str) -> None:
    """Under tf.distribute gradients are added over the replicas; here each has other rows, and other counts."""
    if BACKEND != "tensorflow":
        return
    loss, labels, weights = REPLICATED[name]
    labels = np.sort(labels, axis=0) if name == "positives" else labels  # the first replica has none
    outputs = 1 if labels.ndim == 2 else 3
    kernel = np.linspace(-1, 1, 5 * outputs, dtype="float32").reshape(5, outputs)

    def value_and_gradient(part: Any) -> Any:
        variable = tf.constant(kernel)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            sample_weight = None if weights is None else tf.gather(tf.constant(weights), part)
            scores = tf.gather(tf.constant(X), part) @ variable
            value = loss(tf.gather(tf.constant(labels), part), scores, sample_weight)
        return value, tape.gradient(value, variable)

    def step() -> Any:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return value_and_gradient(32 * replica + tf.range(32))

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    whole = value_and_gradient(tf.range(64))
    for run in (step, tf.function(step)):
        for per_replica, wanted in zip(strategy.run(run), whole, strict=True):
            same(sum(value.numpy() for value in per_replica.values), wanted.numpy(), 1e-5)


def test_fit_on_two_replicas_is_fit_on_one() -> None:
    if BACKEND != "tensorflow":
        return
    labels, weights = np.sort(ONE), []
    for strategy in (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.get_strategy()):
        with strategy.scope():
            model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(1, kernel_initializer="ones")])
            loss = Losses.BinaryFocalCrossentropy(**OVER)
            model.compile(keras.optimizers.SGD(0.01), loss=loss)
            losses = model.fit(X, labels, batch_size=64, epochs=2, verbose=0, shuffle=False).history["loss"]
        weights.append(np.concatenate([np.ravel(w) for w in [*model.get_weights(), losses]]))
    same(*weights, 1e-5)


def test_keras_distribution_over_four_devices() -> None:
    """On JAX the rows are spread, and every sum is over all of them: right by itself."""
    if BACKEND != "jax":
        return
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 4
    labels, weights = np.sort(ONE), []
    for spread in (None, keras.distribution.DataParallel(devices=devices)):
        keras.distribution.set_distribution(spread)
        try:
            model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(1, kernel_initializer="ones")])
            loss = Losses.BinaryFocalCrossentropy(**OVER)
            model.compile(keras.optimizers.SGD(0.01), loss=loss)
            model.fit(X, labels, batch_size=64, epochs=2, verbose=0, shuffle=False)
            weights.append(np.ravel(model.get_weights()[0]))
        finally:
            keras.distribution.set_distribution(None)
    same(*weights, 1e-5)


# -- what a loss knows besides, and mistakes


def test_the_way_back_to_probabilities() -> None:
    loss = Losses.BinaryFocalCrossentropy(from_logits=True)
    scores = loss.optimal_logit([0.01, 0.5])
    same(loss.posterior(np.asarray(scores)), [0.01, 0.5])
    same(loss.posterior(keras.ops.convert_to_tensor(scores, "float32")), [0.01, 0.5], 1e-5)
    same(loss.posterior_logit(np.asarray(scores), class_weight={1: 2.0}), np.log([0.01 / 0.99, 1]) - np.log(2))
    shares = [0.2, 0.3, 0.5]
    softmax = Losses.SparseCategoricalFocalCrossentropy([1, 2, 3], 2, True)
    same(softmax.posterior(softmax.optimal_logit(shares)), shares)
    assert (softmax.alpha, softmax.gamma, softmax.from_logits, softmax.ignore_class) == ((1, 2, 3), 2, True, None)


def test_strings_and_mistakes() -> None:
    assert type(keras.losses.get("BinaryFocalCrossentropy")).__module__.startswith("keras.")  # the page warns
    _, labels, scores = KINDS["dense, probabilities"]
    theirs = keras.losses.CategoricalFocalCrossentropy()
    value, _ = value_and_grad(theirs, labels, spoilt(scores, np.nan), mask=MASK)
    assert np.isnan(value)  # differences.md says so
    assert isinstance(keras.losses.get(Losses.BinaryFocalCrossentropy()), Losses.BinaryFocalCrossentropy)
    for call, error, words in (
        (lambda: Losses.BinaryFocalCrossentropy(gamma=-1), ValueError, "gamma must be"),
        (lambda: Losses.CategoricalFocalCrossentropy(alpha=[-1, 1]), ValueError, "alpha must be"),
        (lambda: Losses.BinaryFocalCrossentropy(reduction="avg"), ValueError, "'mean_over_positives'; got 'avg'"),
        (lambda: Losses.CategoricalFocalCrossentropy(reduction="mean_over_positives"), ValueError, "reduction must"),
        (lambda: Losses.BinaryFocalCrossentropy(unknown=1), TypeError, "unexpected keyword argument 'unknown'"),
        (lambda: Metrics.BinaryFocalCrossentropy(gamma="two"), TypeError, "gamma must be"),
        (lambda: Metrics.BinaryFocalCrossentropy(reduction="sum"), TypeError, "unexpected keyword"),
        (lambda: Losses.BinaryFocalCrossentropy()([[1.0, 0]], [[0.5]]), ValueError, "of one shape"),
        (lambda: Losses.CategoricalFocalCrossentropy()([1, 0], PROBABILITIES[0, :2]), ValueError, "use SparseCat"),
        (lambda: Losses.SparseCategoricalFocalCrossentropy()([[1]], [[0.5]]), ValueError, "use Binary"),
    ):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("adapter", [Losses, Metrics])
@pytest.mark.parametrize("name", ["Binary", "Categorical", "SparseCategorical"])
def test_constructors_are_those_of_the_core(adapter: Any, name: str) -> None:
    core = parfocal if adapter is Losses else parfocal.metrics
    ours, cores = (inspect.signature(getattr(package, f"{name}FocalCrossentropy")) for package in (adapter, core))
    assert ours == cores
