"""Makes the files of this folder: what users save with parfocal, and what it must still say after it is loaded again.

    python tests/saved/make.py FOLDER

The files here were made before the first release and stay as they are: `test_saved.py` holds every later version to
them.  A new format gets new files beside the old ones.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import joblib
import numpy as np
import polars as pl

import parfocal

ROUNDS = 4  # of boosting: the files are kept in git for good
ENGINES = ("lightgbm", "xgboost", "catboost")
FEW: dict[str, Any] = {"n_estimators": ROUNDS, "max_leaf_nodes": 4, "learning_rate": 0.3, "random_state": 0}


def made_table(rows: int, seed: int) -> pl.DataFrame:
    """A rare event, and a kind with three classes, beside a column of every sort that `parfocal fit` takes."""
    random = np.random.default_rng(seed)
    x, z = random.normal(size=(2, rows)).round(3)
    town = random.choice(["Bonn", "Oslo", "Rome"], rows)
    event = random.random(rows) < 1 / (1 + np.exp(2.5 - 1.5 * x - (town == "Oslo") * z))
    kind = np.array(["common", "rare", "rarer"])[np.digitize(x + random.normal(size=rows), [0.3, 1.3])]
    born = pl.select(pl.date(1990, 1, 1) + pl.duration(days=pl.Series(random.integers(0, 9000, rows)))).to_series()
    table = pl.DataFrame({"x": x, "z": z, "town": town, "born": born, "event": event, "kind": kind})
    hidden = random.random((2, rows)) < 0.05
    return table.with_columns(
        z=pl.when(pl.Series(hidden[0])).then(None).otherwise(pl.col("z")),
        town=pl.when(pl.Series(hidden[1])).then(None).otherwise(pl.col("town")),
    )


def matrix_of(table: pl.DataFrame) -> np.ndarray:
    """x and z as (N, 2), NaN where z is missing."""
    return table.select("x", "z").cast(pl.Float64).fill_null(float("nan")).to_numpy()


def make_fits(folder: Path, training: Path, table: Path) -> dict[str, Any]:
    """What `parfocal fit` leaves, without its picture, and what `parfocal predict` writes."""
    from parfocal.app import main
    from parfocal.app.study import study as fitting
    from parfocal.app.study import training as boosting

    boosting.MOST_ROUNDS = ROUNDS
    choose = fitting.choose

    def choose_focal(trials: Any, select: Any) -> Any:
        """A focal loss wins, so that there is something to recover."""
        return choose([trial for trial in trials if trial.candidate.gamma > 0] or trials, select)

    fitting.choose = choose_focal
    expected = {}
    for name, target, other, engine in [
        *((f"fit-{engine}", "event", "kind", engine) for engine in ENGINES),
        ("fit-classes", "kind", "event", "lightgbm"),
    ]:
        alpha = ["--alpha", "0.25"] if target == "event" else []
        given = ["--target", target, "--drop", other, "--engine", engine, "--gamma", "2", *alpha]
        assert main(["fit", str(training), *given, "--out", str(folder / name), "--force"]) == 0
        for picture in ("report.png", "report.html"):
            (folder / name / picture).unlink()
        scores = folder / "scores.csv"
        assert main(["predict", str(folder / name), str(table), "--out", str(scores), "--force"]) == 0
        expected[name] = pl.read_csv(scores).to_dict(as_series=False)
        scores.unlink()
    return expected


def make_estimators(folder: Path, training: pl.DataFrame, table: pl.DataFrame) -> dict[str, Any]:
    """joblib files of both estimators, with two classes and with three."""
    from parfocal.sklearn import FocalBoostingClassifier, FocalLogisticRegression

    X, rows = matrix_of(training), matrix_of(table)
    y, kinds = training["event"].to_numpy(), training["kind"].to_numpy()
    boosting = partial(FocalBoostingClassifier, alpha=0.25, class_weight="balanced", **FEW)
    models: dict[str, Any] = {
        **{f"boosting-{engine}": boosting(engine).fit(X, y) for engine in ENGINES},
        "boosting-classes": boosting(alpha=[1, 2, 4]).fit(X, kinds),
        "logistic": FocalLogisticRegression(alpha=0.25, class_weight="balanced").fit(np.nan_to_num(X), y),
        "logistic-classes": FocalLogisticRegression(gamma=(3.0, 0.5, 1.0), label_smoothing=0.1).fit(
            np.nan_to_num(X), kinds
        ),
    }
    expected = {}
    for name, model in models.items():
        joblib.dump(model, folder / f"{name}.joblib", compress=3)
        given = rows if name.startswith("boosting") else np.nan_to_num(rows)
        expected[name] = {
            "decision_function": model.decision_function(given).tolist(),
            "predict_proba": model.predict_proba(given).tolist(),
            "predict": model.predict(given).tolist(),
        }
    return expected


def make_keras(folder: Path, table: pl.DataFrame) -> dict[str, Any]:
    """A model with two outputs, each with its loss and metric; one of them has a schedule and a class to ignore."""
    import keras

    import parfocal.keras

    keras.utils.set_random_seed(0)
    losses = {
        "event": parfocal.keras.BinaryFocalCrossentropy(True, 0.3, (3.0, 1.0), from_logits=True),
        "kind": parfocal.keras.SparseCategoricalFocalCrossentropy(
            [1.0, 2.0, 4.0], parfocal.FLSD53, from_logits=True, ignore_class=-1
        ),
    }
    metrics = {
        "event": parfocal.keras.metrics.BinaryFocalCrossentropy(gamma=2.0, from_logits=True),
        "kind": parfocal.keras.metrics.SparseCategoricalFocalCrossentropy(gamma=2.0, from_logits=True),
    }
    inputs = keras.Input((2,))
    outputs = {"event": keras.layers.Dense(1, name="event"), "kind": keras.layers.Dense(3, name="kind")}
    model = keras.Model(inputs, {name: layer(inputs) for name, layer in outputs.items()})
    model.compile("sgd", loss=losses, metrics=metrics)
    X, labels = keras_batch(table)
    scores = {name: keras.ops.convert_to_numpy(scores) for name, scores in model(X).items()}
    expected = {
        "evaluate": model.evaluate(X, labels, verbose=0, return_dict=True),
        "configs": {name: loss.get_config() for name, loss in losses.items()},
        "scores": {name: scores[name].tolist() for name in losses},
        "posterior": {name: loss.posterior(scores[name]).tolist() for name, loss in losses.items()},
    }
    model.save(folder / "model.keras")
    return {"keras": expected}


def keras_batch(table: pl.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs and labels; the metric of a kind takes no class to ignore."""
    X = np.nan_to_num(matrix_of(table)).astype(np.float32)
    return X, {"event": table["event"].to_numpy()[:, None], "kind": kinds_of(table)}


