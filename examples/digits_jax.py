"""Cross-entropy against focal loss in JAX, on a long tail of small images; seconds on one core.

    python examples/digits_jax.py [--data fashion] [--steps 400] [--seeds 6]

The last two lines that it prints say what focal loss changed.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import long_tail
import optax

import parfocal

# The loss takes class indices and logits.  At gamma 0 it is cross-entropy.
cross_entropy = parfocal.SparseCategoricalFocalCrossentropy(alpha=1, gamma=0, from_logits=True)
focal = parfocal.SparseCategoricalFocalCrossentropy(alpha=1, gamma=2, from_logits=True)
optimizer = optax.adam(2e-3)


def network(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Logits, from one hidden layer."""
    hidden = jax.nn.relu(images @ weights["w_1"] + weights["b_1"])
    return hidden @ weights["w_2"] + weights["b_2"]


@functools.partial(jax.jit, static_argnums=0)
def fit(loss: parfocal.Loss, weights: Any, images: jax.Array, labels: jax.Array, batches: jax.Array) -> Any:
    def step(state: Any, rows: jax.Array) -> Any:
        weights, memory = state
        gradient = jax.grad(lambda w: loss(labels[rows], network(w, images[rows])))(weights)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(weights, updates), memory), None

    return jax.lax.scan(step, (weights, optimizer.init(weights)), batches)[0][0]


def train(loss: parfocal.Loss, data: long_tail.Data, steps: int, seed: int) -> jax.Array:
    """Logits of the test images from a network trained with `loss`."""
    pixels, he = data.train_x.shape[1], jax.nn.initializers.he_normal()
    key_1, key_2 = jax.random.split(jax.random.key(seed))
    weights = {"w_1": he(key_1, (pixels, 64)), "w_2": he(key_2, (64, 10))}
    weights |= {"b_1": jnp.zeros(64), "b_2": jnp.zeros(10)}
    batches = jnp.asarray(long_tail.batches(data, steps, seed))
    weights = fit(loss, weights, jnp.asarray(data.train_x), jnp.asarray(data.train_y), batches)
    return network(weights, jnp.asarray(data.test_x))


if __name__ == "__main__":
    long_tail.compare(train, cross_entropy, focal)
