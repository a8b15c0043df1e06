"""`python -m bench --gpu` before it meets a GPU: a rehearsal of every stage, and what keeps one stage from the next."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import command, counters, inputs
from bench.gpu.stage import Late, Line, Stage

# None of these need be installed where there is a GPU.
ABSENT = ("jax", "keras", "lightgbm", "pandas", "rich", "sklearn", "typer")


@pytest.mark.full
def test_every_stage_runs_on_a_processor(tmp_path: Path) -> None:
    """With the kernels interpreted: all bits and errors are as expected; its times are not looked at."""
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PARFOCAL_KERNEL": "numpy"}
    call = [sys.executable, "-m", "bench", "--gpu", "--rehearse", "--out", str(tmp_path / "gpu.csv")]
    done = subprocess.run(
        call, cwd=command.ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    failed = [line for line in done.stdout.splitlines() if line.endswith("MISSED")]
    assert (failed, done.returncode) == ([], 0), done.stderr[-3000:]
    with (tmp_path / "gpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["stage", "what", "value", "unit", "expected", "met"]
    assert {int(row["stage"]) for row in rows} == set(command.STAGES)
    assert not [row for row in rows if row["met"] == "no" or "stopped" in row["what"]]
    assert len(rows) > 200


def test_without_a_gpu_it_says_so() -> None:
    assert command.what_is_missing(rehearse=False) == (
        f"torch {torch.__version__} finds no GPU; --rehearse runs every stage on the processor"
    )
    assert not command.what_is_missing(rehearse=True)


def test_the_inputs_are_the_same_everywhere() -> None:
    """Those that bench/gpu_bits.json was made from, by the first hash of each kind."""
    logits, labels = inputs.of("binary", inputs.BLOCK)
    assert inputs.hashes(logits)[0][:16] == "e90eb0915d6ca4de"
    assert inputs.hashes(inputs.of("softmax 10")[0])[0][:16] == "bc8934842e29906f"
    assert labels[:30].tolist() == [0.0] * 15 + [1.0] * 15


def test_a_part_may_fail_alone(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage(1, time.time() + 60, tiny=False)
    with stage.part("this"):
        raise OSError("no such card")
    stage.at_most("that", 2.0, 3.0)
    printed, errors = capfd.readouterr()
    assert '"what": "this", "value": "failed: OSError: no such card"' in printed.splitlines()[0]
    assert '"what": "that", "value": 2.0, "unit": "", "expected": "at most 3", "met": true' in printed.splitlines()[1]
    assert "Traceback" in errors
    stage.deadline = 0.0
    with pytest.raises(Late), stage.part("late"):
        raise AssertionError("a late part does not begin")


def test_a_stage_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "GRACE", 0)
    lines: list[Line] = []
    command.collect(0, 0.2, True, lines)
    assert [(line.what, line.met) for line in lines] == [("killed", False), ("took", None)]
    assert capsys.readouterr().out.splitlines()[0].endswith("MISSED")


def test_the_profilers_table_is_read() -> None:
    printed = """==PROF== Connected to process 1 (python3)
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",\
"Section Name","Metric Name","Metric Unit","Metric Value"
"0","1","python3","127.0.0.1","binary_kernel","1","7","(128, 1, 1)","(4096, 1, 1)","0","9.0",\
"Command line profiler metrics","dram__bytes.sum","Mbyte","805.31"
"0","1","python3","127.0.0.1","binary_kernel(float*)","1","7","(128, 1, 1)","(4096, 1, 1)","0","9.0",\
"Command line profiler metrics","smsp__inst_executed.sum","inst","159,383,552"
"1","1","python3","127.0.0.1","rows_kernel","1","7","(64, 1, 1)","(4096, 1, 1)","0","9.0",\
"Command line profiler metrics","dram__bytes.sum","byte","n/a"
"""
    assert counters.parsed(printed) == {
        ("binary_kernel", "dram__bytes.sum"): pytest.approx(805.31e6),
        ("binary_kernel", "smsp__inst_executed.sum"): 159383552.0,
    }


@pytest.mark.full
def test_the_page_shows_what_is_counted() -> None:
    """A process of its own, whose tensors go where those of a GPU go."""
    done = subprocess.run(
        [sys.executable, command.ROOT / "docs" / "make_gpu.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
