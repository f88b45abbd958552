"""Strategies: configurations that, bound to a cohort and a window, turn an index and an rng into a target.

Uniform, Sliding and Mix are here; Positive and Negative have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ndvol.errors import OptionError
from ndvol.geometry import SlidingWindows, Window
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.options import check_share, check_weights
from ndvol.sampling.places import Places, number_below, pick
from ndvol.sampling.target import Target


class BoundStrategy(Protocol):
    """A strategy over known cases; draws are a pure function of the index and the rng's state."""

    @property
    def length(self) -> int | None:
        """Number of targets; None when it never ends."""
        ...

    def target(self, index: int, rng: np.random.Generator, share: float | None = None) -> Target:
        """The target of `index`; all randomness comes from `rng`.

        Parameters
        ----------
        share : in [0, 1): where in the strategy's distribution to draw, instead of rolling dice for the part of a
            mix, the category, and the voxel, object or position. Shares that are evenly spread make even draws.
        """
        ...


class Strategy(Protocol):
    """How to draw windows: a frozen, hashable, picklable configuration."""

    def __hash__(self) -> int: ...

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        """The strategy over `cohort`, for windows of the lengths `window`, one per axis.

        Raises
        ------
        SamplingError : when the cohort cannot give what the configuration asks for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Windows anywhere: every position in every case has the same probability.

    A window stays inside its volume; where it is longer than the volume it covers the volume wholly
    (`ndvol.geometry.start_range`). A case twice as large is therefore drawn about twice as often.
    """

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        return _BoundUniform(cohort, window)


class _BoundUniform:
    length = None

    def __init__(self, cohort: Cohort, window: tuple[int, ...]) -> None:
        self._names, self._window = cohort.names, window
        self._places = Places.inside(cohort.shapes, window)

    def target(self, index: int, rng: np.random.Generator, share: float | None = None) -> Target:
        case, start = self._places[number_below(len(self._places), rng, share)]
        return Target(self._names[case], Window(start, self._window))


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows that together cover every case, in the order of the catalogue, row-major in each case.

    Parameters
    ----------
    overlap : share of a window's length that neighbours have in common, in [0, 1); one for all axes or one each.

    Raises
    ------
    WindowError : for an overlap out of range; at `bind`, for another number of overlaps than axes.
    """

    overlap: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.overlap, int | float):
            object.__setattr__(self, "overlap", tuple(self.overlap))
        for share in (self.overlap,) if isinstance(self.overlap, int | float) else self.overlap:
            check_share("overlap", share, closed=False)

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        return _BoundSliding(cohort, window, self.overlap)


class _BoundSliding:
    def __init__(self, cohort: Cohort, window: tuple[int, ...], overlap: float | tuple[float, ...]) -> None:
        self._names = cohort.names
        shapes = [tuple(map(int, shape)) for shape in cohort.shapes]
        by_shape = {shape: SlidingWindows(shape, window, overlap) for shape in set(shapes)}
        self._windows = [by_shape[shape] for shape in shapes]
        self._ends = np.cumsum([len(windows) for windows in self._windows])

    @property
    def length(self) -> int:
        return int(self._ends[-1])

    def target(self, index: int, rng: np.random.Generator, share: float | None = None) -> Target:
        if not 0 <= index < self.length:
            raise IndexError(f"window {index} of {self.length}")
        case = int(np.searchsorted(self._ends, index, side="right"))
        within = index - (int(self._ends[case - 1]) if case else 0)
        return Target(self._names[case], self._windows[case][within])


@dataclass(frozen=True, slots=True)
class Mix:
    """Each draw follows one of several strategies, chosen with probability proportional to its weight.

    Parameters
    ----------
    components : mapping of strategy to weight, kept as a tuple of pairs; strategies may be mixes themselves.

    >>> Mix({Uniform(): 1, Mix({Uniform(): 2}): 3}).components[0]
    (Uniform(), 1.0)
    """

    components: Mapping[Strategy, float] | tuple[tuple[Strategy, float], ...]

    def __post_init__(self) -> None:
        given = self.components
        pairs = tuple(given.items() if isinstance(given, Mapping) else given)
        check_weights("a mix", [weight for _, weight in pairs])
        object.__setattr__(self, "components", tuple((s, float(w)) for s, w in pairs))

    def __iter__(self) -> Iterator[tuple[Strategy, float]]:
        """The components and their weights."""
        given = self.components
        return iter(given.items() if isinstance(given, Mapping) else given)

    def bind(self, cohort: Cohort, window: tuple[int, ...]) -> BoundStrategy:
        return _BoundMix(self, cohort, window)


class _BoundMix:
    length = None

    def __init__(self, mix: Mix, cohort: Cohort, window: tuple[int, ...]) -> None:
        self._parts = [strategy.bind(cohort, window) for strategy, _ in mix]
        self._cumulative = np.cumsum([weight for _, weight in mix])
        for (strategy, _), part in zip(mix, self._parts, strict=True):
            if part.length is not None:
                raise OptionError(
                    "a strategy that ends cannot be mixed: its windows would be skipped and repeated",
                    got=strategy,
                    hint="sample it on its own",
                )

    def target(self, index: int, rng: np.random.Generator, share: float | None = None) -> Target:
        part, within = pick(self._cumulative, rng, share)
        return self._parts[part].target(index, rng, within)


def parts_of(strategy: Strategy, kind: type[Strategy]) -> Strategy:
    """The parts of `strategy` that are of class `kind`, mixed by their weights; a default one when there is none.

    >>> parts_of(Mix({Sliding(0.5): 2, Uniform(): 1}), Sliding), parts_of(Uniform(), Sliding)
    (Sliding(overlap=0.5), Sliding(overlap=0.0))
    """
    weights: dict[Strategy, float] = {}
    for part, weight in _leaves(strategy, 1.0):
        if isinstance(part, kind):
            weights[part] = weights.get(part, 0.0) + weight
    return Mix(weights) if len(weights) > 1 else next(iter(weights), kind())


def _leaves(strategy: Strategy, weight: float) -> Iterator[tuple[Strategy, float]]:
    if not isinstance(strategy, Mix):
        yield strategy, weight
        return
    total = sum(w for _, w in strategy)
    for part, w in strategy:
        yield from _leaves(part, weight * w / total)
