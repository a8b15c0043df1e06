"""Focal losses of libraries that cannot be imported beside this PyTorch, written out naively; and their own files.

torchvision's compiled half is made for another build of PyTorch, and timm and segmentation_models_pytorch import
torchvision.  So their formulas stand here, in float64.  Each file of theirs that holds a loss does run by itself: where
PARFOCAL_PEERS names a folder with the three packages, `from_files` takes the losses from there.  .ci/run makes one.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

VERSIONS = {"torchvision": "0.28.0", "timm": "1.0.31", "segmentation_models_pytorch": "0.6.0"}


def reduced(loss: Tensor, reduction: str) -> Tensor:
    return {"none": lambda: loss, "mean": loss.mean, "sum": loss.sum, "batchmean": lambda: loss.sum() / len(loss)}[
        reduction
    ]()


# -- torchvision 0.28


def sigmoid_focal_loss(x: Tensor, y: Tensor, alpha: float = 0.25, gamma: float = 2, reduction: str = "none") -> Tensor:
    p = torch.sigmoid(x)
    p_t = y * p + (1 - y) * (1 - p)
    loss = -(y * p.log() + (1 - y) * (1 - p).log()) * (1 - p_t) ** gamma
    return reduced(loss * (alpha * y + (1 - alpha) * (1 - y)) if alpha >= 0 else loss, reduction)


# -- timm 1.0.31, hard labels and logits whose probabilities it does not clip


def asymmetric_multi_label(
    gamma_neg: float = 4,
    gamma_pos: float = 1,
    clip: float | None = 0.05,
    reduction: str = "batchmean",
    pos_weight: Tensor | float = 1.0,
) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(x)
        q = (1 - p + (clip or 0)).clamp(max=1)
        positives = pos_weight * (1 - p) ** gamma_pos * p.log()
        negatives = (1 - q) ** gamma_neg * q.log()
        return reduced(-torch.where(y == 1, positives, negatives), reduction)

    return loss


def asymmetric_single_label(gamma_pos: float = 1, gamma_neg: float = 4, eps: float = 0.1) -> Callable[..., Tensor]:
    def loss(x: Tensor, i: Tensor) -> Tensor:
        p, true = torch.softmax(x, -1), functional.one_hot(i, x.shape[-1])
        labels = true * (1 - eps) + eps / x.shape[-1]
        factor = torch.where(true == 1, (1 - p) ** gamma_pos, p**gamma_neg)
        return -(labels * factor * p.log()).sum(-1).mean()

    return loss


# -- segmentation_models_pytorch 0.6


def smp_focal_loss(
    mode: str,
    alpha: float | None = None,
    gamma: float = 2.0,
    normalized: bool = False,
    reduced_threshold: float | None = None,
    class_weights: Tensor | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    def binary(x: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(x)
        ce = -(y * p.log() + (1 - y) * (1 - p).log())
        p_t = torch.exp(-ce)
        factor = (1 - p_t) ** gamma
        if reduced_threshold is not None:
            factor = torch.where(p_t < reduced_threshold, 1.0, factor / reduced_threshold**gamma)
        loss = factor * ce * (1 if alpha is None else alpha * y + (1 - alpha) * (1 - y))
        return (loss / factor.sum() if normalized else loss).mean()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        if mode == "binary":
            return binary(x, y)
        labels = [y == c if mode == "multiclass" else y[:, c] for c in range(x.shape[1])]
        losses = torch.stack([binary(x[:, c], labels[c].to(x.dtype)) for c in range(x.shape[1])])
        weights = torch.ones_like(losses) if class_weights is None else class_weights
        return (losses * weights).sum() / weights.sum()

    return loss


def as_formulas() -> dict[str, Any]:
    return {
        "torchvision": SimpleNamespace(ops=SimpleNamespace(sigmoid_focal_loss=sigmoid_focal_loss)),
        "timm": SimpleNamespace(
            loss=SimpleNamespace(
                AsymmetricLossMultiLabel=asymmetric_multi_label, AsymmetricLossSingleLabel=asymmetric_single_label
            )
        ),
        "smp": SimpleNamespace(losses=SimpleNamespace(FocalLoss=smp_focal_loss)),
    }


def without_init(folder: Path, *packages: str) -> None:
    """Packages whose modules can be imported, while their own __init__ is not run."""
    for name in packages:
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package


def from_files(folder: Path) -> dict[str, Any]:
    for name, version in VERSIONS.items():
        found = [path.name for path in folder.glob(f"{name}-*.dist-info")]
        assert found == [f"{name}-{version}.dist-info"], f"{folder} has {found or 'no'} {name}; wanted is {version}"
    without_init(folder, "torchvision", "torchvision.ops", "timm", "timm.loss")
    without_init(folder, "segmentation_models_pytorch", "segmentation_models_pytorch.losses")
    return {
        "torchvision": SimpleNamespace(ops=importlib.import_module("torchvision.ops.focal_loss")),
        "timm": SimpleNamespace(loss=importlib.import_module("timm.loss.asymmetric_loss")),
        "smp": SimpleNamespace(losses=importlib.import_module("segmentation_models_pytorch.losses.focal")),
    }
