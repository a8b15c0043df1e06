"""The house: who may import whom, and what `import parfocal` imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import parfocal

SOURCE = Path(parfocal.__file__).parent

# Lower floors first.  A module imports only from floors below its own.
FLOORS = [
    {"_native"},
    {"core/__init__", "core/formula", "config"},
    {"core/validation"},
    {"core/parameters", "core/softmax", "weights"},
    {"core/probability", "parameters"},
    {"core/batch", "core/calibration", "core/laws", "core/posterior"},
    {"backends"},
    {"functional", "held_out"},
    {"losses"},
    {"metrics", "boosters/gradients", "calibrator"},
    {"boosters/objective"},
    {"boosters/training"},
    {"boosters/parameters"},
    {"boosters/lightgbm", "boosters/xgboost", "boosters/catboost"},
    {"boosters/catboost_labels", "boosters/__init__"},
    {"__init__"},
    {"jax", "torch", "keras", "boosting", "lightgbm", "xgboost", "catboost"},  # the doors
    {"sklearn"},  # a door, which trains boosters
    {"app"},
]
BY_FILE = ("core", "boosters")  # packages whose files have floors of their own
FRAMEWORKS = {
    "torch",
    "triton",
    "jax",
    "tensorflow",
    "keras",
    "lightgbm",
    "xgboost",
    "catboost",
    "sklearn",
    "scipy",
    "polars",
}


def room_of(path: Path) -> str:
    """losses.py is the room "losses", core/formula.py the room "core/formula"; backends/numpy.py is in "backends"."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return "/".join(parts) if parts[0] in BY_FILE else parts[0]


def imported_room(inside: list[str], names: list[str]) -> set[str]:
    """The rooms of `from parfocal.<inside> import <names>`."""
    if inside and inside[0] in BY_FILE:
        files = inside[1:2] or [name for name in names if (SOURCE / inside[0] / f"{name}.py").exists()]
        return {f"{inside[0]}/{name}" for name in files or ["__init__"]}
    return {inside[0]} if inside else {f"{name}/__init__" if name in BY_FILE else name for name in names}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("parfocal"):
            rooms |= imported_room((node.module or "").split(".")[1:], [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("parfocal"):
                    rooms |= imported_room(alias.name.split(".")[1:] or ["__init__"], [])
    return rooms


def floor_of(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    for other in imported_rooms(path) - {room, "__version__"}:
        if other in parfocal.__all__ and other not in ("config", "metrics"):
            other = "__init__"  # from parfocal import BinaryFocalCrossentropy
        assert floor_of(other) < floor_of(room), f"{room} imports {other}"


def test_the_formula_imports_nothing_of_ours() -> None:
    assert imported_rooms(SOURCE / "core/formula.py") == set()


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in output.split()}


def test_import_parfocal_imports_numpy_alone() -> None:
    ours = modules_after("import parfocal") - modules_after("import numpy")
    ours = {name for name in ours if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert ours == {"parfocal"}
    assert not modules_after("import parfocal, parfocal.boosting") & FRAMEWORKS


def test_the_boosters_are_imported_by_those_who_train() -> None:
    assert not modules_after("import parfocal.boosters, parfocal.lightgbm, parfocal.xgboost") & FRAMEWORKS


def test_the_torch_door_imports_torch_alone() -> None:
    alone = modules_after("import parfocal.torch")
    assert not alone & {"torchmetrics", "transformers", *FRAMEWORKS - {"torch"}}


@pytest.mark.full
def test_its_metrics_import_torchmetrics() -> None:
    assert "torchmetrics" in modules_after("import parfocal.torch.metrics")


def test_that_test_can_fail() -> None:
    assert "polars" in modules_after("import parfocal, polars")


def test_all_is_what_there_is() -> None:
    for module in (parfocal, parfocal.metrics, parfocal.losses, parfocal.functional):
        for name in module.__all__:
            assert hasattr(module, name), (module.__name__, name)
            assert getattr(module, name).__doc__, (module.__name__, name)
