"""Cohort: what strategies need to know of a catalogue, satisfiable with plain arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.categories import CategoryTree
from ndvol.errors import SamplingError
from ndvol.geometry import Window


class VoxelIndex(Protocol):
    """Where the values of one label volume are, in the axes of the cohort's shapes; see `LabelIndex`."""

    def count(self, value: int) -> int:
        """Number of voxels of `value`."""
        ...

    def voxel(self, value: int, r: int) -> tuple[int, ...]:
        """Index of the r-th voxel of `value`, for r in ``range(count(value))``."""
        ...

    def bounds(self, values: Iterable[int], window: Window) -> tuple[int, int]:
        """Least and largest number of voxels of `values` that `window` can hold, without reading."""
        ...

    def mask(self, values: Iterable[int], window: Window) -> NDArray[np.bool_]:
        """True at the voxels of `values`; the window's shape, False outside the volume."""
        ...


class CaseSource(Protocol):
    """What is looked up in a case only when it is drawn from. Cases count as in `Cohort.names`."""

    def index(self, case: int, label: int) -> VoxelIndex:
        """Where the values of label volume number `label` are; -1 for boxes without a label volume.

        Raises
        ------
        SamplingError : when that volume cannot be judged in the axes of the cohort.
        """
        ...

    def object_mask(self, case: int, number: int, window: Window) -> NDArray[np.bool_]:
        """True at the voxels of object `number` of the case; the window's shape, False outside the volume."""
        ...

    def object_voxels(self, case: int, number: int) -> int:
        """Number of voxels of that object in the axes of the cohort: those of a label volume without the image's
        time axis count at every time."""
        ...

    def check_right_angles(self, case: int) -> None:
        """Raise `SamplingError` unless the axes of the case are at right angles: distances add up as squares."""
        ...

    def examined(self, case: int) -> frozenset[int]:
        """The category_index of every category that somebody looked for, see `examined_categories`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRows:
    """The objects of all cases, as columns of equal length, sorted by category.

    Attributes
    ----------
    category : category_index.
    case : position in `Cohort.names`.
    label : number of the label volume in its case; -1 for boxes without a label volume.
    value : in that label volume.
    voxels : number of voxels, at least 1.
    number : position among the objects of its case.
    start, stop : (objects, axes) half-open boxes.
    """

    category: NDArray[np.int64]
    case: NDArray[np.int64]
    label: NDArray[np.int64]
    value: NDArray[np.int64]
    voxels: NDArray[np.int64]
    number: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def gather(cls, **columns: ArrayLike) -> Self:
        """Rows of objects in any order; those without a voxel are left out."""
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        kept = np.flatnonzero(arrays["voxels"] > 0)
        order = kept[np.lexsort((arrays["number"][kept], arrays["case"][kept], arrays["category"][kept]))]
        return cls(**{name: column[order] for name, column in arrays.items()})

    def __len__(self) -> int:
        return len(self.category)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Which values occur where, as int64 columns of equal length, sorted by category.

    Attributes
    ----------
    category, case, label, value : as in `ObjectRows`.
    voxels : number of voxels of that value there, at least 1.
    """

    category: NDArray[np.int64]
    case: NDArray[np.int64]
    label: NDArray[np.int64]
    value: NDArray[np.int64]
    voxels: NDArray[np.int64]

    @classmethod
    def of(cls, objects: ObjectRows) -> Self:
        """The objects of one value in one label volume as one row."""
        keys = np.stack([objects.category, objects.case, objects.label, objects.value]).astype(np.int64, copy=False)
        order = np.lexsort(keys[::-1])
        keys, counts = keys[:, order], objects.voxels[order]
        new = np.ones(len(order), bool)
        new[1:] = (keys[:, 1:] != keys[:, :-1]).any(0)
        first = np.flatnonzero(new)
        summed = np.add.reduceat(counts, first) if len(first) else counts
        return cls(keys[0, first], keys[1, first], keys[2, first], keys[3, first], summed)

    def __len__(self) -> int:
        return len(self.category)


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """The cases that a strategy draws from.

    Attributes
    ----------
    tree : the categories that `objects` counts in.
    names : of the cases, in the order of the catalogue.
    shapes : (cases, axes) int64, the reference image's shape in storage order.
    spacing : (cases, axes) steps in mm; inf along axes that are not of space, nan where they are not known.
    objects : of all cases, sorted by category, so that a subtree is one slice.
    cases : what is looked up when a case is drawn from.
    label_names : per case the names of its label volumes, which `objects` counts.
    rows : the values that occur: `objects` summed up.

    Raises
    ------
    SamplingError : when there is no case, a shape holds a zero, or the columns contradict each other.
    """

    tree: CategoryTree
    names: tuple[str, ...]
    shapes: NDArray[np.int64]
    spacing: NDArray[np.float64]
    objects: ObjectRows
    cases: CaseSource
    label_names: tuple[tuple[str, ...], ...]
    rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise SamplingError("there is no case to draw from", hint="import some, or check the catalogue's path")
        n, shape = len(self.names), self.shapes.shape
        if shape[:1] != (n,) or self.spacing.shape != shape or len(self.label_names) != n:
            raise SamplingError(
                "a cohort needs one shape, spacing and tuple of label volumes per case",
                got=f"{n} names, shapes {shape}, spacing {self.spacing.shape}, {len(self.label_names)} tuples",
            )
        empty = np.flatnonzero((self.shapes < 1).any(1))
        if len(empty):
            raise SamplingError(f"case {self.names[empty[0]]!r} holds no voxel", got=self.shapes[empty[0]].tolist())
        lengths = {len(getattr(self.objects, column.name)) for column in fields(self.objects)}
        if len(lengths) > 1 or (np.diff(self.objects.category) < 0).any():
            raise SamplingError("a cohort's objects must be sorted by category", hint="use ObjectRows.gather")
        object.__setattr__(self, "rows", Rows.of(self.objects))

    @property
    def ndim(self) -> int:
        return int(self.shapes.shape[1])

    def subtree(self, name: str) -> slice:
        """The rows of category `name` and of its descendants.

        Raises
        ------
        UnknownNameError : when the tree has no such category.
        """
        return self._slice(self.rows.category, name)

    def objects_of(self, name: str) -> slice:
        """The objects of category `name` and of its descendants."""
        return self._slice(self.objects.category, name)

    def occurring(self) -> tuple[str, ...]:
        """Names of the categories that have voxels of their own, in pre-order."""
        return tuple(self.tree.names[i] for i in np.unique(self.rows.category))

    def _slice(self, category: NDArray[np.int64], name: str) -> slice:
        nodes = self.tree.subtree(name)
        first, stop = np.searchsorted(category, [nodes.start, nodes.stop])
        return slice(int(first), int(stop))


def examined_categories(tree: CategoryTree, names: Iterable[str]) -> frozenset[int]:
    """The category_index of all categories that were examined when those in `names` were.

    Who looks for lesions looks for every kind of lesion; and who looks for every kind that the tree knows has
    looked for lesions. Names that the tree does not know count for nothing.

    >>> tree = CategoryTree.from_coco([
    ...     {"name": "lesion"}, {"name": "cyst", "supercategory": "lesion"}, {"name": "kidney"}])
    >>> [sorted(examined_categories(tree, names)) for names in (["lesion"], ["cyst"], ["kidney"])]
    [[0, 1], [0, 1], [2]]
    """
    found = {i for name in names if name in tree for i in tree.subtree(name)}
    # Children have higher numbers than their parent, so the tree is walked from the last node on.
    for i in reversed(range(len(tree))):
        child, end = i + 1, tree.ends[i]
        children = []
        while child < end:
            children.append(child)
            child = tree.ends[child]
        if children and found.issuperset(children):
            found.add(i)
    return frozenset(found)
