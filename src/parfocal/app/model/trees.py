"""Checks that trees of every library share: each node is reached once from the root, and numbers are finite."""

from __future__ import annotations

import re

import numpy as np

MOST_TREES = 100_000  # 500 rounds of 100 classes are 50,000
MOST_DEPTH = 1_000  # steps for one row; the trees of a fit have 127 leaves at most
LARGEST = 1e30  # of a leaf: sums of them stay finite


def need(right: bool, what: str) -> None:
    if not right:
        raise ValueError(what)


def need_all(wrong: np.ndarray, tree: np.ndarray, what: str) -> None:
    """Name the first tree that has something wrong."""
    if wrong.any():
        raise ValueError(f"tree {tree[int(wrong.argmax())]} {what}")


def check_paths(left: np.ndarray, right: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Which nodes are reached.  At most one path may lead from the root, node 0 of a tree, to each of them.

    The trees follow one another, with `nodes` of each.  Children are indices within their tree, -1 for those of a leaf.
    """
    begin = np.cumsum(nodes) - nodes
    tree, first = np.repeat(np.arange(len(nodes)), nodes), np.repeat(begin, nodes)
    size = nodes[tree]
    for child in (left, right):
        need_all((child < -1) | (child >= size), tree, "has a child out of range")
    need_all((left < 0) != (right < 0), tree, "has a node with one child")
    inner = left >= 0
    left, right = left + first, right + first
    parents = np.bincount(np.concatenate([left[inner], right[inner]]), minlength=len(left))
    parents[begin] += 1  # the root has none
    need_all(parents > 1, tree, "has a node that is reached twice")
    reached = np.zeros(len(left), dtype=bool)
    level, depth = begin, 0
    while len(level):  # this ends, because no node is in two levels
        need(depth <= MOST_DEPTH, f"tree {tree[level[0]]} is deeper than {MOST_DEPTH:,}")
        reached[level] = True
        level = level[inner[level]]
        level, depth = np.concatenate([left[level], right[level]]), depth + 1
    return reached


def check_values(values: np.ndarray, tree: np.ndarray, limit: float = np.inf) -> None:
    need_all(~np.isfinite(values) | (np.abs(values) > limit), tree, "has a number that is not finite, or far too large")


def whole(text: str, most: int = 2**31 - 1) -> int:
    need(
        re.fullmatch(r"\d{1,10}", text) is not None and int(text) <= most,
        f"{text[:20]!r} is not a whole number up to {most:,}",
    )
    return int(text)
