"""The two losses, checked and handed over as a `Batch`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from parfocal.backends.jax import BACKEND
from parfocal.core import formula, validation
from parfocal.core.hosts import Host, do
from parfocal.core.parameters import Binary, Categorical, SparseCategorical, checked

# The names of these functions' arguments; each element of a binary batch is a loss of its own.
JAX = Host(
    scores="logits",
    labels="labels",
    indices="class indices",
    binary="sigmoid_focal_loss",
    dense="softmax_focal_loss",
    sparse="softmax_focal_loss",
    by_element=True,
)


def is_tracer(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def concrete(value: Any) -> Any:
    """What a check can read of alpha or gamma: a JAX array as NumPy's."""
    return jax.device_get(value) if isinstance(value, jax.Array) else value


def sigmoid_focal_loss(
    logits: Any,
    labels: Any,
    *,
    alpha: Any = None,
    gamma: Any = 2.0,
    where: Any = None,
    soft_labels: str = "linear",
    reduction: str = "none",
    axis_name: Any = None,
) -> jax.Array:
    """The focal loss of every logit: -alpha_t (1 - p_t)^gamma log(p_t) (Lin et al. 2017, arXiv:1708.02002).

    A call of `optax.sigmoid_focal_loss` is one of this function, with the same defaults.

    Parameters
    ----------
    logits : floats of any shape.
    labels : 0, 1 or numbers between them, of a shape that broadcasts to that of the logits.
    alpha : weight of label 1, in [0, 1]; label 0 has 1 - alpha.  None: labels are not weighted.
    gamma : >= 0: a number, a pair (negatives, positives), or a `parfocal.GammaSchedule`.
    where : a mask that broadcasts to the logits.  Loss and gradient are 0 where it is False, whatever the logit is.
    soft_labels : what a label between 0 and 1 means, see `parfocal.binary_focal_crossentropy`.
    reduction : "none", a loss for each logit; "sum"; "mean", over those that `where` lets count; "mean_over_positives",
        the sum divided by max(1, sum of the labels), as RetinaNet does.
    axis_name : inside shard_map or pmap, the mesh axis, or a tuple of axes, over which the batch lies: sums and counts
        are added over it, so that the loss is that of the whole batch.  See docs/scale.md for the gradient.

    Returns
    -------
    The losses, in the shape and dtype of the logits; or their sum or mean, of shape ().

    Raises
    ------
    ValueError for parameters out of range, shapes that do not broadcast, and an axis_name without a reduction;
    TypeError for what holds no real numbers.

    Examples
    --------
    >>> loss = sigmoid_focal_loss(jnp.array([-40.0, 0.0]), jnp.array([1, 0]), alpha=0.25)
    >>> print([round(float(l), 4) for l in loss])
    [10.0, 0.13]
    """
    check_reduction(reduction, (*REDUCTIONS, "mean_over_positives"), axis_name)
    logits = BACKEND.float_array("logits", jnp.asarray(logits))
    labels = broadcast("labels", BACKEND.array_like("labels", labels, logits), logits.shape)
    where = None if where is None else broadcast("where", jnp.asarray(where), logits.shape)
    traced = traced_of(alpha, gamma)
    balanced = alpha is not None and "alpha" not in traced
    parameters: Binary = checked(
        Binary,
        balanced,
        concrete(alpha) if balanced else 0.25,
        2.0 if "gamma" in traced else concrete(gamma),
        True,
        0.0,
        -1,
        soft_labels,
    )
    for name, value in traced.items():
        if value.shape not in ((), (2,) if name == "gamma" else ()):
            raise ValueError(f"a traced {name} must be one number{' or a pair' * (name == 'gamma')}; got {value.shape}")
    batch = BACKEND.batch(parameters, labels, logits, None, where, JAX)._replace(**traced)
    loss = BACKEND.terms(batch, 0)[0]
    loss = loss if where is None else jnp.where(where, loss, 0.0)
    counting = batch.labels if reduction == "mean_over_positives" else where
    return reduced(loss, counting, reduction, axis_name).astype(logits.dtype)


REDUCTIONS = ("none", "sum", "mean")


def check_reduction(reduction: str, allowed: tuple[str, ...], axis_name: Any) -> None:
    validation.one_of("reduction", reduction, allowed)
    if axis_name is not None and reduction == "none":
        raise ValueError(
            f"axis_name={axis_name!r} adds up a reduced loss, and reduction='none' has no sum; give a reduction"
        )


def reduced(losses: jax.Array, counting: jax.Array | None, reduction: str, axis_name: Any) -> jax.Array:
    """The losses, their sum or their mean; `counting` has what to divide by when it is added up, None: the losses."""
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    if counting is None:
        count = jnp.full((), losses.size, losses.dtype)
    else:  # whole numbers are added exactly
        floating = jnp.issubdtype(counting.dtype, jnp.floating)
        count = jnp.sum(counting, dtype=losses.dtype if floating else jnp.int32).astype(losses.dtype)
    if axis_name is not None:
        add: Any = jax.lax.psum  # it has no types
        total, count = add((total, jax.lax.stop_gradient(count)), axis_name)
    if reduction == "sum":
        return total
    return total / (jnp.maximum(count, 1) if reduction == "mean_over_positives" else formula.or_one(jnp, count))


