"""Logits and labels that are the same on every machine, and the hashes of what is computed from them.

PCG64's integers are fixed for good, and become float32 by exact operations alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from parfocal.torch import sigmoid_focal_loss, softmax_focal_loss

FILE = Path(__file__).parents[1] / "gpu_bits.json"

BLOCK = 65536  # values of one hash
GAMMAS = (0.0, 1.0, 1.5, 2.0, 3.0, 4.4, 10.0)
LOGITS = 16 * BLOCK

SOFTMAX_GAMMAS = (0.0, 2.0, 4.4)
ROWS = {10: 13107, 1000: 262, 100_000: 8}  # by classes

# 24 bits and a sign times one of these: logits up to 1, 16, 128 and 16,384.
SCALES = np.float32(2.0) ** np.array([-23, -19, -19, -19, -19, -16, -16, -9], dtype=np.float32)
SPECIAL = np.array([0, -0.0, 1, -1, 17, -17, 88, -88, 104, -104, 1e4, -1e4, np.inf, -np.inf, np.nan], np.float32)

SMALLEST_NORMAL = np.float32(2.0**-126)


class Bits(NamedTuple):
    """What is computed from some inputs, and the inputs."""

    inputs: Tensor
    targets: Tensor
    loss: Tensor
    gradient: Tensor


def integers(count: int, seed: int) -> np.ndarray:
    return np.random.PCG64(seed).random_raw(count)


def mantissas(raw: np.ndarray) -> np.ndarray:
    """Whole numbers in [-2^23, 2^23), which float32 holds exactly."""
    return (((raw >> np.uint64(8)) & np.uint64(0xFFFFFF)).astype(np.int32) - 2**23).astype(np.float32)


def binary(count: int) -> tuple[Tensor, Tensor]:
    raw = integers(count, 1)
    logits = mantissas(raw) * SCALES[(raw & np.uint64(7)).astype(np.int64)]
    labels = ((raw >> np.uint64(40)) & np.uint64(1)).astype(np.float32)
    for label in (0, 1):
        places = slice(label * len(SPECIAL), (label + 1) * len(SPECIAL))
        logits[places], labels[places] = SPECIAL, label
    return torch.from_numpy(logits), torch.from_numpy(labels)


def softmax(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    """Rows of one scale each, and a target."""
    raw = integers(rows * classes, classes).reshape(rows, classes)
    logits = mantissas(raw) * SCALES[np.arange(rows) % len(SCALES)][:, None]
    targets = (integers(rows, classes + 1) >> np.uint64(32)) % np.uint64(classes)
    return torch.from_numpy(logits), torch.from_numpy(targets.astype(np.int64))


def computed(inputs: Tensor, targets: Tensor, gamma: float) -> Bits:
    """Each loss and its gradient, by the public functions."""
    inputs = inputs.detach().requires_grad_()
    function = sigmoid_focal_loss if inputs.shape == targets.shape else softmax_focal_loss
    loss = function(inputs, targets, alpha=0.25, gamma=gamma, reduction="none")
    (gradient,) = torch.autograd.grad(loss, inputs, torch.ones_like(loss))
    return Bits(inputs.detach(), targets, loss.detach(), gradient)


def hashes(values: Tensor) -> list[str]:
    """One SHA-256 for each block.  All NaN are one, and what is smaller than normal numbers is 0."""
    array = values.detach().cpu().numpy().reshape(-1).astype(np.float32, copy=True)
    array[np.isnan(array)] = np.float32("nan")
    array[np.abs(array) < SMALLEST_NORMAL] = 0.0
    little = array.astype("<f4")
    return [hashlib.sha256(little[at : at + BLOCK].tobytes()).hexdigest() for at in range(0, len(little), BLOCK)]


def cases() -> list[tuple[str, float]]:
    """What gpu_bits.json has: (its name, the gamma)."""
    named = [("binary", gamma) for gamma in GAMMAS]
    return named + [(f"softmax {classes}", gamma) for classes in ROWS for gamma in SOFTMAX_GAMMAS]


def write(made: dict[str, Any]) -> None:
    """gpu_bits.json, with a line for each gamma."""

    def text(value: Any) -> str:
        return json.dumps(value) if not isinstance(value, dict) else braced(map(json.dumps, value.values()), value)

    def braced(texts: Iterable[str], names: Iterable[str]) -> str:
        return "{\n" + ",\n".join(f'"{name}": {of}' for name, of in zip(names, texts, strict=True)) + "\n}"

    FILE.write_text(braced(map(text, made.values()), made) + "\n")


def of(name: str, first: int | None = None) -> tuple[Tensor, Tensor]:
    """The inputs of a case; of a binary one the `first` logits, and of a softmax all."""
    if name == "binary":
        logits, labels = binary(LOGITS)
        return logits[:first], labels[:first]
    classes = int(name.split()[1])
    return softmax(ROWS[classes], classes)
