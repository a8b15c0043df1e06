"""A look at each kind of kernel before a process first uses it on a device: are its numbers right there?

The kernels are proven where Triton interprets them.  Another version of Triton, another driver or another card is told
from a good one by a few losses and gradients that NumPy computes too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from parfocal.backends.numpy import NAMESPACE
from parfocal.backends.triton import launch
from parfocal.core import formula, softmax

# Twice the promised error: what is wrong is wrong by more.
TOLERANCE = 2e-6


def check(device: torch.device, kind: str) -> None:
    """It waits for the device.  Raises ArithmeticError for wrong numbers.

    kind : "sums"; "binary"; or of a softmax "indices", or "dense" for smoothed indices and a label for each class.
    """
    compared = []
    with np.errstate(all="ignore"):
        for _ in range(2):  # a kernel is launched in another way when it is found again
            if kind == "sums":
                compared += of_sums(device)
            elif kind == "binary":
                compared += of_binary(device)
            else:
                compared += [*of_softmax(device, 5, kind), *of_softmax(device, 100, kind)]
    for found, expected, scale in compared:
        assert found is not None
        error = (np.abs(found.double().cpu().numpy() - expected) / scale).max()
        if not error < TOLERANCE:  # or NaN
            raise ArithmeticError(f"the kernels' numbers are wrong on {device}, by a factor of {error:.1e}")


Compared = tuple[Tensor | None, np.ndarray, np.ndarray]  # found, expected, and what an error is compared with


def of_sums(device: torch.device) -> list[Compared]:
    """Of labels, of losses, and a product with an upstream factor."""
    numbers = np.arange(1, 3001, dtype=np.float32)
    values = torch.from_numpy(numbers.copy()).to(device)
    total, divisor = launch.count((values % 3).long(), 1, weights=(0.5, 1.0, 4.0))
    summed = launch.total(values.double(), torch.float32, torch.full((), 7, device=device))
    launch.multiply(values, torch.full((), 3.0, device=device))
    expected = np.full(2, 1000 * 4.5), np.full(1, numbers.sum(dtype=np.float64) / 7), numbers * 3.0
    found = torch.stack([total, divisor]), summed[None], values
    return [(a, b, b) for a, b in zip(found, expected, strict=True)]


def of_binary(device: torch.device) -> list[Compared]:
    x, y = np.linspace(-24, 24, 481, dtype=np.float32), np.arange(481) % 2.0
    loss, gradient = formula.binary_hard(NAMESPACE, x.astype(np.float64), y, 2.0, 0.75, 0.25, 1)
    labels = torch.from_numpy(y.astype(np.float32)).to(device)
    found = launch.binary(torch.from_numpy(x).to(device), labels, (2.0, 2.0), (0.25, 0.75), gradient=True)
    return [(found.loss, loss, abs(loss)), (found.gradient, gradient, abs(gradient))]


def of_softmax(device: torch.device, classes: int, kind: str) -> list[Compared]:
    z = np.linspace(-8, 8, 8 * classes, dtype=np.float32).reshape(classes, 8).T.copy()
    target = np.arange(8) * 7 % classes
    one_hot, wide, labels = target[:, None] == np.arange(classes), z.astype(np.float64), torch.from_numpy(target)
    smoothing = 0.0 if kind == "indices" else 0.25
    if smoothing:
        weight = one_hot * (1 - smoothing) + smoothing / classes
        loss, gradient = softmax.dense(NAMESPACE, wide, weight, 1.5, 1)
        scale = np.broadcast_to(loss, z.shape)  # a gradient of several labels changes its sign
    else:
        loss, gradient = softmax.hard(NAMESPACE, wide, one_hot, 1.5, 1)
        scale = abs(gradient)
    tensors = torch.from_numpy(z).to(device), labels.to(device)
    found = launch.softmax(*tensors, 1, 1.5, gradient=True, smoothing=smoothing)
    return [(found.loss, loss[:, 0], abs(loss[:, 0])), (found.gradient, gradient, scale)]
