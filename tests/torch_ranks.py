"""What test_torch_ranks.py runs in each of several processes: python torch_ranks.py RANK WORLD FOLDER SUITE ...

Every process knows the whole batch, takes its own part of it, and compares with what one process would do.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, global_divisor, global_loss

ROWS, CLASSES = 24, 4


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = 2 * random(ROWS, 5, seed=0)
ONES = (random(ROWS, CLASSES, seed=1) > 0.6).double() * (random(ROWS, 1, seed=2) > 0)  # whole rows have none
ONES[:5] = 0
ONES[0, 1] = 1
ONE = torch.zeros(ROWS, CLASSES, dtype=torch.float64)
ONE[20, 2] = 1
IGNORED = ONES.masked_fill(random(ROWS, CLASSES, seed=3) > 0.3, -1)
LABELS = random(ROWS, CLASSES, seed=4).argmax(1)
SOME = LABELS.masked_fill(random(ROWS, seed=5) > 0, -100)
PROBABILITIES = random(ROWS, CLASSES, seed=6).softmax(1)
ELEMENTS = random(ROWS, CLASSES, seed=7).abs()


class Case(NamedTuple):
    kind: type[nn.Module]
    target: Tensor
    options: Mapping[str, Any] = MappingProxyType({})
    elements: Tensor | None = None  # a weight for each element

    def loss(self, part: slice = slice(None), **more: Any) -> Any:
        weight = {} if self.elements is None else {"weight": self.elements[part]}
        return self.kind(**self.options, **weight, **more)


OVER = {"reduction": "mean_over_positives"}
CASES = {
    "mean": Case(SigmoidFocalLoss, ONES),
    "sum": Case(SigmoidFocalLoss, ONES, {"reduction": "sum"}),
    "mean, ignored": Case(SigmoidFocalLoss, IGNORED, {"ignore_index": -1}),
    "mean, weight of each element": Case(SigmoidFocalLoss, ONES, {}, ELEMENTS),
    "mean, weight of each class": Case(SigmoidFocalLoss, ONES, {"weight": [0.1, 1, 5, 2]}),
    "positives": Case(SigmoidFocalLoss, ONES, {**OVER, "gamma": 1.5}),
    "positives, ignored": Case(SigmoidFocalLoss, IGNORED, {**OVER, "ignore_index": -1}),
    "positives, weight of each element": Case(SigmoidFocalLoss, ONES, OVER, ELEMENTS),
    "positives, one in all": Case(SigmoidFocalLoss, ONE, OVER),
    "positives, none at all": Case(SigmoidFocalLoss, 0 * ONE, OVER),
    "positives, soft, below 1": Case(SigmoidFocalLoss, 0.01 * ONES, OVER),
    "positives, ints": Case(SigmoidFocalLoss, ONES.to(torch.uint8), OVER),
    "softmax": Case(SoftmaxFocalLoss, LABELS),
    "softmax, sum": Case(SoftmaxFocalLoss, LABELS, {"reduction": "sum"}),
    "softmax, ignored": Case(SoftmaxFocalLoss, SOME),
    "softmax, weight of each class": Case(SoftmaxFocalLoss, SOME, {"weight": [0.1, 1, 5, 0]}),
    "softmax, small weights": Case(SoftmaxFocalLoss, SOME, {"weight": [1e-3, 2e-3, 5e-3, 1e-3]}),
    "softmax, probabilities": Case(SoftmaxFocalLoss, PROBABILITIES, {"alpha": [1, 2, 3, 4]}),
    "softmax, all ignored": Case(SoftmaxFocalLoss, torch.full_like(LABELS, -100), {"weight": [1, 2, 3, 4]}),
}
# The rows of each process, by their number: uneven, and one without a row.
PARTS = {
    1: {"whole": [0, ROWS]},
    2: {"uneven": [0, 5, ROWS], "one is empty": [0, 0, ROWS]},
    3: {"uneven": [0, 5, 6, ROWS], "one is empty": [0, 5, 5, ROWS]},
    4: {"uneven": [0, 5, 6, 20, ROWS], "one is empty": [0, 5, 5, 7, ROWS]},
}


class Process:
    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world, self.found = rank, world, {}

    def part(self, cuts: list[int]) -> slice:
        return slice(cuts[self.rank], cuts[self.rank + 1])

    def parts(self) -> Iterator[tuple[str, slice]]:
        for name, cuts in PARTS[self.world].items():
            yield name, self.part(cuts)


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, CLASSES, dtype=torch.float64)


def gradient_of(model: nn.Module) -> Tensor:
    """Taken out, so that the next case starts anew."""
    grads = [p.grad for p in model.parameters()]
    model.zero_grad()
    return torch.cat([torch.zeros(0) if g is None else whole(g).flatten() for g in grads])


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative to the whole gradient's size; where that is 0, the size itself."""
    return float((got - wanted).norm() / (wanted.norm() or 1))


