"""Negative: windows that hold (almost) nothing of some categories, uniform over all such windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import floor, prod

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SamplingError
from ndvol.geometry import Window
from ndvol.sampling.admissible import Admissible
from ndvol.sampling.cohort import Cohort, VoxelIndex
from ndvol.sampling.options import check_share, weighted_names
from ndvol.sampling.places import Places
from ndvol.sampling.strategies import BoundStrategy
from ndvol.sampling.target import Target

TRIES = 64
"""Draws before all admissible positions are listed: with a share p of them admissible, (1 - p)^64 get there."""


@dataclass(frozen=True, slots=True)
class Negative:
    """Windows in which the categories fill at most a share `max_overlap` of the window.

    Uniform over all such windows in all examined cases. A case without labels is never used: "not annotated" is
    not "absent". A voxel counts once when any label volume of its case names one of the categories there.

    Parameters
    ----------
    categories : a name or names, descendants included; None: every category.
    max_overlap : in [0, 1]; share of the window's voxels, those outside the volume included.
    """

    categories: str | Sequence[str] | None = None
    max_overlap: float = 0.0

    def __post_init__(self) -> None:
        named = weighted_names(self.categories)
        object.__setattr__(self, "categories", None if named is None else tuple(name for name, _ in named))
        check_share("max_overlap", self.max_overlap)

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        """See `Strategy.bind`.

        Raises
        ------
        SamplingError : when no case has labels. When no window satisfies the constraint, the first draw raises.
        UnknownNameError : when the tree has no such category.
        """
        wanted = np.zeros(len(cohort.rows), bool)
        for name in (self.categories,) if isinstance(self.categories, str) else self.categories or ():
            wanted[cohort.subtree(name)] = True
        if self.categories is None:
            wanted[:] = True
        if not cohort.examined.any():
            raise SamplingError(
                "negatives need cases with labels, and none has any", hint="import label volumes, or use Uniform()"
            )
        return _BoundNegative(cohort, window, floor(self.max_overlap * prod(window)), wanted)


class _BoundNegative:
    length = None

    def __init__(self, cohort: Cohort, window: tuple[int, ...], limit: int, wanted: NDArray[np.bool_]) -> None:
        self._cohort, self._window, self._limit = cohort, window, limit
        self._cases = np.flatnonzero(cohort.examined)
        self._places = Places(cohort.shapes[self._cases], window)
        rows = np.flatnonzero(wanted)
        order = np.argsort(cohort.rows.case[rows], kind="stable")
        self._rows = rows[order]
        self._row_case = cohort.rows.case[self._rows]
        self._exact: list[Admissible] | None = None

    def target(self, index: int, rng: np.random.Generator) -> Target:
        # The first draws are the same whether or not the exact list is there already: it saves reading labels,
        # and must not change which window an index gives.
        for _ in range(TRIES):
            place, start = self._places.draw(rng)
            if self._admits(place, start):
                return self._target(place, start)
        exact = self._exact or self._list()
        ends = np.cumsum([len(positions) for positions in exact])
        if not ends[-1]:
            raise self._impossible(exact)
        number = int(rng.integers(ends[-1]))
        place = int(np.searchsorted(ends, number, side="right"))
        return self._target(place, exact[place][number - (int(ends[place - 1]) if place else 0)])

    def _target(self, place: int, start: tuple[int, ...]) -> Target:
        return Target(self._cohort.names[self._cases[place]], Window(start, self._window), "negative")

    def _admits(self, place: int, start: tuple[int, ...]) -> bool:
        if self._exact is not None:
            return start in self._exact[place]
        window = Window(start, self._window)
        marked = self._marked(place)
        # The union of several label volumes holds at least the most, and at most the sum, of what each holds.
        bounds = [voxels.bounds(values, window) for voxels, values in marked]
        if max((low for low, _ in bounds), default=0) > self._limit:
            return False
        if sum(high for _, high in bounds) <= self._limit:
            return True
        return int(_union(marked, window).sum()) <= self._limit

    def _marked(self, place: int) -> list[tuple[VoxelIndex, list[int]]]:
        """Label volumes of a case, each with its values of the categories; no volume is opened without one."""
        case = int(self._cases[place])
        first, stop = np.searchsorted(self._row_case, [case, case + 1])
        values: dict[int, list[int]] = {}
        for row in self._rows[first:stop]:
            values.setdefault(int(self._cohort.rows.label[row]), []).append(int(self._cohort.rows.value[row]))
        return [(self._cohort.index(case, label), found) for label, found in values.items()]

    def _list(self) -> list[Admissible]:
        exact = []
        for place, case in enumerate(self._cases):
            marked = self._marked(place)
            shape = self._cohort.shapes[case].tolist()
            exact.append(Admissible(shape, self._window, partial(_union, marked), self._limit))
        self._exact = exact
        return exact

    def _impossible(self, exact: list[Admissible]) -> SamplingError:
        fewest = min(positions.fewest for positions in exact)
        share = fewest / prod(self._window)
        return SamplingError(
            f"no window of {self._window} voxels is negative: all {len(self._places)} positions in "
            f"{len(exact)} labelled cases were examined",
            got=f"at least {fewest} voxels of the categories in each, {share:.3g} of the window",
            expected=f"at most {self._limit}",
            hint="use a smaller window, fewer categories, or a larger max_overlap",
            cases=len(exact),
            positions=len(self._places),
            smallest_overlap=share,
        )


def _union(marked: list[tuple[VoxelIndex, list[int]]], window: Window) -> NDArray[np.bool_]:
    union = np.zeros(window.shape, bool)
    for voxels, values in marked:
        union |= voxels.mask(values, window)
    return union
