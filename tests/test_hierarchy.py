"""Softmax and decisions over category trees, against their definitions node by node."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndvol.categories import CategoryTree
from ndvol.errors import CategoryError, OptionError, UnknownNameError
from ndvol.hierarchy import (
    children_of,
    conditional_log_softmax,
    decision,
    hierarchical_log_softmax,
    hierarchical_softmax,
    parents_of,
)


@st.composite
def trees(draw: st.DrawFn, most: int = 12) -> CategoryTree:
    parents = [draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(draw(st.integers(1, most)))]
    names = [f"n{i}" for i in range(len(parents))]
    rows = [{"name": n, "supercategory": None if p is None else names[p]} for n, p in zip(names, parents, strict=True)]
    return CategoryTree.from_coco(rows)


def siblings(tree: CategoryTree, node: int) -> list[int]:
    return [i for i in range(len(tree)) if tree.parent(i) == tree.parent(node)]


@given(trees(), st.integers(0, 2**32 - 1))
def test_softmax_by_its_definition(tree, seed):
    scores = np.random.default_rng(seed).normal(0, 3, (2, len(tree), 3))
    cond = conditional_log_softmax(tree, scores, 1)
    full = hierarchical_log_softmax(tree, scores, axis=1)
    assert parents_of(tree) == [tree.parent(i) for i in range(len(tree))]
    for a in range(2):
        for b in range(3):
            for i in range(len(tree)):
                weights = [math.exp(scores[a, k, b]) for k in siblings(tree, i)]
                expected = math.exp(scores[a, i, b]) / sum(weights)
                assert math.isclose(math.exp(cond[a, i, b]), expected, rel_tol=1e-9)
                line = [i, *(tree.index(n) for n in tree.ancestors(tree.names[i]))]
                assert math.isclose(full[a, i, b], sum(cond[a, k, b] for k in line), abs_tol=1e-9)


@given(trees(), st.integers(0, 2**32 - 1))
def test_children_sum_to_their_parent_and_roots_to_one(tree, seed):
    probs = hierarchical_softmax(tree, np.random.default_rng(seed).normal(0, 5, (4, len(tree))))
    roots = [i for i in range(len(tree)) if tree.parent(i) is None]
    np.testing.assert_allclose(probs[:, roots].sum(1), 1)
    for i, below in enumerate(children_of(tree)):
        if below:
            np.testing.assert_allclose(probs[:, below].sum(1), probs[:, i])


def test_huge_scores_do_not_overflow():
    tree = CategoryTree.from_coco([{"name": "a"}, {"name": "b"}])
    np.testing.assert_allclose(hierarchical_softmax(tree, [1e300, -1e300]), [1, 0])
    np.testing.assert_allclose(hierarchical_softmax(tree, [-np.inf, 0]), [0, 1])
    assert hierarchical_softmax(tree, np.float32([1, 2])).dtype == np.float32
    assert hierarchical_softmax(tree, [1, 2]).dtype == np.float64


def impurity(values, criterion):
    if criterion == "gini":
        return 1 - sum(v * v for v in values)
    return -sum(v * math.log2(v) for v in values if v > 0)


def slow_decision(tree, probs, thresh, criterion, ignored=frozenset()):
    """One distribution, level by level."""

    def best(nodes):
        return max(nodes, key=lambda i: (probs[i], -i))

    level = [i for i in range(len(tree)) if tree.parent(i) is None and i not in ignored]
    node = best(level)
    while below := [i for i in range(len(tree)) if tree.parent(i) == node and i not in ignored]:
        if criterion == "prob":
            finer = probs[node] > thresh and probs[best(below)] > thresh
        else:
            others = [probs[i] for i in level if i != node]
            worst = impurity([*others, *[probs[node] / len(below)] * len(below)], criterion) + 1e-30
            finer = len(below) == 1 or 1 - impurity([*others, *(probs[i] for i in below)], criterion) / worst > thresh
        if not finer:
            break
        node, level = best(below), below
    return node


@settings(max_examples=200)
@given(trees(), st.integers(0, 2**32 - 1), st.sampled_from(["gini", "entropy", "prob"]), st.floats(0.01, 0.9))
def test_decisions_level_by_level(tree, seed, criterion, thresh):
    probs = hierarchical_softmax(tree, np.random.default_rng(seed).normal(0, 3, (3, len(tree), 2)), axis=1)
    chosen, sure = decision(tree, probs, axis=1, thresh=thresh, criterion=criterion)
    assert chosen.shape == sure.shape == (3, 2)
    for a in range(3):
        for b in range(2):
            assert chosen[a, b] == slow_decision(tree, probs[a, :, b], thresh, criterion)
            assert sure[a, b] == probs[a, chosen[a, b], b]


def lesions() -> CategoryTree:
    rows = [("lesion", None), ("cyst", "lesion"), ("tumor", "lesion"), ("benign", "tumor"), ("organ", None)]
    return CategoryTree.from_coco([{"name": n, "supercategory": p} for n, p in rows])


def test_ignored_categories_are_not_there():
    tree = lesions()
    probs = hierarchical_softmax(tree, [5.0, 1, 4, 0, 0])
    assert tree.names[decision(tree, probs, thresh=0.1)[0]] == "benign"
    assert tree.names[decision(tree, probs, thresh=0.1, ignore=["tumor"])[0]] == "cyst"
    assert tree.names[decision(tree, probs, ignore=["lesion"])[0]] == "organ"
    with pytest.raises(CategoryError, match="ignored"):
        decision(tree, probs, ignore=["lesion", "organ"])
    with pytest.raises(UnknownNameError, match="did you mean 'cyst'"):
        decision(tree, probs, ignore=["cysts"])


def test_a_category_that_is_always_refined():
    tree = lesions()
    probs = hierarchical_softmax(tree, [5.0, 0, 0, 0, 0])
    assert tree.names[decision(tree, probs)[0]] == "lesion"
    assert tree.names[decision(tree, probs, always_refine=["lesion"])[0]] == "cyst"


def test_what_makes_no_sense():
    with pytest.raises(OptionError, match="one entry per category"):
        decision(lesions(), np.ones(3))
    with pytest.raises(OptionError, match="one entry per category"):
        conditional_log_softmax(lesions(), 1.0)
    with pytest.raises(OptionError, match="criterion"):
        decision(lesions(), np.ones(5), criterion="luck")


@given(trees(), st.data())
def test_a_subgraph_keeps_who_is_a_kind_of_whom(tree, data):
    kept = data.draw(st.sets(st.sampled_from(tree.names)))
    small = tree.subgraph(kept)
    assert set(small) == kept
    for name in kept:
        assert small.ancestors(name) == tuple(a for a in tree.ancestors(name) if a in kept)
        assert small.ids[small.index(name)] == tree.ids[tree.index(name)]
    gone = data.draw(st.sets(st.sampled_from(tree.names), max_size=2))
    assert set(tree.without(gone)) == {n for n in tree if not gone & {n, *tree.ancestors(n)}}


def test_renaming_takes_the_children_along():
    tree = lesions().renamed({"lesion": "finding", "cyst": "lesion"})
    assert tree.ancestors("benign") == ("tumor", "finding")
    assert tree.ancestors("lesion") == ("finding",)
    with pytest.raises(CategoryError, match="one name"):
        lesions().renamed({"cyst": "tumor"})
    with pytest.raises(UnknownNameError):
        lesions().renamed({"nothing": "x"})


@given(trees())
def test_json_and_back(tree):
    assert CategoryTree.from_coco(json.loads(json.dumps(tree.to_coco()))) == tree


@pytest.mark.parametrize("criterion", ["gini", "entropy", "prob"])
def test_ndsampler_decides_alike(criterion):
    """The anchor itself, where it is installed; its trees number nodes otherwise, so names are compared."""
    ndsampler = pytest.importorskip("ndsampler", reason="the anchor is not installed")
    tree = lesions()
    theirs = ndsampler.CategoryTree.from_coco(tree.to_coco())
    probs = hierarchical_softmax(tree, np.random.default_rng(0).normal(0, 3, (200, len(tree))))
    there = probs[:, [tree.index(name) for name in theirs]]
    # One at a time: in a batch its `prob` writes finer answers to the wrong rows once one row stays coarse.
    expected = [theirs.decision(row[None], 1, thresh=0.3, criterion=criterion)[0][0] for row in there]
    ours, _ = decision(tree, probs, thresh=0.3, criterion=criterion)
    assert [tree.names[i] for i in ours] == [list(theirs)[i] for i in expected]
