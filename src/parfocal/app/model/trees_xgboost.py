"""Whether XGBoost can open a JSON text as a model without harm."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from parfocal.app.data.columns import MOST_CATEGORIES
from parfocal.app.errors import counted
from parfocal.app.model.trees import LARGEST, MOST_TREES, check_paths, check_values, need, need_all, whole

MOST_NESTED = 50  # XGBoost reads JSON within JSON by calling itself
OBJECTIVES = ("binary:logistic", "multi:softprob")
ROOT = 2**31 - 1  # its parent


def check_xgboost(data: bytes, features: int, scores: int) -> None:
    need(data.startswith(b'{"'), "it is not JSON")  # otherwise XGBoost reads it as a binary file
    characters = np.frombuffer(data, np.uint8) | 32  # "[" becomes "{", and "]" becomes "}"
    steps = (characters == ord("{")).astype(np.int8) - (characters == ord("}"))
    need(np.cumsum(steps, dtype=np.int64).max() <= MOST_NESTED, f"it has JSON within JSON {MOST_NESTED} times")
    learner = json.loads(data, object_pairs_hook=without_doubles)["learner"]
    about, booster = learner["learner_model_param"], learner["gradient_booster"]
    need(booster["name"] == "gbtree" and learner["objective"]["name"] in OBJECTIVES, "it is not one of a fit")
    classes = 0 if scores == 1 else scores
    for name, count in (("num_class", classes), ("num_feature", features), ("num_target", 1)):
        need(about[name] == str(count), f"{name} is {str(about[name])[:20]!r}, and must be {count}")
    base = np.atleast_1d(json.loads(about["base_score"]))
    need(base.size in (1, scores) and bool(np.isfinite(base).all()), "base_score is not finite")
    types = learner["feature_types"]
    need(types == [] or (len(types) == features and set(types) <= {"q", "c"}), f"feature_types must be {features}")
    need(len(learner["feature_names"]) in (0, features), f"feature_names must be {features}")
    need(learner.get("attributes", {}) == {}, "it has attributes, which a fit does not write")

    model = booster["model"]
    trees, numbers = model["trees"], model["gbtree_model_param"]
    need(1 <= len(trees) <= MOST_TREES, f"it must have 1 to {MOST_TREES:,} trees")
    need(numbers["num_trees"] == str(len(trees)), "num_trees is not the number of trees")
    need(numbers.get("num_parallel_tree", "1") in ("0", "1"), "it has trees in parallel")
    need(set(map(type, model["tree_info"])) <= {int}, "tree_info must be places")
    of_class = np.array(model["tree_info"])
    need(len(of_class) == len(trees) and of_class.min() >= 0 and of_class.max() < scores, "tree_info is out of range")
    rounds = model.get("iteration_indptr", [0, len(trees)])
    need(set(map(type, rounds)) <= {int} and rounds == sorted(rounds), "iteration_indptr falls")
    need(rounds[0] == 0 and rounds[-1] == len(trees), "iteration_indptr is out of range")
    need(not any(model.get("cats", {}).values()), "it has names of categories, which a fit does not write")
    check_xgboost_trees(trees, features)


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values with one name XGBoost may take the other."""
    found = dict(pairs)
    need(len(found) == len(pairs), "it has two values of one name")
    return found


def check_xgboost_trees(trees: list[dict[str, Any]], features: int) -> None:
    nodes = np.array([whole(own["tree_param"]["num_nodes"]) for own in trees])
    need_all(nodes < 1, np.arange(len(trees)), "has no nodes")
    for number, own in enumerate(trees):
        about = own["tree_param"]
        need(about["num_feature"] == str(features), f"tree {number} has another number of features")
        need(about.get("size_leaf_vector", "1") in ("0", "1"), f"tree {number} has more than a number in its leaves")

    def column(name: str, *types: type) -> np.ndarray:
        return joined(name, [own[name] for own in trees], nodes, types or (int,))

    left, right, parents = (column(name) for name in ("left_children", "right_children", "parents"))
    tree = np.repeat(np.arange(len(trees)), nodes)
    reached = check_paths(left, right, nodes)
    deleted = np.array([whole(own["tree_param"].get("num_deleted", "0")) for own in trees])
    lost = np.bincount(tree[~reached], minlength=len(trees))
    need_all(lost != deleted, np.arange(len(trees)), "has a node that no way leads to")
    inner = reached & (left >= 0)
    first = np.repeat(np.cumsum(nodes) - nodes, nodes)
    for child in (left, right):
        need_all(
            parents[(child + first)[inner]] != (np.arange(len(left)) - first)[inner], tree[inner], "has a wrong parent"
        )
    need_all(parents[np.cumsum(nodes) - nodes] != ROOT, np.arange(len(trees)), "has a root with a parent")
    feature, categorical = column("split_indices"), column("split_type", int, bool)
    need_all(inner & ((feature < 0) | (feature >= features)), tree, "splits a feature that is not there")
    need_all((categorical < 0) | (categorical > 1), tree, "has a wrong split_type")
    default = column("default_left", int, bool)
    need_all((default < 0) | (default > 1), tree, "has a wrong default_left")
    conditions = column("split_conditions", int, float)
    need_all(np.isnan(conditions) & inner & (categorical == 0), tree, "has a split whose threshold is not a number")
    check_values(conditions[~inner], tree[~inner], LARGEST)
    for name in ("base_weights", "loss_changes", "sum_hessian"):
        column(name, int, float)
    for number, (own, begin, size) in enumerate(zip(trees, first[np.cumsum(nodes) - nodes], nodes, strict=True)):
        by_set = np.flatnonzero(categorical[begin : begin + size] & inner[begin : begin + size])
        check_sets(own, by_set, number)


def joined(name: str, lists: Iterable[Sequence[Any]], counts: np.ndarray, types: tuple[type, ...]) -> np.ndarray:
    """A list of every tree, one after the other."""
    for number, (values, count) in enumerate(zip(lists, counts.tolist(), strict=True)):
        right = isinstance(values, list) and len(values) == count and set(map(type, values)) <= set(types)
        need(right, f"tree {number} needs {counted(count, 'number')} as {name}")
    return np.fromiter(chain.from_iterable(lists), np.float64 if float in types else np.int64)


def check_sets(tree: dict[str, Any], by_set: np.ndarray, number: int) -> None:
    """Splits by sets of categories, which lie one after the other."""
    names = ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    for name in names:
        need(set(map(type, tree[name])) <= {int}, f"tree {number} has wrong {name}")
    nodes, begin, sizes, categories = (np.array(tree[name], dtype=np.int64) for name in names)
    need(np.array_equal(nodes, by_set), f"tree {number} has a split without its set of categories")
    need(len(begin) == len(sizes) == len(nodes), f"tree {number} has sets of categories for other nodes")
    need(np.array_equal(begin, np.cumsum(sizes) - sizes), f"tree {number} has sets of categories out of range")
    need(
        bool((sizes > 0).all()) and sizes.sum() == len(categories),
        f"tree {number} has a set of categories out of range",
    )
    right = bool(((categories >= 0) & (categories < MOST_CATEGORIES)).all())
    need(right, f"tree {number} has a category out of range")
