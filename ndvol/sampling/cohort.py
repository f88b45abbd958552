"""Cohort: what strategies need to know of a catalogue, satisfiable with plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Which values occur where, as int64 columns of equal length, sorted by category.

    Attributes
    ----------
    category : category_index.
    case : position in `Cohort.names`.
    label : number of the label volume in its case; -1 for boxes without a label volume.
    value : in that label volume.
    voxels : number of voxels of that value there, at least 1.
    """

    category: NDArray[np.int64]
    case: NDArray[np.int64]
    label: NDArray[np.int64]
    value: NDArray[np.int64]
    voxels: NDArray[np.int64]

    @classmethod
    def gather(
        cls, *, category: ArrayLike, case: ArrayLike, label: ArrayLike, value: ArrayLike, voxels: ArrayLike
    ) -> Self:
        """Rows of objects in any order: the objects of one value in one label volume become one row.

        >>> Rows.gather(category=[1, 0, 1], case=[0, 0, 0], label=[0, 0, 0], value=[7, 3, 7], voxels=[5, 2, 1]).voxels
        array([2, 6])
        """
        keys = np.array([category, case, label, value], np.int64).reshape(4, -1)
        counts = np.asarray(voxels, np.int64)
        keys, counts = keys[:, counts > 0], counts[counts > 0]
        order = np.lexsort(keys[::-1])
        keys, counts = keys[:, order], counts[order]
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
    tree : the categories that `rows` counts in.
    names : of the cases, in the order of the catalogue.
    shapes : (cases, axes) int64, the reference image's shape in storage order.
    examined : (cases,) bool, True where somebody looked for objects: "not annotated" is not "absent".
    rows : the values that occur, sorted by category, so that a subtree is one slice.
    index : gives the `VoxelIndex` of a case and label number, both as in `rows`.

    Raises
    ------
    SamplingError : when there is no case, a shape holds a zero, or the columns contradict each other.
    """

    tree: CategoryTree
    names: tuple[str, ...]
    shapes: NDArray[np.int64]
    examined: NDArray[np.bool_]
    rows: Rows
    index: Callable[[int, int], VoxelIndex]

    def __post_init__(self) -> None:
        if not self.names:
            raise SamplingError("there is no case to draw from", hint="import some, or check the catalogue's path")
        if self.shapes.shape[:1] != (len(self.names),) or len(self.examined) != len(self.names):
            raise SamplingError(
                "a cohort needs one shape and one examined flag per case",
                got=f"{len(self.names)} names, shapes {self.shapes.shape}, {len(self.examined)} flags",
            )
        empty = np.flatnonzero((self.shapes < 1).any(1))
        if len(empty):
            raise SamplingError(f"case {self.names[empty[0]]!r} holds no voxel", got=self.shapes[empty[0]].tolist())
        if (np.diff(self.rows.category) < 0).any():
            raise SamplingError("a cohort's rows must be sorted by category", hint="use Rows.gather")

    @property
    def ndim(self) -> int:
        return int(self.shapes.shape[1])

    def subtree(self, name: str) -> slice:
        """The rows of category `name` and of its descendants.

        Raises
        ------
        UnknownNameError : when the tree has no such category.
        """
        nodes = self.tree.subtree(name)
        first, stop = np.searchsorted(self.rows.category, [nodes.start, nodes.stop])
        return slice(int(first), int(stop))

    def occurring(self) -> tuple[str, ...]:
        """Names of the categories that have voxels of their own, in pre-order."""
        return tuple(self.tree.names[i] for i in np.unique(self.rows.category))
