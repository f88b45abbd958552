"""CategoryTree: categories numbered in pre-order, so that "c is a kind of a" is ``a <= c < end[a]``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from ndvol.errors import CategoryError, UnknownNameError
from ndvol.markup import element, join


@dataclass(frozen=True, slots=True)
class CategoryTree:
    """A forest of categories.

    Attributes
    ----------
    names : category names in pre-order; the position is the category_index.
    ends : the descendants of category i, itself included, are the indices ``i … ends[i] - 1``.
    ids : the catalogue's number (kwcoco ``id``) of each category.

    >>> tree = CategoryTree.from_coco([
    ...     {"id": 5, "name": "cyst", "supercategory": "lesion"},
    ...     {"id": 2, "name": "lesion", "supercategory": None},
    ...     {"id": 7, "name": "kidney"},
    ... ])
    >>> tree.names, tree.descendants("lesion"), tree.ancestors("cyst"), tree.is_mutex
    (('lesion', 'cyst', 'kidney'), ('cyst',), ('lesion',), False)
    """

    names: tuple[str, ...]
    ends: tuple[int, ...]
    ids: tuple[int, ...]

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]]) -> Self:
        """The tree of kwcoco category dictionaries (``name``, ``supercategory``, ``id``), order kept among siblings.

        A missing, null or empty ``supercategory`` makes a root. A missing ``id`` gets the next free number.

        Raises
        ------
        CategoryError : for a cycle, a parent that is not in the list, or a name or id given twice; by name.
        """
        rows = list(categories)
        parents: dict[str, str | None] = {}
        for row in rows:
            name = row.get("name")
            if not isinstance(name, str) or not name:
                raise CategoryError("a category needs a name", got=dict(row), code="category-name")
            if name in parents:
                raise CategoryError(f"category {name!r} is given twice", code="category-twice", name=name)
            parents[name] = row.get("supercategory") or None
        for name, parent in parents.items():
            if parent is not None and parent not in parents:
                raise CategoryError(
                    f"the supercategory {parent!r} of {name!r} is not a category",
                    hint=f"add a category named {parent!r}, or use null",
                    code="dangling-parent",
                    name=name,
                )
        ids = _assign_ids(rows)
        names, ends = _preorder(parents)
        return cls(tuple(names), tuple(ends), tuple(ids[name] for name in names))

    def to_coco(self) -> list[dict[str, Any]]:
        """kwcoco category dictionaries in pre-order; the supercategory of a root is null, never ''."""
        parents = [self.parent(i) for i in range(len(self))]
        return [
            {"id": i, "name": name, "supercategory": None if p is None else self.names[p]}
            for i, name, p in zip(self.ids, self.names, parents, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def index(self, name: str) -> int:
        """The category_index of `name`."""
        try:
            return self.names.index(name)
        except ValueError:
            close = get_close_matches(name, self.names, n=1)
            raise UnknownNameError(
                f"there is no category {name!r}",
                expected=f"one of {', '.join(self.names[:20]) or '(none)'}",
                hint=f"did you mean {close[0]!r}?" if close else "",
                name=name,
            ) from None

    def index_of_id(self, category_id: int) -> int:
        """The category_index of the catalogue's number `category_id`."""
        try:
            return self.ids.index(category_id)
        except ValueError:
            raise UnknownNameError(f"there is no category with id {category_id}", category_id=category_id) from None

    def subtree(self, name: str) -> range:
        """The category_index of `name` and of all its descendants."""
        i = self.index(name)
        return range(i, self.ends[i])

    def parent(self, index: int) -> int | None:
        """The category_index of the parent; None for a root."""
        return next((p for p in range(index - 1, -1, -1) if index < self.ends[p]), None)

    def ancestors(self, name: str) -> tuple[str, ...]:
        """From the parent of `name` up to its root."""
        i = self.index(name)
        return tuple(self.names[p] for p in range(i - 1, -1, -1) if i < self.ends[p])

    def descendants(self, name: str) -> tuple[str, ...]:
        """All categories below `name`, in pre-order."""
        return tuple(self.names[i] for i in self.subtree(name)[1:])

    def subgraph(self, names: Iterable[str]) -> Self:
        """The tree of `names` alone; each hangs below its nearest ancestor that is kept.

        >>> rows = [{"name": "a"}, {"name": "b", "supercategory": "a"}, {"name": "c", "supercategory": "b"}]
        >>> CategoryTree.from_coco(rows).subgraph(["c", "a"]).to_coco()[1]
        {'id': 3, 'name': 'c', 'supercategory': 'a'}
        """
        kept = {self.index(name) for name in names}
        ends = {i: sum(1 for k in kept if i <= k < self.ends[i]) for i in kept}
        order = sorted(kept)
        return type(self)(
            tuple(self.names[i] for i in order),
            tuple(number + ends[i] for number, i in enumerate(order)),
            tuple(self.ids[i] for i in order),
        )

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same tree under other names, old to new; what is below a category stays below it.

        Raises
        ------
        UnknownNameError : for an old name that the tree does not have.
        CategoryError : when two categories would have one name, or one none.
        """
        for name in names:
            self.index(name)
        found = [names.get(name, name) for name in self.names]
        if twice := sorted({n for n in found if found.count(n) > 1}):
            raise CategoryError("two categories would have one name", got=twice, code="category-twice")
        if not all(found):
            raise CategoryError("a category needs a name", got=dict(names), code="category-name")
        return type(self)(tuple(found), self.ends, self.ids)

    def without(self, names: Iterable[str]) -> Self:
        """The tree without `names` and all that is below them."""
        gone = {i for name in names for i in self.subtree(name)}
        return self.subgraph(name for i, name in enumerate(self.names) if i not in gone)

    @property
    def is_mutex(self) -> bool:
        """True when no category is a kind of another, so that all exclude each other."""
        return all(end == i + 1 for i, end in enumerate(self.ends))

    def _repr_html_(self) -> str:
        return element("pre", None, join(str(self).splitlines(), "<br>"))

    def __str__(self) -> str:
        depth = [len(self.ancestors(name)) for name in self.names]
        return "\n".join("  " * d + name for d, name in zip(depth, self.names, strict=True))


def with_implied_parents(categories: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """kwcoco dictionaries, and one more for each supercategory that is none of them: kwcoco's own rule.

    COCO's files say ``person`` and ``animal`` only as supercategories.

    >>> rows = with_implied_parents([{"id": 1, "name": "cat", "supercategory": "animal"}])
    >>> CategoryTree.from_coco(rows).names
    ('animal', 'cat')
    """
    rows = list(categories)
    names = {row.get("name") for row in rows}
    implied = dict.fromkeys(row["supercategory"] for row in rows if row.get("supercategory"))
    return [*rows, *({"name": name} for name in implied if name not in names)]


def _assign_ids(rows: list[Mapping[str, Any]]) -> dict[str, int]:
    given = [row["id"] for row in rows if row.get("id") is not None]
    if len(set(given)) != len(given):
        twice = sorted(i for i in set(given) if given.count(i) > 1)
        raise CategoryError("a category id is given twice", got=twice, code="category-twice")
    free = iter(i for i in range(1, len(rows) + len(given) + 1) if i not in set(given))
    return {row["name"]: int(row["id"]) if row.get("id") is not None else next(free) for row in rows}


def _preorder(parents: Mapping[str, str | None]) -> tuple[list[str], list[int]]:
    children: dict[str | None, list[str]] = {}
    for name, parent in parents.items():
        children.setdefault(parent, []).append(name)
    names: list[str] = []
    ends: dict[str, int] = {}
    # An explicit stack: trees from strangers may be deeper than Python's recursion limit.
    stack: list[tuple[str, bool]] = [(name, False) for name in reversed(children.get(None, []))]
    while stack:
        name, done = stack.pop()
        if done:
            ends[name] = len(names)
            continue
        names.append(name)
        stack.append((name, True))
        stack.extend((child, False) for child in reversed(children.get(name, [])))
    if len(names) != len(parents):
        cycle = _cycle(parents, set(parents) - set(names))
        raise CategoryError(f"the categories form a cycle: {' -> '.join(cycle)}", code="category-cycle", cycle=cycle)
    return names, [ends[name] for name in names]


def _cycle(parents: Mapping[str, str | None], unreached: set[str]) -> list[str]:
    name: str | None = min(unreached)
    path: list[str] = []
    while name is not None and name not in path:
        path.append(name)
        name = parents[name]
    assert name is not None  # unreached categories never lead to a root
    return [*path[path.index(name) :], name]
