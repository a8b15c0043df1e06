"""Messages that hold a count: one row, two rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import parfocal
from parfocal.app.data import splits
from parfocal.app.errors import BadInput
from parfocal.app.tell import text
from parfocal.boosters import Rows
from parfocal.core.hosts import counted
from parfocal.sklearn import FocalBoostingClassifier
from parfocal.torch import SoftmaxFocalLoss

SOURCE, ROOT = Path(parfocal.__file__).parent, Path(__file__).parents[1]
NOUNS = (
    r"candidates|classes|columns|dimensions|dimension\(s\)|elements|features|files|folds|items|labels|leaves|names|"
    r"numbers|positives|processes|rounds|rows|samples|scores|seconds|shares|steps|texts|threads|times|values|weights|words"
)
PLURAL = re.compile(rf" ({NOUNS})(?!\w)")
SEVERAL = re.compile(r"(each|one) of the $")  # "each of the 3 classes": there are at least two


def test_counted() -> None:
    assert [counted(count, "row") for count in (0, 1, 2, 2000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]
    assert [counted(np.int64(count), "class") for count in (1, 3)] == ["1 class", "3 classes"]
    assert [counted(count, "leaf", "leaves") for count in (1, 31)] == ["1 leaf", "31 leaves"]


def bare_counts(text: str) -> Iterator[str]:
    """Values in f-strings that stand before a plural; constants, in capitals, are known to be several."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            parts = [ast.Constant(""), *node.values]
            for before, value, after in zip(parts, parts[1:], parts[2:], strict=False):
                if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                    continue
                name = ast.unparse(value.value)
                known = name.isupper() or (isinstance(before, ast.Constant) and SEVERAL.search(str(before.value)))
                if PLURAL.match(str(after.value)) and not known:
                    yield f"line {node.lineno}: {name}{after.value}"


def test_bare_counts_are_found() -> None:
    assert list(bare_counts('f"{len(rows):,} rows, {BINS} bins"')) == ["line 1: len(rows) rows, "]
    assert not list(bare_counts("f\"each of the {classes} classes, {counted(1, 'row')}\""))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_count_before_a_noun_goes_through_counted(path: Path) -> None:
    assert list(bare_counts(path.read_text())) == []


PAGE = re.compile(r"docs/[\w/-]+\.md")


def test_every_page_that_a_text_names_is_there() -> None:
    named = {page for path in SOURCE.rglob("*.py") for page in PAGE.findall(path.read_text())}
    assert {"docs/scale.md", "docs/howto/bias.md", "docs/howto/calibrate.md"} <= named
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


X = torch.zeros(2, 4)


def a_class_in_the_last_row_alone() -> None:
    model = FocalBoostingClassifier(validation="last", validation_fraction=0.1)
    model.classes_ = np.array(["early", "late"])
    model._split(Rows(np.zeros((10, 1)), np.repeat([0, 1], [9, 1]), None), None)


ONE: dict[str, tuple[Callable[[], Any], str]] = {
    "alpha": (lambda: SoftmaxFocalLoss(alpha=[1])(X, X), "alpha has 1 number and input has 4 classes"),
    "weight": (lambda: SoftmaxFocalLoss(weight=[1])(X, X), "weight has 1 number and input has 4 classes on axis 1"),
    "both": (lambda: SoftmaxFocalLoss([1], weight=[1, 2]), "alpha has 1 number and weight has 2; give one per class"),
    "core": (
        lambda: parfocal.categorical_focal_crossentropy([[0, 1]], [[0.5, 0.5]], alpha=[1]),
        "alpha has 1 number and y_pred has 2 classes",
    ),
    "axis": (
        lambda: parfocal.binary_focal_crossentropy([1], [0.5], axis=3),
        "out of range for y_pred with 1 dimension;",
    ),
    "a pair": (lambda: parfocal.BinaryFocalCrossentropy(gamma=[2]), "got 1 number: "),
    "split": (lambda: splits.check_classes("final test", np.array([1]), ("no", "yes")), r"final test \(1 row\) has no"),
    "held out": (a_class_in_the_last_row_alone, "the last 1 row, and only it has the class 'late'"),
}


@pytest.mark.parametrize("message", ONE)
def test_one_is_one(message: str) -> None:
    call, words = ONE[message]
    with pytest.raises((ValueError, BadInput), match=words):
        call()


def test_one_row_is_left_out() -> None:
    target = SimpleNamespace(
        name="y", positive="b", classes=("a", "b"), tie=False, missing_rows=1, weightless_rows=2, missing_marks=()
    )
    said = text.describe_target(SimpleNamespace(target=target, labels=np.array([0, 0, 0, 1])))
    assert said == (
        "y: positive is 'b', 1 row (25 %); negative is 'a'; 1 row without a label is left out; 2 rows of weight 0 are "
        "left out"
    )
