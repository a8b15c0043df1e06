"""What test_jax_ranks.py runs in a process with 4 devices: each knows a part of the batch, with other counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from parfocal.jax import sigmoid_focal_loss, softmax_focal_loss

ROWS, DEVICES = 24, 4
RNG = np.random.default_rng(0)
X, W = jnp.asarray(RNG.normal(size=(ROWS, 5))), jnp.asarray(RNG.normal(size=(5, 3)))
ONES = jnp.asarray(RNG.random((ROWS, 3)) < 0.4).at[:6].set(False).astype(jnp.float64)
ONE = jnp.zeros((ROWS, 3)).at[20, 2].set(1)
LABELS = jnp.asarray(RNG.integers(0, 3, size=ROWS))
ROW_MASK = jnp.arange(ROWS) % 7 > jnp.arange(ROWS) // 6
MASK = jnp.asarray(RNG.random((ROWS, 3)) < 0.7).at[:6].set(False)  # the first device has nothing that counts
OVER = "mean_over_positives"
Loss = Callable[..., jax.Array]


def sigmoid(reduction: str, **options: Any) -> Loss:
    return lambda z, y, where, **more: sigmoid_focal_loss(z, y, where=where, reduction=reduction, **options, **more)


def softmax(reduction: str, **options: Any) -> Loss:
    return lambda z, y, where, **more: softmax_focal_loss(z, y, where=where, reduction=reduction, **options, **more)


CASES: dict[str, tuple[Loss, jax.Array, jax.Array | None]] = {
    "mean": (sigmoid("mean"), ONES, None),
    "sum": (sigmoid("sum"), ONES, MASK),
    "mean, masked": (sigmoid("mean"), ONES, MASK),
    "positives": (sigmoid(OVER, alpha=0.25), ONES, None),
    "positives, masked": (sigmoid(OVER), ONES, MASK),
    "positives, ints": (sigmoid(OVER), ONES.astype(jnp.int8), None),
    "positives, one in all": (sigmoid(OVER), ONE, None),
    "positives, none": (sigmoid(OVER), 0 * ONE, None),
    "nothing counts": (sigmoid("mean"), ONES, jnp.zeros_like(MASK)),
    "softmax": (softmax("mean"), LABELS, None),
    "softmax, masked": (softmax("mean", alpha=[1, 2, 3]), LABELS, ROW_MASK),
    "softmax, classes": (softmax("mean"), LABELS, MASK.at[:, 0].set(True)),
    "softmax, sum": (softmax("sum"), LABELS, ROW_MASK),
}
MESH = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
SPLIT, SAME = PartitionSpec("data"), PartitionSpec()


def sharded(step: Callable[..., Any], arrays: Any, checked: bool) -> Any:
    specs = (SAME, jax.tree.map(lambda _: SPLIT, arrays))
    mapped = jax.shard_map(step, mesh=MESH, in_specs=specs, out_specs=SAME, check_vma=checked)
    return jax.jit(mapped)(W, arrays)


def pmapped(step: Callable[..., Any], arrays: Any) -> Any:
    parts = jax.tree.map(lambda a: a.reshape(DEVICES, -1, *a.shape[1:]), arrays)
    return jax.tree.map(lambda a: a[0], jax.pmap(step, axis_name="data", in_axes=(None, 0))(W, parts))


def every_case(**options: Any) -> Callable[..., Any]:
    """Value and gradient of every case, in one program, as compiling takes the time."""

    def of(weights: jax.Array, arrays: Any) -> dict[str, Any]:
        x, parts = arrays
        return {
            name: jax.value_and_grad(lambda w, name=name: CASES[name][0](x @ w, *parts[name], **options))(weights)
            for name in parts
        }

    return of


def averaged(step: Callable[..., Any]) -> Callable[..., Any]:
    def of(*arguments: Any) -> Any:
        return {name: (value, jax.lax.pmean(gradient, "data")) for name, (value, gradient) in step(*arguments).items()}

    return of


def error(found: Any, wanted: Any) -> float:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(float(jnp.linalg.norm(got - exact) / (jnp.linalg.norm(exact) or 1)) for got, exact in pairs)


def main() -> None:
    assert len(jax.devices()) == DEVICES
    arrays = X, {name: (labels, where) for name, (_, labels, where) in CASES.items()}
    wanted, whole = jax.jit(every_case())(W, arrays), every_case(axis_name="data")
    placed = jax.tree.map(lambda a: jax.device_put(a, NamedSharding(MESH, SPLIT)), arrays)
    for way, found in {
        "shard_map": sharded(whole, arrays, checked=True),
        "shard_map, unchecked": sharded(averaged(whole), arrays, checked=False),
        "pmap": pmapped(averaged(whole), arrays),
        "jit": jax.jit(every_case())(W, placed),  # right without axis_name
    }.items():
        errors = {name: error(found[name], wanted[name]) for name in CASES}
        print(way, errors)
        assert max(errors.values()) < 1e-12, way
    local = sharded(averaged(every_case()), arrays, checked=False)  # what axis_name is for
    assert error(local["positives"][1], wanted["positives"][1]) > 0.5
    print(f"{len(CASES)} cases are right")


if __name__ == "__main__":
    main()
