"""Whether LightGBM can open a text as a model without harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

import numpy as np

from parfocal.app.errors import counted
from parfocal.app.model.trees import LARGEST, MOST_TREES, check_paths, check_values, need, need_all, whole

NUMBERS, ANY_NUMBERS = re.compile(r"[-+.0-9eE ]*"), re.compile(r"[-+.0-9eEinfa ]*")
NOT_READ = -1
MOST_LINES = 22  # of a tree; LightGBM reads no more
EACH_SPLIT = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
SPLIT_STATISTICS = ("split_gain", "internal_value", "internal_weight", "internal_count")  # not needed for scores
LEAF_STATISTICS = ("leaf_weight", "leaf_count")
WIDER = (*SPLIT_STATISTICS, *LEAF_STATISTICS, "threshold")  # a split between missing and not is at inf
CATEGORICAL, MISSING_TYPE = 1, 12  # bits of decision_type


def check_lightgbm(data: bytes, features: int, scores: int) -> bytes:
    """Returns the file up to its last tree: importances and parameters are not needed for scores."""
    begin = data.find(b"\nTree=0\n") + 1
    need(begin > 0, "it has no trees")
    header = lines_of(data[:begin].decode(), "its head")
    need("tree" in header and not header.keys() & {"average_output", "objective"}, "its head is not one of a fit")
    for name, count in (("num_class", scores), ("num_tree_per_iteration", scores), ("max_feature_idx", features - 1)):
        need(header[name] == str(count), f"{name} is {header[name][:20]!r}, and must be {count}")
    for name in ("feature_names", "feature_infos"):
        need(len(header[name].split(" ")) == features, f"{name} must be {features}")
    need(header["tree_sizes"].count(" ") < MOST_TREES, f"it has more than {MOST_TREES:,} trees")
    sizes = [whole(size) for size in header["tree_sizes"].split(" ")]
    need(len(sizes) % scores == 0, f"{len(sizes):,} trees are not rounds of {scores}")
    trees = []
    for number, size in enumerate(sizes):
        head, block, begin = b"Tree=%d\n" % number, data[begin : begin + size], begin + size
        need(block.startswith(head) and block.endswith(b"\n\n"), f"tree {number} is not where it must be")
        trees.append(lines_of(block[len(head) :].decode("ascii"), f"tree {number}"))
    need(data.startswith(b"end of trees\n", begin), "its trees have no end")
    check_lightgbm_trees(trees, features)
    return data[:begin] + b"end of trees\n"


def lines_of(text: str, where: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in text.strip("\n").split("\n") if line or where != "its head"]
    lines = {name: value for name, _, value in pairs}
    need(len(lines) == len(pairs) <= MOST_LINES and "\r" not in text, f"{where} has lines that it must not have")
    return lines


def check_lightgbm_trees(trees: list[dict[str, str]], features: int) -> None:
    leaves = np.array([whole(tree["num_leaves"]) for tree in trees])
    sets = np.array([whole(tree["num_cat"]) for tree in trees])
    numbers = np.arange(len(trees))
    need_all(leaves < 1, numbers, "has no leaves")
    need_all(
        np.array([tree.get("is_linear", "0") != "0" for tree in trees]), numbers, "has more in its leaves than numbers"
    )
    splits = leaves - 1

    def column(name: str, counts: np.ndarray, kind: Callable[[str], float] = int) -> np.ndarray:
        """A line of every tree, one after the other."""
        lines = [tree.get(name, "") for tree in trees]
        check_counts(name, lines, counts, ANY_NUMBERS if name in WIDER else NUMBERS)
        words = chain.from_iterable(line.split(" ") for line in lines if line)
        return np.fromiter(map(kind, words), np.int64 if kind is int else np.float64)

    for name in (
        *SPLIT_STATISTICS,
        *LEAF_STATISTICS,
    ):  # LightGBM reads as many as there should be; of a single leaf, none
        column(name, np.where(leaves == 1, NOT_READ, leaves if name in LEAF_STATISTICS else splits), float)
    split_feature, threshold, decision, left, right = (
        column(name, splits, float if name == "threshold" else int) for name in EACH_SPLIT
    )
    of_split = np.repeat(numbers, splits)
    need_all((split_feature < 0) | (split_feature >= features), of_split, "splits a feature that is not there")
    need_all(
        (decision < 0) | (decision & MISSING_TYPE == MISSING_TYPE) | (decision > 15),
        of_split,
        "has a wrong decision_type",
    )
    need_all(np.isnan(threshold), of_split, "has a threshold that is not a number")
    check_values(column("leaf_value", leaves, float), np.repeat(numbers, leaves), LARGEST)
    check_values(np.array([float(tree.get("shrinkage", "1")) for tree in trees]), numbers)

    # Category splits: the threshold is the place of a set of categories, bits in cat_threshold.
    bounds = column("cat_boundaries", np.where(sets > 0, sets + 1, 0))
    begin = np.repeat(numbers[sets > 0], sets[sets > 0] + 1)
    first = np.flatnonzero(np.diff(begin, prepend=-1))
    last = np.flatnonzero(np.diff(begin, append=-1))
    need_all(bounds[first] != 0, begin[first], "has sets of categories that begin nowhere")
    falling = np.diff(bounds, prepend=0) < 0
    falling[first] = False
    need_all(falling, begin, "has sets of categories that end before they begin")
    words = np.zeros(len(trees), dtype=np.int64)
    words[begin[last]] = bounds[last]
    bits = column("cat_threshold", words)
    need_all((bits < 0) | (bits >= 1 << 32), np.repeat(numbers, words), "has a wrong set of categories")
    categorical = decision & CATEGORICAL == CATEGORICAL
    place, of_place = threshold[categorical], of_split[categorical]
    need_all(
        (place < 0) | (place >= sets[of_place]) | (place != np.floor(place)),
        of_place,
        "has a set of categories out of range",
    )

    # Leaves, numbered -1, -2, ..., become the nodes after the splits.
    leaf = np.repeat(splits, splits)
    nodes = 2 * leaves - 1
    both = []
    for child in (left, right):
        all_nodes = np.full(nodes.sum(), -1)
        need_all(child >= leaf, of_split, "has a child out of range")
        inner = np.arange(len(child)) + np.repeat(np.cumsum(nodes) - nodes - (np.cumsum(splits) - splits), splits)
        all_nodes[inner] = np.where(child < 0, leaf - 1 - child, child)
        both.append(all_nodes)
    reached = check_paths(both[0], both[1], nodes)
    need_all(~reached, np.repeat(numbers, nodes), "has a node that no way leads to")


def check_counts(name: str, lines: list[str], counts: np.ndarray, characters: re.Pattern[str]) -> None:
    for number, (line, count) in enumerate(zip(lines, counts.tolist(), strict=True)):
        given = line.count(" ") + 1 if line else 0
        if count not in (given, NOT_READ) or not characters.fullmatch(line):
            raise ValueError(f"tree {number} needs {counted(count, 'number')} as {name}")