def in_one_process(case: Case) -> tuple[Tensor, Tensor]:
    model = layer()
    loss = case.loss().eval()(model(X), case.target)  # eval: it has no reason to warn
    loss.backward()
    return loss.detach(), gradient_of(model)


# -- the ways to divide; each makes the backward pass of a part of the batch


def by_group(case: Case, model: Any, part: slice, averaged: bool = True) -> None:
    case.loss(part, group=None, averaged=averaged)(model(X[part]), case.target[part]).backward()


def by_two_lines(case: Case, model: Any, part: slice, averaged: bool = True) -> None:
    loss = case.loss(part)
    n = global_divisor(loss.count(case.target[part]), averaged=averaged, at_least=loss.at_least)
    loss(model(X[part]), case.target[part], normalizer=n).backward()


def accumulated(case: Case, model: Any, part: slice) -> None:
    middle = (part.start + part.stop + 1) // 2
    halves = slice(part.start, middle), slice(middle, part.stop)
    count = sum(case.loss(half).count(case.target[half]) for half in halves)
    n = global_divisor(count, at_least=case.loss(part).at_least)
    with model.no_sync():
        case.loss(halves[0])(model(X[halves[0]]), case.target[halves[0]], n).backward()
    case.loss(halves[1])(model(X[halves[1]]), case.target[halves[1]], n).backward()


# -- the suites; each notes what it found under the names of its cases


def ddp(process: Process) -> None:
    model, alone = DistributedDataParallel(layer()), layer()
    for name, case in CASES.items():
        value, wanted = in_one_process(case)
        summed = case.options.get("reduction") == "sum"  # a given divisor would make a mean of it
        for cut, part in process.parts():
            for way in (by_group,) if summed else (by_group, by_two_lines, accumulated):
                way(case, model, part)
                process.found[f"{name}; {cut}; {way.__name__}"] = error(gradient_of(model), wanted)
            by_group(case, alone, part, averaged=False)
            added = gradient_of(alone)
            dist.all_reduce(added)
            process.found[f"{name}; {cut}; gradients are added"] = error(added, wanted)
            loss = case.loss(part)
            told = global_loss(*loss.sum_and_count(layer()(X[part]), case.target[part]), at_least=loss.at_least)
            process.found[f"{name}; {cut}; global_loss"] = 0.0 if summed else error(told, value)


def fsdp(process: Process) -> None:
    from torch.distributed.fsdp import fully_shard

    for name, case in CASES.items():
        wanted = in_one_process(case)[1]
        for cut, part in process.parts():
            model = layer()
            fully_shard(model)
            by_group(case, model, part)
            process.found[f"{name}; {cut}; FSDP"] = error(gradient_of(model), wanted)


def metrics(process: Process) -> None:
    from parfocal.torch.metrics import FocalMetric, SoftmaxFocalMetric

    for name, case in CASES.items():
        loss = case.loss()
        if case.elements is not None or loss.reduction == "sum":
            continue
        logits = layer()(X).detach()
        for cut, part in process.parts():
            metric = FocalMetric(loss)
            if part.start < part.stop:  # a process without rows may not call it at all
                middle = (part.start + part.stop) // 2
                for batch in (slice(part.start, middle), slice(middle, part.stop)):
                    metric.update(logits[batch], case.target[batch])
            process.found[f"{name}; {cut}; a metric"] = error(metric.compute(), loss(logits, case.target))
    metric = SoftmaxFocalMetric(weight=[1, 2, 3, 4])
    metric.update(logits[process.rank :: process.world], SOME[process.rank :: process.world])
    wanted = SoftmaxFocalLoss(weight=[1, 2, 3, 4])(logits, SOME)
    process.found["softmax; every so many; a metric"] = error(metric.compute(), wanted)


