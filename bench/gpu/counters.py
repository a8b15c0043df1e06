"""Stage 8: instructions and bytes a logit, counted by the card, where ncu is installed and may read its counters."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys

import torch

from bench.gpu.device import device, trust_the_kernels
from bench.gpu.stage import Stage
from parfocal.torch import sigmoid_focal_loss, softmax_focal_loss

LOGITS = {"binary_kernel": 2**26, "rows_kernel": 2**16 * 1000}
METRICS = {
    "smsp__inst_executed.sum": ("instructions a logit", 32.0),  # each is one of 32 threads
    "dram__bytes.sum": ("bytes a logit", 1.0),
    "sm__inst_issued.avg.pct_of_peak_sustained_active": ("% of the issue slots", 0.0),
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("% of the memory's rate", 0.0),
}
MOST = {
    ("binary_kernel", "instructions a logit"): 80.0,
    ("binary_kernel", "bytes a logit"): 12.6,
    ("rows_kernel", "instructions a logit"): 120.0,
    ("rows_kernel", "bytes a logit"): 8.4,
}


def work(tiny: bool) -> None:
    """What is profiled: gamma 2, float32, a sum and its gradient."""
    trust_the_kernels()  # the first launches are counted
    size = 5000 if tiny else LOGITS["binary_kernel"]
    x = torch.randn(size, device=device()).requires_grad_()
    sigmoid_focal_loss(x, torch.ones(size, device=device()), reduction="sum")
    z = torch.randn(4 if tiny else 2**16, 1000, device=device()).requires_grad_()
    softmax_focal_loss(z, torch.zeros(len(z), dtype=torch.int64, device=device()), reduction="sum")
    torch.cuda.synchronize()


def counters(stage: Stage) -> None:
    if not shutil.which("ncu"):
        work(stage.tiny)
        stage.line("ncu", "not installed, so nothing is counted")
        return
    with stage.part("ncu"):
        program = ["-c", "from bench.gpu.counters import work; work(False)"]
        command = ["ncu", "--clock-control", "none", "--csv", "--target-processes", "all"]
        command += ["-k", "regex:binary_kernel|rows_kernel", "-c", "2", "--metrics", ",".join(METRICS)]
        done = subprocess.run(
            [*command, sys.executable, *program], capture_output=True, text=True, timeout=25, env=dict(os.environ)
        )
        found = parsed(done.stdout)
        if not found:
            said = next((line for line in done.stdout.splitlines() if "==ERROR==" in line), done.stderr[-200:])
            raise RuntimeError(f"ncu ended with {done.returncode} and counted nothing: {said}")
        report(stage, found)


def parsed(printed: str) -> dict[tuple[str, str], float]:
    """(kernel, metric): its value, of what `ncu --csv` prints."""
    lines = [line for line in printed.splitlines() if line.startswith('"')]
    scales = {"Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
    found = {}
    for row in csv.DictReader(lines):
        value = row["Metric Value"].replace(",", "")
        if value[:1].isdigit():  # and not "n/a"
            name = row["Kernel Name"].partition("(")[0], row["Metric Name"]
            found[name] = float(value) * scales.get(row["Metric Unit"], 1.0)
    return found


def report(stage: Stage, found: dict[tuple[str, str], float]) -> None:
    for (kernel, metric), value in found.items():
        if metric not in METRICS or kernel not in LOGITS:
            continue
        unit, factor = METRICS[metric]
        value = value * factor / LOGITS[kernel] if factor else value
        limit = MOST.get((kernel, unit))
        stage.line(kernel, value, unit, f"at most {limit:g}" if limit else "", value <= limit if limit else None)
