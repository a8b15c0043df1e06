"""The GPU kernels' tests can fail: broken in one place, in a copy of the package, they turn red."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from breaking import Prepared, copy_of_parfocal, mutated, turns_red_with
from tiers import tiers

# Each is (check, file in parfocal/backends/triton/, original, broken); the original stands in that file once.
MUTANTS = {
    "operations are fused": (
        "triton_code::test_what_the_kernels_are_compiled_to[binary]",
        "launch.py",
        '"enable_fp_fusion": False',
        '"enable_fp_fusion": True',
    ),
    "offsets have 32 bits": (
        "triton_code::test_what_the_kernels_are_compiled_to[binary]",
        "binary.py",
        "tl.program_id(0).to(tl.int64)",
        "tl.program_id(0)",
    ),
    "the strides of classes have 32 bits": (
        "triton_code::test_what_the_kernels_are_compiled_to[softmax]",
        "softmax.py",
        "z_class.to(tl.int64), gradient_class.to(tl.int64)",
        "z_class, gradient_class",
    ),
    "the low part of the exponent is dropped": (
        "triton::test_binary[10.0]",
        "focal.py",
        "        return exponential(high, low)\n",
        "        return exponential(high)\n",
    ),
    "one Newton step fewer": (
        "triton::test_binary[2.0]",
        "elementary.py",
        "    inverse = tl.fma(inverse, tl.fma(-sum_, inverse, 1.0), inverse)\n",
        "\n",
    ),
    "one Newton step fewer, of a sum": (
        "triton_dense::test_accuracy[dense-10-10.0]",
        "elementary.py",
        "bitcast=True)\n    inverse = tl.fma(inverse, tl.fma(-x, inverse, 1.0), inverse)\n",
        "bitcast=True)\n\n",
    ),
    "the target is left in the sum": (
        "triton::test_softmax[1000-10.0]",
        "softmax.py",
        "    return tl.where(columns == target, -INFINITE, z.to(tl.float32))\n",
        "    return z.to(tl.float32)\n",
    ),
    "the target is left in the sum, of few classes": (
        "triton::test_softmax[3-10.0]",
        "softmax.py",
        "    return tl.where(target == k, -INFINITE, z)\n",
        "    return z\n",
    ),
    "exponentials are rounded before they are summed": (
        "triton::test_softmax[1000-10.0]",
        "softmax.py",
        "tl.sum((values - high) + low, axis=1)",
        "tl.sum((values - high) * 0.0, axis=1)",
    ),
    "the doublings are forgotten": (
        "triton::test_softmax_in_two_passes",
        "softmax.py",
        "two_sum(total * factor, e)",
        "two_sum(total, e)",
    ),
    "an invalid index is taken": (
        "triton::test_an_invalid_index_spoils_its_row_alone",
        "softmax.py",
        'weight = tl.where(valid, alpha, float("nan"))',
        "weight = tl.where(valid, alpha, 1.0)",
    ),
    "an ignored row is read": (
        "triton::test_ignored_rows_have_no_effect",
        "softmax.py",
        "    return target, tl.where(counts, weight, 0.0), counts\n",
        "    return target, weight, inside\n",
    ),
    "the first class is left in its own sum": (
        "triton_dense::test_accuracy[dense-10-2.0]",
        "dense_kernels.py",
        "    below = tl.where(first == k, -INFINITE, z)\n",
        "    below = z\n",
    ),
    "the first class is left in its own sum, of many": (
        "triton_dense::test_accuracy[one-hot-1000-2.0]",
        "dense_kernels.py",
        "    below = tl.where(columns == first[:, None], -INFINITE, z)\n",
        "    below = z\n",
    ),
    "the first class's own sum is T less its own exponential": (
        "triton_dense::test_accuracy[one-hot-3-2.0]",
        "dense_kernels.py",
        "    m, m_low = margin(first_z, anchor, total, total_low)\n",
        "    m, m_low = margin(first_z, first_z, (1.0 + tl.exp(anchor - first_z) * total) - 1.0, total_low * 0.0)\n",
    ),
    "a class is left among the others": (
        "triton_dense::test_accuracy[dense-10-2.0]",
        "dense.py",
        "over_others - total_over_others, share",
        "-total_over_others, share",
    ),
    "what rounding the exponentials lost is dropped": (
        "triton_dense::test_many_rows[one-hot]",
        "dense.py",
        "tl.fma(-ratio, others, own) + tl.fma(-ratio, others_low, own_low)",
        "own_low * 0.0",
    ),
    "an invalid dense label is taken": (
        "triton_dense::test_an_invalid_label_spoils_its_row_alone",
        "dense.py",
        'tl.where((y >= 0.0) & (y <= 1.0), tl.fma(on, y, off), float("nan"))',
        "tl.fma(on, y, off)",
    ),
    "a class without weight has an infinite loss": (
        "triton_dense::test_infinite_logits_take_the_limit[2.0-3]",
        "dense.py",
        "    loss = tl.where(weight == 0.0, 0.0, weight * -(q_to_g * u))",
        "    loss = weight * -(q_to_g * u)",
    ),
    "the strides of labels have 32 bits": (
        "triton_code::test_what_the_kernels_are_compiled_to[softmax]",
        "dense_kernels.py",
        "labels_class = labels_class.to(tl.int64)",
        "labels_class = labels_class.to(tl.int32)",
    ),
    "the last tile is as long as the others": (
        "triton::test_binary_shapes[shape5-2.0]",
        "binary.py",
        "    left_out = ~inside\n",
        "    left_out = inside & False\n",
    ),
}
FIRST = ("the target is left in the sum, of few classes",)


@pytest.fixture(scope="session")
def prepared() -> Iterator[Prepared]:
    """Importing these takes longer than most of the checks."""
    with Prepared("torch", "triton.runtime.interpreter", "torch.distributed.tensor", "mpmath", "hypothesis") as process:
        yield process


@pytest.mark.parametrize("name", tiers(MUTANTS, FIRST))
def test_a_broken_kernel_turns_red(name: str, tmp_path: Path, prepared: Prepared) -> None:
    check, file, original, broken = MUTANTS[name]
    path = copy_of_parfocal(tmp_path) / "backends/triton" / file
    path.write_text(mutated(path, original, broken))
    assert turns_red_with(tmp_path, [check], "numpy", prepared=prepared)


@pytest.mark.full
def test_a_copy_as_it_is_stays_green(tmp_path: Path, prepared: Prepared) -> None:
    """With the first check of each file: what the others find in parfocal itself, they find in its copy."""
    copy_of_parfocal(tmp_path)
    first = {
        check.partition("::")[0]: check for check in sorted({mutant[0] for mutant in MUTANTS.values()}, reverse=True)
    }
    assert not turns_red_with(tmp_path, first.values(), "numpy", prepared=prepared)