def shards(process: Process) -> None:
    """Logits that are DTensors: sums over them are sums over all shards, so nothing more is needed."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    more = {
        "softmax, gammas": Case(SoftmaxFocalLoss, SOME, {"gamma": [0, 1, 2, 3.5], "alpha": [1, 2, 3, 4]}),
        "softmax, smooth": Case(SoftmaxFocalLoss, SOME, {"label_smoothing": 0.1, "weight": [1, 2, 3, 4]}),
        "softmax, each": Case(SoftmaxFocalLoss, SOME, {"reduction": "none"}),
    }
    mesh = init_device_mesh("cpu", (process.world,))
    for name, case in {**CASES, **more}.items():
        logits = layer()(X).detach().requires_grad_()
        if case.elements is not None:
            continue
        value = case.loss().eval()(logits, case.target)
        (wanted,) = torch.autograd.grad(value.sum(), logits)
        by_class = case.target.ndim == 2 and CLASSES % process.world == 0
        for placement in (Shard(0), Replicate(), *[Shard(1)] * by_class):
            x, y = (distribute_tensor(t.detach(), mesh, [placement]) for t in (logits, case.target))
            got = case.loss()(x.requires_grad_(), y)
            (slope,) = torch.autograd.grad(got.sum(), x)
            process.found[f"{name}; {placement}; loss"] = error(whole(got.detach()), value.detach())
            process.found[f"{name}; {placement}; gradient"] = error(whole(slope), wanted)
    for words, call in {
        "input or target is a DTensor": lambda: SoftmaxFocalLoss(group=None)(x, y),
        "count is a DTensor": lambda: global_divisor(SigmoidFocalLoss(**OVER).count(x.clamp(0, 1))),
    }.items():
        process.found[f"refused: {words}"] = said_by(call)


def said_by(call: Callable[[], Any]) -> str:
    try:
        return f"no error: {call()}"
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"


def bad(process: Process) -> None:
    """What goes wrong on the last process alone, or on all; every process says what it heard."""
    last = process.rank == process.world - 1
    mine = slice(process.rank, None, process.world)
    x, y = layer()(X[mine]).detach(), ONES[mine]
    for name, call in {
        "negative count": lambda: global_divisor(-3 if last else 4),
        "NaN count": lambda: global_divisor(torch.tensor(float("nan") if last else 4.0)),
        "infinite count": lambda: global_divisor(float("inf") if last else 4),
        "text as a count": lambda: global_divisor("many" if last else 4),
        "two counts": lambda: global_divisor(torch.ones(1 + last)),
        "negative labels": lambda: SigmoidFocalLoss(**OVER, group=None)(x, y - 9 * last),
        "reductions": lambda: SigmoidFocalLoss(reduction="sum" if last else "mean", group=None)(x, y),
        "positives or not": lambda: SigmoidFocalLoss(**({} if last else OVER), group=None)(x, y),
        "shapes": lambda: SigmoidFocalLoss(group=None)(x, y[last:]),
        "by hand or not": lambda: global_divisor(3) if last else SigmoidFocalLoss(group=None)(x, y),
        "negative loss": lambda: global_loss(torch.tensor(1.0), torch.tensor(-1.0 if last else 1.0)),
        "not a member": lambda: SigmoidFocalLoss(group=dist.GroupMember.NON_GROUP_MEMBER),
    }.items():
        process.found[name] = said_by(call)
        dist.barrier()
    # What a GPU does, where nobody looks: NaN on every process.
    for name, numbers in {"a device, NaN": (-1.0, 1), "a device, codes": (1.0, 1 + last), "a device": (1.0, 1)}.items():
        process.found[name] = str(float(on_a_device(*numbers)))


def on_a_device(count: float, code: int) -> Tensor:
    """`summed` as for a tensor that is not in the processor's memory."""
    from unittest import mock

    from parfocal.torch.distributed import CODES, summed

    with mock.patch("torch.compiler.is_compiling", return_value=True):
        return summed(torch.tensor(count), dist.group.WORLD, CODES[code])


