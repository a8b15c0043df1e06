"""Import layers: who may import whom, and what `import parfocal` imports."""

from __future__ import annotations

import ast
import subprocess
import symtable
import sys
from pathlib import Path

import pytest

import parfocal

SOURCE = Path(parfocal.__file__).parent

# Lower layers first.  A module imports only from layers below its own.
LAYERS = [
    {"_native"},
    {"core/__init__", "core/hosts", "core/pairs", "config"},
    {"core/formula"},
    {"core/validation"},
    {"core/parameters", "core/softmax", "weights"},
    {"core/gamma_derivatives", "core/probability", "parameters"},
    {"core/batch", "core/calibration", "core/curve", "core/laws", "core/posterior"},
    {"backends", "calibration"},
    {"functional", "held_out"},
    {"losses", "thresholds"},
    {"metrics", "boosters/gradients", "calibrator"},
    {"boosters/objective", "loading"},
    {"boosters/training"},
    {"boosters/parameters", "boosters/lightgbm_trees"},
    {"boosters/lightgbm", "boosters/xgboost", "boosters/catboost"},
    {"boosters/catboost_labels", "boosters/__init__"},
    {"__init__"},
    {"jax", "torch", "keras", "boosting", "lightgbm", "xgboost", "catboost"},  # the adapters
    {"sklearn"},  # an adapter, which trains boosters
    {"app"},
]
BY_FILE = ("core", "boosters")  # packages whose files have layers of their own
WHEN_CALLED = {("loading", "app")}  # a public function at the top; see test_import_parfocal_imports_numpy_alone
# app has packages of its own.  Within each of them as well, and of all modules, there is no circle.
APP_LAYERS = [
    {"consoles", "errors", "owners"},
    {"files"},
    {"data"},
    {"model"},
    {"options"},
    {"study"},
    {"tell"},
    {"fitting", "predicting", "deciding", "demo"},
    {"cli"},
    {"__init__"},
]
FRAMEWORKS = {"torch", "triton", "jax", "tensorflow", "keras", "lightgbm", "xgboost", "catboost", "sklearn", "scipy"}
FRAMEWORKS |= {"polars"}


def module_of(path: Path) -> str:
    """losses.py is the module "losses", core/formula.py is "core/formula", and backends/numpy.py is "backends"."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return "/".join(parts) if parts[0] in BY_FILE else parts[0]


def imported_module(inside: list[str], names: list[str]) -> set[str]:
    """The modules of `from parfocal.<inside> import <names>`."""
    if inside and inside[0] in BY_FILE:
        files = inside[1:2] or [name for name in names if (SOURCE / inside[0] / f"{name}.py").exists()]
        return {f"{inside[0]}/{name}" for name in files or ["__init__"]}
    return {inside[0]} if inside else {f"{name}/__init__" if name in BY_FILE else name for name in names}


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("parfocal"):
            modules |= imported_module((node.module or "").split(".")[1:], [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("parfocal"):
                    modules |= imported_module(alias.name.split(".")[1:] or ["__init__"], [])
    return modules


def layer_of(module: str) -> int:
    return next(level for level, modules in enumerate(LAYERS) if module in modules)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    module = module_of(path)
    for other in imported_modules(path) - {module, "__version__"}:
        if other in parfocal.__all__ and other not in ("config", "metrics", "thresholds"):
            other = "__init__"  # from parfocal import BinaryFocalCrossentropy
        assert (module, other) in WHEN_CALLED or layer_of(other) < layer_of(module), f"{module} imports {other}"


def app_imports(path: Path) -> set[str]:
    """The modules of app that a file of it imports: data.columns, files."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("parfocal.app"):
            inside = (node.module or "").split(".")[2:]
            for name in (alias.name for alias in node.names):
                whole = SOURCE / "app" / Path(*inside, name)
                found.add(".".join([*inside, name] if whole.is_dir() or whole.with_suffix(".py").exists() else inside))
    return found


APP = {
    ".".join(path.relative_to(SOURCE / "app").with_suffix("").parts): path for path in (SOURCE / "app").rglob("*.py")
}


def app_layer(module: str) -> int:
    return next(level for level, modules in enumerate(APP_LAYERS) if module.partition(".")[0] in modules)


@pytest.mark.parametrize("module", sorted(APP))
def test_tell_imports_study_and_study_imports_data(module: str) -> None:
    for other in app_imports(APP[module]):
        package = module.partition(".")[0]
        assert other.partition(".")[0] == package or app_layer(other) < app_layer(module), f"{module} imports {other}"


def test_app_has_no_circle() -> None:
    left = {module: app_imports(path) & APP.keys() for module, path in APP.items()}
    assert left["study.study"] >= {"data.sample", "study.trials", "options"}  # imports are found
    while left:
        leaves = [module for module, imports in left.items() if not imports & left.keys()]
        assert leaves, f"a circle among {sorted(left)}"
        for module in leaves:
            del left[module]


def test_the_formula_imports_nothing_of_ours() -> None:
    assert imported_modules(SOURCE / "core/formula.py") == {"core/pairs"}


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


def test_the_torch_adapter_imports_torch_alone() -> None:
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


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_no_super_at_the_top_of_a_module(file: Path) -> None:
    """It changes the bytecode of all others in the file, which torch.compile cannot read on Python 3.13."""
    assert "super" not in symtable.symtable(file.read_text(), str(file), "exec").get_identifiers()
