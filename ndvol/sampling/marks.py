"""Marks: the voxels of some categories, in all cases and in one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.sampling.cohort import Cohort, VoxelIndex


class Marks:
    """The marked voxels of one case: the union over its label volumes, so that a voxel counts once.

    Parameters
    ----------
    parts : label volumes, each with its values that are marked.
    """

    def __init__(self, parts: list[tuple[VoxelIndex, list[int]]]) -> None:
        self._parts = parts

    def bounds(self, window: Window) -> tuple[int, int]:
        """Least and largest number of marked voxels that `window` can hold, without reading."""
        bounds = [index.bounds(values, window) for index, values in self._parts]
        low, high = max((low for low, _ in bounds), default=0), sum(high for _, high in bounds)
        return low, min(high, window.size)

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """True at the marked voxels; the window's shape, False outside the volume."""
        if len(self._parts) == 1:
            [(index, values)] = self._parts
            return index.mask(values, window)
        union = np.zeros(window.shape, bool)
        for index, values in self._parts:
            union |= index.mask(values, window)
        return union


class Marking:
    """Which values of a cohort are marked.

    Parameters
    ----------
    wanted : bool per row of ``cohort.rows``.
    objects : bool per row of ``cohort.objects``, those of the same categories or label volumes.
    """

    def __init__(self, cohort: Cohort, wanted: NDArray[np.bool_], objects: NDArray[np.bool_]) -> None:
        self._cohort, self._objects = cohort, objects
        rows = np.flatnonzero(wanted)
        self._rows = rows[np.argsort(cohort.rows.case[rows], kind="stable")]
        self._row_case = cohort.rows.case[self._rows]

    @classmethod
    def of_categories(cls, cohort: Cohort, names: Iterable[str]) -> Marking:
        """The voxels of the named categories and of their descendants."""
        wanted, objects = np.zeros(len(cohort.rows), bool), np.zeros(len(cohort.objects), bool)
        for name in names:
            wanted[cohort.subtree(name)] = True
            objects[cohort.objects_of(name)] = True
        return cls(cohort, wanted, objects)

    @classmethod
    def of_label(cls, cohort: Cohort, label: str) -> Marking:
        """All voxels that are not background in the label volumes called `label`."""
        number = np.array([names.index(label) if label in names else -2 for names in cohort.label_names])
        rows, objects = cohort.rows, cohort.objects
        return cls(cohort, rows.label == number[rows.case], objects.label == number[objects.case])

    @property
    def cases(self) -> NDArray[np.int64]:
        """The cases that hold a marked voxel, ascending."""
        return np.unique(self._row_case)

    def marks(self, case: int) -> Marks:
        """The marked voxels of a case; a label volume without one is not opened."""
        first, stop = np.searchsorted(self._row_case, [case, case + 1])
        values: dict[int, list[int]] = {}
        for row in self._rows[first:stop]:
            values.setdefault(int(self._cohort.rows.label[row]), []).append(int(self._cohort.rows.value[row]))
        return Marks([(self._cohort.cases.index(case, label), found) for label, found in values.items()])

    def boxes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and stop of the smallest box around the marked voxels of each case in `cases`."""
        objects = self._cohort.objects
        kept = np.flatnonzero(self._objects)
        kept = kept[np.argsort(objects.case[kept], kind="stable")]
        first = np.searchsorted(objects.case[kept], self.cases)
        if not len(first):
            none = np.zeros((0, self._cohort.ndim), np.int64)
            return none, none
        return np.minimum.reduceat(objects.start[kept], first), np.maximum.reduceat(objects.stop[kept], first)
