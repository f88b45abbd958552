"""Positive: windows around a voxel or an object of a category, or filled with it; uniform over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, SamplingError
from ndvol.geometry import Window, start_range
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.conditions import AtLeast
from ndvol.sampling.marks import Marking
from ndvol.sampling.objects import ObjectDraw, WindowDims
from ndvol.sampling.options import Categories, Weighted, check_share, least_voxels, weighted_names
from ndvol.sampling.places import Places, pick
from ndvol.sampling.search import WindowSearch
from ndvol.sampling.strategies import BoundStrategy
from ndvol.sampling.target import Target

TRIES = 1000
"""Draws before a category is given up whose voxels are covered by others."""

Unit = Literal["voxel", "object", "window"]
"""What is drawn, each with the same probability."""


@dataclass(frozen=True, slots=True)
class Positive:
    """Windows that hold a voxel of a category.

    A category is picked by weight, then, uniformly over that category and its descendants in all label volumes of
    all cases, a voxel, an object or a window. Where a window is placed about a voxel or an object it is centred,
    moved by the jitter, and brought inside the volume by as little as needed; it always holds the voxel, or a voxel
    of the object.

    Parameters
    ----------
    categories : a name, names, or a mapping of name to weight; any node of the tree, inner ones too, whose weight
        falls to all below it by their numbers. None: every category that has voxels of its own, with equal weights.
    jitter : in [0, 1]; the window is moved from the centred position by up to that share of half its length,
        uniformly per axis.
    by : ``voxel`` (a voxel that two label volumes name counts twice), ``object``, or ``window``: every position of
        the window in the volume that holds enough of the category has the same probability.
    covered : by object; share of the object's voxels that the window holds at least. An object for which the jitter
        leaves no such window is not drawn.
    filled : by window; share of the window's voxels that are of the category at least.
    window_dims : by object; ``extent``: the window is the object's box; ``square``: about the box's centre, on all
        axes as long as its longest side. None: the sampler's window.

    >>> Positive({"lesion": 2, "organ": 1}).categories
    (('lesion', 2.0), ('organ', 1.0))
    """

    categories: Categories | Weighted = None
    jitter: float = 0.0
    by: Unit = "voxel"
    covered: float = 0.0
    filled: float = 0.0
    window_dims: WindowDims | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", weighted_names(self.categories))
        for name in ("jitter", "covered", "filled"):
            check_share(name, getattr(self, name))
        if self.by not in get_args(Unit):
            raise OptionError("positives are not drawn so", got=f"by={self.by!r}", expected=f"one of {get_args(Unit)}")
        if self.window_dims not in (None, *get_args(WindowDims)):
            raise OptionError("no such window_dims", got=repr(self.window_dims), expected=get_args(WindowDims))
        options = {"covered": "object", "window_dims": "object", "filled": "window"}
        for option, unit in options.items():
            if getattr(self, option) and self.by != unit:
                raise OptionError(f"{option} goes with by={unit!r}", got=f"by={self.by!r}")
        if self.jitter and (self.by == "window" or self.window_dims):
            raise OptionError("a window that is drawn as such, or fitted to its object, has no jitter", got=self.jitter)

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        """See `Strategy.bind`.

        Raises
        ------
        SamplingError : when a named category has no voxel in the cohort, by name; or when nothing has. When no
            window covers or is filled with enough, the first draw raises.
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
        names = [name for name, _ in named]
        draw: _NodeDraw
        if self.by == "voxel":
            draw = _VoxelDraw(cohort, window, self.jitter, names)
        elif self.by == "object":
            draw = ObjectDraw(cohort, window, names, jitter=self.jitter, covered=self.covered, dims=self.window_dims)
        else:
            draw = _WindowDraw(cohort, window, self.filled, names)
        return _BoundPositive(draw, [weight for _, weight in named])


class _NodeDraw(Protocol):
    """Draws for one of several categories, by its position among them."""

    def draw(self, node: int, rng: np.random.Generator, share: float | None) -> Target: ...


class _BoundPositive:
    length = None

    def __init__(self, draw: _NodeDraw, weights: Sequence[float]) -> None:
        self._draw, self._weights = draw, np.cumsum(weights)

    def target(self, index: int, rng: np.random.Generator, share: float | None = None) -> Target:
        node, within = pick(self._weights, rng, share)
        return self._draw.draw(node, rng, within)