def kinds_of(table: pl.DataFrame) -> np.ndarray:
    return np.searchsorted(["common", "rare", "rarer"], table["kind"].to_numpy())


def make_torch(folder: Path, table: pl.DataFrame) -> dict[str, Any]:
    """A network that holds its losses, as a whole module (a pickle) and as a state dict (weights alone)."""
    import torch
    from torch import nn

    from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss

    torch.manual_seed(0)
    parts = {
        "event": nn.Linear(2, 1),
        "kind": nn.Linear(2, 3),
        "event_loss": SigmoidFocalLoss(0.25, (3.0, 1.0), reduction="mean_over_positives", weight=[2.0]),
        "kind_loss": SoftmaxFocalLoss([1.0, 2.0, 4.0], parfocal.FLSD53, ignore_index=0, label_smoothing=0.1),
    }
    module = nn.ModuleDict(parts)
    torch.save(module, folder / "torch-module.pt")
    torch.save(module.state_dict(), folder / "torch-state.pt")
    return {"torch": torch_results(module, table)}


def torch_results(module: Any, table: pl.DataFrame) -> dict[str, Any]:
    import torch

    X = torch.from_numpy(np.nan_to_num(matrix_of(table)).astype(np.float32))
    events, kinds = torch.from_numpy(table["event"].to_numpy()[:, None].copy()), torch.from_numpy(kinds_of(table))
    results = {}
    for name, targets in (("event", events.float()), ("kind", kinds)):
        logits, loss = module[name](X), module[f"{name}_loss"]
        value = loss(logits, targets)
        (gradient,) = torch.autograd.grad(value, logits)
        said = {"scores": logits, "loss": value, "gradient": gradient, "posterior": loss.posterior(logits)}
        results |= {f"{name} {key}": array.detach().tolist() for key, array in said.items()}
    return results


def core_losses() -> dict[str, Any]:
    return {
        "binary": parfocal.BinaryFocalCrossentropy(
            True, 0.3, 1.5, True, 0.1, reduction="mean_over_positives", dtype="float64", soft_labels="expected"
        ),
        "pair": parfocal.BinaryFocalCrossentropy(gamma=(4.0, 1.0), from_logits=True, dtype="float64"),
        "categorical": parfocal.CategoricalFocalCrossentropy([1, 2, 4], [0, 1, 2], True, axis=0, dtype="float64"),
        "sparse": parfocal.SparseCategoricalFocalCrossentropy(1, parfocal.FLSD53, True, 0.1, -1, dtype="float64"),
    }


def core_results(losses: dict[str, Any]) -> dict[str, Any]:
    """A value and a posterior of each, at scores that need no table."""
    z = np.array([[-3.0, 0.5, 2.0], [1.0, 0.0, -1.0], [8.0, -8.0, 0.25]])
    labels = {"categorical": np.eye(3), "sparse": np.array([2, -1, 1])}
    return {
        name: {
            "value": float(loss(labels.get(name, np.eye(3)), z)),
            "posterior_logit": loss.posterior_logit(z).tolist(),
        }
        for name, loss in losses.items()
    }


def make_core(folder: Path) -> dict[str, Any]:
    """The losses as a pickle; their configs go into expected.json."""
    losses = core_losses()
    (folder / "losses.pickle").write_bytes(pickle.dumps(losses, protocol=4))
    configs = {name: loss.get_config() for name, loss in losses.items()}
    return {"core": {"configs": configs, "results": core_results(losses)}}


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    training, table = made_table(500, seed=0), made_table(24, seed=1)
    table = table.with_columns(town=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("Lima")).otherwise(pl.col("town")))
    table.write_csv(folder / "table.csv")
    training.write_csv(folder / "training.csv")
    expected = {
        **make_fits(folder, folder / "training.csv", folder / "table.csv"),
        **make_estimators(folder, training, table),
        **make_keras(folder, table),
        **make_torch(folder, table),
        **make_core(folder),
    }
    (folder / "training.csv").unlink()
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
