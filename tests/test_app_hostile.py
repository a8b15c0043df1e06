"""Model folders that were changed by hand and by malice: refused in one line, soon, and the process lives."""

from __future__ import annotations

import base64
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app_saved import FOLDERS, SAVED, booster, copied, put, refusal
from parfocal import boosters
from parfocal.app.data.columns import MOST_CATEGORIES
from parfocal.app.model import saved
from parfocal.app.model.boosters import check_booster
from parfocal.app.model.linear import ENGINE, ENGINES, Layout, LinearModel
from parfocal.boosters import Rows, Task

# -- LightGBM --------------------------------------------------------------------------------------


def first(name: str, change: Callable[[list[str]], list[str]], tree: int = 0) -> Callable[[str], str]:
    """Change the line of a name in a tree, and the tree's size with it."""

    def changed(text: str) -> str:
        begin = text.index(f"Tree={tree}\n")
        begin = text.index(f"\n{name}=", begin) + len(name) + 2
        end = text.index("\n", begin)
        line = " ".join(change(text[begin:end].split(" ")))
        sizes = re.search(r"(?<=\ntree_sizes=).*", text)
        assert sizes is not None
        lengths = sizes[0].split(" ")
        lengths[tree] = str(int(lengths[tree]) + len(line) - (end - begin))
        return text[: sizes.start()] + " ".join(lengths) + text[sizes.end() : begin] + line + text[end:]

    return changed


def one(value: str, place: int = 0) -> Callable[[list[str]], list[str]]:
    return lambda words: [*words[:place], value, *words[place + 1 :]]


def head(name: str, value: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"\n{name}=.*", f"\n{name}={value}", text, count=1)


LIGHTGBM = [
    (first("left_child", one("2000000000")), "tree 0 has a child out of range"),
    (first("left_child", one("-2000000000")), "tree 0 has a child out of range"),
    (first("right_child", one("9")), "tree 0 has a child out of range"),
    (first("right_child", one("0", 1)), "tree 0 has a node that is reached twice"),
    (first("right_child", one("1", 1)), "tree 0 has a node that is reached twice"),
    (first("right_child", one("-1")), "tree 0 has a node that is reached twice"),
    (first("left_child", one("2", 2), tree=1), "tree 1 has a node that is reached twice"),
    (first("left_child", lambda words: words[:-1]), "tree 0 needs 9 numbers as left_child"),
    (first("num_leaves", one("2000000000")), "tree 0 needs 1,999,999,999 numbers as"),
    (first("num_leaves", one("2147483648")), "is not a whole number up to"),
    (first("num_leaves", one("0")), "tree 0 has no leaves"),
    (first("num_leaves", one("-5")), "is not a whole number"),
    (first("num_cat", one("2000000000")), "tree 0 needs 2,000,000,001 numbers as cat_boundaries"),
    (first("cat_boundaries", one("5", 1), tree=1), "tree 1 needs 5 numbers as cat_threshold"),
    (first("cat_boundaries", one("1"), tree=1), "tree 1 has sets of categories that begin nowhere"),
    (first("cat_boundaries", one("-1", 1), tree=1), "tree 1 has sets of categories that end before they begin"),
    (first("threshold", one("7", -1), tree=1), "tree 1"),
    (first("split_feature", one("6")), "tree 0 splits a feature that is not there"),
    (first("split_feature", one("-1")), "tree 0 splits a feature that is not there"),
    (first("threshold", one("nan")), "tree 0 has a threshold that is not a number"),
    (first("threshold", one("inf", 9), tree=1), "tree 1 has a set of categories out of range"),
    (first("threshold", one("1x")), "tree 0 needs 9 numbers as threshold"),
    (first("leaf_value", one("inf")), "tree 0 needs 10 numbers as leaf_value"),
    (first("leaf_value", one("1e300")), "far too large"),
    (first("leaf_value", one("1.2.3")), "could not convert"),
    (first("leaf_value", one("1_0")), "tree 0 needs 10 numbers as leaf_value"),
    (first("decision_type", one("12")), "tree 0 has a wrong decision_type"),
    (first("decision_type", one("300")), "tree 0 has a wrong decision_type"),
    (first("decision_type", one("1")), "tree 0 has a set of categories out of range"),
    (first("is_linear", one("1")), "tree 0 has more in its leaves than numbers"),
    (first("shrinkage", one("1\nnum_leaves=3")), "tree 0 has lines that it must not have"),
    (head("num_class", "2000000000"), "num_class is '2000000000', and must be 1"),
    (head("num_tree_per_iteration", "0"), "num_tree_per_iteration is '0'"),
    (head("max_feature_idx", "2147483647"), "max_feature_idx is"),
    (head("tree_sizes", "99999999 1 1 1"), "tree 0 is not where it must be"),
    (head("tree_sizes", "-1 1 1 1"), "is not a whole number"),
    (head("feature_names", "a b"), "feature_names must be 6"),
    (lambda text: text.replace("\nmax_feature", "\naverage_output\nmax_feature"), "its head is not one of a fit"),
    (lambda text: text[: text.index("Tree=2")], "is not where it must be"),
    (lambda text: "", "it has no trees"),
]


