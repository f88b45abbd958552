"""CategoryTree against sets of ancestors computed by walking up the parents."""

from __future__ import annotations

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.categories import CategoryTree
from ndvol.errors import CategoryError, UnknownNameError


@st.composite
def forests(draw: st.DrawFn, max_size: int = 12) -> dict[str, str | None]:
    """Parents by name, in an order in which children may come before their parents."""
    n = draw(st.integers(0, max_size))
    parents: dict[str, str | None] = {}
    for i in range(n):
        parent = draw(st.none() | st.integers(0, i - 1)) if i else None
        parents[f"n{i}"] = None if parent is None else f"n{parent}"
    names = draw(st.permutations(list(parents)))
    return {name: parents[name] for name in names}


def rows(parents: dict[str, str | None]) -> list[dict[str, object]]:
    return [{"id": 3 * i + 2, "name": n, "supercategory": p} for i, (n, p) in enumerate(parents.items())]


def line_of(name: str, parents: dict[str, str | None]) -> list[str]:
    """The ancestors of `name`, nearest first, by the definition."""
    line, parent = [], parents[name]
    while parent is not None:
        line.append(parent)
        parent = parents[parent]
    return line


@given(forests())
def test_relations_equal_those_of_the_parent_table(parents: dict[str, str | None]) -> None:
    tree = CategoryTree.from_coco(rows(parents))
    assert sorted(tree) == sorted(parents)
    assert len(tree) == len(parents)
    for name, parent in parents.items():
        i = tree.index(name)
        assert tree.names[i] == name
        assert list(tree.ancestors(name)) == line_of(name, parents)
        below = {n for n in parents if name in line_of(n, parents)}
        assert set(tree.descendants(name)) == below
        assert len(tree.descendants(name)) == len(below)
        assert {tree.names[k] for k in tree.subtree(name)} == below | {name}
        assert tree.parent(i) == (None if parent is None else tree.index(parent))
        for other in parents:
            is_kind_of = i <= tree.index(other) < tree.ends[i]
            assert is_kind_of == (other in below | {name})
    assert tree.is_mutex == all(p is None for p in parents.values())


@given(forests())
def test_siblings_keep_their_order(parents: dict[str, str | None]) -> None:
    tree = CategoryTree.from_coco(rows(parents))
    for parent in [None, *parents]:
        siblings = [n for n, p in parents.items() if p == parent]
        assert sorted(siblings, key=tree.index) == siblings


@given(forests())
def test_ids_stay_with_their_names(parents: dict[str, str | None]) -> None:
    given_rows = rows(parents)
    tree = CategoryTree.from_coco(given_rows)
    for row in given_rows:
        assert tree.ids[tree.index(row["name"])] == row["id"]
        assert tree.names[tree.index_of_id(row["id"])] == row["name"]


@given(forests())
def test_round_trip_through_kwcoco(parents: dict[str, str | None]) -> None:
    tree = CategoryTree.from_coco(rows(parents))
    coco = tree.to_coco()
    assert {row["name"]: row["supercategory"] for row in coco} == parents
    assert CategoryTree.from_coco(coco) == tree
    assert pickle.loads(pickle.dumps(tree)) == tree


@given(forests(), st.data())
def test_a_cycle_is_named(parents: dict[str, str | None], data: st.DataObject) -> None:
    chain = data.draw(st.integers(1, 4))
    ring = {f"r{i}": f"r{(i + 1) % chain}" for i in range(chain)}
    merged = {**parents, **ring}
    order = data.draw(st.permutations(list(merged)))
    with pytest.raises(CategoryError, match="the categories form a cycle: r") as caught:
        CategoryTree.from_coco(rows({name: merged[name] for name in order}))
    assert caught.value.code == "category-cycle"
    named = caught.value.cycle
    assert set(named) == set(ring)
    assert named[0] == named[-1]
    assert [ring[name] for name in named[:-1]] == named[1:]


@pytest.mark.parametrize(
    ("categories", "message", "code"),
    [
        (
            [{"name": "cyst", "supercategory": "lesion"}],
            r"^the supercategory 'lesion' of 'cyst' is not a category; add a category named 'lesion', or use null$",
            "dangling-parent",
        ),
        ([{"name": "a"}, {"name": "a"}], "^category 'a' is given twice$", "category-twice"),
        (
            [{"name": "a", "id": 4}, {"name": "b", "id": 4}],
            r"^a category id is given twice; got \[4\]$",
            "category-twice",
        ),
        ([{"name": "a", "supercategory": "a"}], "^the categories form a cycle: a -> a$", "category-cycle"),
        ([{"id": 3}], r"^a category needs a name; got \{'id': 3\}$", "category-name"),
        ([{"name": ""}], r"^a category needs a name; got \{'name': ''\}$", "category-name"),
    ],
)
def test_what_is_not_a_tree_is_refused(categories: list[dict[str, object]], message: str, code: str) -> None:
    with pytest.raises(CategoryError, match=message) as caught:
        CategoryTree.from_coco(categories)
    assert caught.value.code == code


@pytest.mark.parametrize("row", [{}, {"supercategory": None}, {"supercategory": ""}])
def test_a_root_has_no_supercategory(row: dict[str, object]) -> None:
    tree = CategoryTree.from_coco([{"name": "a", **row}])
    assert tree.ancestors("a") == ()
    assert tree.to_coco() == [{"id": 1, "name": "a", "supercategory": None}]


def test_missing_ids_are_the_next_free_numbers() -> None:
    tree = CategoryTree.from_coco([{"name": "a"}, {"name": "b", "id": 1}, {"name": "c", "id": 3}, {"name": "d"}])
    assert dict(zip(tree.names, tree.ids, strict=True)) == {"a": 2, "b": 1, "c": 3, "d": 4}


def test_a_chain_deeper_than_the_recursion_limit() -> None:
    depth = 5000
    assert depth > 2 * sys.getrecursionlimit()
    parents = {f"n{i}": f"n{i - 1}" if i else None for i in range(depth)}
    tree = CategoryTree.from_coco(rows(dict(reversed(parents.items()))))
    assert tree.names == tuple(parents)
    assert set(tree.ends) == {depth}
    assert len(tree.ancestors(f"n{depth - 1}")) == depth - 1
    assert {row["name"]: row["supercategory"] for row in tree.to_coco()} == parents


def test_a_long_cycle_is_named_without_recursion() -> None:
    n = 3000
    with pytest.raises(CategoryError, match=r"^the categories form a cycle: n0 -> ") as caught:
        CategoryTree.from_coco(rows({f"n{i}": f"n{(i + 1) % n}" for i in range(n)}))
    assert len(caught.value.cycle) == n + 1


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    tree = CategoryTree.from_coco([{"name": "kidney"}, {"name": "liver"}])
    with pytest.raises(UnknownNameError) as caught:
        tree.index("kidny")
    assert str(caught.value) == "there is no category 'kidny'; expected one of kidney, liver; did you mean 'kidney'?"
    with pytest.raises(UnknownNameError, match=r"^there is no category 'x'; expected one of \(none\)$"):
        CategoryTree.from_coco([]).descendants("x")
    with pytest.raises(UnknownNameError, match=r"^there is no category with id 9$"):
        tree.index_of_id(9)
    assert "kidney" in tree
    assert "kidny" not in tree


def test_text_shows_the_depth() -> None:
    tree = CategoryTree.from_coco([{"name": "b", "supercategory": "a"}, {"name": "a"}, {"name": "c"}])
    assert str(tree) == "a\n  b\nc"
