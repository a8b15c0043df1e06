"""A look at each kind of kernel before a process first uses it on a device: are its numbers right there?

The kernels are proven where Triton interprets them.  Another version of Triton, another driver or another card is told
from a good one by a few losses and gradients that NumPy computes too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from parfocal.backends.numpy import NAMESPACE
from parfocal.backends.triton import launch
from parfocal.core import formula, softmax

# Twice the promised error: what is wrong is wrong by more.
TOLERANCE = 2e-6


def check(device: torch.device, binary: bool) -> None:
    """It waits for the device.  Raises ArithmeticError for wrong numbers."""
    compared = []
    with np.errstate(all="ignore"):
        for _ in range(2):  # a kernel is launched in another way when it is found again
            compared += of_binary(device) if binary else [*of_softmax(device, 5), *of_softmax(device, 100)]
    for found, expected in compared:
        assert found is not None
        error = np.abs(found.double().cpu().numpy() / expected - 1).max()
        if not error < TOLERANCE:  # or NaN
            raise ArithmeticError(f"the kernels' numbers are wrong on {device}, by a factor of {error:.1e}")


def of_binary(device: torch.device) -> list[tuple[Tensor | None, np.ndarray]]:
    x, y = np.linspace(-24, 24, 481, dtype=np.float32), np.arange(481) % 2.0
    loss, gradient = formula.binary_hard(NAMESPACE, x.astype(np.float64), y, 2.0, 0.75, 0.25, 1)
    labels = torch.from_numpy(y.astype(np.float32)).to(device)
    found = launch.binary(torch.from_numpy(x).to(device), labels, (2.0, 2.0), (0.25, 0.75), gradient=True)
    return [(found.loss, loss), (found.gradient, gradient)]


def of_softmax(device: torch.device, classes: int) -> list[tuple[Tensor | None, np.ndarray]]:
    z = np.linspace(-8, 8, 8 * classes, dtype=np.float32).reshape(classes, 8).T.copy()
    target: Any = np.arange(8) * 7 % classes
    loss, gradient = softmax.hard(NAMESPACE, z.astype(np.float64), target[:, None] == np.arange(classes), 1.5, 1)
    found = launch.softmax(torch.from_numpy(z).to(device), torch.from_numpy(target).to(device), 1, 1.5, gradient=True)
    return [(found.loss, loss[:, 0]), (found.gradient, gradient)]
