"""Negative: windows that hold (almost) nothing of some categories, uniform over all such windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, prod
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.conditions import Apart, AtLeast, AtMost, Condition
from ndvol.sampling.distances import reach_of
from ndvol.sampling.marks import Marking
from ndvol.sampling.options import Weighted, check_share, least_voxels, most_voxels, weighted_names
from ndvol.sampling.places import Places
from ndvol.sampling.search import By, WindowSearch
from ndvol.sampling.strategies import BoundStrategy
from ndvol.sampling.target import Target


@dataclass(frozen=True, slots=True)
class Negative:
    """Windows in which the categories fill at most a share `max_overlap` of the window.

    Uniform over all such windows of the cases in which all the categories were examined: "not annotated" is not
    "absent". A voxel counts once when any label volume of its case names one of the categories there.

    Parameters
    ----------
    categories : a name or names, descendants included; None: every category that occurs in any case.
    max_overlap : in [0, 1]; share of the window's voxels, those outside the volume included.
    min_distance_mm : the nearest voxel of the categories is at least so far from the nearest voxel of the window,
        between centres.
    within : a category, or a label volume (all its values), that holds the whole window; or a mapping of such names
        to the share of the window, in (0, 1], that each must hold at least.
    hard : near misses only: the nearest voxel of the categories is at most so many mm away.
    by : ``position``: every admissible window has the same probability, so a case is drawn by how many it has;
        ``case``: every case that has one has the same probability.

    >>> Negative("lesion", within={"body": 0.5}, hard=20).within
    (('body', 0.5),)
    """

    categories: str | Sequence[str] | None = None
    max_overlap: float = 0.0
    min_distance_mm: float = 0.0
    within: str | Mapping[str, float] | Weighted | None = None
    hard: float | None = None
    by: By = "position"

    def __post_init__(self) -> None:
        named = weighted_names(self.categories)
        object.__setattr__(self, "categories", None if named is None else tuple(name for name, _ in named))
        object.__setattr__(self, "within", weighted_names(self.within))
        check_share("max_overlap", self.max_overlap)
        for name, share in self._regions:
            if share > 1:
                raise OptionError(f"no window lies within {name!r} by more than all of it", got=share, expected="0 … 1")
        if not (isfinite(self.min_distance_mm) and self.min_distance_mm >= 0):
            raise OptionError("min_distance_mm must be a distance", got=self.min_distance_mm)
        if self.min_distance_mm and self.max_overlap:
            raise OptionError(
                "a window cannot both hold some of the categories and lie apart from them",
                got=f"max_overlap {self.max_overlap}, min_distance_mm {self.min_distance_mm}",
            )
        if self.hard is not None and not (isfinite(self.hard) and self.hard > 0 and self.hard >= self.min_distance_mm):
            raise OptionError(
                "hard must be a distance in mm, and not below min_distance_mm",
                got=f"hard {self.hard}, min_distance_mm {self.min_distance_mm}",
            )
        if self.by not in get_args(By):
            raise OptionError("negatives are not drawn so", got=f"by={self.by!r}", expected=f"one of {get_args(By)}")

    @property
    def _regions(self) -> Weighted:
        return weighted_names(self.within) or ()

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        """See `Strategy.bind`.

        Raises
        ------
        SamplingError : when in no case all the categories were examined, or distances are asked for and a case has
            no known spacing. When no window satisfies the constraints, the first draw raises.
        UnknownNameError : when there is no such category or region.
        """
        cases = self._examined(cohort)
        return _BoundNegative(cohort, window, cases, self._search(cohort, window, cases))

    def _search(self, cohort: Cohort, window: tuple[int, ...], cases: NDArray[np.int64]) -> WindowSearch:
        size = prod(window)
        marking = Marking.of_categories(cohort, self.categories or cohort.occurring())
        places = Places.inside(cohort.shapes[cases], window)
        conditions: list[Condition] = [AtMost(marking, most_voxels(self.max_overlap, size), "the categories")]
        for name, share in self._regions:
            region, need = _region(cohort, name), max(1, least_voxels(share, size))
            conditions.append(AtLeast(region, need, repr(name)))
            least = np.array([-(-need * w // size) for w in window])
            places = _near(places, cases, region, window, least, np.zeros(len(window), np.int64))
        if self.min_distance_mm or self.hard is not None:
            unknown = cases[np.isnan(cohort.spacing[cases]).any(1)]
            if len(unknown):
                raise SamplingError(
                    f"distances in mm need steps in mm, which are not known of case {cohort.names[unknown[0]]!r}",
                    got=f"{len(unknown)} of {len(cases)} cases without",
                    hint="leave min_distance_mm and hard out",
                    code="no-spacing",
                )
            apart = Apart(cohort, marking, self.min_distance_mm, inf if self.hard is None else self.hard, "these")
            conditions.append(apart)
            if self.hard is not None:
                # One step more than the steps, which are rounded in the catalogue, say.
                reach = np.array([reach_of(self.hard, steps) for steps in cohort.spacing[cases].tolist()]) + 1
                places = _near(places, cases, marking, window, np.ones(len(window), np.int64), reach)
        return WindowSearch(cohort, window, cases, places, conditions, self.by)

    def _examined(self, cohort: Cohort) -> NDArray[np.int64]:
        """The cases in which all the categories were examined."""
        names = cohort.occurring() if self.categories is None else self.categories
        wanted = frozenset(cohort.tree.index(name) for name in names)
        examined = [cohort.cases.examined(case) for case in range(len(cohort.names))]
        enough = {found: bool(found) and wanted <= found for found in set(examined)}
        cases = np.array([case for case, found in enumerate(examined) if enough[found]], np.int64)
        if not any(examined):
            raise SamplingError(
                "negatives need cases with labels, and none has any", hint="import label volumes, or use Uniform()"
            )
        if not len(cases):
            missing = Counter(i for found in examined for i in wanted - found)
            raise SamplingError(
                "in no case all the categories were examined, so none can be said to be absent",
                got=", ".join(f"{cohort.tree.names[i]!r} not examined in {n} cases" for i, n in missing.most_common(5)),
                hint="name the categories that are to be absent, or list them as examined in the catalogue",
                code="not-examined",
            )
        return cases


class _BoundNegative:
    length = None

    def __init__(self, cohort: Cohort, window: tuple[int, ...], cases: NDArray[np.int64], search: WindowSearch) -> None:
        self._cohort, self._window, self._cases, self._search = cohort, window, cases, search

    def target(self, index: int, rng: np.random.Generator, share: float | None = None) -> Target:
        drawn = self._search.draw(rng, share)
        if drawn is None:
            raise self._impossible()
        case, window = drawn
        return Target(self._cohort.names[case], window, "negative")

    def _impossible(self) -> SamplingError:
        window, conditions, best = self._window, self._search.conditions, self._search.best
        found = [(c, b) for c, b in zip(conditions, best, strict=True) if b is not None]
        positions = len(Places.inside(self._cohort.shapes[self._cases], window))
        return SamplingError(
            f"no window of {window} voxels is negative: all {positions} positions in {len(self._cases)} labelled cases "
            "were examined",
            got="; ".join(c.got(b, window) for c, b in found)
            or "no position that is near enough to what it must be within or next to",
            expected="; ".join(c.expected() for c in conditions),
            hint="use a smaller window, fewer categories, or weaker constraints",
            cases=len(self._cases),
            positions=positions,
            smallest_overlap=None if best[0] is None else best[0] / prod(window),
        )


def _region(cohort: Cohort, name: str) -> Marking:
    """The voxels of a category, or of the label volumes of that name."""
    if name in cohort.tree:
        return Marking.of_categories(cohort, [name])
    labels = sorted({label for names in set(cohort.label_names) for label in names})
    if name in labels:
        return Marking.of_label(cohort, name)
    raise UnknownNameError(
        f"there is no category and no label volume {name!r} to be within",
        expected=f"one of {', '.join([*cohort.tree.names[:20], *labels[:20]]) or '(none)'}",
        name=name,
    )


def _near(
    places: Places,
    cases: NDArray[np.int64],
    marking: Marking,
    window: tuple[int, ...],
    least: NDArray[np.int64],
    reach: NDArray[np.int64],
) -> Places:
    """The places that share at least `least` voxels per axis with the box of marked voxels, grown by `reach`."""
    start, stop = marking.boxes()
    rows = np.searchsorted(marking.cases, cases).clip(max=max(0, len(start) - 1))
    if not len(start):
        return Places(places.low, places.lengths * 0)
    near = places.sharing(start[rows] - reach, stop[rows] + reach, window, least)
    return Places(near.low, np.where((marking.cases[rows] == cases)[:, None], near.lengths, 0))