@pytest.mark.parametrize(("change", "says"), LIGHTGBM)
def test_lightgbm(tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Callable[[str], str], says: str) -> None:
    folder = copied("lightgbm", tmp_path)
    put(folder, change(booster(folder).read_text()).encode())
    said = refusal(folder, capfd)
    assert "model.txt: " in said
    assert says in said


def test_what_follows_the_trees_does_not_reach_lightgbm(tmp_path: Path) -> None:
    folder = copied("lightgbm", tmp_path)
    data = booster(folder).read_bytes()
    begin = data.index(b"end of trees\n")
    put(folder, data[:begin] + b"end of trees\n\nparameters:\n[x" + b"x" * 100_000 + b"\n\npandas_categorical:[[")
    assert saved.read_model(folder).rounds == 4


def chain(leaves: int) -> bytes:
    """A tree as deep as it has splits."""
    splits = leaves - 1
    line = {
        "num_leaves": str(leaves),
        "num_cat": "0",
        **{name: " ".join(["0"] * splits) for name in ("split_feature", "split_gain", "threshold", "decision_type")},
        "left_child": " ".join(str(-1 - place) for place in range(splits)),
        "right_child": " ".join([*map(str, range(1, splits)), str(-leaves)]),
        **{name: " ".join(["0"] * leaves) for name in ("leaf_value", "leaf_weight", "leaf_count")},
        **{name: " ".join(["0"] * splits) for name in ("internal_value", "internal_weight", "internal_count")},
        "is_linear": "0",
        "shrinkage": "1",
    }
    tree = "Tree=0\n" + "".join(f"{name}={value}\n" for name, value in line.items()) + "\n\n"
    infos = f"feature_names={' '.join('abcdef')}\nfeature_infos={' '.join(['none'] * 6)}\ntree_sizes={len(tree)}"
    counts = "num_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=5"
    return f"tree\nversion=v4\n{counts}\n{infos}\n\n{tree}end of trees\n".encode()


def test_how_deep_a_tree_may_be() -> None:
    assert check_booster("lightgbm", chain(1000), 6, 1)
    for leaves in (1100, 50_000):
        with pytest.raises(ValueError, match="tree 0 is deeper than 1,000"):
            check_booster("lightgbm", chain(leaves), 6, 1)


# -- XGBoost ---------------------------------------------------------------------------------------


