"""Stages 1 to 3: the interpreter's bits, the operations, and every float32 logit below 104."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from bench.gpu import inputs
from bench.gpu.device import EXACT, device, loss_and_gradient, truth, ulps, using, worst
from bench.gpu.stage import Late, Stage
from parfocal.torch import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss

OUTPUTS = ("loss", "gradient")

# -- 1

REHEARSED = [("binary", 2.0), ("binary", 4.4), ("softmax 10", 2.0), ("softmax 100000", 2.0)]


def bits(stage: Stage) -> None:
    """Hashes of what the kernels compute here, beside the interpreter's."""
    kept = json.loads(inputs.FILE.read_text())
    stage.line("the interpreter's bits", f"by triton {kept['triton']}, numpy {kept['numpy']}")
    for name, gamma in REHEARSED if stage.tiny else inputs.cases():
        with stage.part(f"{name}, gamma {gamma:g}"):
            logits, targets = inputs.of(name, inputs.BLOCK if stage.tiny else None)
            if inputs.hashes(logits)[:1] != kept[name]["inputs"]:
                raise RuntimeError("the inputs are not the interpreter's")
            found = inputs.computed(logits.to(device()), targets.to(device()), gamma)
            true = truth(found.inputs, found.targets, alpha=0.25, gamma=gamma, reduction="none")
            for output, right in zip(OUTPUTS, true, strict=True):
                compare(stage, f"{name}, gamma {gamma:g}, {output}", getattr(found, output), right, kept[name], gamma)


def compare(stage: Stage, what: str, found: Tensor, true: Tensor, kept: dict[str, Any], gamma: float) -> None:
    """Bits may differ for a softmax, whose sums a GPU adds in its own order; errors may not."""
    expected = kept[f"{gamma:g}"][what.rpartition(" ")[2]]
    hashes = inputs.hashes(found)
    different = [at for at, (a, b) in enumerate(zip(hashes, expected, strict=False)) if a != b]
    error = worst(found, true)
    unit, wanted = f"of {len(hashes)} blocks differ from the interpreter's", "0"
    if what.startswith("softmax"):
        wanted += f", or errors below {EXACT:g}"
    stage.line(what, len(different), unit, wanted, not different or (what.startswith("softmax") and error <= EXACT))
    if different:
        stage.line(f"{what}, the first that differ", str(different[:5]), f"{ulps(found, true):.2f} ulps from float64")
    stage.at_most(f"{what}, error", error, EXACT, "relative to float64")


# -- 2


def grid(tiny: bool) -> tuple[Tensor, Tensor]:
    """145,000 logits in [-1e4, 1e4], each with both labels."""
    size = 200 if tiny else 145_000 // 8
    even = torch.linspace(-1, 1, size, dtype=torch.float64)
    near = torch.cat([even * 10.0**power for power in (-3, 0, 1, 2)]).float().to(device())
    far = torch.cat([even * scale for scale in (17, 90, 1e3, 1e4)]).float().to(device())
    logits = torch.cat([near, far])
    return logits.repeat(2), torch.arange(2, device=device()).float().repeat_interleave(len(logits))


def rows(classes: int, tiny: bool) -> tuple[Tensor, Tensor]:
    """Seven kinds of rows."""
    torch.manual_seed(classes)
    each = 2 if tiny or classes >= 100_000 else 32
    noise, places = torch.randn(7, each, classes), torch.linspace(0, 1, classes)
    uniform = torch.rand(each, classes) * 2 - 1
    targets = torch.randint(0, classes, (7, each))
    kinds = [noise[0], uniform * 100, uniform * 1e4, torch.zeros(each, classes), noise[1] - 30, 20 * places + noise[2]]
    logits = torch.stack([*kinds, noise[3] + 9000])
    for row in range(each):
        logits[3, row, targets[3, row]] = 4.0 + 0.5 * row  # above equal others
        target = int(targets[4, row])
        logits[4, row, (target + 1) % classes] = 3.0
        logits[4, row, target] = 3.0 + 0.4 * row  # above one other above the rest
    flat = logits.reshape(7 * each, classes).to(device())
    return flat, targets.reshape(-1).to(device())


