"""parfocal.torch in trainers: dtypes, mistakes, torchmetrics, processes, and Hugging Face's Trainer."""

from __future__ import annotations

import copy
import pickle
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.utilities import dim_zero_sum

import parfocal
from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss, trainer_loss
from parfocal.torch.metrics import SigmoidFocalMetric, SoftmaxFocalMetric
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
        "from 0 to 3 or ignore_index=-100; target holds 4",
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
    "a loss": (lambda: trainer_loss(torch.nn.CrossEntropyLoss()), TypeError, "needs a SigmoidFocalLoss"),
    "no reduction": (lambda: trainer_loss(SoftmaxFocalLoss(reduction="none")), TypeError, "other than 'none'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    call, kind, words = MISTAKES[mistake]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert not any(word in str(caught.value) for word in ("y_true", "y_pred", "ignore_class", "sample_weight"))


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
