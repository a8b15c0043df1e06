"""What the examples share: a long tail of small images, and the table that compares two losses on it.

Class k keeps n_0 mu^k training images, so the last class is rare.  The test images are balanced, which is good for
recall; for log loss and calibration each is weighted so that the classes have the shares that training has, since
probabilities can only be right for one set of shares.  Every seed draws the images and starts the network anew.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t
from sklearn.datasets import load_digits

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts it
BATCH = 128


class Data(NamedTuple):
    """Images as rows of float32 in [0, 1], their classes, and the weights of the test images."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    weight: np.ndarray


def read_fashion() -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 training images; the tail and the test images are both drawn from them."""
    images, labels = (FASHION / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    if not (images.exists() and labels.exists()):
        raise SystemExit(f"Fashion-MNIST is not in {FASHION}: apt-get install dataset-fashion-mnist puts it there")
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)  # after the header
    return pixels.reshape(-1, 28 * 28), np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)


def tail_of(pixels: np.ndarray, labels: np.ndarray, n_0: int, mu: float, seed: int) -> Data:
    """round(n_0 mu^k) training images of class k, and up to 1000 test images that are not among its first n_0."""
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    train = np.concatenate([rows[: round(n_0 * mu**k)] for k, rows in enumerate(shuffled)])
    test = np.concatenate([rows[n_0 : n_0 + 1000] for rows in shuffled])
    train_y, test_y = labels[train].astype(np.int64), labels[test].astype(np.int64)
    shares = [np.bincount(y) / len(y) for y in (train_y, test_y)]
    train_x, test_x = (pixels[rows].astype(np.float32) / np.float32(pixels.max()) for rows in (train, test))
    return Data(train_x, train_y, test_x, test_y, (shares[0] / shares[1])[test_y])


def read(name: str) -> Callable[[int], Data]:
    """A function from seed to data."""
    pixels, labels = read_fashion() if name == "fashion" else load_digits(return_X_y=True)
    n_0, mu = (1000, 0.6) if name == "fashion" else (80, 0.7)
    return lambda seed: tail_of(pixels, labels, n_0, mu, seed)


def batches(data: Data, steps: int, seed: int) -> np.ndarray:
    """The rows to train on in each step, (steps, BATCH); the same for every loss."""
    return np.random.default_rng(seed).integers(len(data.train_y), size=(steps, BATCH))


def calibration_error(probabilities: np.ndarray, data: Data, bins: int = 15) -> float:
    """Expected calibration error of the predicted class, over bins of equal weight."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == data.test_y
    order, weight = np.argsort(sure), data.weight / data.weight.sum()
    where = np.minimum((np.cumsum(weight[order]) * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(where, (weight * (sure - right))[order], bins)).sum())


def measures(probabilities: np.ndarray, data: Data) -> list[float]:
    """Recall of each class in %, their mean, log loss, calibration error."""
    right = probabilities.argmax(axis=1) == data.test_y
    recall = 100 * np.bincount(data.test_y, right) / np.bincount(data.test_y)
    true = np.maximum(probabilities[np.arange(len(right)), data.test_y], np.finfo(np.float32).tiny)
    log_loss = np.average(-np.log(true), weights=data.weight)
    return [*recall, recall.mean(), log_loss, calibration_error(probabilities, data)]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over the seeds."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def verdict(gain: np.ndarray) -> str:
    """The effect of focal loss on macro recall in words, from its gains over cross-entropy, one for each seed."""
    mean, error = mean_and_error(gain)
    half = float(t.ppf(0.975, len(gain) - 1)) * error  # half of Student's 95 % interval, since the seeds are few
    word = "bought nothing" if abs(mean) <= half else "helped" if mean > 0 else "hurt"
    interval = f"{mean:+.1f} points (95 % interval {mean - half:+.1f} to {mean + half:+.1f})"
    return f"Focal loss {word} here: its macro recall against cross-entropy's is {interval}."


def row(name: str, values: np.ndarray) -> str:
    """A line of the table, from (seeds, measures)."""
    recalls = "".join(f"{r:4.0f}" for r in values[:, :-3].mean(axis=0))
    macro, log_loss, error = (mean_and_error(values[:, j]) for j in (-3, -2, -1))
    return f"{name:18}{recalls}   {macro[0]:5.1f} ±{macro[1]:3.1f}" + "".join(
        f"   {mean:5.3f} ±{noise:5.3f}" for mean, noise in (log_loss, error)
    )


def compare(train: Callable[[Any, Data, int, int], Any], cross_entropy: Any, focal: Any) -> None:
    """Train with both losses and print the table.  train(loss, data, steps, seed) returns the test images' logits."""
    parser = argparse.ArgumentParser(description="Cross-entropy against focal loss on a long tail of images.")
    parser.add_argument("--data", choices=("digits", "fashion"), default="digits")
    parser.add_argument("--steps", type=int, default=400, help="of 128 images each (default: 400)")
    parser.add_argument("--seeds", type=int, default=6, help="how often everything is drawn anew (default: 6)")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be 2 or more: the noise is measured between seeds")
    draw, outcomes = read(options.data), []
    for seed in range(options.seeds):
        data = draw(seed)
        plain, scores = (train(loss, data, options.steps, seed) for loss in (cross_entropy, focal))
        raw, recovered = softmax(np.asarray(scores)), np.asarray(focal.posterior(scores))
        outcomes.append([measures(p, data) for p in (softmax(np.asarray(plain)), raw, recovered)])
    by_loss = np.swapaxes(np.array(outcomes), 0, 1)
    counts = np.bincount(data.train_y)
    print(f"{options.data}, {options.steps} steps; mean ± standard error over {options.seeds} seeds\n")
    print(f"{'class':18}{''.join(f'{k:4}' for k in range(len(counts)))}    macro        log        calibr.")
    print(f"{'training images':18}{''.join(f'{n:4}' for n in counts)}   recall       loss          error")
    print("recall, %")
    names = ("  cross-entropy", "  focal, raw", "  focal, recovered")
    print("\n".join(row(name, values) for name, values in zip(names, by_loss, strict=True)))
    losses = by_loss[:, :, -2].mean(axis=1)
    print(f"\n{verdict(by_loss[1, :, -3] - by_loss[0, :, -3])}")
    print(f"Recovery took its log loss from {losses[1]:.3f} to {losses[2]:.3f}; cross-entropy has {losses[0]:.3f}.")
