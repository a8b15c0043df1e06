"""A batch that lies on several processes: the averaged gradient is that of one process with all rows.

`started` starts the processes, once for all tests that read what they found; torch_ranks.py is what they run.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from breaking import copy_of_parfocal, mutated
from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, global_divisor, global_loss, trainer_loss
from parfocal.torch.distributed import on_a_device_of

RANKS = Path(__file__).with_name("torch_ranks.py")
LIMIT = 400  # seconds, on a busy machine; a process that waits for another one for ever is stopped
WHOLE = ("fsdp", "metrics", "shards", "bad", "group_of_some", "warned", "compiled")


def started(world: int, *suites: str, package: Path | None = None) -> list[dict[str, Any]]:
    """What each process found."""
    found = run(world, suites, package)
    assert isinstance(found, list), found
    return found


@functools.cache  # a failure too
def run(world: int, suites: tuple[str, ...], package: Path | None) -> list[dict[str, Any]] | str:
    """What each process found, or what they printed if one failed.  They meet at a file: no port is needed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if package is not None:
            environment["PYTHONPATH"] = str(package)
        logs = [Path(folder, f"{rank}.log") for rank in range(world)]
        processes = []
        for rank, log in enumerate(logs):
            command = [sys.executable, RANKS, str(rank), str(world), folder, *suites]
            with log.open("w") as file:
                processes.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))
        try:
            ended = time.monotonic() + LIMIT
            while any(process.poll() is None for process in processes) and time.monotonic() < ended:
                if any(process.poll() for process in processes):
                    break  # the others would wait for it
                time.sleep(0.02)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(process.returncode for process in processes):
            return "\n\n".join(log.read_text()[-3000:] for log in logs)
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]


def numbers(found: list[dict[str, Any]]) -> dict[str, float]:
    """The largest error of any process for each case."""
    names = {name for each in found for name, value in each.items() if not isinstance(value, str)}
    return {name: max(each.get(name, 0.0) for each in found) for name in sorted(names)}


def check(found: list[dict[str, Any]], at_least: int) -> None:
    errors = numbers(found)
    assert len(errors) >= at_least
    assert {name: value for name, value in errors.items() if not value < 1e-12} == {}


def test_ddp_over_two_processes() -> None:
    """Every reduction; by group=, by the two lines, with accumulation, and with gradients that are added."""
    check(started(2, "ddp"), at_least=180)


@pytest.mark.full
@pytest.mark.parametrize("world", [1, 3, 4])
def test_ddp_over_other_numbers_of_processes(world: int) -> None:
    check(started(world, "ddp"), at_least=90)


@pytest.mark.full
@pytest.mark.parametrize("world", [2, 3])
def test_fsdp_metrics_shards_and_compiled_losses(world: int) -> None:
    check(started(world, *WHOLE), at_least=150)


def heard(world: int, name: str) -> list[str]:
    return [each[name] for each in started(world, *WHOLE)]


WRONG_COUNT = r"^ValueError: count must be one number >= 0, .*rank {last}: a count that was handed over, count {count}$"
REDUCTIONS = (
    r"^ValueError: the processes of a group must have one reduction; got rank 0: {first}.*rank {last}: {second}"
)
FAILED = r"^ValueError: another process of the group failed before it had a count.*rank {last}: .*, failed$"
MISTAKES = {  # what the others say, and the one that is wrong, where that is something else
    "negative count": (WRONG_COUNT.replace("{count}", "-3"), None),
    "NaN count": (WRONG_COUNT.replace("{count}", "nan"), None),
    "infinite count": (WRONG_COUNT.replace("{count}", "inf"), None),
    "negative loss": (WRONG_COUNT.replace("{count}", "-1"), None),
    "text as a count": (FAILED, "^TypeError: count must be one number, or a tensor with one element; got 'many'"),
    "two counts": (FAILED, r"^TypeError: count must be one number.*shape \(2,\)"),
    "negative labels": (FAILED, r"^ValueError: labels must be numbers in \[0, 1\]; target holds -9.0"),
    "shapes": (FAILED, "^ValueError: input and target must have one shape"),
    "reductions": (REDUCTIONS.format(first="reduction='mean'", second="reduction='sum'", last="{last}"), None),
    "positives or not": (
        REDUCTIONS.format(first="reduction='mean_over_positives'", second="reduction='mean'", last="{last}"),
        None,
    ),
    "by hand or not": (
        REDUCTIONS.format(first="reduction='mean'", second="a count that was handed over", last="{last}"),
        None,
    ),
    "not a member": ("^ValueError: group is one that this process does not belong to",) * 2,
}


@pytest.mark.full
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_one_process_is_an_error_of_all(world: int, mistake: str) -> None:
    others, own = (words and words.replace("{last}", str(world - 1)) for words in MISTAKES[mistake])
    *first, last = heard(world, mistake)
    for said in first:
        assert re.search(others, said), said
    assert re.search(own or others, last), last


