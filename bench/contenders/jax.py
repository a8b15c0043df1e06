"""optax under `jax.jit(jax.value_and_grad(...))`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax

from bench.contenders import CROSS_ENTROPY, PROMISED, Contender, Question, Tolerance, absent, loss_and_gradient
from bench.contenders.ours import binary_loss, softmax_loss
from bench.works import ALPHA, Data, Task

SUMMED = Tolerance(0, 1e-5, "each loss is right to rounding; the mean is a float32 sum")

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def contenders(task: Task, data: Data, library: str) -> Iterator[Contender]:
    logits, labels = jnp.asarray(data.logits), jnp.asarray(data.labels)
    focal = Question(alpha=task.alpha)

    def timed(name: str, loss: Loss, question: Question, tolerance: Tolerance, base: bool = False) -> Contender:
        step = jax.jit(jax.value_and_grad(loss))
        return Contender(
            name,
            lambda: jax.block_until_ready(step(logits, labels)),
            loss_and_gradient,
            question,
            tolerance,
            base,
        )

    ours = softmax_loss(focal) if task.work == "softmax" else binary_loss(focal)
    try:
        jax.eval_shape(ours, labels, logits)
        yield timed("parfocal in jax.jit", lambda x, y: ours(y, x), focal, PROMISED, base=True)
    except TypeError:
        yield absent("parfocal in jax.jit", "takes no JAX arrays yet")
    if task.work == "softmax":
        yield timed("optax softmax_cross_entropy", softmax_cross_entropy, CROSS_ENTROPY, SUMMED)
    else:
        yield timed("optax sigmoid_focal_loss", sigmoid_focal_loss, focal, SUMMED)


def sigmoid_focal_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_focal_loss(logits, labels, alpha=ALPHA, gamma=2.0).mean()


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