def at(*path: Any, value: Any) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        facts = json.loads(data)
        place = facts["learner"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        return json.dumps(facts).encode()

    return changed


def tree(*path: Any, value: Any, number: int = 0) -> Callable[[bytes], bytes]:
    return at("gradient_booster", "model", "trees", number, *path, value=value)


XGBOOST = [
    (tree("left_children", 0, value=2_000_000_000), "tree 0 has a child out of range"),
    (tree("left_children", 0, value=-7), "tree 0 has a child out of range"),
    (tree("left_children", 0, value=2**70), "not as its library writes it"),
    (tree("left_children", 1, value=0), "tree 0 has a node that is reached twice"),
    (tree("left_children", 0, value=0), "tree 0 has a node that is reached twice"),
    (tree("left_children", 0, value=-1), "tree 0 has a node with one child"),
    (tree("left_children", 0, value=1.5), "tree 0 needs 21 numbers as left_children"),
    (tree("left_children", value=[1]), "tree 0 needs 21 numbers as left_children"),
    (tree("left_children", value="x" * 21), "tree 0 needs 21 numbers as left_children"),
    (tree("parents", 1, value=5), "tree 0 has a wrong parent"),
    (tree("parents", 0, value=0), "tree 0 has a root with a parent"),
    (tree("split_indices", 0, value=6), "tree 0 splits a feature that is not there"),
    (tree("split_conditions", 0, value=float("nan")), "tree 0 has a split whose threshold is not a number"),
    (tree("split_conditions", 8, value=1e38), "far too large"),
    (tree("split_type", 0, value=1), "tree 0 has a split without its set of categories"),
    (tree("split_type", 0, value=7), "tree 0 has a wrong split_type"),
    (tree("default_left", 0, value=2), "tree 0 has a wrong default_left"),
    (tree("tree_param", "num_nodes", value="2000000000"), "tree 0 needs 2,000,000,000 numbers"),
    (tree("tree_param", "num_nodes", value="0"), "tree 0 has no nodes"),
    (tree("tree_param", "num_deleted", value="1"), "tree 0 has a node that no way leads to"),
    (tree("tree_param", "size_leaf_vector", value="9"), "tree 0 has more than a number in its leaves"),
    (tree("categories", 0, value=2_000_000_000, number=1), "tree 1 has a category out of range"),
    (tree("categories", 0, value=MOST_CATEGORIES, number=1), "tree 1 has a category out of range"),
    (tree("categories_sizes", 0, value=2_000_000_000, number=1), "tree 1 has a set of categories out of range"),
    (tree("categories_segments", 0, value=-1, number=1), "tree 1 has sets of categories out of range"),
    (tree("categories_nodes", 0, value=3, number=1), "tree 1 has a split without its set of categories"),
    (at("learner_model_param", "num_class", value="2000000000"), "num_class is '2000000000', and must be 0"),
    (at("learner_model_param", "num_feature", value="7"), "num_feature is '7', and must be 6"),
    (at("learner_model_param", "base_score", value="[NaN]"), "base_score is not finite"),
    (at("gradient_booster", "name", value="gblinear"), "it is not one of a fit"),
    (at("objective", "name", value="rank:ndcg"), "it is not one of a fit"),
    (at("feature_types", value=["q"] * 7), "feature_types must be 6"),
    (at("attributes", value={"best_iteration": "x"}), "it has attributes"),
    (at("gradient_booster", "model", "tree_info", 0, value=2_000_000_000), "tree_info is out of range"),
    (at("gradient_booster", "model", "iteration_indptr", 4, value=9), "iteration_indptr is out of range"),
    (at("gradient_booster", "model", "cats", "enc", value=[{}]), "it has names of categories"),
    (at("gradient_booster", "model", "trees", value=[]), "it must have 1 to 100,000 trees"),
    (at("gradient_booster", "model", "trees", value={}), "it must have 1 to 100,000 trees"),
    (lambda data: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON within JSON"),
    (lambda data: b" " + data, "it is not JSON"),
    (lambda data: b"{L" + data[2:], "it is not JSON"),
    (lambda data: data.replace(b'"id":0,', b'"id":0,"left_children":[],'), "two values of one name"),
    (lambda data: b'{"learner":[]}', "not as its library writes it"),
]


@pytest.mark.parametrize(("change", "says"), XGBOOST)
def test_xgboost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], says: str
) -> None:
    folder = copied("xgboost", tmp_path)
    put(folder, change(booster(folder).read_bytes()))
    said = refusal(folder, capfd)
    assert "booster.json: " in said
    assert says in said


# -- CatBoost --------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("change", [lambda data: data[:3000], lambda data: b"CBM1" + b"\xff" * 5000, lambda _: b""])
def test_catboost(tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Callable[[bytes], bytes]) -> None:
    folder = copied("catboost", tmp_path)
    put(folder, change(booster(folder).read_bytes()))
    assert "booster.cbm: " in refusal(folder, capfd)


# -- the linear model ------------------------------------------------------------------------------


LAYOUT = Layout([0.5, 0.0, 1.0], [1.0, 1.0, 2.0], [0], {1: 2})
LINEAR = json.loads(ENGINE.dump(LinearModel(LAYOUT, np.arange(6.0)[None], np.array([0.5]))))


