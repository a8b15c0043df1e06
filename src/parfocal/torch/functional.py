"""The focal losses as functions of tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from parfocal.core.parameters import checked
from parfocal.torch.rules import Rule, SigmoidRule, SoftmaxRule


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float | None = 0.25,
    gamma: Any = 2.0,
    reduction: str = "none",
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    soft_labels: str = "linear",
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy that looks less at easy examples, for each element (Lin et al. 2017, arXiv:1708.02002).

    A drop-in for torchvision.ops.sigmoid_focal_loss: its names, their order, its defaults.  With p = sigmoid(input) and
    p_t the probability of the true label:

        loss = -alpha_t (1 - p_t)^gamma log(p_t)

    Parameters
    ----------
    inputs : logits of any shape.
    targets : labels in [0, 1] of the same shape, of any real dtype.
    alpha : weight of label 1, in [0, 1]; label 0 has 1 - alpha.  None, or a number below 0, turns it off.  It does the
        work of binary_cross_entropy_with_logits's pos_weight: alpha = w / (1 + w) is pos_weight = w, up to a factor.
    gamma : >= 0.  0 is binary cross-entropy.  A pair (negatives, positives) gives the asymmetric loss, a
        `parfocal.GammaSchedule` such as `parfocal.FLSD53` a gamma that depends on p_t.
    reduction : "none", a loss for each element; "sum"; "mean", the sum divided by the number of elements, weighted or
        not; "mean_over_positives", divided by max(1, sum of targets), as RetinaNet does.
    weight : multiplies the losses; a number, a list or a tensor, whose shape broadcasts to the inputs'.
    ignore_index : a target, such as -1, that marks elements to leave out: loss and gradient are 0 there, and a mean
        does not count them.
    label_smoothing : s in [0, 1] replaces each label y by y (1 - s) + s / 2.
    soft_labels : what a label between 0 and 1 means, "linear" (as torchvision) or "expected"; see
        `parfocal.binary_focal_crossentropy`.
    normalizer : divides the sum in place of what `reduction` says, which must not be "none": a number, or a tensor with
        one element, such as the number of positives of all processes.  It is a constant in the gradient; 0 counts as 1.

    Returns
    -------
    A tensor of the inputs' dtype (float32 under autocast): of their shape with "none", else of shape ().

    Raises
    ------
    ValueError for parameters out of range, shapes that differ, labels outside [0, 1] (where they can be looked at).
    TypeError for inputs or targets that are not dense tensors, or do not hold real numbers.

    Notes
    -----
    Lists are read at each call.  So are tensors for alpha and gamma, which waits for their device and breaks a compiled
    graph; `SigmoidFocalLoss` reads them once.

    A tensor for alpha or gamma that asks for a gradient gets one (docs/formula.md, section 10).

    Examples
    --------
    >>> import torch
    >>> logits, labels = torch.tensor([-40.0, -2.0, 3.0]), torch.tensor([1.0, 0.0, 1.0])
    >>> sigmoid_focal_loss(logits, labels)
    tensor([1.0000e+01, 1.3527e-03, 2.7321e-05])
    >>> sigmoid_focal_loss(logits, labels, alpha=-1, gamma=0, reduction="mean")  # is binary cross-entropy
    tensor(13.3918)
    """
    rule = checked(SigmoidRule, alpha, gamma, reduction, ignore_index, label_smoothing, soft_labels)
    return rule(inputs, targets, weight, normalizer, trained_among(rule, alpha=alpha, gamma=gamma))


def softmax_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: Any = None,
    gamma: Any = 2.0,
    reduction: str = "mean",
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy that looks less at easy examples (Lin et al. 2017, arXiv:1708.02002).

    torch.nn.functional.cross_entropy, which it is at gamma 0, with a focal factor.  With p the softmax over the classes
    and y the target, one-hot or probabilities:

        loss = -sum over k of alpha_k weight_k y_k (1 - p_k)^gamma_k log(p_k)

    Parameters
    ----------
    inputs : logits of shape (C,), (N, C) or (N, C, d1, ...), C >= 2.
    targets : class indices, integers of shape (), (N,) or (N, d1, ...); or probabilities, of the inputs' shape.
    alpha : weight of the classes, one number >= 0 for each (a list, or a tensor of one dimension) or one for all, a
        constant factor.  It multiplies the losses and leaves the mean's divisor alone.  None is 1.
    gamma : >= 0: one number, one per class, or a `parfocal.GammaSchedule` such as `parfocal.FLSD53`.
    reduction : "mean", "sum", or "none", a loss for each sample.  "mean" divides as cross_entropy does: for class
        indices by the number of samples that are not ignored, or by the sum of their weight[target]; for probabilities
        by the number of samples.
    weight : cross_entropy's: like alpha, one number for each class, but it does change what "mean" divides by.
    ignore_index : an index that marks samples to leave out.  One that is not negative goes with class indices only.
    label_smoothing : s in [0, 1] replaces each y by y (1 - s) + s / C.
    normalizer : divides the sum in place of what `reduction` says, which must not be "none": a number, or a tensor with
        one element, such as a trainer's num_items_in_batch.  It is a constant in the gradient; 0 counts as 1.

    Returns
    -------
    A tensor of the inputs' dtype (float32 under autocast): without the class axis with "none", else of shape ().

    Raises
    ------
    ValueError for parameters out of range, shapes that do not fit, probabilities outside [0, 1], or a single class.
    IndexError (a ValueError too) for an invalid class index, where it can be looked at.
    TypeError for inputs or targets that are not dense tensors, or indices that are not integers.

    Notes
    -----
    Lists are read at each call.  So are tensors for alpha, gamma and weight, which waits for their device and breaks a
    compiled graph; `SoftmaxFocalLoss` reads them once.

    A tensor for alpha or gamma that asks for a gradient gets one, as in `sigmoid_focal_loss`; an alpha with one number
    per class needs class indices, and no label smoothing.

    Examples
    --------
    >>> import torch
    >>> logits, classes = torch.tensor([[0.1, 2.0, 0.3], [4.0, 0.0, 0.0]]), torch.tensor([2, 0])
    >>> softmax_focal_loss(logits, classes)
    tensor(0.7397)
    >>> softmax_focal_loss(logits, classes, gamma=[1, 2, 3], reduction="none")
    tensor([1.2765e+00, 1.2713e-03])
    """
    rule = checked(SoftmaxRule, alpha, gamma, reduction, weight, ignore_index, label_smoothing)
    return rule(inputs, targets, None, normalizer, trained_among(rule, alpha=alpha, gamma=gamma))


def trained_among(rule: Rule, **given: Any) -> dict[str, Tensor] | None:
    """Those of the settings that are trained."""
    return {name: given[name] for name in rule.trained} if rule.trained else None