def traced_of(alpha: Any, gamma: Any) -> dict[str, Any]:
    """Those of the two that are traced: the loss is differentiated with respect to them."""
    return {name: value for name, value in (("alpha", alpha), ("gamma", gamma)) if is_tracer(value)}


def softmax_focal_loss(
    logits: Any,
    labels: Any,
    *,
    alpha: Any = None,
    gamma: Any = 2.0,
    where: Any = None,
    axis: int = -1,
    reduction: str = "none",
    axis_name: Any = None,
) -> jax.Array:
    """The focal loss of every row: -sum over k of alpha_k y_k (1 - p_k)^gamma log(p_k), p = softmax(logits).

    At gamma 0 it is `optax.softmax_cross_entropy`, and for class indices `..._with_integer_labels`.

    Parameters
    ----------
    logits : floats, with the classes on `axis`.
    labels : class indices, of the logits' shape without `axis`; or one number for each class, in the logits' shape.
    alpha : weight of the classes: one number, or one for each.  None: 1.
    gamma : >= 0: a number, one for each class, or a `parfocal.GammaSchedule`.
    where : a mask in the labels' shape, of the rows that count; or in the logits' shape, of the classes that do: the
        others are not part of the softmax.  Loss and gradient are 0 where it is False.
    reduction : "none", a loss for each row; "sum"; "mean", over the rows that `where` lets count.
    axis_name : as in `sigmoid_focal_loss`.

    Returns
    -------
    The losses, in the logits' shape without `axis`, and in their dtype; or their sum or mean, of shape ().

    Raises
    ------
    ValueError for parameters out of range, shapes that do not fit, and an axis_name without a reduction; TypeError for
    what holds no real numbers.

    Examples
    --------
    >>> loss = softmax_focal_loss(jnp.array([[0.1, 2.0, 0.3], [4.0, 0.0, 0.0]]), jnp.array([2, 0]))
    >>> print([round(float(l), 4) for l in loss])
    [1.4793, 0.0]
    """
    check_reduction(reduction, REDUCTIONS, axis_name)
    logits = BACKEND.float_array("logits", jnp.asarray(logits))
    labels = BACKEND.array_like("labels", labels, logits)
    traced = traced_of(alpha, gamma)
    sparse = labels.ndim == logits.ndim - 1
    kind = SparseCategorical if sparse else Categorical
    parameters = checked(
        kind,
        1.0 if alpha is None or "alpha" in traced else concrete(alpha),
        2.0 if "gamma" in traced else concrete(gamma),
        True,
        0.0,
        axis,
    )
    if where is not None:
        where = jnp.asarray(where)
        if where.ndim == logits.ndim:
            logits, labels, where = without_classes(logits, labels, broadcast("where", where, logits.shape), axis)
        else:
            axis = validation.axis_in_range(axis, logits.ndim, JAX.sparse, JAX.scores)
            where = broadcast("where", where, validation.without(logits.shape, axis))
    batch = BACKEND.batch(parameters, labels, logits, None, where, JAX)._replace(**traced)
    for name, value in traced.items():
        if value.shape not in ((), (logits.shape[batch.axis],)):
            raise ValueError(
                f"a traced {name} must be one number, or one for each of the {logits.shape[batch.axis]} classes; got "
                f"shape {value.shape}"
            )
    return reduced(BACKEND.terms(batch, 0)[0], where, reduction, axis_name).astype(logits.dtype)


def without_classes(
    logits: jax.Array, labels: jax.Array, kept: jax.Array, axis: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The logits and labels of the classes that are kept, and the rows that count."""
    rows = kept.any(axis=axis)
    if labels.ndim == logits.ndim:
        labels = jnp.where(kept, labels, jnp.zeros_like(labels))
    else:  # a row whose class is left out does not count
        shape = [1] * logits.ndim
        shape[axis] = -1
        target = jnp.expand_dims(labels, axis) == jnp.arange(logits.shape[axis]).reshape(shape)
        rows = rows & ~(target & ~kept).any(axis=axis)
    return jnp.where(kept, logits, -jnp.inf), labels, rows


def broadcast(name: str, array: jax.Array, shape: Any) -> jax.Array:
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        missing, remedy = len(shape) - array.ndim, ""
        if array.size == math.prod(shape):
            remedy = f"; write {name}.reshape{shape}"
        elif array.ndim and array.shape == shape[: array.ndim]:
            remedy = f"; for one number a row write {name}[{', '.join([':'] * array.ndim + ['None'] * missing)}]"
        if name == JAX.labels and missing == 1:
            remedy += f". For class indices use {JAX.sparse}"
        raise ValueError(f"{name} of shape {array.shape} {do(name)} not broadcast to {shape}{remedy}") from None
