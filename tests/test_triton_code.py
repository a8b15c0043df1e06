"""What the GPU's kernels are compiled to (tests/gpu_code.py), for three generations of cards that need not be there.

PTX with IEEE operations alone, none of which may be contracted, is the proof that a GPU computes what the interpreter
computes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

Facts = dict[str, Any]
FIRST = 90  # the card of the first tier, for which instructions are counted


def compiled(card: int, names: list[str], cache: Path) -> dict[str, dict[str, Facts]]:
    """The facts of each kernel of the cases named; of "all but" those; or of "most", which are not alike."""
    return printed(["gpu_code.py", str(card), *names], cache)


def printed(script: list[str], cache: Path) -> Any:
    """What a script beside this file prints, in a process that does not interpret kernels."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(Path(__file__).parent / script[0]), *script[1:]]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout)


def per_logit(facts: Facts) -> float:
    """Instructions a logit.  A tile of hard labels may be computed in parts, by the last of the inner loops."""
    outside, inner = facts["loops"]
    constants, threads = facts["constants"], facts["threads"]
    if "CLASSES" in constants:  # one pass, or two loops over the tiles
        return (outside if constants["WHOLE"] else sum(inner)) / (constants["CLASSES"] / threads)
    parts = 1024 // constants["PART"]
    return (outside + (parts * inner[-1] if parts > 1 else 0)) / (1024 / threads)


def check(cases: dict[str, dict[str, Facts]]) -> None:
    for name, kernels in cases.items():
        for kernel, facts in kernels.items():
            where = f"{name}: {kernel}"
            assert not facts["contractible"], where
            assert not facts["approximate"], where
            assert not facts["spilled"], where
            assert facts["registers"] <= (128 if "rows" in kernel else 64), where
            if kernel != "total_kernel":  # classes of one row, and numbers of one program, fit into 32 bits
                wide = facts["constants"].get("CLASSES")
                assert set(facts["narrow offsets"]) <= {f"1x{wide}x", ""}, where


# One after the other in a process of their own: what breaks one kind of kernel is looked for in that kind alone.
FIRST_CASES = {
    "binary": ["binary, float labels", "binary, any gamma, float labels"],
    "softmax": ["softmax, 1000 classes", "softmax, 10 classes", "dense, 10 classes, any gamma"],
}


@pytest.mark.parametrize("kind", FIRST_CASES)
def test_what_the_kernels_are_compiled_to(kind: str, tmp_path: Path) -> None:
    cases = compiled(FIRST, FIRST_CASES[kind], tmp_path)
    check(cases)
    if kind == "binary":
        binary = cases["binary, float labels"]["binary_kernel"]
        assert per_logit(binary) <= 80
        assert binary["loads"].count("ld.global.v4.b32") >= 4
        assert binary["stores"].count("st.global.v4.b32") == 2
        assert per_logit(cases["binary, any gamma, float labels"]["binary_kernel"]) <= 115
    else:
        softmax = cases["softmax, 1000 classes"]["rows_kernel"]
        assert per_logit(softmax) <= 120
        assert softmax["loads"].count("ld.global.v4.b32") == softmax["stores"].count("st.global.v4.b32") == 4


@pytest.mark.full
@pytest.mark.parametrize("card", [80, 90, 120])
def test_every_kernel_on_every_card(card: int, tmp_path: Path) -> None:
    """On the first card those that the test above has not compiled."""
    cases = compiled(card, ["all but", *chain(*FIRST_CASES.values())] if card == FIRST else ["most"], tmp_path)
    check(cases)
    if card != FIRST:
        return
    for name in ("binary, float labels, losses", "binary, int8 labels", "binary, bfloat16"):
        assert per_logit(cases[name]["binary_kernel"]) <= 80, name
    assert per_logit(cases["binary, any gamma"]["binary_kernel"]) <= 115
    for name in ("4096 classes", "1000 classes, any gamma", "1000 classes, bfloat16", "100,000 classes"):
        assert per_logit(cases[f"softmax, {name}"]["rows_kernel"]) <= 120, name
    for name in ("softmax, 100,000 classes", "softmax, 100,000 classes, bfloat16", "softmax, 1000 classes, bfloat16"):
        assert "ld.global.v4.b32" in cases[name]["rows_kernel"]["loads"], name
        assert "st.global.v4.b32" in cases[name]["rows_kernel"]["stores"], name


@pytest.mark.full
def test_a_kernel_that_is_found_again_is_launched_as_triton_would(tmp_path: Path) -> None:
    """The same compiled code, as many programs, the same arguments: for lengths and alignments that differ."""
    launches = printed(["gpu_launches.py"], tmp_path)
    assert [len(call) for call in launches["plain"]] == [2, 2, 2, 2, 1, 1, 1, 1, 1]
    assert launches["again"] == launches["plain"]
