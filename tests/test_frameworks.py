"""What one library alone can do to a loss: narrow indices, labels that change, traces, exports, shards, open shapes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import parfocal
from libraries import COMPILE, QUICK, Library, all_terms, each, numpys, one, read_only
from tiers import tiers

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy

each_library = each([*QUICK, Library.TORCH_COMPILED])
each_quick_library = each(QUICK)


def close(got: Any, exact: Any, scale: Any = None) -> None:
    """To six digits of the scale, which is the number itself if none is given."""
    got, exact = numpys(got), numpys(exact)
    assert got.shape == exact.shape
    scale = np.abs(exact) if scale is None else scale
    assert (np.abs(got - exact) <= 1e-6 * scale).all(), np.abs(got - exact) / scale


# -- class indices in narrow integers

MANY = np.random.default_rng(0).normal(size=(6, 300)).astype(np.float32) * 3
INDICES = {
    "int8": [0, 1, 43, 44, 126, 127],
    "uint8": [0, 44, 127, 128, 254, 255],
    "int16": [0, 44, 128, 255, 256, 299],
    "uint16": [0, 44, 128, 255, 256, 299],
    "bool": [0, 1, 1, 0, 0, 1],
}


# Inductor compiles one of them.
NARROW = [
    one(library, dtype, id=f"{library.value}-{dtype}", full=library in COMPILE)
    for library in Library
    for dtype in (INDICES if library is not Library.TORCH_INDUCTOR else ["int8"])
]


@pytest.mark.parametrize(("library", "dtype"), NARROW)
def test_narrow_class_indices(library: Library, dtype: str) -> None:
    check_indices(library, np.asarray(INDICES[dtype], dtype), {"gamma": 2.0})


@pytest.mark.parametrize("ignore_class", [-1, 255])
@each_library
def test_bytes_and_an_ignored_class(library: Library, ignore_class: int) -> None:
    check_indices(library, np.asarray(INDICES["uint8"], np.uint8), {"ignore_class": ignore_class, "alpha": 0.5})


def check_indices(library: Library, labels: np.ndarray, settings: dict[str, Any]) -> None:
    settings = {**settings, "from_logits": True, "reduction": None}
    exact = Sparse(**settings, dtype="float64").value_and_grad(labels.astype(np.int64), MANY.astype(np.float64))
    assert (exact[0] == 0).sum() == (settings.get("ignore_class") == 255)
    loss, given, scores = Sparse(**settings), library.array(labels), library.array(MANY)
    with np.errstate(invalid="ignore"):  # array_api_strict is NumPy inside
        results = list(pairs(library, lambda s: loss(given, s), lambda s: loss.value_and_grad(given, s), scores))
    for got in results:
        for mine, wanted in zip(got, exact, strict=True):
            close(mine, wanted)


def pairs(library: Library, loss: Callable[..., Any], both: Callable[..., Any], scores: Any) -> Any:
    """Loss and gradient: what parfocal returns, and what the library finds where it differentiates."""
    if library in QUICK:
        yield library.run(both, scores)
    if library.differentiates:
        yield library.loss_and_gradient(loss, scores)


# -- weak label smoothing

# None near a minimum of the rule "linear", where a gradient of nearly 0 is the difference of two terms.
LOGITS = np.asarray([0, 1e-6, -1e-6, 0.4, -1.7, 2.3, -8.3, 17, -17, 36.9, -36.9, 80, -80], np.float32)
BOTH_LABELS, BOTH_LOGITS = np.repeat(np.float32([[0], [1]]), len(LOGITS), axis=0), np.tile(LOGITS, 2)[:, None]


@pytest.mark.parametrize("gamma", [2.0, 4.4])
@pytest.mark.parametrize("rule", ["linear", "expected"])
@pytest.mark.parametrize("smoothing", [0.1, 0.01])
@each_quick_library
def test_weak_label_smoothing_keeps_its_digits(library: Library, smoothing: float, rule: str, gamma: float) -> None:
    settings = {"gamma": gamma, "label_smoothing": smoothing, "soft_labels": rule, "from_logits": True}
    exact = Binary(**settings, reduction=None, dtype="float64")
    loss, gradient, curvature = all_terms(Library.NUMPY, exact, BOTH_LABELS, BOTH_LOGITS.astype(np.float64))
    given, scores = library.array(BOTH_LABELS), library.array(BOTH_LOGITS)
    got = all_terms(library, Binary(**settings, reduction=None), given, scores)
    close(got[0], loss)
    close(got[2], curvature, np.abs(curvature) + np.abs(gradient))
    for slope in (got[1], *got[3:]):
        close(slope, gradient)


# -- labels that change between forward and backward

CHANGES = {
    "binary": (Binary, np.float32([[0, 1, 0, 1], [1, 1, 0, 0]]), lambda y: 1 - y),
    "categorical": (Categorical, np.eye(4, dtype=np.float32)[:2], lambda y: y[:, ::-1].copy()),
    "sparse": (Sparse, np.asarray([0, 3]), lambda y: (y + 1) % 4),
}


def gradients(scores: torch.Tensor, value: torch.Tensor) -> Any:
    """In backward, in a second backward, and with create_graph."""
    for options in ({"retain_graph": True}, {"retain_graph": True}, {"create_graph": True}):
        yield lambda options=options: torch.autograd.grad(value.sum(), scores, **options)[0].detach()


@pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["NumPy's labels", "torch's labels"])
@pytest.mark.parametrize("reduction", [None, "sum"])
@pytest.mark.parametrize("kind", CHANGES)
def test_labels_that_change_after_the_loss(kind: str, reduction: str | None, array: Callable[..., Any]) -> None:
    loss_class, before, change = CHANGES[kind]
    loss = loss_class(from_logits=True, reduction=reduction)
    scores = torch.from_numpy(MANY[:2, :4].copy()).requires_grad_()
    old = loss.value_and_grad(before, scores.detach())[1]
    new = loss.value_and_grad(change(before), scores.detach())[1]
    assert (old - new).abs().max() > 0.01
    labels = array(before)
    value = loss(labels, scores)
    labels[...] = array(change(before))
    for gradient in gradients(scores, value):
        try:
            close(gradient(), old)
        except RuntimeError:  # torch's own: modified by an inplace operation
            assert isinstance(labels, torch.Tensor)


# -- NumPy's labels beside any tensor

LABELS = np.float32([[0, 1, 1, 0], [1, 0, 0, 0]])
AS_THEY_LIE = {
    "read-only": read_only(LABELS),
    "backwards": np.ascontiguousarray(LABELS[:, ::-1])[:, ::-1],
    "big-endian": LABELS.astype(">f4"),
    "every other": np.repeat(LABELS, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("labels", AS_THEY_LIE.values(), ids=list(AS_THEY_LIE))
@each([Library.TORCH, Library.TORCH_TRACED, Library.JAX, Library.TENSORFLOW])
def test_numpys_labels_as_they_lie(library: Library, labels: np.ndarray) -> None:
    loss = Binary(gamma=1.5, from_logits=True, reduction=None)
    exact = loss.value_and_grad(LABELS, MANY[:2, :4])
    for got, wanted in zip(
        library.loss_and_gradient(lambda scores: loss(labels, scores), library.array(MANY[:2, :4])), exact, strict=True
    ):
        close(got, wanted)


# -- from scores to probabilities


@pytest.mark.parametrize("kind", [Binary, Sparse])
@pytest.mark.parametrize("settings", [{}, {"gamma": 0.5, "label_smoothing": 0.1}, {"gamma": 10.0}], ids=str)
@each_quick_library
def test_posteriors_agree(library: Library, settings: dict[str, Any], kind: Any) -> None:
    loss, weights = kind(**settings, from_logits=True), [1.0, 2.0, 0.5][: 2 if kind is Binary else 3]
    scores = np.float32([[0.1, -3.0, 2.0], [17.0, 0.0, -1e-6]])
    shares = {"prior": [0.2, 0.3, 0.5], "prior_now": [0.5, 0.4, 0.1]}
    for function, priors in product((loss.posterior, loss.posterior_logit), ({}, shares)):
        exact = function(scores.astype(np.float64), weights, **priors)
        got = library.run(partial(function, class_weight=weights, **priors), library.array(scores))
        compared = (np.abs(exact) > 1e-6) & np.isfinite(exact)
        np.testing.assert_allclose(numpys(got)[compared], exact[compared], rtol=3e-5)


@pytest.mark.parametrize("kind", [Binary, Sparse])
def test_posteriors_compile_without_a_graph_break(kind: Any) -> None:
    loss, scores = kind(gamma=1.5, from_logits=True), torch.from_numpy(MANY[:2, :4])
    compiled = torch.compile(loss.posterior, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(scores), loss.posterior(scores))


# -- ways to trace, batch and differentiate that the adapters' tests do not cover

HARD, SOFT = np.float64([[0, 1], [1, 0], [1, 1], [0, 0]]), np.float64([[0, 1], [1, 0], [1, 1], [0, 0.25]])
LOSSES = {
    "binary": (Binary(True, 0.3, 1.5, from_logits=True), HARD),
    "a pair": (Binary(gamma=(3.0, 0.5), from_logits=True, reduction=None), HARD),
    "soft": (Binary(gamma=2, from_logits=True, label_smoothing=0.1), SOFT),
    "expected": (Binary(from_logits=True, soft_labels="expected"), SOFT),
    "sparse": (Sparse([1, 2, 3], [0.5, 2, 3], from_logits=True, ignore_class=-1), np.asarray([0, 2, 1, -1])),
    "sparse, one by one": (Sparse(from_logits=True, reduction=None), np.asarray([0, 2, 1, 1])),
    "dense": (Categorical(gamma=1.5, from_logits=True, label_smoothing=0.1), np.eye(3)[[0, 2, 1, 1]]),
    "probabilities": (Binary(gamma=1.5), SOFT),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def batch(name: str, dtype: str = "float64") -> tuple[parfocal.Loss, np.ndarray, np.ndarray]:
    """A loss with labels and scores, none of them where it is clipped."""
    loss, labels = LOSSES[name]
    loss = type(loss).from_config({**loss.get_config(), "dtype": dtype})
    scores = np.random.default_rng(3).normal(size=(4, 2 if isinstance(loss, Binary) else 3)) * 2
    return loss, labels, (scores if loss.parameters.from_logits else 1 / (1 + np.exp(-scores))).astype(dtype)


def torch_batch(name: str, dtype: str = "float64") -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    loss, labels, scores = batch(name, dtype)
    given = torch.from_numpy(labels)
    return lambda s: loss(given, s), torch.from_numpy(scores)


@each_loss
def test_gradcheck_and_gradgradcheck(name: str) -> None:
    loss, scores = torch_batch(name)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(loss, scores)
    assert torch.autograd.gradgradcheck(loss, scores)


@each_loss
def test_many_gradients_at_once(name: str) -> None:
    """`is_grads_batched` passes backward a batch of upstream gradients, and torch.autograd.functional uses it."""
    loss, scores = torch_batch(name)
    scores.requires_grad_()
    value = loss(scores)
    upstream = torch.from_numpy(np.random.default_rng(5).normal(size=(3, *value.shape)))
    wanted = torch.stack([torch.autograd.grad(value, scores, one, retain_graph=True)[0] for one in upstream])
    got = torch.autograd.grad(value, scores, upstream, retain_graph=True, is_grads_batched=True)[0]
    torch.testing.assert_close(got, wanted)
    jacobian = torch.autograd.functional.jacobian(loss, scores.detach(), vectorize=True)
    hessian = torch.autograd.functional.hessian(lambda s: loss(s).sum(), scores.detach(), vectorize=True)
    exact = torch.autograd.functional.hessian(lambda s: loss(s).sum(), scores.detach())
    torch.testing.assert_close(hessian, exact)
    torch.testing.assert_close(torch.tensordot(upstream, jacobian, value.ndim), wanted)


@pytest.mark.parametrize("name", tiers(LOSSES, ["binary", "soft", "sparse", "dense"]))
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_graphs_of_torch(name: str) -> None:
    loss, scores = torch_batch(name)
    value, others = loss(scores), torch_batch(name)[1].flip(0) * 0.75
    with FakeTensorMode() as mode:
        fake = loss_of_fakes(name, mode)
    assert (fake.shape, fake.dtype) == (value.shape, value.dtype)
    graph = make_fx(torch.func.grad(lambda s: loss(s).sum()))(scores)
    torch.testing.assert_close(graph(others), torch.func.grad(lambda s: loss(s).sum())(others))
    torch.testing.assert_close(torch.jit.trace(loss, scores)(others), loss(others))


def loss_of_fakes(name: str, mode: FakeTensorMode) -> torch.Tensor:
    loss, labels, scores = batch(name)
    made = (mode.from_tensor(torch.from_numpy(array)) for array in (labels, scores))
    return loss(*made)


@pytest.mark.parametrize("name", tiers(LOSSES, ["binary", "dense"]))
def test_losses_of_single_rows_by_vmap(name: str) -> None:
    """A loss of one row, mapped over a batch, is the losses of the batch."""
    loss, labels, scores = batch(name)
    alone = type(loss).from_config({**loss.get_config(), "reduction": "sum"})
    exact = np.stack([alone(labels[i : i + 1], scores[i : i + 1]) for i in range(len(scores))])

    def one(y: Any, s: Any) -> Any:
        return alone(y[None], s[None])

    got = torch.func.vmap(one)(torch.from_numpy(labels), torch.from_numpy(scores))
    np.testing.assert_allclose(got.numpy(), exact, rtol=1e-12)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.vmap(one)(jnp.asarray(labels), jnp.asarray(scores)), exact, rtol=1e-12)


@pytest.mark.full
@each_loss
def test_third_derivatives(name: str) -> None:
    """JAX derives what follows the stated rules by itself."""
    loss, labels, scores = batch(name)
    with jax.enable_x64(True):
        scale = 1.0 if loss.parameters.from_logits else scores * (1 - scores)  # how far a probability can go
        direction = jnp.asarray(np.random.default_rng(4).normal(size=scores.shape) * scale)

        def bend(t: Any) -> Any:
            """The second derivative along a line."""

            def line(t: Any) -> Any:
                return loss(labels, jnp.asarray(scores) + t * direction).sum()

            return jax.grad(jax.grad(line))(t)

        third = jax.grad(bend)(0.0)
        step = 1e-3
        quotient = (8 * (bend(step) - bend(-step)) - (bend(2 * step) - bend(-2 * step))) / (12 * step)
    assert abs(float(third)) > 1e-3
    assert float(third) == pytest.approx(float(quotient), rel=1e-7)


# -- tf.function: batches of unknown length, and XLA


FIRST_FUNCTIONS = [("sparse", False), ("dense", False), ("expected", False)]


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        pytest.param(name, xla, id=f"{name}-{way}", marks=[pytest.mark.full] * ((name, xla) not in FIRST_FUNCTIONS))
        for name in LOSSES
        for way, xla in (("graph", False), ("XLA", True))
    ],
)
def test_tf_functions_of_open_shapes(name: str, compiled: bool) -> None:
    import tensorflow as tf

    loss, labels, scores = batch(name, "float32")
    labels = labels.astype(np.float32 if labels.dtype == np.float64 else labels.dtype)

    @tf.function(
        jit_compile=compiled,
        input_signature=[tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in (labels, scores)],
    )
    def both(labels: Any, scores: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores)
        return value, tape.gradient(value, scores)

    for length in (4, 1, 0):
        exact = loss.value_and_grad(labels[:length], scores[:length])
        for got, wanted in zip(both(labels[:length], scores[:length]), exact, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-8)


def test_a_tensor_of_unknown_rank_is_told_how_to_know() -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def value(scores: Any) -> Any:
        return Binary(from_logits=True)(scores, scores)

    with pytest.raises(ValueError, match="ensure_shape"):
        value(np.zeros((2, 2), np.float32))


# -- JAX arrays over eight devices

SHARDED = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import parfocal
from parfocal.jax import softmax_focal_loss

devices = jax.devices()
assert len(devices) == 8
rows, both = Mesh(np.asarray(devices), ("rows",)), Mesh(np.asarray(devices).reshape(4, 2), ("rows", "classes"))
random = np.random.default_rng(0)
scores, labels = random.normal(size=(64, 6)).astype(np.float32) * 5, random.integers(0, 6, 64)
loss = parfocal.SparseCategoricalFocalCrossentropy(alpha=[1, 2, 3, 1, 2, 3], from_logits=True, ignore_class=5)
exact = loss.value_and_grad(labels, scores)

step = jax.jit(jax.value_and_grad(lambda s, y: loss(y, s)))
for mesh, of_scores, of_labels in ((rows, ("rows",), ("rows",)), (both, ("rows", "classes"), ("rows",))):
    s = jax.device_put(scores, NamedSharding(mesh, P(*of_scores)))
    y = jax.device_put(labels, NamedSharding(mesh, P(*of_labels)))
    value, gradient = step(s, y)
    assert gradient.sharding.is_equivalent_to(s.sharding, 2), gradient.sharding
    for got, wanted in zip((value, gradient), exact):
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-12)

# by hand: each device has its rows, and the sum over the devices is the loss of the batch
def share(s, y):
    return jax.lax.psum(softmax_focal_loss(s, y, gamma=1.5).sum(), "rows")

mapped = jax.shard_map(share, mesh=rows, in_specs=(P("rows"), P("rows")), out_specs=P())
value, gradient = jax.jit(jax.value_and_grad(mapped))(scores, labels)
plain = parfocal.SparseCategoricalFocalCrossentropy(gamma=1.5, alpha=1, from_logits=True, reduction="sum")
for got, wanted in zip((value, gradient), plain.value_and_grad(labels, scores)):
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-12)
print("eight devices agree")
"""


def test_jax_over_eight_devices() -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True)
    assert result.stdout == "eight devices agree\n", result.stderr[-3000:]


@pytest.mark.full
def test_the_first_call_of_a_process_may_be_compiled() -> None:
    """Then the backend is imported while torch.compile traces."""
    code = """
import torch, parfocal
loss = parfocal.SparseCategoricalFocalCrossentropy(gamma=[1.0, 2.0, 3.0], from_logits=True)
labels, scores = torch.tensor([0, 2]), torch.zeros(2, 3)
compiled = torch.compile(lambda scores: loss(labels, scores), fullgraph=True, backend="aot_eager")
print(abs(float(compiled(scores)) / float(loss(labels, scores)) - 1) < 1e-6)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["True"], said.stderr[-2000:]