class _VoxelDraw:
    """A voxel, and a window that holds it."""

    def __init__(self, cohort: Cohort, window: tuple[int, ...], jitter: float, names: Sequence[str]) -> None:
        self._jitter, self._cohort, self._window, self._names = jitter, cohort, window, names
        # voxels_before[i]: voxels in the rows before i; one array serves every subtree, as each is a slice of it.
        self._voxels_before = np.concatenate([[0], np.cumsum(cohort.rows.voxels)])
        slices = [cohort.subtree(name) for name in names]
        self._ranges = [(int(self._voxels_before[s.start]), int(self._voxels_before[s.stop])) for s in slices]

    def draw(self, node: int, rng: np.random.Generator, share: float | None) -> Target:
        rows = self._cohort.rows
        for _ in range(TRIES):
            row, point = self._voxel(node, rng, share)
            if point is not None:
                case = int(rows.case[row])
                window = Window(self._start(point, self._cohort.shapes[case], rng), self._window)
                leaf = self._cohort.tree.names[rows.category[row]]
                name = self._cohort.names[case]
                return Target(name, window, "positive", self._names[node], point, leaf=leaf)
            share = None
        raise SamplingError(
            f"the label volumes hold (almost) no voxel of {self._names[node]!r}, unlike the catalogue says",
            got=f"none in {TRIES} draws, the last from case {self._cohort.names[rows.case[row]]!r}",
            hint="run `ndvol verify`",
        )

    def _voxel(self, node: int, rng: np.random.Generator, share: float | None) -> tuple[int, tuple[int, ...] | None]:
        """A row, and a uniform voxel of it; None when the one drawn is not there."""
        low, high = self._ranges[node]
        at = float(rng.integers(low, high)) if share is None else low + share * (high - low)
        row = int(np.searchsorted(self._voxels_before, int(at), side="right")) - 1
        rows = self._cohort.rows
        value, listed = int(rows.value[row]), int(rows.voxels[row])
        voxels = self._cohort.cases.index(int(rows.case[row]), int(rows.label[row]))
        count = voxels.count(value)
        within = at - int(self._voxels_before[row])
        if count >= listed and share is None:
            return row, voxels.voxel(value, int(rng.integers(count)))
        # A label volume without the image's time axis holds its voxels at every time: more than are listed. Boxes
        # of one category that overlap hold fewer; refusing the surplus keeps the draw uniform over those there are.
        r = int(within * count / listed) if count > listed else int(within)
        return row, voxels.voxel(value, r) if r < count else None

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


class _WindowDraw:
    """A window that holds enough of the category."""

    def __init__(self, cohort: Cohort, window: tuple[int, ...], filled: float, names: Sequence[str]) -> None:
        self._cohort, self._window, self._filled, self._names = cohort, window, filled, names
        self._searches = [self._search(name) for name in names]

    def _search(self, name: str) -> WindowSearch:
        cohort, window, size = self._cohort, self._window, prod(self._window)
        marking = Marking.of_categories(cohort, [name])
        condition = AtLeast(marking, max(1, least_voxels(self._filled, size)), repr(name))
        start, stop = marking.boxes()
        least = np.array([-(-condition.need * w // size) for w in window])
        places = Places.inside(cohort.shapes[marking.cases], window).sharing(start, stop, window, least)
        return WindowSearch(cohort, window, marking.cases, places, [condition])

    def draw(self, node: int, rng: np.random.Generator, share: float | None) -> Target:
        drawn = self._searches[node].draw(rng, share)
        if drawn is None:
            raise self._impossible(node)
        case, window = drawn
        return Target(self._cohort.names[case], window, "positive", self._names[node])

    def _impossible(self, node: int) -> SamplingError:
        [condition], best = self._searches[node].conditions, self._searches[node].best[0]
        return SamplingError(
            f"no window of {self._window} voxels is filled with {self._names[node]!r} to {self._filled:g}: "
            "all positions in all cases that hold it were examined",
            got=None if best is None else condition.got(best, self._window),
            expected=condition.expected(),
            hint="use a smaller window, or a smaller share",
        )