def group_of_some(process: Process) -> None:
    """A group of the first two processes; a copy of a loss has the same group."""
    group = dist.new_group([0, 1])
    case, parts = CASES["positives"], [slice(0, 5), slice(5, ROWS)]
    if process.rank < 2:
        part, model = parts[process.rank], layer()
        loss = copy.deepcopy(nn.ModuleList([case.loss(part, group=group)]))[0]
        loss(model(X[part]), case.target[part]).backward()
        gradient = gradient_of(model) / 2
        dist.all_reduce(gradient, group=group)
        process.found["a group of two"] = error(gradient, in_one_process(case)[1])


def warned(process: Process) -> None:
    """How often each of these warns in two steps."""
    x, z = layer()(X).detach().requires_grad_(), layer()(X).detach()
    over = SigmoidFocalLoss(**OVER)
    for name, (loss, logits, target, *more) in {
        "positives": (over, x, ONES),
        "positives, once more": (over, x, ONES),
        "ignored": (SigmoidFocalLoss(ignore_index=-1), x, IGNORED),
        "samples": (SoftmaxFocalLoss(), x, LABELS),
        "weights": (SoftmaxFocalLoss(weight=[1, 2, 3, 4]), x, LABELS),
        "elements": (SigmoidFocalLoss(), x, ONES),
        "probabilities": (SoftmaxFocalLoss(), x, PROBABILITIES),
        "sum": (SigmoidFocalLoss(reduction="sum", ignore_index=-1), x, IGNORED),
        "none": (SigmoidFocalLoss(reduction="none", ignore_index=-1), x, IGNORED),
        "a normalizer": (SigmoidFocalLoss(**OVER, normalizer=7), x, ONES),
        "a call's normalizer": (SigmoidFocalLoss(**OVER), x, ONES, 7),
        "a group": (SigmoidFocalLoss(**OVER, group=dist.group.WORLD), x, ONES),
        "eval": (SigmoidFocalLoss(**OVER).eval(), x, ONES),
        "no gradient": (SigmoidFocalLoss(**OVER), z, ONES),
    }.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                loss(logits, target, *more)
        here = all(w.filename == __file__ for w in caught)
        process.found[f"warned: {name}"] = f"{len(caught)} {here} {' '.join(str(w.message) for w in caught)}"
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        SigmoidFocalLoss(**OVER)(x, ONES)
    process.found["warned: no_grad"] = f"{len(caught)} True "


def compiled(process: Process) -> None:
    """Under torch.compile there is a sum over the group, no graph break and no warning."""
    case = CASES["positives, one in all"]
    wanted = in_one_process(case)[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for cut, part in list(process.parts())[:1]:
            loss, model = case.loss(part, group=None), layer()
            torch.compile(loss, backend="aot_eager", fullgraph=True)(model(X[part]), case.target[part]).backward()
            gradient = gradient_of(model)
            dist.all_reduce(gradient)
            process.found[f"compiled; {cut}"] = error(gradient / process.world, wanted)
        local: Any = torch.compile(case.loss(), backend="aot_eager", fullgraph=True)
        local(layer()(X), case.target).backward()
    process.found["compiled, warned"] = str([str(w.message) for w in caught if "processes train" in str(w.message)])


SUITES = {s.__name__: s for s in (ddp, fsdp, metrics, shards, bad, group_of_some, warned, compiled)}


def main(rank: str, world: str, folder: str, *suites: str) -> None:
    torch.set_num_threads(1)
    process, store = Process(int(rank), int(world)), f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=process.rank, world_size=process.world)
    for suite in suites:
        with warnings.catch_warnings():
            warnings.simplefilter("error" if suite in ("ddp", "shards") else "ignore")  # other libraries' own
            SUITES[suite](process)
    dist.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps(process.found))


if __name__ == "__main__":
    main(*sys.argv[1:])
