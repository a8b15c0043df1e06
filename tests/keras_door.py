"""What test_keras_door.py runs in a process for each Keras backend: `python tests/keras_door.py FOLDER`.

With `load` after the folder it loads what was saved, in a process that has imported nothing but the door.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np

import parfocal
import parfocal.keras
import parfocal.keras.metrics

Losses, Metrics = parfocal.keras, parfocal.keras.metrics
BACKEND = keras.config.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype("float32") * 3
ONE = (RNG.random(64) < 0.2).astype("float32")
MANY = RNG.integers(0, 3, size=64)


def same(got: object, exact: object, relative: float = 2e-6) -> None:
    np.testing.assert_allclose(keras.ops.convert_to_numpy(got), exact, rtol=relative, atol=1e-7)


def documented() -> None:
    """The examples on Keras's pages, with the import exchanged."""
    y_true, y_pred = [[0, 1], [0, 0]], [[-18.6, 0.51], [2.94, -12.8]]
    loss = Losses.BinaryFocalCrossentropy(apply_class_balancing=True, gamma=3, from_logits=True)
    same(
        Losses.BinaryFocalCrossentropy(gamma=2, from_logits=True)([0, 1, 0, 0], [-18.6, 0.51, 2.94, -12.8]), 0.691, 1e-3
    )
    same(loss(y_true, y_pred, sample_weight=[0.8, 0.2]), 0.097359754)
    y_true, y_pred = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]]
    cce = Losses.CategoricalFocalCrossentropy()
    same(cce(y_true, y_pred), 0.23315276)
    same(cce(y_true, y_pred, sample_weight=np.array([0.3, 0.7])), 0.1632, 1e-4)
    same(Losses.CategoricalFocalCrossentropy(reduction="sum")(y_true, y_pred), 0.46631, 1e-4)
    same(Losses.CategoricalFocalCrossentropy(reduction=None)(y_true, y_pred), [3.2058331e-05, 4.6627346e-01], 1e-5)


def extremes() -> None:
    x = np.asarray([[-1e4], [-89.0], [-16.2], [0.0], [17.0], [1e4]], "float32")
    for gamma in (0.0, 0.5, 2.0, parfocal.FLSD53):
        ours = parfocal.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction=None)
        door = Losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction=None)
        same(door(np.ones_like(x), x), ours(np.ones_like(x), x))


def training(folder: Path) -> None:
    """fit hands over labels (N,) beside scores (N, 1), and class indices as floats."""
    for name, units, labels, loss, metric in (
        (
            "binary",
            1,
            ONE,
            Losses.BinaryFocalCrossentropy(True, 0.3, 1.5, True),
            Metrics.BinaryFocalCrossentropy(True, 0.3, 1.5, True),
        ),
        (
            "sparse",
            3,
            MANY.astype("float32"),
            Losses.SparseCategoricalFocalCrossentropy([0.2, 0.3, 0.5], [1.0, 2.0, 3.0], True, ignore_class=2),
            Metrics.SparseCategoricalFocalCrossentropy([0.2, 0.3, 0.5], [1.0, 2.0, 3.0], True, ignore_class=2),
        ),
        (
            "dense",
            3,
            np.eye(3, dtype="float32")[MANY],
            Losses.CategoricalFocalCrossentropy(gamma=parfocal.FLSD53, from_logits=True, label_smoothing=0.1),
            Metrics.CategoricalFocalCrossentropy(gamma=parfocal.FLSD53, from_logits=True, label_smoothing=0.1),
        ),
    ):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(units)])
        model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss, metrics=[metric], weighted_metrics=[])
        # 24 does not divide 64: the last batch has another size.
        history = model.fit(X, labels, batch_size=24, epochs=3, verbose=0, sample_weight=np.linspace(0.5, 1.5, 64))
        assert history.history["loss"][-1] < history.history["loss"][0], (name, history.history)
        scores = model.predict(X, verbose=0)
        values = model.evaluate(X, labels, batch_size=24, verbose=0, return_dict=True)
        exact = getattr(parfocal, type(loss).__name__).from_config(loss.get_config())(labels, scores)
        same(values[metric.name], exact, 1e-5)
        config = json.loads(json.dumps(loss.get_config()))
        assert type(loss).from_config(config).get_config() == config
        model.save(folder / f"{BACKEND}-{name}.keras")
        np.savez(folder / f"{BACKEND}-{name}.npz", exact=exact, labels=labels)


def loading(folder: Path) -> None:
    for name in ("binary", "sparse", "dense"):
        model = keras.saving.load_model(folder / f"{BACKEND}-{name}.keras")
        saved = np.load(folder / f"{BACKEND}-{name}.npz")
        assert type(model.loss).__module__ == "parfocal.keras", type(model.loss)
        values = model.evaluate(X, saved["labels"], batch_size=64, verbose=0, return_dict=True)
        metric = next(key for key in values if key != "loss")
        same(values[metric], saved["exact"], 1e-5)
        kinds = {type(m).__module__ for m in model.metrics[1].metrics}
        assert kinds == {"parfocal.keras.metrics"}, kinds


def masks() -> None:
    labels, scores = MANY[:6].reshape(2, 3), RNG.normal(size=(2, 3, 3)).astype("float32")
    mask = np.asarray([[True, True, False], [True, False, False]])
    loss = Losses.SparseCategoricalFocalCrossentropy(from_logits=True)
    tensor = keras.ops.convert_to_tensor(scores)
    from keras.src.backend import set_keras_mask

    set_keras_mask(tensor, mask=keras.ops.convert_to_tensor(mask))
    losses = parfocal.sparse_categorical_focal_crossentropy(labels, scores, from_logits=True)
    metric = Metrics.SparseCategoricalFocalCrossentropy(from_logits=True)
    metric.update_state(labels, tensor)
    same(metric.result(), losses[mask].mean())
    ignored = np.where(mask, labels, -1)
    skips = Losses.SparseCategoricalFocalCrossentropy(from_logits=True, ignore_class=-1)
    same(skips(ignored, scores), losses[mask].mean())
    assert float(skips(np.full_like(labels, -1), scores)) == 0
    same(loss(labels, tensor), losses[mask].mean())


def policies_and_mistakes() -> None:
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss=Losses.BinaryFocalCrossentropy(from_logits=True))
        assert np.isfinite(model.fit(100 * X, ONE, epochs=1, verbose=0).history["loss"][0])
        keras.config.set_dtype_policy("float32")
    assert type(keras.losses.get("BinaryFocalCrossentropy")).__module__.startswith("keras.")  # the page warns
    assert isinstance(keras.losses.get(Losses.BinaryFocalCrossentropy()), Losses.BinaryFocalCrossentropy)
    for call, error in (
        (lambda: Losses.BinaryFocalCrossentropy(gamma=-1), ValueError),
        (lambda: Losses.CategoricalFocalCrossentropy(alpha=[-1, 1]), ValueError),
        (lambda: Losses.BinaryFocalCrossentropy(reduction="avg"), ValueError),
        (lambda: Losses.BinaryFocalCrossentropy(unknown=1), TypeError),
        (lambda: Metrics.BinaryFocalCrossentropy(gamma="two"), TypeError),
    ):
        try:
            call()
        except error:
            continue
        raise AssertionError(f"no {error.__name__}")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2:] == ["load"]:
        loading(place)
    else:
        documented()
        extremes()
        training(place)
        masks()
        policies_and_mistakes()
    print("done", BACKEND)
