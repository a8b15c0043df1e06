"""parfocal.torch in trainers: dtypes, mistakes, torchmetrics, processes, and Hugging Face's Trainer."""

from __future__ import annotations

import copy
import pickle
import runpy
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.utilities import dim_zero_sum

import parfocal
from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss, trainer_loss
from parfocal.torch.metrics import FocalMetric, SigmoidFocalMetric, SoftmaxFocalMetric
from tiers import tiers

ROOT = Path(__file__).parents[1]


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 3, 1, 2, 3, 0])
ONES = torch.nn.functional.one_hot(LABELS, 4).float()


# -- dtypes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = (4 * logits(6, 4)).to(dtype).requires_grad_()
    for loss, target in ((sigmoid_focal_loss, ONES), (softmax_focal_loss, LABELS)):
        value = loss(x, target, reduction="sum")
        (gradient,) = torch.autograd.grad(value, x)
        exact = x.detach().float().requires_grad_()
        wanted = loss(exact, target, reduction="sum")
        assert value.dtype == gradient.dtype == dtype
        assert torch.equal(value, wanted.to(dtype))
        assert torch.equal(gradient, torch.autograd.grad(wanted, exact)[0].to(dtype))


@pytest.mark.parametrize("compiled", tiers([False, True], [False]))
@pytest.mark.filterwarnings("ignore:.*should not be instantiated", "ignore:The .grad attribute")  # dynamo's own
def test_autocast(compiled: bool) -> None:
    layer, x = torch.nn.Linear(5, 4), logits(6, 5)
    torch._dynamo.reset()
    for module, target in ((SigmoidFocalLoss(), ONES), (SoftmaxFocalLoss(weight=[1, 2, 3, 4]), LABELS)):
        loss = torch.compile(module, fullgraph=True, backend="aot_eager") if compiled else module
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = layer(x)
            value = loss(z, target)
        assert z.dtype == torch.bfloat16
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, module(z.float(), target))
        value.backward()
        assert layer.weight.grad.isfinite().all()


def test_labels_of_any_type_and_integers_as_logits() -> None:
    x = logits(6, 4)
    for dtype in (torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float64):
        assert torch.equal(sigmoid_focal_loss(x, ONES.to(dtype)), sigmoid_focal_loss(x, ONES))
    for dtype in (torch.uint8, torch.int8, torch.int32):
        assert torch.equal(softmax_focal_loss(x, LABELS.to(dtype)), softmax_focal_loss(x, LABELS))
    assert sigmoid_focal_loss(torch.tensor([2, -1]), torch.tensor([1, 0])).dtype == torch.float32


# -- mistakes


