"""docs/differences.md, "From another library's call": each line of its tables is run, theirs beside ours."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import kornia.losses
import monai.losses
import numpy as np
import optax
import pytest
import torch

import parfocal
import parfocal.jax
import parfocal.keras
import parfocal.torch
import peers

PAGE = (Path(__file__).parents[1] / "docs" / "differences.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## From another library's call")[2].partition("\n## ")[0]
TABLES, _, MISSING = SECTION.partition("**Without a counterpart**")
LINES = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", TABLES, re.M)
INSTALLED = {"keras": keras, "kornia": kornia, "monai": monai, "optax": optax}
OURS = {name: getattr(parfocal, name) for name in parfocal.__all__}  # no submodules: parfocal.torch would hide torch

# Who answers on the left: the library itself, or for three of them a formula, and their own files where they are given.
SOURCES = {"formula": peers.as_formulas()}
if folder := os.environ.get("PARFOCAL_PEERS"):
    SOURCES["file"] = peers.from_files(Path(folder))


def peer_of(line: str) -> str:
    return next(
        (name for name in ("optax", "keras", "kornia", "monai", "torchvision", "smp", "timm") if f"{name}." in line),
        "F",
    )


RUNS = [
    # The lines of optax compile for seconds.
    pytest.param(theirs, ours, source, id=f"{source}-{theirs}", marks=[pytest.mark.full] * ("optax" in theirs))
    for theirs, ours in LINES
    for source in (SOURCES if peer_of(theirs) in SOURCES["formula"] else ("installed",))
]


def names(as_array: Any) -> dict[str, Any]:
    """The letters of the page; logits within ±6, where every peer computes well."""
    rng = np.random.default_rng(4)
    classes, pixels = 3, (2, 3, 4, 5)
    x, z = rng.uniform(-6, 6, (8, classes)), rng.uniform(-6, 6, pixels)
    i, k = rng.integers(classes, size=8), rng.integers(classes, size=(2, 4, 5))
    y, soft = rng.integers(2, size=x.shape).astype(float), rng.uniform(size=x.shape)
    h = np.moveaxis(np.eye(classes)[k], -1, 1).copy()
    m = np.where(rng.uniform(size=k.shape) < 0.3, 255, k)
    arrays = {"x": x, "y": y, "s": soft, "i": i, "z": z, "k": k, "h": h, "m": m, "w": np.array([0.5, 2.0, 3.0])}
    return {"C": classes, **{name: as_array(array) for name, array in arrays.items()}}


def in_torch(line: str, libraries: dict[str, Any]) -> list[np.ndarray]:
    """What a line gives, and the gradients of its sum."""
    parfocal.config.set_floatx("float64")
    letters = names(torch.tensor)
    logits = [letters[name].requires_grad_() for name in ("x", "z")]
    letters["ce"] = torch.nn.functional.cross_entropy(letters["x"], letters["i"], reduction="none")
    value = eval(line, {"torch": torch, "F": torch.nn.functional, "parfocal": parfocal, **OURS, **libraries, **letters})
    value.sum().backward()
    return [value.detach().numpy(), *(array.grad.numpy() for array in logits if array.grad is not None)]


def in_jax(line: str, libraries: dict[str, Any]) -> list[np.ndarray]:
    letters = names(jnp.asarray)

    def value(x: jax.Array) -> jax.Array:
        return eval(line, {"parfocal": parfocal, **OURS, **libraries, **letters, "x": x})

    return [np.asarray(value(letters["x"])), np.asarray(jax.grad(lambda x: value(x).sum())(letters["x"]))]


@pytest.mark.parametrize(("theirs", "ours", "source"), RUNS)
def test_a_line_gives_the_same_number_and_gradient_on_both_sides(theirs: str, ours: str, source: str) -> None:
    libraries = INSTALLED if source == "installed" else SOURCES[source]
    run = in_jax if peer_of(theirs) == "optax" else in_torch
    expected, got = run(theirs, libraries), run(ours, {})
    assert len(got) == len(expected) == 2
    for e, g in zip(expected, got, strict=True):
        assert e.shape == g.shape
        assert np.abs(e).max() > 1e-3  # there is something to compare
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-6)  # MONAI, timm and JAX compute in float32


def test_every_line_of_the_tables_is_run() -> None:
    assert {peer_of(theirs) for theirs, _ in LINES} == {"F", "keras", *INSTALLED, *SOURCES["formula"]}
    heads = TABLES.count("| --- | --- | --- |")
    assert len(LINES) == len(re.findall(r"^\|", TABLES, re.M)) - 2 * heads
    assert len(set(LINES)) == len(LINES) > 30


def test_the_versions_on_the_page_are_those_that_were_run() -> None:
    installed = {"PyTorch": torch, "Keras": keras, "optax": optax, "kornia": kornia, "MONAI": monai}
    versions = {name: module.__version__ for name, module in installed.items()} | peers.VERSIONS
    for name, version in versions.items():
        shown = re.search(rf"\*\*{name} ([\d.]+)\*\*", TABLES)
        assert shown, name
        assert f"{version}.".startswith(f"{shown[1]}."), name


# -- what is said to be missing is missing


@pytest.mark.parametrize("name", ["clip", "disable_torch_grad_focal_loss", "eps", "normalized", "reduced_threshold"])
def test_an_argument_without_a_counterpart_has_none(name: str) -> None:
    assert f"`{name}`" in MISSING
    ours = [value for value in OURS.values() if callable(value)]
    ours += [getattr(adapter, public) for adapter in (parfocal.jax, parfocal.torch) for public in adapter.__all__]
    assert len(ours) > 8
    assert not [function for function in ours if name in inspect.signature(function).parameters]


@pytest.mark.parametrize("source", SOURCES)
def test_soft_labels_of_monai_and_smp_follow_neither_rule(source: str) -> None:
    x, y = torch.tensor([[2.0]]), torch.tensor([[0.8]])
    theirs = [float(SOURCES[source]["smp"].losses.FocalLoss("binary")(x, y)), float(monai.losses.FocalLoss()(x, y))]
    assert theirs == pytest.approx([0.0884, 0.0282], abs=5e-5)
    for rule, value in (("linear", 0.0388), ("expected", 0.3315)):
        ours = parfocal.binary_focal_crossentropy(y, x, from_logits=True, soft_labels=rule)
        assert float(ours[0]) == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_what_timm_and_smp_add_changes_their_numbers(source: str) -> None:
    letters, losses = names(torch.tensor), SOURCES[source]
    x, y, i = (letters[name] for name in "xyi")
    asl, single = losses["timm"].loss.AsymmetricLossMultiLabel, losses["timm"].loss.AsymmetricLossSingleLabel
    focal = losses["smp"].losses.FocalLoss
    for plain, with_it in [
        (asl(clip=None)(x, y), asl()(x, y)),
        (single(eps=0)(x, i), single(eps=0.1)(x, i)),
        (focal("binary")(x, y), focal("binary", normalized=True)(x, y)),
        (focal("binary")(x, y), focal("binary", reduced_threshold=0.5)(x, y)),
    ]:
        assert abs(float(with_it) / float(plain) - 1) > 1e-3
    assert float(single(eps=0, gamma_neg=0)(x, i)) == pytest.approx(float(single(eps=0)(x, i)))


def test_the_exponential_of_a_weighted_cross_entropy_is_no_probability() -> None:
    letters = names(torch.tensor)
    x, i, w = (letters[name] for name in "xiw")
    ce = torch.nn.functional.cross_entropy(x, i, weight=w, reduction="none")
    snippet = ((1 - torch.exp(-ce)) ** 2 * ce).mean()
    loss = parfocal.SparseCategoricalFocalCrossentropy(alpha=w, gamma=2, from_logits=True)
    assert abs(float(snippet) / float(loss(i, x)) - 1) > 1e-2
