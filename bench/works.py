"""The tasks and their data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ALPHA = 0.25  # weight of label 1 where torchvision, Keras, kornia and optax are compared; it is their default
BASE = 4_000_000  # larger tasks repeat these logits, so that their reference need not be larger
FEATURES = 20  # of the table that LightGBM trains on


@dataclass(frozen=True)
class Task:
    """One work at one size, and the libraries that take part."""

    work: str
    shape: tuple[int, ...]
    libraries: tuple[str, ...]
    alpha: float | None = None

    @property
    def size(self) -> str:
        return " x ".join(str(length) for length in self.shape)

    @property
    def logits(self) -> int:
        """The number of logits in a call."""
        return 0 if self.work == "import" else int(np.prod(self.shape))

    @property
    def copies(self) -> int:
        """How many copies of the same logits the data hold."""
        return max(1, self.shape[0] // BASE) if self.work == "binary" else 1

    @property
    def base_shape(self) -> tuple[int, ...]:
        return (self.shape[0] // self.copies, *self.shape[1:])


class Data(NamedTuple):
    logits: np.ndarray
    labels: np.ndarray


NUMPY = ("fallback", "numpy")

FULL = (
    Task("call", (32,), NUMPY),
    Task("call", (32,), ("torch",), ALPHA),
    Task("binary", (4096,), NUMPY),
    Task("binary", (262_144,), NUMPY),
    Task("binary", (4_000_000,), NUMPY),
    Task("binary", (40_000_000,), ("numpy",)),
    Task("binary", (4_000_000,), ("torch", "jax"), ALPHA),
    Task("softmax", (2_000_000, 2), (*NUMPY, "torch", "jax")),
    Task("softmax", (400_000, 10), (*NUMPY, "torch", "jax")),
    Task("softmax", (4096, 1000), (*NUMPY, "torch", "jax")),
    Task("softmax", (256, 32_000), ("numpy", "torch", "jax")),
    Task("boosting", (1_000_000,), NUMPY),
    Task("lightgbm", (1_000_000,), ("lightgbm",)),
    Task("lightgbm", (100_000, 7), ("lightgbm",)),
    Task("import", (1,), ("import",)),
)

# The same works at small sizes: every contender is checked, but the times mean little.
QUICK = (
    Task("call", (32,), NUMPY),
    Task("call", (32,), ("torch",), ALPHA),
    Task("binary", (4096,), NUMPY),
    Task("binary", (65_536,), ("torch", "jax"), ALPHA),
    Task("softmax", (2000, 10), (*NUMPY, "torch", "jax")),
    Task("boosting", (10_000,), NUMPY),
    Task("lightgbm", (10_000,), ("lightgbm",)),
    Task("lightgbm", (2000, 7), ("lightgbm",)),
    Task("import", (1,), ("import",)),
)

WORKS = tuple(dict.fromkeys(task.work for task in FULL))


def tasks(quick: bool, only: list[str]) -> list[Task]:
    return [task for task in (QUICK if quick else FULL) if task.work in only]


def draw(task: Task) -> Data:
    """Logits of a model in training, and rare positives.

    Both are such that Keras is right: it clips probabilities at 1e-7, logits of 16.1, and beyond its gradient is 0.
    Logits end at 15, and softmax labels are drawn from the softmax, by Gumbel noise: among 32,000 classes an even label
    would have less than 1e-7 in one row of three.
    """
    random = np.random.default_rng(20170807)
    dtype = np.float64 if task.work in ("boosting", "lightgbm") else np.float32
    logits = np.clip(3 * random.standard_normal(task.base_shape, dtype=dtype), -15, 15)
    if len(task.shape) == 2:
        return Data(logits, np.argmax(logits + random.gumbel(size=task.shape), axis=1))
    labels = (random.random(task.base_shape) < 0.01).astype(dtype)
    labels[0] = 1  # a batch of 32 has a positive too
    return Data(np.tile(logits, task.copies), np.tile(labels, task.copies))


def one_hot(task: Task, labels: np.ndarray) -> np.ndarray:
    rows = np.zeros(task.shape, dtype=np.float32)
    np.put_along_axis(rows, labels[:, None], 1, axis=1)
    return rows
