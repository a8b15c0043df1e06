"""JAX arrays and tracers: the formula in jax.numpy, its slopes as nested custom_jvp rules.

A custom_vjp would have no second derivative.  The rules are made of jax.numpy alone, so XLA fuses them with their
surroundings, and vmap, shard_map and higher derivatives pass through them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parfocal.backends.base import Backend
from parfocal.core.batch import Batch
from parfocal.core.formula import Array
from parfocal.core.laws import IN_GAMMA, Law


class Namespace:
    """jax.numpy for the laws, with a log1p for numbers in [0, 1] that XLA computes in vectors.

    log1p(e) = 2 atanh(s), s = e / (2 + e) <= 1/3.  Its Taylor series leaves out less than s^2n / (2n + 1): 1e-8 with 8
    terms, 1e-17 with 17.  1.8 ns an element became 0.2.  The usual trick, log(w) + (e - (w - 1)) / w with w = 1 + e, is
    wrong in XLA, which takes w - 1 for e.
    """

    flushes = True  # XLA turns what lies below the normal numbers into 0

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    @staticmethod
    def stored(values: Array) -> Array:
        """On a processor XLA computes an exponential again in each sum of it, and then not in vectors."""
        return jax.lax.optimization_barrier(values) if jax.default_backend() == "cpu" else values

    @staticmethod
    def one_hot(target: Array, z: Array) -> Array:
        return mask(target, z.shape[-1])

    @staticmethod
    def of_target(target: Array, values: Array) -> Array:
        return gathered(target, values)

    @staticmethod
    def log1p(e: Array) -> Array:
        s = e / (2 + e)
        square, series = s * s, jnp.zeros_like(e)
        for n in range(16 if e.dtype == jnp.float64 else 7, 0, -1):
            series = (series + 1 / (2 * n + 1)) * square
        return 2 * s + 2 * s * series


# The true class of a row is an index, -1 where there is none, or a mask: a sum over that would be two passes more.


def mask(target: Array, classes: int) -> Array:
    return target if target.dtype == bool else target == jnp.arange(classes, dtype=target.dtype)


def gathered(target: Array, values: Array) -> Array:
    """The value of the true class; where there is none, that of another one."""
    if target.dtype == bool:
        return jnp.where(target, values, 0.0).sum(axis=-1, keepdims=True)
    if values.ndim == 1:
        return jnp.take(values, target, mode="clip")
    return jnp.take_along_axis(values, target, axis=-1, mode="clip")


NAMESPACE = Namespace()


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def loss(law: Law, scores: Array, *constants: Array) -> Array:
    return law.term(NAMESPACE, 0, scores, *constants)


@loss.defjvp
def loss_rule(law: Law, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    slope = gradient(law, *primals)
    change = law.along(NAMESPACE, slope, tangents[0])
    if law.trained:
        of_gamma = in_gamma(law, *primals) * tangents[-1]
        change = change + (of_gamma if of_gamma.shape == change.shape else of_gamma.sum(axis=-1, keepdims=True))
    return loss(law, *primals), change


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def gradient(law: Law, scores: Array, *constants: Array) -> Array:
    return law.term(NAMESPACE, 1, scores, *constants)


@gradient.defjvp
def gradient_rule(law: Law, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    scores, *constants = primals
    change = law.product(NAMESPACE, scores, tangents[0], *constants)
    if law.trained:
        change = change + law.gamma_back(NAMESPACE, scores, tangents[-1], *constants)
    return gradient(law, *primals), change


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def in_gamma(law: Law, scores: Array, *constants: Array) -> Array:
    return law.term(NAMESPACE, IN_GAMMA, scores, *constants)


@in_gamma.defjvp
def in_gamma_rule(law: Law, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    scores, *constants = primals
    first, second = law.in_gamma(NAMESPACE, scores, *constants)
    return first, law.gamma_along(NAMESPACE, scores, tangents[0], *constants) + second * tangents[-1]


class Jax(Backend):
    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        return jnp.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))

    def owns(self, values: Any) -> bool:
        return isinstance(values, jax.Array)

    def detached(self, array: Array) -> Array:
        return jax.lax.stop_gradient(array)

    def targets(self, batch: Batch, classes: int) -> tuple[Array, Array, Array]:
        labels = jnp.expand_dims(batch.labels, axis=-1)
        found = (labels >= 0) & (labels < classes)
        target = jnp.where(found, labels, -1).astype(jnp.int32)
        if self.kind(labels) == "f":
            found = found & (target == labels)
            target = jnp.where(found, target, -1)
        if batch.valid is None:
            return target, found, found
        valid = jnp.expand_dims(batch.valid, axis=-1)
        return jnp.where(valid, target, -1), found & valid, found | ~valid

    def mask(self, target: Array, classes: int) -> Array:
        return mask(target, classes)

    def of_target(self, target: Array, values: Array) -> Array:
        return gathered(target, values)

    def differentiable_term(self, law: Law, order: int, scores: Array, constants: tuple[Array, ...]) -> Array:
        if order < 2:
            return (loss, gradient)[order](law, scores, *constants)
        return law.terms(NAMESPACE, scores, 2, *constants)[2]


BACKEND = Jax(jnp)  # posteriors ask for a log1p of more than 1


def backend(scores: Array) -> Jax:
    return BACKEND
