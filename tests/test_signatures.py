"""Parameter lists that are taken over: people, editors and type checkers see them whole."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from mypy import api

import parfocal
import parfocal.keras

NAMES = ("BinaryFocalCrossentropy", "CategoricalFocalCrossentropy", "SparseCategoricalFocalCrossentropy")
PAIRS = [(parfocal, parfocal.keras), (parfocal.metrics, parfocal.keras.metrics)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("written", "derived"), PAIRS)
def test_a_derived_signature_is_the_written_one(name: str, written: object, derived: object) -> None:
    assert inspect.signature(getattr(derived, name)) == inspect.signature(getattr(written, name))
    with pytest.raises(TypeError, match="gama"):
        getattr(derived, name)(gama=2.0)


@pytest.mark.full
def test_a_type_checker_sees_it(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    lines = ["import parfocal, parfocal.keras"]
    lines += [f"reveal_type({module.__name__}.{name})" for pair in PAIRS for name in NAMES for module in pair]
    file.write_text("\n".join([*lines, "parfocal.keras.BinaryFocalCrossentropy(gama=2)"]))
    configuration = Path(__file__).parent.parent / "pyproject.toml"
    said = api.run(["--config-file", str(configuration), "--no-incremental", str(file)])[0].splitlines()
    seen = [line.partition('"def ')[2].partition(" ->")[0] for line in said if "Revealed type" in line]
    assert len(seen) == 12
    assert all("gamma: Any =" in parameters for parameters in seen)
    assert seen[::2] == seen[1::2]
    assert any('Unexpected keyword argument "gama"' in line for line in said)