def test_a_linear_model_loads() -> None:
    loaded = ENGINES["linear"].load(json.dumps(LINEAR).encode())
    assert loaded.layout == LAYOUT
    assert loaded.margins(np.zeros((1, 3))).shape == (1,)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"means": [0.5, float("nan"), 1.0]}, "means must be finite"),
        ({"means": [0.5, 1.0]}, "scales must be above 0, one for each mean"),
        ({"means": "abc"}, "means must be finite"),
        ({"scales": [1.0, 0.0, 1.0]}, "scales must be above 0"),
        ({"scales": [1.0, float("inf"), 1.0]}, "scales must be finite"),
        ({"missing": [3]}, "a column is out of range"),
        ({"missing": [-1]}, "a column is out of range"),
        ({"missing": [0, 0]}, "a column is there twice"),
        ({"missing": [1]}, "a column is there twice"),
        ({"categories": {"1": 2_000_000_000}}, "categories must be 0 to"),
        ({"categories": {"01": 2}}, "a column is out of range"),
        ({"categories": {"3": 2}}, "a column is out of range"),
        ({"coefficients": [[1.0] * 5]}, "coefficients have the shape"),
        ({"coefficients": [[1.0] * 5 + [float("inf")]]}, "coefficients must be finite"),
        ({"coefficients": [1.0] * 6}, "coefficients must be finite numbers in 2 dimensions"),
        ({"intercepts": [0.5, 0.5]}, "coefficients have the shape"),
        ({"intercepts": [True]}, "intercepts must be finite"),
    ],
)
def test_linear(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        ENGINES["linear"].load(json.dumps({**LINEAR, **changes}).encode())


# -- what is in order ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lightgbm", "classes", "xgboost", pytest.param("catboost", marks=pytest.mark.full)])
def test_what_was_saved_is_read(tmp_path: Path, name: str) -> None:
    assert saved.read_model(copied(name, tmp_path)).rounds >= 1


@pytest.mark.parametrize("engine", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("classes", [2, 3])
def test_what_a_booster_learns_is_in_order(engine: str, classes: int) -> None:
    """Many trees with numbers, missing ones and categories, and pruned ones; and the check is quick."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 4))
    features[:, 1] = generator.integers(0, 60, size=600)
    features[::9, 2] = np.nan
    labels = (np.abs(features[:, 0]) + (features[:, 1] % 3 == 1)).astype(int).clip(0, classes - 1)
    more = {"min_data_per_group": 5} if engine == "lightgbm" else {"min_split_loss": 0.5}
    objective = {"gamma": 1.0}
    rows = Rows(features, labels.astype(float), None, [1], classes)
    task = Task(objective, rows, None, 60, 60, 0.1, 31, 1.0, 1, 0, more)
    trained = boosters.ENGINES[engine].train(task)
    data = boosters.ENGINES[engine].dump(trained.booster)
    began = time.process_time()
    safe = check_booster(engine, data, 4, 1 if classes == 2 else classes)
    assert time.process_time() - began < 1
    again = boosters.ENGINES[engine].load(safe)
    np.testing.assert_array_equal(*(boosters.ENGINES[engine].scores(one, features) for one in (trained.booster, again)))


def test_a_tree_of_one_leaf_is_in_order() -> None:
    data = (
        b"".join(
            line + b"\n"
            for line in chain(2).replace(b"num_leaves=2", b"num_leaves=1").split(b"\n")
            if not line.startswith((b"left", b"right", b"split", b"threshold", b"decision", b"internal", b"leaf_w"))
        )
        .replace(b"leaf_value=0 0", b"leaf_value=0")
        .replace(b"leaf_count=0 0", b"leaf_count=40")
    )
    size = data.index(b"end of trees") - data.index(b"Tree=0")
    data = re.sub(rb"tree_sizes=\d+", b"tree_sizes=%d" % size, data)
    assert ENGINES["lightgbm"].load(check_booster("lightgbm", data.rstrip(b"\n") + b"\n", 6, 1)).num_trees() == 1


FUZZ = """
import base64, sys
import numpy as np
from parfocal.app.model.boosters import check_booster
from parfocal.app.model.linear import ENGINES
name, scores = sys.argv[1], int(sys.argv[2])
rows = np.random.default_rng(0).normal(size=(50, 6)) * 10
rows[:, 2] = np.arange(50) % 5
rows[::7] = np.nan
for number, line in enumerate(sys.stdin):
    try:
        safe = check_booster(name, base64.b64decode(line), 6, scores)
    except ValueError:
        continue
    print(number, flush=True)  # the last one is told before a crash
    try:
        booster = ENGINES[name].load(safe)
        found = ENGINES[name].scores(booster, rows)
    except Exception as error:
        continue
    assert np.isfinite(found).all(), number
"""


@pytest.mark.full
@pytest.mark.parametrize(("name", "scores"), [("lightgbm", 1), ("classes", 3), ("xgboost", 1)])
def test_whatever_is_changed_the_process_lives(name: str, scores: int) -> None:
    """Random changes of numbers, bytes and lengths; the libraries alone crash at more than every tenth of them."""
    data = booster(SAVED / FOLDERS[name]).read_bytes()
    data = data[: data.find(b"feature_importances")] if name != "xgboost" else data
    draw = random.Random(0)
    changed = []
    for _ in range(1500):
        now = bytearray(data)
        for _ in range(draw.choice([1, 1, 2, 4])):
            number = draw.choice(list(re.finditer(rb"-?\d+", bytes(now))))
            kind, place = draw.randrange(5), draw.randrange(len(now))
            if kind < 3:
                values = [b"-1", b"0", b"1", b"-2", b"9", b"2147483647", b"-2147483648", b"1e308", b"", b"0.5", b"1 1"]
                now[number.start() : number.end()] = draw.choice(values)
            elif kind == 3:
                now[place] = draw.randrange(256)
            else:
                del now[place : place + draw.randrange(200)]
        changed.append(base64.b64encode(now).decode())
    engine = "xgboost" if name == "xgboost" else "lightgbm"
    command = [sys.executable, "-c", FUZZ, engine, str(scores)]
    ended = subprocess.run(command, input="\n".join(changed), capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-500:]
    assert len(ended.stdout.split()) > 20  # some changes do no harm
