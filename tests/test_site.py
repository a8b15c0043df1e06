"""The site: its reference has every public name, its pictures are current, and the check of its links can fail."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
MODULES = (
    "parfocal",
    "parfocal.boosting",
    "parfocal.catboost",
    "parfocal.config",
    "parfocal.jax",
    "parfocal.keras",
    "parfocal.keras.metrics",
    "parfocal.lightgbm",
    "parfocal.metrics",
    "parfocal.sklearn",
    "parfocal.thresholds",
    "parfocal.torch",
    "parfocal.torch.metrics",
    "parfocal.xgboost",
)
# Public by their place, though they need no page: settings are read and set by the functions of parfocal.config.
NOT_SHOWN = {"parfocal.config.dtype_name"}


def load(path: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, DOCS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_names() -> Iterator[str]:
    for name in MODULES:
        module = importlib.import_module(name)
        listed = getattr(module, "__all__", None)
        if listed is None:  # parfocal.config
            own = inspect.getmembers(module, inspect.isfunction)
            listed = [function for function, _ in own if not function.startswith("_")]
        yield from (f"{name}.{each}" for each in listed if not isinstance(getattr(module, each), ModuleType))


@pytest.mark.full  # it imports Keras
def test_the_reference_has_every_public_name() -> None:
    shown = [
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    ]
    assert len(shown) == len(set(shown))
    assert set(shown) == set(public_names()) - NOT_SHOWN


def test_the_pictures_are_current() -> None:
    said: list[str] = []
    assert load("make_pictures.py").main(["--check"], say=said.append) == 0, said


def test_a_stale_picture_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module, said = load("make_pictures.py"), []
    read, draw = module.MADE["many-files"]
    monkeypatch.setitem(module.MADE, "many-files", (lambda: read() | {"raw focal": (0.2, 0.1, 0.02)}, draw))
    assert module.main(["--check"], say=said.append) == 1
    assert "stale: many-files;" in said[0]


@pytest.mark.full  # it imports Keras
def test_keras_computes_what_is_recorded_of_it() -> None:
    module = load("make_pictures.py")
    recorded = module.read_peers()
    rows = module.peers_rows({"Keras": module.by_keras})
    for gamma in module.GAMMAS:
        now = np.array([row[2:] for row in rows if row[1] == gamma]).T
        np.testing.assert_allclose(now, recorded["Keras", gamma], rtol=1e-3, atol=1e-45)


def test_every_picture_of_a_page_is_there() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r'(?:src|srcset)="([^"]+\.svg)"', page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in navigation


@pytest.mark.parametrize(
    ("html", "wrong"),
    [
        ('<a href="b.html">', "a.html links to b.html, which is not there"),
        ('<a href="#b">', "a.html links to #b, which has no such anchor"),
        ('<p id="b"><a href="#b"><a href="a.html#b"><a href="https://example.org">', ""),
        ('<script src="https://example.org/x.js">', "loads https://example.org/x.js from another host"),
        ('<img src="//example.org/x.png">', "loads //example.org/x.png from another host"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "loads https://example.org/x.css"),
        ("<style>@import 'https://example.org/x.css'</style>", "a.html has a style that loads from another host"),
        ('<div class="mermaid">', "for which the theme's script asks another host"),
    ],
)
def test_the_check_of_the_links(html: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(html)
    said = "\n".join(load("site/check_links.py").check(tmp_path))
    assert (wrong in said) if wrong else not said


def test_the_check_of_the_links_wants_pages(tmp_path: Path) -> None:
    assert "has no page" in load("site/check_links.py").check(tmp_path)[0]


def test_links_out_of_the_pages_lead_to_copies() -> None:
    hooks = load("site/hooks.py")
    text = "[a](../examples/digits_torch.py) [b](gpu.md#how-exact) `[c](../x.md)`\n\n```\n[d](../y.md)\n```\n"
    assert hooks.outside(text, "docs/page.md") == {"examples/digits_torch.py", "x.md"}
    assert hooks.page_of("examples/digits_torch.py") == "files/examples/digits_torch.py.md"
    assert hooks.page_of("docs/gpu.md") == "gpu.md"


def test_docstrings_become_markdown() -> None:
    text = load("site/docstring_text.py").markdown(
        "What it is.\n\n    loss = -w\n\nParameters\n----------\na, b : numbers,\n    of any kind.\n\nRaises\n------\n"
        "ValueError for none.\nTypeError for more,\nsays the test.\n\n>>> 1 + 1\n2\n"
    )
    assert "\n    loss = -w\n" in text
    assert "**Parameters**\n" in text
    assert "`a`, `b`\n\n:   numbers,\n    of any kind." in text
    assert "- `ValueError` for none." in text
    assert "- `TypeError` for more,\n    says the test." in text
    assert "```pycon\n>>> 1 + 1\n2\n```" in text
