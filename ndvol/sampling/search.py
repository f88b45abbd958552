"""WindowSearch: windows drawn uniformly from all those in a cohort that satisfy conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.sampling.admissible import Admissible, Starts
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.conditions import Condition
from ndvol.sampling.places import Places, number_below

TRIES = 64
"""Draws before all admissible positions are listed: with a share p of them admissible, (1 - p)^64 get there."""

By = Literal["position", "case"]
"""What has the same probability: every admissible position, or every case that has one."""


class WindowSearch:
    """Uniform draws from the windows of some cases that satisfy all of some conditions.

    Parameters
    ----------
    cases : the cases to draw from, as positions in ``cohort.names``.
    places : the starts to draw from, one row per case; any that satisfy the conditions are among them.
    conditions : which the windows satisfy.
    by : see `By`.

    Attributes
    ----------
    conditions : as given.
    best : by condition the number of all windows examined that comes closest to satisfying it; None for none.
    """

    def __init__(
        self,
        cohort: Cohort,
        window: tuple[int, ...],
        cases: NDArray[np.int64],
        places: Places,
        conditions: Sequence[Condition],
        by: By = "position",
    ) -> None:
        self._cohort, self._window, self.conditions = cohort, window, tuple(conditions)
        kept = np.flatnonzero((places.lengths > 0).all(1))
        self._cases, self._places = cases[kept], Places(places.low[kept], places.lengths[kept])
        self._by = by
        self._lists: dict[int, Admissible] = {}
        self.best: list[float | None] = [None] * len(self.conditions)

    def draw(self, rng: np.random.Generator, share: float | None = None) -> tuple[int, Window] | None:
        """A case and a window of it; None when there is no such window, and all were examined.

        Parameters
        ----------
        share : in [0, 1), where among all places to look first.
        """
        if not len(self._cases):
            return None
        found = self._by_case(rng, share) if self._by == "case" else self._by_position(rng, share)
        return found and (int(self._cases[found[0]]), Window(found[1], self._window))

    def _by_position(self, rng: np.random.Generator, share: float | None) -> tuple[int, tuple[int, ...]] | None:
        # The first draws are the same whether or not the exact list is there already: it saves reading labels,
        # and must not change which window an index gives.
        for _ in range(TRIES):
            row, start = self._places[number_below(len(self._places), rng, share)]
            if self._admits(row, start):
                return row, start
            share = None
        ends = np.cumsum([len(self._list(row)) for row in range(len(self._cases))])
        if not ends[-1]:
            return None
        number = int(rng.integers(ends[-1]))
        row = int(np.searchsorted(ends, number, side="right"))
        return row, self._list(row)[number - (int(ends[row - 1]) if row else 0)]

    def _by_case(self, rng: np.random.Generator, share: float | None) -> tuple[int, tuple[int, ...]] | None:
        for _ in range(TRIES):
            row, share = number_below(len(self._cases), rng, share), None
            for _ in range(TRIES):
                start = self._places.start(row, int(rng.integers(self._places.count(row))))
                if self._admits(row, start):
                    return row, start
            if len(admissible := self._list(row)):
                return row, admissible[int(rng.integers(len(admissible)))]
        rows = [row for row in range(len(self._cases)) if len(self._list(row))]
        if not rows:
            return None
        row = rows[int(rng.integers(len(rows)))]
        return row, self._list(row)[int(rng.integers(len(self._list(row))))]

    def _admits(self, row: int, start: tuple[int, ...]) -> bool:
        if row in self._lists:
            return start in self._lists[row]
        case, window = int(self._cases[row]), Window(start, self._window)
        return all(condition.admits(case, window) for condition in self.conditions)

    def _list(self, row: int) -> Admissible:
        """All admissible windows of a case; kept, because it takes reading all labels."""
        if row not in self._lists:
            shape = self._cohort.shapes[self._cases[row]].tolist()
            low, lengths = self._places.low[row].tolist(), self._places.lengths[row].tolist()
            starts = Starts(shape, low, lengths, self._window)
            self._lists[row] = Admissible(starts, self._planes(row, starts))
        return self._lists[row]

    def _planes(self, row: int, starts: Starts) -> Iterator[NDArray[np.bool_]]:
        case = int(self._cases[row])
        numbers = [c.numbers(case, starts.region, starts.window) for c in self.conditions]
        for planes in zip(*numbers, strict=True):
            admitted: Any = True
            for k, (condition, plane) in enumerate(zip(self.conditions, planes, strict=True)):
                admitted &= condition.accepts(plane)
                best = self.best[k]
                found = condition.best(plane)
                self.best[k] = found if best is None else min(best, found)
            yield admitted
