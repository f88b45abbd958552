"""Positive: windows around a voxel of a category, uniform over all its voxels in all cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SamplingError
from ndvol.geometry import Window, start_range
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.options import Categories, Weighted, check_share, weighted_names
from ndvol.sampling.places import pick
from ndvol.sampling.strategies import BoundStrategy
from ndvol.sampling.target import Target

TRIES = 1000
"""Draws before a category is given up whose voxels are covered by others."""


@dataclass(frozen=True, slots=True)
class Positive:
    """Windows that hold a voxel of a category.

    A category is picked by weight, then a voxel, uniformly over all voxels of it and of its descendants in all
    label volumes of all cases (a voxel that two label volumes name counts twice). The window is centred on the
    voxel, then moved as little as needed to lie inside the volume; it always holds the voxel.

    Parameters
    ----------
    categories : a name, names, or a mapping of name to weight; any node of the tree, inner ones too. None: every
        category that has voxels of its own, with equal weights.
    jitter : in [0, 1]; the window is moved from the centred position by up to that share of half its length,
        uniformly per axis.

    >>> Positive({"lesion": 2, "organ": 1}).categories
    (('lesion', 2.0), ('organ', 1.0))
    """

    categories: Categories | Weighted = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", weighted_names(self.categories))
        check_share("jitter", self.jitter)

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        """See `Strategy.bind`.

        Raises
        ------
        SamplingError : when a named category has no voxel in the cohort, by name; or when nothing has.
        UnknownNameError : when the tree has no such category.
        """
        occurring = cohort.occurring()
        named = weighted_names(self.categories) or tuple((name, 1.0) for name in occurring)
        slices = {name: cohort.subtree(name) for name, _ in named}
        absent = [name for name, rows in slices.items() if rows.start == rows.stop]
        if absent or not named:
            raise SamplingError(
                f"no case holds a voxel of {', '.join(map(repr, absent)) or 'any category'}",
                expected=f"one of {', '.join(occurring)}" if occurring else None,
                hint="" if occurring else "import label volumes, or draw with Uniform()",
                absent=absent,
                occurring=occurring,
            )
        return _BoundPositive(self.jitter, cohort, window, [(n, w, slices[n]) for n, w in named])


class _BoundPositive:
    length = None

    def __init__(
        self, jitter: float, cohort: Cohort, window: tuple[int, ...], named: list[tuple[str, float, slice]]
    ) -> None:
        self._jitter, self._cohort, self._window = jitter, cohort, window
        self._names = [name for name, _, _ in named]
        self._weights = np.cumsum([weight for _, weight, _ in named])
        # voxels_before[i]: voxels in the rows before i; one array serves every subtree, as each is a slice of it.
        self._voxels_before = np.concatenate([[0], np.cumsum(cohort.rows.voxels)])
        self._ranges = [(int(self._voxels_before[s.start]), int(self._voxels_before[s.stop])) for _, _, s in named]

    def target(self, index: int, rng: np.random.Generator) -> Target:
        node = pick(self._weights, rng)
        for _ in range(TRIES):
            case, point = self._voxel(node, rng)
            if point is not None:
                start = self._start(point, self._cohort.shapes[case], rng)
                window = Window(start, self._window)
                return Target(self._cohort.names[case], window, "positive", self._names[node], point)
        raise SamplingError(
            f"the label volumes hold (almost) no voxel of {self._names[node]!r}, unlike the catalogue says",
            got=f"none in {TRIES} draws, the last from case {self._cohort.names[case]!r}",
            hint="other objects may cover them; else run `ndvol verify`",
        )

    def _voxel(self, node: int, rng: np.random.Generator) -> tuple[int, tuple[int, ...] | None]:
        """A case, and a uniform voxel of the node in it; None when the one drawn is not there."""
        drawn = int(rng.integers(*self._ranges[node]))
        row = int(np.searchsorted(self._voxels_before, drawn, side="right")) - 1
        rows = self._cohort.rows
        case, value, listed = int(rows.case[row]), int(rows.value[row]), int(rows.voxels[row])
        voxels = self._cohort.index(case, int(rows.label[row]))
        count = voxels.count(value)
        if count >= listed:
            return case, voxels.voxel(value, int(rng.integers(count)))
        # Boxes of a picture cover each other, so a label volume may hold fewer voxels than its objects sum up
        # to. Refusing the surplus keeps the draw uniform over those that are there.
        r = drawn - int(self._voxels_before[row])
        return case, voxels.voxel(value, r) if r < count else None

    def _start(self, point: tuple[int, ...], shape: NDArray[np.int64], rng: np.random.Generator) -> tuple[int, ...]:
        """A start whose window holds `point`: centred, moved by the jitter, then brought inside the volume."""
        low, stop = start_range(shape.tolist(), self._window)
        start = []
        for p, w, first, end in zip(point, self._window, low, stop, strict=True):
            at, reach = p - w // 2, int(self._jitter * w / 2)
            if reach:
                at = int(rng.integers(max(at - reach, p - w + 1), min(at + reach, p) + 1))
            # A window that holds the voxel still does when it is moved to the nearest admissible start.
            start.append(min(max(at, first), end - 1))
        return tuple(start)
