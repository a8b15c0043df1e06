"""What one library alone can do to a loss: narrow indices, labels that change, traces, exports, shards, open shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import parfocal
from libraries import Library, all_terms, numpys, read_only

Binary, Categorical = parfocal.BinaryFocalCrossentropy, parfocal.CategoricalFocalCrossentropy
Sparse = parfocal.SparseCategoricalFocalCrossentropy

QUICK = [library for library in Library if library is not Library.TORCH_COMPILED]
each_library = pytest.mark.parametrize("library", Library, ids=lambda library: library.value)
each_quick_library = pytest.mark.parametrize("library", QUICK, ids=lambda library: library.value)


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


@pytest.mark.parametrize("dtype", INDICES)
@each_library
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
    if library is not Library.TORCH_COMPILED:
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
    """On the way back, once more, and as one that could be differentiated again."""
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
@pytest.mark.parametrize("library", [Library.TORCH, Library.TORCH_TRACED, Library.JAX, Library.TENSORFLOW], ids=str)
def test_numpys_labels_as_they_lie(library: Library, labels: np.ndarray) -> None:
    loss = Binary(gamma=1.5, from_logits=True, reduction=None)
    exact = loss.value_and_grad(LABELS, MANY[:2, :4])
    for got, wanted in zip(
        library.loss_and_gradient(lambda scores: loss(labels, scores), library.array(MANY[:2, :4])), exact, strict=True
    ):
        close(got, wanted)


# -- from scores to probabilities


@pytest.mark.parametrize("kind", [Binary, Sparse])
@pytest.mark.parametrize("settings", [{}, {"gamma": 0.5, "label_smoothing": 0.1}], ids=str)
@each_quick_library
def test_posteriors_agree(library: Library, settings: dict[str, Any], kind: Any) -> None:
    loss, weights = kind(**settings, from_logits=True), [1.0, 2.0, 0.5][: 2 if kind is Binary else 3]
    scores = np.float32([[0.1, -3.0, 2.0], [17.0, 0.0, -1e-6]])
    for function in (loss.posterior, loss.posterior_logit):
        exact = function(scores.astype(np.float64), weights)
        got = library.run(partial(function, class_weight=weights), library.array(scores))
        compared = (np.abs(exact) > 1e-6) & np.isfinite(exact)
        np.testing.assert_allclose(numpys(got)[compared], exact[compared], rtol=3e-5)


@pytest.mark.parametrize("kind", [Binary, Sparse])
def test_posteriors_compile_without_a_graph_break(kind: Any) -> None:
    loss, scores = kind(gamma=1.5, from_logits=True), torch.from_numpy(MANY[:2, :4])
    compiled = torch.compile(loss.posterior, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(scores), loss.posterior(scores))
