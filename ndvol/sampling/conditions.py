"""Conditions on windows: how many voxels of some categories they hold, and how far they are from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.sampling.admissible import count_planes
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.distances import distance_planes, reach_of, squared_distance
from ndvol.sampling.marks import Marking

DISTANCE_TOLERANCE = 1e-9
"""Distances are compared to this share: steps in mm are products of rounded numbers."""


class Condition(Protocol):
    """A condition on the windows of a cohort, by a number that each window has: a count, a squared distance."""

    def admits(self, case: int, window: Window) -> bool:
        """True when the window satisfies it; reads labels only where the counts per chunk leave it open."""
        ...

    def numbers(self, case: int, region: Window, window: Sequence[int]) -> Iterator[NDArray[Any]]:
        """The numbers of all windows of a region, in the order of `count_planes`."""
        ...

    def accepts(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a number satisfies it."""
        ...

    def best(self, numbers: NDArray[Any]) -> float:
        """The number that comes closest to satisfying it, the smaller the better."""
        ...

    def got(self, best: float, window: Sequence[int]) -> str:
        """The best number of all windows, for a person."""
        ...

    def expected(self) -> str:
        """What would satisfy it, for a person."""
        ...


@dataclass(frozen=True, slots=True)
class AtMost:
    """Windows that hold at most `limit` marked voxels; `what` names them."""

    marking: Marking
    limit: int
    what: str

    def admits(self, case: int, window: Window) -> bool:
        marks = self.marking.marks(case)
        low, high = marks.bounds(window)
        if low > self.limit or high <= self.limit:
            return high <= self.limit
        return int(np.count_nonzero(marks.mask(window))) <= self.limit

    def numbers(self, case: int, region: Window, window: Sequence[int]) -> Iterator[NDArray[Any]]:
        return count_planes(region, window, self.marking.marks(case).mask)

    def accepts(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        return numbers <= self.limit

    def best(self, numbers: NDArray[Any]) -> float:
        return float(numbers.min())

    def got(self, best: float, window: Sequence[int]) -> str:
        return f"at least {best:.0f} voxels of {self.what} in each, {best / prod(window):.3g} of the window"

    def expected(self) -> str:
        return f"at most {self.limit} voxels of {self.what}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Windows that hold at least `need` marked voxels; `what` names them."""

    marking: Marking
    need: int
    what: str

    def admits(self, case: int, window: Window) -> bool:
        marks = self.marking.marks(case)
        low, high = marks.bounds(window)
        if low >= self.need or high < self.need:
            return low >= self.need
        return int(np.count_nonzero(marks.mask(window))) >= self.need

    def numbers(self, case: int, region: Window, window: Sequence[int]) -> Iterator[NDArray[Any]]:
        return count_planes(region, window, self.marking.marks(case).mask)

    def accepts(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        return numbers >= self.need

    def best(self, numbers: NDArray[Any]) -> float:
        return -float(numbers.max())

    def got(self, best: float, window: Sequence[int]) -> str:
        return f"at most {-best:.0f} voxels of {self.what} in each, {-best / prod(window):.3g} of the window"

    def expected(self) -> str:
        return f"at least {self.need} voxels of {self.what}"


@dataclass(frozen=True, slots=True)
class Apart:
    """Windows whose nearest marked voxel is at least `nearest` and at most `farthest` mm away; `what` names them.

    The distance is that between the centres of voxels, and 0 for a window that holds a marked voxel. Voxels at other
    times or of other channels than the window's are not near.
    """

    cohort: Cohort
    marking: Marking
    nearest: float
    farthest: float
    what: str

    @property
    def distance(self) -> float:
        """Up to which distances must be known."""
        return max(self.nearest, self.farthest if self.farthest < inf else 0.0)

    def admits(self, case: int, window: Window) -> bool:
        spacing, marks = self._spacing(case), self.marking.marks(case)
        padded = window.padded(reach_of(self.distance, spacing))
        square = inf
        if marks.bounds(padded)[1]:
            square = squared_distance(marks.mask(padded), padded, window, spacing)
        return bool(self.accepts(np.array(square)))

    def numbers(self, case: int, region: Window, window: Sequence[int]) -> Iterator[NDArray[Any]]:
        mask = self.marking.marks(case).mask
        return distance_planes(region, window, mask, self._spacing(case), self.distance)

    def accepts(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        far = numbers >= self.nearest**2 * (1 - DISTANCE_TOLERANCE)
        return far if self.farthest == inf else far & (numbers <= self.farthest**2 * (1 + DISTANCE_TOLERANCE))

    def best(self, numbers: NDArray[Any]) -> float:
        # Too near in the first place: where a window could be far enough, other conditions were in the way.
        return -float(numbers.max()) if self.farthest == inf else float(numbers.min())

    def got(self, best: float, window: Sequence[int]) -> str:
        if self.farthest == inf:
            return f"voxels of {self.what} at most {sqrt(-best):.4g} mm away"
        return f"voxels of {self.what} at least {sqrt(best):.4g} mm away"

    def expected(self) -> str:
        least = f"at least {self.nearest:g} mm" if self.nearest else ""
        most = f"at most {self.farthest:g} mm" if self.farthest < inf else ""
        return " and ".join(part for part in (least, most) if part) + f" to {self.what}"

    def _spacing(self, case: int) -> tuple[float, ...]:
        self.cohort.cases.check_right_angles(case)
        return tuple(self.cohort.spacing[case].tolist())