def operations(stage: Stage) -> None:
    """What computes the losses that have no kernel, eager and compiled."""
    logits, labels = grid(stage.tiny)
    shapes = (10, 1000) if stage.tiny else (2, 10, 1000, 100_000)
    with using("torch"):
        for gamma in (0.0, 0.3, 1.0, 1.5, 2.0, 3.0, 4.4, 10.0):
            with stage.part(f"binary, gamma {gamma:g}"):
                options: dict[str, Any] = {"alpha": None, "gamma": gamma, "reduction": "none"}
                found = loss_and_gradient(sigmoid_focal_loss, logits, labels, **options)
                report(stage, f"binary, gamma {gamma:g}", found, truth(logits, labels, **options))
        for classes in shapes:
            scores, targets = rows(classes, stage.tiny)
            for gamma in (2.0, 10.0):
                with stage.part(f"softmax {classes}, gamma {gamma:g}"):
                    options = {"gamma": gamma, "reduction": "none"}
                    found = loss_and_gradient(softmax_focal_loss, scores, targets, **options)
                    report(stage, f"softmax {classes}, gamma {gamma:g}", found, truth(scores, targets, **options))
        compiled_operations(stage, logits, labels)


def compiled_operations(stage: Stage, logits: Tensor, labels: Tensor) -> None:
    """Inductor's logarithm and division are approximate, so these are expected to be worse."""
    for gamma in (2.0,) if stage.tiny else (2.0, 10.0):
        for name, module, scores, targets in (
            ("binary", SigmoidFocalLoss(alpha=None, gamma=gamma, reduction="none"), logits, labels),
            ("softmax 1000", SoftmaxFocalLoss(gamma=gamma, reduction="none"), *rows(1000, stage.tiny)),
        ):
            what = f"{name}, gamma {gamma:g}, compiled"
            with stage.part(what):
                torch._dynamo.reset()
                found = loss_and_gradient(torch.compile(module, fullgraph=True, dynamic=False), scores, targets)
                options: dict[str, Any] = {"gamma": gamma, "reduction": "none"}
                options |= {"alpha": None} if name == "binary" else {}
                report(stage, what, found, truth(scores, targets, **options))


def report(stage: Stage, what: str, found: Any, true: Any) -> None:
    error = max(worst(a, b) for a, b in zip(found, true, strict=True))
    stage.at_most(f"{what}, operations, error", error, EXACT)


# -- 3

LAST = 0x42D00000  # the bits of 104, below which are the logits whose gradient is not yet 0


def every_logit(stage: Stage) -> None:
    """All float32 logits of |x| < 104 with label 1, which is all of label 0 too, with the sign changed."""
    chunk = 2**10 if stage.tiny else 2**25
    begins = range(0, LAST, chunk * (200_003 if stage.tiny else 1))
    errors, done, zeros = dict.fromkeys((2.0, 1.5), 0.0), dict.fromkeys((2.0, 1.5), 0), 0
    try:
        for begin in begins:
            patterns = torch.arange(begin, min(begin + chunk, LAST), dtype=torch.int32, device=device())
            logits = torch.cat([patterns.view(torch.float32), -patterns.view(torch.float32)])
            labels = torch.ones_like(logits)
            for gamma in errors:
                stage.check_time()
                options: dict[str, Any] = {"alpha": None, "gamma": gamma, "reduction": "none"}
                found = loss_and_gradient(sigmoid_focal_loss, logits, labels, **options)
                true = truth(logits, labels, **options)
                for value, right in zip(found, true, strict=True):
                    errors[gamma] = max(errors[gamma], worst(value, right))
                    zeros += int(((value == 0) & (right.abs() >= 2.0**-125)).sum())
                done[gamma] += len(logits)
    except Late:
        stage.line("stopped: its time is over", f"{100 * done[1.5] / (2 * LAST):.0f} % of the logits")
    except Exception as error:
        stage.line("stopped", f"failed: {type(error).__name__}: {error}"[:300], "", "no error", False)
    for gamma, error in errors.items():
        stage.at_most(f"{done[gamma]:,} logits, gamma {gamma:g}, error", error, EXACT, "relative to float64")
    stage.at_most("zeros where the truth is a normal number", zeros, 0)