@pytest.mark.full
def test_on_a_device_a_mistake_is_nan_on_every_process() -> None:
    for world in (2, 3):
        assert heard(world, "a device, NaN") == heard(world, "a device, codes") == ["nan"] * world
        assert heard(world, "a device") == [f"{world}.0"] * world


WARNED = {
    "positives": "positives",
    "ignored": "elements that are not ignored",
    "samples": "samples that are not ignored",
}
WARNED["weights"] = "weights of the targets' classes"
SILENT = ("positives, once more", "elements", "probabilities", "sum", "none", "a normalizer", "a call's normalizer")
SILENT += ("a group", "eval", "no gradient", "no_grad")


@pytest.mark.full
def test_a_loss_that_trains_alone_warns_once() -> None:
    for name, what in WARNED.items():
        for said in heard(2, f"warned: {name}"):
            assert said.startswith("1 True 2 processes train, and this S")
            assert f"divides by the {what} of its own process" in said
            assert "FocalLoss(..., group=torch.distributed.group.WORLD)" in said
    for name in SILENT:
        assert heard(2, f"warned: {name}") == ["0 True "] * 2, name
    assert heard(2, "compiled, warned") == ["[]"] * 2


# -- one process


@pytest.fixture
def a_group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("group", [None, dist.group.WORLD, "destroyed"])
def test_a_group_needs_processes(group: Any) -> None:
    """Before init_process_group dist.group.WORLD is None, which must not mean "this process alone"."""
    if group == "destroyed":
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        group = dist.new_group([0])
        dist.destroy_process_group()
    x, says = torch.zeros(3), "torch.distributed is not initialised.*call torch.distributed.init_process_group first.*"
    for call, leave_out in (
        (lambda: SigmoidFocalLoss(group=group)(x, x), "group"),
        (lambda: SoftmaxFocalLoss(group=group)(x[None], torch.tensor([0])), "group"),
        (lambda: global_divisor(3, group), "global_divisor, and the loss divides by its own count"),
        (lambda: global_loss(x[0], x[0], group), "global_loss, and divide the sum by the count"),
    ):
        with pytest.raises(ValueError, match=rf"{says}On one process leave out {leave_out} \(docs/scale.md\)"):
            call()


def test_totals_that_are_too_small(a_group_of_one: None) -> None:
    for count, at_least, wanted in ((0, 0, 1), (0.15, 0, 0.15), (0, 1, 1), (0.15, 1, 1), (3, 1, 3), (3, 5, 5)):
        assert global_divisor(count, at_least=at_least) == wanted
        told = global_loss(torch.tensor(6.0), torch.tensor(count, dtype=torch.float64), at_least=at_least)
        assert told == 6 / wanted
    assert SigmoidFocalLoss(reduction="mean_over_positives").at_least == 1
    assert SigmoidFocalLoss().at_least == SoftmaxFocalLoss().at_least == 0


over = SigmoidFocalLoss(reduction="mean_over_positives")
ONES = (torch.arange(24).reshape(6, 4) % 5 == 0).double()
IGNORED = ONES.masked_fill(torch.arange(24).reshape(6, 4) % 3 == 0, -1)
CLASSES = torch.tensor([0, 3, -100, 2, 3, -100])
COUNTS: list[tuple[Any, torch.Tensor, float]] = [
    (SigmoidFocalLoss(), ONES, 24),
    (SigmoidFocalLoss(weight=[1, 2, 3, 4]), ONES, 24),
    (SigmoidFocalLoss(reduction="sum", normalizer=7), ONES, 24),
    (SigmoidFocalLoss(ignore_index=-1), IGNORED, 16),
    (SigmoidFocalLoss(reduction="mean_over_positives"), ONES, 5),
    (SigmoidFocalLoss(reduction="mean_over_positives"), ONES.bool(), 5),
    (SigmoidFocalLoss(reduction="mean_over_positives", label_smoothing=0.1), 0.01 * ONES, 0.05),
    (SigmoidFocalLoss(reduction="mean_over_positives", ignore_index=-1), IGNORED, 3),
    (SigmoidFocalLoss(reduction="mean_over_positives", ignore_index=1), ONES, 0),
    (SoftmaxFocalLoss(), CLASSES, 4),
    (SoftmaxFocalLoss(), CLASSES.int(), 4),
    (SoftmaxFocalLoss(ignore_index=3), CLASSES.clamp(0), 4),
    (SoftmaxFocalLoss(weight=[0.1, 0.2, 0.3, 0.4]), CLASSES, 0.1 + 0.4 + 0.3 + 0.4),
    (SoftmaxFocalLoss(weight=[0.1, 0.2, 0.3, 0.4]), ONES / 5, 6),
    (SoftmaxFocalLoss(), torch.full((6,), -100), 0),
]


