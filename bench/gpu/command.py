"""`python -m bench --gpu`, its stages, and the hashes that it compares with."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bench.gpu.stage import Late, Line, Stage

ROOT = Path(__file__).parents[2]

# (module, function, seconds with the start of its process)
STAGES = {
    0: ("host", "machine", 30),
    1: ("exact", "bits", 50),
    2: ("exact", "operations", 45),
    3: ("exact", "every_logit", 60),
    4: ("speed", "binary", 90),
    5: ("speed", "softmax", 80),
    6: ("host", "small_batches", 35),
    7: ("modes", "modes", 50),
    8: ("counters", "counters", 30),
}
TOTAL = 470  # seconds, of 8 minutes
GRACE = 6  # after its limit a stage is killed

LEFT_OUT = "9  linear and loss in one: the library does not have it yet, so that stage is left out"


def run() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="The GPU kernels on a GPU.")
    parser.add_argument("--gpu", action="store_true", help="check and time them, within 8 minutes")
    parser.add_argument("--rehearse", action="store_true", help="on a processor, at tiny sizes; its times mean nothing")
    parser.add_argument("--gpu-bits", action="store_true", help="have Triton's interpreter make bench/gpu_bits.json")
    parser.add_argument("--out", type=Path, help="where to write the CSV, instead of bench/gpu.csv")
    parser.add_argument("--only", default=",".join(map(str, STAGES)), help="some of the stages, such as 1,4")
    parser.add_argument("--stage", type=int, choices=STAGES, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--deadline", type=float, default=float("inf"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.gpu_bits:
        raise SystemExit(make_bits())
    if given.stage is not None:
        return one_stage(given.stage, given.deadline, given.rehearse)
    if missing := what_is_missing(given.rehearse):
        print(f"python -m bench --gpu: {missing}", file=sys.stderr)
        raise SystemExit(2)
    stages = [int(number) for number in given.only.split(",")]
    out = given.out or (None if given.rehearse else ROOT / "bench" / "gpu.csv")
    raise SystemExit(every_stage(stages, given.rehearse, out))


def what_is_missing(rehearse: bool) -> str:
    for name in ("numpy", "torch", "triton"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    import torch

    if not rehearse and not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU; --rehearse runs every stage on the processor"
    return ""


def environment(rehearse: bool) -> dict[str, str]:
    """Of a stage: this checkout first, the kernels forced, and no pool of compiling processes that outlives it."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {"PYTHONPATH": os.pathsep.join(paths), "PARFOCAL_GPU": "triton", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    if rehearse:
        found |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | found


# -- the process that starts the others


def every_stage(stages: list[int], rehearse: bool, out: Path | None) -> int:
    """1 if an expectation was missed.  A rehearsal writes a file only where it is told to."""
    signal.signal(signal.SIGTERM, lambda *given: sys.exit(143))  # so that no stage is left behind
    end = time.time() + (float("inf") if rehearse else TOTAL)
    lines: list[Line] = []
    for number in stages:
        limit = min(600.0 if rehearse else STAGES[number][2], end - time.time() - GRACE)
        if limit <= 5:
            add(lines, Line(number, "left out", "no time is left", "", "to run", False))
            continue
        collect(number, limit, rehearse, lines)
        if out is not None:
            write(lines, out)
    print(LEFT_OUT, flush=True)
    missed = sum(line.met is False for line in lines)
    print(f"{len(lines)} lines, {missed} expectations missed; written to {out or 'no file'}", flush=True)
    return 1 if missed else 0


def add(lines: list[Line], line: Line) -> None:
    lines.append(line)
    print(line.text(), flush=True)


def collect(number: int, limit: float, rehearse: bool, lines: list[Line]) -> None:
    """Runs a stage, and adds its lines as they come."""
    began = time.time()
    command = [sys.executable, "-m", "bench", "--gpu", "--stage", str(number), "--deadline", str(began + limit)]
    command += ["--rehearse"] * rehearse
    killed = threading.Event()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(rehearse), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:

        def kill() -> None:
            killed.set()
            os.killpg(process.pid, signal.SIGKILL)  # and the compilers that it has started

        timer = threading.Timer(limit + GRACE, kill)
        timer.start()
        try:
            for printed in process.stdout or ():
                if printed.startswith("{"):
                    add(lines, Line(**json.loads(printed)))
                else:
                    print(printed, end="", flush=True)
            process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:  # this process was interrupted
                kill()
    took = time.time() - began
    if killed.is_set():
        add(lines, Line(number, "killed", took, "s", f"at most {limit:.0f}", False))
    elif process.returncode:
        add(lines, Line(number, "ended", f"with {process.returncode}", "", "with 0", False))
    add(lines, Line(number, "took", took, "s"))


def write(lines: list[Line], out: Path) -> None:
    """After every stage, so that nothing is lost with the next one."""
    verdict = {None: "", True: "yes", False: "no"}
    with out.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Line)], lineterminator="\n")
        table.writeheader()
        for line in lines:
            table.writerow({**asdict(line), "met": verdict[line.met]})


# -- a stage's own process


def one_stage(number: int, deadline: float, rehearse: bool) -> None:
    module, name, _ = STAGES[number]
    if rehearse:
        from bench.gpu import rehearsal

        rehearsal.begin()
    from bench.gpu.device import trust_the_kernels

    trust_the_kernels()
    stage = Stage(number, deadline, rehearse)
    try:
        call: Callable[[Stage], object] = getattr(importlib.import_module(f"bench.gpu.{module}"), name)
        with stage.part(name):
            call(stage)
    except Late:
        stage.line("stopped: its time is over", "the rest was not measured")


# -- the interpreter's bits


def make_bits() -> int:
    """Writes bench/gpu_bits.json."""
    os.environ |= environment(rehearse=True)
    sys.path[:0] = [str(ROOT / "src")]
    import numpy
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
        print(f"triton {triton.__version__} interprets fma as two roundings; 3.9 is needed", file=sys.stderr)
        return 2
    from bench.gpu import inputs, rehearsal

    rehearsal.begin(whole=False)
    made: dict[str, Any] = {}
    for name, gamma in inputs.cases():
        began = time.time()
        given = inputs.of(name)
        found = inputs.computed(*given, gamma)
        made.setdefault(name, {"inputs": inputs.hashes(given[0])[:1]})[f"{gamma:g}"] = {
            output: inputs.hashes(getattr(found, output)) for output in ("loss", "gradient")
        }
        print(f"{name}, gamma {gamma:g}: {time.time() - began:.1f} s", flush=True)
    head = {"made by": "python -m bench --gpu-bits", "triton": triton.__version__, "numpy": numpy.__version__}
    inputs.write({**head, **made})
    print(f"{inputs.FILE}: {inputs.FILE.stat().st_size:,} bytes")
    return 0
