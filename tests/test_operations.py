"""How many operations torch runs where no kernel does, and how much memory they take (DESIGN.md, section 6).

Each operation is a launch on a GPU.  A dispatch mode sees them all, and keeps a call away from the native kernel.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import parfocal
import parfocal.torch

# Views, and tensors that nothing is written to.
FREE = ("alias", "as_strided", "detach", "empty", "expand", "permute", "reshape", "select", "slice", "squeeze")
FREE += ("t.", "transpose", "unsqueeze", "view")


class Operations(TorchDispatchMode):
    """The operations that write memory, and the most bytes alive at a time beside those of `given`."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.names: list[str] = []
        self.alive: dict[int, int] = {}
        self.most = 0
        self.given = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.__name__.startswith(FREE):
            self.names.append(function.__name__)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.follow(tensor.untyped_storage())
        return result

    def follow(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self.given and key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.most = max(self.most, sum(self.alive.values()))
            weakref.finalize(storage, self.alive.pop, key)


torch.manual_seed(0)
X = 3 * torch.randn(20_000)
Y = (torch.rand(20_000) < 0.3).float()
Z, CLASSES = 3 * torch.randn(40, 1000), torch.randint(0, 1000, (40,))
FEW, FEW_CLASSES = 3 * torch.randn(4000, 10), torch.randint(0, 10, (4000,))
SHARES = torch.softmax(torch.randn(40, 1000), 1)

SIGMOID, SOFTMAX = parfocal.torch.sigmoid_focal_loss, parfocal.torch.softmax_focal_loss
KERAS = parfocal.BinaryFocalCrossentropy(True, from_logits=True)


def cases() -> Iterator[Any]:
    """(loss, logits, targets, options, the most operations, the most arrays)."""
    yield pytest.param(SIGMOID, X, Y, {}, 60, 8, id="sigmoid, labels in float")
    yield pytest.param(SIGMOID, X, Y.long(), {}, 60, 8, id="sigmoid, labels in int")
    yield pytest.param(SIGMOID, X, Y, {"label_smoothing": 0.1}, 60, 8, id="sigmoid, smoothed")
    yield pytest.param(SIGMOID, X, Y, {"gamma": 1.5}, 80, 12, id="sigmoid, any gamma")
    yield pytest.param(SIGMOID, X, Y, {"soft_labels": "expected"}, 75, 12, id="sigmoid, expected")
    yield pytest.param(SIGMOID, X, torch.where(Y == 1, Y, -1), {"ignore_index": -1}, 90, 12, id="sigmoid, ignored")
    for name, logits, classes in (("1000", Z, CLASSES), ("10", FEW, FEW_CLASSES)):
        yield pytest.param(SOFTMAX, logits, classes, {}, 90, 8, id=f"softmax of {name}")
        yield pytest.param(SOFTMAX, logits, classes, {"gamma": 1.5}, 95, 8, id=f"softmax of {name}, any gamma")
        most = 12.5 if name == "10" else 12  # one number a row is a tenth of an array
        yield pytest.param(SOFTMAX, logits, classes, {"label_smoothing": 0.1}, 160, most, id=f"of {name}, smoothed")
    yield pytest.param(SOFTMAX, Z, SHARES, {}, 160, 12, id="softmax, shares")
    yield pytest.param(lambda x, y, **given: KERAS(y, x), X, Y, {}, 60, 8, id="Keras's names")


@pytest.mark.parametrize(("loss", "logits", "targets", "options", "operations", "arrays"), list(cases()))
def test_loss_and_gradient(
    loss: Callable[..., Tensor],
    logits: Tensor,
    targets: Tensor,
    options: dict[str, Any],
    operations: int,
    arrays: float,
) -> None:
    """Forward and backward together; arrays are full-size ones of float32, beside logits and targets."""
    logits = logits.clone().requires_grad_()
    with Operations(logits, targets) as counted:
        value = loss(logits, targets, reduction="mean", **options)
        (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.shape == logits.shape
    assert len(counted.names) <= operations, counted.names
    assert counted.most <= arrays * 4 * logits.numel() + 1000  # the numbers themselves are small tensors


def test_without_a_gradient_there_is_none() -> None:
    counts = []
    for requires_grad in (False, True):
        with Operations() as counted:
            SIGMOID(X.clone().requires_grad_(requires_grad), Y, reduction="mean")
        counts.append(len(counted.names))
    assert counts[0] <= counts[1] - 8
