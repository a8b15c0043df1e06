"""The focal losses as JAX and optax write losses: `(logits, labels, *, ...)` in, one loss for each example out.

They are pure functions for jit, grad, hessian, vmap and sharded arrays, from logits only.  Reduce them yourself,
`jnp.mean(loss)`, or with a mask `jnp.sum(loss) / jnp.sum(where)`; or give `reduction`, and inside shard_map and pmap
`axis_name` too: a `pmean` of local means is not the mean of all.  Labels are constants of the derivatives.  A traced
alpha or gamma is not: its `jax.grad` is exact, at the extremes too.  Values cannot be read while a function is traced,
so an invalid label makes its own loss NaN.
"""

from parfocal.jax.functional import sigmoid_focal_loss, softmax_focal_loss

__all__ = ["sigmoid_focal_loss", "softmax_focal_loss"]