@pytest.mark.parametrize("number", range(len(COUNTS)))
def test_a_count_is_that_of_sum_and_count(number: int) -> None:
    loss, target, wanted = COUNTS[number]
    logits = torch.zeros(6, 4, dtype=torch.float64)
    for rows in (6, 0):
        count, same = loss.count(target[:rows]), loss.sum_and_count(logits[:rows], target[:rows])[1]
        torch.testing.assert_close(count, same, rtol=1e-15, atol=0)
        assert count == pytest.approx(wanted * (rows > 0), rel=1e-15)
        assert count.shape == ()
    assert loss.count(target.to("meta")).device.type == "meta"


def test_weights_of_a_call_take_the_place_of_the_losss_own() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 5.0])
    assert SoftmaxFocalLoss(weight=[9, 9, 9, 9]).count(CLASSES, weights) == 1 + 5 + 3 + 5
    assert SoftmaxFocalLoss().count(torch.tensor(3), weights) == 5
    assert SoftmaxFocalLoss().count(ONES[0] / 2) == 1  # one sample
    assert SoftmaxFocalLoss().count(torch.zeros(2, 4, 3, 5)) == 2 * 3 * 5
    assert SigmoidFocalLoss().count(ONES, [1, 2, 3, 4]) == 24


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "a group of text": (lambda: SigmoidFocalLoss(group="nccl"), TypeError, "group must be a .*ProcessGroup.*'nccl'"),
    "a group of text, too": (lambda: global_divisor(3, "nccl"), TypeError, "group must be a .*ProcessGroup.*'nccl'"),
    "no group": (lambda: global_divisor(3, False), TypeError, "group=False is this process alone"),
    "a normalizer": (lambda: SoftmaxFocalLoss(group=None, normalizer=3), ValueError, "neither with normalizer"),
    "none": (lambda: SigmoidFocalLoss(reduction="none", group=None), ValueError, "nor with reduction='none'"),
    "averaged": (lambda: SigmoidFocalLoss(averaged="yes"), TypeError, "averaged must be True or False"),
    "averaged, too": (lambda: global_divisor(3, averaged=2), TypeError, "averaged must be True or False"),
    "at_least": (lambda: global_divisor(3, at_least=-1), ValueError, "at_least must be one number >= 0; got -1"),
    "two at_least": (lambda: global_divisor(3, at_least=[1, 2]), ValueError, "at_least must be one number >= 0"),
    "a complex count": (lambda: global_divisor(torch.tensor(1j)), TypeError, "dtype torch.complex64"),
    "a trainer": (
        lambda: trainer_loss(SoftmaxFocalLoss(group=None)),
        ValueError,
        "num_items_in_batch.*leave out group",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_mistakes_of_one_process(mistake: str, a_group_of_one: None) -> None:
    call, kind, words = BAD[mistake]
    with pytest.raises(kind, match=words):
        call()


def test_a_calls_normalizer_takes_the_place_of_the_group(a_group_of_one: None) -> None:
    x, y = torch.tensor([0.5, -1.0]), torch.tensor([1.0, 0.0])
    loss = SigmoidFocalLoss(group=dist.group.WORLD, averaged=False)
    assert loss(x, y, 7) == SigmoidFocalLoss(normalizer=7)(x, y)
    assert "group=None, averaged=False" in repr(loss)
    assert "group" not in repr(SigmoidFocalLoss())


def test_a_count_goes_where_the_group_can_add_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for backends, kind in (("meta:nccl", "meta"), ("cpu:gloo,meta:nccl", "cpu")):
        monkeypatch.setattr(dist, "get_backend_config", lambda group, named=backends: named)
        assert on_a_device_of(None, torch.tensor(3)).device.type == kind


# -- the tests can fail

MUTANTS = {
    "clamped before the sum": (
        "torch/rules.py",
        "count = self.count(batch, targets)\n        total",
        "count = self.never_zero(self.count(batch, targets))\n        total",
    ),
    "clamped after the division": (
        "torch/distributed.py",
        "total = never_small(total, at_least)\n    return total / dist.get_world_size(group) if averaged else total",
        "total = total / dist.get_world_size(group) if averaged else total\n    return never_small(total, at_least)",
    ),
    "the number of processes is forgotten": (
        "torch/distributed.py",
        "return total / dist.get_world_size(group) if averaged else total",
        "return total",
    ),
    "a total below 1 is always 1": (
        "torch/distributed.py",
        "if at_least > 0 else torch.where(total == 0, 1.0, total)",
        "if at_least > 0 else total.clamp(min=1)",
    ),
    "a count of ignored elements": (
        "torch/rules.py",
        "return counting.sum() if counting is not None else whole(targets.numel(), targets)",
        "return whole(targets.numel(), targets)",
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found(mutant: str, tmp_path: Path) -> None:
    file, original, broken = MUTANTS[mutant]
    copy = copy_of_parfocal(tmp_path)
    (copy / file).write_text(mutated(copy / file, original, broken))
    errors = numbers(started(2, "ddp", package=tmp_path))
    assert len(errors) >= 180
    assert max(errors.values()) > 1e-3


def test_what_the_processes_run_is_right_without_a_mutant() -> None:
    """What `test_a_mutant_is_found` finds is the mutant."""
    assert max(numbers(started(2, "ddp")).values()) < 1e-12