X = torch.zeros(6, 4)
MISTAKES = {
    "gamma": (lambda: SigmoidFocalLoss(gamma=-1), ValueError, "gamma must be a number from 0"),
    "three gammas": (lambda: SigmoidFocalLoss(gamma=[1, 2, 3]), ValueError, "pair"),
    "alpha above 1": (lambda: SigmoidFocalLoss(alpha=1.5), ValueError, "alpha must be one number in"),
    "alpha list": (lambda: SigmoidFocalLoss(alpha=[0.5, 0.5]), ValueError, "alpha must be one number in"),
    "alpha text": (lambda: SigmoidFocalLoss(alpha="a"), TypeError, "alpha must be a number"),
    "negative alpha": (lambda: SoftmaxFocalLoss(alpha=[-1, 1]), ValueError, "alpha must be a number >= 0"),
    "square alpha": (lambda: SoftmaxFocalLoss(alpha=torch.eye(2)), ValueError, r"shape \(2, 2\)"),
    "one weight": (lambda: SoftmaxFocalLoss(weight=2.0), ValueError, "weight must be one number >= 0 for each class"),
    "lengths": (lambda: SoftmaxFocalLoss([1, 2, 3], weight=[1, 2]), ValueError, "alpha has 3 numbers and weight has 2"),
    "reduction": (lambda: SoftmaxFocalLoss(reduction="batchmean"), ValueError, "'mean', 'sum', 'none'"),
    "smoothing": (lambda: SoftmaxFocalLoss(label_smoothing=2), ValueError, "label_smoothing must be"),
    "no sum": (lambda: SigmoidFocalLoss(reduction="none", normalizer=3), ValueError, "normalizer divides the sum"),
    "no sum in a call": (lambda: sigmoid_focal_loss(X, X, normalizer=3), ValueError, "normalizer divides the sum"),
    "normalizer": (lambda: SigmoidFocalLoss(normalizer=-3), ValueError, "normalizer must be one number >= 0"),
    "NaN": (lambda: SigmoidFocalLoss()(X, X, torch.tensor(float("nan"))), ValueError, "normalizer must be one number"),
    "normalizers": (lambda: SigmoidFocalLoss()(X, X, torch.ones(2)), ValueError, r"got a tensor of shape \(2,\)"),
    "no tensor": (lambda: sigmoid_focal_loss([1.0], X), TypeError, "input must be a torch.Tensor; got list"),
    "no target": (lambda: softmax_focal_loss(X, [1]), TypeError, "target must be a torch.Tensor; got list"),
    "shapes": (lambda: SigmoidFocalLoss()(X, X[:, :1]), ValueError, r"input \(6, 4\) and target \(6, 1\)"),
    "a column": (lambda: SigmoidFocalLoss()(X[:, :1], X[:, 0]), ValueError, "view_as"),
    "indices to sigmoid": (lambda: SigmoidFocalLoss()(X, LABELS), ValueError, "SoftmaxFocalLoss"),
    "weight shape": (lambda: SigmoidFocalLoss(weight=[1, 2])(X, X), ValueError, r"weight \(2,\)"),
    "large weight": (lambda: SigmoidFocalLoss(weight=torch.ones(2, 6, 4))(X, X), ValueError, "weight must broadcast"),
    "labels": (lambda: SigmoidFocalLoss()(X, X + 3), ValueError, r"target holds 3.0 at position \(0, 0\)"),
    "pair, soft": (lambda: SigmoidFocalLoss(gamma=(2, 1))(X, X + 0.5), ValueError, "soft_labels='expected'"),
    "complex": (lambda: SigmoidFocalLoss()(X * 1j, X), TypeError, "input must hold real numbers"),
    "gradient": (lambda: SigmoidFocalLoss()(X, (X + 0).requires_grad_()), ValueError, "target requires a gradient"),
    "index": (
        lambda: SoftmaxFocalLoss()(X, LABELS + 1),
        IndexError,
        "from 0 to 3 or ignore_index=-100; target holds 4.*Labels from 1 to 4[?] Subtract 1",
    ),
    "a list of indices": (
        lambda: SoftmaxFocalLoss()(X[:, 0], LABELS),
        ValueError,
        r"target holds [23] at position \d+ .*input of one dimension is one sample with C classes "
        r"\(the rule of PyTorch\), so target \(6,\) is read as its probabilities; for N samples give input \(N, C\)",
    ),
    "indices to one score": (
        lambda: SigmoidFocalLoss()(X[:, 0], LABELS),
        ValueError,
        "target holds [23] at .*. For class indices use softmax_focal_loss",
    ),
    "signs": (
        lambda: SigmoidFocalLoss()(X[:2, 0], torch.tensor([1.0, -1])),
        ValueError,
        r"target holds -1.0 at position 1. Labels -1 and 1\? Use \(target \+ 1\) / 2",
    ),
    "None ignored": (
        lambda: SoftmaxFocalLoss(ignore_index=None),
        ValueError,
        "ignore_index must be a whole number; got None. Leave it out",
    ),
    "counts as a prior": (
        lambda: SoftmaxFocalLoss().optimal_logit(torch.tensor([3, 1])),
        ValueError,
        r"got 3.0 at .*Divide counts by their sum: .*\(docs/howto/bias.md\)",
    ),
    "index, too": (lambda: SoftmaxFocalLoss(weight=[1] * 4)(X, LABELS + 1), ValueError, "target holds 4 at position 1"),
    "two axes": (lambda: SoftmaxFocalLoss()(X, LABELS[:, None]), ValueError, r"target \(6, 1\)"),
    "classes last": (lambda: SoftmaxFocalLoss()(torch.zeros(2, 5, 3), torch.zeros(2, 5).long()), ValueError, "axis 1"),
    "float index": (lambda: SoftmaxFocalLoss()(X, LABELS.float()), TypeError, r"torch.float32; use target.long\(\)"),
    "one class": (lambda: SoftmaxFocalLoss()(X[:, :1], LABELS), ValueError, "at least 2 classes"),
    "no class": (lambda: SoftmaxFocalLoss()(torch.tensor(1.0), torch.tensor(1.0)), ValueError, "at least 2 classes"),
    "ignore": (lambda: SoftmaxFocalLoss(ignore_index=0)(X, X), ValueError, "target holds probabilities"),
    "probability": (lambda: SoftmaxFocalLoss()(X, X - 1), ValueError, "target holds -1.0"),
    "alphas": (lambda: SoftmaxFocalLoss([1, 2, 3])(X, LABELS), ValueError, "alpha has 3 numbers and input has 4"),
    "weights": (
        lambda: SoftmaxFocalLoss(weight=[1, 2, 3])(X, LABELS),
        ValueError,
        "weight has 3 numbers and input has 4",
    ),
    "no target at all": (lambda: SoftmaxFocalLoss()(X, None), TypeError, "target must be a torch.Tensor; got None$"),
    "no sum, no tensor": (lambda: SigmoidFocalLoss().sum_and_count(X, None), TypeError, "target must be .*; got None$"),
    "sparse": (lambda: SigmoidFocalLoss()(X.to_sparse(), X), TypeError, r"layout torch.sparse_coo.*input.to_dense\(\)"),
    "sparse target": (lambda: SigmoidFocalLoss()(X, X.to_sparse()), TypeError, r"target.to_dense\(\)"),
    "complex index": (lambda: SoftmaxFocalLoss()(X, LABELS * 1j), TypeError, "class indices must be integers"),
    "weight text": (lambda: SigmoidFocalLoss(weight="a"), TypeError, "weight must be a tensor, a number, or a list"),
    "weight rows": (
        lambda: sigmoid_focal_loss(X, X, weight=[[1, 2], [3]]),
        TypeError,
        "weight must be a tensor, a num",
    ),
    "weight of None": (lambda: SigmoidFocalLoss(weight=[None]), TypeError, "weight must be a tensor, a number, or a"),
    "empty weight": (lambda: SoftmaxFocalLoss(weight=[]), ValueError, "weight is an empty list"),
    "normalizer text": (lambda: SigmoidFocalLoss(normalizer="x"), TypeError, "must be one number >= 0.*got 'x'"),
    "normalizer list": (lambda: SigmoidFocalLoss(normalizer=[7]), ValueError, r"must be one number >= 0.*got \[7\]"),
    "two normalizers": (lambda: SigmoidFocalLoss(normalizer=torch.ones(2)), ValueError, r"a tensor of shape \(2,\)"),
    "complex normalizer": (lambda: SigmoidFocalLoss()(X, X, torch.tensor(1j)), ValueError, "dtype torch.complex64"),
    "huge index": (
        lambda: SigmoidFocalLoss(ignore_index=2**63),
        ValueError,
        "at most 64 bits; got 9223372036854775808",
    ),
    "posterior": (
        lambda: SoftmaxFocalLoss().posterior(X[:, :1]),
        ValueError,
        "input has shape .* use SigmoidFocalLoss",
    ),
    "no posterior": (lambda: SigmoidFocalLoss().posterior(None), TypeError, "input must hold real numbers"),
    "a metric": (lambda: SigmoidFocalMetric().update([1.0], [1]), TypeError, "input must be a torch.Tensor; got list"),
    "a loss": (lambda: trainer_loss(torch.nn.CrossEntropyLoss()), TypeError, "needs a SigmoidFocalLoss"),
    "no reduction": (lambda: trainer_loss(SoftmaxFocalLoss(reduction="none")), TypeError, "other than 'none'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    call, kind, words = MISTAKES[mistake]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert not any(word in str(caught.value) for word in ("y_true", "y_pred", "ignore_class", "sample_weight"))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([X, X[:2]])
    with pytest.raises(TypeError, match=r"input is a nested tensor.*torch.cat\(input.unbind\(\)\)"):
        SigmoidFocalLoss()(nested, nested)


def test_weights_as_lists_numbers_and_arrays() -> None:
    for dtype in (torch.float32, torch.float64):
        x, weight = logits(6, 4).to(dtype), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype)
        for ignore_index in (None, 0):
            wanted = sigmoid_focal_loss(x, ONES, weight=weight, ignore_index=ignore_index)
            for given in ([0.1, 0.2, 0.3, 0.4], np.array([0.1, 0.2, 0.3, 0.4])):
                assert torch.equal(sigmoid_focal_loss(x, ONES, weight=given, ignore_index=ignore_index), wanted)
        assert torch.equal(sigmoid_focal_loss(x, ONES, weight=2), 2 * sigmoid_focal_loss(x, ONES))


@pytest.mark.parametrize(("label", "ignore_index"), [(255, -1), (0, 256)])
def test_bytes_are_not_taken_for_the_ignored_label(label: int, ignore_index: int) -> None:
    """torch compares a byte with what is left of ignore_index in a byte: 255 == -1, and 0 == 256."""
    target = torch.tensor([label, 1], dtype=torch.uint8)
    loss = SigmoidFocalLoss(ignore_index=ignore_index, reduction="none")
    if label == 0:
        assert torch.equal(loss(X[0, :2], target), SigmoidFocalLoss(reduction="none")(X[0, :2], target))
    else:
        with pytest.raises(ValueError, match="target holds 255"):
            loss(X[0, :2], target)


def test_views_with_a_negative_bit() -> None:
    x = torch.complex(logits(6, 4), logits(6, 4, seed=1)).conj().imag  # a view that is negated when it is read
    assert x.is_neg()
    torch.testing.assert_close(sigmoid_focal_loss(x, ONES), sigmoid_focal_loss(x.clone(), ONES))
    torch.testing.assert_close(softmax_focal_loss(x, LABELS), softmax_focal_loss(x.clone(), LABELS))


def test_parameters_that_change_in_place() -> None:
    alpha = torch.tensor([1.0, 1.0, 1.0, 1.0])
    before = softmax_focal_loss(logits(6, 4), LABELS, alpha)
    inside = parfocal.sparse_categorical_focal_crossentropy(LABELS, logits(6, 4), alpha=alpha, from_logits=True)
    alpha.mul_(5)
    torch.testing.assert_close(softmax_focal_loss(logits(6, 4), LABELS, alpha), 5 * before)
    after = parfocal.sparse_categorical_focal_crossentropy(LABELS, logits(6, 4), alpha=alpha, from_logits=True)
    torch.testing.assert_close(after, 5 * inside)


def test_the_way_back_to_probabilities() -> None:
    sigmoid = parfocal.BinaryFocalCrossentropy(True, 0.25, 2.0, True)
    assert torch.equal(SigmoidFocalLoss().posterior(logits(6, 4)), sigmoid.posterior(logits(6, 4)))
    assert SigmoidFocalLoss().optimal_logit(0.1) == sigmoid.optimal_logit(0.1)
    softmax = parfocal.SparseCategoricalFocalCrossentropy([2, 2, 6, 4], 2.0, True, axis=1)
    loss = SoftmaxFocalLoss([1, 2, 3, 4], weight=[2, 1, 2, 1])
    torch.testing.assert_close(loss.posterior(logits(6, 4)), softmax.posterior(logits(6, 4)))
    torch.testing.assert_close(loss.posterior(logits(6, 4)[2]), softmax.posterior(logits(6, 4))[2])
    for row in (logits(6, 4)[2], logits(6, 4)):
        np.testing.assert_allclose(loss.posterior(row.tolist()), loss.posterior(row), rtol=1e-5)
    share = torch.tensor([0.125, 0.25, 0.25, 0.375])
    for prior in (share.clone().requires_grad_(), share.bfloat16()):
        np.testing.assert_allclose(loss.optimal_logit(prior), loss.optimal_logit(prior.tolist()), rtol=1e-6)


# -- torchmetrics


METRICS = {
    "sigmoid": (SigmoidFocalMetric, SigmoidFocalLoss, {"alpha": 0.3, "gamma": 1.5}, ONES),
    "sigmoid, ignored": (SigmoidFocalMetric, SigmoidFocalLoss, {"ignore_index": 0, "weight": [1, 2, 3, 4]}, ONES),
    "softmax": (SoftmaxFocalMetric, SoftmaxFocalLoss, {"gamma": 1.5, "ignore_index": 0}, LABELS),
    "softmax, weighted": (SoftmaxFocalMetric, SoftmaxFocalLoss, {"weight": [1, 2, 3, 4], "ignore_index": 2}, LABELS),
    "softmax, soft": (SoftmaxFocalMetric, SoftmaxFocalLoss, {"label_smoothing": 0.1}, ONES / 2 + 0.125),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_over_batches_are_the_loss_over_all(name: str) -> None:
    kind, loss, options, target = METRICS[name]
    x, metric = logits(6, 4), kind(**options)
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metric.compute() == 0
    metric.reset()
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        metric.update(x[part].requires_grad_(), target[part])
    wanted = loss(**options)(x, target).double()
    torch.testing.assert_close(metric.compute(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(metric)).compute(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(copy.deepcopy(metric).compute(), wanted, rtol=1e-6, atol=0)
    metric.reset()
    assert metric.total == metric.count == 0
    value = metric(x.requires_grad_(), target)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-6, atol=0)
    assert not value.requires_grad
    assert metric._reductions == {"total": dim_zero_sum, "count": dim_zero_sum}


@pytest.mark.parametrize("factor", [1.0, 0.01, 0.0])
def test_a_metric_of_a_loss_over_positives(factor: float) -> None:
    loss = SigmoidFocalLoss(reduction="mean_over_positives")
    metric = FocalMetric(loss)
    for part in (slice(0, 1), slice(1, 6)):
        metric.update(logits(6, 4)[part], factor * ONES[part])
    torch.testing.assert_close(metric.compute(), loss(logits(6, 4), factor * ONES).double(), rtol=1e-6, atol=0)


def rank(number: int, store: str, results: Any) -> None:
    """One of two processes: an uneven half of the batch, the positives of both, and a metric that synchronises."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    mine = (slice(0, 1), slice(1, 6))[number]
    x, y = logits(6, 4)[mine].requires_grad_(), ONES[mine]
    positives = y.sum()
    torch.distributed.all_reduce(positives)
    SigmoidFocalLoss()(x, y, positives).backward()
    metric = SoftmaxFocalMetric(gamma=1.5, ignore_index=0)
    metric.update(logits(6, 4)[mine], LABELS[mine])
    results[number] = x.grad.tolist(), metric.compute().item()
    torch.distributed.destroy_process_group()


@pytest.mark.full
def test_two_processes(tmp_path: Path) -> None:
    results = torch.multiprocessing.get_context("spawn").Manager().dict()
    torch.multiprocessing.spawn(rank, (str(tmp_path / "store"), results), nprocs=2)
    x = logits(6, 4).requires_grad_()
    SigmoidFocalLoss(reduction="mean_over_positives")(x, ONES).backward()
    torch.testing.assert_close(torch.tensor(results[0][0] + results[1][0]), x.grad)
    whole = SoftmaxFocalLoss(gamma=1.5, ignore_index=0)(logits(6, 4), LABELS).item()
    assert results[0][1] == results[1][1] == pytest.approx(whole, rel=1e-6)


# -- Hugging Face's Trainer


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_trainer_loss_is_transformers_own_at_gamma_0() -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    z, labels = logits(3, 6, 4), torch.randint(0, 4, (3, 6), generator=torch.Generator().manual_seed(3))
    labels[:, 4:] = -100
    loss = trainer_loss(SoftmaxFocalLoss(gamma=0), causal=True)
    for count in (None, 20, torch.tensor(20)):
        wanted = ForCausalLMLoss(z, labels, vocab_size=4, num_items_in_batch=count)
        for outputs in ({"logits": z}, (z,), z):
            torch.testing.assert_close(pickle.loads(pickle.dumps(loss))(outputs, labels, count), wanted)
    tokens = trainer_loss(SoftmaxFocalLoss(gamma=0))
    torch.testing.assert_close(tokens({"logits": z}, labels), F.cross_entropy(z.reshape(-1, 4), labels.reshape(-1)))
    torch.testing.assert_close(
        trainer_loss(SigmoidFocalLoss(None, 0))((z[0],), ONES, 24), F.binary_cross_entropy_with_logits(z[0], ONES)
    )


X2 = {"logits": torch.zeros(2, 3, 4)}  # softmax: two sequences of three tokens, four classes
Y2 = torch.zeros(2, 3, dtype=torch.long)
softmax_loss, sigmoid_loss = trainer_loss(SoftmaxFocalLoss()), trainer_loss(SigmoidFocalLoss())
ITEMS = "^num_items_in_batch must be one number >= 0, how many labels the accumulated batches have"
REFUSED = {
    "positives": (lambda: trainer_loss(SigmoidFocalLoss(reduction="mean_over_positives")), "Use reduction='mean'"),
    "weight": (lambda: trainer_loss(SoftmaxFocalLoss(weight=[1, 2])), "as alpha, which multiplies"),
    "ignored": (lambda: trainer_loss(SoftmaxFocalLoss(ignore_index=255)), "ignore_index=255 takes labels out.*-100"),
    "ignored 0": (lambda: trainer_loss(SigmoidFocalLoss(ignore_index=-1)), "ignore_index=-1 takes labels out.*-100"),
    "causal": (lambda: trainer_loss(SigmoidFocalLoss(), causal=True), "causal=True .*needs a SoftmaxFocalLoss"),
    "causal text": (lambda: trainer_loss(SoftmaxFocalLoss(), "yes"), "causal must be True or False; got 'yes'"),
    "no labels": (lambda: softmax_loss(X2, None), "labels must be a torch.Tensor; got None.*entry 'labels'"),
    "no labels, sigmoid": (lambda: sigmoid_loss((X,), None, 3), "labels must be a torch.Tensor; got None"),
    "a list": (lambda: softmax_loss(X2, [0, 1]), "labels must be a torch.Tensor; got list"),
    "two labels": (lambda: softmax_loss(X2, (Y2, Y2)), "got tuple.*that belong to these logits"),
    "no logits": (lambda: softmax_loss({"loss": 1, "hidden": 2}, Y2), r"got dict with the keys \['loss', 'hidden'\]\."),
    "an empty dict": (lambda: softmax_loss({}, Y2), r"got dict with the keys \[\]"),
    "no outputs": (lambda: softmax_loss(None, Y2), "outputs must hold logits.*got NoneType"),
    "an empty tuple": (lambda: softmax_loss((), Y2), "got tuple of 0 items"),
    "a tuple in a tuple": (lambda: softmax_loss(((X, X),), Y2), "got tuple of 1 item, with logits of type tuple"),
    "an object": (lambda: softmax_loss(object(), Y2), "got object"),
    "an object's logits": (lambda: softmax_loss(SimpleNamespace(logits=[1]), Y2), "with logits of type list"),
    "a list of logits": (lambda: softmax_loss({"logits": [[1.0]]}, Y2), "with logits of type list"),
    "the other way round": (lambda: softmax_loss(X2, Y2.T), r"must have the shape \(2, 3\) .*; got \(3, 2\)"),
    "too few": (lambda: softmax_loss(X2, Y2[:, 1:]), r"for logits of shape \(2, 3, 4\); got \(2, 2\)"),
    "sigmoid, too few": (lambda: sigmoid_loss((X,), X[:, 0]), r"must have the shape \(6, 4\) .*; got \(6,\)"),
    "one score": (lambda: softmax_loss(X[:, :1], X[:, :1]), r"at least 2 classes; got \(6, 1\).*SigmoidFocalLoss"),
    "a number": (lambda: softmax_loss(torch.tensor(1.0), torch.tensor(1)), r"shape \(..., classes\).*got \(\)"),
    "no positions": (lambda: trainer_loss(SoftmaxFocalLoss(), True)(X[0], LABELS[0]), r"\(..., positions, classes\)"),
    "causal, dense": (
        lambda: trainer_loss(SoftmaxFocalLoss(), True)(X, X),
        r"must have the shape \(6,\) for .*; got \(6, 4\)",
    ),
    "two items": (lambda: softmax_loss(X2, Y2, torch.tensor([[3], [3]])), r"must be one number.*shape \(2, 1\)"),
    "text": (lambda: softmax_loss(X2, Y2, "3"), f"{ITEMS}; got '3'"),
    "a complex number": (lambda: sigmoid_loss((X,), ONES, torch.tensor(3j)), rf"{ITEMS}; got tensor\(.*j\)"),
    "below 0": (lambda: sigmoid_loss((X,), ONES, -3), f"{ITEMS}; got -3$"),
    "a tensor below 0": (lambda: softmax_loss(X2, Y2, torch.tensor(-3)), rf"{ITEMS}; got tensor\(-3\)"),
    "probabilities, below 0": (lambda: softmax_loss(X, torch.softmax(X, -1), -3), f"{ITEMS}; got -3$"),
    "NaN": (lambda: softmax_loss(X2, Y2, float("nan")), f"{ITEMS}; got nan"),
    "a list of items": (lambda: softmax_loss(X, torch.softmax(X, -1), [3]), rf"{ITEMS}; got \[3\]"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_a_trainer_must_not_do(mistake: str) -> None:
    call, words = REFUSED[mistake]
    kind = TypeError if mistake == "text" else (TypeError, ValueError)
    with pytest.raises(kind, match=words):
        call()


SETTINGS: dict[str, tuple[SigmoidFocalLoss | SoftmaxFocalLoss, Tensor]] = {
    "sigmoid": (SigmoidFocalLoss(), ONES),
    "sigmoid, weight": (SigmoidFocalLoss(weight=[1, 2, 3, 4]), ONES),
    "sigmoid, ignored": (SigmoidFocalLoss(ignore_index=-100), ONES.masked_fill(logits(6, 4, seed=3) > 0, -100)),
    "sigmoid, sum": (SigmoidFocalLoss(reduction="sum", ignore_index=0), ONES),
    "softmax": (SoftmaxFocalLoss([1, 2, 3, 4]), LABELS.masked_fill(LABELS == 2, -100)),
    "softmax, sum": (SoftmaxFocalLoss(reduction="sum", weight=[1, 2, 3, 4], ignore_index=3), LABELS),
    "softmax, probabilities": (SoftmaxFocalLoss([1, 2, 3, 4]), torch.softmax(logits(6, 4, seed=3), -1)),
    "softmax, probabilities, sum": (SoftmaxFocalLoss(reduction="sum"), torch.softmax(logits(6, 4, seed=3), -1)),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("count", [int, torch.tensor, lambda n: torch.tensor([float(n)])], ids=["int", "0-d", "1-d"])
def test_accumulated_batches_add_up_to_the_loss_of_all(name: str, count: Any) -> None:
    """With num_items_in_batch as a Trainer counts it, the batches' losses add up to what the loss says of all rows."""
    loss, labels = SETTINGS[name]
    items, compute = count(int((labels != -100).sum())), trainer_loss(loss)
    parts = [compute({"logits": logits(6, 4)[part]}, labels[part], items) for part in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), loss(logits(6, 4), labels))
    torch.testing.assert_close(compute({"logits": logits(6, 4)}, labels), loss(logits(6, 4), labels))


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_over_positives"])
def test_a_normalizer_of_the_losss_own_stays(reduction: str) -> None:
    loss = SigmoidFocalLoss(reduction=reduction, normalizer=5, ignore_index=0)
    for items in (None, 24, torch.tensor(7)):
        torch.testing.assert_close(trainer_loss(loss)((logits(6, 4),), ONES, items), loss(logits(6, 4), ONES))
    loss = SoftmaxFocalLoss(weight=[1, 2, 3, 4], normalizer=torch.tensor(5))
    torch.testing.assert_close(trainer_loss(loss)((logits(6, 4),), LABELS, 6), loss(logits(6, 4), LABELS))


def test_outputs_and_labels_in_every_shape() -> None:
    z, labels = logits(2, 3, 4), torch.tensor([[0, 1, -100], [3, 2, 1]])
    wanted = F.cross_entropy(z.reshape(-1, 4), labels.reshape(-1))
    compute = trainer_loss(SoftmaxFocalLoss(gamma=0))
    outputs = namedtuple("Outputs", ["loss", "logits"])
    for given in ({"logits": z}, (z,), [z, None], z, SimpleNamespace(logits=z), outputs(None, z)):
        for shaped in (labels, labels[..., None], labels[:, None], labels.int()):
            torch.testing.assert_close(compute(given, shaped), wanted)
    torch.testing.assert_close(compute(z[0, 0], torch.tensor([2])), F.cross_entropy(z[0, 0], torch.tensor(2)))
    shares = torch.softmax(logits(2, 3, 4, seed=5), -1)  # classes last, as the logits
    torch.testing.assert_close(compute(z, shares), F.cross_entropy(z.reshape(-1, 4), shares.reshape(-1, 4)))
    next_token = trainer_loss(SoftmaxFocalLoss(gamma=0), causal=True)
    wanted = F.cross_entropy(z[:, :-1].reshape(-1, 4), labels[:, 1:].reshape(-1))
    for shaped in (labels, labels[..., None]):
        torch.testing.assert_close(next_token(z, shaped), wanted)
    one = F.binary_cross_entropy_with_logits(z[:, 0, 0], torch.tensor([1.0, 0.0]))
    column = trainer_loss(SigmoidFocalLoss(None, 0))
    torch.testing.assert_close(column(z[:, 0, :1], torch.tensor([1, 0]), 2), one)  # one logit a row, in a column
    assert compute(torch.zeros(0, 3, 4), torch.zeros(0, 3).long(), 0) == 0
    assert compute(z, torch.full((2, 3), -100), 0) == 0


def test_a_trainer_moves_the_model_and_not_the_loss() -> None:
    loss = SigmoidFocalLoss(weight=[1, 2, 3, 4])
    value = trainer_loss(loss)({"logits": torch.zeros(6, 4, device="meta")}, ONES, 24)
    assert value.device.type == "meta"


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
def test_accumulated_batches_train_as_one(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments

    example = runpy.run_path(str(ROOT / "examples" / "trainer_focal.py"))
    rows, weights = example["sequences"](8, seed=1), []
    for batch in (8, 2):
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        drops = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model = BertForTokenClassification(BertConfig(vocab_size=50, max_position_embeddings=24, **sizes, **drops))
        arguments = TrainingArguments(
            str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            learning_rate=1.0,
            max_grad_norm=0.0,
            optim="sgd",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        loss = trainer_loss(SoftmaxFocalLoss(gamma=2.0))
        before = model.classifier.weight.detach().clone()
        Trainer(model, arguments, train_dataset=rows, compute_loss_func=loss).train()
        weights.append(model.classifier.weight.detach() - before)
    assert weights[0].abs().max() > 1e-3
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-7)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "trainer_focal.py"))["report"](steps=20)
    out = capsys.readouterr().out
    assert out.count("gamma 0.0: recall") == out.count("gamma 2.0: recall") == 2
